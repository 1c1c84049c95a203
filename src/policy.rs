//! `--strategy exec:COMMAND`: a strategy in any language, at the granularity of traces.
//!
//! The command is run without a shell (words are split at spaces), once for each problem that is decided at a
//! time. It is written one JSON object a line on its standard input and answers each with one JSON object a
//! line on its standard output, in UTF-8, flushed, within 30 seconds. What it writes to standard error is
//! quoted if it fails. A policy must be deterministic: then live and replayed runs decide alike.
//!
//! - It reads `{"event": "hello", "protocol": 1}` and answers
//!   `{"protocol": 1, "needs": ["confidence"], "window": 16}`. `needs` lists those of `confidence`, `logprob`,
//!   `self_certainty` and `entropy` that it cannot do without, `window` is the group size of the scores; both
//!   may be left out.
//! - It reads `{"event": "begin", "traces": 64, "slots": 16, "max_tokens": 4096}`, a new problem, and forgets
//!   the last. It answers `{"launch": 16}`: how many traces to launch, at least 1.
//! - It reads `{"event": "finished", "trace": 0, "finish": "stop", "tokens": 512, "class": 3, "scores":
//!   {"mean": 11.2, ...}}` and answers `{}` to wait, `{"launch": 4}` for more traces, `{"done": true}` to
//!   cancel the rest.
//! - It reads `{"event": "decide"}` and answers `{"ballots": [{"trace": 0, "weight": 1.0}, ...]}`: the traces
//!   that vote, by index; the heaviest class wins.
//!
//! `class` is a number that equal answers share, null without an answer; `finish` is `stop`, `length`, `loop`
//! or `failed`; `scores` holds `mean`, `tail`, `bottom`, `lowest_group`, `sequence_logprob`, `mean_logprob`,
//! `self_certainty` and `tail_entropy`, each null where it is not known (`tail`, `bottom`, `lowest_group` and
//! `tail_entropy` without a `window`). `examples/policy.py` is one.

mod asked;
mod command;
mod process;
mod protocol;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tts_strategies::{Custom, Needs, Preset};

pub use asked::{EndedTrace, Policy, PolicyStrategy};
use command::CommandPolicy;
use protocol::{NeededScalar, PolicyCommand};

/// How long a policy may think about one line.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A policy that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy `{command}` {what}")]
pub struct PolicyError {
    /// The command as it was given after `exec:`, or the name of the object that decides.
    pub command: String,
    /// What it did, as the rest of a sentence that begins with the command.
    pub what: String,
}

/// A preset whose strategy is asked of a command.
///
/// # Errors
/// When the command cannot be run or does not greet as it should: before a model is opened.
pub fn preset(command: &str) -> Result<Preset, PolicyError> {
    preset_within(command, ANSWER_TIMEOUT)
}

/// [`preset`] with another limit on the time that an answer may take.
///
/// # Errors
/// As [`preset`].
pub fn preset_within(command: &str, timeout: Duration) -> Result<Preset, PolicyError> {
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let mut policy = PolicyCommand {
        command: command.trim().to_owned(),
        words,
        timeout,
        needs: Needs::default(),
        window: None,
        idle: Mutex::default(),
    };
    if policy.words.is_empty() {
        return Err(policy.failed("names no command: write --strategy exec:./policy.py"));
    }
    let (process, hello) = policy.start()?;
    let needs = |need| hello.needs.contains(&need);
    policy.needs = Needs {
        confidence: needs(NeededScalar::Confidence),
        logprob: needs(NeededScalar::Logprob),
        self_certainty: needs(NeededScalar::SelfCertainty),
        entropy: needs(NeededScalar::Entropy),
        forks: false,
        looks: false,
    };
    policy.window = hello.window;
    policy.idle = Mutex::new(vec![process]);
    let custom = Custom {
        command: policy.command.clone(),
        digest: digest(&policy.words),
        build: {
            let policy = Arc::new(policy);
            Arc::new(move |name| Box::new(PolicyStrategy::new(name, CommandPolicy::new(policy.clone()))))
        },
    };
    Ok(Preset::custom(
        format!("exec:{}", custom.command),
        "decided by a command",
        custom,
    ))
}

/// Digest of the files among the words of a command.
fn digest(words: &[String]) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    let mut any = false;
    for word in words.iter().filter(|w| Path::new(w).is_file()) {
        let bytes = std::fs::read(word).ok()?;
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
        any = true;
    }
    any.then(|| hasher.finalize().to_hex().to_string())
}
