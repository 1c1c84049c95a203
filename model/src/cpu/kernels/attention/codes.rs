//! Keys and values as 8-bit codes: [`SCALED`] numbers of a position share a scale.
//!
//! Before they are rounded, the numbers of a head are turned so that a large one is spread over all (QuaRot, arXiv
//! 2404.00456), because keys have dimensions that are far larger than the others. Queries are turned alike, and what
//! was attended to is turned back.
//!
//! A head's keys are codes `[head_dim, BLOCK]`, then scales `[groups, BLOCK]`: positions lie along the lanes, so the
//! scales of a group meet its partial sums, not its numbers. Its values are codes `[BLOCK, padded head_dim]`, then
//! scales `[groups, BLOCK]`, which meet the weights of the positions. Codes are multiplied in f32, like numbers.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

use std::ops::Range;

use super::visit::{Visit, soften};
use crate::cpu::kernels::simd::{Simd, Tier, prefetch_far, tiers};
use crate::cpu::state::{BLOCK, KvLayout, SCALED};

/// The largest code; -128 is none, so that signs are alike.
const MOST: f32 = 127.0;

/// Numbers that are turned together at most; a multiple of [`SCALED`].
const TURNED: usize = 128;

/// The Hadamard matrix times a head's numbers, which are taken in pieces whose lengths are powers of two.
fn turn(head: &mut [f32]) {
    pieces(head, |piece| {
        let mut half = 1;
        while half < piece.len() {
            for pair in piece.chunks_exact_mut(2 * half) {
                let (first, second) = pair.split_at_mut(half);
                for (a, b) in first.iter_mut().zip(second) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
    });
}

/// Takes [`turn`] back; a query that passes it has the products with turned keys that it has with keys.
pub(crate) fn turn_back(head: &mut [f32]) {
    turn(head);
    pieces(head, |piece| {
        let scale = 1.0 / piece.len() as f32;
        piece.iter_mut().for_each(|x| *x *= scale);
    });
}

fn pieces(mut head: &mut [f32], mut each: impl FnMut(&mut [f32])) {
    while !head.is_empty() {
        let (piece, rest) = head.split_at_mut(TURNED.min(1 << head.len().ilog2()));
        each(piece);
        head = rest;
    }
}

/// The numbers of a head, turned and rounded: group by group, with how many there are in each.
fn rounded(tier: Tier, head: &[f32], mut each: impl FnMut(usize, &Rounded, usize)) {
    let mut group = 0;
    for numbers in head.chunks(TURNED) {
        let mut turned = [0.0; TURNED];
        let turned = &mut turned[..numbers.len()];
        turned.copy_from_slice(numbers);
        turn(turned);
        for numbers in turned.chunks(SCALED) {
            each(group, &Rounded::new(tier, numbers), numbers.len());
            group += 1;
        }
    }
}

/// Writes one position's key and value into the memory of their head.
pub(super) fn append(
    tier: Tier,
    layout: &KvLayout,
    (k, v): (&mut [f32], &mut [f32]),
    offset: usize,
    (key, value): (&[f32], &[f32]),
) {
    let (codes, scales) = parts(k, layout.head_dim * BLOCK);
    rounded(tier, key, |group, rounded, count| {
        scales[group * BLOCK + offset] = rounded.scale;
        let column = codes[group * SCALED * BLOCK + offset..].iter_mut().step_by(BLOCK);
        for (to, code) in column.zip(&rounded.codes[..count]) {
            *to = *code;
        }
    });
    let (codes, scales) = parts(v, layout.head_stride() * BLOCK);
    let row = &mut codes[offset * layout.head_stride()..];
    rounded(tier, value, |group, rounded, _| {
        scales[group * BLOCK + offset] = rounded.scale;
        row[group * SCALED..][..SCALED].copy_from_slice(&rounded.codes);
    });
}

/// Codes, and the scales behind them.
fn parts(words: &mut [f32], codes: usize) -> (&mut [i8], &mut [u16]) {
    let (codes, scales) = words.split_at_mut(codes / size_of::<f32>());
    // SAFETY: words are aligned for both, and any bits are codes and scales
    unsafe {
        let (codes, scales) = (codes.align_to_mut().1, scales.align_to_mut().1);
        (codes, scales)
    }
}

/// Asks for what [`append`] will write to.
pub(super) fn prefetch(layout: &KvLayout, head: *const f32, offset: usize) {
    let scales = |from: *const u8| {
        for group in 0..layout.head_dim.div_ceil(SCALED) {
            prefetch_far(from.wrapping_add(2 * (group * BLOCK + offset)));
        }
    };
    let keys: *const u8 = head.cast();
    for row in 0..layout.head_dim {
        prefetch_far(keys.wrapping_add(row * BLOCK));
    }
    scales(keys.wrapping_add(layout.head_dim * BLOCK));
    let (values, stride) = (
        keys.wrapping_add(layout.keys_len() * size_of::<f32>()),
        layout.head_stride(),
    );
    for column in (0..stride).step_by(64) {
        prefetch_far(values.wrapping_add(offset * stride + column));
    }
    scales(values.wrapping_add(BLOCK * stride));
}

/// Up to [`SCALED`] numbers, rounded.
struct Rounded {
    /// bf16: a 127th of the largest magnitude, rounded up, so that no code is above it. NaN where a number is not
    /// finite.
    scale: u16,
    /// those behind the last number are 0
    codes: [i8; SCALED],
}

impl Rounded {
    fn new(tier: Tier, numbers: &[f32]) -> Self {
        let mut whole = [0.0; SCALED];
        whole[..numbers.len()].copy_from_slice(numbers);
        let mut rounded = Self {
            scale: 0,
            codes: [0; SCALED],
        };
        // SAFETY: both arrays are of the length that is read and written
        unsafe { round(tier, &whole, &mut rounded) };
        rounded
    }
}

#[inline(always)]
unsafe fn round_body<S: Simd>(numbers: &[f32; SCALED], to: &mut Rounded) {
    unsafe {
        let zero = S::splat(0.0);
        // a number that is not finite makes NaN of 0
        let (mut most, mut broken) = (zero, zero);
        for i in (0..SCALED).step_by(S::LANES) {
            let x = S::load(numbers.as_ptr().add(i));
            most = S::max(most, S::max(x, S::sub(zero, x)));
            broken = S::add(broken, S::mul(x, zero));
        }
        let step = S::hmax(most) / MOST + S::sum(broken);
        let scale = if step.is_nan() {
            f32::NAN
        } else {
            f32::from_bits(step.to_bits().wrapping_add(0xffff) & 0xffff_0000)
        };
        to.scale = (scale.to_bits() >> 16) as u16;
        if scale > 0.0 {
            let scale = S::splat(scale);
            for i in (0..SCALED).step_by(S::LANES) {
                let x = S::load(numbers.as_ptr().add(i));
                S::store_i8(to.codes.as_mut_ptr().add(i), S::div(x, scale));
            }
        }
    }
}
tiers!(fn round = round_body(numbers: &[f32; SCALED], to: &mut Rounded));

#[inline(always)]
unsafe fn visit_body<S: Simd>(visit: &Visit) {
    let heads = visit.heads;
    unsafe {
        let mut h = 0;
        while h < heads {
            h += match heads - h {
                6 if S::LANES == 16 => visit_heads::<S, 6>(visit, h),
                4.. if S::LANES == 16 => visit_heads::<S, 4>(visit, h),
                3 => visit_heads::<S, 3>(visit, h),
                2.. => visit_heads::<S, 2>(visit, h),
                _ => visit_heads::<S, 1>(visit, h),
            };
        }
    }
}
tiers!(pub(super) fn visit = visit_body(visit: &Visit));

#[inline(always)]
unsafe fn visit_heads<S: Simd, const H: usize>(visit: &Visit, first: usize) -> usize {
    let &Visit {
        dim,
        stride,
        from,
        count,
        ..
    } = visit;
    let (first_scores, first_values) = visit.begins::<S>();
    unsafe {
        let (q, scores) = (visit.q.add(first * dim), visit.scores.add(first * BLOCK));
        let ahead = visit.ahead(first);
        let codes: *const u8 = visit.k.cast();
        let scales = codes.add(dim * BLOCK).cast::<u16>();
        for column in (first_scores..count).step_by(4 * S::LANES) {
            dots::<S, H>(
                q,
                dim,
                codes.add(column),
                scales.add(column),
                scores.add(column),
                ahead,
            );
        }
        let mut keep = [S::splat(1.0); H];
        for (h, keep) in keep.iter_mut().enumerate() {
            *keep = S::splat(soften::<S>(
                scores.add(h * BLOCK),
                from..count,
                &mut *visit.max.add(first + h),
                &mut *visit.sum.add(first + h),
            ));
        }
        let codes: *const u8 = visit.v.cast();
        let scales = codes.add(stride * BLOCK).cast::<u16>();
        let acc = visit.acc.add(first * stride);
        let mut weights = [[0.0; BLOCK]; H];
        for column in (0..stride).step_by(2 * S::LANES) {
            if column % SCALED == 0 {
                scale_weights::<S, H>(
                    scores,
                    from..count,
                    scales.add(column / SCALED * BLOCK),
                    ahead,
                    &mut weights,
                );
            }
            weigh::<S, H>(
                &weights,
                first_values..count,
                codes.add(column),
                stride,
                &keep,
                acc.add(column),
                ahead,
            );
        }
    }
    H
}

/// Dot products of H query heads with four vectors of positions.
#[inline(always)]
unsafe fn dots<S: Simd, const H: usize>(
    q: *const f32,
    dim: usize,
    codes: *const u8,
    scales: *const u16,
    scores: *mut f32,
    ahead: usize,
) {
    unsafe {
        for first in (0..dim).step_by(SCALED) {
            let mut s = [[S::splat(0.0); 4]; H];
            for d in first..dim.min(first + SCALED) {
                let row = codes.add(d * BLOCK);
                prefetch_far(row.wrapping_add(ahead));
                for n in 0..4 {
                    let key = S::load_i8(row.add(n * S::LANES));
                    for (h, s) in s.iter_mut().enumerate() {
                        s[n] = S::fma(S::splat(*q.add(h * dim + d)), key, s[n]);
                    }
                }
            }
            let scales = scales.add(first / SCALED * BLOCK);
            for n in 0..4 {
                let scale = scales.add(n * S::LANES);
                prefetch_far(scale.wrapping_byte_add(ahead).cast());
                let scale = S::load_bf16(scale);
                for (h, s) in s.iter().enumerate() {
                    let at = scores.add(h * BLOCK + n * S::LANES);
                    let before = if first == 0 { S::splat(0.0) } else { S::load(at) };
                    S::store(at, S::fma(s[n], scale, before));
                }
            }
        }
    }
}

/// The weights of these positions of a block times the scales of their values.
#[inline(always)]
unsafe fn scale_weights<S: Simd, const H: usize>(
    scores: *const f32,
    seen: Range<usize>,
    scales: *const u16,
    ahead: usize,
    weights: &mut [[f32; BLOCK]; H],
) {
    unsafe {
        for i in (0..BLOCK).step_by(S::LANES) {
            prefetch_far(scales.add(i).wrapping_byte_add(ahead).cast());
            let scale = S::load_bf16(scales.add(i));
            for (h, weights) in weights.iter_mut().enumerate() {
                let weight = S::load(scores.add(h * BLOCK + i));
                S::store(weights.as_mut_ptr().add(i), S::mul(weight, scale));
            }
        }
        // a position beside these is read with one of them, and its scale may be any
        for weights in weights {
            if seen.start % 2 == 1 {
                weights[seen.start - 1] = 0.0;
            }
            if seen.end % 2 == 1 {
                weights[seen.end] = 0.0;
            }
        }
    }
}

/// `acc = acc * keep + sum over positions of weight * code` for H heads and two vectors of columns; even and odd
/// positions are summed apart. The first is even, and the one after an odd number exists and weighs 0.
#[inline(always)]
unsafe fn weigh<S: Simd, const H: usize>(
    weights: &[[f32; BLOCK]; H],
    seen: Range<usize>,
    codes: *const u8,
    stride: usize,
    keep: &[S::V; H],
    acc: *mut f32,
    ahead: usize,
) {
    unsafe {
        let mut a = [[[S::splat(0.0); 2]; 2]; H];
        for first in seen.step_by(2) {
            for odd in 0..2 {
                let row = codes.add((first + odd) * stride);
                prefetch_far(row.wrapping_add(ahead));
                let values = [S::load_i8(row), S::load_i8(row.add(S::LANES))];
                for (a, weights) in a.iter_mut().zip(weights) {
                    let weight = S::splat(*weights.get_unchecked(first + odd));
                    for (a, value) in a[odd].iter_mut().zip(values) {
                        *a = S::fma(weight, value, *a);
                    }
                }
            }
        }
        for (h, [even, odd]) in a.iter().enumerate() {
            for n in 0..2 {
                let at = acc.add(h * stride + n * S::LANES);
                S::store(at, S::fma(S::load(at), keep[h], S::add(even[n], odd[n])));
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cpu::kernels::attention;
    use crate::cpu::kernels::buf::Buf;
    use crate::cpu::state::{KvBlock, KvFormat, Sequence, StateLayout};

    /// A scale and the codes of up to [`SCALED`] finite numbers, one at a time.
    fn plain(numbers: &[f32]) -> (f32, Vec<i8>) {
        let most = numbers.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let step = most / 127.0;
        let mut scale = half::bf16::from_f32(step);
        if scale.to_f32() < step {
            scale = half::bf16::from_bits(scale.to_bits() + 1);
        }
        let scale = scale.to_f32();
        let code = |x: &f32| {
            if scale == 0.0 {
                0.0
            } else {
                (x / scale).round_ties_even()
            }
        };
        (scale, numbers.iter().map(|x| code(x) as i8).collect())
    }

    /// A piece of a head times the Hadamard matrix, as its definition says.
    fn hadamard(piece: &[f64]) -> Vec<f64> {
        let sign = |i: usize, j: usize| {
            if (i & j).count_ones().is_multiple_of(2) {
                1.0
            } else {
                -1.0
            }
        };
        let row = |i: usize| piece.iter().enumerate().map(|(j, x)| sign(i, j) * x).sum();
        (0..piece.len()).map(row).collect()
    }

    #[test]
    fn a_turned_head_is_the_hadamard_matrix_times_it_and_comes_back() {
        for (dim, lengths) in [
            (1, &[1][..]),
            (23, &[16, 4, 2, 1]),
            (64, &[64]),
            (80, &[64, 16]),
            (128, &[128]),
            (320, &[128, 128, 64]),
        ] {
            let head: Vec<f32> = (0..dim).map(|i| number(5, i)).collect();
            let mut turned = head.clone();
            turn(&mut turned);
            let mut at = 0;
            for length in lengths {
                let piece: Vec<f64> = head[at..at + length].iter().map(|x| f64::from(*x)).collect();
                for (found, want) in turned[at..].iter().zip(hadamard(&piece)) {
                    assert!((f64::from(*found) - want).abs() < 1e-5, "{dim}: {found} {want}");
                }
                at += length;
            }
            assert_eq!(at, dim);
            turn_back(&mut turned);
            assert!(
                turned.iter().zip(&head).all(|(a, b)| (a - b).abs() < 1e-6),
                "{dim}"
            );
        }
    }

    /// What is held of a head's numbers.
    pub(in super::super) fn held(head: &[f32]) -> Vec<f32> {
        let mut turned = head.to_vec();
        turn(&mut turned);
        let mut held = codes_of(&turned);
        turn_back(&mut held);
        held
    }

    fn codes_of(head: &[f32]) -> Vec<f32> {
        let group = |numbers: &[f32]| {
            let (scale, codes) = plain(numbers);
            codes
                .into_iter()
                .map(move |code| f32::from(code) * scale)
                .collect::<Vec<_>>()
        };
        head.chunks(SCALED).flat_map(group).collect()
    }

    fn number(seed: usize, i: usize) -> f32 {
        ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_multiple_of_their_scale_on_every_tier() {
        let mut cases: Vec<Vec<f32>> = (1..=SCALED)
            .map(|n| (0..n).map(|i| number(n, i) * (n as f32).powi(7)).collect())
            .collect();
        // ties, one number alone, zeros of both signs, and the ends of what there is
        cases.push(
            (0..SCALED)
                .map(|i| if i == 0 { 127.0 } else { i as f32 - 16.5 })
                .collect(),
        );
        cases.extend([
            vec![0.0; 32],
            vec![-0.0; 5],
            vec![1e-45],
            vec![-1e-40, 3e-41],
            vec![0.0, -7.5],
        ]);
        cases.extend([
            vec![f32::MAX, -f32::MAX, 1.0],
            vec![1e-45, f32::MAX],
            vec![f32::MIN_POSITIVE; 7],
        ]);
        for numbers in cases {
            let (scale, codes) = plain(&numbers);
            for tier in Tier::available() {
                let rounded = Rounded::new(tier, &numbers);
                assert_eq!(
                    f32::from_bits(u32::from(rounded.scale) << 16),
                    scale,
                    "{tier} {numbers:?}"
                );
                assert_eq!(rounded.codes[..codes.len()], codes, "{tier} {numbers:?}");
                assert!(rounded.codes[codes.len()..].iter().all(|code| *code == 0));
            }
            for (x, code) in numbers.iter().zip(&codes) {
                let off = (f64::from(*x) - f64::from(*code) * f64::from(scale)).abs();
                // half a step, and what dividing rounds
                assert!(
                    off <= f64::from(scale) * 0.50001 || scale == 0.0,
                    "{x} {code} {scale}"
                );
            }
        }
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (tier, place) in Tier::available()
                .into_iter()
                .flat_map(|t| [0, 3, 31].map(|at| (t, at)))
            {
                let mut numbers = [1.0; SCALED];
                numbers[place] = broken;
                let rounded = Rounded::new(tier, &numbers);
                let scale = f32::from_bits(u32::from(rounded.scale) << 16);
                assert!(scale.is_nan(), "{tier}: {broken} at {place}");
            }
        }
    }

    /// A position writes its own bytes, whatever lies in the block, and they read as what is held of it.
    #[test]
    fn a_position_writes_its_own_bytes_alone() {
        for head_dim in [1, 23, 32, 33, 64, 80, 128] {
            let layout = KvLayout {
                heads: 3,
                head_dim,
                format: KvFormat::Q8_0,
                offset: 48,
            };
            let width = 3 * head_dim;
            let end = layout.head_at(3);
            let fresh = |fill: f32| {
                let mut block = Buf::zeroed(end + 16);
                block.fill(fill);
                Arc::new(KvBlock(block))
            };
            let row = |seed| (0..width).map(|i| number(seed, i)).collect::<Vec<f32>>();
            for (offset, tier) in [0, 1, 30, BLOCK - 1]
                .into_iter()
                .flat_map(|o| Tier::available().into_iter().map(move |t| (o, t)))
            {
                let [zeros, others] = [0.0, f32::from_bits(0x5a5a_5a5a)].map(|fill| {
                    let block = fresh(fill);
                    // SAFETY: nobody else has the block
                    unsafe { attention::append(tier, &layout, &block, offset, &row(1), &row(2)) };
                    block.0.bytes().to_vec()
                });
                // what was not written is 0 in one and not in the other
                let same: Vec<bool> = zeros.iter().zip(&others).map(|(a, b)| a == b).collect();
                let written = same.iter().filter(|same| **same).count();
                let scales = 2 * head_dim.div_ceil(SCALED) * size_of::<u16>();
                assert_eq!(written, 3 * (head_dim + layout.head_stride() + scales));
                assert!(zeros.iter().zip(&same).all(|(byte, same)| *same || *byte == 0));
                assert!(!same[..4 * layout.offset].contains(&true) && !same[4 * end..].contains(&true));
            }
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let spec = {
            let mut spec = crate::arch::shape("tiny-90m").expect("a published shape");
            spec.layers.truncate(2);
            spec
        };
        let layout = StateLayout::new(&spec, KvFormat::Q8_0, crate::StateFormat::F32);
        let part = layout.attention[1].clone();
        let (len, width) = (BLOCK + 9, part.heads * part.head_dim);
        let mut sequence = Sequence::new(&layout);
        sequence.reserve(&layout, len);
        let row = |seed, t: usize| {
            (0..width)
                .map(|i| number(seed, t * width + i))
                .collect::<Vec<f32>>()
        };
        for t in 0..len {
            let block = &sequence.kv[t / BLOCK];
            // SAFETY: nobody else has the block
            unsafe { attention::append(Tier::detect(), &part, block, t % BLOCK, &row(1, t), &row(2, t)) };
        }
        sequence.len = len;
        let (keys, values) = sequence.keys_values(&layout, 1);
        for (seed, found) in [(1, keys), (2, values)] {
            for head in 0..part.heads {
                for t in 0..len {
                    let at = (head * len + t) * part.head_dim;
                    let want = held(&row(seed, t)[head * part.head_dim..][..part.head_dim]);
                    assert_eq!(found[at..at + part.head_dim], want, "head {head}, position {t}");
                }
            }
        }
    }
}
