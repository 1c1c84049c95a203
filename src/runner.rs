//! A model ready to solve problems: settings resolved, prompts rendered, traces run, the result as one
//! object.
//!
//! This is the library's front door; the command line is a thin layer over it.

mod plan;
mod record;
mod remote;
mod settings;
mod solved;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tts_evals::answer::{AnswerKind, ReadAnswer, RuleReader};
use tts_evals::data::Problem;
use tts_evals::task::Task;
use tts_strategies::Preset;

use crate::engine::memory::Plan;
use crate::engine::snapshots::Snapshots;
use crate::error::Error;
use crate::loaded::Loaded;
use crate::prompt::{DEFAULT_PROMPT_TEMPLATE, Message, RenderOptions, Rendered, user_turn};
use crate::run::{
    Bounds, Decode, Event, MachineInfo, Outside, RecordSink, Rules, Setup, TraceRecord, TraceSettings,
};
use crate::source::{Backend, InProcess, InProcessOptions, Job};
use tts_model::kernels::Tier;
use tts_model::sampler::Sampling;

pub use plan::BatchPlan;
pub use remote::{Api, RemoteRunner};
pub(crate) use settings::DEFAULT_SLOTS;
pub use settings::{Resolved, Settings, named_strategy};
pub(crate) use solved::About;
pub use solved::Solved;

/// Solves prepared problems, wherever their traces come from.
#[async_trait]
pub trait Solver: Send + Sync {
    /// What was asked for.
    fn settings(&self) -> &Settings;
    /// Traces of a problem in flight at once.
    fn slots(&self) -> usize;
    /// Makes a problem's prompt and checks that it fits.
    ///
    /// # Errors
    /// An empty problem, a prompt longer than the context, a template that fails.
    fn prepare(&self, problem: &Problem) -> Result<Prepared, Error>;
    /// How these problems share a batch.
    fn batch_plan(&self, problems: &[Prepared]) -> BatchPlan;
    /// Makes ready to solve by this plan.
    ///
    /// # Errors
    /// When the engine cannot be started.
    fn start(&self, plan: &BatchPlan) -> Result<(), Error>;
    /// What traces are a function of: two runs mix only if it is the same.
    ///
    /// # Errors
    /// When the model has no tokenizer.
    fn trace_settings(&self, problems: &[Prepared]) -> Result<TraceSettings, Error>;
    /// Where traces are generated, for the record.
    fn machine(&self) -> MachineInfo;
    /// Solves one problem. Dropping the future cancels its traces.
    ///
    /// # Errors
    /// When the run cannot go on; a problem without an answer is no error.
    async fn solve(&self, problem: &Prepared, watch: Watch) -> Result<Solved, Error>;
}

#[async_trait]
impl Solver for Runner {
    fn settings(&self) -> &Settings {
        &self.settings
    }
    fn slots(&self) -> usize {
        self.resolved.slots
    }
    fn prepare(&self, problem: &Problem) -> Result<Prepared, Error> {
        Runner::prepare(self, problem)
    }
    fn batch_plan(&self, problems: &[Prepared]) -> BatchPlan {
        BatchPlan::local(self, problems)
    }
    fn start(&self, plan: &BatchPlan) -> Result<(), Error> {
        plan.engine
            .map_or(Ok(()), |plan| Runner::start(self, plan).map(|_| ()))
    }
    fn trace_settings(&self, problems: &[Prepared]) -> Result<TraceSettings, Error> {
        record::trace_settings(self, problems)
    }
    fn machine(&self) -> MachineInfo {
        record::machine(self)
    }
    async fn solve(&self, problem: &Prepared, watch: Watch) -> Result<Solved, Error> {
        Runner::solve(self, problem, watch).await
    }
}

/// Where answers are taken from.
#[derive(Clone)]
pub enum Reader {
    /// By rules; whether a text begins inside the thinking is set from the prompt.
    Rules(RuleReader),
    /// By anything else, a closure for instance.
    Custom(Arc<dyn ReadAnswer>),
}

impl Default for Reader {
    fn default() -> Self {
        Self::Rules(RuleReader::new(AnswerKind::Math))
    }
}

impl Reader {
    /// The reader of texts that follow a prompt.
    fn for_prompt(&self, prompt: &Rendered) -> Arc<dyn ReadAnswer> {
        match self {
            Self::Custom(reader) => reader.clone(),
            Self::Rules(rules) => {
                let mut rules = rules.clone();
                rules.rules.starts_in_thinking = prompt.ends_in_think;
                Arc::new(rules)
            }
        }
    }

    /// Whether an answer is right.
    fn grade(&self, answer: &str, gold: &str) -> bool {
        match self {
            Self::Rules(reader) => reader.grade(answer, gold).equal,
            Self::Custom(reader) => reader.grade(answer, gold).equal,
        }
    }
}

/// A problem with its prompt.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Name: the data set's, or a digest of the text.
    pub id: String,
    /// The text of the problem.
    pub problem: String,
    /// The gold answer, if known.
    pub gold: Option<String>,
    /// The conversation that the prompt was made of; none where it is a raw text.
    pub messages: Vec<Message>,
    /// The exact prompt.
    pub prompt: Rendered,
    /// Generated tokens at which a trace is cut off.
    pub max_tokens: usize,
}

/// What a caller of [`Runner::solve`] may want besides the result.
#[derive(Default)]
pub struct Watch {
    /// Progress.
    pub events: Option<broadcast::Sender<Event>>,
    /// Where ended traces go as they end.
    pub records: Option<RecordSink>,
    /// Traces in flight go there too, and their states to files.
    pub checkpoint: Option<Snapshots>,
    /// Traces of an earlier run of the same settings.
    pub recorded: Vec<Arc<TraceRecord>>,
    /// What came from outside then.
    pub scripted: Vec<Outside>,
    /// Cancelled: decide now with the votes there are.
    pub interrupt: CancellationToken,
    /// When the vote so far must do.
    pub deadline: Option<Instant>,
}

/// A model and the settings to solve problems with.
pub struct Runner {
    loaded: Loaded,
    settings: Settings,
    resolved: Resolved,
    reader: Reader,
    engine: OnceLock<InProcess>,
}

struct Detokenize(Arc<crate::prompt::Prompter>);

impl Decode for Detokenize {
    fn decode(&self, ids: &[u32]) -> String {
        self.0.decode(ids, true)
    }
}

impl Runner {
    /// Resolves the settings against what the model recommends.
    ///
    /// # Errors
    /// When a setting is out of range or contradicts another.
    pub fn new(loaded: Loaded, settings: Settings) -> Result<Self, Error> {
        let resolved = settings::resolve(&loaded, &settings)?;
        // the bundled model always boxes an integer; anything else it writes is no answer
        let own = loaded
            .bundled
            .then(|| Task::named("heldout").ok()?.reader().ok())
            .flatten();
        let reader = own.map_or_else(Reader::default, Reader::Rules);
        Ok(Self {
            loaded,
            settings,
            resolved,
            reader,
            engine: OnceLock::new(),
        })
    }

    /// Replaces the way answers are taken from texts.
    #[must_use]
    pub fn with_reader(mut self, reader: Reader) -> Self {
        self.reader = reader;
        self
    }

    /// The model.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }
    /// What was asked for.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
    /// What it came to.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// Renders a problem's prompt and checks that it fits.
    ///
    /// # Errors
    /// An empty problem, a prompt longer than the context, a template that fails.
    pub fn prepare(&self, problem: &Problem) -> Result<Prepared, Error> {
        if problem.problem.trim().is_empty() {
            return Err(Error::Setting(format!(
                "problem `{}` is empty: there is nothing to solve",
                problem.id
            )));
        }
        let prompter = self.loaded.prompter()?;
        let instruction = self
            .settings
            .instruction
            .as_deref()
            .unwrap_or_else(|| prompter.instruction());
        let template = self
            .settings
            .prompt_template
            .as_deref()
            .unwrap_or(DEFAULT_PROMPT_TEMPLATE);
        let mut messages = Vec::new();
        if let Some(system) = &self.settings.system {
            messages.push(Message::system(system));
        }
        messages.push(Message::user(user_turn(template, &problem.problem, instruction)?));
        let prompt = prompter.render(&messages, &RenderOptions::default())?;
        let max_tokens = self.room(&problem.id, prompt.ids.len())?;
        let id = if problem.id.is_empty() {
            problem_id(&problem.problem)
        } else {
            problem.id.clone()
        };
        Ok(Prepared {
            id,
            problem: problem.problem.clone(),
            gold: problem.answer.clone(),
            messages,
            prompt,
            max_tokens,
        })
    }

    /// Tokens that a trace may generate after a prompt of `prompt` tokens.
    fn room(&self, id: &str, prompt: usize) -> Result<usize, Error> {
        let context = self.loaded.model.config().max_positions;
        let left = context.saturating_sub(prompt);
        if left == 0 {
            return Err(Error::Setting(format!(
                "the prompt of problem `{id}` has {prompt} tokens, which leaves no room in the model's context of {context}"
            )));
        }
        match self.settings.max_tokens {
            Some(wanted) if wanted > left => Err(Error::Setting(format!(
                "--max-tokens {wanted} does not fit: the model's context is {context} and the prompt of problem `{id}` takes {prompt}, so at most {left} would be right"
            ))),
            Some(wanted) => Ok(wanted),
            None => Ok(self.resolved.max_tokens.min(left)),
        }
    }

    /// How many traces run at once for prompts of `prompt` tokens, and what each costs.
    pub fn plan(&self, prompt: usize, max_tokens: usize) -> Plan {
        Plan::new(
            &self.loaded.model,
            prompt,
            max_tokens,
            self.resolved.threads,
            self.settings.memory,
            self.settings.max_batch,
        )
    }

    /// Starts the engine with this plan, unless it runs already.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(&self, plan: Plan) -> Result<&InProcess, Error> {
        if self.engine.get().is_none() {
            let options = InProcessOptions {
                threads: self.resolved.threads,
                tier: self.resolved.tier,
                plan,
            };
            let _ = self
                .engine
                .set(InProcess::start(self.loaded.model.clone(), options)?);
        }
        Ok(self.engine.get().expect("just set"))
    }

    /// The rules that end a prepared problem's traces.
    pub fn rules(&self, problem: &Prepared) -> Rules {
        Rules {
            max_tokens: problem.max_tokens,
            ..self.resolved.rules.clone()
        }
    }

    /// Strategy, rules, bounds and reader of a prepared problem.
    pub fn setup(
        &self,
        problem: &Prepared,
        recorded: Vec<Arc<TraceRecord>>,
        scripted: Vec<Outside>,
    ) -> Result<Setup, Error> {
        Ok(Setup {
            id: problem.id.clone(),
            strategy: self.settings.strategy.build(),
            reader: self.reader.for_prompt(&problem.prompt),
            decode: Arc::new(Detokenize(self.loaded.prompter()?.clone())),
            rules: Arc::new(self.rules(problem)),
            bounds: Bounds {
                traces: self.settings.traces,
                slots: self.resolved.slots,
                max_total_tokens: self.settings.max_total_tokens,
            },
            recorded,
            scripted,
        })
    }

    /// Solves one problem. Dropping the future cancels its traces.
    ///
    /// # Errors
    /// When the run cannot go on; a problem without an answer is no error.
    pub async fn solve(&self, problem: &Prepared, watch: Watch) -> Result<Solved, Error> {
        let engine = self.start(self.plan(problem.prompt.ids.len(), problem.max_tokens))?;
        let Watch {
            events,
            records,
            checkpoint,
            recorded,
            scripted,
            interrupt,
            deadline,
        } = watch;
        let job = Job {
            setup: self.setup(problem, recorded, scripted)?,
            prompt: problem.prompt.ids.clone(),
            sampling: self.resolved.sampling.clone(),
            seed: self.settings.seed,
            held: Vec::new(),
            deadline,
            interrupt,
            events,
            records,
            checkpoint,
        };
        let outcome = engine.run(job).await?;
        Ok(Solved::new(self, problem, outcome, engine.plan()))
    }

    /// Solves a text: [`Self::prepare`] and [`Self::solve`] with nothing to watch.
    ///
    /// # Errors
    /// As those two.
    pub async fn solve_text(&self, problem: &str) -> Result<Solved, Error> {
        let problem = Problem {
            id: String::new(),
            problem: problem.to_owned(),
            answer: None,
            extra: serde_json::Map::new(),
        };
        self.solve(&self.prepare(&problem)?, Watch::default()).await
    }

    /// Whether an answer is right.
    pub fn grade(&self, answer: &str, gold: &str) -> bool {
        self.reader.grade(answer, gold)
    }
}

/// The id of a problem that has none: a digest of its text.
pub fn problem_id(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// The strategy that is used when none is named.
pub fn default_strategy() -> Preset {
    Preset::named("deepconf-low").expect("a shipped preset")
}

/// The threads that are used when no number is given.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The instruction tier that is used when none is named.
pub fn default_tier() -> Tier {
    Tier::detect()
}

/// Time to an [`Instant`].
pub fn deadline(limit: Option<Duration>) -> Option<Instant> {
    limit.and_then(|l| Instant::now().checked_add(l))
}

/// The sampling settings in force.
impl Resolved {
    /// Draws follow these.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }
}
