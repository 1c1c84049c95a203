//! Requests that run: a bounded number of them, each with the clients that wait for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use futures::future::join_all;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::choice::{Choice, choice, only_prompt};
use super::error::ApiError;
use super::metrics::Metrics;
use super::reply::ReplyIds;
use super::reply_cache::{self, ReplyCache};
use super::request::{ChatRequest, Endpoint};
use super::state::AppState;
use super::text::StreamedText;
use crate::run::{Control, Event, Observer, Request, TokenStream};
use crate::solver::{Prepared, deadline};

/// Events of a run that may wait for a client; a client that is later than that loses the oldest.
const EVENTS: usize = 256;

/// What a request came to.
pub(super) type Finished = Result<Arc<Vec<Choice>>, ApiError>;

/// A request that runs, as long as anybody waits for it; or one that ran, and its reply is kept.
pub(super) struct Live {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) endpoint: Endpoint,
    pub(super) request: Arc<ChatRequest>,
    /// The runs of its choices, while there are any.
    runs: Vec<Run>,
    done: watch::Receiver<Option<Finished>>,
}

/// The run of a choice.
#[derive(Clone)]
struct Run {
    events: broadcast::Sender<Event>,
    control: Arc<Control>,
}

/// What a client follows of a running choice.
pub(super) struct Watch {
    /// Progress from now on.
    pub(super) events: broadcast::Receiver<Event>,
    /// The text of a choice that is a single trace, from its beginning.
    pub(super) text: Option<StreamedText>,
}

impl Live {
    /// A client's view of each choice; with `details` every trace's confidence too. Nothing once they are
    /// over.
    pub(super) fn watch(&self, app: &AppState, details: bool) -> Vec<Watch> {
        let one = |(index, run): (usize, &Run)| {
            if details {
                run.control.details.store(true, Ordering::Relaxed);
            }
            let text = |stream: &TokenStream| {
                StreamedText::new(app, &self.request, self.endpoint, index, stream.read())
            };
            Watch {
                events: run.events.subscribe(),
                text: run.control.token_stream.as_ref().map(text),
            }
        };
        self.runs.iter().enumerate().map(one).collect()
    }

    /// The same request once it has come to this.
    fn over(&self, finished: Finished) -> Self {
        Self {
            id: self.id.clone(),
            created: self.created,
            endpoint: self.endpoint,
            request: self.request.clone(),
            runs: Vec::new(),
            done: watch::channel(Some(finished)).1,
        }
    }

    /// What it comes to.
    pub(super) async fn finished(&self) -> Finished {
        let mut done = self.done.clone();
        let gone = || ApiError::internal("the request was lost");
        let found = done.wait_for(Option::is_some).await.map_err(|_| gone())?;
        found.clone().ok_or_else(gone)?
    }
}

/// Nobody waits any more: its traces are free with the next step of the engine, and their tokens are counted.
impl Drop for Live {
    fn drop(&mut self) {
        for run in &self.runs {
            run.control.interrupted.cancel();
        }
    }
}

/// A request's name, where it has one, and what it asks.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) name: [u8; 32],
    pub(super) digest: [u8; 32],
}

/// Requests by name, each with what it asks: those that run, and those whose reply is kept.
#[derive(Default)]
struct Named {
    running: HashMap<[u8; 32], (Weak<Live>, [u8; 32])>,
    kept: ReplyCache<Arc<Live>>,
}

impl Named {
    /// The request of this name, if there is one. It must ask the same.
    fn find(&mut self, key: &Key) -> Result<Option<Arc<Live>>, ApiError> {
        let running = self.running.get(&key.name);
        let running = running.and_then(|(live, digest)| Some((live.upgrade()?, *digest)));
        match running.or_else(|| self.kept.get(&key.name, Instant::now())) {
            Some((_, digest)) if digest != key.digest => Err(ApiError::refused(
                axum::http::StatusCode::UNPROCESSABLE_ENTITY,
                "this Idempotency-Key belongs to a request that asked something else",
            )
            .with_code("idempotency_key_reused")),
            found => Ok(found.map(|(live, _)| live)),
        }
    }

    /// A request is over: its name is free again, or stands for its reply.
    fn end(&mut self, key: Key, done: &watch::Sender<Option<Finished>>, finished: &Finished) {
        let Some((live, _)) = self.running.get(&key.name) else {
            return;
        };
        let live = live.upgrade();
        // a request that was given up may have a successor of the same name
        if live
            .as_ref()
            .is_some_and(|l| !l.done.same_channel(&done.subscribe()))
        {
            return;
        }
        self.running.remove(&key.name);
        if let (Some(live), Ok(choices)) = (live, finished) {
            let bytes = live.request.bytes() + reply_cache::bytes(choices);
            self.kept
                .put(key, Arc::new(live.over(finished.clone())), bytes, Instant::now());
        }
    }
}

/// All requests that run, and the names of some that ran.
pub(super) struct Jobs {
    app: Arc<AppState>,
    metrics: Arc<Metrics>,
    ids: ReplyIds,
    places: Arc<Semaphore>,
    named: Mutex<Named>,
    draining: AtomicBool,
    /// cut what still runs: the time for draining is over
    hurry: CancellationToken,
}

impl Jobs {
    pub(super) fn new(app: Arc<AppState>, metrics: Arc<Metrics>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(app.limits.requests)),
            app,
            metrics,
            ids: ReplyIds::new(),
            named: Mutex::default(),
            draining: AtomicBool::new(false),
            hurry: CancellationToken::new(),
        }
    }

    /// Nothing new is begun any more.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// What runs is decided with the votes there are.
    pub(super) fn hurry(&self) {
        self.hurry.cancel();
    }

    /// Whether new requests are refused.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Refuses before a body is read what would be refused after it.
    pub(super) fn check_room(&self) -> Result<(), ApiError> {
        if self.is_draining() {
            return Err(ApiError::unavailable("the server is shutting down"));
        }
        if self.places.available_permits() == 0 {
            return Err(self.full());
        }
        Ok(())
    }

    fn full(&self) -> ApiError {
        let most = self.app.limits.requests;
        ApiError::busy(
            format!("{most} requests run or wait, which is as many as this server takes"),
            self.metrics.usual_seconds(),
        )
    }

    fn named(&self) -> MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request of this name, if it runs or its reply is kept.
    pub(super) fn join(&self, key: &Key) -> Result<Option<Arc<Live>>, ApiError> {
        self.named().find(key)
    }

    /// Begins a request, or joins the one of its name; `watch` is given it before anything happens in it.
    pub(super) fn start<W>(
        self: &Arc<Self>,
        request: ChatRequest,
        endpoint: Endpoint,
        key: Option<Key>,
        watch: impl FnOnce(&Live) -> W,
    ) -> Result<(Arc<Live>, W), ApiError> {
        if self.is_draining() {
            return Err(ApiError::unavailable("the server is shutting down"));
        }
        let runs = request.runs();
        let Ok(place) = self.places.clone().try_acquire_many_owned(runs as u32) else {
            return Err(self.full());
        };
        let (send, done) = watch::channel(None);
        let live = Arc::new(Live {
            id: self.ids.next(endpoint),
            created: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |d| d.as_secs()),
            endpoint,
            runs: (0..runs).map(|_| Run::of(&request)).collect(),
            request: Arc::new(request),
            done,
        });
        if let Some(key) = key {
            let mut named = self.named();
            // another of the same name was quicker
            if let Some(quicker) = named.find(&key)? {
                let watched = watch(&quicker);
                return Ok((quicker, watched));
            }
            named
                .running
                .insert(key.name, (Arc::downgrade(&live), key.digest));
        }
        let watched = watch(&live);
        let (jobs, request, of_choices) = (self.clone(), live.request.clone(), live.runs.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            jobs.metrics.begin(runs as u64);
            let finished = jobs.run(&request, endpoint, &of_choices).await;
            if let Some(key) = key {
                jobs.named().end(key, &send, &finished);
            }
            drop(place);
            jobs.metrics.end(runs as u64, began.elapsed());
            let _ = send.send(Some(finished));
        });
        Ok((live, watched))
    }

    /// Runs every choice, all in the one batch.
    async fn run(&self, request: &ChatRequest, endpoint: Endpoint, runs: &[Run]) -> Finished {
        let until = deadline(request.solver.settings().time_limit);
        let one = |i: usize| {
            let prompt = &request.prompts[i / request.n];
            let Run { events, control } = runs[i].clone();
            let hurry = self.hurry.clone();
            async move {
                let gone = || ApiError::internal("the request was given up");
                if request.max_tokens == Some(0) {
                    return tokio::select! {
                        choice = only_prompt(&self.app, request, endpoint, i) => choice,
                        () = control.interrupted.cancelled() => Err(gone()),
                    };
                }
                let run = Request {
                    seed: request.seed(i),
                    max_tokens: request.limit_of(prompt),
                    banned_ids: request.banned_ids.clone(),
                    grammar: request.grammar.clone(),
                    ..request.solver.request(prompt, setup(request, endpoint, prompt))
                };
                let observer = Observer {
                    deadline: until,
                    interrupt: hurry,
                    events: Some(events),
                    control: control.clone(),
                    ..Observer::default()
                };
                let outcome = request.solver.run(prompt, run, observer).await?;
                self.metrics.ran(&outcome);
                // nobody waits for it
                if control.interrupted.is_cancelled() && !self.hurry.is_cancelled() {
                    return Err(gone());
                }
                tokio::select! {
                    choice = choice(&self.app, request, endpoint, i, outcome) => choice,
                    () = control.interrupted.cancelled(), if !self.hurry.is_cancelled() => Err(gone()),
                }
            }
        };
        let choices: Vec<Result<Choice, ApiError>> = join_all((0..runs.len()).map(one)).await;
        choices.into_iter().collect::<Result<Vec<_>, _>>().map(Arc::new)
    }
}

impl Run {
    /// One that is about to begin. A trace that is alone can be read along: no vote may prefer another.
    fn of(request: &ChatRequest) -> Self {
        let token_stream = request
            .is_read_along()
            .then(|| TokenStream::new(request.logprobs.unwrap_or(0)));
        Self {
            events: broadcast::channel(EVENTS).0,
            control: Arc::new(Control {
                token_stream,
                ..Control::default()
            }),
        }
    }
}

fn setup(request: &ChatRequest, endpoint: Endpoint, prompt: &Prepared) -> crate::run::Setup {
    let mut setup = request.solver.setup(prompt, Vec::new(), Vec::new());
    let rules = Arc::make_mut(&mut setup.rules);
    rules.stop_texts.clone_from(&request.stops);
    rules.starts_in_thinking = prompt.prompt.ends_in_think;
    rules.raw = endpoint == Endpoint::Completion;
    setup
}
