//! `tts solve --run`: nothing finished is lost, and nothing is done twice.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{GCD, ran, refused};

fn settled(mut object: Value) -> Value {
    for field in ["seconds", "machine", "outside"] {
        object.as_object_mut().unwrap().remove(field);
    }
    object
}

#[test]
fn the_same_command_prints_the_same_without_work_and_other_traces_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run").to_str().unwrap().to_owned();
    let args = ["solve", GCD, "--traces", "10", "--max-tokens", "150", "--json", "--run", &dir];
    let first = ran(&args);
    let plain = ran(&args[..7]);
    assert_eq!(
        settled(first.objects().remove(0)),
        settled(plain.objects().remove(0)),
        "recording changes nothing"
    );
    let lines = || fs::read_to_string(format!("{dir}/traces.jsonl")).unwrap().lines().count();
    let before = lines();
    assert!(before > 0);
    let again = ran(&args);
    assert_eq!(first.out, again.out, "printed again, seconds and all");
    assert_eq!(lines(), before);
    let manifest: Value = serde_json::from_slice(&fs::read(format!("{dir}/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["status"], "finished");
    // another strategy and more traces go on with it
    let more = ran(&[
        "solve",
        GCD,
        "--traces",
        "14",
        "--max-tokens",
        "150",
        "--strategy",
        "majority",
        "--json",
        "--run",
        &dir,
    ]);
    let fresh = ran(&[
        "solve",
        GCD,
        "--traces",
        "14",
        "--max-tokens",
        "150",
        "--strategy",
        "majority",
        "--json",
    ]);
    assert_eq!(settled(more.objects().remove(0)), settled(fresh.objects().remove(0)));
    assert!(lines() > before);
    // another seed would mix traces that do not belong together
    refused(
        &["solve", GCD, "--seed", "1", "--traces", "10", "--max-tokens", "150", "--run", &dir],
        &["seed", "other settings"],
    );
    refused(
        &[
            "solve",
            GCD,
            "--temperature",
            "0.5",
            "--traces",
            "10",
            "--max-tokens",
            "150",
            "--run",
            &dir,
        ],
        &["temperature"],
    );
}

#[test]
fn a_killed_run_goes_on_and_ends_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run").to_str().unwrap().to_owned();
    let args = [
        "solve",
        "--data",
        "heldout",
        "--limit",
        "3",
        "--traces",
        "40",
        "--slots",
        "4",
        "--max-tokens",
        "300",
        "--json",
    ];
    let recorded = [&args[..], &["--run", &dir]].concat();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tts"))
        .args(&recorded)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let traces = || {
        fs::read_to_string(format!("{dir}/traces.jsonl"))
            .unwrap_or_default()
            .lines()
            .count()
    };
    let patience = Instant::now();
    while traces() < 8 && patience.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = traces();
    assert!(kept >= 8);
    let on = ran(&recorded);
    assert!(on.err.contains("going on"), "{}", on.err);
    let whole = ran(&args);
    let settle = |objects: Vec<Value>| objects.into_iter().map(settled).collect::<Vec<_>>();
    assert_eq!(settle(on.objects()), settle(whole.objects()));
}
