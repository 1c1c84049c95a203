//! What was asked for, and what it comes to with this model.

use std::time::Duration;

use tts_strategies::Preset;

use super::{default_strategy, default_threads, default_tier};
use crate::error::Error;
use crate::loaded::Loaded;
use crate::run::{Rules, SamplingOverrides};
use tts_model::kernels::Tier;
use tts_model::sampler::{Sampling, TOP};

/// Most traces of a problem that run at once unless `slots`, or a recording, says otherwise.
pub(crate) const DEFAULT_SLOTS: usize = 64;
/// Token limit of a trace where neither the user, the model nor a remote engine names one.
pub(super) const DEFAULT_MAX_TOKENS: usize = 32_768;

/// How problems are solved.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The strategy with its settings.
    pub strategy: Preset,
    /// Traces that may be launched for a problem (K).
    pub traces: usize,
    /// Traces of a problem in flight at once.
    pub slots: Option<usize>,
    /// Rows of a batch; from memory where `None`.
    pub max_batch: Option<usize>,
    /// Bytes that traces may take; from the machine where `None`.
    pub memory: Option<u64>,
    /// Threads.
    pub threads: Option<usize>,
    /// Instruction tier.
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
    /// System message.
    pub system: Option<String>,
    /// Text with `{problem}` (and `{instruction}`) that makes the user's turn.
    pub prompt_template: Option<String>,
    /// What is asked after the problem; the model's or the stated default where `None`.
    pub instruction: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strategy: default_strategy(),
            traces: 64,
            slots: None,
            max_batch: None,
            memory: None,
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
        }
    }
}

/// Settings with nothing left open.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Draws.
    pub(super) sampling: Sampling,
    /// Stop ids and the like; `max_tokens` is set for each prompt.
    pub(super) rules: Rules,
    /// Traces of a problem in flight.
    pub slots: usize,
    /// Token limit of a trace, if the context has room for it.
    pub max_tokens: usize,
    /// Threads.
    pub threads: usize,
    /// Instruction tier.
    pub tier: Tier,
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
    at_least_one("slots", s.slots)?;
    at_least_one("max-batch", s.max_batch)?;
    at_least_one("threads", s.threads)?;
    at_least_one("max-tokens", s.max_tokens)?;
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
    sampling(
        &crate::prompt::GenerationConfig::default(),
        &s.sampling,
        &mut Vec::new(),
    )
    .check()
    .map_err(Error::Setting)
}

/// Traces of a problem in flight at once.
pub(super) fn slots(s: &Settings) -> usize {
    s.slots.unwrap_or(DEFAULT_SLOTS).min(s.traces)
}

pub(super) fn resolve(loaded: &Loaded, s: &Settings) -> Result<Resolved, Error> {
    check(s)?;
    let mut taken = Vec::new();
    let (sampling, unhonoured, recommended) = match &loaded.prompter {
        Some(prompter) => {
            let g = prompter.generation();
            (
                sampling(g, &s.sampling, &mut taken),
                g.unhonoured.clone(),
                g.max_new_tokens,
            )
        }
        None => (
            sampling(
                &crate::prompt::GenerationConfig::default(),
                &s.sampling,
                &mut taken,
            ),
            Vec::new(),
            None,
        ),
    };
    sampling.check().map_err(Error::Setting)?;
    let (stop_ids, think_end) = match &loaded.prompter {
        Some(p) => (p.stop_ids().iter().copied().collect(), think_end(p, s)?),
        None => (loaded.model.config().eos_ids.clone(), Vec::new()),
    };
    if let (None, Some(n)) = (s.max_tokens, recommended) {
        taken.push(format!("max tokens {n}"));
    }
    Ok(Resolved {
        sampling,
        rules: Rules {
            stop_ids,
            ignore_eos: s.ignore_eos,
            max_tokens: 0,
            loop_stop: s.loop_stop,
            thinking_budget: s.thinking_budget,
            think_end,
            record_top_k: s.record_top_k,
            ..Rules::default()
        },
        slots: slots(s),
        max_tokens: s.max_tokens.or(recommended).unwrap_or(DEFAULT_MAX_TOKENS),
        threads: s.threads.unwrap_or_else(default_threads),
        tier: s.tier.unwrap_or_else(default_tier),
        taken,
        unhonoured,
    })
}

fn think_end(prompter: &crate::prompt::Prompter, s: &Settings) -> Result<Vec<u32>, Error> {
    if s.thinking_budget.is_none() {
        return Ok(Vec::new());
    }
    prompter.think_ids().1.map(|id| vec![id]).ok_or_else(|| {
        Error::Setting(
            "--thinking-budget needs a model that ends its thinking with the token </think>, and this one has no such token".to_owned(),
        )
    })
}

pub(super) fn sampling(
    g: &crate::prompt::GenerationConfig,
    choice: &SamplingOverrides,
    taken: &mut Vec<String>,
) -> Sampling {
    let mut pick = |name: &str, chosen: Option<f64>, recommended: Option<f64>, default: f64| {
        if let (None, Some(value)) = (chosen, recommended) {
            taken.push(format!("{name} {value}"));
        }
        chosen.or(recommended).unwrap_or(default)
    };
    // an f32 of the file is meant as it is written: 0.6, not 0.6000000238
    let wide = |x: Option<f32>| x.and_then(|x| x.to_string().parse::<f64>().ok());
    let greedy = (g.do_sample == Some(false)).then_some(0.0);
    Sampling {
        temperature: pick(
            "temperature",
            choice.temperature,
            greedy.or_else(|| wide(g.temperature)),
            1.0,
        ),
        top_p: pick("top-p", choice.top_p, wide(g.top_p), 1.0),
        top_k: pick(
            "top-k",
            choice.top_k.map(|k| k as f64),
            g.top_k.map(|k| k as f64),
            0.0,
        ) as usize,
        min_p: pick("min-p", choice.min_p, wide(g.min_p), 0.0),
        repetition_penalty: pick(
            "repetition penalty",
            choice.repetition_penalty,
            wide(g.repetition_penalty),
            1.0,
        ),
        presence_penalty: pick(
            "presence penalty",
            choice.presence_penalty,
            wide(g.presence_penalty),
            0.0,
        ),
        frequency_penalty: pick(
            "frequency penalty",
            choice.frequency_penalty,
            wide(g.frequency_penalty),
            0.0,
        ),
    }
}
