//! The program as its users see it: what it prints, and how it ends.

mod bad_input;
mod devices;
mod elsewhere;
mod families;
mod golden_numbers;
mod made;
mod measuring;
mod old_folders;
mod piloted;
mod policies;
mod recorded;
mod replaying;
mod reports;
mod seen;
mod solving;
mod special_files;
mod sweeping;
mod tasks;
mod warned;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use assert_cmd::Command;
use serde_json::Value;
use tts_model::overrides::SAMPLING_SETTINGS;

use crate::fixture;

/// Where models would be cached, if any were, below the folder of temporary files.
const NO_CACHE: &str = "tts-tests-no-such-cache";
const GCD: &str = "Find the greatest common divisor of 437 and 161.";

/// The program with these arguments, away from the network and from the settings of whoever runs the tests.
fn tts(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tts"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TTS_")) {
        command.env_remove(name);
    }
    command
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", std::env::temp_dir().join(NO_CACHE))
        .args(args);
    command
}

/// What came of a run: exit code, stdout, stderr.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
    /// The lines of stdout as JSON.
    fn objects(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

/// Runs the program, which must do well.
#[track_caller]
fn ran(args: &[&str]) -> Ran {
    let ran = Ran::of(&mut tts(args));
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    ran
}

/// Runs the program, which must refuse: exit code 2, one sentence with these parts, nothing on stdout.
#[track_caller]
fn refused(args: &[&str], parts: &[&str]) {
    let ran = Ran::of(&mut tts(args));
    assert_eq!(ran.code, 2, "{args:?}: {} {}", ran.out, ran.err);
    assert_eq!(ran.out, "", "{args:?}");
    let errors: Vec<_> = ran.err.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{args:?}: {}", ran.err);
    assert!(
        parts.iter().all(|part| ran.err.contains(part)),
        "{args:?}: {} should say {parts:?}",
        ran.err
    );
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
}

fn path(name: &str) -> String {
    fixture(name).to_str().unwrap().to_owned()
}

/// A copy of a fixture folder that a test may spoil.
fn copy_of(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder)
        .unwrap()
        .map(Result::unwrap)
        .filter(|e| e.path().is_file())
    {
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn write(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path: PathBuf = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn problems_are_generated_with_answers_and_graded() {
    let made = ran(&[
        "generate",
        "--count",
        "20",
        "--seed",
        "3",
        "--family",
        "gcd,power",
    ]);
    let problems = made.objects();
    assert_eq!(problems.len(), 20);
    for p in &problems {
        for field in ["id", "family", "problem", "answer", "solution"] {
            assert!(p[field].is_string(), "{p}");
        }
        assert!(["gcd", "power"].contains(&p["family"].as_str().unwrap()));
    }
    assert_eq!(
        made.out,
        ran(&[
            "generate",
            "--count",
            "20",
            "--seed",
            "3",
            "--family",
            "gcd,power"
        ])
        .out
    );
    assert_ne!(
        made.out,
        ran(&[
            "generate",
            "--count",
            "20",
            "--seed",
            "4",
            "--family",
            "gcd,power"
        ])
        .out
    );

    let lines: String = problems
        .iter()
        .map(|p| {
            serde_json::json!({"text": p["solution"], "gold": p["answer"], "id": p["id"]}).to_string() + "\n"
        })
        .collect();
    let graded = Ran::of(tts(&["grade", "--answer-kind", "integer"]).write_stdin(lines.clone()));
    assert_eq!(graded.code, 0);
    assert!(
        graded
            .objects()
            .iter()
            .zip(&problems)
            .all(|(g, p)| g["equal"] == true && g["extracted"] == p["answer"] && g["id"] == p["id"])
    );
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        ran(&[
            "grade",
            &write(&folder, "lines.jsonl", &lines),
            "--task",
            "heldout",
            "--json"
        ])
        .out,
        graded.out
    );
    let bad =
        Ran::of(tts(&["grade", "-"]).write_stdin("{\"gold\": 1, \"prediction\": \"1\"}\n{\"gold\": 1}\n"));
    assert_eq!((bad.code, bad.objects().len()), (2, 1));
    assert!(bad.err.contains("line 2"), "{}", bad.err);
}

#[test]
fn lists_and_the_doctor_say_what_there_is() {
    let names = |what| {
        ran(&["list", what, "--json"])
            .objects()
            .iter()
            .map(|o| o["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("models")[0], "bundled");
    assert!(names("tasks").contains(&"heldout".to_owned()));
    let strategies = names("strategies");
    assert!(
        ["majority", "deepconf-low", "deepconf-high"]
            .iter()
            .all(|s| strategies.iter().any(|n| n == s))
    );

    let model = path("golden/case-mha-groups-sharded");
    let doctor = &ran(&[
        "doctor",
        "--json",
        "--model",
        &model,
        "--threads",
        "1",
        "--tier",
        "portable",
    ])
    .objects()[0];
    assert_eq!(
        (&doctor["tier"], &doctor["threads"]),
        (&Value::from("portable"), &Value::from(1))
    );
    for field in [
        "memory_available_bytes",
        "parameters",
        "weight_bytes",
        "state_bytes",
        "kv_bytes_per_token",
        "bytes_per_trace",
        "max_batch",
        "predicted_resident_bytes",
    ] {
        assert!(doctor[field].as_u64().unwrap() > 0, "{field}: {doctor}");
    }
    let formats: u64 = doctor["weight_formats"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["bytes"].as_u64().unwrap())
        .sum();
    assert!(
        formats > 0 && formats <= doctor["weight_bytes"].as_u64().unwrap(),
        "matrices, beside norms and the like"
    );
    assert!(ran(&["doctor"]).out.contains("rows of a batch"));
    assert!(ran(&["completions", "bash"]).out.contains("_tts()"));
    assert!(ran(&["--version"]).out.starts_with("tts "));
}

#[test]
fn flags_come_from_the_command_line_else_the_environment_else_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = write(
        &folder,
        "flags.toml",
        "count = 3\nseed = 7\nfamily = [\"gcd\", \"power\"]\ntraces = 5\njson = true\nmax_batch = \"auto\"\n",
    );
    let ids = |ran: Ran| {
        ran.objects()
            .iter()
            .map(|o| o["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ids(ran(&["generate", "--config", &config])),
        ["gcd-heldout-7-0", "power-heldout-7-0", "gcd-heldout-7-1"]
    );
    assert_eq!(
        ids(ran(&[
            "--config", &config, "generate", "--count", "1", "--family", "base"
        ])),
        ["base-heldout-7-0"]
    );
    let from_both = Ran::of(
        tts(&["generate", "--count", "1"])
            .env("TTS_CONFIG", &config)
            .env("TTS_SEED", "9"),
    );
    assert_eq!(ids(from_both), ["gcd-heldout-9-0"]);
    let solved = ran(&["solve", "--config", &config, "--dry-run", GCD]).objects();
    assert_eq!(solved[0]["traces"], 5);
    let plain = Ran::of(
        tts(&["generate", "--count", "1"])
            .env("TTS_QUIET", "1")
            .env("TTS_SEED", "nine"),
    );
    assert_eq!(plain.code, 2);

    refused(
        &["generate", "--config", &write(&folder, "a.toml", "cuont = 3\n")],
        &["a.toml", "`cuont`", "`count`"],
    );
    refused(
        &[
            "generate",
            "--config",
            &write(&folder, "b.toml", "count = \"many\"\n"),
        ],
        &["b.toml", "--count", "many"],
    );
    refused(
        &[
            "generate",
            "--config",
            &write(&folder, "c.toml", "seed = 1\ncount = = 3\n"),
        ],
        &["c.toml", "line 2"],
    );
    refused(&["generate", "--config", "no-such.toml"], &["no-such.toml"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tts"))
        .args(["generate", "--count", "4000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert!(first.starts_with('{'));
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap().as_str()
        ),
        (Some(0), "")
    );
}

#[test]
fn every_sampling_setting_is_a_flag() {
    for command in ["solve", "complete", "sweep", "pilot", "serve"] {
        let help = ran(&[command, "--help"]).out;
        for s in SAMPLING_SETTINGS {
            let flag = format!("--{} <{}>", s.flag, s.value_name);
            assert!(help.contains(&flag) && help.contains(s.help), "{command}: {flag}");
        }
    }
    for s in SAMPLING_SETTINGS {
        let flag = format!("--{}", s.flag);
        if !s.whole {
            let sentence = format!("{} is -1000; it must be {}", s.label, s.right);
            refused(&["solve", GCD, &flag, "-1000"], &[&sentence]);
        }
        // a recording's tokens are drawn
        refused(
            &["sweep", "--replay", "no-run", &flag, "1"],
            &["cannot be used with", &flag],
        );
    }
}
