//! Solving with traces from remote engines: the same settings, prompts and results.

use std::sync::Arc;

use serde_json::{Value, json};
use tts_evals::answer::ReadAnswer;
use tts_evals::data::Problem;

use super::settings::{self, SamplingChoice, Settings};
use super::solved::{Machine, RemoteMachine};
use super::{About, Detokenize, Prepared, Reader, Solved, Solver, Watch, problem_id};
use crate::backend::remote::{Asking, Prompt};
use crate::backend::{Job, Remote, RemoteOptions};
use crate::engine::sampler::Sampling;
use crate::error::Error;
use crate::prompt::{DEFAULT_INSTRUCTION, DEFAULT_PROMPT_TEMPLATE, Message, Prompter, RenderOptions, Rendered, user_turn};
use crate::solve::{Bounds, Decode, Rules, Setup};

/// Token limit of a trace where neither the user, the model nor the engine names one.
const DEFAULT_MAX_TOKENS: usize = 32_768;

/// How an engine is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// `/chat/completions`: the engine renders the conversation.
    #[default]
    Chat,
    /// `/completions`: the prompt is rendered here where the model's folder is known, else it is sent as it is.
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
    remote: Remote,
    api: Api,
    settings: Settings,
    /// tokenizer and template of the model that the engines serve, where its folder was named
    prompter: Option<Arc<Prompter>>,
    recommended: SamplingChoice,
    reader: Reader,
}

/// Engines that give text need no tokenizer here.
struct NoText;

impl Decode for NoText {
    fn decode(&self, _: &[u32]) -> String {
        String::new()
    }
}

impl RemoteRunner {
    /// Asks the engines what they give, with a request as `sample` will make it, and refuses settings and strategies that cannot work. `prompter` is the
    /// tokenizer and template of the model that they serve, where its folder was named.
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
        settings::check(&settings)?;
        if settings.thinking_budget.is_some() {
            return Err(Error::Setting(
                "--thinking-budget forces tokens, which no remote engine allows in the middle of a stream; leave it out".to_owned(),
            ));
        }
        let prompter = prompter.map(Arc::new);
        let recommended = prompter.as_ref().map_or_else(SamplingChoice::default, |p| recommended(p));
        let messages = messages(sample, &settings, prompter.as_deref())?;
        let asking = asking(api, &settings, recommended, prompter.as_deref(), messages)?;
        let remote = Remote::connect(options, &asking).await?;
        remote.check(settings.strategy.build().as_ref())?;
        Ok(Self {
            remote,
            api,
            settings,
            prompter,
            recommended,
            reader: Reader::default(),
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

    /// Makes a problem's prompt.
    ///
    /// # Errors
    /// An empty problem, a template that fails, a token limit beyond the engine's context.
    pub fn prepare(&self, problem: &Problem) -> Result<Prepared, Error> {
        let messages = messages(problem, &self.settings, self.prompter.as_deref())?;
        let prompt = match (&self.prompter, self.api) {
            (Some(prompter), _) => prompter.render(&messages, &RenderOptions::default())?,
            (None, _) => Rendered {
                text: messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n\n"),
                ids: Vec::new(),
                ends_in_think: false,
            },
        };
        let room = self.remote.context().map_or(usize::MAX, |c| c.saturating_sub(prompt.ids.len()));
        if let Some(wanted) = self.settings.max_tokens.filter(|wanted| *wanted > room) {
            return Err(Error::Setting(format!(
                "--max-tokens {wanted} does not fit: the engine's context leaves at most {room} for problem `{}`",
                problem.id
            )));
        }
        let max_tokens = self.max_tokens().min(room);
        Ok(Prepared {
            id: match problem.id.is_empty() {
                true => problem_id(&problem.problem),
                false => problem.id.clone(),
            },
            problem: problem.problem.clone(),
            gold: problem.answer.clone(),
            prompt,
            max_tokens,
        })
    }

    /// Token limit of a trace, if the context has room for it.
    fn max_tokens(&self) -> usize {
        asked_tokens(&self.settings, self.prompter.as_deref()).unwrap_or(DEFAULT_MAX_TOKENS)
    }

    fn setup(&self, problem: &Prepared, watch: &mut Watch) -> Setup {
        let reader: Arc<dyn ReadAnswer> = self.reader.for_prompt(&problem.prompt);
        let decode: Arc<dyn Decode> = match &self.prompter {
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
            recorded: std::mem::take(&mut watch.recorded),
            scripted: Vec::new(),
        }
    }

    /// Solves one problem. Dropping the future closes its streams.
    ///
    /// # Errors
    /// When the run cannot go on; a problem without an answer is no error.
    pub async fn solve(&self, problem: &Prepared, mut watch: Watch) -> Result<Solved, Error> {
        let setup = self.setup(problem, &mut watch);
        let as_problem = Problem {
            id: problem.id.clone(),
            problem: problem.problem.clone(),
            answer: None,
            extra: serde_json::Map::new(),
        };
        let prompter = self.prompter.as_deref();
        let messages = messages(&as_problem, &self.settings, prompter)?;
        let asking = asking(self.api, &self.settings, self.recommended, prompter, messages)?;
        let job = Job {
            setup,
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
        let mut outcome = self.remote.solve(job, asking).await?;
        let about = About {
            gold: problem.gold.clone(),
            model: Some(self.remote.model().to_owned()),
            seed: Some(self.settings.seed),
            sampling: None,
            machine: Some(Machine::Remote(RemoteMachine {
                remote: self.remote.about(),
                tallies: self.remote.tallies().into_iter().collect(),
                peak_rows: outcome.peak_rows,
                notices: std::mem::take(&mut outcome.notices),
            })),
        };
        Ok(Solved::of(outcome, about, |answer, gold| self.reader.grade(answer, gold)))
    }

    /// What traces are a function of, for a run folder. Addresses are not among it: the same model at another address gives the same traces.
    pub fn traces(&self) -> Value {
        let s = &self.settings;
        let instruction = s.instruction.as_deref().unwrap_or_else(|| instruction(self.prompter.as_deref()));
        json!({
            "source": "remote",
            "backend_model": self.remote.model(),
            "backend_api": self.api.name(),
            "confidence_k": self.remote.confidence_k(),
            "prompter": self.prompter.as_ref().map(|p| p.digest()),
            "instruction": instruction,
            "system": s.system,
            "prompt_template": s.prompt_template,
            "sampling": s.sampling,
            "recommended": self.recommended,
            "seed": s.seed,
            "max_tokens": self.max_tokens(),
            "ignore_eos": s.ignore_eos,
            "loop_stop": s.loop_stop,
        })
    }
}

#[async_trait::async_trait]
impl Solver for RemoteRunner {
    fn settings(&self) -> &Settings {
        &self.settings
    }
    async fn solve(&self, problem: &Prepared, watch: Watch) -> Result<Solved, Error> {
        RemoteRunner::solve(self, problem, watch).await
    }
}

/// The token limit that an engine is told.
fn asked_tokens(settings: &Settings, prompter: Option<&Prompter>) -> Option<usize> {
    settings.max_tokens.or_else(|| prompter?.generation().max_new_tokens)
}

/// What is asked after a problem where the user does not say.
fn instruction(prompter: Option<&Prompter>) -> &str {
    prompter.map_or(DEFAULT_INSTRUCTION, Prompter::instruction)
}

/// The conversation of a problem.
fn messages(problem: &Problem, settings: &Settings, prompter: Option<&Prompter>) -> Result<Vec<Message>, Error> {
    if problem.problem.trim().is_empty() {
        return Err(Error::Setting(format!(
            "problem `{}` is empty: there is nothing to solve",
            problem.id
        )));
    }
    let instruction = settings.instruction.as_deref().unwrap_or_else(|| instruction(prompter));
    let template = settings.prompt_template.as_deref().unwrap_or(DEFAULT_PROMPT_TEMPLATE);
    let system = settings.system.iter().map(Message::system);
    let user = Message::user(user_turn(template, &problem.problem, instruction)?);
    Ok(system.chain([user]).collect())
}

/// What is sent for these messages.
fn asking(
    api: Api,
    settings: &Settings,
    recommended: SamplingChoice,
    prompter: Option<&Prompter>,
    messages: Vec<Message>,
) -> Result<Asking, Error> {
    let prompt = match (api, prompter) {
        (Api::Chat, _) => Prompt::Messages(messages),
        (Api::Completions, Some(prompter)) => Prompt::Ids(prompter.render(&messages, &RenderOptions::default())?.ids),
        (Api::Completions, None) => Prompt::Text(messages.into_iter().map(|m| m.content).collect::<Vec<_>>().join("\n\n")),
    };
    Ok(Asking {
        prompt,
        sampling: settings.sampling,
        recommended,
        settled: prompter.is_some(),
        max_tokens: asked_tokens(settings, prompter),
        ignore_eos: settings.ignore_eos,
    })
}

/// What the model's generation_config.json recommends.
fn recommended(prompter: &Prompter) -> SamplingChoice {
    let none = SamplingChoice::default();
    let s = settings::sampling(prompter.generation(), &none, &mut Vec::new());
    let off = Sampling::default();
    let unless = |value: f64, off: f64| Some(value).filter(|v| *v != off);
    SamplingChoice {
        temperature: unless(s.temperature, off.temperature),
        top_p: unless(s.top_p, off.top_p),
        top_k: Some(s.top_k).filter(|k| *k != off.top_k),
        min_p: unless(s.min_p, off.min_p),
        repetition_penalty: unless(s.repetition_penalty, off.repetition_penalty),
        presence_penalty: unless(s.presence_penalty, off.presence_penalty),
        frequency_penalty: unless(s.frequency_penalty, off.frequency_penalty),
    }
}
