//! What is asked of an OpenAI-compatible engine.

use serde_json::{Map, Value, json};

use crate::prompt::Message;
use crate::run::SamplingOverrides;

/// What traces continue.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// A conversation that the engine renders itself (`/chat/completions`).
    Messages(Vec<Message>),
    /// A text as it is (`/completions`).
    Text(String),
    /// Token ids of a rendered prompt (`/completions`).
    Ids(Vec<u32>),
}

impl Prompt {
    /// The path below the engine's address.
    pub(super) fn path(&self) -> &'static str {
        match self {
            Self::Messages(_) => "chat/completions",
            _ => "completions",
        }
    }
    fn is_chat(&self) -> bool {
        matches!(self, Self::Messages(_))
    }
}

/// What a problem's traces are asked with.
#[derive(Clone, Debug)]
pub struct Asking {
    /// What they continue.
    pub prompt: Prompt,
    /// How tokens are drawn; what is not set is left to the engine.
    pub sampling: SamplingOverrides,
    /// What the model recommends for what is not set; sent as far as the engine takes it.
    pub recommended: SamplingOverrides,
    /// Whether what is set in neither is off, rather than as the engine likes it.
    pub settled: bool,
    /// Tokens at which the engine cuts a trace off; its own limit where `None`.
    pub max_tokens: Option<usize>,
    /// Whether the end of the text is passed over.
    pub ignore_eos: bool,
}

/// Optional fields of a request that an engine takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    /// log-probabilities of this many most likely tokens
    pub(super) logprobs: Option<usize>,
    /// `return_token_ids` and `return_tokens_as_token_ids` (vLLM)
    pub(super) token_ids: bool,
    /// `stream_options`
    pub(super) usage: bool,
    /// `seed`
    pub(super) seed: bool,
    /// recommended settings beyond OpenAI's own: `top_k`, `min_p`, `repetition_penalty`
    pub(super) recommended: bool,
}

/// The body of one trace's request.
pub(super) fn body(model: &str, asking: &Asking, seed: u32, fields: &Fields, engine: Engine) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put("model", json!(model));
    put("stream", json!(true));
    match &asking.prompt {
        Prompt::Messages(messages) => put(
            "messages",
            messages
                .iter()
                .map(|m| json!({"role": m.role, "content": m.content}))
                .collect(),
        ),
        Prompt::Text(text) => put("prompt", json!(text)),
        Prompt::Ids(ids) => put("prompt", json!(ids)),
    };
    if let Some(n) = asking.max_tokens {
        put("max_tokens", json!(n));
    }
    if asking.ignore_eos {
        put("ignore_eos", json!(true));
    }
    let (s, r) = (&asking.sampling, &asking.recommended);
    let extra = |value: Option<f64>| value.filter(|_| fields.recommended);
    // llama.cpp alone calls it otherwise, and passes over what it does not know
    let repetition = if engine == Engine::LlamaCpp {
        "repeat_penalty"
    } else {
        "repetition_penalty"
    };
    let floats = [
        ("temperature", s.temperature.or(r.temperature)),
        ("top_p", s.top_p.or(r.top_p)),
        ("min_p", s.min_p.or(extra(r.min_p))),
        (repetition, s.repetition_penalty.or(extra(r.repetition_penalty))),
        ("presence_penalty", s.presence_penalty.or(r.presence_penalty)),
        ("frequency_penalty", s.frequency_penalty.or(r.frequency_penalty)),
    ];
    for (name, value) in floats {
        if let Some(value) = value {
            put(name, json!(value));
        }
    }
    // llama.cpp filters unless it is told not to; others are off until they are told
    let off = asking.settled && engine == Engine::LlamaCpp;
    if off && s.min_p.or(r.min_p).is_none() {
        put("min_p", json!(0.0));
    }
    if let Some(k) = s
        .top_k
        .or(r.top_k.filter(|_| fields.recommended))
        .or(off.then_some(0))
    {
        put("top_k", json!(k));
    }
    match fields.logprobs {
        Some(n) if asking.prompt.is_chat() => {
            put("logprobs", json!(true));
            put("top_logprobs", json!(n));
        }
        Some(n) => {
            put("logprobs", json!(n));
        }
        None => {}
    }
    if fields.token_ids {
        put("return_token_ids", json!(true));
        // tokens of equal text would fall together in the map of the plain endpoint
        if !asking.prompt.is_chat() {
            put("return_tokens_as_token_ids", json!(true));
        }
    }
    if fields.usage {
        put("stream_options", json!({"include_usage": true}));
    }
    if fields.seed {
        put("seed", json!(seed));
    }
    Value::Object(body)
}

/// The engine behind an address, as far as it gives itself away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Vllm,
    Sglang,
    LlamaCpp,
    Ollama,
    Unknown,
}

impl Engine {
    /// By the owner that it names in its list of models.
    pub(super) fn of_owner(owner: &str) -> Self {
        match owner {
            "vllm" => Self::Vllm,
            "sglang" => Self::Sglang,
            "llamacpp" => Self::LlamaCpp,
            "library" | "ollama" => Self::Ollama,
            _ => Self::Unknown,
        }
    }
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vLLM",
            Self::Sglang => "SGLang",
            Self::LlamaCpp => "llama.cpp",
            Self::Ollama => "Ollama",
            Self::Unknown => "an OpenAI-compatible engine",
        }
    }
}
