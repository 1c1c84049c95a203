//! Requests that run together, join, wait, and are given up.

use std::io::Read;
use std::net::Shutdown;
use std::thread;

use serde_json::{Value, json};

use super::{Reply, Running, endless, few, hang_up, read_until};

#[test]
fn an_answer_does_not_depend_on_who_else_asks() {
    let server = Running::start();
    let alone: Vec<Value> = (0..6)
        .map(|seed| server.chat(json!({ "seed": seed, "traces": 3 })).ok())
        .collect();
    let digest = |reply: &Value| reply["tts"]["digest"].clone();
    thread::scope(|scope| {
        let together: Vec<_> = (0..6)
            .map(|seed| {
                let server = &server;
                scope.spawn(move || server.chat(json!({ "seed": seed, "traces": 3 })).ok())
            })
            .collect();
        for (together, alone) in together.into_iter().zip(&alone) {
            assert_eq!(digest(&together.join().unwrap()), digest(alone));
        }
    });
}

#[test]
fn what_has_no_seed_gets_a_fresh_one_and_says_which() {
    let server = Running::with(few(), |o| o.seed = None);
    let mut seeds = std::collections::BTreeSet::new();
    let mut texts = std::collections::BTreeSet::new();
    for fields in [
        json!({ "temperature": 3 }),
        json!({ "temperature": 3 }),
        json!({ "temperature": 3, "seed": null }),
        json!({ "temperature": 3, "stream": true }),
    ] {
        let reply = server.chat(fields.clone());
        let reply = match fields["stream"] == true {
            true => reply.events().pop().unwrap(),
            false => reply.ok(),
        };
        let seed = reply["tts"]["seed"].as_u64().unwrap();
        let again = server.chat(json!({ "seed": seed, "temperature": 3 })).ok();
        assert_eq!(
            again["tts"]["digest"], reply["tts"]["digest"],
            "the seed is what it was drawn with: {fields}"
        );
        seeds.insert(seed);
        texts.insert(again["choices"][0]["message"].to_string());
    }
    assert!(seeds.len() == 4 && texts.len() > 1, "{seeds:?} {texts:?}");
    let prompt = json!({ "prompt": "2 + 2 = ", "max_tokens": 4, "traces": 1 });
    let raw = || server.post("/v1/completions", &prompt).ok()["tts"]["seed"].clone();
    assert_ne!(raw(), raw());
    // but what is asked again under one name is answered once
    let named = [("idempotency-key", "order-68")];
    let ask = || {
        server
            .post_with("/v1/chat/completions", &named, &super::chat(json!({})))
            .ok()
    };
    assert_eq!(ask(), ask());
}

#[test]
fn a_client_that_hangs_up_frees_its_traces() {
    let server = Running::with(few(), |o| o.limits.requests = 1);
    let mut streaming = server.begin(endless(), &[]);
    read_until(&mut streaming, "traces ended");
    let (message, _) = server.chat(json!({})).refusal(429);
    assert!(message.starts_with("1 requests run or wait"), "{message}");
    hang_up(&streaming);
    server.until("tts_requests_running", 0.0);
    assert_eq!(server.chat(json!({})).status, 200);

    // one that waits for the whole reply, and one that closes only its own half
    let whole = json!({ "traces": 512, "ignore_eos": true, "loop_stop": false });
    for how in [Shutdown::Both, Shutdown::Write] {
        let waiting = server.begin(whole.clone(), &[]);
        server.until("tts_requests_running", 1.0);
        waiting.shutdown(how).unwrap();
        server.until("tts_requests_running", 0.0);
    }
    // tokens that were spent for nobody are counted all the same
    assert!(server.metric("tts_traces_total") >= 4.0 + 8.0);
    assert!(server.metric("tts_tokens_total") > 0.0);
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let server = Running::with(few(), |o| o.limits.requests = 2);
    let mut first = server.begin(endless(), &[]);
    read_until(&mut first, "traces ended");
    // a second one has no place in the batch, perhaps, but one in the queue
    let second = server.begin(endless(), &[]);
    server.until("tts_requests_running", 2.0);
    let refused = server.chat(json!({}));
    refused.refusal(429);
    assert!((1..=60).contains(&refused.header("retry-after").unwrap().parse::<u64>().unwrap()));
    hang_up(&first);
    server.until("tts_requests_running", 1.0);
    let (message, _) = server.chat(json!({ "n": 2 })).refusal(429);
    assert!(
        message.contains("run or wait"),
        "two choices take two places: {message}"
    );
    hang_up(&second);
    server.until("tts_requests_running", 0.0);
    assert_eq!(server.chat(json!({ "n": 2 })).status, 200);
}

#[test]
fn one_name_is_one_request() {
    let server = Running::start();
    let named = [("idempotency-key", "order-66")];
    // long enough for the others to come while it runs
    let fields = json!({
        "traces": 512, "slots": 8, "ignore_eos": true, "loop_stop": false, "max_total_tokens": 30_000
    });
    let mut streamed = fields.clone();
    streamed["stream"] = json!(true);
    let mut first = server.begin(streamed.clone(), &named);
    let mut seen = read_until(&mut first, "traces at most");
    let second = server.begin(fields.clone(), &named);
    let third = server.begin(streamed, &named);
    let other = server.post_with("/v1/chat/completions", &named, &super::chat(json!({ "seed": 9 })));
    other.refusal(422);
    assert_eq!(other.json()["error"]["code"], "idempotency_key_reused");
    // whoever leaves, the others go on
    hang_up(&third);
    first.read_to_end(&mut seen).unwrap();
    let events = Reply::parse(&seen).events();
    let joined = Reply::read(second).ok();
    assert_eq!(joined["id"], events[0]["id"]);
    assert_eq!(joined["tts"]["digest"], events.last().unwrap()["tts"]["digest"]);
    assert_eq!(server.metric("tts_problems_total"), 1.0);
    // it is over, and the reply is kept for who lost it
    let ask = |fields: &Value| server.post_with("/v1/chat/completions", &named, &super::chat(fields.clone()));
    assert_eq!(ask(&fields).ok(), joined);
    let mut streamed = fields;
    streamed["stream"] = json!(true);
    let again = ask(&streamed).events();
    assert_eq!(again[0]["id"], joined["id"]);
    let [.., content, last] = &again[..] else {
        panic!("{again:?}")
    };
    assert_eq!(
        content["choices"][0]["delta"]["content"],
        joined["choices"][0]["message"]["content"]
    );
    assert_eq!(last["tts"], joined["tts"]);
    assert_eq!(server.metric("tts_problems_total"), 1.0, "it ran once");
    ask(&json!({ "seed": 9 })).refusal(422);
    let text = server.post_with("/v1/completions", &named, &json!({ "prompt": "1" }));
    text.refusal(422);
    server
        .post_with(
            "/v1/chat/completions",
            &[("idempotency-key", "")],
            &super::chat(json!({})),
        )
        .refusal(400);
}

#[test]
fn a_reply_that_failed_or_was_given_up_is_not_kept() {
    let server = Running::with(few(), |o| o.limits.requests = 1);
    let named = [("idempotency-key", "order-67")];
    let mut first = server.begin(endless(), &named);
    read_until(&mut first, "traces ended");
    hang_up(&first);
    server.until("tts_requests_running", 0.0);
    // the name is free: another question may have it
    let ask = |fields: Value| server.post_with("/v1/chat/completions", &named, &super::chat(fields));
    let (message, _) = ask(json!({ "traces": 0 })).refusal(400);
    assert!(message.contains("traces"), "{message}");
    let answered = ask(json!({ "seed": 9 })).ok();
    assert_eq!(ask(json!({ "seed": 9 })).ok(), answered);
    let other = [
        ("idempotency-key", "order-67"),
        ("authorization", "Bearer somebody-else"),
    ];
    let theirs = server
        .post_with("/v1/chat/completions", &other, &super::chat(json!({ "seed": 9 })))
        .ok();
    assert_ne!(theirs["id"], answered["id"], "a name is a client's own");
}

#[test]
fn a_reader_that_is_late_loses_progress_and_not_the_answer() {
    let server = Running::start();
    let fields = json!({
        "traces": 512, "slots": 64, "ignore_eos": true, "loop_stop": false, "max_total_tokens": 20_000,
        "stream": true, "progress": "traces",
    });
    let late = server.begin(fields, &[]);
    server.until("tts_problems_total", 1.0);
    let events = Reply::read(late).events();
    let last = events.last().unwrap();
    assert_eq!(last["tts"]["cut"], "max_total_tokens");
    let launched = last["tts"]["traces"]["launched"].as_u64().unwrap() as usize;
    assert_eq!(last["tts_traces"][0].as_array().unwrap().len(), launched);
}
