//! What a user sees, kept as text in `tests/it/snapshots/`, so that a change of it can be read in a review.
//! `INSTA_UPDATE=always cargo test --test it seen` writes the files again.

use std::path::Path;

use serde_json::Value;

use super::{NO_CACHE, Ran, tts, write};
use crate::{fixture, round};

/// Compares with a file of `tests/it/snapshots/`.
fn seen(name: &str, text: &str) {
    insta::with_settings!({
        snapshot_path => "../snapshots", prepend_module_to_snapshot => false, omit_expression => true
    }, { insta::assert_snapshot!(name, text) });
}

/// The program in a folder, with help as wide as in these files and with results that no machine changes.
fn run_in(folder: &Path, args: &[&str]) -> Ran {
    Ran::of(tts(args).current_dir(folder).env("COLUMNS", "100"))
}

/// A text without the places of files and without the version.
fn placeless(text: &str, folder: &Path) -> String {
    text.replace(folder.to_str().unwrap(), "FOLDER")
        .replace(fixture("").to_str().unwrap(), "FIXTURES/")
        .replace(std::env::temp_dir().join(NO_CACHE).to_str().unwrap(), "CACHE")
        .replace(concat!("version ", env!("CARGO_PKG_VERSION")), "version VERSION")
}

/// A command with everything that it prints, without the places of files.
fn session(folder: &Path, args: &[&str]) -> String {
    let ran = run_in(folder, args);
    let quoted = |arg: &&str| match *arg {
        "" => "''".to_owned(),
        arg if arg.contains(' ') => format!("'{arg}'"),
        arg => arg.to_owned(),
    };
    let typed: Vec<_> = args.iter().map(quoted).collect();
    let mut text = format!("$ tts {}\n", typed.join(" "));
    for (name, stream) in [("stdout", &ran.out), ("stderr", &ran.err)] {
        if !stream.is_empty() {
            text += &format!("--- {name}\n{}\n", stream.trim_end());
        }
    }
    text += &format!("--- exit code {}\n", ran.code);
    placeless(&text, folder)
}

/// The objects of a command's stdout, laid out for reading, without what no two runs or machines share.
fn objects(folder: &Path, args: &[&str]) -> String {
    let ran = run_in(folder, args);
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    let mut text = format!("$ tts {}\n", args.join(" "));
    for mut object in ran.objects() {
        for field in ["seconds", "machine"] {
            if let Some(value) = object.get_mut(field) {
                *value = Value::from(format!("[{field}]"));
            }
        }
        round(&mut object);
        text += &serde_json::to_string_pretty(&object).unwrap();
        text.push('\n');
    }
    placeless(&text, folder)
}

/// The recorded run of the fixtures, in a folder of its own that commands may write to.
fn recording(folder: &Path) {
    let run = folder.join("recording");
    std::fs::create_dir(&run).unwrap();
    for file in std::fs::read_dir(fixture("report/run"))
        .unwrap()
        .map(Result::unwrap)
    {
        std::fs::copy(file.path(), run.join(file.file_name())).unwrap();
    }
}

#[test]
fn help() {
    let folder = tempfile::tempdir().unwrap();
    let all = run_in(folder.path(), &["--help"]);
    seen("help", &all.out);
    let commands: Vec<_> = all
        .out
        .lines()
        .skip_while(|l| *l != "Commands:")
        .skip(1)
        .take_while(|l| !l.is_empty())
        .filter(|l| l.starts_with("  ") && !l.starts_with("   "))
        .map(|l| l.split_whitespace().next().unwrap())
        .collect();
    assert!(commands.len() > 12, "{commands:?}");
    for command in commands.into_iter().filter(|c| *c != "help") {
        let one = run_in(folder.path(), &[command, "--help"]);
        assert_eq!(one.code, 0, "{command}: {}", one.err);
        seen(&format!("help-{command}"), &one.out);
    }
}

#[test]
fn lists() {
    let folder = tempfile::tempdir().unwrap();
    for what in ["models", "tasks", "strategies"] {
        let plain = session(folder.path(), &["list", what]);
        seen(
            &format!("list-{what}"),
            &(plain + "\n" + &objects(folder.path(), &["list", what, "--json"])),
        );
    }
    seen(
        "list",
        &(session(folder.path(), &["list"])
            + "\n"
            + &session(folder.path(), &["list", "strategies", "adaptive"])),
    );
}

/// Options that make a result the same on every machine.
const ANYWHERE: [&str; 6] = ["--tier", "portable", "--threads", "1", "--memory", "256MiB"];

#[test]
fn solving() {
    let folder = tempfile::tempdir().unwrap();
    let set = [
        "solve",
        "--data",
        "heldout",
        "--limit",
        "3",
        "--traces",
        "6",
        "--strategy",
        "majority",
    ];
    seen(
        "solve-set",
        &session(folder.path(), &[&set[..], &ANYWHERE, &["--run", "run"]].concat()),
    );
    // the same command again finds everything there
    seen(
        "solve-again",
        &session(folder.path(), &[&set[..], &ANYWHERE, &["--run", "run"]].concat()),
    );
    seen(
        "replay",
        &session(folder.path(), &["replay", "run", "--strategy", "esc"]),
    );
    seen(
        "replay-json",
        &objects(folder.path(), &["replay", "run", "--strategy", "esc", "--json"]),
    );
    let one = [
        "solve",
        "--data",
        "heldout",
        "--limit",
        "1",
        "--traces",
        "20",
        "--slots",
        "8",
        "--strategy",
        "deepconf-low",
        "--warmup",
        "6",
        "--window",
        "16",
        "--consensus",
        "off",
        "--json",
    ];
    seen(
        "solve-json",
        &objects(folder.path(), &[&one[..], &ANYWHERE].concat()),
    );
    let dry = [
        "solve",
        "What is 2 + 2?",
        "--traces",
        "4",
        "--strategy",
        "majority",
        "--dry-run",
    ];
    let text = session(folder.path(), &[&dry[..], &ANYWHERE].concat());
    let measured = |line: &str| match line.ends_with("measured now") {
        true => "(how long that would take, measured now)".to_owned(),
        false => line.to_owned(),
    };
    let text: Vec<String> = text.lines().map(measured).collect();
    assert!(text.iter().any(|line| line.starts_with("(how long")));
    seen("solve-dry-run", &(text.join("\n") + "\n"));
}

#[test]
fn reading_and_going_on() {
    let folder = tempfile::tempdir().unwrap();
    let text = ["--text", "17*23=", "--tier", "portable", "--threads", "1"];
    let two = ["--top-k", "2"];
    seen(
        "score",
        &session(folder.path(), &[&["score"][..], &text, &two].concat()),
    );
    seen(
        "score-json",
        &objects(
            folder.path(),
            &[&["score"][..], &text, &two, &["--json"]].concat(),
        ),
    );
    let few = ["--traces", "2", "--max-tokens", "5"];
    seen(
        "complete",
        &session(folder.path(), &[&["complete"][..], &text, &few].concat()),
    );
    seen(
        "complete-json",
        &objects(
            folder.path(),
            &[&["complete"][..], &text, &few, &["--json"]].concat(),
        ),
    );
}

#[test]
fn answers_without_a_model() {
    let folder = tempfile::tempdir().unwrap();
    write(
        &folder,
        "answers.jsonl",
        concat!(
            r#"{"prediction": "\\frac12", "gold": "0.5"}"#,
            "\n",
            r#"{"text": "so it is \\boxed{1{,}024}", "gold": "1024", "id": 7}"#,
            "\n",
            r#"{"text": "no idea", "gold": "3"}"#,
            "\n",
            r#"{"prediction": "(2, 1)", "gold": "(1, 2)"}"#,
            "\n",
        ),
    );
    seen("grade", &session(folder.path(), &["grade", "answers.jsonl"]));
    seen(
        "grade-json",
        &objects(folder.path(), &["grade", "answers.jsonl", "--json"]),
    );
    seen(
        "generate",
        &objects(folder.path(), &["generate", "--count", "4", "--seed", "1"]),
    );
}

#[test]
fn tables_of_a_recording() {
    let folder = tempfile::tempdir().unwrap();
    recording(folder.path());
    let swept = [
        "sweep",
        "--replay",
        "recording",
        "--strategies",
        "majority,esc,best-of-n",
        "--traces",
        "4,12",
        "--resamples",
        "5",
        "--run",
        "sweep",
    ];
    seen("sweep", &session(folder.path(), &swept));
    seen("sweep-report", &session(folder.path(), &["report", "sweep"]));
}

/// Input that cannot be used: each is refused with exit code 2 and a sentence that says what would be right.
const REFUSED: &[&str] = &[
    "solve",
    "solve P --data heldout",
    "solve P --traces 0",
    "solve P --traces many",
    "solve P --slots 0",
    "solve P --max-tokens 100000",
    "solve P --strategy deepconf-lo",
    "solve P --strategy no/such.toml",
    "solve P --strategy wrong.toml",
    "solve P --strategy majority --warmup 3",
    "solve P --keep-top 1.5",
    "solve P --consensus 0.2",
    "solve P --window wide",
    "solve P --vote loud",
    "solve P --temperature -1",
    "solve P --top-p 0",
    "solve P --repetition-penalty 0",
    "solve P --memory 4parsecs",
    "solve P --time-limit soon",
    "solve P --device rocm",
    "solve P --dtype q8",
    "solve P --answer-kind poem",
    "solve P --answer-pattern (",
    "solve P --task aime99",
    "solve P --prompt-template nothing",
    "solve P --system @no-such-file",
    "solve P --chat-template no-such.jinja",
    "solve P --no-such-flag",
    "solve P --config wrong.toml",
    "solve P --model no-model",
    "solve P --model ./no-model",
    "solve P --model nobody/nothing",
    "solve P --model FIXTURES/README.md",
    "solve P --model FIXTURES/gguf/gemma.gguf",
    "solve P --model FIXTURES/gguf/tied.gguf",
    "solve P --model FIXTURES/gguf/unknown-type.gguf",
    "solve P --model FIXTURES/variants/biases",
    "solve P --model other",
    "solve P --run other",
    "solve --data heldoutt",
    "solve --data no-such.jsonl",
    "solve --data wrong.jsonl",
    "solve --data heldout --ids nobody",
    "solve --data heldout --field shape=round",
    "score",
    "score --model FIXTURES/golden/case-gqa --token-ids 1,336",
    "score --model FIXTURES/golden/case-gqa --token-ids 1,x",
    "complete --model FIXTURES/variants/biases --text a",
    "replay no-such-run",
    "replay wrong.jsonl",
    "replay recording --strategy majorty",
    "sweep --replay recording --traces 0",
    "sweep --replay recording --strategies majority,best",
    "report other",
    "generate --family gdc",
    "grade wrong.jsonl",
    "bench --shape falcon-h1-05b",
    "bench --batch 0",
    "list poems",
    "serve --host nowhere",
    "serve --host 0.0.0.0",
    "frobnicate",
];

#[test]
fn error_sentences() {
    let folder = tempfile::tempdir().unwrap();
    write(
        &folder,
        "wrong.jsonl",
        "{\"question\": \"1 + 1\"}\n{\"question\": \n",
    );
    write(&folder, "wrong.toml", "kind = \"majority\"\nwarm-up = 3\n");
    recording(folder.path());
    std::fs::create_dir(folder.path().join("other")).unwrap();
    write(
        &folder,
        "other/config.json",
        r#"{"model_type": "gpt_neo", "architectures": ["GPTNeoForCausalLM"]}"#,
    );
    let mut text = String::new();
    for line in REFUSED {
        let args: Vec<_> = line
            .split(' ')
            .map(|arg| match arg {
                "P" => super::GCD.to_owned(),
                arg => arg.replace("FIXTURES/", fixture("").to_str().unwrap()),
            })
            .collect();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let ran = run_in(folder.path(), &args);
        let errors: Vec<_> = ran
            .err
            .lines()
            .skip_while(|l| !l.starts_with("error: "))
            .collect();
        text += &format!(
            "$ tts {line}\n{}\nexit code {}\n\n",
            errors.join("\n").trim_end(),
            ran.code
        );
    }
    let text = placeless(&text, folder.path());
    assert!(!text.contains("panicked"), "{text}");
    seen("errors", &text);
}
