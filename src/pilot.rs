//! Does it help *this* model on *these* problems? A few problems with complete traces say what confidence
//! knows, which strategy would do, and what the whole set would cost; or that they are too few to say, and
//! how many more would do.
//!
//! Strategies are decided over random draws of the recorded traces, by the code that decides live. Where the
//! budget is larger than what was recorded, traces are drawn with replacement, which makes pools more alike
//! than they are: such numbers are estimates and are named so.

mod advice;
mod scores;
mod trials;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tts_evals::stats::{Interval, WithinAuroc};
use tts_strategies::Finish;

use crate::fmt::plural;
use crate::run::{PoolProblem, Replayer, RunError, Slots, TraceRecord};
use advice::{advise, verdict};
use scores::{LOWEST, best_window, scores};
use trials::trials;

/// Group sizes that are looked at, in tokens. A recording is opened with these.
pub const WINDOWS: [usize; 9] = [8, 16, 32, 64, 128, 256, 512, 1024, 2048];
/// Confidence level of every interval.
const LEVEL: f64 = 0.95;
/// Problems with right and wrong traces without which nothing is said about scores.
const MIXED: usize = 5;

/// What a pilot is to advise on: the whole set, its budget, and how much accuracy may be lost.
#[derive(Clone, Copy, Debug)]
pub struct PilotOptions {
    /// Problems of the whole set.
    pub whole: usize,
    /// Traces a problem that the whole set is to be solved with, at most.
    pub budget: usize,
    /// The share of problems that a strategy may lose of those that plain majority solves.
    pub margin: f64,
    /// Generated tokens a second, where that was measured.
    pub speed: Option<f64>,
    /// Random draws of each problem's traces.
    pub draws: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// Why there is no pilot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PilotError {
    /// The recording cannot be decided over.
    #[error(transparent)]
    Recorded(#[from] RunError),
    /// A number that makes no sense.
    #[error("{0}")]
    Option(&'static str),
    /// Some traces were not run to their end.
    #[error(
        "{incomplete} of {traces} recorded traces were stopped, cancelled or failed, and what they would \
         have said is not known: a pilot needs complete traces, recorded with --strategy majority"
    )]
    Pruned {
        /// Recorded traces that were not run to their end.
        incomplete: usize,
        /// Recorded traces in all.
        traces: usize,
    },
    /// No trace is recorded.
    #[error(
        "no trace is recorded, so there is nothing to say: a pilot needs a few problems with some 16 \
         complete traces each"
    )]
    Empty,
}

/// What a score knows.
#[derive(Clone, Debug, Serialize)]
pub struct ScoreTrial {
    /// Name of the trace score.
    pub score: &'static str,
    /// Tokens in a group, for scores that have groups.
    pub window: Option<usize>,
    /// How well it ranks right traces over wrong ones of the same problem: 0.5 is chance, 1 is always.
    pub auroc: WithinAuroc,
    /// Whether it tells right from wrong beyond chance.
    pub knows: bool,
}

/// What a strategy would do.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Name of the preset.
    pub strategy: String,
    /// Traces in flight at once.
    pub slots: Slots,
    /// Tokens in a group, where that was chosen here; else the preset's own.
    pub window: Option<usize>,
    /// Whether it reads confidences.
    pub reads_confidence: bool,
    /// Accuracy, mean over draws; `None` without gold answers.
    pub accuracy: Option<f64>,
    /// Accuracy less that of plain majority.
    pub difference: Option<f64>,
    /// 95% of that over other problems.
    pub difference_interval: Option<Interval>,
    /// Problems that plain majority solves and it does not, mean over draws.
    pub lost: Option<f64>,
    /// The largest share of other problems that it may lose so: the upper end of Clopper and Pearson's
    /// interval.
    pub may_lose: Option<f64>,
    /// Generated tokens a problem, mean over problems and draws.
    pub tokens: f64,
    /// 95% of that over other problems.
    pub tokens_interval: Option<Interval>,
    /// The share of plain majority's tokens.
    pub share: f64,
    /// Steps one after another, mean over problems.
    pub ticks: f64,
}

/// How sure the advice is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "evidence")]
pub enum Verdict {
    /// The advice holds for other problems of the kind.
    Enough,
    /// Nothing else is shown to do as well: the advice is plain majority.
    NotEnough {
        /// Why, and what would do.
        why: String,
        /// Problems that would do, if they are like these; `None` where no number would.
        problems_needed: Option<u64>,
    },
}

/// What a pilot says.
#[derive(Clone, Debug, Serialize)]
pub struct Pilot {
    /// Problems that have recorded traces.
    pub problems: usize,
    /// Those with a gold answer.
    pub graded: usize,
    /// Those with right and wrong traces: only they tell what a score knows.
    pub mixed: usize,
    /// Complete traces of all problems.
    pub traces: usize,
    /// Share of them that is right.
    pub right: Option<f64>,
    /// Draws of each problem's traces.
    pub draws: usize,
    /// Traces a problem at most.
    pub budget: usize,
    /// Whether traces were drawn with replacement, for want of as many as the budget.
    pub replaced: bool,
    /// The share of problems that a strategy may lose.
    pub margin: f64,
    /// Every score, the most telling first.
    pub scores: Vec<ScoreTrial>,
    /// Every strategy, the cheapest first.
    pub trials: Vec<Trial>,
    /// The one to use.
    pub advice: Trial,
    /// How sure that is.
    pub verdict: Verdict,
    /// Problems of the whole set.
    pub whole: usize,
    /// Tokens that the advice would take for the whole set.
    pub tokens: f64,
    /// 95% of that over problems; `None` for a single problem.
    pub tokens_interval: Option<Interval>,
    /// The same in seconds, at the speed that was measured.
    pub seconds: Option<f64>,
    /// What to know about these numbers.
    pub notes: Vec<String>,
}

/// A recorded problem: all its traces, and its right answer where one is known.
struct ProblemRecords {
    id: String,
    records: Vec<Arc<TraceRecord>>,
    gold: Option<String>,
}

/// Looks at recorded problems. `gold` are right answers beside those of the recording.
///
/// # Errors
/// When the recording cannot be read, nothing is recorded, or traces were stopped or cancelled when it was
/// made.
pub fn pilot(
    recorded: &Replayer,
    problems: &[&PoolProblem],
    gold: &BTreeMap<String, String>,
    options: &PilotOptions,
) -> Result<Pilot, PilotError> {
    if options.budget == 0 || options.draws == 0 {
        return Err(PilotError::Option(
            "--budget and --draws must be at least 1: there is nothing to decide over no traces",
        ));
    }
    if !(options.margin > 0.0 && options.margin < 1.0) {
        return Err(PilotError::Option(
            "--margin is a share of the problems above 0 and below 1, such as 0.05",
        ));
    }
    let (problem_records, without) = read(recorded, problems, gold)?;
    let right = rights(recorded, &problem_records);
    let scores = scores(&problem_records, &right);
    let window = best_window(&scores);
    let mut notes = Vec::new();
    if let Some(first) = without.first() {
        notes.push(format!(
            "{} without a trace that can be read, left out (the first: {first})",
            plural(without.len() as u64, "problem")
        ));
    }
    let confident = problem_records
        .iter()
        .flat_map(|p| &p.records)
        .any(|r| r.measured.as_ref().is_some_and(|m| m.mean.is_some()));
    if !confident {
        notes.push("no confidences are recorded: strategies that read them were not tried".to_owned());
    }
    let trials = trials(recorded, &problem_records, options, confident, window, &mut notes)?;
    let most = problem_records.iter().map(|p| p.records.len()).min().unwrap_or(0);
    let replaced = options.budget > most;
    if replaced {
        notes.push(format!(
            "{} traces a problem are an estimate: {most} were recorded, and these were drawn with \
             replacement",
            options.budget
        ));
    }
    let graded: Vec<&Vec<bool>> = right.iter().flatten().collect();
    let mixed = graded
        .iter()
        .filter(|r| r.contains(&true) && r.contains(&false))
        .count();
    let confidence_knows = scores.iter().any(|s| s.score == LOWEST && s.knows);
    let advised = advise(&trials, options.margin, confidence_knows);
    let verdict = verdict(
        &advised,
        &scores,
        graded.len(),
        mixed,
        problems.len(),
        options.margin,
    );
    let advice = advised.trial.clone();
    if scores.len() > 1 {
        notes.push(
            "the score and the window are the best of several on these very problems, so their numbers \
             flatter them a little"
                .to_owned(),
        );
    }
    let all: Vec<bool> = graded.iter().flat_map(|r| r.iter().copied()).collect();
    let whole = options.whole as f64;
    Ok(Pilot {
        problems: problem_records.len(),
        graded: graded.len(),
        mixed,
        traces: problem_records.iter().map(|p| p.records.len()).sum(),
        right: (!all.is_empty()).then(|| all.iter().filter(|r| **r).count() as f64 / all.len() as f64),
        draws: options.draws,
        budget: options.budget,
        replaced,
        margin: options.margin,
        tokens: advice.tokens * whole,
        tokens_interval: advice.tokens_interval.map(|i| Interval {
            low: i.low * whole,
            high: i.high * whole,
        }),
        seconds: options
            .speed
            .filter(|s| *s > 0.0)
            .map(|s| advice.tokens * whole / s),
        whole: options.whole,
        scores,
        trials,
        advice,
        verdict,
        notes,
    })
}

fn read(
    recorded: &Replayer,
    problems: &[&PoolProblem],
    gold: &BTreeMap<String, String>,
) -> Result<(Vec<ProblemRecords>, Vec<String>), PilotError> {
    let (mut problem_records, mut incomplete, mut traces) = (Vec::new(), 0, 0);
    let mut without = Vec::new();
    for problem in problems {
        let mut records = recorded.traces(problem)?;
        // of these nothing is known, and there is nothing that they might have said
        records.retain(|r| r.finish != Finish::Failed || r.tokens > 0);
        traces += records.len();
        incomplete += records.iter().filter(|r| !r.finish.is_complete()).count();
        if records.is_empty() {
            without.push(problem.id.clone());
        } else {
            problem_records.push(ProblemRecords {
                id: problem.id.clone(),
                records,
                gold: crate::replay::gold(gold, recorded.pool(), problem),
            });
        }
    }
    match (traces, incomplete) {
        (0, _) => Err(PilotError::Empty),
        (_, 0) => Ok((problem_records, without)),
        _ => Err(PilotError::Pruned { incomplete, traces }),
    }
}

/// Which traces are right; nothing for a problem without a gold answer. A trace that was cut off is wrong.
fn rights(recorded: &Replayer, problem_records: &[ProblemRecords]) -> Vec<Option<Vec<bool>>> {
    let of = |p: &ProblemRecords| {
        let gold = p.gold.as_ref()?;
        let mut known: BTreeMap<&str, bool> = BTreeMap::new();
        let mut rights = Vec::with_capacity(p.records.len());
        for record in &p.records {
            let answer = record.answer.as_deref().filter(|_| record.finish == Finish::Stop);
            rights.push(answer.is_some_and(|answer| {
                *known
                    .entry(answer)
                    .or_insert_with(|| recorded.reader().grade(answer, gold).equal)
            }));
        }
        Some(rights)
    };
    problem_records.iter().map(of).collect()
}
