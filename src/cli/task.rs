//! Problem sets and readers: `--data`, `--task`, `--answer-kind`, `--answer-pattern`.

use std::io::Read;
use std::path::Path;

use anyhow::{anyhow, bail};
use clap::Args;
use serde::de::DeserializeOwned;
use tts::evals::answer::{
    AnswerKind, BracketRule, DecimalRule, EqualOptions, ExtractRules, ListOrder, PercentRule, RuleReader,
    UnitRule, compile_pattern,
};
use tts::evals::data::{self, Dataset, Fields};
use tts::evals::task::Task;
use tts::hub::{self, DEFAULT_REVISION, HubOptions, Repo, RepoKind};
use tts::run::AnswerSettings;

use super::printer::Printer;
use super::{downloads, nearest};

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
        self.task.as_deref().map(task).transpose()
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
            task: task.map(|t| t.name.clone()),
            kind: Some(reader.kind),
            pattern: self.answer_pattern.clone(),
            options: (reader.options != EqualOptions::default()).then(|| reader.options.clone()),
            ..AnswerSettings::default()
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

/// A task by name, or from a file.
fn task(name: &str) -> anyhow::Result<Task> {
    if !looks_like_path(name) {
        return Ok(Task::named(name)?);
    }
    let text =
        std::fs::read_to_string(name).map_err(|e| anyhow!("the task file {name} cannot be read: {e}"))?;
    Ok(Task::parse(&text, name)?)
}

fn looks_like_path(name: &str) -> bool {
    name.contains(['/', '\\', '.'])
}

/// Problem sets in the program.
const BUNDLED: [(&str, &str); 2] = [
    ("heldout", include_str!("../../data/heldout.jsonl")),
    ("dev", include_str!("../../data/dev.jsonl")),
];

/// A set that is in the program, as JSON lines.
fn bundled(name: &str) -> Option<&'static str> {
    BUNDLED
        .into_iter()
        .find(|(known, _)| *known == name)
        .map(|(_, lines)| lines)
}

/// The set that `--data` names, and the task that it belongs to, if it is a task's.
pub(crate) fn dataset(
    name: &str,
    fields: &[String],
    printer: &Printer,
) -> anyhow::Result<(Dataset, Option<Task>)> {
    let with_fields = |mut base: Fields| {
        for field in fields {
            base.set(field)?;
        }
        Ok::<_, data::DataError>(base)
    };
    if name == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok((
            data::load(&bytes, "stdin", &with_fields(Fields::default())?)?,
            None,
        ));
    }
    if Path::new(name).is_file() {
        let bytes = std::fs::read(name).map_err(|e| anyhow!("--data {name} cannot be read: {e}"))?;
        return Ok((data::load(&bytes, name, &with_fields(Fields::default())?)?, None));
    }
    // the set for tuning is read and graded like the one for measuring
    let of = if bundled(name).is_some() { "heldout" } else { name };
    if !looks_like_path(name) && !Task::names().any(|t| t == of) {
        let known: Vec<_> = Task::names().chain(BUNDLED.map(|(name, _)| name)).collect();
        let tip = nearest(name, known.iter().copied()).unwrap_or("heldout");
        bail!(
            "--data {name} is neither a file nor a task; did you mean `{tip}`? (tasks: {})",
            Task::names().collect::<Vec<_>>().join(", ")
        );
    }
    if looks_like_path(name) {
        bail!(
            "--data {name} does not exist; give a JSONL, JSON, CSV or parquet file, or a task of `tts list tasks`"
        );
    }
    let task = Task::named(of)?;
    let fields = with_fields(task.data.fields.clone())?;
    let mut set = match (&task.data.bundled, &task.data.hub, &task.data.file) {
        (Some(set), _, _) => {
            let set = if of == name { set } else { name };
            let lines = bundled(set)
                .ok_or_else(|| anyhow!("task {name}: this program holds no problem set `{set}`"))?;
            data::load(lines.as_bytes(), set, &fields)?
        }
        (None, Some(repo), Some(file)) => {
            let repo = Repo::new(RepoKind::Dataset, repo, DEFAULT_REVISION)?;
            let paths = hub::files(
                &repo,
                &[file],
                &HubOptions::from_env()?,
                &mut downloads::watcher(printer),
            )?;
            let path = paths
                .first()
                .ok_or_else(|| anyhow!("task {name}: the hub gave no file"))?;
            let bytes = std::fs::read(path).map_err(|e| anyhow!("{} cannot be read: {e}", path.display()))?;
            data::load(&bytes, &path.display().to_string(), &fields)?
        }
        (None, None, Some(file)) => {
            let bytes =
                std::fs::read(file).map_err(|e| anyhow!("task {name}: {file} cannot be read: {e}"))?;
            data::load(&bytes, file, &fields)?
        }
        _ => bail!("task {name} does not say where its problems are"),
    };
    if let Some(wanted) = task.data.sha256.as_ref().filter(|wanted| **wanted != set.digest) {
        bail!(
            "task {name}: {} is not the file that the task names (its sha256 is {}, not {wanted}); give it with --data FILE --task {name} to use it all the same",
            set.name,
            set.digest
        );
    }
    if let Some(keep) = &task.data.keep {
        set.keep(&keep.field, &keep.values);
    }
    if of == name
        && let Some(wanted) = &task.data.answers
        && *wanted != set.answers_digest(task.grade.kind)
    {
        printer.warn(&format!(
            "task {name}: the answers in {} are not those that the task knows; it is a damaged copy or another set",
            set.name
        ));
    }
    if let Some(count) = task.count.filter(|n| *n != set.problems.len()) {
        printer.warn(&format!(
            "task {name} has {count} problems, but {} holds {}",
            set.name,
            set.problems.len()
        ));
    }
    Ok((set, Some(task)))
}
