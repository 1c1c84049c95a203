//! Records complete traces over a problem set once, decides them with several strategies, and says how
//! accurate, how expensive and how telling confidence is: `cargo run --release --example evaluate --
//! data/heldout.jsonl 100 64`. A fourth argument is the temperature.

use futures::StreamExt;
use tts::evals::data::{Fields, Problem, load};
use tts::evals::stats::{mean_pass_at_k, wilson, within_problem_auroc};
use tts::run::SamplingOverrides;
use tts::run::{Arrays, TraceRecord, replay};
use tts::strategies::{Finish, Preset, TraceScores};
use tts::{LoadOptions, Loaded, Runner, Settings, Solved, Watch};

/// Problems in the batch at once.
const TOGETHER: usize = 8;
/// Windows in tokens that the lowest group is taken with.
const WINDOWS: [usize; 3] = [8, 16, 32];
/// Strategies, each with the traces of a problem that it keeps in flight: the fewer, the more a decision
/// saves.
const STRATEGIES: [(&str, usize); 8] = [
    ("majority", 64),
    ("deepconf-low", 64),
    ("deepconf-low", 16),
    ("deepconf-high", 64),
    ("deepconf-high", 16),
    ("deepconf-high", 8),
    ("adaptive-consistency", 64),
    ("adaptive-consistency", 8),
];

/// What is kept of a problem: its trace's correctness and scores, and each strategy's verdict and tokens.
struct Row {
    correct: u64,
    traces: u64,
    scored: Vec<Vec<(f64, bool)>>,
    decided: Vec<(bool, u64)>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().unwrap_or_else(|| "data/heldout.jsonl".to_owned());
    let limit = args.next().map_or(Ok(100), |a| a.parse())?;
    let traces = args.next().map_or(Ok(64), |a| a.parse())?;
    let temperature = args.next().map(|a| a.parse()).transpose()?;
    let set = load(&std::fs::read(&file)?, &file, &Fields::default())?;
    let problems = set.select(&[], Some(limit))?;

    let sampling = SamplingOverrides {
        temperature,
        ..SamplingOverrides::default()
    };
    let settings = Settings {
        strategy: Preset::named("majority")?,
        traces,
        sampling,
        ..Settings::default()
    };
    let runner = Runner::new(
        Loaded::open(
            &LoadOptions {
                model: std::env::var("TTS_MODEL").ok(),
                ..LoadOptions::default()
            },
            &mut |_| (),
        )?,
        settings,
    )?;
    let start = std::time::Instant::now();
    let rows: Vec<Row> = futures::stream::iter(&problems)
        .map(|problem| evaluate(&runner, problem))
        .buffered(TOGETHER)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    let seconds = start.elapsed().as_secs_f64();
    print(&rows, traces, seconds);
    Ok(())
}

async fn evaluate(runner: &Runner, problem: &Problem) -> Result<Row, tts::Error> {
    let prepared = runner.prepare(problem)?;
    let gold = problem.answer.clone().unwrap_or_default();
    let solved = runner.solve(&prepared, Watch::default()).await?;
    let right = |record: &TraceRecord| {
        record.finish == Finish::Stop && record.answer.as_ref().is_some_and(|a| runner.grade(a, &gold))
    };
    let lowest = |arrays: &Arrays, window| {
        TraceScores::new(&arrays.confidence, &arrays.logprobs, None, Some(window)).lowest_group
    };
    let scored = WINDOWS
        .iter()
        .map(|w| {
            solved
                .records
                .iter()
                .filter_map(|r| Some((lowest(&r.arrays, *w)?, right(r))))
                .collect()
        })
        .collect();
    let decided = STRATEGIES
        .iter()
        .map(|(name, slots)| decide(runner, &prepared, &solved, name, *slots, &gold))
        .collect::<Result<_, _>>()?;
    Ok(Row {
        correct: solved.records.iter().filter(|r| right(r)).count() as u64,
        traces: solved.records.len() as u64,
        scored,
        decided,
    })
}

/// Replays the recorded traces with another strategy.
fn decide(
    runner: &Runner,
    prepared: &tts::runner::Prepared,
    solved: &Solved,
    strategy: &str,
    slots: usize,
    gold: &str,
) -> Result<(bool, u64), tts::Error> {
    let recorded = solved.records.iter().cloned().map(std::sync::Arc::new).collect();
    let mut setup = runner.setup(prepared, recorded, Vec::new())?;
    setup.strategy = Preset::named(strategy)?.build();
    setup.bounds.slots = slots.min(setup.bounds.traces);
    let (problem, records) = replay(setup, |_| ());
    let decided = problem.decide(&records);
    Ok((
        decided.answer.is_some_and(|a| runner.grade(&a, gold)),
        decided.tokens.total(),
    ))
}

#[allow(clippy::print_stdout)]
fn print(rows: &[Row], traces: usize, seconds: f64) {
    let counts: Vec<_> = rows.iter().map(|r| (r.traces, r.correct)).collect();
    println!("{} problems x {traces} traces, {seconds:.0} s", rows.len());
    println!(
        "pass@1                {:.1}%",
        100.0 * mean_pass_at_k(&counts, 1).unwrap_or(f64::NAN)
    );
    let mut rates: Vec<f64> = counts.iter().map(|(n, c)| *c as f64 / *n as f64).collect();
    rates.sort_by(f64::total_cmp);
    let deciles: Vec<String> = (0..=10)
        .map(|d| format!("{:.0}", 100.0 * rates[d * (rates.len() - 1) / 10]))
        .collect();
    println!("pass@1 by problem     {} (deciles, %)", deciles.join(" "));
    println!(
        "pass@{traces:<4}             {:.1}%",
        100.0 * mean_pass_at_k(&counts, traces as u64).unwrap_or(f64::NAN)
    );
    let majority: u64 = rows.iter().map(|r| r.decided[0].1).sum();
    for (i, (name, slots)) in STRATEGIES.iter().enumerate() {
        let name = format!("{name}, {slots} slots");
        let right = rows.iter().filter(|r| r.decided[i].0).count() as u64;
        let tokens: u64 = rows.iter().map(|r| r.decided[i].1).sum();
        let interval = wilson(right, rows.len() as u64, 0.95).map_or_else(
            |_| String::new(),
            |w| format!("{:.1}-{:.1}", 100.0 * w.low, 100.0 * w.high),
        );
        let share = tokens as f64 / majority as f64;
        println!(
            "{name:<30} {:.1}% [{interval}]  {:.0} tokens a problem, {share:.2} of majority's",
            100.0 * right as f64 / rows.len() as f64,
            tokens as f64 / rows.len() as f64
        );
    }
    for (i, window) in WINDOWS.iter().enumerate() {
        let scored: Vec<_> = rows.iter().map(|r| r.scored[i].clone()).collect();
        if let Ok(w) = within_problem_auroc(&scored, 2000, 0.95, 0) {
            let interval = w
                .interval
                .map_or_else(String::new, |i| format!(" [{:.3}-{:.3}]", i.low, i.high));
            println!(
                "lowest group of {window:>2}    AUROC within problems {:.3}{interval} over {} problems",
                w.mean, w.problems
            );
        }
    }
}
