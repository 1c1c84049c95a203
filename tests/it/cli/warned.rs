//! What is said of settings, sets and machines that are not what they seem, and how a command line is
//! refused.

use std::time::Instant;

use super::{GCD, Ran, ran, refused, tts, write};

/// Lines of stderr that begin so.
fn said(ran: &Ran, beginning: &str) -> Vec<String> {
    let lines = ran.err.lines().filter(|l| l.starts_with(beginning));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_warm_up_that_is_the_whole_budget_is_said_and_nothing_else() {
    let solve = |traces: &str, more: &[&str]| {
        let args = [
            &[
                "solve",
                GCD,
                "--strategy",
                "deepconf-low",
                "--json",
                "--max-tokens",
                "200",
            ],
            more,
        ]
        .concat();
        ran(&[&args[..], &["--traces", traces]].concat())
    };
    for traces in ["1", "4", "16"] {
        let run = solve(traces, &[]);
        let warnings = run.objects()[0]["warnings"].to_string();
        assert!(
            warnings.contains(match traces {
                "1" => "the only trace is warm-up",
                _ => "traces are warm-up",
            }) && warnings.contains("more than 16"),
            "{warnings}"
        );
        assert!(!warnings.contains("min_votes"), "{warnings}");
    }
    let warnings = solve("16", &["--warmup", "4"]).objects()[0]["warnings"].to_string();
    assert!(!warnings.contains("warm-up"), "{warnings}");
    // said on stderr too
    let shown = ran(&["solve", GCD, "--strategy", "deepconf-low", "--traces", "16"]);
    assert_eq!(
        said(&shown, "warning: all 16 traces are warm-up").len(),
        1,
        "{}",
        shown.err
    );
}

#[test]
fn a_model_is_asked_what_it_has_not_learnt() {
    let run = ran(&[
        "solve",
        "Who are you?",
        "--traces",
        "2",
        "--max-tokens",
        "40",
        "--json",
        "--answer-pattern",
        "(.)",
    ]);
    let warnings = run.objects()[0]["warnings"].to_string();
    assert!(
        warnings.contains("outside what the bundled model has learnt"),
        "{warnings}"
    );
    let shown = Ran::of(&mut tts(&[
        "solve",
        "Who are you?",
        "--traces",
        "2",
        "--max-tokens",
        "40",
    ]));
    assert_eq!(
        said(&shown, "warning: this problem is outside").len(),
        1,
        "said once: {}",
        shown.err
    );
}

#[test]
fn traces_at_temperature_0_are_copies() {
    let run = ran(&["solve", GCD, "--traces", "3", "--temperature", "0", "--json"]);
    let warnings = run.objects()[0]["warnings"].to_string();
    assert!(
        warnings.contains("3 of 3 traces are the same text") && warnings.contains("temperature 0"),
        "{warnings}"
    );
    let run = ran(&["solve", GCD, "--traces", "3", "--json"]);
    assert!(!run.objects()[0]["warnings"].to_string().contains("same text"));
}

#[test]
fn a_task_knows_the_answers_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let set = write(
        &folder,
        "aime.jsonl",
        "{\"id\": 60, \"problem\": \"What is $1+1$?\", \"answer\": \"2\"}\n",
    );
    let asked = ["solve", "--data", &set, "--task", "aime24", "--dry-run"];
    let run = ran(&asked);
    assert!(
        run.err.contains("--task aime24: the answers in") && run.err.contains("are not those"),
        "{}",
        run.err
    );
    // of a part nothing can be said
    assert!(
        !ran(&[&asked[..], &["--limit", "1"]].concat())
            .err
            .contains("are not those")
    );
}

#[test]
fn lost_backslashes_of_golds_are_said_once() {
    let lines = "{\"gold\":\"\\frac12\",\"prediction\":\"1/2\"}\n".repeat(3);
    let run = Ran::of(tts(&["grade"]).write_stdin(lines));
    let warnings = said(&run, "warning: ");
    assert_eq!(warnings.len(), 1, "{}", run.err);
    assert!(
        warnings[0].contains("line 1")
            && warnings[0].contains("U+000C")
            && warnings[0].contains("2 lines more"),
        "{warnings:?}"
    );
    let run = Ran::of(tts(&["grade"]).write_stdin("{\"gold\":\"\\\\frac12\",\"prediction\":\"1/2\"}\n"));
    assert!(said(&run, "warning").is_empty(), "{}", run.err);
}

#[test]
fn a_host_that_no_name_leads_to_is_said_at_once() {
    for endpoint in ["http://no-such-host.invalid", "https://no-such-host.invalid:8443"] {
        let home = tempfile::tempdir().unwrap();
        let mut command = tts(&["solve", "--model", "org/name", GCD]);
        command
            .env_remove("HF_HUB_OFFLINE")
            .env("HF_HOME", home.path())
            .env("HF_ENDPOINT", endpoint);
        let began = Instant::now();
        let run = Ran::of(&mut command);
        assert_eq!(run.code, 2);
        assert!(
            run.err.contains("no such host, or no network") && !run.err.contains("uncategorized"),
            "{}",
            run.err
        );
        assert!(
            !run.err.contains("trying again") && began.elapsed().as_secs() < 12,
            "{}",
            run.err
        );
    }
}

#[test]
fn fewer_requests_than_choices_are_no_contradiction() {
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_tts"))
        .args(["serve", "--max-requests", "8", "--port", "0"])
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.starts_with("http://"), "{line}");
    refused(
        &["serve", "--max-requests", "8", "--max-choices", "9"],
        &["--max-choices 9", "--max-requests 8"],
    );
    refused(&["serve", "--max-choices", "0"], &["--max-choices 0"]);
}

#[test]
fn a_wrong_word_is_refused_in_one_line_that_names_its_flag() {
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["solve", GCD, "--seed", "-1"],
            &["'-1' for '--seed <N>'", "whole number that is not negative"],
        ),
        (
            &["solve", GCD, "--traces", "-5"],
            &["'-5' for '--traces <N>'", "whole number that is not negative"],
        ),
        (&["solve", GCD, "--traces", "abc"], &["--traces", "whole number"]),
        (&["solve", GCD, "--traces", ""], &["--traces", "whole number"]),
        (
            &["solve", GCD, "--traces", "99999999999999999999"],
            &["--traces", "too large"],
        ),
        (
            &["solve", GCD, "--temperature", "warm"],
            &["--temperature", "must be a number"],
        ),
        (&["solve", "What", "is", "2"], &["'is'", "stands in quotes"]),
        (&["solve", GCD, "--tracess", "5"], &["--tracess", "'--traces'"]),
        (&["solve", "--data", "/tmp"], &["/tmp", "folder"]),
        (
            &["solve", GCD, "--date", "9999-12-31"],
            &["--date", "as 2026-11-30"],
        ),
        (
            &["solve", GCD, "--date", "2026-11-30T10:00"],
            &["--date", "as 2026-11-30"],
        ),
        (
            &["solve", GCD, "--date", "2026-02-30"],
            &["--date", "as 2026-11-30"],
        ),
        (
            &["solve", GCD, "--date", "0000-01-01"],
            &["--date", "as 2026-11-30"],
        ),
        (&["list", "poems"], &["models, tasks, strategies"]),
        (&["replay"], &["<RUN>"]),
        (&["frobnicate"], &["'frobnicate'"]),
    ];
    for (args, parts) in cases {
        refused(args, parts);
        let run = Ran::of(&mut tts(args));
        assert_eq!(run.err.lines().count(), 1, "{args:?}: {}", run.err);
        assert!(!run.err.contains('\u{1b}'), "{args:?}: {}", run.err);
    }
    ran(&["solve", GCD, "--date", "2026-11-30", "--dry-run"]);
}

#[test]
fn what_fits_80_columns_is_read_there() {
    let strategies = ran(&["list", "strategies"]).out;
    assert_eq!(
        strategies.lines().count(),
        1 + tts::strategies::names().count(),
        "a line each"
    );
    assert!(
        strategies.lines().all(|l| l.chars().count() <= 80),
        "{strategies}"
    );
    let one = ran(&["list", "strategies", "deepconf-low"]).out;
    for part in [
        "a consensus",
        "arXiv 2508.15260",
        "--warmup N",
        "16",
        "at least 1",
        "--vote",
    ] {
        assert!(one.contains(part), "{part}: {one}");
    }
    assert!(!one.contains("--certainty-last"), "{one}");
    let all = ran(&["list"]).out;
    for part in [
        "models: bundled",
        "tasks: ",
        "strategies: ",
        "short-m-at-k",
        "aime25",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    let near = Ran::of(&mut tts(&["list", "strategies", "deepconf"]));
    assert!(
        near.code == 2 && near.err.contains("did you mean `deepconf-"),
        "{}",
        near.err
    );
    let none = Ran::of(&mut tts(&["list", "tasks", "aime25"]));
    assert!(
        none.code == 2 && none.err.contains("tts list strategies aime25"),
        "{}",
        none.err
    );
    for what in ["strategies", "tasks", "models"] {
        let wide = ran(&["list", what]).out;
        assert!(wide.lines().all(|l| l.chars().count() <= 100), "{what}");
    }
    // a screen: what most need, in a line each
    for command in [
        "solve", "sweep", "replay", "serve", "pilot", "complete", "doctor", "bench",
    ] {
        let short = ran(&[command, "-h"]).out;
        assert!(short.lines().count() <= 50, "{command}: {short}");
    }
    let short = ran(&["solve", "-h"]).out;
    for usual in ["--model", "--strategy", "--traces", "--data", "--max-tokens"] {
        assert!(short.contains(usual), "{usual}");
    }
    assert!(ran(&["--help"]).out.contains("tts solve \"Find"));
}

#[test]
fn the_plan_says_what_it_takes() {
    let run = ran(&["solve", GCD, "--memory", "1", "--dry-run"]);
    assert!(run.err.contains("about 1.2 MiB beside"), "{}", run.err);
    let run = ran(&["solve", GCD, "--tier", "portable", "--dry-run"]);
    assert!(run.err.contains("bf16 on portable"), "{}", run.err);
    let traces = |n: &str| ran(&["doctor", "--traces", n, "--json"]).objects().remove(0)["traces"].clone();
    assert_eq!(
        (traces("100000"), traces("3")),
        (64.into(), 3.into()),
        "as `tts solve` runs them"
    );
    let shape = ran(&[
        "doctor",
        "--shape",
        "falcon-h1-7b",
        "--dtype",
        "q4_0",
        "--json",
        "--no-speed",
    ])
    .objects()
    .remove(0);
    let gib = shape["weight_bytes"].as_f64().unwrap() / f64::from(1 << 30);
    assert!(
        (3.9..4.1).contains(&gib),
        "7.6 thousand million weights in 4.5 bits: {gib}"
    );
    assert!(
        ran(&["doctor", "--shape", "falcon-h1-7b", "--no-speed"])
            .out
            .contains("tokens at a time")
    );
    refused(
        &["doctor", "--shape", "falcon-h1-7"],
        &["did you mean `falcon-h1-7b`"],
    );
    let text = ran(&["complete", "1+1=", "--max-tokens", "2"]).out;
    assert_eq!(
        text,
        ran(&["complete", "--text", "1+1=", "--max-tokens", "2"]).out
    );
}

#[test]
fn libraries_keep_their_log_to_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let line = "{\"problem_id\":\"p\",\"trace\":0,\"answer\":\"1\",\"tokens\":3,\"gold\":\"1\"}\n";
    let file = write(&folder, "one.jsonl", line);
    let plots = folder.path().join("plots").to_str().unwrap().to_owned();
    for args in [&["report", &file, "--plots", &plots][..], &["report", &file]] {
        let run = ran(args);
        assert!(
            !run.err.contains("tiny_skia") && !run.err.contains('\u{1b}') && !run.err.contains("WARN"),
            "{}",
            run.err
        );
    }
}

#[test]
fn a_raw_text_that_the_bundled_model_has_not_learnt_is_said() {
    let unlearnt = "this text is outside what the bundled model has learnt";
    let known = "Find the greatest common divisor of 437 and 161.";
    let turn = format!("<|im_start|>user\n{known}<|im_end|>\n<|im_start|>assistant\n");
    for command in [&["complete", "--max-tokens", "4"][..], &["score"]] {
        for (text, foreign) in [("Once upon a time", true), (known, false), (&turn, false)] {
            let run = ran(&[command, &["--text", text]].concat());
            assert_eq!(
                run.err.contains(unlearnt),
                foreign,
                "{command:?} {text}: {}",
                run.err
            );
        }
    }
}

#[test]
fn what_holds_nothing_to_grade_is_refused() {
    for nothing in ["", "\n \n"] {
        let run = Ran::of(tts(&["grade"]).write_stdin(nothing));
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{}", run.err);
        assert!(run.err.contains("stdin holds no lines to grade"), "{}", run.err);
    }
}

#[test]
fn a_misspelt_variable_is_said() {
    for (name, meant) in [
        ("TTS_TRACEZ", Some("TTS_TRACES")),
        ("TTS_MAX_TOKEN", Some("TTS_MAX_TOKENS")),
        ("TTS_TEMPRATURE", Some("TTS_TEMPERATURE")),
        // of other programs
        ("TTS_HOME", None),
        ("TTS_VOICE_NAME", None),
        ("TTS_LOG", None),
    ] {
        let run = Ran::of(tts(&["list", "strategies"]).env(name, "warn"));
        assert_eq!(run.code, 0, "{}", run.err);
        let told = said(&run, "warning: ").concat();
        match meant {
            Some(meant) => assert!(told.contains(name) && told.contains(meant), "{told}"),
            None => assert!(told.is_empty(), "{name}: {told}"),
        }
    }
}

#[test]
fn a_template_without_the_problem_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let template = write(&folder, "t.jinja", "hello");
    let args = [
        "solve",
        GCD,
        "--traces",
        "1",
        "--max-tokens",
        "2",
        "--chat-template",
        &template,
    ];
    let run = Ran::of(&mut tts(&args));
    assert!(run.err.contains("does not write the problem"), "{}", run.err);
    let usual = Ran::of(&mut tts(&args[..6]));
    assert!(!usual.err.contains("does not write"), "{}", usual.err);
}

#[test]
fn a_field_has_one_name_and_a_day_may_stand_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let pool = write(
        &folder,
        "pool.jsonl",
        "{\"problem_id\":\"q\",\"answers\":[\"5\"],\"a\":[\"6\"],\"lengths\":[1]}\n",
    );
    let twice = ["--field", "answer=answers", "--field", "answer=a"];
    refused(
        &[&["replay", &pool, "--strategy", "majority"][..], &twice].concat(),
        &["--field answer=a", "contradicts"],
    );
    let set = write(
        &folder,
        "set.jsonl",
        "{\"q\":\"Find 3\",\"w\":\"Find 4\",\"answer\":\"5\"}\n",
    );
    refused(
        &[
            "solve",
            "--data",
            &set,
            "--field",
            "question=q",
            "--field",
            "question=w",
        ],
        &["question", "twice"],
    );
    let template = write(
        &folder,
        "t.jinja",
        "{{ strftime_now('%Y') }} {{ messages[0].content }}",
    );
    let config = write(&folder, "c.toml", "date = 2020-02-29\n");
    let shown = ran(&[
        "solve",
        GCD,
        "--dry-run",
        "--chat-template",
        &template,
        "--config",
        &config,
    ]);
    assert!(shown.out.contains("2020 Find"), "{}", shown.out);
}
