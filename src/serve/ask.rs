//! What a request asks for: OpenAI's fields, and the settings of `tts` beside them.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::Value;
use tts_strategies::{Overrides, Preset, Register};

use super::error::ApiError;
use super::fields::{Fields, kind};
use super::house::House;
use super::model_name::by_name;
use super::prompts;
use super::source::RequestRunner;
use crate::runner::{Prepared, Settings};

/// Stop texts of a request, at most, and bytes of one.
const STOPS: usize = 16;
const STOP_BYTES: usize = 256;
/// Alternatives of a token, at most.
const TOP_LOGPROBS: usize = 20;
/// The logit bias that holds a token back.
const NEVER: f64 = -100.0;

/// Fields of OpenAI's interface that change nothing about an answer. All others that are not known are
/// refused.
const BOOKKEEPING: [&str; 7] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// Which of the two ways to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Messages, through the model's chat template.
    Chat,
    /// A raw prompt.
    Completion,
}

/// What a stream shows before the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Progress {
    /// Nothing but comments.
    Off,
    /// Lines of text, as reasoning.
    #[default]
    Text,
    /// Objects: every trace's confidence, the bar, the votes.
    Traces,
}

/// How the reply is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) endpoint: Endpoint,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) progress: Progress,
}

/// What is to be solved.
pub(super) struct Asked {
    /// The model as the request named it.
    pub(super) model: String,
    pub(super) runner: RequestRunner,
    pub(super) prompts: Vec<Prepared>,
    /// Choices for each prompt.
    pub(super) n: usize,
    pub(super) stops: Vec<String>,
    pub(super) held: Vec<u32>,
    /// Alternatives for each token, where log-probabilities are wanted.
    pub(super) logprobs: Option<usize>,
    /// Whether a completion repeats its prompt.
    pub(super) echo: bool,
}

impl Asked {
    /// Runs of the engine that answer it.
    pub(super) fn runs(&self) -> usize {
        self.prompts.len() * self.n
    }

    /// Whether each choice is a single trace, which is the reply whatever it comes to, and what of it is
    /// thinking is known from its beginning on.
    pub(super) fn is_lone(&self) -> bool {
        self.runner.settings().traces == 1 && self.prompts.iter().all(|p| self.runner.knows_template(p))
    }

    /// Bytes that it takes in memory, closely enough.
    pub(super) fn bytes(&self) -> usize {
        let of_prompt = |p: &Prepared| p.problem.len() + p.prompt.text.len() + size_of_val(&p.prompt.ids[..]);
        size_of::<Self>() + self.prompts.iter().map(of_prompt).sum::<usize>()
    }
}

/// Fields that say how the reply is given and not what it is.
pub(super) const OF_MANNER: [&str; 3] = ["stream", "stream_options", "progress"];

/// How the reply to a request is to be given.
pub(super) fn manner(fields: &mut Fields, endpoint: Endpoint) -> Result<Manner, ApiError> {
    let stream = fields.flag("stream")?.unwrap_or(false);
    let mut include_usage = false;
    match fields.take("stream_options") {
        None => {}
        Some(_) if !stream => {
            return Err(ApiError::invalid(
                Some("stream_options"),
                "`stream_options` is for streams: set `stream` to true",
            ));
        }
        Some(Value::Object(options)) => {
            for (name, value) in &options {
                match (name.as_str(), value) {
                    ("include_usage", Value::Bool(yes)) => include_usage = *yes,
                    // padding against the guessing of lengths: there is none
                    ("include_obfuscation", Value::Bool(_)) | (_, Value::Null) => {}
                    _ => {
                        return Err(ApiError::invalid(
                            Some("stream_options"),
                            "`stream_options` takes `include_usage`, true or false",
                        ));
                    }
                }
            }
        }
        Some(other) => {
            return Err(ApiError::invalid(
                Some("stream_options"),
                format!("`stream_options` must be an object; {} was given", kind(&other)),
            ));
        }
    }
    let progress = fields.of::<Progress>("progress", "\"off\", \"text\" or \"traces\"")?;
    Ok(Manner {
        endpoint,
        stream,
        include_usage,
        progress: progress.unwrap_or_default(),
    })
}

/// Reads the rest of a request.
pub(super) fn asked(mut fields: Fields, endpoint: Endpoint, house: &House) -> Result<Asked, ApiError> {
    let f = &mut fields;
    let model = f.text("model")?.unwrap_or_else(|| house.name.clone());
    let max_tokens = max_tokens(f, endpoint, house)?;
    let settings = settings(f, max_tokens, &model, house)?;
    let n = f.count("n", 1..=house.limits.choices)?.unwrap_or(1);
    let stops = stops(f)?;
    let biases = f.of::<BTreeMap<String, f64>>("logit_bias", "an object of numbers by token id")?;
    let logprobs = match endpoint {
        Endpoint::Chat => {
            let wanted = f.flag("logprobs")?.unwrap_or(false);
            let top = f.count("top_logprobs", 0..=TOP_LOGPROBS)?;
            if top.is_some() && !wanted {
                return Err(ApiError::invalid(
                    Some("top_logprobs"),
                    "`top_logprobs` needs `logprobs` to be true",
                ));
            }
            wanted.then(|| top.unwrap_or(0))
        }
        Endpoint::Completion => f.count("logprobs", 0..=TOP_LOGPROBS)?,
    };
    let echo = endpoint == Endpoint::Completion && f.flag("echo")?.unwrap_or(false);
    if echo && logprobs.is_some() {
        return Err(ApiError::invalid(
            Some("logprobs"),
            "`logprobs` of an `echo` are not given: `tts score` reads a text",
        ));
    }
    if endpoint == Endpoint::Completion {
        one_of(
            f,
            "best_of",
            &[Value::from(n)],
            "there is a vote over the traces already",
        )?;
        one_of(
            f,
            "suffix",
            &[Value::from("")],
            "the model writes on from the end of a text alone",
        )?;
    } else {
        let text = serde_json::json!({ "type": "text" });
        one_of(f, "response_format", &[text], "the answer is text")?;
        let none = Value::Array(Vec::new());
        one_of(f, "tools", std::slice::from_ref(&none), "tools are not called")?;
        one_of(f, "functions", &[none], "functions are not called")?;
        let words = [Value::from("none"), Value::from("auto")];
        one_of(f, "tool_choice", &words, "tools are not called")?;
        one_of(f, "function_call", &words, "functions are not called")?;
        one_of(
            f,
            "modalities",
            &[serde_json::json!(["text"])],
            "the answer is text",
        )?;
        f.flag("parallel_tool_calls")?;
    }
    for name in BOOKKEEPING {
        f.take(name);
    }
    let variables = if endpoint == Endpoint::Chat {
        variables(f)?
    } else {
        BTreeMap::new()
    };
    let instruction = if endpoint == Endpoint::Chat {
        f.text("instruction")?
    } else {
        None
    };
    let runner = house.source.runner(settings)?;
    if logprobs.is_some() {
        runner.only_here("logprobs")?;
    }
    let held = match biases {
        Some(biases) if !biases.is_empty() => held(biases, &runner)?,
        _ => Vec::new(),
    };
    let prompts = match endpoint {
        Endpoint::Chat => vec![prompts::chat(
            f,
            &runner,
            max_tokens,
            instruction.as_deref(),
            &variables,
        )?],
        Endpoint::Completion => prompts::raw(f, &runner, max_tokens, house.limits.choices)?,
    };
    fields.finish()?;
    for prompt in &prompts {
        house.check_prompt(prompt.prompt.ids.len())?;
    }
    let asked = Asked {
        model,
        runner,
        prompts,
        n,
        stops,
        held,
        logprobs,
        echo,
    };
    if asked.runs() > house.limits.choices {
        return Err(ApiError::invalid(
            Some("n"),
            format!(
                "`n` times the number of prompts is {}: at most {} choices are made in one request",
                asked.runs(),
                house.limits.choices
            ),
        ));
    }
    Ok(asked)
}

/// The token limit of a trace that the request names.
fn max_tokens(f: &mut Fields, endpoint: Endpoint, house: &House) -> Result<Option<usize>, ApiError> {
    let wanted = match endpoint {
        Endpoint::Chat => {
            let newer = f.count("max_completion_tokens", 1..=usize::MAX)?;
            f.count("max_tokens", 1..=usize::MAX)?
                .filter(|_| newer.is_none())
                .or(newer)
        }
        Endpoint::Completion => f.count("max_tokens", 1..=usize::MAX)?,
    };
    if let (Some(wanted), Some(most)) = (wanted, house.settings.max_tokens)
        && wanted > most
    {
        return Err(ApiError::invalid(
            Some("max_tokens"),
            format!("a trace may generate at most {most} tokens here, not {wanted}"),
        ));
    }
    Ok(wanted)
}

/// The server's settings with the request's over them.
fn settings(
    f: &mut Fields,
    max_tokens: Option<usize>,
    model: &str,
    house: &House,
) -> Result<Settings, ApiError> {
    let base = &house.settings;
    let named = by_name(model, &house.name)?;
    let mut strategy = named.strategy.unwrap_or_else(|| base.strategy.clone());
    if let Some(name) = f.text("strategy")? {
        // it is compared with every known name, and shown
        let short: String = name.chars().take(40).collect();
        strategy = Preset::named(&short).map_err(|e| ApiError::invalid(Some("strategy"), e.to_string()))?;
    }
    let given = overrides(f, Register::shipped())?;
    if !given.is_empty() {
        strategy
            .apply(&given)
            .map_err(|e| ApiError::invalid(None, e.to_string()))?;
    }
    let most = house.limits.traces;
    let traces = match (f.count("traces", 1..=most)?, named.traces) {
        (Some(traces), _) => traces,
        (None, Some(traces)) if traces > most => {
            return Err(ApiError::refused(
                StatusCode::NOT_FOUND,
                format!("this server runs at most {most} traces, not {traces}"),
            )
            .with_code("model_not_found"));
        }
        (None, named) => named.unwrap_or(base.traces),
    };
    let time_limit = f.number("time_limit")?.map(|seconds| {
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|limit| !limit.is_zero())
            .ok_or_else(|| {
                ApiError::invalid(
                    Some("time_limit"),
                    "`time_limit` must be a number of seconds above 0",
                )
            })
    });
    let max_total_tokens = f.whole("max_total_tokens", 1..=u64::MAX)?;
    let mut sampling = base.sampling;
    let put = |place: &mut Option<f64>, given: Option<f64>| *place = given.or(*place);
    put(&mut sampling.temperature, f.number("temperature")?);
    put(&mut sampling.top_p, f.number("top_p")?);
    put(&mut sampling.min_p, f.number("min_p")?);
    put(&mut sampling.repetition_penalty, f.number("repetition_penalty")?);
    put(&mut sampling.presence_penalty, f.number("presence_penalty")?);
    put(&mut sampling.frequency_penalty, f.number("frequency_penalty")?);
    if let Some(k) = f.of::<i64>("top_k", "a whole number; 0 or -1 keeps all")? {
        // vLLM's word for all of them is -1
        sampling.top_k = Some(usize::try_from(k.max(0)).unwrap_or(usize::MAX));
    }
    Ok(Settings {
        strategy,
        traces,
        slots: f.count("slots", 1..=most)?.or(base.slots),
        max_tokens: max_tokens.or(base.max_tokens),
        sampling,
        seed: seed(f)?.unwrap_or(base.seed),
        ignore_eos: f.flag("ignore_eos")?.unwrap_or(base.ignore_eos),
        loop_stop: f.flag("loop_stop")?.unwrap_or(base.loop_stop),
        thinking_budget: f
            .count("thinking_budget", 0..=usize::MAX)?
            .or(base.thinking_budget),
        max_total_tokens: least(max_total_tokens, base.max_total_tokens),
        time_limit: least(time_limit.transpose()?, base.time_limit),
        ..base.clone()
    })
}

/// A request may ask for less than the server allows, never for more.
fn least<T: Ord>(asked: Option<T>, most: Option<T>) -> Option<T> {
    match (asked, most) {
        (Some(a), Some(m)) => Some(a.min(m)),
        (a, m) => a.or(m),
    }
}

/// A field for each setting that a strategy of the register has.
pub(super) fn overrides(f: &mut Fields, register: &Register) -> Result<Overrides, ApiError> {
    let mut given = Overrides::default();
    for setting in register.settings() {
        if let Some(value) = f.setting(setting)? {
            given.set(setting.name, value);
        }
    }
    Ok(given)
}

fn seed(f: &mut Fields) -> Result<Option<u64>, ApiError> {
    let Some(value) = f.take("seed") else {
        return Ok(None);
    };
    // a negative seed is one more number
    let seed = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
    seed.map(Some).ok_or_else(|| {
        ApiError::invalid(
            Some("seed"),
            format!(
                "`seed` must be a whole number of 64 bits; {} was given",
                kind(&value)
            ),
        )
    })
}

fn stops(f: &mut Fields) -> Result<Vec<String>, ApiError> {
    let stops = match f.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(stop)) => vec![stop],
        Some(other) => serde_json::from_value(other)
            .map_err(|_| ApiError::invalid(Some("stop"), "`stop` must be a string or an array of strings"))?,
    };
    let fit = |stop: &String| !stop.is_empty() && stop.len() <= STOP_BYTES;
    if stops.len() > STOPS || !stops.iter().all(fit) {
        return Err(ApiError::invalid(
            Some("stop"),
            format!("`stop` takes at most {STOPS} texts of 1 to {STOP_BYTES} bytes"),
        ));
    }
    Ok(stops)
}

/// Ids that may not be drawn.
fn held(biases: BTreeMap<String, f64>, runner: &RequestRunner) -> Result<Vec<u32>, ApiError> {
    runner.only_here("logit_bias")?;
    let vocab = runner.vocab().unwrap_or_default();
    let mut held = Vec::with_capacity(biases.len());
    for (id, bias) in biases {
        match id.parse::<u32>() {
            Ok(id) if bias == NEVER && (id as usize) < vocab => held.push(id),
            Ok(id) if (id as usize) < vocab => {
                return Err(ApiError::invalid(
                    Some("logit_bias"),
                    format!(
                        "`logit_bias` holds tokens back, with {NEVER}; other values would change the confidences, and {bias} is one"
                    ),
                ));
            }
            _ => {
                return Err(ApiError::invalid(
                    Some("logit_bias"),
                    format!("`logit_bias` is by token ids below {vocab}"),
                ));
            }
        }
    }
    if held.len() >= vocab {
        return Err(ApiError::invalid(
            Some("logit_bias"),
            "`logit_bias` holds every token back",
        ));
    }
    held.sort_unstable();
    Ok(held)
}

/// Further variables of the chat template.
fn variables(f: &mut Fields) -> Result<BTreeMap<String, Value>, ApiError> {
    let right = "an object of strings, numbers and booleans";
    let mut variables = f
        .of::<BTreeMap<String, Value>>("chat_template_kwargs", right)?
        .unwrap_or_default();
    if variables.values().any(|v| v.is_array() || v.is_object()) {
        return Err(ApiError::invalid(
            Some("chat_template_kwargs"),
            format!("`chat_template_kwargs` must be {right}"),
        ));
    }
    if let Some(effort) = f.text("reasoning_effort")? {
        variables.insert("reasoning_effort".to_owned(), effort.into());
    }
    Ok(variables)
}

/// Refuses a field of OpenAI's interface that is not done here, unless it asks for what is done anyway.
fn one_of(f: &mut Fields, name: &'static str, harmless: &[Value], why: &str) -> Result<(), ApiError> {
    match f.take(name) {
        Some(value) if !harmless.contains(&value) => Err(ApiError::invalid(
            Some(name),
            format!("`{name}` is not done: {why}"),
        )),
        _ => Ok(()),
    }
}
