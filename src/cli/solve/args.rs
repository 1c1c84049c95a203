//! What was typed, and what is meant.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use tts::Settings;
use tts::runner::default_strategy;

use crate::cli::args::{BackendArgs, BatchArgs, ModelArgs, SamplingArgs, Switch};
use crate::cli::number;
use crate::cli::strategy::StrategyArgs;
use crate::cli::task::AnswerArgs;

#[derive(Args)]
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

/// When traces and problems end.
#[derive(Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Tokens at which a trace is cut off
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<usize>,
    /// Tokens of a problem after which the vote so far decides
    #[arg(long, value_name = "N")]
    pub(crate) max_total_tokens: Option<u64>,
    /// Time after which the votes so far decide, as 90s, 30m or 2h
    #[arg(long, value_name = "TIME", value_parser = number::parse_duration)]
    pub(crate) time_limit: Option<Duration>,
    /// Tokens after which a trace's thinking is ended
    #[arg(long, value_name = "N")]
    pub(crate) thinking_budget: Option<usize>,
    /// Whether a trace that repeats itself word for word is ended
    #[arg(long, value_name = "on|off", default_value = "on", hide_default_value = true)]
    pub(crate) loop_stop: Switch,
    /// Goes on past the end of the text
    #[arg(long)]
    pub(crate) ignore_eos: bool,
}

/// What the model is asked.
#[derive(Args)]
#[command(next_help_heading = "Prompt")]
pub(crate) struct PromptArgs {
    /// System message
    #[arg(long, value_name = "TEXT|@FILE")]
    pub(crate) system: Option<String>,
    /// The user's turn, with {problem} and {instruction} in it
    #[arg(long, value_name = "TEXT|@FILE")]
    pub(crate) prompt_template: Option<String>,
    /// What is asked after the problem [default: the task's, the model's, else to put the answer into
    /// \boxed{}]
    #[arg(long, value_name = "TEXT|@FILE")]
    pub(crate) instruction: Option<String>,
}

/// What is solved with besides strategy, traces and problems.
type Rest = (
    LimitArgs,
    PromptArgs,
    AnswerArgs,
    SamplingArgs,
    BatchArgs,
    ModelArgs,
);

impl SolveArgs {
    /// Complete traces of these problems (set, ids, fields), recorded in a folder.
    pub(crate) fn recording(
        (data, ids, field): (String, Vec<String>, Vec<String>),
        traces: usize,
        run: PathBuf,
        (limits, prompt, answers, sampling, batch, model): Rest,
    ) -> Self {
        let strategy = StrategyArgs::of("majority");
        Self {
            problem: None,
            data: Some(data),
            ids: Some(ids),
            limit: None,
            field,
            traces,
            dry_run: false,
            run: Some(run),
            record_top_k: None,
            checkpoint: None,
            strategy,
            limits,
            prompt,
            answers,
            sampling,
            batch,
            model,
            backend: BackendArgs::default(),
            confidence_k: None,
        }
    }

    /// The settings that the flags mean.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let settings = Settings {
            record_top_k: self.record_top_k.unwrap_or(0),
            ..of_problems(&self.strategy, self.traces, &self.batch, &self.limits)?
        };
        of_traces(settings, &self.limits, &self.prompt, &self.sampling, &self.model)
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

/// Settings with everything that a trace is a function of.
pub(crate) fn of_traces(
    settings: Settings,
    limits: &LimitArgs,
    prompt: &PromptArgs,
    sampling: &SamplingArgs,
    model: &ModelArgs,
) -> anyhow::Result<Settings> {
    Ok(Settings {
        threads: model.threads,
        tier: model.tier,
        max_tokens: limits.max_tokens,
        sampling: sampling.choice(),
        seed: sampling.seed,
        ignore_eos: limits.ignore_eos,
        loop_stop: limits.loop_stop.is_on(),
        thinking_budget: limits.thinking_budget,
        system: text_or_file("system", prompt.system.as_deref())?,
        prompt_template: text_or_file("prompt-template", prompt.prompt_template.as_deref())?,
        instruction: text_or_file("instruction", prompt.instruction.as_deref())?,
        ..settings
    })
}

/// A text, or the text of the file after `@`.
fn text_or_file(flag: &str, value: Option<&str>) -> anyhow::Result<Option<String>> {
    match value.map(|v| (v, v.strip_prefix('@'))) {
        None => Ok(None),
        Some((text, None)) => Ok(Some(text.to_owned())),
        Some((_, Some(file))) => {
            let text =
                std::fs::read_to_string(file).map_err(|e| anyhow!("--{flag} @{file} cannot be read: {e}"))?;
            Ok(Some(text.trim_end_matches('\n').to_owned()))
        }
    }
}
