//! The few hot loops: matrix products, state update, attention, norms.
//!
//! Each kernel is compared with a plain twin in its tests, and none of them changes its arithmetic with the
//! number of rows or threads.

pub(crate) mod attention;
pub(crate) mod buf;
pub(crate) mod delta;
pub(crate) mod gemm;
mod hugepage;
pub(crate) mod mixer;
pub(crate) mod norm;
pub(crate) mod pool;
pub mod sample;
pub(crate) mod short_conv;
pub(crate) mod simd;
pub(crate) mod ssm;

pub use pool::ThreadPool;
pub use simd::Tier;
