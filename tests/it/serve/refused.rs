//! Requests that cannot be answered: what is wrong, and where.

use std::io::Write;

use serde_json::json;

use super::{Reply, Running, chat, send};

#[test]
fn a_wrong_field_is_named() {
    let server = Running::start();
    let cases = [
        (json!({ "messages": null }), "messages"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": "hello" }), "messages"),
        (json!({ "messages": [1] }), "messages"),
        (json!({ "messages": [{ "content": "x" }] }), "messages"),
        (
            json!({ "messages": [{ "role": "root", "content": "x" }] }),
            "messages",
        ),
        (json!({ "messages": [{ "role": "user" }] }), "messages"),
        (
            json!({ "messages": [{ "role": "user", "content": 5 }] }),
            "messages",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": "  " }] }),
            "messages",
        ),
        (
            json!({ "messages": [
                { "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }
            ] }),
            "messages",
        ),
        (json!({ "temperature": "hot" }), "temperature"),
        (json!({ "n": 0 }), "n"),
        (json!({ "n": 17 }), "n"),
        (json!({ "n": 1.5 }), "n"),
        (json!({ "n": -1 }), "n"),
        (json!({ "traces": 0 }), "traces"),
        (json!({ "traces": 100_000 }), "traces"),
        (json!({ "traces": 18_446_744_073_709_551_615u64 }), "traces"),
        (json!({ "slots": 0 }), "slots"),
        (json!({ "strategy": "majorty" }), "strategy"),
        (json!({ "strategy": "exec:touch /tmp/tts-was-here" }), "strategy"),
        (json!({ "strategy": "../../etc/passwd" }), "strategy"),
        (json!({ "strategy": 5 }), "strategy"),
        (json!({ "window": "wide" }), "window"),
        (json!({ "consensus": [] }), "consensus"),
        (json!({ "vote": "mine" }), "vote"),
        (json!({ "max_tokens": 0 }), "max_tokens"),
        (json!({ "max_completion_tokens": -5 }), "max_completion_tokens"),
        (json!({ "max_total_tokens": 0 }), "max_total_tokens"),
        (json!({ "time_limit": 0 }), "time_limit"),
        (json!({ "time_limit": -1 }), "time_limit"),
        (json!({ "time_limit": 1e300 }), "time_limit"),
        (json!({ "time_limit": "2h" }), "time_limit"),
        (json!({ "seed": 1.5 }), "seed"),
        (json!({ "stop": 5 }), "stop"),
        (json!({ "stop": "" }), "stop"),
        (json!({ "stop": ["a".repeat(1000)] }), "stop"),
        (
            json!({ "stop": (0..17).map(|i| i.to_string()).collect::<Vec<_>>() }),
            "stop",
        ),
        (json!({ "stream": "yes" }), "stream"),
        (
            json!({ "stream_options": { "include_usage": true } }),
            "stream_options",
        ),
        (
            json!({ "stream": true, "stream_options": { "include_usage": 1 } }),
            "stream_options",
        ),
        (json!({ "progress": "loud" }), "progress"),
        (json!({ "logprobs": 5 }), "logprobs"),
        (json!({ "top_logprobs": 5 }), "top_logprobs"),
        (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs"),
        (json!({ "logit_bias": { "5": 1 } }), "logit_bias"),
        (json!({ "logit_bias": { "134": -100 } }), "logit_bias"),
        (json!({ "logit_bias": { "x": -100 } }), "logit_bias"),
        (json!({ "logit_bias": { "5": -100, "05": -100 } }), "logit_bias"),
        (json!({ "logit_bias": { "+5": -100 } }), "logit_bias"),
        (
            json!({ "model": "bundled@majority", "strategy": "esc" }),
            "strategy",
        ),
        (json!({ "model": "bundled@majority-1", "traces": 3 }), "traces"),
        (
            json!({ "chat_template_kwargs": { "add_generation_prompt": false } }),
            "chat_template_kwargs",
        ),
        (
            json!({ "chat_template_kwargs": { "messages": "x" } }),
            "chat_template_kwargs",
        ),
        (json!({ "min_tokens": 5 }), "min_tokens"),
        (json!({ "stop_token_ids": [5] }), "stop_token_ids"),
        (json!({ "use_beam_search": true }), "use_beam_search"),
        (json!({ "user": 5 }), "user"),
        (json!({ "metadata": "x" }), "metadata"),
        (json!({ "store": "yes" }), "store"),
        (json!({ "service_tier": 7 }), "service_tier"),
        (json!({ "tools": [{ "type": "function" }] }), "tools"),
        (
            json!({ "response_format": { "type": "json_schema" } }),
            "response_format",
        ),
        (
            json!({ "chat_template_kwargs": { "a": [] } }),
            "chat_template_kwargs",
        ),
        (json!({ "tracse": 5 }), "tracse"),
        (json!({ "model": 5 }), "model"),
    ];
    for (fields, param) in cases {
        let (message, named) = server.chat(fields.clone()).refusal(400);
        assert_eq!(named, param, "{fields}: {message}");
        assert!(
            message.contains(param) || message.len() > 20,
            "{fields}: {message}"
        );
    }
    for (fields, param) in [
        (json!({ "temperature": -1 }), json!("temperature")),
        (json!({ "temperature": 1e300 }), json!("temperature")),
        (json!({ "top_p": 0 }), json!("top_p")),
        (json!({ "top_p": 2 }), json!("top_p")),
        (json!({ "min_p": 2 }), json!("min_p")),
        (json!({ "frequency_penalty": 1000 }), json!("frequency_penalty")),
        (json!({ "repetition_penalty": 0 }), json!("repetition_penalty")),
        (json!({ "strategy": "majority", "warmup": 5 }), json!(null)),
        (json!({ "strategy": "deepconf-low", "keep_top": 7 }), json!(null)),
    ] {
        assert_eq!(server.chat(fields.clone()).refusal(400).1, param, "{fields}");
    }
    let (message, _) = server.chat(json!({ "tracse": 5 })).refusal(400);
    assert_eq!(
        message,
        "there is no field `tracse` in this request; did you mean `traces`?"
    );
    for model in [
        "gpt-4o",
        "bundled@",
        "bundled@exec:sh",
        "bundled@majority-513",
        "/etc/passwd",
        "../bundled",
        "",
    ] {
        let (message, _) = server.chat(json!({ "model": model })).refusal(404);
        assert!(!message.contains("No such file"), "{message}");
    }
    assert!(!std::path::Path::new("/tmp/tts-was-here").exists());
    assert_eq!(
        server.metric("tts_problems_total"),
        0.0,
        "a refused request costs nothing"
    );
}

#[test]
fn completions_have_their_own_mistakes() {
    let server = Running::start();
    for (body, param) in [
        (json!({}), json!("prompt")),
        (json!({ "prompt": "" }), json!("prompt")),
        (json!({ "prompt": [] }), json!("prompt")),
        (json!({ "prompt": [[]] }), json!("prompt")),
        (json!({ "prompt": [1, 134] }), json!("prompt")),
        (json!({ "prompt": [1, -1] }), json!("prompt")),
        (json!({ "prompt": [1, "a"] }), json!("prompt")),
        (json!({ "prompt": {} }), json!("prompt")),
        (json!({ "prompt": vec!["a"; 17] }), json!("prompt")),
        (json!({ "prompt": ["a", "b"], "n": 9 }), json!("n")),
        (json!({ "prompt": "a", "messages": [] }), json!("messages")),
        (json!({ "prompt": "a", "best_of": 5 }), json!("best_of")),
        (json!({ "prompt": "a", "suffix": "b" }), json!("suffix")),
        (json!({ "prompt": "a", "logprobs": 21 }), json!("logprobs")),
        (json!({ "prompt": "a", "max_tokens": 0 }), json!("max_tokens")),
        (
            json!({ "prompt": "a", "max_tokens": 0, "logprobs": 1 }),
            json!("max_tokens"),
        ),
        (json!({ "prompt": "a ".repeat(5000) }), json!("prompt")),
    ] {
        let (message, named) = server.post("/v1/completions", &body).refusal(400);
        assert_eq!(named, param, "{message}");
    }
}

#[test]
fn a_body_that_is_no_request() {
    let server = Running::start();
    let deep = "[".repeat(100_000);
    let nested = format!("{{\"messages\":{}{}}}", "[".repeat(120), "]".repeat(120));
    for body in [
        "",
        "{",
        "null",
        "[]",
        "5",
        "\"text\"",
        "{\"messages\": [}",
        "{\"temperature\": 1e999}",
        "{\"traces\": 99999999999999999999999999}",
        "{\"a\": \"\\ud800\"}",
        "{}{}",
        "model=bundled&prompt=a",
        &deep,
        &nested,
    ] {
        let mut stream = server.connect();
        send(&mut stream, "/v1/chat/completions", &[], body.as_bytes());
        Reply::read(stream).refusal(400);
    }
    for bytes in [&b"\xff\xfe"[..], b"{\"model\": \"\xc3\x28\"}", b"\0\0\0\0"] {
        let mut stream = server.connect();
        send(&mut stream, "/v1/chat/completions", &[], bytes);
        Reply::read(stream).refusal(400);
    }
    server.get("/v1/chat/completions").refusal(405);
    server.post("/v1/models", &json!({})).refusal(405);
    for path in [
        "/v1",
        "/v2/models",
        "/../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/index.html",
        "//",
        "/v1/embeddings",
    ] {
        let (message, _) = server.get(path).refusal(404);
        assert!(!message.contains("passwd"), "{message}");
    }
}

#[test]
fn a_body_may_not_be_large() {
    let server = Running::with(super::few(), |o| o.limits.body = 100_000);
    let long = chat(json!({ "user": "x".repeat(200_000) })).to_string();
    let mut stream = server.connect();
    send(
        &mut stream,
        "/v1/chat/completions",
        &[],
        &long.as_bytes()[..50_000],
    );
    drop(stream);
    let mut declared = server.connect();
    write!(
        declared,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: \
         5000000000\r\n\r\n"
    )
    .unwrap();
    Reply::read(declared).refusal(413);
    // without a length it is read as far as the limit
    let mut chunked = server.connect();
    write!(
        chunked,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: \
         chunked\r\n\r\n"
    )
    .unwrap();
    for part in long.as_bytes().chunks(50_000) {
        // the server may close before all is written
        if write!(chunked, "{:x}\r\n", part.len()).is_err()
            || chunked.write_all(part).is_err()
            || chunked.write_all(b"\r\n").is_err()
        {
            break;
        }
    }
    let mut answered = Vec::new();
    let _ = std::io::Read::read_to_end(&mut chunked, &mut answered);
    // what it had still to say is lost where the socket is closed on it
    if !answered.is_empty() {
        Reply::parse(&answered).refusal(413);
    }
    let fits = server.chat(json!({ "user": "x".repeat(90_000) }));
    assert_eq!(fits.status, 200);
    let prompt = server.chat(json!({ "messages": [{ "role": "user", "content": "1 ".repeat(8000) }] }));
    let (message, _) = prompt.refusal(400);
    assert!(message.contains("context is 4096"), "{message}");
    assert_eq!(prompt.json()["error"]["code"], "context_length_exceeded");
    let small = Running::with(super::few(), |o| o.limits.prompt = 10);
    let (message, _) = small.chat(json!({})).refusal(400);
    assert!(message.contains("at most 10"), "{message}");
}
