//! What clients of the server see, kept as text in `tests/it/snapshots/`: replies, transcripts of streams and
//! refusals, without ids and times.

use serde_json::{Value, json};
use tts::Settings;
use tts_model::cpu::kernels::Tier;

use super::{Reply, Running, few};
use crate::round;

fn seen(name: &str, text: &str) {
    insta::with_settings!({
        snapshot_path => "../snapshots", prepend_module_to_snapshot => false, omit_expression => true
    }, { insta::assert_snapshot!(name, text) });
}

/// A server whose results no machine changes.
fn anywhere() -> Running {
    let settings = Settings {
        tier: Some(Tier::Portable),
        ..few()
    };
    Running::with(settings, |_| ())
}

/// Puts a mark where something differs from run to run or machine to machine.
fn settle(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let is_mark = match name.as_str() {
                    "created" | "seconds" | "machine" | "system_fingerprint" => !value.is_null(),
                    "id" => value
                        .as_str()
                        .is_some_and(|id| id.starts_with("chatcmpl-") || id.starts_with("cmpl-")),
                    _ => false,
                };
                if is_mark {
                    *value = Value::from(format!("[{name}]"));
                } else {
                    settle(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(settle),
        _ => (),
    }
}

fn settled(mut value: Value) -> Value {
    settle(&mut value);
    round(&mut value);
    value
}

/// The text that an event adds to one choice, if it does nothing else: the choice's index, the field, the
/// text.
fn addition(event: &Value) -> Option<(u64, String, String)> {
    let [choice] = &event["choices"].as_array()?[..] else {
        return None;
    };
    let delta = choice["delta"].as_object()?;
    if delta.len() != 1 || !choice["finish_reason"].is_null() || !event["tts"].is_null() {
        return None;
    }
    let (field, text) = delta.iter().next()?;
    Some((
        choice["index"].as_u64()?,
        field.clone(),
        text.as_str()?.to_owned(),
    ))
}

/// An addition as a line of a transcript.
fn added(addition: Option<&(u64, String, String)>) -> String {
    addition.map_or(String::new(), |(choice, field, text)| {
        format!(
            "[choice {choice} adds to {field}] {}\n",
            Value::from(text.as_str())
        )
    })
}

/// The events of a stream in order, with texts joined that came in several: how they are cut is a matter of
/// time.
fn transcript(reply: &Reply) -> String {
    let kind = reply.header("content-type").unwrap();
    let mut text = format!("{}\ncontent-type: {kind}\n\n", reply.status);
    let mut adding: Option<(u64, String, String)> = None;
    for event in reply.events() {
        let next = addition(&event);
        if let (Some(next), Some(now)) = (&next, &mut adding)
            && (next.0, &next.1) == (now.0, &now.1)
        {
            now.2 += &next.2;
            continue;
        }
        text += &added(adding.as_ref());
        if next.is_none() {
            text += &format!("data: {}\n", settled(event));
        }
        adding = next;
    }
    text + &added(adding.as_ref()) + "data: [DONE]\n"
}

#[test]
fn chats() {
    let server = anywhere();
    let whole = |reply: Reply| serde_json::to_string_pretty(&settled(reply.ok())).unwrap();
    seen("chat", &whole(server.chat(json!({ "seed": 1 }))));
    let usage = json!({ "include_usage": true });
    let stream = json!({ "seed": 1, "stream": true, "progress": "off", "stream_options": usage });
    seen("chat-stream", &transcript(&server.chat(stream)));
    let single = json!({ "seed": 1, "traces": 1, "max_tokens": 24, "logprobs": true, "top_logprobs": 2 });
    seen("chat-single", &whole(server.chat(single)));
    let single = json!({ "seed": 1, "traces": 1, "stream": true, "progress": "off" });
    seen("chat-single-stream", &transcript(&server.chat(single)));
    let prompt = json!({ "model": "bundled", "prompt": "17*23=", "seed": 1, "traces": 1, "max_tokens": 8 });
    seen("completion", &whole(server.post("/v1/completions", &prompt)));
    seen("models", &whole(server.get("/v1/models")));
}

#[test]
fn refusals() {
    let server = anywhere();
    let mut text = String::new();
    for fields in [
        json!({ "messages": [] }),
        json!({ "messages": "hello" }),
        json!({ "messages": [{ "role": "root", "content": "x" }] }),
        json!({ "messages": [{ "role": "user", "content": "  " }] }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }] }),
        json!({ "temperature": "hot" }),
        json!({ "n": 0 }),
        json!({ "traces": 0 }),
        json!({ "strategy": "majorty" }),
        json!({ "window": "wide" }),
        json!({ "vote": "mine" }),
        json!({ "max_tokens": 0 }),
        json!({ "time_limit": "2h" }),
        json!({ "seed": 1.5 }),
        json!({ "stop": 5 }),
        json!({ "model": "gpt-4" }),
        json!({ "temprature": 1 }),
        json!({ "tools": [{ "type": "function" }] }),
        json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": { "type": "poem" } } } }),
        json!({ "stream": "yes" }),
    ] {
        let reply = server.chat(fields.clone());
        text += &format!("{fields}\n{} {}\n\n", reply.status, settled(reply.json()));
    }
    let reply = server.get("/v1/no-such-place");
    text += &format!("GET /v1/no-such-place\n{} {}\n", reply.status, reply.text());
    seen("refusals", &text);
}
