//! The files of a sweep: `sweep.json` and the lines of `sweep.jsonl`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::run::{AnswerSettings, FateCounts, RecordingFields, Slots, Status, StrategyRecord, TraceSettings};

/// The layout that this version writes.
pub(crate) const SCHEMA: u32 = 1;

/// The recording that a sweep decides over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingSource {
    /// The recording as it was named; nothing where it is the sweep's own folder.
    pub path: Option<String>,
    /// blake3 of what was read of its traces.
    pub digest: String,
    /// Which field of it is what, where it was made elsewhere.
    #[serde(default, skip_serializing_if = "RecordingFields::is_empty")]
    pub fields: RecordingFields,
}

/// `sweep.json`: what was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub struct SweepHeader {
    /// Number of the layout.
    pub schema: u32,
    /// Version that wrote last.
    pub tool_version: String,
    /// Where the traces come from.
    pub recording: RecordingSource,
    /// The settings that the traces were generated with, where they are known.
    pub traces: Option<TraceSettings>,
    /// Digest of the problem set, where there is one.
    pub data: Option<String>,
    /// The strategies with all of their settings.
    pub strategies: Vec<StrategyRecord>,
    /// Budgets, as asked for.
    pub budgets: Vec<usize>,
    /// Slots, as asked for; nothing stands for what suits the strategy.
    pub slots: Vec<Option<Slots>>,
    /// How often each pool was resampled; nothing where traces were taken once in recorded order.
    pub resamples: Option<usize>,
    /// Seed of the resampling.
    pub seed: u64,
    /// How answers are read and compared.
    pub answers: AnswerSettings,
    /// Ids of the problems, in order.
    pub problems: Vec<String>,
    /// Whether the sweep is being written, finished, or was interrupted.
    pub status: Status,
    /// Sentences for the reader.
    pub notes: Vec<String>,
}

/// A line of `sweep.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SweepLine {
    /// A problem's pool of complete traces, counted.
    Pool(PoolSummary),
    /// What a strategy made of them.
    Decided(Box<PoolDecisions>),
}

/// A problem's pool of complete traces, counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolSummary {
    /// Name of the problem.
    pub problem_id: String,
    /// The right answer, if known.
    pub gold: Option<String>,
    /// Complete traces: those that ended by themselves or were cut off by the token limit or for looping.
    pub traces: u64,
    /// Those with an answer that ended by themselves.
    pub answered: u64,
    /// Those of them whose answer is right.
    pub right: Option<u64>,
    /// Sum of their tokens.
    pub tokens: u64,
}

/// A strategy's decisions over a problem's pool, at one budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolDecisions {
    /// Name of the problem.
    pub problem_id: String,
    /// Name of the preset.
    pub strategy: String,
    /// Traces that might be launched, as asked for.
    pub budget: usize,
    /// Traces in flight at once, as asked for.
    pub slots: Option<Slots>,
    /// The budget, or the size of the pool where that is smaller.
    pub traces: usize,
    /// 1 where the answer was right, by resample.
    pub correct: Option<Vec<u8>>,
    /// Generated tokens, by resample.
    pub tokens: Vec<u64>,
    /// Length of the critical path in tokens, by resample.
    pub ticks: Vec<u64>,
    /// Traces that took a slot, by resample.
    pub launched: Vec<u64>,
    /// Resamples with an answer.
    pub answered: u64,
    /// Tokens by fate, summed over the resamples.
    pub token_fates: FateCounts,
    /// Traces by fate, summed over the resamples.
    pub trace_fates: FateCounts,
    /// Which pool decided how often.
    pub pools: BTreeMap<String, u64>,
    /// Traces whose record ended too early, summed over the resamples.
    pub short: u64,
}
