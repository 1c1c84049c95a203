//! A visit in bf16 dot products: queries and weights are rounded to bf16, and every sum stays f32.
//!
//! Two dimensions of a key, and two positions of a value, share a word, which is what the instruction
//! multiplies at once.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

use super::visit::Visit;

#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn visit(_: &Visit) {
    unreachable!("no other processor has the tier");
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::visit;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::ops::Range;

    use super::Visit;
    use crate::cpu::kernels::simd::{Avx512, Simd, prefetch_far};
    use crate::cpu::state::BLOCK;

    const LANES: usize = 16;
    /// Vectors of scores.
    const VECTORS: usize = BLOCK / LANES;

    /// # Safety
    /// The tier was detected; pointers cover what their fields say.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    pub(crate) unsafe fn visit(visit: &Visit) {
        let mut h = 0;
        while h < visit.heads {
            // SAFETY: the caller's promise
            h += unsafe {
                match visit.heads - h {
                    4.. => heads::<4>(visit, h),
                    2.. => heads::<2>(visit, h),
                    _ => heads::<1>(visit, h),
                }
            };
        }
    }

    unsafe fn words(at: *const f32) -> __m512bh {
        // SAFETY: the caller reads within a block; any bits are bf16
        unsafe { std::mem::transmute(_mm512_loadu_si512(at.cast())) }
    }

    unsafe fn both(at: *const u32) -> __m512bh {
        // SAFETY: as above, for one word
        unsafe { std::mem::transmute(_mm512_set1_epi32(*at as i32)) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    unsafe fn heads<const H: usize>(visit: &Visit, first: usize) -> usize {
        let &Visit {
            dim,
            stride,
            from,
            count,
            ..
        } = visit;
        let ahead = visit.ahead(first);
        // SAFETY: the caller's promise
        unsafe {
            let q = visit.q.add(first * dim.div_ceil(2)).cast();
            let scores = match count.div_ceil(LANES) {
                1 => dots::<H, 1>(q, dim.div_ceil(2), visit.k, ahead),
                2 => dots::<H, 2>(q, dim.div_ceil(2), visit.k, ahead),
                3 => dots::<H, 3>(q, dim.div_ceil(2), visit.k, ahead),
                _ => dots::<H, 4>(q, dim.div_ceil(2), visit.k, ahead),
            };
            let mut weights = [[0u32; BLOCK / 2]; H];
            let (max, sum) = (visit.max.add(first).cast(), visit.sum.add(first).cast());
            let keep = soften(scores, from..count, &mut *max, &mut *sum, &mut weights);
            let acc = visit.acc.add(first * stride);
            let mut column = 0;
            while column < stride {
                // the stride is a multiple of two vectors
                column += if stride - column >= 4 * LANES {
                    weigh::<H, 4, 1>(
                        &weights,
                        from..count,
                        visit.v.add(column),
                        stride,
                        &keep,
                        acc.add(column),
                        ahead,
                    )
                } else {
                    weigh::<H, 2, 2>(
                        &weights,
                        from..count,
                        visit.v.add(column),
                        stride,
                        &keep,
                        acc.add(column),
                        ahead,
                    )
                };
            }
        }
        H
    }

    /// Dot products of H query heads with N vectors of positions; positions after them score -inf.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    unsafe fn dots<const H: usize, const N: usize>(
        q: *const u32,
        pairs: usize,
        k: *const f32,
        ahead: usize,
    ) -> [[__m512; VECTORS]; H] {
        // SAFETY: the caller's promise
        unsafe {
            let mut s = [[_mm512_setzero_ps(); N]; H];
            for p in 0..pairs {
                let row = k.add(p * BLOCK);
                let mut keys = [words(row); N];
                for (n, keys) in keys.iter_mut().enumerate() {
                    // its positions are about as many
                    prefetch_far(row.add(n * LANES).wrapping_byte_add(ahead).cast());
                    *keys = words(row.add(n * LANES));
                }
                for (h, s) in s.iter_mut().enumerate() {
                    let q = both(q.add(h * pairs + p));
                    for (s, keys) in s.iter_mut().zip(keys) {
                        *s = _mm512_dpbf16_ps(*s, keys, q);
                    }
                }
            }
            let mut all = [[_mm512_set1_ps(f32::NEG_INFINITY); VECTORS]; H];
            for (all, s) in all.iter_mut().zip(s) {
                all[..N].copy_from_slice(&s);
            }
            all
        }
    }

    /// Turns the scores of these positions of each head into weights under its running maximum, the others into 0;
    /// returns what earlier sums are to be multiplied by. The sum is that of the rounded weights. All heads
    /// take a step before any takes the next, because each step waits for the one before.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    unsafe fn soften<const H: usize>(
        scores: [[__m512; VECTORS]; H],
        positions: Range<usize>,
        max: &mut [f32; H],
        sum: &mut [f32; H],
        weights: &mut [[u32; BLOCK / 2]; H],
    ) -> [f32; H] {
        let seen = u64::MAX >> (BLOCK - positions.end) & u64::MAX << positions.start;
        let nothing = _mm512_set1_ps(f32::NEG_INFINITY);
        let mut masked = scores;
        let mut new = *max;
        for (masked, new) in masked.iter_mut().zip(&mut new) {
            for (n, s) in masked.iter_mut().enumerate() {
                *s = _mm512_mask_mov_ps(nothing, (seen >> (n * LANES)) as u16, *s);
            }
            let top = _mm512_max_ps(
                _mm512_max_ps(masked[0], masked[1]),
                _mm512_max_ps(masked[2], masked[3]),
            );
            let top = _mm512_reduce_max_ps(top);
            *new = if top > *new { top } else { *new };
        }
        let mut total = [_mm512_setzero_ps(); H];
        // two halves of 1.0
        let ones = _mm512_set1_epi32(0x3f80_3f80);
        for half in positions.start / (2 * LANES)..positions.end.div_ceil(2 * LANES) {
            for h in 0..H {
                let shift = _mm512_set1_ps(new[h]);
                // SAFETY: `weights` holds a vector for each half; any bits are bf16
                unsafe {
                    let pair = [masked[h][2 * half], masked[h][2 * half + 1]];
                    let [a, b] = pair.map(|s| Avx512::exp(_mm512_sub_ps(s, shift)));
                    let rounded = _mm512_cvtne2ps_pbh(b, a);
                    total[h] =
                        _mm512_dpbf16_ps(total[h], rounded, std::mem::transmute::<__m512i, __m512bh>(ones));
                    let to = weights[h][half * LANES..].as_mut_ptr();
                    _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(rounded));
                }
            }
        }
        let mut keep = [1.0; H];
        for h in 0..H {
            if max[h] != new[h] {
                keep[h] = (max[h] - new[h]).exp();
            }
            sum[h] = sum[h] * keep[h] + _mm512_reduce_add_ps(total[h]);
        }
        *max = new;
        keep
    }

    /// `acc = acc * keep + sum over positions of weight * v` for H heads and C vectors of columns, summed in
    /// `CHAINS` interleaved parts. The position after an odd number of them exists and weighs 0.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    unsafe fn weigh<const H: usize, const C: usize, const CHAINS: usize>(
        weights: &[[u32; BLOCK / 2]; H],
        seen: Range<usize>,
        v: *const f32,
        stride: usize,
        keep: &[f32; H],
        acc: *mut f32,
        ahead: usize,
    ) -> usize {
        // SAFETY: the caller's promise; weights after the last pair of positions are 0, and their values
        // exist
        unsafe {
            let mut a = [[[_mm512_setzero_ps(); C]; H]; CHAINS];
            // chains begin at even places, so that the last of them stays in the block
            let first = seen.start / (2 * CHAINS) * CHAINS;
            for first in (first..seen.end.div_ceil(2)).step_by(CHAINS) {
                for (chain, a) in a.iter_mut().enumerate() {
                    let pair = first + chain;
                    let row = v.add(pair * stride);
                    let mut values = [words(row); C];
                    for (c, values) in values.iter_mut().enumerate() {
                        prefetch_far(row.add(c * LANES).wrapping_byte_add(ahead).cast());
                        *values = words(row.add(c * LANES));
                    }
                    for (a, weights) in a.iter_mut().zip(weights) {
                        let weight = both(&raw const weights[pair]);
                        for (a, values) in a.iter_mut().zip(values) {
                            *a = _mm512_dpbf16_ps(*a, values, weight);
                        }
                    }
                }
            }
            for h in 0..H {
                for c in 0..C {
                    let mut new = a[0][h][c];
                    for a in &a[1..] {
                        new = _mm512_add_ps(new, a[h][c]);
                    }
                    let at = acc.add(h * stride + c * LANES);
                    _mm512_storeu_ps(
                        at,
                        _mm512_fmadd_ps(_mm512_loadu_ps(at), _mm512_set1_ps(keep[h]), new),
                    );
                }
            }
        }
        C * LANES
    }
}
