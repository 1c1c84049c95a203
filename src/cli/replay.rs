//! `tts replay`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{anyhow, bail};
use clap::Args;
use tts::evals::answer::RuleReader;
use tts::evals::data::Problem;
use tts::evals::task::Task;
use tts::replay::{Replay, ReplaySettings};
use tts::run::{AnswerSettings, MachineInfo, Pool, PoolOptions, PoolProblem};
use tts::strategies::Preset;

use super::printer::Printer;
use super::samples::Samples;
use super::solve::{Report, Summary};
use super::strategy::StrategyArgs;
use super::task::{self, AnswerArgs};
use super::{ExitStatus, nearest};

#[derive(Args)]
pub(crate) struct ReplayArgs {
    /// A run folder, a .jsonl file of recorded traces, or a JSON dump of DeepConf's reference code
    #[arg(value_name = "RUN")]
    pub(super) run: PathBuf,
    /// Traces for each problem, at most [default: the recording's]
    #[arg(long, value_name = "N")]
    traces: Option<usize>,
    /// Traces of a problem in flight at once [default: the recording's, else as many as there are traces, at
    /// most 64]
    #[arg(long, value_name = "N")]
    slots: Option<usize>,
    /// Tokens of a problem after which the vote so far decides
    #[arg(long, value_name = "N")]
    max_total_tokens: Option<u64>,
    /// Takes confidence over the K most likely ids instead of 20; the recording must hold them
    /// (--record-top-k)
    #[arg(long, value_name = "K")]
    confidence_k: Option<usize>,
    /// Also writes each problem with all its texts and the answer decided on as a line in the shape of
    /// lm-evaluation-harness's samples
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    #[command(flatten)]
    strategy: StrategyArgs,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    answers: AnswerArgs,
}

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
    /// Which field of the set is what: question=NAME, answer=NAME or id=NAME
    #[arg(long, value_name = "ROLE=NAME")]
    pub(super) field: Vec<String>,
}

/// The right answers of a set.
#[derive(Default)]
pub(super) struct Golds {
    pub(super) by_id: BTreeMap<String, String>,
    pub(super) digest: Option<String>,
    pub(super) task: Option<Task>,
    /// The problems themselves.
    pub(super) problems: Vec<Problem>,
}

impl SetArgs {
    pub(super) fn golds(&self, printer: &Printer) -> anyhow::Result<Golds> {
        let Some(name) = &self.data else {
            return Ok(Golds::default());
        };
        let (set, task) = task::dataset(name, &self.field, printer)?;
        Ok(Golds {
            by_id: set
                .problems
                .iter()
                .filter_map(|p| Some((p.id.clone(), p.answer.clone()?)))
                .collect(),
            digest: Some(set.digest),
            task,
            problems: set.problems,
        })
    }

    /// The problems that are meant, in the recording's order.
    pub(super) fn select<'a>(&self, pool: &'a Pool) -> anyhow::Result<Vec<&'a PoolProblem>> {
        let mut problems: Vec<_> = pool.problems().iter().collect();
        if let Some(ids) = &self.ids {
            for id in ids {
                if !problems.iter().any(|p| p.id == *id) {
                    let tip = nearest(id, problems.iter().map(|p| p.id.as_str()))
                        .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
                    bail!("--ids: {} holds no problem `{id}`{tip}", pool.path().display());
                }
            }
            problems.retain(|p| ids.contains(&p.id));
        }
        match self.limit {
            Some(0) => bail!("--limit 0 leaves nothing to decide: it must be at least 1"),
            Some(limit) => problems.truncate(limit),
            None => {}
        }
        Ok(problems)
    }
}

/// The group sizes that presets fix.
pub(super) fn fixed_windows(presets: &[Preset]) -> Vec<usize> {
    let fixed = presets.iter().filter_map(|preset| preset.build().window());
    fixed.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Opens a recording and says what is wrong with it.
pub(super) fn open(
    path: &Path,
    presets: &[Preset],
    confidence_k: Option<usize>,
    printer: &Printer,
) -> anyhow::Result<Arc<Pool>> {
    if !path.exists() {
        bail!(
            "{} does not exist; give a run folder or a .jsonl file of traces",
            path.display()
        );
    }
    let options = PoolOptions {
        windows: fixed_windows(presets),
        confidence_k,
        ..PoolOptions::default()
    };
    let pool = Pool::open(path, &options)?;
    for warning in pool.warnings() {
        printer.warn(&format!("{}: {warning}", path.display()));
    }
    if let Some(k) = confidence_k {
        let without: usize = pool.problems().iter().map(|p| p.traces - p.confident).sum();
        if without > 0 {
            bail!(
                "--confidence-k {k}: {without} traces of {} were recorded without the log-probabilities of {k} ids for each token (--record-top-k)",
                path.display()
            );
        }
    }
    if pool.problems().iter().all(|p| p.traces == 0) {
        bail!("{} holds no traces", path.display());
    }
    Ok(Arc::new(pool))
}

/// The reader of the answers, whether it reads them anew, and what it is for the record.
pub(super) fn reader(
    answers: &AnswerArgs,
    task: Option<&Task>,
    pool: &Pool,
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

pub(crate) fn run(args: &ReplayArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let golds = args.set.golds(printer)?;
    // the strategy's windows are wanted before the recording is opened, and the recording's strategy only
    // after that
    let named = args.strategy.named()?;
    let pool = open(
        &args.run,
        &named.iter().cloned().collect::<Vec<_>>(),
        args.confidence_k,
        printer,
    )?;
    let (reader, reread, _) = reader(&args.answers, golds.task.as_ref(), &pool)?;
    let strategy = match named {
        Some(preset) => Some(preset),
        None => tts::replay::recorded_strategy(&pool)?
            .map(|p| args.strategy.over(p))
            .transpose()?,
    };
    let asked: BTreeMap<String, Problem> = golds.problems.into_iter().map(|p| (p.id.clone(), p)).collect();
    let mut samples = args.samples.as_deref().map(Samples::create).transpose()?;
    let settings = ReplaySettings {
        strategy,
        traces: args.traces,
        slots: args.slots,
        max_total_tokens: args.max_total_tokens,
        gold: golds.by_id,
    };
    let replay = Replay::new(pool.clone(), settings, Arc::new(reader), reread)?;
    let problems = args.set.select(&pool)?;
    let of_set = problems.len() > 1;
    let mut summary = Summary::default();
    for problem in problems {
        if problem.traces == 0 {
            printer.warn(&format!(
                "problem `{}` has no recorded traces and was passed over",
                problem.id
            ));
            continue;
        }
        let solved = replay
            .solve(problem)
            .map_err(|e| anyhow!("problem `{}`: {e}", problem.id))?;
        let mut result = solved.record();
        result.machine = Some(MachineInfo {
            recording: Some(args.run.display().to_string()),
            ..MachineInfo::default()
        });
        if let Some(samples) = &mut samples {
            let texts = replay.texts(problem)?;
            samples.write(&solved, asked.get(&problem.id), &texts)?;
        }
        let report = Report {
            result,
            full_tokens: solved.estimated_full_tokens(args.traces.unwrap_or(problem.traces)),
        };
        report.print(of_set, args.traces.unwrap_or(problem.traces), printer)?;
        summary.add(&report);
    }
    if let Some(samples) = samples {
        samples.close()?;
    }
    if of_set {
        summary.print(printer);
    }
    Ok(if of_set || summary.answered > 0 {
        ExitStatus::Done
    } else {
        ExitStatus::NoAnswer
    })
}
