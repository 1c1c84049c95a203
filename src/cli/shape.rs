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

/// What `--dtype` names: how weights are held, or a type of GGUF files that only their files have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Dtype {
    /// Weights are turned into it as they are loaded.
    Held(WeightFormat),
    /// A mixture of types in a file.
    File(FileType),
}

/// A type of GGUF files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FileType {
    name: &'static str,
    /// bits of a weight, as llama.cpp's table says of Llama 3.1 8B
    bits: f64,
    /// what is about as fast
    like: WeightFormat,
}

const FILES: [FileType; 3] = [
    FileType {
        name: "q4_k_m",
        bits: 4.89,
        like: WeightFormat::Q4_0,
    },
    FileType {
        name: "q5_k_m",
        bits: 5.70,
        like: WeightFormat::Q8_0,
    },
    FileType {
        name: "q6_k",
        bits: 6.56,
        like: WeightFormat::Q8_0,
    },
];

impl Dtype {
    /// Reads the flag.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let held = WeightFormat::ALL.into_iter().find(|format| format.name() == name);
        let file = || FILES.into_iter().find(|file| file.name == name);
        held.map(Self::Held)
            .or_else(|| file().map(Self::File))
            .ok_or_else(|| "it is auto, f32, bf16, q8_0 or q4_0".to_owned())
    }

    /// What weights are turned into.
    pub(crate) fn held(self) -> anyhow::Result<WeightFormat> {
        match self {
            Self::Held(format) => Ok(format),
            Self::File(file) => bail!(
                "--dtype {} is a type of GGUF files, which are held as they are: name such a file with --model; \
                 what is turned into another type is one of f32, bf16, q8_0 and q4_0",
                file.name
            ),
        }
    }

    /// What weights of a published shape would be.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Held(WeightFormat::Auto) => "bf16",
            Self::Held(format) => format.name(),
            Self::File(file) => file.name,
        }
    }

    /// Their bytes.
    pub(super) fn bytes(self, spec: &ModelSpec) -> u64 {
        let bits = match self {
            Self::Held(WeightFormat::Auto | WeightFormat::Bf16) => 16.0,
            Self::Held(WeightFormat::F32) => 32.0,
            // blocks of 32 with a 16-bit scale
            Self::Held(WeightFormat::Q8_0) => 8.5,
            Self::Held(WeightFormat::Q4_0) => 4.5,
            Self::File(file) => file.bits,
        };
        (spec.parameters() as f64 * bits / 8.0) as u64
    }

    /// The type of random weights that are about as fast.
    pub(super) fn measured_as(self) -> &'static str {
        match self {
            Self::Held(_) => self.name(),
            Self::File(file) => file.like.name(),
        }
    }
}
