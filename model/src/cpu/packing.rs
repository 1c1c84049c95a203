//! How weights lie in memory: panels of [`WIDTH`] outputs, so that a product reads each of them once from end
//! to end.

#![allow(
    unsafe_code,
    reason = "panels are written as bytes, and transposed by vector instructions where they are there"
)]

mod blocks;
mod lanes;

use super::kernels::buf::PAD;
use crate::weights::codes::{Codes, Format, Scales};
use crate::weights::{Dtype, f16_to_f32};
pub(crate) use lanes::Lanes;
use lanes::{Plain, Transpose};

/// Outputs in a panel.
pub(crate) const WIDTH: usize = PAD;

/// What a panel of weights with `k` inputs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `[k][WIDTH]`
    F32,
    /// `[k][WIDTH]` of f16
    F16,
    /// `[ceil(k / 2)][WIDTH][2]` of bf16
    Bf16,
    /// `[block]`
    Codes(Codebook),
}

/// Blocks of small integers with their scales. A block of a panel holds, each for [`WIDTH`] outputs: the f16
/// scale, the f16 minimum if the format has minima, the groups' scales and minima if they are integers (or
/// the exponents of their scales, instead of all that), and
/// the codes as `[group][step][WIDTH][4]`: four consecutive elements of every output. Of codes below 8 bits
/// the low nibbles come first, a byte for a step and the next (which has the high half), then all that is
/// above them as `[WIDTH][4]`: byte i holds the bits of element i of every step, the first step's lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Codebook {
    pub(crate) dtype: Dtype,
    pub(crate) format: Format,
}

impl Codebook {
    /// Bytes of a block's header.
    pub(crate) fn header(format: &Format) -> usize {
        let halves = if format.minima { 2 } else { 1 };
        WIDTH
            * match format.scales {
                Scales::Block => 2 * halves,
                Scales::Unsigned | Scales::Signed => (2 + format.groups()) * halves,
                Scales::Exponent => format.groups(),
            }
    }
    /// Bytes of a group's codes.
    pub(crate) fn group_bytes(format: &Format) -> usize {
        format.group * WIDTH * format.bits / 8
    }
    /// Bytes of a block.
    pub(crate) fn block_bytes(format: &Format) -> usize {
        Self::header(format) + format.groups() * Self::group_bytes(format)
    }
}

impl Layout {
    /// Weights of a type as they are.
    pub(crate) fn of(dtype: Dtype) -> Self {
        match Format::of(dtype) {
            Some(format) => Self::Codes(Codebook { dtype, format }),
            None if dtype == Dtype::BF16 => Self::Bf16,
            None if dtype == Dtype::F16 => Self::F16,
            None => Self::F32,
        }
    }
    /// The type of weights that lie like this.
    pub(crate) fn dtype(&self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
            Self::Codes(book) => book.dtype,
        }
    }
    /// Words of four bytes in a panel.
    pub(crate) fn panel_words(&self, k: usize) -> usize {
        match self {
            Self::F32 => k * WIDTH,
            Self::F16 => k * WIDTH / 2,
            Self::Bf16 => k.div_ceil(2) * WIDTH,
            Self::Codes(book) => {
                k / book.format.block * Codebook::block_bytes(&book.format) / size_of::<u32>()
            }
        }
    }
}

/// Packs rows of `k` weights of the layout's own type.
pub(crate) fn panel(rows: Lanes<'_>, layout: Layout, k: usize, out: &mut [u32]) {
    assert_eq!(out.len(), layout.panel_words(k), "a panel");
    if !rows.is_whole() {
        out.fill(0);
    }
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: detected
        return unsafe { with_avx2(rows, layout, k, out) };
    }
    fill::<Plain>(rows, layout, k, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn with_avx2(rows: Lanes<'_>, layout: Layout, k: usize, out: &mut [u32]) {
    fill::<lanes::Avx2>(rows, layout, k, out);
}

#[inline(always)]
fn fill<T: Transpose>(rows: Lanes<'_>, layout: Layout, k: usize, out: &mut [u32]) {
    match layout {
        Layout::F32 => rows.words::<T>(0, out.as_chunks_mut::<WIDTH>().0),
        Layout::Bf16 => {
            let (pairs, _) = out.as_chunks_mut::<WIDTH>();
            let (whole, last) = pairs.split_at_mut(k / 2);
            rows.words::<T>(0, whole);
            if let Some(last) = last.first_mut() {
                *last = rows.halves(2 * (k - 1)).map(u32::from);
            }
        }
        Layout::F16 => {
            let (out, _) = bytes_of(out).as_chunks_mut::<2>();
            let mut words = [[0; WIDTH]; 16];
            for (i, out) in out.chunks_mut(2 * WIDTH * words.len()).enumerate() {
                let words = &mut words[..out.len() / (2 * WIDTH)];
                rows.words::<T>(i * 64, words);
                for (word, out) in words.iter().zip(out.chunks_exact_mut(2 * WIDTH)) {
                    let (low, high) = out.split_at_mut(WIDTH);
                    low.iter_mut()
                        .zip(word)
                        .for_each(|(out, word)| *out = (*word as u16).to_le_bytes());
                    high.iter_mut()
                        .zip(word)
                        .for_each(|(out, word)| *out = ((word >> 16) as u16).to_le_bytes());
                }
            }
            if k % 2 == 1 {
                let last = out.len() - WIDTH;
                out[last..]
                    .iter_mut()
                    .zip(rows.halves(2 * (k - 1)))
                    .for_each(|(out, v)| *out = v.to_le_bytes());
            }
        }
        Layout::Codes(book) => {
            let unit = Codebook::block_bytes(&book.format) / size_of::<u32>();
            for (b, out) in out.chunks_exact_mut(unit).enumerate() {
                blocks::block::<T>(rows, book.dtype, b, &book, out);
            }
        }
    }
}

/// Words as the bytes that they are in memory.
fn bytes_of(words: &mut [u32]) -> &mut [u8] {
    // SAFETY: every word is four bytes, and any bytes are a word
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

/// Row `lane` of a panel of `k` weights as f32.
pub(crate) fn row(panel: &[u8], layout: Layout, lane: usize, out: &mut [f32]) {
    let (words, _) = panel.as_chunks::<4>();
    match layout {
        Layout::F32 => out
            .iter_mut()
            .enumerate()
            .for_each(|(j, o)| *o = f32::from_le_bytes(words[j * WIDTH + lane])),
        Layout::F16 => {
            let (halves, _) = panel.as_chunks::<2>();
            let half = |j: usize| f16_to_f32(u16::from_le_bytes(halves[j * WIDTH + lane]));
            out.iter_mut().enumerate().for_each(|(j, o)| *o = half(j));
        }
        Layout::Bf16 => {
            for (pair, o) in out.chunks_mut(2).enumerate() {
                let bits = u32::from_le_bytes(words[pair * WIDTH + lane]);
                o[0] = f32::from_bits(bits << 16);
                if let Some(second) = o.get_mut(1) {
                    *second = f32::from_bits(bits & 0xffff_0000);
                }
            }
        }
        Layout::Codes(Codebook { dtype, format }) => {
            let mut block = Codes::default();
            let blocks = panel.chunks_exact(Codebook::block_bytes(&format));
            for (bytes, o) in blocks.zip(out.chunks_exact_mut(format.block)) {
                take(bytes, &format, lane, &mut block);
                block.to_f32(dtype, o);
            }
        }
    }
}

/// One output of a block of a panel.
fn take(bytes: &[u8], format: &Format, lane: usize, block: &mut Codes) {
    let (head, codes) = bytes.split_at(Codebook::header(format));
    let (halves, integers) = head.split_at(match format.scales {
        Scales::Exponent => 0,
        _ if format.minima => 4 * WIDTH,
        _ => 2 * WIDTH,
    });
    let half = |i: usize| match halves.get(2 * i..2 * i + 2) {
        Some(bytes) => u16::from_le_bytes([bytes[0], bytes[1]]),
        None => 0,
    };
    (block.scale, block.minimum) = (half(lane), if format.minima { half(WIDTH + lane) } else { 0 });
    for (g, line) in integers.chunks_exact(WIDTH).enumerate() {
        if g < format.groups() {
            block.scales[g] = line[lane];
        } else {
            block.minima[g - format.groups()] = line[lane];
        }
    }
    let groups = block.codes[..format.block].chunks_exact_mut(format.group);
    for (values, bytes) in groups.zip(codes.chunks_exact(Codebook::group_bytes(format))) {
        let at = |line: usize| &bytes[(line * WIDTH + lane) * 4..][..4];
        if format.bits == 8 {
            for (step, four) in values.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(at(step));
            }
            continue;
        }
        for (pair, eight) in values.chunks_exact_mut(8).enumerate() {
            for (i, byte) in at(pair).iter().enumerate() {
                (eight[i], eight[4 + i]) = (byte & 15, byte >> 4);
            }
        }
        let high = format.bits - 4;
        if high > 0 {
            let bits = at(format.group / 8);
            for (step, four) in values.chunks_exact_mut(4).enumerate() {
                four.iter_mut()
                    .zip(bits)
                    .for_each(|(code, byte)| *code |= (byte >> (high * step) & ((1 << high) - 1)) << 4);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::dequantize_row;

    /// Bytes that depend on their place alone.
    fn bytes(len: usize) -> Vec<u8> {
        (0..len)
            .map(|i| ((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect()
    }

    #[test]
    fn panels_are_their_rows_with_any_instructions() {
        for dtype in Dtype::ALL {
            for k in [256, 768].into_iter().chain(
                (!dtype.is_quantized())
                    .then_some([1, 2, 7, 31, 102, 333])
                    .into_iter()
                    .flatten(),
            ) {
                let (layout, stride) = (Layout::of(dtype), dtype.row_bytes(k));
                for count in [1, 5, 8, 31, 32] {
                    let file = bytes(count * stride);
                    let rows = Lanes::of(&file, stride, count, 0);
                    let mut packed = vec![7; layout.panel_words(k)];
                    panel(rows, layout, k, &mut packed);
                    let mut plain = vec![0; layout.panel_words(k)];
                    fill::<Plain>(rows, layout, k, &mut plain);
                    assert_eq!(packed, plain, "{dtype} {k} {count}");
                    for lane in 0..WIDTH {
                        let (mut expected, mut found) = (vec![0.0; k], vec![0.0; k]);
                        if let Some(row) = file.chunks_exact(stride).nth(lane) {
                            dequantize_row(dtype, row, &mut expected);
                            row_of(&mut packed, layout, lane, &mut found);
                            let same = expected
                                .iter()
                                .zip(&found)
                                .all(|(e, f)| e.to_bits() == f.to_bits());
                            assert!(same, "{dtype} {k} {lane} of {count}");
                        } else if !dtype.is_quantized() {
                            row_of(&mut packed, layout, lane, &mut found);
                            assert_eq!(expected, found, "{dtype} {k} {lane} of {count} is padding");
                        }
                    }
                }
            }
        }
    }

    fn row_of(packed: &mut [u32], layout: Layout, lane: usize, out: &mut [f32]) {
        row(bytes_of(packed), layout, lane, out);
    }
}
