//! What a running problem tells whoever watches it.

use tts_strategies::{Finish, TraceId};

use super::Books;

/// What a running problem tells its watchers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The prompt was read and the first traces run.
    Started {
        /// Problem.
        problem: String,
        /// Traces in flight at once.
        slots: usize,
        /// Tokens of the prompt.
        prompt_tokens: usize,
    },
    /// How things stand.
    Progress(Snapshot),
    /// A trace ended.
    TraceEnded {
        /// Problem.
        problem: String,
        /// Trace.
        trace: TraceId,
        /// Why.
        finish: Finish,
        /// Generated tokens.
        tokens: usize,
        /// Its answer.
        answer: Option<String>,
    },
    /// The confidences of every trace, where a caller asked for them.
    Details(Details),
    /// Something the user should know.
    Notice {
        /// Problem.
        problem: String,
        /// A sentence.
        text: String,
    },
    /// The problem is decided.
    Decided {
        /// Problem.
        problem: String,
        /// The answer.
        answer: Option<String>,
    },
}

/// A problem in flight.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Problem.
    pub problem: String,
    /// Traces that get a token in the next tick.
    pub live: usize,
    /// Ended traces by fate.
    pub traces: Books,
    /// Traces that may be launched in all.
    pub budget: usize,
    /// Tokens of ended traces by fate.
    pub tokens: Books,
    /// Tokens of traces in flight.
    pub live_tokens: u64,
    /// Ticks so far.
    pub ticks: u64,
    /// Leading answer and its share.
    pub leading: Option<(String, f64)>,
    /// The bar, once known.
    pub threshold: Option<f64>,
    /// The window, once known.
    pub window: Option<usize>,
}

/// What became of a problem's traces since the last time.
#[derive(Clone, Debug)]
pub struct Details {
    /// Problem.
    pub problem: String,
    /// Tokens that the confidences are means of.
    pub window: usize,
    /// Traces that had new tokens, by index.
    pub traces: Vec<Points>,
    /// The vote as it would be decided now, heaviest answer first: answer, weight, traces. `None` where no
    /// trace ended since the last time.
    pub ballots: Option<Vec<(String, f64, usize)>>,
}

/// The way of one trace since the last time.
#[derive(Clone, Debug)]
pub struct Points {
    /// Trace.
    pub trace: TraceId,
    /// Whether it belongs to the warm-up.
    pub warmup: bool,
    /// (tokens, mean confidence of the last `window` of them), a handful.
    pub points: Vec<(usize, f32)>,
}
