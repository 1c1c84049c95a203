//! The integers inside quantised blocks. The layouts are those of GGUF (ggml's block formats).
//!
//! Every format is `weight = scale * (code - zero) - minimum`: codes are unsigned, `zero` is the format's,
//! and a group of consecutive elements shares its scale and its minimum. Where what is stored are small
//! floating-point numbers, a table has their codes.

use super::{Dtype, f16_to_f32};

/// What is constant in a quantised format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Bits of a code: 4, 5, 6 or 8.
    pub(crate) bits: usize,
    /// The code of a weight of 0 (where there is no minimum).
    pub(crate) zero: i32,
    /// Elements in a block.
    pub(crate) block: usize,
    /// Elements that share a scale.
    pub(crate) group: usize,
    /// Whether a group has a minimum.
    pub(crate) minima: bool,
    /// How a group's scale is made.
    pub(crate) scales: Scales,
    /// The codes of the 16 numbers that four bits may be, below 32; `None` where they are codes themselves.
    pub(crate) table: Option<&'static [u8; 16]>,
}

/// How the scale of a group is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scales {
    /// The block's own f16; a minimum is stored with the other sign.
    Block,
    /// The block's f16 times the group's unsigned integer.
    Unsigned,
    /// The block's f16 times the group's signed integer.
    Signed,
    /// Half of 2 to the power of the group's byte less 127.
    Exponent,
}

/// The numbers of FP4 (E2M1) doubled, so that they are integers, and 12 more, so that none is negative: 0, 1/2,
/// 1, 3/2, 2, 3, 4 and 6, then the same with the other sign.
const E2M1: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

impl Format {
    /// The format of a quantised type; `None` for plain numbers.
    pub(crate) const fn of(dtype: Dtype) -> Option<Self> {
        Some(match dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => return None,
            Dtype::Q8_0 => Self::simple(8, 128, false),
            Dtype::Q4_0 => Self::simple(4, 8, false),
            Dtype::Q4_1 => Self::simple(4, 0, true),
            Dtype::Q5_0 => Self::simple(5, 16, false),
            Dtype::Q5_1 => Self::simple(5, 0, true),
            Dtype::Q4K => Self::k(4, 0, 32, true, Scales::Unsigned),
            Dtype::Q5K => Self::k(5, 0, 32, true, Scales::Unsigned),
            Dtype::Q6K => Self::k(6, 32, 16, false, Scales::Signed),
            Dtype::Mxfp4 => Self {
                scales: Scales::Exponent,
                table: Some(&E2M1),
                ..Self::simple(4, 12, false)
            },
        })
    }

    const fn simple(bits: usize, zero: i32, minima: bool) -> Self {
        Self {
            bits,
            zero,
            block: 32,
            group: 32,
            minima,
            scales: Scales::Block,
            table: None,
        }
    }

    const fn k(bits: usize, zero: i32, group: usize, minima: bool, scales: Scales) -> Self {
        Self {
            bits,
            zero,
            block: 256,
            group,
            minima,
            scales,
            table: None,
        }
    }

    /// Groups in a block.
    pub(crate) const fn groups(&self) -> usize {
        self.block / self.group
    }
}

/// One block, taken apart.
pub(crate) struct Codes {
    /// Codes of the block's elements, in their order.
    pub(crate) codes: [u8; 256],
    /// The block's scale, f16.
    pub(crate) scale: u16,
    /// The block's minimum or factor of minima, f16; 0 where there is none.
    pub(crate) minimum: u16,
    /// By group, where each has its own.
    pub(crate) scales: [u8; 16],
    /// By group.
    pub(crate) minima: [u8; 16],
}

impl Default for Codes {
    fn default() -> Self {
        Self {
            codes: [0; 256],
            scale: 0,
            minimum: 0,
            scales: [0; 16],
            minima: [0; 16],
        }
    }
}

impl Codes {
    /// Takes apart one block of a quantised type.
    ///
    /// # Panics
    /// When `block` has another length than the type's.
    pub(crate) fn read(&mut self, dtype: Dtype, block: &[u8]) {
        assert_eq!(block.len(), dtype.block_bytes(), "a block of {dtype}");
        let half = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        (self.scale, self.minimum) = (half(0), 0);
        match dtype {
            Dtype::Q8_0 => {
                for (code, byte) in self.codes.iter_mut().zip(&block[2..]) {
                    *code = byte ^ 0x80;
                }
            }
            Dtype::Q4_0 => nibbles(&block[2..], &mut self.codes),
            Dtype::Q4_1 => {
                self.minimum = half(2);
                nibbles(&block[4..], &mut self.codes);
            }
            Dtype::Q5_0 => {
                nibbles(&block[6..], &mut self.codes);
                fifth_bits(&block[2..6], &mut self.codes);
            }
            Dtype::Q5_1 => {
                self.minimum = half(2);
                nibbles(&block[8..], &mut self.codes);
                fifth_bits(&block[4..8], &mut self.codes);
            }
            Dtype::Q4K => self.q4_k(block),
            Dtype::Q5K => self.q5_k(block),
            Dtype::Q6K => self.q6_k(block),
            Dtype::Mxfp4 => {
                self.scales[0] = block[0];
                nibbles(&block[1..], &mut self.codes);
            }
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => unreachable!("plain numbers have no codes"),
        }
    }

    /// Scale and minimum of a group of the block that was read.
    pub(crate) fn group(&self, format: &Format, g: usize) -> (f32, f32) {
        let (d, m) = (f16_to_f32(self.scale), f16_to_f32(self.minimum));
        match format.scales {
            Scales::Block => (d, -m),
            Scales::Unsigned => (d * f32::from(self.scales[g]), m * f32::from(self.minima[g])),
            Scales::Signed => (d * f32::from(self.scales[g] as i8), 0.0),
            Scales::Exponent => (0.5 * power_of_two(self.scales[g]), 0.0),
        }
    }

    /// The weights of the block that was read.
    pub(crate) fn to_f32(&self, dtype: Dtype, out: &mut [f32]) {
        let Some(format) = Format::of(dtype) else { return };
        for (g, (y, codes)) in out
            .chunks_mut(format.group)
            .zip(self.codes.chunks(format.group))
            .enumerate()
        {
            let (scale, minimum) = self.group(&format, g);
            for (y, code) in y.iter_mut().zip(codes) {
                let code = format.table.map_or(*code, |table| table[usize::from(*code)]);
                let scaled = scale * (i32::from(code) - format.zero) as f32;
                *y = if format.minima { scaled - minimum } else { scaled };
            }
        }
    }

    /// The eight 6-bit scales and eight 6-bit minima of a K block, from their 12 bytes: bytes 0..4 hold the
    /// first four scales, 4..8 the first four minima (low 6 bits each), 8..12 the low nibbles of the other
    /// scales and minima, whose two high bits are the top bits of bytes 0..8.
    fn k_scales(&mut self, block: &[u8]) {
        let s = &block[4..16];
        self.minimum = u16::from_le_bytes([block[2], block[3]]);
        for j in 0..4 {
            self.scales[j] = s[j] & 63;
            self.minima[j] = s[j + 4] & 63;
            self.scales[j + 4] = (s[j + 8] & 15) | ((s[j] >> 6) << 4);
            self.minima[j + 4] = (s[j + 8] >> 4) | ((s[j + 4] >> 6) << 4);
        }
    }

    /// d f16, dmin f16, 12 bytes of scales, 128 bytes of nibbles: 64 elements share 32 bytes, low nibbles
    /// first.
    fn q4_k(&mut self, block: &[u8]) {
        self.k_scales(block);
        for (q, codes) in block[16..].chunks_exact(32).zip(self.codes.chunks_exact_mut(64)) {
            nibbles(q, codes);
        }
    }

    /// As Q4_K, with 32 bytes of fifth bits between the scales and the nibbles: bit j of byte i belongs to
    /// element 32 j + i.
    fn q5_k(&mut self, block: &[u8]) {
        self.k_scales(block);
        for (q, codes) in block[48..].chunks_exact(32).zip(self.codes.chunks_exact_mut(64)) {
            nibbles(q, codes);
        }
        for (j, codes) in self.codes.chunks_exact_mut(32).enumerate() {
            for (code, fifth) in codes.iter_mut().zip(&block[16..48]) {
                *code |= (fifth >> j & 1) << 4;
            }
        }
    }

    /// 128 bytes of low nibbles, 64 of high bit pairs, 16 scales i8 (one for 16 elements), d f16. Each half
    /// block of 128 elements has 64 and 32 of those bytes: its element 32 j + i has the bit pair j of byte i.
    fn q6_k(&mut self, block: &[u8]) {
        self.scale = u16::from_le_bytes([block[208], block[209]]);
        self.scales.copy_from_slice(&block[192..208]);
        for (half, codes) in self.codes.chunks_exact_mut(128).enumerate() {
            nibbles(&block[64 * half..][..64], codes);
            let pairs = &block[128 + 32 * half..][..32];
            for (j, codes) in codes.chunks_exact_mut(32).enumerate() {
                for (code, pair) in codes.iter_mut().zip(pairs) {
                    *code |= (pair >> (2 * j) & 3) << 4;
                }
            }
        }
    }
}

/// 2 to the power of `exponent - 127`, NaN for 255 (E8M0).
pub(crate) fn power_of_two(exponent: u8) -> f32 {
    match exponent {
        // below the smallest normal number
        0 => f32::from_bits(1 << 22),
        u8::MAX => f32::NAN,
        _ => f32::from_bits(u32::from(exponent) << 23),
    }
}

/// The low nibbles of all bytes, then the high ones.
fn nibbles(bytes: &[u8], codes: &mut [u8]) {
    let (low, high) = codes[..2 * bytes.len()].split_at_mut(bytes.len());
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}

/// Bit i of the four bytes is the fifth bit of code i.
fn fifth_bits(bytes: &[u8], codes: &mut [u8]) {
    let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (i, code) in codes[..32].iter_mut().enumerate() {
        *code |= ((bits >> i & 1) as u8) << 4;
    }
}
