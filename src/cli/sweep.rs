//! `tts sweep`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use clap::Args;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tabled::builder::Builder;
use tokio::sync::broadcast;
use tts::run::{AnswerSettings, Pool, PoolProblem, Recorded, Status, StrategyRecord};
use tts::runner::{Prepared, Reader, Solver, default_threads};
use tts::strategies::Preset;
use tts::sweep::{self, Folder, Header, Plan, Results, Row, SCHEMA, Source};
use tts::{Runner, Settings, Watch};

use super::args::{BackendArgs, MaxBatch, ModelArgs, SamplingArgs};
use super::number::{count, percent, plural, seconds};
use super::printer::Printer;
use super::replay::{Golds, SetArgs, open, reader};
use super::solve::{
    Board, Cost, EVENTS, Elsewhere, LimitArgs, PromptArgs, Recorder, manifest, of_traces, remote_manifest,
    report_table, say_what_is_taken,
};
use super::strategy::preset;
use super::task::{self, AnswerArgs};
use super::{ExitStatus, interrupt, number};

#[derive(Args)]
pub(crate) struct SweepArgs {
    /// Decides over this recording: a run folder, or a .jsonl file of traces. Without it the traces are
    /// generated and recorded first
    #[arg(long, value_name = "RUN", conflicts_with_all = ["model", "backend", "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "max_batch"])]
    replay: Option<PathBuf>,
    /// Strategies of `tts list strategies`, or preset files
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "A,B",
        default_value = "majority,deepconf-low,deepconf-high,adaptive-consistency"
    )]
    strategies: Vec<String>,
    /// Budgets: traces that may be launched for a problem
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "N,N",
        default_value = "1,2,4,8,16,32,64"
    )]
    traces: Vec<usize>,
    /// Traces of a problem in flight at once; auto is as many as there are traces, at most 64
    #[arg(long, value_delimiter = ',', value_name = "N,N|auto", default_value = "auto", value_parser = slots)]
    slots: Vec<Slots>,
    /// Random orders in which each problem's traces are taken, or `recorded` for the recorded order once
    #[arg(long, value_name = "N|recorded", default_value = "64", value_parser = resamples)]
    resamples: Resamples,
    /// Seed of the random orders
    #[arg(long, value_name = "N", default_value_t = 0)]
    resample_seed: u64,
    /// Where results (and the recording, where one is made) go [default: the folder of --replay, else
    /// sweep-NAME]
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Also records the log-probabilities of the K most likely ids of every token, so that confidence over
    /// fewer than 20 can be replayed
    #[arg(long, value_name = "K", conflicts_with = "replay")]
    record_top_k: Option<usize>,
    /// Takes confidence over the K most likely ids instead of 20; the recording must hold them
    /// (--record-top-k)
    #[arg(long, value_name = "K")]
    confidence_k: Option<usize>,
    /// While traces are generated, also records those in flight, every so many minutes, tokens and states; a
    /// killed run goes on in the middle of them
    #[arg(long, value_name = "MINUTES", conflicts_with = "replay", value_parser = number::parse_minutes)]
    checkpoint: Option<Duration>,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    answers: AnswerArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Rows of the batch; auto takes what fits into memory
    #[arg(long, value_name = "N|auto", default_value = "auto", hide_default_value = true, value_parser = MaxBatch::parse, help_heading = "Batch")]
    max_batch: MaxBatch,
    /// Memory that traces may take, as 512MiB or 4GiB [default: four fifths of what is free]
    #[arg(long, value_name = "BYTES", value_parser = number::parse_bytes, help_heading = "Batch")]
    memory: Option<u64>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    backend: BackendArgs,
}

#[derive(Clone, Copy)]
struct Slots(Option<usize>);

fn slots(text: &str) -> Result<Slots, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Slots(None)),
        (_, Ok(n)) if n > 0 => Ok(Slots(Some(n))),
        _ => Err("it is a number of traces, at least 1, or auto".to_owned()),
    }
}

#[derive(Clone, Copy)]
struct Resamples(Option<usize>);

fn resamples(text: &str) -> Result<Resamples, String> {
    match (text, text.parse()) {
        ("recorded", _) => Ok(Resamples(None)),
        (_, Ok(n)) if n > 0 => Ok(Resamples(Some(n))),
        _ => Err("it is a number, at least 1, or `recorded` for the recorded order once".to_owned()),
    }
}

pub(crate) fn run(args: &SweepArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let mut budgets = args.traces.clone();
    budgets.sort_unstable();
    budgets.dedup();
    if budgets.first() == Some(&0) {
        bail!("--traces 0 leaves nothing to decide over: every budget must be at least 1");
    }
    let mut strategies = Vec::<Preset>::new();
    for name in &args.strategies {
        let preset = preset(name)?;
        if strategies.iter().any(|s| s.name == preset.name) {
            bail!(
                "--strategies names `{}` twice; a copy with other settings needs a file of another name",
                preset.name
            );
        }
        strategies.push(preset);
    }
    let golds;
    let (path, dir) = match &args.replay {
        Some(path) => {
            golds = args.set.golds(printer)?;
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
            let most = budgets.last().copied().unwrap_or(1);
            let (made, interrupted) = record(args, most, &dir, printer)?;
            golds = made;
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
    let pool = open(&path, &strategies, args.confidence_k, printer)?;
    let (reader, reread, described) = reader(&args.answers, golds.task.as_ref(), &pool)?;
    let plan = Plan {
        strategies,
        budgets,
        slots: args.slots.iter().map(|s| s.0).collect(),
        resamples: args.resamples.0,
        seed: args.resample_seed,
        gold: golds.by_id,
    };
    let problems = args.set.select(&pool)?;
    let notes = notes(&pool, &plan, &problems);
    notes.iter().for_each(|note| printer.warn(note));
    let mut header = header(
        &pool,
        &plan,
        &problems,
        (path != dir).then_some(path.as_path()),
        golds.digest,
        described,
    );
    if let Some(k) = args.confidence_k {
        // another reading of the same traces
        header.recording.digest = format!("{} over {k} ids", header.recording.digest);
    }
    let mut folder = Folder::open(&dir, header)?;
    let recorded = Recorded::new(pool.clone(), Arc::new(reader), reread);
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
    Ok(if stopped {
        ExitStatus::Interrupted
    } else {
        ExitStatus::Done
    })
}

/// A folder for a set or a file.
fn named(name: &str) -> PathBuf {
    let stem = Path::new(name)
        .file_stem()
        .map_or_else(|| name.into(), |s| s.to_string_lossy());
    PathBuf::from(format!("sweep-{stem}"))
}

/// What the reader of the results should know.
fn notes(pool: &Pool, plan: &Plan, problems: &[&PoolProblem]) -> Vec<String> {
    let mut notes = Vec::new();
    let most = plan.budgets.last().copied().unwrap_or(1);
    let fewest = problems.iter().map(|p| p.complete).min().unwrap_or(0);
    if fewest < most {
        let few = problems.iter().filter(|p| p.complete < most).count();
        notes.push(format!(
            "in {} of {} there are fewer than {most} complete traces (the fewest {fewest}): the budget is then what there is",
            count(few as u64),
            plural(problems.len() as u64, "problem")
        ));
    }
    let cut: usize = problems.iter().map(|p| p.traces - p.complete).sum();
    if cut > 0 {
        notes.push(format!(
            "left out: {} that the recorded run itself had stopped or cancelled; what they would have said is not known",
            plural(cut as u64, "trace")
        ));
    }
    let gold = |p: &&&PoolProblem| {
        let graded = || Some(pool.decided()?.last_decided(&p.id).ok()??.gold.is_some());
        plan.gold.contains_key(&p.id) || p.gold.is_some() || graded().unwrap_or(false)
    };
    let without = problems.len() - problems.iter().filter(gold).count();
    if without > 0 {
        notes.push(format!(
            "{} without a right answer to compare with, not counted in any accuracy; --data names the set",
            plural(without as u64, "problem")
        ));
    }
    notes
}

fn header(
    pool: &Pool,
    plan: &Plan,
    problems: &[&PoolProblem],
    path: Option<&Path>,
    data: Option<String>,
    answers: AnswerSettings,
) -> Header {
    Header {
        schema: SCHEMA,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        recording: Source {
            path: path.map(|p| p.display().to_string()),
            digest: pool.digest().to_owned(),
        },
        traces: pool.manifest().map(|m| m.traces.clone()),
        data: data.or_else(|| pool.manifest()?.data.clone()),
        strategies: plan.strategies.iter().map(StrategyRecord::from).collect(),
        budgets: plan.budgets.clone(),
        slots: plan.slots.clone(),
        resamples: plan.resamples,
        seed: plan.seed,
        answers,
        problems: problems.iter().map(|p| p.id.clone()).collect(),
        status: Status::Started,
        notes: Vec::new(),
    }
}

/// Decides everything; true when Ctrl-C ended it before.
fn decide(
    recorded: &Recorded,
    plan: &Plan,
    problems: &[&PoolProblem],
    folder: &mut Folder,
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
    let result = sweep::run(
        recorded,
        plan,
        problems,
        folder,
        threads.unwrap_or_else(default_threads),
        &stop,
        |done| {
            let first = *at_first.get_or_insert(done);
            if let Some(bar) = &bar {
                let left = problems.len() - done;
                let each = started.elapsed().as_secs_f64() / (done - first).max(1) as f64;
                let time = if done > first {
                    format!(" · {} left", seconds(each * left as f64))
                } else {
                    String::new()
                };
                bar.set_message(format!(
                    "{}/{} problems decided{time}",
                    count(done as u64),
                    count(problems.len() as u64)
                ));
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
fn record(args: &SweepArgs, traces: usize, dir: &Path, printer: &Printer) -> anyhow::Result<(Golds, bool)> {
    if args.limits.max_total_tokens.is_some() || args.limits.time_limit.is_some() {
        bail!(
            "--max-total-tokens and --time-limit would cut traces off that a sweep needs complete; leave them out"
        );
    }
    let name = args.set.data.as_deref().unwrap_or_default();
    let (set, own_task) = task::dataset(name, &args.set.field, printer)?;
    set.warnings.iter().for_each(|w| printer.warn(w));
    let problems = set.select(args.set.ids.as_deref().unwrap_or_default(), args.set.limit)?;
    if problems.is_empty() {
        bail!("--limit 0 leaves nothing to sweep: it must be at least 1");
    }
    let task = args.answers.task()?.or(own_task);
    let reader = args.answers.reader(task.as_ref())?;
    let answers = args.answers.describe(task.as_ref(), &reader);
    let settings = Settings {
        strategy: Preset::named("majority")?,
        traces,
        max_batch: args.max_batch.0,
        memory: args.memory,
        record_top_k: args.record_top_k.unwrap_or(0),
        ..Settings::default()
    };
    let mut settings = of_traces(settings, &args.limits, &args.prompt, &args.sampling, &args.model)?;
    if settings.instruction.is_none() {
        settings.instruction = task
            .as_ref()
            .map(|t| t.instruction.clone())
            .filter(|i| !i.is_empty());
    }
    let interrupted = if args.backend.is_remote() {
        let elsewhere = Elsewhere::reach(
            &args.backend,
            &args.model,
            args.confidence_k,
            settings,
            &problems,
            reader,
            printer,
        )?;
        let manifest = remote_manifest(&elsewhere.runner, Some(set.digest.clone()), answers);
        let recorder = Recorder::open(Some(dir), manifest, &elsewhere.prepared, args.checkpoint, printer)?;
        let all = record_all(
            &elsewhere.runner,
            &elsewhere.prepared,
            elsewhere.side_by_side(),
            recorder,
            printer,
        );
        elsewhere.runtime.block_on(all)?
    } else {
        let runner = Runner::new(args.model.open(printer)?, settings)?.with_reader(Reader::Rules(reader));
        let prepared = problems
            .iter()
            .map(|p| runner.prepare(p))
            .collect::<Result<Vec<_>, _>>()?;
        say_what_is_taken(&runner, &prepared, printer);
        let (plan, cost) = Cost::planned(&runner, &prepared);
        printer.note(&cost.sentence());
        let manifest = manifest(&runner, &prepared, Some(set.digest.clone()), answers)?;
        let recorder = Recorder::open(Some(dir), manifest, &prepared, args.checkpoint, printer)?;
        runner.start(plan)?;
        interrupt::runtime()?.block_on(record_all(
            &runner,
            &prepared,
            cost.side_by_side,
            recorder,
            printer,
        ))?
    };
    let golds = Golds {
        by_id: problems
            .iter()
            .filter_map(|p| Some((p.id.clone(), p.answer.clone()?)))
            .collect(),
        digest: Some(set.digest),
        task,
        problems,
    };
    Ok((golds, interrupted))
}

/// Records every trace of every problem; true when Ctrl-C came before the end.
async fn record_all(
    solver: &dyn Solver,
    prepared: &[Prepared],
    side_by_side: usize,
    recorder: Recorder,
    printer: &Printer,
) -> anyhow::Result<bool> {
    let interrupt = interrupt::token();
    let (events, watched) = broadcast::channel(EVENTS);
    let board = Board::start(watched, prepared.len(), printer);
    let one = |p| {
        let watch = Watch {
            events: Some(events.clone()),
            interrupt: interrupt.clone(),
            ..Watch::default()
        };
        let recorder = &recorder;
        async move {
            if recorder.decided(p)?.is_none() {
                let solved = solver.solve(p, recorder.watch(p, watch)?).await?;
                recorder.keep(&solved)?;
            }
            Ok::<_, anyhow::Error>(())
        }
    };
    let mut results = futures::stream::iter(prepared)
        .map(one)
        .buffered(side_by_side.max(1));
    let mut outcome = Ok(());
    while let Some(result) = results.next().await {
        if let Err(error) = result
            && !interrupt.is_cancelled()
        {
            outcome = Err(error);
            break;
        }
    }
    drop(results);
    board.finish(printer);
    let interrupted = outcome.map(|()| interrupt.is_cancelled());
    recorder.close(matches!(interrupted, Ok(false)))?;
    interrupted
}

/// Prints what the folder holds.
fn show(dir: &Path, printer: &Printer) -> anyhow::Result<()> {
    let results = Results::read(dir)?.ok_or_else(|| anyhow!("{} holds no sweep", dir.display()))?;
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
    let mut table = Builder::default();
    let mut head = vec!["strategy", "traces"];
    head.extend(slots.then_some("slots"));
    head.extend([
        "right",
        "other problems",
        "other traces",
        "tokens",
        "of majority",
        "against it",
        "span",
    ]);
    table.push_record(head);
    for row in &rows {
        table.push_record(cells(row, slots));
    }
    printer.line(report_table(table, 1).trim_end())?;
    if !passes.is_empty() {
        let each: Vec<_> = passes
            .iter()
            .map(|(k, p)| format!("@{k} {:.1} %", 100.0 * p))
            .collect();
        printer.line(&format!("pass (any trace right)  {}", each.join("  ")))?;
    }
    printer.note(
        "right: mean over problems and resamples, with the 95 % intervals that other problems and other draws of the traces might have given; against \
         majority at the same budget and over the same draws: difference in points with its interval over problems; span: tokens one after the other",
    );
    printer.note(&format!(
        "{} in {}; tts report {} draws them",
        plural(rows.len() as u64, "row"),
        dir.join("sweep.jsonl").display(),
        dir.display()
    ));
    Ok(())
}

fn cells(row: &Row, slots: bool) -> Vec<String> {
    let interval = |i: tts::evals::stats::Interval| format!("{:.1}-{:.1}", 100.0 * i.low, 100.0 * i.high);
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
