//! Prompts against the golden renderings, and everything a template or a side file can get wrong.

mod hostile;
mod sources;
mod templates;
mod thinking;

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use templates::{talk, with_template};

fn golden(case: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden")).join(case)
}

const CASES: [&str; 3] = ["case-gqa", "case-mha-groups-sharded", "case-tiny-like-bf16"];

fn expected(case: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(golden(case).join("golden.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn messages(value: &serde_json::Value) -> Vec<Message> {
    let turns = value.as_array().unwrap().iter();
    turns
        .map(|turn| Message::new(turn["role"].as_str().unwrap(), turn["content"].as_str().unwrap()))
        .collect()
}

fn check_golden(prompter: &Prompter, expected: &serde_json::Value) {
    let chat = &expected["chat"];
    let rendered = prompter
        .render(&messages(&chat["messages"]), &RenderOptions::default())
        .unwrap();
    assert_eq!(rendered.text, chat["rendered"].as_str().unwrap());
    assert_eq!(rendered.ids, ids(&chat["ids"]));
    assert!(rendered.ends_in_think);
    let text = expected["tokenizer"]["text"].as_str().unwrap();
    let encoded = prompter.encode_raw(text).unwrap();
    assert_eq!(encoded, ids(&expected["tokenizer"]["ids"]));
    assert_eq!(prompter.decode(&encoded, false), text);
    for name in ["prompt", "greedy"] {
        let ids = ids(&expected[format!("{name}_ids")]);
        let text = expected[format!("{name}_text")].as_str().unwrap();
        assert_eq!(prompter.decode(&ids, false), text);
    }
}

#[test]
fn folders_render_and_encode_as_transformers_does() {
    for case in CASES {
        let prompter = Prompter::from_folder(&golden(case)).unwrap();
        check_golden(&prompter, &expected(case));
        assert_eq!(prompter.stop_ids(), &BTreeSet::from([2, 4]), "{case}");
        assert_eq!(prompter.think_ids().unwrap(), Some([vec![5], vec![6]]));
        assert_eq!(prompter.tokenizer_size(), 329);
        assert_eq!(prompter.instruction(), DEFAULT_INSTRUCTION);
        let generation = prompter.generation();
        assert_eq!(generation.sampling.temperature, Some(0.6));
        assert_eq!(generation.sampling.top_p, Some(0.95));
        assert_eq!(generation.do_sample, Some(true));
        assert!(generation.unhonoured.is_empty(), "{:?}", generation.unhonoured);
    }
}

#[test]
fn parts_give_what_the_folder_gives() {
    let folder = golden("case-gqa");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let prompter = Prompter::from_parts(&Parts {
        origin: "the bundled model",
        tokenizer_json: &read("tokenizer.json"),
        tokenizer_config: Some(&read("tokenizer_config.json")),
        generation_config: Some(&read("generation_config.json")),
        tts: Some(r#"{"instruction": "", "note": "solves sums", "later": 1}"#),
        ..Parts::default()
    })
    .unwrap();
    check_golden(&prompter, &expected("case-gqa"));
    assert_eq!(
        prompter.digest(),
        Prompter::from_folder(&folder).unwrap().digest()
    );
    assert_eq!(prompter.instruction(), "");
    assert_eq!(prompter.note(), Some("solves sums"));
}

#[test]
fn bos_is_written_by_the_template_alone() {
    let prompter = with_template("{{ messages[1].content }}").unwrap();
    let ids = prompter.render(&talk(), &RenderOptions::default()).unwrap().ids;
    assert!(!ids.contains(&1));
    // A tokenizer.json whose post-processor would add BOS, cut at 3 tokens and pad.
    let text = std::fs::read_to_string(golden("case-gqa/tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            "<|begin_of_text|>": {"id": "<|begin_of_text|>", "ids": [1], "tokens": ["<|begin_of_text|>"]}
        }
    });
    json["truncation"] =
        json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<|pad|>"});
    let strange = json.to_string();
    let strange = Prompter::from_parts(&Parts {
        tokenizer_json: &strange,
        ..Parts::default()
    })
    .unwrap();
    let plain = Prompter::from_folder(&golden("case-gqa")).unwrap();
    let text = "Let us compute 17 * 23 step by step.";
    assert_eq!(strange.encode_raw(text).unwrap(), plain.encode_raw(text).unwrap());
}

#[test]
fn special_tokens_and_padding_ids_decode_as_promised() {
    let prompter = Prompter::from_folder(&golden("case-gqa")).unwrap();
    let ids = [5, 63, 6, 4, 335, u32::MAX];
    assert_eq!(prompter.decode(&ids, false), "<think>W</think><|im_end|>");
    assert_eq!(prompter.decode(&ids, true), "<think>W</think>");
    assert_eq!(prompter.token_id("<|im_end|>"), Some(4));
    assert!(prompter.check_vocab(336).is_ok() && prompter.check_vocab(329).is_ok());
    let sentence = prompter.check_vocab(328).err().unwrap().to_string();
    assert!(
        sentence.contains("328") && sentence.contains("329 ids"),
        "{sentence}"
    );
}

#[test]
fn a_problem_becomes_the_users_turn() {
    let default = |problem, instruction| user_turn(DEFAULT_PROMPT_TEMPLATE, problem, instruction);
    assert_eq!(
        default("1+1?", DEFAULT_INSTRUCTION).unwrap(),
        "1+1?\n\nPlease reason step by step, and put your final answer within \\boxed{}."
    );
    assert_eq!(default("1+1?", "").unwrap(), "1+1?");
    // What is put in is not searched, and other braces stand.
    assert_eq!(
        default("{instruction} {problem}", "i").unwrap(),
        "{instruction} {problem}\n\ni"
    );
    assert_eq!(
        user_turn(r"\boxed{x} {é {problem}", "p", "i").unwrap(),
        r"\boxed{x} {é p"
    );
    assert_eq!(user_turn("{instruction}\n{problem}", "p", "").unwrap(), "\np");
    assert!(matches!(default(" \n", "i"), Err(PromptError::EmptyProblem)));
    assert!(matches!(
        user_turn("Solve it.", "p", "i"),
        Err(PromptError::NoProblemPlaceholder)
    ));
}

/// A tokenizer whose decoder is not byte-level: words with a leading mark, bytes as `<0x..>`.
fn byte_fallback() -> Prompter {
    let mut vocab = serde_json::Map::new();
    for (id, token) in ["▁This", "▁is", "<0xC3>", "<0xA9>", "é", "▁"]
        .into_iter()
        .enumerate()
    {
        vocab.insert(token.to_owned(), json!(id));
    }
    let json = json!({
        "version": "1.0",
        "model": {"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": true},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    });
    Prompter::from_parts(&Parts {
        tokenizer_json: &json.to_string(),
        ..Parts::default()
    })
    .unwrap()
}

#[test]
fn other_decoders_stream_too() {
    let prompter = byte_fallback();
    for ids in [
        vec![0, 1, 2, 3, 1, 4],
        vec![1, 2],
        vec![0, 99, 1],
        vec![5, 0],
        vec![2, 4, 3],
        vec![],
    ] {
        let mut stream = prompter.detokenizer(false);
        let mut text = String::new();
        for &id in &ids {
            text.push_str(stream.push(id));
        }
        text.push_str(stream.finish());
        assert_eq!(text, prompter.decode(&ids, false), "{ids:?}");
    }
    // A run that never becomes text does not make the window grow.
    let mut stream = prompter.detokenizer(false);
    let length: usize = (0..100).map(|_| stream.push(2).len()).sum();
    assert!(length > 0);
}

proptest! {
    #[test]
    fn a_stream_is_the_whole_in_pieces(ids in prop::collection::vec(0u32..340, 0..200), skip: bool) {
        let prompter = Prompter::from_folder(&golden("case-gqa")).unwrap();
        let mut stream = prompter.detokenizer(skip);
        let mut text = String::new();
        for &id in &ids {
            text.push_str(stream.push(id));
        }
        text.push_str(stream.finish());
        prop_assert_eq!(&text, &prompter.decode(&ids, skip));
        // The tokenizer library's own decoder says the same.
        let path = golden("case-gqa/tokenizer.json");
        let library = tokenizers::Tokenizer::from_file(path).unwrap();
        prop_assert_eq!(&text, &library.decode(&ids, skip).unwrap());
    }

    #[test]
    fn any_text_survives_encoding(text in "\\PC{0,60}") {
        let prompter = Prompter::from_folder(&golden("case-mha-groups-sharded")).unwrap();
        let ids = prompter.encode_raw(&text).unwrap();
        prop_assert_eq!(prompter.decode(&ids, false), text);
    }
}
