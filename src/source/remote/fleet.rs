//! The addresses that traces are asked of: who has room, who is down, and how long to wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use tokio::sync::Notify;

use super::caller::Caller;
use super::request::{Engine, SupportedFields};

/// Waits beyond this are told.
const WORTH_SAYING: Duration = Duration::from_secs(5);
/// Wait after the first failure; it doubles with every further one,
const BACKOFF: Duration = Duration::from_millis(500);
/// up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// An engine's address, and how it has answered so far.
pub(super) struct Endpoint {
    /// as the user named it
    pub(super) name: String,
    pub(super) chat: Url,
    pub(super) plain: Url,
    pub(super) engine: Engine,
    pub(super) fields: SupportedFields,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    in_flight: usize,
    /// failures without a success between
    failures: u32,
    down_until: Option<Instant>,
    tally: Tally,
}

/// What came of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Requests that brought a token.
    pub traces: u64,
    /// Streams that broke after one.
    pub broken: u64,
    /// Requests that brought none and were sent again.
    pub retried: u64,
}

impl Endpoint {
    pub(super) fn new(name: String, base: &Url, engine: Engine, fields: SupportedFields) -> Self {
        Self {
            name,
            chat: below(base, "chat/completions"),
            plain: below(base, "completions"),
            engine,
            fields,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tally(&self) -> Tally {
        self.state().tally
    }
}

/// An address below another.
pub(super) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// The addresses that share a run's requests.
pub(super) struct Fleet {
    pub(super) caller: Caller,
    pub(super) model: String,
    pub(super) endpoints: Vec<Endpoint>,
    /// requests in flight at each
    pub(super) in_flight: usize,
    freed: Notify,
}

impl Fleet {
    pub(super) fn new(
        caller: Caller,
        model: String,
        endpoints: Vec<Endpoint>,
        in_flight: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            caller,
            model,
            endpoints,
            in_flight,
            freed: Notify::new(),
        })
    }

    /// A slot at the address that has most room, as soon as there is one.
    pub(super) async fn acquire(self: &Arc<Self>) -> RequestSlot {
        loop {
            // listens before it looks, so that nothing that is freed between is missed
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            match self.free(Instant::now()) {
                Ok(index) => {
                    return RequestSlot {
                        fleet: self.clone(),
                        index,
                    };
                }
                Err(Some(up)) => {
                    tokio::select! {
                        () = freed => {}
                        () = tokio::time::sleep_until(up.into()) => {}
                    }
                }
                Err(None) => freed.await,
            }
        }
    }

    /// Takes the least loaded address that is up and has room; or says when the next one may be up again.
    fn free(&self, now: Instant) -> Result<usize, Option<Instant>> {
        let (mut best, mut next_up) = (None, None);
        for (i, endpoint) in self.endpoints.iter().enumerate() {
            let state = endpoint.state();
            if state.in_flight >= self.in_flight {
                continue;
            }
            match state.down_until.filter(|until| *until > now) {
                Some(until) => next_up = Some(next_up.map_or(until, |n: Instant| n.min(until))),
                None => {
                    let load = (state.in_flight, state.failures, state.tally.traces);
                    if best.is_none_or(|(least, _)| load < least) {
                        best = Some((load, i));
                    }
                }
            }
        }
        let (_, index) = best.ok_or(next_up)?;
        self.endpoints[index].state().in_flight += 1;
        Ok(index)
    }
}

/// Room for one request at an address, until it is dropped.
pub(super) struct RequestSlot {
    fleet: Arc<Fleet>,
    index: usize,
}

impl RequestSlot {
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.fleet.endpoints[self.index]
    }

    /// Counts a token that came: the engine is well again.
    pub(super) fn did_well(&self) {
        let mut state = self.endpoint().state();
        state.failures = 0;
        state.down_until = None;
        state.tally.traces += 1;
    }

    /// The request came to nothing, or its stream broke: the address is left alone for a while.
    pub(super) fn failed(&self, after: Option<Duration>, had_tokens: bool) {
        let mut state = self.endpoint().state();
        match had_tokens {
            true => state.tally.broken += 1,
            false => state.tally.retried += 1,
        }
        let now = Instant::now();
        // requests that fail together are one failure
        if state.down_until.is_none_or(|until| until <= now) {
            state.failures += 1;
        }
        if let Some(after) = after.filter(|after| *after > WORTH_SAYING) {
            let (seconds, name) = (after.as_secs(), &self.endpoint().name);
            tracing::warn!("{name} asks to be left alone for {seconds} s (Retry-After): traces wait for it");
        }
        let until = now + after.unwrap_or_else(|| backoff(state.failures));
        state.down_until = Some(state.down_until.map_or(until, |u| u.max(until)));
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        self.endpoint().state().in_flight -= 1;
        self.fleet.freed.notify_waiters();
    }
}

/// Time to wait after so many failures in a row.
pub(super) fn backoff(failures: u32) -> Duration {
    BACKOFF
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(LONGEST_BACKOFF)
}

/// Part of a time, so that requests that failed together do not come back together.
pub(super) fn jitter(time: Duration, salt: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let share = (RandomState::new().hash_one(salt) >> 11) as f64 / (1u64 << 53) as f64;
    time.mul_f64(0.5 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_and_ends_somewhere() {
        assert_eq!(backoff(1), Duration::from_millis(500));
        assert_eq!(backoff(3), Duration::from_secs(2));
        assert_eq!(backoff(u32::MAX), LONGEST_BACKOFF);
        assert!((0..100).all(|salt| jitter(BACKOFF, salt) <= BACKOFF / 2));
    }
}
