//! Folders that are not ours, disks that are full, recordings made elsewhere.

use tts::run::{
    Arrays, Manifest, Recording, RunFolder, RunFolderError, Status, TraceRecord, replay, without_answers,
};

use super::script::*;

fn refused(dir: &std::path::Path, manifest: Manifest) -> String {
    RunFolder::open(dir, manifest).err().expect("refused").to_string()
}

fn record(problem: &str, trace: u32, n: usize) -> TraceRecord {
    let arrays = Arrays {
        len: n,
        token_ids: vec![7; n],
        logprobs: vec![-0.5; n],
        confidence: vec![9.0; n],
        ..Arrays::default()
    };
    TraceRecord {
        problem_id: problem.into(),
        trace,
        tokens: n,
        text: Some("\\boxed{1}".into()),
        answer: Some("1".into()),
        arrays,
        ..TraceRecord::default()
    }
}

#[test]
fn what_does_not_mix_is_refused_with_one_sentence() {
    let home = folder();
    let (dir, job) = (home.path().join("a/b"), Job::new("majority"));
    let folder = RunFolder::open(&dir, manifest(&job)).expect("new, with its parents");
    let busy = refused(&dir, manifest(&job));
    assert!(
        busy.contains("another process") && busy.contains(&std::process::id().to_string()),
        "{busy}"
    );
    folder.claim("p", &[1, 2, 3]).expect("new");
    folder.sink("p")(&record("p", 0, 4)).expect("recorded");
    folder.close(Status::Finished).expect("closed");
    assert_eq!(
        Recording::open(&dir).expect("there").manifest().map(|m| m.status),
        Some(Status::Finished)
    );

    let mut other = manifest(&job);
    other.traces = traces("abd");
    let differs = refused(&dir, other);
    assert!(
        differs.contains("`model` was \"abc\" and is now \"abd\""),
        "{differs}"
    );
    let folder = RunFolder::open(
        &dir,
        manifest(&Job {
            traces: 99,
            ..Job::new("deepconf-low")
        }),
    )
    .expect("decisions are free to change");
    folder.claim("p", &[1, 2, 3]).expect("the same prompt");
    assert!(
        folder
            .claim("p", &[1, 2, 4])
            .expect_err("another prompt")
            .to_string()
            .contains("`p`")
    );
    drop(folder);
    assert_eq!(
        Recording::open(&dir).expect("there").manifest().map(|m| m.status),
        Some(Status::Interrupted),
        "dropped, not closed"
    );

    std::fs::write(dir.join("manifest.json"), "{").expect("written");
    assert!(refused(&dir, manifest(&job)).contains("manifest.json"));
    std::fs::remove_file(dir.join("manifest.json")).expect("removed");
    assert!(
        refused(&dir, manifest(&job)).contains("no manifest.json"),
        "a recording without a manifest is for reading"
    );
    assert_eq!(
        Recording::open(&dir)
            .expect("for reading")
            .recorded("p")
            .expect("read")
            .len(),
        1
    );

    let stranger = home.path().join("photos");
    std::fs::create_dir(&stranger).expect("a folder");
    std::fs::write(stranger.join("a.jpg"), "x").expect("a file");
    assert!(refused(&stranger, manifest(&job)).contains("no manifest.json"));
    assert_eq!(
        std::fs::read_dir(&stranger).expect("read").count(),
        1,
        "and left alone"
    );
    assert!(refused(&stranger.join("a.jpg"), manifest(&job)).contains("is a file"));
    assert!(
        Recording::open(&stranger)
            .expect_err("no traces")
            .to_string()
            .contains("traces.jsonl")
    );
    assert!(Recording::open(&home.path().join("nowhere")).is_err());
}

#[test]
fn the_sink_says_so_when_nothing_can_be_written_any_more() {
    let home = folder();
    let dir = home.path().join("run");
    let job = Job::new("majority");
    let wait_for_error = |sink: &mut tts::run::RecordSink| {
        (1..2000).find_map(|i| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            sink(&record("p", i, 4)).err()
        })
    };
    // a folder that is taken away
    let folder = RunFolder::open(&dir, manifest(&job)).expect("new");
    let mut sink = folder.sink("p");
    sink(&record("p", 0, 4)).expect("well");
    folder.flush().expect("well");
    std::fs::remove_dir_all(&dir).expect("gone");
    assert!(wait_for_error(&mut sink).expect("noticed").contains("gone"));
    assert!(matches!(folder.recorded("p"), Err(RunFolderError::Journal(_))));
    assert!(folder.close(Status::Finished).is_err());
    assert!(!dir.exists());

    // a journal that was closed
    let folder = RunFolder::open(&dir, manifest(&job)).expect("new");
    let mut sink = folder.sink("p");
    sink(&record("p", 0, 4)).expect("well");
    folder.close(Status::Finished).expect("closed");
    assert!(sink(&record("p", 1, 4)).expect_err("closed").contains("closed"));
    assert_eq!(Recording::open(&dir).expect("there").traces("p"), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_run_and_keeps_what_was_there() {
    let home = folder();
    let dir = home.path().join("run");
    let job = Job::new("majority");
    let folder = RunFolder::open(&dir, manifest(&job)).expect("new");
    folder.sink("p")(&record("p", 0, 4)).expect("well");
    folder.close(Status::Finished).expect("closed");
    let before = std::fs::read(dir.join("traces.jsonl")).expect("lines");
    for name in ["problems.jsonl", "tokens.bin"] {
        let (file, kept) = (dir.join(name), dir.join(format!("{name}.kept")));
        std::fs::rename(&file, &kept).expect("aside");
        std::os::unix::fs::symlink("/dev/full", &file).expect("a full disk");
        if name == "tokens.bin" {
            // the recorded trace's bytes would not be found there
            std::fs::write(dir.join("traces.jsonl"), "").expect("emptied");
        }
        let folder = RunFolder::open(&dir, manifest(&job)).expect("opens");
        let mut sink = folder.sink("p");
        if name == "tokens.bin" {
            let error = (1..2000).find_map(|i| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                sink(&record("p", i, 4)).err()
            });
            assert!(error.expect("noticed").contains("tokens.bin"));
        } else {
            let decided = drive(
                tts::run::ProblemRun::new(
                    Job {
                        traces: 1,
                        ..Job::new("majority")
                    }
                    .setup(vec![]),
                ),
                None,
                |_, _| {},
            )
            .decided;
            let error = folder
                .write_decided(solved("p", None), &decided)
                .expect_err("full");
            assert!(
                error.to_string().contains("problems.jsonl")
                    && error.to_string().contains("the same command goes on"),
                "{error}"
            );
            assert!(sink(&record("p", 1, 4)).is_err(), "from then on");
        }
        assert!(folder.close(Status::Finished).is_err());
        std::fs::remove_file(&file).expect("freed");
        std::fs::rename(&kept, &file).expect("back");
    }
    std::fs::write(dir.join("traces.jsonl"), before).expect("back");
    let folder = RunFolder::open(&dir, manifest(&job)).expect("goes on");
    let traces: Vec<_> = folder
        .recorded("p")
        .expect("read")
        .iter()
        .map(|r| r.trace)
        .collect();
    assert_eq!(traces, [0]);
}

#[test]
fn a_recording_made_elsewhere_is_read_as_far_as_it_goes() {
    let home = folder();
    let file = home.path().join("pool.jsonl");
    let mut lines: Vec<u8> = Vec::new();
    for trace in 0..10 {
        lines.extend(
            format!(
                "{{\"problem_id\": \"q\", \"trace\": {trace}, \"answer\": \"{}\", \"tokens\": {}}}\n",
                trace % 3,
                5 + trace
            )
            .bytes(),
        );
    }
    lines.extend(b"{\"problem_id\": \"q\", \"gold\": 0, \"whatever\": {\"a\": [1]}}\n\n");
    // fewer tokens: loses
    lines.extend(b"{\"problem_id\": \"q\", \"trace\": 3, \"answer\": \"9\", \"tokens\": 4}\n");
    lines.extend(
        b"{\"problem_id\": \"c\", \"trace\": 0, \"answer\": \"x\xff\", \"confidence\": [1.5, 2.5], \
          \"token_ids\": [1, 2, 3]}\n",
    );
    lines.extend(
        b"{\"problem_id\": \"c\", \"trace\": 1, \"answer\": \"x\", \"confidence\": [1.5, NaN], \"gold\": \
          \"a\"}\n",
    );
    lines.extend(
        b"{\"problem_id\": \"c\", \"trace\": 2, \"tokens\": 3, \"arrays\": {\"offset\": 0, \"n\": 3}, \
          \"gold\": \"b\"}\n",
    );
    lines.extend(b"not JSON\n");
    lines.extend(b"{\"problem_id\": \"z\", \"trace\": 0, \"tokens\": 4}"); // whole, though without a newline
    std::fs::write(&file, &lines).expect("written");
    let recording = Recording::open(&file).expect("a file will do");
    assert_eq!(recording.problems(), ["q", "c", "z"]);
    assert_eq!(
        (
            recording.gold("q").as_deref(),
            recording.gold("c").as_deref(),
            recording.gold("z")
        ),
        (Some("0"), Some("a"), None)
    );
    let q = recording.recorded("q").expect("read");
    assert_eq!((q.len(), q[3].answer.as_deref(), q[3].tokens), (10, Some("0"), 8));
    let job = Job {
        traces: 10,
        slots: 10,
        ..Job::new("majority")
    };
    let (problem, records) = replay(job.setup(q), |trace| panic!("trace {trace} ends too early"));
    let decided = problem.decide(&records);
    assert_eq!(
        (decided.answer.as_deref(), decided.tokens.finished, decided.digest),
        (Some("0"), (5..15).sum(), None)
    );

    let c = recording.recorded("c").expect("read");
    assert_eq!(
        (c[0].tokens, &c[0].arrays.confidence, c[0].answer.as_deref()),
        (3, &vec![], Some("x\u{fffd}"))
    );
    assert_eq!((c[1].tokens, &c[1].arrays.confidence), (2, &vec![]));
    let warnings = recording.warnings().join("\n");
    for part in [
        "1: lines that are not JSON",
        "1: lines hold bytes that are not UTF-8",
        "1: traces whose arrays are not in tokens.bin",
        "1: arrays whose length",
        "1: arrays that hold something else than numbers",
        "1: problems with several different `gold`",
    ] {
        assert!(warnings.contains(part), "{part} is not in:\n{warnings}");
    }
    assert_eq!(recording.recorded("nobody").expect("read").len(), 0);

    let forgotten = without_answers(vec![
        record("p", 0, 2).into(),
        TraceRecord {
            text: None,
            ..record("p", 1, 2)
        }
        .into(),
    ]);
    assert_eq!(
        (forgotten[0].answer.as_deref(), forgotten[1].answer.as_deref()),
        (None, Some("1")),
        "only what can be read again is forgotten"
    );
}

#[test]
fn bytes_that_a_dropped_line_named_are_never_taken_for_its_own() {
    let home = folder();
    let dir = home.path().join("run");
    let job = Job::new("majority");
    let folder = RunFolder::open(&dir, manifest(&job)).expect("new");
    let mut sink = folder.sink("p");
    (0..3).for_each(|i| sink(&record("p", i, 10 + i as usize)).expect("recorded"));
    folder.close(Status::Finished).expect("closed");
    // the machine lost power: the last trace's arrays are gone, another's are zeros
    let mut bytes = std::fs::read(dir.join("tokens.bin")).expect("bytes");
    assert_eq!(bytes.len(), 33 * 12);
    bytes.truncate(30 * 12);
    bytes[11 * 12..20 * 12].fill(0);
    std::fs::write(dir.join("tokens.bin"), &bytes).expect("damaged");
    let folder = RunFolder::open(&dir, manifest(&job)).expect("goes on");
    let traces = |folder: &RunFolder| {
        folder
            .recorded("p")
            .expect("read")
            .iter()
            .map(|r| r.trace)
            .collect::<Vec<_>>()
    };
    assert_eq!(traces(&folder), [0]);
    let mut sink = folder.sink("p");
    sink(&record("p", 5, 40)).expect("recorded");
    assert_eq!(traces(&folder), [0, 5]);
    sink(&record("p", 1, 11)).expect("generated again");
    assert_eq!(traces(&folder), [0, 5, 1], "in the order in which they ended");
    let warnings = folder.recording().warnings().join("\n");
    assert!(
        warnings.contains("not in tokens.bin") && warnings.contains("not what was written"),
        "{warnings}"
    );
    folder.close(Status::Finished).expect("closed");
    let recording = Recording::open(&dir).expect("there");
    let again: Vec<_> = recording
        .recorded("p")
        .expect("read")
        .iter()
        .map(|r| (r.trace, r.tokens, r.arrays.confidence.len()))
        .collect();
    assert_eq!(again, [(0, 10, 10), (1, 11, 11), (5, 40, 40)]);
}
