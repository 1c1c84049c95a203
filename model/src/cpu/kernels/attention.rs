//! Decode attention over blocks of keys and values.
//!
//! A row visits its blocks in ascending order and merges them with a running maximum (online softmax, Milakov
//! and Gimelshein, arXiv 1805.02867). Rows of a group go through block b together, so a block that they share
//! is read from memory once.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

use std::sync::Arc;

use super::buf::Buf;
use super::gemm::to_bf16;
use super::simd::{Tier, prefetch_all, prefetch_far};
use crate::cpu::state::{BLOCK, KvBlock, KvFormat, KvLayout};

mod pairs;
mod visit;

use visit::Visit;

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
    /// the rows' query heads in pairs of bf16, for the tier that multiplies them so
    q: Buf,
}

impl Scratch {
    pub(crate) fn new(layout: &KvLayout, q_width: usize) -> Self {
        let heads = q_width / layout.head_dim / layout.heads;
        Self {
            max: Buf::zeroed(GROUP * heads),
            sum: Buf::zeroed(GROUP * heads),
            acc: Buf::zeroed(GROUP * heads * layout.head_stride()),
            scores: Buf::zeroed(heads * BLOCK),
            q: Buf::zeroed(GROUP * heads * layout.head_dim.div_ceil(2)),
        }
    }
}

/// Writes one position's keys and values `[kv_heads * head_dim]` into its block, which the sequence must own
/// alone.
///
/// # Safety
/// No other task touches this part of the block.
pub(crate) unsafe fn append(
    layout: &KvLayout,
    block: &Arc<KvBlock>,
    offset: usize,
    keys: &[f32],
    values: &[f32],
) {
    assert!(
        Arc::strong_count(block) == 1,
        "a block that is written is not shared"
    );
    // SAFETY: the caller's promise
    let block = unsafe { std::slice::from_raw_parts_mut(block.0.raw(), block.0.len()) };
    let (dim, stride) = (layout.head_dim, layout.head_stride());
    let heads = keys.chunks_exact(dim).zip(values.chunks_exact(dim));
    for (head, (keys, values)) in heads.enumerate() {
        let (k, v) = block[layout.head_at(head)..][..layout.head_len()].split_at_mut(layout.keys_len());
        let column = k[offset..].iter_mut().step_by(BLOCK);
        match layout.format {
            KvFormat::F32 => {
                column.zip(keys).for_each(|(word, key)| *word = *key);
                v[offset * stride..][..dim].copy_from_slice(values);
            }
            KvFormat::Bf16 => {
                for (word, pair) in column.zip(keys.chunks(2)) {
                    *word = f32::from_bits(bf16(pair[0]) | bf16(pair.get(1).copied().unwrap_or(0.0)) << 16);
                }
                // positions come in order: what an even one leaves of its word is not read before the next
                // has come
                let even = offset.is_multiple_of(2);
                for (word, value) in v[offset / 2 * stride..].iter_mut().zip(values) {
                    *word = f32::from_bits(if even {
                        bf16(*value)
                    } else {
                        word.to_bits() & 0xffff | bf16(*value) << 16
                    });
                }
            }
        }
    }
}

/// Asks for what [`append`] will write to.
pub(crate) fn prefetch_block(layout: &KvLayout, block: &KvBlock, offset: usize) {
    let (keys, values) = match layout.format {
        KvFormat::F32 => (layout.head_dim, offset),
        KvFormat::Bf16 => (layout.head_dim.div_ceil(2), offset / 2),
    };
    for head in 0..layout.heads {
        let head = block.0.raw().wrapping_add(layout.head_at(head));
        for row in 0..keys {
            prefetch_far(head.wrapping_add(row * BLOCK + offset).cast());
        }
        prefetch_all(
            head.wrapping_add(layout.keys_len() + values * layout.head_stride()),
            layout.head_stride(),
        );
    }
}

fn bf16(value: f32) -> u32 {
    u32::from(half::bf16::from_f32(value).to_bits())
}

/// Attention of the query heads that share key/value head `head`, for `rows` (at most [`GROUP`]).
///
/// # Safety
/// `q` and `out` hold `rows.len()` rows `stride` apart; the row's blocks cover its length; no other task
/// writes these heads of `out`.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn attend(
    tier: Tier,
    layout: &KvLayout,
    head: usize,
    rows: &[RowView],
    q: *const f32,
    q_stride: usize,
    out: *mut f32,
    scratch: &mut Scratch,
) {
    let (dim, stride) = (layout.head_dim, layout.head_stride());
    let heads = scratch.max.len() / GROUP;
    let in_block = layout.head_at(head);
    scratch.max.fill(f32::NEG_INFINITY);
    scratch.sum.fill(0.0);
    scratch.acc.fill(0.0);
    let in_pairs = tier == Tier::Avx512Bf16 && layout.format == KvFormat::Bf16;
    let pairs = dim.div_ceil(2);
    if in_pairs {
        for (i, pairs) in scratch
            .q
            .chunks_exact_mut(pairs)
            .take(rows.len() * heads)
            .enumerate()
        {
            let (r, h) = (i / heads, head * heads + i % heads);
            // SAFETY: the caller's promise; `pairs` holds dim halves, and one more after an odd dim
            unsafe {
                to_bf16(
                    tier,
                    std::slice::from_raw_parts(q.add(r * q_stride + h * dim), dim),
                    pairs.as_mut_ptr().cast(),
                )
            };
        }
    }
    let blocks = rows.iter().map(|r| r.len.div_ceil(BLOCK)).max().unwrap_or(0);
    for b in 0..blocks {
        for (r, row) in rows.iter().enumerate() {
            let count = row.len.saturating_sub(b * BLOCK).min(BLOCK);
            if count == 0 {
                continue;
            }
            // SAFETY: the caller's promise: the row has more than b blocks
            let block: &KvBlock = unsafe { &*row.blocks.add(b) };
            let (k, v) = block.0[in_block..][..layout.head_len()].split_at(layout.keys_len());
            // SAFETY: as above, whichever row it is
            let next = match unsafe { next_visit(rows, r, b) } {
                Some(block) => block.0[in_block..].as_ptr(),
                // the rows' next head, where there is one
                None if head + 1 < layout.heads => {
                    // SAFETY: as above
                    let first: &KvBlock = unsafe { &*rows[0].blocks };
                    first.0[in_block + layout.head_len()..].as_ptr()
                }
                None => k.as_ptr(),
            };
            let visit = Visit {
                next,
                heads,
                dim,
                stride,
                count,
                q: if in_pairs {
                    scratch.q[r * heads * pairs..].as_ptr()
                } else {
                    q.wrapping_add(r * q_stride + head * heads * dim)
                },
                k: k.as_ptr(),
                v: v.as_ptr(),
                scores: scratch.scores.as_mut_ptr(),
                max: scratch.max[r * heads..].as_mut_ptr(),
                sum: scratch.sum[r * heads..].as_mut_ptr(),
                acc: scratch.acc[r * heads * stride..].as_mut_ptr(),
            };
            // SAFETY: the slices have the lengths that the kernel asks for
            unsafe {
                match layout.format {
                    KvFormat::F32 => visit::visit_f32(tier, &visit),
                    KvFormat::Bf16 if in_pairs => pairs::visit(&visit),
                    KvFormat::Bf16 => visit::visit_bf16(tier, &visit),
                }
            }
        }
    }
    for r in 0..rows.len() {
        for h in 0..heads {
            let state = r * heads + h;
            let scale = 1.0 / scratch.sum[state];
            // SAFETY: head (head * heads + h) of row r of `out` belongs to this task
            let out = unsafe {
                std::slice::from_raw_parts_mut(out.add(r * q_stride + (head * heads + h) * dim), dim)
            };
            for (o, a) in out.iter_mut().zip(&scratch.acc[state * stride..]) {
                *o = a * scale;
            }
        }
    }
}

/// The block that is visited after row r's visit to block b.
///
/// # Safety
/// The rows' blocks cover their lengths.
unsafe fn next_visit(rows: &[RowView], r: usize, b: usize) -> Option<&KvBlock> {
    let first = |from: usize, b: usize| Some((rows[from..].iter().find(|row| row.len > b * BLOCK)?, b));
    let (row, b) = first(r + 1, b).or_else(|| first(0, b + 1))?;
    // SAFETY: the row has more than b blocks
    Some(unsafe { &*row.blocks.add(b) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_merge_to_the_plain_softmax() {
        KvFormat::ALL.into_iter().for_each(plain_softmax);
    }

    fn plain_softmax(kv: KvFormat) {
        let layout = KvLayout {
            heads: 2,
            head_dim: 23,
            format: kv,
            // another part lies before it
            offset: 192,
        };
        let (heads, len) = (7, 3 * BLOCK + 5);
        let exact =
            |seed: usize, i: usize| (((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5) * 4.0;
        // what is stored as bf16 is bf16 here too
        let value = |seed, i| match kv {
            KvFormat::Bf16 if seed != 3 => half::bf16::from_f32(exact(seed, i)).to_f32(),
            _ => exact(seed, i),
        };
        let blocks = len.div_ceil(BLOCK);
        let cache: Vec<_> = (0..blocks)
            .map(|_| Arc::new(KvBlock(Buf::zeroed(layout.head_at(layout.heads)))))
            .collect();
        let width = layout.heads * layout.head_dim;
        let keys: Vec<Vec<f32>> = (0..len)
            .map(|t| (0..width).map(|i| value(1, t * width + i)).collect())
            .collect();
        let values: Vec<Vec<f32>> = (0..len)
            .map(|t| (0..width).map(|i| value(2, t * width + i)).collect())
            .collect();
        for t in 0..len {
            // SAFETY: nobody else has the blocks
            unsafe { append(&layout, &cache[t / BLOCK], t % BLOCK, &keys[t], &values[t]) };
        }
        let q_width = layout.heads * heads * layout.head_dim;
        let q: Vec<f32> = (0..q_width).map(|i| value(3, i)).collect();
        for tier in Tier::available() {
            // on this tier queries and weights are rounded to eight bits
            let in_pairs = tier == Tier::Avx512Bf16 && kv == KvFormat::Bf16;
            let rounding = if in_pairs { 1.0 / 512.0 } else { 0.0 };
            let query = |i: usize| {
                f64::from(if in_pairs {
                    half::bf16::from_f32(q[i]).to_f32()
                } else {
                    q[i]
                })
            };
            for seen in [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 17, BLOCK + 40, len] {
                let mut out = vec![0.0f32; q_width];
                let mut scratch = Scratch::new(&layout, q_width);
                for head in 0..layout.heads {
                    let rows = [RowView {
                        blocks: cache.as_ptr(),
                        len: seen,
                    }];
                    // SAFETY: one row, whose blocks cover `seen`
                    unsafe {
                        attend(
                            tier,
                            &layout,
                            head,
                            &rows,
                            q.as_ptr(),
                            q_width,
                            out.as_mut_ptr(),
                            &mut scratch,
                        )
                    };
                }
                for h in 0..layout.heads * heads {
                    let from = h / heads * layout.head_dim;
                    let scores: Vec<f64> = (0..seen)
                        .map(|t| {
                            (0..layout.head_dim)
                                .map(|d| query(h * layout.head_dim + d) * f64::from(keys[t][from + d]))
                                .sum()
                        })
                        .collect();
                    let max = scores.iter().copied().fold(f64::MIN, f64::max);
                    let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                    for d in 0..layout.head_dim {
                        let parts = scores
                            .iter()
                            .zip(&values)
                            .map(|(s, v)| (s - max).exp() / sum * f64::from(v[from + d]));
                        let (slow, size) =
                            parts.fold((0.0, 0.0), |(sum, size), part| (sum + part, size + part.abs()));
                        let off = (f64::from(out[h * layout.head_dim + d]) - slow).abs();
                        assert!(
                            off < 2e-5 + rounding * (size + slow.abs()),
                            "{tier} {kv:?} {seen}: {off}"
                        );
                    }
                }
            }
        }
    }
}
