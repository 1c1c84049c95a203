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
            .chat(json!({ "traces": 20, "stream": true, "progress": progress, "stream_options": { "include_usage": true } }))
            .events();
        for event in &events {
            assert_eq!(event["object"], "chat.completion.chunk");
            assert_eq!(event["id"], events[0]["id"]);
            assert!(event["choices"].is_array() && event["created"].is_u64() && event["model"] == "bundled");
        }
        assert_eq!(events[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
        assert_eq!(deltas(&events, "content"), message["content"].as_str().unwrap());
        let reasoning = deltas(&events, "reasoning_content");
        assert!(reasoning.ends_with(message["reasoning_content"].as_str().unwrap()), "{reasoning}");
        assert_eq!(
            reasoning.starts_with("[majority: 20 traces at most]\n"),
            progress == "text",
            "{reasoning}"
        );
        let [.., last, usage] = &events[..] else { panic!("{events:?}") };
        assert_eq!(last["choices"][0]["finish_reason"], "stop");
        assert_eq!(last["tts"]["digest"], tts["digest"]);
        assert_eq!((&last["usage"], &usage["choices"]), (&Value::Null, &json!([])));
        assert_eq!(usage["usage"], whole["usage"]);
        let early = &events[..events.len() - 2];
        assert!(
            early
                .iter()
                .all(|e| e["choices"].as_array().unwrap().iter().all(|c| c["finish_reason"].is_null()))
        );
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
    assert!(listed.iter().any(|t| t["finish"] == "low_confidence"), "{listed:?}");
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
