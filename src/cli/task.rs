//! Problem sets and readers: `--data`, `--task`, `--answer-kind`, `--answer-pattern`.

use std::io::Read;

use crate::evals::answer::{
    AnswerKind, BracketRule, DecimalRule, EqualOptions, ExtractRules, ListOrder, PercentRule, RelationRule,
    RuleReader, UnitRule, compile_pattern,
};
use crate::evals::task::Task;
use crate::problem_set::{MOST_PIPED, ProblemSet, open_task};
use crate::run::AnswerSettings;
use anyhow::bail;
use clap::Args;
use serde::de::DeserializeOwned;

use super::downloads;
use super::printer::Printer;

/// Where answers stand and how they are compared.
#[derive(Args)]
#[command(next_help_heading = "Answers")]
pub(crate) struct AnswerArgs {
    /// Reads and compares answers as this task does (a name of `tts list tasks` or a TOML file)
    #[arg(long, value_name = "NAME|FILE.toml")]
    task: Option<String>,
    /// What answers are: integer, math, choice or text [default: math]
    #[arg(long, value_name = "KIND", value_parser = kind)]
    answer_kind: Option<AnswerKind>,
    /// Takes the answer by a regular expression: its group `answer`, else its first group
    #[arg(long, value_name = "REGEX")]
    answer_pattern: Option<String>,
    #[command(flatten)]
    equality: EqualityArgs,
}

/// Choices that graders disagree about.
#[derive(Args, Clone, PartialEq)]
struct EqualityArgs {
    /// Whether 10% is 0.1 alone (exact), or also accepted for 10 (lenient) [default: exact]
    #[arg(long, value_name = "exact|lenient", value_parser = word::<PercentRule>)]
    percent: Option<PercentRule>,
    /// Whether the order of a list without brackets matters [default: free]
    #[arg(long, value_name = "free|strict", value_parser = word::<ListOrder>)]
    list_order: Option<ListOrder>,
    /// Whether 13 digits or more may stand for an exact value that they round (full), or never (exact)
    /// [default: full]
    #[arg(long, value_name = "full|exact", value_parser = word::<DecimalRule>)]
    decimals: Option<DecimalRule>,
    /// Whether 10m is ten times m (strict), or also accepted for 10 (lenient) [default: strict]
    #[arg(long, value_name = "strict|lenient", value_parser = word::<UnitRule>)]
    units: Option<UnitRule>,
    /// Whether it matters which ends belong to an interval [default: strict]
    #[arg(long, value_name = "strict|lenient", value_parser = word::<BracketRule>)]
    brackets: Option<BracketRule>,
    /// Whether x >= 2 is also accepted for [2, infinity) (lenient), as the interval is for the relation
    /// [default: strict]
    #[arg(long, value_name = "strict|lenient", value_parser = word::<RelationRule>)]
    relations: Option<RelationRule>,
    /// Accepts a number that differs from the gold number by at most this share of it
    #[arg(long, value_name = "SHARE")]
    tolerance: Option<f64>,
}

impl EqualityArgs {
    const NONE: Self = Self {
        percent: None,
        list_order: None,
        decimals: None,
        units: None,
        brackets: None,
        relations: None,
        tolerance: None,
    };

    fn over(&self, options: &mut EqualOptions) -> anyhow::Result<()> {
        if let Some(share) = self.tolerance.filter(|share| !(*share >= 0.0 && *share < 1.0)) {
            bail!("--tolerance {share} is no share: it must be at least 0 and below 1 (0.01 is 1 %)");
        }
        options.percent = self.percent.unwrap_or(options.percent);
        options.list_order = self.list_order.unwrap_or(options.list_order);
        options.decimals = self.decimals.unwrap_or(options.decimals);
        options.units = self.units.unwrap_or(options.units);
        options.brackets = self.brackets.unwrap_or(options.brackets);
        options.relations = self.relations.unwrap_or(options.relations);
        options.tolerance = self.tolerance.or(options.tolerance);
        Ok(())
    }
}

/// One of the words that a setting knows.
fn word<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::from(name)).map_err(|e| e.to_string())
}

impl AnswerArgs {
    /// The task that was named.
    pub(crate) fn task(&self) -> anyhow::Result<Option<Task>> {
        Ok(self.task.as_deref().map(open_task).transpose()?)
    }

    /// The reader of this task, or of none, with what was asked for put over it.
    pub(crate) fn reader(&self, task: Option<&Task>) -> anyhow::Result<RuleReader> {
        let mut reader = match task {
            Some(task) => task.reader()?,
            None => RuleReader::new(self.answer_kind.unwrap_or_default()),
        };
        if let Some(kind) = self.answer_kind {
            reader.kind = kind;
        }
        if let Some(pattern) = &self.answer_pattern {
            reader.rules = ExtractRules::pattern(compile_pattern(pattern)?);
        }
        self.equality.over(&mut reader.options)?;
        Ok(reader)
    }
}

impl AnswerArgs {
    /// Whether anything was asked for.
    pub(crate) fn any(&self) -> bool {
        self.task.is_some()
            || self.answer_kind.is_some()
            || self.answer_pattern.is_some()
            || self.equality != EqualityArgs::NONE
    }

    /// What the answers depend on, for the record.
    pub(crate) fn describe(&self, task: Option<&Task>, reader: &RuleReader) -> AnswerSettings {
        AnswerSettings {
            pattern: self.answer_pattern.clone(),
            ..AnswerSettings::of(task, reader)
        }
    }
}

fn kind(name: &str) -> Result<AnswerKind, String> {
    match name {
        "integer" => Ok(AnswerKind::Integer),
        "math" => Ok(AnswerKind::Math),
        "choice" => Ok(AnswerKind::Choice),
        "text" => Ok(AnswerKind::Text),
        _ => Err("it is integer, math, choice or text".to_owned()),
    }
}

impl AnswerArgs {
    /// Warns where the named task knows other right answers than a set that was read to its end.
    pub(crate) fn compare(&self, set: &ProblemSet, printer: &Printer) -> anyhow::Result<()> {
        if let Some(unlike) = self.task()?.and_then(|task| set.unlike(&task)) {
            printer.warn(&unlike);
        }
        Ok(())
    }
}

/// The set that `--data` names; `-` reads it from stdin.
pub(crate) fn dataset(name: &str, fields: &[String], printer: &Printer) -> anyhow::Result<ProblemSet> {
    first_of_dataset(name, fields, usize::MAX, printer)
}

/// The same, reading no more than the first `most` problems of a file.
pub(crate) fn first_of_dataset(
    name: &str,
    fields: &[String],
    most: usize,
    printer: &Printer,
) -> anyhow::Result<ProblemSet> {
    let set = if name == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .take(MOST_PIPED + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_PIPED {
            bail!(
                "stdin holds more than {} MiB; give --data a file",
                MOST_PIPED >> 20
            );
        }
        ProblemSet::parse_first(&bytes, "stdin", fields, most)?
    } else {
        ProblemSet::open_first(name, fields, most, &mut downloads::watcher(printer))?
    };
    set.warnings.iter().for_each(|w| printer.warn(w));
    set.data.warnings.iter().for_each(|w| printer.warn(w));
    Ok(set)
}
