//! The command line with engines elsewhere: what it prints, what it records, and that it goes on.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use tts::run::Manifest;

use super::server::{Request, Server, models, plain, question, well};

const SECRET: &str = "sk-a-secret-that-nobody-may-see";

/// The program, away from the settings of whoever runs the tests.
fn run(args: &[&str], key: bool) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tts"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TTS_") || name == "OPENAI_API_KEY")
    {
        command.env_remove(name);
    }
    if key {
        command.env("OPENAI_API_KEY", SECRET).env("TTS_LOG", "trace");
    }
    let output = command.args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap_or(-1),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Solves two problems, and gives the objects that it prints.
async fn solve(server: &Server, run_folder: &Path, extra: &[&str]) -> Result<Vec<Value>, String> {
    let set = run_folder.with_extension("jsonl");
    std::fs::write(
        &set,
        "{\"id\": \"a\", \"question\": \"What is 3 + 4?\", \"answer\": \"7\"}\n{\"id\": \"b\", \"question\": \
         \"And 4 + 3?\", \"answer\": \"7\"}\n",
    )
    .unwrap();
    let (url, set, folder) = (
        server.url(),
        set.display().to_string(),
        run_folder.display().to_string(),
    );
    let mut args: Vec<String> = [
        "solve",
        "--backend",
        &url,
        "--data",
        &set,
        "--run",
        &folder,
        "--json",
        "--max-tokens",
        "100",
    ]
    .map(str::to_owned)
    .to_vec();
    args.extend(extra.iter().map(|e| (*e).to_owned()));
    let (code, out, err) =
        tokio::task::spawn_blocking(move || run(&args.iter().map(String::as_str).collect::<Vec<_>>(), true))
            .await
            .unwrap();
    assert!(!out.contains(SECRET) && !err.contains(SECRET), "{out}{err}");
    match code {
        0 => Ok(out.lines().map(|l| serde_json::from_str(l).unwrap()).collect()),
        _ => Err(err),
    }
}

/// Every byte of a folder's files.
fn everything(folder: &Path) -> Vec<u8> {
    std::fs::read_dir(folder)
        .unwrap()
        .flat_map(|e| std::fs::read(e.unwrap().path()).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_recorded_goes_on_and_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let server = Server::new(|r| well(r, 1)).await;
    let few = ["--strategy", "majority", "--traces", "6"];
    let first = solve(&server, &folder, &few).await.unwrap();
    assert_eq!(first.len(), 2);
    for line in &first {
        assert_eq!(
            (&line["answer"], &line["correct"], &line["model"]),
            (&"7".into(), &true.into(), &"m".into())
        );
        assert_eq!(line["machine"]["backends"][0]["url"], server.url());
    }
    assert_eq!(server.traces().len(), 12);
    let manifest = Manifest::read(&folder).unwrap().unwrap();
    assert_eq!(
        (
            manifest.traces.is_remote(),
            manifest.traces.backend_model.as_deref()
        ),
        (true, Some("m"))
    );
    assert_eq!(manifest.traces.confidence_k, Some(20));
    assert!(
        server
            .asked()
            .iter()
            .all(|a| a.authorization.as_deref() == Some(&format!("Bearer {SECRET}")))
    );
    assert!(
        !everything(&folder)
            .windows(SECRET.len())
            .any(|w| w == SECRET.as_bytes())
    );

    // decided before: nothing is asked again, and another address is no other run
    let other = Server::new(|r| well(r, 1)).await;
    assert_eq!(solve(&other, &folder, &few).await.unwrap(), first);
    assert!(other.traces().is_empty());
    // more traces: those that are there are read
    let more = solve(&other, &folder, &["--strategy", "majority", "--traces", "9"])
        .await
        .unwrap();
    assert_eq!(other.traces().len(), 6);
    assert_eq!(more[0]["traces"]["finished"], 9);
    let sum = |line: &Value| {
        [
            "warmup",
            "finished",
            "stopped",
            "cancelled",
            "truncated",
            "failed",
        ]
        .map(|f| line["tokens"][f].as_u64().unwrap())
        .iter()
        .sum::<u64>()
    };
    assert!(
        more.iter()
            .all(|l| sum(l) == l["tokens"]["generated"].as_u64().unwrap())
    );
    // another model is another run
    let another = Server::new(|r| {
        if r.path.ends_with("/models") {
            models("n")
        } else {
            well(r, 1)
        }
    })
    .await;
    let error = solve(&another, &folder, &few).await.unwrap_err();
    assert!(
        error.contains("`backend_model` was \"m\" and is now \"n\""),
        "{error}"
    );
    // and a replay says what it cannot know
    let path = folder.display().to_string();
    let (code, out, err) = run(&["replay", &path, "--json"], false);
    assert_eq!(code, 0, "{err}");
    let again: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(again[0]["tokens"]["generated"], more[0]["tokens"]["generated"]);
    assert!(
        again[0]["warnings"]
            .to_string()
            .contains("order in which they came"),
        "{}",
        again[0]["warnings"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cut_off_goes_on_and_counts_every_token_once() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    // the fourth trace of a problem breaks, and later the engine is gone
    let server = Server::new(|r| match question(r, 1.0) {
        None if r.nth == 3 => {
            let mut steps = well(r, 1);
            steps.truncate(7);
            steps
        }
        None if r.nth >= 8 => plain("500 Internal Server Error", "", "{}"),
        _ => well(r, 1),
    })
    .await;
    let slow = [
        "--strategy",
        "majority",
        "--traces",
        "10",
        "--slots",
        "1",
        "--backend-retries",
        "1",
        "--limit",
        "1",
    ];
    let error = solve(&server, &folder, &slow).await.unwrap_err();
    assert!(error.contains("500") && error.contains(&server.url()), "{error}");
    let lines = std::fs::read_to_string(folder.join("traces.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 8, "what had ended is there");
    let spent: u64 = lines
        .lines()
        .map(|l| {
            serde_json::from_str::<Value>(l).unwrap()["tokens"]
                .as_u64()
                .unwrap()
        })
        .sum();

    let back = Server::new(|r| well(r, 1)).await;
    let result = solve(&back, &folder, &slow).await.unwrap().remove(0);
    assert_eq!(back.traces().len(), 2, "only what is missing is asked for");
    let sent: usize = super::model_of(&back).values().map(|t| t.words.len()).sum();
    assert_eq!(result["tokens"]["generated"], spent + sent as u64);
    assert_eq!(
        (&result["traces"]["failed"], &result["traces"]["finished"]),
        (&1.into(), &9.into())
    );
    assert_eq!(result["tokens"]["failed"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_an_engine_repeats_is_not_shown() {
    let server = Server::new(|_| {
        plain(
            "401 Unauthorized",
            "",
            &format!("{{\"error\": {{\"message\": \"Incorrect API key provided: {SECRET}\"}}}}"),
        )
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let error = solve(&server, &dir.path().join("run"), &[]).await.unwrap_err();
    assert!(
        error.contains("[key]") && error.contains("TTS_BACKEND_API_KEY"),
        "{error}"
    );
    // nor one that was put into the address
    let (code, out, err) = run(
        &["solve", "--backend", "http://me:hidden@127.0.0.1:1/v1", "1+1"],
        false,
    );
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(!err.contains("hidden") && err.contains("--backend"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_takes_its_traces_from_an_engine() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("set.jsonl");
    std::fs::write(
        &set,
        "{\"id\": \"a\", \"question\": \"What is 3 + 4?\", \"answer\": \"7\"}\n",
    )
    .unwrap();
    let server = Server::new(|r| well(r, 1)).await;
    let args: Vec<String> = [
        "sweep",
        "--backend",
        &server.url(),
        "--data",
        &set.display().to_string(),
        "--traces",
        "2,8",
        "--strategies",
        "majority,deepconf-high",
        "--run",
        &dir.path().join("swept").display().to_string(),
        "--max-tokens",
        "100",
        "--json",
    ]
    .map(str::to_owned)
    .to_vec();
    let (code, out, err) =
        tokio::task::spawn_blocking(move || run(&args.iter().map(String::as_str).collect::<Vec<_>>(), false))
            .await
            .unwrap();
    assert_eq!(code, 0, "{err}");
    assert_eq!(server.traces().len(), 8);
    assert!(out.lines().count() >= 4 && out.contains("deepconf-high"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_that_are_copies_are_said() {
    let dir = tempfile::tempdir().unwrap();
    for heeds in [true, false] {
        let server = Server::new(move |r| {
            if let Some(steps) = question(r, 1.0) {
                return steps;
            }
            let mut body = r.body.clone();
            if !heeds {
                body["seed"] = 3.into();
            }
            well(&Request { body: &body, ..*r }, 1)
        })
        .await;
        let folder = dir.path().join(format!("run-{heeds}"));
        let lines = solve(&server, &folder, &["--strategy", "majority", "--traces", "3"])
            .await
            .unwrap();
        for line in lines {
            let said = line["warnings"]
                .to_string()
                .contains("3 of 3 traces are the same text");
            assert_eq!(said, !heeds, "{line}");
        }
    }
}

#[test]
fn flags_that_mean_nothing_there_are_refused() {
    let (code, _, err) = run(
        &[
            "solve",
            "--backend",
            "http://127.0.0.1:1/v1",
            "--dtype",
            "f32",
            "1+1",
        ],
        false,
    );
    assert!(code == 2 && err.contains("--dtype"), "{err}");
    let (code, _, err) = run(&["solve", "--backend-model", "m", "1+1"], false);
    assert!(code == 2 && err.contains("--backend"), "{err}");
    let (code, _, err) = run(
        &[
            "solve",
            "--backend",
            "http://127.0.0.1:1/v1",
            "--model",
            "org/name",
            "1+1",
        ],
        false,
    );
    assert!(code == 2 && err.contains("--backend-model"), "{err}");
    let (code, _, err) = run(&["solve", "--backend", "nonsense", "1+1"], false);
    assert!(code == 2 && err.contains("`nonsense`"), "{err}");
}
