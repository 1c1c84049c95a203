//! A step of many rows in shards: each goes through all layers on one thread.
//!
//! Rows do not depend on each other before the vocabulary, so threads that take rows, instead of columns of
//! every product, wait for each other once a step and not after every product, and what a row's activations
//! and state leave in a core's caches is read by that core. The price is that every shard reads all weights.

#![allow(unsafe_code, reason = "threads write different rows of the same memory")]

use super::kernels::ThreadPool;
use super::kernels::buf::Shared;
use super::work::Work;
use super::{BLOCK, Feed, Model};

/// Most rows of a shard: their activations stay in a second-level cache.
const MOST: usize = 48;
/// Fewest rows for which a shard reads the weights: their products take longer than that.
const FEWEST: usize = 24;

/// What a shard's rows need to go through the blocks.
pub(super) struct Shard {
    alone: ThreadPool,
    work: Work,
    /// its feeds, by their places in the step
    first: usize,
    end: usize,
}

impl Model {
    /// Into how many shards a step of `rows` rows goes; 1 where all threads share every product.
    fn shard_count(&self, rows: usize, threads: usize) -> usize {
        if self.widths.has_experts() {
            return 1;
        }
        let threads = threads.max(1);
        let count = threads * rows.div_ceil(threads * MOST);
        if rows >= count * FEWEST { count } else { 1 }
    }

    /// Bytes that the shards of a step of `rows` rows take.
    pub(super) fn shard_bytes(&self, rows: usize, threads: usize) -> usize {
        match self.shard_count(rows, threads) {
            1 => 0,
            count => count * Work::bytes_for(&self.widths, rows.div_ceil(count), 1),
        }
    }

    /// What a token of a feed costs, in bytes that pass from memory in that time. Products take about as long
    /// as an eighth of the weights; keys and values come at two thirds of the rate.
    fn cost(&self, feed: &Feed<'_>) -> usize {
        self.bytes / 8
            + 2 * self.layout.state_bytes()
            + feed.sequence.len * self.layout.block_bytes() / BLOCK * 3 / 2
    }

    /// Takes feeds of one token each through all layers, in shards of about the same cost; the residual
    /// stream is then in `h`. False where that does not pay, and nothing was done.
    pub(super) fn layers_in_shards(
        &self,
        pool: &mut ThreadPool,
        shards: &mut Vec<Shard>,
        work: &mut Work,
        feeds: &mut [Feed<'_>],
    ) -> bool {
        let (rows, tier) = (feeds.len(), pool.tier());
        let count = self.shard_count(rows, pool.threads());
        if count == 1 || feeds.iter().any(|feed| feed.tokens.len() != 1) {
            return false;
        }
        let (mut total, mut most) = (0, 0);
        for cost in feeds.iter().map(|feed| self.cost(feed)) {
            (total, most) = (total + cost, most.max(cost));
        }
        // a context that is longer than a shard is for all threads
        if most > total / count {
            return false;
        }
        if shards.len() < count {
            shards.resize_with(count, || Shard {
                alone: ThreadPool::new(1, tier),
                work: Work::new(&self.widths, 1),
                first: 0,
                end: 0,
            });
        }
        let (mut end, mut passed) = (0, 0);
        for (i, shard) in shards[..count].iter_mut().enumerate() {
            shard.first = end;
            while end < rows {
                // products are fastest in fours
                let four = &feeds[end..rows.min(end + 4)];
                let cost: usize = four.iter().map(|feed| self.cost(feed)).sum();
                if i + 1 < count && end > shard.first && passed + cost / 2 > total / count * (i + 1) {
                    break;
                }
                passed += cost;
                end += four.len();
            }
            shard.end = end;
        }
        work.h.resize(rows);
        let (base, h, stride) = (
            Shared(feeds.as_mut_ptr()),
            Shared(work.h.as_mut_ptr()),
            work.h.stride(),
        );
        pool.for_each_placed(&mut shards[..count], |_, shard, _| {
            // SAFETY: every feed, and its row of h, belongs to one shard
            unsafe {
                let feeds = std::slice::from_raw_parts_mut(base.at(shard.first), shard.end - shard.first);
                self.read(&mut shard.alone, &mut shard.work, feeds, |_, _| ());
                let own = shard.work.h.as_ptr();
                h.at(shard.first * stride)
                    .copy_from_nonoverlapping(own, feeds.len() * stride);
            }
        });
        for (row, feed) in feeds.iter_mut().enumerate() {
            feed.row = row;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernels::Tier;
    use crate::weights::Checkpoint;
    use crate::{Sequence, Want, WeightFormat};

    /// The bundled model, and sequences of these lengths.
    fn read(lengths: impl Iterator<Item = usize>) -> (Model, Vec<Sequence>) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/bundled");
        let model = Model::load(&Checkpoint::open(folder.as_ref()).unwrap(), WeightFormat::Auto).unwrap();
        let (mut pool, mut space) = (ThreadPool::new(1, Tier::detect()), model.workspace(1));
        let sequence = |length: usize| {
            let mut sequence = model.sequence();
            let ids: Vec<u32> = (0..length).map(|t| (4 + (7 * t + length) % 100) as u32).collect();
            model.forward(
                &mut pool,
                &mut space,
                &mut [Feed::new(&mut sequence, &ids, Want::Nothing)],
            );
            sequence
        };
        let sequences = lengths.map(sequence).collect();
        (model, sequences)
    }

    #[test]
    fn parts_share_the_cost_and_change_nothing() {
        let (model, mut sequences) = read((0..75).map(|i| 1 + 5 * i));
        let mut alone: Vec<Sequence> = sequences.iter().map(Sequence::fork).collect();
        let ids: Vec<u32> = (4..79).collect();
        let mut feeds: Vec<Feed<'_>> = sequences
            .iter_mut()
            .zip(&ids)
            .map(|(sequence, id)| Feed::new(sequence, std::slice::from_ref(id), Want::Last))
            .collect();
        let costs: Vec<usize> = feeds.iter().map(|feed| model.cost(feed)).collect();
        let (mut pool, mut space) = (ThreadPool::new(2, Tier::detect()), model.workspace(2));
        model.forward(&mut pool, &mut space, &mut feeds);
        let [first, second] = &space.shards[..] else {
            panic!("two threads, two shards")
        };
        assert_eq!((first.first, first.end, second.end), (0, second.first, 75));
        let share = costs[..first.end].iter().sum::<usize>() as f64 / costs.iter().sum::<usize>() as f64;
        assert!((share - 0.5).abs() < 0.03, "{share}");
        assert!(first.end > 38, "short contexts cost less");

        let (mut one, mut scratch) = (ThreadPool::new(1, Tier::detect()), model.workspace(1));
        for (i, (own, together)) in alone.iter_mut().zip(&sequences).enumerate() {
            model.forward(
                &mut one,
                &mut scratch,
                &mut [Feed::new(own, &ids[i..=i], Want::Last)],
            );
            assert_eq!(scratch.logits().row(0), space.logits().row(i), "row {i}");
            for layer in 0..model.layout().ssm.len() {
                assert!(own.ssm_state(model.layout(), layer) == together.ssm_state(model.layout(), layer));
                assert!(
                    own.keys_values(model.layout(), layer) == together.keys_values(model.layout(), layer)
                );
            }
        }
    }

    #[test]
    fn a_context_longer_than_a_part_is_for_all_threads() {
        let (model, mut sequences) = read((0..2 * FEWEST).map(|_| 64));
        let mut count = |longest: usize| {
            sequences[5].stretch(longest);
            let mut feeds: Vec<Feed<'_>> = sequences
                .iter_mut()
                .map(|s| Feed::new(s, &[4], Want::Last))
                .collect();
            let (mut pool, mut space) = (ThreadPool::new(2, Tier::detect()), model.workspace(2));
            model.forward(&mut pool, &mut space, &mut feeds);
            space.shards.len()
        };
        assert_eq!((count(0), count(40_000)), (2, 0));
    }
}
