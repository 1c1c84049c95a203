//! Counters for `/metrics`, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::run::{FateCounts, Outcome};

/// Upper ends of the histogram's buckets, in seconds.
const BUCKETS: [f64; 10] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0];

/// What happened since the server started.
pub(super) struct Metrics {
    started: Instant,
    running: AtomicI64,
    pub(super) connections: AtomicI64,
    pub(super) connections_refused: AtomicU64,
    answered: Mutex<BTreeMap<(&'static str, u16), u64>>,
    tokens: Mutex<Sums>,
    seconds: Mutex<Seconds>,
}

#[derive(Default)]
struct Sums {
    prompt: u64,
    tokens: FateCounts,
    traces: FateCounts,
    problems: u64,
    answers: u64,
}

#[derive(Default)]
struct Seconds {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
    /// of late
    usual: f64,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            running: AtomicI64::new(0),
            connections: AtomicI64::new(0),
            connections_refused: AtomicU64::new(0),
            answered: Mutex::default(),
            tokens: Mutex::default(),
            seconds: Mutex::default(),
        }
    }

    pub(super) fn begin(&self, runs: u64) {
        self.running.fetch_add(runs as i64, Ordering::Relaxed);
    }

    pub(super) fn end(&self, runs: u64, took: Duration) {
        self.running.fetch_sub(runs as i64, Ordering::Relaxed);
        let took = took.as_secs_f64();
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        for (bucket, end) in seconds.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(took <= end);
        }
        seconds.count += 1;
        seconds.sum += took;
        seconds.usual = if seconds.count == 1 {
            took
        } else {
            0.8 * seconds.usual + 0.2 * took
        };
    }

    /// Books what a run spent.
    pub(super) fn ran(&self, outcome: &Outcome) {
        let mut sums = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        sums.prompt += outcome.prompt_tokens as u64;
        sums.tokens += outcome.decided.tokens;
        sums.traces += outcome.decided.traces;
        sums.problems += 1;
        sums.answers += u64::from(outcome.decided.answer.is_some());
    }

    /// Books the reply to a request.
    pub(super) fn answered(&self, route: &'static str, status: u16) {
        *self
            .answered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((route, status))
            .or_insert(0) += 1;
    }

    /// Requests that run or wait.
    pub(super) fn running(&self) -> i64 {
        self.running.load(Ordering::Relaxed)
    }

    /// How long requests took of late, as whole seconds to wait.
    pub(super) fn usual_seconds(&self) -> u64 {
        let seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        seconds.usual.ceil().clamp(1.0, 60.0) as u64
    }

    /// The text of `/metrics`.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let mut family = |name: &str, kind: &str, help: &str, lines: &[(String, String)]| {
            let _ = writeln!(out, "# HELP tts_{name} {help}\n# TYPE tts_{name} {kind}");
            for (labels, value) in lines {
                let _ = writeln!(out, "tts_{name}{labels} {value}");
            }
        };
        let one = |value: String| vec![(String::new(), value)];
        let fates = |books: &FateCounts| {
            let all = [
                ("warmup", books.warmup),
                ("finished", books.finished),
                ("stopped", books.stopped),
                ("cancelled", books.cancelled),
                ("truncated", books.truncated),
                ("failed", books.failed),
            ];
            all.map(|(fate, n)| (format!("{{fate=\"{fate}\"}}"), n.to_string()))
        };
        let answered: Vec<_> = self
            .answered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|((route, status), n)| {
                (
                    format!("{{route=\"{route}\",status=\"{status}\"}}"),
                    n.to_string(),
                )
            })
            .collect();
        family(
            "http_requests_total",
            "counter",
            "Replies by route and status.",
            &answered,
        );
        family(
            "requests_running",
            "gauge",
            "Choices that run or wait for a place in the batch.",
            &one(self.running().to_string()),
        );
        let load = |n: &AtomicI64| one(n.load(Ordering::Relaxed).to_string());
        family(
            "connections",
            "gauge",
            "Open connections.",
            &load(&self.connections),
        );
        family(
            "connections_refused_total",
            "counter",
            "Connections beyond the limit, closed at once.",
            &one(self.connections_refused.load(Ordering::Relaxed).to_string()),
        );
        {
            let sums = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            family(
                "tokens_total",
                "counter",
                "Generated tokens by fate.",
                &fates(&sums.tokens),
            );
            family(
                "traces_total",
                "counter",
                "Ended traces by fate.",
                &fates(&sums.traces),
            );
            family(
                "prompt_tokens_total",
                "counter",
                "Tokens of prompts.",
                &one(sums.prompt.to_string()),
            );
            family(
                "problems_total",
                "counter",
                "Runs of the engine that ended.",
                &one(sums.problems.to_string()),
            );
            family(
                "answers_total",
                "counter",
                "Those that had an answer.",
                &one(sums.answers.to_string()),
            );
        }
        {
            let seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
            let name = "request_seconds";
            let mut lines: Vec<_> = BUCKETS
                .iter()
                .zip(seconds.buckets)
                .map(|(end, n)| (format!("_bucket{{le=\"{end}\"}}"), n.to_string()))
                .collect();
            lines.push(("_bucket{le=\"+Inf\"}".to_owned(), seconds.count.to_string()));
            lines.push(("_sum".to_owned(), seconds.sum.to_string()));
            lines.push(("_count".to_owned(), seconds.count.to_string()));
            family(name, "histogram", "From arrival to the end of a request.", &lines);
        }
        family(
            "uptime_seconds",
            "gauge",
            "Since the server started.",
            &one(self.started.elapsed().as_secs_f64().to_string()),
        );
        out
    }
}
