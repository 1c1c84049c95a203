//! Real models as themselves, against their weights dequantised to f32 in transformers and against llama.cpp; ignored
//! unless asked for, since the weights are no part of the repository:
//! `TTS_REAL_WEIGHTS=<folder> cargo test --test it real_weights -- --ignored` takes the files of that folder that are
//! named as the fixtures in `tests/fixtures/real` are. `tests/fixtures/make/real_weights.py` made those.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is wanted beside the verdict"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use tts::prompt::{Message, RenderOptions};
use tts::{LoadOptions, Loaded};

use crate::fixture;

#[derive(Deserialize)]
struct Reference {
    text: String,
    ids: Vec<u32>,
    logprobs: Vec<Option<f64>>,
    confidence: Vec<f64>,
    /// tokens of the question that the text begins with
    asked: usize,
    /// what f32 goes on with, and how far each id leads the second
    greedy: Vec<u32>,
    leads: Vec<f64>,
    chat: Vec<Chat>,
    llama: Distances,
}

/// What transformers renders with the file's own template.
#[derive(Deserialize)]
struct Chat {
    messages: Vec<BTreeMap<String, String>>,
    rendered: String,
    ids: Vec<u32>,
}

/// How far a program is from f32.
#[derive(Debug, Deserialize)]
struct Distances {
    logprob_mean: f64,
    logprob_max: f64,
    confidence_mean: f64,
}

fn files() -> Vec<(PathBuf, Reference)> {
    let folder = std::env::var("TTS_REAL_WEIGHTS").expect("TTS_REAL_WEIGHTS names the folder of the weights");
    let found: Vec<_> = std::fs::read_dir(fixture("real"))
        .unwrap()
        .filter_map(|entry| {
            let reference = entry.unwrap().path();
            let weights = Path::new(&folder)
                .join(reference.file_stem()?)
                .with_added_extension("gguf");
            let text = std::fs::read_to_string(&reference).unwrap();
            weights
                .is_file()
                .then(|| (weights, serde_json::from_str(&text).unwrap()))
        })
        .collect();
    assert!(
        !found.is_empty(),
        "{folder} holds none of the files that are known"
    );
    found
}

fn tts(args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_tts"))
        .args(args)
        .arg("--json")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_f64)
        .collect()
}

fn distances(got: &[f64], wanted: &[f64]) -> (f64, f64) {
    assert_eq!(got.len(), wanted.len());
    let off: Vec<f64> = got.iter().zip(wanted).map(|(a, b)| (a - b).abs()).collect();
    (
        off.iter().sum::<f64>() / off.len() as f64,
        off.iter().copied().fold(0.0, f64::max),
    )
}

#[test]
#[ignore = "needs TTS_REAL_WEIGHTS"]
fn scores_are_as_near_to_f32_as_llama_cpp_s() {
    for (file, reference) in files() {
        let model = file.to_str().unwrap();
        let scored = tts(&["score", "--model", model, "--text", &reference.text]);
        let ids: Vec<u32> = serde_json::from_value(scored["token_ids"].clone()).unwrap();
        assert_eq!(ids, reference.ids, "the tokenizer");
        let wanted: Vec<f64> = reference.logprobs.iter().copied().flatten().collect();
        let (logprob_mean, logprob_max) = distances(&numbers(&scored["logprobs"]), &wanted);
        let (confidence_mean, _) = distances(&numbers(&scored["confidence"]), &reference.confidence);
        let ours = Distances {
            logprob_mean,
            logprob_max,
            confidence_mean,
        };
        println!("{model}: {ours:?}, llama.cpp {:?}", reference.llama);
        // over so few tokens the means are within a tenth of each other, and single tokens further
        let near = |ours: f64, theirs: f64| ours <= 1.1 * theirs;
        assert!(
            near(logprob_mean, reference.llama.logprob_mean)
                && near(confidence_mean, reference.llama.confidence_mean)
                && near(logprob_max, 2.0 * reference.llama.logprob_max),
            "{model}: {ours:?}, llama.cpp {:?}",
            reference.llama
        );
    }
}

/// How far the second id may be behind, so that 4-bit weights beside f32 sums may choose it.
const CLOSE: f64 = 0.3;

#[test]
#[ignore = "needs TTS_REAL_WEIGHTS"]
fn greedy_texts_are_those_of_f32_until_two_ids_are_close() {
    for (file, reference) in files() {
        let asked: Vec<String> = reference.ids[..reference.asked]
            .iter()
            .map(u32::to_string)
            .collect();
        let most = reference.greedy.len().to_string();
        let model = file.to_str().unwrap();
        let args = [
            "complete",
            "--model",
            model,
            "--temperature",
            "0",
            "--traces",
            "1",
            "--max-tokens",
            &most,
        ];
        let ours = tts(&[&args[..], &["--ignore-eos", "--token-ids", &asked.join(",")]].concat());
        let ours: Vec<u32> = serde_json::from_value(ours["token_ids"].clone()).unwrap();
        let first = ours.iter().zip(&reference.greedy).position(|(a, b)| a != b);
        println!(
            "{model}: first difference {first:?} of {most}, leads {:?}",
            reference.leads
        );
        assert!(
            first.is_none_or(|at| reference.leads[at] < CLOSE),
            "{model}: {first:?}"
        );
    }
}

#[test]
#[ignore = "needs TTS_REAL_WEIGHTS"]
fn chats_are_rendered_as_transformers_does() {
    for (file, reference) in files() {
        let options = LoadOptions {
            model: Some(file.to_str().unwrap().to_owned()),
            ..LoadOptions::default()
        };
        let loaded = Loaded::open(&options, &mut |_| ()).unwrap();
        for chat in &reference.chat {
            let turn = |turn: &BTreeMap<String, String>| Message::new(&turn["role"], &turn["content"]);
            let messages: Vec<Message> = chat.messages.iter().map(turn).collect();
            let ours = loaded
                .prompter()
                .unwrap()
                .render(&messages, &RenderOptions::default())
                .unwrap();
            assert_eq!((&ours.text, &ours.ids), (&chat.rendered, &chat.ids));
        }
    }
}
