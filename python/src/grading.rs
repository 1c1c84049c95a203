//! Answers: reading, comparing, and sorting them into classes.

use pyo3::prelude::*;
use serde_json::json;
use tts::evals::answer::{AnswerKind, ReadAnswer, RuleReader};

use crate::failure::raised;

fn reader(kind: &str) -> PyResult<RuleReader> {
    let known: Result<AnswerKind, _> = serde_json::from_value(json!(kind));
    known.map(RuleReader::new).map_err(|_| {
        raised(format!(
            "there is no kind of answers \"{kind}\": it is \"math\", \"integer\", \"choice\" or \"text\""
        ))
    })
}

/// Whether an answer is right, given the right one: by meaning, so that `1/2` is `0.5`.
#[pyfunction]
#[pyo3(signature = (prediction, gold, kind = "math"))]
pub(crate) fn grade(prediction: &str, gold: &str, kind: &str) -> PyResult<bool> {
    Ok(reader(kind)?.grade(prediction, gold).equal)
}

/// The class of an answer in the vote: two answers mean the same exactly when their classes are the same text.
#[pyfunction]
#[pyo3(signature = (answer, kind = "math"))]
pub(crate) fn canonical(answer: &str, kind: &str) -> PyResult<String> {
    Ok(reader(kind)?.key(answer))
}

/// The answer in a model's text; None where it holds none.
#[pyfunction]
#[pyo3(signature = (text, kind = "math"))]
pub(crate) fn extract(text: &str, kind: &str) -> PyResult<Option<String>> {
    Ok(reader(kind)?.read(text).map(|found| found.answer))
}

/// Wilson's interval of a share, at 95%.
#[pyfunction]
pub(crate) fn wilson(right: u64, of: u64) -> PyResult<(f64, f64)> {
    let interval = tts::evals::stats::wilson(right, of, 0.95).map_err(raised)?;
    Ok((interval.low, interval.high))
}
