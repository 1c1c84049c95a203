//! Replies as they come: server-sent events.
//!
//! Where several traces run, a stream shows how things stand (`progress`): as lines of `reasoning_content`,
//! or as objects under `tts`. The answer comes at the end, in one piece: it is the vote that makes it. What a
//! lone trace writes is shown as it is written. A client that is slow misses progress and nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::http::header;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::future::poll_fn;
use futures::stream::{BoxStream, SelectAll, StreamExt, unfold};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};

use super::choice::{Choice, TraceSummary};
use super::jobs::{Live, Watch};
use super::progress::{self, ProgressLines};
use super::reply;
use super::request::{Endpoint, Progress, ResponseOptions};
use super::request_log::Spent;
use super::state::AppState;
use super::text::{StreamedText, TextDelta};
use crate::openai::{self, Completion, Delta};
use crate::run::{Event, StreamedToken};

/// Silence after which a comment says that the server lives.
const SILENCE: Duration = Duration::from_secs(10);
/// Events that may wait for a slow client.
const WAITING: usize = 8;

/// The stream of a request, with what is seen of each of its choices while they run.
pub(super) fn stream(
    app: Arc<AppState>,
    live: Arc<Live>,
    watched: Vec<Watch>,
    options: ResponseOptions,
    fingerprint: &str,
    spent: Arc<Spent>,
) -> Response {
    let (send, events) = mpsc::channel::<sse::Event>(WAITING);
    let writer = SseWriter {
        head: reply::head(&live, fingerprint),
        app,
        live,
        options,
        spent,
        send,
    };
    tokio::spawn(writer.write(watched));
    reply_of(events)
}

/// A reply that hands out events as they come.
pub(super) fn reply_of(mut events: mpsc::Receiver<sse::Event>) -> Response {
    let events = futures::stream::poll_fn(move |cx| {
        let next = events.poll_recv(cx);
        next.map(|event| event.map(Ok::<_, Infallible>))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        // proxies that collect a reply before they pass it on would hide the progress
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let alive = KeepAlive::new().interval(SILENCE).text("working");
    (headers, Sse::new(events).keep_alive(alive)).into_response()
}

/// The client is gone.
struct Gone;

/// Writes the stream of one request to one client.
struct SseWriter {
    app: Arc<AppState>,
    live: Arc<Live>,
    options: ResponseOptions,
    spent: Arc<Spent>,
    head: Completion,
    send: mpsc::Sender<sse::Event>,
}

/// What is new of a choice.
enum Update {
    Event(Box<Event>),
    /// There is more of its text.
    Tokens,
}

fn events(receiver: broadcast::Receiver<Event>) -> BoxStream<'static, Update> {
    let next = |mut receiver: broadcast::Receiver<Event>| async move {
        loop {
            match receiver.recv().await {
                Ok(event) => return Some((Update::Event(Box::new(event)), receiver)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    };
    unfold(receiver, next).boxed()
}

fn tokens(mut tokens: watch::Receiver<Vec<StreamedToken>>) -> BoxStream<'static, Update> {
    // who comes late reads what is there
    tokens.mark_changed();
    let next = |mut tokens: watch::Receiver<Vec<StreamedToken>>| async move {
        let changed = tokens.changed().await;
        changed.ok().map(|()| (Update::Tokens, tokens))
    };
    unfold(tokens, next).boxed()
}

/// What the client knows of a choice.
#[derive(Default)]
struct ChoiceState {
    lines: ProgressLines,
    /// its text, where it is shown as it is written
    text: Option<StreamedText>,
}

impl SseWriter {
    async fn write(self, watched: Vec<Watch>) {
        // the request is given up as soon as nobody is left: `live` goes with this
        let gone = self.send.clone();
        tokio::select! {
            () = gone.closed() => {}
            _ = self.write_all(watched) => {}
        }
    }

    async fn write_all(&self, watched: Vec<Watch>) -> Result<(), Gone> {
        self.begin().await?;
        let runs = 0..self.live.request.runs();
        let mut choices: Vec<ChoiceState> = runs.map(|_| ChoiceState::default()).collect();
        let mut updates = SelectAll::new();
        for (index, watch) in watched.into_iter().enumerate() {
            updates.push(events(watch.events).map(move |event| (index, event)).boxed());
            if let Some(text) = watch.text {
                updates.push(
                    tokens(text.tokens_so_far())
                        .map(move |more| (index, more))
                        .boxed(),
                );
                choices[index].text = Some(text);
            }
        }
        let finished = self.live.finished();
        tokio::pin!(finished);
        let finished = loop {
            let next = poll_fn(|cx| match updates.poll_next_unpin(cx) {
                // all runs are over: the reply is about to come
                Poll::Ready(None) => Poll::Pending,
                other => other,
            });
            tokio::select! {
                biased;
                Some((index, update)) = next => self.update(index, update, &mut choices[index]).await?,
                // after what happened on the way to it
                finished = &mut finished => break finished,
            }
        };
        match finished {
            Ok(finished) => self.finish(&finished, &mut choices).await,
            Err(error) => self.send(&error.body()).await,
        }
    }

    /// Says that there will be choices, and of how many traces.
    async fn begin(&self) -> Result<(), Gone> {
        if self.options.endpoint == Endpoint::Completion {
            return Ok(());
        }
        let request = &self.live.request;
        for index in 0..request.runs() {
            self.delta(
                index,
                Delta {
                    role: Some("assistant"),
                    content: Some(String::new()),
                    ..Delta::default()
                },
            )
            .await?;
            // not from an event: those may be dropped on the way
            if self.options.progress == Progress::Text && !request.is_lone() {
                self.reasoning(index, ProgressLines::first(request.solver.settings()))
                    .await?;
            }
        }
        Ok(())
    }

    /// Sends what is new of a choice, if its client is to see it.
    async fn update(&self, index: usize, update: Update, choice: &mut ChoiceState) -> Result<(), Gone> {
        match (update, &mut choice.text) {
            (Update::Event(event), _) => self.progress(index, &event, &mut choice.lines).await,
            (Update::Tokens, Some(text)) => {
                let delta = text.take(&self.app);
                self.text(index, delta).await
            }
            (Update::Tokens, None) => Ok(()),
        }
    }

    /// Sends how a choice's traces stand.
    async fn progress(&self, index: usize, event: &Event, lines: &mut ProgressLines) -> Result<(), Gone> {
        let request = &self.live.request;
        let is_chat = self.options.endpoint == Endpoint::Chat;
        match self.options.progress {
            Progress::Text if is_chat && !request.is_lone() => match lines.next(event) {
                Some(line) => self.reasoning(index, line).await,
                None => Ok(()),
            },
            Progress::Off | Progress::Text => Ok(()),
            Progress::Traces => {
                let tts = progress::object(index, event, request.solver.settings());
                self.send(&Completion {
                    tts: Some(tts),
                    ..self.chunk(Vec::new())
                })
                .await
            }
        }
    }

    /// Sends what is left of the choices, how they were made, and what they cost.
    async fn finish(&self, finished: &[Choice], choices: &mut [ChoiceState]) -> Result<(), Gone> {
        self.spent.set(&reply::usage(&self.live, finished));
        for (index, (choice, state)) in finished.iter().zip(choices).enumerate() {
            let rest = match &mut state.text {
                Some(text) => text.finish(&self.app, choice),
                None => choice.whole.clone(),
            };
            self.text(index, rest).await?;
            for (place, call) in reply::calls(&self.live, index, choice).into_iter().enumerate() {
                let call = openai::ToolCall {
                    index: Some(place),
                    ..call
                };
                let delta = Delta {
                    tool_calls: vec![call],
                    ..Delta::default()
                };
                self.delta(index, delta).await?;
            }
        }
        let end = |(index, choice): (usize, &Choice)| openai::Choice {
            finish_reason: Some(choice.finish_reason.into()),
            ..self.choice(index, TextDelta::default())
        };
        let mut last = self.chunk(finished.iter().enumerate().map(end).collect());
        last.tts = Some(reply::extras(finished));
        if self.options.progress == Progress::Traces {
            let traces: Vec<&[TraceSummary]> = finished.iter().map(|c| &c.traces[..]).collect();
            last.tts_traces = serde_json::to_value(traces).ok();
        }
        self.send(&last).await?;
        if self.options.include_usage {
            let usage = reply::usage(&self.live, finished);
            self.send(&Completion {
                usage: Some(Some(usage)),
                ..self.chunk(Vec::new())
            })
            .await?;
        }
        let done = sse::Event::default().data("[DONE]");
        self.send.send(done).await.map_err(|_| Gone)
    }

    /// Sends more of a choice's text, if there is any.
    async fn text(&self, index: usize, mut delta: TextDelta) -> Result<(), Gone> {
        if !delta.reasoning.is_empty() {
            self.reasoning(index, std::mem::take(&mut delta.reasoning))
                .await?;
        }
        if delta.content.is_empty() && delta.logprobs.is_none() {
            return Ok(());
        }
        self.send(&self.chunk(vec![self.choice(index, delta)])).await
    }

    /// A choice of a chunk that adds this to its content.
    fn choice(&self, index: usize, more: TextDelta) -> openai::Choice {
        let (delta, text) = match self.options.endpoint {
            Endpoint::Chat => {
                let content = Some(more.content).filter(|c| !c.is_empty() || more.logprobs.is_some());
                (
                    Some(Delta {
                        content,
                        ..Delta::default()
                    }),
                    None,
                )
            }
            Endpoint::Completion => (None, Some(more.content)),
        };
        openai::Choice {
            index,
            delta,
            text,
            logprobs: more.logprobs,
            ..openai::Choice::default()
        }
    }

    async fn reasoning(&self, index: usize, text: String) -> Result<(), Gone> {
        let delta = Delta {
            reasoning_content: Some(text),
            ..Delta::default()
        };
        self.delta(index, delta).await
    }

    async fn delta(&self, index: usize, delta: Delta) -> Result<(), Gone> {
        let choice = openai::Choice {
            index,
            delta: Some(delta),
            ..openai::Choice::default()
        };
        self.send(&self.chunk(vec![choice])).await
    }

    fn chunk(&self, choices: Vec<openai::Choice>) -> Completion {
        Completion {
            choices,
            usage: self.options.include_usage.then_some(None),
            ..self.head.clone()
        }
    }

    async fn send(&self, data: &(impl Serialize + Sync)) -> Result<(), Gone> {
        // strings, numbers and maps with names: all of them can be written
        let event = sse::Event::default().json_data(data).map_err(|_| Gone)?;
        self.send.send(event).await.map_err(|_| Gone)
    }
}
