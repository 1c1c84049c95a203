//! HTTP as the hub speaks it: redirects followed by hand, the token shown to the endpoint alone.

use std::sync::Arc;
use std::time::Duration;

use ureq::http::{HeaderMap, Request, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::{HubError, HubOptions, Repo};

const MAX_REDIRECTS: usize = 10;
/// Longest answer that is read into memory (lists, indexes), in bytes.
const MAX_TEXT: u64 = 64 << 20;

/// A connection to one hub.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// Why a request did not give what was asked for.
pub(super) enum Failure {
    /// It may go better next time, after at least this long if the hub said so.
    Transient(String, Option<Duration>),
    /// Whatever is asked there, it will not: nothing was said to an address that is not trusted.
    Lasting(String),
    /// It will not work however often it is tried.
    Final(HubError),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

/// An answer with status 200, 206 or 416.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

/// What the hub says about a file without sending it.
#[derive(Debug, Default)]
pub(super) struct FileFacts {
    /// Names the blob: sha256 of a large file, git's hash of a small one.
    pub(super) etag: Option<String>,
    pub(super) size: Option<u64>,
}

impl Client {
    pub(super) fn new(options: &HubOptions) -> Result<Self, HubError> {
        let mut config = Agent::config_builder()
            .user_agent(concat!("tts/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_resolve(Some(options.timeout))
            .timeout_connect(Some(options.timeout))
            .timeout_send_request(Some(options.timeout))
            .timeout_recv_response(Some(options.timeout))
            .timeout_per_read(Some(options.timeout));
        if origin(&options.endpoint).is_some_and(|(_, host, _)| is_loopback_host(&host)) {
            config = config.proxy(None);
        }
        if let Some(path) = &options.ca_bundle {
            let pem = tts_model::files::read_bounded(path, 16 << 20)
                .map_err(|error| HubError::io(path, "read", error))?;
            let certificates = parse_pem(&pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            let roots = RootCerts::Specific(Arc::new(certificates.collect()));
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        let endpoint = options.endpoint.trim_end_matches('/').to_owned();
        Ok(Self {
            agent: config.build().into(),
            endpoint,
            token: options.token.clone(),
        })
    }

    /// The hub's address as errors show it: without what stands before an `@`.
    pub(super) fn endpoint(&self) -> String {
        match (self.endpoint.split_once("://"), self.endpoint.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            _ => self.endpoint.clone(),
        }
    }

    /// The text at `path` below the endpoint.
    pub(super) fn text(&self, path: &str, repo: &Repo) -> Result<String, Failure> {
        let url = format!("{}{path}", self.endpoint);
        let mut answer = self.get(&url, None, repo, None)?;
        let text = answer.body.with_config().limit(MAX_TEXT).read_to_string();
        text.map_err(|error| Failure::Transient(describe(&error), None))
    }

    /// Asks about a file. Where the hub keeps it elsewhere, its answer is still the hub's own.
    pub(super) fn facts(&self, path: &str, repo: &Repo, file: &str) -> Result<FileFacts, Failure> {
        let mut url = format!("{}{path}", self.endpoint);
        for _ in 0..MAX_REDIRECTS {
            let answer = self.send("HEAD", &url, None)?;
            let header = |name: &str| text_header(&answer.headers, name);
            let linked = header("x-linked-etag");
            let redirect = is_redirect(answer.status);
            if redirect && linked.is_none() {
                url = self.next(&url, &answer, repo)?;
                continue;
            }
            if !redirect {
                self.check(&answer, repo, Some(file))?;
            }
            let own = (!redirect).then(|| header("content-length")).flatten();
            let size = header("x-linked-size").or(own).and_then(|size| size.parse().ok());
            let etag = linked.or_else(|| header("etag")).and_then(clean_etag);
            return Ok(FileFacts { etag, size });
        }
        Err(self.bad_answer(repo, "too many redirects").into())
    }

    /// Opens a file, from byte `from` if given. Only 200, 206 and 416 come back as answers.
    pub(super) fn open(
        &self,
        path: &str,
        from: Option<u64>,
        repo: &Repo,
        file: &str,
    ) -> Result<Answer, Failure> {
        self.get(&format!("{}{path}", self.endpoint), from, repo, Some(file))
    }

    fn get(&self, url: &str, from: Option<u64>, repo: &Repo, file: Option<&str>) -> Result<Answer, Failure> {
        let mut url = url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let answer = self.send("GET", &url, from)?;
            if is_redirect(answer.status) {
                url = self.next(&url, &answer, repo)?;
                continue;
            }
            if !(answer.status == 416 && from.is_some()) {
                self.check(&answer, repo, file)?;
            }
            return Ok(answer);
        }
        Err(self.bad_answer(repo, "too many redirects").into())
    }

    /// One request. The token goes along if the address is on the endpoint's own scheme, host and port.
    fn send(&self, method: &str, url: &str, from: Option<u64>) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method).uri(url);
        if let Some(token) = self
            .token
            .as_ref()
            .filter(|_| origin(url) == origin(&self.endpoint))
        {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(from) = from {
            request = request.header("range", format!("bytes={from}-"));
        }
        let request = request
            .body(())
            .map_err(|_| Failure::Transient("it named an address that is none".to_owned(), None))?;
        let response = self.agent.run(request).map_err(|error| {
            if is_tls(&error) || is_unresolved(&error) {
                Failure::Lasting(describe(&error))
            } else {
                Failure::Transient(describe(&error), None)
            }
        })?;
        let (head, body) = response.into_parts();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }

    /// Where a redirect leads. From https it leads to https only.
    fn next(&self, url: &str, answer: &Answer, repo: &Repo) -> Result<String, HubError> {
        let target = text_header(&answer.headers, "location")
            .and_then(|location| resolve_location(url, &location))
            .ok_or_else(|| self.bad_answer(repo, "a redirect leads nowhere"))?;
        if url.starts_with("https://") && !target.starts_with("https://") {
            return Err(self.bad_answer(repo, "a redirect leaves https"));
        }
        Ok(target)
    }

    fn bad_answer(&self, repo: &Repo, reason: &str) -> HubError {
        HubError::BadAnswer {
            repo: repo.to_string(),
            endpoint: self.endpoint(),
            reason: reason.to_owned(),
        }
    }

    /// Turns a status that is no success into what it means on a hub.
    fn check(&self, answer: &Answer, repo: &Repo, file: Option<&str>) -> Result<(), Failure> {
        let status = answer.status;
        if (200..300).contains(&status) {
            return Ok(());
        }
        let code = text_header(&answer.headers, "x-error-code").unwrap_or_default();
        let name = repo.to_string();
        let (endpoint, page) = (self.endpoint(), repo.page());
        let no_repo = HubError::NoSuchRepo {
            repo: name.clone(),
            endpoint: endpoint.clone(),
        };
        let error = match (status, code.as_str(), file) {
            (401 | 404, "RepoNotFound", _) => no_repo,
            (401, ..) if self.token.is_none() => HubError::NeedsToken {
                repo: name,
                endpoint,
                page,
            },
            (403, "GatedRepo", _) if self.token.is_none() => HubError::NeedsToken {
                repo: name,
                endpoint,
                page,
            },
            (401 | 403, ..) => HubError::TokenRefused {
                repo: name,
                endpoint,
                page,
            },
            (404, "RevisionNotFound", _) => HubError::NoSuchRevision {
                repo: name,
                revision: repo.revision.clone(),
            },
            (404, _, Some(file)) => HubError::NoSuchFile {
                repo: name,
                file: file.to_owned(),
            },
            (404, ..) => no_repo,
            (408 | 429 | 500..=599, ..) => {
                let wait = text_header(&answer.headers, "retry-after");
                let wait = wait
                    .and_then(|seconds| seconds.parse().ok())
                    .map(Duration::from_secs);
                let reason = match status {
                    429 => "it asks for fewer requests (429)".to_owned(),
                    _ => format!("it answered {status}"),
                };
                return Err(Failure::Transient(reason, wait));
            }
            _ => HubError::Status {
                endpoint,
                status,
                what: file.map_or(name.clone(), |file| format!("{file} of {name}")),
                advice: "check HF_ENDPOINT and the name",
            },
        };
        Err(error.into())
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

pub(super) fn text_header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

/// An ETag as a file name: no weakness mark, no quotes, nothing but letters, digits, `-` and `_`.
fn clean_etag(etag: String) -> Option<String> {
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (!etag.is_empty() && etag.len() <= 128 && etag.chars().all(plain)).then(|| etag.to_owned())
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// Whether a host, without a port, is a name or an address of this machine for itself.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// The address that `location` means at `url`.
fn resolve_location(url: &str, location: &str) -> Option<String> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.to_owned());
    }
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?']).next()?;
    if let Some(other) = location.strip_prefix("//") {
        return Some(format!("{scheme}://{other}"));
    }
    if location.starts_with('/') {
        return Some(format!("{scheme}://{host}{location}"));
    }
    if location.is_empty() || location.contains("://") {
        return None;
    }
    let path = rest.split('?').next()?;
    let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
    Some(format!("{scheme}://{folder}/{location}"))
}

/// What happened, in words that hold no address: a redirect's may be signed.
pub(super) fn describe(error: &ureq::Error) -> String {
    use ureq::Error;
    if is_tls(error) {
        return "no trusted connection could be made (for a company's own certificates set SSL_CERT_FILE)"
            .to_owned();
    }
    match error {
        Error::Timeout(_) => "it did not answer in time".to_owned(),
        Error::HostNotFound => "there is no such host, or no network".to_owned(),
        Error::ConnectionFailed => "no connection could be made".to_owned(),
        Error::Io(source) => describe_io(source),
        Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => "the proxy refused".to_owned(),
        Error::Protocol(_) => "its answer is not HTTP".to_owned(),
        _ => "the request failed".to_owned(),
    }
}

/// Whether the name of a host has no address here: another try a second later will not find one.
fn is_unresolved(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound => true,
        ureq::Error::Io(source) => is_lookup(source),
        _ => false,
    }
}

/// Whether an error is of looking up a name: systems give it no kind of its own.
fn is_lookup(error: &std::io::Error) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    [
        "lookup address",
        "name resolution",
        "name or service",
        "nodename",
        "no such host",
    ]
    .iter()
    .any(|part| text.contains(part))
}

/// Whether no connection was made because the other end could not show who it is.
fn is_tls(error: &ureq::Error) -> bool {
    use ureq::Error;
    match error {
        Error::Tls(_) | Error::Rustls(_) | Error::Pem(_) => true,
        Error::Io(source) => source.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
        _ => false,
    }
}

pub(super) fn describe_io(error: &std::io::Error) -> String {
    if let Some(inner) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<ureq::Error>())
    {
        return describe(inner);
    }
    use std::io::ErrorKind;
    if is_lookup(error) {
        return "its name could not be looked up: there is no such host, or no network".to_owned();
    }
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            "the connection was cut".to_owned()
        }
        ErrorKind::ConnectionRefused => "nothing answers at that address".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "it did not answer in time".to_owned(),
        ErrorKind::Other => "the request failed".to_owned(),
        // a kind that the library does not name has the system's own words
        _ => error
            .to_string()
            .split(" (os error")
            .next()
            .unwrap_or_default()
            .to_lowercase(),
    }
}

/// Percent-encodes a part of an address; `/` stays if `keep_slash`.
pub(super) fn quote(text: &str, keep_slash: bool) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        if plain || (byte == b'/' && keep_slash) {
            quoted.push(byte.into());
        } else {
            quoted.push_str(&format!("%{byte:02X}"));
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_network_has_words() {
        let lookup = std::io::Error::other("failed to lookup address information: Name or service not known");
        let cases = [
            (lookup, "no such host, or no network"),
            (std::io::ErrorKind::ConnectionRefused.into(), "nothing answers"),
            (std::io::ErrorKind::ConnectionReset.into(), "cut"),
            (std::io::ErrorKind::UnexpectedEof.into(), "cut"),
            (std::io::ErrorKind::TimedOut.into(), "in time"),
            (std::io::Error::other("odd"), "the request failed"),
        ];
        for (error, words) in cases {
            let said = describe_io(&error);
            assert!(said.contains(words), "{error}: {said}");
        }
        #[cfg(target_os = "linux")]
        for (code, words) in [
            (101, "network is unreachable"),
            (113, "no route to host"),
            (24, "too many open files"),
        ] {
            assert_eq!(describe_io(&std::io::Error::from_raw_os_error(code)), words);
        }
    }
}
