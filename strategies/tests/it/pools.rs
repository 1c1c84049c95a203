//! Replayer answer pools, decided one trace at a time in the order of the file; ignored unless asked for,
//! since the pools are not part of the repository. `fixtures/pools_golden.json` holds what an independent
//! script made of them.
//!
//! `TTS_FACTS=<folder> cargo test -p tts-strategies --test it pools -- --ignored`

use serde_json::Value;
use tts_strategies::{ClassId, Fate, Finish, Overrides};

use crate::sim::{Script, build, run};

struct Pool {
    gold: String,
    answers: Vec<String>,
    lengths: Vec<usize>,
}

fn pools(folder: &str, name: &str) -> Vec<Pool> {
    let text = std::fs::read_to_string(format!("{folder}/pools/{name}.jsonl")).expect("the pool is readable");
    let problem = |line: &str| {
        let v: Value = serde_json::from_str(line).expect("a JSON object");
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        Pool {
            gold: text(&v["gold"]),
            answers: v["answers"]
                .as_array()
                .expect("answers")
                .iter()
                .map(|a| a.as_str().unwrap_or_default().to_owned())
                .collect(),
            lengths: v["lengths"]
                .as_array()
                .expect("lengths")
                .iter()
                .map(|n| n.as_u64().expect("a length") as usize)
                .collect(),
        }
    };
    text.lines().map(problem).collect()
}

/// Right answers, traces and tokens of a strategy over the first `k` traces of every problem.
fn decide(pools: &[Pool], name: &str, o: Overrides, k: usize, slots: usize) -> (u64, u64, u64) {
    let (mut right, mut samples, mut tokens) = (0, 0, 0);
    for pool in pools {
        let class = |answer: &String| {
            pool.answers
                .iter()
                .position(|a| a == answer)
                .filter(|_| !answer.is_empty())
        };
        let script = |i: usize| Script {
            confidences: vec![9.0; pool.lengths[i]],
            class: class(&pool.answers[i]).map(|c| c as u32),
            finish: Finish::Stop,
        };
        let scripts: Vec<Script> = (0..k.min(pool.answers.len())).map(script).collect();
        let r = run(&mut *build(name, o.clone()), &scripts, slots);
        right += u64::from(
            r.decision
                .answer
                .is_some_and(|ClassId(c)| pool.answers[c as usize] == pool.gold),
        );
        samples += r.traces.values().filter(|t| t.0 != Fate::Cancelled).count() as u64;
        tokens += r.generated as u64;
    }
    (right, samples, tokens)
}

#[test]
#[ignore = "needs TTS_FACTS"]
fn the_golden_decisions() {
    let folder = std::env::var("TTS_FACTS").expect("TTS_FACTS names the folder of the pools");
    let golden: Value = serde_json::from_str(include_str!("../fixtures/pools_golden.json")).expect("JSON");
    for (name, of) in golden.as_object().expect("an object") {
        let pools = pools(&folder, name);
        let check = |key: &str, (right, samples, tokens): (u64, u64, u64)| {
            let expected = &of[key];
            if expected.is_null() {
                return;
            }
            let number = |field: &str, got: u64| expected[field].as_u64().unwrap_or(got);
            assert_eq!(
                (right, samples, tokens),
                (
                    number("correct", right),
                    number("samples", samples),
                    number("tokens", tokens)
                ),
                "{name}: {key}"
            );
        };
        for k in [1, 4, 8, 16, 32, 64, 80] {
            if let Some(right) = of[format!("maj@{k}_first_k")].as_u64() {
                assert_eq!(
                    decide(&pools, "majority", Overrides::default(), k, 1).0,
                    right,
                    "{name}: {k}"
                );
            }
        }
        for k in [5, 10, 20, 40] {
            check(
                &format!("maj@{k}"),
                decide(&pools, "majority", Overrides::default(), k, 1),
            );
            for m in [1, 3] {
                let o = Overrides::default().with("first", m);
                check(&format!("short-{m}@{k}"), decide(&pools, "short-m-at-k", o, k, k));
            }
        }
        check(
            "adaptive_beta_.95_max40",
            decide(&pools, "adaptive-consistency", Overrides::default(), 40, 1),
        );
        check("esc_w5_L40", decide(&pools, "esc", Overrides::default(), 40, 1));
    }
}
