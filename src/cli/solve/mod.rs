//! `tts solve`.

mod args;

use crate::bench::estimate::{self, Speed};
use crate::evals::data::Problem;
use crate::evals::task::Task;
use crate::evaluation::{Evaluation, RecordOptions};
use crate::solver::{default_threads, default_tier, problem_id};
use crate::source::Remote;
use crate::{Loaded, Solver};
use anyhow::bail;
use serde_json::json;

use super::number::{count, digits, plural, seconds};
use super::printer::Printer;
use super::result::{ProblemReport, SetSummary};
use super::solver::{OpenedSolver, TraceBackend};
use super::{ExitStatus, evaluate, interrupt, task};
pub(crate) use args::{SolveArgs, of_problems};

pub(crate) fn run(args: &SolveArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let mut settings = args.settings()?;
    let ProblemsToSolve {
        problems,
        task,
        digest,
    } = problems(args, printer)?;
    let task = args.answers.task()?.or(task);
    let reader = args.answers.reader(task.as_ref())?;
    let recording = RecordOptions {
        data: digest,
        answers: args.answers.describe(task.as_ref(), &reader),
        checkpoint: args.checkpoint,
    };
    settings.instruction = settings
        .instruction
        .or_else(|| task.as_ref()?.asked_after().map(str::to_owned));
    let traces = settings.traces;
    let runtime = interrupt::runtime()?;
    let opened = OpenedSolver::named(
        (&args.model, &args.backend, args.confidence_k),
        settings,
        reader,
        (&problems, &runtime),
        printer,
    )?;
    let mut evaluation = Evaluation::new(&opened.solver, &problems)?;
    opened.remark(evaluation.problems(), printer);
    if args.dry_run {
        return dry_run(&opened, &evaluation, printer);
    }
    printer.note(&opened.cost(&evaluation));
    if let Some(dir) = &args.run {
        evaluate::record(&mut evaluation, dir, recording, printer)?;
    }
    let of_set = problems.len() > 1;
    let mut summary = SetSummary::default();
    let ended = runtime.block_on(evaluate::run(evaluation, printer, |evaluated| {
        let report = ProblemReport::of(evaluated, traces);
        summary.add(&report);
        report.print(of_set, traces, printer)
    }))?;
    if of_set {
        summary.print(ended.not_started, printer);
    } else if ended.not_started > 0 {
        printer.warn("the run was cut before the first token");
    }
    Ok(match (ended.interrupted, summary.answered > 0) {
        (true, _) => ExitStatus::Interrupted,
        (false, true) => ExitStatus::Done,
        (false, false) => ExitStatus::NoAnswer,
    })
}

/// What is to be solved.
struct ProblemsToSolve {
    problems: Vec<Problem>,
    /// The task that they belong to.
    task: Option<Task>,
    /// Digest of the set.
    digest: Option<String>,
}

fn problems(args: &SolveArgs, printer: &Printer) -> anyhow::Result<ProblemsToSolve> {
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
                text = super::stdin::text("the problem")?;
            }
            let text = text.trim().to_owned();
            if text.is_empty() {
                bail!("the problem is empty; give its text");
            }
            Ok(ProblemsToSolve {
                problems: vec![single(text)],
                task: None,
                digest: None,
            })
        }
        (None, Some(name)) => {
            // which problems `--ids` means is known when all were read
            let most = args.limit.filter(|limit| args.ids.is_none() && *limit > 0);
            let most = most.unwrap_or(usize::MAX);
            let mut set = task::first_of_dataset(name, &args.field, most, printer)?;
            if most == usize::MAX {
                args.answers.compare(&set, printer)?;
            }
            if let Some(ids) = &args.ids {
                set.retain(ids)?;
            }
            match args.limit {
                Some(0) => bail!("--limit 0 leaves nothing to solve: it must be at least 1"),
                Some(limit) => set.data.problems.truncate(limit),
                None => {}
            }
            Ok(ProblemsToSolve {
                problems: set.data.problems,
                task: set.task,
                digest: Some(set.data.digest),
            })
        }
        (None, None) => bail!(
            "there is nothing to solve: give a problem, `-` to read one from stdin, or --data FILE|TASK"
        ),
    }
}

/// Prints what would be done.
fn dry_run(
    opened: &OpenedSolver,
    evaluation: &Evaluation<'_>,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    match &opened.backend {
        TraceBackend::Local(loaded) => {
            let speed = speed(loaded, &opened.solver, evaluation)?;
            let most = evaluation.plan().tokens as f64 / speed.tokens_per_second();
            here(&opened.solver, evaluation, most, printer)?;
            printer.note(&opened.cost(evaluation));
            printer.note(&format!(
                "{} at most: about {} tokens/s with {}, measured now",
                seconds(most),
                digits(speed.tokens_per_second()),
                plural(speed.traces as u64, "row")
            ));
        }
        TraceBackend::Remote(remote) => {
            printer.note(&opened.cost(evaluation));
            elsewhere(&opened.solver, remote, evaluation, printer)?;
        }
    }
    Ok(ExitStatus::Done)
}

/// A few steps of the batch as it will be, each trace half as long as the plan expects it to become.
fn speed(loaded: &Loaded, solver: &Solver, evaluation: &Evaluation<'_>) -> anyhow::Result<Speed> {
    let settings = solver.settings();
    let mut executor = loaded.placed.executor(
        settings.threads.unwrap_or_else(default_threads),
        settings.tier.unwrap_or_else(default_tier),
    )?;
    let plan = evaluation.plan();
    let expected = plan.engine.map_or(0, |engine| engine.expected_tokens);
    Ok(estimate::of_executor(executor.as_mut(), plan.rows, expected / 2)?)
}

fn here(solver: &Solver, evaluation: &Evaluation<'_>, most: f64, printer: &Printer) -> anyhow::Result<()> {
    let plan = evaluation.plan();
    for p in evaluation.problems() {
        let second = solver.look_to_be(p)?.map(|prompt| prompt.text);
        if printer.json() {
            printer.object(&json!({
                "problem_id": p.id, "prompt": p.prompt.text, "prompt_tokens": p.prompt.ids.len(),
                "token_ids": p.prompt.ids, "second_prompt": second, "model": solver.source().model(),
                "strategy": solver.settings().strategy.name, "sampling": solver.resolved().settled(),
                "traces": plan.traces, "slots": plan.slots, "rows": plan.rows, "max_tokens": p.max_tokens,
                "memory_bytes": plan.memory, "weight_bytes": plan.weights, "seconds_at_most": most,
            }))?;
            continue;
        }
        printer.line(&p.prompt.text)?;
        printer.note(&format!(
            "({} tokens; a trace may generate {})",
            count(p.prompt.ids.len() as u64),
            count(p.max_tokens as u64)
        ));
        show_second(second, printer)?;
    }
    Ok(())
}

fn elsewhere(
    solver: &Solver,
    remote: &Remote,
    evaluation: &Evaluation<'_>,
    printer: &Printer,
) -> anyhow::Result<()> {
    for p in evaluation.problems() {
        let second = solver.look_to_be(p)?.map(|prompt| prompt.text);
        if printer.json() {
            printer.object(&json!({
                "problem_id": p.id, "prompt": p.prompt.text, "prompt_tokens": p.prompt.ids.len(),
                "token_ids": p.prompt.ids, "second_prompt": second, "asked": solver.trace_settings(),
                "engines": remote.about(), "max_tokens": p.max_tokens,
            }))?;
        } else {
            printer.line(&p.prompt.text)?;
            show_second(second, printer)?;
        }
    }
    Ok(())
}

/// The prompt of a second look, where there may be one.
fn show_second(second: Option<String>, printer: &Printer) -> anyhow::Result<()> {
    if let Some(second) = second {
        printer.note("(the second prompt, where the vote stays open, with solutions of the first traces:)");
        printer.line(&second)?;
    }
    Ok(())
}
