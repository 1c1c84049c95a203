//! Run folders that an earlier version wrote: `tests/fixtures/run-schema-1` holds two problems, decided by
//! plain majority over six traces and gone on with by deepconf-low over eight.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Ran, ran, refused, tts};
use crate::fixture;

/// A copy of the folder, and its set of problems.
fn old(home: &Path) -> (PathBuf, String) {
    let from = fixture("run-schema-1");
    let dir = home.join("run");
    fs::create_dir(&dir).unwrap();
    for name in ["manifest.json", "traces.jsonl", "tokens.bin", "problems.jsonl"] {
        fs::copy(from.join(name), dir.join(name)).unwrap();
    }
    (dir, from.join("set.jsonl").display().to_string())
}

/// The lines of problems.jsonl that a strategy decided, by problem, without what belongs to that day alone.
fn decided(dir: &Path, strategy: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("problems.jsonl")).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
    settled(lines.filter(|l| l["strategy"] == strategy).collect())
}

fn settled(mut lines: Vec<Value>) -> Vec<Value> {
    for line in &mut lines {
        for field in ["decisions", "machine", "seconds"] {
            line.as_object_mut().unwrap().remove(field);
        }
    }
    lines.sort_by_key(|l| l["problem_id"].to_string());
    lines
}

const LOW: [&str; 8] = [
    "--strategy",
    "deepconf-low",
    "--traces",
    "8",
    "--warmup",
    "4",
    "--keep-top",
    "0.5",
];

/// The command that recorded it.
fn solve<'a>(dir: &'a str, set: &'a str, with: &[&'a str]) -> Vec<&'a str> {
    let rest = [
        "--slots",
        "4",
        "--max-tokens",
        "256",
        "--tier",
        "portable",
        "--json",
    ];
    [&["solve", "--data", set, "--run", dir][..], with, &rest].concat()
}

#[test]
fn an_old_folder_is_reported_replayed_and_printed_again() {
    let home = tempfile::tempdir().unwrap();
    let (dir, set) = old(home.path());
    let path = dir.display().to_string();
    let report = ran(&["report", &path, "--json"]).objects().remove(0);
    assert_eq!(
        (&report["counts"]["problems"], &report["counts"]["graded"]),
        (&2.into(), &2.into())
    );
    let arms = report["arms"].as_array().unwrap();
    for (strategy, budget) in [("majority", 6), ("deepconf-low", 8)] {
        let of = |a: &&Value| a["strategy"] == strategy && a["basis"] == "live";
        let arm = arms.iter().find(of).unwrap();
        assert_eq!(
            (&arm["budget"], &arm["problems"], &arm["slots"]),
            (&budget.into(), &2.into(), &4.into())
        );
    }
    let facts = report["about"].to_string();
    for part in [
        "portable",
        "sampling.temperature",
        "0.95",
        "6361435b9e23230f",
        "deepconf-online",
    ] {
        assert!(facts.contains(part), "{part} is not in {facts}");
    }
    // the strategy that it was last decided with, and another one by name
    for strategy in ["deepconf-low", "majority"] {
        let mut args = vec!["replay", &path, "--json"];
        if strategy == "majority" {
            args.extend(["--strategy", "majority", "--traces", "6", "--slots", "4"]);
        }
        let replayed = settled(ran(&args).objects());
        assert_eq!(
            replayed,
            decided(&fixture("run-schema-1"), strategy),
            "{strategy}"
        );
    }
    // the same command has nothing left to do
    let lines = fs::read(dir.join("traces.jsonl")).unwrap();
    for (strategy, flags) in [
        ("majority", &["--strategy", "majority", "--traces", "6"][..]),
        ("deepconf-low", &LOW),
    ] {
        let again = settled(ran(&solve(&path, &set, flags)).objects());
        assert_eq!(again, decided(&dir, strategy), "{strategy}");
    }
    assert_eq!(
        fs::read(dir.join("traces.jsonl")).unwrap(),
        lines,
        "nothing is generated"
    );
}

#[test]
fn an_old_folder_that_was_killed_is_gone_on_with() {
    let home = tempfile::tempdir().unwrap();
    let (dir, set) = old(home.path());
    let path = dir.display().to_string();
    let first = |name: &str, n: usize| {
        let text = fs::read_to_string(dir.join(name)).unwrap();
        let kept: String = text.lines().take(n).map(|l| format!("{l}\n")).collect();
        fs::write(dir.join(name), kept).unwrap();
    };
    first("problems.jsonl", 2);
    first("traces.jsonl", 9);
    let went_on = Ran::of(&mut tts(&solve(&path, &set, &LOW)));
    assert!(went_on.err.contains("going on with"), "{}", went_on.err);
    assert_eq!(
        settled(went_on.objects()),
        decided(&fixture("run-schema-1"), "deepconf-low")
    );
    // other traces do not mix with these
    let seeded = [&solve(&path, &set, &LOW)[..], &["--seed", "1"]].concat();
    refused(&seeded, &["`seed` was 0 and is now 1", "name another folder"]);
}

#[test]
fn a_folder_that_cannot_be_understood_is_refused_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let (dir, set) = old(home.path());
    let path = dir.display().to_string();
    let manifest = fs::read_to_string(dir.join("manifest.json")).unwrap();
    for (from, to, parts) in [
        ("\"schema\": 1", "\"schema\": 9", ["schema 9", "reads up to 1"]),
        (
            "\"seed\": 0",
            "\"seed\": \"zero\"",
            ["invalid type: string \"zero\"", "restore the file"],
        ),
    ] {
        assert!(manifest.contains(from));
        fs::write(dir.join("manifest.json"), manifest.replace(from, to)).unwrap();
        refused(&solve(&path, &set, &LOW), &parts);
    }
}
