//! The batched engine: the scheduler that runs problems on a session, and the memory that they are given.

pub mod memory;
pub mod reading;
pub mod scheduler;
mod snapshots;
