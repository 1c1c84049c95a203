//! What a strategy is told and what it answers: the one interface between a run and its decisions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::measured::TraceStatistics;
use crate::scores::{Statistic, TokenSeries, TraceScores};
use crate::vote::VoteKind;

/// Index of a trace within its problem, counted from 0 in the order of launching.
pub type TraceId = u32;

/// Where a trace begins that goes on from another one instead of from the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The trace that it goes on from; it was launched before.
    pub trace: TraceId,
    /// How many of that trace's tokens it takes over: at least 1, and fewer than a trace has that has ended.
    pub tokens: usize,
}

/// Opaque equivalence class of an answer. Two traces that answer `0.5` and `1/2` carry the same class; a
/// strategy never sees the text. The number has no meaning beyond identity: no tie is ever broken by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClassId(pub u32);

/// What a strategy may read about one generated token.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct TokenScalars {
    /// Token confidence C in nats: `logsumexp(z) - mean(20 largest z)` over the raw logits the token was
    /// drawn from.
    pub confidence: f32,
    /// Natural logarithm of the probability the model gave to the sampled token.
    pub logprob: f32,
}

/// The scalars a strategy cannot do without; compared with what the backend offers before a token is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Needs {
    /// The confidence of every token.
    pub confidence: bool,
    /// Per-token log-probability of the sampled token.
    pub logprob: bool,
    /// Self-certainty, one number for a whole trace.
    pub self_certainty: bool,
    /// The entropy of every token's likeliest ids.
    #[serde(default)]
    pub entropy: bool,
    /// Traces that go on from the middle of others.
    #[serde(default)]
    pub forks: bool,
    /// Traces after a second prompt, which shows what others came to.
    #[serde(default)]
    pub looks: bool,
}

impl Needs {
    /// Everything there is: what a backend offers that leaves nothing out.
    pub const ALL: Self = Self {
        confidence: true,
        logprob: true,
        self_certainty: true,
        entropy: true,
        forks: true,
        looks: true,
    };

    /// Whether traces are made for it that no other strategy can use, from those that came before.
    pub fn makes_traces(self) -> bool {
        self.forks || self.looks
    }

    /// What a statistic is made of.
    pub fn of(statistic: Statistic) -> Self {
        Self {
            confidence: statistic.of_confidence(),
            logprob: matches!(statistic, Statistic::SequenceLogprob | Statistic::MeanLogprob),
            self_certainty: statistic == Statistic::SelfCertainty,
            entropy: statistic == Statistic::TailEntropy,
            forks: false,
            looks: false,
        }
    }

    /// What a vote weighs ballots by; nothing where one trace is one vote.
    pub fn of_vote(vote: VoteKind) -> Self {
        vote.statistic().map_or_else(Self::default, Self::of)
    }

    /// What either of the two needs.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            confidence: self.confidence || other.confidence,
            logprob: self.logprob || other.logprob,
            self_certainty: self.self_certainty || other.self_certainty,
            entropy: self.entropy || other.entropy,
            forks: self.forks || other.forks,
            looks: self.looks || other.looks,
        }
    }
}

/// The bounds of one problem's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Budget K: the number of traces that may be launched in all.
    pub traces: usize,
    /// How many traces of the problem are in flight at once.
    pub slots: usize,
    /// Longest trace in generated tokens.
    pub max_tokens: usize,
}

/// The answer to one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The trace goes on.
    Continue,
    /// The trace ends here, this token kept and counted (finish [`Finish::LowConfidence`]).
    Stop,
}

/// The answer to one ended trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next {
    /// The traces in flight go on, and none is launched.
    Wait,
    /// Launch this many more traces; those beyond the free slots wait for one.
    Launch(usize),
    /// The problem is decided: cancel what is in flight and launch nothing more.
    Done,
}

/// Why a trace ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// By itself: a stop id or a stop text.
    Stop,
    /// At the token limit.
    Length,
    /// Ended for repeating one exact cycle.
    Loop,
    /// Stopped by the strategy in [`Strategy::observe`].
    LowConfidence,
    /// Cancelled because the problem was decided or interrupted.
    Cancelled,
    /// Its numbers were not numbers, or its backend gave up.
    Failed,
}

impl Finish {
    /// Whether the trace ended by itself (stop id, token limit, loop) and not because it failed, or because a
    /// strategy, a decision or a user ended it. Every run of the same settings ends such a trace at the same
    /// token, so its length and its answer may be counted, recorded and replayed.
    pub fn is_complete(self) -> bool {
        matches!(self, Finish::Stop | Finish::Length | Finish::Loop)
    }

    /// The book a trace's tokens go into. Only a warm-up that ended by itself counts as [`Fate::Warmup`].
    pub fn fate(self, warmup: bool) -> Fate {
        match self {
            Finish::Stop if warmup => Fate::Warmup,
            Finish::Stop => Fate::Finished,
            Finish::Length | Finish::Loop => Fate::Truncated,
            Finish::LowConfidence => Fate::Stopped,
            Finish::Cancelled => Fate::Cancelled,
            Finish::Failed => Fate::Failed,
        }
    }
}

/// The one book in which all tokens of a trace are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// A warm-up that ended by itself.
    Warmup,
    /// Ended by itself after the warm-up.
    Finished,
    /// Stopped by the strategy.
    Stopped,
    /// In flight when the problem was decided.
    Cancelled,
    /// EarlyEnd off: token limit or loop.
    Truncated,
    /// Failed: the logits were not numbers, or the source of the tokens gave up.
    Failed,
}

/// A trace that ended, as the strategy sees it. The slices may be empty when the source of traces has no such
/// numbers.
#[derive(Clone, Copy, Debug)]
pub struct TraceOutcome<'a> {
    /// Index of the trace that ended.
    pub trace: TraceId,
    /// Why the trace ended.
    pub finish: Finish,
    /// Generated tokens, prompt excluded.
    pub tokens: usize,
    /// Class of its answer; `None` when it has none. For a trace that was cut short this is what its text so
    /// far says.
    pub class: Option<ClassId>,
    /// `[tokens]` confidences, or empty.
    pub confidences: &'a [f32],
    /// `[tokens]` log-probabilities of the sampled tokens, or empty.
    pub logprobs: &'a [f32],
    /// `[tokens]` entropies in nats of each token's 20 likeliest ids, whose probabilities are taken to sum to
    /// 1, or empty.
    pub entropies: &'a [f32],
    /// Mean over tokens of `-(1/V) sum_j log p_j - log V`, if measured.
    pub self_certainty: Option<f64>,
    /// Its statistics where a replay knows these instead of the tokens.
    pub measured: Option<&'a Arc<TraceStatistics>>,
}

impl TraceOutcome<'_> {
    /// The trace's statistics for a group size; without one those that need it are left out.
    pub fn scores(&self, window: Option<usize>) -> TraceScores {
        match self.measured {
            Some(measured) => measured.scores(window),
            None => TraceScores::new(&self.series(), self.self_certainty, window),
        }
    }

    /// The numbers of its tokens.
    pub fn series(&self) -> TokenSeries<'_> {
        TokenSeries {
            confidences: self.confidences,
            logprobs: self.logprobs,
            entropies: self.entropies,
        }
    }
}

/// What [`Strategy::observe`] would answer to the next tokens of a trace, as long as no trace ends: a replay
/// passes over tokens to which the answer is known.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Watching {
    /// That is not known: each token must be shown.
    EveryToken,
    /// It goes on, whatever they are.
    Nothing,
    /// It stops as soon as the mean confidence of the last `window` tokens is below `bar`; the window starts
    /// to fill with the trace's first token.
    Below {
        /// Group size in tokens.
        window: usize,
        /// The bar in nats.
        bar: f64,
    },
}

/// Decides how many traces run, when one stops, when all stop, and which answer wins.
///
/// A strategy is synchronous and deterministic: no clock, no randomness, no input or output. It is driven in
/// lockstep: the tokens of one tick come in ascending trace index, a trace's last token is observed before
/// [`Strategy::finished`] is called for it, and a trace launched after one tick has its first token in the
/// next.
pub trait Strategy: Send {
    /// The preset's name, for results.
    fn name(&self) -> &str;

    /// The scalars it cannot do without.
    fn needs(&self) -> Needs;

    /// Starts a problem, forgetting any earlier one, and returns how many traces to launch now (at most
    /// `limits.traces`, at least 1 when that is; it may exceed `limits.slots`, the rest then waits for a free
    /// slot).
    fn begin(&mut self, limits: &Limits) -> usize;

    /// Whether the trace belongs to the warm-up, see [`Finish::fate`].
    fn is_warmup(&self, _trace: TraceId) -> bool {
        false
    }

    /// Where a trace begins; `None` for one that begins after the prompt. Asked once, when the trace takes its
    /// slot; a strategy that ever answers something says so in [`Needs::forks`].
    fn fork_of(&self, _trace: TraceId) -> Option<Fork> {
        None
    }

    /// The next number of a trace's tokens, above `tokens`, at which it is likely to be forked: where there is
    /// memory for it, the state is kept there. A fork elsewhere has to read tokens again, and comes to the same.
    fn fork_point(&self, _trace: TraceId, _tokens: usize) -> Option<usize> {
        None
    }

    /// The traces whose solutions a trace's prompt shows, in the order shown; none for one that is asked the problem
    /// alone. Traces of different prompts never run at the same time: those in flight end first. A strategy that ever
    /// answers something says so in [`Needs::looks`].
    fn shown(&self, _trace: TraceId) -> &[TraceId] {
        &[]
    }

    /// What [`Strategy::observe`] would answer to the trace's next tokens. Where that is known it need not be
    /// called for each of them.
    fn watching(&self, _trace: TraceId) -> Watching {
        Watching::EveryToken
    }

    /// Whether it looks at the numbers of every token from the first on, so that nothing less than these will do
    /// for a replay.
    fn reads_every_token(&self) -> bool {
        false
    }

    /// Called once for each token of each live trace, unless [`Strategy::watching`] knows the answer; not for
    /// those that a fork takes over. Allocates at most at a trace's first token.
    fn observe(&mut self, trace: TraceId, token: &TokenScalars) -> Step;

    /// Called once for each trace that ended, also those it stopped itself, but not for those cancelled by
    /// [`Next::Done`].
    fn finished(&mut self, outcome: &TraceOutcome<'_>) -> Next;

    /// The answer as far as it is known. May be called at any time and changes nothing.
    fn decide(&self) -> Decision;

    /// The leading class and its share of the vote, cheap enough for a progress display.
    fn leading(&self) -> Option<(ClassId, f64)> {
        None
    }

    /// Why it cannot go on, for a strategy that asks something outside of itself: the run ends with this
    /// sentence.
    fn failure(&self) -> Option<String> {
        None
    }

    /// The bar below which a trace stops, once it is known.
    fn threshold(&self) -> Option<f64> {
        None
    }

    /// Group size in tokens, once it is known.
    fn window(&self) -> Option<usize> {
        None
    }
}

/// Which traces the deciding vote ran over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolKind {
    /// The traces that ended by themselves and passed the strategy's filter.
    Filtered,
    /// All traces that ended by themselves with an answer.
    Finished,
    /// Also cut-off traces, since no other had an answer.
    Any,
    /// No trace had an answer.
    #[default]
    None,
}

impl PoolKind {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::Finished => "finished",
            Self::Any => "any",
            Self::None => "none",
        }
    }
}

/// The winner of one vote.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// The class of answers that won.
    pub class: ClassId,
    /// Its share of the weight of all ballots, in `[0, 1]`.
    pub share: f64,
}

/// One class in the deciding vote.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ballot {
    /// The class of answers that the weight is for.
    pub class: ClassId,
    /// Sum of the weights of its traces.
    pub weight: f64,
    /// Number of traces that answered so and took part.
    pub traces: usize,
}

/// What a strategy decided, and on what grounds.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Decision {
    /// The winning class; `None` where no trace had an answer.
    pub answer: Option<ClassId>,
    /// The heaviest trace of the winning class; of equally heavy ones the lowest index.
    pub winner_trace: Option<TraceId>,
    /// Every vote side by side, in the fixed order of [`VoteKind::REPORTED`], over the pool that decided.
    /// `None` where no trace of the pool has the statistic the vote needs.
    pub votes: Vec<(VoteKind, Option<Vote>)>,
    /// The classes of the deciding vote, heaviest first.
    pub ballots: Vec<Ballot>,
    /// Share of the winner minus share of the runner-up in the deciding vote.
    pub margin: f64,
    /// The traces that voted.
    pub pool: PoolKind,
    /// The bar of the filter, if one was set.
    pub threshold: Option<f64>,
    /// Group size in tokens that the statistics were taken with.
    pub window: Option<usize>,
    /// Share of the winner, for strategies that stop at a consensus and unless it is off.
    pub consensus: Option<f64>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
}
