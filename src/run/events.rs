//! What a running problem tells whoever watches it.

use tts_strategies::{Finish, TraceId};

use super::FateCounts;

/// What a running problem tells its watchers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The prompt was read and the first traces run.
    Started {
        /// Name of the problem.
        problem: String,
        /// Traces in flight at once, at least 1.
        slots: usize,
        /// Tokens of the prompt.
        prompt_tokens: usize,
    },
    /// How far the problem is, some ten times a second.
    Progress(ProblemProgress),
    /// A trace ended, by itself or because it was stopped.
    TraceEnded {
        /// Name of the problem.
        problem: String,
        /// Index of the trace among the problem's, from 0.
        trace: TraceId,
        /// Why the trace ended.
        finish: Finish,
        /// Tokens that it generated, the one that ended it included.
        tokens: usize,
        /// Its answer as it wrote it; `None` where none was found.
        answer: Option<String>,
    },
    /// The confidences of every trace, where a caller asked for them.
    Details(Details),
    /// Something the user should know.
    Notice {
        /// Name of the problem.
        problem: String,
        /// A sentence for the user.
        text: String,
    },
    /// The problem is decided.
    Decided {
        /// Name of the problem.
        problem: String,
        /// The winning answer; `None` where none won.
        answer: Option<String>,
    },
}

/// A problem in flight.
#[derive(Clone, Debug)]
pub struct ProblemProgress {
    /// Name of the problem.
    pub problem: String,
    /// Traces that get a token in the next tick.
    pub live: usize,
    /// Ended traces by fate.
    pub traces: FateCounts,
    /// Traces that may be launched in all.
    pub budget: usize,
    /// Tokens of ended traces by fate.
    pub tokens: FateCounts,
    /// Tokens that the traces in flight have generated so far.
    pub live_tokens: u64,
    /// Ticks so far: one is one token for each live trace.
    pub ticks: u64,
    /// The leading answer and its share of the votes' weight, from 0 to 1.
    pub leading: Option<(String, f64)>,
    /// The confidence in nats below which traces are stopped, once known.
    pub threshold: Option<f64>,
    /// Tokens of a group whose mean confidence is compared with it, once known.
    pub window: Option<usize>,
}

/// What became of a problem's traces since the last time.
#[derive(Clone, Debug)]
pub struct Details {
    /// Name of the problem.
    pub problem: String,
    /// Tokens that the confidences are means of.
    pub window: usize,
    /// Traces that had new tokens, by index.
    pub traces: Vec<TraceDetails>,
    /// The vote as it would be decided now, heaviest answer first: answer, weight, traces. `None` where no
    /// trace ended since the last time.
    pub ballots: Option<Vec<(String, f64, usize)>>,
}

/// The way of one trace since the last time.
#[derive(Clone, Debug)]
pub struct TraceDetails {
    /// Index of the trace among the problem's, from 0.
    pub trace: TraceId,
    /// Whether it belongs to the warm-up.
    pub warmup: bool,
    /// (tokens, mean confidence of the last `window` of them), a handful.
    pub points: Vec<(usize, f32)>,
}
