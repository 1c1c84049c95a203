//! Token ids in, drawn tokens with their confidences out: the models of [`arch::register`] in batches, exact and
//! reproducible.
//!
//! A model is data, a [`ModelSpec`]; its weights are `&self`, its state is `&mut` ([`Sequence`]). One position is
//! one row of arithmetic, whether it comes alone, in a prefill chunk or in a batch, and a row's result does not
//! depend on which.

pub mod arch;
pub mod cpu;
pub mod error;
pub mod executor;
mod json;
pub mod kernels;
mod layer;
mod linear;
mod model;
pub mod overrides;
mod packing;
mod parts;
pub mod sampling;
pub mod spec;
mod state;
mod storage;
pub mod weights;
mod work;

pub use error::ModelError;
pub use kernels::buf::Rows;
pub use linear::{Formats, Linear, WeightFormat};
pub use spec::ModelSpec;
pub use state::StateMemory;
pub use state::{BLOCK, CacheFormat, KvLayout, Sequence, SsmLayout, StateLayout};

pub use model::{Feed, Model, Want, Workspace};
