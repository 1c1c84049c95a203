//! Strategies that are Python objects.

use std::cell::RefCell;
use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tts::policy::{EndedTrace as Ended, Policy, PolicyError, PolicyStrategy};
use tts::strategies::{Custom, Finish, Limits, Needs, Next, Preset, Statistic, Step, TokenScalars, TraceId};

use crate::failure::{Exceptions, raised};

/// A trace that ended, as a strategy sees it.
#[pyclass(frozen, get_all, module = "tts")]
pub(crate) struct EndedTrace {
    /// Index of the trace within its problem, from 0.
    trace: u32,
    /// Why it ended: `stop`, `length` or `loop` by itself, `low_confidence` where the strategy stopped it,
    /// `failed`.
    finish: &'static str,
    /// Generated tokens.
    tokens: usize,
    /// A number that equal answers share; None without an answer, and for a trace that was cut short.
    answer_class: Option<u32>,
    /// `mean`, `tail`, `bottom`, `lowest_group`, `sequence_logprob`, `mean_logprob`, `self_certainty` and
    /// `tail_entropy`, each None where it is not known; those of groups need the strategy's `window`.
    scores: Py<PyDict>,
}

#[pymethods]
impl EndedTrace {
    fn __repr__(&self) -> String {
        let class = self
            .answer_class
            .map_or_else(|| "None".to_owned(), |c| c.to_string());
        format!(
            "EndedTrace(trace={}, finish='{}', tokens={}, answer_class={class})",
            self.trace, self.finish, self.tokens
        )
    }
}

/// The name of an end, as events and recordings have it.
pub(crate) fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Loop => "loop",
        Finish::LowConfidence => "low_confidence",
        Finish::Cancelled => "cancelled",
        Finish::Failed => "failed",
    }
}

/// A strategy as the user gave it, to be copied for each problem.
struct PythonStrategy {
    prototype: Py<PyAny>,
    name: String,
    needs: Needs,
    window: Option<usize>,
    reads_tokens: bool,
    exceptions: Arc<Exceptions>,
}

/// A strategy as a user names it, or one that is an object or a class; its exceptions go to `exceptions`.
pub(crate) fn preset(strategy: &Bound<'_, PyAny>, exceptions: &Arc<Exceptions>) -> PyResult<Preset> {
    if let Ok(name) = strategy.extract::<String>() {
        return tts::solver::named_strategy(&name).map_err(raised);
    }
    let described = strategy
        .py()
        .import("tts._strategy")?
        .call_method1("describe", (strategy,))?;
    let get = |name: &str| described.get_item(name);
    let needs: Vec<String> = get("needs")?.extract()?;
    let python = PythonStrategy {
        prototype: get("prototype")?.unbind(),
        name: get("name")?.extract()?,
        needs: needs_of(&needs)?,
        window: get("window")?.extract()?,
        reads_tokens: get("reads_tokens")?.extract()?,
        exceptions: exceptions.clone(),
    };
    if python.window == Some(0) {
        return Err(PyValueError::new_err(
            "a window of 0 tokens holds nothing: it must be at least 1",
        ));
    }
    let name = python.name.clone();
    let python = Arc::new(python);
    let custom = Custom {
        command: get("place")?.extract()?,
        digest: Some(get("digest")?.extract()?),
        build: Arc::new(move |name| Box::new(PolicyStrategy::new(name, PythonPolicy::new(python.clone())))),
    };
    Ok(Preset::custom(name, "decided by an object in Python", custom))
}

fn needs_of(names: &[String]) -> PyResult<Needs> {
    names.iter().try_fold(Needs::default(), |needs, name| {
        Ok(needs.and(match name.as_str() {
            "confidence" => Needs::of(Statistic::Mean),
            "logprob" => Needs::of(Statistic::MeanLogprob),
            "self_certainty" => Needs::of(Statistic::SelfCertainty),
            "entropy" => Needs::of(Statistic::TailEntropy),
            other => {
                return Err(PyValueError::new_err(format!(
                    "a strategy cannot need `{other}`: it is \"confidence\", \"logprob\", \"self_certainty\" or \
                     \"entropy\""
                )));
            }
        }))
    })
}

/// One problem's copy of a strategy.
struct PythonPolicy {
    strategy: Arc<PythonStrategy>,
    copy: RefCell<Option<Py<PyAny>>>,
}

impl PythonPolicy {
    fn new(strategy: Arc<PythonStrategy>) -> Self {
        Self {
            strategy,
            copy: RefCell::default(),
        }
    }

    /// Asks the copy; an exception is kept for whoever waits for the run.
    fn ask<T>(
        &self,
        question: impl for<'py> FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
    ) -> Result<T, PolicyError> {
        let asked = Python::try_attach(|py| {
            let copy = self.copy.borrow();
            match &*copy {
                Some(copy) => question(copy.bind(py)),
                None => Err(PyValueError::new_err("it was asked before it began")),
            }
            .map_err(|exception| {
                let error = self.refuse(format!("raised {exception}"));
                self.strategy.exceptions.keep(&error.to_string(), exception);
                error
            })
        });
        asked.unwrap_or_else(|| Err(self.refuse("was asked while Python ended".to_owned())))
    }
}

impl Policy for PythonPolicy {
    fn needs(&self) -> Needs {
        self.strategy.needs
    }

    fn window(&self) -> Option<usize> {
        self.strategy.window
    }

    fn reads_tokens(&self) -> bool {
        self.strategy.reads_tokens
    }

    fn begin(&self, limits: &Limits) -> Result<usize, PolicyError> {
        let copied = Python::try_attach(|py| {
            let copied = py
                .import("copy")?
                .call_method1("deepcopy", (&self.strategy.prototype,))?;
            PyResult::Ok(copied.unbind())
        });
        // one that cannot be copied is asked itself, and says why
        let (copy, failed) = match copied {
            Some(Ok(copy)) => (Some(copy), None),
            Some(Err(exception)) => (
                Python::try_attach(|py| self.strategy.prototype.clone_ref(py)),
                Some(exception),
            ),
            None => (None, None),
        };
        *self.copy.borrow_mut() = copy;
        self.ask(|copy| {
            if let Some(exception) = failed {
                return Err(exception);
            }
            let launched = copy.call_method1("begin", (limits.traces, limits.slots, limits.max_tokens))?;
            match launched.extract::<usize>() {
                Ok(n) if n > 0 => Ok(n),
                _ => Err(PyTypeError::new_err(format!(
                    "begin() gives the number of traces to launch, at least 1, not {launched}"
                ))),
            }
        })
    }

    fn token(&self, trace: TraceId, token: &TokenScalars) -> Result<Step, PolicyError> {
        self.ask(|copy| {
            let stops = copy.call_method1("token", (trace, token.confidence, token.logprob))?;
            Ok(if stops.is_truthy()? {
                Step::Stop
            } else {
                Step::Continue
            })
        })
    }

    fn finished(&self, ended: &Ended<'_>) -> Result<Next, PolicyError> {
        self.ask(|copy| {
            let py = copy.py();
            let scores = PyDict::new(py);
            let s = ended.scores;
            for (name, score) in [
                ("mean", s.mean),
                ("tail", s.tail),
                ("bottom", s.bottom),
                ("lowest_group", s.lowest_group),
                ("sequence_logprob", s.sequence_logprob),
                ("mean_logprob", s.mean_logprob),
                ("self_certainty", s.self_certainty),
                ("tail_entropy", s.tail_entropy),
            ] {
                scores.set_item(name, score)?;
            }
            let seen = EndedTrace {
                trace: ended.trace,
                finish: finish_name(ended.finish),
                tokens: ended.tokens,
                answer_class: ended.class.map(|c| c.0),
                scores: scores.unbind(),
            };
            let next = copy.call_method1("finished", (seen,))?;
            if next.is_none() {
                return Ok(Next::Wait);
            }
            if next.extract::<String>().is_ok_and(|word| word == "done") {
                return Ok(Next::Done);
            }
            let launch = next.extract::<usize>().map_err(|_| {
                PyTypeError::new_err(format!(
                    "finished() gives None to wait, a number of traces to launch, or tts.DONE, not {next}"
                ))
            })?;
            Ok(if launch == 0 {
                Next::Wait
            } else {
                Next::Launch(launch)
            })
        })
    }

    fn decide(&self) -> Result<Option<Vec<(TraceId, f64)>>, PolicyError> {
        self.ask(|copy| {
            let weights = copy.call_method0("decide")?;
            if weights.is_none() {
                return Ok(None);
            }
            let weights = weights.cast::<PyDict>().map_err(|_| {
                PyTypeError::new_err(format!(
                    "decide() gives a dict of weights by trace, or None for a vote a trace, not {weights}"
                ))
            })?;
            let pair = |(trace, weight): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
                PyResult::Ok((trace.extract()?, weight.extract()?))
            };
            weights.iter().map(pair).collect::<PyResult<_>>().map(Some)
        })
    }

    fn refuse(&self, what: String) -> PolicyError {
        PolicyError {
            command: self.strategy.name.clone(),
            what,
        }
    }
}
