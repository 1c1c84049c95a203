//! The settings that every Hugging Face tool shares, read from the environment.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::HubError;

/// Where files are looked for and fetched from.
#[derive(Clone)]
#[non_exhaustive]
pub struct HubOptions {
    /// The cache: `models--org--name` folders. HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub.
    pub cache: PathBuf,
    /// The hub. HF_ENDPOINT, else `https://huggingface.co`.
    pub endpoint: String,
    /// Sent to the endpoint and to nobody else. HF_TOKEN, else the file HF_TOKEN_PATH or HF_HOME/token.
    pub token: Option<String>,
    /// Never use the network. HF_HUB_OFFLINE.
    pub offline: bool,
    /// Longest wait for a connection, and longest silence on one. HF_HUB_DOWNLOAD_TIMEOUT in seconds, else 30
    /// s.
    pub timeout: Duration,
    /// How often in a row a fetch may fail without a byte gained before it is given up.
    pub retries: u32,
    /// Wait before the first repetition; doubles with each.
    pub backoff: Duration,
    /// Certificates to trust instead of the built-in ones, as PEM. REQUESTS_CA_BUNDLE, SSL_CERT_FILE.
    pub ca_bundle: Option<PathBuf>,
}

impl HubOptions {
    /// An empty environment with its cache at `cache`.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            cache: cache.into(),
            endpoint: "https://huggingface.co".to_owned(),
            token: None,
            offline: false,
            timeout: Duration::from_secs(30),
            retries: 5,
            backoff: Duration::from_millis(500),
            ca_bundle: None,
        }
    }

    /// Reads the environment of this process.
    ///
    /// # Errors
    /// [`HubError::NoCache`], [`HubError::BadSetting`] and [`HubError::BadToken`].
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// Reads an environment given as a function from name to value.
    ///
    /// # Errors
    /// As [`HubOptions::from_env`].
    pub fn from_variables(variable: impl Fn(&'static str) -> Option<String>) -> Result<Self, HubError> {
        let get = |name| {
            variable(name)
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let home = get("HOME").or_else(|| get("USERPROFILE")).map(PathBuf::from);
        let path = |name| get(name).map(|value| expand(&value, home.as_deref()));
        let hf_home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| home.as_ref().map(|home| home.join(".cache").join("huggingface")));
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| hf_home.as_ref().map(|home| home.join("hub")))
            .ok_or(HubError::NoCache)?;
        let mut options = Self::new(cache);
        if let Some(endpoint) = get("HF_ENDPOINT") {
            if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
                return Err(HubError::BadSetting {
                    name: "HF_ENDPOINT",
                    value: endpoint,
                    expected: "an address that begins with https:// or http://",
                });
            }
            options.endpoint = endpoint.trim_end_matches('/').to_owned();
        }
        if let Some(value) = get("HF_HUB_DOWNLOAD_TIMEOUT") {
            let seconds = value.parse().ok().filter(|&seconds: &u64| seconds > 0);
            options.timeout = Duration::from_secs(seconds.ok_or(HubError::BadSetting {
                name: "HF_HUB_DOWNLOAD_TIMEOUT",
                value,
                expected: "a whole number of seconds",
            })?);
        }
        options.offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
            .iter()
            .filter_map(|name| get(name))
            .any(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true"));
        let token_file = path("HF_TOKEN_PATH").or_else(|| hf_home.map(|home| home.join("token")));
        options.token = get("HF_TOKEN")
            .or_else(|| get("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| {
                let text = std::fs::read_to_string(token_file?).ok()?;
                Some(text.trim().to_owned()).filter(|token| !token.is_empty())
            });
        if options
            .token
            .as_ref()
            .is_some_and(|token| !token.chars().all(|c| c.is_ascii_graphic()))
        {
            return Err(HubError::BadToken);
        }
        options.ca_bundle = path("REQUESTS_CA_BUNDLE").or_else(|| path("SSL_CERT_FILE"));
        Ok(options)
    }
}

/// `~/x` is `x` in the home folder.
fn expand(value: &str, home: Option<&Path>) -> PathBuf {
    match (value.strip_prefix('~'), home) {
        (Some(""), Some(home)) => home.to_owned(),
        (Some(rest), Some(home)) if rest.starts_with(['/', '\\']) => home.join(&rest[1..]),
        _ => PathBuf::from(value),
    }
}

/// The token stays out of logs.
impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("offline", &self.offline)
            .field("timeout", &self.timeout)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}
