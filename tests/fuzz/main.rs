//! Damaged input of every kind: nothing panics, nothing hangs, memory stays where it was, and the answer is a
//! result or a refusal.
//!
//! `cargo test --test fuzz` tries a few hundred cases, the same ones in every run. To look further, with
//! others each time unless FUZZ_SEED says which: `FUZZ_MINUTES=10 cargo test --release --test fuzz`.
//! FUZZ_ONLY=server takes one of the targets. What a finding was given lies where it says.

mod damage;
mod engines;
mod models;
mod recordings;
mod server;

#[path = "../it/remote/server.rs"]
#[allow(dead_code, reason = "scripts need less of it than tests of the accounts do")]
mod scripted;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use damage::Rng;

/// One kind of input.
trait Target {
    fn name(&self) -> &'static str;
    /// Tries one damaged input; a sentence where the outcome is none of those that may be.
    fn case(&mut self, rng: &mut Rng) -> Result<(), String>;
    /// What the last case was given.
    fn given(&self) -> &[u8];
}

/// Cases of each target where no time is named.
const CASES: u64 = 120;
/// A case that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that all of it may take.
const MEMORY: u64 = 2 << 30;

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// Seconds since the start at which the running case began.
static BEGAN: AtomicU64 = AtomicU64::new(u64::MAX);

fn main() {
    // as the test harness does with names that are asked for
    let named: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let listed = std::env::args().any(|a| a == "--list");
    if listed || !(named.is_empty() || named.iter().any(|name| "fuzz".contains(name.as_str()))) {
        return;
    }
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|v| v.parse::<f64>().unwrap_or_else(|_| panic!("{name}={v}")))
    };
    let minutes = number("FUZZ_MINUTES");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let seed = number("FUZZ_SEED").map_or(if minutes.is_some() { now.as_secs() } else { 1 }, |s| s as u64);
    let started = Instant::now();
    watch(started);
    let only = std::env::var("FUZZ_ONLY").ok();
    let folder = tempfile::tempdir().expect("a folder");
    let mut targets: Vec<Box<dyn Target>> = vec![
        Box::new(server::Server::new()),
        Box::new(engines::Engines::new()),
        Box::new(recordings::Recordings::new(folder.path())),
        Box::new(models::Models::new(folder.path())),
    ];
    targets.retain(|t| only.as_ref().is_none_or(|name| t.name() == name));
    // everything is ready: from here on no thread may panic
    std::panic::set_hook(Box::new(|info| {
        PANICS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(info.to_string());
    }));
    let mut counts = vec![0u64; targets.len()];
    let mut most = 0;
    for case in 0.. {
        let over = minutes.map_or(case >= CASES, |m| started.elapsed().as_secs_f64() >= m * 60.0);
        if over {
            break;
        }
        for (i, target) in targets.iter_mut().enumerate() {
            BEGAN.store(started.elapsed().as_secs(), Ordering::Relaxed);
            let mut rng = Rng::new(seed, i as u64, case);
            // a panic is told by the hook
            let outcome = catch_unwind(AssertUnwindSafe(|| target.case(&mut rng))).unwrap_or(Ok(()));
            BEGAN.store(u64::MAX, Ordering::Relaxed);
            counts[i] += 1;
            let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
            let memory = resident();
            most = most.max(memory);
            let wrong = outcome
                .err()
                .into_iter()
                .chain(panics)
                .chain((memory > MEMORY).then(|| format!("{memory} bytes of memory are held")));
            let wrong: Vec<String> = wrong.collect();
            if !wrong.is_empty() {
                let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
                    .join(format!("fuzz-{}-{seed}-{case}", target.name()));
                let kept = std::fs::write(&file, target.given());
                say(&format!(
                    "{} (FUZZ_SEED={seed}, case {case}): {}\nit was given {} ({kept:?})",
                    target.name(),
                    wrong.join("\n"),
                    file.display()
                ));
                std::process::exit(1);
            }
        }
    }
    let names: Vec<String> = targets
        .iter()
        .zip(&counts)
        .map(|(t, n)| format!("{} {n}", t.name()))
        .collect();
    say(&format!(
        "nothing was found in {:.1} minutes with seed {seed}: {} cases; memory {} MiB at most",
        started.elapsed().as_secs_f64() / 60.0,
        names.join(", "),
        most >> 20
    ));
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Ends it all where a case hangs.
fn watch(started: Instant) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let began = BEGAN.load(Ordering::Relaxed);
            if began != u64::MAX && started.elapsed().as_secs() > began + PATIENCE.as_secs() {
                say(&format!("a case hangs: it began {began} s after the start"));
                std::process::exit(1);
            }
        }
    });
}

/// Bytes of memory that this process holds, where the system says so.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * 4096
}
