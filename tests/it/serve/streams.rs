//! Streams: progress while traces run, the answer at the end.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Running;

fn deltas(events: &[Value], field: &str) -> String {
    events
        .iter()
        .flat_map(|e| e["choices"].as_array().unwrap())
        .filter_map(|c| c["delta"][field].as_str())
        .collect()
}

#[test]
fn a_stream_ends_with_what_the_whole_reply_is() {
    let server = Running::start();
    let whole = server.chat(json!({ "traces": 20 })).ok();
    let (message, tts) = (&whole["choices"][0]["message"], &whole["tts"]);
    for progress in ["off", "text", "traces"] {
        let events = server
            .chat(json!({
                "traces": 20, "stream": true, "progress": progress,
                "stream_options": { "include_usage": true }
            }))
            .events();
        for event in &events {
            assert_eq!(event["object"], "chat.completion.chunk");
            assert_eq!(event["id"], events[0]["id"]);
            assert!(event["choices"].is_array() && event["created"].is_u64() && event["model"] == "bundled");
        }
        assert_eq!(
            events[0]["choices"][0]["delta"],
            json!({ "role": "assistant", "content": "" })
        );
        assert_eq!(deltas(&events, "content"), message["content"].as_str().unwrap());
        let reasoning = deltas(&events, "reasoning_content");
        assert!(
            reasoning.ends_with(message["reasoning_content"].as_str().unwrap()),
            "{reasoning}"
        );
        assert_eq!(
            reasoning.starts_with("[majority: 20 traces at most]\n"),
            progress == "text",
            "{reasoning}"
        );
        let [.., last, usage] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(last["choices"][0]["finish_reason"], "stop");
        assert_eq!(last["tts"]["digest"], tts["digest"]);
        assert_eq!((&last["usage"], &usage["choices"]), (&Value::Null, &json!([])));
        assert_eq!(usage["usage"], whole["usage"]);
        let early = &events[..events.len() - 2];
        assert!(early.iter().all(|e| {
            e["choices"]
                .as_array()
                .unwrap()
                .iter()
                .all(|c| c["finish_reason"].is_null())
        }));
    }
    let plain = server.chat(json!({ "stream": true })).events();
    assert!(plain.iter().all(|e| e.get("usage").is_none()));
}

#[test]
fn a_watcher_sees_every_trace() {
    let server = Running::start();
    let fields = json!({
        "strategy": "deepconf-low", "traces": 40, "slots": 8, "warmup": 8, "window": 16, "consensus": "off",
        "stream": true, "progress": "traces",
    });
    let events = server.chat(fields).events();
    let last = events.last().unwrap();
    let listed = last["tts_traces"][0].as_array().unwrap();
    assert_eq!(listed.len(), 40);
    let (mut points, mut ended) = (BTreeMap::<u64, Vec<(u64, f64)>>::new(), BTreeMap::new());
    for tts in events.iter().map(|e| &e["tts"]) {
        match tts["event"].as_str() {
            Some("traces") => {
                for trace in tts["traces"].as_array().unwrap() {
                    let id = trace["trace"].as_u64().unwrap();
                    assert_eq!(trace["warmup"], id < 8);
                    let more = trace["points"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|p| (p[0].as_u64().unwrap(), p[1].as_f64().unwrap()));
                    points.entry(id).or_default().extend(more);
                }
            }
            Some("ended") => {
                ended.insert(tts["trace"].as_u64().unwrap(), tts.clone());
            }
            _ => {}
        }
    }
    // a watcher that is late loses the oldest events; this one read all along
    assert_eq!(ended.len(), 40);
    for trace in listed {
        let id = trace["trace"].as_u64().unwrap();
        let (way, end) = (&points[&id], &ended[&id]);
        assert!(way.is_sorted_by(|a, b| a.0 < b.0), "{way:?}");
        assert_eq!(
            way.last().unwrap().0,
            trace["tokens"].as_u64().unwrap(),
            "the way ends where the trace does"
        );
        assert!(
            way.iter().all(|p| p.1 >= 20f64.ln() - 1e-3),
            "no mean is below the least confidence there is: {way:?}"
        );
        for field in ["finish", "tokens", "answer"] {
            assert_eq!(end[field], trace[field], "trace {id}");
        }
        if trace["finish"] == "low_confidence" {
            let bar = last["tts"]["threshold"].as_f64().unwrap();
            assert!(
                way.last().unwrap().1 < bar,
                "trace {id} was stopped at {:?}, above {bar}",
                way.last()
            );
        }
    }
    assert!(
        listed.iter().any(|t| t["finish"] == "low_confidence"),
        "{listed:?}"
    );
}

/// A choice's parts put together: thinking, content, log-probabilities, and why it ended; and how many parts
/// said something.
fn together(events: &[Value], index: usize) -> (String, String, Vec<Value>, Value, usize) {
    let mut whole = (String::new(), String::new(), Vec::new(), Value::Null, 0);
    let parts = events.iter().flat_map(|e| e["choices"].as_array().unwrap());
    for part in parts.filter(|c| c["index"] == index) {
        assert!(whole.3.is_null(), "nothing comes after the end: {part}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (thought, said) = (
            text(&part["delta"]["reasoning_content"]),
            text(&part["delta"]["content"]) + &text(&part["text"]),
        );
        whole.4 += usize::from(!thought.is_empty() || !said.is_empty());
        whole.0 += &thought;
        whole.1 += &said;
        match &part["logprobs"] {
            Value::Null => {}
            of_chat if of_chat["content"].is_array() => {
                whole.2.extend(of_chat["content"].as_array().unwrap().clone())
            }
            of_text => {
                let of = |name: &str| of_text[name].as_array().unwrap().clone();
                let tokens = of("tokens")
                    .into_iter()
                    .zip(of("token_logprobs"))
                    .zip(of("top_logprobs"))
                    .zip(of("text_offset"));
                whole.2.extend(tokens.map(|(((a, b), c), d)| json!([a, b, c, d])));
            }
        }
        whole.3 = part["finish_reason"].clone();
    }
    whole
}

/// Asks for a lone trace as a stream and as a whole, and compares; how many parts each choice came in.
fn streams_as_it_is(server: &Running, path: &str, request: &Value) -> Vec<usize> {
    let mut request = request.clone();
    request["traces"] = json!(1);
    let whole = server.post(path, &request).ok();
    request["stream"] = json!(true);
    request["stream_options"] = json!({ "include_usage": true });
    let events = server.post(path, &request).events();
    let choices = whole["choices"].as_array().unwrap();
    let compare = |(index, choice): (usize, &Value)| {
        let (thought, said, logprobs, finish, parts) = together(&events, index);
        let message = &choice["message"];
        assert_eq!(
            thought,
            message["reasoning_content"].as_str().unwrap_or_default(),
            "{request}"
        );
        let content = message["content"].as_str().or(choice["text"].as_str()).unwrap();
        assert_eq!(said, content, "{request}");
        let one =
            json!([{ "choices": [{ "index": 0, "logprobs": choice["logprobs"], "finish_reason": null }] }]);
        assert_eq!(logprobs, together(one.as_array().unwrap(), 0).2, "{request}");
        assert_eq!(finish, choice["finish_reason"], "{request}");
        parts
    };
    let [.., last, usage] = &events[..] else {
        panic!("{events:?}")
    };
    let digest = |tts: &Value| match tts["choices"].as_array() {
        Some(all) => all.iter().map(|t| t["digest"].clone()).collect(),
        None => vec![tts["digest"].clone()],
    };
    assert_eq!(digest(&last["tts"]), digest(&whole["tts"]), "{request}");
    assert_eq!(usage["usage"], whole["usage"], "{request}");
    choices.iter().enumerate().map(compare).collect()
}

#[test]
fn a_lone_trace_streams_what_it_will_have_written() {
    let server = Running::start();
    let mut parts = Vec::new();
    for seed in 0..6 {
        // wild ones open and close their thinking anywhere
        for temperature in [0.6, 1.5, 3.0] {
            let stop = [
                json!(null),
                json!(["box", "</think>"]),
                json!(["\n", "12"]),
                json!("= "),
            ][seed % 4]
                .clone();
            let mut chat =
                super::chat(json!({ "seed": seed, "temperature": temperature, "n": 2, "stop": stop }));
            parts.extend(streams_as_it_is(&server, "/v1/chat/completions", &chat));
            chat["logprobs"] = json!(true);
            chat["top_logprobs"] = json!(seed % 3);
            parts.extend(streams_as_it_is(&server, "/v1/chat/completions", &chat));
            let text = json!({
                "prompt": ["2 + 2 = ", "<|im_start|>user\n7 * 8<|im_end|>\n<|im_start|>assistant\n"],
                "seed": seed, "temperature": temperature,
                "n": 2, "stop": stop, "max_tokens": 60, "echo": seed % 2 == 0,
                "logprobs": if seed % 2 == 0 { json!(null) } else { json!(2) },
            });
            parts.extend(streams_as_it_is(&server, "/v1/completions", &text));
        }
    }
    assert!(
        parts.iter().sum::<usize>() > 4 * parts.len(),
        "it came in parts: {parts:?}"
    );
}

#[test]
fn parts_of_characters_stream_as_they_are() {
    let server = Running::of(super::tokens::wild(), super::tokens::settings(), |_| ());
    for seed in 0..4 {
        let chat = json!({
            "messages": [{ "role": "user", "content": "hello" }], "seed": seed, "top_p": 1, "max_tokens": 120,
            "ignore_eos": true, "loop_stop": false, "logprobs": true, "top_logprobs": 3,
        });
        streams_as_it_is(&server, "/v1/chat/completions", &chat);
        let text = json!({
            "prompt": "hello", "seed": seed, "top_p": 1, "max_tokens": 120, "ignore_eos": true,
            "loop_stop": false, "logprobs": 3, "stop": if seed % 2 == 0 { json!("e") } else { json!(null) },
        });
        streams_as_it_is(&server, "/v1/completions", &text);
    }
}

#[test]
fn a_stop_text_is_compared_with_what_is_shown() {
    let server = Running::start();
    let content = |fields: serde_json::Value| {
        streams_as_it_is(&server, "/v1/chat/completions", &super::chat(fields.clone()));
        let reply = server.chat(fields).ok();
        let choice = &reply["choices"][0];
        let text = |name: &str| choice["message"][name].as_str().unwrap_or_default().to_owned();
        (
            text("reasoning_content"),
            text("content"),
            choice["finish_reason"].clone(),
        )
    };
    let lone = |stop: serde_json::Value| json!({ "traces": 1, "seed": 1, "stop": stop });
    let (thought, said, _) = content(lone(json!(null)));
    assert!(said.starts_with("The answer is"), "{said}");
    // white space before the first word is not shown, and stops nothing
    for stop in [json!("\n"), json!(["\n\n", "\n"]), json!("\nThe")] {
        assert_eq!(
            content(lone(stop)),
            (thought.clone(), said.clone(), json!("stop"))
        );
    }
    // the end of the thinking, alone or as the content goes on
    for stop in ["</think>", "</think>\n", "</think>\nThe", "</think>The ans"] {
        assert_eq!(
            content(lone(json!(stop))),
            (thought.clone(), String::new(), json!("stop")),
            "{stop}"
        );
    }
    assert_eq!(
        content(lone(json!("</think>\nNo"))),
        (thought.clone(), said.clone(), json!("stop"))
    );
    assert_eq!(
        content(lone(json!(["answer", "The answer"]))),
        (thought, String::new(), json!("stop"))
    );
    // of a raw text white space is shown too
    let raw = format!(
        "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>",
        super::PROBLEM
    );
    let text = json!({ "prompt": raw, "seed": 1, "traces": 1, "stop": "\n" });
    streams_as_it_is(&server, "/v1/completions", &text);
    assert_eq!(
        server.post("/v1/completions", &text).ok()["choices"][0]["text"],
        ""
    );
}

#[test]
fn a_lone_trace_is_read_while_it_runs() {
    let settings = tts::Settings {
        max_tokens: Some(3900),
        ..super::few()
    };
    let server = Running::with(settings, |_| ());
    let mut fields = super::endless();
    (fields["traces"], fields["slots"]) = (json!(1), json!(1));
    for progress in ["off", "text", "traces"] {
        fields["progress"] = json!(progress);
        // a machine that is busy elsewhere may bring the first part after the last token
        let seen = (0..50).any(|_| {
            let mut stream = server.begin(fields.clone(), &[]);
            let parts = super::read_until(&mut stream, "reasoning_content");
            let runs = server.metric("tts_requests_running") == 1.0;
            assert!(!String::from_utf8_lossy(&parts).contains("traces at most"));
            super::hang_up(&stream);
            server.until("tts_requests_running", 0.0);
            runs
        });
        assert!(seen, "{progress}");
    }
}

#[test]
fn completions_stream_too() {
    let server = Running::start();
    let request = json!({ "prompt": "2 + 2 = ", "max_tokens": 16, "stream": true, "n": 2 });
    let events = server.post("/v1/completions", &request).events();
    let mut whole = request;
    whole["stream"] = json!(false);
    let whole = server.post("/v1/completions", &whole).ok();
    for index in 0..2 {
        let text: String = events
            .iter()
            .flat_map(|e| e["choices"].as_array().unwrap())
            .filter(|c| c["index"] == index)
            .map(|c| c["text"].as_str().unwrap())
            .collect();
        assert_eq!(text, whole["choices"][index]["text"].as_str().unwrap());
    }
    assert!(events.iter().all(|e| e["object"] == "text_completion"));
}
