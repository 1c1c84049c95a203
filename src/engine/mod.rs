//! The batched engine: sessions of lanes, the scheduler that runs problems on them, and the sampler.

pub(crate) mod details;
pub mod memory;
pub mod reading;
pub mod scheduler;
pub mod snapshots;
pub mod written;
