//! The HTTP client that speaks to all engines, and why a request came to nothing.

use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;

use super::{ApiKey, Timeouts};
use crate::openai::{RequestBody, error_message, shortened};

/// An engine that asks for more is not waited for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);
/// Bytes of an answer that is no stream, and of an error's.
const ANSWER: usize = 16 << 20;
const ERROR: usize = 64 << 10;

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum RequestError {
    /// Another try may do better, after this time if the engine names one.
    Again { why: String, after: Option<Duration> },
    /// The request itself is refused, with this status.
    Refused { status: u16, why: String },
}

/// The client that speaks to all of them.
pub(super) struct Caller {
    client: Client,
    key: Option<ApiKey>,
    pub(super) timeouts: Timeouts,
}

impl Caller {
    /// # Errors
    /// When the key is no header, or no TLS can be set up. Addresses that are all on this machine are spoken
    /// to `direct`ly, and ones without TLS are `plain`.
    pub(super) fn new(
        key: Option<ApiKey>,
        timeouts: Timeouts,
        direct: bool,
        plain: bool,
    ) -> Result<Self, String> {
        // refused where another part of the program has set one: any will do
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        if let Some(key) = &key {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.text())).map_err(|_| {
                "the API key in the environment has characters that no header may have".to_owned()
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut builder = Client::builder()
            .default_headers(headers)
            .connect_timeout(timeouts.connect)
            // a key goes to the address that was named and nowhere else
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tts/", env!("CARGO_PKG_VERSION")));
        if direct {
            builder = builder.no_proxy();
        }
        if plain {
            // a machine without certificates has no need of them then
            builder = builder.tls_certs_only([]);
        }
        let client = builder
            .build()
            .map_err(|e| format!("no HTTP client can be set up: {e}"))?;
        Ok(Self {
            client,
            key,
            timeouts,
        })
    }

    /// A text that may have come from an engine, without the key.
    pub(super) fn redacted(&self, text: String) -> String {
        match &self.key {
            Some(key) => text.replace(key.text(), "[key]"),
            None => text,
        }
    }

    pub(super) async fn get(&self, url: &Url) -> Result<Value, RequestError> {
        let timeout = self.timeouts.connect * 3;
        let response = self
            .answered(self.client.get(url.clone()).send(), timeout)
            .await?;
        let bytes = beginning(response, ANSWER, timeout).await;
        serde_json::from_slice(&bytes).map_err(|_| RequestError::Again {
            why: "it answered with no JSON".to_owned(),
            after: None,
        })
    }

    /// Sends a request; the answer's body is still to be read.
    pub(super) async fn post(&self, url: &Url, body: &RequestBody<'_>) -> Result<Response, RequestError> {
        let request = self
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(body).expect("strings and numbers alone"));
        self.answered(request.send(), self.timeouts.first_token).await
    }

    async fn answered(
        &self,
        send: impl Future<Output = reqwest::Result<Response>>,
        timeout: Duration,
    ) -> Result<Response, RequestError> {
        let response = match tokio::time::timeout(timeout, send).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.again(&error)),
            Err(_) => {
                return Err(RequestError::Again {
                    why: format!("it did not answer within {} s", timeout.as_secs_f64()),
                    after: None,
                });
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|v| retry_after(v.to_str().ok()?));
        let why = self.redacted(format!("{status}: {}", error_body(response).await));
        Err(match may_pass(status) {
            true => RequestError::Again { why, after },
            false => RequestError::Refused {
                status: status.as_u16(),
                why,
            },
        })
    }

    pub(super) fn again(&self, error: &reqwest::Error) -> RequestError {
        RequestError::Again {
            why: self.broken(error),
            after: None,
        }
    }

    /// What is wrong, without the address: the caller names it.
    pub(super) fn broken(&self, error: &reqwest::Error) -> String {
        use std::error::Error;
        let mut cause: &dyn Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let cause = cause.to_string();
        let what = if error.is_connect() && cause.contains("certificate") {
            "its certificate is not trusted; SSL_CERT_FILE names authorities of your own"
        } else if error.is_connect() {
            "it cannot be reached"
        } else if error.is_timeout() {
            "it did not answer in time"
        } else {
            "its connection broke"
        };
        self.redacted(format!("{what} ({})", shortened(&cause)))
    }
}

/// The beginning of a body, as far as it comes in time.
async fn beginning(mut response: Response, most: usize, timeout: Duration) -> Vec<u8> {
    let due = Instant::now() + timeout;
    let mut bytes = Vec::new();
    while let Ok(Ok(Some(part))) = tokio::time::timeout_at(due.into(), response.chunk()).await {
        bytes.extend_from_slice(&part);
        if bytes.len() > most {
            break;
        }
    }
    bytes
}

async fn error_body(response: Response) -> String {
    let bytes = beginning(response, ERROR, Duration::from_secs(5)).await;
    match serde_json::from_slice(&bytes) {
        Ok(value) => error_message(&value),
        Err(_) => shortened(&String::from_utf8_lossy(&bytes)),
    }
}

/// Whether a status may pass by itself.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || matches!(status.as_u16(), 408 | 409 | 425 | 429)
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text.trim())
        .ok()?;
    let wait = SystemTime::from(date)
        .duration_since(SystemTime::now())
        .unwrap_or_default();
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("99999999"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(
            retry_after("Wed, 21 Oct 2099 07:28:00 GMT"),
            Some(LONGEST_RETRY_AFTER)
        );
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn statuses_that_pass_are_tried_again() {
        for (status, again) in [
            (429, true),
            (500, true),
            (503, true),
            (408, true),
            (400, false),
            (401, false),
            (404, false),
            (501, false),
        ] {
            assert_eq!(may_pass(StatusCode::from_u16(status).unwrap()), again, "{status}");
        }
    }
}
