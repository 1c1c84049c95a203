//! Blocks of quantised weights, a whole panel of rows at a time: what [`super::Codebook`] describes, from the
//! layouts in [`crate::weights::codes`].

use super::lanes::{Lanes, Transpose, Words};
use super::{Codebook, WIDTH, bytes_of};
use crate::weights::Dtype;

/// The same bits in every byte.
const fn bytes(bits: u32) -> u32 {
    bits * 0x0101_0101
}

/// Packs block `b` of the rows into `out`.
#[inline(always)]
pub(super) fn block<T: Transpose>(rows: Lanes<'_>, dtype: Dtype, b: usize, book: &Codebook, out: &mut [u32]) {
    let at = b * dtype.block_bytes();
    let (head, codes) = out.split_at_mut(Codebook::header(&book.format) / size_of::<u32>());
    let (codes, _) = codes.as_chunks_mut::<WIDTH>();
    let head = bytes_of(head);
    match dtype {
        Dtype::Q8_0 => {
            halves(head, 0, rows.halves(at));
            rows.words::<T>(at + 2, codes);
            codes
                .as_flattened_mut()
                .iter_mut()
                .for_each(|word| *word ^= bytes(0x80));
        }
        Dtype::Q4_0 => simple::<T>(rows, at, false, false, head, codes),
        Dtype::Q4_1 => simple::<T>(rows, at, true, false, head, codes),
        Dtype::Q5_0 => simple::<T>(rows, at, false, true, head, codes),
        Dtype::Q5_1 => simple::<T>(rows, at, true, true, head, codes),
        Dtype::Q4K => k_block::<T>(rows, at, false, head, codes),
        Dtype::Q5K => k_block::<T>(rows, at, true, head, codes),
        Dtype::Q6K => six::<T>(rows, at, head, codes),
        Dtype::Mxfp4 => {
            head.copy_from_slice(&rows.bytes(at));
            four_bits::<T>(rows, at + 1, codes);
        }
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => unreachable!("plain numbers have no blocks"),
    }
}

/// Writes line `line` of 16-bit numbers.
#[inline(always)]
fn halves(head: &mut [u8], line: usize, values: [u16; WIDTH]) {
    let (out, _) = head[2 * WIDTH * line..].as_chunks_mut::<2>();
    out.iter_mut()
        .zip(values)
        .for_each(|(out, v)| *out = v.to_le_bytes());
}

/// Writes the four bytes of every lane's word as four lines, from byte `at` on.
#[inline(always)]
fn four_lines(head: &mut [u8], at: usize, words: &Words) {
    for (byte, line) in head[at..][..4 * WIDTH].chunks_exact_mut(WIDTH).enumerate() {
        line.iter_mut()
            .zip(words)
            .for_each(|(out, word)| *out = (word >> (8 * byte)) as u8);
    }
}

/// Eight codes of every lane: the low (or high) nibbles of `first`, above them those of `second`.
#[inline(always)]
fn pair(first: &Words, second: &Words, high: bool, out: &mut Words) {
    const LOW: u32 = bytes(15);
    for ((out, a), b) in out.iter_mut().zip(first).zip(second) {
        *out = if high {
            (a >> 4 & LOW) | (b & !LOW)
        } else {
            (a & LOW) | (b & LOW) << 4
        };
    }
}

/// Scale, minimum, 32 fifth bits (each if the format has it), 16 bytes of nibbles.
#[inline(always)]
fn simple<T: Transpose>(
    rows: Lanes<'_>,
    at: usize,
    minimum: bool,
    fifth: bool,
    head: &mut [u8],
    codes: &mut [Words],
) {
    halves(head, 0, rows.halves(at));
    let mut next = at + 2;
    if minimum {
        halves(head, 1, rows.halves(next));
        next += 2;
    }
    if fifth {
        let mut bits = [[0; WIDTH]];
        rows.words::<T>(next, &mut bits);
        next += 4;
        for (out, bits) in codes[4].iter_mut().zip(bits[0]) {
            // four bits, one to a byte
            let spread = |step: usize| (bits >> (4 * step) & 15).wrapping_mul(0x0020_4081) & bytes(1);
            *out = (0..8).fold(0, |all, step| all | spread(step) << step);
        }
    }
    four_bits::<T>(rows, next, codes);
}

/// 16 bytes of nibbles.
#[inline(always)]
fn four_bits<T: Transpose>(rows: Lanes<'_>, at: usize, codes: &mut [Words]) {
    let mut n = [[0; WIDTH]; 4];
    rows.words::<T>(at, &mut n);
    for (i, out) in codes[..4].iter_mut().enumerate() {
        pair(&n[2 * (i % 2)], &n[2 * (i % 2) + 1], i >= 2, out);
    }
}

/// Q4_K, and Q5_K with its fifth bits.
#[inline(always)]
fn k_block<T: Transpose>(rows: Lanes<'_>, at: usize, fifth: bool, head: &mut [u8], codes: &mut [Words]) {
    let mut w = [[0; WIDTH]; 4];
    rows.words::<T>(at, &mut w);
    halves(head, 0, w[0].map(|both| both as u16));
    halves(head, 1, w[0].map(|both| (both >> 16) as u16));
    let mut line = 4 * WIDTH;
    let mut integers = |of: &dyn Fn(usize) -> u32| {
        four_lines(head, line, &std::array::from_fn(of));
        line += 4 * WIDTH;
    };
    // scales 0..4 and 4..8, then minima
    integers(&|i| w[1][i] & bytes(63));
    integers(&|i| (w[3][i] & bytes(15)) | (w[1][i] >> 2 & bytes(48)));
    integers(&|i| w[2][i] & bytes(63));
    integers(&|i| (w[3][i] >> 4 & bytes(15)) | (w[2][i] >> 2 & bytes(48)));

    let mut bits = [[0; WIDTH]; 8];
    let mut nibbles = at + 16;
    if fifth {
        rows.words::<T>(nibbles, &mut bits);
        nibbles += 32;
    }
    let lines = if fifth { 5 } else { 4 };
    let mut n = [[0; WIDTH]; 8];
    for (g, codes) in codes.chunks_exact_mut(lines).enumerate() {
        if g % 2 == 0 {
            rows.words::<T>(nibbles + 16 * g, &mut n);
        }
        for (i, out) in codes[..4].iter_mut().enumerate() {
            pair(&n[2 * i], &n[2 * i + 1], g % 2 == 1, out);
        }
        if fifth {
            for (lane, out) in codes[4].iter_mut().enumerate() {
                *out = (0..8).fold(0, |all, step| all | (bits[step][lane] >> g & bytes(1)) << step);
            }
        }
    }
}

/// Q6_K: groups of 16, half a block from the same 64 bytes of nibbles and 32 of bit pairs.
#[inline(always)]
fn six<T: Transpose>(rows: Lanes<'_>, at: usize, head: &mut [u8], codes: &mut [Words]) {
    halves(head, 0, rows.halves(at + 208));
    let mut scales = [[0; WIDTH]; 4];
    rows.words::<T>(at + 192, &mut scales);
    for (i, four) in scales.iter().enumerate() {
        four_lines(head, (2 + 4 * i) * WIDTH, four);
    }
    let (mut n, mut bits) = ([[0; WIDTH]; 16], [[0; WIDTH]; 8]);
    for (half, codes) in codes.chunks_exact_mut(24).enumerate() {
        rows.words::<T>(at + 64 * half, &mut n);
        rows.words::<T>(at + 128 + 32 * half, &mut bits);
        for (g, codes) in codes.chunks_exact_mut(3).enumerate() {
            let n = &n[4 * (g % 4)..][..4];
            pair(&n[0], &n[1], g >= 4, &mut codes[0]);
            pair(&n[2], &n[3], g >= 4, &mut codes[1]);
            let bits = &bits[4 * (g % 2)..][..4];
            for (lane, out) in codes[2].iter_mut().enumerate() {
                *out = (0..4).fold(0, |all, step| {
                    all | (bits[step][lane] >> (g / 2 * 2) & bytes(3)) << (2 * step)
                });
            }
        }
    }
}
