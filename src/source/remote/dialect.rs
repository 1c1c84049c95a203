//! How engines are spoken to, and what is known here of the model that they serve.

use std::sync::Arc;

use super::request::{CompletionRequest, Prompt};
use crate::error::Error;
use crate::prompt::{Message, Prompter, RenderOptions, Rendered};
use crate::run::Request;
use tts_model::overrides::SamplingOverrides;

/// How an engine is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemoteApi {
    /// `/chat/completions`: the engine renders the conversation.
    #[default]
    Chat,
    /// `/completions`: the prompt is rendered here where the model's folder is known, else it is sent as it
    /// is.
    Completions,
}

impl RemoteApi {
    /// The name on the command line and in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
        }
    }
}

/// How prompts are made and engines asked, whatever the request.
#[derive(Clone, Default)]
pub struct Dialect {
    /// Which of the two OpenAI interfaces is used.
    pub api: RemoteApi,
    /// Tokenizer and template of the model that the engines serve, where its folder was named.
    pub prompter: Option<Arc<Prompter>>,
    /// What that model recommends.
    pub recommended: SamplingOverrides,
}

impl Dialect {
    /// The prompt of a conversation, as far as it can be known here: with its ids where there is a template,
    /// else its texts one below the other.
    ///
    /// # Errors
    /// A template that fails.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<Rendered, Error> {
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
    pub(super) fn asking(&self, request: &Sample, room: Option<usize>) -> CompletionRequest {
        let prompt = match self.api {
            RemoteApi::Chat if !request.messages.is_empty() => Prompt::Messages(request.messages.clone()),
            _ if request.prompt.ids.is_empty() => Prompt::Text(request.prompt.text.clone()),
            _ => Prompt::Ids(request.prompt.ids.clone()),
        };
        // plain endpoints have limits of their own, 16 tokens say; what a text leaves of the context is not
        // known
        let room = room.filter(|_| matches!(prompt, Prompt::Ids(_)));
        let recommended = || self.prompter.as_ref()?.generation().max_new_tokens;
        CompletionRequest {
            prompt,
            sampling: request.overrides,
            recommended: self.recommended,
            settled: self.prompter.is_some(),
            max_tokens: request.max_tokens.or_else(recommended).or(room),
            ignore_eos: request.ignore_eos,
        }
    }
}

/// What an engine reads of a request.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The conversation; empty where the prompt is a raw text.
    pub messages: Vec<Message>,
    /// The prompt as it can be known here.
    pub prompt: Rendered,
    /// How tokens are drawn; what is not set is left to the engine.
    pub overrides: SamplingOverrides,
    /// Token limit of a trace, where the caller named one.
    pub max_tokens: Option<usize>,
    /// Whether the end of the text is passed over.
    pub ignore_eos: bool,
}

impl Sample {
    /// The sampling settings of a request, as engines elsewhere are told them.
    pub(super) fn of(request: &Request) -> Self {
        Self {
            messages: request.messages.clone(),
            prompt: request.prompt.clone(),
            overrides: request.overrides,
            max_tokens: request.max_tokens,
            ignore_eos: request.setup.rules.ignore_eos,
        }
    }
}
