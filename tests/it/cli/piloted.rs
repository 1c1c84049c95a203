//! `tts pilot` over pools that were made so that one strategy is best.

use serde_json::{Value, json};

use super::{ran, write};

const PROBLEMS: u64 = 40;
const TRACES: usize = 32;

/// Numbers in 0..1 that depend on their seed alone.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x >> 11) as f64 / (1u64 << 53) as f64
    }
    /// Between `middle - half` and `middle + half`.
    fn around(&mut self, middle: f64, half: f64) -> f64 {
        middle + (2.0 * self.next() - 1.0) * half
    }
}

/// A trace to be: how many of these, what they answer, how long they are, the mean confidence, how far it falls
/// for a third of the trace, and the mean log-probability.
struct Kind {
    count: usize,
    answer: &'static str,
    tokens: usize,
    confidence: f64,
    dip: f64,
    logprob: f64,
}

impl Default for Kind {
    fn default() -> Self {
        Self {
            count: 1,
            answer: "5",
            tokens: 60,
            confidence: 10.0,
            dip: 0.0,
            logprob: -0.5,
        }
    }
}

/// Problems whose answer is 5, with traces of these kinds.
fn pools(kinds: &[Kind]) -> String {
    let mut numbers = Numbers(7);
    let mut pool = |problem: u64| {
        let (mut answers, mut lengths, mut confidences, mut logprobs) = (vec![], vec![], vec![], vec![]);
        for kind in kinds {
            for _ in 0..kind.count {
                let tokens = (kind.tokens as f64 * numbers.around(1.0, 0.1)) as usize;
                let (confidence, logprob) = (
                    numbers.around(kind.confidence, 1.0),
                    numbers.around(kind.logprob, 0.1),
                );
                let middle = tokens / 3..2 * tokens / 3;
                let of = |i: usize| {
                    confidence
                        - if middle.contains(&i) {
                            kind.dip
                        } else {
                            -kind.dip / 2.0
                        }
                };
                answers.push(kind.answer);
                lengths.push(tokens);
                confidences.push((0..tokens).map(of).collect::<Vec<_>>());
                logprobs.push(vec![logprob; tokens]);
            }
        }
        assert_eq!(answers.len(), TRACES);
        json!({
            "problem_id": format!("p{problem}"), "gold": "5", "answers": answers, "lengths": lengths,
            "confidences": confidences, "logprobs": logprobs,
        })
    };
    (0..PROBLEMS).map(|p| pool(p).to_string() + "\n").collect()
}

fn advice(kinds: &[Kind]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, "pools.jsonl", &pools(kinds));
    let budget = TRACES.to_string();
    ran(&[
        "pilot", "--replay", &file, "--budget", &budget, "--draws", "3", "--margin", "0.1", "--json",
    ])
    .objects()
    .remove(0)
}

#[track_caller]
fn named(kinds: &[Kind], strategy: &str, evidence: &str) {
    let pilot = advice(kinds);
    let table: Vec<String> = pilot["trials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| {
            format!(
                "{} {} {} {} {}",
                t["strategy"], t["slots"], t["difference"], t["may_lose"], t["tokens"]
            )
        })
        .collect();
    let verdict = &pilot["verdict"];
    assert_eq!(
        pilot["advice"]["strategy"],
        strategy,
        "{verdict} {}",
        table.join("\n")
    );
    assert_eq!(verdict["evidence"], evidence, "{verdict}");
}

#[test]
fn majority_where_those_that_end_early_are_wrong() {
    let kinds = [
        Kind {
            count: 18,
            tokens: 200,
            ..Kind::default()
        },
        Kind {
            count: 14,
            answer: "6",
            tokens: 20,
            ..Kind::default()
        },
    ];
    named(&kinds, "majority", "not-enough");
}

#[test]
fn deepconf_where_most_are_wrong_and_waver_and_the_surest_one_is_wrong_too() {
    let kinds = [
        Kind {
            count: 11,
            confidence: 12.0,
            ..Kind::default()
        },
        Kind {
            count: 19,
            answer: "6",
            confidence: 10.0,
            dip: 4.0,
            ..Kind::default()
        },
        Kind {
            count: 2,
            answer: "7",
            confidence: 18.0,
            dip: 12.0,
            ..Kind::default()
        },
    ];
    named(&kinds, "deepconf-low", "enough");
}

#[test]
fn adaptive_where_the_right_ones_are_more_probable() {
    let kinds = [
        Kind {
            count: 23,
            logprob: -0.3,
            ..Kind::default()
        },
        Kind {
            count: 9,
            answer: "6",
            logprob: -0.7,
            ..Kind::default()
        },
    ];
    named(&kinds, "adaptive", "enough");
}

#[test]
fn best_of_n_where_a_single_sure_trace_is_right() {
    let kinds = [
        Kind {
            count: 1,
            confidence: 18.0,
            dip: 12.0,
            ..Kind::default()
        },
        Kind {
            count: 31,
            answer: "6",
            ..Kind::default()
        },
    ];
    named(&kinds, "best-of-n", "enough");
}
