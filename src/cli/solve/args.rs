//! What was typed, and what is meant.

use std::path::PathBuf;
use std::time::Duration;

use crate::Settings;
use crate::solver::default_strategy;
use clap::Args;

use crate::cli::args::{BackendArgs, BatchArgs, ModelArgs, SamplingArgs};
use crate::cli::number;
use crate::cli::strategy::StrategyArgs;
use crate::cli::task::AnswerArgs;
use crate::cli::trace_args::{LimitArgs, PromptArgs, of_traces};

#[derive(Args)]
#[command(after_help = "Examples:
  tts solve \"Find the greatest common divisor of 252 and 180.\" --traces 16
  tts solve --data problems.jsonl --field answer=target --run out/
  tts solve --backend http://127.0.0.1:8000/v1 --strategy adaptive-consistency --slots 8 \"...\"")]
pub(crate) struct SolveArgs {
    /// The problem; `-` reads it from stdin
    #[arg(conflicts_with = "data")]
    pub(super) problem: Option<String>,
    /// A set of problems: a JSONL, JSON, CSV or parquet file, `-` for stdin, or a task of `tts list tasks`
    #[arg(long, value_name = "FILE|TASK")]
    pub(super) data: Option<String>,
    /// Only these problems of the set
    #[arg(long, value_delimiter = ',', value_name = "A,B", conflicts_with = "problem")]
    pub(super) ids: Option<Vec<String>>,
    /// Only the first N problems of the set
    #[arg(long, value_name = "N", conflicts_with = "problem")]
    pub(super) limit: Option<usize>,
    /// Which field of the set is what: question=NAME, answer=NAME or id=NAME
    #[arg(long, value_name = "ROLE=NAME", conflicts_with = "problem")]
    pub(super) field: Vec<String>,
    /// Traces for each problem, at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    traces: usize,
    /// Prints what would run, the exact prompt included, and runs nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Records every trace in this folder as it ends; the same command goes on where it stopped
    #[arg(long, value_name = "DIR")]
    pub(super) run: Option<PathBuf>,
    /// Also records the log-probabilities of the K most likely ids of every token, so that confidence over
    /// fewer than 20 can be replayed
    #[arg(long, value_name = "K", requires = "run")]
    pub(super) record_top_k: Option<usize>,
    /// Also records traces in flight, every so many minutes, tokens and states, so that a killed run goes on
    /// in the middle of them, bit for bit
    #[arg(long, value_name = "MINUTES", requires = "run", value_parser = number::parse_minutes)]
    pub(super) checkpoint: Option<Duration>,
    #[command(flatten)]
    strategy: StrategyArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    pub(crate) answers: AnswerArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    batch: BatchArgs,
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
    /// Takes confidence over the K most likely ids instead of 20, where an engine gives fewer
    #[arg(long, value_name = "K", requires = "backend", help_heading = "Remote engines")]
    pub(super) confidence_k: Option<usize>,
}

impl SolveArgs {
    /// The settings that the flags mean.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let settings = Settings {
            record_top_k: self.record_top_k.unwrap_or(0),
            ..of_problems(&self.strategy, self.traces, &self.batch, &self.limits)?
        };
        let settings = Settings {
            date: Some(self.prompt.day(self.run.as_deref())?),
            ..of_traces(settings, &self.limits, &self.prompt, &self.sampling, &self.model)?
        };
        Ok(settings)
    }
}

/// Settings of how problems are decided, and in what batch.
pub(crate) fn of_problems(
    strategy: &StrategyArgs,
    traces: usize,
    batch: &BatchArgs,
    limits: &LimitArgs,
) -> anyhow::Result<Settings> {
    Ok(Settings {
        strategy: match strategy.named()? {
            Some(preset) => preset,
            None => strategy.over(default_strategy())?,
        },
        traces,
        slots: batch.slots,
        max_batch: batch.max_batch.0,
        memory: batch.memory,
        max_total_tokens: limits.max_total_tokens,
        time_limit: limits.time_limit,
        ..Settings::default()
    })
}
