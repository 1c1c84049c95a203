//! Random weights of a given shape, for measurements of speed: no file, and no more memory than the largest
//! matrix takes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Bytes, Checkpoint, Dtype, Entry};
use crate::arch;
use crate::error::ModelError;
use crate::spec::{ModelSpec, Role};

/// Blocks by which the matrices' places in the common bytes differ.
const SLACK: usize = 4096;

impl Checkpoint {
    /// A checkpoint of this shape whose matrices are random numbers in `dtype` (`f32`, `f16`, `bf16`, `q8_0`
    /// or `q4_0`). All matrices are cut from the same bytes at different places.
    ///
    /// # Errors
    /// Another type, or rows that are no whole number of its blocks.
    pub fn random(spec: &ModelSpec, dtype: &str, seed: u64) -> Result<Self, ModelError> {
        let origin = PathBuf::from("random weights");
        let known = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::Q8_0, Dtype::Q4_0];
        let Some(stored) = known.into_iter().find(|d| d.name().eq_ignore_ascii_case(dtype)) else {
            let reason = format!("they can be f32, f16, bf16, q8_0 or q4_0, not {dtype}");
            return Err(ModelError::NotAModel { path: origin, reason });
        };
        let Some(family) = arch::named(spec.architecture) else {
            let reason = format!("its family {} is not known", spec.architecture);
            return Err(ModelError::NotAModel { path: origin, reason });
        };
        let mut random = Xorshift::new(seed);
        let needed = spec.tensors();
        let largest = needed
            .iter()
            .filter(|n| n.role == Role::Matrix)
            .map(|n| bytes_of(stored, &n.shape))
            .max()
            .unwrap_or(0);
        // rows of unit norm keep the activations in the range of a trained model
        let scale = (3.0 / spec.hidden as f32).sqrt();
        let common = matrix_bytes(&mut random, stored, largest + SLACK * stored.block_bytes(), scale);
        let mut small = Vec::new();
        let mut entries = BTreeMap::new();
        for (i, tensor) in needed.into_iter().enumerate() {
            let (file, dtype, range) = if tensor.role == Role::Matrix {
                let start = i * 97 % SLACK * stored.block_bytes();
                (0, stored, start..start + bytes_of(stored, &tensor.shape))
            } else {
                let start = small.len();
                for _ in 0..tensor.shape.iter().product() {
                    small.extend(parameter(tensor.role, random.unit()).to_le_bytes());
                }
                (1, Dtype::F32, start..small.len())
            };
            entries.insert(
                tensor.name.clone(),
                Entry {
                    file,
                    stored_name: tensor.name,
                    dtype,
                    shape: tensor.shape,
                    range,
                    exponents: None,
                },
            );
        }
        let sources = [common, small].map(|bytes| Arc::new(Bytes::Owned(bytes))).into();
        let mut checkpoint = Self {
            spec: spec.clone(),
            family,
            files: Vec::new(),
            origin,
            sources,
            entries,
            gguf: None,
            notes: Vec::new(),
        };
        checkpoint.check()?;
        Ok(checkpoint)
    }
}

fn bytes_of(dtype: Dtype, shape: &[usize]) -> usize {
    let [rows @ .., columns] = shape else { return 0 };
    rows.iter().product::<usize>() * dtype.row_bytes(*columns)
}

/// A value of a small tensor, where a trained model has it; `u` is in [-1, 1).
fn parameter(role: Role, u: f32) -> f32 {
    match role {
        Role::Norm => 1.0 + 0.1 * u,
        Role::LogDecay => (8.5 + 7.5 * u).ln(),
        Role::Decay => -(8.5 + 7.5 * u),
        Role::Skip => 1.0,
        Role::StepBias => -4.0 + 1.5 * u,
        Role::Convolution => 0.5 * u,
        Role::Sink => u,
        Role::Matrix | Role::Bias | Role::CenteredNorm => 0.1 * u,
    }
}

/// Numbers that are uniform in `[-scale, scale)`, as `dtype` stores them; whole blocks.
fn matrix_bytes(random: &mut Xorshift, dtype: Dtype, bytes: usize, scale: f32) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + dtype.block_bytes());
    while out.len() < bytes {
        match dtype {
            Dtype::F32 => out.extend((random.unit() * scale).to_le_bytes()),
            Dtype::F16 => out.extend(half::f16::from_f32(random.unit() * scale).to_le_bytes()),
            Dtype::BF16 => out.extend(half::bf16::from_f32(random.unit() * scale).to_le_bytes()),
            // a scale for each block, then its small integers
            _ => {
                let step = scale / if dtype == Dtype::Q8_0 { 128.0 } else { 8.0 };
                out.extend(half::f16::from_f32(step).to_le_bytes());
                out.extend((2..dtype.block_bytes()).map(|_| (random.next() >> 56) as u8));
            }
        }
    }
    out
}

/// xorshift64* (Vigna, arXiv 1402.6246).
struct Xorshift(u64);

impl Xorshift {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in [-1, 1).
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_makes_a_checkpoint_with_numbers_in_range() {
        let mut spec = arch::shape("tiny-90m").unwrap();
        spec.layers.truncate(2);
        spec.vocab = 320;
        for dtype in ["f32", "f16", "bf16", "Q8_0", "q4_0"] {
            let c = Checkpoint::random(&spec, dtype, 1).unwrap();
            let q = c
                .tensor("model.layers.1.self_attn.q_proj.weight", &[512, 512])
                .unwrap();
            assert!(q.dtype.name().eq_ignore_ascii_case(dtype));
            let values = q.to_f32();
            let square = values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64;
            assert!((0.8..1.2).contains(&(square * 512.0)), "{dtype}: {square}");
            let decay = crate::spec::DecaySpec::Log("model.layers.0.mamba.A_log".to_owned());
            let rates = c.decay(&decay, 24).unwrap();
            assert!(rates.iter().all(|a| (-16.0..=-1.0).contains(a)));
        }
        assert!(
            Checkpoint::random(&spec, "q4_k", 1)
                .unwrap_err()
                .to_string()
                .contains("q4_k")
        );
        spec.hidden = 500;
        assert!(Checkpoint::random(&spec, "q8_0", 1).is_err());
    }
}
