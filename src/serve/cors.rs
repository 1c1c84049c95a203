//! Pages of other sites that may ask, and what their browsers are told of it.

use std::net::Ipv6Addr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

const ANY: &str = "*";
/// Schemes of addresses whose pages have no origin.
const OPAQUE: [&str; 9] = [
    "ftp",
    "file",
    "data",
    "blob",
    "about",
    "javascript",
    "mailto",
    "ws",
    "wss",
];
/// Seconds for which a browser may keep what it was told.
const KEPT: HeaderValue = HeaderValue::from_static("600");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type, idempotency-key");
const READABLE: HeaderValue = HeaderValue::from_static("retry-after");
/// Asked before a page of the internet reaches this network.
const PRIVATE_ASKED: HeaderName = HeaderName::from_static("access-control-request-private-network");
const PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Origins whose pages may ask this server, as `http://localhost:3000`; none but the server's own by default.
#[derive(Clone, Debug, Default)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Reads origins: a scheme and a host, with a port where it is not the scheme's own; `*` is any.
    ///
    /// # Errors
    /// A sentence where one of them is no origin.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let one = |text: &String| {
            let text = text.trim_end_matches('/');
            let site = text.split_once("://").filter(|(scheme, site)| {
                let is_name = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
                scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                    && scheme.chars().all(is_name)
                    && !OPAQUE.iter().any(|opaque| scheme.eq_ignore_ascii_case(opaque))
                    && is_site(site)
            });
            match site {
                Some(_) => Ok(without_default_port(&text.to_ascii_lowercase()).to_owned()),
                None if text == ANY => Ok(ANY.to_owned()),
                None => Err(format!(
                    "`{text}` is no origin: write one as http://localhost:3000, or *"
                )),
            }
        };
        texts.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Whether every page may ask.
    pub fn is_any(&self) -> bool {
        self.0.iter().any(|origin| origin == ANY)
    }

    /// Whether the pages of an origin may ask.
    pub(super) fn allow(&self, origin: &HeaderValue) -> bool {
        let origin = origin.to_str().unwrap_or_default();
        self.is_any() || self.0.iter().any(|known| known.eq_ignore_ascii_case(origin))
    }

    /// The answer to a browser that asks whether a page may ask, where it is one and it may.
    pub(super) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        let origin = headers.get(header::ORIGIN)?;
        headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        if *method != Method::OPTIONS || !self.allow(origin) {
            return None;
        }
        let mut response = StatusCode::NO_CONTENT.into_response();
        let told = response.headers_mut();
        told.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        told.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            wanted.cloned().unwrap_or(HEADERS),
        );
        told.insert(header::ACCESS_CONTROL_MAX_AGE, KEPT);
        if headers.contains_key(PRIVATE_ASKED) {
            told.insert(PRIVATE, HeaderValue::from_static("true"));
        }
        Some(response)
    }

    /// Lets the page that asked read the reply, where it may.
    pub(super) fn tell(&self, origin: Option<&HeaderValue>, told: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        told.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = origin.filter(|origin| self.allow(origin)) {
            told.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            told.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READABLE);
        }
    }
}

/// An origin as browsers write it: without the port that its scheme has anyway.
fn without_default_port(origin: &str) -> &str {
    let port = if origin.starts_with("https:") {
        ":443"
    } else {
        ":80"
    };
    let has_one = origin.starts_with("http:") || origin.starts_with("https:");
    origin.strip_suffix(port).filter(|_| has_one).unwrap_or(origin)
}

/// Whether this is a host, with a port where it has one.
fn is_site(site: &str) -> bool {
    let (host, port) = match site.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (site, None),
    };
    let is_name = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(six) => six.parse::<Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
        }
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    is_name && port.is_none_or(|port| is_port(port) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::{Origins, without_default_port};

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        let parse = |text: &str| Origins::parse(&[text.to_owned()]);
        for right in [
            "http://localhost:3000",
            "https://a.example/",
            "HTTP://[::1]:80",
            "tauri://localhost",
        ] {
            let known = parse(right).unwrap();
            let origin = right.trim_end_matches('/').to_lowercase();
            let origin = without_default_port(&origin);
            assert!(
                known.allow(&origin.parse().unwrap()) && !known.is_any(),
                "{right}"
            );
            for other in ["null", "", "http://localhost:3001", "https://a.example.evil"] {
                assert!(!known.allow(&other.parse().unwrap()), "{other}");
            }
        }
        let https = parse("https://a.example:443").unwrap();
        assert!(https.allow(&"https://a.example".parse().unwrap()));
        assert!(parse("*").unwrap().allow(&"null".parse().unwrap()));
        for wrong in [
            "",
            "localhost:3000",
            "http://",
            "http://a/b",
            "http://*.a",
            "null",
            "http://u@a",
            "://a",
            "ftp://a",
            "FILE://a",
            "1http://a",
            "http://a:99999",
            "http://a:0",
            "http://a:",
            "http://a:+80",
            "http://a:b",
            "http://[::1",
            "http://[x]:80",
            "http://a b",
        ] {
            assert!(parse(wrong).unwrap_err().contains("is no origin"), "{wrong}");
        }
    }
}
