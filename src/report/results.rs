//! What a report says, as data: the object of `tts report --json`.

use serde::Serialize;
use tts_evals::stats::{AvgAtN, Histogram, Interval, Reliability, ReliabilityBin, WithinAuroc};
use tts_strategies::{Fate, TraceId};

use super::plot::Drawing;
use crate::run::Slots;

/// The layout of the object.
pub const SCHEMA: u32 = 1;

/// Everything a report says.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Number of the layout.
    pub schema: u32,
    /// Version that made the report.
    pub tool_version: String,
    /// What was read: `run` or `sweep`.
    pub kind: &'static str,
    /// Path of the folder or the file that was read.
    pub path: String,
    /// Digests and settings, in groups.
    pub about: Vec<FactGroup>,
    /// How much there is.
    pub counts: DataCounts,
    /// Every strategy at every budget.
    pub arms: Vec<Arm>,
    /// The chance that at least one of k traces is right.
    pub pass_at: Vec<PassAt>,
    /// The mean over traces; `None` without gold answers.
    pub average: Option<AvgAtN>,
    /// Strategies against the baseline, paired.
    pub comparisons: Vec<BaselineComparison>,
    /// Accuracy against tokens, one curve a strategy.
    pub curves: Vec<CurveFacts>,
    /// Whether a trace's score knows if it is right.
    pub scores: Vec<ScoreFacts>,
    /// Whether the winner's share of the vote means what it says.
    pub reliability: Option<ReliabilityFacts>,
    /// One row a problem.
    pub problems: Vec<ProblemRow>,
    /// One problem's traces over time.
    pub timeline: Option<Timeline>,
    /// Those of the other problems, in less detail: for the page alone.
    #[serde(skip)]
    pub others: Vec<Timeline>,
    /// How plots of accuracy are drawn.
    #[serde(skip)]
    pub drawing: Drawing,
    /// How to read the numbers.
    pub notes: Vec<String>,
    /// What is missing or was passed over, counted.
    pub warnings: Vec<String>,
}

/// A group of settings.
#[derive(Clone, Debug, Serialize)]
pub struct FactGroup {
    /// What they are about.
    pub title: String,
    /// Names of settings, each with its value as text.
    pub facts: Vec<(String, String)>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct DataCounts {
    /// Problems that the recording or the sweep holds.
    pub problems: usize,
    /// Those with a gold answer.
    pub graded: usize,
    /// Those without a complete trace.
    pub empty: usize,
    /// Complete traces: ended by themselves, or cut off by the token limit or for looping.
    pub traces: u64,
    /// Complete traces that ended by themselves with an answer.
    pub answered: u64,
    /// Those of them that are right.
    pub right: u64,
    /// Recorded traces that were stopped, cancelled or failed.
    pub incomplete: u64,
    /// Tokens of the complete traces.
    pub tokens: u64,
    /// How often each pool was resampled; 1 where it was not.
    pub resamples: usize,
}

/// Where an arm's numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Decided while the traces ran.
    Live,
    /// Decided over recorded traces.
    Replayed,
    /// Votes counted by this report over recorded traces.
    Counted,
}

/// A rate over problems.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Accuracy {
    /// Mean over problems and resamples.
    pub mean: f64,
    /// 95% over other problems of the benchmark's kind; `None` for a single problem.
    pub problems: Option<Interval>,
    /// Where that comes from: `wilson` or `bootstrap`.
    pub method: &'static str,
    /// The middle 95% over other draws of traces for these problems; `None` where there was one draw.
    pub traces: Option<Interval>,
}

/// Tokens or traces a problem, by fate.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct MeanFates {
    /// Warm-ups that ended by themselves.
    pub warmup: f64,
    /// Ended by themselves after the warm-up.
    pub finished: f64,
    /// Stopped by the strategy.
    pub stopped: f64,
    /// In flight when the problem was decided.
    pub cancelled: f64,
    /// EarlyEnd off by the token limit or for looping.
    pub truncated: f64,
    /// Failed: the logits were not numbers, or the source of the tokens gave up.
    pub failed: f64,
}

impl MeanFates {
    /// Names and values in the order of a trace's life.
    pub fn each(&self) -> [(&'static str, f64); 6] {
        [
            ("warm-up", self.warmup),
            ("finished", self.finished),
            ("stopped", self.stopped),
            ("cancelled", self.cancelled),
            ("truncated", self.truncated),
            ("failed", self.failed),
        ]
    }
}

/// A strategy at one budget and number of slots.
#[derive(Clone, Debug, Serialize)]
pub struct Arm {
    /// Strategy and slots: arms of one series differ in the budget.
    pub series: String,
    /// Name of the preset.
    pub strategy: String,
    /// Traces in flight at once, as asked for.
    pub slots: Option<Slots>,
    /// Traces that might be launched for a problem.
    pub budget: usize,
    /// Problems whose pool was smaller than that.
    pub capped: usize,
    /// Where the numbers come from.
    pub basis: Basis,
    /// Problems that were decided.
    pub problems: usize,
    /// Those with a gold answer: accuracy is over these.
    pub graded: usize,
    /// Draws of traces for each problem.
    pub resamples: usize,
    /// Accuracy; `None` without gold answers.
    pub accuracy: Option<Accuracy>,
    /// Share of the problems that came to an answer.
    pub answered: f64,
    /// Generated tokens a problem.
    pub tokens: f64,
    /// 95% over other problems.
    pub tokens_problems: Option<Interval>,
    /// Tokens a problem by fate; they sum to `tokens`.
    pub token_fates: MeanFates,
    /// Traces a problem by fate.
    pub trace_fates: MeanFates,
    /// Traces that took a slot, a problem.
    pub launched: f64,
    /// Tokens one after the other: steps of a problem.
    pub steps: f64,
    /// Tokens spent for each right answer; `None` without any.
    pub tokens_per_right: Option<f64>,
    /// Share of the baseline's tokens at the same budget and slots that it does without; `None` where there
    /// is no such baseline.
    pub saved: Option<f64>,
    /// No other arm is as accurate for fewer tokens.
    pub pareto: bool,
    /// Traces whose record ended before the strategy was through with them.
    pub short: u64,
}

/// pass@k, the oracle's ceiling.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PassAt {
    /// Number of traces k, at least 1.
    pub k: u64,
    /// The unbiased estimate, mean over problems.
    pub pass: f64,
    /// Tokens of k traces, mean over problems.
    pub tokens: f64,
}

/// A strategy against the baseline, on the same problems and the same draws.
#[derive(Clone, Debug, Serialize)]
pub struct BaselineComparison {
    /// The strategy, its budget included.
    pub a: String,
    /// The baseline that it is compared with, its budget included.
    pub b: String,
    /// Problems that both decided and that have a gold answer.
    pub problems: usize,
    /// Accuracy of `a` less accuracy of `b`.
    pub difference: f64,
    /// 95% over other problems.
    pub problems_interval: Option<Interval>,
    /// Middle 95% over other draws of traces.
    pub traces_interval: Option<Interval>,
    /// Problems that only `a` solved, mean over draws.
    pub only_a: f64,
    /// Problems that only `b` solved, mean over draws.
    pub only_b: f64,
    /// McNemar's exact p; over several draws twice the median of theirs.
    pub p: f64,
    /// Tokens of `a` as a share of the tokens of `b`.
    pub tokens: f64,
}

/// A curve of accuracy against tokens.
#[derive(Clone, Debug, Serialize)]
pub struct CurveFacts {
    /// Strategy and slots, as [`Arm::series`].
    pub series: String,
    /// Mean accuracy over the tokens that all curves cover, on the logarithmic axis; `None` where they cover
    /// none together.
    pub area: Option<f64>,
    /// Share of the baseline's tokens saved at the baseline's final accuracy; `None` where it is never as
    /// accurate.
    pub saving: Option<f64>,
}

/// A trace score and what it knows.
#[derive(Clone, Debug, Serialize)]
pub struct ScoreFacts {
    /// Name of the trace score.
    pub score: &'static str,
    /// Right and wrong traces that have it.
    pub traces: usize,
    /// AUROC within problems, averaged; `None` where no problem has both right and wrong traces.
    pub auroc: Option<WithinAuroc>,
    /// Right and wrong traces by score.
    pub histogram: Option<Histogram>,
    /// Share right by rank of the score.
    pub by_rank: Vec<ReliabilityBin>,
}

/// Winners by their share of the vote.
#[derive(Clone, Debug, Serialize)]
pub struct ReliabilityFacts {
    /// Which strategy's votes these are, at which budget.
    pub of: String,
    /// Winners in bins of their share, with how many of each are right.
    pub diagram: Reliability,
}

/// A problem in the table of problems: its traces, and how each strategy fared.
#[derive(Clone, Debug, Serialize)]
pub struct ProblemRow {
    /// Name of the problem.
    pub id: String,
    /// The right answer; `None` where it is not known.
    pub gold: Option<String>,
    /// Complete traces of the problem.
    pub traces: u64,
    /// Of them, those that ended by themselves with an answer.
    pub answered: u64,
    /// Of them, those that are right.
    pub right: Option<u64>,
    /// The answer with most votes over all complete traces, and its votes; `None` where the recording was not
    /// at hand or held no answer.
    pub majority: Option<Winner>,
    /// Share of right decisions over the draws, for each series at its largest budget.
    pub decided: Vec<(String, Option<f64>)>,
    /// Mean tokens of a complete trace.
    pub mean_tokens: Option<f64>,
}

/// An answer with most votes.
#[derive(Clone, Debug, Serialize)]
pub struct Winner {
    /// The answer as its first trace wrote it.
    pub answer: String,
    /// How many traces answered so.
    pub votes: usize,
}

/// One problem's traces over time.
#[derive(Clone, Debug, Serialize)]
pub struct Timeline {
    /// Name of the problem.
    pub problem: String,
    /// The strategy that decided.
    pub strategy: String,
    /// Traces that might be launched.
    pub budget: usize,
    /// Traces in flight at once.
    pub slots: usize,
    /// Tokens in a group.
    pub window: Option<usize>,
    /// The bar below which a trace stops.
    pub threshold: Option<f64>,
    /// When the bar was set.
    pub bar_tick: Option<u64>,
    /// Ticks from the first token to the decision.
    pub steps: u64,
    /// The answer that won; `None` where none did.
    pub answer: Option<String>,
    /// Whether it is right.
    pub correct: Option<bool>,
    /// The traces by index.
    pub lanes: Vec<TimelineTrace>,
    /// What a reader must know about this picture.
    pub notes: Vec<String>,
}

/// A trace of a timeline.
#[derive(Clone, Debug, Serialize)]
pub struct TimelineTrace {
    /// Index of the trace within the problem, from 0.
    pub trace: TraceId,
    /// The tick before its first token.
    pub from: u64,
    /// The tick of its last token.
    pub to: u64,
    /// Tokens that it generated.
    pub tokens: u64,
    /// The book that its tokens are in.
    pub fate: Fate,
    /// The answer as it wrote it; `None` where none was found.
    pub answer: Option<String>,
    /// Whether that is right; `None` for traces that were stopped or cancelled, and without a gold answer.
    pub right: Option<bool>,
    /// Its lowest group as far as it ran.
    pub lowest: Option<f64>,
    /// Group confidence: (index of the group's last token, mean), thinned out.
    pub groups: Vec<(u32, f32)>,
}
