//! Requests as clients send them: what says nothing passes, what would be lost is refused by name.

use serde_json::{Value, json};
use tts::serve::UnknownFields;
use tts::{LoadOptions, Loaded};

use super::{PROBLEM, Reply, Running, few, send};

fn after(turns: Value) -> Value {
    let mut messages = vec![json!({ "role": "user", "content": PROBLEM })];
    messages.extend(turns.as_array().unwrap().clone());
    json!({ "messages": messages })
}

#[test]
fn what_says_nothing_changes_nothing() {
    let server = Running::start();
    let plain = server.chat(json!({})).ok()["tts"]["digest"].clone();
    for fields in [
        json!({ "verbosity": null, "web_search_options": null, "no_such_field": null }),
        json!({ "verbosity": "medium", "reasoning": {}, "truncation": "disabled", "include": [] }),
        json!({ "logprobs": false, "top_logprobs": 0 }),
        json!({ "top_logprobs": 0 }),
        json!({ "top_logprobs": null }),
        json!({ "n": 1.0, "traces": 4.0, "seed": 0.0, "top_k": -1.0 }),
        json!({ "max_tokens": -1, "max_completion_tokens": null }),
        json!({ "max_tokens": null }),
        json!({ "stream_options": {} }),
        json!({ "stream_options": { "include_usage": false } }),
        json!({ "tools": [], "tool_choice": "auto", "parallel_tool_calls": true }),
        json!({ "tools": [{ "type": "function" }], "tool_choice": "none" }),
        json!({ "functions": [{ "name": "f" }], "function_call": "none" }),
        json!({ "response_format": { "type": "text" }, "modalities": ["text"], "echo": false }),
        json!({
            "stop_token_ids": [], "bad_words": [], "documents": [], "extra_body": {}, "min_tokens": 0,
            "use_beam_search": false, "length_penalty": 1.0, "skip_special_tokens": true, "best_of": 1,
            "cache_prompt": true, "mirostat": 0, "xtc_probability": 0.0, "request_id": "a-1", "typical_p": 1,
        }),
        json!({ "max_tokens": 3, "max_completion_tokens": -1 }),
        json!({ "model": "bundled", "logit_bias": { "5": 0, "6": 0.0 }, "user": "a", "store": false, "metadata": { "a": "b" } }),
        json!({ "stop": [], "logit_bias": {}, "metadata": {}, "prompt_cache_options": {} }),
    ] {
        assert_eq!(
            server.chat(fields.clone()).ok()["tts"]["digest"],
            plain,
            "{fields}"
        );
    }
    let raw = json!({ "prompt": "2 + 2 = ", "max_tokens": 4 });
    let text = server.post("/v1/completions", &raw).ok()["choices"].clone();
    for (name, value) in [
        ("logprobs", json!(false)),
        ("best_of", json!(1.0)),
        ("suffix", json!("")),
        ("suffix", json!(null)),
        ("n", json!(1.0)),
    ] {
        let mut more = raw.clone();
        more[name] = value;
        assert_eq!(
            server.post("/v1/completions", &more).ok()["choices"],
            text,
            "{more}"
        );
    }
}

#[test]
fn fields_of_openai_that_are_not_served_are_called_that() {
    let server = Running::start();
    for (fields, name) in [
        (json!({ "verbosity": "low" }), "verbosity"),
        (json!({ "web_search_options": {} }), "web_search_options"),
        (json!({ "audio": { "voice": "alloy" } }), "audio"),
        (
            json!({ "prediction": { "type": "content", "content": "x" } }),
            "prediction",
        ),
        (json!({ "reasoning": { "effort": "low" } }), "reasoning"),
    ] {
        let (message, param) = server.chat(fields).refusal(400);
        assert_eq!(
            message,
            format!("`{name}` is a field of OpenAI's that this server does not serve")
        );
        assert_eq!(param, name);
    }
}

#[test]
fn numbers_get_true_sentences() {
    let server = Running::start();
    let seed = "`seed` must be a whole number of 64 bits, from -9223372036854775808 to 18446744073709551615";
    for (fields, param, sentence) in [
        (json!({ "seed": 18_446_744_073_709_551_616.0 }), "seed", format!("{seed}; a number of more than 64 bits was given")),
        (json!({ "seed": 1e300 }), "seed", format!("{seed}; a number of more than 64 bits was given")),
        (json!({ "seed": -1e19 }), "seed", format!("{seed}; a number with a point or an exponent whose last digits were lost was given")),
        (json!({ "seed": 9_007_199_254_740_993.0 }), "seed", format!("{seed}; a number with a point or an exponent whose last digits were lost was given")),
        (json!({ "seed": 1.5 }), "seed", format!("{seed}; a number with a fraction was given")),
        (json!({ "n": 1e300 }), "n", "`n` must be a whole number from 1 to 16; a number of more than 64 bits was given".to_owned()),
        (json!({ "n": 1.5 }), "n", "`n` must be a whole number from 1 to 16; a number with a fraction was given".to_owned()),
        (json!({ "n": 17.0 }), "n", "`n` must be a whole number from 1 to 16, not 17".to_owned()),
        (json!({ "top_k": 0.5 }), "top_k", "`top_k` must be a whole number; 0 or -1 keeps all; a number with a fraction was given".to_owned()),
        (json!({ "time_limit": 1e300 }), "time_limit", "`time_limit` must be a number of seconds above 0 and at most 1000000000, not 1e300".to_owned()),
        (json!({ "time_limit": 0 }), "time_limit", "`time_limit` must be a number of seconds above 0 and at most 1000000000, not 0.0".to_owned()),
        (json!({ "max_completion_tokens": -5 }), "max_completion_tokens", "`max_completion_tokens` must be a whole number of at least 1, or -1 for no limit, not -5".to_owned()),
        (json!({ "max_tokens": 2.5 }), "max_tokens", "`max_tokens` must be a whole number of at least 1, or -1 for no limit, not a number with a fraction".to_owned()),
        (json!({ "repetition_penalty": 1e-308 }), "repetition_penalty", "repetition penalty is 1e-308; it must be between 0.01 and 100".to_owned()),
    ] {
        assert_eq!(server.chat(fields.clone()).refusal(400), (sentence, json!(param)), "{fields}");
    }
    // a time that is over at once is no wait for a place
    let (message, _) = server.chat(json!({ "time_limit": 1e-9 })).refusal(503);
    assert_eq!(
        message,
        "the time of the request was over before its first token was generated"
    );
    assert_eq!(server.chat(json!({ "time_limit": 1e9 })).status, 200);
}

#[test]
fn a_token_limit_beyond_what_fits_is_lowered_and_said() {
    let server = Running::start();
    for (field, wanted) in [
        ("max_tokens", json!(32_000)),
        ("max_completion_tokens", json!(1e300)),
        ("max_tokens", json!(u64::MAX)),
    ] {
        let fields = json!({ field: wanted, "traces": 1, "ignore_eos": true, "loop_stop": false });
        let reply = server.chat(fields).ok();
        assert_eq!(
            reply["usage"]["completion_tokens"], 400,
            "the server's own --max-tokens"
        );
        assert_eq!(reply["choices"][0]["finish_reason"], "length");
        assert_eq!(
            (&reply["tts"]["max_tokens"], &reply["tts"]["cut"]),
            (&json!(400), &json!("max_tokens"))
        );
    }
    // one that ends by itself is not cut, and one that fits says nothing
    let whole = server.chat(json!({ "max_tokens": 32_000 })).ok();
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        (&whole["tts"]["max_tokens"], &whole["tts"]["cut"]),
        (&json!(400), &Value::Null)
    );
    let fits = server.chat(json!({ "max_tokens": 5, "traces": 1 })).ok();
    assert_eq!(
        (fits["tts"].get("max_tokens"), &fits["tts"]["cut"]),
        (None, &Value::Null)
    );
    // what the context leaves, where the server has no limit of its own
    let settings = tts::Settings {
        max_tokens: None,
        ..few()
    };
    let open = Running::with(settings, |_| ());
    let long = "1 ".repeat(2000);
    let reply = open
        .chat(json!({ "messages": [{ "role": "user", "content": long }], "max_tokens": 32_000, "traces": 1, "ignore_eos": true, "loop_stop": false }))
        .ok();
    let (prompt, generated) = (
        &reply["usage"]["prompt_tokens"],
        &reply["usage"]["completion_tokens"],
    );
    assert_eq!(prompt.as_u64().unwrap() + generated.as_u64().unwrap(), 4096);
    assert_eq!(
        (&reply["tts"]["max_tokens"], &reply["tts"]["cut"]),
        (generated, &json!("max_tokens"))
    );
}

#[test]
fn keys_of_messages_that_change_the_meaning_are_refused_by_name() {
    let server = Running::start();
    let calls =
        json!([{ "id": "call_1", "type": "function", "function": { "name": "f", "arguments": "{}" } }]);
    for (turns, param, words) in [
        (
            json!([{ "role": "assistant", "content": null, "tool_calls": calls }, { "role": "tool", "tool_call_id": "call_1", "content": "4" }]),
            "messages[1].tool_calls",
            "calls of tools are not part of a prompt here",
        ),
        (
            json!([{ "role": "assistant", "content": "", "function_call": { "name": "f", "arguments": "" } }]),
            "messages[1].function_call",
            "calls of functions",
        ),
        (
            json!([{ "role": "assistant", "content": null, "refusal": "I cannot." }]),
            "messages[1].refusal",
            "send it as `content`",
        ),
        (
            json!([{ "role": "assistant", "content": null, "audio": { "id": "a" } }]),
            "messages[1].audio",
            "text alone",
        ),
        (
            json!([{ "role": "user", "content": "a", "contents": "b" }]),
            "messages[1].contents",
            "did you mean `content`?",
        ),
        (
            json!([{ "role": "assistant", "content": "a", "tool_cals": calls }]),
            "messages[1].tool_cals",
            "did you mean `tool_calls`?",
        ),
        (
            json!([{ "role": "user", "content": "a", "reasoning_content": "b" }]),
            "messages[1].reasoning_content",
            "only an assistant thinks",
        ),
        (
            json!([{ "role": "assistant", "content": "a", "reasoning_content": ["b"] }]),
            "messages[1].reasoning_content",
            "must be a string",
        ),
        (
            json!([{ "role": "user", "content": [{ "type": "text", "text": "a", "txet": "b" }] }]),
            "messages[1].content[0].txet",
            "did you mean `text`?",
        ),
        (
            json!([{ "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "input_text", "text": "b" }] }]),
            "messages",
            "messages[1].content[1] is of type `input_text`",
        ),
        (
            json!([{ "role": "user", "content": ["a"] }]),
            "messages",
            "messages[1].content[0] must be an object; a string was given",
        ),
        (
            json!([{ "role": "user", "content": [{ "text": "a" }] }]),
            "messages",
            "messages[1].content[0] has no `type`",
        ),
        (
            json!([{ "role": "user", "content": [{ "type": "text" }] }]),
            "messages",
            "messages[1].content[0] is of type `text` and has no `text`",
        ),
    ] {
        let (message, named) = server.chat(after(turns.clone())).refusal(400);
        assert!(
            named == param && message.contains(words),
            "{turns}: {message} ({named})"
        );
    }
    assert_eq!(server.metric("tts_problems_total"), 0.0);
}

#[test]
fn keys_of_messages_that_say_nothing_pass() {
    let server = Running::start();
    let conversation = |more: Value| {
        let mut assistant = json!({ "role": "assistant", "content": "20, I think." });
        assistant
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let turns = json!([assistant, { "role": "user", "content": PROBLEM }]);
        server.chat(after(turns)).ok()["tts"]["digest"].clone()
    };
    let plain = conversation(json!({}));
    for more in [
        json!({ "tool_calls": null, "function_call": null, "refusal": null, "audio": null, "annotations": [] }),
        json!({ "tool_calls": [], "refusal": "", "reasoning_content": "", "unknown": null }),
        json!({ "id": "m1", "name": "bot", "cache_control": { "type": "ephemeral" }, "opts": {} }),
        // the bundled model's template shows no thinking of earlier turns
        json!({ "reasoning_content": "hm" }),
        json!({ "reasoning": "hm" }),
        json!({ "content": [{ "type": "text", "text": "20, I think.", "cache_control": { "type": "ephemeral" } }] }),
    ] {
        assert_eq!(conversation(more.clone()), plain, "{more}");
    }
}

/// The bundled model behind another template.
fn with_template(template: &str) -> Running {
    let options = LoadOptions {
        chat_template: Some((template.to_owned(), "the test's".to_owned())),
        ..LoadOptions::default()
    };
    let loaded = Loaded::open(&options, &mut |_| ()).unwrap();
    Running::of(loaded, few(), |_| ())
}

#[test]
fn thinking_of_earlier_turns_is_for_the_template() {
    let turns = |more: Value| {
        let mut turn = json!({ "role": "assistant", "content": "2" });
        turn.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let mut fields = after(json!([turn, { "role": "user", "content": "3" }]));
        fields["max_tokens"] = json!(1);
        fields
    };
    let each = "{% for m in messages %}{{ m.role }}:{% if m.reasoning_content %}[{{ m.reasoning_content }}]{% endif %}{{ m.content }};{% endfor %}";
    let tokens = |server: &Running, more: Value| {
        let usage = server.chat(turns(more)).ok()["usage"].clone();
        usage["prompt_tokens"].as_u64().unwrap()
    };
    let shows = with_template(each);
    let without = tokens(&shows, json!({}));
    assert!(tokens(&shows, json!({ "reasoning_content": "1 + 1" })) > without);
    assert!(tokens(&shows, json!({ "reasoning": "1 + 1" })) > without);
    assert_eq!(tokens(&shows, json!({ "reasoning_content": null })), without);
    let hides = with_template("{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}");
    assert_eq!(
        tokens(&hides, json!({ "reasoning_content": "1 + 1" })),
        tokens(&hides, json!({}))
    );
}

#[test]
fn a_last_turn_that_the_template_does_not_write_is_refused() {
    let server = with_template("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}");
    let (message, param) = server
        .chat(after(json!([{ "role": "assistant", "content": "2" }])))
        .refusal(400);
    assert!(
        message.starts_with("the last message is from the assistant"),
        "{message}"
    );
    assert_eq!(param, "messages");
    // white space at its end and words that stand elsewhere too are no matter
    let server = with_template("{% for m in messages %}<{{ m.content | trim }}>end{% endfor %}");
    let ask = |content: &str| {
        let mut fields = after(json!([{ "role": "assistant", "content": content }]));
        (fields["max_tokens"], fields["traces"]) = (json!(1), json!(1));
        server.chat(fields).ok()["usage"]["prompt_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(ask("end "), ask("end") + 1);
}

#[test]
fn unknown_fields_are_ignored_where_the_server_is_told_so() {
    let server = Running::with(few(), |o| o.unknown_fields = UnknownFields::Ignore);
    let plain = server.chat(json!({})).ok()["tts"]["digest"].clone();
    let fields = json!({
        "verbosity": "low", "extra_body": { "a": 1 }, "skip_special_tokens": true,
        "messages": [{ "role": "user", "content": PROBLEM, "mood": "good" }],
    });
    assert_eq!(server.chat(fields).ok()["tts"]["digest"], plain);
    // what would change the answer is no less refused
    for (fields, param) in [
        (json!({ "tools": [{ "type": "function" }] }), "tools"),
        (
            json!({ "response_format": { "type": "grammar" } }),
            "response_format",
        ),
        (json!({ "temperature": "hot" }), "temperature"),
        (
            after(json!([{ "role": "assistant", "content": "", "tool_calls": [{}] }])),
            "messages[1].tool_calls",
        ),
    ] {
        assert_eq!(server.chat(fields).refusal(400).1, param);
    }
}

#[test]
fn a_last_turn_of_the_assistant_is_gone_on_with() {
    let server = Running::start();
    let turn = |content: &str| after(json!([{ "role": "assistant", "content": content }]));
    let begun = "<think>\n1:3\n2:15+7=";
    let mut fields = turn(begun);
    fields["traces"] = json!(1);
    let reply = server.chat(fields.clone()).ok();
    let message = &reply["choices"][0]["message"];
    let thought = message["reasoning_content"].as_str().unwrap();
    assert!(
        thought.starts_with("22\n3:"),
        "it goes on in the middle of a line: {thought}"
    );
    assert!(
        message["content"]
            .as_str()
            .unwrap()
            .starts_with("The answer is \\boxed{"),
        "{message}"
    );
    // the prompt is the template's, cut where the message ends
    let raw = format!("<|im_start|>user\n{PROBLEM}<|im_end|>\n<|im_start|>assistant\n{begun}");
    let text = server
        .post("/v1/completions", &json!({ "prompt": raw, "traces": 1 }))
        .ok();
    assert_eq!(reply["usage"]["prompt_tokens"], text["usage"]["prompt_tokens"]);
    let said = turn("The answer is \\boxed{2");
    let reply = server.chat(said).ok();
    assert!(
        reply["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .contains('}'),
        "{reply}"
    );
    // one that has said nothing is one whose turn begins
    assert_eq!(
        server.chat(turn(" ")).ok()["tts"]["digest"],
        server.chat(json!({})).ok()["tts"]["digest"]
    );
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let server = Running::start();
    for (body, key) in [
        (
            r#"{"messages": [{"role": "user", "content": "1"}], "messages": []}"#,
            "messages",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "1", "content": "2"}]}"#,
            "content",
        ),
        (r#"{"prompt": "1", "seed": 1, "seed": 1}"#, "seed"),
    ] {
        let mut stream = server.connect();
        send(&mut stream, "/v1/chat/completions", &[], body.as_bytes());
        let (message, param) = Reply::read(stream).refusal(400);
        assert!(
            message.starts_with(&format!("the key `{key}` stands twice in one object")),
            "{message}"
        );
        assert_eq!(param, key);
    }
}
