//! What is asked of an OpenAI-compatible engine.

use std::collections::BTreeMap;

use serde_json::Number;

use crate::openai::{self, LogprobsWanted, OWN_SAMPLING, RequestBody, StreamOptions, Turn};
use crate::prompt::Message;
use tts_model::overrides::{SAMPLING_SETTINGS, SamplingOverrides, SamplingSetting};
use tts_model::sampling::Sampling;

/// The prompt of a request: a conversation, ids or a text.
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
    /// The prompt that the traces continue.
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
    /// Whether the engine takes `stream_options`.
    pub(super) usage: bool,
    /// Whether the engine takes `seed`.
    pub(super) seed: bool,
    /// recommended settings beyond the protocol's own
    pub(super) recommended: bool,
}

/// Settings beyond the protocol's own.
pub(super) fn beyond_protocol() -> impl Iterator<Item = &'static SamplingSetting> {
    SAMPLING_SETTINGS
        .iter()
        .filter(|s| !OWN_SAMPLING.contains(&s.name))
}

impl CompletionRequest {
    /// The sampling settings that are sent, by the engine's names for them.
    fn sampling_of(&self, fields: &SupportedFields, engine: Engine) -> BTreeMap<&'static str, Number> {
        let off = SamplingOverrides::from(&Sampling::default());
        let sent = |setting: &'static SamplingSetting| {
            let recommended = match self.recommended.get(setting) {
                Some(_) if !fields.recommended && !OWN_SAMPLING.contains(&setting.name) => None,
                Some(value) => Some(value),
                None => off
                    .get(setting)
                    .filter(|_| self.settled && engine.filters_unasked()),
            };
            let value = self.sampling.get(setting).or(recommended)?;
            let number = if setting.whole {
                Some(Number::from(value as u64))
            } else {
                Number::from_f64(value)
            };
            Some((engine.name_of(setting), number?))
        };
        SAMPLING_SETTINGS.iter().filter_map(sent).collect()
    }
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
                content: &m.content,
                reasoning_content: m.reasoning_content.as_deref(),
            };
            (Some(messages.iter().map(turn).collect()), None)
        }
        Prompt::Text(text) => (None, Some(openai::Prompt::Text(text.into()))),
        Prompt::Ids(ids) => (None, Some(openai::Prompt::Ids(ids.into()))),
    };
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
        sampling: request.sampling_of(fields, engine),
        seed: fields.seed.then_some(seed),
        logprobs: fields.logprobs.map(|n| match is_chat {
            true => LogprobsWanted::Chat(true),
            false => LogprobsWanted::Text(n),
        }),
        top_logprobs: fields.logprobs.filter(|_| is_chat),
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
    /// Whether it draws by settings of its own where none is sent, rather than from all tokens.
    fn filters_unasked(self) -> bool {
        self == Self::LlamaCpp
    }
    /// What it calls a sampling setting.
    pub(super) fn name_of(self, setting: &SamplingSetting) -> &'static str {
        match (self, setting.name) {
            (Self::LlamaCpp, "repetition_penalty") => "repeat_penalty",
            (_, name) => name,
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sent(request: &CompletionRequest, recommended: bool, engine: Engine) -> Value {
        let fields = SupportedFields {
            logprobs: None,
            token_ids: false,
            usage: false,
            seed: false,
            recommended,
        };
        serde_json::to_value(body("m", request, 0, &fields, engine)).unwrap()
    }

    /// Every setting at a value of its own.
    fn all() -> SamplingOverrides {
        let mut n = 0.0;
        SamplingOverrides::read(|setting| {
            n += 1.0;
            Ok::<_, ()>(Some(if setting.whole { n } else { n / 10.0 }))
        })
        .unwrap()
    }

    fn plain() -> CompletionRequest {
        CompletionRequest {
            prompt: Prompt::Text("1".to_owned()),
            sampling: SamplingOverrides::default(),
            recommended: SamplingOverrides::default(),
            settled: false,
            max_tokens: None,
            ignore_eos: false,
        }
    }

    #[test]
    fn every_setting_is_sent_by_its_name_and_one_that_is_recommended_where_it_is_taken() {
        let own = CompletionRequest {
            sampling: all(),
            ..plain()
        };
        let recommended = CompletionRequest {
            recommended: all(),
            ..plain()
        };
        for setting in SAMPLING_SETTINGS {
            let (name, value) = (setting.name, all().get(setting).unwrap());
            for taken in [true, false] {
                assert_eq!(
                    sent(&own, taken, Engine::Vllm)[name].as_f64(),
                    Some(value),
                    "{name}"
                );
                let expected = (taken || OWN_SAMPLING.contains(&name)).then_some(value);
                assert_eq!(
                    sent(&recommended, taken, Engine::Vllm)[name].as_f64(),
                    expected,
                    "{name}"
                );
            }
            assert!(
                sent(&plain(), true, Engine::Vllm).get(name).is_none(),
                "left to the engine"
            );
        }
        assert!(
            OWN_SAMPLING
                .iter()
                .all(|name| SAMPLING_SETTINGS.iter().any(|s| s.name == *name))
        );
        assert_eq!(
            sent(&own, true, Engine::Vllm)["top_k"],
            json!(3),
            "a whole number"
        );
    }

    /// llama.cpp draws from the 40 likeliest, say, unless it is told not to.
    #[test]
    fn what_is_set_nowhere_is_off_at_an_engine_with_settings_of_its_own() {
        let settled = CompletionRequest {
            settled: true,
            ..plain()
        };
        let body = sent(&settled, true, Engine::LlamaCpp);
        let off = SamplingOverrides::from(&Sampling::default());
        for setting in SAMPLING_SETTINGS {
            let value = &body[Engine::LlamaCpp.name_of(setting)];
            assert_eq!(value.as_f64(), off.get(setting), "{}", setting.name);
            assert!(sent(&settled, true, Engine::Vllm).get(setting.name).is_none());
            assert!(sent(&plain(), true, Engine::LlamaCpp).get(setting.name).is_none());
        }
        let own = CompletionRequest {
            sampling: all(),
            recommended: all(),
            ..settled
        };
        let body = sent(&own, false, Engine::LlamaCpp);
        assert_eq!(
            (&body["repeat_penalty"], body.get("repetition_penalty")),
            (&json!(0.5), None)
        );
    }
}
