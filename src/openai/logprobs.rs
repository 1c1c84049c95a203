//! Log-probabilities of a choice's tokens, nats, in the two shapes that the protocol has for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Log-probabilities of the likeliest tokens at one place, by their text; null where there is none.
type TopOfToken = BTreeMap<String, Option<f64>>;

/// Log-probabilities of a choice.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Logprobs {
    /// Of chat completions; llama.cpp gives them for plain completions too.
    Chat(ChatLogprobs),
    /// The lists of `/v1/completions`.
    Text(TextLogprobs),
}

/// One object for each token.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct ChatLogprobs {
    pub(crate) content: Vec<TokenLogprob>,
    /// A refusal's tokens; always null.
    pub(crate) refusal: Option<()>,
}

/// A token and those that were likeliest at its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TokenLogprob {
    /// Its id, which llama.cpp adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u32>,
    pub(crate) token: String,
    pub(crate) logprob: Option<f64>,
    #[serde(skip_deserializing)]
    pub(crate) bytes: Vec<u8>,
    pub(crate) top_logprobs: Option<Vec<TopLogprob>>,
}

/// A token that was likely.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TopLogprob {
    #[serde(skip_deserializing)]
    pub(crate) token: String,
    pub(crate) logprob: Option<f64>,
    #[serde(skip_deserializing)]
    pub(crate) bytes: Vec<u8>,
}

/// Arrays side by side, one element for each token.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct TextLogprobs {
    pub(crate) tokens: Vec<String>,
    pub(crate) token_logprobs: Vec<Option<f64>>,
    /// The likeliest tokens by their text; null where none are wanted.
    pub(crate) top_logprobs: Option<Vec<Option<TopOfToken>>>,
    /// Characters of the text before each token.
    pub(crate) text_offset: Vec<usize>,
}

impl<'de> Deserialize<'de> for Logprobs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The fields of both shapes: which of them an object has is known when it is read.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Either {
            content: Option<Vec<TokenLogprob>>,
            tokens: Vec<String>,
            token_logprobs: Vec<Option<f64>>,
            top_logprobs: Option<Vec<Option<TopOfToken>>>,
        }
        let read = Either::deserialize(deserializer)?;
        Ok(match read.content {
            Some(content) => Self::Chat(ChatLogprobs {
                content,
                refusal: None,
            }),
            None => Self::Text(TextLogprobs {
                tokens: read.tokens,
                token_logprobs: read.token_logprobs,
                top_logprobs: read.top_logprobs,
                text_offset: Vec::new(),
            }),
        })
    }
}
