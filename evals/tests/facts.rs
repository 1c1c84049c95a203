//! Runs files of recorded cases that are not part of the repository; ignored unless asked for.
//!
//! `TTS_FACTS=<folder> cargo test -p tts-evals --test facts -- --ignored --nocapture`
#![allow(clippy::print_stdout)]

use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;
use tts_evals::answer::{AnswerKind, EqualOptions, ExtractRules, ExtractionPath, canonical, equal, extract};
use tts_evals::data::{Fields, load};

fn rows(name: &str) -> Vec<Value> {
    let folder = std::env::var("TTS_FACTS").expect("TTS_FACTS names the folder of the fact files");
    let text = std::fs::read_to_string(format!("{folder}/{name}")).expect("the fact file is readable");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a JSON object"))
        .collect()
}

#[test]
#[ignore = "needs TTS_FACTS"]
fn pairs() {
    let mut tiers: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let mut must_fail = 0;
    for row in rows("math_equal_pairs.jsonl") {
        let text = |key: &str| row[key].as_str().expect("text");
        let (prediction, gold, tier) = (text("prediction"), text("gold"), text("tier"));
        let verdict = equal(prediction, gold, AnswerKind::Math, &EqualOptions::default());
        let right = verdict.equal == row["expected"].as_bool().expect("a boolean");
        let agree: u32 = text("agree")[..1].parse().expect("a digit");
        let must = (agree >= 4 || tier == "derived") && row.get("note").is_none() && text("id") != "p229";
        for key in [
            tier.to_owned(),
            if must {
                "must".to_owned()
            } else {
                "split".to_owned()
            },
        ] {
            let count = tiers.entry(key).or_default();
            count.0 += u32::from(right);
            count.1 += 1;
        }
        if !right {
            must_fail += u32::from(must);
            println!(
                "{} {} {agree}/5 {prediction:?} | {gold:?} -> {} ({})",
                if must { "MUST" } else { "    " },
                text("id"),
                verdict.equal,
                verdict.rule
            );
        }
    }
    println!("{tiers:?}");
    assert_eq!(must_fail, 0, "rows that must pass do not");
}

#[test]
#[ignore = "needs TTS_FACTS"]
fn extractions() {
    let rows = rows("extract_cases.jsonl");
    let pattern = Regex::new(r"(?:The )?final answer is (\S+)").expect("a pattern");
    let mut right = 0;
    for row in &rows {
        let text = row["text"].as_str().expect("text");
        let gold = row["answer"].as_str();
        let is_letter = gold.is_some_and(|g| {
            extract(g, &ExtractRules::choice()).is_some()
                && g.len() < 40
                && row["lang"].is_string()
                && !g.contains(|c: char| c.is_ascii_digit())
        });
        let steps = |s: &[ExtractionPath]| ExtractRules {
            pattern: Some(pattern.clone()),
            ..ExtractRules::steps(s)
        };
        let (rules, kind) = match row["mode"].as_str() {
            Some("regex strict") => (steps(&[ExtractionPath::Pattern]), AnswerKind::Text),
            Some(mode) if mode.contains("boxed first") => (
                steps(&[ExtractionPath::Boxed, ExtractionPath::Pattern]),
                AnswerKind::Text,
            ),
            Some(_) => (
                steps(&[ExtractionPath::Pattern, ExtractionPath::Boxed]),
                AnswerKind::Text,
            ),
            None if is_letter => (ExtractRules::choice(), AnswerKind::Choice),
            None => (ExtractRules::default(), AnswerKind::Math),
        };
        let found = extract(text, &rules);
        let expected = row.get("match").and_then(Value::as_bool).unwrap_or(true);
        let good = match (&found, gold) {
            (None, None) => true,
            (Some(e), Some(gold)) => {
                let gold = gold.split(" (after think)").next().unwrap_or(gold);
                let gold = if is_letter {
                    extract(gold, &rules).map_or(gold.to_owned(), |e| e.answer)
                } else {
                    gold.to_owned()
                };
                equal(&e.answer, &gold, kind, &EqualOptions::default()).equal == expected
            }
            (None, Some(_)) => !expected,
            _ => false,
        };
        right += usize::from(good);
        if !good {
            println!("{} {:?} wanted {gold:?} {expected}", row["id"], found);
        }
    }
    println!("{right} of {}", rows.len());
    assert!(right * 100 >= rows.len() * 95);
}

/// The public problem sets load, every gold answer is equal to itself, and it is rarely plain text.
#[test]
#[ignore = "needs TTS_FACTS"]
fn sets() {
    let folder = std::env::var("TTS_FACTS").expect("TTS_FACTS names the folder of the fact files");
    for (file, count, kind) in [
        ("aime2024.jsonl", 30, AnswerKind::Integer),
        ("aime2025.jsonl", 30, AnswerKind::Integer),
        ("math500.jsonl", 500, AnswerKind::Math),
        ("gsm8k_test.jsonl", 1319, AnswerKind::Integer),
    ] {
        let bytes = std::fs::read(format!("{folder}/{file}")).expect("the file is readable");
        let set = load(&bytes, file, &Fields::default()).expect("a problem set");
        assert_eq!((set.problems.len(), set.warnings.len()), (count, 0), "{file}");
        for problem in &set.problems {
            let gold = problem.answer.as_deref().expect("a gold answer");
            let key = canonical(gold, kind);
            assert!(
                equal(&format!("$ {gold} $"), gold, kind, &EqualOptions::default()).equal,
                "{gold}"
            );
            if kind == AnswerKind::Integer {
                assert!(
                    key.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit()),
                    "{gold}"
                );
            } else if key.contains(['\\', '$']) {
                println!("{} {gold:?} is the text {key:?}", problem.id);
            }
        }
    }
}

/// The digest that a task knows is that of the public copy.
#[test]
#[ignore = "needs TTS_FACTS"]
fn answers_of_tasks() {
    let folder = std::env::var("TTS_FACTS").expect("TTS_FACTS names the folder of the fact files");
    for (task, file) in [
        ("aime24", "aime2024.jsonl"),
        ("aime25", "aime2025.jsonl"),
        ("math500", "math500.jsonl"),
        ("gsm8k", "gsm8k_test.jsonl"),
    ] {
        let task = tts_evals::task::Task::named(task).expect("a task");
        let bytes = std::fs::read(format!("{folder}/{file}")).expect("the file is readable");
        let digest = load(&bytes, file, &Fields::default())
            .expect("a problem set")
            .answers_digest(task.grade.kind);
        println!("{} {digest}", task.name);
        assert_eq!(task.data.answers, Some(digest), "{}", task.name);
    }
}
