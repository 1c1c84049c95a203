//! The pilot: sure where there is reason to be, and not otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tts::evals::answer::{AnswerKind, RuleReader};
use tts::pilot::{Pilot, PilotError, PilotOptions, Verdict, WINDOWS, pilot};
use tts::run::{PoolOptions, RecordedPool, Replayer};

/// Numbers between 0 and 1 from a counter (G. Steele, D. Lea, C. Flood, 2014).
struct Split(u64);

impl Split {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Problems with `traces` traces each, right with a chance of `right`; confidence is lower by `told` where a
/// trace is wrong.
fn recording(problems: usize, traces: usize, right: f64, told: f64) -> Vec<Value> {
    let mut random = Split(1);
    let mut lines = Vec::new();
    for p in 0..problems {
        for t in 0..traces {
            let is_right = random.next() < right;
            let n = 40 + (random.next() * 20.0) as usize;
            let level = 10.0 + random.next() - if is_right { 0.0 } else { told };
            let confidence: Vec<f64> = (0..n).map(|_| level + random.next()).collect();
            let answer = if is_right {
                1
            } else {
                2 + (random.next() * 3.0) as usize
            };
            lines.push(json!({
                "problem_id": format!("p{p}"), "trace": t, "answer": answer.to_string(), "gold": "1",
                "tokens": n, "confidence": confidence
            }));
        }
    }
    lines
}

fn tried(lines: &[Value], options: PilotOptions) -> Result<Pilot, PilotError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.jsonl");
    std::fs::write(&path, lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    let pool = PoolOptions {
        windows: WINDOWS.to_vec(),
        ..PoolOptions::default()
    };
    let recorded = Replayer::new(
        Arc::new(RecordedPool::open(&path, &pool).unwrap()),
        Arc::new(RuleReader::new(AnswerKind::Integer)),
        false,
    );
    let problems: Vec<_> = recorded.pool().problems().iter().collect();
    pilot(&recorded, &problems, &BTreeMap::new(), &options)
}

const OPTIONS: PilotOptions = PilotOptions {
    whole: 1000,
    budget: 16,
    margin: 0.05,
    speed: Some(100.0),
    draws: 8,
    seed: 0,
};

#[test]
fn ten_problems_are_too_few_and_it_says_how_many_would_do() {
    let result = tried(&recording(10, 16, 0.7, 3.0), OPTIONS).unwrap();
    assert_eq!((result.problems, result.graded, result.traces), (10, 10, 160));
    let lowest = result.scores.iter().find(|s| s.score == "lowest group").unwrap();
    assert!(lowest.auroc.mean > 0.95 && lowest.knows, "{lowest:?}");
    assert!(
        result
            .scores
            .windows(2)
            .all(|w| w[0].auroc.mean >= w[1].auroc.mean)
    );
    // the cheapest lost nothing of 10: up to 31% of others, by Clopper and Pearson; 5% needs 75 (72 and more, in
    // steps of 5)
    let cheapest = &result.trials[0];
    assert_eq!(
        (result.advice.strategy.as_str(), cheapest.lost),
        ("majority", Some(0.0))
    );
    assert!((cheapest.may_lose.unwrap() - (1.0 - 0.025f64.powf(0.1))).abs() < 1e-6);
    match &result.verdict {
        Verdict::NotEnough { why, problems_needed } => {
            assert!(why.starts_with(&cheapest.strategy), "{why}");
            assert_eq!(*problems_needed, Some(75));
        }
        Verdict::Enough => panic!("ten problems"),
    }
    // the whole set: the mean a problem, times the problems, at the speed
    assert_eq!(result.tokens, result.advice.tokens * 1000.0);
    assert_eq!(result.seconds, Some(result.tokens / 100.0));
    assert!(!result.replaced);
}

#[test]
fn enough_problems_are_enough() {
    let result = tried(&recording(80, 16, 0.8, 3.0), OPTIONS).unwrap();
    assert_eq!(result.verdict, Verdict::Enough, "{:?}", result.advice);
    assert!(result.advice.may_lose.unwrap() <= 0.05);
}

#[test]
fn confidence_that_knows_nothing_is_not_advised() {
    let result = tried(&recording(12, 16, 0.6, 0.0), OPTIONS).unwrap();
    assert!(
        result.scores.iter().all(|s| s.auroc.mean < 0.7),
        "{:?}",
        result.scores
    );
    assert!(!result.advice.reads_confidence, "{:?}", result.advice);
    // drawn with replacement where the budget is larger than what was recorded, and said
    let larger = tried(
        &recording(12, 16, 0.6, 0.0),
        PilotOptions {
            budget: 40,
            ..OPTIONS
        },
    )
    .unwrap();
    assert!(
        larger.replaced && larger.notes.iter().any(|n| n.contains("with replacement")),
        "{:?}",
        larger.notes
    );
    let plain = larger.trials.iter().find(|t| t.strategy == "majority").unwrap();
    assert!(
        (plain.tokens / 40.0 - 50.0).abs() < 3.0,
        "40 traces of 50 tokens: {}",
        plain.tokens
    );
    assert_eq!(
        (plain.difference, plain.may_lose, plain.share),
        (Some(0.0), Some(0.0), 1.0)
    );
}

#[test]
fn what_cannot_be_said_is_not_said() {
    // no gold
    let mut lines = recording(3, 4, 0.5, 1.0);
    lines.iter_mut().for_each(|l| l["gold"] = Value::Null);
    let result = tried(&lines, OPTIONS).unwrap();
    assert!(
        matches!(&result.verdict, Verdict::NotEnough { why, problems_needed: None } if why.contains("gold")),
        "{:?}",
        result.verdict
    );
    assert!(result.scores.is_empty() && result.right.is_none() && result.tokens > 0.0);
    // no confidence
    let mut lines = recording(3, 4, 0.5, 1.0);
    lines.iter_mut().for_each(|l| l["confidence"] = Value::Null);
    let result = tried(&lines, OPTIONS).unwrap();
    assert!(
        result.trials.iter().all(|t| !t.reads_confidence)
            && result.notes.iter().any(|n| n.contains("no confidences"))
    );
    // one problem, one trace
    let result = tried(&recording(1, 1, 1.0, 0.0), OPTIONS).unwrap();
    assert!(result.tokens_interval.is_none() && result.mixed == 0);
    assert_ne!(result.verdict, Verdict::Enough);
    // pruned
    let mut lines = recording(2, 4, 0.5, 1.0);
    lines[3]["finish"] = "low_confidence".into();
    let error = tried(&lines, OPTIONS).unwrap_err().to_string();
    assert!(
        error.contains("1 of 8") && error.contains("--strategy majority"),
        "{error}"
    );
    for (options, part) in [
        (PilotOptions { budget: 0, ..OPTIONS }, "--budget"),
        (
            PilotOptions {
                margin: f64::NAN,
                ..OPTIONS
            },
            "--margin",
        ),
        (PilotOptions { draws: 0, ..OPTIONS }, "--draws"),
    ] {
        assert!(
            tried(&recording(1, 2, 0.5, 0.0), options)
                .unwrap_err()
                .to_string()
                .contains(part)
        );
    }
}

#[test]
fn the_same_recording_gives_the_same_advice() {
    let lines = recording(4, 8, 0.6, 1.0);
    let json = |p: &Pilot| serde_json::to_string(p).unwrap();
    assert_eq!(
        json(&tried(&lines, OPTIONS).unwrap()),
        json(&tried(&lines, OPTIONS).unwrap())
    );
}
