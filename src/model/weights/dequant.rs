//! Element types and their conversion to f32. The quantised layouts are those of GGUF (ggml's block formats): a row is a
//! sequence of blocks, each with its own scales.

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
}

impl Dtype {
    /// Every type, in the order of declaration.
    pub const ALL: [Self; 11] = [
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
    ];

    /// Elements in one block; a row's length is a multiple of it.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
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

/// Converts `bytes`, which hold `out.len()` elements (whole blocks), to f32. It allocates nothing, and is inlined so that a
/// caller compiled for a wider instruction set gets wider loops.
///
/// # Panics
/// If the lengths do not belong together.
#[inline(always)]
pub fn dequantize_row(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    assert!(
        out.len().is_multiple_of(dtype.block_len()) && bytes.len() == dtype.row_bytes(out.len()),
        "{} bytes are not {} elements of {dtype}",
        bytes.len(),
        out.len()
    );
    match dtype {
        Dtype::F32 => each::<4, 1>(bytes, out, |b, y| y[0] = f32::from_le_bytes(*b)),
        Dtype::F16 => each::<2, 1>(bytes, out, |b, y| y[0] = f16_to_f32(u16::from_le_bytes(*b))),
        Dtype::BF16 => each::<2, 1>(bytes, out, |b, y| {
            y[0] = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
        }),
        Dtype::Q8_0 => each(bytes, out, q8_0),
        Dtype::Q4_0 => each(bytes, out, q4_0),
        Dtype::Q4_1 => each(bytes, out, q4_1),
        Dtype::Q5_0 => each(bytes, out, q5_0),
        Dtype::Q5_1 => each(bytes, out, q5_1),
        Dtype::Q4K => each(bytes, out, q4_k),
        Dtype::Q5K => each(bytes, out, q5_k),
        Dtype::Q6K => each(bytes, out, q6_k),
    }
}

/// Applies `block` to every block of `BYTES` bytes and its `LEN` elements.
#[inline(always)]
fn each<const BYTES: usize, const LEN: usize>(bytes: &[u8], out: &mut [f32], block: impl Fn(&[u8; BYTES], &mut [f32; LEN])) {
    let (inputs, _) = bytes.as_chunks::<BYTES>();
    let (outputs, _) = out.as_chunks_mut::<LEN>();
    for (input, output) in inputs.iter().zip(outputs) {
        block(input, output);
    }
}

/// Half precision to f32, exact for every bit pattern. Without branches and without subnormal operands, which would be
/// slow: the scales of quantised blocks are often subnormal halves.
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

#[inline(always)]
fn f16_at<const N: usize>(block: &[u8; N], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// scale f16, 32 x i8.
#[inline(always)]
fn q8_0(b: &[u8; 34], y: &mut [f32; 32]) {
    let d = f16_at(b, 0);
    for i in 0..32 {
        y[i] = f32::from(b[2 + i] as i8) * d;
    }
}

/// scale f16, 16 bytes: the low nibbles are elements 0..16, the high ones 16..32, each less 8.
#[inline(always)]
fn q4_0(b: &[u8; 18], y: &mut [f32; 32]) {
    let d = f16_at(b, 0);
    for i in 0..16 {
        let q = b[2 + i];
        y[i] = (i32::from(q & 15) - 8) as f32 * d;
        y[i + 16] = (i32::from(q >> 4) - 8) as f32 * d;
    }
}

/// scale f16, minimum f16, nibbles as in Q4_0.
#[inline(always)]
fn q4_1(b: &[u8; 20], y: &mut [f32; 32]) {
    let (d, m) = (f16_at(b, 0), f16_at(b, 2));
    for i in 0..16 {
        let q = b[4 + i];
        y[i] = f32::from(q & 15) * d + m;
        y[i + 16] = f32::from(q >> 4) * d + m;
    }
}

/// scale f16, the 32 fifth bits as u32, nibbles as in Q4_0; less 16.
#[inline(always)]
fn q5_0(b: &[u8; 22], y: &mut [f32; 32]) {
    let d = f16_at(b, 0);
    let high = u32::from_le_bytes([b[2], b[3], b[4], b[5]]);
    for i in 0..16 {
        let q = u32::from(b[6 + i]);
        let low_half = (q & 15) | (((high >> i) & 1) << 4);
        let high_half = (q >> 4) | (((high >> (i + 16)) & 1) << 4);
        y[i] = (low_half as i32 - 16) as f32 * d;
        y[i + 16] = (high_half as i32 - 16) as f32 * d;
    }
}

/// scale f16, minimum f16, fifth bits, nibbles.
#[inline(always)]
fn q5_1(b: &[u8; 24], y: &mut [f32; 32]) {
    let (d, m) = (f16_at(b, 0), f16_at(b, 2));
    let high = u32::from_le_bytes([b[4], b[5], b[6], b[7]]);
    for i in 0..16 {
        let q = u32::from(b[8 + i]);
        let low_half = (q & 15) | (((high >> i) & 1) << 4);
        let high_half = (q >> 4) | (((high >> (i + 16)) & 1) << 4);
        y[i] = low_half as f32 * d + m;
        y[i + 16] = high_half as f32 * d + m;
    }
}

/// The eight 6-bit scales and eight 6-bit minima of a K block, from their 12 bytes: bytes 0..4 hold the first four scales,
/// 4..8 the first four minima (low 6 bits each), 8..12 the low nibbles of the other scales and minima, whose two high
/// bits are the top bits of bytes 0..8.
#[inline(always)]
fn k_scales(s: &[u8]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut minima) = ([0; 8], [0; 8]);
    for j in 0..4 {
        scales[j] = s[j] & 63;
        minima[j] = s[j + 4] & 63;
        scales[j + 4] = (s[j + 8] & 15) | ((s[j] >> 6) << 4);
        minima[j + 4] = (s[j + 8] >> 4) | ((s[j + 4] >> 6) << 4);
    }
    (scales, minima)
}

/// d f16, dmin f16, 12 bytes of scales, 128 bytes of nibbles: 64 elements share 32 bytes, low nibbles first.
#[inline(always)]
fn q4_k(b: &[u8; 144], y: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(b, 0), f16_at(b, 2));
    let (scales, minima) = k_scales(&b[4..16]);
    let (nibbles, _) = b[16..].as_chunks::<32>();
    let (parts, _) = y.as_chunks_mut::<64>();
    for (j, (y, q)) in parts.iter_mut().zip(nibbles).enumerate() {
        let (scale, minimum) = (d * f32::from(scales[2 * j]), dmin * f32::from(minima[2 * j]));
        for i in 0..32 {
            y[i] = scale * f32::from(q[i] & 15) - minimum;
        }
        let (scale, minimum) = (d * f32::from(scales[2 * j + 1]), dmin * f32::from(minima[2 * j + 1]));
        for i in 0..32 {
            y[32 + i] = scale * f32::from(q[i] >> 4) - minimum;
        }
    }
}

/// As Q4_K, with 32 bytes of fifth bits between the scales and the nibbles: bit j of byte i belongs to element 32 j + i.
#[inline(always)]
fn q5_k(b: &[u8; 176], y: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(b, 0), f16_at(b, 2));
    let (scales, minima) = k_scales(&b[4..16]);
    let (bytes, _) = b[16..].as_chunks::<32>();
    let (fifth, nibbles) = (&bytes[0], &bytes[1..]);
    let (parts, _) = y.as_chunks_mut::<32>();
    for (part, y) in parts.iter_mut().enumerate() {
        let (scale, minimum) = (d * f32::from(scales[part]), dmin * f32::from(minima[part]));
        let (q, shift) = (&nibbles[part / 2], 4 * (part % 2));
        for i in 0..32 {
            let value = ((i32::from(q[i]) >> shift) & 15) | (((i32::from(fifth[i]) >> part) & 1) << 4);
            y[i] = scale * value as f32 - minimum;
        }
    }
}

/// 128 bytes of low nibbles, 64 of high bit pairs, 16 scales i8 (one for 16 elements), d f16; less 32. Each half block of
/// 128 elements has 64 and 32 of those bytes: its element 32 j + i has the bit pair j of byte i.
#[inline(always)]
fn q6_k(b: &[u8; 210], y: &mut [f32; 256]) {
    let d = f16_at(b, 208);
    let (nibbles, _) = b[..128].as_chunks::<16>();
    let (pairs, _) = b[128..192].as_chunks::<16>();
    let (parts, _) = y.as_chunks_mut::<16>();
    for (part, y) in parts.iter_mut().enumerate() {
        let scale = d * f32::from(b[192 + part] as i8);
        let (half, quarter, sixteen) = (part / 8, part % 8 / 2, part % 2);
        let low = &nibbles[4 * half + 2 * (quarter % 2) + sixteen];
        let high = &pairs[2 * half + sixteen];
        let (shift, pair) = (4 * (quarter / 2), 2 * quarter);
        for i in 0..16 {
            let q = ((i32::from(low[i]) >> shift) & 15) | (((i32::from(high[i]) >> pair) & 3) << 4);
            y[i] = scale * (q - 32) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
    use proptest::prelude::*;

    use super::*;

    fn candle_type(dtype: Dtype) -> GgmlDType {
        match dtype {
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
        }
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
        let len = bytes.len() / dtype.block_bytes() * dtype.block_len();
        let mut found = vec![0.0; len];
        dequantize_row(dtype, bytes, &mut found);
        let device = candle_core::Device::Cpu;
        let expected = qtensor_from_ggml(candle_type(dtype), bytes, vec![len], &device)
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

    #[test]
    #[should_panic(expected = "33 bytes are not 32 elements of Q8_0")]
    fn a_wrong_length_is_a_bug_of_the_caller() {
        dequantize_row(Dtype::Q8_0, &[0; 33], &mut [0.0; 32]);
    }
}
