//! Records complete traces of a problem set once, then decides them with several strategies and says how
//! accurate and how expensive each is: `cargo run --release --example evaluate -- heldout 30 64`. The set is
//! a file or a task; the traces are kept in `evaluate-SET`, and the same command goes on with them. TTS_MODEL
//! names a model.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures::StreamExt;
use tts::evaluation::{Evaluation, Options, RecordOptions};
use tts::run::{AnswerSettings, PoolOptions, RecordedPool, Replayer, Status};
use tts::solver::{Reader, default_threads};
use tts::strategies::Preset;
use tts::sweep::{self, SweepFolder, SweepPlan, SweepResults};
use tts::{LoadOptions, Loaded, ProblemSet, Settings, Solver};

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
    let dir = Path::new(&dir);

    let mut set = ProblemSet::open(&name, &[], &mut |_| ())?;
    set.data.problems.truncate(problems);
    record(&set, traces, dir).await?;
    decide(&set, traces, dir)
}

/// Runs every trace to its end, several problems side by side.
#[allow(clippy::print_stdout)]
async fn record(set: &ProblemSet, traces: usize, dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let model = LoadOptions {
        model: std::env::var("TTS_MODEL").ok(),
        ..LoadOptions::default()
    };
    let settings = Settings {
        strategy: Preset::named("majority")?,
        traces,
        instruction: set.instruction(),
        ..Settings::default()
    };
    let reader = set.reader()?;
    let answers = AnswerSettings::of(set.task.as_ref(), &reader);
    let runner =
        Solver::local(Loaded::open(&model, &mut |_| ())?, settings)?.with_reader(Reader::Rules(reader));
    let mut evaluation = Evaluation::new(&runner, &set.data.problems)?;
    evaluation.record(
        dir,
        RecordOptions {
            data: Some(set.data.digest.clone()),
            answers,
            checkpoint: None,
        },
    )?;
    let mut results = evaluation.run(Options::default())?;
    while let Some(result) = results.next().await {
        let problem = result?.record;
        println!(
            "{:<28} {}",
            problem.problem_id,
            problem.answer.unwrap_or_default()
        );
    }
    drop(results);
    Ok(evaluation.close(true)?)
}

/// Decides the recorded traces with every strategy, without a model.
#[allow(clippy::print_stdout)]
fn decide(set: &ProblemSet, traces: usize, dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let plan = SweepPlan {
        strategies: STRATEGIES
            .into_iter()
            .map(Preset::named)
            .collect::<Result<_, _>>()?,
        budgets: vec![8.min(traces), traces],
        slots: vec![Some(16)],
        resamples: Some(16),
        seed: 0,
        gold: set.gold(),
    };
    let pool = Arc::new(RecordedPool::open(dir, &PoolOptions::default())?);
    let problems = pool.select(None, None)?;
    let reader = set.reader()?;
    let answers = AnswerSettings::of(set.task.as_ref(), &reader);
    let mut folder = SweepFolder::open(dir, plan.header(&pool, &problems, answers))?;
    let recorded = Replayer::new(pool.clone(), Arc::new(reader), false);
    let never = AtomicBool::new(false);
    sweep::run(
        &recorded,
        &plan,
        &problems,
        &mut folder,
        default_threads(),
        &never,
        |_| (),
    )?;
    folder.close(Status::Finished, Vec::new())?;

    let lines = SweepResults::read(dir)?
        .map(|results| results.lines)
        .unwrap_or_default();
    for row in sweep::summary(&lines)?.0 {
        let right = row.accuracy.map_or(f64::NAN, |a| 100.0 * a.mean);
        let share = row.of_majority.unwrap_or(1.0);
        println!(
            "{:<22} {:>4} traces  {right:.1}% right  {:.0} tokens a problem, {share:.2} of majority's",
            row.strategy, row.budget, row.tokens
        );
    }
    Ok(())
}
