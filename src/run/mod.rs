//! One problem's run and what is kept of it.
//!
//! The first file to read is `problem.rs`: a problem's clock, its traces and its books. Beside it stand
//! `trace.rs` (a trace in flight), `problem/receive.rs` (traces that come in their own order), `observer.rs`
//! (who watches a run, and where its records go), `events.rs`, `outcome.rs` and `replay.rs` (decisions over a
//! recording). The rest is the run folder: what was generated and decided, appended as it ends, so that
//! nothing finished is lost and the same command goes on after a kill.
//!
//! ```text
//! manifest.json    layout number, version, settings (those that change traces, those that change
//!                  decisions), data digest, machine, status
//! traces.jsonl     one line a trace, appended as it ends
//! tokens.bin       the traces' arrays
//! problems.jsonl   one line a decided problem
//! run.lock         held by the process that writes
//! states           states of traces in flight, where they were asked for; may be deleted at any time
//! results.json     what the report made of these (`plots` too), and can make again
//! ```
//!
//! A line of traces.jsonl is a JSON object: `problem_id`, `trace` (index within the problem, from 0), `seed`,
//! `prompt` (digest), `phase` (warmup | main), `finish` (stop | length | loop | low_confidence | cancelled |
//! failed), `tokens`, `text`, `answer`, `answer_key` (class of the answer),
//! `extraction`, `arrays`, `scores` (of the run's window), `self_certainty_sum`, `seconds`, and `unseen`
//! (tokens that a remote engine generated beyond `tokens` and that no decision saw). One that goes on from another
//! trace has `fork`, `{"trace", "tokens"}`: that trace and how many of its tokens it took over, which stand among
//! its own here and were generated there. One whose prompt showed the solutions of others has `shown`, the list
//! of these. Of several lines for one trace the one that ended by itself counts, else the one with the most tokens: a trace that was cut short
//! and went on later has two. Lines stand in the order in which traces ended. The last field of a line of ours is
//! `line_check`: the beginning of the blake3 of the line without it.
//!
//! `arrays` is `{"offset", "n", "check"}`: at byte `offset` of tokens.bin stand n token ids (u32), then n
//! log-probabilities (f32), then n confidences (f32), all little-endian; an array that was not measured is
//! NaN throughout (ids: 2^32 - 1). `check` is the beginning of the blake3 of these 12 n bytes. Where the most
//! likely ids were kept (`--record-top-k`), `arrays` has `top_k`, and n times top_k log-probabilities (f32),
//! largest first, follow the confidences; -inf where fewer ids have one. With Python:
//!
//! ```python
//! import json, numpy as np
//! for line in open("run/traces.jsonl", encoding="utf-8"):
//!     t = json.loads(line)
//!     if a := t.get("arrays"):
//!         n, at = a["n"], a["offset"]
//!         ids = np.fromfile("run/tokens.bin", "<u4", n, offset=at)
//!         logprobs = np.fromfile("run/tokens.bin", "<f4", n, offset=at + 4 * n)
//!         confidence = np.fromfile("run/tokens.bin", "<f4", n, offset=at + 8 * n)
//!         k = a.get("top_k", 0)
//!         top = np.fromfile("run/tokens.bin", "<f4", n * k, offset=at + 12 * n).reshape(n, -1)
//! ```
//!
//! Recordings made elsewhere may hold the arrays in the line (`token_ids`, `logprobs`, `confidence`);
//! `{"problem_id", "trace", "answer", "tokens"}` is enough for strategies that read no confidences; `gold`
//! may stand in any line; fields that are not known are ignored. A line may also hold a whole problem:
//! `{"problem_id", "gold", "answers": [...], "lengths": [...], "confidences": [[...], ...]}`; and dumps of
//! DeepConf's reference code are read as JSON (its pickles through `tools/from_deepconf.py`). Fields of other
//! names are named by [`RecordingFields`].
//!
//! `scalars.bin` (`NAME.scalars` beside a file NAME) is a cache of what replays need of the traces. It is
//! written when a large recording is first replayed, used while the files are as they were then, and may be
//! deleted at any time.
//!
//! A line of problems.jsonl is the object that `solve --json` prints, with `decisions` (the settings it was
//! decided with), `slots` and `outside` (what came from outside: fewer slots for want of memory, a time
//! limit), without which a replay would not be exact.

mod details;
mod error;
mod events;
mod fates;
mod foreign;
mod index;
mod journal;
mod lenient;
mod line;
mod lock;
mod machine;
mod manifest;
mod observer;
mod outcome;
mod pool;
mod problem;
mod record;
mod recording;
mod replay;
mod request;
mod rules;
mod scalars;
mod settings;
mod slots;
mod solved;
mod token_stream;
mod trace;
mod warnings;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::RunFolderError;
pub use events::{Details, Event, ProblemProgress, TraceDetails};
pub use fates::FateCounts;
pub use foreign::RecordingFields;
pub use journal::Journal;
pub use machine::{EngineInfo, MachineInfo};
pub use manifest::{MANIFEST, Manifest, SCHEMA, Status};
pub(crate) use observer::{RunFacts, RunObserver};
pub(crate) use outcome::check_needs;
pub use outcome::{Outcome, RunError};
pub use pool::{PoolOptions, PoolProblem, RecordedPool};
pub(crate) use problem::Classes;
pub use problem::{
    Bounds, Decided, Decode, EarlyEnd, ExternalEvent, Looks, NoDecoder, ProblemRun, Setup, ToText, Token,
    TraceChunk,
};
pub use record::{Arrays, Phase, TraceRecord};
pub use recording::{Recording, without_answers};
pub use replay::{Replayed, Replayer, replay};
pub use request::{Checkpoint, Control, Observer, RecordSink, Request};
pub use rules::StoppingRules;
pub(crate) use settings::value_of;
pub use settings::{AnswerSettings, DecisionSettings, OtherFields, StrategyRecord, TraceSettings};
pub use slots::Slots;
pub use solved::{BallotResult, SolvedRecord, TokenCounts, TraceCounts, VoteResult};
pub use token_stream::{StreamedToken, TokenStream};
pub use trace::Trace;

use crate::own_files;
use FolderLock as Lock;
use index::{FileSpan, Files, FolderScan, scan};
use lock::LOCK;
pub(crate) use lock::Lock as FolderLock;
pub(crate) use manifest::replace as replace_file;

/// The folder of states.
const STATES: &str = "states";

/// A run folder that is being written.
///
/// To go on with a problem, give [`RunFolder::recorded`] to `Setup::recorded` and [`RunFolder::sink`] to the
/// backend: recorded tokens are read, only what is missing is generated. A problem for which
/// [`RunFolder::decided`] has a line needs no work at all.
pub struct RunFolder {
    dir: PathBuf,
    manifest: Manifest,
    recording: Recording,
    journal: Journal,
    closed: bool,
    _lock: Lock,
}

impl RunFolder {
    /// Begins a run folder, or goes on with one.
    ///
    /// # Errors
    /// A folder that is none of ours, that another process writes, or whose traces were recorded with other
    /// settings; files that cannot be read or written.
    pub fn open(dir: &Path, manifest: Manifest) -> Result<Self, RunFolderError> {
        if dir.exists() && !dir.is_dir() {
            return Err(RunFolderError::NotAFolder(dir.to_owned()));
        }
        // a stranger's folder is left as it is, without so much as a lock
        let before = dir.is_dir().then(|| Manifest::read(dir)).transpose()?.flatten();
        if before.is_none() && dir.is_dir() && !is_empty(dir)? {
            return Err(RunFolderError::NotEmpty(dir.to_owned()));
        }
        std::fs::create_dir_all(dir).map_err(RunFolderError::io("create", dir))?;
        let lock = Lock::take(dir)?;
        // read again: another process may have written it before the lock was ours
        let mut problems = Vec::new();
        if let Some(before) = Manifest::read(dir)? {
            before.admit(&manifest, dir)?;
            problems = before.problems;
        }
        let known: BTreeSet<String> = problems.iter().cloned().collect();
        problems.extend(
            manifest
                .problems
                .iter()
                .filter(|id| !known.contains(*id))
                .cloned(),
        );
        let manifest = Manifest {
            status: Status::Started,
            problems,
            ..manifest
        };
        let files = Files::of(dir);
        let index = repair(&files)?.index;
        manifest.write(dir)?;
        let recording = Recording::new(files.clone(), Some(manifest.clone()), index);
        let seed = manifest.traces.seed;
        let journal = Journal::start(&files, recording.index.clone(), seed)?;
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            recording,
            journal,
            closed: false,
            _lock: lock,
        })
    }

    /// The folder that is written.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    /// What is recorded so far.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Where states of traces in flight may be kept. They go when the run is finished.
    pub fn states(&self) -> PathBuf {
        self.dir.join(STATES)
    }

    /// Says which prompt a problem has. Its traces are recorded with the prompt's digest.
    ///
    /// # Errors
    /// When the problem was recorded with another prompt.
    pub fn claim(&self, problem_id: &str, prompt: &[u32]) -> Result<(), RunFolderError> {
        let mut hasher = blake3::Hasher::new();
        for id in prompt {
            hasher.update(&id.to_le_bytes());
        }
        let digest = hasher.finalize().to_hex()[..16].to_owned();
        let mut index = self.recording.lock();
        if index.prompt(problem_id).is_some_and(|old| old != digest) {
            return Err(RunFolderError::Prompt {
                dir: self.dir.clone(),
                problem: problem_id.to_owned(),
            });
        }
        index.claim(problem_id, digest);
        Ok(())
    }

    /// A sink for the problem's ended traces.
    pub fn sink(&self, problem_id: &str) -> RecordSink {
        self.journal.sink(problem_id)
    }

    /// The problem's recorded traces, those just handed to its sink included, in the order in which they
    /// ended.
    ///
    /// # Errors
    /// When the journal has failed or the files cannot be read.
    pub fn recorded(&self, problem_id: &str) -> Result<Vec<Arc<TraceRecord>>, RunFolderError> {
        self.journal.flush()?;
        let mut records = self.recording.recorded(problem_id)?;
        let ended = self.recording.arrivals(problem_id);
        records.sort_by_key(|r| ended.get(&r.trace).copied());
        Ok(records)
    }

    /// The problem's line of problems.jsonl if it was decided with this run's settings, to its end: nothing
    /// is left to do for it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn decided(&self, problem_id: &str) -> Result<Option<SolvedRecord>, RunFolderError> {
        self.recording.decided_with(problem_id, &self.manifest.decisions)
    }

    /// The right answer, where a line names it.
    pub fn gold(&self, problem_id: &str) -> Option<String> {
        self.recording.gold(problem_id)
    }

    /// Appends a decided problem; `decisions`, `slots` and `outside` are put into it. All its traces are
    /// durable before it is.
    ///
    /// # Errors
    /// When the journal has failed.
    pub fn write_decided(&self, problem: SolvedRecord, decided: &Decided) -> Result<(), RunFolderError> {
        self.journal.problem(SolvedRecord {
            decisions: Some(self.manifest.decisions.clone()),
            slots: Some(decided.slots),
            outside: decided.external_events.clone(),
            ..problem
        })
    }

    /// Waits until everything that was handed over is durable.
    ///
    /// # Errors
    /// The first thing that went wrong since the folder was opened.
    pub fn flush(&self) -> Result<(), RunFolderError> {
        self.journal.flush()
    }

    /// Writes what is left and how the run ended. Dropping the folder does the same with
    /// [`Status::Interrupted`], without saying what went wrong.
    ///
    /// # Errors
    /// When not everything could be written.
    pub fn close(mut self, status: Status) -> Result<(), RunFolderError> {
        self.end(status)
    }

    fn end(&mut self, status: Status) -> Result<(), RunFolderError> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        let written = self.journal.close();
        self.manifest.status = if written.is_ok() {
            status
        } else {
            Status::Interrupted
        };
        if self.manifest.status == Status::Finished {
            // none may ever have been kept
            let _ = std::fs::remove_dir_all(self.states());
        }
        let manifest = if self.dir.join(MANIFEST).exists() {
            self.manifest.write(&self.dir)
        } else {
            Ok(())
        };
        written.and(manifest)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = self.end(Status::Interrupted);
    }
}

/// Whether nothing but what this module begins a folder with is in it.
fn is_empty(dir: &Path) -> Result<bool, RunFolderError> {
    for entry in std::fs::read_dir(dir).map_err(RunFolderError::io("read", dir))? {
        let name = entry.map_err(RunFolderError::io("read", dir))?.file_name();
        if name != LOCK && name != "manifest.json.tmp" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Bytes of tokens.bin that no line names, of a trace that was being written when its process was killed.
const IN_FLIGHT: u64 = 8 << 20;

/// Makes the files end where their last whole line ends, so that they can be appended to. What is damaged is put
/// aside before.
fn repair(files: &Files) -> Result<FolderScan, RunFolderError> {
    let mut found = scan(files, true)?;
    let damaged = !found.dangling.is_empty();
    if damaged {
        // such a line would name the bytes of another trace as soon as the file has grown
        let mut warnings = std::mem::take(&mut found.index.warnings);
        let (lines, kept) = (found.dangling.len(), put_aside(&files.traces)?);
        warnings.say(format!(
            "{lines} damaged lines were taken out of {}; as it was it is kept in {}, and their traces are made again",
            files.traces.display(),
            kept.display()
        ));
        remove(&files.traces, found.traces_end, &found.dangling)?;
        found = scan(files, true)?;
        found.index.warnings = warnings;
    }
    let (hollow, first) = found.index.forget_hollow();
    if let Some(first) = first {
        found.index.warnings.say(format!(
            "{hollow} decided problems are solved again, because traces that they were decided over are gone (the \
             first: `{first}`)"
        ));
    }
    let length = std::fs::metadata(&files.tokens).map_or(0, |meta| meta.len());
    let unnamed = length.saturating_sub(found.tokens_end);
    if unnamed > IN_FLIGHT || unnamed > 0 && (damaged || hollow > 0) {
        let kept = put_aside(&files.tokens)?;
        found.index.warnings.say(format!(
            "the last {unnamed} bytes of {} belong to no line of traces.jsonl; as it was it is kept in {}",
            files.tokens.display(),
            kept.display()
        ));
    }
    cut(&files.traces, found.traces_end)?;
    cut(&files.tokens, found.tokens_end)?;
    cut(&files.problems, found.problems_end)?;
    Ok(found)
}

/// Copies a file to one beside it that is called `.damaged`, with a number where there is one.
fn put_aside(path: &Path) -> Result<PathBuf, RunFolderError> {
    let io = || RunFolderError::io("copy", path);
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for number in 1.. {
        let end = if number == 1 {
            String::new()
        } else {
            format!("-{number}")
        };
        let aside = path.with_file_name(format!("{name}.damaged{end}"));
        match OpenOptions::new().write(true).create_new(true).open(&aside) {
            Ok(mut to) => {
                let mut from = File::open(path).map_err(io())?;
                std::io::copy(&mut from, &mut to)
                    .and_then(|_| to.sync_all())
                    .map_err(io())?;
                return Ok(aside);
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(io()(e)),
        }
    }
    Ok(path.to_owned())
}

fn cut(path: &Path, end: u64) -> Result<(), RunFolderError> {
    let io = || RunFolderError::io("write", path);
    match own_files::open(OpenOptions::new().write(true), path) {
        Ok(file) if file.metadata().map_err(io())?.len() > end => {
            file.set_len(end).and_then(|()| file.sync_all()).map_err(io())
        }
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io()(e)),
    }
}

/// Writes the first `end` bytes of a file again, without some of its lines.
fn remove(path: &Path, end: u64, lines: &[FileSpan]) -> Result<(), RunFolderError> {
    let mut from = BufReader::new(File::open(path).map_err(RunFolderError::io("open", path))?);
    manifest::replace(path, &path.with_extension("jsonl.tmp"), |file| {
        let mut to = BufWriter::new(file);
        let mut at = 0;
        for stop in lines.iter().map(|l| (l.at, l.at + l.len + 1)).chain([(end, end)]) {
            from.seek(SeekFrom::Start(at))?;
            std::io::copy(&mut from.by_ref().take(stop.0.saturating_sub(at)), &mut to)?;
            at = stop.1;
        }
        to.flush()
    })
}

/// Keeps the compiler honest: a folder is shared by the tasks that solve its problems.
const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<RunFolder>();
};
