//! A recording as columns.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tts::run::{Arrays, PoolOptions, RecordedPool, RunFolderError, SolvedRecord, TraceRecord};

use crate::column::Column;
use crate::failure::raised;
use crate::strategy::finish_name;
use crate::waiting::work;

/// What is read of a recording.
#[derive(Default)]
struct Read {
    traces: Vec<Arc<TraceRecord>>,
    golds: Vec<Option<String>>,
    decided: Vec<SolvedRecord>,
    warnings: Vec<String>,
}

fn read(path: &Path) -> Result<Read, RunFolderError> {
    let options = PoolOptions {
        // what is only read is not written beside
        cache_from: u64::MAX,
        ..PoolOptions::default()
    };
    let pool = RecordedPool::open(path, &options)?;
    let mut read = Read {
        warnings: pool.warnings().to_vec(),
        ..Read::default()
    };
    for problem in pool.problems() {
        let traces = pool.whole(problem)?;
        let decided = match pool.decided() {
            Some(decided) => decided.every_decided(&problem.id)?,
            None => Vec::new(),
        };
        // as its traces name it, or as it was graded by
        let graded = || decided.iter().rev().find_map(|d| d.gold.clone());
        let gold = problem.gold.clone().or_else(graded);
        read.golds.extend(traces.iter().map(|_| gold.clone()));
        read.traces.extend(traces);
        read.decided.extend(decided);
    }
    Ok(read)
}

/// Reads a run folder or a file of traces: the columns of its traces, those of its decisions, and sentences
/// about what was passed over; `tts.load_run` makes tables of them.
#[pyfunction]
pub(crate) fn read_run(py: Python<'_>, path: PathBuf) -> PyResult<(Py<PyDict>, Py<PyDict>, Vec<String>)> {
    let Read {
        traces,
        golds,
        decided,
        warnings,
    } = work(py, move |_| read(&path))?.map_err(raised)?;
    Ok((
        of_traces(py, &traces, &golds)?.unbind(),
        of_decisions(py, &decided)?.unbind(),
        warnings,
    ))
}

/// NaN for a number that is not known.
fn number(known: Option<f64>) -> f64 {
    known.unwrap_or(f64::NAN)
}

fn of_traces<'py>(
    py: Python<'py>,
    traces: &[Arc<TraceRecord>],
    golds: &[Option<String>],
) -> PyResult<Bound<'py, PyDict>> {
    let columns = PyDict::new(py);
    let texts = |name: &str, of: &dyn Fn(&TraceRecord) -> Option<String>| {
        columns.set_item(name, traces.iter().map(|t| of(t)).collect::<Vec<_>>())
    };
    let whole = |name: &str, of: &dyn Fn(&TraceRecord) -> i64| {
        columns.set_item(
            name,
            Column::from(traces.iter().map(|t| of(t)).collect::<Vec<_>>()),
        )
    };
    let real = |name: &str, of: &dyn Fn(&TraceRecord) -> f64| {
        columns.set_item(
            name,
            Column::from(traces.iter().map(|t| of(t)).collect::<Vec<_>>()),
        )
    };
    texts("problem_id", &|t| Some(t.problem_id.clone()))?;
    whole("trace", &|t| i64::from(t.trace))?;
    texts("finish", &|t| Some(finish_name(t.finish).to_owned()))?;
    whole("tokens", &|t| t.tokens as i64)?;
    texts("answer", &|t| t.answer.clone())?;
    texts("answer_key", &|t| t.answer_key.clone())?;
    columns.set_item("gold", golds)?;
    texts("text", &|t| t.text.clone())?;
    real("mean", &|t| number(t.scores.mean))?;
    real("tail", &|t| number(t.scores.tail))?;
    real("bottom", &|t| number(t.scores.bottom))?;
    real("lowest_group", &|t| number(t.scores.lowest_group))?;
    real("mean_logprob", &|t| number(t.scores.mean_logprob))?;
    real("self_certainty", &|t| number(t.scores.self_certainty))?;
    real("seconds", &|t| t.seconds)?;
    columns.set_item("token_ids", lists(py, traces, |a| &a.token_ids)?)?;
    columns.set_item("logprobs", lists(py, traces, |a| &a.logprobs)?)?;
    columns.set_item("confidence", lists(py, traces, |a| &a.confidence)?)?;
    Ok(columns)
}

/// The arrays of all traces one after the other, and where each begins; the last place is the end.
fn lists<'py, T: Copy + 'static>(
    py: Python<'py>,
    traces: &[Arc<TraceRecord>],
    of: impl Fn(&Arrays) -> &Vec<T>,
) -> PyResult<(Bound<'py, Column>, Bound<'py, Column>)>
where
    Column: From<Vec<T>> + From<Vec<i64>>,
{
    let mut numbers = Vec::with_capacity(traces.iter().map(|t| of(&t.arrays).len()).sum());
    let mut places = Vec::with_capacity(traces.len() + 1);
    places.push(0);
    for trace in traces {
        numbers.extend_from_slice(of(&trace.arrays));
        places.push(numbers.len() as i64);
    }
    Ok((
        Bound::new(py, Column::from(numbers))?,
        Bound::new(py, Column::from(places))?,
    ))
}

fn of_decisions<'py>(py: Python<'py>, decided: &[SolvedRecord]) -> PyResult<Bound<'py, PyDict>> {
    let columns = PyDict::new(py);
    let texts = |name: &str, of: &dyn Fn(&SolvedRecord) -> Option<String>| {
        columns.set_item(name, decided.iter().map(of).collect::<Vec<_>>())
    };
    let real = |name: &str, of: &dyn Fn(&SolvedRecord) -> Option<f64>| {
        let numbers: Vec<f64> = decided.iter().map(|d| number(of(d))).collect();
        columns.set_item(name, Column::from(numbers))
    };
    texts("problem_id", &|d| Some(d.problem_id.clone()))?;
    texts("strategy", &|d| d.strategy.clone())?;
    texts("answer", &|d| d.answer.clone())?;
    texts("gold", &|d| d.gold.clone())?;
    columns.set_item("correct", decided.iter().map(|d| d.correct).collect::<Vec<_>>())?;
    real("margin", &|d| d.margin)?;
    real("traces", &|d| Some(d.traces?.launched as f64))?;
    real("tokens", &|d| Some(d.generated()? as f64))?;
    real("prompt_tokens", &|d| Some(d.tokens?.prompt as f64))?;
    real("ticks", &|d| Some(d.ticks? as f64))?;
    real("seconds", &|d| d.seconds)?;
    texts("digest", &|d| d.digest.clone())?;
    Ok(columns)
}
