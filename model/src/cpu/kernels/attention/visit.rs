//! A visit on every tier: scores, weights under the running maximum, weighted values, all in f32.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

use std::ops::Range;

use crate::cpu::kernels::simd::{Simd, prefetch_far, tiers};
use crate::cpu::state::BLOCK;

/// A row's visit to a block, for the query heads of one key/value head.
pub(super) struct Visit {
    /// the keys, then values, of the visit after this one: asked for while this one computes
    pub(super) next: *const f32,
    pub(super) heads: usize,
    pub(super) dim: usize,
    /// padded `dim`
    pub(super) stride: usize,
    /// the first position that the row sees
    pub(super) from: usize,
    /// positions up to the last one that it sees
    pub(super) count: usize,
    /// `[heads, dim]`; for [`super::pairs`] `[heads, dim / 2]` of two bf16 a word
    pub(super) q: *const f32,
    pub(super) k: *const f32,
    pub(super) v: *const f32,
    /// `[heads, BLOCK]`
    pub(super) scores: *mut f32,
    /// `[heads]`
    pub(super) max: *mut f32,
    pub(super) sum: *mut f32,
    /// `[heads, stride]`
    pub(super) acc: *mut f32,
}

impl Visit {
    /// The first position of the scores, which come in vectors, and of the weighted values, which come in pairs.
    #[inline(always)]
    pub(super) fn begins<S: Simd>(&self) -> (usize, usize) {
        (self.from / (4 * S::LANES) * (4 * S::LANES), self.from / 2 * 2)
    }

    /// How far behind what is read lies what is asked for: the first heads ask for all of it.
    #[inline(always)]
    pub(super) fn ahead(&self, first: usize) -> usize {
        if first == 0 {
            self.next.addr().wrapping_sub(self.k.addr())
        } else {
            0
        }
    }
}

#[inline(always)]
unsafe fn visit_body<S: Simd, const PAIRS: bool>(visit: &Visit) {
    let heads = visit.heads;
    unsafe {
        let mut h = 0;
        // heads go together, so that what they share is loaded (and widened) once
        while h < heads {
            h += match heads - h {
                4.. if S::LANES == 16 => visit_heads::<S, PAIRS, 4>(visit, h),
                2.. => visit_heads::<S, PAIRS, 2>(visit, h),
                _ => visit_heads::<S, PAIRS, 1>(visit, h),
            };
        }
    }
}
#[inline(always)]
unsafe fn visit_f32_body<S: Simd>(visit: &Visit) {
    unsafe { visit_body::<S, false>(visit) }
}
#[inline(always)]
unsafe fn visit_bf16_body<S: Simd>(visit: &Visit) {
    unsafe { visit_body::<S, true>(visit) }
}
tiers!(pub(super) fn visit_f32 = visit_f32_body(visit: &Visit));
tiers!(pub(super) fn visit_bf16 = visit_bf16_body(visit: &Visit));

#[inline(always)]
unsafe fn visit_heads<S: Simd, const PAIRS: bool, const H: usize>(visit: &Visit, first: usize) -> usize {
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
        for column in (first_scores..count).step_by(4 * S::LANES) {
            dots::<S, PAIRS, H>(q, dim, visit.k.add(column), scores.add(column), ahead);
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
        let acc = visit.acc.add(first * stride);
        for column in (0..stride).step_by(2 * S::LANES) {
            weigh::<S, PAIRS, H>(
                scores,
                first_values..count,
                visit.v.add(column),
                stride,
                &keep,
                acc.add(column),
                ahead,
            );
        }
    }
    H
}

/// Turns the scores of these positions of a block into weights under the running maximum, the others into 0;
/// returns what earlier sums are to be multiplied by.
#[inline(always)]
pub(super) unsafe fn soften<S: Simd>(
    scores: *mut f32,
    seen: Range<usize>,
    max: &mut f32,
    sum: &mut f32,
) -> f32 {
    unsafe {
        for i in (0..seen.start).chain(seen.end..BLOCK) {
            *scores.add(i) = f32::NEG_INFINITY;
        }
        let mut top = S::splat(f32::NEG_INFINITY);
        for i in (0..BLOCK).step_by(S::LANES) {
            top = S::max(top, S::load(scores.add(i)));
        }
        let top = S::hmax(top);
        let new = if top > *max { top } else { *max };
        let shift = S::splat(new);
        let mut total = S::splat(0.0);
        for i in (0..BLOCK).step_by(S::LANES) {
            let e = S::exp(S::sub(S::load(scores.add(i)), shift));
            S::store(scores.add(i), e);
            total = S::add(total, e);
        }
        let keep = if *max == new { 1.0 } else { (*max - new).exp() };
        *sum = *sum * keep + S::sum(total);
        *max = new;
        keep
    }
}

/// Two rows of keys or values, one after the other or in pairs; of pairs, what lies `ahead` bytes behind is
/// asked for.
#[inline(always)]
unsafe fn two<S: Simd, const PAIRS: bool>(
    data: *const f32,
    row: usize,
    width: usize,
    ahead: usize,
) -> (S::V, S::V) {
    unsafe {
        if PAIRS {
            let at = data.add(row / 2 * width);
            prefetch_far(at.wrapping_byte_add(ahead).cast());
            S::load_bf16_pairs(at.cast())
        } else {
            (
                S::load(data.add(row * width)),
                S::load(data.add((row + 1) * width)),
            )
        }
    }
}

/// Dot products of H query heads with four vectors of positions.
#[inline(always)]
unsafe fn dots<S: Simd, const PAIRS: bool, const H: usize>(
    q: *const f32,
    dim: usize,
    k: *const f32,
    scores: *mut f32,
    ahead: usize,
) {
    unsafe {
        let mut s = [[S::splat(0.0); 4]; H];
        for d in (0..dim / 2 * 2).step_by(2) {
            for n in 0..4 {
                let (even, odd) = two::<S, PAIRS>(k.add(n * S::LANES), d, BLOCK, ahead);
                for (h, s) in s.iter_mut().enumerate() {
                    s[n] = S::fma(S::splat(*q.add(h * dim + d)), even, s[n]);
                    s[n] = S::fma(S::splat(*q.add(h * dim + d + 1)), odd, s[n]);
                }
            }
        }
        if dim % 2 == 1 {
            for n in 0..4 {
                let at = k.add(n * S::LANES);
                let last = if PAIRS {
                    S::load_bf16_pairs(at.add(dim / 2 * BLOCK).cast()).0
                } else {
                    S::load(at.add((dim - 1) * BLOCK))
                };
                for (h, s) in s.iter_mut().enumerate() {
                    s[n] = S::fma(S::splat(*q.add(h * dim + dim - 1)), last, s[n]);
                }
            }
        }
        for (h, s) in s.iter().enumerate() {
            for (n, s) in s.iter().enumerate() {
                S::store(scores.add(h * BLOCK + n * S::LANES), *s);
            }
        }
    }
}

/// `acc = acc * keep + sum over positions of weight * v` for H heads and two vectors of columns; even and odd
/// positions are summed apart. The first is even, and the one after an odd number exists and weighs 0.
#[inline(always)]
unsafe fn weigh<S: Simd, const PAIRS: bool, const H: usize>(
    weights: *const f32,
    seen: Range<usize>,
    v: *const f32,
    stride: usize,
    keep: &[S::V; H],
    acc: *mut f32,
    ahead: usize,
) {
    unsafe {
        let mut a = [[[S::splat(0.0); 2]; 2]; H];
        for i in seen.step_by(2) {
            let (v0, v1) = (
                two::<S, PAIRS>(v, i, stride, ahead),
                two::<S, PAIRS>(v.add(S::LANES), i, stride, ahead),
            );
            for (h, a) in a.iter_mut().enumerate() {
                let (even, odd) = (
                    S::splat(*weights.add(h * BLOCK + i)),
                    S::splat(*weights.add(h * BLOCK + i + 1)),
                );
                a[0][0] = S::fma(even, v0.0, a[0][0]);
                a[0][1] = S::fma(even, v1.0, a[0][1]);
                a[1][0] = S::fma(odd, v0.1, a[1][0]);
                a[1][1] = S::fma(odd, v1.1, a[1][1]);
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
