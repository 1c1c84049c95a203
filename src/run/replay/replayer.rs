//! A recording to decide over: its traces, with their answers as they are read and compared here.

use std::collections::BTreeMap;
use std::sync::Arc;

use tts_evals::answer::ReadAnswer;
use tts_strategies::TraceId;

use crate::run::record::how_found;
use crate::run::{PoolProblem, RecordedPool, RunError, RunFolderError, TraceRecord};

/// A recording to decide over.
pub struct Replayer {
    pub(super) pool: Arc<RecordedPool>,
    pub(super) reader: Arc<dyn ReadAnswer>,
    /// whether answers are taken from the texts anew
    reread: bool,
    pub(super) max_tokens: usize,
}

/// Keys as a reader makes them, each answer's once.
struct AnswerKeys<'a> {
    reader: &'a dyn ReadAnswer,
    keys: BTreeMap<String, String>,
}

impl AnswerKeys<'_> {
    fn key(&mut self, answer: &str) -> String {
        if let Some(key) = self.keys.get(answer) {
            return key.clone();
        }
        let key = self.reader.key(answer);
        self.keys.insert(answer.to_owned(), key.clone());
        key
    }
}

impl Replayer {
    /// Decides over this recording. Answers are those that were recorded; `reader` says which of them are the
    /// same. With `reread` it reads them anew from the texts, where there are texts.
    pub fn new(pool: Arc<RecordedPool>, reader: Arc<dyn ReadAnswer>, reread: bool) -> Self {
        let recorded = pool.manifest().and_then(|m| m.traces.max_tokens);
        Self {
            pool,
            reader,
            reread,
            // nothing is cut off that was not cut off when it was recorded
            max_tokens: recorded.unwrap_or(usize::MAX),
        }
    }

    /// The recording that is decided over.
    pub fn pool(&self) -> &Arc<RecordedPool> {
        &self.pool
    }
    /// What reads and grades answers.
    pub fn reader(&self) -> &Arc<dyn ReadAnswer> {
        &self.reader
    }

    /// The problem of that name.
    ///
    /// # Errors
    /// When the recording does not hold it.
    pub fn problem(&self, id: &str) -> Result<&PoolProblem, RunError> {
        self.pool.problems().iter().find(|p| p.id == id).ok_or_else(|| {
            RunError::Recording(format!(
                "{} holds no traces of problem `{id}`",
                self.pool.path().display()
            ))
        })
    }

    /// A problem's traces as they are decided over, numbered from 0 without gaps, each with its answer's
    /// class key. Those that go on from others, or were shown others, are left out: they are no further draws.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn traces(&self, problem: &PoolProblem) -> Result<Vec<Arc<TraceRecord>>, RunError> {
        let mut records = self.pool.traces(problem).map_err(unreadable)?;
        records.retain(|r| r.stands_alone());
        // a recording made elsewhere may hold texts alone
        let unread = || self.pool.manifest().is_none() && records.iter().all(|r| r.answer.is_none());
        if problem.texts && (self.reread || unread()) {
            self.read_answers(problem, &mut records)?;
        }
        Ok(self.numbered(records))
    }

    fn numbered(&self, mut records: Vec<Arc<TraceRecord>>) -> Vec<Arc<TraceRecord>> {
        for (i, record) in records.iter_mut().enumerate() {
            if record.trace as usize != i {
                Arc::make_mut(record).trace = i as TraceId;
            }
        }
        self.key(&mut records);
        records
    }

    /// Gives each answer the key of its class, where it has none or they are made anew.
    fn key(&self, records: &mut [Arc<TraceRecord>]) {
        let mut keyed = AnswerKeys {
            reader: self.reader.as_ref(),
            keys: BTreeMap::new(),
        };
        for record in records {
            if record.answer.is_some() && (self.reread || record.answer_key.is_none()) {
                let record = Arc::make_mut(record);
                record.answer_key = record.answer.as_ref().map(|answer| keyed.key(answer));
            }
        }
    }

    /// Takes the answers from the texts, one text at a time.
    fn read_answers(&self, problem: &PoolProblem, records: &mut [Arc<TraceRecord>]) -> Result<(), RunError> {
        let mut by_trace: BTreeMap<TraceId, usize> =
            records.iter().enumerate().map(|(i, r)| (r.trace, i)).collect();
        let mut take = |whole: &TraceRecord| {
            if let (Some(i), Some(text)) = (by_trace.remove(&whole.trace), &whole.text) {
                let found = self.reader.read(text);
                let record = Arc::make_mut(&mut records[i]);
                record.extraction = found.as_ref().map(how_found);
                record.answer = found.map(|e| e.answer);
                record.answer_key = None;
            }
        };
        match self.pool.recording().map_err(unreadable)? {
            Some(recording) => recording
                .each(&problem.id, |record| take(&record))
                .map_err(unreadable),
            None => {
                self.pool
                    .whole(problem)
                    .map_err(unreadable)?
                    .iter()
                    .for_each(|record| take(record));
                Ok(())
            }
        }
    }

    /// The same traces with the tokens that they were measured by, for a strategy that reads single tokens.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn with_tokens(
        &self,
        problem: &PoolProblem,
        records: &[Arc<TraceRecord>],
    ) -> Result<Vec<Arc<TraceRecord>>, RunError> {
        let mut whole = self.pool.whole(problem).map_err(unreadable)?;
        whole.retain(|r| r.stands_alone());
        let put = |(lean, whole): (&Arc<TraceRecord>, &Arc<TraceRecord>)| {
            let mut record = TraceRecord::clone(lean);
            if whole.measured.is_none() {
                (record.arrays, record.measured) = (whole.arrays.clone(), None);
            }
            Arc::new(record)
        };
        Ok(records.iter().zip(&whole).map(put).collect())
    }

    /// Traces with their tokens, those made from others among them, each with its answer's class key. They keep their
    /// numbers, by which these name the others.
    pub(super) fn with_all(&self, problem: &PoolProblem) -> Result<Vec<Arc<TraceRecord>>, RunError> {
        let mut records = self.pool.whole(problem).map_err(unreadable)?;
        if problem.texts && self.reread {
            self.read_answers(problem, &mut records)?;
        }
        self.key(&mut records);
        Ok(records)
    }

    /// Whether a strategy of this name made the recording.
    pub(super) fn was_decided_by(&self, strategy: &str) -> bool {
        let made = self.pool.manifest().and_then(|m| m.decisions.strategy.as_ref());
        made.and_then(|made| made.name.as_deref()) == Some(strategy)
    }

    /// The texts of a problem's traces, those made from others only with `all`; one at a time where the
    /// recording is ours.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn texts(&self, problem: &PoolProblem, all: bool) -> Result<Vec<Option<String>>, RunError> {
        let mut texts = Vec::new();
        let wanted = |record: &TraceRecord| all || record.stands_alone();
        match self.pool.recording().map_err(unreadable)? {
            Some(recording) => recording
                .each(&problem.id, |record| {
                    if wanted(&record) {
                        texts.push(record.text);
                    }
                })
                .map_err(unreadable)?,
            None => texts.extend(
                self.pool
                    .whole(problem)
                    .map_err(unreadable)?
                    .iter()
                    .filter(|r| wanted(r))
                    .map(|r| r.text.clone()),
            ),
        }
        Ok(texts)
    }
}

pub(super) fn unreadable(error: RunFolderError) -> RunError {
    RunError::Recording(error.to_string())
}
