//! What a run comes to: an outcome, or why there is none.

use tts_strategies::Needs;

use super::{Bounds, Decided, EarlyEnd, ProblemRun, TraceRecord};

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Name of the problem.
    pub problem_id: String,
    /// The decision and what it cost.
    pub decided: Decided,
    /// Every trace, in order of ending; without arrays where these went to a sink.
    pub records: Vec<TraceRecord>,
    /// Tokens of the prompt, which all traces share.
    pub prompt_tokens: usize,
    /// Those at its beginning that were kept from an earlier prompt, and not read again.
    pub cached_tokens: usize,
    /// Bounds that it began with; what changed them later stands among the external events.
    pub bounds: Bounds,
    /// Traces in flight at once that were asked for; memory or the batch may have given fewer.
    pub slots_wanted: usize,
    /// Most traces that had a sequence or a stream at once.
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
        "problem `{0}`: the model's logits after the prompt are not numbers (NaN or infinite); the weights \
         are damaged or the dtype overflows"
    )]
    BrokenPrompt(String),
    /// Every trace failed, because its logits were not numbers.
    #[error("problem `{0}`: every trace failed because its logits were not numbers (NaN or infinite)")]
    AllFailed(String),
    /// Remote engines gave out.
    #[error("problem `{problem}`: {reason}")]
    Remote {
        /// Name of the problem.
        problem: String,
        /// Which address, and what happened there.
        reason: String,
    },
    /// A remote engine refuses what is asked.
    #[error("problem `{problem}`: {engine} refuses a request ({reason})")]
    Refused {
        /// Name of the problem.
        problem: String,
        /// URL of the engine.
        engine: String,
        /// In its own words.
        reason: String,
    },
    /// The strategy could not go on.
    #[error("problem `{problem}`: {reason}")]
    Strategy {
        /// Name of the problem.
        problem: String,
        /// What happened, as a sentence.
        reason: String,
    },
    /// The journal could not be written.
    #[error(
        "the run folder cannot be written: {0}; what was recorded before is kept, and the same command goes \
         on from there"
    )]
    Journal(String),
    /// It was cut before it began.
    #[error("the problem was not started before the run was cut ({0:?})")]
    NotStarted(EarlyEnd),
    /// The recording could not be read.
    #[error("{0}")]
    Recording(String),
    /// The device that the model runs on can do no more, or is taken; a sentence.
    #[error("{0}")]
    Device(String),
    /// The engine is gone.
    #[error("the engine stopped unexpectedly: {0}")]
    Engine(String),
    /// The strategy reads what the backend does not offer.
    #[error("strategy `{strategy}` needs {what}, which {lacking}")]
    Needs {
        /// Name of the strategy.
        strategy: String,
        /// Names of the missing scalars, joined by `and`.
        what: String,
        /// Who does not give them, as the end of a sentence.
        lacking: String,
    },
}

/// Refuses a strategy that reads what the backend does not offer, before a token is spent.
pub(crate) fn check_needs(strategy: &dyn tts_strategies::Strategy, offers: Needs) -> Result<(), RunError> {
    let needs = strategy.needs();
    let missing = [
        (needs.confidence && !offers.confidence, "token confidences"),
        (needs.logprob && !offers.logprob, "token log-probabilities"),
        (needs.self_certainty && !offers.self_certainty, "self-certainty"),
        (
            needs.entropy && !offers.entropy,
            "the 20 largest log-probabilities of each token",
        ),
        (
            needs.looks && !offers.looks,
            "traces after a second prompt that shows others",
        ),
        (
            needs.forks && !offers.forks,
            "traces that go on from the middle of others",
        ),
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
            lacking: "this source of traces does not give".to_owned(),
        })
    }
}

/// Keeps the compiler honest about what crosses threads.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<ProblemRun>();
};
