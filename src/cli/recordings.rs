//! Flags of commands that decide over a recording: which problems, and how it is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::ProblemSet;
use crate::evals::answer::RuleReader;
use crate::evals::task::Task;
use crate::run::{AnswerSettings, PoolOptions, PoolProblem, RecordedPool, RecordingFields};
use crate::strategies::Preset;
use anyhow::bail;
use clap::Args;

use super::printer::Printer;
use super::task::{AnswerArgs, dataset};

/// Which problems of a recording, and their right answers.
#[derive(Args)]
#[command(next_help_heading = "Problems")]
pub(crate) struct SetArgs {
    /// The set of problems that was recorded, for its right answers: a file, or a task of `tts list tasks`
    #[arg(long, value_name = "FILE|TASK")]
    pub(super) data: Option<String>,
    /// Only these problems
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub(super) ids: Option<Vec<String>>,
    /// Only the first N problems
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
    /// Which field is what: of the set question=NAME, answer=NAME or id=NAME; of a recording made elsewhere
    /// answers=NAME, gold=NAME, tokens=NAME, confidence=NAME, text=NAME, and without --data also answer=NAME
    /// or id=NAME
    #[arg(long, value_name = "ROLE=NAME")]
    pub(super) field: Vec<String>,
}

/// Refuses a set that has no problem of the recording, whose right answers would be taken from elsewhere.
pub(super) fn in_common<'a>(
    mut set: impl Iterator<Item = &'a str>,
    pool: &RecordedPool,
) -> anyhow::Result<()> {
    let Some(first) = set.next() else {
        return Ok(());
    };
    let recorded: BTreeSet<&str> = pool.problems().iter().map(|p| p.id.as_str()).collect();
    let shared = std::iter::once(first).chain(set).any(|id| recorded.contains(id));
    if shared || recorded.is_empty() {
        return Ok(());
    }
    bail!(
        "no problem of the recording is called as one of the set (`{}` there, `{first}` here): --data names \
         another set, or --field id=NAME the field of its names",
        recorded.first().unwrap_or(&"")
    );
}

/// Whether any trace of these problems has an answer.
pub(super) fn has_answers(pool: &RecordedPool, problems: &[&PoolProblem]) -> bool {
    let answered = |p: &&PoolProblem| {
        let traces = pool.traces(p);
        traces.is_ok_and(|traces| traces.iter().any(|trace| trace.answer.is_some()))
    };
    problems.iter().any(answered)
}

/// What `--field` says of the set and of the recording.
#[derive(Default)]
pub(super) struct NamedFields {
    pub(super) set: Vec<String>,
    pub(super) recording: RecordingFields,
}

impl NamedFields {
    /// Whose each field is: a set's, where one is named and it has such a role, else the recording's.
    pub(super) fn of(given: &[String], has_set: bool) -> anyhow::Result<Self> {
        let mut fields = Self::default();
        let mut roles: BTreeMap<&str, &String> = BTreeMap::new();
        for argument in given {
            let role = argument.split('=').next().unwrap_or_default().trim();
            if let Some(first) = roles.insert(role, argument).filter(|first| *first != argument) {
                bail!("--field {argument} contradicts --field {first}");
            }
            if has_set && ["question", "problem", "answer", "id"].contains(&role) {
                fields.set.push(argument.clone());
            } else if !fields.recording.set(argument) {
                bail!(
                    "--field {argument}: of a recording write ROLE=NAME with one of {}; question=NAME is of \
                     the set, which --data names",
                    RecordingFields::ROLES
                );
            }
        }
        Ok(fields)
    }
}

impl SetArgs {
    /// The set, where one was named.
    pub(super) fn set(&self, printer: &Printer) -> anyhow::Result<Option<ProblemSet>> {
        let fields = self.fields()?.set;
        let open = |name: &String| dataset(name, &fields, printer);
        self.data.as_ref().map(open).transpose()
    }

    pub(super) fn fields(&self) -> anyhow::Result<NamedFields> {
        NamedFields::of(&self.field, self.data.is_some())
    }

    /// The problems that are meant, in the recording's order.
    pub(super) fn select<'a>(&self, pool: &'a RecordedPool) -> anyhow::Result<Vec<&'a PoolProblem>> {
        if self.limit == Some(0) {
            bail!("--limit 0 leaves nothing to decide: it must be at least 1");
        }
        Ok(pool.select(self.ids.as_deref(), self.limit)?)
    }
}

/// The group sizes that presets fix.
pub(super) fn fixed_windows(presets: &[Preset]) -> Vec<usize> {
    let fixed = presets.iter().filter_map(|preset| preset.build().window());
    fixed.collect::<BTreeSet<_>>().into_iter().collect()
}

/// How a recording is opened.
pub(super) struct OpenRecording<'a> {
    /// strategies that will decide over it
    pub(super) presets: &'a [Preset],
    pub(super) confidence_k: Option<usize>,
    pub(super) fields: &'a RecordingFields,
}

impl OpenRecording<'_> {
    /// Opens a recording and says what is wrong with it.
    pub(super) fn open(&self, path: &Path, printer: &Printer) -> anyhow::Result<Arc<RecordedPool>> {
        let pool = self.pool(path)?;
        for warning in pool.warnings() {
            printer.warn(&format!("{}: {warning}", path.display()));
        }
        Ok(pool)
    }

    fn pool(&self, path: &Path) -> anyhow::Result<Arc<RecordedPool>> {
        let confidence_k = self.confidence_k;
        if !path.exists() {
            bail!(
                "{} does not exist; give a run folder or a .jsonl file of traces",
                path.display()
            );
        }
        let options = PoolOptions {
            windows: fixed_windows(self.presets),
            confidence_k,
            fields: self.fields.clone(),
            ..PoolOptions::default()
        };
        if path.is_dir() && !self.fields.is_empty() {
            bail!(
                "--field names fields of recordings made elsewhere; {} is a run folder",
                path.display()
            );
        }
        let pool = RecordedPool::open(path, &options)?;
        if let Some(k) = confidence_k {
            let without: usize = pool.problems().iter().map(|p| p.traces - p.confident).sum();
            if without > 0 {
                bail!(
                    "--confidence-k {k}: {without} traces of {} were recorded without the log-probabilities \
                     of {k} ids for each token (--record-top-k)",
                    path.display()
                );
            }
        }
        if pool.problems().iter().all(|p| p.traces == 0) {
            bail!("{} holds no traces", path.display());
        }
        Ok(Arc::new(pool))
    }
}

/// The reader of the answers, whether it reads them anew, and what it is for the record.
pub(super) fn reader(
    answers: &AnswerArgs,
    task: Option<&Task>,
    pool: &RecordedPool,
) -> anyhow::Result<(RuleReader, bool, AnswerSettings)> {
    let recorded = pool.manifest().and_then(|m| m.decisions.answers.as_ref());
    match recorded {
        Some(recorded) if !answers.any() => Ok((recorded.reader(), false, recorded.clone())),
        _ => {
            let named = answers.task()?;
            let task = named.as_ref().or(task);
            let reader = answers.reader(task)?;
            let described = answers.describe(task, &reader);
            Ok((reader, answers.any(), described))
        }
    }
}
