//! Weighted votes over complete traces: "Self-Consistency" (arXiv 2203.11171, section 2, weighted sums) and
//! "Deep Think with Confidence" (arXiv 2508.15260, section 3.2, without the filter).

use super::WeightedSettings;
use crate::interface::{Decision, Needs};
use crate::trace_pool::TracePool;
use crate::whole_traces::WholeTraces;

/// Runs all K traces to their end; each votes with the weight that the named vote gives it. Nothing is
/// stopped or filtered.
#[derive(Clone, Debug)]
pub(super) struct Weighted(pub(super) WeightedSettings);

impl WholeTraces for Weighted {
    fn needs(&self) -> Needs {
        Needs::of_vote(self.0.vote)
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        let mut decision = pool.decide(self.0.vote, None, 1, false);
        decision.warnings.extend(pool.window_warning());
        decision
    }
}
