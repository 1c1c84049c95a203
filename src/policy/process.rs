//! A command that answers line by line, and never makes anybody wait for longer than it may.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longest answer in bytes.
const LONGEST: u64 = 1 << 20;
/// How much of standard error is kept.
const KEPT: usize = 2048;

/// A running command. Reading, writing and its standard error have a thread each, so that nobody waits for a
/// pipe.
pub(super) struct Process {
    child: Child,
    requests: Sender<String>,
    answers: Receiver<Result<String, String>>,
    complaints: Arc<Mutex<Vec<u8>>>,
    timeout: Duration,
}

impl Process {
    /// Starts a command, the first word being the program.
    pub(super) fn start(words: &[String], timeout: Duration) -> Result<Self, String> {
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot be run: {e}{}", hint(&words[0], &e)))?;
        let missing = || "cannot be run: it has no pipes".to_owned();
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let mut stderr = child.stderr.take().ok_or_else(missing)?;
        let (requests, to_write) = channel::<String>();
        std::thread::spawn(move || {
            for line in to_write {
                // a policy that is gone is noticed by its silence
                if stdin
                    .write_all(line.as_bytes())
                    .and_then(|()| stdin.flush())
                    .is_err()
                {
                    return;
                }
            }
        });
        // one answer waits at most: a policy that only writes fills no memory
        let (send, answers) = sync_channel(1);
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Some(answer) = next_line(&mut stdout) {
                let over = answer.is_err();
                if send.send(answer).is_err() || over {
                    return;
                }
            }
        });
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let kept = complaints.clone();
        std::thread::spawn(move || {
            let mut chunk = [0; 1024];
            while let Ok(n @ 1..) = stderr.read(&mut chunk) {
                if let Ok(mut kept) = kept.lock() {
                    kept.extend_from_slice(&chunk[..n]);
                    let over = kept.len().saturating_sub(KEPT);
                    kept.drain(..over);
                }
            }
        });
        Ok(Self {
            child,
            requests,
            answers,
            complaints,
            timeout,
        })
    }

    /// Writes one line and reads one; the error says what the policy did instead.
    pub(super) fn ask(&mut self, mut line: String) -> Result<String, String> {
        match self.answers.try_recv() {
            Err(TryRecvError::Empty) => {}
            Ok(Ok(line)) => {
                return Err(format!(
                    "wrote `{}`, for which nothing had asked",
                    line.trim().chars().take(120).collect::<String>()
                ));
            }
            Ok(Err(what)) => return Err(what),
            Err(TryRecvError::Disconnected) => return Err(self.obituary()),
        }
        line.push('\n');
        if self.requests.send(line).is_err() {
            return Err(self.obituary());
        }
        match self.answers.recv_timeout(self.timeout) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "did not answer within {} seconds{}",
                self.timeout.as_secs_f64(),
                self.last_words()
            )),
            Err(RecvTimeoutError::Disconnected) => Err(self.obituary()),
        }
    }

    /// How the process ended, with what it last wrote to standard error.
    fn obituary(&mut self) -> String {
        let start = Instant::now();
        let ended = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break format!("ended with {status}"),
                Err(e) => break format!("cannot be waited for: {e}"),
                Ok(None) if start.elapsed() > Duration::from_secs(1) => break "closed its output".to_owned(),
                Ok(None) => sleep(Duration::from_millis(5)),
            }
        };
        // its complaints may still be on their way
        sleep(Duration::from_millis(20));
        format!("{ended} before it answered{}", self.last_words())
    }

    /// The last line of its standard error.
    fn last_words(&self) -> String {
        let kept = self
            .complaints
            .lock()
            .map(|kept| kept.clone())
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&kept).into_owned();
        let printable = |line: &str| {
            line.chars()
                .filter(|c| !c.is_control())
                .take(300)
                .collect::<String>()
        };
        match text.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => format!("; its last words: {}", printable(line)),
            None => String::new(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line; an error says what it is instead; nothing at the end.
fn next_line(stdout: &mut impl BufRead) -> Option<Result<String, String>> {
    let mut bytes = Vec::new();
    match stdout.take(LONGEST).read_until(b'\n', &mut bytes) {
        Ok(0) | Err(_) => None,
        Ok(n) if n as u64 == LONGEST => {
            Some(Err(format!("answered with a line of more than {LONGEST} bytes")))
        }
        Ok(_) => {
            Some(String::from_utf8(bytes).map_err(|_| "answered with bytes that are not UTF-8".to_owned()))
        }
    }
}

/// What to do about a command that cannot be run.
fn hint(program: &str, error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "; make it executable (chmod +x) and begin it with `#!/usr/bin/env python3` or the like"
        }
        std::io::ErrorKind::NotFound if !program.contains('/') => {
            "; a file in this folder is written with ./ before it"
        }
        _ => "",
    }
}
