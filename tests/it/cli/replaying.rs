//! `tts replay`: over our own recordings what was live, token for token; over strangers' as far as they go.

use serde_json::{Value, json};

use super::{GCD, ran, refused, write};

/// A result without what no two runs share.
pub(super) fn settled(mut object: Value) -> Value {
    for field in ["seconds", "machine"] {
        object.as_object_mut().unwrap().remove(field);
    }
    object
}

fn strategies() -> Vec<String> {
    let list = ran(&["list", "strategies", "--json"]).objects();
    list.iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn live_is_replay_token_for_token_for_every_strategy() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let base = ["solve", GCD, "--traces", "40", "--slots", "7", "--max-tokens", "120", "--json"];
    ran(&[&base[..], &["--strategy", "majority", "--run", &dir("complete")]].concat());
    let mut pruned = 0;
    for strategy in strategies() {
        let own = dir(&strategy);
        let live = ran(&[&base[..], &["--strategy", &strategy, "--run", &own]].concat()).objects().remove(0);
        pruned += live["traces"]["stopped"].as_u64().unwrap() + live["traces"]["cancelled"].as_u64().unwrap();
        let again = ran(&["replay", &own, "--json"]).objects().remove(0);
        assert_eq!(settled(again), settled(live.clone()), "{strategy} over its own recording");
        let over_complete = ran(&["replay", &dir("complete"), "--strategy", &strategy, "--json"]).objects().remove(0);
        assert_eq!(settled(over_complete), settled(live), "{strategy} over complete traces");
    }
    assert!(pruned > 0, "the test must see strategies that stop and cancel");
}

#[test]
fn limits_and_other_settings_are_replayed_as_they_were_live() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let base = ["solve", "--data", "heldout", "--limit", "3", "--max-tokens", "150", "--json"];
    ran(&[&base[..], &["--traces", "32", "--strategy", "majority", "--run", &dir("complete")]].concat());
    for settings in [
        &["--traces", "32", "--slots", "5", "--strategy", "deepconf-high", "--window", "24", "--warmup", "8"][..],
        &["--traces", "20", "--slots", "20", "--strategy", "deepconf-low", "--consensus", "off", "--keep-top", "0.3"],
        &["--traces", "32", "--slots", "8", "--strategy", "majority", "--max-total-tokens", "1500"],
        &["--traces", "11", "--slots", "3", "--strategy", "deepconf-offline", "--statistic", "bottom"],
    ] {
        let live = ran(&[&base[..], settings].concat()).objects();
        let replayed = ran(&[&["replay", &dir("complete"), "--json"][..], settings].concat()).objects();
        let settle = |objects: Vec<Value>| objects.into_iter().map(settled).collect::<Vec<_>>();
        assert_eq!(settle(replayed), settle(live), "{settings:?}");
    }
    // the limit is part of what was decided: the recording's own decision has it
    let limited = dir("limited");
    let live = ran(&[&base[..], &["--traces", "32", "--strategy", "majority", "--max-total-tokens", "900", "--run", &limited]].concat());
    let again = ran(&["replay", &limited, "--json"]);
    assert_eq!(
        again.objects().into_iter().map(settled).collect::<Vec<_>>(),
        live.objects().into_iter().map(settled).collect::<Vec<_>>()
    );
    assert!(again.objects().iter().all(|o| o["cut"] == "max_total_tokens"));
}

#[test]
fn what_was_cut_off_is_not_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run").to_str().unwrap().to_owned();
    let live = ran(&["solve", GCD, "--traces", "40", "--max-tokens", "150", "--consensus", "off", "--json", "--run", &dir]).objects();
    let stopped = live[0]["traces"]["stopped"].as_u64().unwrap();
    assert!(stopped > 0);
    let replayed = ran(&["replay", &dir, "--strategy", "majority", "--json"]).objects().remove(0);
    assert_eq!(replayed["traces"]["failed"], stopped);
    let warnings = replayed["warnings"].to_string();
    assert!(warnings.contains(&format!("count as failed: {stopped}")), "{warnings}");
    let cut = ran(&["replay", &dir, "--traces", "400", "--strategy", "majority", "--json"]).objects().remove(0);
    assert!(cut["warnings"].to_string().contains("holds 40 traces"), "{cut}");
    assert_eq!(cut["traces"]["launched"], 40);
    refused(&["replay", &dir, "--traces", "0"], &["--traces 0"]);
    refused(&["replay", &dir, "--ids", "nobody"], &["nobody"]);
    refused(&["replay", "no-such-folder"], &["no-such-folder", "does not exist"]);
    refused(&["replay", folder.path().to_str().unwrap()], &["no recording"]);
}

#[test]
fn answers_and_lengths_are_enough_for_strategies_that_read_no_confidence() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..9)
        .map(|i| {
            let answer = if i % 3 == 0 { "7" } else { "1/2" };
            json!({"problem_id": "p", "trace": i, "answer": if i == 8 { "0.5" } else { answer }, "tokens": 10 + i, "gold": "\\frac12"}).to_string() + "\n"
        })
        .collect();
    let file = write(&folder, "answers.jsonl", &lines);
    let result = ran(&["replay", &file, "--strategy", "majority", "--json"]).objects().remove(0);
    assert_eq!((&result["correct"], &result["votes"]["majority"]["share"]), (&json!(true), &json!(6.0 / 9.0)), "{result}");
    assert_eq!((&result["model"], &result["digest"], &result["tokens"]["generated"]), (&Value::Null, &Value::Null, &json!(126)));
    refused(&["replay", &file], &["--strategy"]);
    refused(&["replay", &file, "--strategy", "deepconf-low"], &["deepconf-low", "confidences"]);
    // a line a problem
    let pool = write(&folder, "pool.jsonl", "{\"problem\": 3, \"gold\": \"5\", \"answers\": [\"5\", null, \"\", \"6\", 5], \"lengths\": [4, 5, 6, 7, 8]}\n{\"problem\": 4, \"answers\": [\"1\"], \"lengths\": [1, 2]}\n");
    let ran = ran(&["replay", &pool, "--strategy", "majority", "--json"]);
    let result = ran.objects().remove(0);
    assert_eq!((&result["problem_id"], &result["answer"], &result["tokens"]["generated"]), (&json!("3"), &json!("5"), &json!(30)));
    assert!(ran.err.contains("differ in number"), "{}", ran.err);
    let empty = write(&folder, "empty.jsonl", "\n");
    refused(&["replay", &empty, "--strategy", "majority"], &["empty.jsonl"]);
}
