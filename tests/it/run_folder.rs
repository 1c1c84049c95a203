//! Run folders: what is recorded, killed, gone on with and replayed ends as if nothing had happened.

mod bad_input;
mod script;

use std::path::Path;

use script::*;
use serde_json::Value;
use tts::run::{Bounds, EarlyEnd, ProblemRun, Recording, RunFolder, Status, replay};

/// Drives the problem over a run folder to its end and writes the decision.
fn run(dir: &Path, job: &Job) -> End {
    let folder = RunFolder::open(dir, manifest(job)).expect("a run folder");
    let end = go_on(&folder, job);
    folder.close(Status::Finished).expect("closed");
    end
}

fn go_on(folder: &RunFolder, job: &Job) -> End {
    let recorded = folder.recorded(ID).expect("records");
    let held: Vec<_> = recorded.iter().map(|r| (r.trace, r.tokens)).collect();
    let end = drive(
        ProblemRun::new(job.setup(recorded)),
        Some(folder.sink(ID)),
        |_, _| {},
    );
    for (trace, tokens) in held {
        assert!(
            end.live.iter().all(|l| l.0 != trace || l.1 >= tokens),
            "trace {trace} was generated again"
        );
    }
    folder
        .write_decided(solved(ID, end.decided.answer.clone()), &end.decided)
        .expect("written");
    end
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for name in ["manifest.json", "traces.jsonl", "tokens.bin", "problems.jsonl"] {
        std::fs::copy(from.join(name), to.join(name)).expect("copied");
    }
}

#[test]
fn a_journal_cut_at_any_byte_is_gone_on_with() {
    for strategy in ["majority", "deepconf-low"] {
        let job = Job {
            traces: 8,
            slots: 3,
            longest: 12,
            ..Job::new(strategy)
        };
        let home = folder();
        let whole = run(&home.path().join("whole"), &job);
        assert_eq!(
            whole,
            drive(ProblemRun::new(job.setup(vec![])), None, |_, _| {}),
            "recording changes nothing"
        );
        for name in ["traces.jsonl", "tokens.bin", "problems.jsonl"] {
            let bytes = std::fs::read(home.path().join("whole").join(name)).expect("bytes");
            for at in 0..bytes.len() {
                let dir = home.path().join("cut");
                copy(&home.path().join("whole"), &dir);
                std::fs::write(dir.join(name), &bytes[..at]).expect("cut");
                let end = run(&dir, &job);
                assert_eq!(end, whole, "{strategy}: {name} cut at {at}");
                if name == "traces.jsonl" {
                    let kept = bytes[..at].iter().filter(|b| **b == b'\n').count();
                    let missing: usize = whole.records[kept..].iter().map(|r| r.tokens).sum();
                    assert_eq!(
                        end.live.len(),
                        missing,
                        "what stands in {kept} whole lines is read, the rest generated"
                    );
                    assert_eq!(
                        Recording::open(&dir).expect("readable").lines(),
                        whole.records.len()
                    );
                }
                let folder = RunFolder::open(&dir, manifest(&job)).expect("again");
                assert_eq!(
                    folder.decided(ID).expect("read").expect("decided").answer,
                    whole.decided.answer
                );
                drop(folder);
                std::fs::remove_dir_all(&dir).expect("removed");
            }
        }
    }
}

#[test]
fn a_run_killed_at_any_tick_is_gone_on_with() {
    for strategy in ["majority", "deepconf-low", "borda"] {
        let job = Job {
            traces: 24,
            slots: 5,
            ..Job::new(strategy)
        };
        let home = folder();
        let whole = run(&home.path().join("whole"), &job);
        for tick in (0..whole.decided.ticks).step_by(7) {
            let (killed, dir) = (
                home.path().join(format!("killed{tick}")),
                home.path().join(format!("on{tick}")),
            );
            let folder = RunFolder::open(&killed, manifest(&job)).expect("a run folder");
            let part = drive(
                ProblemRun::new(job.setup(vec![])),
                Some(folder.sink(ID)),
                |problem, stop| *stop = problem.ticks() == tick,
            );
            folder.flush().expect("flushed");
            copy(&killed, &dir);
            let end = run(&dir, &job);
            assert_eq!(end, whole, "{strategy}: killed at {tick}");
            let ended: usize = part.records.iter().map(|r| r.tokens).sum();
            let all: usize = whole.records.iter().map(|r| r.tokens).sum();
            assert_eq!(
                end.live.len(),
                all - ended,
                "what ended is not generated again, what did not end is"
            );
        }
    }
}

#[test]
fn live_is_replay_token_for_token() {
    let home = folder();
    let complete = run(&home.path().join("majority"), &Job::new("majority"));
    assert!(
        complete
            .records
            .iter()
            .all(|r| r.finish == tts_strategies::Finish::Stop)
    );
    for strategy in [
        "majority",
        "deepconf-low",
        "deepconf-high",
        "deepconf-offline",
        "adaptive-consistency",
    ] {
        let job = Job::new(strategy);
        let live = run(&home.path().join(strategy), &job);
        if let Some(which) = strategy
            .strip_prefix("deepconf-")
            .filter(|which| *which != "offline")
        {
            let books = live.decided.traces;
            assert!(
                books.stopped > 0 && (which == "high" || books.cancelled > 0),
                "the test must see both: {books:?}"
            );
        }
        // over what it recorded itself, and over complete traces
        for source in [strategy, "majority"] {
            let recording = Recording::open(&home.path().join(source)).expect("a recording");
            let (problem, records) = replay(job.setup(recording.recorded(ID).expect("records")), |trace| {
                panic!("trace {trace} ends too early")
            });
            let decided = problem.decide(&records);
            assert_eq!(
                End {
                    decided,
                    records,
                    live: vec![]
                },
                live,
                "{strategy} over {source}"
            );
            assert_eq!(recording.warnings(), Vec::<String>::new());
        }
    }
}

#[test]
fn another_strategy_and_more_traces_go_on_where_the_records_end() {
    let home = folder();
    let dir = home.path().join("run");
    let low = run(
        &dir,
        &Job {
            traces: 30,
            ..Job::new("deepconf-low")
        },
    );
    let short: Vec<_> = low
        .records
        .iter()
        .filter(|r| r.finish != tts_strategies::Finish::Stop)
        .map(|r| r.trace)
        .collect();
    assert!(!short.is_empty());
    let job = Job::new("majority");
    assert_eq!(
        RunFolder::open(&dir, manifest(&job))
            .expect("free to change")
            .decided(ID)
            .expect("read"),
        None,
        "other settings decide anew"
    );
    let more = run(&dir, &job);
    let fresh = drive(ProblemRun::new(job.setup(vec![])), None, |_, _| {});
    assert_eq!(more, fresh);
    assert_eq!(
        more.live.len(),
        fresh.live.len() - low.live.len(),
        "only what was missing"
    );
    // and back: everything is there, and the first decision is still known
    let folder = RunFolder::open(
        &dir,
        manifest(&Job {
            traces: 30,
            ..Job::new("deepconf-low")
        }),
    )
    .expect("back");
    assert_eq!(
        folder.decided(ID).expect("read").expect("decided").answer,
        low.decided.answer
    );
    let again = go_on(
        &folder,
        &Job {
            traces: 30,
            ..Job::new("deepconf-low")
        },
    );
    assert_eq!((again.live.len(), &again), (0, &low));
}

#[test]
fn what_comes_from_outside_is_kept_and_replayed_where_it_struck() {
    let cases = [
        (0, 60, EarlyEnd::TimeLimit),
        (30, 0, EarlyEnd::Interrupted),
        (11, 41, EarlyEnd::Interrupted),
        (55, 90, EarlyEnd::TimeLimit),
    ];
    for (strategy, (slots_at, cut_at, cut)) in ["deepconf-low", "borda"]
        .into_iter()
        .flat_map(|s| cases.map(|c| (s, c)))
    {
        let job = Job {
            traces: 24,
            slots: 7,
            ..Job::new(strategy)
        };
        let home = folder();
        let dir = home.path().join("run");
        let folder = RunFolder::open(&dir, manifest(&job)).expect("a run folder");
        let mut fewer = false;
        let end = drive(
            ProblemRun::new(job.setup(vec![])),
            Some(folder.sink(ID)),
            |problem, _| {
                if problem.ticks() == slots_at && !std::mem::replace(&mut fewer, true) {
                    problem.set_slots(4);
                }
                if problem.ticks() == cut_at {
                    problem.end_early(cut);
                }
            },
        );
        assert_eq!(end.decided.early_end(), Some(cut));
        folder
            .write_decided(solved(ID, None), &end.decided)
            .expect("written");
        let nothing_left = folder.decided(ID).expect("read").is_some();
        assert_eq!(
            nothing_left,
            cut == EarlyEnd::TimeLimit,
            "an interrupted problem is gone on with"
        );
        folder.close(Status::Interrupted).expect("closed");
        let recording = Recording::open(&dir).expect("a recording");
        assert_eq!(recording.manifest().map(|m| m.status), Some(Status::Interrupted));
        let line = recording.last_decided(ID).expect("read").expect("a line");
        assert_eq!(line.slots, Some(7));
        let mut setup = job.setup(recording.recorded(ID).expect("records"));
        setup.scripted = line.outside;
        let (problem, records) = replay(setup, |trace| panic!("trace {trace} ends too early"));
        let decided = problem.decide(&records);
        assert_eq!(decided.external_events, end.decided.external_events);
        assert_eq!(
            End {
                decided,
                records,
                live: vec![]
            },
            end
        );
        if cut == EarlyEnd::Interrupted {
            assert_eq!(
                run(&dir, &job),
                drive(ProblemRun::new(job.setup(vec![])), None, |_, _| {}),
                "as if it had not been interrupted"
            );
        }
    }
}

#[test]
fn a_token_limit_is_replayed_also_by_a_run_that_has_none() {
    let job = Job {
        traces: 24,
        slots: 7,
        ..Job::new("majority")
    };
    let bounded = |limit| {
        let mut setup = job.setup(vec![]);
        setup.bounds = Bounds {
            max_total_tokens: limit,
            ..setup.bounds
        };
        setup
    };
    for limit in [1, 300, 500, 777] {
        let end = drive(ProblemRun::new(bounded(Some(limit))), None, |_, _| {});
        assert_eq!(end.decided.early_end(), Some(EarlyEnd::MaxTotalTokens));
        let mut setup = bounded(None);
        setup.recorded = end.records.iter().cloned().map(Into::into).collect();
        setup.scripted = end.decided.external_events.clone();
        let (problem, records) = replay(setup, |trace| panic!("trace {trace} ends too early"));
        assert_eq!(
            End {
                decided: problem.decide(&records),
                records,
                live: vec![]
            },
            end
        );
    }
}

/// Not a test by itself: the process that [`a_killed_process_loses_nothing_that_ended`] kills.
#[test]
#[ignore = "started by another test"]
fn victim() {
    let Some(dir) = std::env::var_os("RUN_FOLDER_OF_THE_VICTIM") else {
        return;
    };
    let job = Job::new("deepconf-low");
    let folder = RunFolder::open(Path::new(&dir), manifest(&job)).expect("a run folder");
    let recorded = folder.recorded(ID).expect("records");
    drive(
        ProblemRun::new(job.setup(recorded)),
        Some(folder.sink(ID)),
        |_, _| std::thread::sleep(std::time::Duration::from_millis(2)),
    );
}

#[test]
fn a_killed_process_loses_nothing_that_ended() {
    let home = folder();
    let dir = home.path().join("run");
    let job = Job::new("deepconf-low");
    let mut before = 0;
    for _ in 0..3 {
        let mut child = std::process::Command::new(std::env::current_exe().expect("this binary"))
            .args(["run_folder::victim", "--exact", "--ignored"])
            .env("RUN_FOLDER_OF_THE_VICTIM", &dir)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("started");
        let lines = || Recording::open(&dir).map_or(0, |r| r.lines());
        let patience = std::time::Instant::now();
        while lines() < before + 3 && patience.elapsed().as_secs() < 60 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let busy = RunFolder::open(&dir, manifest(&job)).err().map(|e| e.to_string());
        child.kill().expect("killed");
        child.wait().expect("gone");
        assert!(
            busy.is_some_and(|b| b.contains(&format!("pid {}", child.id()))),
            "one writer at a time"
        );
        before = lines();
    }
    let status: Value =
        serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).expect("there")).expect("JSON");
    assert_eq!(status["status"], "started");
    assert_eq!(
        run(&dir, &job),
        drive(ProblemRun::new(job.setup(vec![])), None, |_, _| {})
    );
}
