//! short-m@k: "Don't Overthink it. Preferring Shorter Thinking Chains" (arXiv 2505.17813).

use super::ShortestSettings;
use crate::interface::{Decision, Finish, Next, TraceId, TraceOutcome};
use crate::trace_pool::{DecisionRule, TracePool};
use crate::vote::{Tally, Voter};
use crate::whole_traces::WholeTraces;

/// short-m@k: all k traces run side by side, the first m that end by themselves vote, the rest is cancelled;
/// a tie goes to the class with the shortest trace. One without an answer is among the m, but casts no vote.
#[derive(Clone, Debug)]
pub(super) struct ShortMAtK {
    settings: ShortestSettings,
    finished: usize,
}

impl ShortMAtK {
    pub(super) fn new(settings: ShortestSettings) -> Self {
        Self {
            settings,
            finished: 0,
        }
    }
}

impl WholeTraces for ShortMAtK {
    fn finished(&mut self, pool: &mut TracePool, outcome: &TraceOutcome<'_>) -> Next {
        let first = self.settings.first;
        if self.finished < first && pool.enter(outcome) {
            self.finished += usize::from(outcome.finish == Finish::Stop);
        }
        if self.finished < first {
            Next::Wait
        } else {
            Next::Done
        }
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        let hold = |voters: &[Voter]| {
            // Counted in order of length, so that the lowest index of a tie is the shortest trace.
            let mut shortest: Vec<&Voter> = voters.iter().collect();
            shortest.sort_by_key(|v| (pool.tokens(v.trace), v.trace));
            let ranked = shortest
                .iter()
                .enumerate()
                .map(|(rank, v)| (rank as TraceId, v.class, 1.0));
            let mut tally = Tally::count(ranked)?;
            tally.winner_trace = shortest.get(tally.winner_trace as usize)?.trace;
            Some(tally)
        };
        pool.decide_by(&DecisionRule {
            filter: None,
            min_votes: 1,
            consensus: false,
            name: "majority",
            hold: &hold,
        })
    }
}
