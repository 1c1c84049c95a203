//! Pools: the cache of a large recording, and recorded answers of real models, swept in the order of their
//! files; ignored unless asked for, since the pools are no part of the repository:
//! `TTS_FACTS=<folder> cargo test --test it pools -- --ignored`. An independent script made the golden
//! values.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use tts::evals::answer::{AnswerKind, RuleReader};
use tts::evals::stats::mean_pass_at_k;
use tts::run::{AnswerSettings, PoolOptions, RecordedPool, Replayer};
use tts::strategies::{Overrides, Preset};
use tts::sweep::{
    RecordingSource, SCHEMA, SweepFolder, SweepHeader, SweepLine, SweepPlan, SweepResults, run,
};

/// Two problems with confidences in the lines.
fn recording(folder: &Path, traces: usize) -> std::path::PathBuf {
    let line = |i: usize| {
        let n = 20 + i % 50;
        let confidence: Vec<f64> = (0..n).map(|t| 9.0 + ((t * (i + 2)) % 13) as f64 / 3.0).collect();
        serde_json::json!({
            "problem_id": if i.is_multiple_of(2) { "a" } else { "b" }, "trace": i / 2, "tokens": n,
            "answer": (i % 3).to_string(),
            "confidence": confidence, "gold": "1",
        })
        .to_string()
    };
    let path = folder.join("traces.jsonl");
    std::fs::write(&path, (0..traces).map(|i| line(i) + "\n").collect::<String>()).expect("written");
    path
}

#[test]
fn a_cache_says_what_the_recording_says_and_gives_way_to_it() {
    let home = tempfile::tempdir().expect("a folder");
    let path = recording(home.path(), 60);
    let cache = home.path().join("traces.jsonl.scalars");
    let open = |windows: &[usize], cache_from| {
        let options = PoolOptions {
            windows: windows.to_vec(),
            cache_from,
            ..PoolOptions::default()
        };
        RecordedPool::open(&path, &options).expect("a pool")
    };
    let all = |pool: &RecordedPool| {
        let problems = pool.problems().to_vec();
        let traces: Vec<_> = problems.iter().map(|p| pool.traces(p).expect("traces")).collect();
        (problems, traces, pool.digest().to_owned())
    };
    let plain = all(&open(&[8], u64::MAX));
    assert!(!cache.exists(), "small recordings need none");
    assert_eq!(
        (
            plain.0.len(),
            plain.0[0].traces,
            plain.0[0].confident,
            plain.0[0].gold.as_deref()
        ),
        (2, 30, 30, Some("1"))
    );
    assert_eq!(all(&open(&[8], 0)), plain);
    let written = std::fs::metadata(&cache)
        .expect("a cache")
        .modified()
        .expect("a time");
    assert_eq!(all(&open(&[8], 0)), plain);
    assert_eq!(
        all(&open(&[], 0)),
        plain,
        "what it holds beyond what is asked for does no harm"
    );
    assert_eq!(
        std::fs::metadata(&cache)
            .expect("a cache")
            .modified()
            .expect("a time"),
        written,
        "it was read"
    );
    let more = all(&open(&[8, 12], 0));
    assert_eq!(
        more.1[0][0].measured.as_ref().map(|m| m.windows.len()),
        plain.1[0][0].measured.as_ref().map(|m| m.windows.len() + 1)
    );
    // a longer recording, a damaged and a strange cache
    recording(home.path(), 70);
    assert_eq!(all(&open(&[8], 0)).0[0].traces, 35);
    let bytes = std::fs::read(&cache).expect("a cache");
    for damaged in [&b"tts"[..], &bytes[..bytes.len() / 3], &[0; 64]] {
        std::fs::write(&cache, damaged).expect("written");
        assert_eq!(all(&open(&[8], 0)).0[1].traces, 35);
    }
    let mut flipped = std::fs::read(&cache).expect("a cache");
    *flipped.last_mut().expect("bytes") ^= 1;
    std::fs::write(&cache, &flipped).expect("written");
    let pool = open(&[8], 0);
    let error = pool.traces(&pool.problems()[1]).expect_err("altered").to_string();
    assert!(
        error.contains("delete it") && error.contains("traces.jsonl.scalars"),
        "{error}"
    );
}

#[test]
#[ignore = "needs TTS_FACTS"]
fn the_golden_values_come_out_of_a_sweep() {
    let facts = std::env::var("TTS_FACTS").expect("TTS_FACTS names the folder of the pools");
    let golden: Value =
        serde_json::from_str(include_str!("../../strategies/tests/fixtures/pools_golden.json"))
            .expect("JSON");
    let mut checked = 0;
    for (name, of) in golden.as_object().expect("an object") {
        let path = format!("{facts}/pools/{name}.jsonl");
        let pool = Arc::new(RecordedPool::open(Path::new(&path), &PoolOptions::default()).expect("a pool"));
        // the script compared answers as they are written
        let recorded = Replayer::new(pool.clone(), Arc::new(RuleReader::new(AnswerKind::Text)), false);
        // the script took an answer for a number or for nothing: one of Phi-4's traces writes 104 in
        // mathematical digits, which it read, and two of other models say m+n=127 and 5+1+185+68=259, which
        // are right here and were not there
        let graded = Replayer::new(
            pool.clone(),
            Arc::new(RuleReader::new(AnswerKind::Integer)),
            false,
        );
        let right = |p: &tts::run::PoolProblem| {
            let gold = p.gold.as_deref().expect("gold");
            let is = |answer: &str| !answer.contains('=') && graded.reader().grade(answer, gold).equal;
            let traces = graded.traces(p).expect("traces");
            let right = traces
                .iter()
                .filter(|r| r.answer.as_deref().is_some_and(is))
                .count();
            (traces.len() as u64, right as u64)
        };
        let counts: Vec<_> = pool.problems().iter().map(right).collect();
        for k in [1, 4, 8, 16, 32, 64, 80] {
            let Some(expected) = of[format!("pass@{k}_unbiased")].as_f64() else {
                continue;
            };
            let got = mean_pass_at_k(&counts, k).expect("as many traces");
            assert!(
                (got - expected).abs() <= 5.1e-7,
                "{name}: pass@{k} is {got}, not {expected}"
            );
            checked += 1;
        }
        let cell = |preset: &Preset, k: usize, slots: usize| {
            let plan = SweepPlan {
                strategies: vec![preset.clone()],
                budgets: vec![k],
                slots: vec![Some(slots.into())],
                resamples: None,
                seed: 0,
                gold: Default::default(),
            };
            let home = tempfile::tempdir().expect("a folder");
            let header = SweepHeader {
                schema: SCHEMA,
                tool_version: String::new(),
                recording: RecordingSource {
                    path: None,
                    digest: pool.digest().to_owned(),
                    fields: Default::default(),
                },
                traces: None,
                data: None,
                strategies: vec![],
                budgets: vec![],
                slots: vec![],
                resamples: None,
                seed: 0,
                answers: AnswerSettings::default(),
                problems: vec![],
                status: Default::default(),
                notes: vec![],
            };
            let mut folder = SweepFolder::open(home.path(), header).expect("a folder");
            let problems: Vec<_> = pool.problems().iter().collect();
            run(
                &recorded,
                &plan,
                &problems,
                &mut folder,
                2,
                &AtomicBool::new(false),
                |_| (),
            )
            .expect("decided");
            let lines = SweepResults::read(home.path())
                .expect("readable")
                .expect("there")
                .lines;
            let decided = lines.iter().filter_map(|l| {
                if let SweepLine::Decided(d) = l {
                    Some(d)
                } else {
                    None
                }
            });
            decided.fold((0, 0, 0), |(right, launched, tokens), d| {
                let correct = d.correct.as_ref().map_or(0, |c| u64::from(c[0]));
                (right + correct, launched + d.launched[0], tokens + d.tokens[0])
            })
        };
        let mut check = |key: &str, preset: &Preset, k: usize, slots: usize| {
            let expected = &of[key];
            if expected.is_null() {
                return;
            }
            let got = cell(preset, k, slots);
            let number = |field: &str, got: u64| expected[field].as_u64().unwrap_or(got);
            let right = expected.as_u64().unwrap_or_else(|| number("correct", got.0));
            assert_eq!(
                got,
                (right, number("samples", got.1), number("tokens", got.2)),
                "{name}: {key}"
            );
            checked += 1;
        };
        let preset = |name: &str| Preset::named(name).expect("shipped");
        for k in [1, 4, 8, 16, 32, 64, 80] {
            check(&format!("maj@{k}_first_k"), &preset("majority"), k, 1);
        }
        for k in [5, 10, 20, 40] {
            check(&format!("maj@{k}"), &preset("majority"), k, 1);
            for first in [1, 3] {
                let mut short = preset("short-m-at-k");
                let first_m = Overrides::default().with("first", first);
                short.apply(&first_m).expect("in range");
                check(&format!("short-{first}@{k}"), &short, k, k);
            }
        }
        check("adaptive_beta_.95_max40", &preset("adaptive-consistency"), 40, 1);
        check("esc_w5_L40", &preset("esc"), 40, 1);
    }
    assert!(checked > 200, "{checked}");
}
