//! Replies, field by field.

use serde_json::{Map, Value, json};
use tts::{LoadOptions, Loaded, Solver};
use tts_model::overrides::{SAMPLING_SETTINGS, SamplingSetting};

use super::{PROBLEM, Running, few};

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

const USAGE: [&str; 5] = [
    "completion_tokens",
    "completion_tokens_details",
    "prompt_tokens",
    "prompt_tokens_details",
    "total_tokens",
];

#[test]
fn a_chat_is_what_solve_would_have_answered() {
    let server = Running::start();
    let reply = server
        .chat(json!({ "strategy": "deepconf-low", "traces": 20, "seed": 7 }))
        .ok();
    assert_eq!(
        keys(&reply),
        [
            "choices",
            "created",
            "id",
            "model",
            "object",
            "system_fingerprint",
            "tts",
            "usage"
        ]
    );
    assert_eq!(
        (&reply["object"], &reply["model"]),
        (&json!("chat.completion"), &json!("bundled"))
    );
    assert!(
        reply["id"].as_str().unwrap().starts_with("chatcmpl-")
            && reply["created"].as_u64().unwrap() > 1_600_000_000
    );
    let choice = &reply["choices"][0];
    assert_eq!(keys(choice), ["finish_reason", "index", "logprobs", "message"]);
    assert_eq!(
        (&choice["index"], &choice["finish_reason"], &choice["logprobs"]),
        (&json!(0), &json!("stop"), &Value::Null)
    );
    assert_eq!(
        (&choice["message"]["role"], &choice["message"]["refusal"]),
        (&json!("assistant"), &Value::Null)
    );
    assert_eq!(keys(&reply["usage"]), USAGE);

    let settings = tts::Settings {
        strategy: tts::strategies::Preset::named("deepconf-low").unwrap(),
        traces: 20,
        seed: 7,
        ..few()
    };
    let runner = Solver::local(
        Loaded::open(&LoadOptions::default(), &mut |_| ()).unwrap(),
        settings,
    )
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let solved = runtime.block_on(runner.solve_text(PROBLEM)).unwrap();
    let expected = solved.to_json();
    let tts = &reply["tts"];
    for field in [
        "problem_id",
        "answer",
        "votes",
        "ballots",
        "pool",
        "threshold",
        "window",
        "consensus",
        "traces",
        "tokens",
        "digest",
        "solution_trace",
        "strategy",
        "seed",
        "ticks",
    ] {
        assert_eq!(tts[field], expected[field], "{field}");
    }
    assert_eq!(tts["answer"], "20");
    assert_eq!(choice["message"]["content"], expected["solution"]);
    let winner = solved
        .records
        .iter()
        .find(|r| Some(r.trace) == solved.solution_trace)
        .unwrap();
    assert_eq!(tts["winner"]["tokens"], winner.tokens);
    assert_eq!(tts["winner"]["confidence"]["mean"], json!(winner.scores.mean));
    let thought = winner.text.as_deref().unwrap();
    assert_eq!(
        choice["message"]["reasoning_content"].as_str(),
        thought
            .rsplit_once("</think>")
            .map(|t| t.0.trim().trim_start_matches("<think>").trim()),
    );
    let usage = &reply["usage"];
    assert_eq!(
        usage["completion_tokens"], expected["tokens"]["generated"],
        "every trace's tokens"
    );
    assert_eq!(usage["prompt_tokens"], expected["tokens"]["prompt"]);
    let shown = usage["completion_tokens"].as_u64().unwrap()
        - usage["completion_tokens_details"]["reasoning_tokens"]
            .as_u64()
            .unwrap();
    assert!(shown > 0 && shown < winner.tokens as u64, "{usage}");
}

#[test]
fn several_choices_are_runs_of_their_own() {
    let server = Running::start();
    let reply = server.chat(json!({ "n": 3, "seed": 5, "temperature": 1.5 })).ok();
    let choices = reply["choices"].as_array().unwrap();
    assert_eq!(
        choices
            .iter()
            .map(|c| c["index"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [0, 1, 2]
    );
    let each = reply["tts"]["choices"].as_array().unwrap();
    let digests: std::collections::BTreeSet<_> = each.iter().map(|t| t["digest"].as_str().unwrap()).collect();
    assert_eq!(digests.len(), 3);
    assert_eq!((&each[0]["seed"], &reply["tts"]["seed"]), (&json!(5), &json!(5)));
    let next = server.chat(json!({ "n": 3, "seed": 6, "temperature": 1.5 })).ok();
    let theirs = next["tts"]["choices"].as_array().unwrap();
    assert!(
        theirs
            .iter()
            .all(|t| !digests.contains(t["digest"].as_str().unwrap()))
    );
    let alone = server
        .chat(json!({ "seed": each[1]["seed"], "temperature": 1.5 }))
        .ok();
    assert_eq!(
        each[1]["digest"], alone["tts"]["digest"],
        "a choice is what its seed gives alone"
    );
    assert_eq!(choices[1]["message"], alone["choices"][0]["message"]);
    let sum: u64 = each
        .iter()
        .map(|t| t["tokens"]["generated"].as_u64().unwrap())
        .sum();
    assert_eq!(reply["usage"]["completion_tokens"], sum);
    assert_eq!(
        reply["usage"]["prompt_tokens"], alone["usage"]["prompt_tokens"],
        "the prompt is one"
    );
}

#[test]
fn what_the_bundled_model_has_not_learnt_is_said() {
    let server = Running::start();
    let warnings = |fields: Value| server.chat(fields).ok()["tts"]["warnings"].clone();
    assert!(!warnings(json!({})).to_string().contains("learnt"));
    let strange = json!([{ "role": "user", "content": "Who wrote Faust?" }]);
    let said = warnings(json!({ "messages": strange, "max_tokens": 20 }));
    let is_it = |w: &Value| {
        w.as_str()
            .unwrap()
            .starts_with("this problem is outside what the bundled model has learnt")
    };
    // others may stand beside it
    assert!(said.as_array().unwrap().iter().any(is_it), "{said}");
}

#[test]
fn a_completion_goes_on_from_a_raw_prompt() {
    let server = Running::start();
    let prompt = format!("<|im_start|>user\n{PROBLEM}<|im_end|>\n<|im_start|>assistant\n");
    let text = server
        .post(
            "/v1/completions",
            &json!({ "model": "bundled", "prompt": prompt, "seed": 3 }),
        )
        .ok();
    assert_eq!(
        keys(&text),
        [
            "choices",
            "created",
            "id",
            "model",
            "object",
            "system_fingerprint",
            "tts",
            "usage"
        ]
    );
    assert_eq!(text["object"], "text_completion");
    assert_eq!(
        keys(&text["choices"][0]),
        ["finish_reason", "index", "logprobs", "text"]
    );
    assert!(
        text["choices"][0]["text"]
            .as_str()
            .unwrap()
            .contains("\\boxed{20}"),
        "{text}"
    );
    assert_eq!(text["tts"]["answer"], "20");

    let loaded = Loaded::open(&LoadOptions::default(), &mut |_| ()).unwrap();
    let ids = loaded.prompter().unwrap().encode_raw(&prompt).unwrap();
    let of_ids = server
        .post(
            "/v1/completions",
            &json!({ "prompt": [ids, ids], "n": 2, "seed": 3, "echo": true }),
        )
        .ok();
    let choices = of_ids["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4, "two for each prompt");
    let each = of_ids["tts"]["choices"].as_array().unwrap().iter();
    let seeds: std::collections::BTreeSet<_> = each.map(|t| t["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds.len(), 4, "one prompt twice is more choices of it");
    assert_eq!(
        choices[0]["text"],
        format!("{prompt}{}", text["choices"][0]["text"].as_str().unwrap())
    );
    assert_eq!(of_ids["usage"]["prompt_tokens"], 2 * ids.len());
}

#[test]
fn log_probabilities_are_those_of_the_text_that_is_shown() {
    let server = Running::start();
    let reply = server
        .chat(json!({ "logprobs": true, "top_logprobs": 5, "temperature": 0.7 }))
        .ok();
    let choice = &reply["choices"][0];
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    let joined: String = tokens.iter().map(|t| t["token"].as_str().unwrap()).collect();
    assert_eq!(joined.trim(), choice["message"]["content"].as_str().unwrap());
    let mut first = 0;
    for token in tokens {
        assert_eq!(keys(token), ["bytes", "logprob", "token", "top_logprobs"]);
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 5);
        let ps: Vec<f64> = top.iter().map(|t| t["logprob"].as_f64().unwrap()).collect();
        assert!(ps.is_sorted_by(|a, b| a >= b) && ps[0] <= 0.0, "{ps:?}");
        // what was drawn, read again with the whole text: the same distribution, to the last few bits
        if let Some(same) = top.iter().find(|t| t["token"] == token["token"]) {
            let (drawn, read) = (
                token["logprob"].as_f64().unwrap(),
                same["logprob"].as_f64().unwrap(),
            );
            assert!((drawn - read).abs() < 2e-4, "{drawn} and {read}");
            first += usize::from(same == &top[0]);
        }
        let text: Vec<u8> = serde_json::from_value(token["bytes"].clone()).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), token["token"].as_str().unwrap());
    }
    assert!(
        first * 2 > tokens.len(),
        "{first} of {} tokens were the likeliest",
        tokens.len()
    );

    let plain = server.chat(json!({ "logprobs": true, "temperature": 0.7 })).ok();
    let without = &plain["choices"][0]["logprobs"]["content"][0];
    assert_eq!(
        (&without["logprob"], &without["top_logprobs"]),
        (&tokens[0]["logprob"], &json!([]))
    );
    let text = server
        .post(
            "/v1/completions",
            &json!({ "prompt": "7^2 = ", "max_tokens": 12, "logprobs": 2 }),
        )
        .ok();
    let (choice, l) = (&text["choices"][0], &text["choices"][0]["logprobs"]);
    assert_eq!(
        keys(l),
        ["text_offset", "token_logprobs", "tokens", "top_logprobs"]
    );
    let pieces: Vec<&str> = l["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t.as_str().unwrap())
        .collect();
    assert_eq!(pieces.concat(), choice["text"].as_str().unwrap());
    assert!(
        l["top_logprobs"]
            .as_array()
            .unwrap()
            .iter()
            .all(|t| t.as_object().unwrap().len() <= 2)
    );
    assert_eq!(l["text_offset"][1], pieces[0].len());
    assert!(
        choice["finish_reason"] == "stop" || pieces.len() == 12,
        "an entry for each token: {text}"
    );
    assert!((2..=12).contains(&pieces.len()), "{pieces:?}");
    for list in ["text_offset", "token_logprobs", "top_logprobs"] {
        assert_eq!(l[list].as_array().unwrap().len(), pieces.len(), "{list}");
    }
}

#[test]
fn stop_texts_and_limits_end_a_trace() {
    let server = Running::start();
    let full = server.chat(json!({})).ok();
    let content = full["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.contains("boxed"), "{content}");
    let stopped = server.chat(json!({ "stop": ["\\boxed", "\u{1f600}"] })).ok();
    let message = &stopped["choices"][0];
    assert_eq!(message["finish_reason"], "stop");
    assert!(!stopped.to_string().contains("\\\\boxed"), "{stopped}");
    assert!(!message["message"]["content"].as_str().unwrap().is_empty());
    assert!(
        message["message"]["reasoning_content"].is_string(),
        "it is not looked for in the thinking: {message}"
    );
    assert_eq!(
        stopped["tts"]["answer"],
        Value::Null,
        "nobody wrote an answer, and the best trace's text is there all the same"
    );

    let cut = server
        .chat(json!({ "max_completion_tokens": 5, "max_tokens": 9 }))
        .ok();
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    assert_eq!(
        (
            &cut["tts"]["traces"]["truncated"],
            &cut["tts"]["tokens"]["truncated"]
        ),
        (&json!(4), &json!(20))
    );

    let budget = server.chat(json!({ "traces": 64, "max_total_tokens": 900 })).ok();
    assert_eq!(budget["tts"]["cut"], "max_total_tokens");
    let spent = budget["usage"]["completion_tokens"].as_u64().unwrap();
    assert!((900..964).contains(&spent), "{spent}");
    let late = server
        .chat(json!({ "traces": 512, "ignore_eos": true, "loop_stop": false, "time_limit": 0.3 }))
        .ok();
    assert_eq!(late["tts"]["cut"], "time_limit");

    let held = server
        .chat(json!({
            "traces": 1, "logit_bias": { "1": -100, "3": -100 }, "max_tokens": 300, "loop_stop": false
        }))
        .ok();
    assert_eq!(
        held["tts"]["tokens"]["generated"], 300,
        "an end that may not be drawn never comes"
    );
}

#[test]
fn settings_come_by_field_or_by_the_name_of_the_model() {
    let server = Running::start();
    let by_field = server.chat(json!({
        "strategy": "deepconf-high", "traces": 20, "warmup": 6, "window": 16, "slots": 5, "consensus": "off",
        "keep_top": 0.5
    })).ok();
    let tts = &by_field["tts"];
    assert_eq!(
        (&tts["strategy"], &tts["slots"], &tts["window"], &tts["consensus"]),
        (&json!("deepconf-high"), &json!(5), &json!(16), &Value::Null)
    );
    assert_eq!(tts["traces"]["launched"], 20);
    let by_name = server
        .chat(json!({
            "model": "bundled@deepconf-high-20", "warmup": 6, "window": 16, "slots": 5, "consensus": "off",
            "keep_top": 0.5
        }))
        .ok();
    assert_eq!(by_name["tts"]["digest"], tts["digest"]);
    assert_eq!(by_name["model"], "bundled@deepconf-high-20");
    let sampled = server
        .chat(json!({
            "temperature": 0.5, "top_p": 0.9, "top_k": -1, "min_p": 0.01, "presence_penalty": 0.1, "seed": -1
        }))
        .ok();
    let s = &sampled["tts"]["sampling"];
    assert_eq!(
        (
            &s["temperature"],
            &s["top_p"],
            &s["top_k"],
            &s["min_p"],
            &s["presence_penalty"]
        ),
        (&json!(0.5), &json!(0.9), &json!(0), &json!(0.01), &json!(0.1))
    );
    assert_eq!(sampled["tts"]["seed"], u64::MAX);
    every_sampling_setting_is_a_field(&server);
    let null = server
        .chat(json!({
            "temperature": null, "stop": null, "tools": null, "user": "somebody", "metadata": { "a": "b" }
        }))
        .ok();
    assert_eq!(
        null["tts"]["digest"],
        server.chat(json!({})).ok()["tts"]["digest"]
    );
    let parts = json!([{ "role": "user", "content": [
        { "type": "text", "text": &PROBLEM[..10] }, { "type": "text", "text": &PROBLEM[10..] }
    ] }]);
    assert_eq!(
        server.chat(json!({ "messages": parts })).ok()["tts"]["digest"],
        null["tts"]["digest"]
    );
    let greedy = server.chat(json!({ "temperature": 0, "traces": 1 })).ok();
    assert_eq!(greedy["tts"]["traces"]["launched"], 1);
}

#[test]
fn models_health_and_counters() {
    let server = Running::start();
    let models = server.get("/v1/models").ok();
    assert_eq!(models["object"], "list");
    let names: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert_eq!(names[0], "bundled");
    assert!(names.contains(&"bundled@deepconf-low"));
    assert_eq!(keys(&models["data"][0]), ["created", "id", "object", "owned_by"]);
    assert_eq!(
        server.get("/v1/models/bundled%40majority-8").ok()["id"],
        "bundled@majority-8"
    );
    server.get("/v1/models/gpt").refusal(404);
    assert_eq!(server.get("/health").ok()["status"], "ok");
    let reply = server.chat(json!({ "n": 2 })).ok();
    assert_eq!(
        server.metric("tts_tokens_total"),
        reply["usage"]["completion_tokens"].as_f64().unwrap()
    );
    assert_eq!(server.metric("tts_traces_total"), 8.0);
    assert_eq!(server.metric("tts_request_seconds_count"), 1.0);
    assert_eq!(server.metric("tts_requests_running"), 0.0);
    let text = server.get("/metrics").text();
    assert!(
        text.contains("tts_http_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1"),
        "{text}"
    );
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("tts_") && value.parse::<f64>().is_ok(), "{line}");
    }
}

/// The table's names, ranges and sentences are the server's.
fn every_sampling_setting_is_a_field(server: &Running) {
    let fitting = |s: &SamplingSetting| if s.whole { json!(7) } else { json!(0.5) };
    let all: Map<_, _> = SAMPLING_SETTINGS
        .iter()
        .map(|s| (s.name.to_owned(), fitting(s)))
        .collect();
    let reply = server.chat(all.clone().into()).ok();
    assert_eq!(reply["tts"]["sampling"], Value::Object(all));
    for s in SAMPLING_SETTINGS {
        let (message, param) = server.chat(json!({ s.name: "x" })).refusal(400);
        let expected = format!("`{}` must be {}; a string was given", s.name, s.in_request);
        assert_eq!((message, param), (expected, json!(s.name)));
        if !s.whole {
            let (message, param) = server.chat(json!({ s.name: -1000.0 })).refusal(400);
            let expected = format!("{} is -1000; it must be {}", s.label, s.right);
            assert_eq!((message, param), (expected, json!(s.name)));
        }
    }
}
