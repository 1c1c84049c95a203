//! Reports: what they say about folders that the tool wrote, and what they make of input that is not as it
//! should be.

mod nasty;
mod page;
mod pilot;
mod sweep;

use std::path::{Path, PathBuf};

use tts::report::{Basis, Report, ReportOptions, TableKind, Theme};

use crate::fixture;

/// Six problems of the held-out set, twelve traces each, decided by plain majority and by deepconf-low with a
/// short warm-up.
pub(crate) fn run_fixture() -> PathBuf {
    fixture("report/run")
}

pub(crate) fn open(path: &Path) -> Report {
    Report::open(path, &ReportOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The text with the place of the folder taken out.
fn placeless(text: &str, path: &Path) -> String {
    let escaped: String = path
        .display()
        .to_string()
        .chars()
        .flat_map(|c| if c == '_' { vec!['\\', c] } else { vec![c] })
        .collect();
    text.replace(&path.display().to_string(), "FOLDER")
        .replace(&escaped, "FOLDER")
        .replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

/// CSV with numbers of nine decimals: the last digits of a logarithm are the machine's own.
fn rounded(csv: &str) -> String {
    let cell = |cell: &str| match cell.parse::<f64>() {
        Ok(x) if cell.contains('.') => format!("{x:.9}"),
        _ => cell.to_owned(),
    };
    let line = |line: &str| line.split(',').map(cell).collect::<Vec<_>>().join(",") + "\n";
    csv.lines().map(line).collect()
}

#[test]
fn the_tables_of_a_run() {
    let report = open(&run_fixture());
    insta::assert_snapshot!("run-markdown", placeless(&report.markdown(), &run_fixture()));
    for (name, kind) in TableKind::ALL {
        insta::assert_snapshot!(format!("run-{name}"), rounded(&report.csv(kind)));
    }
}

/// Every number of an arm, taken again from the lines of problems.jsonl with nothing but a JSON reader.
#[test]
fn the_arms_of_a_run_are_what_problems_jsonl_says() {
    let report = open(&run_fixture());
    let text = std::fs::read_to_string(run_fixture().join("problems.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let live: Vec<_> = report.arms.iter().filter(|a| a.basis == Basis::Live).collect();
    assert_eq!(live.len(), 2);
    for arm in live {
        let of: Vec<_> = lines
            .iter()
            .filter(|l| l["strategy"] == arm.strategy.as_str())
            .collect();
        let mean =
            |field: fn(&serde_json::Value) -> f64| of.iter().map(|l| field(l)).sum::<f64>() / of.len() as f64;
        assert_eq!(arm.problems, of.len());
        assert_eq!(
            arm.accuracy.unwrap().mean,
            mean(|l| f64::from(u8::from(l["correct"] == true)))
        );
        assert_eq!(arm.tokens, mean(|l| l["tokens"]["generated"].as_f64().unwrap()));
        assert_eq!(arm.steps, mean(|l| l["ticks"].as_f64().unwrap()));
        assert_eq!(
            arm.token_fates.stopped,
            mean(|l| l["tokens"]["stopped"].as_f64().unwrap())
        );
        let fates: f64 = arm.token_fates.each().iter().map(|f| f.1).sum();
        assert!((fates - arm.tokens).abs() < 1e-9, "every token is in one book");
    }
}

/// The counted majority at the whole pool is the strategy's own decision, and at one trace it is the mean
/// over traces.
#[test]
fn counted_votes_agree_with_the_strategy() {
    let report = open(&run_fixture());
    let plain = report
        .arms
        .iter()
        .find(|a| a.strategy == "majority" && a.basis == Basis::Live)
        .unwrap();
    let counted: Vec<_> = report.arms.iter().filter(|a| a.basis == Basis::Counted).collect();
    let largest = counted.iter().max_by_key(|a| a.budget).unwrap();
    assert_eq!((largest.budget, largest.tokens), (plain.budget, plain.tokens));
    let (a, b) = (largest.accuracy.unwrap(), plain.accuracy.unwrap());
    assert!(
        (a.mean - b.mean).abs() < 0.05,
        "but for ties, which go to the trace that was drawn first: {} {}",
        a.mean,
        b.mean
    );
    let one = counted.iter().find(|a| a.budget == 1).unwrap().accuracy.unwrap();
    let each = report.average.unwrap();
    assert!(
        (one.mean - each.mean).abs() < 4.0 * (0.25f64 / (64.0 * report.problems.len() as f64)).sqrt(),
        "{} {}",
        one.mean,
        each.mean
    );
    assert_eq!(
        report.pass_at.first().map(|p| (p.k, p.pass)),
        Some((1, each.mean))
    );
}

fn of(problem: &str) -> ReportOptions {
    ReportOptions {
        problem: Some(problem.to_owned()),
        ..ReportOptions::default()
    }
}

/// The picture of one problem is the run's own: same traces, same tokens by fate, the bar where the run had
/// it.
#[test]
fn the_timeline_is_the_runs_own() {
    let text = std::fs::read_to_string(run_fixture().join("problems.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let mut drawn = 0;
    for line in lines.filter(|l| l["strategy"] == "deepconf-low") {
        let id = line["problem_id"].as_str().unwrap();
        let report = Report::open(&run_fixture(), &of(id)).unwrap();
        let timeline = report.timeline.unwrap();
        assert_eq!(
            (timeline.problem.as_str(), timeline.threshold),
            (id, line["threshold"].as_f64())
        );
        assert_eq!(timeline.window, line["window"].as_u64().map(|w| w as usize));
        assert_eq!(timeline.steps, line["ticks"].as_u64().unwrap());
        assert!(timeline.notes.is_empty(), "{:?}", timeline.notes);
        assert_eq!(
            timeline.lanes.len() as u64,
            line["traces"]["launched"].as_u64().unwrap()
        );
        let stopped: Vec<_> = timeline
            .lanes
            .iter()
            .filter(|l| l.fate == tts_strategies::Fate::Stopped)
            .collect();
        assert_eq!(
            stopped.iter().map(|l| l.tokens).sum::<u64>(),
            line["tokens"]["stopped"].as_u64().unwrap()
        );
        let bar = timeline.threshold.unwrap();
        for lane in &timeline.lanes {
            assert_eq!(lane.to - lane.from, lane.tokens, "one step is one token");
            assert!(
                lane.from == 0 || lane.from >= timeline.bar_tick.unwrap(),
                "nothing launches before the bar but the warm-up"
            );
        }
        for lane in stopped {
            let last = lane.groups.last().unwrap();
            assert!(
                f64::from(last.1) < bar && u64::from(last.0) + 1 == lane.tokens,
                "stopped by its last token"
            );
            drawn += 1;
        }
    }
    assert!(drawn > 0, "the fixture shows a stop");
    let error = Report::open(&run_fixture(), &of("no such problem"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("no such problem"), "{error}");
}

#[test]
fn plots_are_drawn_twice_alike_and_in_both_themes() {
    let report = open(&run_fixture());
    let plots = report.plots();
    for name in [
        "accuracy-tokens",
        "accuracy-traces",
        "fates",
        "reliability",
        "scores-lowest-group",
        "rank-mean",
        "traces-confidence",
        "traces-steps",
    ] {
        assert!(plots.iter().any(|p| p.name == name), "{name}");
    }
    let again = open(&run_fixture()).plots();
    for (plot, same) in plots.iter().zip(&again) {
        let svg = plot.svg();
        assert_eq!(svg, same.svg());
        assert!(
            svg.starts_with("<svg xmlns=") && svg.trim_end().ends_with("</svg>"),
            "{}",
            plot.name
        );
        assert!(svg.contains("prefers-color-scheme: dark") && svg.contains(plot.title()));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", plot.name);
        page::balanced(&svg);
        let (light, dark) = (plot.png(Theme::Light).unwrap(), plot.png(Theme::Dark).unwrap());
        assert!(
            light.starts_with(b"\x89PNG\r\n\x1a\n") && dark.starts_with(b"\x89PNG") && light != dark,
            "{}",
            plot.name
        );
    }
}
