//! Agents and front ends: tools that are offered, conversations that grow, `/v1/responses`, and the requests of
//! LiteLLM, LangChain, `llm` and Open WebUI as those make them.

use serde_json::{Value, json};
use tts::source::PrefixCache;
use tts::{LoadOptions, Loaded, Settings};

use super::{PROBLEM, Running, chat, few};

/// A template that shows tools as Hermes' and Qwen's do.
pub(super) const TEMPLATE: &str = "{%- if tools %}{{- '<|im_start|>system\\ntools:' }}{%- for tool in tools %}{{- '\\n' + (tool | tojson) \
     }}{%- endfor %}{{- '\\n<tool_call>\\n{\"name\": ...}\\n</tool_call><|im_end|>\\n' }}{%- endif %}{%- for message in messages \
     %}{{- '<|im_start|>' + message.role + '\\n' + message.content }}{%- for call in message.tool_calls or [] %}{{- \
     '<tool_call>' + call.function.name + (call.function.arguments | tojson) + '</tool_call>' }}{%- endfor %}{{- \
     '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

fn with_tools() -> Running {
    let options = LoadOptions {
        chat_template: Some((TEMPLATE.to_owned(), "the test's".to_owned())),
        ..LoadOptions::default()
    };
    Running::of(Loaded::open(&options, &mut |_| ()).unwrap(), few(), |_| ())
}

pub(super) fn add() -> Value {
    let number = json!({ "type": "integer" });
    json!({ "type": "function", "function": {
        "name": "add", "description": "Adds two numbers.",
        "parameters": { "type": "object", "properties": { "a": number, "b": number }, "required": ["a", "b"] },
    } })
}

#[test]
fn tools_stand_in_the_prompt_and_words_are_still_an_answer() {
    let server = with_tools();
    let plain = server.chat(json!({ "instruction": "" })).ok();
    let offered = server.chat(json!({ "tools": [add()] })).ok();
    let tokens = |reply: &Value| reply["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens(&offered) > tokens(&plain) + 20, "the tools were not shown");
    let choice = &offered["choices"][0];
    assert_eq!(choice["message"].get("tool_calls"), None);
    assert!(choice["message"]["content"].is_string());
    let forbidden = server
        .chat(json!({ "tools": [add()], "tool_choice": "none", "instruction": "" }))
        .ok();
    assert_eq!(forbidden["tts"]["digest"], plain["tts"]["digest"]);
    // where a call is wanted, what is none does not vote
    let wanted = server
        .chat(json!({ "tools": [add()], "tool_choice": "required" }))
        .ok();
    assert_eq!(wanted["tts"]["answer"], Value::Null);
    // a lone trace's text comes at the end, without progress before it
    let one = json!({ "tools": [add()], "traces": 1, "stream": true });
    let events = server.chat(one).events();
    assert_eq!(
        events.last().unwrap()["choices"][0]["finish_reason"],
        server.chat(json!({ "tools": [add()], "traces": 1 })).ok()["choices"][0]["finish_reason"]
    );
}

#[test]
fn tools_that_are_none_are_refused() {
    let server = with_tools();
    for (fields, param) in [
        (json!({ "tools": 5 }), "tools"),
        (json!({ "tools": [{ "type": "web_search" }] }), "tools[0]"),
        (
            json!({ "tools": [{ "type": "function", "function": {} }] }),
            "tools[0]",
        ),
        (json!({ "tools": [add(), add()] }), "tools[1]"),
        (json!({ "tool_choice": "required" }), "tool_choice"),
        (
            json!({ "tools": [add()], "tool_choice": "perhaps" }),
            "tool_choice",
        ),
        (
            json!({ "tools": [add()], "tool_choice": { "type": "function", "function": { "name": "sub" } } }),
            "tool_choice",
        ),
        (json!({ "tools": [add()], "logprobs": true }), "logprobs"),
        (
            json!({ "messages": [{ "role": "user", "content": "x" }, { "role": "assistant", "content": null,
                "tool_calls": [{ "function": { "name": "add", "arguments": "{" } }] }] }),
            "messages[1].tool_calls",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": "x" }, { "role": "assistant", "content": null,
                "tool_calls": [{ "function": { "name": "add", "arguments": "{}" } }] }] }),
            "messages",
        ),
    ] {
        assert_eq!(server.chat(fields.clone()).refusal(400).1, param, "{fields}");
    }
    // the bundled model's own template knows none
    let (message, param) = Running::start().chat(json!({ "tools": [add()] })).refusal(400);
    assert_eq!(
        (message.as_str(), param),
        (
            "`tools` is not done: no tool can be called: the model's chat template shows none, or an engine elsewhere applies it",
            json!("tools")
        )
    );
}

#[test]
fn the_next_turn_says_what_was_kept() {
    let settings = || Settings {
        prefix_cache: PrefixCache::Auto,
        ..few()
    };
    let server = Running::with(settings(), |_| ());
    let long = format!("{PROBLEM} {}", "Find a_20. ".repeat(40));
    let cached = |reply: &Value| {
        reply["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    let first = server
        .chat(json!({ "messages": [{ "role": "user", "content": long }], "n": 2 }))
        .ok();
    assert_eq!(cached(&first), 0, "one of the two choices read it");
    let text = first["choices"][0]["message"]["content"].as_str().unwrap();
    let second = json!({ "messages": [
        { "role": "user", "content": long }, { "role": "assistant", "content": text },
        { "role": "user", "content": PROBLEM },
    ] });
    let kept = server.chat(second.clone()).ok();
    let prompt = kept["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(0 < cached(&kept) && cached(&kept) < prompt, "{}", kept["usage"]);
    let again = server.chat(second.clone()).ok();
    assert_eq!(cached(&again), prompt);
    // another server has read nothing, and answers alike
    let fresh = Running::with(settings(), |_| ()).chat(second).ok();
    assert_eq!(cached(&fresh), 0);
    for other in [&again, &fresh] {
        assert_eq!(kept["tts"]["digest"], other["tts"]["digest"]);
    }
}

#[test]
fn responses_are_chat_completions_in_another_shape() {
    let server = Running::start();
    let of_chat = server.chat(json!({ "seed": 3 })).ok();
    let content = &of_chat["choices"][0]["message"]["content"];
    let part = json!([{ "type": "input_text", "text": PROBLEM }]);
    for input in [json!(PROBLEM), json!([{ "role": "user", "content": part }])] {
        let body = json!({ "model": "bundled", "input": input, "seed": 3, "store": false });
        let reply = server.post("/v1/responses", &body).ok();
        assert_eq!(reply["tts"]["digest"], of_chat["tts"]["digest"]);
        assert_eq!(
            (&reply["object"], &reply["status"]),
            (&json!("response"), &json!("completed"))
        );
        let message = reply["output"]
            .as_array()
            .unwrap()
            .iter()
            .find(|item| item["type"] == "message")
            .unwrap();
        assert_eq!(&message["content"][0]["text"], content);
        let usage = &of_chat["usage"];
        assert_eq!(reply["usage"]["input_tokens"], usage["prompt_tokens"]);
        assert_eq!(reply["usage"]["output_tokens"], usage["completion_tokens"]);
        let mut streamed = body.clone();
        streamed["stream"] = true.into();
        let text = server.post("/v1/responses", &streamed).text();
        let events: Vec<Value> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert_eq!(kinds[..2], ["response.created", "response.in_progress"]);
        assert_eq!(kinds.last(), Some(&"response.completed"));
        let numbers: Vec<_> = events.iter().map(|e| e["sequence_number"].as_u64()).collect();
        assert_eq!(numbers, (0..events.len() as u64).map(Some).collect::<Vec<_>>());
        let deltas = events
            .iter()
            .filter(|e| e["type"] == "response.output_text.delta");
        let streamed: String = deltas.map(|e| e["delta"].as_str().unwrap()).collect();
        assert_eq!(&json!(streamed), content);
        let response = &events.last().unwrap()["response"];
        let done = events.iter().filter(|e| e["type"] == "response.output_item.done");
        let items: Vec<&Value> = done.map(|e| &e["item"]).collect();
        assert_eq!(
            response["output"].as_array().unwrap().iter().collect::<Vec<_>>(),
            items
        );
    }
    for (body, param) in [
        (json!({}), "input"),
        (json!({ "input": [] }), "input"),
        (
            json!({ "input": [{ "type": "item_reference", "id": "x" }] }),
            "input[0]",
        ),
        (
            json!({ "input": "x", "previous_response_id": "resp_1" }),
            "previous_response_id",
        ),
        (
            json!({ "input": "x", "text": { "format": { "type": "json_schema" } } }),
            "response_format",
        ),
        (json!({ "input": "x", "n": 2 }), "n"),
    ] {
        assert_eq!(
            server.post("/v1/responses", &body).refusal(400).1,
            param,
            "{body}"
        );
    }
}

/// Requests as the clients' packages made them, recorded: litellm 1.110.2, langchain-openai 1.7.4, llm 0.36. That of Open WebUI is
/// written by hand.
#[test]
fn requests_of_clients_that_others_wrote_are_answered() {
    let server = with_tools();
    let question = json!({ "role": "user", "content": PROBLEM });
    let call = json!({ "type": "function", "id": "call_1", "function": { "name": "add", "arguments": "{\"a\": 2, \"b\": 2}" } });
    let history = json!([question, { "content": null, "role": "assistant", "tool_calls": [call] },
        { "content": "4", "role": "tool", "tool_call_id": "call_1" }]);
    for (client, fields) in [
        ("litellm", json!({})),
        ("litellm", json!({ "stream": true })),
        ("litellm", json!({ "tools": [add()], "tool_choice": "auto" })),
        ("langchain", json!({ "stream": false })),
        (
            "langchain",
            json!({ "stream": true, "stream_options": { "include_usage": true } }),
        ),
        ("langchain", json!({ "stream": false, "tools": [add()] })),
        (
            "langchain",
            json!({ "stream": false, "tools": [add()], "messages": history }),
        ),
        (
            "langchain",
            json!({ "stream": false, "tools": [add()], "tool_choice": { "type": "function", "function": { "name": "add" } } }),
        ),
        (
            "llm",
            json!({ "stream": true, "stream_options": { "include_usage": true } }),
        ),
        (
            "llm",
            json!({ "stream": false, "messages": [{ "role": "system", "content": "Be brief." }, question] }),
        ),
        (
            "open-webui",
            json!({ "stream": true, "stream_options": { "include_usage": true }, "max_tokens": 64, "temperature": 0.8 }),
        ),
    ] {
        let reply = server.post("/v1/chat/completions", &chat(fields.clone()));
        assert_eq!(reply.status, 200, "{client} {fields}: {}", reply.text());
        let told = match fields["stream"].as_bool() {
            Some(true) => reply
                .events()
                .last()
                .is_some_and(|e| e["tts"].is_object() || e["usage"].is_object()),
            _ => reply.json()["choices"][0]["message"]["content"].is_string(),
        };
        assert!(told, "{client} {fields}: {}", reply.text());
    }
}
