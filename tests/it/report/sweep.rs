//! A sweep's folder as a report reads it.

use std::collections::BTreeMap;
use std::io::Write;

use tts::report::{Report, ReportOptions};
use tts::run::{AnswerSettings, FateCounts, Status, StrategyRecord};
use tts::sweep::{PoolDecisions, PoolSummary, RecordingSource, SweepHeader, SweepLine};
use tts_evals::answer::AnswerKind;
use tts_strategies::Preset;

use super::page::{balanced, self_contained};
use super::placeless;

const PROBLEMS: usize = 8;
const RESAMPLES: usize = 4;

/// Majority solves problem p in resample r when (p + r) % 4 < 3 at the largest budget; the thrifty one on all
/// but one of those, for half the tokens.
fn decided(strategy: &str, budget: usize, p: usize) -> PoolDecisions {
    let thrifty = strategy != "majority";
    let right = |r: usize| (p + r) % 4 < if budget < 8 { 2 } else { 3 } && !(thrifty && p == 0 && r == 0);
    let tokens: Vec<u64> = (0..RESAMPLES)
        .map(|r| (budget * (100 + 10 * p + r)) as u64 / if thrifty { 2 } else { 1 })
        .collect();
    let all: u64 = tokens.iter().sum();
    let stopped = if thrifty { all / 4 } else { 0 };
    let books = |finished, stopped| FateCounts {
        finished,
        stopped,
        ..FateCounts::default()
    };
    PoolDecisions {
        problem_id: format!("p{p}"),
        strategy: strategy.to_owned(),
        budget,
        slots: None,
        traces: budget,
        correct: Some((0..RESAMPLES).map(|r| u8::from(right(r))).collect()),
        ticks: tokens.iter().map(|t| t / 2).collect(),
        launched: vec![budget as u64; RESAMPLES],
        answered: RESAMPLES as u64,
        token_fates: books(all - stopped, stopped),
        trace_fates: books((budget * RESAMPLES) as u64, 0),
        pools: BTreeMap::from([("finished".to_owned(), RESAMPLES as u64)]),
        tokens,
        short: 0,
    }
}

fn folder(status: Status) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let preset = |name: &str| StrategyRecord::from(&Preset::named(name).unwrap());
    let header = SweepHeader {
        schema: 1,
        tool_version: "0.0.0".into(),
        recording: RecordingSource {
            fields: Default::default(),
            path: None,
            digest: "d".repeat(64),
        },
        traces: None,
        data: Some("e".repeat(64)),
        strategies: vec![preset("majority"), preset("deepconf-low")],
        budgets: vec![1, 8, 64],
        slots: vec![None],
        resamples: Some(RESAMPLES),
        seed: 7,
        answers: AnswerSettings {
            kind: Some(AnswerKind::Integer),
            ..AnswerSettings::default()
        },
        problems: (0..PROBLEMS).map(|p| format!("p{p}")).collect(),
        status,
        notes: vec!["a sentence of the sweep's".into()],
    };
    std::fs::write(
        folder.path().join("sweep.json"),
        serde_json::to_vec_pretty(&header).unwrap(),
    )
    .unwrap();
    let mut file = std::fs::File::create(folder.path().join("sweep.jsonl")).unwrap();
    let mut put = |line: &SweepLine| writeln!(file, "{}", serde_json::to_string(line).unwrap()).unwrap();
    for p in 0..PROBLEMS {
        put(&SweepLine::Pool(PoolSummary {
            problem_id: format!("p{p}"),
            gold: Some("7".into()),
            traces: 64,
            answered: 60,
            right: Some(8 * p as u64),
            tokens: 64 * (100 + 10 * p as u64),
        }));
        for strategy in ["deepconf-low", "majority"] {
            for budget in [64, 8, 1] {
                put(&SweepLine::Decided(Box::new(decided(strategy, budget, p))));
            }
        }
    }
    folder
}

#[test]
fn the_tables_of_a_sweep() {
    let folder = folder(Status::Finished);
    let report = Report::open(folder.path(), &ReportOptions::default()).unwrap();
    insta::assert_snapshot!("sweep-markdown", placeless(&report.markdown(), folder.path()));
    let html = report.html();
    balanced(&html);
    self_contained(&html);
    assert!(report.plots().iter().any(|p| p.name == "accuracy-tokens"));
}

/// Means, differences and savings, worked out by hand.
#[test]
fn means_are_over_problems_and_resamples_and_differences_are_paired() {
    let folder = folder(Status::Finished);
    let report = Report::open(folder.path(), &ReportOptions::default()).unwrap();
    let arm = |strategy: &str, budget| {
        report
            .arms
            .iter()
            .find(|a| (a.strategy.as_str(), a.budget) == (strategy, budget))
            .unwrap()
    };
    let (plain, thrifty) = (arm("majority", 64), arm("deepconf-low", 64));
    assert_eq!(plain.accuracy.unwrap().mean, 0.75);
    assert_eq!(thrifty.accuracy.unwrap().mean, 23.0 / 32.0);
    assert_eq!(
        (plain.accuracy.unwrap().method, thrifty.accuracy.unwrap().method),
        ("wilson", "bootstrap")
    );
    // every resample solves six of eight; all four of a problem's draws solve three of four
    let spread = plain.accuracy.unwrap();
    assert_eq!(spread.traces.map(|i| (i.low, i.high)), Some((0.75, 0.75)));
    // problems that are all alike say little of others: Wilson's interval of 6 in 8
    let wilson = tts::evals::stats::wilson(6, 8, 0.95).unwrap();
    assert_eq!(spread.problems, Some(wilson));
    let tokens: f64 = (0..8)
        .flat_map(|p| (0..4).map(move |r| 64.0 * (100 + 10 * p + r) as f64))
        .sum::<f64>()
        / 32.0;
    assert_eq!((plain.tokens, thrifty.tokens), (tokens, tokens / 2.0));
    assert_eq!((plain.saved, thrifty.saved), (None, Some(0.5)));
    assert!((plain.tokens_per_right.unwrap() - tokens / 0.75).abs() < 1e-9);
    assert_eq!(report.comparisons.len(), 1);
    let c = &report.comparisons[0];
    assert_eq!(
        (c.a.as_str(), c.b.as_str(), c.problems),
        ("deepconf-low@64", "majority@64", 8)
    );
    assert!((c.difference + 1.0 / 32.0).abs() < 1e-12);
    assert_eq!((c.only_a, c.only_b, c.p, c.tokens), (0.0, 0.25, 1.0, 0.5));
    // both curves are 50% at 1 and 75% at 8 and 64 but for one draw
    let saving = |series: &str| report.curves.iter().find(|c| c.series == series).unwrap().saving;
    assert_eq!(
        (saving("majority"), saving("deepconf-low")),
        (None, None),
        "it is never as accurate"
    );
    assert!(
        plain.pareto != (arm("majority", 8).accuracy.unwrap().mean >= plain.accuracy.unwrap().mean),
        "as accurate for fewer tokens beats it"
    );
}

#[test]
fn a_sweep_that_is_not_finished_or_damaged_is_said() {
    let folder = folder(Status::Started);
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(folder.path().join("sweep.jsonl"))
        .unwrap();
    let mut later = decided("majority", 64, 0);
    later.correct = Some(vec![0; RESAMPLES]);
    writeln!(
        file,
        "{}",
        serde_json::to_string(&SweepLine::Decided(Box::new(later))).unwrap()
    )
    .unwrap();
    let mut unequal = decided("majority", 64, 9);
    unequal.tokens.pop();
    writeln!(
        file,
        "{}\nnonsense",
        serde_json::to_string(&SweepLine::Decided(Box::new(unequal))).unwrap()
    )
    .unwrap();
    write!(file, "{{\"kind\": \"dec").unwrap();
    let report = Report::open(folder.path(), &ReportOptions::default()).unwrap();
    let said = |part: &str| {
        assert!(
            report.warnings.iter().any(|w| w.contains(part)),
            "{part}: {:?}",
            report.warnings
        )
    };
    said("not finished");
    said("2: lines of sweep.jsonl that are unfinished");
    said("1: lines of sweep.jsonl whose arrays");
    said("the recording is not at hand");
    let plain = report
        .arms
        .iter()
        .find(|a| (a.strategy.as_str(), a.budget) == ("majority", 64))
        .unwrap();
    assert_eq!(
        plain.accuracy.unwrap().mean,
        21.0 / 32.0,
        "of two lines alike the later counts"
    );
    for (text, part) in [("{", "not the settings of a sweep"), ("{\"a\": 1}", "sweep.json")] {
        std::fs::write(folder.path().join("sweep.json"), text).unwrap();
        let error = Report::open(folder.path(), &ReportOptions::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{error}");
    }
}
