//! Borda voting by self-certainty: "Scalable Best-of-N Selection via Self-Certainty" (arXiv 2502.18581),
//! section 4.

use super::BordaSettings;
use crate::interface::{Decision, Needs};
use crate::trace_pool::{DecisionRule, TracePool};
use crate::vote::{Tally, Voter};
use crate::whole_traces::WholeTraces;

/// Borda voting: the trace of rank r among the N with an answer weighs
/// `(N - r + 1)^p`.
#[derive(Clone, Debug)]
pub(super) struct Borda(pub(super) BordaSettings);

impl WholeTraces for Borda {
    fn needs(&self) -> Needs {
        Needs::of(self.0.statistic)
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        let (statistic, power) = (self.0.statistic, self.0.power);
        let hold = |voters: &[Voter]| {
            let mut ranked: Vec<(f64, &Voter)> = voters
                .iter()
                .filter_map(|v| Some((v.scores.get(statistic)?, v)))
                .collect();
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.trace.cmp(&b.1.trace)));
            let n = ranked.len();
            let ballots = ranked
                .iter()
                .enumerate()
                .map(|(i, (_, v))| (v.trace, v.class, ((n - i) as f64).powf(power)));
            let mut tally = Tally::count(ballots)?;
            tally.abstained = voters.len() - n;
            Some(tally)
        };
        pool.decide_by(&DecisionRule {
            filter: None,
            min_votes: 1,
            consensus: false,
            name: "borda",
            hold: &hold,
        })
    }
}
