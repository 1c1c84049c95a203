//! `tts solve`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{GCD, Ran, path, ran, refused, tts, write};

/// Without what depends on the machine and the clock.
fn settled(mut object: Value) -> Value {
    for field in ["seconds", "machine"] {
        object.as_object_mut().unwrap().remove(field);
    }
    object
}

#[test]
fn the_object_holds_what_is_promised() {
    let run = ran(&["solve", GCD, "--traces", "24", "--max-tokens", "200", "--json"]);
    let objects = run.objects();
    assert_eq!(objects.len(), 1);
    let o = &objects[0];
    for field in [
        "problem_id",
        "answer",
        "correct",
        "strategy",
        "model",
        "seed",
        "votes",
        "ballots",
        "pool",
        "threshold",
        "window",
        "consensus",
        "traces",
        "tokens",
        "solution",
        "solution_trace",
        "digest",
        "seconds",
        "machine",
    ] {
        assert!(o.get(field).is_some(), "{field}: {o}");
    }
    let fates = [
        "warmup",
        "finished",
        "stopped",
        "cancelled",
        "truncated",
        "failed",
    ];
    let sum = |books: &Value| fates.iter().map(|f| books[f].as_u64().unwrap()).sum::<u64>();
    assert_eq!(
        sum(&o["tokens"]),
        o["tokens"]["generated"].as_u64().unwrap(),
        "every token is counted once"
    );
    assert_eq!(sum(&o["traces"]), o["traces"]["launched"].as_u64().unwrap());
    assert_eq!(
        (&o["strategy"], &o["model"]),
        (&Value::from("adaptive-consistency"), &Value::from("bundled"))
    );
    assert!(
        o["solution"]
            .as_str()
            .unwrap()
            .contains(o["answer"].as_str().unwrap())
    );
    assert!(
        run.err.contains("generation_config.json") && run.err.contains("24 traces at most"),
        "{}",
        run.err
    );
    // a pipe gets the answer alone, and --quiet nothing beside it
    let plain = ran(&["solve", GCD, "--traces", "24", "--max-tokens", "200", "--quiet"]);
    assert_eq!(
        (plain.out.trim_end(), plain.err.as_str()),
        (o["answer"].as_str().unwrap(), "")
    );
}

#[test]
fn the_result_does_not_depend_on_the_batch_or_the_threads() {
    for strategy in ["majority", "deepconf-low"] {
        let run = |rest: &[&str]| {
            let args = [
                "solve",
                GCD,
                "--traces",
                "20",
                "--slots",
                "7",
                "--max-tokens",
                "150",
                "--strategy",
                strategy,
                "--json",
            ];
            settled(ran(&[&args[..], rest].concat()).objects().remove(0))
        };
        let one = run(&["--max-batch", "7", "--threads", "1"]);
        assert_eq!(one, run(&["--max-batch", "64", "--threads", "2"]), "{strategy}");
        assert_ne!(one["digest"], run(&["--seed", "1"])["digest"]);
    }
}

#[test]
fn a_set_comes_out_in_order_and_is_summed_up() {
    let folder = tempfile::tempdir().unwrap();
    let set = "{\"q\": \"Find the greatest common divisor of 12 and 18.\", \"a\": \"6\", \"n\": \"x\"}\n\
               {\"q\": \"Find the greatest common divisor of 35 and 21.\", \"a\": 7, \"n\": \"y\"}\n\
               {\"q\": \"Find the greatest common divisor of 44 and 121.\", \"a\": \"11\", \"n\": \"z\"}\n";
    let file = write(&folder, "set.jsonl", set);
    let args = [
        "solve",
        "--data",
        &file,
        "--field",
        "question=q",
        "--field",
        "answer=a",
        "--field",
        "id=n",
        "--traces",
        "4",
        "--max-tokens",
        "150",
        "--strategy",
        "majority",
    ];
    let all = ran(&[&args[..], &["--json"]].concat());
    let ids = |objects: &[Value]| {
        objects
            .iter()
            .map(|o| o["problem_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&all.objects()), ["x", "y", "z"]);
    assert!(all.objects().iter().all(|o| o["correct"].is_boolean()));
    assert!(
        all.err.contains("3 problems") && all.err.contains("95 % interval"),
        "{}",
        all.err
    );
    // a problem's result does not depend on what else is in the set
    let one = ran(&[&args[..], &["--json", "--ids", "y"]].concat()).objects();
    assert_eq!(ids(&one), ["y"]);
    assert_eq!(settled(one[0].clone()), settled(all.objects()[1].clone()));
    let two = ran(&[&args[..], &["--limit", "2"]].concat());
    assert_eq!(two.out.lines().count(), 2);
    refused(&[&args[..], &["--ids", "yy"]].concat(), &["`yy`", "`y`"]);
    refused(&[&args[..], &["--limit", "0"]].concat(), &["--limit"]);
    let heldout = ran(&[
        "solve", "--data", "heldout", "--limit", "2", "--traces", "8", "--json",
    ]);
    assert_eq!(
        heldout.objects().iter().filter(|o| o["gold"].is_string()).count(),
        2
    );
}

#[test]
fn a_dry_run_shows_the_prompt_and_runs_nothing() {
    let model = path("golden/case-gqa");
    let args = [
        "solve",
        "1+1?",
        "--model",
        &model,
        "--system",
        "Be brief.",
        "--prompt-template",
        "Q: {problem} {instruction}",
        "--instruction",
        "End with a box.",
    ];
    let dry = ran(&[&args[..], &["--dry-run", "--max-tokens", "100", "--traces", "3"]].concat());
    assert!(
        dry.out.contains("Be brief.") && dry.out.contains("Q: 1+1? End with a box."),
        "{}",
        dry.out
    );
    assert!(dry.err.contains("300 tokens at most"), "{}", dry.err);
    let o = &ran(&[&args[..], &["--dry-run", "--json", "--max-tokens", "100"]].concat()).objects()[0];
    assert_eq!(
        o["prompt_tokens"].as_u64().unwrap() as usize,
        o["token_ids"].as_array().unwrap().len()
    );
    assert_eq!(
        o["prompt"].as_str().unwrap(),
        dry.out.trim_end_matches('\n').to_owned()
            + &"\n".repeat(o["prompt"].as_str().unwrap().len() - dry.out.trim_end_matches('\n').len())
    );
    let note = ran(&["solve", "What is the capital of France?", "--dry-run"]).err;
    assert!(note.contains("bundled model"), "{note}");
    assert!(!ran(&["solve", GCD, "--dry-run"]).err.contains("bundled model"));
}

#[test]
fn no_answer_is_exit_code_1_and_limits_decide_with_what_there_is() {
    let none = Ran::of(&mut tts(&[
        "solve",
        GCD,
        "--traces",
        "3",
        "--max-tokens",
        "30",
        "--answer-pattern",
        "xyzzy (\\d+)",
        "--json",
    ]));
    assert_eq!(none.code, 1, "{}", none.err);
    assert!(none.objects()[0]["answer"].is_null() && none.objects()[0]["pool"] == "none");
    let plain = Ran::of(&mut tts(&[
        "solve",
        GCD,
        "--traces",
        "3",
        "--max-tokens",
        "30",
        "--answer-pattern",
        "xyzzy (\\d+)",
    ]));
    assert_eq!((plain.code, plain.out.as_str()), (1, ""));

    let many = [
        "solve",
        GCD,
        "--traces",
        "3000",
        "--strategy",
        "majority",
        "--json",
    ];
    let limited = Ran::of(&mut tts(&[&many[..], &["--max-total-tokens", "2000"]].concat()));
    let o = &limited.objects()[0];
    assert_eq!(o["cut"], "max_total_tokens");
    assert!(
        (2000..2064).contains(&o["tokens"]["generated"].as_u64().unwrap()),
        "{o}"
    );
    let timed = Ran::of(&mut tts(&[&many[..], &["--time-limit", "1s"]].concat()));
    assert!([0, 1].contains(&timed.code));
    assert_eq!(timed.objects()[0]["cut"], "time_limit");
}

#[test]
fn a_strategy_can_be_a_file_and_its_settings_can_be_put_over() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(
        &folder,
        "mine.toml",
        "kind = \"majority\"\ndescription = \"x\"\n[settings]\nwindow = 8\n",
    );
    let o = &ran(&[
        "solve",
        GCD,
        "--traces",
        "2",
        "--max-tokens",
        "40",
        "--strategy",
        &file,
        "--json",
    ])
    .objects()[0];
    assert_eq!(
        (&o["strategy"], &o["window"]),
        (&Value::from("mine"), &Value::from(8))
    );
    let o = &ran(&[
        "solve",
        GCD,
        "--traces",
        "12",
        "--max-tokens",
        "150",
        "--strategy",
        "deepconf-low",
        "--warmup",
        "4",
        "--window",
        "16",
        "--consensus",
        "off",
        "--json",
    ])
    .objects()[0];
    assert_eq!((&o["window"], &o["consensus"]), (&Value::from(16), &Value::Null));
    refused(
        &[
            "solve",
            GCD,
            "--strategy",
            &write(
                &folder,
                "bad.toml",
                "kind = \"majority\"\n[settings]\nwarmupp = 8\n",
            ),
        ],
        &["bad.toml", "warmupp"],
    );
}

/// Ctrl-C says what is known so far.
#[cfg(unix)]
#[test]
fn an_interrupt_prints_what_is_known_and_exits_130() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tts"))
        .args([
            "solve",
            GCD,
            "--traces",
            "100000",
            "--strategy",
            "majority",
            "--max-tokens",
            "200",
            "--json",
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut err = std::io::BufReader::new(child.stderr.take().unwrap());
    while !said.contains("traces at most") {
        assert!(
            std::io::BufRead::read_line(&mut err, &mut said).unwrap() > 0,
            "{said}"
        );
    }
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let o: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(o["cut"], "interrupted");
    assert!(o["tokens"]["generated"].as_u64().unwrap() > 0);
}

#[test]
fn every_trace_of_a_set_is_its_own() {
    let out = ran(&[
        "solve", "--data", "dev", "--limit", "3", "--traces", "3", "--json",
    ]);
    let digests: BTreeSet<_> = out
        .objects()
        .iter()
        .map(|o| o["digest"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(digests.len(), 3);
}
