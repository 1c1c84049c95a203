//! CGES: "Confidence-Guided Early Stopping for Efficient and Accurate Self-Consistency" (arXiv 2511.02603),
//! algorithm 1.

use super::CgesSettings;
use crate::interface::{ClassId, Decision, Needs, Next, TraceOutcome};
use crate::trace_pool::{DecisionRule, TracePool};
use crate::vote::{Tally, Voter};
use crate::whole_traces::WholeTraces;

/// The confidence of a trace is held between this and 1 less this: a certainty of 0 or 1 would silence all
/// others.
const LEAST: f64 = 0.01;

/// The posterior of each class and, last, of an answer that nobody has given yet.
///
/// `classes` holds, for each class seen, its number of traces and the sum of their log-odds `ln c - ln(1 -
/// c)`. With K hypotheses (the classes and the unseen answer) a trace of confidence c is evidence c for its
/// own class and `(1 - c)/(K - 1)` for each other one, under a flat prior. In proportion: `exp(sum of
/// log-odds + n ln(K - 1))` for a class of n traces, 1 for the unseen answer.
fn posterior(classes: &[(usize, f64)]) -> Vec<f64> {
    let others = (classes.len() as f64).ln();
    let mut logs: Vec<f64> = classes
        .iter()
        .map(|&(n, odds)| odds + n as f64 * others)
        .collect();
    logs.push(0.0);
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logs.iter().map(|l| (l - most).exp()).sum();
    logs.iter().map(|l| (l - most).exp() / total).collect()
}

/// The confidence in a trace: the geometric mean of its tokens' probabilities.
fn confidence(mean_logprob: f64) -> f64 {
    mean_logprob.exp().clamp(LEAST, 1.0 - LEAST)
}

fn log_odds(c: f64) -> f64 {
    c.ln() - (-c).ln_1p()
}

/// Traces run until the posterior of one answer reaches `certainty`; that answer wins.
///
/// Beyond the paper: at least `min_votes` traces with an answer before that, since a single sure trace would
/// be enough.
#[derive(Clone, Debug)]
pub(super) struct Cges {
    settings: CgesSettings,
    /// Classes in order of appearance: number of traces, sum of their log-odds.
    classes: Vec<(ClassId, usize, f64)>,
    done: bool,
}

impl Cges {
    pub(super) fn new(settings: CgesSettings) -> Self {
        Self {
            settings,
            classes: Vec::new(),
            done: false,
        }
    }

    fn is_certain(&self) -> bool {
        let classes: Vec<(usize, f64)> = self.classes.iter().map(|c| (c.1, c.2)).collect();
        let ballots: usize = classes.iter().map(|c| c.0).sum();
        let seen = &posterior(&classes)[..classes.len()];
        ballots >= self.settings.min_votes && seen.iter().any(|p| *p >= self.settings.certainty)
    }
}

impl WholeTraces for Cges {
    fn needs(&self) -> Needs {
        Needs {
            logprob: true,
            ..Needs::default()
        }
    }

    fn finished(&mut self, pool: &mut TracePool, outcome: &TraceOutcome<'_>) -> Next {
        if !self.done
            && pool.enter(outcome)
            && let Some(class) = pool.vote_of(outcome)
            && let Some(mean) = pool.scores(outcome.trace).and_then(|s| s.mean_logprob)
        {
            let odds = log_odds(confidence(mean));
            match self.classes.iter_mut().find(|c| c.0 == class) {
                Some(seen) => *seen = (class, seen.1 + 1, seen.2 + odds),
                None => self.classes.push((class, 1, odds)),
            }
            self.done = self.is_certain();
        }
        if self.done { Next::Done } else { Next::Wait }
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        let sure = |v: &Voter| v.scores.mean_logprob.map(confidence);
        let hold = |voters: &[Voter]| {
            let tally = Tally::count(voters.iter().filter_map(|v| Some((v.trace, v.class, sure(v)?))))?;
            let odds = |class| {
                let of_class = voters.iter().filter(|v| v.class == class);
                of_class.filter_map(sure).map(log_odds).sum::<f64>()
            };
            let classes: Vec<(usize, f64)> =
                tally.ballots.iter().map(|b| (b.traces, odds(b.class))).collect();
            let posterior = posterior(&classes);
            // A class weighs its posterior, shared out by confidence, so that its surest trace is the
            // heaviest.
            let share = |v: &Voter, c: f64| {
                let at = tally.ballots.iter().position(|b| b.class == v.class);
                at.map_or(0.0, |at| posterior[at] * c / tally.ballots[at].weight)
            };
            let weighed = voters
                .iter()
                .filter_map(|v| sure(v).map(|c| (v.trace, v.class, share(v, c))));
            let mut counted = Tally::count(weighed)?;
            counted.abstained = voters.len() - counted.voters();
            Some(counted)
        };
        let mut decision = pool.decide_by(&DecisionRule {
            filter: None,
            min_votes: 1,
            consensus: true,
            name: "cges",
            hold: &hold,
        });
        // What stops the run is the posterior, in which an answer that nobody gave has its share.
        if decision.consensus.is_some() {
            decision.consensus = Some(decision.ballots.first().map_or(0.0, |b| b.weight.min(1.0)));
        }
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_posterior_of_two_answers_by_hand() {
        // 0.8 for A and 0.6 for B, three hypotheses: 0.8 * 0.2, 0.1 * 0.6 and 0.1 * 0.2 in proportion.
        let p = posterior(&[(1, log_odds(0.8)), (1, log_odds(0.6))]);
        for (p, expected) in p.iter().zip([2.0 / 3.0, 1.0 / 4.0, 1.0 / 12.0]) {
            assert!((p - expected).abs() < 1e-12);
        }
        // Two for A: 0.8 * 0.7 against 0.2 * 0.3.
        let p = posterior(&[(2, log_odds(0.8) + log_odds(0.7))]);
        assert!((p[0] - 0.56 / 0.62).abs() < 1e-12);
        assert_eq!(posterior(&[]), [1.0], "nothing is seen yet");
        let many = posterior(&[(5000, 5000.0 * log_odds(0.99)), (4000, 4000.0 * log_odds(0.99))]);
        assert!(many.iter().all(|p| p.is_finite()) && many[0] > 0.999);
    }
}
