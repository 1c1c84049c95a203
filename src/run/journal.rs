//! The journal: a thread of its own that appends what ended, in the order in which it was told.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::RunFolderError;
use super::index::{FileSpan, Files, Index};
use super::line::{self, LineHead};
use super::solved::SolvedRecord;
use super::{RecordSink, TraceRecord, value_of};
use crate::own_files;

/// Traces that may wait to be written before the engine waits for the disk.
const WAITING: usize = 64;
/// How often the files are made durable. A killed process loses nothing that was written; a machine that
/// loses power loses this much.
const SYNC_EVERY: Duration = Duration::from_secs(1);

enum JournalMessage {
    Trace(Box<TraceRecord>),
    Problem(Box<SolvedRecord>),
    /// everything before it is written and durable when it is answered
    Flush(SyncSender<()>),
    Close,
}

/// The first thing that went wrong.
type FirstFailure = Arc<OnceLock<String>>;

/// The writing end of a run folder.
pub struct Journal {
    sender: SyncSender<JournalMessage>,
    failure: FirstFailure,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Appends to files that end where the last whole line (and its arrays) ends.
    pub(super) fn start(
        files: &Files,
        index: Arc<Mutex<Index>>,
        seed: Option<u64>,
    ) -> Result<Self, RunFolderError> {
        let open = |path: &std::path::PathBuf| {
            let io = || RunFolderError::io("write", path);
            let mut options = OpenOptions::new();
            let file = own_files::open(options.append(true).create(true), path).map_err(io())?;
            let at = file.metadata().map_err(io())?.len();
            Ok(AppendedFile {
                file,
                at,
                path: path.clone(),
                dirty: false,
            })
        };
        let writer = JournalWriter {
            traces: open(&files.traces)?,
            tokens: open(&files.tokens)?,
            problems: open(&files.problems)?,
            index,
            seed,
        };
        let (sender, inbox) = sync_channel(WAITING);
        let failure = FirstFailure::default();
        let told = failure.clone();
        let thread = std::thread::Builder::new()
            .name("tts-journal".to_owned())
            .spawn(move || writer.serve(&inbox, &told))
            .map_err(|e| RunFolderError::Journal(format!("no thread could be started ({e})")))?;
        Ok(Self {
            sender,
            failure,
            thread: Some(thread),
        })
    }

    /// A sink for ended traces. It hands them over and returns; it returns an error as soon as the journal
    /// has had one.
    pub fn sink(&self, problem_id: &str) -> RecordSink {
        let (sender, failure, problem_id) =
            (self.sender.clone(), self.failure.clone(), problem_id.to_owned());
        Box::new(move |record| {
            if let Some(failure) = failure.get() {
                return Err(failure.clone());
            }
            let mut record = Box::new(record.clone());
            record.problem_id.clone_from(&problem_id);
            sender.send(JournalMessage::Trace(record)).map_err(|_| closed())
        })
    }

    /// Appends a decided problem, after everything that its sink was given, and waits until both are durable.
    pub(super) fn problem(&self, record: SolvedRecord) -> Result<(), RunFolderError> {
        self.sender
            .send(JournalMessage::Problem(Box::new(record)))
            .map_err(|_| RunFolderError::Journal(closed()))?;
        self.flush()
    }

    /// Waits until everything that was handed over is durable.
    ///
    /// # Errors
    /// The first thing that went wrong since the journal was opened.
    pub fn flush(&self) -> Result<(), RunFolderError> {
        let (done, wait) = sync_channel(1);
        let answered = self.sender.send(JournalMessage::Flush(done)).is_ok() && wait.recv().is_ok();
        match self.failure.get() {
            Some(failure) => Err(RunFolderError::Journal(failure.clone())),
            None if answered => Ok(()),
            None => Err(RunFolderError::Journal(closed())),
        }
    }

    /// Writes what is left and ends the thread; sinks that are still about return errors from then on.
    pub(super) fn close(&mut self) -> Result<(), RunFolderError> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let _ = self.sender.send(JournalMessage::Close);
        if thread.join().is_err() {
            let _ = self.failure.set("its thread ended unexpectedly".to_owned());
        }
        self.failure
            .get()
            .map_or(Ok(()), |failure| Err(RunFolderError::Journal(failure.clone())))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

fn closed() -> String {
    "it was closed before".to_owned()
}

/// A file that only grows.
struct AppendedFile {
    file: File,
    at: u64,
    path: std::path::PathBuf,
    dirty: bool,
}

impl AppendedFile {
    fn append(&mut self, bytes: &[u8]) -> Result<u64, String> {
        if bytes.is_empty() {
            return Ok(self.at);
        }
        // a file that was removed swallows what is written to it
        if !self.path.exists() {
            return Err(format!("{} is gone", self.path.display()));
        }
        self.file.write_all(bytes).map_err(|e| self.say(&e))?;
        self.dirty = true;
        let at = self.at;
        self.at += bytes.len() as u64;
        Ok(at)
    }
    fn sync(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.dirty) {
            self.file.sync_data().map_err(|e| self.say(&e))
        } else {
            Ok(())
        }
    }
    fn say(&self, error: &std::io::Error) -> String {
        format!("{}: {error}", self.path.display())
    }
}

struct JournalWriter {
    traces: AppendedFile,
    tokens: AppendedFile,
    problems: AppendedFile,
    index: Arc<Mutex<Index>>,
    seed: Option<u64>,
}

impl JournalWriter {
    fn serve(mut self, inbox: &Receiver<JournalMessage>, failure: &FirstFailure) {
        let mut synced = Instant::now();
        loop {
            let dirty = self.traces.dirty || self.problems.dirty;
            let message = if dirty {
                inbox.recv_timeout(SYNC_EVERY)
            } else {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            // after a failure nothing more is written, or what follows would stand behind a torn line;
            // senders are not left waiting
            let well = failure.get().is_none();
            let mut last = false;
            let mut answer = None;
            let mut result = match message {
                Ok(JournalMessage::Trace(record)) if well => self.trace(&record),
                Ok(JournalMessage::Problem(record)) if well => self.problem(&record),
                Ok(JournalMessage::Flush(done)) => {
                    answer = Some(done);
                    Ok(())
                }
                Ok(JournalMessage::Close) | Err(RecvTimeoutError::Disconnected) => {
                    last = true;
                    Ok(())
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => Ok(()),
            };
            if well && result.is_ok() && (last || answer.is_some() || synced.elapsed() >= SYNC_EVERY) {
                result = self.sync();
                synced = Instant::now();
            }
            if let Err(error) = result {
                let _ = failure.set(error);
            }
            if let Some(done) = answer {
                let _ = done.send(());
            }
            if last {
                return;
            }
        }
    }

    fn sync(&mut self) -> Result<(), String> {
        self.tokens.sync()?;
        self.traces.sync()?;
        self.problems.sync()
    }

    fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trace(&mut self, record: &TraceRecord) -> Result<(), String> {
        let prompt = self.index().prompt(&record.problem_id).map(str::to_owned);
        let (arrays, line) = line::encode(record, self.tokens.at, self.seed, prompt.as_deref());
        // the arrays first: a line never names what is not there
        self.tokens.append(&arrays)?;
        let at = self.traces.append(&line)?;
        let text = &line[..line.len() - 1];
        if let Ok(head) = LineHead::read(text) {
            self.index().add(
                head,
                FileSpan {
                    at,
                    len: text.len() as u64,
                },
            );
        }
        Ok(())
    }

    fn problem(&mut self, record: &SolvedRecord) -> Result<(), String> {
        let mut line = line::sealed(value_of(record).to_string().into_bytes());
        line.push(b'\n');
        // what a decision stands on is durable before it
        self.sync()?;
        let at = self.problems.append(&line)?;
        self.index().add_decided(
            record,
            FileSpan {
                at,
                len: line.len() as u64 - 1,
            },
        );
        Ok(())
    }
}
