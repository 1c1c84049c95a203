//! Recordings that are not as they should be: shown harmlessly, said, counted; never a panic.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};
use tts::report::{Report, ReportOptions, TableKind, Theme};

use super::page::{balanced, data, self_contained};

fn recording(folder: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("traces.jsonl");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn of(lines: &[Value]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
    Report::open(&recording(&folder, text.as_bytes()), &ReportOptions::default()).unwrap()
}

/// Makes everything that can be made of a report.
fn everything(report: &Report) -> String {
    let html = report.html();
    balanced(&html);
    self_contained(&html);
    for plot in report.plots() {
        let svg = plot.svg();
        balanced(&svg);
        assert!(!svg.contains("NaN") && plot.png(Theme::Dark).is_some());
        assert!(svg.chars().all(|c| c == '\n' || !c.is_control()));
    }
    for table in report.tables() {
        assert!(
            table.rows.iter().all(|r| r.len() == table.columns.len()),
            "{}",
            table.title
        );
    }
    for (_, kind) in TableKind::ALL {
        report.csv(kind);
    }
    assert!(report.markdown().chars().all(|c| c == '\n' || !c.is_control()));
    serde_json::to_string(report).unwrap();
    html
}

#[test]
fn markup_and_control_characters_are_shown_and_do_nothing() {
    let id = "</script><script>alert(1)</script>\u{1b}[31m\"'&\u{202e}|`";
    let lines: Vec<_> = (0..4)
        .map(|i| {
            json!({
                "problem_id": id, "trace": i, "answer": "<b>\u{7}</b>", "tokens": 5 + i,
                "gold": if i == 0 { Value::from("<i>") } else { Value::Null }
            })
        })
        .collect();
    let report = of(&lines);
    let html = everything(&report);
    assert!(!html.contains("<script>alert") && !html.contains('\u{1b}') && !html.contains('\u{202e}'));
    assert!(html.contains("&lt;/script&gt;&lt;script&gt;alert(1)"));
    assert_eq!(
        data(&html)["problems"][0]["id"],
        id,
        "the data keep what was recorded"
    );
    assert_eq!(report.problems[0].majority.as_ref().map(|m| m.votes), Some(4));
}

#[test]
fn what_is_missing_is_said() {
    let said = |report: &Report, part: &str| {
        assert!(
            report.warnings.iter().any(|w| w.contains(part)),
            "{part}: {:?}",
            report.warnings
        )
    };
    // no gold, no confidence, one trace
    let report = of(&[json!({"problem_id": "p", "trace": 0, "answer": "1", "tokens": 3})]);
    everything(&report);
    said(&report, "no gold answer");
    said(&report, "no confidence is on record for 1 of 1 complete trace");
    assert!(
        report.average.is_none()
            && report.comparisons.is_empty()
            && report.arms.iter().all(|a| a.accuracy.is_none())
    );
    // one problem: nothing is said about other problems
    let report = of(&[
        json!({"problem_id": "p", "trace": 0, "answer": "1", "tokens": 3, "gold": "1"}),
        json!({"problem_id": "p", "trace": 1, "answer": "2", "tokens": 4}),
    ]);
    everything(&report);
    assert!(report.arms.iter().all(|a| a.accuracy.unwrap().problems.is_none()));
    assert!(report.average.unwrap().se.is_nan());
    // pruned: what was stopped is not guessed
    let report = of(&[
        json!({"problem_id": "p", "trace": 0, "answer": "1", "tokens": 3, "gold": "1"}),
        json!({"problem_id": "p", "trace": 1, "tokens": 4, "finish": "low_confidence"}),
    ]);
    everything(&report);
    said(&report, "1 trace stopped");
    assert!(report.pass_at.is_empty() && report.average.is_none() && report.arms.is_empty());
    // some problems without gold, one without a complete trace
    let report = of(&[
        json!({"problem_id": "a", "trace": 0, "answer": "1", "tokens": 3, "gold": "1"}),
        json!({"problem_id": "b", "trace": 0, "answer": "1", "tokens": 3}),
        json!({"problem_id": "c", "trace": 0, "tokens": 0, "finish": "cancelled"}),
    ]);
    everything(&report);
    said(&report, "2 problems without a gold answer");
    said(&report, "1 problem without a complete trace");
}

#[test]
fn broken_lines_are_counted_and_an_empty_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = b"{\"problem_id\": \"p\", \"trace\": 0, \"answer\": \"1\", \"tokens\": 2, \"confidence\": \
                  [NaN, 4.0], \"gold\": \"1\"}\nnot json\n{\"problem_id\": \"q\xff\xfe\", \"trace\": 0, \
                  \"answer\": \"\xc3\x28\", \"tokens\": 2}\n{\"problem_id\": \"p\", \"trace\": 1, \"tok";
    let report = Report::open(&recording(&folder, bytes), &ReportOptions::default()).unwrap();
    everything(&report);
    for part in ["not JSON", "not UTF-8", "NaN", "unfinished"] {
        assert!(
            report.warnings.iter().any(|w| w.contains(part)),
            "{part}: {:?}",
            report.warnings
        );
    }
    assert_eq!((report.counts.problems, report.counts.traces), (2, 2));
    let empty = tempfile::tempdir().unwrap();
    let report = Report::open(&recording(&empty, b""), &ReportOptions::default()).unwrap();
    everything(&report);
    assert!(
        report.warnings.iter().any(|w| w.contains("no problem here")),
        "{:?}",
        report.warnings
    );
    let nothing = tempfile::tempdir().unwrap();
    let error = Report::open(nothing.path(), &ReportOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("no recording"), "{error}");
}

fn line() -> impl Strategy<Value = Value> {
    let id = prop_oneof![
        Just("p".to_owned()),
        Just("q".to_owned()),
        "\\PC{0,6}",
        any::<String>()
    ];
    let finish = prop_oneof![
        4 => Just("stop"), 1 => Just("length"), 1 => Just("loop"), 1 => Just("low_confidence"),
        1 => Just("failed")
    ];
    let confidence = prop::collection::vec(
        prop_oneof![
            8 => (0.0f64..30.0).prop_map(Value::from), 1 => Just(Value::Null), 1 => Just(Value::from(1e300))
        ],
        0..40,
    );
    (
        id,
        0u32..6,
        finish,
        prop::option::of("[0-9]{1,2}|\\\\frac\\{1\\}\\{2\\}|<b>"),
        confidence,
        1u64..50,
        prop::option::of("[0-9]"),
    )
        .prop_map(|(id, trace, finish, answer, confidence, tokens, gold)| {
            let n = if confidence.is_empty() {
                tokens
            } else {
                confidence.len() as u64
            };
            json!({
                "problem_id": id, "trace": trace, "finish": finish, "answer": answer,
                "confidence": confidence, "tokens": n, "gold": gold
            })
        })
}

/// Fewer cases than elsewhere, unless a number was asked for.
fn drawing_takes_time() -> ProptestConfig {
    let config = ProptestConfig::default();
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if asked { config.cases } else { 24 },
        ..config
    }
}

proptest! {
    #![proptest_config(drawing_takes_time())]
    #[test]
    fn any_recording_makes_a_report(lines in prop::collection::vec(line(), 1..40)) {
        let report = of(&lines);
        everything(&report);
        for arm in &report.arms {
            let fates: f64 = arm.token_fates.each().iter().map(|f| f.1).sum();
            prop_assert!((fates - arm.tokens).abs() < 1e-6);
            if let Some(a) = arm.accuracy {
                prop_assert!((0.0..=1.0).contains(&a.mean));
            }
        }
    }
}
