//! Adaptive-Consistency: "Let's Sample Step by Step" (arXiv 2305.11860), section 3, the Beta criterion.

use super::AdaptiveSettings;
use crate::counts::ClassCounts;
use crate::interface::{Decision, Next, TraceOutcome};
use crate::trace_pool::TracePool;
use crate::vote::VoteKind;
use crate::whole_traces::WholeTraces;

/// The probability that the leader of `first` against `second` votes is the more frequent answer, under a
/// flat prior:
/// `sum_{j = second + 1}^{n} C(n, j) / 2^n` with `n = first + second + 1`, that is `P(Beta(first + 1, second
/// + 1) > 1/2)` (arXiv 2305.11860, section 3).
pub fn stays_ahead(first: usize, second: usize) -> f64 {
    let n = first + second + 1;
    // In logarithms: 2^-n alone would vanish beyond a thousand votes. The smaller side is summed.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut behind = 0.0;
    for j in 0..=second {
        behind += term.exp();
        term += ((n - j) as f64 / (j + 1) as f64).ln();
    }
    1.0 - behind
}

/// Majority that stops as soon as the leader is ahead of the runner-up for good, with probability
/// `certainty`.
#[derive(Clone, Debug)]
pub(super) struct AdaptiveConsistency {
    settings: AdaptiveSettings,
    counts: ClassCounts,
    done: bool,
}

impl AdaptiveConsistency {
    pub(super) fn new(settings: AdaptiveSettings) -> Self {
        Self {
            settings,
            counts: ClassCounts::default(),
            done: false,
        }
    }
}

impl WholeTraces for AdaptiveConsistency {
    fn finished(&mut self, pool: &mut TracePool, outcome: &TraceOutcome<'_>) -> Next {
        if !self.done
            && pool.enter(outcome)
            && let Some(class) = pool.vote_of(outcome)
        {
            self.counts.add(class);
            let (first, second) = self.counts.top_two();
            self.done = stays_ahead(first, second) >= self.settings.certainty;
        }
        if self.done { Next::Done } else { Next::Wait }
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        pool.decide(VoteKind::Majority, None, 1, false)
    }
}
