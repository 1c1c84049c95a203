//! A line for each request: when, what was asked, how it ended, how long it took and what it cost.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use serde::Serialize;

use crate::fmt::shown;
use crate::openai::Usage;

/// How requests are written down, and where.
#[derive(Clone)]
pub struct RequestLog {
    /// Whether a line is a JSON object.
    pub json: bool,
    /// Takes each line, without its end.
    pub write: Arc<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for RequestLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestLog")
            .field("json", &self.json)
            .finish_non_exhaustive()
    }
}

/// Tokens that a request cost, known once it is over.
#[derive(Debug, Default)]
pub(super) struct Spent {
    prompt: AtomicU64,
    completion: AtomicU64,
}

impl Spent {
    pub(super) fn set(&self, usage: &Usage) {
        let count = |n: Option<u64>| n.unwrap_or_default();
        self.prompt.store(count(usage.prompt_tokens), Ordering::Relaxed);
        self.completion
            .store(count(usage.completion_tokens), Ordering::Relaxed);
    }
}

/// A request that is written down when the last of its reply was taken, or the client is gone.
pub(super) struct Entry {
    log: RequestLog,
    started: Instant,
    method: Method,
    path: String,
    status: StatusCode,
    spent: Arc<Spent>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    method: &'a str,
    path: &'a str,
    status: u16,
    milliseconds: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl Entry {
    pub(super) fn new(log: RequestLog, method: Method, path: &str) -> Self {
        Self {
            log,
            started: Instant::now(),
            method,
            path: path.to_owned(),
            status: StatusCode::OK,
            spent: Arc::default(),
        }
    }

    /// The reply, watched to its end.
    pub(super) fn watch(mut self, mut response: Response) -> Response {
        self.status = response.status();
        if let Some(spent) = response.extensions_mut().remove::<Arc<Spent>>() {
            self.spent = spent;
        }
        response.map(|body| Body::new(Watched { body, _entry: self }))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let line = Line {
            time: format!("{:.3}", jiff::Timestamp::now()),
            method: self.method.as_str(),
            path: &self.path,
            status: self.status.as_u16(),
            milliseconds: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            prompt_tokens: count(&self.spent.prompt),
            completion_tokens: count(&self.spent.completion),
        };
        let text = if self.log.json {
            serde_json::to_string(&line).unwrap_or_default()
        } else {
            format!(
                "{} {} {} {} {} ms, {} + {} tokens",
                line.time,
                line.method,
                shown(line.path),
                line.status,
                line.milliseconds,
                line.prompt_tokens,
                line.completion_tokens
            )
        };
        (self.log.write)(&text);
    }
}

struct Watched {
    body: Body,
    _entry: Entry,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
