//! Files that are none, or begin with what is no part of them.

use std::fs;

use serde_json::json;

use super::{GCD, Ran, ran, refused, tts, write};

#[test]
#[cfg(unix)]
fn a_set_may_come_through_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let set = write(
        &folder,
        "set.jsonl",
        &format!("{}\n", json!({"problem": GCD, "answer": "23"})),
    );
    let args = [
        "solve",
        "--traces",
        "2",
        "--max-tokens",
        "8",
        "--strategy",
        "majority",
        "--dry-run",
        "--data",
    ];
    let of_file = ran(&[&args[..], &[&set]].concat());
    let mut piped = tts(&[&args[..], &["/dev/stdin"]].concat());
    let of_pipe = Ran::of(piped.write_stdin(fs::read(&set).unwrap()));
    assert_eq!(of_pipe.code, 0, "{}", of_pipe.err);
    assert_eq!(of_pipe.out.replace("/dev/stdin", &set), of_file.out);
}

#[test]
fn what_is_piped_is_read_no_further_than_a_text_can_be() {
    let long = vec![b'a'; (64 << 20) + 1];
    for args in [
        &["solve", "-"][..],
        &["complete", "-"],
        &["score", "-"],
        &["grade"],
    ] {
        let ran = Ran::of(tts(args).write_stdin(long.clone()));
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(ran.err.contains("64 MiB"), "{args:?}: {}", ran.err);
    }
}

#[test]
#[cfg(unix)]
fn what_is_no_set_is_told_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    for (path, says) in [
        ("/dev/zero", "/dev/zero"),
        (folder.path().to_str().unwrap(), "folder"),
    ] {
        let args = ["solve", "--traces", "2", "--max-tokens", "8", "--data", path];
        refused(&args, &[says]);
        assert!(!Ran::of(&mut tts(&args)).err.contains("does not exist"));
        refused(&["grade", path], &[path]);
    }
}

/// Nobody writes to a pipe that lies in a folder, so whoever reads from it waits for ever.
#[test]
#[cfg(unix)]
fn pipes_in_the_place_of_files_are_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let dir = run.to_str().unwrap();
    let solve = [
        "solve",
        GCD,
        "--traces",
        "2",
        "--max-tokens",
        "8",
        "--strategy",
        "majority",
        "--run",
        dir,
    ];
    for name in ["manifest.json", "traces.jsonl", "tokens.bin", "problems.jsonl"] {
        let _ = fs::remove_dir_all(&run);
        ran(&solve);
        fs::remove_file(run.join(name)).unwrap();
        let made = std::process::Command::new("mkfifo").arg(run.join(name)).status();
        assert!(made.unwrap().success());
        for args in [&solve[..], &["replay", dir, "--strategy", "majority"]] {
            let got = Ran::of(tts(args).timeout(std::time::Duration::from_secs(60)));
            // a replay looks at no manifest, and calls a folder without traces no recording
            let reads = args[0] == "solve" || name == "traces.jsonl";
            assert!(got.code == 2 || !reads, "{name}: {}", got.err);
            let said = args[0] == "replay" || got.err.contains(name) && got.err.contains("it is a pipe");
            assert!(said, "{}", got.err);
        }
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_recording() {
    let folder = tempfile::tempdir().unwrap();
    let line = |trace: u32| {
        json!({"problem_id": "p", "trace": trace, "gold": "7", "tokens": 3, "finish": "stop",
               "text": "\\boxed{7}", "answer": "7"})
    };
    let lines = format!("{}\n{}\n", line(0), line(1));
    let replayed = |name: &str, text: &str| {
        let file = write(&folder, name, text);
        let mut reply = ran(&["replay", &file, "--strategy", "majority", "--json"])
            .objects()
            .remove(0);
        for field in ["seconds", "machine"] {
            reply.as_object_mut().unwrap().remove(field);
        }
        assert_eq!(reply["answer"], "7");
        reply
    };
    assert_eq!(
        replayed("marked.jsonl", &format!("\u{feff}{lines}")),
        replayed("plain.jsonl", &lines)
    );
}
