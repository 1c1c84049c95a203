//! Whole replies, and what a reply has in common with the chunks of a stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

use super::choice::Choice;
use super::jobs::Live;
use super::request::Endpoint;
use crate::openai::{self, Completion, CompletionTokensDetails, Message, PromptTokensDetails, Usage};
use crate::prompt::ToolCall;

/// Ids of this server's replies: none is like another, or like one of another server.
pub(super) struct ReplyIds {
    key: [u8; 32],
    next: AtomicU64,
}

impl ReplyIds {
    pub(super) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&now.as_nanos().to_le_bytes())
            .update(&std::process::id().to_le_bytes());
        Self {
            key: *hasher.finalize().as_bytes(),
            next: AtomicU64::new(0),
        }
    }

    /// The next id, with the prefix that clients expect of an endpoint.
    pub(super) fn next(&self, endpoint: Endpoint) -> String {
        let prefix = match endpoint {
            Endpoint::Chat => "chatcmpl",
            Endpoint::Completion => "cmpl",
        };
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let digest = blake3::keyed_hash(&self.key, &n.to_le_bytes()).to_hex();
        format!("{prefix}-{}", &digest[..24])
    }
}

/// The whole reply as one object, for a request that does not stream.
pub(super) fn whole(live: &Live, fingerprint: &str, choices: &[Choice]) -> Completion {
    let one = |(index, choice): (usize, &Choice)| {
        let text = &choice.whole;
        let (message, plain) = match live.endpoint {
            Endpoint::Chat => (Some(message(live, index, choice)), None),
            Endpoint::Completion => (None, Some(text.content.clone())),
        };
        openai::Choice {
            index,
            message,
            text: plain,
            logprobs: text.logprobs.clone(),
            finish_reason: Some(choice.finish_reason.into()),
            ..openai::Choice::default()
        }
    };
    Completion {
        object: match live.endpoint {
            Endpoint::Chat => "chat.completion",
            Endpoint::Completion => "text_completion",
        },
        choices: choices.iter().enumerate().map(one).collect(),
        usage: Some(Some(usage(live, choices))),
        tts: Some(extras(choices)),
        ..head(live, fingerprint)
    }
}

/// The calls of a choice, each with an id of its own.
pub(super) fn calls(live: &Live, index: usize, choice: &Choice) -> Vec<openai::ToolCall> {
    let one = |(place, call): (usize, &ToolCall)| {
        let id = blake3::hash(format!("{} {index} {place}", live.id).as_bytes()).to_hex();
        openai::ToolCall {
            index: None,
            id: format!("call_{}", &id[..24]),
            kind: "function",
            function: openai::CalledFunction {
                name: call.name.clone(),
                arguments: serde_json::to_string(&call.arguments).unwrap_or_default(),
            },
        }
    };
    choice.calls.iter().enumerate().map(one).collect()
}

fn message(live: &Live, index: usize, choice: &Choice) -> Message {
    let reasoning = &choice.whole.reasoning;
    let (content, calls) = (&choice.whole.content, calls(live, index, choice));
    Message {
        role: "assistant",
        content: Some(content.clone()).filter(|content| !content.is_empty() || calls.is_empty()),
        tool_calls: calls,
        refusal: None,
        reasoning_content: Some(reasoning.clone()).filter(|r| !r.is_empty()),
    }
}

/// What stands at the head of a reply, and of each chunk of a stream.
pub(super) fn head(live: &Live, fingerprint: &str) -> Completion {
    Completion {
        id: live.id.clone(),
        object: match live.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            Endpoint::Completion => "text_completion",
        },
        created: live.created,
        model: live.request.model.clone(),
        system_fingerprint: fingerprint.to_owned(),
        ..Completion::default()
    }
}

/// Tokens: all that were generated count; those that are not in the content were spent on reasoning.
pub(super) fn usage(live: &Live, choices: &[Choice]) -> Usage {
    let n = choices.len() / live.request.prompts.len().max(1);
    // the choices of one prompt share it, and a second look reads another one for each of them
    let each = choices.chunks(n.max(1)).zip(&live.request.prompts);
    let prompt: u64 = each
        .clone()
        .map(|(of, prepared)| {
            let own = match prepared.prompt.ids.len() as u64 {
                0 => of.iter().map(|c| c.prompt_tokens).min().unwrap_or(0),
                own => own,
            };
            let second = of.iter().map(|c| c.prompt_tokens.saturating_sub(own));
            own + second.sum::<u64>()
        })
        .sum();
    // what one choice read, the others of its prompt may find kept
    let cached: u64 = each
        .map(|(of, _)| of.iter().map(|c| c.cached_tokens).min().unwrap_or(0))
        .sum();
    let generated: u64 = choices.iter().map(|c| c.generated).sum();
    let shown = choices.iter().map(|c| c.shown_tokens).sum::<Option<u64>>();
    Usage {
        prompt_tokens: Some(prompt),
        completion_tokens: Some(generated),
        total_tokens: prompt + generated,
        prompt_tokens_details: PromptTokensDetails {
            cached_tokens: cached.min(prompt),
            ..PromptTokensDetails::default()
        },
        completion_tokens_details: CompletionTokensDetails {
            reasoning_tokens: shown.map(|shown| generated - shown.min(generated)),
            ..CompletionTokensDetails::default()
        },
    }
}

/// What stands under `tts`: of several choices a list.
pub(super) fn extras(choices: &[Choice]) -> Value {
    #[derive(Serialize)]
    struct Several<'a> {
        /// That of the request, which the first choice has.
        #[serde(skip_serializing_if = "Option::is_none")]
        seed: Option<&'a Value>,
        choices: Vec<&'a Value>,
    }
    match choices {
        [one] => one.tts.clone(),
        many => {
            let choices = many.iter().map(|c| &c.tts).collect();
            let seed = many.first().and_then(|first| first.tts.get("seed"));
            serde_json::to_value(Several { seed, choices }).unwrap_or_default()
        }
    }
}
