//! The leader of a vote whose traces weigh by how probable they are among the others, and how certain it is to stay
//! ahead.
//!
//! Weights say more than one vote each and also leave fewer traces to speak, and so does what traces have in
//! common: a share counts as much as the effective number of traces, `(sum w)^2 / sum w_i w_j r_ij`, gives it,
//! where `r_ij` is the part of their tokens that traces i and j share, from 0 to 1.

use statrs::function::beta::beta_reg;

use crate::interface::{Decision, PoolKind, TraceId};
use crate::scores::Statistic;
use crate::trace_pool::{DecisionRule, Filter, TracePool};
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
    /// time to look. With a filter those that pass it vote alone; without kinship no two traces share anything.
    pub(super) fn certainty(
        &mut self,
        pool: &TracePool,
        voters: usize,
        filter: Option<Filter>,
        kinship: Option<Kinship<'_>>,
    ) -> f64 {
        if voters < self.look_at {
            return 0.0;
        }
        let step = if voters < MANY { 1 } else { voters / SPARSE };
        self.look_at = voters + step;
        let voters = voters_of(&pool.knowing(self.statistic), filter);
        let Some((tally, weights)) = self.tally(&voters) else {
            return 0.0;
        };
        let effective = effective_number(&voters, &weights, kinship);
        let first = tally.winner().share;
        let second = first - tally.margin();
        // P(Beta(first + 1, second + 1) > 1/2)
        beta_reg(effective * second + 1.0, effective * first + 1.0, 0.5)
    }

    /// `n` of the traces that voted: the heaviest of each answer, the leader's first, and then the heaviest of all. In
    /// ascending order, which says nothing of their weight.
    pub(super) fn spokesmen(&self, pool: &TracePool, n: usize) -> Vec<TraceId> {
        let voters = voters_of(&pool.knowing(self.statistic), None);
        let Some((tally, weights)) = self.tally(&voters) else {
            return Vec::new();
        };
        let mut ranked: Vec<(&Voter, f64)> = voters.iter().zip(weights).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.trace.cmp(&b.0.trace)));
        let of_class = |class| {
            ranked
                .iter()
                .find(|(v, _)| v.class == class)
                .map(|(v, _)| v.trace)
        };
        let first = tally.ballots.iter().filter_map(|ballot| of_class(ballot.class));
        let mut chosen: Vec<TraceId> = Vec::new();
        for trace in first.chain(ranked.iter().map(|(v, _)| v.trace)) {
            if chosen.len() < n && !chosen.contains(&trace) {
                chosen.push(trace);
            }
        }
        chosen.sort_unstable();
        chosen
    }

    /// The vote as it stands, of those alone that pass the filter where there is one; `name` is what warnings call it.
    pub(super) fn decide(&self, pool: &TracePool, filter: Option<Filter>, name: &str) -> Decision {
        let hold = |voters: &[Voter]| self.tally(voters).map(|(tally, _)| tally);
        pool.decide_by(&DecisionRule {
            filter,
            min_votes: 1,
            consensus: false,
            name,
            hold: &hold,
        })
    }
}

fn voters_of(pool: &TracePool, filter: Option<Filter>) -> Vec<Voter> {
    let kind = match filter {
        Some(_) => PoolKind::Filtered,
        None => PoolKind::Finished,
    };
    pool.voters(kind, filter)
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
