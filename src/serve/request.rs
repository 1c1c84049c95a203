//! What a request asks for: OpenAI's fields, and the settings of `tts` beside them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::error::ApiError;
use super::fields::UnreadFields;
use super::formats;
use super::json::kind;
use super::prompts;
use super::seeds;
use super::settings::{max_tokens, settings};
use super::source::only_here;
use super::state::AppState;
use super::tools::{self, Tools};
use super::unserved;
use crate::grammar::Grammar;
use crate::openai::{Stop, StreamOptions};
use crate::solver::{Prepared, Reader, Solver};

/// Stop texts of a request, at most, and bytes of one.
const STOPS: usize = 16;
const STOP_BYTES: usize = 256;
/// Alternatives of a token, at most.
const TOP_LOGPROBS: usize = 20;
/// The logit bias that holds a token back.
const NEVER: f64 = -100.0;

/// Which of the two ways to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Messages, through the model's chat template.
    Chat,
    /// `/v1/completions`: a prompt as it is.
    Completion,
}

/// What a stream shows before the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Progress {
    /// No progress but comments that keep the connection open.
    Off,
    /// Lines of text, as reasoning.
    #[default]
    Text,
    /// Objects: every trace's confidence, the bar, the votes.
    Traces,
}

/// How the reply is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseOptions {
    pub(super) endpoint: Endpoint,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) progress: Progress,
}

/// What is to be solved.
pub(super) struct ChatRequest {
    /// The model as the request named it.
    pub(super) model: String,
    pub(super) solver: Solver,
    pub(super) prompts: Vec<Prepared>,
    /// Choices for each prompt.
    pub(super) n: usize,
    pub(super) stops: Vec<String>,
    /// Ids that may not be drawn.
    pub(super) banned_ids: Vec<u32>,
    /// What the answer must be.
    pub(super) grammar: Option<Arc<Grammar>>,
    /// Alternatives for each token, where log-probabilities are wanted.
    pub(super) logprobs: Option<usize>,
    /// Whether a completion repeats its prompt.
    pub(super) echo: bool,
    /// Tools that it offers.
    pub(super) tools: Option<Arc<Tools>>,
    /// The token limit of a trace that the request names, which may be more than it gets.
    pub(super) max_tokens: Option<usize>,
}

impl ChatRequest {
    /// Runs of the engine that answer it.
    pub(super) fn runs(&self) -> usize {
        self.prompts.len() * self.n
    }

    /// The seed of the choice `i` of all: choices of one prompt have different ones, also where it stands in
    /// the request several times.
    pub(super) fn seed(&self, i: usize) -> u64 {
        let prompt = i / self.n;
        let before = self.prompts[..prompt].iter();
        let same = before.filter(|p| p.id == self.prompts[prompt].id).count();
        seeds::of_choice(self.solver.settings().seed, same * self.n + i % self.n)
    }

    /// The token limit that an engine elsewhere is given; none where it must find out itself what its context
    /// leaves.
    pub(super) fn limit_of(&self, prompt: &Prepared) -> Option<usize> {
        let limit = self.solver.settings().max_tokens?;
        let unknown = prompt.prompt.ids.is_empty() && limit > prompt.max_tokens;
        (!unknown).then_some(limit.min(prompt.max_tokens))
    }

    /// True if every choice has exactly one trace, so its text can be streamed, unless it begins with what
    /// the model says of its prompt.
    pub(super) fn is_lone(&self) -> bool {
        self.solver.settings().traces == 1 && !(self.echo && self.logprobs.is_some())
    }

    /// True if the text of its only trace is shown as it comes: calls of tools are shown whole.
    pub(super) fn is_read_along(&self) -> bool {
        self.is_lone() && self.tools.is_none()
    }

    /// Bytes that it takes in memory, closely enough.
    pub(super) fn bytes(&self) -> usize {
        let of_prompt = |p: &Prepared| p.problem.len() + p.prompt.text.len() + size_of_val(&p.prompt.ids[..]);
        size_of::<Self>() + self.prompts.iter().map(of_prompt).sum::<usize>()
    }
}

/// UnreadFields that say how the reply is given and not what it is.
pub(super) const RESPONSE_FIELDS: [&str; 3] = ["stream", "stream_options", "progress"];

/// How the reply to a request is to be given.
pub(super) fn response_options(
    fields: &mut UnreadFields,
    endpoint: Endpoint,
) -> Result<ResponseOptions, ApiError> {
    let stream = fields.flag("stream")?.unwrap_or(false);
    let stream_options = match fields.take("stream_options") {
        None => StreamOptions::default(),
        Some(Value::Object(options)) if !stream && options.values().all(asks_for_nothing) => {
            StreamOptions::default()
        }
        Some(_) if !stream => {
            return Err(ApiError::invalid(
                Some("stream_options"),
                "`stream_options` is for streams: set `stream` to true",
            ));
        }
        Some(Value::Object(mut options)) => {
            options.retain(|_, value| !value.is_null());
            serde_json::from_value(Value::Object(options)).map_err(|_| {
                ApiError::invalid(
                    Some("stream_options"),
                    "`stream_options` takes `include_usage`, true or false",
                )
            })?
        }
        Some(other) => {
            return Err(ApiError::invalid(
                Some("stream_options"),
                format!("`stream_options` must be an object; {} was given", kind(&other)),
            ));
        }
    };
    let progress = fields.of::<Progress>("progress", "\"off\", \"text\" or \"traces\"")?;
    Ok(ResponseOptions {
        endpoint,
        stream,
        include_usage: stream_options.include_usage,
        progress: progress.unwrap_or_default(),
    })
}

/// Reads the rest of a request.
pub(super) fn read_request(
    mut fields: UnreadFields,
    endpoint: Endpoint,
    app: &AppState,
) -> Result<ChatRequest, ApiError> {
    let f = &mut fields;
    let model = f.text("model")?.unwrap_or_else(|| app.name.clone());
    let max_tokens = max_tokens(f, endpoint)?;
    let settings = settings(f, max_tokens, &model, app)?;
    let n = f.count("n", 1..=app.limits.choices)?.unwrap_or(1);
    let stops = stops(f)?;
    let biases = f.of::<BTreeMap<String, f64>>("logit_bias", "an object of numbers by token id")?;
    let logprobs = match endpoint {
        Endpoint::Chat => {
            let wanted = f.flag("logprobs")?.unwrap_or(false);
            let top = f.count("top_logprobs", 0..=TOP_LOGPROBS)?;
            if top.is_some_and(|top| top > 0) && !wanted {
                return Err(ApiError::invalid(
                    Some("top_logprobs"),
                    "`top_logprobs` needs `logprobs` to be true",
                ));
            }
            wanted.then(|| top.unwrap_or(0))
        }
        Endpoint::Completion => match f.take("logprobs") {
            None | Some(Value::Bool(false)) => None,
            Some(value) => {
                f.put("logprobs", value);
                f.count("logprobs", 0..=TOP_LOGPROBS)?
            }
        },
    };
    let echo = match endpoint {
        Endpoint::Completion => f.flag("echo")?.unwrap_or(false),
        Endpoint::Chat => false,
    };
    let tools = match endpoint {
        Endpoint::Chat => tools::read(f, &app.solver)?.map(Arc::new),
        Endpoint::Completion => None,
    };
    if tools.is_some() && logprobs.is_some() {
        let why = "`logprobs` are of the text of an answer: leave them out, or `tools`";
        return Err(ApiError::invalid(Some("logprobs"), why));
    }
    let format = match endpoint {
        Endpoint::Chat => formats::read(f)?,
        Endpoint::Completion => None,
    };
    if format.is_some() && tools.is_some() {
        let why = "`response_format` is what the answer is, and calls of `tools` are none: leave one of the two out";
        return Err(ApiError::invalid(Some("response_format"), why));
    }
    unserved::check(f, endpoint, n, app.unknown_fields)?;
    if max_tokens == Some(0) && !echo {
        let why = "`max_tokens` 0 leaves nothing to say, unless `echo` repeats the prompt";
        return Err(ApiError::invalid(Some("max_tokens"), why));
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
    let mut solver = app.solver.with_settings(settings)?;
    if logprobs.is_some() {
        only_here(&solver, "logprobs")?;
    }
    let banned_ids = match biases {
        Some(biases) if !biases.is_empty() => banned_ids(biases, &solver)?,
        _ => Vec::new(),
    };
    let prompts = match endpoint {
        Endpoint::Chat => vec![prompts::chat(
            f,
            &solver,
            app.unknown_fields,
            instruction.as_deref(),
            &variables,
            tools.as_deref(),
        )?],
        Endpoint::Completion => {
            let least = usize::from(max_tokens != Some(0));
            prompts::raw(f, &solver, app.limits.choices, least)?
        }
    };
    fields.finish(app.unknown_fields)?;
    for prompt in &prompts {
        app.check_prompt(prompt.prompt.ids.len())?;
    }
    if let (Some(tools), [prompt]) = (&tools, &prompts[..]) {
        let inner = solver.reader_of(&prompt.prompt);
        let reader = tools.reader(inner, prompt.prompt.ends_in_think);
        solver = solver.with_reader(Reader::Custom(reader));
    }
    let mut grammar = None;
    if let (Some(format), [prompt]) = (&format, &prompts[..]) {
        grammar = Some(Arc::new(format.grammar(app, &solver, prompt)?));
        let in_thinking = prompt.prompt.ends_in_think;
        solver = solver.with_reader(Reader::Custom(Arc::new(formats::JsonReader { in_thinking })));
    }
    let request = ChatRequest {
        model,
        solver,
        prompts,
        n,
        stops,
        banned_ids,
        grammar,
        logprobs,
        echo,
        tools,
        max_tokens,
    };
    if request.runs() > app.limits.choices {
        return Err(ApiError::invalid(
            Some("n"),
            format!(
                "`n` times the number of prompts is {}: at most {} choices are made in one request",
                request.runs(),
                app.limits.choices
            ),
        ));
    }
    Ok(request)
}

fn stops(f: &mut UnreadFields) -> Result<Vec<String>, ApiError> {
    let Some(stop) = f.take("stop") else {
        return Ok(Vec::new());
    };
    let stops = serde_json::from_value::<Stop>(stop)
        .map_err(|_| ApiError::invalid(Some("stop"), "`stop` must be a string or an array of strings"))?
        .texts();
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
fn banned_ids(biases: BTreeMap<String, f64>, solver: &Solver) -> Result<Vec<u32>, ApiError> {
    only_here(solver, "logit_bias")?;
    let vocab = solver.source().capabilities().vocabulary.unwrap_or_default();
    let mut banned = Vec::with_capacity(biases.len());
    // one that is 0 changes nothing
    for (id, bias) in biases.into_iter().filter(|(_, bias)| *bias != 0.0) {
        // a number with zeros or a sign before it would be a second name of a token
        let number = id.parse::<u32>().ok().filter(|number| number.to_string() == id);
        match number.ok_or(()) {
            Ok(id) if bias == NEVER && (id as usize) < vocab => banned.push(id),
            Ok(id) if (id as usize) < vocab => {
                return Err(ApiError::invalid(
                    Some("logit_bias"),
                    format!(
                        "`logit_bias` holds tokens back, with {NEVER}; other values would change the \
                         confidences, and {bias:?} is one"
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
    if banned.len() >= vocab {
        return Err(ApiError::invalid(
            Some("logit_bias"),
            "`logit_bias` holds every token back",
        ));
    }
    banned.sort_unstable();
    Ok(banned)
}

/// Further variables of the chat template.
fn variables(f: &mut UnreadFields) -> Result<BTreeMap<String, Value>, ApiError> {
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
    if let Some(name) = variables.keys().find(|name| crate::prompt::is_given(name)) {
        return Err(ApiError::invalid(
            Some("chat_template_kwargs"),
            format!("`chat_template_kwargs` sets `{name}`, which every request has from its own fields"),
        ));
    }
    if let Some(effort) = f.text("reasoning_effort")? {
        variables.insert("reasoning_effort".to_owned(), effort.into());
    }
    Ok(variables)
}

/// Whether an option is left as it is.
fn asks_for_nothing(value: &Value) -> bool {
    value.is_null() || *value == Value::Bool(false)
}
