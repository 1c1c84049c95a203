//! Several tokens in a row, for models whose weights stay in the processor's caches: tokens are drawn ahead
//! of the step that asks for them.
//!
//! What such a model waits for is its traces' states, which do not stay there with the weights. A few traces
//! that take many tokens in a row do find theirs, and are one thread's from the first of them to the last, so
//! threads need not wait for each other at every token. What a trace draws depends on nothing but itself, so
//! it may be drawn early; a token that nobody comes to ask for is lost work and nothing else.

use super::draw;
use super::sequence::Trace;
use super::state_pool::StatePool;
use crate::cpu::kernels::{ThreadPool, Tier};
use crate::executor::{StepRow, emptied};
use crate::sampling::{BrokenLogits, Drawn};
use crate::{Feed, Model, Workspace};

/// Bytes of weights that stay in the caches.
const CACHED: usize = 8 << 20;
/// Most rows of a group: products are as fast as with more, and the states stay near the core.
const GROUP: usize = 16;
/// Most tokens that a group takes in a row.
const ROUNDS: usize = 24;
/// Most tokens that a trace has drawn and not handed out.
const MOST: usize = 2 * ROUNDS;

/// A row of a step that is being taken: its trace, and what comes of it.
pub(super) struct ActiveRow<'r> {
    pub(super) trace: Box<Trace>,
    pub(super) row: StepRow<'r>,
    pub(super) drawn: Result<Drawn, BrokenLogits>,
    /// whether it draws in this round
    draws: bool,
}

impl<'r> ActiveRow<'r> {
    pub(super) fn new(trace: Box<Trace>, row: StepRow<'r>) -> Self {
        Self {
            trace,
            row,
            drawn: Err(BrokenLogits),
            draws: false,
        }
    }

    /// Whether the trace has a token to draw, for this step or a later one.
    fn wants(&self) -> bool {
        let Self { trace, row, .. } = self;
        match trace.ahead.back() {
            None => true,
            // the likeliest ids are those of the newest token
            Some(Ok(last)) => {
                let few = trace.ahead.len() <= row.lookahead && trace.ahead.len() < MOST;
                few && row.top_logprobs == 0 && trace.has_room() && !row.stop_ids.contains(&last.id)
            }
            Some(Err(BrokenLogits)) => false,
        }
    }
}

/// What one thread needs to take groups through the model.
pub(super) struct Worker {
    alone: ThreadPool,
    space: Workspace,
    scratch: draw::Scratch,
    feeds: Vec<Feed<'static>>,
    /// positions read
    pub(super) positions: u64,
}

impl Worker {
    /// One for each of `threads`; none for a model whose weights come from memory at every step, which all
    /// rows should share.
    pub(super) fn each(model: &Model, threads: usize, tier: Tier) -> Vec<Self> {
        let threads = if model.bytes() <= CACHED { threads } else { 0 };
        let worker = |_| Self {
            alone: ThreadPool::new(1, tier),
            space: model.workspace(1),
            scratch: draw::Scratch::default(),
            feeds: Vec::new(),
            positions: 0,
        };
        (0..threads).map(worker).collect()
    }

    /// At least one token for every trace of the group that has none left.
    pub(super) fn draw_several(
        &mut self,
        model: &Model,
        states: &StatePool,
        group: &mut [&mut ActiveRow<'_>],
    ) {
        for round in 0..ROUNDS {
            let mut wanting = 0;
            for row in group.iter_mut() {
                row.draws = row.wants();
                wanting += usize::from(row.draws);
            }
            // a few stragglers go on with the next group
            if wanting == 0 || (round > 0 && 2 * wanting < group.len()) {
                return;
            }
            let mut feeds = emptied(std::mem::take(&mut self.feeds));
            for row in group.iter_mut().filter(|row| row.draws) {
                feeds.extend(row.trace.feed(states));
            }
            if !feeds.is_empty() {
                model.forward(&mut self.alone, &mut self.space, &mut feeds);
                self.positions += feeds.len() as u64;
            }
            self.feeds = emptied(feeds);
            let mut at = 0;
            for ActiveRow { trace, row, .. } in group.iter_mut().filter(|row| row.draws).map(|row| &mut **row)
            {
                let logits = trace.has_drawn().then(|| self.space.logits().row(at));
                at += usize::from(logits.is_some());
                let drawn = trace.draw(self.alone.tier(), logits, row, &mut self.scratch);
                trace.ahead.push_back(drawn);
            }
        }
    }
}

/// Picks the rows whose traces have nothing to hand out; where they are too few for full groups, those that
/// run out next as well.
pub(super) fn pick<'t, 'r>(
    rows: &'t mut [ActiveRow<'r>],
    threads: usize,
    picked: &mut Vec<&'t mut ActiveRow<'r>>,
) {
    // how many traces have so many tokens, then how many of those are taken
    let mut count = [0; MOST];
    for row in rows.iter().filter(|row| row.wants()) {
        count[row.trace.ahead.len()] += 1;
    }
    if count[0] == 0 {
        return;
    }
    let mut room = count[0].max(threads * GROUP);
    for count in &mut count {
        *count = room.min(*count);
        room -= *count;
    }
    picked.extend(rows.iter_mut().filter(|row| {
        let wants = row.wants() && count[row.trace.ahead.len()] > 0;
        if wants {
            count[row.trace.ahead.len()] -= 1;
        }
        wants
    }));
}

/// How many rows a group has where `picked` are picked, so that all threads have as many groups.
pub(super) fn group_size(picked: usize, threads: usize) -> usize {
    picked
        .div_ceil(threads * picked.div_ceil(threads * GROUP).max(1))
        .max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::WeightFormat;
    use crate::cpu::CpuExecutor;
    use crate::executor::{Executor, Sampling, SeqId, Stream};
    use crate::weights::Checkpoint;

    const TRACES: usize = 45;
    const TOKENS: usize = 70;
    /// ends a trace
    const STOP: u32 = 7;

    /// Trace `i` begins at step 3 * (i % 6), has a token forced at every 23rd place if i % 7 is 0, and its
    /// likeliest ids found if i % 11 is 0.
    fn forced(i: usize, at: usize) -> Option<u32> {
        (i.is_multiple_of(7) && at % 23 == 22).then_some(20)
    }

    fn model() -> Arc<Model> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/bundled");
        Arc::new(Model::load(&Checkpoint::open(folder.as_ref()).unwrap(), WeightFormat::Auto).unwrap())
    }

    fn row(seq: SeqId, sampling: &Sampling, i: usize, at: usize) -> StepRow<'_> {
        let free = (at + 1..TOKENS).take_while(|next| forced(i, *next).is_none());
        StepRow {
            seq,
            sampling,
            stream: Stream::new(1, "ahead", i as u32),
            index: at,
            forced: forced(i, at),
            banned_ids: &[],
            top_logprobs: if i.is_multiple_of(11) { 3 } else { 0 },
            lookahead: free.count(),
            stop_ids: &[STOP],
        }
    }

    /// What every trace drew, the likeliest ids that were found, and how many positions were read.
    type Came = (Vec<Vec<Drawn>>, Vec<Vec<(u32, f32)>>, u64);

    fn run(mut executor: CpuExecutor) -> Came {
        // hot enough for traces of all lengths
        let sampling = Sampling {
            temperature: 4.0,
            ..Sampling::default()
        };
        let prompt = executor.begin();
        executor.read(prompt, &[5, 9, 30, 41], usize::MAX).unwrap();
        let mut traces: Vec<(usize, SeqId)> = Vec::new();
        let mut drawn = vec![Vec::new(); TRACES];
        let (mut likeliest, mut out) = (Vec::new(), Vec::new());
        for step in 0..TOKENS + 16 {
            let new: Vec<_> = (0..TRACES).filter(|i| 3 * (i % 6) == step).collect();
            traces.extend(new.iter().copied().zip(executor.fork(prompt, new.len())));
            let rows: Vec<_> = traces
                .iter()
                .map(|(i, seq)| row(*seq, &sampling, *i, drawn[*i].len()))
                .collect();
            executor.step(&rows, &mut out);
            for ((i, seq), result) in traces.iter().zip(&out) {
                drawn[*i].push(result.unwrap());
                if i.is_multiple_of(11) {
                    likeliest.push(executor.top_logprobs(*seq).to_vec());
                }
            }
            traces.retain(|(i, seq)| {
                let ended = drawn[*i].len() == TOKENS || drawn[*i].last().unwrap().id == STOP;
                if ended {
                    executor.free(*seq);
                }
                !ended
            });
        }
        (drawn, likeliest, executor.positions())
    }

    #[test]
    fn tokens_do_not_depend_on_how_early_they_are_drawn_and_none_is_lost() {
        let model = model();
        let together = run(CpuExecutor::new(model.clone(), 2, Tier::detect()).together());
        assert!(
            together.0.iter().any(|ids| ids.len() < TOKENS)
                && together.0.iter().any(|ids| ids.len() == TOKENS)
        );
        for threads in [1, 2, 3] {
            let executor = CpuExecutor::new(model.clone(), threads, Tier::detect());
            assert!(run(executor) == together, "{threads} threads");
        }
    }

    /// A fork goes on from what its parent has handed out, also where the parent has drawn more.
    #[test]
    fn a_trace_that_is_ahead_is_forked_where_it_was() {
        let mut executor = CpuExecutor::new(model(), 1, Tier::detect());
        let sampling = Sampling {
            temperature: 4.0,
            ..Sampling::default()
        };
        let prompt = executor.begin();
        executor.read(prompt, &[5, 9, 30, 41], usize::MAX).unwrap();
        let [alone, parent] = executor.fork(prompt, 2)[..] else {
            panic!("two")
        };
        let mut out = Vec::new();
        let mut take = |executor: &mut CpuExecutor, seq, at: usize, lookahead| {
            let row = StepRow {
                lookahead,
                stop_ids: &[],
                ..row(seq, &sampling, 1, at)
            };
            executor.step(&[row], &mut out);
            out[0].unwrap()
        };
        let want: Vec<_> = (0..30).map(|at| take(&mut executor, alone, at, 0)).collect();
        let wanted: Vec<_> = want.into_iter().enumerate().collect();
        for (at, want) in wanted[..9].iter().copied() {
            assert_eq!(take(&mut executor, parent, at, 40), want);
        }
        assert!(executor.is_ahead(parent) && !executor.is_ahead(alone));
        assert!(executor.save(parent, &mut Vec::new()).is_err());
        let child = executor.fork(parent, 1)[0];
        assert_eq!(executor.length(child), 4 + 8);
        for (at, want) in wanted[9..].iter().copied() {
            assert_eq!(take(&mut executor, child, at, 0), want);
            assert_eq!(take(&mut executor, parent, at, 0), want);
        }
        assert!(!executor.is_ahead(parent));
    }

    #[test]
    fn threads_have_as_many_groups() {
        for threads in 1..6 {
            for picked in 1..300 {
                let size = group_size(picked, threads);
                assert!(size <= GROUP);
                let groups = picked.div_ceil(size);
                assert!(
                    groups <= threads * picked.div_ceil(threads * GROUP),
                    "{picked} on {threads}"
                );
            }
        }
        assert_eq!(
            (
                group_size(64, 2),
                group_size(40, 2),
                group_size(6, 2),
                group_size(1, 2)
            ),
            (16, 10, 3, 1)
        );
    }
}
