//! The batched engine: sessions of lanes, the scheduler that runs problems on them, and the sampler.

mod ahead;
pub(crate) mod details;
pub mod memory;
pub mod reading;
pub mod sampler;
pub mod scheduler;
pub mod session;
pub mod snapshots;
pub mod written;
