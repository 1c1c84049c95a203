//! Marks of thinking that are not `<think>` in the text.

use serde_json::{Value, json};

use super::super::*;
use super::golden;

/// A prompter whose vocabulary has these special tokens, and `<think>` only if it is one of them.
fn with_tokens(tokens: &[&str]) -> Prompter {
    let text = std::fs::read_to_string(golden("case-gqa/tokenizer.json")).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    let added = json["added_tokens"].as_array_mut().unwrap();
    for token in added.iter_mut() {
        // the ones of this vocabulary under another name
        let name = token["content"].as_str().unwrap().replace("think>", "other>");
        token["content"] = name.into();
    }
    let first = 329;
    added.extend(tokens.iter().enumerate().map(|(i, token)| {
        json!({
            "id": first + i, "content": token, "special": true, "normalized": false,
            "lstrip": false, "rstrip": false, "single_word": false,
        })
    }));
    let text = json
        .to_string()
        .replace("<think>", "<other>")
        .replace("</think>", "</other>");
    Prompter::from_parts(&Parts {
        tokenizer_json: &text,
        ..Parts::default()
    })
    .unwrap()
}

const HARMONY: [&str; 7] = [
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|constrain|>",
];

#[track_caller]
fn reads(prompter: &Prompter, raw: &str, shown: &str) {
    let ids = prompter.encode_raw(raw).unwrap();
    assert_eq!(prompter.decode(&ids, true), shown, "{raw}");
    assert_eq!(prompter.decode(&ids, false), raw, "special tokens as they are");
    let mut stream = prompter.detokenizer(true);
    let mut text = String::new();
    for id in ids {
        text.push_str(stream.push(id));
    }
    text.push_str(stream.finish());
    assert_eq!(text, shown, "token by token: {raw}");
}

#[test]
fn channels_of_harmony_are_thinking_and_answer() {
    let prompter = with_tokens(&HARMONY);
    let answer = "<|end|><|start|>assistant<|channel|>final<|message|>it is 4<|return|>";
    for (raw, shown) in [
        (
            format!("<|channel|>analysis<|message|>so 2 and 2{answer}"),
            "<think>so 2 and 2</think>it is 4",
        ),
        ("<|channel|>final<|message|>4<|return|>".to_owned(), "4"),
        (
            format!(
                "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary \
                 to=functions.f <|constrain|>json<|message|>{{}}{answer}"
            ),
            "<think>a{}</think>it is 4",
        ),
        (
            "<|channel|>analysis<|message|>cut in the mid".to_owned(),
            "<think>cut in the mid",
        ),
        ("<|channel|>anal".to_owned(), ""),
        // the prompt had opened the message
        (format!("so 2 and 2{answer}"), "so 2 and 2</think>it is 4"),
        // no frames at all
        ("it is 4".to_owned(), "it is 4"),
        (
            "<|start|>assistant<|message|>it is 4<|return|>".to_owned(),
            "it is 4",
        ),
    ] {
        reads(&prompter, &raw, shown);
    }
    let special: Vec<u32> = ["<|return|>", "<|call|>"]
        .map(|token| prompter.token_id(token).unwrap())
        .to_vec();
    assert!(special.iter().all(|id| prompter.stop_ids().contains(id)));
    let end = prompter.token_id("<|end|>").unwrap();
    assert!(
        !prompter.stop_ids().contains(&end),
        "the end of a message is not the end of a turn"
    );
    // what a budget of thinking forces ends it and begins the answer
    let [open, close] = prompter.think_ids().unwrap().unwrap();
    let text = prompter.encode_raw("so").unwrap();
    let forced = [open, text.clone(), close, text].concat();
    assert_eq!(prompter.decode(&forced, true), "<think>so</think>so");
    for (prompt, opens) in [
        ("<|start|>user<|message|>hi<|end|><|start|>assistant", false),
        ("<|start|>assistant<|channel|>analysis<|message|>", true),
        ("<|start|>assistant<|channel|>analysis<|message|>so", true),
        ("<|channel|>analysis<|message|>so<|end|><|start|>assistant", false),
        (
            "<|channel|>analysis<|message|>so<|end|><|start|>assistant<|channel|>final<|message|>",
            false,
        ),
    ] {
        assert_eq!(prompter.opens_thinking(prompt), opens, "{prompt}");
    }
}

#[test]
fn other_tokens_of_thinking_are_written_as_think() {
    for (open, close) in [("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>")] {
        let prompter = with_tokens(&[open, close]);
        reads(&prompter, &format!("{open}so é{close}4"), "<think>so é</think>4");
        reads(&prompter, "4", "4");
        let ids = prompter.think_ids().unwrap().unwrap();
        assert_eq!(ids.map(|ids| prompter.decode(&ids, false)), [open, close]);
        assert!(prompter.opens_thinking(&format!("user: hi {open}")) && !prompter.opens_thinking("hi"));
    }
    let none = with_tokens(&[]);
    assert_eq!(none.think_ids().unwrap(), None);
}
