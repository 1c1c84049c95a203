//! What is asked of an OpenAI-compatible engine.

use crate::openai::{self, Content, LogprobsWanted, RequestBody, StreamOptions, Turn};
use crate::prompt::Message;
use tts_model::overrides::SamplingOverrides;

/// What traces continue.
#[derive(Clone, Debug)]
pub(super) enum Prompt {
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

/// What all of a problem's traces are requested with: a template of their requests.
#[derive(Clone, Debug)]
pub(super) struct CompletionRequest {
    /// What they continue.
    pub(super) prompt: Prompt,
    /// How tokens are drawn; what is not set is left to the engine.
    pub(super) sampling: SamplingOverrides,
    /// What the model recommends for what is not set; sent as far as the engine takes it.
    pub(super) recommended: SamplingOverrides,
    /// Whether what is set in neither is off, rather than as the engine likes it.
    pub(super) settled: bool,
    /// Tokens at which the engine cuts a trace off; its own limit where `None`.
    pub(super) max_tokens: Option<usize>,
    /// Whether the end of the text is passed over.
    pub(super) ignore_eos: bool,
}

/// Which optional fields of a request an engine takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SupportedFields {
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
pub(super) fn body<'a>(
    model: &'a str,
    request: &'a CompletionRequest,
    seed: u32,
    fields: &SupportedFields,
    engine: Engine,
) -> RequestBody<'a> {
    let is_chat = request.prompt.is_chat();
    let (messages, prompt) = match &request.prompt {
        Prompt::Messages(messages) => {
            let turn = |m: &'a Message| Turn {
                role: &m.role,
                content: Content::Text(m.content.as_str().into()),
            };
            (Some(messages.iter().map(turn).collect()), None)
        }
        Prompt::Text(text) => (None, Some(openai::Prompt::Text(text.into()))),
        Prompt::Ids(ids) => (None, Some(openai::Prompt::Ids(ids.into()))),
    };
    let (s, r) = (&request.sampling, &request.recommended);
    // llama.cpp alone calls it otherwise, and passes over what it does not know; it filters unless it is told
    // not to, where others are off until they are told
    let llama_cpp = engine == Engine::LlamaCpp;
    let off = request.settled && llama_cpp;
    let repetition = s
        .repetition_penalty
        .or(r.repetition_penalty.filter(|_| fields.recommended));
    let given = |value: bool| value.then_some(true);
    RequestBody {
        model,
        stream: true,
        stream_options: fields.usage.then_some(StreamOptions {
            include_usage: true,
            include_obfuscation: None,
        }),
        messages,
        prompt,
        max_tokens: request.max_tokens,
        temperature: s.temperature.or(r.temperature),
        top_p: s.top_p.or(r.top_p),
        presence_penalty: s.presence_penalty.or(r.presence_penalty),
        frequency_penalty: s.frequency_penalty.or(r.frequency_penalty),
        seed: fields.seed.then_some(seed),
        logprobs: fields.logprobs.map(|n| match is_chat {
            true => LogprobsWanted::Chat(true),
            false => LogprobsWanted::Text(n),
        }),
        top_logprobs: fields.logprobs.filter(|_| is_chat),
        top_k: s
            .top_k
            .or(r.top_k.filter(|_| fields.recommended))
            .or(off.then_some(0)),
        min_p: s
            .min_p
            .or(r.min_p.filter(|_| fields.recommended))
            .or((off && r.min_p.is_none()).then_some(0.0)),
        repetition_penalty: repetition.filter(|_| !llama_cpp),
        repeat_penalty: repetition.filter(|_| llama_cpp),
        ignore_eos: given(request.ignore_eos),
        return_token_ids: given(fields.token_ids),
        // tokens of equal text would fall together in the map of the plain endpoint
        return_tokens_as_token_ids: given(fields.token_ids && !is_chat),
    }
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
