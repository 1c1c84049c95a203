//! `tts` as a server: OpenAI's interface, answers that were voted on.
//!
//! How a request travels:
//! 1. [`connections`] accepts it: so many connections, each with a limit on its silence, both ways.
//! 2. [`auth`] looks at its key, its host and its origin.
//! 3. [`routes`] reads its body, up to a limit, and [`request`] makes settings and prompts of it. Whatever is
//!    not understood is refused: a field that is misspelt would otherwise change nothing.
//! 4. [`jobs`] gives it a place, or says when to come again. A request of the same name that runs is joined;
//!    the reply of one that ran is kept ([`reply_cache`]).
//! 5. The [`source`] of traces runs it: the engine in this process, in the one batch that all requests share,
//!    so that an answer depends on nothing but what was asked; or engines elsewhere, a stream a trace.
//! 6. [`choice`] takes the best trace and its [`text`], split into thinking and content; until then
//! [`stream`]
//!    shows how things stand ([`progress`]), or what a lone trace is writing.
//! 7. When the last client that waits for it is gone, its traces end with the engine's next step, and their
//!    streams are closed.

mod auth;
mod choice;
mod connections;
mod cors;
mod error;
mod fields;
mod formats;
mod jobs;
mod json;
mod logprobs;
mod messages;
mod metrics;
mod model_name;
mod page;
mod progress;
mod prompts;
mod reply;
mod reply_cache;
mod request;
mod request_log;
mod responses;
mod routes;
mod seeds;
mod settings;
mod source;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod tools;
mod unserved;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use auth::Keys;
pub use cors::Origins;
pub use request_log::RequestLog;
use state::AppState;

use crate::error::Error;
use crate::solver::{Settings, Solver};

/// Time for clients to take what was decided in a hurry.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How a server is reached, by whom, and how much it takes on.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// The model's name to the outside.
    pub name: String,
    /// The keys that open it. An address beyond this machine needs one.
    pub keys: Keys,
    /// How much it takes on.
    pub limits: Limits,
    /// The seed of requests that name none; a fresh one for each where `None`.
    pub seed: Option<u64>,
    /// What is done with fields that are not known.
    pub unknown_fields: UnknownFields,
    /// Pages of other sites that may ask.
    pub origins: Origins,
    /// Where a line for each request is written; nowhere where `None`.
    pub request_log: Option<RequestLog>,
}

/// What is done with a field of a request that this server does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownFields {
    /// The request is refused: a misspelt field would otherwise change nothing without a word.
    #[default]
    Refuse,
    /// It is passed over. What is known and would change the answer (tools, formats, parts that are no text)
    /// is refused all the same.
    Ignore,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            name: "model".to_owned(),
            keys: Keys::default(),
            limits: Limits::default(),
            seed: None,
            unknown_fields: UnknownFields::default(),
            origins: Origins::default(),
            request_log: None,
        }
    }
}

/// How much a server takes on. What its settings name besides (`max_tokens`, `max_total_tokens`,
/// `time_limit`) no request exceeds.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Tokens of a prompt.
    pub prompt: usize,
    /// Traces of a choice.
    pub traces: usize,
    /// Choices of a request.
    pub choices: usize,
    /// Choices that run or wait, of all requests.
    pub requests: usize,
    /// Connections that may be open at once.
    pub connections: usize,
    /// Time in which a request's head, then its body, must arrive, and in which a client must take something
    /// of what is written.
    pub patience: Duration,
    /// Time for running requests to end when the server is stopped; then they are decided with the votes
    /// there are.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 1 << 20,
            prompt: usize::MAX,
            traces: 512,
            choices: 16,
            requests: 256,
            connections: 512,
            patience: Duration::from_secs(30),
            drain: Duration::from_secs(60),
        }
    }
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<routes::ServerState>,
}

impl Server {
    /// Starts the engine, where the solver's traces come from one here, and listens.
    ///
    /// # Errors
    /// Settings that cannot be, an address beyond this machine without a key, an address that is taken.
    pub async fn bind(solver: Solver, options: Options) -> Result<Self, Error> {
        check(solver.settings(), &options)?;
        Self::listen(&options, || AppState::open(solver, &options)).await
    }

    async fn listen(options: &Options, app: impl FnOnce() -> Result<AppState, Error>) -> Result<Self, Error> {
        let failed = |error: std::io::Error| {
            Error::Setting(format!("{} cannot be listened on: {error}", options.address))
        };
        let listener = TcpListener::bind(options.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = Arc::new(routes::ServerState::new(app()?, options, address));
        Ok(Self {
            listener,
            address,
            state,
        })
    }

    /// The address and port that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is cancelled, then lets what runs come to its end.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, state, .. } = self;
        let limits = state.app.limits.clone();
        let draining = {
            let (state, stop) = (state.clone(), stop.clone());
            async move {
                stop.cancelled().await;
                state.jobs.drain();
            }
        };
        let router = routes::router(state.clone());
        let (open, ()) = tokio::join!(
            connections::serve(listener, router, &limits, &state.metrics, &stop),
            draining
        );
        tokio::pin!(open);
        if timeout(limits.drain, &mut open).await.is_err() {
            state.jobs.hurry();
            let _ = timeout(LAST_WORDS, open).await;
        }
    }
}

/// Refuses what would be open to all, or could never run.
fn check(settings: &Settings, options: &Options) -> Result<(), Error> {
    if !options.address.ip().is_loopback() && options.keys.is_empty() {
        return Err(Error::Setting(format!(
            "{} can be reached from other machines, and there is no API key: set TTS_API_KEY or \
             --api-key-file, or listen on 127.0.0.1",
            options.address
        )));
    }
    if options.origins.is_any() && options.keys.is_empty() {
        return Err(Error::Setting(
            "--cors * lets every page of the internet ask, and there is no API key: name the origins, or set \
             TTS_API_KEY or --api-key-file"
                .to_owned(),
        ));
    }
    if settings.traces > options.limits.traces {
        return Err(Error::Setting(format!(
            "--traces {} is more than --max-traces {} allows",
            settings.traces, options.limits.traces
        )));
    }
    Ok(())
}
