//! The solver that the flags name: a model that runs here, or engines elsewhere.

use std::sync::Arc;

use crate::evals::answer::RuleReader;
use crate::evals::data::Problem;
use crate::evals::generate::recognise;
use crate::evaluation::Evaluation;
use crate::run::EngineInfo;
use crate::solver::{Prepared, Reader, UNLEARNT};
use crate::source::{Remote, TraceSource};
use crate::{Loaded, Settings, Solver};
use tokio::runtime::Runtime;

use super::args::{BackendArgs, ModelArgs};
use super::number::{bytes, count, plural};
use super::printer::Printer;

/// A solver, and what it stands on.
pub(crate) struct OpenedSolver {
    pub(crate) solver: Solver,
    pub(crate) backend: TraceBackend,
}

/// Where traces come from.
pub(crate) enum TraceBackend {
    /// The model runs here.
    Local(Box<Loaded>),
    /// Engines elsewhere run it.
    Remote(Arc<Remote>),
}

impl OpenedSolver {
    /// A model that runs here.
    pub(crate) fn here(
        model: &ModelArgs,
        settings: Settings,
        reader: RuleReader,
        printer: &Printer,
    ) -> anyhow::Result<Self> {
        let loaded = model.open(printer)?;
        Ok(Self {
            solver: Solver::local(loaded.clone(), settings)?.with_reader(Reader::Rules(reader)),
            backend: TraceBackend::Local(Box::new(loaded)),
        })
    }

    /// The engines where some are named, asked with a request as one of the problems will make it; else a
    /// model that runs here.
    pub(crate) fn named(
        (model, backend, confidence_k): (&ModelArgs, &BackendArgs, Option<usize>),
        settings: Settings,
        reader: RuleReader,
        (problems, runtime): (&[Problem], &Runtime),
        printer: &Printer,
    ) -> anyhow::Result<Self> {
        if !backend.is_remote() {
            return Self::here(model, settings, reader, printer);
        }
        let Some(first) = problems.first() else {
            anyhow::bail!("there is nothing to solve: the set is empty");
        };
        let options = backend.options(confidence_k);
        let connected = Solver::remote(&options, backend.api(), settings, model.prompter()?, first);
        let (solver, remote) = runtime.block_on(connected)?;
        Ok(Self {
            solver: solver.with_reader(Reader::Rules(reader)),
            backend: TraceBackend::Remote(remote),
        })
    }

    /// Says what the user did not choose, and what the model or the engines are not made for.
    pub(crate) fn remark(&self, problems: &[Prepared], printer: &Printer) {
        match &self.backend {
            TraceBackend::Local(loaded) => remark(&self.solver, loaded, problems, printer),
            TraceBackend::Remote(remote) => remote.notices().for_each(|n| printer.warn(&n)),
        }
    }

    /// What an evaluation will cost at most.
    pub(crate) fn cost(&self, evaluation: &Evaluation<'_>) -> String {
        match &self.backend {
            TraceBackend::Local(loaded) => {
                let line = here(&self.solver.settings().strategy.name, evaluation);
                let tier = self.solver.source().machine(false).tier.unwrap_or_default();
                format!("{line}; {} on {tier}", held(loaded))
            }
            TraceBackend::Remote(remote) => elsewhere(&self.solver, remote, evaluation),
        }
    }
}

/// Settings that the user did not choose, and what the model is not made for.
fn remark(solver: &Solver, loaded: &Loaded, problems: &[Prepared], printer: &Printer) {
    let resolved = solver.resolved();
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
    let strange = problems
        .iter()
        .filter(|p| recognise(&p.problem).is_none())
        .count();
    if let Some(note) = loaded
        .prompter
        .as_ref()
        .and_then(|p| p.note())
        .filter(|_| loaded.bundled && strange > 0)
    {
        let which = if problems.len() == 1 {
            "this problem is".to_owned()
        } else {
            format!("{strange} of {} problems are", problems.len())
        };
        printer.warn(&format!(
            "{which} {UNLEARNT}: it {note}. Name another with --model"
        ));
    }
}

/// How most of the weights are held.
fn held(loaded: &Loaded) -> String {
    let formats = loaded.placed.formats();
    let most = formats.iter().max_by_key(|(_, bytes)| *bytes);
    most.map_or_else(String::new, |(format, _)| format.to_string())
}

fn here(strategy: &str, evaluation: &Evaluation<'_>) -> String {
    let (plan, n) = (evaluation.plan(), evaluation.problems().len());
    let problems = if n == 1 {
        String::new()
    } else {
        format!("{}, each with ", plural(n as u64, "problem"))
    };
    format!(
        "{problems}{} at most ({strategy}), {} at a time, {} in the batch; about {} beside {} of weights; {} \
         tokens at most",
        plural(plan.traces as u64, "trace"),
        plan.slots,
        plural(plan.rows as u64, "row"),
        bytes(plan.memory),
        bytes(plan.weights),
        count(plan.tokens),
    )
}

fn elsewhere(solver: &Solver, remote: &Remote, evaluation: &Evaluation<'_>) -> String {
    format!(
        "{}; {}, {} at most each ({}), {} at a time",
        engines(remote),
        plural(evaluation.problems().len() as u64, "problem"),
        plural(solver.settings().traces as u64, "trace"),
        solver.settings().strategy.name,
        solver.slots(),
    )
}

/// Who answers, and with what.
pub(crate) fn engines(remote: &Remote) -> String {
    let named = |e: &EngineInfo| {
        let version = e.version.as_ref().map_or_else(String::new, |v| format!(" {v}"));
        let of = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}{version} at {}", of(&e.engine), of(&e.url))
    };
    let engines: Vec<String> = remote.machine(false).backends.iter().map(named).collect();
    let confidence = match remote.confidence_k() {
        Some(k) => format!("confidence over {k} tokens"),
        None => "no confidence".to_owned(),
    };
    format!("{}; model {}, {confidence}", engines.join(", "), remote.model())
}
