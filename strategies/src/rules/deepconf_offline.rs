//! Offline DeepConf: "Deep Think with Confidence" (arXiv 2508.15260), section 3.2, algorithm 1.

use super::{DeepConfOfflineSettings, keep_top_bar};
use crate::interface::{Decision, Needs, PoolKind};
use crate::trace_pool::{Filter, TracePool};
use crate::vote::VoteKind;
use crate::whole_traces::WholeTraces;

/// Offline DeepConf: K complete traces, the top share of those with an answer by one statistic, a weighted
/// vote.
#[derive(Clone, Debug)]
pub(super) struct DeepConfOffline(pub(super) DeepConfOfflineSettings);

impl DeepConfOffline {
    fn filter(&self, pool: &TracePool) -> Option<Filter> {
        let statistic = self.0.statistic;
        let voters = pool.voters(PoolKind::Finished, None);
        let values: Vec<f64> = voters.iter().filter_map(|v| v.scores.get(statistic)).collect();
        keep_top_bar(&values, self.0.keep_top).map(|bar| Filter::Bar { statistic, bar })
    }
}

impl WholeTraces for DeepConfOffline {
    fn needs(&self) -> Needs {
        Needs::of(self.0.statistic).and(Needs::of_vote(self.0.vote))
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        let mut decision = pool.decide(self.0.vote, self.filter(pool), self.0.min_votes, false);
        decision.warnings.extend(pool.window_warning());
        decision
    }

    fn leading_vote(&self) -> VoteKind {
        self.0.vote
    }
}
