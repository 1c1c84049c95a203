//! What was asked for, and what it comes to with this model.

use std::collections::BTreeMap;
use std::time::Duration;

use tts_strategies::Preset;

use super::default_strategy;
use crate::error::Error;
use crate::prompt::{GenerationConfig, Prompter};
use crate::run::{Slots, StoppingRules};
use crate::source::{Capabilities, PrefixCache};
use tts_model::cpu::kernels::Tier;
use tts_model::overrides::SamplingOverrides;
use tts_model::sampling::{Sampling, TOP};

/// Token limit of a trace where neither the user, the model nor a remote engine names one.
const DEFAULT_MAX_TOKENS: usize = 32_768;

/// How problems are solved.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The strategy with its settings.
    pub strategy: Preset,
    /// Traces that may be launched for a problem (K).
    pub traces: usize,
    /// Traces of a problem in flight at once; what suits the strategy where `None`.
    pub slots: Option<Slots>,
    /// Rows of a batch; from memory where `None`.
    pub max_batch: Option<usize>,
    /// Bytes that traces may take; from the machine where `None`.
    pub memory: Option<u64>,
    /// Prompts that the model in this process keeps for later ones which begin alike.
    pub prefix_cache: PrefixCache,
    /// Threads that compute the model; as many as the machine has cores where `None`.
    pub threads: Option<usize>,
    /// Instruction tier of the kernels; the machine's best where `None`.
    pub tier: Option<Tier>,
    /// Generated tokens at which a trace is cut off.
    pub max_tokens: Option<usize>,
    /// How tokens are drawn.
    pub sampling: SamplingOverrides,
    /// Part of every trace's random stream.
    pub seed: u64,
    /// Whether stop ids are passed over.
    pub ignore_eos: bool,
    /// Whether verbatim loops end a trace.
    pub loop_stop: bool,
    /// Generated tokens at which the end of thinking is forced.
    pub thinking_budget: Option<usize>,
    /// Log-probabilities of the most likely ids that are kept of each token, so that confidence over other
    /// numbers of ids can be replayed.
    pub record_top_k: usize,
    /// Generated tokens of a problem after which the vote so far decides.
    pub max_total_tokens: Option<u64>,
    /// Time after which the votes so far decide.
    pub time_limit: Option<Duration>,
    /// The system message before the question; none is sent where `None`.
    pub system: Option<String>,
    /// Text with `{problem}` (and `{instruction}`) that makes the user's turn.
    pub prompt_template: Option<String>,
    /// What is asked after the problem; the model's or the stated default where `None`.
    pub instruction: Option<String>,
    /// Further variables of the chat template, such as `enable_thinking`.
    pub template_variables: BTreeMap<String, serde_json::Value>,
    /// The day that a chat template writes as today's; where `None` the machine's clock counts for each prompt.
    pub date: Option<jiff::civil::Date>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strategy: default_strategy(),
            traces: 64,
            slots: None,
            max_batch: None,
            memory: None,
            prefix_cache: PrefixCache::Off,
            threads: None,
            tier: None,
            max_tokens: None,
            sampling: SamplingOverrides::default(),
            seed: 0,
            ignore_eos: false,
            loop_stop: true,
            thinking_budget: None,
            record_top_k: 0,
            max_total_tokens: None,
            time_limit: None,
            system: None,
            prompt_template: None,
            instruction: None,
            template_variables: BTreeMap::new(),
            date: None,
        }
    }
}

/// Settings with nothing left open.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// How tokens are drawn.
    pub(super) sampling: Sampling,
    /// Whether that is all there is to say of it.
    settles_sampling: bool,
    /// Stop ids and the like; `max_tokens` is set for each prompt.
    pub(super) rules: StoppingRules,
    /// Traces of a problem in flight at once.
    pub slots: Slots,
    /// Token limit of a trace, if the context has room for it.
    pub max_tokens: usize,
    /// Settings taken from the model's generation_config.json, for the user to see.
    pub taken: Vec<String>,
    /// Keys of it that are not honoured.
    pub unhonoured: Vec<String>,
}

/// A strategy as a user names it: a shipped preset, a preset file, or `exec:COMMAND`.
///
/// # Errors
/// A name that is not known, a file that cannot be read or is no preset, a command that cannot be run.
pub fn named_strategy(name: &str) -> Result<Preset, Error> {
    if let Some(command) = name.strip_prefix("exec:") {
        return Ok(crate::policy::preset(command)?);
    }
    let is_file = std::path::Path::new(name)
        .extension()
        .is_some_and(|e| e == "toml")
        || name.contains(['/', '\\']);
    if !is_file {
        return Ok(Preset::named(name)?);
    }
    let text = std::fs::read_to_string(name)
        .map_err(|e| Error::Setting(format!("the strategy file {name} cannot be read: {e}")))?;
    Ok(Preset::from_toml(&text, name)?)
}

/// Refuses settings out of their range, whatever the model.
pub(super) fn check(s: &Settings) -> Result<(), Error> {
    let at_least_one = |name: &str, value: Option<usize>| match value {
        Some(0) => Err(Error::Setting(format!(
            "--{name} 0 leaves nothing to run: it must be at least 1"
        ))),
        _ => Ok(()),
    };
    at_least_one("traces", Some(s.traces))?;
    at_least_one("max-batch", s.max_batch)?;
    at_least_one("threads", s.threads)?;
    at_least_one("max-tokens", s.max_tokens)?;
    s.slots
        .map_or(Ok(()), |slots| slots.check(s.traces))
        .map_err(Error::Setting)?;
    if s.record_top_k > TOP {
        return Err(Error::Setting(format!(
            "--record-top-k {} is more than the {TOP} most likely ids that are looked for",
            s.record_top_k
        )));
    }
    if s.traces > u32::MAX as usize {
        return Err(Error::Setting(format!(
            "--traces {} is more than {} traces",
            s.traces,
            u32::MAX
        )));
    }
    if s.max_total_tokens == Some(0) {
        return Err(Error::Setting(
            "--max-total-tokens 0 leaves nothing to generate: it must be at least 1".to_owned(),
        ));
    }
    let asked = s.sampling.over(SamplingOverrides::default(), &mut Vec::new());
    asked.check().map_err(Error::Setting)
}

/// Refuses what only a source that takes forced tokens can do.
pub(super) fn check_forcing(s: &Settings, forcing: bool) -> Result<(), Error> {
    if s.thinking_budget.is_some() && !forcing {
        return Err(Error::Setting(
            "--thinking-budget forces tokens, which no remote engine allows in the middle of a stream; leave \
             it out".to_owned(),
        ));
    }
    Ok(())
}

/// Refuses variables that no chat template here reads.
pub(super) fn check_variables(s: &Settings, template: Option<&Prompter>) -> Result<(), Error> {
    match template {
        Some(prompter) => Ok(prompter.check_variables(s.template_variables.keys())?),
        None if s.template_variables.is_empty() => Ok(()),
        None => Err(Error::Setting(
            "--template-arg sets a variable of a chat template that is filled here, and an engine elsewhere fills \
             its own: leave it out, or use --backend-api completions with --model"
                .to_owned(),
        )),
    }
}

/// What the settings come to with this source.
pub(super) fn resolve(source: &Capabilities, s: &Settings) -> Result<Resolved, Error> {
    check(s)?;
    check_forcing(s, source.forcing)?;
    let template = source.prompter.as_deref().filter(|_| !source.own_template);
    check_variables(s, template)?;
    let none = GenerationConfig::default();
    let generation = source.prompter.as_ref().map_or(&none, |p| p.generation());
    let mut taken = Vec::new();
    let sampling = s.sampling.over(generation.sampling, &mut taken);
    sampling.check().map_err(Error::Setting)?;
    let [think_start, think_end] = match &source.prompter {
        Some(prompter) => think_ids(prompter, s)?,
        None => Default::default(),
    };
    if let (None, Some(n)) = (s.max_tokens, generation.max_new_tokens) {
        taken.push(format!("max tokens {n}"));
    }
    Ok(Resolved {
        sampling,
        settles_sampling: source.settles_sampling,
        rules: StoppingRules {
            stop_ids: source.stop_ids.clone(),
            ignore_eos: s.ignore_eos,
            max_tokens: 0,
            loop_stop: s.loop_stop,
            thinking_budget: s.thinking_budget,
            think_start,
            think_end,
            record_top_k: if s.strategy.build().needs().entropy {
                TOP
            } else {
                s.record_top_k
            },
            ..StoppingRules::default()
        },
        slots: s
            .slots
            .unwrap_or_else(|| Slots::suiting(&s.strategy))
            .within(s.traces),
        max_tokens: s
            .max_tokens
            .or(generation.max_new_tokens)
            .unwrap_or(DEFAULT_MAX_TOKENS),
        taken,
        unhonoured: generation.unhonoured.clone(),
    })
}

/// The ids that open thinking and those that end it, where a budget needs them.
fn think_ids(prompter: &Prompter, s: &Settings) -> Result<[Vec<u32>; 2], Error> {
    if s.thinking_budget.is_none() {
        return Ok([Vec::new(), Vec::new()]);
    }
    prompter.think_ids()?.ok_or_else(|| {
        Error::Setting(
            "--thinking-budget needs a model that ends its thinking with the token </think> or another mark that \
             is known, and this one has none"
                .to_owned(),
        )
    })
}

impl Resolved {
    /// How tokens are drawn, where this source leaves nothing open.
    pub fn settled(&self) -> Option<&Sampling> {
        self.settles_sampling.then_some(&self.sampling)
    }
}
