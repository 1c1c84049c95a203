//! Reading a recording: the traces of one problem at a time, and what was decided over them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tts_strategies::TraceId;

use super::TraceRecord;
use super::error::RunFolderError;
use super::index::{FileSpan, Files, FolderScan, Index, TraceEntry, scan, scan_problems};
use super::line::{self, LineHead};
use super::manifest::Manifest;
use super::settings::DecisionSettings;
use super::solved::SolvedRecord;
use super::warnings::{LineIssue, Warnings};

/// A recording, to be read: a run folder, or traces.jsonl made elsewhere (also without a manifest and without
/// tokens.bin).
#[derive(Clone, Debug)]
pub struct Recording {
    files: Files,
    manifest: Option<Manifest>,
    pub(super) index: Arc<Mutex<Index>>,
}

impl Recording {
    /// Opens a run folder, or a .jsonl file of traces. Nothing is changed or locked: a run that is being
    /// written can be read.
    ///
    /// # Errors
    /// When there are no traces, a file cannot be read, or the manifest is of a newer layout.
    pub fn open(path: &Path) -> Result<Self, RunFolderError> {
        Self::read_with(path, |files| scan(files, false))
    }

    /// The same without a look at the traces: what was decided over them is known, and nothing else.
    pub(super) fn of_problems(path: &Path) -> Result<Self, RunFolderError> {
        Self::read_with(path, |files| {
            let mut found = FolderScan::default();
            scan_problems(files, false, &mut found).map(|()| found)
        })
    }

    fn read_with(
        path: &Path,
        scan: impl FnOnce(&Files) -> Result<FolderScan, RunFolderError>,
    ) -> Result<Self, RunFolderError> {
        let mut foreign = Warnings::default();
        let manifest = if path.is_file() {
            None
        } else {
            match Manifest::read(path) {
                Err(RunFolderError::Damaged { .. }) => {
                    foreign.add(LineIssue::Manifest, || path.display().to_string());
                    None
                }
                manifest => manifest?,
            }
        };
        let files = Files::named(path);
        if !files.traces.is_file() {
            return Err(RunFolderError::NoRecording(path.to_owned()));
        }
        let mut index = scan(&files)?.index;
        index.warnings.merge(&foreign);
        Ok(Self::new(files, manifest, index))
    }

    pub(super) fn new(files: Files, manifest: Option<Manifest>, index: Index) -> Self {
        Self {
            files,
            manifest,
            index: Arc::new(Mutex::new(index)),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it was recorded with, if that is known.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// The problems that anything is recorded of: in the order in which they were asked for where that is
    /// known, else as they appear.
    pub fn problems(&self) -> Vec<String> {
        let asked = self
            .manifest
            .as_ref()
            .map(|m| m.problems.as_slice())
            .unwrap_or_default();
        let position: BTreeMap<&String, usize> = asked.iter().enumerate().map(|(i, id)| (id, i)).collect();
        let mut order = self.lock().order.clone();
        order.sort_by_key(|id| position.get(id).copied().unwrap_or(usize::MAX));
        order
    }

    /// Number of trace lines, of all problems.
    pub fn lines(&self) -> usize {
        self.lock().lines
    }

    /// Number of recorded traces of a problem, without reading them.
    pub fn traces(&self, problem_id: &str) -> usize {
        self.lock().problems.get(problem_id).map_or(0, |p| p.traces.len())
    }

    /// Lengths of a problem's complete traces.
    pub(super) fn lengths(&self, problem_id: &str) -> Vec<usize> {
        let index = self.lock();
        let best = index
            .problems
            .get(problem_id)
            .into_iter()
            .flat_map(|p| p.traces.values());
        best.filter_map(|entries| entries.first())
            .filter(|e| e.ended)
            .map(|e| e.tokens as usize)
            .collect()
    }

    /// The right answer, where a line names it.
    pub fn gold(&self, problem_id: &str) -> Option<String> {
        self.lock().problems.get(problem_id)?.gold.clone()
    }

    /// Counted sentences about what was passed over so far.
    pub fn warnings(&self) -> Vec<String> {
        self.lock().warnings.sentences()
    }

    /// The traces of one problem with their texts and arrays, by ascending index. Of several lines for one
    /// trace the one with the most tokens counts.
    ///
    /// # Errors
    /// When the files cannot be read. A single trace that cannot be read is passed over and counted in
    /// [`Recording::warnings`].
    pub fn recorded(&self, problem_id: &str) -> Result<Vec<Arc<TraceRecord>>, RunFolderError> {
        let mut records = Vec::new();
        self.each(problem_id, |record| records.push(Arc::new(record)))?;
        Ok(records)
    }

    /// Where in the order of lines each of the problem's traces ended.
    pub(super) fn arrivals(&self, problem_id: &str) -> BTreeMap<TraceId, u64> {
        let index = self.lock();
        let known = index.problems.get(problem_id).map(|k| &k.traces);
        let best = |(trace, entries): (&TraceId, &Vec<TraceEntry>)| Some((*trace, entries.first()?.span.at));
        known.into_iter().flatten().filter_map(best).collect()
    }

    /// The same one by one, so that they need not be held together.
    ///
    /// # Errors
    /// As [`Recording::recorded`].
    pub fn each(&self, problem_id: &str, mut take: impl FnMut(TraceRecord)) -> Result<(), RunFolderError> {
        let wanted: Vec<(TraceId, Vec<TraceEntry>)> = match self.lock().problems.get(problem_id) {
            Some(known) => known.traces.clone().into_iter().collect(),
            None => return Ok(()),
        };
        if wanted.is_empty() {
            return Ok(());
        }
        let mut traces = tts_model::files::open(&self.files.traces)
            .map_err(RunFolderError::io("open", &self.files.traces))?;
        let mut tokens = None;
        let mut warnings = Warnings::default();
        for (trace, entries) in wanted {
            for entry in entries {
                if entry.broken {
                    take(TraceRecord::without_vote(problem_id, trace));
                    break;
                }
                let here = || format!("trace {trace} of problem `{problem_id}`");
                match self.read(&mut traces, &mut tokens, entry.span, &mut warnings, &here)? {
                    Ok(record) => {
                        take(record);
                        break;
                    }
                    Err(issue) => warnings.add(issue, || format!("problem `{problem_id}`")),
                }
            }
        }
        self.lock().warnings.merge(&warnings);
        Ok(())
    }

    fn read(
        &self,
        traces: &mut File,
        tokens: &mut Option<File>,
        line: FileSpan,
        warnings: &mut Warnings,
        here: &dyn Fn() -> String,
    ) -> Result<Result<TraceRecord, LineIssue>, RunFolderError> {
        let text = at(traces, line).map_err(RunFolderError::io("read", &self.files.traces))?;
        let span = match LineHead::read(&text) {
            Ok(head) => head.span,
            Err(issue) => return Ok(Err(issue)),
        };
        let mut arrays = None;
        if let Some(span) = span {
            let io = |e| RunFolderError::io("read", &self.files.tokens)(e);
            if tokens.is_none() {
                *tokens = Some(tts_model::files::open(&self.files.tokens).map_err(io)?);
            }
            let file = tokens.as_mut().expect("just opened");
            match at(
                file,
                FileSpan {
                    at: span.offset,
                    len: span.end() - span.offset,
                },
            ) {
                Ok(bytes) => arrays = Some(bytes),
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(Err(LineIssue::NoBytes)),
                Err(e) => return Err(io(e)),
            }
        }
        Ok(line::decode(&text, arrays.as_deref(), |issue| {
            warnings.add(issue, here)
        }))
    }

    /// The problem's newest line of problems.jsonl, whatever the settings it was decided with.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn last_decided(&self, problem_id: &str) -> Result<Option<SolvedRecord>, RunFolderError> {
        self.newest(problem_id, |_| true)
    }

    /// All of the problem's lines of problems.jsonl, the newest last, but for those that were interrupted.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn every_decided(&self, problem_id: &str) -> Result<Vec<SolvedRecord>, RunFolderError> {
        let mut lines = Vec::new();
        // none fits, so that all are looked at
        self.newest(problem_id, |record| {
            if !record.is_interrupted() {
                lines.push(record.clone());
            }
            false
        })?;
        lines.reverse();
        Ok(lines)
    }

    /// The problem's newest line that was decided with these settings and not interrupted: nothing is left to
    /// do for it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn decided_with(
        &self,
        problem_id: &str,
        decisions: &DecisionSettings,
    ) -> Result<Option<SolvedRecord>, RunFolderError> {
        self.newest(problem_id, |record| {
            record.decisions.as_ref().is_some_and(|d| d.decides_as(decisions)) && !record.is_interrupted()
        })
    }

    /// The problem's newest line of problems.jsonl that fits.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn newest(
        &self,
        problem_id: &str,
        mut fits: impl FnMut(&SolvedRecord) -> bool,
    ) -> Result<Option<SolvedRecord>, RunFolderError> {
        let spans = self
            .lock()
            .problems
            .get(problem_id)
            .map(|p| p.decided.clone())
            .unwrap_or_default();
        if spans.is_empty() {
            return Ok(None);
        }
        let path = &self.files.problems;
        let mut file = tts_model::files::open(path).map_err(RunFolderError::io("open", path))?;
        for line in spans.into_iter().rev() {
            let text = at(&mut file, line.span).map_err(RunFolderError::io("read", path))?;
            let read = |text: &[u8]| serde_json::from_slice(&line::unsealed(text).ok()?).ok();
            if let Some(record) = read(&text).filter(|record| fits(record)) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

fn at(file: &mut File, span: FileSpan) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(span.at))?;
    // read no more than is there before memory is taken for it
    let mut bytes = Vec::new();
    file.take(span.len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == span.len {
        Ok(bytes)
    } else {
        Err(ErrorKind::UnexpectedEof.into())
    }
}

/// The records without their answers where there is a text to read them from: for a run that reads answers in
/// another way than the recording did.
pub fn without_answers(records: Vec<Arc<TraceRecord>>) -> Vec<Arc<TraceRecord>> {
    let forget = |mut record: Arc<TraceRecord>| {
        if record.text.is_some() {
            let r = Arc::make_mut(&mut record);
            (r.answer, r.answer_key, r.extraction) = (None, None, None);
        }
        record
    };
    records.into_iter().map(forget).collect()
}
