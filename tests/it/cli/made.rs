//! Strategies whose traces are made from others: live as replayed, and refused where there can be none.

use std::fs;

use serde_json::Value;

use super::{ran, refused};

fn settled(mut object: Value) -> Value {
    for field in ["seconds", "machine", "model"] {
        object.as_object_mut().unwrap().remove(field);
    }
    object
}

fn settle(objects: Vec<Value>) -> Vec<Value> {
    objects.into_iter().map(settled).collect()
}

/// Settings with which three problems come to traces that are made from others, and what their lines say of it.
const MADE: [(&[&str], &str); 3] = [
    (
        &[
            "--strategy",
            "continuation",
            "--certainty",
            "0.999",
            "--spacing",
            "16",
        ],
        "\"fork\":{\"trace\":",
    ),
    (
        &[
            "--strategy",
            "particles",
            "--alpha",
            "3",
            "--resample-below",
            "0.95",
            "--spacing",
            "16",
        ],
        "\"fork\":{\"trace\":",
    ),
    (
        &[
            "--strategy",
            "second-look",
            "--certainty",
            "0.999",
            "--most-traces",
            "6",
        ],
        "\"shown\":[",
    ),
];

const SET: [&str; 9] = [
    "--data", "heldout", "--limit", "3", "--traces", "24", "--slots", "6", "--json",
];

#[test]
fn traces_made_from_others_are_replayed_as_they_were_live() {
    let folder = tempfile::tempdir().unwrap();
    for (strategy, says) in MADE {
        let dir = folder.path().join(strategy[1]).to_str().unwrap().to_owned();
        let solve = [&["solve"][..], &SET, strategy].concat();
        let live = ran(&[&solve[..], &["--run", &dir, "--threads", "2"]].concat());
        let lines = fs::read_to_string(format!("{dir}/traces.jsonl")).unwrap();
        assert!(lines.matches(says).count() > 2, "{strategy:?}");
        let replayed = ran(&["replay", &dir, "--data", "heldout", "--json"]);
        assert_eq!(settle(replayed.objects()), settle(live.objects()), "{strategy:?}");
        let alone = ran(&[&solve[..], &["--threads", "1", "--max-batch", "4"]].concat());
        let answers = |objects: Vec<Value>| {
            objects
                .into_iter()
                .map(|o| o["answer"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(answers(alone.objects()).len(), 3);
        // each generated token is counted once
        for (live, of) in live.objects().iter().zip(0..) {
            let id = live["problem_id"].as_str().unwrap();
            let own = |line: &Value| {
                line["tokens"].as_u64().unwrap() - line["fork"]["tokens"].as_u64().unwrap_or(0)
            };
            let all = lines.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
            let tokens: u64 = all.filter(|l| l["problem_id"] == id).map(|l| own(&l)).sum();
            assert_eq!(live["tokens"]["generated"], tokens, "{strategy:?}, {of}");
        }
        // other strategies decide over the traces that the model drew by itself
        let majority = ran(&[
            "replay",
            &dir,
            "--data",
            "heldout",
            "--strategy",
            "majority",
            "--json",
        ]);
        for (all, own) in live.objects().iter().zip(majority.objects()) {
            let launched = |o: &Value| o["traces"]["launched"].as_u64().unwrap();
            assert!(
                launched(&own) <= launched(all) && launched(&own) > 0,
                "{strategy:?}"
            );
        }
        ran(&[
            "sweep",
            "--replay",
            &dir,
            "--data",
            "heldout",
            "--strategies",
            "majority",
            "--traces",
            "4",
            "--resamples",
            "4",
        ]);
        ran(&["report", &dir]);
    }
}

#[test]
fn what_cannot_be_made_is_refused_before_a_token_is_spent() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    ran(&[
        &["solve"][..],
        &SET,
        &["--strategy", "majority", "--run", &dir("majority")],
    ]
    .concat());
    for (strategy, _) in MADE {
        let name = strategy[1];
        refused(
            &["replay", &dir("majority"), "--strategy", name],
            &[name, "needs traces", "this source of traces does not give"],
        );
        refused(
            &[
                "sweep",
                "--data",
                "heldout",
                "--limit",
                "1",
                "--strategies",
                name,
                "--traces",
                "4",
                "--run",
                &dir("sweep"),
            ],
            &["--strategies", name, "traces that are made from others"],
        );
        assert!(!folder.path().join("sweep").exists(), "nothing was recorded");
    }
    // the folder of one strategy is none of the other's, and stays as it was
    let manifest = || fs::read(folder.path().join("majority/manifest.json")).unwrap();
    let before = manifest();
    refused(
        &[&["solve"][..], &SET, MADE[0].0, &["--run", &dir("majority")]].concat(),
        &["strategy `majority`", "`continuation`", "name another folder"],
    );
    assert!(manifest() == before);
    for (flag, value) in [
        ("--spacing", "0"),
        ("--seeds", "0"),
        ("--fork-from", "1"),
        ("--keep-top", "0"),
    ] {
        refused(
            &["solve", "1+1", "--strategy", "continuation", flag, value],
            &["must be"],
        );
    }
    for (flag, value) in [
        ("--alpha", "0.5"),
        ("--resample-below", "1.5"),
        ("--alpha", "nan"),
    ] {
        refused(&["solve", "1+1", "--strategy", "particles", flag, value], &[]);
    }
    for (flag, value) in [("--looks", "0"), ("--show", "0")] {
        refused(
            &["solve", "1+1", "--strategy", "second-look", flag, value],
            &["must be"],
        );
    }
}

#[test]
fn the_second_prompt_is_shown_and_a_budget_without_one_is_said() {
    let shown = ran(&[
        "solve",
        "What is 1+1?",
        "--strategy",
        "second-look",
        "--show",
        "2",
        "--dry-run",
        "--json",
    ]);
    let second = shown.objects()[0]["second_prompt"].as_str().unwrap().to_owned();
    assert!(
        second.contains("What is 1+1?") && second.contains("[Attempt 2]") && !second.contains("[Attempt 3]")
    );
    let plain = ran(&["solve", "What is 1+1?", "--dry-run", "--json"]);
    assert_eq!(plain.objects()[0]["second_prompt"], Value::Null);
    // budgets that leave no trace for it are said
    let none = ran(&[
        "solve",
        "--data",
        "heldout",
        "--limit",
        "3",
        "--strategy",
        "second-look",
        "--traces",
        "6",
        "--most-traces",
        "6",
        "--certainty",
        "0.9999",
        "--json",
    ]);
    let warned = none
        .objects()
        .iter()
        .filter(|o| {
            o["warnings"]
                .to_string()
                .contains("no trace left for a second look")
        })
        .count();
    assert!(warned > 0, "{:?}", none.out);
}

/// A recording that lacks traces is said to, and what there is of it is not taken for another trace.
#[test]
fn a_gap_in_what_was_made_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run").to_str().unwrap().to_owned();
    let strategy = MADE[2].0;
    ran(&[&["solve"][..], &SET, strategy, &["--run", &dir]].concat());
    let path = format!("{dir}/traces.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    for trace in [2, 6, 7, 9] {
        let gap = format!("\"trace\":{trace},");
        let without: String = whole
            .lines()
            .filter(|l| !l.contains(&gap))
            .map(|l| format!("{l}\n"))
            .collect();
        assert!(without.len() < whole.len());
        fs::write(&path, without).unwrap();
        let replayed = super::Ran::of(&mut super::tts(&["replay", &dir, "--data", "heldout", "--json"]));
        assert!(matches!(replayed.code, 0..=2), "{}", replayed.err);
        for object in replayed.objects() {
            if let Some(solution) = object["solution"].as_str() {
                assert!(solution.contains(object["answer"].as_str().unwrap()), "{object}");
            }
        }
    }
}
