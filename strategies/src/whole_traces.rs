//! Strategies that look at traces as they end and never into one: what they share, and what is left for a
//! rule to say.

use crate::interface::{
    ClassId, Decision, Fork, Limits, Needs, Next, Step, Strategy, TokenScalars, TraceId, TraceOutcome,
    Watching,
};
use crate::trace_pool::{SETTLE_AFTER, TracePool};
use crate::value::Window;
use crate::vote::VoteKind;

/// The rule of a strategy that stops no trace. By default all K traces are launched at once and run to their
/// end, nothing but answers is read, and the leader of a plain majority is shown meanwhile.
pub(crate) trait WholeTraces: Clone + Send {
    /// The scalars it cannot do without.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Starts a problem; returns how many traces to launch first.
    fn begin(&mut self, limits: &Limits) -> usize {
        limits.traces
    }

    /// Called once for each trace that ended; it enters the trace into the pool.
    fn finished(&mut self, pool: &mut TracePool, outcome: &TraceOutcome<'_>) -> Next {
        pool.enter(outcome);
        Next::Wait
    }

    /// As [`Strategy::fork_of`].
    fn fork_of(&self, _trace: TraceId) -> Option<Fork> {
        None
    }

    /// As [`Strategy::fork_point`].
    fn fork_point(&self, _trace: TraceId, _tokens: usize) -> Option<usize> {
        None
    }

    /// As [`Strategy::shown`].
    fn shown(&self, _trace: TraceId) -> &[TraceId] {
        &[]
    }

    /// The answer as far as it is known, over a pool whose window is settled.
    fn decide(&self, pool: &TracePool) -> Decision;

    /// The vote whose leader is shown while traces run.
    fn leading_vote(&self) -> VoteKind {
        VoteKind::Majority
    }
}

/// A strategy that calls itself `name` and decides by a rule over whole traces; `window` and
/// `count_truncated` are those of its pool.
pub(crate) fn strategy(
    name: &str,
    rule: impl WholeTraces + 'static,
    window: Window,
    count_truncated: bool,
) -> Box<dyn Strategy> {
    let pool = TracePool::new(window, SETTLE_AFTER, count_truncated);
    Box::new(WholeTraceStrategy {
        name: name.to_owned(),
        fresh: (rule.clone(), pool.clone()),
        rule,
        pool,
    })
}

struct WholeTraceStrategy<R> {
    name: String,
    /// The rule and the pool before a problem began.
    fresh: (R, TracePool),
    rule: R,
    pool: TracePool,
}

impl<R: WholeTraces> Strategy for WholeTraceStrategy<R> {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs(&self) -> Needs {
        self.rule.needs()
    }

    fn begin(&mut self, limits: &Limits) -> usize {
        (self.rule, self.pool) = self.fresh.clone();
        self.rule.begin(limits)
    }

    fn fork_of(&self, trace: TraceId) -> Option<Fork> {
        self.rule.fork_of(trace)
    }

    fn fork_point(&self, trace: TraceId, tokens: usize) -> Option<usize> {
        self.rule.fork_point(trace, tokens)
    }

    fn shown(&self, trace: TraceId) -> &[TraceId] {
        self.rule.shown(trace)
    }

    fn watching(&self, _: TraceId) -> Watching {
        Watching::Nothing
    }

    fn observe(&mut self, _: TraceId, _: &TokenScalars) -> Step {
        Step::Continue
    }

    fn finished(&mut self, outcome: &TraceOutcome<'_>) -> Next {
        self.rule.finished(&mut self.pool, outcome)
    }

    fn decide(&self) -> Decision {
        self.rule.decide(&self.pool.settled())
    }

    fn leading(&self) -> Option<(ClassId, f64)> {
        self.pool.leading(self.rule.leading_vote(), None)
    }

    fn window(&self) -> Option<usize> {
        self.pool.window()
    }
}
