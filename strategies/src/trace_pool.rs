//! The pool of ended traces that the strategies share: what remains of each, which of them may vote, and the
//! decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::interface::{ClassId, Decision, Finish, PoolKind, TraceId, TraceOutcome};
use crate::measured::TraceStatistics;
use crate::scores::{Statistic, TokenSeries, TraceScores};
use crate::value::Window;
use crate::vote::{Tally, VoteKind, Voter};
use crate::windows::auto_window;

/// How many ended traces settle an automatic window where the strategy has no warm-up (the paper's N_init).
pub(crate) const SETTLE_AFTER: usize = 16;

#[derive(Clone, Debug)]
struct EndedTrace {
    finish: Finish,
    class: Option<ClassId>,
    tokens: usize,
    scores: TraceScores,
}

impl EndedTrace {
    /// Whether its length says how long traces of this problem are.
    fn has_length(&self) -> bool {
        self.finish.is_complete()
    }
}

/// Which traces the filtered pool holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Filter {
    /// Those whose statistic is at least the bar.
    Bar { statistic: Statistic, bar: f64 },
    /// Those from the first index to below the second.
    Range(TraceId, TraceId),
}

impl Filter {
    fn passes(&self, trace: TraceId, scores: &TraceScores) -> bool {
        match *self {
            Filter::Bar { statistic, bar } => scores.get(statistic).is_some_and(|s| s >= bar),
            Filter::Range(from, below) => (from..below).contains(&trace),
        }
    }

    fn bar(&self) -> Option<f64> {
        match *self {
            Filter::Bar { bar, .. } => Some(bar),
            Filter::Range(..) => None,
        }
    }
}

/// How a strategy decides over the pool.
pub(crate) struct DecisionRule<'a> {
    /// What the filtered pool holds; without a filter there is none.
    pub(crate) filter: Option<Filter>,
    /// The fewest ballots for a vote over the filtered pool alone.
    pub(crate) min_votes: usize,
    /// Whether the share of the winner is reported as the consensus reached.
    pub(crate) consensus: bool,
    /// The deciding vote's name in warnings.
    pub(crate) name: &'a str,
    /// The deciding vote; `None` when no voter has the numbers it needs.
    pub(crate) hold: &'a dyn Fn(&[Voter]) -> Option<Tally>,
}

/// What the statistics of a trace are taken from as soon as the window is settled.
#[derive(Clone, Debug)]
enum PendingScores {
    Tokens {
        confidences: Vec<f32>,
        entropies: Vec<f32>,
    },
    Statistics(Arc<TraceStatistics>),
}

impl PendingScores {
    /// Adds the statistics that had to wait for the window.
    fn windowed(&self, scores: TraceScores, window: Option<usize>) -> TraceScores {
        let waited = match self {
            PendingScores::Tokens {
                confidences,
                entropies,
            } => {
                let series = TokenSeries {
                    confidences,
                    logprobs: &[],
                    entropies,
                };
                TraceScores::new(&series, None, window)
            }
            PendingScores::Statistics(m) => m.scores(window),
        };
        TraceScores {
            sequence_logprob: scores.sequence_logprob,
            mean_logprob: scores.mean_logprob,
            self_certainty: scores.self_certainty,
            ..waited
        }
    }
}

/// Every ended trace of a problem, by index.
///
/// Confidences are kept only until the window is settled, that is for the first `settle_after` traces that
/// ended by themselves or were cut off; each is then reduced to its [`TraceScores`].
#[derive(Clone, Debug)]
pub(crate) struct TracePool {
    count_truncated: bool,
    settle_after: usize,
    fixed: Option<usize>,
    window: Option<usize>,
    entries: BTreeMap<TraceId, EndedTrace>,
    waiting: BTreeMap<TraceId, PendingScores>,
    /// Of the traces that settled the window: how many there were, and how many filled it.
    filled: Option<(usize, usize)>,
    /// how many traces have a length
    with_length: usize,
}

/// How the warning begins that too few traces passed a filter.
pub(crate) const FILTERED: &str = "traces that passed the confidence filter:";

impl TracePool {
    pub(crate) fn new(window: Window, settle_after: usize, count_truncated: bool) -> Self {
        let fixed = match window {
            Window::Auto => None,
            Window::Fixed(n) => Some(n),
        };
        Self {
            count_truncated,
            settle_after,
            fixed,
            window: fixed,
            entries: BTreeMap::new(),
            waiting: BTreeMap::new(),
            filled: None,
            with_length: 0,
        }
    }

    /// Enters an ended trace; false when it was entered before.
    pub(crate) fn enter(&mut self, o: &TraceOutcome<'_>) -> bool {
        if self.entries.contains_key(&o.trace) {
            return false;
        }
        // What failed or was cancelled never votes and tells nothing: no scores, no answer.
        let counts = !matches!(o.finish, Finish::Failed | Finish::Cancelled);
        let scores = if counts {
            o.scores(self.window)
        } else {
            TraceScores::default()
        };
        if counts && self.window.is_none() {
            let waiting = match o.measured {
                Some(measured) => PendingScores::Statistics(measured.clone()),
                None => PendingScores::Tokens {
                    confidences: o.confidences.to_vec(),
                    entropies: o.entropies.to_vec(),
                },
            };
            self.waiting.insert(o.trace, waiting);
        }
        let class = o.class.filter(|_| counts);
        self.entries.insert(
            o.trace,
            EndedTrace {
                finish: o.finish,
                class,
                tokens: o.tokens,
                scores,
            },
        );
        self.with_length += usize::from(o.finish.is_complete());
        if self.filled.is_none() && self.with_length >= self.settle_after {
            self.settle();
        }
        true
    }

    /// The class an entered trace votes for as a finished one, if it does.
    pub(crate) fn vote_of(&self, o: &TraceOutcome<'_>) -> Option<ClassId> {
        o.class.filter(|_| self.may_vote(o.finish, PoolKind::Finished))
    }

    /// The scores of an ended trace.
    pub(crate) fn scores(&self, trace: TraceId) -> Option<&TraceScores> {
        self.entries.get(&trace).map(|e| &e.scores)
    }

    /// Settles the window by the traces ended so far; without any that has a length it stays open.
    pub(crate) fn settle(&mut self) {
        let lengths = self.lengths();
        if self.filled.is_some() || lengths.is_empty() {
            return;
        }
        self.window = self.fixed.or_else(|| auto_window(&lengths));
        self.filled = self
            .window
            .map(|w| (lengths.len(), lengths.iter().filter(|&&l| l >= w).count()));
        for (trace, waiting) in std::mem::take(&mut self.waiting) {
            if let Some(e) = self.entries.get_mut(&trace) {
                e.scores = waiting.windowed(e.scores, self.window);
            }
        }
    }

    pub(crate) fn window(&self) -> Option<usize> {
        self.window
    }

    fn lengths(&self) -> Vec<usize> {
        self.entries
            .values()
            .filter(|e| e.has_length())
            .map(|e| e.tokens)
            .collect()
    }

    /// The statistic of every trace that has it and neither failed nor was stopped.
    pub(crate) fn values(&self, statistic: Statistic) -> Vec<f64> {
        let ended = self.entries.values().filter(|e| e.has_length());
        ended.filter_map(|e| e.scores.get(statistic)).collect()
    }

    fn may_vote(&self, finish: Finish, pool: PoolKind) -> bool {
        match finish {
            Finish::Stop => true,
            Finish::Length | Finish::Loop => self.count_truncated || pool == PoolKind::Any,
            // A stopped trace has no answer but that of its unfinished text, which a recording of the
            // complete trace could not give back: it never votes.
            Finish::LowConfidence | Finish::Cancelled | Finish::Failed => false,
        }
    }

    /// The voters of a pool in trace order; `filter` applies to [`PoolKind::Filtered`] alone.
    pub(crate) fn voters(&self, pool: PoolKind, filter: Option<Filter>) -> Vec<Voter> {
        let filter = filter.filter(|_| pool == PoolKind::Filtered);
        let votes = |(&trace, e): (&TraceId, &EndedTrace)| {
            let passes = self.may_vote(e.finish, pool) && filter.is_none_or(|f| f.passes(trace, &e.scores));
            e.class.filter(|_| passes).map(|class| Voter {
                trace,
                class,
                scores: e.scores,
            })
        };
        match filter {
            Some(Filter::Range(from, below)) => self
                .entries
                .range(from..below.max(from))
                .filter_map(votes)
                .collect(),
            _ => self.entries.iter().filter_map(votes).collect(),
        }
    }

    /// The trace as a voter of the filtered pool, if it is one.
    pub(crate) fn voter(&self, trace: TraceId, filter: Option<Filter>) -> Option<Voter> {
        let ended = self.entries.get(&trace)?;
        let passes = self.may_vote(ended.finish, PoolKind::Filtered)
            && filter.is_none_or(|f| f.passes(trace, &ended.scores));
        ended.class.filter(|_| passes).map(|class| Voter {
            trace,
            class,
            scores: ended.scores,
        })
    }

    /// The class ahead among the traces that pass the filter, else among all finished ones, and its share.
    /// While the window is open: by majority.
    pub(crate) fn leading(&self, vote: VoteKind, filter: Option<Filter>) -> Option<(ClassId, f64)> {
        let vote = if self.window.is_some() {
            vote
        } else {
            VoteKind::Majority
        };
        let filtered = filter.and_then(|_| Tally::hold(vote, &self.voters(PoolKind::Filtered, filter)));
        let winner = filtered
            .or_else(|| Tally::hold(vote, &self.voters(PoolKind::Finished, None)))?
            .winner();
        Some((winner.class, winner.share))
    }

    /// A pool in which the window is settled, by the traces ended so far if need be: for a decision at any
    /// time.
    pub(crate) fn settled(&self) -> std::borrow::Cow<'_, TracePool> {
        if self.filled.is_some() {
            return std::borrow::Cow::Borrowed(self);
        }
        let mut pool = self.clone();
        pool.settle();
        std::borrow::Cow::Owned(pool)
    }

    /// A pool in which this statistic of all traces is known.
    pub(crate) fn knowing(&self, statistic: Statistic) -> std::borrow::Cow<'_, TracePool> {
        if statistic.has_window() {
            self.settled()
        } else {
            std::borrow::Cow::Borrowed(self)
        }
    }

    /// Decides by a named vote, see [`TracePool::decide_by`].
    pub(crate) fn decide(
        &self,
        vote: VoteKind,
        filter: Option<Filter>,
        min_votes: usize,
        consensus: bool,
    ) -> Decision {
        let hold = |voters: &[Voter]| Tally::hold(vote, voters);
        self.decide_by(&DecisionRule {
            filter,
            min_votes,
            consensus,
            name: vote.name(),
            hold: &hold,
        })
    }

    /// Decides over the best pool: the filtered one if it holds `min_votes` ballots, else all finished
    /// traces, else any with an answer.
    pub(crate) fn decide_by(&self, rule: &DecisionRule<'_>) -> Decision {
        let mut warnings = Vec::new();
        let (pool, voters) = self.best_pool(rule, &mut warnings);
        let tally = (rule.hold)(&voters).or_else(|| {
            let majority = Tally::hold(VoteKind::Majority, &voters)?;
            warnings.push(format!(
                "no trace has the numbers that the {} vote needs: decided by majority",
                rule.name
            ));
            Some(majority)
        });
        if let Some(silent) = tally.as_ref().map(|t| t.abstained).filter(|&n| n > 0) {
            let of = voters.len();
            warnings.push(format!(
                "{silent} of {of} traces lack what the {} vote needs and abstain",
                rule.name
            ));
        }
        let share = tally.as_ref().map_or(0.0, |t| t.winner().share);
        let held = |kind| (kind, Tally::hold(kind, &voters).map(|t| t.winner()));
        Decision {
            answer: tally.as_ref().map(|t| t.winner().class),
            winner_trace: tally.as_ref().map(|t| t.winner_trace),
            votes: VoteKind::REPORTED.iter().copied().map(held).collect(),
            margin: tally.as_ref().map_or(0.0, Tally::margin),
            ballots: tally.map_or_else(Vec::new, |t| t.ballots),
            pool,
            threshold: rule.filter.and_then(|f| f.bar()),
            window: self.window,
            consensus: rule.consensus.then_some(share),
            warnings,
        }
    }

    /// The traces that vote, and a word when they are not the ones that should.
    fn best_pool(&self, rule: &DecisionRule<'_>, warnings: &mut Vec<String>) -> (PoolKind, Vec<Voter>) {
        let filtered = rule.filter.map(|_| self.voters(PoolKind::Filtered, rule.filter));
        let passed = filtered.as_ref().map(Vec::len);
        if let Some(voters) = filtered.filter(|v| v.len() >= rule.min_votes.max(1)) {
            return (PoolKind::Filtered, voters);
        }
        let finished = self.voters(PoolKind::Finished, None);
        let any = self.voters(PoolKind::Any, None);
        let (pool, voters, whom) = if !finished.is_empty() {
            (PoolKind::Finished, finished, "all finished traces vote")
        } else if !any.is_empty() {
            (PoolKind::Any, any, "cut-off traces vote")
        } else {
            warnings.push("no trace gave an answer".to_owned());
            return (PoolKind::None, Vec::new());
        };
        match passed {
            Some(passed) => warnings.push(format!(
                "{FILTERED} {passed}, and at least {} are needed (min_votes): {whom}",
                rule.min_votes
            )),
            None if pool == PoolKind::Any => {
                warnings.push(format!("no finished trace gave an answer; {whom}"))
            }
            None => {}
        }
        (pool, voters)
    }

    /// Generated tokens of an ended trace.
    pub(crate) fn tokens(&self, trace: TraceId) -> usize {
        self.entries.get(&trace).map_or(0, |e| e.tokens)
    }

    /// A sentence when fewer than half of the traces that settled the window are long enough to fill it.
    pub(crate) fn window_warning(&self) -> Option<String> {
        let (window, (ended, filled)) = (self.window?, self.filled?);
        (filled * 2 < ended).then(|| {
            format!(
                "window {window} is too long for these traces: {filled} of the first {ended} fill it, the \
                 others cannot be stopped and are weighed by their mean; use a smaller window{}",
                if self.fixed.is_some() { " or \"auto\"" } else { "" }
            )
        })
    }
}
