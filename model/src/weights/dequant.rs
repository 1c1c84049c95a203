//! Element types and their conversion to f32. The quantised layouts are those of GGUF (ggml's block formats):
//! a row is a sequence of blocks, each with its own scales.

use super::codes::Codes;

/// The element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the formats")]
pub enum Dtype {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4K,
    Q5K,
    Q6K,
    Mxfp4,
}

impl Dtype {
    /// Every type, in the order of declaration.
    pub const ALL: [Self; 12] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Mxfp4,
    ];

    /// Elements in one block; a row's length is a multiple of it.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Mxfp4 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::Mxfp4 => 17,
        }
    }

    /// Bytes of a row of `len` elements, `len` being a multiple of [`Dtype::block_len`].
    pub const fn row_bytes(self, len: usize) -> usize {
        len / self.block_len() * self.block_bytes()
    }

    /// The name that users know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Mxfp4 => "MXFP4",
        }
    }

    /// Whether it stores blocks of small integers with scales.
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Converts `bytes`, which hold `out.len()` elements (whole blocks), to f32. It allocates nothing.
///
/// # Panics
/// If the lengths do not belong together.
pub fn dequantize_row(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    assert!(
        out.len().is_multiple_of(dtype.block_len()) && bytes.len() == dtype.row_bytes(out.len()),
        "{} bytes are not {} elements of {dtype}",
        bytes.len(),
        out.len()
    );
    match dtype {
        Dtype::F32 => each::<4>(bytes, out, |b| f32::from_le_bytes(*b)),
        Dtype::F16 => each::<2>(bytes, out, |b| f16_to_f32(u16::from_le_bytes(*b))),
        Dtype::BF16 => each::<2>(bytes, out, |b| {
            f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)
        }),
        _ => {
            let mut codes = Codes::default();
            for (block, y) in bytes
                .chunks_exact(dtype.block_bytes())
                .zip(out.chunks_exact_mut(dtype.block_len()))
            {
                codes.read(dtype, block);
                codes.to_f32(dtype, y);
            }
        }
    }
}

/// Applies `element` to every element of `BYTES` bytes.
#[inline(always)]
fn each<const BYTES: usize>(bytes: &[u8], out: &mut [f32], element: impl Fn(&[u8; BYTES]) -> f32) {
    let (inputs, _) = bytes.as_chunks::<BYTES>();
    for (input, output) in inputs.iter().zip(out) {
        *output = element(input);
    }
}

/// Half precision to f32, exact for every bit pattern. Without branches and without subnormal operands, which
/// would be slow: the scales of quantised blocks are often subnormal halves.
#[inline(always)]
pub fn f16_to_f32(half: u16) -> f32 {
    let magnitude = u32::from(half & 0x7fff) << 13;
    let exponent = magnitude & 0x0f80_0000;
    // Normal: only the exponent's bias changes, 15 to 127.
    let normal = magnitude + ((127 - 15) << 23);
    // Infinity and NaN: the exponent becomes all ones.
    let special = normal + ((128 - 16) << 23);
    // Zero and subnormal: 2^-14 (1 + m) - 2^-14.
    let small = (f32::from_bits(normal + (1 << 23)) - f32::from_bits(113 << 23)).to_bits();
    let bits = if exponent == 0x0f80_0000 { special } else { normal };
    let bits = if exponent == 0 { small } else { bits };
    f32::from_bits(bits | (u32::from(half & 0x8000) << 16))
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
    use proptest::prelude::*;

    use super::*;

    /// `None` where candle does not have the type.
    fn candle_type(dtype: Dtype) -> Option<GgmlDType> {
        Some(match dtype {
            Dtype::F32 => GgmlDType::F32,
            Dtype::F16 => GgmlDType::F16,
            Dtype::BF16 => GgmlDType::BF16,
            Dtype::Q8_0 => GgmlDType::Q8_0,
            Dtype::Q4_0 => GgmlDType::Q4_0,
            Dtype::Q4_1 => GgmlDType::Q4_1,
            Dtype::Q5_0 => GgmlDType::Q5_0,
            Dtype::Q5_1 => GgmlDType::Q5_1,
            Dtype::Q4K => GgmlDType::Q4K,
            Dtype::Q5K => GgmlDType::Q5K,
            Dtype::Q6K => GgmlDType::Q6K,
            Dtype::Mxfp4 => return None,
        })
    }

    #[test]
    fn every_half_converts_exactly() {
        for bits in 0..=u16::MAX {
            let expected = half::f16::from_bits(bits).to_f32();
            let found = f16_to_f32(bits);
            if expected.is_nan() {
                assert!(found.is_nan(), "{bits:#06x}");
            } else {
                assert_eq!(found.to_bits(), expected.to_bits(), "{bits:#06x}");
            }
        }
    }

    /// Random bytes as blocks against candle's own dequantisation.
    fn agrees_with_candle(dtype: Dtype, bytes: &[u8]) {
        let Some(kind) = candle_type(dtype) else { return };
        let len = bytes.len() / dtype.block_bytes() * dtype.block_len();
        let mut found = vec![0.0; len];
        dequantize_row(dtype, bytes, &mut found);
        let device = candle_core::Device::Cpu;
        let expected = qtensor_from_ggml(kind, bytes, vec![len], &device)
            .and_then(|q| q.dequantize(&device))
            .and_then(|t| t.to_vec1::<f32>())
            .expect("candle dequantises");
        for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
            let same = f.to_bits() == e.to_bits() || (f.is_nan() && e.is_nan()) || f == e;
            assert!(same, "{dtype} element {i}: {f} is not {e}");
        }
    }

    proptest! {
        #[test]
        fn every_type_agrees_with_candle(seed in any::<[u8; 32]>(), blocks in 1_usize..5) {
            for dtype in Dtype::ALL {
                let mut bytes = vec![0; blocks * dtype.block_bytes()];
                blake3::Hasher::new_keyed(&seed).finalize_xof().fill(&mut bytes);
                agrees_with_candle(dtype, &bytes);
            }
        }
    }

    /// Every number of FP4 under every exponent, as the specification of MX formats gives them (OCP, 2023).
    #[test]
    fn mxfp4_is_what_its_specification_says() {
        let magnitudes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        for exponent in 0..=u8::MAX {
            let mut block = [0; 17];
            block[0] = exponent;
            for (i, byte) in block[1..].iter_mut().enumerate() {
                // number i, and behind all of those the numbers backwards
                *byte = (i | (15 - i) << 4) as u8;
            }
            let mut found = [0.0; 32];
            dequantize_row(Dtype::Mxfp4, &block, &mut found);
            for (i, found) in found.iter().enumerate() {
                let code = if i < 16 { i } else { 31 - i };
                let sign = if code < 8 { 1.0 } else { -1.0 };
                let exact = sign * magnitudes[code % 8] * 2f64.powi(i32::from(exponent) - 127);
                if exponent == u8::MAX {
                    assert!(found.is_nan(), "{exponent} {code}: {found}");
                } else {
                    assert_eq!(*found, exact as f32, "{exponent} {code}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "33 bytes are not 32 elements of Q8_0")]
    fn a_wrong_length_is_a_bug_of_the_caller() {
        dequantize_row(Dtype::Q8_0, &[0; 33], &mut [0.0; 32]);
    }
}
