//! A decided problem as a record: a line of problems.jsonl, and the object that `tts solve --json` prints.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tts_model::sampling::Sampling;
use tts_strategies::PoolKind;

use super::machine::MachineInfo;
use super::settings::{DecisionSettings, OtherFields, value_of};
use super::{EarlyEnd, ExternalEvent, FateCounts};

/// The winner of one vote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VoteResult {
    /// The winning answer, as the first trace that gave it wrote it.
    pub answer: String,
    /// Its share of the votes' weight, from 0 to 1.
    #[serde(deserialize_with = "number")]
    pub share: f64,
}

/// One answer in the deciding vote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BallotResult {
    /// The answer as the first trace that gave it wrote it.
    pub answer: String,
    /// Weight of its traces.
    #[serde(deserialize_with = "number")]
    pub weight: f64,
    /// Number of its traces.
    pub traces: usize,
}

/// How many traces were launched, and what became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceCounts {
    /// Traces that took a slot.
    pub launched: u64,
    /// The traces that ended, by fate.
    #[serde(flatten)]
    pub fates: FateCounts,
}

/// How many tokens were read and generated, and what became of their traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Tokens of the prompt, which is read once for all traces.
    #[serde(default)]
    pub prompt: u64,
    /// Tokens that were generated in all traces.
    pub generated: u64,
    /// By fate; they sum to `generated`.
    #[serde(flatten)]
    pub fates: FateCounts,
    /// Of these, tokens of a remote engine that no decision saw: they came after their trace was stopped, or
    /// were reported and not sent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unseen: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// JSON has no number for what is none, and writes null.
fn number<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(f64::NAN))
}

/// A decided problem. Anything but its name may be missing in a file that another program wrote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SolvedRecord {
    /// Name of the problem.
    pub problem_id: String,
    /// The answer, if one won.
    pub answer: Option<String>,
    /// Whether it equals the right answer, where that is known.
    pub correct: Option<bool>,
    /// The right answer; `None` where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gold: Option<String>,
    /// Name of the strategy.
    pub strategy: Option<String>,
    /// The model as it was named.
    pub model: Option<String>,
    /// Seed of the traces.
    pub seed: Option<u64>,
    /// The day that the chat template wrote as today's, as YYYY-MM-DD; absent where it writes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Every vote side by side, over the pool that decided.
    #[serde(default)]
    pub votes: BTreeMap<String, Option<VoteResult>>,
    /// The deciding vote, heaviest answer first.
    #[serde(default)]
    pub ballots: Vec<BallotResult>,
    /// The traces that voted.
    pub pool: Option<PoolKind>,
    /// The bar in nats, where there was one.
    pub threshold: Option<f64>,
    /// Tokens of a group whose mean confidence is compared with the bar.
    pub window: Option<usize>,
    /// Share of the winner's weight, from 0 to 1, where consensus may stop a problem.
    pub consensus: Option<f64>,
    /// Share of the winner minus share of the second, from 0 to 1.
    pub margin: Option<f64>,
    /// How many traces were launched, and what became of them.
    pub traces: Option<TraceCounts>,
    /// How many tokens were read and generated, and what became of their traces.
    pub tokens: Option<TokenCounts>,
    /// Text after the thinking of the winning class's heaviest trace.
    pub solution: Option<String>,
    /// Index of that trace, from 0.
    pub solution_trace: Option<u32>,
    /// blake3 over every trace's index, length and blake3 of its token ids, in order.
    pub digest: Option<String>,
    /// Traces in flight at once when it began.
    pub slots: Option<usize>,
    /// Ticks of the problem's clock: its critical path in tokens.
    pub ticks: Option<u64>,
    /// How tokens were drawn.
    pub sampling: Option<Sampling>,
    /// How answers were found, by number of traces.
    #[serde(default)]
    pub extractions: BTreeMap<String, u64>,
    /// What ended the run early.
    pub cut: Option<EarlyEnd>,
    /// What came from outside and at which ticks: a replay needs it.
    #[serde(default)]
    pub outside: Vec<ExternalEvent>,
    /// Sentences of the strategy.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Wall time in seconds.
    pub seconds: Option<f64>,
    /// The machine or the engines that it ran on.
    pub machine: Option<MachineInfo>,
    /// What it was decided with: in run folders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decisions: Option<DecisionSettings>,
    /// What this version has no name for.
    #[serde(flatten)]
    pub other: OtherFields,
}

impl SolvedRecord {
    /// Whether the user ended it before it was decided.
    pub fn is_interrupted(&self) -> bool {
        let by_user = |o: &ExternalEvent| {
            matches!(
                o,
                ExternalEvent::Ended {
                    reason: EarlyEnd::Interrupted,
                    ..
                }
            )
        };
        self.outside.iter().any(by_user)
    }

    /// The object of the command line's JSON.
    pub fn to_json(&self) -> Value {
        value_of(self)
    }

    /// Tokens that were generated in all traces; `None` where the record does not say.
    pub fn generated(&self) -> Option<u64> {
        Some(self.tokens?.generated)
    }
}
