//! Adaptive: a few traces while a problem is undecided, votes by how probable their trace is among the others,
//! and an end as soon as the leader is certain.
//!
//! The stop is Adaptive-Consistency's (arXiv 2305.11860), with weighted votes in the place of counts as in ReASC
//! (arXiv 2601.02970). The certainty that it asks for falls with every vote: a problem that many traces left open is
//! seldom settled by some more, and those cost as much as the first did.

use super::AdaptiveSettings;
use super::leader::Leader;
use crate::interface::{Decision, Limits, Needs, Next, TraceOutcome};
use crate::trace_pool::TracePool;
use crate::whole_traces::WholeTraces;

#[derive(Clone, Debug)]
pub(super) struct Adaptive {
    settings: AdaptiveSettings,
    leader: Leader,
    voters: usize,
    /// traces that may still be launched
    left: usize,
    done: bool,
    certain: bool,
}

impl Adaptive {
    pub(super) fn new(settings: AdaptiveSettings) -> Self {
        Self {
            leader: Leader::new(settings.statistic, settings.sharpness, settings.min_votes),
            settings,
            voters: 0,
            left: 0,
            done: false,
            certain: false,
        }
    }

    /// The certainty that ends the problem with as many votes as there are: `certainty` with the fewest that are
    /// compared, and from there down to `certainty_last` with the last.
    fn wanted(&self) -> f64 {
        let s = &self.settings;
        let falls = (s.certainty - s.certainty_last).max(0.0);
        let (more, all) = (
            self.voters.saturating_sub(s.min_votes),
            s.most.saturating_sub(s.min_votes),
        );
        s.certainty - falls * more as f64 / all.max(1) as f64
    }

    /// Traces that may still be launched, where the vote ended without a certain leader.
    pub(super) fn left_open(&self) -> Option<usize> {
        (self.done && !self.certain).then_some(self.left)
    }

    pub(super) fn is_certain(&self) -> bool {
        self.certain
    }

    pub(super) fn leader(&mut self) -> &mut Leader {
        &mut self.leader
    }
}

impl WholeTraces for Adaptive {
    fn needs(&self) -> Needs {
        // without the statistic it counts answers
        Needs::default()
    }

    fn begin(&mut self, limits: &Limits) -> usize {
        let first = limits.traces.min(self.settings.most);
        self.left = limits.traces - first;
        first
    }

    fn finished(&mut self, pool: &mut TracePool, outcome: &TraceOutcome<'_>) -> Next {
        if self.done || !pool.enter(outcome) {
            return if self.done { Next::Done } else { Next::Wait };
        }
        if pool.vote_of(outcome).is_none() {
            // it said nothing: another takes its place, as long as there is one
            if self.left == 0 {
                return Next::Wait;
            }
            self.left -= 1;
            return Next::Launch(1);
        }
        self.voters += 1;
        self.certain = self.leader.certainty(pool, self.voters, None, None) >= self.wanted();
        self.done = self.certain || self.voters >= self.settings.most;
        if self.done { Next::Done } else { Next::Wait }
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        self.leader.decide(pool, None, "adaptive")
    }
}
