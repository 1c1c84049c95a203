//! The library's front door: open a model or name engines, ask, read the answer.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, Stream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tts_evals::answer::ReadAnswer;
use tts_evals::data::Problem;

use crate::error::Error;
use crate::evaluation::Evaluation;
use crate::hub::Progress;
use crate::loaded::{LoadOptions, Loaded};
use crate::problem_set::{ProblemSet, SetError};
use crate::run::{BallotResult, Event, Observer, Slots, SolvedRecord};
use crate::solver::{Reader, RemoteApi, Settings, Solved, Solver, Watch, named_strategy, question};
use crate::source::RemoteOptions;
use tts_model::overrides::SamplingOverrides;

/// Events that may wait to be read; a reader that is later loses the oldest.
const EVENTS: usize = 1024;

/// A model, here or elsewhere, and the settings that questions are answered with. Cheap to clone; clones
/// share the model and its batch.
#[derive(Clone)]
pub struct Tts {
    solver: Solver,
}

impl Tts {
    /// Solves with a model in this process: a folder, a `.gguf` file, `org/name` on the hub (downloaded
    /// once), or `bundled` for the small one that the library carries.
    pub fn open(model: impl Into<String>) -> Builder {
        let options = LoadOptions {
            model: Some(model.into()),
            ..LoadOptions::default()
        };
        Self::open_with(options, |_| ())
    }

    /// The same with all that can be said of how it is opened; `progress` is told of a download.
    pub fn open_with(options: LoadOptions, progress: impl FnMut(Progress<'_>) + Send + 'static) -> Builder {
        Builder::of(Origin::Model(Box::new(options), Box::new(progress)))
    }

    /// Solves with OpenAI-compatible servers that serve one model, each named by its address as
    /// `http://127.0.0.1:8000/v1`. Traces are spread over all of them.
    pub fn remote<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Builder {
        Self::remote_with(RemoteOptions {
            backends: urls.into_iter().map(Into::into).collect(),
            ..RemoteOptions::default()
        })
    }

    /// The same with all that can be said of the engines: the model's name there, a key, bounds.
    pub fn remote_with(options: RemoteOptions) -> Builder {
        Builder::of(Origin::Engines(options))
    }

    /// Asks a question. Await the result for the [`Answer`], or follow it with [`Solving::stream`]; nothing
    /// runs before that.
    pub fn solve(&self, question: impl Into<String>) -> Solving {
        Solving {
            solver: self.solver.clone(),
            question: question.into(),
        }
    }

    /// The settings that questions are answered with.
    pub fn settings(&self) -> &Settings {
        self.solver.settings()
    }

    /// The same model and batch with other settings.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong.
    pub fn with_settings(&self, settings: Settings) -> Result<Self, Error> {
        let solver = self.solver.with_settings(settings)?;
        Ok(Self { solver })
    }

    /// The same model and batch, asking, reading and comparing as a set's task says.
    ///
    /// # Errors
    /// When a pattern of the task is none.
    pub fn for_set(&self, set: &ProblemSet) -> Result<Self, Error> {
        let settings = self.settings();
        let instruction = set.instruction().or_else(|| settings.instruction.clone());
        let settings = Settings {
            instruction,
            ..settings.clone()
        };
        let solver = self.solver.with_settings(settings)?;
        Ok(Self {
            solver: solver.with_reader(Reader::Rules(set.reader()?)),
        })
    }

    /// Solves a set of problems, several side by side; where a folder is named, the same call goes on after a
    /// kill.
    ///
    /// # Errors
    /// A problem that is empty or does not fit into the model's context.
    pub fn evaluate(&self, problems: &[Problem]) -> Result<Evaluation<'_>, Error> {
        Evaluation::new(&self.solver, problems)
    }
}

enum Origin {
    Model(Box<LoadOptions>, Box<dyn FnMut(Progress<'_>) + Send>),
    Engines(RemoteOptions),
}

/// What a [`Tts`] is made of. What is not set is what the model recommends, or the default.
#[must_use = "nothing is opened before `build`"]
pub struct Builder {
    origin: Origin,
    strategy: Option<String>,
    settings: Settings,
    reader: Option<Reader>,
}

impl Builder {
    fn of(origin: Origin) -> Self {
        Self {
            origin,
            strategy: None,
            settings: Settings::default(),
            reader: None,
        }
    }

    /// The strategy that decides when traces stop and which answer wins: a preset's name as `deepconf-low` or
    /// `majority`, a preset file, or `exec:COMMAND`.
    pub fn strategy(mut self, name: impl Into<String>) -> Self {
        self.strategy = Some(name.into());
        self
    }

    /// Traces that may be launched for a question.
    pub fn traces(mut self, traces: usize) -> Self {
        self.settings.traces = traces;
        self
    }

    /// Traces of a question in flight at once.
    pub fn slots(mut self, slots: impl Into<Slots>) -> Self {
        self.settings.slots = Some(slots.into());
        self
    }

    /// Generated tokens at which a trace is cut off.
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.settings.max_tokens = Some(tokens);
        self
    }

    /// How tokens are drawn, over what the model recommends.
    pub fn sampling(mut self, sampling: SamplingOverrides) -> Self {
        self.settings.sampling = sampling;
        self
    }

    /// The seed of all random numbers: the same question under the same seed has the same traces.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// How answers are taken from a trace's text and compared; by rules for mathematics where it is not set.
    /// [`FnReader`](tts_evals::answer::FnReader) makes one of a closure.
    pub fn reader(mut self, reader: impl ReadAnswer + 'static) -> Self {
        self.reader = Some(Reader::Custom(Arc::new(reader)));
        self
    }

    /// Asks, reads and compares as a set's task says: its instruction after each problem, and its kind of
    /// answers.
    ///
    /// # Errors
    /// When a pattern of the task is none.
    pub fn for_set(mut self, set: &ProblemSet) -> Result<Self, SetError> {
        self.settings.instruction = set.instruction();
        self.reader = Some(Reader::Rules(set.reader()?));
        Ok(self)
    }

    /// Every setting at once, the strategy and those that were set before included.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.strategy = None;
        self.settings = settings;
        self
    }

    /// Opens the model, or asks the engines what they give.
    ///
    /// # Errors
    /// A sentence that names the file, the address or the setting that is wrong.
    pub async fn build(self) -> Result<Tts, Error> {
        let mut settings = self.settings;
        if let Some(name) = self.strategy {
            settings.strategy = named_strategy(&name)?;
        }
        let solver = match self.origin {
            Origin::Model(options, mut progress) => {
                // reads files, and may download them
                let open = move || Solver::local(Loaded::open(&options, &mut progress)?, settings);
                tokio::task::spawn_blocking(open)
                    .await
                    .map_err(|e| Error::Setting(format!("the model was not opened: {e}")))??
            }
            Origin::Engines(options) => {
                let sample = question("What is 1 + 1?");
                Solver::remote(&options, RemoteApi::default(), settings, None, &sample)
                    .await?
                    .0
            }
        };
        Ok(Tts {
            solver: match self.reader {
                Some(reader) => solver.with_reader(reader),
                None => solver,
            },
        })
    }
}

/// A question that is about to be answered.
#[must_use = "nothing runs before this is awaited or streamed"]
pub struct Solving {
    solver: Solver,
    question: String,
}

impl Solving {
    async fn answer(self, events: Option<broadcast::Sender<Event>>) -> Result<Answer, Error> {
        let prepared = self.solver.prepare(&question(&self.question))?;
        let observer = Observer {
            events,
            ..Observer::default()
        };
        let solved = self.solver.solve(&prepared, Watch::by(observer)).await?;
        Ok(Answer { solved })
    }

    /// The answer, while `events` are told what happens. The sender is let go at the end.
    pub fn tell(self, events: broadcast::Sender<Event>) -> BoxFuture<'static, Result<Answer, Error>> {
        Box::pin(self.answer(Some(events)))
    }

    /// What happens while the question is answered, to its end; the last event is [`Event::Decided`]. A
    /// reader that is late loses the oldest events, and the run does not wait for it. Dropping the stream
    /// cancels the question's traces. The run itself is driven by reading.
    pub fn stream(self) -> impl Stream<Item = Result<Event, Error>> + Send + Unpin {
        let (events, watched) = broadcast::channel(EVENTS);
        let followed = Followed {
            run: Some(self.tell(events)),
            failure: None,
            watched,
        };
        Box::pin(stream::unfold(followed, Followed::next))
    }
}

impl IntoFuture for Solving {
    type Output = Result<Answer, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.answer(None))
    }
}

/// A run with the events that it tells.
struct Followed {
    run: Option<BoxFuture<'static, Result<Answer, Error>>>,
    failure: Option<Error>,
    watched: broadcast::Receiver<Event>,
}

impl Followed {
    async fn next(mut self) -> Option<(Result<Event, Error>, Self)> {
        loop {
            let event = match &mut self.run {
                Some(run) => tokio::select! {
                    biased;
                    event = self.watched.recv() => event,
                    ended = run => {
                        self.failure = ended.err();
                        self.run = None;
                        continue;
                    }
                },
                None => self.watched.recv().await,
            };
            match event {
                Ok(event) => return Some((Ok(event), self)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => match self.run.take() {
                    Some(run) => self.failure = run.await.err(),
                    None => return self.failure.take().map(|error| (Err(error), self)),
                },
            }
        }
    }
}

/// The answer to a question, and what it took.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    solved: Solved,
}

impl Answer {
    /// The answer that won the vote; nothing where no trace gave one.
    pub fn text(&self) -> Option<&str> {
        self.solved.answer.as_deref()
    }

    /// What the heaviest trace that gave this answer wrote after its thinking.
    pub fn solution(&self) -> Option<&str> {
        self.solved.solution.as_deref()
    }

    /// The vote, heaviest answer first.
    pub fn votes(&self) -> &[BallotResult] {
        &self.solved.ballots
    }

    /// The winner's share of the vote's weight minus that of the second, from 0 to 1.
    pub fn margin(&self) -> f64 {
        self.solved.margin
    }

    /// Tokens that were generated, those of stopped and cancelled traces included.
    pub fn tokens(&self) -> u64 {
        self.solved.tokens.generated
    }

    /// Traces that were begun.
    pub fn traces(&self) -> u64 {
        self.solved.traces.launched
    }

    /// Wall time in seconds.
    pub fn seconds(&self) -> f64 {
        self.solved.seconds
    }

    /// All that there is to say of it, as files and the command line's JSON hold it.
    pub fn record(&self) -> SolvedRecord {
        self.solved.record()
    }

    /// The object that `tts solve --json` prints.
    pub fn to_json(&self) -> serde_json::Value {
        self.solved.to_json()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().unwrap_or("no answer"))
    }
}
