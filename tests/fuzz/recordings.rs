//! Run folders and other recordings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use tts::evals::answer::{AnswerKind, RuleReader};
use tts::replay::{Replay, ReplaySettings};
use tts::run::{PoolOptions, RecordedPool, Recording};
use tts::strategies::Preset;

use super::Target;
use super::damage::{self, Rng};

const FILES: [&str; 4] = ["manifest.json", "traces.jsonl", "problems.jsonl", "tokens.bin"];

pub(super) struct Recordings {
    /// the files of a run, whole
    whole: Vec<Vec<u8>>,
    folder: PathBuf,
    given: Vec<u8>,
}

impl Recordings {
    pub(super) fn new(folder: &Path) -> Self {
        let run = folder.join("run");
        let status = Command::new(env!("CARGO_BIN_EXE_tts"))
            .args([
                "solve",
                "1 + 1",
                "--strategy",
                "deepconf-low",
                "--traces",
                "12",
                "--warmup",
                "4",
                "--window",
                "8",
                "--threads",
                "1",
                "--quiet",
            ])
            .args(["--record-top-k", "2", "--max-tokens", "60", "--run"])
            .arg(&run)
            .output()
            .expect("the program runs");
        let whole = FILES
            .iter()
            .map(|f| {
                fs::read(run.join(f))
                    .unwrap_or_else(|e| panic!("{f}: {e}; {}", String::from_utf8_lossy(&status.stderr)))
            })
            .collect();
        Self {
            whole,
            folder: folder.join("damaged"),
            given: Vec::new(),
        }
    }
}

/// Damages a line's JSON, or the lines themselves.
fn lines(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut all: Vec<String> = String::from_utf8_lossy(bytes)
        .lines()
        .map(str::to_owned)
        .collect();
    for _ in 0..=rng.below(3) {
        if all.is_empty() {
            break;
        }
        let at = rng.below(all.len());
        match rng.below(6) {
            0 => drop(all.remove(at)),
            1 => all.insert(at, all[rng.below(at + 1)].clone()),
            _ => {
                if let Ok(mut value) = serde_json::from_str::<Value>(&all[at]) {
                    damage::json(rng, &mut value);
                    all[at] = value.to_string();
                }
            }
        }
    }
    (all.join("\n") + if rng.once_in(5) { "" } else { "\n" }).into_bytes()
}

impl Target for Recordings {
    fn name(&self) -> &'static str {
        "recordings"
    }

    fn given(&self) -> &[u8] {
        &self.given
    }

    fn case(&mut self, rng: &mut Rng) -> Result<(), String> {
        let mut files = self.whole.clone();
        let which = rng.below(files.len());
        let file = &mut files[which];
        if which == 3 || rng.once_in(4) {
            damage::bytes(rng, file, usize::MAX);
        } else {
            *file = lines(rng, file);
        }
        self.given = file.clone();
        let _ = fs::remove_dir_all(&self.folder);
        fs::create_dir_all(&self.folder).map_err(|e| e.to_string())?;
        for (name, bytes) in FILES.iter().zip(&files) {
            fs::write(self.folder.join(name), bytes).map_err(|e| e.to_string())?;
        }
        // a file of traces alone is a recording as well
        let path = if rng.once_in(4) {
            self.folder.join("traces.jsonl")
        } else {
            self.folder.clone()
        };
        let cache_from = if rng.once_in(3) { 0 } else { u64::MAX };
        if let Ok(recording) = Recording::open(&path) {
            for problem in recording.problems() {
                let _ = recording.recorded(&problem);
                let _ = recording.last_decided(&problem);
            }
        }
        // the second time from the cache, where one was written
        for _ in 0..2 {
            let options = PoolOptions {
                cache_from,
                confidence_k: rng.once_in(4).then_some(2),
                ..PoolOptions::default()
            };
            let Ok(pool) = RecordedPool::open(&path, &options) else {
                continue;
            };
            let pool = Arc::new(pool);
            let settings = ReplaySettings {
                strategy: Preset::named(rng.pick(&[
                    "majority",
                    "deepconf-low",
                    "deepconf-offline",
                    "esc",
                    "cges",
                    "borda",
                ]))
                .ok(),
                ..ReplaySettings::default()
            };
            let reader = Arc::new(RuleReader::new(AnswerKind::Math));
            let Ok(replay) = Replay::new(pool.clone(), settings, reader, rng.once_in(2)) else {
                continue;
            };
            for problem in pool.problems() {
                if let Ok(solved) = replay.solve(problem)
                    && solved.traces.launched > solved.records.len() as u64
                {
                    return Err(format!(
                        "{} traces were launched and {} are there",
                        solved.traces.launched,
                        solved.records.len()
                    ));
                }
            }
        }
        Ok(())
    }
}
