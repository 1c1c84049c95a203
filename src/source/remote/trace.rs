//! One trace: a request whose answer is read as it comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Response;
use tts_strategies::Finish;

use super::answer::{Answer, Delta, StreamError};
use super::caller::RequestError;
use super::fleet::{Fleet, RequestSlot, backoff, jitter};
use super::request::{CompletionRequest, Prompt, body};
use crate::fmt::shown;
use crate::openai::Events;

/// How long to wait for usage after `finish_reason`.
const USAGE_WAIT: Duration = Duration::from_secs(2);

/// A trace's request, sent again as long as it has brought nothing.
pub(super) struct Stream {
    fleet: Arc<Fleet>,
    request: Arc<CompletionRequest>,
    seed: u32,
    k: Option<usize>,
    attempts: u32,
    open: Option<Open>,
}

struct Open {
    response: Response,
    events: Events,
    answer: Answer,
    /// when the next token must be there
    due: Instant,
    any: bool,
    /// the engine said how it ended; its last words are awaited
    last: Option<Delta>,
    /// let go of after the response
    slot: RequestSlot,
}

/// What a stream brought next.
pub(super) struct Chunk {
    pub(super) delta: Delta,
    /// why the stream broke after it, and where
    pub(super) broken: Option<String>,
}

/// Why a trace was given up.
#[derive(Debug)]
pub(super) struct TraceFailure {
    /// Address of the engine.
    pub(super) at: String,
    pub(super) why: String,
    /// its status, where it refused the request
    pub(super) refused: Option<u16>,
}

impl Stream {
    pub(super) fn new(
        fleet: Arc<Fleet>,
        request: Arc<CompletionRequest>,
        seed: u32,
        k: Option<usize>,
    ) -> Self {
        Self {
            fleet,
            request,
            seed,
            k,
            attempts: 0,
            open: None,
        }
    }

    /// Waits for what comes next. A stream that broke or ended is over; one that breaks before its first
    /// token is begun anew.
    ///
    /// # Errors
    /// When the request is refused, or was tried often enough.
    pub(super) async fn next(&mut self) -> Result<Chunk, TraceFailure> {
        loop {
            if self.open.is_none() {
                self.open = Some(self.begin().await?);
            }
            let open = self.open.as_mut().expect("just opened");
            let (mut delta, trouble) = open.read(&self.fleet).await;
            if !delta.tokens.is_empty() && !std::mem::replace(&mut open.any, true) {
                open.slot.did_well();
            }
            let name = open.slot.endpoint().name.clone();
            let Some(StreamError { why, refused }) = trouble else {
                if delta.is_empty() {
                    continue;
                }
                if delta.end.is_some() {
                    self.open = None;
                }
                return Ok(Chunk { delta, broken: None });
            };
            let had_tokens = open.any;
            open.slot.failed(None, had_tokens);
            self.open = None;
            if had_tokens {
                delta.end = Some(Finish::Failed);
                let broken = Some(format!("{name}: {why}"));
                return Ok(Chunk { delta, broken });
            }
            if refused.is_some() {
                return Err(TraceFailure {
                    at: name,
                    why,
                    refused,
                });
            }
            self.wait(name, why).await?;
        }
    }

    /// Sends the request until it is answered.
    async fn begin(&mut self) -> Result<Open, TraceFailure> {
        loop {
            let slot = self.fleet.acquire().await;
            let endpoint = slot.endpoint();
            let name = endpoint.name.clone();
            let url = match &self.request.prompt {
                Prompt::Messages(_) => &endpoint.chat,
                _ => &endpoint.plain,
            };
            let body = body(
                &self.fleet.model,
                &self.request,
                self.seed,
                &endpoint.fields,
                endpoint.engine,
            );
            let due = Instant::now() + self.fleet.caller.timeouts.first_token;
            match self.fleet.caller.post(url, &body).await {
                Ok(response) => {
                    return Ok(Open {
                        slot,
                        response,
                        events: Events::default(),
                        answer: Answer::new(self.k),
                        due,
                        any: false,
                        last: None,
                    });
                }
                Err(RequestError::Refused { status, why }) => {
                    return Err(TraceFailure {
                        at: name,
                        why,
                        refused: Some(status),
                    });
                }
                Err(RequestError::Again { why, after }) => {
                    slot.failed(after, false);
                    drop(slot);
                    self.wait(name, why).await?;
                }
            }
        }
    }

    /// Lets some time pass before the next try. The address itself is left alone for longer; others may be
    /// free.
    async fn wait(&mut self, at: String, why: String) -> Result<(), TraceFailure> {
        self.attempts += 1;
        if self.attempts > self.fleet.caller.timeouts.retries {
            return Err(TraceFailure {
                at,
                why: format!("{why}; it was tried {} times", self.attempts),
                refused: None,
            });
        }
        tokio::time::sleep(jitter(backoff(self.attempts), self.seed)).await;
        Ok(())
    }
}

impl Open {
    /// The next delta with anything in it, and what went wrong after it.
    async fn read(&mut self, fleet: &Fleet) -> (Delta, Option<StreamError>) {
        loop {
            let bytes = match tokio::time::timeout_at(self.due.into(), self.response.chunk()).await {
                Ok(Ok(Some(bytes))) => bytes,
                other => {
                    let why = match other {
                        Ok(Ok(_)) => match self.other_type() {
                            Some(kind) => format!("it answered with {kind} and not with a stream of events"),
                            None => "it ended a stream without a word".to_owned(),
                        },
                        Ok(Err(error)) => fleet.caller.broken(&error),
                        Err(_) if self.any => {
                            format!("no token for {} s", fleet.caller.timeouts.idle.as_secs_f64())
                        }
                        Err(_) => format!(
                            "no first token within {} s",
                            fleet.caller.timeouts.first_token.as_secs_f64()
                        ),
                    };
                    return self.over(why);
                }
            };
            let (delta, done, trouble) = self.parse(&bytes);
            if let Some(last) = &mut self.last {
                last.join(delta);
                if done || trouble.is_some() {
                    return (self.last.take().unwrap_or_default(), None);
                }
                continue;
            }
            if trouble.is_some() {
                let redacted = |wrong: StreamError| StreamError {
                    why: fleet.caller.redacted(wrong.why),
                    ..wrong
                };
                return (delta, trouble.map(redacted));
            }
            if done && delta.end.is_none() {
                return (
                    delta,
                    Some(StreamError::new("it ended a trace without saying why".to_owned())),
                );
            }
            if delta.end.is_some() && !done {
                self.due = Instant::now() + USAGE_WAIT;
                self.last = Some(delta);
                continue;
            }
            if !delta.tokens.is_empty() {
                self.due = Instant::now() + fleet.caller.timeouts.idle;
            }
            if !delta.is_empty() {
                return (delta, None);
            }
        }
    }

    /// What the engine says that its answer is, where that is no stream.
    fn other_type(&self) -> Option<String> {
        let kind = self.response.headers().get(reqwest::header::CONTENT_TYPE)?;
        let kind = shown(&String::from_utf8_lossy(kind.as_bytes()));
        (!kind.contains("event-stream")).then_some(kind)
    }

    /// The stream is over: what was left in it, and why that is not an end, unless it is.
    fn over(&mut self, why: String) -> (Delta, Option<StreamError>) {
        let rest = std::mem::take(&mut self.events).finish();
        let mut delta = self.last.take().unwrap_or_default();
        if let Some(data) = rest.filter(|data| data != b"[DONE]")
            && let Ok(more) = self.answer.event(&data)
        {
            delta.join(more);
        }
        let broken = delta.end.is_none().then(|| StreamError::new(why));
        (delta, broken)
    }

    /// Everything in some bytes, whether the stream is done with them, and what is wrong with it.
    fn parse(&mut self, bytes: &[u8]) -> (Delta, bool, Option<StreamError>) {
        let (mut all, mut done, mut trouble) = (Delta::default(), false, None);
        let answer = &mut self.answer;
        let pushed = self.events.push(bytes, |data| {
            if done || trouble.is_some() {
                return;
            }
            if data == b"[DONE]" {
                done = true;
                return;
            }
            match answer.event(data) {
                Ok(next) => all.join(next),
                // behind an end come last words, in the same piece or in one of its own
                Err(_) if all.end.is_some() => done = true,
                Err(wrong) => trouble = Some(wrong),
            }
        });
        if pushed.is_err() {
            trouble = Some(StreamError::new("it sent an event without an end".to_owned()));
        }
        (all, done, trouble)
    }
}
