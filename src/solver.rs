//! One question to one answer: settings resolved, prompt rendered, traces run wherever they come from, the
//! result as one object.

mod looks;
mod plan;
mod settings;
mod solved;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tts_evals::answer::{AnswerKind, ReadAnswer, RuleReader};
use tts_evals::data::Problem;
use tts_evals::generate::recognise;
use tts_evals::task::Task;
use tts_strategies::{Preset, Value};

use crate::error::Error;
use crate::loaded::{BUNDLED, Loaded};
use crate::prompt::{
    DEFAULT_INSTRUCTION, DEFAULT_PROMPT_TEMPLATE, Message, Prompter, RenderOptions, Rendered, user_turn,
};
use crate::run::{
    Bounds, Decode, ExternalEvent, Looks, MachineInfo, NoDecoder, Observer, Request, Setup, Slots,
    StoppingRules, ToText, TraceRecord, TraceSettings, check_needs,
};
use crate::source::remote::{Dialect, Sample};
use crate::source::{Local, LocalOptions, Remote, RemoteOptions, TraceSource};
use tts_model::overrides::SamplingOverrides;

pub use crate::source::remote::RemoteApi;
pub use crate::source::{default_threads, default_tier};
pub use plan::BatchPlan;
pub use settings::{Resolved, Settings, named_strategy};
pub(crate) use solved::About;
pub use solved::Solved;

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
    /// The prompt with its token ids, as the model reads it.
    pub prompt: Rendered,
    /// Generated tokens at which a trace is cut off.
    pub max_tokens: usize,
}

/// What a caller of [`Solver::solve`] may want besides the result.
#[derive(Default)]
pub struct Watch {
    /// Who watches, where records go, and what may end the run.
    pub observer: Observer,
    /// Traces of an earlier run of the same settings.
    pub recorded: Vec<Arc<TraceRecord>>,
    /// What came from outside then.
    pub scripted: Vec<ExternalEvent>,
}

impl Watch {
    /// For this observer; nothing was recorded before.
    pub fn by(observer: Observer) -> Self {
        Self {
            observer,
            ..Self::default()
        }
    }
}

struct Detokenize(Arc<Prompter>);

impl Decode for Detokenize {
    fn decode(&self, ids: &[u32]) -> String {
        self.0.decode(ids, true)
    }

    fn to_text(&self) -> ToText {
        let mut detokenizer = self.0.detokenizer(true);
        Box::new(move |id| detokenizer.push(id).to_owned())
    }
}

/// A source of traces and the settings to solve problems with.
#[derive(Clone)]
pub struct Solver {
    source: Arc<dyn TraceSource>,
    settings: Settings,
    resolved: Resolved,
    reader: Reader,
}

impl Solver {
    /// Resolves the settings against what the source can do and its model recommends.
    ///
    /// # Errors
    /// A setting that is out of range, contradicts another, or asks for what the source cannot do; a strategy
    /// that reads what its tokens do not carry.
    pub fn new(source: Arc<dyn TraceSource>, settings: Settings) -> Result<Self, Error> {
        let capabilities = source.capabilities();
        let resolved = settings::resolve(capabilities, &settings)?;
        check_needs(settings.strategy.build().as_ref(), capabilities.scalars)?;
        Ok(Self {
            source,
            settings,
            resolved,
            reader: Reader::default(),
        })
    }

    /// Solves with a model in this process.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn local(loaded: Loaded, settings: Settings) -> Result<Self, Error> {
        let options = LocalOptions {
            threads: settings.threads,
            tier: settings.tier,
            memory: settings.memory,
            max_batch: settings.max_batch,
            prefix_cache: settings.prefix_cache,
        };
        // the bundled model always boxes an integer; anything else it writes is no answer
        let own = loaded
            .bundled
            .then(|| Task::named("heldout").ok()?.reader().ok())
            .flatten();
        let solver = Self::new(Arc::new(Local::new(loaded, options)), settings)?;
        Ok(match own {
            Some(rules) => solver.with_reader(Reader::Rules(rules)),
            None => solver,
        })
    }

    /// Solves with engines elsewhere: asks them what they give, with a request as `sample` will make it.
    /// `prompter` is the tokenizer and template of the model that they serve, where its folder was named. The
    /// engines are handed out beside the solver.
    ///
    /// # Errors
    /// A sentence that names the setting, the address or the strategy that cannot work.
    pub async fn remote(
        options: &RemoteOptions,
        api: RemoteApi,
        settings: Settings,
        prompter: Option<Prompter>,
        sample: &Problem,
    ) -> Result<(Self, Arc<Remote>), Error> {
        settings::check(&settings)?;
        settings::check_forcing(&settings, false)?;
        settings::check_variables(
            &settings,
            prompter.as_ref().filter(|_| api == RemoteApi::Completions),
        )?;
        let dialect = Dialect {
            api,
            recommended: prompter.as_ref().map_or_else(SamplingOverrides::default, |p| {
                p.generation().sampling.effective()
            }),
            prompter: prompter.map(Arc::new),
        };
        let messages = messages(dialect.prompter.as_deref(), sample, &settings)?;
        let sample = Sample {
            prompt: dialect.render(&messages, &RenderOptions::default())?,
            messages,
            overrides: settings.sampling,
            max_tokens: settings.max_tokens,
            ignore_eos: settings.ignore_eos,
        };
        let remote = Arc::new(Remote::connect(options, dialect, &sample).await?);
        remote.check(settings.strategy.build().as_ref())?;
        Ok((Self::new(remote.clone(), settings)?, remote))
    }

    /// The same source and reader with other settings.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_settings(&self, settings: Settings) -> Result<Self, Error> {
        let solver = Self::new(self.source.clone(), settings)?;
        Ok(solver.with_reader(self.reader.clone()))
    }

    /// Replaces the way answers are taken from texts.
    #[must_use]
    pub fn with_reader(mut self, reader: Reader) -> Self {
        self.reader = reader;
        self
    }

    /// What reads the answers of texts that follow a prompt.
    pub(crate) fn reader_of(&self, prompt: &Rendered) -> Arc<dyn ReadAnswer> {
        self.reader.for_prompt(prompt)
    }

    /// Where traces come from.
    pub fn source(&self) -> &Arc<dyn TraceSource> {
        &self.source
    }
    /// What was asked for.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
    /// What it came to.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }
    /// Traces of a problem in flight at once.
    pub fn slots(&self) -> Slots {
        self.resolved.slots
    }
    /// The most traces of a problem that can be in flight at once; a strategy may have a number of its own.
    pub fn most_slots(&self) -> usize {
        let own = match self.settings.strategy.value("most") {
            Some(Value::Count(most)) => most,
            _ => usize::MAX,
        };
        self.resolved.slots.most(self.settings.traces).min(own)
    }
    /// Tokenizer and template of the model, where they are known here.
    pub fn prompter(&self) -> Option<&Arc<Prompter>> {
        self.source.capabilities().prompter.as_ref()
    }

    /// What the ids of its traces are decoded with; nothing where these come as texts.
    pub(crate) fn decoder(&self) -> Option<&Arc<Prompter>> {
        self.prompter().filter(|_| self.source.capabilities().gives_ids)
    }

    /// Makes a problem's prompt and checks that it fits.
    ///
    /// # Errors
    /// An empty problem, a prompt longer than the context, a template that fails.
    pub fn prepare(&self, problem: &Problem) -> Result<Prepared, Error> {
        let messages = messages(self.prompter().map(Arc::as_ref), problem, &self.settings)?;
        let prompt = self.render(&messages)?;
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

    fn render(&self, messages: &[Message]) -> Result<Rendered, Error> {
        let options = RenderOptions {
            variables: self.settings.template_variables.clone(),
            date: self.settings.date,
            ..RenderOptions::default()
        };
        self.source.render(messages, &options)
    }

    /// Tokens that a trace may generate after a prompt of `prompt` tokens; 0 stands for a prompt whose tokens
    /// are not known here.
    fn room(&self, id: &str, prompt: usize) -> Result<usize, Error> {
        let Some(context) = self.source.capabilities().context else {
            return Ok(self.resolved.max_tokens);
        };
        let left = context.saturating_sub(prompt);
        if left == 0 {
            return Err(Error::Setting(format!(
                "the prompt of problem `{id}` has {prompt} tokens, which leaves no room in the model's \
                 context of {context}"
            )));
        }
        match self.settings.max_tokens {
            Some(wanted) if wanted > left && prompt == 0 => Err(Error::Setting(format!(
                "--max-tokens {wanted} does not fit: the engine's context leaves at most {left} for problem \
                 `{id}`"
            ))),
            Some(wanted) if wanted > left => Err(Error::Setting(format!(
                "--max-tokens {wanted} does not fit: the model's context is {context} and the prompt of \
                 problem `{id}` takes {prompt}, so at most {left} would be right"
            ))),
            Some(wanted) => Ok(wanted),
            None => Ok(self.resolved.max_tokens.min(left)),
        }
    }

    /// How these problems share a batch.
    pub fn batch_plan(&self, problems: &[Prepared]) -> BatchPlan {
        BatchPlan::of(self, problems)
    }

    /// Makes ready to solve by this plan.
    ///
    /// # Errors
    /// When the engine cannot be started.
    pub fn start(&self, plan: &BatchPlan) -> Result<(), Error> {
        plan.engine.map_or(Ok(()), |plan| self.source.start(plan))
    }

    /// The rules that end a prepared problem's traces.
    pub fn rules(&self, problem: &Prepared) -> StoppingRules {
        let mut rules = StoppingRules {
            max_tokens: problem.max_tokens,
            ..self.resolved.rules.clone()
        };
        // a raw prompt may open it without a template
        let opens = |prompter: &Arc<Prompter>| prompter.opens_thinking(&problem.prompt.text);
        let raw = problem.messages.is_empty() && self.prompter().is_some_and(opens);
        if problem.prompt.ends_in_think || raw {
            rules.think_start.clear();
        }
        rules
    }

    /// Strategy, rules, bounds and reader of a prepared problem.
    pub fn setup(
        &self,
        problem: &Prepared,
        recorded: Vec<Arc<TraceRecord>>,
        scripted: Vec<ExternalEvent>,
    ) -> Setup {
        let decode: Arc<dyn Decode> = match self.prompter() {
            Some(prompter) => Arc::new(Detokenize(prompter.clone())),
            None => Arc::new(NoDecoder),
        };
        Setup {
            id: problem.id.clone(),
            strategy: self.settings.strategy.build(),
            reader: self.reader.for_prompt(&problem.prompt),
            decode,
            rules: Arc::new(self.rules(problem)),
            bounds: Bounds::new(
                self.settings.traces,
                self.resolved.slots,
                self.settings.max_total_tokens,
            ),
            recorded,
            scripted,
            looks: Looks::None,
        }
    }

    /// What is run for a prepared problem.
    pub fn request(&self, problem: &Prepared, setup: Setup) -> Request {
        Request {
            messages: problem.messages.clone(),
            sampling: self.resolved.sampling.clone(),
            overrides: self.settings.sampling,
            max_tokens: self.settings.max_tokens,
            seed: self.settings.seed,
            ..Request::new(setup, problem.prompt.clone())
        }
    }

    /// Solves one problem. Dropping the future cancels its traces.
    ///
    /// # Errors
    /// When the run cannot go on; a problem without an answer is no error.
    pub async fn solve(&self, problem: &Prepared, watch: Watch) -> Result<Solved, Error> {
        let setup = self.setup(problem, watch.recorded, watch.scripted);
        let mut outcome = self
            .run(problem, self.request(problem, setup), watch.observer)
            .await?;
        let about = About {
            gold: problem.gold.clone(),
            model: Some(self.source.model().to_owned()),
            seed: Some(self.settings.seed),
            date: self.date().map(|date| date.to_string()),
            sampling: self.resolved.settled().cloned(),
            machine: Some(MachineInfo {
                peak_rows: Some(outcome.peak_rows),
                slots_wanted: (outcome.slots_wanted != outcome.bounds.slots).then_some(outcome.slots_wanted),
                notices: std::mem::take(&mut outcome.notices),
                ..self.source.machine(true)
            }),
        };
        let solved = Solved::of(outcome, about, |answer, gold| self.grade(answer, gold));
        Ok(self.remarked(problem, solved))
    }

    /// The result with warnings of what its strategy does not see: a problem that the model was not made for,
    /// and traces that are copies of each other.
    pub(crate) fn remarked(&self, problem: &Prepared, mut solved: Solved) -> Solved {
        let unlearnt = self.unlearnt(problem).into_iter();
        let unasked = self.unasked(problem).into_iter();
        let remarks: Vec<String> = unlearnt
            .chain(unasked)
            .chain(self.copies(&solved.records))
            .collect();
        solved.warnings.splice(0..0, remarks);
        solved
    }

    /// A warning where traces that should be independent are copies of each other. Those of a model here are
    /// independent, unless nothing is drawn.
    fn copies(&self, records: &[TraceRecord]) -> Option<String> {
        let greedy = self.resolved.settled().is_some_and(|s| s.temperature == 0.0);
        let remote = !self.source.machine(false).backends.is_empty();
        (greedy || remote).then(|| copies(records, greedy)).flatten()
    }

    /// A warning where the chat template leaves the problem out of its prompt.
    fn unasked(&self, problem: &Prepared) -> Option<String> {
        let asked = problem.messages.last()?.content.trim();
        let filled = self.prompter().is_some() && !self.source.capabilities().own_template;
        (filled && !problem.prompt.text.contains(asked)).then(|| {
            "the chat template does not write the problem as it was given into the prompt (--dry-run shows it)".to_owned()
        })
    }

    /// What to say of a problem that the bundled model was not made for.
    fn unlearnt(&self, problem: &Prepared) -> Option<String> {
        let asked = self.source.model() == BUNDLED && !problem.messages.is_empty();
        let note = self.prompter().and_then(|prompter| prompter.note())?;
        (asked && recognise(&problem.problem).is_none())
            .then(|| format!("this problem is {UNLEARNT}: it {note}. Name another with --model"))
    }

    /// Solves a text: [`Self::prepare`] and [`Self::solve`] with nothing to watch.
    ///
    /// # Errors
    /// As those two.
    pub async fn solve_text(&self, problem: &str) -> Result<Solved, Error> {
        self.solve(&self.prepare(&question(problem))?, Watch::default())
            .await
    }

    /// Whether an answer is right.
    pub fn grade(&self, answer: &str, gold: &str) -> bool {
        self.reader.grade(answer, gold)
    }

    /// The day that the chat template writes as today's; `None` where it writes none, or the clock counts.
    pub fn date(&self) -> Option<jiff::civil::Date> {
        let writes = self.prompter().is_some_and(|prompter| prompter.writes_date());
        self.settings.date.filter(|_| writes)
    }

    /// What traces are a function of: two runs mix only if it is the same.
    pub fn trace_settings(&self) -> TraceSettings {
        let (s, r) = (&self.settings, &self.resolved);
        let prompter = self.prompter();
        self.source.describe(TraceSettings {
            prompter: prompter.map(|p| p.digest().to_owned()),
            instruction: Some(instruction(prompter.map(Arc::as_ref), s).to_owned()),
            system: s.system.clone(),
            prompt_template: s.prompt_template.clone(),
            template_variables: s.template_variables.clone(),
            sampling: Some(r.settled().map_or(s.sampling, Into::into)),
            seed: Some(s.seed),
            max_tokens: Some(r.max_tokens),
            ignore_eos: Some(s.ignore_eos),
            loop_stop: Some(s.loop_stop),
            thinking_budget: s.thinking_budget,
            date: self.date().map(|date| date.to_string()),
            ..TraceSettings::default()
        })
    }

    /// The model's name and where its traces are generated, for the record.
    pub fn machine(&self) -> MachineInfo {
        MachineInfo {
            model: Some(self.source.model().to_owned()),
            ..self.source.machine(false)
        }
    }
}

/// A text as a problem without a name.
pub(crate) fn question(text: &str) -> Problem {
    Problem {
        id: String::new(),
        problem: text.to_owned(),
        answer: None,
        extra: serde_json::Map::new(),
    }
}

/// What is asked after a problem.
fn instruction<'a>(prompter: Option<&'a Prompter>, settings: &'a Settings) -> &'a str {
    let own = || prompter.map_or(DEFAULT_INSTRUCTION, Prompter::instruction);
    settings.instruction.as_deref().unwrap_or_else(own)
}

/// The conversation of a problem.
fn messages(
    prompter: Option<&Prompter>,
    problem: &Problem,
    settings: &Settings,
) -> Result<Vec<Message>, Error> {
    if problem.problem.trim().is_empty() {
        return Err(Error::Setting(format!(
            "problem `{}` is empty: there is nothing to solve",
            problem.id
        )));
    }
    let template = settings
        .prompt_template
        .as_deref()
        .unwrap_or(DEFAULT_PROMPT_TEMPLATE);
    let system = settings.system.iter().map(Message::system);
    let turn = user_turn(template, &problem.problem, instruction(prompter, settings))?;
    Ok(system.chain([Message::user(turn)]).collect())
}

/// The id of a problem that has none: a digest of its text.
pub fn problem_id(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// The strategy that is used when none is named.
pub fn default_strategy() -> Preset {
    Preset::named("adaptive-consistency").expect("a shipped preset")
}

/// Time to an [`Instant`].
pub fn deadline(limit: Option<Duration>) -> Option<Instant> {
    limit.and_then(|l| Instant::now().checked_add(l))
}

/// What a problem is called that the bundled model was not made for.
pub(crate) const UNLEARNT: &str = "outside what the bundled model has learnt";

/// Tokens from which on equal traces are no chance.
const NO_CHANCE: usize = 8;

/// A warning where traces that should be independent are copies of each other.
fn copies(records: &[TraceRecord], greedy: bool) -> Option<String> {
    let mut texts: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    let ended = records.iter().filter(|r| r.finish.is_complete());
    for record in ended {
        if let Some(text) = record.text.as_deref().filter(|_| record.tokens >= NO_CHANCE) {
            *texts.entry((record.tokens, text)).or_default() += 1;
        }
    }
    let all: usize = texts.values().sum();
    let most = texts.values().copied().max()?;
    if most < 2 || most < all.div_ceil(2) || (most == 2 && all > 2) {
        return None;
    }
    let why = match greedy {
        true => "at temperature 0 every trace is the same",
        false => "their seeds differ, so the engine does not heed seeds, or its temperature is 0",
    };
    Some(format!(
        "{most} of {all} traces are the same text to the letter: {why}; copies are no independent votes"
    ))
}
