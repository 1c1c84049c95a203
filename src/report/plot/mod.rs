//! Plots.
pub(crate) mod font;
pub(crate) mod png;
pub(crate) mod scale;
pub(crate) mod scene;
pub(crate) mod svg;
