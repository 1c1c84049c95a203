//! Steps of a model whose weights stay in the processor's caches: tokens are drawn ahead of the step that
//! asks for them.
//!
//! What such a model waits for is its traces' states, which do not stay there with the weights. A few lanes
//! that take many tokens in a row do find theirs, and are one thread's from the first of them to the last, so
//! threads need not wait for each other at every token. What a lane draws depends on nothing but itself, so
//! it may be drawn early; a token that nobody comes to ask for is lost work and nothing else.

use crate::kernels::{Pool, Tier};
use crate::sampler;
use crate::session::{Turn, emptied};
use crate::{Feed, Model, Workspace};

/// Bytes of weights that stay in the caches.
const CACHED: usize = 8 << 20;
/// Most lanes of a group: products are as fast as with more, and the states stay near the core.
const GROUP: usize = 16;
/// Most tokens that a group takes in a row.
const ROUNDS: usize = 24;
/// Most tokens that a lane has drawn and not handed out.
pub(crate) const MOST: usize = 2 * ROUNDS;

/// What one thread needs to take groups through the model.
pub(crate) struct Hand {
    alone: Pool,
    space: Workspace,
    scratch: sampler::Scratch,
    feeds: Vec<Feed<'static>>,
    /// positions read
    pub(crate) positions: u64,
}

impl Hand {
    /// One for each of `threads`; none for a model whose weights come from memory at every step, which all
    /// rows should share.
    pub(crate) fn each(model: &Model, threads: usize, tier: Tier) -> Vec<Self> {
        let threads = if model.bytes() <= CACHED { threads } else { 0 };
        let hand = |_| Self {
            alone: Pool::new(1, tier),
            space: model.workspace(1),
            scratch: sampler::Scratch::default(),
            feeds: Vec::new(),
            positions: 0,
        };
        (0..threads).map(hand).collect()
    }

    /// At least one token for every lane of the group that has none left.
    pub(crate) fn take(&mut self, model: &Model, group: &mut [&mut Turn<'_>]) {
        for round in 0..ROUNDS {
            let mut wanting = 0;
            for turn in group.iter_mut() {
                turn.draws = turn.wants();
                wanting += usize::from(turn.draws);
            }
            // a few stragglers go on with the next group
            if wanting == 0 || (round > 0 && 2 * wanting < group.len()) {
                return;
            }
            let mut feeds = emptied(std::mem::take(&mut self.feeds));
            for turn in group.iter_mut().filter(|turn| turn.draws) {
                feeds.extend(turn.lane.feed());
            }
            if !feeds.is_empty() {
                model.forward(&mut self.alone, &mut self.space, &mut feeds);
                self.positions += feeds.len() as u64;
            }
            self.feeds = emptied(feeds);
            let mut row = 0;
            for turn in group.iter_mut().filter(|turn| turn.draws) {
                let logits = turn.lane.has_read().then(|| self.space.logits().row(row));
                row += usize::from(logits.is_some());
                // what is forced is this step's token
                let forced = turn.forced.filter(|_| turn.lane.ahead.is_empty());
                let drawn = turn
                    .lane
                    .draw(self.alone.tier(), logits, forced, &mut self.scratch);
                turn.lane.ahead.push_back(drawn);
            }
        }
    }
}

/// Picks the turns whose lanes have nothing to hand out; where they are too few for full groups, those that
/// run out next as well.
pub(crate) fn pick<'t, 'l>(turns: &'t mut [Turn<'l>], threads: usize, picked: &mut Vec<&'t mut Turn<'l>>) {
    // how many lanes have so many tokens, then how many of those are taken
    let mut count = [0; MOST];
    for turn in turns.iter().filter(|turn| turn.wants()) {
        count[turn.lane.ahead.len()] += 1;
    }
    if count[0] == 0 {
        return;
    }
    let mut room = count[0].max(threads * GROUP);
    for count in &mut count {
        *count = room.min(*count);
        room -= *count;
    }
    picked.extend(turns.iter_mut().filter(|turn| {
        let wants = turn.wants() && count[turn.lane.ahead.len()] > 0;
        if wants {
            count[turn.lane.ahead.len()] -= 1;
        }
        wants
    }));
}

/// How many lanes a group has where `picked` are picked, so that all threads have as many groups.
pub(crate) fn group_size(picked: usize, threads: usize) -> usize {
    picked
        .div_ceil(threads * picked.div_ceil(threads * GROUP).max(1))
        .max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::WeightFormat;
    use crate::sampler::{Drawn, Sampling, Stream};
    use crate::session::{Lane, Manner, Session};
    use crate::weights::Checkpoint;

    const LANES: usize = 45;
    const TOKENS: usize = 70;
    /// ends a trace
    const STOP: u32 = 7;

    /// Lane `i` begins at step 3 * (i % 6), has a token forced at every 23rd place if i % 7 is 0, and its
    /// likeliest ids found if i % 11 is 0.
    fn forced(i: usize, at: usize) -> Option<u32> {
        (i.is_multiple_of(7) && at % 23 == 22).then_some(20)
    }

    /// What every lane drew, the likeliest ids that were found, and how many positions were read.
    type Came = (Vec<Vec<Drawn>>, Vec<Vec<(u32, f32)>>, u64);

    fn run(mut session: Session) -> Came {
        // hot enough for traces of all lengths
        let sampling = Arc::new(Sampling {
            temperature: 4.0,
            ..Sampling::default()
        });
        let prefix = session.prefill(&[5, 9, 30, 41]).unwrap();
        let mut lanes: Vec<(usize, Lane)> = Vec::new();
        let mut drawn = vec![Vec::new(); LANES];
        let mut likeliest = Vec::new();
        for step in 0..TOKENS + 16 {
            for i in (0..LANES).filter(|i| 3 * (i % 6) == step) {
                let manner = Manner {
                    sampling: sampling.clone(),
                    held: Arc::new([]),
                    stream: Stream::new(1, "ahead", i as u32),
                };
                let mut lane = session.lane(&prefix, &[], manner);
                if i.is_multiple_of(11) {
                    lane.find_likeliest(3);
                }
                lanes.push((i, lane));
            }
            let mut turns: Vec<_> = lanes
                .iter_mut()
                .map(|(i, lane)| {
                    let at = drawn[*i].len();
                    let free = (at + 1..TOKENS)
                        .take_while(|next| forced(*i, *next).is_none())
                        .count();
                    Turn::new(lane, forced(*i, at)).then(free, &[STOP])
                })
                .collect();
            session.step(&mut turns);
            let results: Vec<Drawn> = turns.into_iter().map(|turn| turn.result.unwrap()).collect();
            for ((i, lane), result) in lanes.iter().zip(results) {
                drawn[*i].push(result);
                assert_eq!(lane.tokens(), drawn[*i].len());
                if i.is_multiple_of(11) {
                    likeliest.push(lane.likeliest().to_vec());
                }
            }
            lanes.retain(|(i, _)| drawn[*i].len() < TOKENS && drawn[*i].last().unwrap().id != STOP);
        }
        (drawn, likeliest, session.positions())
    }

    #[test]
    fn tokens_do_not_depend_on_how_early_they_are_drawn_and_none_is_lost() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/bundled");
        let model =
            Arc::new(Model::load(&Checkpoint::open(folder.as_ref()).unwrap(), WeightFormat::Auto).unwrap());
        let together = run(Session::new(model.clone(), 2, Tier::detect()).together());
        assert!(
            together.0.iter().any(|ids| ids.len() < TOKENS)
                && together.0.iter().any(|ids| ids.len() == TOKENS)
        );
        for threads in [1, 2, 3] {
            let session = Session::new(model.clone(), threads, Tier::detect());
            assert!(run(session) == together, "{threads} threads");
        }
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
