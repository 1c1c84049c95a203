//! Token ids in, drawn tokens with their confidences out: the models of [`arch::register`] in batches, exact
//! and reproducible.
//!
//! A model is data, a [`ModelSpec`]; its weights are `&self`, its state is `&mut` ([`Sequence`]). One
//! position is one row of arithmetic, whether it comes alone, in a prefill chunk or in a batch, and a row's
//! result does not depend on which.

pub mod arch;
pub mod cpu;
pub mod error;
pub mod executor;
pub mod files;
pub mod gpu;
mod json;
pub mod overrides;
pub mod sampling;
mod saved;
pub mod spec;
pub mod weights;

pub use cpu::kernels::buf::Rows;
pub use cpu::{
    BLOCK, Feed, Formats, KvFormat, KvLayout, Linear, Model, Sequence, SsmLayout, StateFormat, StateLayout,
    StateMemory, Want, WeightFormat, Workspace,
};
pub use error::ModelError;
pub use json::without_python_literals;
pub use spec::ModelSpec;
