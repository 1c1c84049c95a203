//! GGUF metadata and side files, right and wrong.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::super::*;
use super::{check_golden, expected, golden};

/// The `tokenizer.*` metadata of a GGUF file, read by an independent reader.
fn gguf_metadata(path: &Path) -> GgufTokenizer {
    use candle_core::quantized::gguf_file::{Content, Value};
    let content = Content::read(&mut std::fs::File::open(path).unwrap()).unwrap();
    let metadata: HashMap<String, Value> = content.metadata;
    let text = |key: &str| metadata.get(key).map(|v| v.to_string().unwrap().clone());
    let texts = |key: &str| -> Vec<String> {
        let items = metadata[key].to_vec().unwrap();
        items
            .iter()
            .map(|item| item.to_string().unwrap().clone())
            .collect()
    };
    let id = |key: &str| metadata.get(key).map(|value| value.to_u32().unwrap());
    GgufTokenizer {
        model: text("tokenizer.ggml.model").unwrap(),
        pre: text("tokenizer.ggml.pre"),
        tokens: texts("tokenizer.ggml.tokens"),
        token_types: metadata["tokenizer.ggml.token_type"]
            .to_vec()
            .unwrap()
            .iter()
            .map(|item| item.to_i32().unwrap())
            .collect(),
        merges: texts("tokenizer.ggml.merges"),
        bos: id("tokenizer.ggml.bos_token_id"),
        eos: id("tokenizer.ggml.eos_token_id"),
        add_bos: None,
        chat_template: text("tokenizer.chat_template"),
    }
}

#[test]
fn gguf_metadata_gives_the_same_prompts() {
    for (file, case) in [
        ("gguf-gqa/gqa-f32.gguf", "case-gqa"),
        ("gguf-gqa/gqa-q8_0.gguf", "case-gqa"),
    ] {
        let file = golden(file);
        let metadata = gguf_metadata(&file);
        let prompter = Prompter::from_gguf(&metadata, &file).unwrap();
        check_golden(&prompter, &expected(case));
        assert_eq!(prompter.stop_ids(), &BTreeSet::from([2, 4]));
        assert_eq!(prompter.think_ids().unwrap(), Some([vec![5], vec![6]]));
        // Ids 329 to 335 pad the vocabulary.
        assert_eq!(
            prompter.decode(&[329, 63, 335, 9999], false),
            prompter.decode(&[63], false)
        );
        assert_eq!(
            prompter
                .encode_raw("[PAD329]")
                .unwrap()
                .iter()
                .max()
                .map(|&id| id < 329),
            Some(true)
        );
    }
}

#[test]
fn gguf_metadata_encodes_as_the_tokenizer_json_of_the_same_model() {
    let folder = golden("gguf-h1r-like-q4k");
    let file = folder.join("h1r-like-Q4_K_M.gguf");
    let inside = Prompter::from_gguf(&gguf_metadata(&file), &file).unwrap();
    let beside = Prompter::from_folder(&folder).unwrap();
    assert_eq!(inside.chat_template(), beside.chat_template());
    assert_eq!(inside.stop_ids(), beside.stop_ids());
    for text in [
        "It's 12345 + 678 <think>\n\n  na\u{ef}ve \u{6771}\u{4eac} \u{1f680}",
        "<|im_start|>user\nWE'LL\t x_1 = \\frac{1}{2}<|im_end|>\n",
        "",
    ] {
        let ids = inside.encode_raw(text).unwrap();
        assert_eq!(ids, beside.encode_raw(text).unwrap(), "{text}");
        assert_eq!(inside.decode(&ids, false), text);
    }
}

#[test]
fn gguf_metadata_that_is_wrong_is_refused_and_a_tokenizer_beside_the_file_helps() {
    let source = golden("gguf-gqa/gqa-f32.gguf");
    let good = gguf_metadata(&source);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    let refused = |metadata: &GgufTokenizer| Prompter::from_gguf(metadata, &file).err().unwrap().to_string();
    let sentences = [
        refused(&GgufTokenizer::default()),
        refused(&GgufTokenizer {
            model: "llama".into(),
            ..good.clone()
        }),
        refused(&GgufTokenizer {
            pre: Some("klingon".into()),
            ..good.clone()
        }),
        refused(&GgufTokenizer {
            token_types: vec![1; 3],
            ..good.clone()
        }),
        refused(&GgufTokenizer {
            merges: vec!["qqq zzz".into()],
            ..good.clone()
        }),
        refused(&GgufTokenizer {
            tokens: vec!["a".into(); 336],
            ..good.clone()
        }),
    ];
    let named = [
        "tokenizer.json",
        "\"llama\"",
        "\"klingon\"",
        "3 token types",
        "qqq zzz",
        "\"a\"",
    ];
    for (sentence, part) in sentences.iter().zip(named) {
        assert!(
            sentence.contains(part) && sentence.contains("model.gguf"),
            "{sentence}"
        );
    }
    std::fs::copy(
        golden("case-gqa/tokenizer.json"),
        folder.path().join("tokenizer.json"),
    )
    .unwrap();
    std::fs::copy(
        golden("case-gqa/tokenizer_config.json"),
        folder.path().join("tokenizer_config.json"),
    )
    .unwrap();
    let beside = Prompter::from_gguf(&GgufTokenizer::default(), &file).unwrap();
    check_golden(&beside, &expected("case-gqa"));
}

#[test]
fn side_files_that_are_wrong_name_file_and_key() {
    let copy = |change: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "tokenizer.json",
            "tokenizer_config.json",
            "generation_config.json",
            "config.json",
        ] {
            std::fs::copy(golden("case-gqa").join(name), folder.path().join(name)).unwrap();
        }
        change(folder.path());
        Prompter::from_folder(folder.path())
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    let write = |name: &'static str, text: &'static str| {
        copy(&|folder| std::fs::write(folder.join(name), text).unwrap())
    };
    assert_eq!(copy(&|_| ()), "");
    let cases = [
        (
            copy(&|folder| std::fs::remove_file(folder.join("tokenizer.json")).unwrap()),
            "no tokenizer.json",
        ),
        (
            write("tokenizer.json", "{\"version\": \"1.0\", "),
            "tokenizer.json",
        ),
        (write("tokenizer.json", "{}"), "usable tokenizer"),
        (
            write(
                "tokenizer.json",
                r#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}}"#,
            ),
            "\"a\" and \"b\"",
        ),
        (
            write(
                "tokenizer.json",
                r#"{"model": {"type": "BPE", "vocab": {}, "merges": []}}"#,
            ),
            "empty",
        ),
        (
            write(
                "tokenizer.json",
                r#"{"model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}}"#,
            ),
            "4000000000",
        ),
        (write("tokenizer_config.json", "[]"), "tokenizer_config.json"),
        (
            write("tokenizer_config.json", r#"{"bos_token": 3}"#),
            "`bos_token` is 3",
        ),
        (
            write("generation_config.json", r#"{"temperature": "hot"}"#),
            "`temperature` is \"hot\"",
        ),
        (
            write("generation_config.json", r#"{"top_p": 1.5}"#),
            "`top_p` is 1.5",
        ),
        (
            write("generation_config.json", r#"{"top_k": -1}"#),
            "`top_k` is -1",
        ),
        (
            write("generation_config.json", r#"{"eos_token_id": ["x"]}"#),
            "`eos_token_id`",
        ),
        (
            write("config.json", r#"{"eos_token_id": -3}"#),
            "`eos_token_id` is -3",
        ),
        (write("config.json", "{"), "config.json"),
        (write("tts.json", r#"{"instruction": 3}"#), "`instruction` is 3"),
    ];
    for (sentence, part) in cases {
        assert!(sentence.contains(part), "{part}: {sentence}");
    }
    let folder = copy(&|folder| std::fs::write(folder.join("chat_template.jinja"), [0xff, 0xfe]).unwrap());
    assert!(folder.contains("cannot be read"), "{folder}");
}

#[test]
fn generation_settings_that_are_not_honoured_are_named() {
    let json = r#"{"_from_model_config": true, "transformers_version": "5", "pad_token_id": 0, "eos_token_id": 11,
        "do_sample": false, "top_k": 20, "min_p": 0.05, "max_new_tokens": 65536, "repetition_penalty": 1.05,
        "num_beams": 4, "typical_p": 1.0, "no_repeat_ngram_size": 0, "suppress_tokens": [3], "stop_strings": null,
        "epsilon_cutoff": 0.1, "use_cache": true, "max_length": 20, "num_beam_groups": 1, "bad_words_ids": []}"#;
    let config = GenerationConfig::parse(json, "generation_config.json").unwrap();
    assert_eq!(
        config.unhonoured,
        ["epsilon_cutoff", "num_beams", "suppress_tokens"]
    );
    assert_eq!(
        (config.do_sample, config.sampling.top_k, config.max_new_tokens),
        (Some(false), Some(20), Some(65536))
    );
    assert_eq!(
        (config.sampling.min_p, config.sampling.repetition_penalty),
        (Some(0.05), Some(1.05))
    );
    assert_eq!(config.eos_token_ids, BTreeSet::from([11]));
}
