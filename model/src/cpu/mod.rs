//! The CPU as an [`Executor`](crate::executor::Executor).

pub(crate) mod draw;
mod executor;
pub mod kernels;
mod layers;
pub(crate) mod linear;
pub mod memory;
mod model;
mod multi_step;
mod packing;
pub(crate) mod sequence;
mod shards;
mod state;
mod state_pool;
mod storage;
pub(crate) mod top;
mod work;

pub use draw::{Draw, Scratch, Seen, draw};
pub use executor::CpuExecutor;
pub use linear::{Formats, Linear, WeightFormat};
pub use model::{Feed, Model, Want, Workspace};
pub use state::{
    BLOCK, ConvLayout, KvFormat, KvLayout, Sequence, SsmLayout, StateFormat, StateLayout, StateMemory,
};
