//! Replies: whole ones, and the chunks of streams.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::logprobs::Logprobs;

/// A completion of a chat or of a text, whole or a chunk of it: `object` says which.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Completion {
    #[serde(skip_deserializing)]
    pub(crate) id: String,
    #[serde(skip_deserializing)]
    pub(crate) object: &'static str,
    /// When the reply was begun, in seconds since 1970.
    #[serde(skip_deserializing)]
    pub(crate) created: u64,
    #[serde(skip_deserializing)]
    pub(crate) model: String,
    #[serde(skip_deserializing)]
    pub(crate) system_fingerprint: String,
    pub(crate) choices: Vec<Choice>,
    /// In a stream that was asked for it, `Some(None)` in every chunk but the last: null on the wire.
    #[serde(deserialize_with = "usage_or_none", skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Option<Usage>>,
    /// How a vote made the reply, or how things stand: an extension of this server.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub(crate) tts: Option<Value>,
    /// Every trace of every choice, at the end of a stream that showed them: an extension of this server.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub(crate) tts_traces: Option<Value>,
    /// Why a stream ends without a reply; see [`super::error_message`].
    #[serde(skip_serializing)]
    pub(crate) error: Option<Value>,
}

/// One of the choices of a completion.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Choice {
    #[serde(skip_deserializing)]
    pub(crate) index: usize,
    /// The message of a whole chat completion.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<Message>,
    /// What a chunk of a chat completion adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delta: Option<Delta>,
    /// The text of a plain completion, or what a chunk of it adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    pub(crate) logprobs: Option<Logprobs>,
    pub(crate) finish_reason: Option<Cow<'static, str>>,
    /// Ids of the tokens, which vLLM adds on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_ids: Option<Vec<u32>>,
}

/// The message of a whole chat completion.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Message {
    pub(crate) role: &'static str,
    /// Null where tools are called and nothing is said.
    pub(crate) content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall>,
    /// Always null: this server's models do not refuse in a field of its own.
    pub(crate) refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
}

/// A call of a tool; in a chunk of a stream with its place among the calls.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ToolCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<usize>,
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) function: CalledFunction,
}

/// Which function is called, and with what, as a text of JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CalledFunction {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// What a chunk adds to a message.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Delta {
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall>,
    /// What newer versions of vLLM call `reasoning_content`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<String>,
}

/// Tokens that a request cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Usage {
    #[serde(deserialize_with = "count_or_none")]
    pub(crate) prompt_tokens: Option<u64>,
    #[serde(deserialize_with = "count_or_none")]
    pub(crate) completion_tokens: Option<u64>,
    #[serde(skip_deserializing)]
    pub(crate) total_tokens: u64,
    #[serde(skip_deserializing)]
    pub(crate) prompt_tokens_details: PromptTokensDetails,
    #[serde(skip_deserializing)]
    pub(crate) completion_tokens_details: CompletionTokensDetails,
}

/// A count, or nothing where an engine wrote something else: its answer is none the worse for it.
fn count_or_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_u64())
}

/// What an engine says of its tokens, or nothing where that cannot be read.
fn usage_or_none<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Usage>>, D::Error> {
    Ok(Some(
        serde_json::from_value(Value::deserialize(deserializer)?).ok(),
    ))
}

/// Kinds of prompt tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct PromptTokensDetails {
    pub(crate) cached_tokens: u64,
    pub(crate) audio_tokens: u64,
}

/// Kinds of generated tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct CompletionTokensDetails {
    /// Tokens that are not in the reply, where it is known which are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_tokens: Option<u64>,
    pub(crate) audio_tokens: u64,
    pub(crate) accepted_prediction_tokens: u64,
    pub(crate) rejected_prediction_tokens: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::openai::{ChatLogprobs, TextLogprobs, TokenLogprob};

    #[test]
    fn nulls_stand_where_clients_look_for_them() {
        let chunk = Completion {
            object: "chat.completion.chunk",
            choices: vec![Choice {
                delta: Some(Delta::default()),
                ..Choice::default()
            }],
            usage: Some(None),
            ..Completion::default()
        };
        let written = serde_json::to_value(&chunk).unwrap();
        let choice = json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": null});
        assert_eq!(written["choices"], json!([choice]));
        assert_eq!(written.get("usage"), Some(&Value::Null));
        for absent in ["tts", "tts_traces", "error"] {
            assert!(written.get(absent).is_none(), "{absent}");
        }
        let message = serde_json::to_value(Message::default()).unwrap();
        assert_eq!(message, json!({"role": "", "content": null, "refusal": null}));
    }

    #[test]
    fn what_is_written_is_read() {
        let logprobs = [
            Logprobs::Chat(ChatLogprobs {
                content: vec![TokenLogprob {
                    token: "7".to_owned(),
                    logprob: Some(-0.5),
                    top_logprobs: Some(Vec::new()),
                    ..TokenLogprob::default()
                }],
                refusal: None,
            }),
            Logprobs::Text(TextLogprobs {
                tokens: vec!["7".to_owned()],
                token_logprobs: vec![Some(-0.5)],
                ..TextLogprobs::default()
            }),
        ];
        for logprobs in logprobs {
            let usage = Usage {
                prompt_tokens: Some(3),
                completion_tokens: Some(4),
                ..Usage::default()
            };
            let written = Completion {
                choices: vec![Choice {
                    text: Some("7".to_owned()),
                    logprobs: Some(logprobs.clone()),
                    finish_reason: Some("stop".into()),
                    ..Choice::default()
                }],
                usage: Some(Some(usage.clone())),
                ..Completion::default()
            };
            let read: Completion = serde_json::from_value(serde_json::to_value(&written).unwrap()).unwrap();
            let choice = &read.choices[0];
            assert_eq!(choice.text.as_deref(), Some("7"));
            assert_eq!(choice.logprobs.as_ref(), Some(&logprobs));
            assert_eq!(choice.finish_reason.as_deref(), Some("stop"));
            assert_eq!(read.usage.flatten(), Some(usage));
        }
    }

    #[test]
    fn fields_that_nobody_reads_may_be_anything() {
        let odd = json!({"id": 7, "object": [], "created": "now", "model": null, "tts": 1, "usage": null,
        "choices": [
            {"index": "x", "delta": {"role": 3, "content": null}, "message": 4, "logprobs": null}
        ]});
        let read: Completion = serde_json::from_value(odd).unwrap();
        assert!(
            read.choices[0]
                .delta
                .as_ref()
                .is_some_and(|d| d.content.is_none())
        );
        assert!(serde_json::from_value::<Completion>(json!({"choices": 7})).is_err());
    }
}
