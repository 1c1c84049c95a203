//! A weight matrix packed for this machine's products.

use super::kernels::buf::{Buf, padded};
use super::kernels::gemm::{DEPTH, WIDTH};
use super::weights::{Dtype, RawTensor, dequantize_row};

/// How weights are held in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightFormat {
    /// The file's own format.
    #[default]
    Auto,
    /// f32, dequantised where the file is quantised.
    F32,
    /// bf16, rounded to nearest even where the file holds more.
    Bf16,
    /// 8-bit blocks of 32 with an f16 scale; rows whose length is no multiple of 32 stay f32.
    Q8_0,
    /// 4-bit blocks of 32 with an f16 scale; rows whose length is no multiple of 32 stay f32.
    Q4_0,
}

impl WeightFormat {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Auto, Self::F32, Self::Bf16, Self::Q8_0, Self::Q4_0];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }
}

pub(crate) enum Storage {
    /// `[panel][k][WIDTH]`
    F32(Buf),
    Bf16(Vec<u16>),
    F16(Vec<u16>),
    /// quantised rows as they are in the file
    Blocks {
        dtype: Dtype,
        bytes: Vec<u8>,
        row_bytes: usize,
    },
}

/// `[n, k]` weights with a per-output f32 scale (the model's multipliers; never folded into the weights) and an optional bias.
pub struct Linear {
    n: usize,
    k: usize,
    storage: Storage,
    /// padded to whole panels
    scale: Buf,
    bias: Option<Buf>,
}

impl Linear {
    /// Packs a raw `[n, k]` tensor; the raw bytes are not needed afterwards.
    pub fn pack(raw: &RawTensor<'_>, format: WeightFormat) -> Self {
        let (n, k) = (raw.shape[0], raw.shape[1]);
        let row_bytes = k / raw.dtype.block_len() * raw.dtype.block_bytes();
        let storage = match (format, raw.dtype) {
            (WeightFormat::Auto, Dtype::BF16) | (WeightFormat::Bf16, Dtype::BF16) => Storage::Bf16(panels_u16(raw.bytes, n, k)),
            (WeightFormat::Auto, Dtype::F16) => Storage::F16(panels_u16(raw.bytes, n, k)),
            (WeightFormat::Auto, dtype) if dtype.block_len() > 1 && DEPTH.is_multiple_of(dtype.block_len()) => Storage::Blocks {
                dtype,
                bytes: raw.bytes.to_vec(),
                row_bytes,
            },
            (WeightFormat::Q8_0 | WeightFormat::Q4_0, dtype) if k.is_multiple_of(Dtype::Q8_0.block_len()) => {
                let to = if format == WeightFormat::Q8_0 { Dtype::Q8_0 } else { Dtype::Q4_0 };
                let bytes = if dtype == to {
                    raw.bytes.to_vec()
                } else {
                    quantize(&raw.to_f32(), to)
                };
                Storage::Blocks {
                    dtype: to,
                    bytes,
                    row_bytes: to.row_bytes(k),
                }
            }
            (WeightFormat::Bf16, _) => {
                let mut out = vec![0u16; n.div_ceil(WIDTH) * WIDTH * k];
                pack_rows(raw, row_bytes, |at, v| out[at] = half::bf16::from_f32(v).to_bits());
                Storage::Bf16(out)
            }
            _ => {
                let mut out = Buf::zeroed(n.div_ceil(WIDTH) * WIDTH * k);
                pack_rows(raw, row_bytes, |at, v| out[at] = v);
                Storage::F32(out)
            }
        };
        let mut scale = Buf::zeroed(padded(n));
        scale.fill(1.0);
        Self {
            n,
            k,
            storage,
            scale,
            bias: None,
        }
    }

    /// Outputs are multiplied by `scale` (before the bias is added).
    #[must_use]
    pub fn scaled(mut self, scale: f32) -> Self {
        self.scale.iter_mut().for_each(|s| *s *= scale);
        self
    }

    /// Output `j` is multiplied by `scale[j]`.
    #[must_use]
    pub fn scaled_by(mut self, scale: &[f32]) -> Self {
        self.scale.iter_mut().zip(scale).for_each(|(s, v)| *s *= v);
        self
    }

    /// Adds a bias `[n]`, given as it shall appear in the output.
    #[must_use]
    pub fn biased(mut self, bias: Option<Vec<f32>>) -> Self {
        self.bias = bias.map(|bias| {
            let mut padded_bias = Buf::zeroed(padded(self.n));
            padded_bias[..self.n].copy_from_slice(&bias);
            padded_bias
        });
        self
    }

    /// Outputs.
    pub fn n(&self) -> usize {
        self.n
    }
    /// Inputs.
    pub fn k(&self) -> usize {
        self.k
    }
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }
    pub(crate) fn scale(&self) -> &[f32] {
        &self.scale
    }
    pub(crate) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// Row `i` of the weights as f32, unscaled, times `factor` (embedding look-up).
    pub fn row(&self, i: usize, factor: f32, out: &mut [f32]) {
        assert!(i < self.n && out.len() == self.k);
        let at = |k: usize| (i / WIDTH * self.k + k) * WIDTH + i % WIDTH;
        match &self.storage {
            Storage::F32(p) => out.iter_mut().enumerate().for_each(|(k, o)| *o = p[at(k)] * factor),
            Storage::Bf16(p) => out
                .iter_mut()
                .enumerate()
                .for_each(|(k, o)| *o = half::bf16::from_bits(p[at(k)]).to_f32() * factor),
            Storage::F16(p) => out
                .iter_mut()
                .enumerate()
                .for_each(|(k, o)| *o = half::f16::from_bits(p[at(k)]).to_f32() * factor),
            Storage::Blocks { dtype, bytes, row_bytes } => {
                dequantize_row(*dtype, &bytes[i * row_bytes..][..*row_bytes], out);
                out.iter_mut().for_each(|o| *o *= factor);
            }
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let weights = match &self.storage {
            Storage::F32(b) => b.len() * 4,
            Storage::Bf16(v) | Storage::F16(v) => v.len() * 2,
            Storage::Blocks { bytes, .. } => bytes.len(),
        };
        weights + (self.scale.len() + self.bias.as_ref().map_or(0, |b| b.len())) * 4
    }

    /// Name of the format in memory.
    pub fn format(&self) -> &'static str {
        match &self.storage {
            Storage::F32(_) => "f32",
            Storage::Bf16(_) => "bf16",
            Storage::F16(_) => "f16",
            Storage::Blocks { dtype, .. } => dtype.name(),
        }
    }
}

/// Quantises whole rows with candle's reference quantisers, a slice of rows at a time.
fn quantize(values: &[f32], to: Dtype) -> Vec<u8> {
    use candle_core::quantized::{GgmlDType, QTensor};
    let kind = if to == Dtype::Q8_0 { GgmlDType::Q8_0 } else { GgmlDType::Q4_0 };
    values
        .chunks(to.block_len() << 15)
        .flat_map(|part| {
            let tensor = candle_core::Tensor::from_slice(part, part.len(), &candle_core::Device::Cpu).expect("a slice has its own length");
            let quantized = QTensor::quantize(&tensor, kind).expect("whole blocks");
            quantized.data().expect("on the CPU").into_owned()
        })
        .collect()
}

fn pack_rows(raw: &RawTensor<'_>, row_bytes: usize, mut put: impl FnMut(usize, f32)) {
    let (n, k) = (raw.shape[0], raw.shape[1]);
    let mut row = vec![0f32; k];
    for i in 0..n {
        dequantize_row(raw.dtype, &raw.bytes[i * row_bytes..][..row_bytes], &mut row);
        for (j, v) in row.iter().enumerate() {
            put((i / WIDTH * k + j) * WIDTH + i % WIDTH, *v);
        }
    }
}

fn panels_u16(bytes: &[u8], n: usize, k: usize) -> Vec<u16> {
    let mut out = vec![0u16; n.div_ceil(WIDTH) * WIDTH * k];
    for (i, row) in bytes.chunks_exact(2 * k).enumerate() {
        for (j, v) in row.chunks_exact(2).enumerate() {
            out[(i / WIDTH * k + j) * WIDTH + i % WIDTH] = u16::from_le_bytes([v[0], v[1]]);
        }
    }
    out
}
