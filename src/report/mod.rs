//! report
pub(crate) mod escape;
pub mod plot;
