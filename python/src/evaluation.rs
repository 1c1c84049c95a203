//! Sets of problems: solving them, deciding recordings again, and sweeps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt;
use pyo3::prelude::*;
use tts::evaluation::{Options, RecordOptions};
use tts::replay::{Replay, ReplaySettings};
use tts::solver::default_threads;
use tts::sweep::SweepPlan;
use tts::{ProblemSet, Tts};

use crate::answer::{Answer, as_python};
use crate::failure::{Exceptions, raised};
use crate::strategy::preset;
use crate::waiting::{wait, work};

/// A set by name, or from JSON lines that are called so.
pub(crate) fn set(name: &str, lines: Option<&[u8]>, limit: Option<usize>) -> PyResult<ProblemSet> {
    let set = match lines {
        Some(lines) => ProblemSet::parse(lines, name, &[]),
        None => ProblemSet::open(name, &[], &mut |_| ()),
    };
    let mut set = set.map_err(raised)?;
    set.data.problems.truncate(limit.unwrap_or(usize::MAX));
    Ok(set)
}

/// Solves a set's problems, in a folder where one is named.
pub(crate) fn evaluate(
    py: Python<'_>,
    tts: &Tts,
    exceptions: &Exceptions,
    set: &ProblemSet,
    run: Option<PathBuf>,
    on_answer: Option<Py<PyAny>>,
) -> PyResult<Vec<Answer>> {
    let tts = tts.for_set(set).map_err(raised)?;
    let solved = wait(py, async {
        let error = |error| exceptions.raised(error);
        let mut evaluation = tts.evaluate(&set.data.problems).map_err(error)?;
        if let Some(dir) = run {
            evaluation
                .record(&dir, RecordOptions::of_set(set).map_err(raised)?)
                .map_err(error)?;
        }
        let mut answers = Vec::new();
        let mut results = std::pin::pin!(evaluation.run(Options::default()).map_err(error)?);
        while let Some(result) = results.next().await {
            let record = result.map_err(error)?.record;
            if let Some(told) = &on_answer {
                Python::attach(|py| told.call1(py, (Answer::from(record.clone()),)))?;
            }
            answers.push(Answer::from(record));
        }
        PyResult::Ok(answers)
    });
    solved?
}

/// Decides a recording again, without a model; `tts.replay` names the arguments.
#[pyfunction]
#[pyo3(signature = (path, strategy, traces, slots, gold))]
pub(crate) fn replay(
    py: Python<'_>,
    path: PathBuf,
    strategy: Option<Bound<'_, PyAny>>,
    traces: Option<usize>,
    slots: Option<Bound<'_, PyAny>>,
    gold: BTreeMap<String, String>,
) -> PyResult<Vec<Answer>> {
    let exceptions = Arc::new(Exceptions::default());
    let slots = slots
        .map(|slots| slots.str()?.to_string().parse().map_err(raised))
        .transpose()?;
    let settings = ReplaySettings {
        strategy: strategy
            .map(|strategy| preset(&strategy, &exceptions))
            .transpose()?,
        traces,
        slots,
        gold,
        ..ReplaySettings::default()
    };
    let decided: Result<Vec<_>, tts::Error> = work(py, move |stop| {
        let replay = Replay::open(&path, settings)?;
        let problems = replay.problems().iter();
        let open = problems.take_while(|_| !stop.load(Ordering::Relaxed));
        open.map(|problem| replay.solve(problem).map(|solved| solved.record()))
            .collect()
    })?;
    let records = decided.map_err(|error| exceptions.raised(error))?;
    Ok(records.into_iter().map(Answer::from).collect())
}

/// Decides over a recording with every strategy at every budget; `tts.sweep` names the arguments. Gives the rows
/// as objects, the chance that any of k traces is right, and sentences.
#[pyfunction]
#[pyo3(signature = (recording, run, strategies, traces, slots, orders))]
pub(crate) fn sweep<'py>(
    py: Python<'py>,
    recording: PathBuf,
    run: PathBuf,
    strategies: Vec<Bound<'py, PyAny>>,
    traces: Vec<usize>,
    slots: Vec<Option<String>>,
    orders: (Option<usize>, u64),
) -> PyResult<Bound<'py, PyAny>> {
    let exceptions = Arc::new(Exceptions::default());
    let presets = strategies.iter().map(|strategy| preset(strategy, &exceptions));
    let parsed = |slots: &Option<String>| slots.as_ref().map(|s| s.parse().map_err(raised)).transpose();
    let plan = SweepPlan {
        strategies: presets.collect::<PyResult<_>>()?,
        budgets: traces,
        slots: slots.iter().map(parsed).collect::<PyResult<_>>()?,
        resamples: orders.0,
        seed: orders.1,
        gold: BTreeMap::new(),
    };
    let swept = work(py, move |stop| {
        tts::sweep::over(Path::new(&recording), &run, &plan, default_threads(), stop)
    })?;
    let swept = swept.map_err(|error| exceptions.raised(error))?;
    as_python(
        py,
        &serde_json::json!([swept.rows, swept.passes, swept.notes]).to_string(),
    )
}
