//! Where traces come from.

mod desk;
mod in_process;
mod recorded;
pub mod remote;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tts_strategies::{Finish, Needs, TraceId};

pub(crate) use desk::{Desk, Ran};
pub use in_process::{InProcess, InProcessOptions};
pub use recorded::{Recorded, Replayed};
pub use remote::{Remote, RemoteOptions};

use crate::solve::{Books, Bounds, Cut, Decided, Problem, TraceRecord};

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
    /// Live rows.
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

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Problem.
    pub problem_id: String,
    /// The decision.
    pub decided: Decided,
    /// Every trace, in order of ending; without arrays where these went to a sink.
    pub records: Vec<TraceRecord>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Bounds that it began with; what changed them later stands among the outside events.
    pub bounds: Bounds,
    /// Slots that were asked for.
    pub slots_wanted: usize,
    /// Most lanes at once.
    pub peak_rows: usize,
    /// Sentences for the user.
    pub notices: Vec<String>,
}

/// Why a run has no outcome.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The prompt's logits are not numbers.
    #[error(
        "problem `{0}`: the model's logits after the prompt are not numbers (NaN or infinite); the weights are damaged or the dtype overflows"
    )]
    BrokenPrompt(String),
    /// Every trace failed.
    #[error("problem `{0}`: every trace failed because its logits were not numbers (NaN or infinite)")]
    AllFailed(String),
    /// Remote engines gave out.
    #[error("problem `{problem}`: {reason}")]
    Remote {
        /// Problem.
        problem: String,
        /// Which address, and what happened there.
        reason: String,
    },
    /// A remote engine refuses what is asked.
    #[error("problem `{problem}`: {engine} refuses a request ({reason})")]
    Refused {
        /// Problem.
        problem: String,
        /// Its address.
        engine: String,
        /// In its own words.
        reason: String,
    },
    /// The strategy could not go on.
    #[error("problem `{problem}`: {reason}")]
    Strategy {
        /// Problem.
        problem: String,
        /// What happened.
        reason: String,
    },
    /// The journal could not be written.
    #[error(
        "the run folder cannot be written: {0}; what was recorded before is kept, and the same command goes on from there"
    )]
    Journal(String),
    /// It was cut before it began.
    #[error("the problem was not started before the run was cut ({0:?})")]
    NotStarted(Cut),
    /// The recording could not be read.
    #[error("{0}")]
    Recording(String),
    /// The engine is gone.
    #[error("the engine stopped unexpectedly: {0}")]
    Engine(String),
    /// The strategy reads what the backend does not offer.
    #[error("strategy `{strategy}` needs {what}, which this source of traces does not give")]
    Needs {
        /// Strategy.
        strategy: String,
        /// The missing scalars.
        what: String,
    },
}

/// A source of traces.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The scalars that its tokens carry.
    fn offers(&self) -> Needs;
    /// Runs one problem to its decision. Dropping the future cancels the problem.
    async fn run(&self, job: Job) -> Result<Outcome, RunError>;
}

/// A problem for a backend.
pub struct Job {
    /// Strategy, rules, bounds, earlier records.
    pub setup: crate::solve::Setup,
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// How tokens are drawn.
    pub sampling: tts_model::sampler::Sampling,
    /// Part of every trace's random stream.
    pub seed: u64,
    /// Ids that may not be drawn.
    pub held: Vec<u32>,
    /// When the vote so far must do.
    pub deadline: Option<std::time::Instant>,
    /// Cancelled: decide now with the votes there are.
    pub interrupt: tokio_util::sync::CancellationToken,
    /// Progress.
    pub events: Option<broadcast::Sender<Event>>,
    /// Where ended traces go; their arrays and texts are not held here from then on.
    pub records: Option<crate::engine::scheduler::RecordSink>,
    /// Traces in flight go there too, and their states to files, so that a killed run goes on in the middle
    /// of them.
    pub checkpoint: Option<crate::engine::snapshots::Snapshots>,
}

/// Refuses a strategy that reads what the backend does not offer, before a token is spent.
pub(crate) fn check_needs(strategy: &dyn tts_strategies::Strategy, offers: Needs) -> Result<(), RunError> {
    let needs = strategy.needs();
    let missing = [
        (needs.confidence && !offers.confidence, "token confidences"),
        (needs.logprob && !offers.logprob, "token log-probabilities"),
        (needs.self_certainty && !offers.self_certainty, "self-certainty"),
    ];
    let what: Vec<_> = missing
        .iter()
        .filter(|(m, _)| *m)
        .map(|(_, what)| *what)
        .collect();
    if what.is_empty() {
        Ok(())
    } else {
        Err(RunError::Needs {
            strategy: strategy.name().to_owned(),
            what: what.join(" and "),
        })
    }
}

/// Keeps the compiler honest about what crosses threads.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Problem>();
};
