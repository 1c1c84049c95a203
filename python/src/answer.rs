//! The answer to a question.

use pyo3::prelude::*;
use tts::evaluation::SolvedRecord;

/// One answer in the vote.
#[pyclass(frozen, get_all, module = "tts")]
pub(crate) struct Vote {
    /// The answer as the first trace that gave it wrote it.
    answer: String,
    /// Weight of its traces.
    weight: f64,
    /// Its share of the vote's weight, from 0 to 1.
    share: f64,
    /// Number of its traces.
    traces: usize,
}

#[pymethods]
impl Vote {
    fn __repr__(&self) -> String {
        let Self {
            answer,
            share,
            traces,
            ..
        } = self;
        format!("Vote({answer:?}, share={share:.3}, traces={traces})")
    }
}

/// The answer to a question and what it took. `str()` gives the answer alone; a notebook shows the vote.
#[pyclass(frozen, module = "tts")]
pub(crate) struct Answer {
    record: SolvedRecord,
}

impl From<SolvedRecord> for Answer {
    fn from(record: SolvedRecord) -> Self {
        Self { record }
    }
}

#[pymethods]
impl Answer {
    /// The answer that won the vote; None where no trace gave one.
    #[getter]
    fn answer(&self) -> Option<&str> {
        self.record.answer.as_deref()
    }

    /// What the heaviest trace that gave this answer wrote after its thinking.
    #[getter]
    fn solution(&self) -> Option<&str> {
        self.record.solution.as_deref()
    }

    /// The vote, heaviest answer first.
    #[getter]
    fn votes(&self) -> Vec<Vote> {
        let ballots = &self.record.ballots;
        let whole: f64 = ballots.iter().map(|b| b.weight).sum();
        let vote = |b: &tts::BallotResult| Vote {
            answer: b.answer.clone(),
            weight: b.weight,
            share: if whole > 0.0 { b.weight / whole } else { 0.0 },
            traces: b.traces,
        };
        ballots.iter().map(vote).collect()
    }

    /// The winner's share of the vote's weight minus that of the second, from 0 to 1.
    #[getter]
    fn margin(&self) -> Option<f64> {
        self.record.margin
    }

    /// Tokens that were generated in all traces, stopped and cancelled ones included.
    #[getter]
    fn tokens(&self) -> Option<u64> {
        self.record.generated()
    }

    /// Traces that were begun.
    #[getter]
    fn traces(&self) -> Option<u64> {
        Some(self.record.traces?.launched)
    }

    /// Wall time in seconds; None for a replay.
    #[getter]
    fn seconds(&self) -> Option<f64> {
        self.record.seconds
    }

    /// Name of the problem: the set's, or a digest of the question.
    #[getter]
    fn problem_id(&self) -> &str {
        &self.record.problem_id
    }

    /// The right answer, where it is known.
    #[getter]
    fn gold(&self) -> Option<&str> {
        self.record.gold.as_deref()
    }

    /// Whether the answer equals the right one; None where that is not known.
    #[getter]
    fn correct(&self) -> Option<bool> {
        self.record.correct
    }

    /// Name of the strategy that decided.
    #[getter]
    fn strategy(&self) -> Option<&str> {
        self.record.strategy.as_deref()
    }

    /// Sentences about the run for the user.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.record.warnings.clone()
    }

    /// Everything that is known of the run: the object that `tts solve --json` prints.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        as_python(py, &self.record.to_json().to_string())
    }

    fn __str__(&self) -> &str {
        self.answer().unwrap_or("no answer")
    }

    fn __repr__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        shown("answer_text", slf)
    }

    fn _repr_html_(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        shown("answer_html", slf)
    }
}

/// How it looks, as `tts/_show.py` says.
fn shown<'py>(how: &str, answer: Bound<'py, Answer>) -> PyResult<Bound<'py, PyAny>> {
    let py = answer.py();
    py.import("tts._show")?.call_method1(how, (answer,))
}

/// JSON as Python's own objects.
pub(crate) fn as_python<'py>(py: Python<'py>, json: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (json,))
}
