//! Decode attention over blocks of keys and values.
//!
//! A row visits its blocks in ascending order and merges them with a running maximum (online softmax, Milakov and Gimelshein, arXiv
//! 1805.02867). Rows of a group go through block b together, so a block that they share is read from memory once.

use std::sync::Arc;

use super::buf::Buf;
use super::simd::{Simd, Tier, tiers};
use crate::model::state::{BLOCK, KvBlock, Shape};

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
            scores: Buf::zeroed(BLOCK),
        }
    }
}

/// Writes one position's keys and values `[kv_heads * head_dim]` into its block, which the sequence must own alone.
pub(crate) fn append(shape: &Shape, layer: usize, block: &mut Arc<KvBlock>, offset: usize, keys: &[f32], values: &[f32]) {
    let block = Arc::get_mut(block).expect("a block that is written is not shared");
    let (dim, stride) = (shape.head_dim, shape.head_stride());
    for head in 0..shape.kv_heads {
        let (k, v) = block.0[(layer * shape.kv_heads + head) * shape.kv_head_len()..][..shape.kv_head_len()].split_at_mut(dim * BLOCK);
        for (d, key) in keys[head * dim..][..dim].iter().enumerate() {
            k[d * BLOCK + offset] = *key;
        }
        v[offset * stride..][..dim].copy_from_slice(&values[head * dim..][..dim]);
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
            let (k, v) = block.0[in_block..][..shape.kv_head_len()].split_at(dim * BLOCK);
            for h in 0..heads {
                let state = r * heads + h;
                // SAFETY: the slices have the lengths that the kernel asks for
                unsafe {
                    let q = q.add(r * q_stride + (head * heads + h) * dim);
                    let acc = scratch.acc.as_mut_ptr().add(state * stride);
                    visit(
                        tier,
                        q,
                        dim,
                        k.as_ptr(),
                        v.as_ptr(),
                        stride,
                        count,
                        scratch.scores.as_mut_ptr(),
                        &mut scratch.max[state],
                        &mut scratch.sum[state],
                        acc,
                    );
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

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn visit_body<S: Simd>(
    q: *const f32,
    dim: usize,
    k: *const f32,
    v: *const f32,
    stride: usize,
    count: usize,
    scores: *mut f32,
    max: &mut f32,
    sum: &mut f32,
    acc: *mut f32,
) {
    unsafe {
        if S::LANES == 16 {
            dots::<S, 4>(q, dim, k, scores);
        } else {
            dots::<S, 4>(q, dim, k, scores);
            dots::<S, 4>(q, dim, k.add(BLOCK / 2), scores.add(BLOCK / 2));
        }
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
        let keep = S::splat(keep);
        let mut column = 0;
        while column < stride {
            // the stride is a multiple of 32 elements
            if S::LANES == 16 {
                weigh::<S, 2, 4>(scores, count, v.add(column), stride, keep, acc.add(column));
            } else {
                weigh::<S, 4, 2>(scores, count, v.add(column), stride, keep, acc.add(column));
            }
            column += 32;
        }
    }
}
tiers!(fn visit = visit_body(q: *const f32, dim: usize, k: *const f32, v: *const f32, stride: usize, count: usize, scores: *mut f32, max: &mut f32, sum: &mut f32, acc: *mut f32));

/// Dot products of q with N vectors of positions; even and odd columns of q are summed apart, which hides the adder's latency.
#[inline(always)]
unsafe fn dots<S: Simd, const N: usize>(q: *const f32, dim: usize, k: *const f32, scores: *mut f32) {
    unsafe {
        let mut s = [[S::splat(0.0); N]; 2];
        let mut d = 0;
        while d < dim {
            for (odd, s) in s.iter_mut().enumerate().take(dim - d) {
                let x = S::splat(*q.add(d + odd));
                for (n, s) in s.iter_mut().enumerate() {
                    *s = S::fma(x, S::load(k.add((d + odd) * BLOCK + n * S::LANES)), *s);
                }
            }
            d += 2;
        }
        let [even, odd] = s;
        for (n, (even, odd)) in even.iter().zip(&odd).enumerate() {
            S::store(scores.add(n * S::LANES), S::add(*even, *odd));
        }
    }
}

/// `acc = acc * keep + sum over positions of weight * v`, N vectors of columns; positions are summed in U strands.
#[inline(always)]
unsafe fn weigh<S: Simd, const N: usize, const U: usize>(
    weights: *const f32,
    count: usize,
    v: *const f32,
    stride: usize,
    keep: S::V,
    acc: *mut f32,
) {
    unsafe {
        let mut a = [[S::splat(0.0); N]; U];
        for (n, a) in a[0].iter_mut().enumerate() {
            *a = S::mul(S::load(acc.add(n * S::LANES)), keep);
        }
        let whole = count / U * U;
        for i in (0..whole).step_by(U) {
            for (u, a) in a.iter_mut().enumerate() {
                let w = S::splat(*weights.add(i + u));
                for (n, a) in a.iter_mut().enumerate() {
                    *a = S::fma(w, S::load(v.add((i + u) * stride + n * S::LANES)), *a);
                }
            }
        }
        for i in whole..count {
            let w = S::splat(*weights.add(i));
            for (n, a) in a[0].iter_mut().enumerate() {
                *a = S::fma(w, S::load(v.add(i * stride + n * S::LANES)), *a);
            }
        }
        let (mut sum, rest) = (a[0], &a[1..]);
        for strand in rest {
            for (sum, v) in sum.iter_mut().zip(strand) {
                *sum = S::add(*sum, *v);
            }
        }
        for (n, sum) in sum.iter().enumerate() {
            S::store(acc.add(n * S::LANES), *sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_merge_to_the_plain_softmax() {
        let shape = Shape {
            layers: 2,
            kv_heads: 2,
            head_dim: 24,
            ssm_heads: 1,
            ssm_head_dim: 1,
            d_state: 1,
            channels: 3,
            taps: 4,
        };
        let (heads, len) = (3, 3 * BLOCK + 5);
        let value = |seed: usize, i: usize| (((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5) * 4.0;
        let blocks = len.div_ceil(BLOCK);
        let mut kv: Vec<_> = (0..blocks)
            .map(|_| Arc::new(KvBlock(Buf::zeroed(shape.layers * shape.kv_heads * shape.kv_head_len()))))
            .collect();
        let width = shape.kv_heads * shape.head_dim;
        let keys: Vec<Vec<f32>> = (0..len).map(|t| (0..width).map(|i| value(1, t * width + i)).collect()).collect();
        let values: Vec<Vec<f32>> = (0..len).map(|t| (0..width).map(|i| value(2, t * width + i)).collect()).collect();
        for t in 0..len {
            append(&shape, 1, &mut kv[t / BLOCK], t % BLOCK, &keys[t], &values[t]);
        }
        let q_width = shape.kv_heads * heads * shape.head_dim;
        let q: Vec<f32> = (0..q_width).map(|i| value(3, i)).collect();
        for tier in Tier::available() {
            for seen in [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, len] {
                let mut out = vec![0.0f32; q_width];
                let mut scratch = Scratch::new(&shape, q_width);
                for head in 0..shape.kv_heads {
                    let rows = [RowView {
                        blocks: kv.as_ptr(),
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
                        assert!((f64::from(out[h * shape.head_dim + d]) - slow).abs() < 2e-5, "{tier} {seen}");
                    }
                }
            }
        }
    }
}
