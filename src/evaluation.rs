//! Evaluating a set of problems: a set, a solver, and, where one is named, a run folder from which the same
//! evaluation goes on after a kill.
//!
//! ```no_run
//! # async fn evaluate() -> Result<(), tts::Error> {
//! use std::path::Path;
//!
//! use futures::StreamExt;
//! use tts::evaluation::{Options, RecordOptions};
//! use tts::{ProblemSet, Tts};
//!
//! let set = ProblemSet::open("aime25", &[], &mut |_| ())?;
//! let tts = Tts::open("./model").strategy("majority").traces(64).for_set(&set)?.build().await?;
//! let mut evaluation = tts.evaluate(&set.data.problems)?;
//! evaluation.record(Path::new("run"), RecordOptions::of_set(&set)?)?; // the same program goes on after a kill
//! let mut results = evaluation.run(Options::default())?;
//! while let Some(result) = results.next().await {
//!     println!("{:?}", result?.record.answer);
//! }
//! drop(results);
//! evaluation.close(true)?;
//! # Ok(())
//! # }
//! ```
//!
//! What was recorded is decided again, by other strategies and without the model, by
//! [`Replay`](crate::replay::Replay).

use std::path::Path;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tts_evals::data::Problem;

use crate::error::Error;
use crate::problem_set::{ProblemSet, SetError};
use crate::run::{
    Checkpoint, DecisionSettings, Event, Manifest, Observer, RunFolder, Status, StrategyRecord,
    without_answers,
};
use crate::solver::{Settings, Solved, Solver, Watch};

pub use crate::run::{AnswerSettings, SolvedRecord};
pub use crate::solver::{BatchPlan, Prepared};

/// Problems with their prompts, the solver that solves them, and how they share its batch.
pub struct Evaluation<'a> {
    solver: &'a Solver,
    problems: Vec<Prepared>,
    plan: BatchPlan,
    recorder: Option<Recorder>,
}

/// Where results are kept.
struct Recorder {
    folder: RunFolder,
    /// how often traces in flight are recorded too
    checkpoint: Option<Duration>,
}

/// What a run folder says beside its traces and decisions.
#[derive(Clone, Debug, Default)]
pub struct RecordOptions {
    /// Digest of the set.
    pub data: Option<String>,
    /// How answers are read and compared.
    pub answers: AnswerSettings,
    /// How often traces in flight are recorded too, with their states; never where `None`.
    pub checkpoint: Option<Duration>,
}

impl RecordOptions {
    /// Those of a set that is read and compared as its task says.
    ///
    /// # Errors
    /// When a pattern of the task is none.
    pub fn of_set(set: &ProblemSet) -> Result<Self, SetError> {
        Ok(Self {
            data: Some(set.data.digest.clone()),
            answers: AnswerSettings::of(set.task.as_ref(), &set.reader()?),
            checkpoint: None,
        })
    }
}

/// What a run folder held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Resumed {
    /// Recorded traces of these problems.
    pub traces: usize,
    /// Counted sentences about what was passed over.
    pub warnings: Vec<String>,
}

/// Who watches an evaluation, and what may end it early.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Progress of all problems.
    pub events: Option<broadcast::Sender<Event>>,
    /// Cancelled: decide every problem now with the votes there are.
    pub interrupt: CancellationToken,
    /// When the votes so far must do.
    pub deadline: Option<Instant>,
}

/// What came of a problem.
#[derive(Debug)]
pub struct Evaluated {
    /// The problem's result, of this run or of an earlier run of the folder.
    pub record: SolvedRecord,
    /// The same with its traces; `None` where it was decided in an earlier run of the folder.
    pub solved: Option<Solved>,
}

impl<'a> Evaluation<'a> {
    /// Makes the problems' prompts and plans the batch. Nothing runs yet.
    ///
    /// # Errors
    /// A problem that is empty or does not fit into the model's context.
    pub fn new(solver: &'a Solver, problems: &[Problem]) -> Result<Self, Error> {
        let problems = problems
            .iter()
            .map(|p| solver.prepare(p))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            solver,
            plan: solver.batch_plan(&problems),
            problems,
            recorder: None,
        })
    }

    /// What the solver was asked for.
    pub fn settings(&self) -> &Settings {
        self.solver.settings()
    }

    /// The problems with their prompts.
    pub fn problems(&self) -> &[Prepared] {
        &self.problems
    }

    /// How many rows run at once, and what that costs at most.
    pub fn plan(&self) -> &BatchPlan {
        &self.plan
    }

    /// Keeps every trace and every decision in a folder, or goes on with one.
    ///
    /// # Errors
    /// A folder that is none of ours, that another process writes, or whose traces were recorded with other
    /// settings or other prompts.
    pub fn record(&mut self, dir: &Path, options: RecordOptions) -> Result<Resumed, Error> {
        let mut manifest = Manifest::new(
            self.solver.trace_settings(),
            self.decisions(options.answers),
            options.data,
            self.solver.machine(),
        );
        manifest.problems = self.problems.iter().map(|p| p.id.clone()).collect();
        let folder = RunFolder::open(dir, manifest)?;
        for p in &self.problems {
            // an engine that renders the prompt has its ids
            match p.prompt.ids.is_empty() {
                true => folder.claim(&p.id, &p.prompt.text.bytes().map(u32::from).collect::<Vec<_>>())?,
                false => folder.claim(&p.id, &p.prompt.ids)?,
            }
        }
        let found = Resumed {
            traces: self
                .problems
                .iter()
                .map(|p| folder.recording().traces(&p.id))
                .sum(),
            warnings: folder.recording().warnings(),
        };
        self.recorder = Some(Recorder {
            folder,
            checkpoint: options.checkpoint,
        });
        Ok(found)
    }

    /// What decisions are a function of here.
    fn decisions(&self, answers: AnswerSettings) -> DecisionSettings {
        let settings = self.solver.settings();
        DecisionSettings {
            strategy: Some(StrategyRecord::from(&settings.strategy)),
            traces: Some(settings.traces),
            slots: Some(self.solver.slots()),
            max_total_tokens: settings.max_total_tokens,
            time_limit_seconds: settings.time_limit.map(|t| t.as_secs_f64()),
            answers: Some(answers),
            ..DecisionSettings::default()
        }
    }

    /// Solves the problems, several side by side, and gives their results in the problems' order. What the
    /// folder holds already is not done again. Dropping the stream cancels the traces in flight.
    ///
    /// # Errors
    /// When the engine cannot be started. A problem that fails is an error of the stream; the others go on.
    pub fn run(&self, options: Options) -> Result<impl Stream<Item = Result<Evaluated, Error>>, Error> {
        self.solver.start(&self.plan)?;
        let one = move |problem| {
            let options = options.clone();
            async move { self.one(problem, options).await }
        };
        Ok(futures::stream::iter(&self.problems)
            .map(one)
            .buffered(self.plan.side_by_side.max(1)))
    }

    async fn one(&self, problem: &Prepared, options: Options) -> Result<Evaluated, Error> {
        let mut watch = Watch::by(Observer {
            events: options.events,
            interrupt: options.interrupt,
            deadline: options.deadline,
            ..Observer::default()
        });
        let Some(Recorder { folder, checkpoint }) = &self.recorder else {
            let solved = self.solver.solve(problem, watch).await?;
            return Ok(Evaluated::from(solved));
        };
        if let Some(record) = folder.decided(&problem.id)? {
            return Ok(Evaluated {
                record: SolvedRecord {
                    decisions: None,
                    ..record
                },
                solved: None,
            });
        }
        // answers are read anew: this run may read them in another way than the last
        watch.recorded = without_answers(folder.recorded(&problem.id)?);
        watch.observer.records = Some(folder.sink(&problem.id));
        let dir = folder.states();
        watch.observer.checkpoint = checkpoint.map(|every| Checkpoint { every, dir });
        let solved = self.solver.solve(problem, watch).await?;
        folder.write_decided(solved.record(), &solved.decided)?;
        Ok(Evaluated::from(solved))
    }

    /// Writes what is left of the folder and whether everything is decided. Dropping the evaluation says that
    /// it was interrupted, and not what went wrong.
    ///
    /// # Errors
    /// When not everything could be written.
    pub fn close(self, finished: bool) -> Result<(), Error> {
        let status = if finished {
            Status::Finished
        } else {
            Status::Interrupted
        };
        Ok(self
            .recorder
            .map_or(Ok(()), |recorder| recorder.folder.close(status))?)
    }
}

impl From<Solved> for Evaluated {
    fn from(solved: Solved) -> Self {
        Self {
            record: solved.record(),
            solved: Some(solved),
        }
    }
}
