//! The protocol of OpenAI's completions, once for both directions: [`crate::serve`] reads requests and writes
//! replies, [`crate::source::remote`] writes requests and reads replies.
//!
//! Fields that vLLM, SGLang and llama.cpp add stand where they are read or written. What an engine sends and
//! nobody reads is not parsed, so that an engine cannot fail by the shape of it.
//!
//! ```text
//! request    bodies of requests          logprobs   log-probabilities, in both shapes
//! reply      replies and their chunks    models     the list of models
//! error      error objects               sse        server-sent events, as bytes come
//! ```

mod error;
mod logprobs;
mod models;
mod reply;
mod request;
mod sse;

pub(crate) use error::{ErrorBody, ErrorReply, error_message, shortened};
pub(crate) use logprobs::{ChatLogprobs, Logprobs, TextLogprobs, TokenLogprob, TopLogprob};
pub(crate) use models::{Model, ModelList};
pub(crate) use reply::{
    CalledFunction, Choice, Completion, CompletionTokensDetails, Delta, Message, PromptTokensDetails,
    ToolCall, Usage,
};
pub(crate) use request::{LogprobsWanted, OWN_SAMPLING, Prompt, RequestBody, Stop, StreamOptions, Turn};
pub(crate) use sse::Events;
