//! RPC, reasoning-pruning perplexity consistency: "A Theoretical Study on Bridging Internal Probability and
//! Self-Consistency for LLM Reasoning" (arXiv 2510.15444; first as 2502.00511), section 4.
//!
//! A trace weighs what the model gave a token of it in the geometric mean, `p = exp(mean log-probability)`.
//! Traces that the model itself holds improbable are pruned first: a mixture of two Weibull distributions is
//! fitted to the weights, and a trace goes that more likely belongs to the lower one and lies below the mean.

use std::collections::BTreeSet;

use super::RpcSettings;
use crate::interface::{Decision, Needs};
use crate::scores::Statistic;
use crate::trace_pool::{DecisionRule, TracePool};
use crate::vote::{Tally, Voter};
use crate::whole_traces::WholeTraces;

/// A component's share of the mixture is held between this and 1 less this.
const LEAST_SHARE: f64 = 0.2;
/// Rounds of expectation and maximisation, at most.
const ROUNDS: usize = 200;
/// A gain in log-likelihood a value below which a fit is done.
const ENOUGH: f64 = 1e-7;
/// Shapes that are looked at: from all but exponential in a tail to a point.
const SHAPES: (f64, f64) = (0.05, 5000.0);

/// A Weibull distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Weibull {
    shape: f64,
    scale: f64,
}

impl Weibull {
    fn ln_density(self, ln_x: f64) -> f64 {
        let z = ln_x - self.scale.ln();
        self.shape.ln() - ln_x + self.shape * z - (self.shape * z).exp()
    }

    /// The likeliest for values of these logarithms and weights; `None` where all that weighs is one value.
    fn fit(ln_x: &[f64], weights: &[f64]) -> Option<Self> {
        let total: f64 = weights.iter().sum();
        let mean = dot(weights, ln_x) / total;
        let most = ln_x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // the derivative of the log-likelihood in the shape, whose sign changes once: sums are taken relative to
        // the largest value, so that no power of it overflows
        let slope = |shape: f64| {
            let (mut of, mut with) = (0.0, 0.0);
            for (ln_x, weight) in ln_x.iter().zip(weights) {
                let power = weight * (shape * (ln_x - most)).exp();
                (of, with) = (of + power, with + power * ln_x);
            }
            (with / of - mean - 1.0 / shape, of)
        };
        let (mut low, mut high) = SHAPES;
        if !total.is_normal() || slope(high).0 < 0.0 {
            return None;
        }
        for _ in 0..60 {
            let middle = (low * high).sqrt();
            if slope(middle).0 < 0.0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        let shape = (low * high).sqrt();
        let scale = (most + (slope(shape).1 / total).ln() / shape).exp();
        Some(Self { shape, scale }).filter(|w| w.scale.is_normal())
    }

    fn mean(self) -> f64 {
        self.scale * super::adaptive_consistency::ln_gamma(1.0 + 1.0 / self.shape).exp()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// For each value in `(0, 1]` the probability that it belongs to the lower of two Weibull distributions fitted
/// to all of them; `None` where two cannot be told apart.
fn low_component(values: &[f64]) -> Option<Vec<f64>> {
    let ln_x: Vec<f64> = values.iter().map(|v| v.ln()).collect();
    let mut order = values.to_vec();
    order.sort_by(f64::total_cmp);
    let median = order[order.len() / 2];
    let mut low: Vec<f64> = values
        .iter()
        .map(|v| if *v < median { 0.9 } else { 0.1 })
        .collect();
    let mut likelihood = f64::NEG_INFINITY;
    let mut fitted = None;
    for _ in 0..ROUNDS {
        let high: Vec<f64> = low.iter().map(|p| 1.0 - p).collect();
        let of = (Weibull::fit(&ln_x, &low)?, Weibull::fit(&ln_x, &high)?);
        let share = low.iter().sum::<f64>() / values.len() as f64;
        let share = share.clamp(LEAST_SHARE, 1.0 - LEAST_SHARE);
        let mut now = 0.0;
        for (p, ln_x) in low.iter_mut().zip(&ln_x) {
            let a = share.ln() + of.0.ln_density(*ln_x);
            let b = (1.0 - share).ln() + of.1.ln_density(*ln_x);
            let most = a.max(b);
            let both = (a - most).exp() + (b - most).exp();
            now += most + both.ln();
            *p = (a - most).exp() / both;
        }
        fitted = Some(of);
        // an impossible value leaves nothing to compare
        if !now.is_finite() || now - likelihood < ENOUGH * values.len() as f64 {
            break;
        }
        likelihood = now;
    }
    let (a, b) = fitted?;
    let swapped = a.mean() > b.mean();
    let lower = low.into_iter().map(|p| if swapped { 1.0 - p } else { p });
    Some(lower.collect::<Vec<_>>()).filter(|low| low.iter().all(|p| p.is_finite()))
}

/// Majority weighted by probability, after the improbable traces are pruned.
#[derive(Clone, Debug)]
pub(super) struct Rpc(pub(super) RpcSettings);

impl Rpc {
    fn hold(&self, pool: &TracePool, voters: &[Voter]) -> Option<Tally> {
        let weighed: Vec<(f64, &Voter)> = voters
            .iter()
            .filter_map(|v| Some((v.scores.mean_logprob?.exp(), v)))
            .filter(|(p, _)| *p > 0.0)
            .collect();
        let weights: Vec<f64> = weighed.iter().map(|(p, _)| *p).collect();
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let low = Some(&weights).filter(|w| w.len() >= self.0.min_votes.max(2));
        let low = low.and_then(|weights| low_component(weights));
        let mut seen = BTreeSet::new();
        let ballots = weighed.iter().enumerate().filter(|(i, (p, v))| {
            let pruned = low.as_ref().is_some_and(|low| low[*i] > 0.5) && *p < mean;
            // the same completion drawn twice is one
            let text = (
                pool.tokens(v.trace),
                v.scores.sequence_logprob.map(f64::to_bits),
                v.class,
            );
            !pruned && seen.insert(text)
        });
        let mut tally = Tally::count(ballots.map(|(_, (p, v))| (v.trace, v.class, *p)))?;
        tally.abstained = voters.len() - weighed.len();
        Some(tally)
    }
}

impl WholeTraces for Rpc {
    fn needs(&self) -> Needs {
        Needs::of(Statistic::MeanLogprob)
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        let hold = |voters: &[Voter]| self.hold(pool, voters);
        pool.decide_by(&DecisionRule {
            filter: None,
            min_votes: 1,
            consensus: false,
            name: "rpc",
            hold: &hold,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles of a Weibull distribution, evenly spread.
    fn drawn(w: Weibull, n: usize) -> Vec<f64> {
        let of = |i: usize| (i as f64 + 0.5) / n as f64;
        (0..n)
            .map(|i| w.scale * (-(1.0 - of(i)).ln()).powf(1.0 / w.shape))
            .collect()
    }

    #[test]
    fn a_distribution_is_found_again() {
        for (shape, scale) in [(0.7, 0.2), (3.0, 0.5), (40.0, 0.9)] {
            let values = drawn(Weibull { shape, scale }, 4000);
            let ln_x: Vec<f64> = values.iter().map(|v| v.ln()).collect();
            let found = Weibull::fit(&ln_x, &vec![1.0; values.len()]).unwrap();
            assert!(
                (found.shape / shape - 1.0).abs() < 0.01 && (found.scale / scale - 1.0).abs() < 0.01,
                "{found:?}"
            );
        }
        assert_eq!(
            Weibull::fit(&[-0.5; 9], &[1.0; 9]),
            None,
            "one value has no shape"
        );
    }

    #[test]
    fn two_that_lie_apart_are_told_apart() {
        let mut values = drawn(
            Weibull {
                shape: 12.0,
                scale: 0.5,
            },
            30,
        );
        let lower = values.len();
        values.extend(drawn(
            Weibull {
                shape: 30.0,
                scale: 0.9,
            },
            70,
        ));
        let low = low_component(&values).unwrap();
        let wrong = low
            .iter()
            .enumerate()
            .filter(|(i, p)| (*i < lower) != (**p > 0.5))
            .count();
        assert!(wrong <= 3, "{wrong} of {}", values.len());
        assert_eq!(low_component(&[0.7; 20]), None);
    }
}
