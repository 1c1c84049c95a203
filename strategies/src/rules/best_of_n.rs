//! Best of N by a trace score.

use super::BestOfNSettings;
use crate::interface::{Decision, Needs, PoolKind};
use crate::trace_pool::{DecisionRule, Filter, TracePool};
use crate::vote::{Tally, VoteKind, Voter};
use crate::whole_traces::WholeTraces;

/// Best of N: the answer of the one trace with the highest score.
#[derive(Clone, Debug)]
pub(super) struct BestOfN(pub(super) BestOfNSettings);

impl WholeTraces for BestOfN {
    fn needs(&self) -> Needs {
        Needs::of(self.0.statistic)
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        let statistic = self.0.statistic;
        let score = |v: &Voter| v.scores.get(statistic);
        let best = pool
            .voters(PoolKind::Finished, None)
            .iter()
            .filter_map(score)
            .reduce(f64::max);
        // A filter with the best score as its bar lets the best trace through, and those equal to it.
        let filter = best.map(|bar| Filter::Bar { statistic, bar });
        let hold = |voters: &[Voter]| {
            voters
                .iter()
                .any(|v| score(v).is_some())
                .then(|| Tally::hold(VoteKind::Majority, voters))
                .flatten()
        };
        pool.decide_by(&DecisionRule {
            filter,
            min_votes: 1,
            consensus: false,
            name: "best-of-n",
            hold: &hold,
        })
    }
}
