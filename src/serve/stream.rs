//! Replies as they come: server-sent events.
//!
//! Where several traces run, a stream shows how things stand (`progress`): as lines of `reasoning_content`,
//! or as objects under `tts`. The answer comes at the end, in one piece: it is the vote that makes it. What a
//! lone trace writes is shown as it is written. A client that is slow misses progress and nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::future::poll_fn;
use futures::stream::{BoxStream, SelectAll, StreamExt, unfold};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::ask::{Endpoint, Manner, Progress};
use super::choice::Choice;
use super::house::House;
use super::jobs::{Live, Watch};
use super::reply;
use super::writing::{Delta, Writing};
use crate::run::{Details, Event, Snapshot, Written};
use crate::runner::Settings;

/// Silence after which a comment says that the server lives.
const SILENCE: Duration = Duration::from_secs(10);
/// Parts that may wait for a slow client.
const PARTS: usize = 8;

/// The stream of a request, with what is seen of each of its choices while they run.
pub(super) fn stream(
    house: Arc<House>,
    live: Arc<Live>,
    watched: Vec<Watch>,
    manner: Manner,
    fingerprint: &str,
) -> Response {
    let (send, mut parts) = mpsc::channel::<Bytes>(PARTS);
    let teller = Teller {
        head: reply::head(&live, fingerprint, true),
        house,
        live,
        manner,
        send,
    };
    tokio::spawn(teller.tell(watched));
    let body = Body::from_stream(futures::stream::poll_fn(move |cx| {
        parts.poll_recv(cx).map(|p| p.map(Ok::<_, Infallible>))
    }));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        // proxies that collect a reply before they pass it on would hide the progress
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}

/// The client is gone.
struct Gone;

struct Teller {
    house: Arc<House>,
    live: Arc<Live>,
    manner: Manner,
    head: Map<String, Value>,
    send: mpsc::Sender<Bytes>,
}

/// What a choice was told of.
enum News {
    Event(Box<Event>),
    /// There is more of its text.
    Written,
}

fn events(receiver: broadcast::Receiver<Event>) -> BoxStream<'static, News> {
    let next = |mut receiver: broadcast::Receiver<Event>| async move {
        loop {
            match receiver.recv().await {
                Ok(event) => return Some((News::Event(Box::new(event)), receiver)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    };
    unfold(receiver, next).boxed()
}

fn writes(mut pages: watch::Receiver<Vec<Written>>) -> BoxStream<'static, News> {
    // who comes late reads what is there
    pages.mark_changed();
    let next = |mut pages: watch::Receiver<Vec<Written>>| async move {
        let changed = pages.changed().await;
        changed.ok().map(|()| (News::Written, pages))
    };
    unfold(pages, next).boxed()
}

/// What was said of a choice so far.
#[derive(Default)]
struct Told {
    said: Said,
    /// its text, where it is shown as it is written
    writing: Option<Writing>,
}

impl Teller {
    async fn tell(self, watched: Vec<Watch>) {
        // the request is given up as soon as nobody is left: `live` goes with this
        let gone = self.send.clone();
        tokio::select! {
            () = gone.closed() => {}
            _ = self.tell_all(watched) => {}
        }
    }

    async fn tell_all(&self, watched: Vec<Watch>) -> Result<(), Gone> {
        self.begin().await?;
        let mut told: Vec<Told> = (0..self.live.asked.runs()).map(|_| Told::default()).collect();
        let mut news = SelectAll::new();
        for (index, watch) in watched.into_iter().enumerate() {
            news.push(events(watch.events).map(move |event| (index, event)).boxed());
            if let Some(writing) = watch.writing {
                news.push(writes(writing.pages()).map(move |more| (index, more)).boxed());
                told[index].writing = Some(writing);
            }
        }
        let finished = self.live.finished();
        tokio::pin!(finished);
        let mut quiet = Instant::now() + SILENCE;
        let finished = loop {
            let next = poll_fn(|cx| match news.poll_next_unpin(cx) {
                // all runs are over: the reply is about to come
                Poll::Ready(None) => Poll::Pending,
                other => other,
            });
            tokio::select! {
                biased;
                next = next => {
                    if let Some((index, news)) = next
                        && self.news(index, news, &mut told[index]).await?
                    {
                        quiet = Instant::now() + SILENCE;
                    }
                }
                // after what happened on the way to it
                finished = &mut finished => break finished,
                () = sleep_until(quiet) => {
                    self.raw(": working\n\n".to_owned()).await?;
                    quiet = Instant::now() + SILENCE;
                }
            }
        };
        match finished {
            Ok(choices) => self.answer(&choices, &told).await,
            Err(error) => self.raw(format!("data: {}\n\n", error.body())).await,
        }
    }

    /// Says that there will be choices, and of how many traces.
    async fn begin(&self) -> Result<(), Gone> {
        if self.manner.endpoint == Endpoint::Completion {
            return Ok(());
        }
        let asked = &self.live.asked;
        for index in 0..asked.runs() {
            self.part(json!({ "index": index, "delta": { "role": "assistant", "content": "" }, "logprobs": null, "finish_reason": null }))
                .await?;
            // not from an event: those may be dropped on the way
            if self.manner.progress == Progress::Text && !asked.is_lone() {
                let settings = asked.runner.settings();
                let line = format!(
                    "[{}: {} traces at most]\n",
                    settings.strategy.name, settings.traces
                );
                self.reasoning(index, &line).await?;
            }
        }
        Ok(())
    }

    /// Passes on what there is to say; whether there was anything.
    async fn news(&self, index: usize, news: News, told: &mut Told) -> Result<bool, Gone> {
        match (news, &mut told.writing) {
            (News::Event(event), _) => self.progress(index, *event, &mut told.said).await,
            (News::Written, Some(writing)) => {
                let delta = writing.more(&self.house);
                self.delta(index, delta).await
            }
            (News::Written, None) => Ok(false),
        }
    }

    /// How a choice's traces stand; whether anything was said.
    async fn progress(&self, index: usize, event: Event, said: &mut Said) -> Result<bool, Gone> {
        let line = match self.manner.progress {
            Progress::Off => None,
            Progress::Text if self.manner.endpoint == Endpoint::Completion || self.live.asked.is_lone() => {
                None
            }
            Progress::Text => said.line(&event),
            Progress::Traces => {
                let mut tts = object(event, self.live.asked.runner.settings());
                tts["choice"] = json!(index);
                let mut chunk = self.chunk(Vec::new());
                chunk.insert("tts".to_owned(), tts);
                self.send(chunk).await?;
                return Ok(true);
            }
        };
        match line {
            Some(line) => self.reasoning(index, &line).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn answer(&self, choices: &[Choice], told: &[Told]) -> Result<(), Gone> {
        for (index, (choice, told)) in choices.iter().zip(told).enumerate() {
            let rest = match &told.writing {
                Some(writing) => writing.rest(choice),
                None => Delta::whole(choice),
            };
            self.delta(index, rest).await?;
        }
        let ends = choices.iter().enumerate().map(|(index, choice)| match self.manner.endpoint {
            Endpoint::Chat => json!({ "index": index, "delta": {}, "logprobs": null, "finish_reason": choice.finish_reason }),
            Endpoint::Completion => json!({ "index": index, "text": "", "logprobs": null, "finish_reason": choice.finish_reason }),
        });
        let mut last = self.chunk(ends.collect());
        last.insert("tts".to_owned(), reply::extras(choices));
        if self.manner.progress == Progress::Traces {
            let traces: Vec<&Value> = choices.iter().map(|c| &c.traces).collect();
            last.insert("tts_traces".to_owned(), json!(traces));
        }
        self.send(last).await?;
        if self.manner.include_usage {
            let mut chunk = self.chunk(Vec::new());
            chunk.insert("usage".to_owned(), reply::usage(&self.live, choices));
            self.send(chunk).await?;
        }
        self.raw("data: [DONE]\n\n".to_owned()).await
    }

    /// More of a choice; whether there was any.
    async fn delta(&self, index: usize, delta: Delta) -> Result<bool, Gone> {
        let Delta {
            reasoning,
            content,
            logprobs,
        } = delta;
        let thinks = !reasoning.is_empty();
        if thinks {
            self.reasoning(index, &reasoning).await?;
        }
        if content.is_empty() && logprobs.is_none() {
            return Ok(thinks);
        }
        let part = match self.manner.endpoint {
            Endpoint::Chat => {
                json!({ "index": index, "delta": { "content": content }, "logprobs": logprobs, "finish_reason": null })
            }
            Endpoint::Completion => {
                json!({ "index": index, "text": content, "logprobs": logprobs, "finish_reason": null })
            }
        };
        self.part(part).await.map(|()| true)
    }

    fn chunk(&self, choices: Vec<Value>) -> Map<String, Value> {
        let mut chunk = self.head.clone();
        chunk.insert("choices".to_owned(), choices.into());
        if self.manner.include_usage {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        chunk
    }

    async fn reasoning(&self, index: usize, text: &str) -> Result<(), Gone> {
        self.part(json!({ "index": index, "delta": { "reasoning_content": text }, "logprobs": null, "finish_reason": null }))
            .await
    }

    async fn part(&self, choice: Value) -> Result<(), Gone> {
        self.send(self.chunk(vec![choice])).await
    }

    async fn send(&self, chunk: Map<String, Value>) -> Result<(), Gone> {
        self.raw(format!("data: {}\n\n", Value::Object(chunk))).await
    }

    async fn raw(&self, text: String) -> Result<(), Gone> {
        self.send.send(text.into()).await.map_err(|_| Gone)
    }
}

/// What was said of a choice already: a line comes when there is something new.
#[derive(Default)]
struct Said {
    ended: u64,
    leading: Option<String>,
    bar: bool,
}

impl Said {
    fn line(&mut self, event: &Event) -> Option<String> {
        let Event::Progress(now) = event else { return None };
        let ended = now.traces.total();
        let leading = now.leading.as_ref().map(|l| l.0.clone());
        let bar = now.threshold.is_some();
        if (ended, &leading, bar) == (self.ended, &self.leading, self.bar) {
            return None;
        }
        (self.ended, self.leading, self.bar) = (ended, leading, bar);
        let tokens = now.tokens.total() + now.live_tokens;
        let mut line = format!("[{ended} of {} traces ended, {tokens} tokens", now.budget);
        if let Some(bar) = now.threshold {
            line.push_str(&format!("; bar {bar:.2}"));
        }
        if let Some((answer, share)) = &now.leading {
            let answer: String = answer.chars().take(80).collect();
            line.push_str(&format!("; leading: {answer} ({:.0} %)", share * 100.0));
        }
        Some(line + "]\n")
    }
}

/// An event as an object for those who draw it.
fn object(event: Event, settings: &Settings) -> Value {
    match event {
        Event::Started {
            slots, prompt_tokens, ..
        } => json!({
            "event": "started", "strategy": settings.strategy.name, "budget": settings.traces, "slots": slots, "prompt_tokens": prompt_tokens,
        }),
        Event::Progress(now) => snapshot(&now),
        Event::Details(Details {
            window,
            traces,
            ballots,
            ..
        }) => json!({
            "event": "traces",
            "window": window,
            "traces": traces.iter().map(|t| json!({ "trace": t.trace, "warmup": t.warmup, "points": t.points })).collect::<Vec<_>>(),
            "ballots": ballots.map(|all| {
                all.iter().map(|(answer, weight, n)| json!({ "answer": answer, "weight": weight, "traces": n })).collect::<Vec<_>>()
            }),
        }),
        Event::TraceEnded {
            trace,
            finish,
            tokens,
            answer,
            ..
        } => {
            json!({ "event": "ended", "trace": trace, "finish": finish, "tokens": tokens, "answer": answer })
        }
        Event::Notice { text, .. } => json!({ "event": "notice", "text": text }),
        Event::Decided { answer, .. } => json!({ "event": "decided", "answer": answer }),
    }
}

fn snapshot(now: &Snapshot) -> Value {
    json!({
        "event": "progress",
        "live": now.live,
        "budget": now.budget,
        "traces": now.traces,
        "tokens": now.tokens,
        "live_tokens": now.live_tokens,
        "generated": now.tokens.total() + now.live_tokens,
        "ticks": now.ticks,
        "leading": now.leading.as_ref().map(|(answer, share)| json!({ "answer": answer, "share": share })),
        "threshold": now.threshold,
        "window": now.window,
    })
}
