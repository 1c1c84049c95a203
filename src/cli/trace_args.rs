//! Flags of commands that generate traces: when these end, and what the model is asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::Settings;
use crate::run::Manifest;
use anyhow::{anyhow, bail};
use clap::Args;
use jiff::Zoned;
use jiff::civil::Date;

use super::args::{ModelArgs, SamplingArgs, Switch};
use super::number;

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
    /// Sets a variable of the chat template, such as enable_thinking=false or reasoning_effort=high; JSON, or else a
    /// text
    #[arg(long = "template-arg", value_name = "NAME=VALUE", value_parser = template_arg)]
    pub(crate) template_args: Vec<(String, serde_json::Value)>,
    /// The day that a chat template writes as today's [default: today; that of the folder for a run that is
    /// gone on with]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    pub(crate) date: Option<Date>,
}

fn template_arg(text: &str) -> Result<(String, serde_json::Value), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("it must be NAME=VALUE, as enable_thinking=false".to_owned());
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(is_name) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("`{name}` is no name of a variable"));
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

/// The variables, each set once.
fn variables(args: &[(String, serde_json::Value)]) -> anyhow::Result<BTreeMap<String, serde_json::Value>> {
    let mut variables = BTreeMap::new();
    for (name, value) in args {
        if variables.insert(name.clone(), value.clone()).is_some() {
            bail!("--template-arg {name} is given twice");
        }
    }
    Ok(variables)
}

fn day(text: &str) -> Result<Date, String> {
    let wrong = || "it must be a day as 2026-11-30".to_owned();
    let day: Date = text.parse().map_err(|_| wrong())?;
    // the parser takes more: a time behind the day, and years in which no clock can stand
    if day.to_string() == text && (1..=9998).contains(&day.year()) {
        Ok(day)
    } else {
        Err(wrong())
    }
}

impl PromptArgs {
    /// The day for all prompts of a run: the one that was given, the one that its folder began with, or today.
    pub(crate) fn day(&self, run: Option<&Path>) -> anyhow::Result<Date> {
        if let Some(date) = self.date {
            return Ok(date);
        }
        let manifest = run.map_or(Ok(None), Manifest::read)?;
        let began = manifest.and_then(|manifest| manifest.traces.date?.parse().ok());
        Ok(began.unwrap_or_else(|| Zoned::now().date()))
    }
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
        template_variables: variables(&prompt.template_args)?,
        date: prompt.date,
        ..settings
    })
}

/// A text, or the text of the file after `@`.
fn text_or_file(flag: &str, value: Option<&str>) -> anyhow::Result<Option<String>> {
    match value.map(|v| (v, v.strip_prefix('@'))) {
        None => Ok(None),
        Some((text, None)) => Ok(Some(text.to_owned())),
        Some((_, Some(file))) => {
            let text = tts_model::files::read_text(file.as_ref(), 16 << 20)
                .map_err(|e| anyhow!("--{flag} @{file} cannot be read: {e}"))?;
            Ok(Some(text.trim_end_matches('\n').to_owned()))
        }
    }
}
