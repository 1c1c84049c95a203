//! How a set of problems shares a batch, and what it will cost at most.

use super::{Prepared, Solver};
use crate::engine::memory::MemoryPlan;
use crate::run::Slots;
use crate::source::Capacity;

/// Rows that keep the machine busy. More read the weights no more cheaply, and their states no longer fit its
/// cache.
const BUSY_ROWS: usize = 64;
/// Problems of which a few last traces run beside those that fill the batch.
const ENDING: usize = 3;

/// How a set of problems shares a batch, and what it will cost at most.
#[derive(Clone, Copy, Debug)]
pub struct BatchPlan {
    /// Traces that may be launched for a problem.
    pub traces: usize,
    /// Traces of a problem in flight at once.
    pub slots: Slots,
    /// Problems that are solved side by side.
    pub side_by_side: usize,
    /// Rows of the batch, or streams, that these fill at most.
    pub rows: usize,
    /// Bytes of those rows' states and keys and values, on this machine.
    pub memory: u64,
    /// Bytes of the weights, on this machine.
    pub weights: u64,
    /// Generated tokens of all problems, at most.
    pub tokens: u64,
    /// What the engine here starts with; nothing for remote engines.
    pub engine: Option<MemoryPlan>,
}

impl BatchPlan {
    /// On this machine room for the longest prompt and the longest trace; elsewhere as many problems side by
    /// side as keep the engines busy.
    pub(super) fn of(solver: &Solver, problems: &[Prepared]) -> Self {
        let longest = problems.iter().map(|p| p.prompt.ids.len()).max().unwrap_or(1);
        let max_tokens = problems.iter().map(|p| p.max_tokens).max().unwrap_or(1);
        match solver.source().capacity(longest, max_tokens) {
            Capacity::Batch { plan, weights } => Self::batch(solver, problems, plan, weights),
            Capacity::Streams(in_flight) => Self::streams(solver, problems, in_flight),
        }
    }

    fn batch(solver: &Solver, problems: &[Prepared], mut engine: MemoryPlan, weights: u64) -> Self {
        engine.busy = Some(BUSY_ROWS);
        let most = solver.most_slots().min(engine.max_batch).max(1);
        // of those that grow, few are as many as they can be
        let slots = solver.slots().first().clamp(1, most);
        let busy = BUSY_ROWS.div_ceil(slots) + ENDING;
        let side_by_side = (busy.min(engine.max_batch / slots) + 1).min(problems.len());
        let rows = (slots * side_by_side)
            .min(engine.max_batch)
            .min(engine.most_before(slots).saturating_add(slots))
            .max(most.min(engine.max_batch));
        Self {
            traces: solver.settings().traces,
            slots: solver.slots(),
            side_by_side,
            rows,
            // one trace runs however little was allowed, beyond the plan
            memory: (rows as u64 * engine.bytes_per_trace).min(engine.budget.max(engine.bytes_per_trace)),
            weights,
            tokens: tokens(problems, solver.settings(), most),
            engine: Some(engine),
        }
    }

    fn streams(solver: &Solver, problems: &[Prepared], in_flight: usize) -> Self {
        let (slots, most) = (solver.slots().first().max(1), solver.most_slots());
        let side_by_side = in_flight.div_ceil(slots).min(problems.len()).max(1);
        Self {
            traces: solver.settings().traces,
            slots: solver.slots(),
            side_by_side,
            rows: (most * side_by_side).min(in_flight),
            memory: 0,
            weights: 0,
            tokens: tokens(problems, solver.settings(), most),
            engine: None,
        }
    }
}

/// Tokens that all problems may generate.
fn tokens(problems: &[Prepared], settings: &super::Settings, slots: usize) -> u64 {
    let of = |p: &Prepared| {
        let all = (p.max_tokens as u64).saturating_mul(settings.traces as u64);
        settings
            .max_total_tokens
            .map_or(all, |most| most.saturating_add(slots as u64).min(all))
    };
    problems.iter().map(of).fold(0, u64::saturating_add)
}
