//! Verdicts on recorded cases: a prediction or a text, a gold answer, and whether one is right for the other.

use serde_json::Value;
use tts_evals::answer::{AnswerKind, EqualOptions, ExtractRules, canonical, equal, extract};

/// The cases of the fixture, or of the file that `TTS_CASES` names.
fn cases() -> Vec<Value> {
    let text = match std::env::var("TTS_CASES") {
        Ok(file) => std::fs::read_to_string(file).expect("the file of cases is readable"),
        Err(_) => include_str!("fixtures/answers.jsonl").to_owned(),
    };
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a JSON object"))
        .collect()
}

#[test]
fn every_case_has_the_verdict_that_a_reader_would_give() {
    let mut wrong = Vec::new();
    for case in cases() {
        let text = |key: &str| case[key].as_str();
        let gold = text("gold").expect("a gold answer");
        let answer = match (text("prediction"), text("text")) {
            (Some(prediction), _) => Some(prediction.to_owned()),
            (None, Some(text)) => extract(text, &ExtractRules::default()).map(|e| e.answer),
            (None, None) => panic!("a prediction or a text"),
        };
        let verdict = answer
            .as_deref()
            .map(|a| equal(a, gold, AnswerKind::Math, &EqualOptions::default()));
        if verdict.is_some_and(|v| v.equal) != case["want"].as_bool().expect("a verdict") {
            let keys = [answer.as_deref(), Some(gold)].map(|a| a.map(|a| canonical(a, AnswerKind::Math)));
            wrong.push(format!("{case} -> {answer:?} {verdict:?} {keys:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}
