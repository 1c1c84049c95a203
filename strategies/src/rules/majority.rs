//! Majority over complete traces: "Self-Consistency" (arXiv 2203.11171).

use crate::interface::Decision;
use crate::trace_pool::TracePool;
use crate::vote::VoteKind;
use crate::whole_traces::WholeTraces;

/// Runs all K traces to their end; the class with the most traces wins. Nothing is stopped.
#[derive(Clone, Debug)]
pub(super) struct Majority;

impl WholeTraces for Majority {
    fn decide(&self, pool: &TracePool) -> Decision {
        pool.decide(VoteKind::Majority, None, 1, false)
    }
}
