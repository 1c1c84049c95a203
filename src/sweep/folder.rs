//! The folder of a sweep: what is decided is appended as it comes, and what stands there is not decided
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::decide::{GridCell, SweepPlan};
use super::files::{SCHEMA, SweepHeader, SweepLine};
use crate::run::{FolderLock, RunFolderError, Status, StrategyRecord, replace_file, value_of};

const HEADER: &str = "sweep.json";
const LINES: &str = "sweep.jsonl";

/// Why a sweep's folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepFolderError {
    /// The folder or its lock.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// The operating system refused to read or write.
    #[error(
        "cannot {doing} {}: {source}; check the path, its permissions and the space on the disk",
        path.display()
    )]
    Io {
        /// What was tried: `open`, `read`, `write` or `create`.
        doing: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another sweep stands there.
    #[error(
        "{} holds a sweep with other settings: {what}; their results do not mix: set them back, name another \
         folder, or delete {HEADER} and {LINES}",
        dir.display()
    )]
    Differs {
        /// Path of the sweep's folder.
        dir: PathBuf,
        /// The settings with both values.
        what: String,
    },
    /// No sweep of ours.
    #[error("{}: {reason}; delete it or name another folder", path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        reason: String,
    },
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SweepFolderError + use<> {
    let path = path.to_owned();
    move |source| SweepFolderError::Io { doing, path, source }
}

/// What a sweep's folder holds.
#[derive(Debug)]
pub struct SweepResults {
    /// What the sweep was asked to decide: the contents of `sweep.json`.
    pub header: SweepHeader,
    /// The lines, of those for the same cell the last.
    pub lines: Vec<SweepLine>,
    /// Lines that are unfinished or none of ours.
    pub passed_over: usize,
}

impl SweepResults {
    /// Reads a folder; nothing where it holds no sweep.
    ///
    /// # Errors
    /// A file that cannot be read or is none of ours.
    pub fn read(dir: &Path) -> Result<Option<Self>, SweepFolderError> {
        let path = dir.join(HEADER);
        let bytes = match tts_model::files::read_regular(&path, 64 << 20) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io("read", &path)(e)),
        };
        let header: SweepHeader = serde_json::from_slice(&bytes).map_err(|e| SweepFolderError::Damaged {
            path: path.clone(),
            reason: format!("not the settings of a sweep ({e})"),
        })?;
        if header.schema > SCHEMA {
            return Err(SweepFolderError::Damaged {
                path,
                reason: format!(
                    "a sweep of schema {}, and this version reads up to {SCHEMA}",
                    header.schema
                ),
            });
        }
        let Lines {
            lines, passed_over, ..
        } = lines(&dir.join(LINES))?;
        Ok(Some(Self {
            header,
            lines,
            passed_over,
        }))
    }
}

/// The lines of a file.
#[derive(Default)]
struct Lines {
    lines: Vec<SweepLine>,
    /// where the last whole one ends
    end: u64,
    passed_over: usize,
}

fn lines(path: &Path) -> Result<Lines, SweepFolderError> {
    let bytes = match tts_model::files::read_regular(path, u64::MAX) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Lines::default()),
        Err(e) => return Err(io("read", path)(e)),
    };
    let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let mut found: BTreeMap<(String, Option<GridCell>), SweepLine> = BTreeMap::new();
    let mut order = Vec::new();
    let mut passed_over = usize::from(end < bytes.len());
    for line in bytes[..end].split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        // a line that a torn disk left is decided again
        let Ok(line) = serde_json::from_slice::<SweepLine>(line) else {
            passed_over += 1;
            continue;
        };
        let key = key(&line);
        if found.insert(key.clone(), line).is_none() {
            order.push(key);
        }
    }
    Ok(Lines {
        lines: order.iter().filter_map(|key| found.remove(key)).collect(),
        end: end as u64,
        passed_over,
    })
}

fn key(line: &SweepLine) -> (String, Option<GridCell>) {
    match line {
        SweepLine::Pool(p) => (p.problem_id.clone(), None),
        SweepLine::Decided(d) => {
            let cell = GridCell {
                strategy: d.strategy.clone(),
                budget: d.budget,
                slots: d.slots,
            };
            (d.problem_id.clone(), Some(cell))
        }
    }
}

/// A sweep's folder that is being written.
pub struct SweepFolder {
    dir: PathBuf,
    header: SweepHeader,
    file: File,
    done: BTreeSet<(String, Option<GridCell>)>,
    _lock: FolderLock,
}

impl SweepFolder {
    /// Begins a sweep in a folder, or goes on with it. Where the recording has changed since, everything is
    /// decided anew.
    ///
    /// # Errors
    /// A folder that another process writes or that holds a sweep with other settings; files that cannot be
    /// read or written.
    pub fn open(dir: &Path, mut header: SweepHeader) -> Result<Self, SweepFolderError> {
        std::fs::create_dir_all(dir).map_err(io("create", dir))?;
        let lock = FolderLock::take(dir)?;
        let path = dir.join(LINES);
        let mut done = BTreeSet::new();
        let mut keep = 0;
        if let Some(before) = SweepResults::read(dir)? {
            let before = before.header;
            if before.recording.digest == header.recording.digest {
                admit(&before, &header, dir)?;
                let Lines { lines, end, .. } = lines(&path)?;
                done = lines.iter().map(key).collect();
                keep = end;
                // what was asked before is still there
                header.strategies = joined(&before.strategies, header.strategies);
                header.budgets = joined(&before.budgets, header.budgets);
                header.slots = joined(&before.slots, header.slots);
                header.problems = joined(&before.problems, header.problems);
            }
        }
        header.status = Status::Started;
        let mut options = OpenOptions::new();
        let file =
            crate::own_files::open(options.append(true).create(true), &path).map_err(io("write", &path))?;
        file.set_len(keep).map_err(io("write", &path))?;
        let folder = Self {
            dir: dir.to_owned(),
            header,
            file,
            done,
            _lock: lock,
        };
        folder.write_header()?;
        Ok(folder)
    }

    fn write_header(&self) -> Result<(), SweepFolderError> {
        let path = self.dir.join(HEADER);
        let mut text = serde_json::to_vec_pretty(&self.header).expect("a header is plain data");
        text.push(b'\n');
        replace_file(&path, &self.dir.join("sweep.json.tmp"), |file| {
            file.write_all(&text)
        })?;
        Ok(())
    }

    /// Whether a problem has nothing left to decide.
    pub(super) fn is_done(&self, problem: &str, plan: &SweepPlan) -> bool {
        self.has(problem, None) && plan.cells().all(|(_, cell)| self.has(problem, Some(&cell)))
    }

    pub(super) fn has(&self, problem: &str, cell: Option<&GridCell>) -> bool {
        self.done.contains(&(problem.to_owned(), cell.cloned()))
    }

    /// Appends a problem's lines.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn append(&mut self, lines: &[SweepLine]) -> Result<(), SweepFolderError> {
        let mut bytes = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut bytes, line).expect("a line is plain data");
            bytes.push(b'\n');
        }
        let path = self.dir.join(LINES);
        self.file.write_all(&bytes).map_err(io("write", &path))?;
        self.done.extend(lines.iter().map(key));
        Ok(())
    }

    /// Says how the sweep ended.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn close(mut self, status: Status, notes: Vec<String>) -> Result<(), SweepFolderError> {
        let path = self.dir.join(LINES);
        self.file.sync_data().map_err(io("write", &path))?;
        self.header.status = status;
        self.header.notes = notes;
        self.write_header()
    }
}

fn joined<T: PartialEq + Clone>(before: &[T], now: Vec<T>) -> Vec<T> {
    let mut all = before.to_vec();
    all.extend(now.into_iter().filter(|x| !before.contains(x)));
    all
}

/// Refuses settings under which the same cell would come out otherwise.
fn admit(before: &SweepHeader, now: &SweepHeader, dir: &Path) -> Result<(), SweepFolderError> {
    let mut what = Vec::new();
    let mut differ = |name: &str, a: String, b: String| {
        if a != b {
            what.push(format!("{name} was {a} and is now {b}"));
        }
    };
    let resamples = |r: Option<usize>| r.map_or("recorded order".to_owned(), |n| n.to_string());
    differ(
        "--resamples",
        resamples(before.resamples),
        resamples(now.resamples),
    );
    differ("--resample-seed", before.seed.to_string(), now.seed.to_string());
    differ(
        "the reading of answers",
        value_of(&before.answers).to_string(),
        value_of(&now.answers).to_string(),
    );
    let data = |d: &Option<String>| {
        d.as_deref()
            .map_or("not given".to_owned(), |d| d.chars().take(16).collect())
    };
    differ("the set of --data", data(&before.data), data(&now.data));
    for strategy in &now.strategies {
        let same_name = before.strategies.iter().find(|s| s.name == strategy.name);
        if let Some(old) = same_name.filter(|old| !old.rules_as(strategy)) {
            let settings = |s: &StrategyRecord| value_of(&s.settings).to_string();
            differ(
                &format!("strategy {}", strategy.name.as_deref().unwrap_or_default()),
                settings(old),
                settings(strategy),
            );
        }
    }
    if what.is_empty() {
        return Ok(());
    }
    Err(SweepFolderError::Differs {
        dir: dir.to_owned(),
        what: what.join("; "),
    })
}
