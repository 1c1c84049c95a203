//! `tts pilot`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::evaluation::{Evaluation, RecordOptions};
use crate::pilot::{Pilot, PilotOptions, Trial, Verdict, WINDOWS, pilot};
use crate::run::{PoolOptions, RecordedPool, RecordingFields, Replayer};
use crate::strategies::Preset;
use crate::{ProblemSet, Settings};
use anyhow::bail;
use clap::Args;
use tabled::builder::Builder;

use super::args::{BatchArgs, ModelArgs, SamplingArgs};
use super::number::{count, percent, plural, seconds};
use super::printer::Printer;
use super::recordings::{SetArgs, has_answers, in_common, reader};
use super::result::{ProblemReport, SetSummary};
use super::solver::OpenedSolver;
use super::table::{drawn, drawn_within};
use super::task::AnswerArgs;
use super::trace_args::{LimitArgs, PromptArgs, of_traces};
use super::{ExitStatus, evaluate, interrupt};

/// Rows of a table of scores.
const SCORES: usize = 8;

#[derive(Args)]
pub(crate) struct PilotArgs {
    /// Looks at this recording of complete traces instead of solving anything
    #[arg(long, value_name = "RECORDING", conflicts_with_all = ["run", "traces", "problems"])]
    replay: Option<PathBuf>,
    /// How many problems are solved, evenly over the set (many sets are sorted by difficulty)
    #[arg(long, value_name = "N", default_value_t = 10)]
    problems: usize,
    /// Complete traces that are recorded of each problem
    #[arg(long, value_name = "N", default_value_t = 16)]
    traces: usize,
    /// Keeps the recording in this folder; the same command goes on where it stopped
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Traces a problem that the whole set is to be solved with, at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    budget: usize,
    /// Share of the problems that a strategy may lose of those that plain majority solves
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.05,
        allow_negative_numbers = true
    )]
    margin: f64,
    /// Random draws of each problem's traces
    #[arg(long, value_name = "N", default_value_t = 32)]
    draws: usize,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    answers: AnswerArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    batch: BatchArgs,
    #[command(flatten)]
    model: ModelArgs,
}

pub(crate) fn run(args: &PilotArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let (budget, margin, draws, seed) = (args.budget, args.margin, args.draws, args.sampling.seed);
    let set = args.set.set(printer)?;
    if let Some(set) = &set {
        args.answers.compare(set, printer)?;
    }
    let gold = set.as_ref().map(ProblemSet::gold).unwrap_or_default();
    let task = set.as_ref().and_then(|s| s.task.clone());
    let mut whole = set.as_ref().map_or(0, |s| s.data.problems.len());
    let names: Vec<String> = set
        .iter()
        .flat_map(|s| s.data.problems.iter().map(|p| p.id.clone()))
        .collect();
    let mut picked = None;
    let (recording, took) = match &args.replay {
        Some(recording) => (RecordingPath::Named(recording.clone()), None),
        None => {
            let recording = match &args.run {
                Some(dir) => RecordingPath::Named(dir.clone()),
                None => RecordingPath::temporary()?,
            };
            let Some(set) = set else {
                bail!("a pilot needs problems: give --data FILE|TASK, or --replay RECORDING");
            };
            let ids = ids(args, &set)?;
            let Some(took) = record(args, set, &ids, recording.path(), printer)? else {
                return Ok(ExitStatus::Interrupted);
            };
            picked = Some(ids);
            (recording, took)
        }
    };
    let fields = match &args.replay {
        Some(_) => args.set.fields()?.recording,
        None => RecordingFields::default(),
    };
    let options = PoolOptions {
        windows: WINDOWS.to_vec(),
        fields,
        ..PoolOptions::default()
    };
    if !recording.path().exists() {
        bail!(
            "--replay {} does not exist; give a run folder or a .jsonl file of traces",
            recording.path().display()
        );
    }
    let pool = std::sync::Arc::new(RecordedPool::open(recording.path(), &options)?);
    for warning in pool.warnings() {
        printer.warn(&format!("{}: {warning}", recording.path().display()));
    }
    in_common(names.iter().map(String::as_str), &pool)?;
    let (reader, reread, _) = reader(&args.answers, task.as_ref(), &pool)?;
    let recorded = Replayer::new(pool.clone(), std::sync::Arc::new(reader), reread);
    let problems = match &picked {
        Some(ids) => pool.select(Some(ids), None)?,
        None => args.set.select(&pool)?,
    };
    if whole == 0 {
        whole = problems.len();
    }
    let tokens: u64 = problems
        .iter()
        .filter_map(|p| pool.traces(p).ok())
        .flatten()
        .map(|r| r.tokens as u64)
        .sum();
    let options = PilotOptions {
        whole,
        budget,
        margin,
        speed: took.map(|took| tokens as f64 / took.as_secs_f64().max(1e-9)),
        draws,
        seed,
    };
    if let Some(note) = crate::replay::ungraded(&gold, &pool, &problems) {
        printer.warn(&note);
    }
    let answered = has_answers(&pool, &problems);
    let pilot = pilot(&recorded, &problems, &gold, &options)?;
    drop(recording);
    if printer.json() {
        printer.object(&pilot)?;
    } else {
        print(&pilot, printer)?;
    }
    Ok(if answered {
        ExitStatus::Done
    } else {
        ExitStatus::NoAnswer
    })
}

/// Where the recording is. A temporary one is removed in the end.
enum RecordingPath {
    Named(PathBuf),
    Temporary(PathBuf),
}

impl RecordingPath {
    fn temporary() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("tts-pilot-{}", std::process::id()));
        if dir.exists() {
            bail!(
                "{} is there already; remove it, or name a folder with --run",
                dir.display()
            );
        }
        Ok(Self::Temporary(dir))
    }
    fn path(&self) -> &Path {
        match self {
            Self::Named(path) | Self::Temporary(path) => path,
        }
    }
}

impl Drop for RecordingPath {
    fn drop(&mut self) {
        if let Self::Temporary(dir) = self {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

/// The problems that are looked at: those that were named, else some spread evenly over the set.
fn ids(args: &PilotArgs, set: &ProblemSet) -> anyhow::Result<Vec<String>> {
    if let Some(ids) = &args.set.ids {
        return Ok(ids.clone());
    }
    let problems = &set.data.problems;
    let all = args.set.limit.unwrap_or(usize::MAX).min(problems.len());
    let wanted = args.problems.min(all);
    if wanted == 0 {
        bail!("--problems 0 and --limit 0 leave nothing to solve: they must be at least 1");
    }
    Ok((0..wanted)
        .map(|i| problems[i * all / wanted].id.clone())
        .collect())
}

/// Records complete traces of a few problems. Gives how long that took, unless some were there before;
/// nothing after Ctrl-C.
fn record(
    args: &PilotArgs,
    mut set: ProblemSet,
    ids: &[String],
    dir: &Path,
    printer: &Printer,
) -> anyhow::Result<Option<Option<Duration>>> {
    let before = dir.join("traces.jsonl").exists();
    set.retain(ids)?;
    let task = args.answers.task()?.or(set.task);
    let reader = args.answers.reader(task.as_ref())?;
    let recording = RecordOptions {
        data: Some(set.data.digest),
        answers: args.answers.describe(task.as_ref(), &reader),
        checkpoint: None,
    };
    let settings = Settings {
        strategy: Preset::named("majority")?,
        traces: args.traces,
        slots: args.batch.slots,
        max_batch: args.batch.max_batch.0,
        memory: args.batch.memory,
        max_total_tokens: args.limits.max_total_tokens,
        time_limit: args.limits.time_limit,
        ..Settings::default()
    };
    let mut settings = of_traces(settings, &args.limits, &args.prompt, &args.sampling, &args.model)?;
    settings.date = Some(args.prompt.day(Some(dir))?);
    settings.instruction = settings
        .instruction
        .or_else(|| task.as_ref()?.asked_after().map(str::to_owned));
    let opened = OpenedSolver::here(&args.model, settings, reader, printer)?;
    let mut evaluation = Evaluation::new(&opened.solver, &set.data.problems)?;
    opened.remark(evaluation.problems(), printer);
    printer.note(&opened.cost(&evaluation));
    evaluate::record(&mut evaluation, dir, recording, printer)?;
    let mut summary = SetSummary::default();
    let ended = interrupt::runtime()?.block_on(evaluate::run(evaluation, printer, |evaluated| {
        summary.add(&ProblemReport::of(evaluated, args.traces));
        Ok(())
    }))?;
    if ids.len() > 1 {
        summary.print(ended.not_started, printer);
    }
    Ok((!ended.interrupted).then_some(Some(ended.took).filter(|_| !before)))
}

fn print(pilot: &Pilot, printer: &Printer) -> anyhow::Result<()> {
    printer.line(&printer.bold(&format!(
        "{}, {} complete traces{}; {} with right and wrong traces",
        plural(pilot.problems as u64, "problem"),
        count(pilot.traces as u64),
        pilot.right.map_or_else(String::new, |r| format!(", {} right", percent(r))),
        count(pilot.mixed as u64)
    )))?;
    if !pilot.scores.is_empty() {
        let mut table = Builder::default();
        table.push_record(["score", "window", "AUROC", "95 %", "problems", "knows"]);
        for s in pilot.scores.iter().take(SCORES) {
            table.push_record([
                s.score.to_owned(),
                s.window.map_or_else(|| "-".to_owned(), |w| w.to_string()),
                format!("{:.2}", s.auroc.mean),
                s.auroc
                    .interval
                    .map_or_else(|| "-".to_owned(), |i| format!("{:.2} to {:.2}", i.low, i.high)),
                count(s.auroc.problems as u64),
                if s.knows { "yes" } else { "unproven" }.to_owned(),
            ]);
        }
        printer.line("")?;
        printer.line(drawn(table, 1).trim_end())?;
    }
    let mut table = Vec::new();
    table.push(
        [
            "strategy",
            "slots",
            "window",
            "accuracy",
            "against majority",
            "may lose",
            "tokens",
            "of majority's",
            "span",
        ]
        .map(str::to_owned)
        .to_vec(),
    );
    for t in &pilot.trials {
        table.push(vec![
            t.strategy.clone(),
            t.slots.to_string(),
            t.window.map_or_else(|| "own".to_owned(), |w| w.to_string()),
            t.accuracy
                .map_or_else(|| "-".to_owned(), |a| format!("{:.1} %", a * 100.0)),
            t.difference
                .map_or_else(|| "-".to_owned(), |d| format!("{:+.1}", d * 100.0)),
            t.may_lose.map_or_else(|| "-".to_owned(), percent),
            count(t.tokens as u64),
            format!("{:.2}", t.share),
            count(t.ticks as u64),
        ]);
    }
    printer.line("")?;
    printer.line(drawn_within(&table, 1, 3, printer.width()).trim_end())?;
    printer.line("")?;
    let (word, rest) = match &pilot.verdict {
        Verdict::Enough => ("use", String::new()),
        Verdict::NotEnough { why, problems_needed } => {
            let more = match problems_needed {
                Some(n) => format!(
                    "; about {} like these would do, if it goes on so",
                    plural(*n, "problem")
                ),
                None => String::new(),
            };
            ("not enough evidence for another: use", format!("\n{why}{more}"))
        }
    };
    printer.line(&format!(
        "{}  {}{rest}",
        printer.bold(word),
        printer.bold(&named(&pilot.advice))
    ))?;
    let range = |i: Option<crate::evals::stats::Interval>| {
        i.map_or_else(String::new, |i| {
            format!(" ({} to {})", count(i.low as u64), count(i.high as u64))
        })
    };
    let time = pilot.seconds.map_or_else(String::new, |s| {
        format!(", about {} at the speed just measured", seconds(s))
    });
    printer.line(&format!(
        "the whole set: {} at {} traces at most, {} tokens{}{time}",
        plural(pilot.whole as u64, "problem"),
        count(pilot.budget as u64),
        count(pilot.tokens as u64),
        range(pilot.tokens_interval)
    ))?;
    for note in &pilot.notes {
        printer.note(note);
    }
    Ok(())
}

/// The flags that choose it.
fn named(trial: &Trial) -> String {
    let window = trial
        .window
        .map_or_else(String::new, |w| format!(" --window {w}"));
    format!("--strategy {} --slots {}{window}", trial.strategy, trial.slots)
}
