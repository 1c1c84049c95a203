//! A model with its settings, and a question that is being answered.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_async_runtimes::tokio::{future_into_py, get_runtime};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, broadcast};
use tokio::task::AbortHandle;
use tts::{
    ApiKey, Device, Formats, KvFormat, LoadOptions, Progress, RemoteOptions, SamplingOverrides, Settings,
    Tts, WeightFormat,
};

use crate::answer::Answer;
use crate::evaluation;
use crate::event::Event;
use crate::failure::{Exceptions, raised};
use crate::strategy::preset;
use crate::waiting::wait;

/// Events that may wait to be read; a reader that is later loses the oldest.
const EVENTS: usize = 1024;

/// A model, here or elsewhere, and the settings that questions are answered with. Made by `tts.open` and
/// `tts.remote`. Questions asked from several threads or tasks share one batch.
#[pyclass(frozen, module = "tts")]
pub(crate) struct Solver {
    // taken when it is dropped
    tts: Option<Tts>,
    exceptions: Arc<Exceptions>,
    origin: String,
}

/// The settings that arguments name; what is not named is the default.
pub(crate) fn settings(arguments: &Bound<'_, PyDict>, exceptions: &Arc<Exceptions>) -> PyResult<Settings> {
    let mut settings = Settings::default();
    let take = |name: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
        let value = arguments.get_item(name)?;
        if value.is_some() {
            arguments.del_item(name)?;
        }
        Ok(value.filter(|value| !value.is_none()))
    };
    if let Some(strategy) = take("strategy")? {
        settings.strategy = preset(&strategy, exceptions)?;
    }
    if let Some(traces) = take("traces")? {
        settings.traces = traces.extract()?;
    }
    if let Some(slots) = take("slots")? {
        settings.slots = Some(slots.str()?.to_string().parse().map_err(raised)?);
    }
    if let Some(seed) = take("seed")? {
        settings.seed = seed.extract()?;
    }
    if let Some(seconds) = take("time_limit")? {
        let limit = Duration::try_from_secs_f64(seconds.extract()?);
        settings.time_limit = Some(limit.map_err(|e| raised(format!("time_limit {seconds}: {e}")))?);
    }
    if let Some(on) = take("loop_stop")? {
        settings.loop_stop = on.extract()?;
    }
    macro_rules! optional {
        ($($name:ident),*) => {$(
            if let Some(value) = take(stringify!($name))? {
                settings.$name = Some(value.extract()?);
            }
        )*};
    }
    optional!(
        max_tokens,
        max_total_tokens,
        thinking_budget,
        system,
        instruction,
        prompt_template,
        max_batch,
        memory,
        threads
    );
    settings.sampling = SamplingOverrides::read(|row| {
        let value: Option<f64> = take(row.name)?.map(|value| value.extract()).transpose()?;
        match value {
            Some(value) if !(row.within)(value) || row.whole && value.fract() != 0.0 => {
                Err(raised(format!("{} {value}: it must be {}", row.name, row.right)))
            }
            value => Ok(value),
        }
    })?;
    match arguments.keys().iter().next() {
        Some(unknown) => Err(PyTypeError::new_err(format!(
            "there is no setting `{unknown}`; see help(tts.open)"
        ))),
        None => Ok(settings),
    }
}

/// The value of a name.
fn named<T>(
    argument: &str,
    name: &str,
    known: impl Iterator<Item = (&'static str, T)> + Clone,
) -> PyResult<T> {
    let names: Vec<_> = known.clone().map(|(name, _)| name).collect();
    let found = known.into_iter().find(|(known, _)| *known == name);
    let unknown = || raised(format!("{argument} {name}: it is one of {}", names.join(", ")));
    found.map(|(_, value)| value).ok_or_else(unknown)
}

#[pymethods]
impl Solver {
    /// Opens a model; `tts.open` names the arguments.
    #[staticmethod]
    #[pyo3(signature = (model, dtype, kv_dtype, device, on_progress, **settings))]
    fn of_model(
        py: Python<'_>,
        model: String,
        dtype: Option<String>,
        kv_dtype: Option<String>,
        device: Option<String>,
        on_progress: Option<Py<PyAny>>,
        settings: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let mut formats = Formats::default();
        if let Some(name) = dtype {
            let known = WeightFormat::ALL.into_iter().map(|f| (f.name(), f));
            formats.weights = named("dtype", &name, known)?;
        }
        if let Some(name) = kv_dtype {
            let known = KvFormat::ALL.into_iter().map(|f| (f.name(), f));
            formats.kv = Some(named("kv_dtype", &name, known)?);
        }
        let device = device
            .map(|name| Device::parse(&name).map_err(|known| raised(format!("device {name}: {known}"))));
        let options = LoadOptions {
            model: Some(model.clone()),
            formats,
            device: device.transpose()?.unwrap_or_default(),
            ..LoadOptions::default()
        };
        let told = move |progress: Progress<'_>| {
            let (Progress::Started { file, done, total } | Progress::Bytes { file, done, total }) = progress
            else {
                return;
            };
            // a download does not end for what its watcher raises
            Python::try_attach(|py| {
                let told = on_progress
                    .as_ref()
                    .map(|told| told.call1(py, (file, done, total)));
                if let Some(Err(error)) = told {
                    error.write_unraisable(py, None);
                }
            });
        };
        Self::build(py, model, Tts::open_with(options, told), settings)
    }

    /// Asks engines; `tts.remote` names the arguments.
    #[staticmethod]
    #[pyo3(signature = (urls, backend_model = None, backend_in_flight = None, **settings))]
    fn of_engines(
        py: Python<'_>,
        urls: Vec<String>,
        backend_model: Option<String>,
        backend_in_flight: Option<usize>,
        settings: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let origin = urls.join(", ");
        let default = RemoteOptions::default();
        let options = RemoteOptions {
            backends: urls,
            model: backend_model,
            key: ApiKey::from_env(),
            in_flight: backend_in_flight.unwrap_or(default.in_flight),
            ..default
        };
        Self::build(py, origin, Tts::remote_with(options), settings)
    }

    /// Answers a question and waits for it. Ctrl-C cancels its traces and raises KeyboardInterrupt.
    fn solve(&self, py: Python<'_>, question: String) -> PyResult<Answer> {
        let answer = wait(py, self.tts()?.solve(question).into_future())?;
        self.answer(answer)
    }

    /// The same for asyncio: `await solver.solve_async(question)`. Cancelling the task cancels its traces.
    fn solve_async<'py>(&self, py: Python<'py>, question: String) -> PyResult<Bound<'py, PyAny>> {
        let (run, exceptions) = (self.tts()?.solve(question).into_future(), self.exceptions.clone());
        future_into_py(py, async move {
            let answer = run.await.map_err(|error| exceptions.raised(error))?;
            Ok(Answer::from(answer.record()))
        })
    }

    /// Begins to answer a question: iterate over the result for events (`for` or `async for`), or ask its
    /// `result()`.
    fn stream(&self, question: String) -> PyResult<Solving> {
        let (sender, events) = broadcast::channel(EVENTS);
        let run = self.tts()?.solve(question).tell(sender);
        let task = get_runtime().spawn(run);
        let abort = task.abort_handle();
        let outcome = async move {
            match task.await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(Arc::new(error.to_string())),
                Err(_) => Err(Arc::new(CANCELLED.to_owned())),
            }
        };
        Ok(Solving {
            events: Arc::new(Mutex::new(events)),
            outcome: outcome.boxed().shared(),
            abort,
            exceptions: self.exceptions.clone(),
        })
    }

    /// Solves a set of problems; `Solver.evaluate` in Python names the arguments.
    #[pyo3(signature = (name, lines, run, limit, on_answer))]
    fn evaluate_set(
        &self,
        py: Python<'_>,
        name: &str,
        lines: Option<Vec<u8>>,
        run: Option<PathBuf>,
        limit: Option<usize>,
        on_answer: Option<Py<PyAny>>,
    ) -> PyResult<Vec<Answer>> {
        let set = evaluation::set(name, lines.as_deref(), limit)?;
        evaluation::evaluate(py, self.tts()?, &self.exceptions, &set, run, on_answer)
    }

    /// Records complete traces of a set in a folder: what a sweep decides over.
    fn record_set(
        &self,
        py: Python<'_>,
        name: &str,
        lines: Option<Vec<u8>>,
        run: PathBuf,
        limit: Option<usize>,
        traces: usize,
    ) -> PyResult<()> {
        let set = evaluation::set(name, lines.as_deref(), limit)?;
        let settings = Settings {
            strategy: tts::solver::named_strategy("majority").map_err(raised)?,
            traces,
            slots: None,
            ..self.tts()?.settings().clone()
        };
        let recorder = self.tts()?.with_settings(settings).map_err(raised)?;
        evaluation::evaluate(py, &recorder, &self.exceptions, &set, Some(run), None).map(|_| ())
    }

    fn __repr__(&self) -> PyResult<String> {
        let settings = self.tts()?.settings();
        Ok(format!(
            "<tts.Solver: {}, {}, {} traces>",
            self.origin, settings.strategy.name, settings.traces
        ))
    }
}

impl Solver {
    fn build(
        py: Python<'_>,
        origin: String,
        builder: tts::Builder,
        arguments: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let exceptions = Arc::new(Exceptions::default());
        let arguments = arguments.unwrap_or_else(|| PyDict::new(py));
        let builder = builder.settings(settings(&arguments, &exceptions)?);
        let tts = wait(py, builder.build())?.map_err(raised)?;
        Ok(Self {
            tts: Some(tts),
            exceptions,
            origin,
        })
    }

    fn tts(&self) -> PyResult<&Tts> {
        let gone = || PyRuntimeError::new_err("the solver is gone");
        self.tts.as_ref().ok_or_else(gone)
    }

    fn answer(&self, answer: Result<tts::Answer, tts::Error>) -> PyResult<Answer> {
        let answer = answer.map_err(|error| self.exceptions.raised(error))?;
        Ok(answer.record().into())
    }
}

impl Drop for Solver {
    fn drop(&mut self) {
        // the last of a model's handles waits for its engine, which may be asking a strategy in Python
        let tts = self.tts.take();
        let _ = Python::try_attach(|py| py.detach(move || drop(tts)));
    }
}

/// What a run that was given up ends with.
const CANCELLED: &str = "the question was cancelled before it was decided";

/// A question that is being answered. Iterating gives its events (`for`, or `async for` with asyncio) to the
/// last one, `Event.Decided`; the run does not wait for a reader, who loses the oldest events when he is late.
/// Dropping it cancels the traces.
#[pyclass(frozen, module = "tts")]
pub(crate) struct Solving {
    events: Arc<Mutex<broadcast::Receiver<tts::Event>>>,
    outcome: Shared<BoxFuture<'static, Result<tts::Answer, Arc<String>>>>,
    abort: AbortHandle,
    exceptions: Arc<Exceptions>,
}

#[pymethods]
impl Solving {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Event>> {
        match wait(py, next(self.events.clone()))? {
            Some(event) => Ok(Some(event)),
            None => self.ended(wait(py, self.outcome.clone())?).map(|_| None),
        }
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (events, outcome) = (self.events.clone(), self.outcome.clone());
        let exceptions = self.exceptions.clone();
        future_into_py(py, async move {
            match next(events).await {
                Some(event) => Ok(event),
                None => Err(match outcome.await {
                    Ok(_) => PyStopAsyncIteration::new_err(()),
                    Err(error) => exceptions.raised(error),
                }),
            }
        })
    }

    /// Waits for the answer.
    fn result(&self, py: Python<'_>) -> PyResult<Answer> {
        self.ended(wait(py, self.outcome.clone())?)
    }

    /// Cancels the traces: `result()` raises `tts.Error` from then on, unless the question was decided.
    fn cancel(&self) {
        self.abort.abort();
    }

    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (outcome, exceptions) = (self.outcome.clone(), self.exceptions.clone());
        let future = future_into_py(py, async move {
            match outcome.await {
                Ok(answer) => Ok(Answer::from(answer.record())),
                Err(error) => Err(exceptions.raised(error)),
            }
        })?;
        future.call_method0("__await__")
    }
}

impl Solving {
    fn ended(&self, outcome: Result<tts::Answer, Arc<String>>) -> PyResult<Answer> {
        let answer = outcome.map_err(|error| self.exceptions.raised(error))?;
        Ok(answer.record().into())
    }
}

impl Drop for Solving {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// The next event; none at the end.
async fn next(events: Arc<Mutex<broadcast::Receiver<tts::Event>>>) -> Option<Event> {
    let mut events = events.lock().await;
    loop {
        match events.recv().await {
            Ok(event) => {
                if let Some(event) = Event::of(event) {
                    return Some(event);
                }
            }
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}
