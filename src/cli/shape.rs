//! Published shapes by name, for commands that need no weights.

use anyhow::bail;
use tts_model::{ModelSpec, WeightFormat, arch};

use crate::fmt::nearest;

/// The shape of that name.
pub(super) fn named(shape: &str) -> anyhow::Result<ModelSpec> {
    let Some(spec) = arch::shape(shape) else {
        let near = nearest(shape, arch::shape_names()).unwrap_or_default();
        bail!(
            "--shape {shape} is not known; did you mean `{near}`? The shapes are {}",
            arch::shape_names().join(", ")
        );
    };
    Ok(spec)
}

/// What weights of a shape are held as, and their bytes.
pub(super) fn weights(spec: &ModelSpec, format: WeightFormat) -> (&'static str, u64) {
    let (dtype, bits) = match format {
        WeightFormat::Auto | WeightFormat::Bf16 => ("bf16", 16.0),
        WeightFormat::F32 => ("f32", 32.0),
        // blocks of 32 with a 16-bit scale
        WeightFormat::Q8_0 => ("q8_0", 8.5),
        WeightFormat::Q4_0 => ("q4_0", 4.5),
    };
    (dtype, (spec.parameters() as f64 * bits / 8.0) as u64)
}
