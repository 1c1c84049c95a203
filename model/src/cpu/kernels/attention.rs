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

pub(crate) mod codes;
mod pairs;
mod visit;

use visit::Visit;

/// Rows that visit a block together.
pub(crate) const GROUP: usize = 16;

/// What attention needs to know of a row: its sequence's blocks and which positions it sees.
pub(crate) struct RowView {
    pub(crate) blocks: *const Arc<KvBlock>,
    /// the first position that it sees
    pub(crate) from: usize,
    /// how many there are up to the last one that it sees
    pub(crate) len: usize,
}

impl RowView {
    /// The first block from `block` on that the row visits.
    fn visits(&self, block: usize) -> Option<usize> {
        let block = block.max(self.from / BLOCK);
        (block * BLOCK < self.len).then_some(block)
    }
}

// SAFETY: rows are only read while the sequences that own the blocks are borrowed
unsafe impl Sync for RowView {}

/// Running maximum, sum and weighted values of a group's rows, for the query heads of one key/value head.
pub(crate) struct Scratch {
    max: Buf,
    sum: Buf,
    acc: Buf,
    scores: Buf,
    /// the rows' query heads in pairs of bf16, for the tier that multiplies them so, or turned as 8-bit keys are
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
            q: Buf::zeroed(GROUP * heads * layout.head_dim),
        }
    }
}

/// Writes one position's keys and values `[kv_heads * head_dim]` into its block, which the sequence must own
/// alone.
///
/// # Safety
/// No other task touches this part of the block.
pub(crate) unsafe fn append(
    tier: Tier,
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
        match layout.format {
            KvFormat::F32 => {
                let column = k[offset..].iter_mut().step_by(BLOCK);
                column.zip(keys).for_each(|(word, key)| *word = *key);
                v[offset * stride..][..dim].copy_from_slice(values);
            }
            KvFormat::Bf16 => {
                let column = k[offset..].iter_mut().step_by(BLOCK);
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
            KvFormat::Q8_0 => codes::append(tier, layout, (k, v), offset, (keys, values)),
        }
    }
}

/// Asks for what [`append`] will write to.
pub(crate) fn prefetch_block(layout: &KvLayout, block: &KvBlock, offset: usize) {
    for head in 0..layout.heads {
        let head = block.0.raw().wrapping_add(layout.head_at(head));
        let (keys, values) = match layout.format {
            KvFormat::F32 => (layout.head_dim, offset),
            KvFormat::Bf16 => (layout.head_dim.div_ceil(2), offset / 2),
            KvFormat::Q8_0 => {
                codes::prefetch(layout, head, offset);
                continue;
            }
        };
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

/// Attention of the query heads that share key/value head `head`, for `rows` (at most [`GROUP`]). Each of
/// `sinks`, where there are any, is one more score of its query head, whose value is 0.
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
    sinks: &[f32],
    out: *mut f32,
    scratch: &mut Scratch,
) {
    let (dim, stride) = (layout.head_dim, layout.head_stride());
    let heads = scratch.max.len() / GROUP;
    let in_block = layout.head_at(head);
    scratch.max.fill(f32::NEG_INFINITY);
    scratch.sum.fill(0.0);
    scratch.acc.fill(0.0);
    if !sinks.is_empty() {
        // a sink is seen first, and weighs 1 under itself
        let rows = scratch.max.chunks_exact_mut(heads).take(rows.len());
        rows.for_each(|max| max.copy_from_slice(sinks));
        scratch.sum.fill(1.0);
    }
    let in_pairs = tier == Tier::Avx512Bf16 && layout.format == KvFormat::Bf16;
    let pairs = dim.div_ceil(2);
    let turned = layout.format == KvFormat::Q8_0;
    if turned {
        let heads_of_rows = scratch.q.chunks_exact_mut(dim).take(rows.len() * heads);
        for (i, turned) in heads_of_rows.enumerate() {
            let (r, h) = (i / heads, head * heads + i % heads);
            // SAFETY: the caller's promise
            turned.copy_from_slice(unsafe { std::slice::from_raw_parts(q.add(r * q_stride + h * dim), dim) });
            codes::turn_back(turned);
        }
    }
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
    let first = |from: usize| rows.iter().filter_map(|row| row.visits(from)).min();
    let mut next = first(0);
    while let Some(b) = next {
        next = first(b + 1);
        for (r, row) in rows.iter().enumerate() {
            if row.visits(b) != Some(b) {
                continue;
            }
            let count = (row.len - b * BLOCK).min(BLOCK);
            // SAFETY: the caller's promise: the row has more than b blocks
            let block: &KvBlock = unsafe { &*row.blocks.add(b) };
            let (k, v) = block.0[in_block..][..layout.head_len()].split_at(layout.keys_len());
            // SAFETY: as above, whichever row it is
            let ahead = match unsafe { next_visit(rows, r, b, next) } {
                Some(block) => block.0[in_block..].as_ptr(),
                // the rows' next head, where there is one
                None if head + 1 < layout.heads => {
                    // SAFETY: as above
                    let first: &KvBlock = unsafe { &*rows[0].blocks.add(rows[0].from / BLOCK) };
                    first.0[in_block + layout.head_len()..].as_ptr()
                }
                None => k.as_ptr(),
            };
            let visit = Visit {
                next: ahead,
                heads,
                dim,
                stride,
                from: row.from.saturating_sub(b * BLOCK),
                count,
                q: if in_pairs {
                    scratch.q[r * heads * pairs..].as_ptr()
                } else if turned {
                    scratch.q[r * heads * dim..].as_ptr()
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
                    KvFormat::Q8_0 => codes::visit(tier, &visit),
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
            if turned {
                codes::turn_back(out);
            }
        }
    }
}

/// The block that is visited after row r's visit to block b, which some row leaves for block `next`.
///
/// # Safety
/// The rows' blocks cover their lengths.
unsafe fn next_visit(rows: &[RowView], r: usize, b: usize, next: Option<usize>) -> Option<&KvBlock> {
    let first = |from: usize, b: usize| {
        let mut rows = rows[from..].iter();
        Some((rows.find(|row| row.visits(b) == Some(b))?, b))
    };
    let (row, b) = first(r + 1, b).or_else(|| first(0, next?))?;
    // SAFETY: the row has more than b blocks
    Some(unsafe { &*row.blocks.add(b) })
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// A cache of three blocks and a bit, and queries of several heads for it.
    struct Case {
        layout: KvLayout,
        /// query heads that share a head of keys and values
        heads: usize,
        cache: Vec<Arc<KvBlock>>,
        /// keys, then values, as they are written
        written: [Vec<Vec<f32>>; 2],
        /// what is held of them
        keys: Vec<Vec<f32>>,
        values: Vec<Vec<f32>>,
        q: Vec<f32>,
    }

    impl Case {
        fn new(kv: KvFormat) -> Self {
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
            let width = layout.heads * layout.head_dim;
            let rows = |seed| -> Vec<Vec<f32>> {
                (0..len)
                    .map(|t| (0..width).map(|i| exact(seed, t * width + i)).collect())
                    .collect()
            };
            let bf16 = |number: &f32| half::bf16::from_f32(*number).to_f32();
            let held = |row: &Vec<f32>| -> Vec<f32> {
                match kv {
                    KvFormat::F32 => row.clone(),
                    KvFormat::Bf16 => row.iter().map(bf16).collect(),
                    KvFormat::Q8_0 => row.chunks(layout.head_dim).flat_map(codes::tests::held).collect(),
                }
            };
            let written = [rows(1), rows(2)];
            let q_width = layout.heads * heads * layout.head_dim;
            let mut case = Self {
                cache: Vec::new(),
                keys: written[0].iter().map(held).collect(),
                values: written[1].iter().map(held).collect(),
                written,
                q: (0..q_width).map(|i| exact(3, i)).collect(),
                layout,
                heads,
            };
            case.cache = case.filled(0..len, 0..len);
            case
        }

        /// The cache where positions outside of `kept` hold NaN; it is as long as the end of `all`.
        fn filled(&self, all: Range<usize>, kept: Range<usize>) -> Vec<Arc<KvBlock>> {
            let block = |_| Arc::new(KvBlock(Buf::zeroed(self.layout.head_at(self.layout.heads))));
            let cache: Vec<_> = (0..all.end.div_ceil(BLOCK)).map(block).collect();
            let nothing = vec![f32::NAN; self.keys[0].len()];
            for t in all {
                let (keys, values) = if kept.contains(&t) {
                    (&self.written[0][t], &self.written[1][t])
                } else {
                    (&nothing, &nothing)
                };
                // SAFETY: nobody else has the blocks
                unsafe {
                    append(
                        Tier::detect(),
                        &self.layout,
                        &cache[t / BLOCK],
                        t % BLOCK,
                        keys,
                        values,
                    )
                };
            }
            cache
        }

        /// What rows that see these positions of these caches attend to, all with the same queries.
        fn attend(
            &self,
            tier: Tier,
            rows: &[(&[Arc<KvBlock>], Range<usize>)],
            sinks: &[f32],
        ) -> Vec<Vec<f32>> {
            let width = self.q.len();
            let (q, mut out) = (self.q.repeat(rows.len()), vec![0.0f32; width * rows.len()]);
            let mut scratch = Scratch::new(&self.layout, width);
            let views: Vec<RowView> = rows
                .iter()
                .map(|(cache, seen)| RowView {
                    blocks: cache.as_ptr(),
                    from: seen.start,
                    len: seen.end,
                })
                .collect();
            for head in 0..self.layout.heads {
                let of_head = if sinks.is_empty() {
                    sinks
                } else {
                    &sinks[head * self.heads..][..self.heads]
                };
                // SAFETY: the rows' blocks cover what they see
                unsafe {
                    attend(
                        tier,
                        &self.layout,
                        head,
                        &views,
                        q.as_ptr(),
                        width,
                        of_head,
                        out.as_mut_ptr(),
                        &mut scratch,
                    )
                };
            }
            out.chunks_exact(width).map(<[f32]>::to_vec).collect()
        }

        /// Fails unless `out` is the plain softmax over these positions and sinks.
        fn check(&self, tier: Tier, seen: Range<usize>, sinks: &[f32], out: &[f32]) {
            let (dim, heads, kv) = (self.layout.head_dim, self.heads, self.layout.format);
            // on this tier queries and weights are rounded to eight bits
            let in_pairs = tier == Tier::Avx512Bf16 && kv == KvFormat::Bf16;
            let rounding = if in_pairs { 1.0 / 512.0 } else { 0.0 };
            let query = |i: usize| {
                f64::from(if in_pairs {
                    half::bf16::from_f32(self.q[i]).to_f32()
                } else {
                    self.q[i]
                })
            };
            for h in 0..self.layout.heads * heads {
                let from = h / heads * dim;
                let score = |t: usize| -> f64 {
                    let keys = &self.keys[t][from..];
                    (0..dim).map(|d| query(h * dim + d) * f64::from(keys[d])).sum()
                };
                let scores: Vec<f64> = seen.clone().map(score).collect();
                let sink = sinks.get(h).map(|sink| f64::from(*sink));
                let max = scores.iter().copied().chain(sink).fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().copied().chain(sink).map(|s| (s - max).exp()).sum();
                for d in 0..dim {
                    let parts = scores
                        .iter()
                        .zip(&self.values[seen.start..])
                        .map(|(s, v)| (s - max).exp() / sum * f64::from(v[from + d]));
                    let (slow, size) =
                        parts.fold((0.0, 0.0), |(sum, size), part| (sum + part, size + part.abs()));
                    let off = (f64::from(out[h * dim + d]) - slow).abs();
                    assert!(
                        off < 2e-5 + rounding * (size + slow.abs()),
                        "{tier} {kv:?} {seen:?} {sinks:?}: {off}"
                    );
                }
            }
        }
    }

    /// Lengths around the borders of blocks.
    const LENGTHS: [usize; 9] = [
        1,
        2,
        BLOCK - 1,
        BLOCK,
        BLOCK + 1,
        BLOCK + 17,
        BLOCK + 40,
        2 * BLOCK,
        3 * BLOCK + 5,
    ];

    #[test]
    fn blocks_merge_to_the_plain_softmax() {
        for case in KvFormat::ALL.map(Case::new) {
            for (tier, seen) in Tier::available()
                .iter()
                .flat_map(|t| LENGTHS.map(|len| (*t, len)))
            {
                let out = case.attend(tier, &[(&case.cache, 0..seen)], &[]);
                case.check(tier, 0..seen, &[], &out[0]);
            }
        }
    }

    #[test]
    fn windows_and_sinks_are_those_of_the_plain_softmax() {
        for case in KvFormat::ALL.map(Case::new) {
            let heads = case.layout.heads * case.heads;
            // weak, about as strong as a key, and stronger than all keys
            let sinks: Vec<f32> = (0..heads)
                .map(|h| [-30.0, 1.5, 0.0, 40.0][h % 4] + h as f32 / 8.0)
                .collect();
            for tier in Tier::available() {
                for len in LENGTHS {
                    let windows = [1, 2, 23, 24, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 1000];
                    for window in windows {
                        let seen = len.saturating_sub(window)..len;
                        // what is read of a block outside of the window comes out
                        let first = seen.start / BLOCK * BLOCK;
                        let cache = case.filled(0..len, first..len);
                        for sinks in [&sinks[..], &[]] {
                            let out = case.attend(tier, &[(&cache, seen.clone())], sinks);
                            case.check(tier, seen.clone(), sinks, &out[0]);
                        }
                    }
                }
                let out = case.attend(tier, &[(&case.cache, 0..70)], &vec![-1e30; heads]);
                let none = case.attend(tier, &[(&case.cache, 0..70)], &[]);
                assert_eq!(out, none, "{tier}: a sink that weighs nothing is none");
            }
        }
    }

    /// Rows of a group whose windows lie far apart: bit for bit what each is alone.
    #[test]
    fn rows_with_windows_are_the_same_alone_and_in_a_group() {
        for case in KvFormat::ALL.map(Case::new) {
            let sinks = vec![0.25; case.layout.heads * case.heads];
            let seen: Vec<_> = LENGTHS
                .into_iter()
                .map(|len| len.saturating_sub(24)..len)
                .collect();
            let caches: Vec<_> = seen
                .iter()
                .map(|seen| case.filled(0..seen.end, seen.start / BLOCK * BLOCK..seen.end))
                .collect();
            let rows: Vec<_> = caches.iter().map(Vec::as_slice).zip(seen).collect();
            for tier in Tier::available() {
                let together = case.attend(tier, &rows, &sinks);
                for (row, out) in rows.iter().zip(&together) {
                    let alone = case.attend(tier, std::slice::from_ref(row), &sinks);
                    assert_eq!(alone[0], *out, "{tier} {:?}", row.1);
                }
            }
        }
    }
}
