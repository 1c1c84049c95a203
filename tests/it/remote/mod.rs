//! Traces from engines elsewhere: what is asked of them, how they fail, and that every token is in one book.

mod accounts;
mod command;
mod failing;
mod server;
mod serving;
mod settings;
mod spreading;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tts::evals::data::Problem;
use tts::run::Slots;
use tts::solver::RemoteApi;
use tts::source::{RemoteOptions, remote::Timeouts};
use tts::strategies::{Consensus, Overrides, Preset, Window};
use tts::{Error, Settings, Solved, Solver, Watch};
use tts_strategies::{Fate, Finish};

use server::{Server, Trace};

fn problem() -> Problem {
    Problem {
        id: "p".to_owned(),
        problem: "What is 3 + 4?".to_owned(),
        answer: Some("7".to_owned()),
        extra: serde_json::Map::new(),
    }
}

/// A strategy made fit for short traces.
fn preset(name: &str) -> Preset {
    let mut preset = Preset::named(name).unwrap();
    if name.starts_with("deepconf") {
        let overrides = Overrides::default()
            .with("window", Window::Fixed(4))
            .with("warmup", 6)
            .with("consensus", Consensus::Off);
        preset.apply(&overrides).unwrap();
    }
    preset
}

fn settings(strategy: &str, traces: usize) -> Settings {
    Settings {
        strategy: preset(strategy),
        traces,
        max_tokens: Some(100),
        ..Settings::default()
    }
}

/// Engines that are given up soon enough for a test, and late enough for a busy machine.
fn options(urls: &[String]) -> RemoteOptions {
    RemoteOptions {
        backends: urls.to_vec(),
        timeouts: Timeouts {
            connect: Duration::from_secs(20),
            first_token: Duration::from_secs(20),
            idle: Duration::from_secs(20),
            retries: 3,
        },
        ..RemoteOptions::default()
    }
}

async fn connect(urls: &[String], settings: Settings) -> Result<Solver, Error> {
    Solver::remote(&options(urls), RemoteApi::Chat, settings, None, &problem())
        .await
        .map(|(solver, _)| solver)
}

async fn solve_with(runner: &Solver) -> Result<Solved, Error> {
    runner
        .solve(&runner.prepare(&problem()).unwrap(), Watch::default())
        .await
}

async fn solve(server: &Server, settings: Settings) -> Solved {
    let suiting = Slots::suiting(&settings.strategy);
    let slots = settings.slots.unwrap_or(suiting).most(settings.traces);
    let solved = solve_with(&connect(&[server.url()], settings).await.unwrap())
        .await
        .unwrap();
    check(&solved, slots);
    solved
}

/// What holds for every run: each trace once, each token in one book, no more traces at a time than slots.
#[track_caller]
fn check(solved: &Solved, slots: usize) {
    let traces: BTreeSet<u32> = solved.records.iter().map(|r| r.trace).collect();
    assert_eq!(traces.len(), solved.records.len(), "a trace ended twice");
    assert_eq!(solved.traces.launched, solved.records.len() as u64);
    let (mut count, mut tokens): (BTreeMap<String, u64>, BTreeMap<String, u64>) = Default::default();
    let mut unseen = 0;
    for record in &solved.records {
        let warmup = record.phase == tts::run::Phase::Warmup;
        let fate = match record.finish.fate(warmup) {
            Fate::Warmup => "warmup",
            Fate::Finished => "finished",
            Fate::Stopped => "stopped",
            Fate::Cancelled => "cancelled",
            Fate::Truncated => "truncated",
            Fate::Failed => "failed",
        };
        *count.entry(fate.to_owned()).or_default() += 1;
        *tokens.entry(fate.to_owned()).or_default() += record.tokens as u64 + record.unseen;
        unseen += record.unseen;
        for array in [
            record.arrays.confidence.len(),
            record.arrays.logprobs.len(),
            record.arrays.token_ids.len(),
        ] {
            assert!(
                array == 0 || array == record.tokens,
                "trace {}: {array} of {}",
                record.trace,
                record.tokens
            );
        }
    }
    let books = serde_json::to_value(solved.traces.fates).unwrap();
    let spent = serde_json::to_value(solved.tokens.fates).unwrap();
    for fate in [
        "warmup",
        "finished",
        "stopped",
        "cancelled",
        "truncated",
        "failed",
    ] {
        assert_eq!(
            books[fate],
            count.get(fate).copied().unwrap_or(0),
            "traces {fate}"
        );
        assert_eq!(
            spent[fate],
            tokens.get(fate).copied().unwrap_or(0),
            "tokens {fate}"
        );
    }
    assert_eq!(solved.tokens.generated, tokens.values().sum::<u64>());
    assert_eq!(solved.tokens.unseen, unseen);
    assert!(solved.slots == slots);
}

/// The traces that the engine's model has for these requests, by seed.
fn model_of(server: &Server) -> BTreeMap<u64, Trace> {
    let asked = server.traces();
    asked
        .iter()
        .map(|a| a.body["seed"].as_u64().unwrap())
        .map(|s| (s, Trace::of(s)))
        .collect()
}

fn ended(solved: &Solved, finish: Finish) -> Vec<&tts::run::TraceRecord> {
    solved.records.iter().filter(|r| r.finish == finish).collect()
}

/// Waits until something is so.
async fn until(so: impl Fn() -> bool, what: &str) {
    for _ in 0..800 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not so: {what}");
}
