//! The objects of replies: OpenAI's, with what `tts` has to say beside them.

use serde_json::{Map, Value, json};

use super::ask::Endpoint;
use super::choice::Choice;
use super::jobs::Live;

/// The whole reply.
pub(super) fn whole(live: &Live, fingerprint: &str, choices: &[Choice]) -> Value {
    let listed: Vec<Value> = choices
        .iter()
        .enumerate()
        .map(|(index, c)| match live.endpoint {
            Endpoint::Chat => json!({
                "index": index,
                "message": message(c),
                "logprobs": c.logprobs,
                "finish_reason": c.finish_reason,
            }),
            Endpoint::Completion => json!({
                "index": index,
                "text": c.content,
                "logprobs": c.logprobs,
                "finish_reason": c.finish_reason,
            }),
        })
        .collect();
    let mut reply = head(live, fingerprint, false);
    reply.insert("choices".to_owned(), listed.into());
    reply.insert("usage".to_owned(), usage(live, choices));
    reply.insert("tts".to_owned(), extras(choices));
    reply.into()
}

fn message(choice: &Choice) -> Value {
    let mut message = json!({ "role": "assistant", "content": choice.content, "refusal": null });
    if let Some(reasoning) = &choice.reasoning {
        message["reasoning_content"] = json!(reasoning);
    }
    message
}

/// What stands at the head of a reply, or of each part of a stream.
pub(super) fn head(live: &Live, fingerprint: &str, part: bool) -> Map<String, Value> {
    let object = match (live.endpoint, part) {
        (Endpoint::Chat, false) => "chat.completion",
        (Endpoint::Chat, true) => "chat.completion.chunk",
        (Endpoint::Completion, _) => "text_completion",
    };
    let mut head = Map::new();
    head.insert("id".to_owned(), json!(live.id));
    head.insert("object".to_owned(), json!(object));
    head.insert("created".to_owned(), json!(live.created));
    head.insert("model".to_owned(), json!(live.asked.model));
    head.insert("system_fingerprint".to_owned(), json!(fingerprint));
    head
}

/// Tokens: all that were generated count; those that are not in the content were spent on reasoning.
pub(super) fn usage(live: &Live, choices: &[Choice]) -> Value {
    let n = choices.len() / live.asked.prompts.len().max(1);
    // the choices of one prompt share it
    let prompt: u64 = choices.iter().step_by(n.max(1)).map(|c| c.prompt_tokens).sum();
    let generated: u64 = choices.iter().map(|c| c.generated).sum();
    let mut details =
        json!({ "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0 });
    if let Some(shown) = choices.iter().map(|c| c.shown_tokens).sum::<Option<u64>>() {
        details["reasoning_tokens"] = json!(generated - shown.min(generated));
    }
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
        "completion_tokens_details": details,
    })
}

/// What stands under `tts`: of several choices a list.
pub(super) fn extras(choices: &[Choice]) -> Value {
    match choices {
        [one] => one.tts.clone(),
        many => json!({ "choices": many.iter().map(|c| &c.tts).collect::<Vec<_>>() }),
    }
}
