//! The CPU as an [`Executor`](crate::executor::Executor).

mod draw;
mod executor;
pub mod memory;
mod multi_step;
mod sequence;
mod state_pool;
mod top;

pub use draw::{Draw, Scratch, Seen, draw};
pub use executor::CpuExecutor;
