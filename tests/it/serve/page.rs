//! The live page agrees with the server that it is served by. (`tests/live_page.py` uses it in a browser.)

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Running;

/// The parts of a text between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    text.split(from)
        .skip(1)
        .filter_map(|rest| rest.split(to).next())
        .collect()
}

#[test]
fn the_page_needs_nothing_but_this_server() {
    let server = Running::start();
    let reply = server.get("/");
    assert_eq!(reply.status, 200);
    let page = reply.text();
    assert!(
        page.starts_with("<!doctype html>") && !page.contains("/*style*/") && !page.contains("/*script*/")
    );
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside} leads out of the page");
    }
    let policy = reply.header("content-security-policy").unwrap();
    let hashes = between(policy, "'sha256-", "'");
    assert_eq!(hashes.len(), 2, "{policy}");
    assert!(
        policy.starts_with("default-src 'none'")
            && policy.contains("frame-ancestors 'none'")
            && !policy.contains("unsafe")
    );
    // what is looked up by id is there
    for id in between(&page, "$(\"", "\")") {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    for path in between(&page, "fetch(\"", "\"")
        .into_iter()
        .collect::<BTreeSet<_>>()
    {
        let status = server.get(path).status;
        assert!(matches!(status, 200 | 405), "{path}: {status}");
    }
}

#[test]
fn the_page_knows_what_the_stream_says() {
    let server = Running::start();
    let page = server.get("/").text();
    let known: BTreeSet<&str> = between(&page, "case \"", "\"").into_iter().collect();
    let fields = json!({
        "strategy": "deepconf-low", "traces": 512, "slots": 8, "warmup": 8, "window": 16, "consensus": "off",
        "max_total_tokens": 12_000,
        "ignore_eos": false, "stream": true, "progress": "traces",
    });
    let events = server.chat(fields).events();
    let said: BTreeSet<&str> = events.iter().filter_map(|e| e["tts"]["event"].as_str()).collect();
    assert!(said.is_subset(&known), "{said:?} and {known:?}");
    // what the page reads of each kind is there
    let one = |kind: &str| {
        &events
            .iter()
            .find(|e| e["tts"]["event"] == kind)
            .unwrap_or_else(|| panic!("{kind}: {said:?}"))["tts"]
    };
    let has = |object: &Value, fields: &[&str]| {
        for field in fields {
            assert!(object.get(field).is_some(), "{field}: {object}");
        }
    };
    has(one("started"), &["budget", "slots", "strategy"]);
    has(one("progress"), &["threshold", "generated", "leading", "live"]);
    has(one("traces"), &["window", "traces", "ballots"]);
    has(&one("traces")["traces"][0], &["trace", "warmup", "points"]);
    has(one("ended"), &["trace", "finish", "tokens", "answer"]);
    let last = events.last().unwrap();
    has(
        &last["tts"],
        &[
            "threshold",
            "window",
            "ballots",
            "tokens",
            "pool",
            "answer",
            "winner",
            "strategy",
            "seconds",
        ],
    );
    has(&last["tts"]["ballots"][0], &["answer", "weight", "traces"]);
    has(
        &last["tts_traces"][0][0],
        &["trace", "finish", "tokens", "answer"],
    );
    let fates: BTreeSet<&str> = last["tts_traces"][0]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["finish"].as_str().unwrap())
        .collect();
    for finish in fates.iter().filter(|f| **f != "stop") {
        assert!(
            page.contains(&format!("{finish}: \"")),
            "the page has a colour for {finish}"
        );
    }
    for strategy in tts::strategies::names() {
        assert!(
            server
                .get("/v1/models")
                .text()
                .contains(&format!("@{strategy}\""))
        );
    }
}
