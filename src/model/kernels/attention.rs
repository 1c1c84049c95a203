//! Decode attention over blocks of keys and values.
//!
//! A row visits its blocks in ascending order and merges them with a running maximum (online softmax, Milakov and Gimelshein, arXiv
//! 1805.02867). Rows of a group go through block b together, so a block that they share is read from memory once.

use std::sync::Arc;

use super::buf::Buf;
use super::simd::{Simd, Tier, tiers};
use crate::model::state::{BLOCK, CacheFormat, KvBlock, Shape, put};

/// Rows that visit a block together.
pub(crate) const GROUP: usize = 16;

/// What attention needs to know of a row: its sequence's blocks and how many positions it sees.
pub(crate) struct RowView {
    pub(crate) blocks: *const Arc<KvBlock>,
    pub(crate) len: usize,
}

// SAFETY: rows are only read while the sequences that own the blocks are borrowed
unsafe impl Sync for RowView {}

/// Running maximum, sum and weighted values of a group's rows, for the query heads of one key/value head.
pub(crate) struct Scratch {
    max: Buf,
    sum: Buf,
    acc: Buf,
    scores: Buf,
}

impl Scratch {
    pub(crate) fn new(shape: &Shape, q_width: usize) -> Self {
        let heads = q_width / shape.head_dim / shape.kv_heads;
        Self {
            max: Buf::zeroed(GROUP * heads),
            sum: Buf::zeroed(GROUP * heads),
            acc: Buf::zeroed(GROUP * heads * shape.head_stride()),
            scores: Buf::zeroed(heads * BLOCK),
        }
    }
}

/// Writes one position's keys and values `[kv_heads * head_dim]` into its block, which the sequence must own alone.
pub(crate) fn append(shape: &Shape, layer: usize, block: &mut Arc<KvBlock>, offset: usize, keys: &[f32], values: &[f32]) {
    let block = Arc::get_mut(block).expect("a block that is written is not shared");
    let (dim, stride) = (shape.head_dim, shape.head_stride());
    for head in 0..shape.kv_heads {
        let (k, v) = block.0[(layer * shape.kv_heads + head) * shape.kv_head_len()..][..shape.kv_head_len()].split_at_mut(shape.keys_len());
        for d in 0..dim {
            put(k, shape.kv, BLOCK, d, offset, keys[head * dim + d]);
            put(v, shape.kv, stride, offset, d, values[head * dim + d]);
        }
    }
}

/// Attention of the query heads that share key/value head `head`, for `rows` (at most [`GROUP`]).
///
/// # Safety
/// `q` and `out` hold `rows.len()` rows `stride` apart; the row's blocks cover its length; no other task writes these heads of `out`.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn attend(
    tier: Tier,
    shape: &Shape,
    layer: usize,
    head: usize,
    rows: &[RowView],
    q: *const f32,
    q_stride: usize,
    out: *mut f32,
    scratch: &mut Scratch,
) {
    let (dim, stride) = (shape.head_dim, shape.head_stride());
    let heads = scratch.max.len() / GROUP;
    let in_block = (layer * shape.kv_heads + head) * shape.kv_head_len();
    scratch.max.fill(f32::NEG_INFINITY);
    scratch.sum.fill(0.0);
    scratch.acc.fill(0.0);
    let blocks = rows.iter().map(|r| r.len.div_ceil(BLOCK)).max().unwrap_or(0);
    for b in 0..blocks {
        for (r, row) in rows.iter().enumerate() {
            let count = row.len.saturating_sub(b * BLOCK).min(BLOCK);
            if count == 0 {
                continue;
            }
            // SAFETY: the caller's promise: the row has more than b blocks
            let block: &KvBlock = unsafe { &*row.blocks.add(b) };
            let (k, v) = block.0[in_block..][..shape.kv_head_len()].split_at(shape.keys_len());
            let visit = Visit {
                heads,
                dim,
                stride,
                count,
                q: q.wrapping_add(r * q_stride + head * heads * dim),
                k: k.as_ptr(),
                v: v.as_ptr(),
                scores: scratch.scores.as_mut_ptr(),
                max: scratch.max[r * heads..].as_mut_ptr(),
                sum: scratch.sum[r * heads..].as_mut_ptr(),
                acc: scratch.acc[r * heads * stride..].as_mut_ptr(),
            };
            // SAFETY: the slices have the lengths that the kernel asks for
            unsafe {
                match shape.kv {
                    CacheFormat::F32 => visit_f32(tier, &visit),
                    CacheFormat::Bf16 => visit_bf16(tier, &visit),
                }
            }
        }
    }
    for r in 0..rows.len() {
        for h in 0..heads {
            let state = r * heads + h;
            let scale = 1.0 / scratch.sum[state];
            // SAFETY: head (head * heads + h) of row r of `out` belongs to this task
            let out = unsafe { std::slice::from_raw_parts_mut(out.add(r * q_stride + (head * heads + h) * dim), dim) };
            for (o, a) in out.iter_mut().zip(&scratch.acc[state * stride..]) {
                *o = a * scale;
            }
        }
    }
}

/// A row's visit to a block, for the query heads of one key/value head.
struct Visit {
    heads: usize,
    dim: usize,
    /// padded `dim`
    stride: usize,
    /// positions that the row sees
    count: usize,
    /// `[heads, dim]`
    q: *const f32,
    k: *const f32,
    v: *const f32,
    /// `[heads, BLOCK]`
    scores: *mut f32,
    /// `[heads]`
    max: *mut f32,
    sum: *mut f32,
    /// `[heads, stride]`
    acc: *mut f32,
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
tiers!(fn visit_f32 = visit_f32_body(visit: &Visit));
tiers!(fn visit_bf16 = visit_bf16_body(visit: &Visit));

#[inline(always)]
unsafe fn visit_heads<S: Simd, const PAIRS: bool, const H: usize>(visit: &Visit, first: usize) -> usize {
    let &Visit { dim, stride, count, .. } = visit;
    unsafe {
        let (q, scores) = (visit.q.add(first * dim), visit.scores.add(first * BLOCK));
        for column in (0..count).step_by(4 * S::LANES) {
            dots::<S, PAIRS, H>(q, dim, visit.k.add(column), scores.add(column));
        }
        let mut keep = [S::splat(1.0); H];
        for (h, keep) in keep.iter_mut().enumerate() {
            *keep = S::splat(soften::<S>(
                scores.add(h * BLOCK),
                count,
                &mut *visit.max.add(first + h),
                &mut *visit.sum.add(first + h),
            ));
        }
        let acc = visit.acc.add(first * stride);
        for column in (0..stride).step_by(2 * S::LANES) {
            weigh::<S, PAIRS, H>(scores, count, visit.v.add(column), stride, &keep, acc.add(column));
        }
    }
    H
}

/// Turns the first `count` scores of a block into weights under the running maximum, the others into 0; returns what earlier sums are to be
/// multiplied by.
#[inline(always)]
unsafe fn soften<S: Simd>(scores: *mut f32, count: usize, max: &mut f32, sum: &mut f32) -> f32 {
    unsafe {
        for i in count..BLOCK {
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

/// Two rows of keys or values, one after the other or in pairs.
#[inline(always)]
unsafe fn two<S: Simd, const PAIRS: bool>(data: *const f32, row: usize, width: usize) -> (S::V, S::V) {
    unsafe {
        if PAIRS {
            S::load_bf16_pairs(data.add(row / 2 * width).cast())
        } else {
            (S::load(data.add(row * width)), S::load(data.add((row + 1) * width)))
        }
    }
}

/// Dot products of H query heads with four vectors of positions.
#[inline(always)]
unsafe fn dots<S: Simd, const PAIRS: bool, const H: usize>(q: *const f32, dim: usize, k: *const f32, scores: *mut f32) {
    unsafe {
        let mut s = [[S::splat(0.0); 4]; H];
        for d in (0..dim / 2 * 2).step_by(2) {
            for n in 0..4 {
                let (even, odd) = two::<S, PAIRS>(k.add(n * S::LANES), d, BLOCK);
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

/// `acc = acc * keep + sum over positions of weight * v` for H heads and two vectors of columns; even and odd positions are summed apart. The
/// position after an odd `count` exists and weighs 0.
#[inline(always)]
unsafe fn weigh<S: Simd, const PAIRS: bool, const H: usize>(
    weights: *const f32,
    count: usize,
    v: *const f32,
    stride: usize,
    keep: &[S::V; H],
    acc: *mut f32,
) {
    unsafe {
        let mut a = [[[S::splat(0.0); 2]; 2]; H];
        for i in (0..count).step_by(2) {
            let (v0, v1) = (two::<S, PAIRS>(v, i, stride), two::<S, PAIRS>(v.add(S::LANES), i, stride));
            for (h, a) in a.iter_mut().enumerate() {
                let (even, odd) = (S::splat(*weights.add(h * BLOCK + i)), S::splat(*weights.add(h * BLOCK + i + 1)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_merge_to_the_plain_softmax() {
        CacheFormat::ALL.into_iter().for_each(plain_softmax);
    }

    fn plain_softmax(kv: CacheFormat) {
        let shape = Shape {
            layers: 2,
            kv_heads: 2,
            head_dim: 23,
            ssm_heads: 1,
            ssm_head_dim: 1,
            d_state: 1,
            channels: 3,
            taps: 4,
            kv,
            state: CacheFormat::F32,
        };
        let (heads, len) = (7, 3 * BLOCK + 5);
        let exact = |seed: usize, i: usize| (((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5) * 4.0;
        // what is stored as bf16 is bf16 here too
        let value = |seed, i| match kv {
            CacheFormat::Bf16 if seed != 3 => half::bf16::from_f32(exact(seed, i)).to_f32(),
            _ => exact(seed, i),
        };
        let blocks = len.div_ceil(BLOCK);
        let mut cache: Vec<_> = (0..blocks)
            .map(|_| Arc::new(KvBlock(Buf::zeroed(shape.layers * shape.kv_heads * shape.kv_head_len()))))
            .collect();
        let width = shape.kv_heads * shape.head_dim;
        let keys: Vec<Vec<f32>> = (0..len).map(|t| (0..width).map(|i| value(1, t * width + i)).collect()).collect();
        let values: Vec<Vec<f32>> = (0..len).map(|t| (0..width).map(|i| value(2, t * width + i)).collect()).collect();
        for t in 0..len {
            append(&shape, 1, &mut cache[t / BLOCK], t % BLOCK, &keys[t], &values[t]);
        }
        let q_width = shape.kv_heads * heads * shape.head_dim;
        let q: Vec<f32> = (0..q_width).map(|i| value(3, i)).collect();
        for tier in Tier::available() {
            for seen in [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, len] {
                let mut out = vec![0.0f32; q_width];
                let mut scratch = Scratch::new(&shape, q_width);
                for head in 0..shape.kv_heads {
                    let rows = [RowView {
                        blocks: cache.as_ptr(),
                        len: seen,
                    }];
                    // SAFETY: one row, whose blocks cover `seen`
                    unsafe { attend(tier, &shape, 1, head, &rows, q.as_ptr(), q_width, out.as_mut_ptr(), &mut scratch) };
                }
                for h in 0..shape.kv_heads * heads {
                    let from = h / heads * shape.head_dim;
                    let scores: Vec<f64> = (0..seen)
                        .map(|t| {
                            (0..shape.head_dim)
                                .map(|d| f64::from(q[h * shape.head_dim + d]) * f64::from(keys[t][from + d]))
                                .sum()
                        })
                        .collect();
                    let max = scores.iter().copied().fold(f64::MIN, f64::max);
                    let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                    for d in 0..shape.head_dim {
                        let slow: f64 = scores
                            .iter()
                            .zip(&values)
                            .map(|(s, v)| (s - max).exp() / sum * f64::from(v[from + d]))
                            .sum();
                        assert!((f64::from(out[h * shape.head_dim + d]) - slow).abs() < 2e-5, "{tier} {kv:?} {seen}");
                    }
                }
            }
        }
    }
}
