//! Solving with traces from remote engines: the same settings, prompts and results.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tts_evals::answer::ReadAnswer;
use tts_evals::data::Problem;

use super::settings::{self, DEFAULT_MAX_TOKENS, Settings};
use super::{About, BatchPlan, Detokenize, Prepared, Reader, Solved, Solver, Watch, problem_id};
use crate::error::Error;
use crate::prompt::{
    DEFAULT_INSTRUCTION, DEFAULT_PROMPT_TEMPLATE, Message, Prompter, RenderOptions, Rendered, user_turn,
};
use crate::run::{
    Bounds, Control, Decode, MachineInfo, Outcome, Rules, RunError, SamplingOverrides, Setup, TraceRecord,
    TraceSettings, check_needs,
};
use crate::source::{Backend, Job, Remote, RemoteOptions, remote::CompletionRequest, remote::Prompt};
use tts_model::sampler::Sampling;

/// How an engine is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// `/chat/completions`: the engine renders the conversation.
    #[default]
    Chat,
    /// `/completions`: the prompt is rendered here where the model's folder is known, else it is sent as it
    /// is.
    Completions,
}

impl Api {
    fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
        }
    }
}

/// Remote engines and the settings to solve problems with.
pub struct RemoteRunner {
    remote: Arc<Remote>,
    manner: Manner,
    settings: Settings,
    reader: Reader,
}

/// How prompts are made and engines asked, whatever the settings.
#[derive(Clone)]
struct Manner {
    api: Api,
    /// tokenizer and template of the model that the engines serve, where its folder was named
    prompter: Option<Arc<Prompter>>,
    /// what that model recommends
    recommended: SamplingOverrides,
}

/// Engines that give text need no tokenizer here.
struct NoText;

impl Decode for NoText {
    fn decode(&self, _: &[u32]) -> String {
        String::new()
    }
}

impl RemoteRunner {
    /// Asks the engines what they give, with a request as `sample` will make it, and refuses settings and
    /// strategies that cannot work. `prompter` is the tokenizer and template of the model that they serve,
    /// where its folder was named.
    ///
    /// # Errors
    /// A sentence that names the setting, the address or the strategy.
    pub async fn connect(
        options: &RemoteOptions,
        api: Api,
        settings: Settings,
        prompter: Option<Prompter>,
        sample: &Problem,
    ) -> Result<Self, Error> {
        check(&settings)?;
        let manner = Manner {
            api,
            recommended: prompter
                .as_ref()
                .map_or_else(SamplingOverrides::default, recommended),
            prompter: prompter.map(Arc::new),
        };
        let messages = manner.messages(sample, &settings)?;
        let prompt = manner.render(&messages, &RenderOptions::default())?;
        let remote = Remote::connect(options, &manner.asking(&settings, messages, &prompt, None)).await?;
        remote.check(settings.strategy.build().as_ref())?;
        Ok(Self {
            remote: Arc::new(remote),
            manner,
            settings,
            reader: Reader::default(),
        })
    }

    /// The same engines with other settings.
    ///
    /// # Errors
    /// A sentence that names the setting or the strategy that cannot work.
    pub fn with_settings(&self, settings: Settings) -> Result<Self, Error> {
        check(&settings)?;
        check_needs(settings.strategy.build().as_ref(), self.remote.offers())?;
        Ok(Self {
            remote: self.remote.clone(),
            manner: self.manner.clone(),
            settings,
            reader: self.reader.clone(),
        })
    }

    /// Replaces the way answers are taken from texts.
    #[must_use]
    pub fn with_reader(mut self, reader: Reader) -> Self {
        self.reader = reader;
        self
    }

    /// What was asked for.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The engines.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Traces of a problem in flight at once.
    pub fn slots(&self) -> usize {
        settings::slots(&self.settings)
    }

    /// How engines are spoken to.
    pub fn api(&self) -> Api {
        self.manner.api
    }

    /// Tokenizer and template of the model that the engines serve, where its folder was named.
    pub(crate) fn prompter(&self) -> Option<&Arc<Prompter>> {
        self.manner.prompter.as_ref()
    }

    /// Makes a problem's prompt.
    ///
    /// # Errors
    /// An empty problem, a template that fails, a token limit beyond the engine's context.
    pub fn prepare(&self, problem: &Problem) -> Result<Prepared, Error> {
        let messages = self.manner.messages(problem, &self.settings)?;
        let prompt = self.render(&messages, &RenderOptions::default())?;
        let room = self
            .remote
            .context()
            .map_or(usize::MAX, |c| c.saturating_sub(prompt.ids.len()));
        if let Some(wanted) = self.settings.max_tokens.filter(|wanted| *wanted > room) {
            return Err(Error::Setting(format!(
                "--max-tokens {wanted} does not fit: the engine's context leaves at most {room} for problem `{}`",
                problem.id
            )));
        }
        Ok(Prepared {
            id: match problem.id.is_empty() {
                true => problem_id(&problem.problem),
                false => problem.id.clone(),
            },
            problem: problem.problem.clone(),
            gold: problem.answer.clone(),
            messages,
            prompt,
            max_tokens: self.max_tokens().min(room),
        })
    }

    /// The prompt of a conversation, as far as it can be known here: with its ids where there is a template,
    /// else its texts one below the other.
    pub(crate) fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<Rendered, Error> {
        self.manner.render(messages, options)
    }

    /// Token limit of a trace, if the context has room for it.
    pub(crate) fn max_tokens(&self) -> usize {
        self.manner
            .asked_tokens(&self.settings)
            .unwrap_or(DEFAULT_MAX_TOKENS)
    }

    /// Strategy, rules, bounds and reader of a prepared problem.
    pub(crate) fn setup(&self, problem: &Prepared, recorded: Vec<Arc<TraceRecord>>) -> Setup {
        let reader: Arc<dyn ReadAnswer> = self.reader.for_prompt(&problem.prompt);
        let decode: Arc<dyn Decode> = match self.prompter() {
            Some(prompter) => Arc::new(Detokenize(prompter.clone())),
            None => Arc::new(NoText),
        };
        Setup {
            id: problem.id.clone(),
            strategy: self.settings.strategy.build(),
            reader,
            decode,
            // ids that end a trace are the engine's business: it says when it has ended
            rules: Arc::new(Rules {
                max_tokens: problem.max_tokens,
                ignore_eos: true,
                loop_stop: self.settings.loop_stop,
                record_top_k: self.settings.record_top_k,
                ..Rules::default()
            }),
            bounds: Bounds {
                traces: self.settings.traces,
                slots: self.slots(),
                max_total_tokens: self.settings.max_total_tokens,
            },
            recorded,
            scripted: Vec::new(),
        }
    }

    /// Runs a problem that was set up, with the caller's own hand on it.
    pub(crate) async fn run(
        &self,
        problem: &Prepared,
        job: Job,
        control: Arc<Control>,
    ) -> Result<Outcome, RunError> {
        let room = self.remote.context().map(|_| problem.max_tokens);
        let asking = self
            .manner
            .asking(&self.settings, problem.messages.clone(), &problem.prompt, room);
        self.remote.solve(job, asking, control).await
    }

    /// Solves one problem. Dropping the future closes its streams.
    ///
    /// # Errors
    /// When the run cannot go on; a problem without an answer is no error.
    pub async fn solve(&self, problem: &Prepared, watch: Watch) -> Result<Solved, Error> {
        let job = Job {
            setup: self.setup(problem, watch.recorded),
            prompt: problem.prompt.ids.clone(),
            sampling: Sampling::default(),
            seed: self.settings.seed,
            held: Vec::new(),
            deadline: watch.deadline,
            interrupt: watch.interrupt,
            events: watch.events,
            records: watch.records,
            checkpoint: watch.checkpoint,
        };
        let mut outcome = self.run(problem, job, Arc::default()).await?;
        let tallies: BTreeMap<_, _> = self.remote.tallies().into_iter().collect();
        let about = About {
            gold: problem.gold.clone(),
            model: Some(self.remote.model().to_owned()),
            seed: Some(self.settings.seed),
            sampling: None,
            machine: Some(MachineInfo {
                peak_rows: Some(outcome.peak_rows),
                notices: std::mem::take(&mut outcome.notices),
                ..self.machine_with(json!({ "tallies": tallies }))
            }),
        };
        Ok(Solved::of(outcome, about, |answer, gold| {
            self.reader.grade(answer, gold)
        }))
    }

    /// What traces are a function of, for a run folder. Addresses are not among it: the same model at another
    /// address gives the same traces.
    fn traces(&self) -> TraceSettings {
        let s = &self.settings;
        TraceSettings {
            backend_model: Some(self.remote.model().to_owned()),
            backend_api: Some(self.manner.api.name().to_owned()),
            confidence_k: self.remote.confidence_k(),
            prompter: self.prompter().map(|p| p.digest().to_owned()),
            instruction: Some(self.manner.instruction(s).to_owned()),
            system: s.system.clone(),
            prompt_template: s.prompt_template.clone(),
            sampling: Some(s.sampling),
            recommended: Some(self.manner.recommended),
            seed: Some(s.seed),
            max_tokens: Some(self.max_tokens()),
            ignore_eos: Some(s.ignore_eos),
            loop_stop: Some(s.loop_stop),
            ..TraceSettings::remote()
        }
    }

    /// The engines with more facts about them.
    fn machine_with(&self, facts: Value) -> MachineInfo {
        let mut about = self.remote.about();
        if let (Some(about), Value::Object(facts)) = (about.as_object_mut(), facts) {
            about.extend(facts);
        }
        serde_json::from_value(about).unwrap_or_default()
    }
}

#[async_trait::async_trait]
impl Solver for RemoteRunner {
    fn settings(&self) -> &Settings {
        &self.settings
    }
    fn slots(&self) -> usize {
        RemoteRunner::slots(self)
    }
    fn prepare(&self, problem: &Problem) -> Result<Prepared, Error> {
        RemoteRunner::prepare(self, problem)
    }
    fn batch_plan(&self, problems: &[Prepared]) -> BatchPlan {
        BatchPlan::remote(self, problems)
    }
    fn start(&self, _: &BatchPlan) -> Result<(), Error> {
        Ok(())
    }
    fn trace_settings(&self, _: &[Prepared]) -> Result<TraceSettings, Error> {
        Ok(self.traces())
    }
    fn machine(&self) -> MachineInfo {
        self.machine_with(json!({ "model": self.remote.model() }))
    }
    async fn solve(&self, problem: &Prepared, watch: Watch) -> Result<Solved, Error> {
        RemoteRunner::solve(self, problem, watch).await
    }
}

impl Manner {
    /// What is asked after a problem.
    fn instruction<'a>(&'a self, settings: &'a Settings) -> &'a str {
        let own = || {
            self.prompter
                .as_ref()
                .map_or(DEFAULT_INSTRUCTION, |p| p.instruction())
        };
        settings.instruction.as_deref().unwrap_or_else(own)
    }

    /// The token limit that the user or the model names.
    fn asked_tokens(&self, settings: &Settings) -> Option<usize> {
        settings
            .max_tokens
            .or_else(|| self.prompter.as_ref()?.generation().max_new_tokens)
    }

    /// The conversation of a problem.
    fn messages(&self, problem: &Problem, settings: &Settings) -> Result<Vec<Message>, Error> {
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
        let user = Message::user(user_turn(template, &problem.problem, self.instruction(settings))?);
        Ok(system.chain([user]).collect())
    }

    fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<Rendered, Error> {
        match &self.prompter {
            Some(prompter) => Ok(prompter.render(messages, options)?),
            None => Ok(Rendered {
                text: messages
                    .iter()
                    .map(|m| m.content.as_str())
                    .collect::<Vec<_>>()
                    .join("\n\n"),
                ids: Vec::new(),
                ends_in_think: false,
            }),
        }
    }

    /// What is asked of an engine: to go on with a conversation, or with a prompt as it is. `room` is what
    /// its context leaves, where that is known.
    fn asking(
        &self,
        settings: &Settings,
        messages: Vec<Message>,
        prompt: &Rendered,
        room: Option<usize>,
    ) -> CompletionRequest {
        let prompt = match self.api {
            Api::Chat if !messages.is_empty() => Prompt::Messages(messages),
            _ if prompt.ids.is_empty() => Prompt::Text(prompt.text.clone()),
            _ => Prompt::Ids(prompt.ids.clone()),
        };
        // plain endpoints have limits of their own, 16 tokens say; what a text leaves of the context is not
        // known
        let room = room.filter(|_| matches!(prompt, Prompt::Ids(_)));
        CompletionRequest {
            prompt,
            sampling: settings.sampling,
            recommended: self.recommended,
            settled: self.prompter.is_some(),
            max_tokens: self.asked_tokens(settings).or(room),
            ignore_eos: settings.ignore_eos,
        }
    }
}

/// Refuses settings that no remote engine can keep to.
fn check(settings: &Settings) -> Result<(), Error> {
    settings::check(settings)?;
    if settings.thinking_budget.is_some() {
        return Err(Error::Setting(
            "--thinking-budget forces tokens, which no remote engine allows in the middle of a stream; leave it out".to_owned(),
        ));
    }
    Ok(())
}

/// What the model's generation_config.json recommends.
fn recommended(prompter: &Prompter) -> SamplingOverrides {
    let none = SamplingOverrides::default();
    let s = settings::sampling(prompter.generation(), &none, &mut Vec::new());
    let off = Sampling::default();
    let unless = |value: f64, off: f64| Some(value).filter(|v| *v != off);
    SamplingOverrides {
        temperature: unless(s.temperature, off.temperature),
        top_p: unless(s.top_p, off.top_p),
        top_k: Some(s.top_k).filter(|k| *k != off.top_k),
        min_p: unless(s.min_p, off.min_p),
        repetition_penalty: unless(s.repetition_penalty, off.repetition_penalty),
        presence_penalty: unless(s.presence_penalty, off.presence_penalty),
        frequency_penalty: unless(s.frequency_penalty, off.frequency_penalty),
    }
}
