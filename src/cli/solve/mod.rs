//! `tts solve`.

mod args;
mod board;
mod recording;
mod remote;
mod report;

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use futures::StreamExt;
use serde_json::json;
use tokio::sync::broadcast;
use tts::engine::memory::Plan;
use tts::evals::data::Problem;
use tts::evals::generate::recognise;
use tts::evals::task::Task;
use tts::run::RunError;
use tts::runner::{Prepared, Reader, Solver, deadline, problem_id};
use tts::{Error, Runner, Watch};

use super::printer::Printer;
use super::{ExitStatus, interrupt, nearest, number, task};
pub(crate) use args::{LimitArgs, PromptArgs, SolveArgs, of_problems, of_traces};
pub(crate) use board::Board;
pub(crate) use recording::{Recorder, manifest, remote_manifest};
pub(crate) use remote::{Elsewhere, engines};
pub(crate) use report::drawn as report_table;
pub(crate) use report::{Report, Summary};

/// Rows that keep the machine busy. More read the weights no more cheaply, and their states no longer fit its
/// cache.
const BUSY_ROWS: usize = 64;
/// Problems of which a few last traces run beside those that fill the batch.
const ENDING: usize = 3;
/// Progress events that may wait to be shown.
pub(crate) const EVENTS: usize = 1024;

pub(crate) fn run(args: &SolveArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    Ok(solved(args, printer)?.0)
}

/// Solves, and says how long that took once the model was there; nothing for a dry run.
pub(crate) fn solved(args: &SolveArgs, printer: &Printer) -> anyhow::Result<(ExitStatus, Option<Duration>)> {
    let mut settings = args.settings()?;
    let Asked {
        problems,
        task,
        digest,
    } = problems(args, printer)?;
    let task = args.answers.task()?.or(task);
    let reader = args.answers.reader(task.as_ref())?;
    let answers = args.answers.describe(task.as_ref(), &reader);
    if settings.instruction.is_none() {
        settings.instruction = task
            .as_ref()
            .map(|t: &Task| t.instruction.clone())
            .filter(|i| !i.is_empty());
    }
    if args.backend.is_remote() {
        let elsewhere = Elsewhere::reach(
            &args.backend,
            &args.model,
            args.confidence_k,
            settings,
            &problems,
            reader,
            printer,
        )?;
        return elsewhere.solve(args, digest, answers, printer);
    }
    let loaded = args.model.open(printer)?;
    let runner = Runner::new(loaded, settings)?.with_reader(Reader::Rules(reader));
    let prepared = problems
        .iter()
        .map(|p| runner.prepare(p))
        .collect::<Result<Vec<_>, _>>()?;
    say_what_is_taken(&runner, &prepared, printer);

    let (plan, cost) = Cost::planned(&runner, &prepared);
    if args.dry_run {
        return Ok((dry_run(&runner, &prepared, &cost, printer)?, None));
    }
    printer.note(&cost.sentence());
    let manifest = manifest(&runner, &prepared, digest, answers)?;
    let recorder = Recorder::open(args.run.as_deref(), manifest, &prepared, args.checkpoint, printer)?;
    runner.start(plan)?;
    let before = Instant::now();
    let status = interrupt::runtime()?.block_on(solve_all(
        &runner,
        &prepared,
        cost.side_by_side,
        recorder,
        printer,
    ))?;
    Ok((status, Some(before.elapsed())))
}

/// What is to be solved.
struct Asked {
    problems: Vec<Problem>,
    /// The task that they belong to.
    task: Option<Task>,
    /// Digest of the set.
    digest: Option<String>,
}

fn problems(args: &SolveArgs, printer: &Printer) -> anyhow::Result<Asked> {
    let single = |text: String| Problem {
        id: problem_id(&text),
        problem: text,
        answer: None,
        extra: serde_json::Map::new(),
    };
    match (&args.problem, &args.data) {
        (Some(text), _) => {
            let mut text = text.clone();
            if text == "-" {
                text.clear();
                std::io::stdin()
                    .lock()
                    .read_to_string(&mut text)
                    .map_err(|e| anyhow!("the problem on stdin cannot be read: {e}"))?;
            }
            let text = text.trim().to_owned();
            if text.is_empty() {
                bail!("the problem is empty; give its text");
            }
            Ok(Asked {
                problems: vec![single(text)],
                task: None,
                digest: None,
            })
        }
        (None, Some(name)) => {
            let (set, task) = task::dataset(name, &args.field, printer)?;
            for warning in &set.warnings {
                printer.warn(warning);
            }
            let mut problems = set.problems;
            if let Some(ids) = &args.ids {
                for id in ids {
                    if !problems.iter().any(|p| p.id == *id) {
                        let tip = nearest(id, problems.iter().map(|p| p.id.as_str()))
                            .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
                        bail!("--ids: {} has no problem `{id}`{tip}", set.name);
                    }
                }
                problems.retain(|p| ids.contains(&p.id));
            }
            match args.limit {
                Some(0) => bail!("--limit 0 leaves nothing to solve: it must be at least 1"),
                Some(limit) => problems.truncate(limit),
                None => {}
            }
            Ok(Asked {
                problems,
                task,
                digest: Some(set.digest),
            })
        }
        (None, None) => bail!(
            "there is nothing to solve: give a problem, `-` to read one from stdin, or --data FILE|TASK"
        ),
    }
}

/// Settings that the user did not choose, and what the model is not made for.
pub(crate) fn say_what_is_taken(runner: &Runner, prepared: &[Prepared], printer: &Printer) {
    let resolved = runner.resolved();
    if !resolved.taken.is_empty() {
        printer.note(&format!(
            "from the model's generation_config.json: {}",
            resolved.taken.join(", ")
        ));
    }
    if !resolved.unhonoured.is_empty() {
        printer.warn(&format!(
            "generation_config.json asks for what is not done here: {}",
            resolved.unhonoured.join(", ")
        ));
    }
    let strange = prepared
        .iter()
        .filter(|p| recognise(&p.problem).is_none())
        .count();
    if let Some(note) = runner
        .loaded()
        .prompter
        .as_ref()
        .and_then(|p| p.note())
        .filter(|_| runner.loaded().bundled && strange > 0)
    {
        let which = if prepared.len() == 1 {
            "this problem is".to_owned()
        } else {
            format!("{strange} of {} problems are", prepared.len())
        };
        printer.warn(&format!(
            "{which} outside what the bundled model has learnt: it {note}. Name another with --model"
        ));
    }
}

/// What a run will cost at most.
pub(crate) struct Cost {
    problems: usize,
    traces: usize,
    slots: usize,
    rows: usize,
    pub(crate) side_by_side: usize,
    memory: u64,
    weights: u64,
    tokens: u64,
    strategy: String,
}

impl Cost {
    /// With the plan that it follows from: room for the longest prompt and the longest trace.
    pub(crate) fn planned(runner: &Runner, prepared: &[Prepared]) -> (Plan, Self) {
        let longest = prepared.iter().map(|p| p.prompt.ids.len()).max().unwrap_or(1);
        let max_tokens = prepared.iter().map(|p| p.max_tokens).max().unwrap_or(1);
        let mut plan = runner.plan(longest, max_tokens);
        plan.busy = Some(BUSY_ROWS);
        let settings = runner.settings();
        let slots = runner.resolved().slots.min(plan.max_batch);
        let side_by_side =
            ((BUSY_ROWS.div_ceil(slots) + ENDING).min(plan.max_batch / slots) + 1).min(prepared.len());
        let rows = (slots * side_by_side)
            .min(plan.max_batch)
            .min(plan.most_before(slots).saturating_add(slots));
        let per_problem = |p: &Prepared| {
            let all = p.max_tokens as u64 * settings.traces as u64;
            settings
                .max_total_tokens
                .map_or(all, |most| most.saturating_add(slots as u64).min(all))
        };
        let cost = Self {
            problems: prepared.len(),
            traces: settings.traces,
            slots,
            rows,
            side_by_side,
            memory: (rows as u64 * plan.bytes_per_trace).min(plan.budget),
            weights: runner.loaded().model.bytes() as u64,
            tokens: prepared.iter().map(per_problem).sum(),
            strategy: settings.strategy.name.clone(),
        };
        (plan, cost)
    }

    pub(crate) fn sentence(&self) -> String {
        let problems = if self.problems == 1 {
            String::new()
        } else {
            format!("{}, each with ", number::plural(self.problems as u64, "problem"))
        };
        format!(
            "{problems}{} at most ({}), {} at a time, {} in the batch; about {} beside {} of weights; {} tokens at most",
            number::plural(self.traces as u64, "trace"),
            self.strategy,
            number::count(self.slots as u64),
            number::plural(self.rows as u64, "row"),
            number::bytes(self.memory),
            number::bytes(self.weights),
            number::count(self.tokens),
        )
    }
}

/// Prints what would be done.
fn dry_run(
    runner: &Runner,
    prepared: &[Prepared],
    cost: &Cost,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    for p in prepared {
        if printer.json() {
            printer.object(&json!({
                "problem_id": p.id, "prompt": p.prompt.text, "prompt_tokens": p.prompt.ids.len(), "token_ids": p.prompt.ids,
                "model": runner.loaded().name, "strategy": cost.strategy, "sampling": runner.resolved().sampling(),
                "traces": cost.traces, "slots": cost.slots, "rows": cost.rows, "max_tokens": p.max_tokens,
                "memory_bytes": cost.memory, "weight_bytes": cost.weights,
            }))?;
            continue;
        }
        printer.line(&p.prompt.text)?;
        printer.note(&format!(
            "({} tokens; a trace may generate {})",
            number::count(p.prompt.ids.len() as u64),
            number::count(p.max_tokens as u64)
        ));
    }
    printer.note(&cost.sentence());
    Ok(ExitStatus::Done)
}

async fn solve_all(
    solver: &dyn Solver,
    prepared: &[Prepared],
    side_by_side: usize,
    recorder: Recorder,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let interrupt = interrupt::token();
    let deadline = deadline(solver.settings().time_limit);
    let (events, watched) = broadcast::channel(EVENTS);
    let mut board = Some(Board::start(watched, prepared.len(), printer));
    let of_set = prepared.len() > 1;
    let one = |p| {
        let watch = Watch {
            events: Some(events.clone()),
            interrupt: interrupt.clone(),
            deadline,
            ..Watch::default()
        };
        let recorder = &recorder;
        async move {
            if let Some(result) = recorder.decided(p)? {
                return Ok::<_, anyhow::Error>(Report {
                    result,
                    full_tokens: None,
                });
            }
            let solved = solver.solve(p, recorder.watch(p, watch)?).await?;
            recorder.keep(&solved)?;
            Ok(Report {
                result: solved.record(),
                full_tokens: solved.estimated_full_tokens(solver.settings().traces),
            })
        }
    };
    let mut results = futures::stream::iter(prepared)
        .map(one)
        .buffered(side_by_side.max(1));
    let mut summary = Summary::default();
    let mut failure: Option<anyhow::Error> = None;
    while let Some(result) = results.next().await {
        match result {
            Ok(report) => {
                if let Some(board) = board.take_if(|_| !of_set) {
                    board.finish(printer);
                }
                report.print(of_set, solver.settings().traces, printer)?;
                summary.add(&report);
            }
            Err(error) if matches!(error.downcast_ref(), Some(Error::Run(RunError::NotStarted(_)))) => {
                summary.not_started += 1
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    drop(results);
    if let Some(board) = board {
        board.finish(printer);
    }
    let interrupted = interrupt.is_cancelled();
    let closed = recorder.close(failure.is_none() && !interrupted && summary.not_started == 0);
    if let Some(error) = failure {
        return Err(error);
    }
    closed?;
    if of_set {
        summary.print(printer);
    } else if summary.not_started > 0 {
        printer.warn("the run was cut before the first token");
    }
    Ok(match (interrupted, of_set || summary.answered > 0) {
        (true, _) => ExitStatus::Interrupted,
        (false, true) => ExitStatus::Done,
        (false, false) => ExitStatus::NoAnswer,
    })
}
