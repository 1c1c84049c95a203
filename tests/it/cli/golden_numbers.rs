//! `tts score` and `tts complete` against the golden arrays.

use std::fs;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::{path, ran};
use crate::fixture;

const BOUND: f64 = 1e-4;

struct Golden(Vec<u8>);

impl Golden {
    fn read(name: &str) -> Self {
        Self(fs::read(fixture(name)).unwrap())
    }
    fn numbers(&self, name: &str) -> Vec<f64> {
        let all = SafeTensors::deserialize(&self.0).unwrap();
        let t = all.tensor(name).unwrap();
        match t.dtype() {
            Dtype::F32 => t
                .data()
                .chunks_exact(4)
                .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
                .collect(),
            Dtype::I64 => t
                .data()
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64)
                .collect(),
            Dtype::I32 => t
                .data()
                .chunks_exact(4)
                .map(|b| f64::from(i32::from_le_bytes(b.try_into().unwrap())))
                .collect(),
            other => panic!("{name} is {other:?}"),
        }
    }
    fn ids(&self, name: &str) -> Vec<u32> {
        self.numbers(name).into_iter().map(|x| x as u32).collect()
    }
    fn rows(&self, name: &str, rows: usize) -> Vec<Vec<f64>> {
        let all = self.numbers(name);
        all.chunks(all.len() / rows).map(<[f64]>::to_vec).collect()
    }
}

fn joined(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn log_softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = row.iter().map(|z| (z - max).exp()).sum::<f64>().ln() + max;
    row.iter().map(|z| z - total).collect()
}

/// C the slow way: logsumexp minus the mean of the twenty largest.
fn confidence(row: &[f64]) -> f64 {
    let mut p = log_softmax(row);
    p.sort_by(|a, b| b.total_cmp(a));
    -p[..20].iter().sum::<f64>() / 20.0
}

#[track_caller]
fn close(a: &Value, b: f64, what: &str) {
    let a = a.as_f64().unwrap_or_else(|| panic!("{what}: {a} is no number"));
    assert!((a - b).abs() <= BOUND, "{what}: {a} is not {b}");
}

/// Models with their goldens. The GGUF file holds the weights of case-gqa.
const SCORED: [(&str, &str); 4] = [
    ("golden/case-gqa", "golden/case-gqa"),
    ("golden/case-mha-groups-sharded", "golden/case-mha-groups-sharded"),
    ("golden/case-tiny-like-bf16", "golden/case-tiny-like-bf16"),
    ("golden/gguf-gqa/gqa-f32.gguf", "golden/case-gqa"),
];

#[test]
fn score_gives_the_golden_numbers() {
    for (model, golden) in SCORED {
        let golden = Golden::read(&format!("{golden}/golden.safetensors"));
        let ids = golden.ids("prompt_ids");
        let logits = golden.rows("logits_ref64", ids.len());
        let (top_ids, top_logprobs) = (
            golden.rows("top20_ids", ids.len()),
            golden.rows("top20_logprobs", ids.len()),
        );
        let window = 16;
        let args = [
            "score",
            "--model",
            &path(model),
            "--token-ids",
            &joined(&ids),
            "--dtype",
            "f32",
            "--json",
            "--window",
            "16",
        ];
        let scored = &ran(&args).objects()[0];
        assert_eq!(scored["token_ids"], Value::from(ids.clone()), "{model}");
        assert!(scored["logprobs"][0].is_null());
        let mut c = Vec::new();
        for (i, row) in logits.iter().enumerate() {
            let what = format!("{model}, token {i}");
            c.push(confidence(row));
            close(&scored["confidence"][i], c[i], &what);
            if let Some(next) = ids.get(i + 1) {
                close(
                    &scored["logprobs"][i + 1],
                    log_softmax(row)[*next as usize],
                    &what,
                );
            }
            if i + 1 < window {
                assert!(scored["group_confidence"][i].is_null(), "{what}");
            } else {
                close(
                    &scored["group_confidence"][i],
                    c[i + 1 - window..].iter().sum::<f64>() / window as f64,
                    &what,
                );
            }
            let top = scored["top"][i].as_array().unwrap();
            assert_eq!(top.len(), 20, "{what}");
            for (k, entry) in top.iter().enumerate() {
                assert_eq!(entry[0].as_f64().unwrap(), top_ids[i][k], "{what}, {k}");
                close(&entry[1], top_logprobs[i][k], &what);
            }
        }
    }
}

#[test]
fn score_reads_texts_as_well_as_ids() {
    let model = path("golden/case-gqa");
    let of_text = &ran(&[
        "score",
        "--model",
        &model,
        "--text",
        "Let x = 12.",
        "--json",
        "--top-k",
        "0",
    ])
    .objects()[0];
    let ids: Vec<u32> = serde_json::from_value(of_text["token_ids"].clone()).unwrap();
    let of_ids = &ran(&[
        "score",
        "--model",
        &model,
        "--token-ids",
        &joined(&ids),
        "--json",
        "--top-k",
        "0",
        "--threads",
        "1",
    ])
    .objects()[0];
    assert_eq!(of_text, of_ids);
    let of_stdin = super::Ran::of(
        super::tts(&["score", "--model", &model, "-", "--json", "--top-k", "0"]).write_stdin("Let x = 12."),
    );
    assert_eq!(&of_stdin.objects()[0], of_text);
    assert_eq!(
        ran(&["score", "--model", &model, "--text", "Let x = 12."])
            .out
            .lines()
            .count(),
        ids.len()
    );
}

#[test]
fn complete_continues_greedily_as_the_goldens_do() {
    let folders = [
        "golden/case-gqa",
        "golden/case-mha-groups-sharded",
        "golden/case-tiny-like-bf16",
        "variants/biases",
        "variants/norm-before-gate",
        "variants/mqa-no-conv-bias",
        "variants/tied",
    ];
    for folder in folders {
        let golden = Golden::read(&format!("{folder}/golden.safetensors"));
        let (prompt, greedy) = (golden.ids("prompt_ids"), golden.ids("greedy_ids"));
        let n = greedy.len().to_string();
        let args = [
            "complete",
            "--model",
            &path(folder),
            "--token-ids",
            &joined(&prompt),
            "--max-tokens",
            &n,
            "--temperature",
            "0",
        ];
        let rest = [
            "--ignore-eos",
            "--dtype",
            "f32",
            "--json",
            "--repetition-penalty",
            "1",
        ];
        let done = &ran(&[&args[..], &rest[..]].concat()).objects()[0];
        assert_eq!(done["token_ids"], Value::from(greedy.clone()), "{folder}");
        assert_eq!(
            (&done["trace"], &done["finish"]),
            (&Value::from(0), &Value::from("length"))
        );
        assert_eq!(
            done["text"].is_null(),
            !fixture(folder).join("tokenizer.json").exists(),
            "{folder}"
        );
        for (i, row) in golden.rows("greedy_logits", greedy.len()).iter().enumerate() {
            close(&done["logprobs"][i], log_softmax(row)[greedy[i] as usize], folder);
            close(&done["confidence"][i], confidence(row), folder);
        }
    }
}

#[test]
fn continuations_do_not_depend_on_the_batch_or_the_threads() {
    let run = |rest: &[&str]| {
        let model = path("golden/case-gqa");
        let args = [
            "complete",
            "--model",
            &model,
            "--text",
            "Let x",
            "--traces",
            "9",
            "--max-tokens",
            "40",
            "--seed",
            "5",
            "--json",
        ];
        ran(&[&args[..], rest].concat()).out
    };
    let alone = run(&["--max-batch", "1", "--threads", "1"]);
    assert_eq!(alone.lines().count(), 9);
    assert_eq!(alone, run(&["--max-batch", "64", "--threads", "2"]));
    assert_eq!(alone, run(&["--slots", "4"]));
    let all: std::collections::BTreeSet<_> = alone
        .lines()
        .map(|l| l.split("token_ids").nth(1).unwrap())
        .collect();
    assert_eq!(all.len(), 9, "each trace has its own random numbers");
}
