//! Records complete traces of a problem set once, then decides them with several strategies and says how
//! accurate and how expensive each is: `cargo run --release --example evaluate -- heldout 30 64`. The set is
//! a file or a task; the traces are kept in `evaluate-SET`, and the same command goes on with them. TTS_MODEL
//! names a model.

#![allow(clippy::print_stdout)]

use std::path::Path;

use futures::StreamExt;
use tts::evaluation::{Options, RecordOptions};
use tts::replay::{Replay, ReplaySettings};
use tts::strategies::Preset;
use tts::{ProblemSet, Tts};

const STRATEGIES: [&str; 4] = [
    "majority",
    "deepconf-low",
    "deepconf-high",
    "adaptive-consistency",
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| "heldout".to_owned());
    let problems = args.next().map_or(Ok(30), |a| a.parse())?;
    let traces = args.next().map_or(Ok(64), |a| a.parse())?;
    let stem = Path::new(&name).file_stem().unwrap_or_default();
    let dir = format!("evaluate-{}", stem.to_string_lossy());

    let mut set = ProblemSet::open(&name, &[], &mut |_| ())?;
    set.data.problems.truncate(problems);
    record(&set, traces, Path::new(&dir)).await?;
    for strategy in STRATEGIES {
        decide(&set, strategy, Path::new(&dir))?;
    }
    Ok(())
}

/// Runs every trace to its end, several problems side by side.
async fn record(set: &ProblemSet, traces: usize, dir: &Path) -> Result<(), tts::Error> {
    let model = std::env::var("TTS_MODEL").unwrap_or_else(|_| "bundled".to_owned());
    let tts = Tts::open(model)
        .strategy("majority")
        .traces(traces)
        .for_set(set)?
        .build()
        .await?;
    let mut evaluation = tts.evaluate(&set.data.problems)?;
    evaluation.record(dir, RecordOptions::of_set(set)?)?;
    let mut results = evaluation.run(Options::default())?;
    while let Some(result) = results.next().await {
        let problem = result?.record;
        let answer = problem.answer.unwrap_or_default();
        println!("{:<28} {answer}", problem.problem_id);
    }
    drop(results);
    evaluation.close(true)
}

/// Decides the recorded traces with a strategy, sixteen of a problem at a time, without a model.
fn decide(set: &ProblemSet, strategy: &str, dir: &Path) -> Result<(), tts::Error> {
    let settings = ReplaySettings {
        strategy: Some(Preset::named(strategy)?),
        slots: Some(16.into()),
        gold: set.gold(),
        ..ReplaySettings::default()
    };
    let replay = Replay::open(dir, settings)?;
    let (mut right, mut tokens) = (0, 0);
    for problem in replay.problems() {
        let solved = replay.solve(problem)?;
        right += usize::from(solved.correct == Some(true));
        tokens += solved.tokens.generated;
    }
    let of = replay.problems().len();
    println!("{strategy:<22} {right} of {of} right, {tokens} tokens");
    Ok(())
}
