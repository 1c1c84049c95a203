//! `tts sweep`: paired over the same draws, gone on with, live or over a recording; and recordings made
//! elsewhere.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::replaying::settled;
use super::{Ran, ran, refused, tts, write};

fn lines(dir: &str) -> Vec<Value> {
    let text = fs::read_to_string(Path::new(dir).join("sweep.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// The lines without regard to the order in which problems were through.
fn sorted(dir: &str) -> Vec<String> {
    let mut lines: Vec<_> = lines(dir).iter().map(Value::to_string).collect();
    lines.sort();
    lines
}

const SET: [&str; 6] = ["--data", "heldout", "--limit", "4", "--max-tokens", "150"];
const SWEPT: [&str; 10] = [
    "--strategies",
    "majority,deepconf-low,adaptive-consistency",
    "--traces",
    "3,20",
    "--slots",
    "auto,2x2",
    "--resamples",
    "5",
    "--threads",
    "2",
];

#[test]
fn a_sweep_records_once_and_decides_over_it_and_goes_on_with_both() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let live = dir("live");
    let first = ran(&[&["sweep"][..], &SET, &SWEPT, &["--run", &live, "--json"]].concat());
    assert_eq!(
        first.objects().len(),
        3 * 2 * 2 + 2,
        "a row for each cell, and pass@k for each budget"
    );
    let all = lines(&live);
    assert_eq!(all.len(), 4 * (1 + 12));
    for line in all.iter().filter(|l| l["kind"] == "decided") {
        for array in ["correct", "tokens", "ticks", "launched"] {
            assert_eq!(line[array].as_array().unwrap().len(), 5, "{line}");
        }
        let sum = |v: &Value| {
            v.as_object()
                .unwrap()
                .values()
                .map(|n| n.as_u64().unwrap())
                .sum::<u64>()
        };
        let tokens: u64 = line["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap())
            .sum();
        assert_eq!(sum(&line["token_fates"]), tokens, "{line}");
        assert_eq!(line["short"], 0);
    }
    // nothing is done again, and the same is printed
    let before = fs::read(Path::new(&live).join("sweep.jsonl")).unwrap();
    let again = ran(&[&["sweep"][..], &SET, &SWEPT, &["--run", &live, "--json"]].concat());
    assert_eq!(again.out, first.out);
    assert_eq!(fs::read(Path::new(&live).join("sweep.jsonl")).unwrap(), before);
    // over the recording, elsewhere, on one thread: the same lines
    let replayed = dir("replayed");
    let args = [
        &["sweep", "--replay", &live][..],
        &SWEPT[..8],
        &["--run", &replayed, "--threads", "1", "--json"],
    ]
    .concat();
    let over = ran(&args);
    assert_eq!((over.out, sorted(&replayed)), (first.out, sorted(&live)));
    // cut at any place and gone on with: the same lines
    let whole = fs::read(Path::new(&replayed).join("sweep.jsonl")).unwrap();
    for share in [0, 1, 3, 7, 9] {
        fs::write(
            Path::new(&replayed).join("sweep.jsonl"),
            &whole[..whole.len() * share / 10],
        )
        .unwrap();
        ran(&args);
        assert_eq!(sorted(&replayed), sorted(&live), "cut at {share} tenths");
    }
    // other settings are refused, another strategy goes on
    refused(
        &["sweep", "--replay", &live, "--resamples", "6", "--run", &replayed],
        &["--resamples was 5 and is now 6"],
    );
    refused(
        &[
            "sweep",
            "--replay",
            &live,
            "--resamples",
            "5",
            "--resample-seed",
            "1",
            "--run",
            &replayed,
        ],
        &["--resample-seed"],
    );
    ran(&[
        "sweep",
        "--replay",
        &live,
        "--resamples",
        "5",
        "--strategies",
        "esc",
        "--traces",
        "20",
        "--run",
        &replayed,
    ]);
    assert_eq!(lines(&replayed).len(), all.len() + 4);
    let header: Value =
        serde_json::from_slice(&fs::read(Path::new(&replayed).join("sweep.json")).unwrap()).unwrap();
    assert_eq!(
        (&header["status"], header["strategies"].as_array().unwrap().len()),
        (&json!("finished"), 4)
    );
}

#[test]
fn one_draw_in_recorded_order_is_a_replay() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let live = dir("live");
    ran(&[
        &["solve"][..],
        &SET,
        &[
            "--traces",
            "24",
            "--strategy",
            "majority",
            "--run",
            &live,
            "--json",
        ],
    ]
    .concat());
    for strategy in ["majority", "deepconf-low", "deepconf-high", "borda"] {
        let args = [
            "sweep",
            "--replay",
            &live,
            "--resamples",
            "recorded",
            "--strategies",
            strategy,
            "--traces",
            "12,24,99",
            "--slots",
            "5",
        ];
        let swept = ran(&[&args[..], &["--run", &dir(strategy), "--json"]].concat());
        assert!(swept.err.contains("fewer than 99"), "{}", swept.err);
        let lines = lines(&dir(strategy));
        for (budget, traces) in [(12, "12"), (24, "24"), (99, "24")] {
            let replayed = ran(&[
                "replay",
                &live,
                "--strategy",
                strategy,
                "--traces",
                traces,
                "--slots",
                "5",
                "--json",
            ])
            .objects();
            for one in replayed.into_iter().map(settled) {
                let line = lines
                    .iter()
                    .find(|l| l["budget"] == budget && l["problem_id"] == one["problem_id"])
                    .unwrap();
                assert_eq!(
                    line["tokens"][0], one["tokens"]["generated"],
                    "{strategy} at {budget}"
                );
                assert_eq!(line["ticks"][0], one["ticks"]);
                assert_eq!(line["correct"][0] == 1, one["correct"] == true);
                assert_eq!(line["trace_fates"]["stopped"], one["traces"]["stopped"]);
            }
        }
    }
}

/// The disk fills up in the middle of a line: what was written stays, and the same command goes on.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_a_sweep_and_the_same_command_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let pool = |i: usize| {
        let answers: Vec<_> = (0..12).map(|t| ((t * (i + 2)) % 3).to_string()).collect();
        let lengths: Vec<_> = (10..22).collect();
        json!({"problem_id": format!("p{i}"), "gold": "1", "answers": answers, "lengths": lengths})
            .to_string()
            + "\n"
    };
    let file = write(&folder, "pool.jsonl", &(0..40).map(pool).collect::<String>());
    let dir = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let args = |run: &str| {
        let args = [
            "sweep",
            "--replay",
            &file,
            "--strategies",
            "majority,esc",
            "--traces",
            "2,4,12",
            "--threads",
            "1",
            "--run",
            run,
        ];
        args.map(str::to_owned)
    };
    let (whole, full) = (dir("whole"), dir("full"));
    let borrowed = |args: &[String]| ran(&args.iter().map(String::as_str).collect::<Vec<_>>());
    borrowed(&args(&whole));
    let blocks = fs::metadata(Path::new(&whole).join("sweep.jsonl")).unwrap().len() / 512;
    for share in [1, 2, 3] {
        // a limit on a file's size says what a full disk says: part of a line is written, and then no more
        let mut limited = std::process::Command::new("sh");
        limited.args([
            "-c",
            "trap '' XFSZ; ulimit -f $0; exec \"$@\"",
            &(blocks * share / 4).to_string(),
        ]);
        limited.arg(env!("CARGO_BIN_EXE_tts")).args(args(&full));
        let output = limited.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(2)
                && said.contains("sweep.jsonl")
                && said.contains("space on the disk"),
            "{:?}: {said}",
            output.status
        );
    }
    borrowed(&args(&full));
    assert_eq!(sorted(&full), sorted(&whole));
}

#[test]
fn what_cannot_be_swept_is_said() {
    let folder = tempfile::tempdir().unwrap();
    refused(&["sweep"], &["--data", "--replay"]);
    refused(
        &["sweep", "--data", "heldout", "--traces", "0,4"],
        &["--traces 0"],
    );
    let resamples = Ran::of(&mut tts(&["sweep", "--data", "heldout", "--resamples", "0"]));
    assert!(
        resamples.code == 2 && resamples.err.contains("at least 1"),
        "{}",
        resamples.err
    );
    refused(
        &["sweep", "--data", "heldout", "--strategies", "majority,majority"],
        &["twice"],
    );
    refused(
        &["sweep", "--data", "heldout", "--time-limit", "1s"],
        &["--time-limit"],
    );
    let lines = "{\"problem\": 1, \"answers\": [\"1\", \"1\", \"2\"], \"lengths\": [4, 5, 6]}\n";
    let file = write(&folder, "pool.jsonl", lines);
    let run = folder.path().join("out").to_str().unwrap().to_owned();
    refused(
        &[
            "sweep",
            "--replay",
            &file,
            "--strategies",
            "deepconf-low",
            "--run",
            &run,
        ],
        &["deepconf-low", "confidences"],
    );
    let swept = ran(&[
        "sweep",
        "--replay",
        &file,
        "--strategies",
        "majority",
        "--traces",
        "2",
        "--run",
        &run,
        "--json",
    ]);
    assert!(swept.err.contains("without a right answer"), "{}", swept.err);
    assert_eq!(swept.objects()[0]["accuracy"], Value::Null);
    let torn = write(
        &folder,
        "torn.jsonl",
        "{\"problem\": 1, \"answers\": [\"1\", \"2\"], \"lengths\": [4]}\n",
    );
    refused(
        &["sweep", "--replay", &torn, "--run", &run],
        &[
            "torn.jsonl",
            "no problem that can be decided over",
            "differ in number",
            "item 1",
        ],
    );
    let set = write(
        &folder,
        "set.jsonl",
        "{\"id\": \"1\", \"problem\": \"?\", \"answer\": \"1\"}\n",
    );
    refused(
        &[
            "sweep",
            "--replay",
            &file,
            "--strategies",
            "majority",
            "--data",
            &set,
            "--run",
            &run,
        ],
        &["--data"],
    );
}

/// A dump as the reference code's offline runs leave them; the groups of its online runs are made from it.
fn dump(traces: usize, window: Option<usize>) -> Value {
    let trace = |i: usize| {
        let n = 30 + (i * 13) % 40;
        let confs: Vec<f64> = (0..n)
            .map(|t| {
                8.0 + ((t * (i + 3)) % 17) as f64 / 4.0
                    - if i.is_multiple_of(3) && t > 20 { 3.0 } else { 0.0 }
            })
            .collect();
        let mut trace = json!({
            "stop_reason": "stop", "num_tokens": n,
            "extracted_answer": if i.is_multiple_of(3) { "12" } else { "\\frac{1}{2}" }
        });
        match window {
            None => trace["confs"] = json!(confs),
            Some(w) => {
                trace["group_confs"] = confs
                    .windows(w)
                    .map(|g| g.iter().sum::<f64>() / w as f64)
                    .collect()
            }
        }
        trace
    };
    json!({
        "question_id": 7, "ground_truth": "0.5", "config": {"window_size": window},
        "traces": (0..traces).map(trace).collect::<Vec<_>>(),
    })
}

#[test]
fn dumps_of_the_reference_code_are_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        "--strategy",
        "deepconf-low",
        "--consensus",
        "off",
        "--warmup",
        "8",
        "--window",
        "16",
        "--slots",
        "6",
        "--json",
    ];
    let replayed = |name: &str, text: String| {
        let file = write(&folder, name, &text);
        ran(&[&["replay", &file][..], &settings].concat())
            .objects()
            .remove(0)
    };
    let of_tokens = replayed(
        "offline.json",
        serde_json::to_string_pretty(&dump(40, None)).unwrap(),
    );
    assert_eq!(
        (&of_tokens["correct"], &of_tokens["problem_id"]),
        (&json!(true), &json!("7"))
    );
    assert!(
        of_tokens["traces"]["stopped"].as_u64().unwrap() > 0,
        "{of_tokens}"
    );
    // the means of all groups say as much as the tokens
    let of_groups = replayed("online.json", dump(40, Some(16)).to_string());
    for field in ["answer", "traces", "tokens", "ticks", "ballots"] {
        if field != "ballots" {
            assert_eq!(of_groups[field], of_tokens[field], "{field}");
        }
    }
    let bar = |o: &Value| o["threshold"].as_f64().unwrap();
    assert!((bar(&of_groups) - bar(&of_tokens)).abs() < 1e-5);
    // and of another window they say nothing
    let file = write(&folder, "again.json", &dump(40, Some(16)).to_string());
    refused(
        &[
            "replay",
            &file,
            "--strategy",
            "deepconf-high",
            "--warmup",
            "8",
            "--window",
            "20",
            "--json",
        ],
        &["confidence of every token"],
    );
    // torn and strange traces are counted
    let mut strange = dump(6, None);
    (strange["traces"][1]["num_tokens"], strange["traces"][1]["confs"]) = (json!(0), json!([]));
    strange["traces"][2]["confs"][3] = json!("x");
    strange["traces"][3]["stop_reason"] = json!("asteroid");
    let file = write(&folder, "strange.json", &strange.to_string());
    let ran = ran(&["replay", &file, "--strategy", "majority", "--json"]);
    assert_eq!(ran.objects()[0]["traces"]["launched"], 6);
    assert_eq!(ran.objects()[0]["traces"]["failed"], 2, "they have no vote");
    for part in [
        "number of tokens is none",
        "something else than numbers",
        "unknown `finish`",
    ] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
}

#[test]
fn pickles_become_a_recording() {
    let python = |args: &[&str]| std::process::Command::new("python3").args(args).output();
    let Ok(version) = python(&["--version"]) else {
        return;
    };
    assert!(version.status.success());
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, "dump.json", &dump(20, None).to_string());
    let pickle = folder.path().join("dump.pkl").to_str().unwrap().to_owned();
    let make = format!("import json, pickle; pickle.dump(json.load(open({file:?})), open({pickle:?}, 'wb'))");
    assert!(python(&["-c", &make]).unwrap().status.success());
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/from_deepconf.py");
    let output = python(&[tool, &pickle]).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let traces = write(
        &folder,
        "traces.jsonl",
        std::str::from_utf8(&output.stdout).unwrap(),
    );
    let settings = [
        "--strategy",
        "deepconf-high",
        "--warmup",
        "8",
        "--window",
        "16",
        "--json",
    ];
    let of = |path: &str| {
        settled(
            ran(&[&["replay", path][..], &settings].concat())
                .objects()
                .remove(0),
        )
    };
    assert_eq!(of(&traces), of(&file));
}
