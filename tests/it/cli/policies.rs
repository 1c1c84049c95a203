//! `--strategy exec:COMMAND`: policies in other languages, and ones that mean no good.
#![cfg(unix)]

use std::time::Duration;

use super::replaying::settled;
use super::{GCD, ran, refused, write};
use tts::policy::preset_within;
use tts::strategies::{Limits, Next};

/// A policy in a shell: every trace at once, done at the third that ended with an answer, these three vote.
const FIRST_THREE: &str = r#"
while read -r line; do
  case $line in
    *'"event":"hello"'*) echo '{"protocol": 1, "window": 16}' ;;
    *'"event":"begin"'*) n=0; votes=; echo '{"launch": 40}' ;;
    *'"finish":"stop"'*'"class":null'*) echo '{}' ;;
    *'"finish":"stop"'*)
      trace=${line#*'"trace":'}
      votes="$votes${votes:+, }{\"trace\": ${trace%%,*}, \"weight\": 1}"
      n=$((n + 1))
      if [ $n -ge 3 ]; then echo '{"done": true}'; else echo '{}'; fi ;;
    *'"event":"finished"'*) echo '{}' ;;
    *'"event":"decide"'*) echo "{\"ballots\": [$votes]}" ;;
  esac
done
"#;

fn exec(folder: &tempfile::TempDir, script: &str) -> String {
    format!("exec:sh {}", write(folder, "policy.sh", script))
}

#[test]
fn a_policy_decides_live_and_over_a_recording_alike() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let policy = exec(&folder, FIRST_THREE);
    let base = [
        "solve",
        GCD,
        "--traces",
        "24",
        "--slots",
        "5",
        "--max-tokens",
        "150",
        "--json",
    ];
    let live = ran(&[&base[..], &["--strategy", &policy, "--run", &dir("own")]].concat())
        .objects()
        .remove(0);
    assert_eq!(live["strategy"], policy.as_str());
    assert_eq!(
        live["traces"]["finished"].as_u64().unwrap() + live["traces"]["warmup"].as_u64().unwrap(),
        3
    );
    assert_eq!(
        live["ballots"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| b["traces"].as_u64().unwrap())
            .sum::<u64>(),
        3
    );
    let again = ran(&["replay", &dir("own"), "--strategy", &policy, "--json"])
        .objects()
        .remove(0);
    assert_eq!(settled(again), settled(live.clone()));
    ran(&[&base[..], &["--strategy", "majority", "--run", &dir("complete")]].concat());
    let complete = ran(&["replay", &dir("complete"), "--strategy", &policy, "--json"])
        .objects()
        .remove(0);
    assert_eq!(settled(complete), settled(live));
    refused(
        &["replay", &dir("own"), "--json"],
        &["decided by a command", &policy],
    );
    refused(
        &[&base[..], &["--strategy", &policy, "--warmup", "4"]].concat(),
        &["has no setting warmup; it has none"],
    );
}

#[test]
fn several_problems_share_a_policy() {
    let folder = tempfile::tempdir().unwrap();
    let policy = exec(&folder, FIRST_THREE);
    let results = ran(&[
        "solve",
        "--data",
        "heldout",
        "--limit",
        "5",
        "--traces",
        "12",
        "--slots",
        "4",
        "--strategy",
        &policy,
        "--json",
    ])
    .objects();
    assert_eq!(results.len(), 5);
    for r in results {
        let ballots: u64 = r["ballots"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| b["traces"].as_u64().unwrap())
            .sum();
        assert_eq!(ballots, 3, "{r}");
    }
}

#[test]
fn the_example_in_python_is_a_policy() {
    if std::process::Command::new("python3")
        .arg("--version")
        .output()
        .is_err()
    {
        return;
    }
    let example = concat!(
        "exec:python3 ",
        env!("CARGO_MANIFEST_DIR"),
        "/examples/policy.py 2"
    );
    let result = ran(&[
        "solve",
        GCD,
        "--traces",
        "24",
        "--slots",
        "4",
        "--strategy",
        example,
        "--json",
    ])
    .objects()
    .remove(0);
    let traces = |i: usize| result["ballots"][i]["traces"].as_u64().unwrap_or(0);
    assert_eq!(traces(0), traces(1) + 2, "two ahead: {result}");
    assert!(result["traces"]["launched"].as_u64().unwrap() < 24, "{result}");
}

#[test]
fn a_policy_that_fails_is_quoted_and_never_waited_for() {
    let greet = "read -r line; echo '{\"protocol\": 1}'\n";
    let begin = format!("{greet}read -r line; echo '{{\"launch\": 4}}'\n");
    let wait = "while read -r line; do case $line in *decide*) break;; *) echo '{}';; esac; done\n";
    let cases: &[(&str, &[&str])] = &[
        ("exit 3", &["ended with exit status: 3"]),
        (
            "echo 'no such module' >&2; exit 1",
            &["exit status: 1", "its last words: no such module"],
        ),
        (
            "read -r line; echo hello",
            &["answered `hello", "to the event hello"],
        ),
        (
            "read -r line; echo '{\"protocol\": 2}'",
            &["speaks protocol 2 and not 1"],
        ),
        (
            "read -r line; echo '{\"protocol\": 1, \"window\": 0}'",
            &["window of 0 tokens"],
        ),
        (
            "read -r line; echo '{\"protocol\": 1, \"needs\": [\"gradients\"]}'",
            &["gradients"],
        ),
        ("exec yes '{\"protocol\": 1}'", &["for which nothing had asked"]),
        (
            "head -c 2000000 /dev/zero | tr '\\0' a",
            &["more than 1048576 bytes"],
        ),
        ("printf '\\377\\376\\n'", &["not UTF-8"]),
        (
            greet,
            &["problem `", "ended with exit status: 0 before it answered"],
        ),
        (
            &format!("{greet}read -r line; echo '{{\"launch\": 0}}'\n"),
            &["must answer the event begin"],
        ),
        (
            &format!("{greet}read -r line; echo '{{}}'\n"),
            &["must answer the event begin"],
        ),
        (&begin, &["ended with exit status: 0 before it answered"]),
        (
            &format!("{begin}read -r line; echo '{{\"launch\": 1, \"done\": true}}'\n"),
            &["more traces and is done"],
        ),
        (
            &format!("{begin}read -r line; echo '{{\"lunch\": 1}}'\n"),
            &["to the event finished", "lunch"],
        ),
        (
            &format!("{begin}{wait}echo '{{\"ballots\": [{{\"trace\": 99, \"weight\": 1}}]}}'\n"),
            &["trace 99 vote"],
        ),
        (
            &format!("{begin}{wait}echo '{{\"ballots\": [{{\"trace\": 0, \"weight\": -1}}]}}'\n"),
            &["the weight -1"],
        ),
        (
            &format!("{begin}{wait}echo '{{\"ballots\": [{{\"trace\": 0, \"weight\": NaN}}]}}'\n"),
            &["to the event decide"],
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (script, parts) in cases {
        let policy = exec(&folder, script);
        refused(
            &[
                "solve",
                "Find the remainder when 7^53 is divided by 23.",
                "--traces",
                "4",
                "--max-tokens",
                "150",
                "--strategy",
                &policy,
            ],
            parts,
        );
    }
    refused(
        &["solve", GCD, "--strategy", "exec:./no-such-policy"],
        &["`./no-such-policy` cannot be run"],
    );
    refused(
        &["solve", GCD, "--strategy", "exec:no-such-policy"],
        &["written with ./ before it"],
    );
    refused(&["solve", GCD, "--strategy", "exec:"], &["names no command"]);
    let plain = write(&folder, "plain.txt", "no program");
    refused(
        &["solve", GCD, "--strategy", &format!("exec:{plain}")],
        &["chmod +x"],
    );
}

#[test]
fn silence_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let patience = Duration::from_millis(300);
    let silent = format!("sh {}", write(&folder, "silent.sh", "sleep 600"));
    let error = preset_within(&silent, patience).unwrap_err().to_string();
    assert!(error.contains("did not answer within 0.3 seconds"), "{error}");
    // It greets, and then says no more: the strategy ends the run at once and says why.
    let mute = format!(
        "sh {}",
        write(
            &folder,
            "mute.sh",
            "read -r line; echo '{\"protocol\": 1}'; sleep 600"
        )
    );
    let mut strategy = preset_within(&mute, Duration::from_secs(2)).unwrap().build();
    let limits = Limits {
        traces: 8,
        slots: 2,
        max_tokens: 10,
    };
    assert_eq!((strategy.begin(&limits), strategy.failure().is_some()), (1, true));
    let outcome = tts::strategies::TraceOutcome {
        trace: 0,
        finish: tts::strategies::Finish::Stop,
        tokens: 1,
        class: None,
        confidences: &[],
        logprobs: &[],
        entropies: &[],
        self_certainty: None,
        measured: None,
    };
    assert_eq!(strategy.finished(&outcome), Next::Done);
    assert!(strategy.failure().unwrap().contains("did not answer"));
    assert_eq!(strategy.decide().answer, None);
}
