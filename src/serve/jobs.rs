//! Requests that run: a bounded number of them, each with the clients that wait for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use futures::future::join_all;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::ask::{Asked, Endpoint};
use super::choice::{Choice, choice};
use super::error::ApiError;
use super::house::House;
use super::metrics::Metrics;
use crate::backend::{Event, Job};
use crate::engine::scheduler::Control;
use crate::error::Error;
use crate::runner::{Prepared, deadline};

/// Events of a run that may wait for a client; a client that is later than that loses the oldest.
const EVENTS: usize = 256;

/// What a request came to.
pub(super) type Finished = Result<Arc<Vec<Choice>>, ApiError>;

/// A request that runs, as long as anybody waits for it.
pub(super) struct Live {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
    pub(super) strategy: String,
    /// Traces of each choice, at most.
    pub(super) traces: usize,
    pub(super) prompts: usize,
    /// Progress of each choice.
    events: Vec<broadcast::Sender<Event>>,
    controls: Vec<Arc<Control>>,
    done: watch::Receiver<Option<Finished>>,
}

impl Live {
    /// Progress of each choice from now on; with `details` every trace's confidence too.
    pub(super) fn watch(&self, details: bool) -> Vec<broadcast::Receiver<Event>> {
        if details {
            for control in &self.controls {
                control.details.store(true, Ordering::Relaxed);
            }
        }
        self.events.iter().map(broadcast::Sender::subscribe).collect()
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
        for control in &self.controls {
            control.interrupted.cancel();
        }
    }
}

/// A request's name, where it has one, and what it asks.
pub(super) struct Key {
    pub(super) name: [u8; 32],
    pub(super) asked: [u8; 32],
}

/// Requests by name, each with what it asks.
type Named = HashMap<[u8; 32], (Weak<Live>, [u8; 32])>;

/// All requests that run.
pub(super) struct Jobs {
    house: Arc<House>,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    named: Mutex<Named>,
    draining: AtomicBool,
    /// cut what still runs: the time for draining is over
    hurry: CancellationToken,
}

impl Jobs {
    pub(super) fn new(house: Arc<House>, metrics: Arc<Metrics>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(house.limits.requests)),
            house,
            metrics,
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
        let most = self.house.limits.requests;
        ApiError::busy(
            format!("{most} requests run or wait, which is as many as this server takes"),
            self.metrics.usual_seconds(),
        )
    }

    fn named(&self) -> MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request of this name, if it runs.
    pub(super) fn join(&self, key: &Key) -> Result<Option<Arc<Live>>, ApiError> {
        let found = self
            .named()
            .get(&key.name)
            .and_then(|(live, asked)| Some((live.upgrade()?, *asked)));
        match found {
            Some((_, asked)) if asked != key.asked => Err(ApiError::refused(
                axum::http::StatusCode::UNPROCESSABLE_ENTITY,
                "this Idempotency-Key belongs to another request that is running",
            )
            .with_code("idempotency_key_reused")),
            found => Ok(found.map(|f| f.0)),
        }
    }

    /// Begins a request, or joins the one of its name; `watch` is given it before anything happens in it.
    pub(super) fn start<W>(
        self: &Arc<Self>,
        asked: Asked,
        endpoint: Endpoint,
        key: Option<Key>,
        watch: impl FnOnce(&Live) -> W,
    ) -> Result<(Arc<Live>, W), ApiError> {
        if self.is_draining() {
            return Err(ApiError::unavailable("the server is shutting down"));
        }
        let runs = asked.runs();
        let Ok(place) = self.places.clone().try_acquire_many_owned(runs as u32) else {
            return Err(self.full());
        };
        let (send, done) = watch::channel(None);
        let live = Arc::new(Live {
            id: self.metrics.next_id(match endpoint {
                Endpoint::Chat => "chatcmpl",
                Endpoint::Completion => "cmpl",
            }),
            created: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |d| d.as_secs()),
            endpoint,
            model: asked.model.clone(),
            strategy: asked.runner.settings().strategy.name.clone(),
            traces: asked.runner.settings().traces,
            prompts: asked.prompts.len(),
            events: (0..runs).map(|_| broadcast::channel(EVENTS).0).collect(),
            controls: (0..runs).map(|_| Arc::default()).collect(),
            done,
        });
        let (events, controls) = (live.events.clone(), live.controls.clone());
        let name = key.as_ref().map(|key| key.name);
        if let Some(key) = key {
            let mut named = self.named();
            // another of the same name was quicker
            if let Some((quicker, same)) = named
                .get(&key.name)
                .and_then(|(l, asked)| Some((l.upgrade()?, *asked == key.asked)))
                && same
            {
                let watched = watch(&quicker);
                return Ok((quicker, watched));
            }
            named.insert(key.name, (Arc::downgrade(&live), key.asked));
        }
        let watched = watch(&live);
        let jobs = self.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            jobs.metrics.begin(runs as u64);
            let finished = jobs.run(&asked, endpoint, &events, &controls).await;
            if let Some(name) = name {
                let mut named = jobs.named();
                // a request that was given up may have a successor of the same name
                if named
                    .get(&name)
                    .is_some_and(|(live, _)| live.upgrade().is_none_or(|l| l.done.same_channel(&send.subscribe())))
                {
                    named.remove(&name);
                }
            }
            drop(place);
            jobs.metrics.end(runs as u64, began.elapsed());
            let _ = send.send(Some(finished));
        });
        Ok((live, watched))
    }

    /// Runs every choice, all in the one batch.
    async fn run(&self, asked: &Asked, endpoint: Endpoint, events: &[broadcast::Sender<Event>], controls: &[Arc<Control>]) -> Finished {
        let until = deadline(asked.runner.settings().time_limit);
        let one = |i: usize| {
            let prompt = &asked.prompts[i / asked.n];
            let control = controls[i].clone();
            let hurry = self.hurry.clone();
            let events = events[i].clone();
            async move {
                let seed = asked.runner.settings().seed.wrapping_add((i % asked.n) as u64);
                let setup = setup(asked, prompt)?;
                let job = Job {
                    setup,
                    prompt: prompt.prompt.ids.clone(),
                    sampling: asked.runner.sampling().unwrap_or_default(),
                    seed,
                    held: asked.held.clone(),
                    deadline: until,
                    interrupt: hurry,
                    events: Some(events),
                    records: None,
                    checkpoint: None,
                };
                let outcome = asked.runner.run(prompt, job, control.clone()).await?;
                self.metrics.ran(&outcome);
                // nobody waits for it
                if control.interrupted.is_cancelled() && !self.hurry.is_cancelled() {
                    return Err(ApiError::internal("the request was given up"));
                }
                choice(&self.house, asked, endpoint, prompt, outcome).await
            }
        };
        let choices: Vec<Result<Choice, ApiError>> = join_all((0..asked.runs()).map(one)).await;
        choices.into_iter().collect::<Result<Vec<_>, _>>().map(Arc::new)
    }
}

fn setup(asked: &Asked, prompt: &Prepared) -> Result<crate::solve::Setup, Error> {
    let mut setup = asked.runner.setup(prompt)?;
    let rules = Arc::make_mut(&mut setup.rules);
    rules.stop_texts.clone_from(&asked.stops);
    rules.starts_in_thinking = prompt.prompt.ends_in_think;
    Ok(setup)
}
