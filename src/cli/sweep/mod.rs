//! `tts sweep`.

mod args;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::evaluation::{Evaluation, RecordOptions};
use crate::run::{PoolProblem, RecordingFields, Replayer, RunFolderError, Status};
use crate::solver::{default_threads, named_strategy};
use crate::strategies::Preset;
use crate::sweep::{self, SweepFolder, SweepPlan, SweepResults, SweepRow, decides_recorded};
use crate::{Error, ProblemSet, Settings};
use anyhow::{anyhow, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::number::{count, percent, plural, seconds};
use super::printer::Printer;
use super::recordings::{OpenRecording, has_answers, in_common, reader};
use super::solver::OpenedSolver;
use super::table::{drawn_within, wrapped};
use super::task;
use super::trace_args::of_traces;
use super::{ExitStatus, evaluate, interrupt};

pub(crate) use args::SweepArgs;

pub(crate) fn run(args: &SweepArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let mut budgets = args.traces.clone();
    budgets.sort_unstable();
    budgets.dedup();
    if budgets.first() == Some(&0) {
        bail!("--traces 0 leaves nothing to decide over: every budget must be at least 1");
    }
    let mut strategies = Vec::<Preset>::new();
    for name in &args.strategies {
        let preset = named_strategy(name)?;
        if strategies.iter().any(|s| s.name == preset.name) {
            bail!(
                "--strategies names `{}` twice; a copy with other settings needs a file of another name",
                preset.name
            );
        }
        decides_recorded(&preset).map_err(|e| anyhow!("--strategies: {e}"))?;
        strategies.push(preset);
    }
    let most = budgets.iter().copied().max().unwrap_or(1);
    let mut asked = args.slots.iter().filter_map(|slots| slots.0);
    asked
        .try_for_each(|slots| slots.check(most))
        .map_err(Error::Setting)?;
    let set;
    let (path, dir) = match &args.replay {
        Some(path) => {
            set = args.set.set(printer)?;
            if let Some(set) = &set {
                args.answers.compare(set, printer)?;
            }
            let dir = args.run.clone().unwrap_or_else(|| {
                if path.is_dir() {
                    path.clone()
                } else {
                    named(&path.display().to_string())
                }
            });
            (path.clone(), dir)
        }
        None => {
            let name = args.set.data.as_deref().ok_or_else(|| {
                anyhow!("there is nothing to sweep: give --data FILE|TASK, or a recording with --replay RUN")
            })?;
            let dir = args.run.clone().unwrap_or_else(|| named(name));
            let (made, interrupted) = record(args, most, &dir, printer)?;
            set = Some(made);
            if interrupted {
                printer.warn(&format!(
                    "interrupted; the same command goes on with {}",
                    dir.display()
                ));
                return Ok(ExitStatus::Interrupted);
            }
            (dir.clone(), dir)
        }
    };
    let fields = match &args.replay {
        Some(_) => args.set.fields()?.recording,
        None => RecordingFields::default(),
    };
    let opened = OpenRecording {
        presets: &strategies,
        confidence_k: args.confidence_k,
        fields: &fields,
    };
    let pool = opened.open(&path, printer)?;
    if let Some(set) = &set {
        in_common(set.data.problems.iter().map(|p| p.id.as_str()), &pool)?;
    }
    let (reader, reread, described) =
        reader(&args.answers, set.as_ref().and_then(|s| s.task.as_ref()), &pool)?;
    let plan = SweepPlan {
        strategies,
        budgets,
        slots: args.slots.iter().map(|s| s.0).collect(),
        resamples: args.resamples.0,
        seed: args.resample_seed,
        gold: set.as_ref().map(ProblemSet::gold).unwrap_or_default(),
    };
    let problems = args.set.select(&pool)?;
    if problems.iter().all(|p| p.complete == 0) {
        let mut why = pool.warnings().to_vec();
        if why.is_empty() {
            why.push("no trace was recorded to its end".to_owned());
        }
        return Err(RunFolderError::NothingUsable { path, why }.into());
    }
    let notes = plan.notes(&pool, &problems);
    notes.iter().for_each(|note| printer.warn(note));
    let mut header = plan.header(&pool, &problems, described);
    header.recording.path = (path != dir).then(|| path.display().to_string());
    header.recording.fields = fields;
    header.data = set.map(|s| s.data.digest).or(header.data);
    if let Some(k) = args.confidence_k {
        // another reading of the same traces
        header.recording.digest = format!("{} over {k} ids", header.recording.digest);
    }
    let mut folder = SweepFolder::open(&dir, header)?;
    let recorded = Replayer::new(pool.clone(), Arc::new(reader), reread);
    let stopped = decide(
        &recorded,
        &plan,
        &problems,
        &mut folder,
        args.model.threads,
        printer,
    )?;
    folder.close(
        if stopped {
            Status::Interrupted
        } else {
            Status::Finished
        },
        notes,
    )?;
    show(&dir, printer)?;
    Ok(match (stopped, has_answers(&pool, &problems)) {
        (true, _) => ExitStatus::Interrupted,
        (false, true) => ExitStatus::Done,
        (false, false) => ExitStatus::NoAnswer,
    })
}

/// How often a sweep says how far it is where no line can be written over.
const SAID_EVERY: Duration = Duration::from_secs(30);

/// A folder for a set or a file.
fn named(name: &str) -> PathBuf {
    let stem = Path::new(name)
        .file_stem()
        .map_or_else(|| name.into(), |s| s.to_string_lossy());
    PathBuf::from(format!("sweep-{stem}"))
}

/// Decides everything; true when Ctrl-C ended it before.
fn decide(
    recorded: &Replayer,
    plan: &SweepPlan,
    problems: &[&PoolProblem],
    folder: &mut SweepFolder,
    threads: Option<usize>,
    printer: &Printer,
) -> anyhow::Result<bool> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = interrupt::runtime()?;
    let (token, asked) = (runtime.block_on(async { interrupt::token() }), stop.clone());
    runtime.spawn(async move {
        token.cancelled().await;
        asked.store(true, Ordering::Relaxed);
    });
    let bar = printer.shows_progress().then(|| {
        let bar = ProgressBar::with_draw_target(Some(problems.len() as u64), ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar
    });
    printer.set_bar(bar.clone());
    let (started, mut at_first) = (Instant::now(), None);
    let mut said = Instant::now();
    if bar.is_none() {
        printer.note(&format!(
            "deciding {}, {} each",
            plural(problems.len() as u64, "problem"),
            plural(plan.decisions() as u64, "time")
        ));
    }
    let result = sweep::run(
        recorded,
        plan,
        problems,
        folder,
        threads.unwrap_or_else(default_threads),
        &stop,
        |done| {
            let first = *at_first.get_or_insert(done);
            let left = problems.len() - done;
            let each = started.elapsed().as_secs_f64() / (done - first).max(1) as f64;
            let time = if done > first {
                format!(" · {} left", seconds(each * left as f64))
            } else {
                String::new()
            };
            let line = format!(
                "{}/{} problems decided{time}",
                count(done as u64),
                count(problems.len() as u64)
            );
            match &bar {
                Some(bar) => bar.set_message(line),
                None if said.elapsed() > SAID_EVERY && left > 0 => {
                    said = Instant::now();
                    printer.note(&line);
                }
                None => {}
            }
        },
    );
    printer.set_bar(None);
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    result?;
    Ok(stop.load(Ordering::Relaxed))
}

/// Generates complete traces of every problem into the folder, and says whether Ctrl-C came before the end.
fn record(
    args: &SweepArgs,
    traces: usize,
    dir: &Path,
    printer: &Printer,
) -> anyhow::Result<(ProblemSet, bool)> {
    if args.limits.max_total_tokens.is_some() || args.limits.time_limit.is_some() {
        bail!(
            "--max-total-tokens and --time-limit would cut traces off that a sweep needs complete; leave \
             them out"
        );
    }
    let name = args.set.data.as_deref().unwrap_or_default();
    let mut set = task::dataset(name, &args.set.field, printer)?;
    args.answers.compare(&set, printer)?;
    set.data.problems = set
        .data
        .select(args.set.ids.as_deref().unwrap_or_default(), args.set.limit)?;
    if set.data.problems.is_empty() {
        bail!("--limit 0 leaves nothing to sweep: it must be at least 1");
    }
    set.task = args.answers.task()?.or(set.task);
    let reader = args.answers.reader(set.task.as_ref())?;
    let recording = RecordOptions {
        data: Some(set.data.digest.clone()),
        answers: args.answers.describe(set.task.as_ref(), &reader),
        checkpoint: args.checkpoint,
    };
    let settings = Settings {
        strategy: Preset::named("majority")?,
        traces,
        max_batch: args.max_batch.0,
        memory: args.memory,
        record_top_k: args.record_top_k.unwrap_or(0),
        ..Settings::default()
    };
    let mut settings = of_traces(settings, &args.limits, &args.prompt, &args.sampling, &args.model)?;
    settings.date = Some(args.prompt.day(Some(dir))?);
    settings.instruction = settings.instruction.or_else(|| set.instruction());
    let runtime = interrupt::runtime()?;
    let opened = OpenedSolver::named(
        (&args.model, &args.backend, args.confidence_k),
        settings,
        reader,
        (&set.data.problems, &runtime),
        printer,
    )?;
    let mut evaluation = Evaluation::new(&opened.solver, &set.data.problems)?;
    opened.remark(evaluation.problems(), printer);
    printer.note(&opened.cost(&evaluation));
    evaluate::record(&mut evaluation, dir, recording, printer)?;
    let ended = runtime.block_on(evaluate::run(evaluation, printer, |_| Ok(())))?;
    Ok((set, ended.interrupted))
}

/// Prints what the folder holds.
fn show(dir: &Path, printer: &Printer) -> anyhow::Result<()> {
    let results = SweepResults::read(dir)?.ok_or_else(|| anyhow!("{} holds no sweep", dir.display()))?;
    let (rows, passes) = sweep::summary(&results.lines)?;
    if printer.json() {
        for row in &rows {
            printer.object(row)?;
        }
        for (k, pass) in &passes {
            printer.object(&json!({ "pass_at": k, "pass": pass }))?;
        }
        return Ok(());
    }
    let slots = rows.iter().any(|r| r.slots.is_some());
    let mut head = vec!["strategy", "traces"];
    head.extend(slots.then_some("slots"));
    head.extend([
        "right",
        "other problems",
        "other traces",
        "tokens",
        "of majority",
        "against it",
        "steps",
    ]);
    let keys = head.iter().position(|name| *name == "right").unwrap_or(1);
    let mut table = vec![head.into_iter().map(str::to_owned).collect()];
    table.extend(rows.iter().map(|row| cells(row, slots)));
    printer.line(drawn_within(&table, 1, keys, printer.width()).trim_end())?;
    if !passes.is_empty() {
        let each: Vec<_> = passes
            .iter()
            .map(|(k, p)| format!("@{k} {:.1} %", 100.0 * p))
            .collect();
        let line = format!("pass (any trace right)  {}", each.join("  "));
        printer.line(&wrapped(&line, printer.width(), 2))?;
    }
    printer.note(
        "right: mean over problems and resamples, with the 95 % intervals that other problems and other \
         draws of the traces might have given; against majority at the same budget and over the same draws: \
         difference in points with its interval over problems; steps: tokens one after the other",
    );
    printer.note(&format!(
        "{} in {}; tts report {} draws them",
        plural(rows.len() as u64, "row"),
        dir.join("sweep.jsonl").display(),
        dir.display()
    ));
    Ok(())
}

fn cells(row: &SweepRow, slots: bool) -> Vec<String> {
    let interval = |i: crate::evals::stats::Interval| format!("{:.1}-{:.1}", 100.0 * i.low, 100.0 * i.high);
    let of = |text: Option<String>| text.unwrap_or_default();
    let mut cells = vec![row.strategy.clone(), count(row.budget as u64)];
    if slots {
        cells.push(row.slots.map_or_else(|| "auto".to_owned(), |s| s.to_string()));
    }
    cells.push(of(row.accuracy.map(|a| format!("{:.1} %", 100.0 * a.mean))));
    cells.push(of(row.accuracy.and_then(|a| a.problems).map(interval)));
    cells.push(of(row.accuracy.map(|a| interval(a.traces))));
    cells.push(count(row.tokens.round() as u64));
    cells.push(of(row.of_majority.map(percent)));
    cells.push(of(row.against_majority.map(|c| {
        let d = c.difference;
        let over = d.problems.map_or_else(String::new, |i| {
            format!(" [{:+.1} {:+.1}]", 100.0 * i.low, 100.0 * i.high)
        });
        format!("{:+.1}{over}", 100.0 * d.mean)
    })));
    cells.push(count(row.ticks.round() as u64));
    cells
}
