//! Traces from OpenAI-compatible servers: vLLM, SGLang, llama.cpp's server, Ollama, hosted ones.
//!
//! One streaming request a trace. Confidence is taken from the log-probabilities of the most likely tokens
//! that come with every token; before a trace is spent, an engine is asked for single tokens to see what it
//! gives. A trace that the strategy stops has its stream closed. Requests that bring nothing are sent again;
//! a stream that breaks after a token makes its trace a failed one, and the next trace of the budget takes
//! its place.
//!
//! ```text
//! caller    HTTP, and its failures      probe   what an engine gives
//! request   what an engine is asked     fleet   addresses, room at each, waiting
//! answer    what its events mean        trace   one request and its retries
//! drive     one problem, its streams, the order of arrival
//! ```

mod answer;
mod caller;
mod dialect;
mod drive;
mod fleet;
mod probe;
mod request;
mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;
use serde_json::{Value, json};
use tts_strategies::{Needs, Strategy};

use super::{Capabilities, Capacity, TraceSource};
use crate::engine::memory::MemoryPlan;
use crate::engine::scoring::ScoredToken;
use crate::error::Error;
use crate::fmt;
use crate::hub::is_loopback_host;
use crate::prompt::{Message, RenderOptions, Rendered};
use crate::run::{MachineInfo, Observer, Outcome, Request, RunError, TraceSettings, check_needs};
use caller::Caller;
pub use dialect::{Dialect, RemoteApi, Sample};
pub use fleet::Tally;
use fleet::{Fleet, below};
use probe::{ProbedEngine, Scalars};
use tts_model::sampling::TOP;

/// Timeouts of a request to an engine, and how often it is sent again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeouts {
    /// How long a connection may take to be made.
    pub connect: Duration,
    /// From the request to the first token, time in the engine's queue included.
    pub first_token: Duration,
    /// From one token to the next.
    pub idle: Duration,
    /// How often a request that brought nothing is sent again.
    pub retries: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_token: Duration::from_secs(600),
            idle: Duration::from_secs(120),
            retries: 8,
        }
    }
}

/// An API key; it prints as a placeholder.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key in the environment: TTS_BACKEND_API_KEY, else OPENAI_API_KEY.
    pub fn from_env() -> Option<Self> {
        let read = |name| {
            std::env::var(name)
                .ok()
                .map(|k| k.trim().to_owned())
                .filter(|k| !k.is_empty())
        };
        read("TTS_BACKEND_API_KEY")
            .or_else(|| read("OPENAI_API_KEY"))
            .map(Self)
    }
    fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[key]")
    }
}

/// Which engines, and how they are asked.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// Addresses of the engines, as `http://127.0.0.1:8000/v1`; at least one.
    pub backends: Vec<String>,
    /// The model's name there; the only one where `None`.
    pub model: Option<String>,
    /// The API key that every request carries; none where `None`.
    pub key: Option<ApiKey>,
    /// Most requests in flight at each address.
    pub in_flight: usize,
    /// Most likely tokens that confidence is taken over.
    pub confidence_k: usize,
    /// How long they are waited for.
    pub timeouts: Timeouts,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            backends: Vec::new(),
            model: None,
            key: None,
            in_flight: 64,
            confidence_k: TOP,
            timeouts: Timeouts::default(),
        }
    }
}

/// Engines that were asked what they give.
pub struct Remote {
    fleet: Arc<Fleet>,
    dialect: Dialect,
    confidence_k: usize,
    capabilities: Capabilities,
    /// what is missing for confidence, by address
    lacks: Vec<String>,
    engines: Vec<Value>,
    notices: Vec<String>,
    probe_tokens: u64,
}

impl Remote {
    /// Asks every address for single tokens of a request like those that follow. Addresses that do not answer
    /// are left out as long as one does.
    ///
    /// # Errors
    /// An address that is none, a model that is not there, no address that answers.
    pub async fn connect(options: &RemoteOptions, dialect: Dialect, sample: &Sample) -> Result<Self, Error> {
        let request = &dialect.asking(sample, None);
        let setting = |text: String| Error::Setting(text);
        if options.in_flight == 0 {
            return Err(setting(
                "--backend-in-flight 0 leaves nothing to run: it must be at least 1".to_owned(),
            ));
        }
        if !(1..=TOP).contains(&options.confidence_k) {
            return Err(setting(format!(
                "--confidence-k is {}; it must be between 1 and {TOP}",
                options.confidence_k
            )));
        }
        let mut addresses = Vec::new();
        for text in &options.backends {
            let base = address(text).map_err(setting)?;
            if addresses.iter().any(|(_, b)| *b == base) {
                return Err(setting(format!("--backend names {text} twice")));
            }
            addresses.push((text.trim_end_matches('/').to_owned(), base));
        }
        let direct = addresses.iter().all(|(_, base)| is_loopback(base));
        let plain = addresses.iter().all(|(_, base)| base.scheme() == "http");
        let caller = Caller::new(options.key.clone(), options.timeouts, direct, plain).map_err(setting)?;
        let ask = |(name, base): &(String, Url)| {
            let (caller, name, base) = (&caller, name.clone(), base.clone());
            async move {
                let found = probe::ask(
                    caller,
                    &name,
                    &base,
                    options.model.as_deref(),
                    request,
                    options.confidence_k,
                )
                .await;
                found.map_err(|why| format!("--backend {name}: {why}"))
            }
        };
        let answers = futures::future::join_all(addresses.iter().map(ask)).await;
        let (mut found, mut silent) = (Vec::new(), Vec::new());
        for answer in answers {
            match answer {
                Ok(f) => found.push(f),
                Err(why) => silent.push(why),
            }
        }
        if found.is_empty() {
            return Err(setting(silent.swap_remove(0)));
        }
        let mut notices: Vec<String> = silent
            .into_iter()
            .map(|why| format!("{why}; going on without it"))
            .collect();
        let beyond: Vec<_> = request::beyond_protocol().map(|s| s.name).collect();
        notices.extend(found.iter().filter(|f| f.left_out).map(|f| {
            format!(
                "--backend {}: it takes no {}; what the model recommends there is left out",
                f.endpoint.name,
                fmt::any_of(&beyond)
            )
        }));
        Self::of(caller, dialect, found, options, notices)
    }

    fn of(
        caller: Caller,
        dialect: Dialect,
        found: Vec<ProbedEngine>,
        options: &RemoteOptions,
        notices: Vec<String>,
    ) -> Result<Self, Error> {
        let model = found[0].model.clone();
        if let Some(other) = found.iter().find(|f| f.model != model) {
            return Err(Error::Setting(format!(
                "--backend {} has the model `{model}` and {} has `{}`: traces of one run come from one \
                 model; name it with --backend-model",
                found[0].endpoint.name, other.endpoint.name, other.model
            )));
        }
        let k = options.confidence_k;
        let lacks: Vec<String> = found
            .iter()
            .filter_map(|f| {
                Some(format!(
                    "{}: {}",
                    f.endpoint.name,
                    f.scalars.lack(f.endpoint.engine, k)?
                ))
            })
            .collect();
        let raw = |f: &ProbedEngine| matches!(f.scalars, Scalars::Raw | Scalars::Few(_));
        let engines = found
            .iter()
            .map(
                |f| json!({"url": f.endpoint.name, "engine": f.endpoint.engine.name(), "version": f.version}),
            )
            .collect();
        Ok(Self {
            confidence_k: k,
            capabilities: Capabilities {
                scalars: Needs {
                    forks: false,
                    looks: true,
                    confidence: found.iter().all(|f| f.scalars == Scalars::Raw),
                    logprob: found.iter().all(raw),
                    self_certainty: false,
                    // confidences are means of just these
                    entropy: k == TOP && found.iter().all(|f| f.scalars == Scalars::Raw),
                },
                prompter: dialect.prompter.clone(),
                vocabulary: None,
                context: found.iter().filter_map(|f| f.context).min(),
                stop_ids: Vec::new(),
                gives_ids: false,
                forcing: false,
                forks: false,
                settles_sampling: false,
                own_template: dialect.api == RemoteApi::Chat,
            },
            dialect,
            lacks,
            engines,
            notices,
            probe_tokens: found.iter().map(|f| f.tokens).sum(),
            fleet: Fleet::new(
                caller,
                model,
                found.into_iter().map(|f| f.endpoint).collect(),
                options.in_flight,
            ),
        })
    }

    /// How engines are spoken to.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }
    /// Requests that may be in flight at all addresses together.
    pub fn in_flight(&self) -> usize {
        self.fleet.in_flight * self.fleet.endpoints.len()
    }
    /// Most likely tokens that confidence is taken over; nothing where it cannot be had.
    pub fn confidence_k(&self) -> Option<usize> {
        self.capabilities.scalars.confidence.then_some(self.confidence_k)
    }
    /// What the user should know of the engines.
    pub fn notices(&self) -> impl Iterator<Item = String> + '_ {
        let lacks = self.lacks.iter().map(|lack| format!("--backend {lack}"));
        self.notices.iter().cloned().chain(lacks)
    }
    /// The engines, and what the questions to them cost.
    pub fn about(&self) -> Value {
        json!({
            "backends": self.engines, "in_flight": self.fleet.in_flight, "probe_tokens": self.probe_tokens
        })
    }
    /// What came of each address so far, by its name.
    pub fn tallies(&self) -> Vec<(String, Tally)> {
        self.fleet
            .endpoints
            .iter()
            .map(|e| (e.name.clone(), e.tally()))
            .collect()
    }

    /// Refuses a strategy that reads what the engines do not give, and says what would change that.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn check(&self, strategy: &dyn Strategy) -> Result<(), Error> {
        match check_needs(strategy, self.capabilities.scalars) {
            Err(error) if !self.lacks.is_empty() => {
                Err(Error::Setting(format!("{error}: {}", self.lacks.join("; "))))
            }
            other => Ok(other?),
        }
    }
}

#[async_trait]
impl TraceSource for Remote {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn model(&self) -> &str {
        &self.fleet.model
    }

    fn fingerprint(&self) -> String {
        blake3::hash(self.fleet.model.as_bytes()).to_hex().to_string()
    }

    fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<Rendered, Error> {
        self.dialect.render(messages, options)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        match &self.dialect.prompter {
            Some(prompter) => Ok(prompter.encode_raw(text)?),
            None => Ok(Vec::new()),
        }
    }

    fn capacity(&self, _prompt: usize, _max_tokens: usize) -> Capacity {
        Capacity::Streams(self.in_flight())
    }

    fn start(&self, _plan: MemoryPlan) -> Result<(), Error> {
        Ok(())
    }

    /// Runs one problem, a stream for each of its traces.
    async fn run(&self, request: Request, observer: Observer) -> Result<Outcome, RunError> {
        check_needs(request.setup.strategy.as_ref(), self.capabilities.scalars)?;
        let room = self.capabilities.context.map(|_| request.setup.rules.max_tokens);
        let asked = self.dialect.asking(&Sample::of(&request), room);
        let k = self.capabilities.scalars.logprob.then_some(self.confidence_k);
        drive::run(self.fleet.clone(), request, observer, asked, k).await
    }

    async fn score(
        &self,
        _ids: Vec<u32>,
        _from: usize,
        _k: usize,
    ) -> Result<Option<Vec<ScoredToken>>, RunError> {
        Ok(None)
    }

    /// Addresses are not among it: the same model at another address gives the same traces.
    fn describe(&self, settings: TraceSettings) -> TraceSettings {
        TraceSettings {
            source: TraceSettings::remote().source,
            backend_model: Some(self.fleet.model.clone()),
            backend_api: Some(self.dialect.api.name().to_owned()),
            confidence_k: self.confidence_k(),
            recommended: Some(self.dialect.recommended),
            ..settings
        }
    }

    fn machine(&self, so_far: bool) -> MachineInfo {
        let mut about = self.about();
        if let (true, Some(about)) = (so_far, about.as_object_mut()) {
            let tallies: BTreeMap<_, _> = self.tallies().into_iter().collect();
            about.insert("tallies".to_owned(), json!(tallies));
        }
        serde_json::from_value(about).unwrap_or_default()
    }
}

/// The base of an engine's addresses.
fn address(text: &str) -> Result<Url, String> {
    let wrong = |what: &str| {
        format!(
            "--backend `{}` {what}; it is an address as http://127.0.0.1:8000/v1",
            shown(text)
        )
    };
    let url = Url::parse(text).map_err(|_| wrong("is no address"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("is no http or https address"));
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(wrong(
            "holds more than host and path; a key goes into the variable TTS_BACKEND_API_KEY",
        ));
    }
    // the path that all of them have
    Ok(match url.path() {
        "/" => below(&url, "v1"),
        _ => url,
    })
}

/// What of an address may be printed: nothing that may be a key.
fn shown(text: &str) -> &str {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    text.rsplit_once('@').map_or(text, |(_, host)| host)
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_hold_no_secret() {
        assert_eq!(
            address("http://127.0.0.1:8000").unwrap().as_str(),
            "http://127.0.0.1:8000/v1"
        );
        assert_eq!(
            address("https://example.com/api/v1/").unwrap().as_str(),
            "https://example.com/api/v1/"
        );
        assert_eq!(
            below(&address("http://h/v1/").unwrap(), "models").as_str(),
            "http://h/v1/models"
        );
        for wrong in [
            "127.0.0.1:8000",
            "ftp://x/v1",
            "http://",
            "",
            "http://me:secret@h/v1",
            "http://h/v1?key=secret",
            "http://h/#secret",
        ] {
            let error = address(wrong).expect_err(wrong);
            assert!(
                error.contains("--backend") && !error.contains("secret"),
                "{error}"
            );
        }
        assert_eq!(format!("{:?}", ApiKey("secret".to_owned())), "[key]");
        assert!(
            is_loopback(&address("http://localhost:1/v1").unwrap())
                && is_loopback(&address("http://[::1]:1/v1").unwrap())
        );
        assert!(!is_loopback(&address("http://10.0.0.1:1/v1").unwrap()));
    }
}
