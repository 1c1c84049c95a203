//! Adaptive: a few traces while a problem is undecided, votes by how probable their trace is among the others,
//! and an end as soon as the leader is certain.
//!
//! The stop is Adaptive-Consistency's (arXiv 2305.11860), with weighted votes in the place of counts as in ReASC
//! (arXiv 2601.02970): weights say more than one vote each and also leave fewer traces to speak, so a share counts
//! as much as the effective number of traces, `(sum w)^2 / sum w^2`, gives it. Traces beyond a dozen or two add
//! little to a vote, so their number has a limit of its own.

use statrs::function::beta::beta_reg;

use super::AdaptiveSettings;
use crate::interface::{Decision, Limits, Needs, Next, PoolKind, TraceOutcome};
use crate::trace_pool::{DecisionRule, TracePool};
use crate::vote::{Tally, Voter};
use crate::whole_traces::WholeTraces;

/// Votes up to which certainty is looked at with every trace; beyond, with every [`SPARSE`]th part more.
const MANY: usize = 64;
const SPARSE: usize = 32;

#[derive(Clone, Debug)]
pub(super) struct Adaptive {
    settings: AdaptiveSettings,
    /// voters at which certainty is looked at next
    look_at: usize,
    voters: usize,
    /// traces that may still be launched
    left: usize,
    done: bool,
}

impl Adaptive {
    pub(super) fn new(settings: AdaptiveSettings) -> Self {
        Self {
            settings,
            look_at: 1,
            voters: 0,
            left: 0,
            done: false,
        }
    }

    /// What each vote weighs: the exponential of how far its trace's statistic lies above the mean of all, in
    /// standard deviations. All weigh 1 where there are too few to compare, where the statistic is not known or
    /// where it is the same for all; one that lacks it weighs 1.
    fn weights(&self, voters: &[Voter]) -> Vec<f64> {
        let values: Vec<Option<f64>> = voters
            .iter()
            .map(|v| v.scores.get(self.settings.statistic))
            .collect();
        let known: Vec<f64> = values.iter().flatten().copied().collect();
        let n = known.len() as f64;
        let mean = known.iter().sum::<f64>() / n;
        let deviation = (known.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        if known.len() < self.settings.min_votes || !deviation.is_normal() {
            return vec![1.0; voters.len()];
        }
        let weight = |value: f64| (self.settings.sharpness * (value - mean) / deviation).exp();
        values
            .into_iter()
            .map(|value| value.map_or(1.0, weight))
            .collect()
    }

    fn tally(&self, voters: &[Voter]) -> Option<(Tally, f64)> {
        let weights = self.weights(voters);
        let (sum, squares) = (
            weights.iter().sum::<f64>(),
            weights.iter().map(|w| w * w).sum::<f64>(),
        );
        let ballots = voters.iter().zip(&weights).map(|(v, w)| (v.trace, v.class, *w));
        Some((Tally::count(ballots)?, sum * sum / squares))
    }

    /// The probability that the leader stays ahead of the runner-up.
    fn certainty(&self, voters: &[Voter]) -> f64 {
        let Some((tally, effective)) = self.tally(voters) else {
            return 0.0;
        };
        let first = tally.winner().share;
        let second = first - tally.margin();
        // P(Beta(first + 1, second + 1) > 1/2)
        beta_reg(effective * second + 1.0, effective * first + 1.0, 0.5)
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
        self.done = self.voters >= self.settings.most;
        if self.voters >= self.look_at {
            let voters = pool
                .knowing(self.settings.statistic)
                .voters(PoolKind::Finished, None);
            self.done |= self.certainty(&voters) >= self.settings.certainty;
            let step = if self.voters < MANY {
                1
            } else {
                self.voters / SPARSE
            };
            self.look_at = self.voters + step;
        }
        if self.done { Next::Done } else { Next::Wait }
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        let hold = |voters: &[Voter]| self.tally(voters).map(|(tally, _)| tally);
        pool.decide_by(&DecisionRule {
            filter: None,
            min_votes: 1,
            consensus: false,
            name: "adaptive",
            hold: &hold,
        })
    }
}
