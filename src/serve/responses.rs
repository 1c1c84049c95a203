//! `/v1/responses`, OpenAI's newer way to ask: read as the chat completion that it stands for, and answered in its
//! own shape, whole or as a stream of events.

use std::sync::Arc;

use axum::response::Response;
use axum::response::sse;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::choice::Choice;
use super::error::ApiError;
use super::fields::UnreadFields;
use super::jobs::Live;
use super::json::kind;
use super::reply;
use super::request_log::Spent;
use super::stream::reply_of;

/// Fields of a response that are repeated in the reply as they were asked.
#[derive(Clone, Debug)]
pub(super) struct Asked(Map<String, Value>);

/// What is repeated, with what it is where it was not given.
fn repeated() -> [(&'static str, Value); 9] {
    [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", true.into()),
        ("temperature", Value::Null),
        ("tool_choice", "auto".into()),
        ("tools", json!([])),
        ("top_p", Value::Null),
        ("text", json!({ "format": { "type": "text" } })),
    ]
}

fn wrong(field: &str, what: impl Into<String>) -> ApiError {
    ApiError::invalid(Some(field), what)
}

/// Makes the fields of a chat completion of those of a response, and says what the reply repeats.
pub(super) fn to_chat(f: &mut UnreadFields) -> Result<Asked, ApiError> {
    let mut asked = Map::new();
    for (name, default) in repeated() {
        let given = f.take(name);
        asked.insert(name.to_owned(), given.clone().unwrap_or(default));
        if let Some(given) = given {
            f.put(name, given);
        }
    }
    let mut messages = Vec::new();
    if let Some(instructions) = f.text("instructions")? {
        messages.push(json!({ "role": "system", "content": instructions }));
    }
    match f.take("input") {
        Some(Value::String(text)) => messages.push(json!({ "role": "user", "content": text })),
        Some(Value::Array(items)) if !items.is_empty() => {
            for (i, item) in items.into_iter().enumerate() {
                add_item(&format!("input[{i}]"), item, &mut messages)?;
            }
        }
        Some(Value::Array(_)) | None => {
            return Err(wrong("input", "`input` must hold a text or at least one item"));
        }
        Some(other) => {
            let what = format!(
                "`input` must be a text or an array of items; {} was given",
                kind(&other)
            );
            return Err(wrong("input", what));
        }
    }
    f.put("messages", messages.into());
    if let Some(most) = f.take("max_output_tokens") {
        f.put("max_completion_tokens", most);
    }
    if let Some(Value::Object(reasoning)) = f.take("reasoning")
        && let Some(effort) = reasoning.get("effort").filter(|effort| !effort.is_null())
    {
        f.put("reasoning_effort", effort.clone());
    }
    if let Some(Value::Object(mut text)) = f.take("text") {
        if let Some(format) = text.remove("format").filter(|format| !format.is_null()) {
            f.put("response_format", format);
        }
        if let Some(verbosity) = text.remove("verbosity").filter(|verbosity| !verbosity.is_null()) {
            f.put("verbosity", verbosity);
        }
    }
    if let Some(Value::Array(tools)) = f.take("tools") {
        f.put("tools", tools.into_iter().map(nested).collect());
    }
    if let Some(choice) = f.take("tool_choice") {
        f.put("tool_choice", nested(choice));
    }
    Ok(Asked(asked))
}

/// A tool, or a choice of one, with its function as an object of its own.
fn nested(tool: Value) -> Value {
    match tool {
        Value::Object(mut tool)
            if tool.contains_key("name") && tool.get("type") == Some(&"function".into()) =>
        {
            let kind = tool.remove("type");
            tool.remove("strict");
            json!({ "type": kind, "function": tool })
        }
        other => other,
    }
}

/// Adds an item of `input` to the messages.
fn add_item(place: &str, item: Value, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    let Value::Object(mut item) = item else {
        let what = format!("`{place}` must be an object; {} was given", kind(&item));
        return Err(wrong(place, what));
    };
    let name = item.remove("type").unwrap_or_else(|| "message".into());
    let text = |item: &mut Map<String, Value>, key: &str| match item.remove(key) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(wrong(place, format!("`{place}` must have a `{key}`, a text"))),
    };
    match name.as_str().unwrap_or_default() {
        "message" => {
            item.remove("status");
            item.remove("id");
            if let Some(Value::Array(parts)) = item.get_mut("content") {
                for part in parts.iter_mut().filter_map(Value::as_object_mut) {
                    let is_text = part
                        .get("type")
                        .is_some_and(|kind| kind == "input_text" || kind == "output_text");
                    if is_text {
                        part.insert("type".to_owned(), "text".into());
                        part.remove("annotations");
                        part.remove("logprobs");
                    }
                }
            }
            messages.push(item.into());
        }
        // what was thought before stays where it was
        "reasoning" => {}
        "function_call" => {
            let function =
                json!({ "name": text(&mut item, "name")?, "arguments": text(&mut item, "arguments")? });
            let call = json!({ "type": "function", "id": text(&mut item, "call_id")?, "function": function });
            // calls that were made at once are one message
            match messages.last_mut().and_then(|last| last.get_mut("tool_calls")) {
                Some(Value::Array(calls)) => calls.push(call),
                _ => messages.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] })),
            }
        }
        "function_call_output" => {
            let id = text(&mut item, "call_id")?;
            let output = match item.remove("output") {
                Some(Value::String(output)) => output,
                Some(other) => other.to_string(),
                None => return Err(wrong(place, format!("`{place}` must have an `output`"))),
            };
            messages.push(json!({ "role": "tool", "tool_call_id": id, "content": output }));
        }
        other => {
            let other: String = other.chars().take(64).collect();
            let what = format!(
                "`{place}` is of type `{other}`: message, reasoning, function_call and function_call_output are read"
            );
            return Err(wrong(place, what));
        }
    }
    Ok(())
}

/// Refuses what a chat completion has and a response does not.
pub(super) fn check_choices(n: usize) -> Result<(), ApiError> {
    match n {
        1 => Ok(()),
        _ => Err(wrong("n", "`n` is not for responses: there is one")),
    }
}

/// The id of a response.
fn id(live: &Live) -> String {
    let own = live.id.rsplit('-').next().unwrap_or_default();
    format!("resp_{own}")
}

/// The response, as far as it is: with `choice` it is over.
fn object(live: &Live, asked: &Asked, choice: Option<&Choice>) -> Value {
    let is_cut = choice.is_some_and(|choice| choice.finish_reason == "length");
    let status = match choice {
        None => "in_progress",
        Some(_) if is_cut => "incomplete",
        Some(_) => "completed",
    };
    let mut response = asked.0.clone();
    let own = json!({
        "id": id(live),
        "object": "response",
        "created_at": live.created,
        "status": status,
        "error": null,
        "incomplete_details": is_cut.then(|| json!({ "reason": "max_output_tokens" })),
        "model": live.request.model,
        "output": choice.map_or_else(Vec::new, |choice| output(live, choice)),
        "previous_response_id": null,
        "reasoning": { "effort": null, "summary": null },
        "store": false,
        "truncation": "disabled",
        "usage": choice.map(|choice| usage(live, choice)),
        "tts": choice.map(|choice| choice.tts.clone()),
    });
    if let Value::Object(own) = own {
        response.extend(own);
    }
    response.into()
}

fn usage(live: &Live, choice: &Choice) -> Value {
    let usage = reply::usage(live, std::slice::from_ref(choice));
    json!({
        "input_tokens": usage.prompt_tokens.unwrap_or_default(),
        "input_tokens_details": { "cached_tokens": usage.prompt_tokens_details.cached_tokens },
        "output_tokens": usage.completion_tokens.unwrap_or_default(),
        "output_tokens_details": {
            "reasoning_tokens": usage.completion_tokens_details.reasoning_tokens.unwrap_or_default(),
        },
        "total_tokens": usage.total_tokens,
    })
}

/// The items of the answer: thinking, text, calls.
fn output(live: &Live, choice: &Choice) -> Vec<Value> {
    let id = id(live);
    let own = id.trim_start_matches("resp_");
    let mut items = Vec::new();
    let thought = &choice.whole.reasoning;
    if !thought.is_empty() {
        let content = json!([{ "type": "reasoning_text", "text": thought }]);
        items.push(
            json!({ "id": format!("rs_{own}"), "type": "reasoning", "summary": [], "content": content }),
        );
    }
    let text = &choice.whole.content;
    if !text.is_empty() || choice.calls.is_empty() {
        items.push(json!({
            "id": format!("msg_{own}"), "type": "message", "role": "assistant",
            "status": if choice.finish_reason == "length" { "incomplete" } else { "completed" },
            "content": [{ "type": "output_text", "text": text, "annotations": [] }],
        }));
    }
    for (i, call) in reply::calls(live, 0, choice).into_iter().enumerate() {
        items.push(json!({
            "id": format!("fc_{own}_{i}"), "type": "function_call", "status": "completed", "call_id": call.id,
            "name": call.function.name, "arguments": call.function.arguments,
        }));
    }
    items
}

/// The whole response as one object.
pub(super) fn whole(live: &Live, asked: &Asked, choices: &[Choice]) -> Value {
    object(live, asked, choices.first())
}

/// The events that give an item: it is begun empty, filled, and ended.
fn item_events(at: usize, item: &Value) -> Vec<Value> {
    let mut begun = item.clone();
    begun["status"] = "in_progress".into();
    let mut events = Vec::new();
    let of = |kind: &str, more: Value| {
        let mut event = json!({ "type": kind, "output_index": at, "item_id": item["id"] });
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        event
    };
    match item["type"].as_str() {
        Some("message") => {
            begun["content"] = json!([]);
            let part = &item["content"][0];
            let (text, mut empty) = (&part["text"], part.clone());
            empty["text"] = "".into();
            events.push(of(
                "response.content_part.added",
                json!({ "content_index": 0, "part": empty }),
            ));
            events.push(of(
                "response.output_text.delta",
                json!({ "content_index": 0, "delta": text, "logprobs": [] }),
            ));
            events.push(of(
                "response.output_text.done",
                json!({ "content_index": 0, "text": text, "logprobs": [] }),
            ));
            events.push(of(
                "response.content_part.done",
                json!({ "content_index": 0, "part": part }),
            ));
        }
        Some("function_call") => {
            let arguments = &item["arguments"];
            begun["arguments"] = "".into();
            events.push(of(
                "response.function_call_arguments.delta",
                json!({ "delta": arguments }),
            ));
            events.push(of(
                "response.function_call_arguments.done",
                json!({ "arguments": arguments, "name": item["name"] }),
            ));
        }
        _ => {}
    }
    let added = json!({ "type": "response.output_item.added", "output_index": at, "item": begun });
    events.insert(0, added);
    events.push(json!({ "type": "response.output_item.done", "output_index": at, "item": item }));
    events
}

/// The response as a stream of events: that it has begun, and what it came to once the vote is over.
pub(super) fn stream(live: Arc<Live>, asked: Asked, spent: Arc<Spent>) -> Response {
    let (send, events) = mpsc::channel::<sse::Event>(8);
    tokio::spawn(async move {
        let mut number = 0;
        let begun = object(&live, &asked, None);
        let mut all = vec![
            json!({ "type": "response.created", "response": begun }),
            json!({ "type": "response.in_progress", "response": begun }),
        ];
        for is_over in [false, true] {
            if is_over {
                let finished = tokio::select! {
                    finished = live.finished() => finished,
                    // the client is gone
                    () = send.closed() => return,
                };
                match finished {
                    Ok(choices) => {
                        spent.set(&reply::usage(&live, &choices));
                        let response = whole(&live, &asked, &choices);
                        let items = response["output"].as_array().cloned().unwrap_or_default();
                        all.extend(
                            items
                                .iter()
                                .enumerate()
                                .flat_map(|(at, item)| item_events(at, item)),
                        );
                        let kind = format!("response.{}", response["status"].as_str().unwrap_or("completed"));
                        all.push(json!({ "type": kind, "response": response }));
                    }
                    Err(error) => {
                        let body = serde_json::to_value(error.body()).unwrap_or_default();
                        let why = &body["error"]["message"];
                        let mut response = begun.clone();
                        response["status"] = "failed".into();
                        response["error"] = json!({ "code": "server_error", "message": why });
                        all.push(json!({ "type": "response.failed", "response": response }));
                    }
                }
            }
            for mut event in all.drain(..) {
                event["sequence_number"] = number.into();
                number += 1;
                let name = event["type"].as_str().unwrap_or_default().to_owned();
                let event = sse::Event::default().event(name).data(event.to_string());
                if send.send(event).await.is_err() {
                    return;
                }
            }
        }
    });
    reply_of(events)
}
