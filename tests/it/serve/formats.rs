//! `response_format`: answers that are JSON.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::{Value, json};

use super::{PROBLEM, Running, few};
use tts::{LoadOptions, Loaded, Settings};

/// A schema of some depth whose texts are short.
fn schema(random: &mut ChaCha8Rng, depth: usize) -> Value {
    match random.next_u32() % if depth > 0 { 6 } else { 4 } {
        0 => json!({ "type": "integer", "minimum": 0, "maximum": (1 + random.next_u32() % 5000) }),
        1 => json!({ "type": "boolean" }),
        2 => json!({ "enum": ["red", "green", 7, null] }),
        3 => json!({ "type": "string", "maxLength": (1 + random.next_u32() % 9) }),
        4 => json!({
            "type": "array", "items": schema(random, depth - 1), "minItems": 1,
            "maxItems": (1 + random.next_u32() % 4)
        }),
        _ => object(random, depth - 1),
    }
}

fn object(random: &mut ChaCha8Rng, depth: usize) -> Value {
    let names: Vec<String> = (0..(1 + random.next_u32() % 4))
        .map(|i| format!("field {i}"))
        .collect();
    let fields: serde_json::Map<_, _> = names
        .iter()
        .map(|name| (name.clone(), schema(random, depth)))
        .collect();
    json!({ "type": "object", "properties": fields, "required": names, "additionalProperties": false })
}

/// Whether a value is what one of these schemas says.
fn is_one(value: &Value, schema: &Value) -> bool {
    if let Some(all) = schema["enum"].as_array() {
        return all.contains(value);
    }
    match schema["type"].as_str().unwrap() {
        "integer" => value
            .as_u64()
            .is_some_and(|n| n <= schema["maximum"].as_u64().unwrap()),
        "boolean" => value.is_boolean(),
        "string" => value
            .as_str()
            .is_some_and(|text| text.chars().count() as u64 <= schema["maxLength"].as_u64().unwrap()),
        "array" => value.as_array().is_some_and(|items| {
            let most = schema["maxItems"].as_u64().unwrap() as usize;
            (1..=most).contains(&items.len()) && items.iter().all(|item| is_one(item, &schema["items"]))
        }),
        _ => value.as_object().is_some_and(|fields| {
            let wanted = schema["properties"].as_object().unwrap();
            fields.len() == wanted.len() && wanted.iter().all(|(name, schema)| is_one(&fields[name], schema))
        }),
    }
}

fn wanted(schema: &Value) -> Value {
    json!({ "type": "json_schema", "json_schema": { "name": "it", "strict": true, "schema": schema } })
}

/// Traces long enough for an answer of some depth.
fn start() -> Running {
    let settings = Settings {
        max_tokens: Some(1200),
        ..few()
    };
    Running::with(settings, |_| ())
}

fn content(reply: &Value) -> Value {
    let text = reply["choices"][0]["message"]["content"].as_str().unwrap();
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn answers_are_what_a_schema_says() {
    let server = start();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for _ in 0..20 {
        let schema = object(&mut random, 2);
        let reply = server
            .chat(json!({ "response_format": wanted(&schema), "traces": 3 }))
            .ok();
        let value = content(&reply);
        assert!(is_one(&value, &schema), "{value} of {schema}");
        assert_eq!(reply["choices"][0]["finish_reason"], "stop", "{reply}");
        // its vote is canonical JSON
        let answer: Value = serde_json::from_str(reply["tts"]["answer"].as_str().unwrap()).unwrap();
        assert_eq!(answer, value);
    }
    // a pattern is kept to; marks of thinking are no part of a text
    let pattern = json!({ "type": "string", "pattern": "^[a-c]{2,4}[0-9]$" });
    let text = content(
        &server
            .chat(json!({ "response_format": wanted(&pattern), "traces": 2 }))
            .ok(),
    );
    let text = text.as_str().unwrap();
    assert!(
        (3..=5).contains(&text.len()) && text.ends_with(|c: char| c.is_ascii_digit()),
        "{text}"
    );
    // what a reader thinks before stands apart and is free
    let reply = server
        .chat(json!({ "response_format": wanted(&json!({ "enum": ["yes", "no"] })), "traces": 4 }))
        .ok();
    assert!(["\"yes\"", "\"no\""].contains(&reply["choices"][0]["message"]["content"].as_str().unwrap()));
    let thought = reply["choices"][0]["message"]["reasoning_content"]
        .as_str()
        .unwrap();
    assert!(thought.len() > 20, "{reply}");
}

/// The same bits alone, in a batch, in a stream and again; confidence is still that of the raw logits.
#[test]
fn what_a_trace_draws_does_not_depend_on_others() {
    let server = start();
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let schema = object(&mut random, 2);
    let asked = |traces: u64, slots: u64| json!({ "response_format": wanted(&schema), "traces": traces, "slots": slots, "strategy": "majority" });
    let alone = server.chat(asked(4, 1)).ok();
    let together = server.chat(asked(4, 4)).ok();
    assert_eq!(alone["tts"]["digest"], together["tts"]["digest"]);
    let mut streamed = asked(1, 1);
    streamed["stream"] = true.into();
    let text: String = server
        .chat(streamed)
        .events()
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    let whole = server.chat(asked(1, 1)).ok();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), content(&whole));
    // without a format the same traces say something else
    let plain = server
        .chat(json!({ "traces": 4, "slots": 4, "strategy": "majority" }))
        .ok();
    assert_ne!(plain["tts"]["digest"], together["tts"]["digest"]);
}

#[test]
fn any_object_and_the_bodies_of_clients() {
    let server = start();
    // an object of anything may go on to the limit of its trace; what ended is one
    let reply = server
        .chat(json!({ "response_format": { "type": "json_object" }, "traces": 8, "max_tokens": 900 }))
        .ok();
    if reply["choices"][0]["finish_reason"] == "stop" {
        assert!(content(&reply).is_object(), "{reply}");
    }
    // as the official client's `parse` writes a class, with definitions
    let schema = json!({
        "$defs": { "Step": { "type": "object", "properties": { "n": { "type": "integer", "minimum": 0, "maximum": 99 } },
                             "required": ["n"], "additionalProperties": false, "title": "Step" } },
        "type": "object", "title": "Steps", "additionalProperties": false, "required": ["first", "done"],
        "properties": { "first": { "$ref": "#/$defs/Step" }, "done": { "type": "boolean", "title": "Done" } },
    });
    let value = content(
        &server
            .chat(json!({ "response_format": wanted(&schema), "traces": 2 }))
            .ok(),
    );
    assert!(
        value["first"]["n"].as_u64().is_some_and(|n| n < 100) && value["done"].is_boolean(),
        "{value}"
    );
    let body = json!({
        "input": PROBLEM, "traces": 2, "text": { "format": { "type": "json_schema", "name": "it", "schema": schema } },
    });
    let reply = server.post("/v1/responses", &body).ok();
    let said = reply["output"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["type"] == "message");
    let text = said.and_then(|item| item["content"][0]["text"].as_str());
    assert!(
        serde_json::from_str::<Value>(text.unwrap()).unwrap()["done"].is_boolean(),
        "{reply}"
    );
    assert_eq!(
        server.chat(json!({ "response_format": { "type": "text" } })).ok()["tts"]["digest"],
        server.chat(json!({})).ok()["tts"]["digest"]
    );
}

#[test]
fn what_cannot_be_kept_to_is_refused() {
    let server = start();
    let many: Vec<String> = (0..20_000).map(|i| format!("value number {i}")).collect();
    for format in [
        json!("json"),
        json!({ "type": "xml" }),
        json!({ "type": "json_schema" }),
        json!({ "type": "json_schema", "json_schema": { "name": "x" } }),
        json!({ "type": "json_schema", "json_schema": { "schema": [] } }),
        wanted(&json!({ "type": "poem" })),
        wanted(&json!({ "$ref": "https://example.org/schema.json" })),
        wanted(&json!({ "enum": many })),
    ] {
        let reply = server.chat(json!({ "response_format": format }));
        let (said, param) = reply.refusal(400);
        assert_eq!(param, "response_format", "{said}");
        assert!(said.contains("response_format") && said.len() < 600, "{said}");
    }
    let options = LoadOptions {
        chat_template: Some((super::agents::TEMPLATE.to_owned(), "the test's".to_owned())),
        ..LoadOptions::default()
    };
    let with_tools = Running::of(Loaded::open(&options, &mut |_| ()).unwrap(), few(), |_| ());
    let both = json!({ "response_format": { "type": "json_object" }, "tools": [super::agents::add()] });
    assert_eq!(with_tools.chat(both).refusal(400).1, "response_format");
}
