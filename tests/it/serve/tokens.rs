//! Log-probabilities token by token: of what is generated, and of prompts, as evaluation harnesses ask.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tts::{LoadOptions, Loaded, Settings, Solver};

use super::{PROBLEM, Running, few};

/// A model with random weights: most of its tokens are parts of characters, or of none.
pub(super) fn wild() -> Loaded {
    let options = LoadOptions {
        model: Some(crate::fixture("golden/case-gqa").display().to_string()),
        ..LoadOptions::default()
    };
    Loaded::open(&options, &mut |_| ()).unwrap()
}

pub(super) fn settings() -> Settings {
    Settings {
        traces: 1,
        max_tokens: None,
        ..few()
    }
}

fn bytes(of: &Value) -> Vec<u8> {
    serde_json::from_value(of["bytes"].clone()).unwrap()
}

#[test]
fn every_token_has_an_entry_with_bytes_of_its_own() {
    let server = Running::of(wild(), settings(), |_| ());
    let mut parts = 0;
    for seed in 0..6 {
        let wanted = json!({
            "top_p": 1, "max_tokens": 200, "seed": seed, "ignore_eos": true, "loop_stop": false,
            "messages": [{ "role": "user", "content": "hello" }], "logprobs": true, "top_logprobs": 12,
        });
        let reply = server.chat(wanted.clone()).ok();
        let message = &reply["choices"][0]["message"];
        let tokens = reply["choices"][0]["logprobs"]["content"].as_array().unwrap();
        let joined: Vec<u8> = tokens.iter().flat_map(bytes).collect();
        let content = message["content"].as_str().unwrap();
        // bytes that are no character are shown as U+FFFD
        let shown = String::from_utf8_lossy(&joined);
        assert_eq!(shown.trim(), content, "seed {seed}");
        if message["reasoning_content"].is_null() {
            assert!(tokens.len() >= 190, "{} entries, white space aside", tokens.len());
        }
        for token in tokens {
            let top = token["top_logprobs"].as_array().unwrap();
            assert_eq!(top.len(), 12, "as many as asked");
            let names: BTreeSet<&str> = top.iter().map(|t| t["token"].as_str().unwrap()).collect();
            assert!(!names.contains(""), "{token}");
            for one in top.iter().chain([token]) {
                let (name, bytes) = (one["token"].as_str().unwrap(), bytes(one));
                match String::from_utf8(bytes.clone()) {
                    Ok(text) if !text.is_empty() => assert_eq!(name, text),
                    Ok(_) => assert!(name.starts_with('<') || name.starts_with("token_id:"), "{name}"),
                    Err(_) => {
                        let codes: String = bytes.iter().map(|b| format!("\\x{b:02x}")).collect();
                        assert_eq!(name, format!("bytes:{codes}"));
                        parts += 1;
                    }
                }
            }
        }
    }
    assert!(parts > 100, "{parts}");
}

#[test]
fn a_budget_of_thinking_ends_open_thinking_alone() {
    let with_template = |end: &str| {
        let template =
            format!("{{{{ messages[0].content }}}}{{% if add_generation_prompt %}}{end}{{% endif %}}");
        let options = LoadOptions {
            model: Some(crate::fixture("golden/case-gqa").display().to_string()),
            chat_template: Some((template, "the test's".to_owned())),
            ..LoadOptions::default()
        };
        let loaded = Loaded::open(&options, &mut |_| ()).unwrap();
        Running::of(loaded, settings(), |_| ())
    };
    let ask = |server: &Running, more: Value| {
        let mut fields = json!({
            "messages": [{ "role": "user", "content": "hello" }], "max_tokens": 60, "ignore_eos": true,
            "loop_stop": false, "instruction": "",
        });
        fields
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        server.chat(fields).ok()
    };
    let closed = with_template("<think>\n\n</think>\n\n");
    let opened = with_template("<think>\n");
    for budget in [0, 5, 20] {
        let (free, bounded) = (
            ask(&closed, json!({})),
            ask(&closed, json!({ "thinking_budget": budget })),
        );
        assert_eq!(
            free["tts"]["digest"], bounded["tts"]["digest"],
            "there is no thinking to end"
        );
        let bounded = ask(&opened, json!({ "thinking_budget": budget }));
        let reasoning = &bounded["usage"]["completion_tokens_details"]["reasoning_tokens"];
        assert!(reasoning.as_u64().unwrap() >= budget, "{bounded}");
        assert_ne!(ask(&opened, json!({}))["tts"]["digest"], bounded["tts"]["digest"]);
    }
}

#[test]
fn lists_of_a_raw_completion_are_as_long_as_its_tokens() {
    let server = Running::of(wild(), settings(), |_| ());
    for seed in 0..4 {
        let wanted = json!({
            "prompt": "hello", "top_p": 1, "max_tokens": 150, "seed": seed, "ignore_eos": true,
            "loop_stop": false, "logprobs": 20,
        });
        let whole = server.post("/v1/completions", &wanted).ok();
        let (text, lists) = (
            whole["choices"][0]["text"].as_str().unwrap(),
            &whole["choices"][0]["logprobs"],
        );
        let list = |name: &str| lists[name].as_array().unwrap();
        let (tokens, offsets) = (list("tokens"), list("text_offset"));
        assert_eq!(
            (tokens.len(), list("token_logprobs").len(), offsets.len()),
            (150, 150, 150)
        );
        assert!(list("token_logprobs").iter().all(Value::is_number));
        for (token, top) in tokens.iter().zip(list("top_logprobs")) {
            assert_eq!(top.as_object().unwrap().len(), 20, "{token}: {top}");
        }
        let characters: Vec<char> = text.chars().collect();
        let offsets: Vec<usize> = offsets.iter().map(|o| o.as_u64().unwrap() as usize).collect();
        assert!(offsets.is_sorted() && offsets.iter().all(|o| *o <= characters.len()));
        for (token, offset) in tokens.iter().zip(&offsets) {
            let token = token.as_str().unwrap();
            // a whole token stands where it is said to, in characters
            let is_name = ["bytes:", "token_id:", "<"]
                .iter()
                .any(|name| token.starts_with(name));
            if token.is_ascii() && !is_name {
                let there: String = characters[*offset..].iter().take(token.len()).collect();
                assert!(
                    there == token || there.starts_with('\u{fffd}'),
                    "{token:?} at {offset}: {there:?}"
                );
            }
        }
    }
}

/// What an evaluation harness makes of a reply to its request for log-likelihoods: for each choice the sum
/// over the tokens behind the context, and whether each of them is the likeliest.
fn log_likelihoods(reply: &Value, contexts: &[usize]) -> Vec<(f64, bool)> {
    let mut choices = reply["choices"].as_array().unwrap().clone();
    choices.sort_by_key(|choice| choice["index"].as_u64());
    assert_eq!(choices.len(), contexts.len());
    let one = |(choice, context): (&Value, &usize)| {
        let lists = &choice["logprobs"];
        let own = lists["token_logprobs"].as_array().unwrap();
        let top = lists["top_logprobs"].as_array().unwrap();
        let behind = *context..own.len() - 1;
        let own = own[behind.clone()].iter().map(|p| p.as_f64().unwrap());
        let largest = top[behind].iter().map(|top| {
            let all = top.as_object().unwrap().values().map(|p| p.as_f64().unwrap());
            all.fold(f64::NEG_INFINITY, f64::max)
        });
        let is_greedy = own.clone().zip(largest).all(|(own, largest)| own == largest);
        (own.sum(), is_greedy)
    };
    choices.iter().zip(contexts).map(one).collect()
}

#[test]
fn log_likelihoods_are_those_of_the_score_function() {
    let loaded = Loaded::open(&LoadOptions::default(), &mut |_| ()).unwrap();
    let prompter = loaded.prompter().unwrap().clone();
    let solver = Solver::local(loaded.clone(), settings()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let server = Running::of(loaded, settings(), |_| ());
    let context = format!("<|im_start|>user\n{PROBLEM}<|im_end|>\n<|im_start|>assistant\n<think>\n1:");
    let endings = ["3\n2:15+7=22", "4\n2:15+7=22", "3\n", "\\boxed{20}"];
    let rows: Vec<Vec<u32>> = endings
        .map(|ending| prompter.encode_raw(&format!("{context}{ending}")).unwrap())
        .to_vec();
    let before = prompter.encode_raw(&context).unwrap().len();
    let expected: Vec<(f64, bool)> = rows
        .iter()
        .map(|ids| {
            let scored = runtime
                .block_on(solver.source().score(ids.clone(), before, 1))
                .unwrap()
                .unwrap();
            let sum = scored.iter().map(|s| f64::from(s.logprob.unwrap())).sum();
            (sum, scored.iter().all(|s| s.logprob == Some(s.top[0].1)))
        })
        .collect();
    assert!(expected[0].0 > expected[1].0 && expected.iter().any(|e| e.1) && expected.iter().any(|e| !e.1));
    let texts: Vec<String> = endings.map(|ending| format!("{context}{ending}")).to_vec();
    for prompt in [json!(rows), json!(texts)] {
        let asked = json!({
            "model": "bundled", "prompt": prompt, "temperature": 0, "max_tokens": 1, "logprobs": 1,
            "seed": 1234, "echo": true,
        });
        let reply = server.post("/v1/completions", &asked).ok();
        assert_eq!(log_likelihoods(&reply, &[before; 4]), expected);
        let lists = &reply["choices"][0]["logprobs"];
        assert_eq!(
            (&lists["token_logprobs"][0], &lists["top_logprobs"][0]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(reply["usage"]["completion_tokens"], 4, "one for each");
        // without a token of its own: the same, and nothing is generated
        let mut none = asked.clone();
        none["max_tokens"] = json!(0);
        for stream in [false, true] {
            none["stream"] = json!(stream);
            let got = server.post("/v1/completions", &none);
            let choices = match stream {
                false => {
                    let whole = got.ok();
                    assert_eq!(whole["usage"]["completion_tokens"], 0);
                    whole["choices"].as_array().unwrap().clone()
                }
                true => {
                    let events = got.events();
                    let parts = events
                        .iter()
                        .flat_map(|e| e["choices"].as_array().unwrap().clone());
                    parts.filter(|c| c["logprobs"].is_object()).collect()
                }
            };
            for (none, with) in choices.iter().zip(reply["choices"].as_array().unwrap()) {
                let text = with["text"].as_str().unwrap();
                assert!(text.starts_with(none["text"].as_str().unwrap()), "{none}");
                for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
                    let (short, long) = (&none["logprobs"][name], &with["logprobs"][name]);
                    let (short, long) = (short.as_array().unwrap(), long.as_array().unwrap());
                    assert_eq!(short[..], long[..long.len() - 1], "{name}");
                }
                if !stream {
                    assert_eq!(none["finish_reason"], "length");
                }
            }
            assert_eq!(choices.len(), 4);
        }
    }
    // the text is what its tokens join to, and a prompt alone comes back as it is
    let asked = json!({ "prompt": &texts[0], "max_tokens": 3, "logprobs": 0, "echo": true });
    let reply = server.post("/v1/completions", &asked).ok();
    let lists = &reply["choices"][0]["logprobs"];
    let tokens: String = lists["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t.as_str().unwrap())
        .collect();
    assert_eq!(tokens, reply["choices"][0]["text"].as_str().unwrap());
    assert_eq!(lists["top_logprobs"], Value::Null);
    let plain = json!({ "prompt": "abc", "max_tokens": 0, "echo": true });
    assert_eq!(
        server.post("/v1/completions", &plain).ok()["choices"][0]["text"],
        "abc"
    );
    let one = json!({ "prompt": [5], "max_tokens": 0, "echo": true, "logprobs": 2 });
    let lists = server.post("/v1/completions", &one).ok()["choices"][0]["logprobs"].clone();
    assert_eq!(
        (&lists["token_logprobs"], &lists["top_logprobs"]),
        (&json!([null]), &json!([null]))
    );
}
