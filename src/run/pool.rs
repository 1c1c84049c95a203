//! A recording as replays read it: every problem's traces without texts and tokens, from a cache where the
//! recording is large.

mod cache;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use tts_strategies::TraceScores;
use tts_strategies::windows::auto_window;

use cache::{CacheBlocks, CacheHead, cache_of, check, made_from, read_cache, write_cache};

use super::TraceRecord;
use super::error::RunFolderError;
use super::foreign::{self, ForeignProblem, ForeignRecording, RecordingFields};
use super::index::Files;
use super::manifest::Manifest;
use super::recording::Recording;
use super::scalars;
use super::warnings::Warnings;
use crate::fmt::nearest;

/// How a recording is opened for replays.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Group sizes that will be asked for beside the automatic ones.
    pub windows: Vec<usize>,
    /// Takes the confidences over so many of the most likely ids, instead of 20, from what was kept of them;
    /// no cache holds these.
    pub confidence_k: Option<usize>,
    /// Bytes of traces from which on a cache is written.
    pub cache_from: u64,
    /// Which field is what in a file made elsewhere.
    pub fields: RecordingFields,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            windows: Vec::new(),
            confidence_k: None,
            cache_from: 16 << 20,
            fields: RecordingFields::default(),
        }
    }
}

/// What is known of a problem before its traces are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolProblem {
    /// Name of the problem.
    pub id: String,
    /// The right answer, where a line of a trace names it.
    pub gold: Option<String>,
    /// Number of its recorded traces; those that were made from others are counted apart.
    pub traces: usize,
    /// Number of those that were made from others: forks, and those that were shown others.
    #[serde(default)]
    pub made: usize,
    /// Those that ended by themselves or at a limit that holds in every run.
    pub complete: usize,
    /// Those with token confidences, or statistics of them.
    pub confident: usize,
    /// Whether every trace has its token ids.
    pub ids: bool,
    /// Whether any trace has its text.
    pub texts: bool,
    at: u64,
    len: u64,
    check: String,
}

/// A recording whose traces can be read problem by problem without their texts and tokens.
pub struct RecordedPool {
    path: PathBuf,
    head: CacheHead,
    blocks: CacheBlocks,
    /// what was decided over it, and its manifest
    decided: Option<Recording>,
    confidence_k: Option<usize>,
    /// texts and tokens: opened when they are first asked for
    whole: OnceLock<Recording>,
    /// recordings made elsewhere are held as they are
    foreign: BTreeMap<String, Vec<Arc<TraceRecord>>>,
    fields: Option<String>,
}

impl RecordedPool {
    /// Opens a run folder, a .jsonl file of traces, or one of the other shapes that [`crate::run`] names.
    ///
    /// # Errors
    /// When there are no traces, or a file cannot be read.
    pub fn open(path: &Path, options: &PoolOptions) -> Result<Self, RunFolderError> {
        let files = Files::named(path);
        if !files.traces.is_file() {
            return Err(RunFolderError::NoRecording(path.to_owned()));
        }
        if path.is_file() && foreign::is_one(path, &options.fields)? {
            return Self::of_foreign(path, options);
        }
        let decided = Recording::of_problems(path)?;
        let cache = cache_of(path);
        let cached =
            || read_cache(&cache, &files, &options.windows).filter(|_| options.confidence_k.is_none());
        if let Some((head, blocks)) = cached() {
            return Ok(Self {
                path: path.to_owned(),
                head,
                blocks,
                decided: Some(decided),
                confidence_k: None,
                whole: OnceLock::new(),
                foreign: BTreeMap::new(),
                fields: None,
            });
        }
        // before the files are read: what is appended meanwhile makes the cache one of older files
        let made_from = made_from(&files);
        let recording = Recording::open(path)?;
        let mut builder = PoolBuilder::new(&options.windows);
        for id in recording.problems() {
            let mut records = Vec::new();
            let lengths = recording.lengths(&id);
            let windows = windows(&lengths, &options.windows);
            recording.each(&id, |record| {
                let record = with_confidence(record, options.confidence_k);
                builder.saw(&record);
                records.push(scalars::lean(record, &windows));
            })?;
            builder.problem(id.clone(), recording.gold(&id), &records);
        }
        let digest = digest(&files.traces)?;
        let warnings = recording.warnings();
        let (head, blocks) = builder.finish(made_from, digest, warnings);
        let size: u64 = head.made_from.iter().map(|(size, _)| size).sum();
        if size >= options.cache_from
            && options.confidence_k.is_none()
            && let Err(error) = write_cache(&cache, &head, &blocks)
        {
            tracing::info!(%error, "no cache of the recording");
        }
        let whole = OnceLock::new();
        let _ = whole.set(recording);
        Ok(Self {
            path: path.to_owned(),
            head,
            blocks: CacheBlocks::Memory(blocks),
            decided: Some(decided),
            confidence_k: options.confidence_k,
            whole,
            foreign: BTreeMap::new(),
            fields: None,
        })
    }

    fn of_foreign(path: &Path, options: &PoolOptions) -> Result<Self, RunFolderError> {
        let mut warnings = Warnings::default();
        let ForeignRecording { problems, fields } = foreign::read(path, &options.fields, &mut warnings)?;
        let mut builder = PoolBuilder::new(&options.windows);
        let mut held = BTreeMap::new();
        for ForeignProblem { id, gold, records } in problems {
            let lengths: Vec<usize> = records
                .iter()
                .filter(|r| r.finish.is_complete())
                .map(|r| r.tokens)
                .collect();
            let windows = windows(&lengths, &options.windows);
            let mut lean = Vec::new();
            for record in &records {
                builder.saw(record);
                lean.push(scalars::lean(record.clone(), &windows));
            }
            builder.problem(id.clone(), gold, &lean);
            if records
                .iter()
                .any(|r| r.text.is_some() || !r.arrays.confidence.is_empty())
            {
                held.insert(id, records.into_iter().map(Arc::new).collect());
            }
        }
        if builder.problems.is_empty() {
            let (path, why) = (path.to_owned(), warnings.sentences());
            return Err(if why.is_empty() {
                RunFolderError::NoRecording(path)
            } else {
                RunFolderError::NothingUsable { path, why }
            });
        }
        let (head, blocks) = builder.finish(Vec::new(), digest(path)?, warnings.sentences());
        Ok(Self {
            path: path.to_owned(),
            head,
            blocks: CacheBlocks::Memory(blocks),
            decided: None,
            confidence_k: None,
            whole: OnceLock::new(),
            foreign: held,
            fields: Some(fields),
        })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// What it was recorded with, if that is known.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.decided.as_ref()?.manifest()
    }
    /// blake3 of the lines of the traces, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.head.digest
    }
    /// The problems, in the order in which they appear.
    pub fn problems(&self) -> &[PoolProblem] {
        &self.head.problems
    }
    /// These problems, or all of them, in the order in which they appear, and of these no more than `limit`.
    ///
    /// # Errors
    /// When the recording does not hold one of them.
    pub fn select(
        &self,
        ids: Option<&[String]>,
        limit: Option<usize>,
    ) -> Result<Vec<&PoolProblem>, RunFolderError> {
        let mut problems: Vec<_> = self.problems().iter().collect();
        if let Some(ids) = ids {
            for id in ids {
                if !problems.iter().any(|p| p.id == *id) {
                    return Err(RunFolderError::NoSuchProblem {
                        path: self.path.clone(),
                        problem: id.clone(),
                        tip: nearest(id, problems.iter().map(|p| p.id.as_str()))
                            .map_or_else(String::new, |n| format!("; did you mean `{n}`?")),
                    });
                }
            }
            problems.retain(|p| ids.contains(&p.id));
        }
        problems.truncate(limit.unwrap_or(usize::MAX));
        Ok(problems)
    }

    /// Counted sentences about what was passed over.
    pub fn warnings(&self) -> &[String] {
        &self.head.warnings
    }
    /// The fields of a recording made elsewhere, as a part of a sentence.
    pub fn fields(&self) -> Option<&str> {
        self.fields.as_deref()
    }
    /// What was decided over the recording when it was made.
    pub fn decided(&self) -> Option<&Recording> {
        self.decided.as_ref()
    }

    /// A problem's traces without texts and arrays, each with its statistics, by ascending index.
    ///
    /// # Errors
    /// When the recording cannot be read, or was changed meanwhile.
    pub fn traces(&self, problem: &PoolProblem) -> Result<Vec<Arc<TraceRecord>>, RunFolderError> {
        let damaged = || RunFolderError::Damaged {
            path: cache_of(&self.path),
            reason: format!(
                "the cache does not hold problem `{}` as it was written; delete it",
                problem.id
            ),
        };
        let bytes = self
            .blocks
            .read(problem, &cache_of(&self.path))?
            .ok_or_else(damaged)?;
        scalars::decode(&bytes, &problem.id).ok_or_else(damaged)
    }

    /// The whole recording, with its texts and tokens; nothing for one made elsewhere that holds none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn recording(&self) -> Result<Option<&Recording>, RunFolderError> {
        if self.decided.is_none() {
            return Ok(None);
        }
        if self.whole.get().is_none() {
            let _ = self.whole.set(Recording::open(&self.path)?);
        }
        Ok(self.whole.get())
    }

    /// A problem's traces with all that was recorded of them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn whole(&self, problem: &PoolProblem) -> Result<Vec<Arc<TraceRecord>>, RunFolderError> {
        match (self.recording()?, self.foreign.get(&problem.id)) {
            (Some(recording), _) => {
                let mut records = Vec::new();
                recording.each(&problem.id, |record| {
                    records.push(Arc::new(with_confidence(record, self.confidence_k)))
                })?;
                Ok(records)
            }
            (None, Some(records)) => Ok(records.clone()),
            (None, None) => self.traces(problem),
        }
    }
}

/// The record with its confidences taken over `k` ids; without any where too few were kept.
fn with_confidence(mut record: TraceRecord, k: Option<usize>) -> TraceRecord {
    if let Some(k) = k {
        record.arrays.confidence = record.arrays.confidence_of(k).unwrap_or_default();
        record.scores = TraceScores {
            self_certainty: record.scores.self_certainty,
            ..TraceScores::default()
        };
    }
    record
}

/// The group sizes that an automatic window may come to for traces of these lengths, and those asked for.
fn windows(lengths: &[usize], asked: &[usize]) -> Vec<usize> {
    let mut windows = asked.to_vec();
    let auto = |length: Option<&usize>| auto_window(&[*length?]);
    if let (Some(mut window), Some(most)) = (auto(lengths.iter().min()), auto(lengths.iter().max())) {
        while window <= most {
            windows.push(window);
            window *= 2;
        }
    }
    windows.sort_unstable();
    windows.dedup();
    windows
}

struct PoolBuilder {
    windows: Vec<usize>,
    problems: Vec<PoolProblem>,
    blocks: Vec<u8>,
    /// of the problem that is being read
    ids: bool,
    texts: bool,
}

impl PoolBuilder {
    fn new(windows: &[usize]) -> Self {
        Self {
            windows: windows.to_vec(),
            problems: Vec::new(),
            blocks: Vec::new(),
            ids: true,
            texts: false,
        }
    }

    fn saw(&mut self, record: &TraceRecord) {
        self.ids &= record.arrays.token_ids.len() == record.tokens;
        self.texts |= record.text.is_some();
    }

    fn problem(&mut self, id: String, gold: Option<String>, records: &[TraceRecord]) {
        let bytes = scalars::encode(records);
        let confident = |r: &&TraceRecord| {
            r.measured
                .as_ref()
                .is_some_and(|m| m.mean.is_some() || !m.windows.is_empty())
        };
        let own = || records.iter().filter(|r| r.stands_alone());
        self.problems.push(PoolProblem {
            id,
            gold,
            traces: own().count(),
            made: records.len() - own().count(),
            complete: own().filter(|r| r.finish.is_complete()).count(),
            confident: own().filter(confident).count(),
            ids: std::mem::replace(&mut self.ids, true) && !records.is_empty(),
            texts: std::mem::take(&mut self.texts),
            at: self.blocks.len() as u64,
            len: bytes.len() as u64,
            check: check(&bytes),
        });
        self.blocks.extend(bytes);
    }

    fn finish(
        self,
        made_from: Vec<(u64, u128)>,
        digest: String,
        warnings: Vec<String>,
    ) -> (CacheHead, Vec<u8>) {
        let head = CacheHead {
            made_from,
            digest,
            windows: self.windows,
            warnings,
            problems: self.problems,
        };
        (head, self.blocks)
    }
}

fn digest(path: &Path) -> Result<String, RunFolderError> {
    let mut hasher = blake3::Hasher::new();
    let mut file = tts_model::files::open(path).map_err(RunFolderError::io("open", path))?;
    std::io::copy(&mut file, &mut hasher).map_err(RunFolderError::io("read", path))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Keeps the compiler honest: the threads of a sweep share a pool.
const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<RecordedPool>();
};
