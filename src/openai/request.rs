//! Bodies of requests.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Number;

/// The sampling settings that the protocol itself has; engines take others beside them, or refuse them.
pub(crate) const OWN_SAMPLING: [&str; 4] = ["temperature", "top_p", "presence_penalty", "frequency_penalty"];

/// The body of a request for a completion, as it is sent to an engine. What is `None` is left out.
///
/// This server reads bodies field by field instead, with the types below: it refuses what it does not know
/// by name, and says of each field what it must be.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct RequestBody<'a> {
    pub(crate) model: &'a str,
    pub(crate) stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream_options: Option<StreamOptions>,
    /// The conversation of a chat completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) messages: Option<Vec<Turn<'a>>>,
    /// What a plain completion goes on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt: Option<Prompt<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<usize>,
    /// Sampling settings, under the names that the engine has for them.
    #[serde(flatten)]
    pub(crate) sampling: BTreeMap<&'static str, Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) logprobs: Option<LogprobsWanted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_logprobs: Option<usize>,
    /// Beyond OpenAI's own (vLLM, llama.cpp).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ignore_eos: Option<bool>,
    /// vLLM: ids beside the texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) return_token_ids: Option<bool>,
    /// vLLM: tokens in log-probabilities by id, as `token_id:7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) return_tokens_as_token_ids: Option<bool>,
}

/// What log-probabilities are wanted: of a chat whether, of a text how many at each place.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum LogprobsWanted {
    Chat(bool),
    Text(usize),
}

/// What a stream shows besides the completion.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: bool,
    /// Padding against the guessing of lengths: there is none here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) include_obfuscation: Option<bool>,
}

/// A turn of a conversation.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Turn<'a> {
    pub(crate) role: &'a str,
    pub(crate) content: &'a str,
    /// What the model thought before it; engines show it as their template does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<&'a str>,
}

/// What a plain completion goes on from: one text or one list of token ids, or several of either.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Prompt<'a> {
    Text(Cow<'a, str>),
    Ids(Cow<'a, [u32]>),
    Texts(Vec<String>),
    ManyIds(Vec<Vec<u32>>),
}

/// Texts that end a completion.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Stop {
    One(String),
    Many(Vec<String>),
}

impl Stop {
    /// The texts, one or several, in order.
    pub(crate) fn texts(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_asked_for_is_left_out() {
        let body = RequestBody {
            model: "m",
            stream: true,
            prompt: Some(Prompt::Ids(Cow::Borrowed(&[1, 2]))),
            logprobs: Some(LogprobsWanted::Text(3)),
            sampling: BTreeMap::from([("temperature", Number::from_f64(0.5).unwrap())]),
            ..RequestBody::default()
        };
        assert_eq!(
            serde_json::to_value(&body).unwrap(),
            json!({"model": "m", "stream": true, "prompt": [1, 2], "logprobs": 3, "temperature": 0.5})
        );
        let body = RequestBody {
            messages: Some(vec![Turn {
                role: "user",
                content: "1",
                reasoning_content: None,
            }]),
            logprobs: Some(LogprobsWanted::Chat(true)),
            ..RequestBody::default()
        };
        let written = serde_json::to_value(&body).unwrap();
        assert_eq!(written["messages"], json!([{"role": "user", "content": "1"}]));
        assert_eq!(written["logprobs"], true);
    }

    #[test]
    fn prompts_are_read_in_every_shape() {
        let prompt = |value| serde_json::from_value::<Prompt<'static>>(value).unwrap();
        assert!(matches!(prompt(json!("a")), Prompt::Text(text) if text == "a"));
        assert!(matches!(prompt(json!([1, 2])), Prompt::Ids(ids) if *ids == [1, 2]));
        assert!(matches!(prompt(json!(["a"])), Prompt::Texts(texts) if texts == ["a"]));
        assert!(matches!(prompt(json!([[1], [2]])), Prompt::ManyIds(many) if many.len() == 2));
    }
}
