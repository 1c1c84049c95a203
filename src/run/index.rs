//! An index of a folder's lines: which problems and traces are there and where, without texts and arrays.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tts_strategies::TraceId;

use super::error::RunFolderError;
use super::line::{ArraysSpan, LineHead, check_of, unsealed};
use super::solved::SolvedRecord;
use super::warnings::{LineIssue, Warnings};

/// The files of a folder.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) traces: PathBuf,
    pub(super) tokens: PathBuf,
    pub(super) problems: PathBuf,
}

impl Files {
    pub(super) fn of(dir: &Path) -> Self {
        Self {
            traces: dir.join("traces.jsonl"),
            tokens: dir.join("tokens.bin"),
            problems: dir.join("problems.jsonl"),
        }
    }

    /// Those of a folder, or of a file of traces and what stands beside it.
    pub(super) fn named(path: &Path) -> Self {
        if !path.is_file() {
            return Self::of(path);
        }
        let beside = Self::of(path.parent().unwrap_or(Path::new("")));
        if path.file_name() == beside.traces.file_name() {
            return Self {
                traces: path.to_owned(),
                ..beside
            };
        }
        // a file of another name is no part of a folder, and what lies beside it is not known to belong to it
        Self {
            traces: path.to_owned(),
            problems: path.with_extension("problems.jsonl"),
            ..beside
        }
    }
}

/// Consecutive bytes of a file: a line without its newline, or the arrays of a trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileSpan {
    /// offset of the first byte
    pub(super) at: u64,
    pub(super) len: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct TraceEntry {
    pub(super) span: FileSpan,
    pub(super) tokens: u64,
    /// it ended by itself
    pub(super) ended: bool,
    /// only that it was there is known
    pub(super) broken: bool,
}

/// A line of problems.jsonl.
#[derive(Clone, Copy, Debug)]
pub(super) struct DecidedLine {
    pub(super) span: FileSpan,
    /// traces that ended by themselves before it was decided
    pub(super) ended: u64,
}

#[derive(Debug, Default)]
pub(super) struct IndexedProblem {
    pub(super) traces: BTreeMap<TraceId, Vec<TraceEntry>>,
    pub(super) decided: Vec<DecidedLine>,
    pub(super) gold: Option<String>,
    pub(super) prompt: Option<String>,
}

/// An index of a folder's lines: what is recorded of each problem, and where it stands.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) order: Vec<String>,
    pub(super) problems: BTreeMap<String, IndexedProblem>,
    pub(super) lines: usize,
    pub(super) warnings: Warnings,
}

impl Index {
    fn problem(&mut self, id: &str) -> &mut IndexedProblem {
        if !self.problems.contains_key(id) {
            self.order.push(id.to_owned());
            self.problems.insert(id.to_owned(), IndexedProblem::default());
        }
        self.problems.get_mut(id).expect("just put there")
    }

    /// Adds a line of traces.jsonl that can be read.
    pub(super) fn add(&mut self, head: LineHead, span: FileSpan) {
        self.lines += usize::from(head.trace.is_some());
        let known = self.problem(&head.problem_id);
        let (mut two_golds, mut two_ends) = (false, false);
        match (&known.gold, head.gold) {
            (Some(old), Some(new)) => two_golds = *old != new,
            (None, Some(new)) => known.gold = Some(new),
            _ => {}
        }
        if head.prompt.is_some() {
            known.prompt = head.prompt;
        }
        if let Some((trace, tokens, finish)) = head.trace {
            let ended = finish.is_complete();
            let entries = known.traces.entry(trace).or_default();
            two_ends = ended && entries.iter().any(|e| e.ended);
            entries.push(TraceEntry {
                span,
                tokens,
                ended,
                broken: head.broken,
            });
            // the best first: an end of its own, then more tokens (a remote engine may have begun a cut trace
            // anew), then the newest
            entries.sort_by_key(|e| std::cmp::Reverse((e.ended, e.tokens, e.span.at)));
        }
        if two_ends {
            self.warnings
                .add(LineIssue::TwoEnds, || format!("problem `{}`", head.problem_id));
        }
        if two_golds {
            self.warnings.add(LineIssue::Gold, || head.problem_id);
        }
    }

    pub(super) fn add_decided(&mut self, record: &SolvedRecord, span: FileSpan) {
        let fates = record.traces.map(|traces| traces.fates).unwrap_or_default();
        let ended = fates.warmup.saturating_add(fates.finished);
        self.problem(&record.problem_id)
            .decided
            .push(DecidedLine { span, ended });
    }

    /// Forgets decisions over traces that are no longer there, so that they are made again: how many problems
    /// are concerned, and which is the first.
    pub(super) fn forget_hollow(&mut self) -> (usize, Option<String>) {
        let (mut hollow, mut first) = (0, None);
        for id in &self.order {
            let Some(problem) = self.problems.get_mut(id) else {
                continue;
            };
            let there = problem
                .traces
                .values()
                .filter(|entries| entries.iter().any(|e| e.ended));
            let there = there.count() as u64;
            let before = problem.decided.len();
            problem.decided.retain(|line| line.ended <= there);
            if problem.decided.len() < before {
                hollow += 1;
                first.get_or_insert_with(|| id.clone());
            }
        }
        (hollow, first)
    }

    /// The digest of the prompt that a problem was recorded with.
    pub(super) fn prompt(&self, id: &str) -> Option<&str> {
        self.problems.get(id)?.prompt.as_deref()
    }
    pub(super) fn claim(&mut self, id: &str, prompt: String) {
        self.problem(id).prompt = Some(prompt);
    }
}

/// What one reading of the files found.
#[derive(Default)]
pub(super) struct FolderScan {
    pub(super) index: Index,
    /// where the last whole line of traces.jsonl ends
    pub(super) traces_end: u64,
    /// where the last byte of tokens.bin is that a line names
    pub(super) tokens_end: u64,
    /// where the last whole line of problems.jsonl ends
    pub(super) problems_end: u64,
    /// lines of traces.jsonl that are not what was written, or whose arrays are not or are not there
    pub(super) dangling: Vec<FileSpan>,
}

/// Calls `each` with every line, without its newline, and whether it had one.
fn lines(path: &Path, mut each: impl FnMut(&[u8], FileSpan, bool)) -> Result<(), RunFolderError> {
    let file = match tts_model::files::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(RunFolderError::io("open", path)(e)),
    };
    // no more than is there now: another process may be writing, and a device has no end
    let len = file.metadata().map_err(RunFolderError::io("read", path))?.len();
    let mut file = BufReader::with_capacity(1 << 18, file.take(len));
    let (mut line, mut at) = (Vec::new(), 0);
    loop {
        line.clear();
        let len = file
            .read_until(b'\n', &mut line)
            .map_err(RunFolderError::io("read", path))? as u64;
        if len == 0 {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        // a byte-order mark at the beginning of the file is no part of its first line
        let mark = text
            .strip_prefix(b"\xef\xbb\xbf")
            .filter(|_| at == 0)
            .map_or(0, |_| 3);
        let text = &text[mark..];
        each(
            text,
            FileSpan {
                at: at + mark as u64,
                len: text.len() as u64,
            },
            whole,
        );
        at += len;
    }
}

/// Whether the arrays of a line are those that were written. A missing check says nothing against them.
fn intact(tokens: &mut Option<File>, path: &Path, span: &ArraysSpan) -> Result<bool, RunFolderError> {
    let Some(check) = &span.check else {
        return Ok(true);
    };
    let io = || RunFolderError::io("read", path);
    if tokens.is_none() {
        *tokens = Some(tts_model::files::open(path).map_err(io())?);
    }
    let file = tokens.as_mut().expect("just opened");
    file.seek(SeekFrom::Start(span.offset)).map_err(io())?;
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(file.take(span.end() - span.offset))
        .map_err(io())?;
    Ok(check_of(hasher.finalize()) == *check)
}

/// Reads every line of a folder's files. A last line without a newline is read too if it is whole, unless the
/// folder is to be `written`: then the arrays are read too, because what is appended stands on them.
pub(super) fn scan(files: &Files, written: bool) -> Result<FolderScan, RunFolderError> {
    let mut scan = FolderScan::default();
    let tokens_len = match tts_model::files::can_open(&files.tokens).and_then(|()| files.tokens.metadata()) {
        Ok(meta) => meta.len(),
        Err(e) if e.kind() == ErrorKind::NotFound => 0,
        Err(e) => return Err(RunFolderError::io("read", &files.tokens)(e)),
    };
    let mut number: u32 = 0;
    let (mut tokens, mut failed) = (None, Ok(()));
    lines(&files.traces, |text, line, whole| {
        number += 1;
        let here = || format!("line {number} of {}", files.traces.display());
        let warnings = &mut scan.index.warnings;
        if !whole && written {
            return warnings.add(LineIssue::Torn, here);
        }
        scan.traces_end = line.at + line.len + u64::from(whole);
        if text.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let head = match LineHead::read(text) {
            Ok(head) => head,
            Err(issue) => {
                // its problem does not vanish with it
                if let Some(head) = LineHead::broken(text, number).filter(|_| !written) {
                    warnings.add(issue, || format!("{}, {}", head.named(), here()));
                    return scan.index.add(head, line);
                }
                warnings.add(if whole { issue } else { LineIssue::Torn }, here);
                // its trace is made again, and the line with it
                if whole && issue == LineIssue::LineAltered {
                    scan.dangling.push(line);
                }
                return;
            }
        };
        if head.not_utf8 {
            warnings.add(LineIssue::NotUtf8, here);
        }
        let lost = match &head.span {
            Some(span) if span.end() > tokens_len => Some(LineIssue::NoBytes),
            Some(span) if written && failed.is_ok() => match intact(&mut tokens, &files.tokens, span) {
                Ok(intact) => (!intact).then_some(LineIssue::Altered),
                Err(error) => {
                    failed = Err(error);
                    None
                }
            },
            _ => None,
        };
        match (&head.span, lost) {
            (_, Some(issue)) => {
                warnings.add(issue, here);
                scan.dangling.push(line);
                // its trace is not there; what it says of the problem is
                return scan.index.add(
                    LineHead {
                        trace: None,
                        span: None,
                        ..head
                    },
                    line,
                );
            }
            (Some(span), None) => scan.tokens_end = scan.tokens_end.max(span.end()),
            (None, None) => {}
        }
        scan.index.add(head, line);
    })?;
    failed?;
    scan_problems(files, written, &mut scan)?;
    Ok(scan)
}

/// Reads every line of problems.jsonl.
pub(super) fn scan_problems(
    files: &Files,
    written: bool,
    scan: &mut FolderScan,
) -> Result<(), RunFolderError> {
    let mut number = 0;
    lines(&files.problems, |text, span, whole| {
        number += 1;
        let here = || format!("line {number} of {}", files.problems.display());
        if whole {
            scan.problems_end = span.at + span.len + 1;
        }
        let warnings = &mut scan.index.warnings;
        if !whole && written {
            return warnings.add(LineIssue::Torn, here);
        }
        let line = match unsealed(text) {
            Ok(line) => line,
            Err(issue) => return warnings.add(if whole { issue } else { LineIssue::Torn }, here),
        };
        match serde_json::from_slice::<SolvedRecord>(&line) {
            Ok(record) => scan.index.add_decided(&record, span),
            Err(_) => warnings.add(issue(text, whole), here),
        }
    })
}

/// Why a line of problems.jsonl is no decided problem.
fn issue(text: &[u8], whole: bool) -> LineIssue {
    match serde_json::from_slice::<Value>(text) {
        Ok(value) if value.get("problem_id").is_some_and(Value::is_string) => LineIssue::NotDecided,
        Ok(_) if whole => LineIssue::NoName,
        Err(_) if whole => LineIssue::NotJson,
        _ => LineIssue::Torn,
    }
}
