//! ESC: "Escape Sky-high Cost: Early-stopping Self-Consistency" (arXiv 2401.10480).

use super::EscSettings;
use crate::interface::{Decision, Limits, Next, PoolKind, TraceId, TraceOutcome};
use crate::trace_pool::{Filter, TracePool};
use crate::vote::{Tally, VoteKind};
use crate::whole_traces::WholeTraces;

/// Early-stopping self-consistency: traces run in batches of w; a batch that is unanimous ends the problem
/// with its answer, else the majority of all traces decides. A trace without an answer agrees with nobody.
#[derive(Clone, Debug)]
pub(super) struct Esc {
    settings: EscSettings,
    budget: usize,
    /// First trace of the running batch, and the first beyond it.
    batch: (usize, usize),
    ended: usize,
    unanimous: bool,
}

impl Esc {
    pub(super) fn new(settings: EscSettings) -> Self {
        Self {
            settings,
            budget: 0,
            batch: (0, 0),
            ended: 0,
            unanimous: false,
        }
    }

    fn range(&self) -> Filter {
        Filter::Range(self.batch.0 as TraceId, self.batch.1 as TraceId)
    }

    fn next_batch(&mut self) -> usize {
        let from = self.batch.1;
        self.batch = (from, (from + self.settings.batch).min(self.budget));
        self.ended = 0;
        self.batch.1 - from
    }
}

impl WholeTraces for Esc {
    fn begin(&mut self, limits: &Limits) -> usize {
        self.budget = limits.traces;
        self.next_batch()
    }

    fn finished(&mut self, pool: &mut TracePool, outcome: &TraceOutcome<'_>) -> Next {
        if self.unanimous {
            return Next::Done;
        }
        if !pool.enter(outcome) {
            return Next::Wait;
        }
        self.ended += 1;
        if self.ended < self.batch.1 - self.batch.0 {
            return Next::Wait;
        }
        let tally = Tally::hold(
            VoteKind::Majority,
            &pool.voters(PoolKind::Filtered, Some(self.range())),
        );
        if tally.is_some_and(|t| t.ballots[0].traces == self.settings.batch) {
            self.unanimous = true;
            return Next::Done;
        }
        match self.next_batch() {
            0 => Next::Wait,
            n => Next::Launch(n),
        }
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        let filter = self.unanimous.then(|| self.range());
        pool.decide(VoteKind::Majority, filter, 1, false)
    }
}
