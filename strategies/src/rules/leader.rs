//! The leader of a vote whose traces weigh by how probable they are among the others, and how certain it is to stay
//! ahead.
//!
//! Weights say more than one vote each and also leave fewer traces to speak, and so does what traces have in
//! common: a share counts as much as the effective number of traces, `(sum w)^2 / sum w_i w_j r_ij`, gives it,
//! where `r_ij` is the part of their tokens that traces i and j share, from 0 to 1.

use statrs::function::beta::beta_reg;

use crate::interface::{Decision, PoolKind, TraceId};
use crate::scores::Statistic;
use crate::trace_pool::{DecisionRule, TracePool};
use crate::vote::{Tally, Voter};

/// Votes up to which certainty is looked at with every trace; beyond, with every [`SPARSE`]th part more.
const MANY: usize = 64;
const SPARSE: usize = 32;

/// The part of their tokens that two different traces share.
pub(super) type Kinship<'a> = &'a dyn Fn(TraceId, TraceId) -> f64;

#[derive(Clone, Debug)]
pub(super) struct Leader {
    statistic: Statistic,
    sharpness: f64,
    min_votes: usize,
    /// voters at which certainty is looked at next
    look_at: usize,
}

impl Leader {
    /// Weights are the exponential of `sharpness` times how far a trace's statistic lies above the mean of all, in
    /// standard deviations, once there are `min_votes` to compare.
    pub(super) fn new(statistic: Statistic, sharpness: f64, min_votes: usize) -> Self {
        Self {
            statistic,
            sharpness,
            min_votes,
            look_at: 1,
        }
    }

    /// All weigh 1 where there are too few to compare, where the statistic is not known or where it is the same for
    /// all; one that lacks it weighs 1.
    fn weights(&self, voters: &[Voter]) -> Vec<f64> {
        let values: Vec<Option<f64>> = voters.iter().map(|v| v.scores.get(self.statistic)).collect();
        let known: Vec<f64> = values.iter().flatten().copied().collect();
        let n = known.len() as f64;
        let mean = known.iter().sum::<f64>() / n;
        let deviation = (known.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        if known.len() < self.min_votes || !deviation.is_normal() {
            return vec![1.0; voters.len()];
        }
        let weight = |value: f64| (self.sharpness * (value - mean) / deviation).exp();
        values
            .into_iter()
            .map(|value| value.map_or(1.0, weight))
            .collect()
    }

    fn tally(&self, voters: &[Voter]) -> Option<(Tally, Vec<f64>)> {
        let weights = self.weights(voters);
        let ballots = voters.iter().zip(&weights).map(|(v, w)| (v.trace, v.class, *w));
        Some((Tally::count(ballots)?, weights))
    }

    /// The probability that the leader of the `voters` that there are stays ahead of the runner-up; 0 where it is not
    /// time to look. Without kinship no two traces share anything.
    pub(super) fn certainty(&mut self, pool: &TracePool, voters: usize, kinship: Option<Kinship<'_>>) -> f64 {
        if voters < self.look_at {
            return 0.0;
        }
        let step = if voters < MANY { 1 } else { voters / SPARSE };
        self.look_at = voters + step;
        let voters = pool.knowing(self.statistic).voters(PoolKind::Finished, None);
        let Some((tally, weights)) = self.tally(&voters) else {
            return 0.0;
        };
        let effective = effective_number(&voters, &weights, kinship);
        let first = tally.winner().share;
        let second = first - tally.margin();
        // P(Beta(first + 1, second + 1) > 1/2)
        beta_reg(effective * second + 1.0, effective * first + 1.0, 0.5)
    }

    /// The vote as it stands; `name` is what warnings call it.
    pub(super) fn decide(&self, pool: &TracePool, name: &str) -> Decision {
        let hold = |voters: &[Voter]| self.tally(voters).map(|(tally, _)| tally);
        pool.decide_by(&DecisionRule {
            filter: None,
            min_votes: 1,
            consensus: false,
            name,
            hold: &hold,
        })
    }
}

/// How many independent traces of equal weight would say as much.
fn effective_number(voters: &[Voter], weights: &[f64], kinship: Option<Kinship<'_>>) -> f64 {
    let sum: f64 = weights.iter().sum();
    let mut squares: f64 = weights.iter().map(|w| w * w).sum();
    if let Some(shared) = kinship {
        for (i, a) in voters.iter().enumerate() {
            for (j, b) in voters[..i].iter().enumerate() {
                squares += 2.0 * weights[i] * weights[j] * shared(a.trace, b.trace);
            }
        }
    }
    sum * sum / squares
}
