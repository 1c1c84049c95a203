//! Who may ask: API keys, and on a server without them only this machine's own programs and pages.

use std::net::SocketAddr;

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use subtle::{Choice, ConstantTimeEq};

use super::cors::Origins;
use super::error::ApiError;
use crate::hub::is_loopback_host;

/// The keys that open the server. Only their digests are held.
#[derive(Clone, Default)]
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// One key a line; blank lines and lines that begin with # are left out.
    ///
    /// # Errors
    /// A sentence where a key is too short to be one or cannot stand in a header.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|key| {
                if key.len() < 16 {
                    return Err("an API key must have at least 16 characters".to_owned());
                }
                if !key.bytes().all(|b| b.is_ascii_graphic()) {
                    return Err("an API key must be of printable ASCII characters without blanks".to_owned());
                }
                Ok(digest(key.as_bytes()))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether there are none: everybody may ask.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares with every key, in a time that tells nothing of how much is right.
    fn open(&self, key: &[u8]) -> bool {
        let given = digest(key);
        let hit = self
            .0
            .iter()
            .fold(Choice::from(0), |hit, known| hit | known.ct_eq(&given));
        hit.into()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

fn digest(key: &[u8]) -> [u8; 32] {
    *blake3::hash(key).as_bytes()
}

/// Headers that say who asks for what: with two of them, programs on the way may heed different ones.
const ONCE: [&str; 5] = [
    "Host",
    "Origin",
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
];

/// Checks a request before anything else is done with it.
pub(super) struct Auth {
    pub(super) keys: Keys,
    pub(super) address: SocketAddr,
    /// Pages of other sites that may ask.
    pub(super) origins: Origins,
}

impl Auth {
    /// Whether this request may be answered. `open` routes need no key.
    pub(super) fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        open: bool,
    ) -> Result<(), ApiError> {
        let twice = ONCE
            .iter()
            .find(|name| headers.get_all(**name).iter().count() > 1);
        if let Some(name) = twice {
            return Err(ApiError::invalid(
                None,
                format!("the request has more than one {name} header"),
            ));
        }
        let host = headers.get(header::HOST).map(|h| h.to_str().unwrap_or_default());
        let host = uri.authority().map(|a| a.as_str()).or(host);
        // a page on another site may point a name of its own at this machine: its name gives it away
        if self.keys.is_empty() && self.address.ip().is_loopback() && !host.is_some_and(is_this_machine) {
            return Err(ApiError::refused(
                StatusCode::FORBIDDEN,
                "this server answers requests to localhost alone; start it with an API key to give it \
                 another name",
            ));
        }
        // pages of other sites may not ask, whatever their browser sends along
        let is_foreign = match headers.get(header::ORIGIN) {
            Some(origin) => {
                let own = origin.to_str().ok().and_then(|o| o.split_once("://"));
                let is_own = own.is_some_and(|(_, site)| Some(site) == host);
                !is_own && !self.origins.allow(origin)
            }
            None => headers
                .get("sec-fetch-site")
                .is_some_and(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site")),
        };
        if *method != Method::GET && is_foreign {
            return Err(ApiError::refused(
                StatusCode::FORBIDDEN,
                "pages of other sites may not ask this server; --cors ORIGIN lets one",
            ));
        }
        if open || self.keys.is_empty() {
            return Ok(());
        }
        let given = headers
            .get(header::AUTHORIZATION)
            .map_or(&[][..], header::HeaderValue::as_bytes);
        let key = match given.split_at_checked(7) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => key.trim_ascii(),
            _ => return Err(ApiError::unauthorized()),
        };
        if self.keys.open(key) {
            Ok(())
        } else {
            Err(ApiError::unauthorized())
        }
    }
}

/// Whether a host (with or without a port) is a name of this machine for itself.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(six) => six.split_once(']').map_or("", |(name, _)| name),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    is_loopback_host(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(auth: &Auth, method: Method, headers: &[(&'static str, &str)], open: bool) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        auth.check(&method, &Uri::from_static("/v1/models"), &map, open)
            .map_or_else(|e| e.status.as_u16(), |()| 200)
    }

    #[test]
    fn a_loopback_server_without_keys_answers_its_own_machine() {
        let auth = Auth {
            keys: Keys::default(),
            address: "127.0.0.1:8080".parse().unwrap(),
            origins: Origins::default(),
        };
        for host in [
            "localhost",
            "localhost:8080",
            "LocalHost:1",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:80",
            "[::1]",
        ] {
            assert_eq!(ask(&auth, Method::POST, &[("host", host)], false), 200, "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "[::1",
            "10.0.0.1",
            "::2",
        ] {
            assert_eq!(ask(&auth, Method::GET, &[("host", host)], true), 403, "{host}");
        }
        assert_eq!(ask(&auth, Method::GET, &[], true), 403);
        let own = [("host", "localhost:8080"), ("authorization", "Bearer anything")];
        assert_eq!(
            ask(&auth, Method::POST, &own, false),
            200,
            "without keys the header is ignored"
        );
    }

    #[test]
    fn other_sites_may_not_ask() {
        let auth = Auth {
            keys: Keys::default(),
            address: "127.0.0.1:8080".parse().unwrap(),
            origins: Origins::default(),
        };
        let from = |origin| {
            ask(
                &auth,
                Method::POST,
                &[("host", "localhost:8080"), ("origin", origin)],
                false,
            )
        };
        assert_eq!(from("http://localhost:8080"), 200);
        let fetched = |site| {
            let headers = [("host", "localhost:8080"), ("sec-fetch-site", site)];
            ask(&auth, Method::POST, &headers, false)
        };
        assert_eq!(
            (fetched("cross-site"), fetched("same-origin"), fetched("none")),
            (403, 200, 200)
        );
        for origin in [
            "null",
            "",
            "https://evil.example",
            "http://localhost",
            "http://localhost:8081",
            "localhost:8080",
        ] {
            assert_eq!(from(origin), 403, "{origin}");
        }
    }

    #[test]
    fn keys_open_and_nothing_else_does() {
        let keys = Keys::parse("# two\n\nsixteen-letters-1\n  another-sixteen-letters  \n").unwrap();
        assert_eq!(format!("{keys:?}"), "2 keys");
        let auth = Auth {
            keys,
            address: "0.0.0.0:80".parse().unwrap(),
            origins: Origins::default(),
        };
        let with = |value| {
            ask(
                &auth,
                Method::POST,
                &[("host", "any.example"), ("authorization", value)],
                false,
            )
        };
        assert_eq!(with("Bearer sixteen-letters-1"), 200);
        assert_eq!(with("bearer another-sixteen-letters"), 200);
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer sixteen-letters-",
            "Bearer sixteen-letters-12",
            "Basic sixteen-letters-1",
            "sixteen-letters-1",
        ] {
            assert_eq!(with(wrong), 401, "{wrong}");
        }
        assert_eq!(ask(&auth, Method::GET, &[("host", "any.example")], true), 200);
        assert!(Keys::parse("short").is_err() && Keys::parse("has a blank in the middle").is_err());
        assert!(Keys::parse("# nothing").unwrap().is_empty());
    }
}
