//! Clients that mean harm, or are broken.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tts::serve::{Keys, Options, Origins, RequestLog, Server};
use tts::{LoadOptions, Loaded, Solver};

use super::{Reply, Running, chat, connect, endless, few, hang_up, read_until};

/// What comes until the server closes; a reset is an end as well.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    all
}

#[test]
fn keys_open_the_server() {
    let server = Running::with(few(), |o| {
        o.keys = Keys::parse("correct-horse-battery\nstaple-staple-staple").unwrap()
    });
    let ask = |key: &str| {
        server.post_with(
            "/v1/chat/completions",
            &[("authorization", key)],
            &chat(json!({})),
        )
    };
    for right in ["Bearer correct-horse-battery", "bearer staple-staple-staple"] {
        ask(right).ok();
    }
    for wrong in [
        "Bearer correct-horse-batter",
        "Bearer correct-horse-battery2",
        "Basic correct-horse-battery",
        "",
        "Bearer ",
    ] {
        let refused = ask(wrong);
        let (message, _) = refused.refusal(401);
        assert!(!message.contains("horse"), "{message}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert_eq!(refused.json()["error"]["code"], "invalid_api_key");
    }
    for path in ["/v1/models", "/metrics", "/v1/nothing"] {
        server.get(path).refusal(401);
    }
    assert_eq!((server.get("/health").status, server.get("/").status), (200, 200));

    let open = Running::start();
    open.post_with(
        "/v1/chat/completions",
        &[("authorization", "Bearer sk-whatever")],
        &chat(json!({})),
    )
    .ok();
}

#[test]
fn other_machines_need_a_key() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let options = Options {
        address: "0.0.0.0:0".parse().unwrap(),
        ..Options::default()
    };
    let loaded = Loaded::open(&LoadOptions::default(), &mut |_| ()).unwrap();
    let refused = runtime
        .block_on(Server::bind(Solver::local(loaded, few()).unwrap(), options))
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains("there is no API key") && refused.contains("--api-key-file"),
        "{refused}"
    );
}

#[test]
fn pages_of_other_sites_are_not_answered() {
    let server = Running::start();
    let body = chat(json!({})).to_string();
    let ask = |host: &str, origin: &str| {
        let mut stream = server.connect();
        let origin = if origin.is_empty() {
            String::new()
        } else {
            format!("origin: {origin}\r\n")
        };
        let length = body.len();
        write!(
            stream,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\n{origin}connection: \
             close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        Reply::read(stream)
    };
    let address = server.address.to_string();
    assert_eq!(ask(&address, "").status, 200);
    assert_eq!(ask(&address, &format!("http://{address}")).status, 200);
    ask(&address, "https://evil.example").refusal(403);
    ask(&address, "null").refusal(403);
    ask("rebound.evil.example", "").refusal(403);
    ask("rebound.evil.example", "http://rebound.evil.example").refusal(403);
    let reply = ask(&address, "");
    assert!(
        reply.headers.iter().all(|h| !h.0.starts_with("access-control")),
        "{:?}",
        reply.headers
    );
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
}

/// The reply to a head, and a body where there is one.
fn raw(server: &Running, head: &str, body: &str) -> Reply {
    let mut stream = server.connect();
    write!(
        stream,
        "{head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    Reply::read(stream)
}

#[test]
fn a_head_that_is_ambiguous_or_foreign_is_refused() {
    let server = Running::start();
    let body = chat(json!({ "traces": 1, "max_tokens": 4 })).to_string();
    let post = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost";
    assert_eq!(raw(&server, post, &body).status, 200);
    let two = raw(&server, &format!("{post}\r\nhost: evil.example"), &body);
    assert_eq!(two.refusal(400).0, "the request has more than one Host header");
    for name in ["Origin", "Authorization", "Content-Type", "Idempotency-Key"] {
        let two = format!("{post}\r\n{name}: a\r\n{name}: a");
        let (message, _) = raw(&server, &two, &body).refusal(400);
        assert_eq!(message, format!("the request has more than one {name} header"));
    }
    for charset in ["utf-16", "\"ISO-8859-1\"", "utf-8; charset=utf-16"] {
        let typed = format!("{post}\r\ncontent-type: application/json; charset={charset}");
        let reply = raw(&server, &typed, &body);
        assert_eq!(
            reply.status,
            if charset.starts_with("utf-8") { 200 } else { 415 },
            "{charset}"
        );
    }
    let mut stream = server.connect();
    let (length, coding) = (
        body.len(),
        "transfer-encoding: gzip, chunked\r\nconnection: close",
    );
    write!(
        stream,
        "{post}\r\n{coding}\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
    )
    .unwrap();
    let (message, _) = Reply::read(stream).refusal(501);
    assert!(message.contains("`gzip, chunked`"), "{message}");
    let (message, _) = raw(&server, &format!("{post}\r\nSec-Fetch-Site: cross-site"), &body).refusal(403);
    assert!(message.contains("pages of other sites"), "{message}");
    assert_eq!(
        raw(&server, &format!("{post}\r\nSec-Fetch-Site: same-origin"), &body).status,
        200
    );
    let path = "GET /v1/models/%ff%fe HTTP/1.1\r\nhost: localhost";
    assert_eq!(raw(&server, path, "").refusal(400).0, "the path is not UTF-8");
    for encoding in ["gzip", "br", "deflate, gzip"] {
        let packed = raw(&server, &format!("{post}\r\ncontent-encoding: {encoding}"), &body);
        let (message, _) = packed.refusal(415);
        assert!(
            message.contains(&format!("Content-Encoding `{encoding}`")),
            "{message}"
        );
    }
    assert_eq!(
        raw(&server, &format!("{post}\r\ncontent-encoding: identity"), &body).status,
        200
    );
}

#[test]
fn pages_of_an_origin_that_is_named_may_ask() {
    let server = Running::with(few(), |o| {
        o.origins = Origins::parse(&["http://localhost:3000".to_owned()]).unwrap();
        o.keys = Keys::parse("correct-horse-battery").unwrap();
    });
    let preflight = |origin: &str| {
        let head = format!(
            "OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\norigin: {origin}\r\n\
             access-control-request-method: POST\r\naccess-control-request-headers: authorization,x-a"
        );
        raw(&server, &head, "")
    };
    let told = preflight("http://localhost:3000");
    assert_eq!(told.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "http://localhost:3000"),
        ("access-control-allow-methods", "GET, POST, OPTIONS"),
        ("access-control-allow-headers", "authorization,x-a"),
        ("vary", "origin"),
    ] {
        assert_eq!(told.header(name), Some(value));
    }
    let other = preflight("http://localhost:3001");
    other.refusal(403);
    assert_eq!(other.header("access-control-allow-origin"), None);
    let body = chat(json!({ "traces": 1, "max_tokens": 4 })).to_string();
    let ask = |origin: &str, key: &str| {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\norigin: {origin}\r\nauthorization: Bearer {key}"
        );
        raw(&server, &head, &body)
    };
    let answered = ask("http://localhost:3000", "correct-horse-battery");
    assert_eq!(answered.status, 200);
    assert_eq!(
        answered.header("access-control-allow-origin"),
        Some("http://localhost:3000")
    );
    let refused = ask("http://localhost:3000", "wrong-horse-battery-x");
    refused.refusal(401);
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("http://localhost:3000")
    );
    ask("https://evil.example", "correct-horse-battery").refusal(403);
}

#[test]
fn every_request_has_a_line_in_the_log() {
    let lines = Arc::new(Mutex::new(Vec::<String>::new()));
    let kept = lines.clone();
    let server = Running::with(few(), |o| {
        o.request_log = Some(RequestLog {
            json: true,
            write: Arc::new(move |line| kept.lock().unwrap().push(line.to_owned())),
        });
    });
    let whole = server.chat(json!({ "traces": 2 })).ok();
    let events = server.chat(json!({ "traces": 2, "stream": true })).events();
    assert!(!events.is_empty());
    server.get("/v1/nothing?key=secret").refusal(404);
    let left = server.begin(endless(), &[]);
    server.until("tts_requests_running", 1.0);
    hang_up(&left);
    server.until("tts_requests_running", 0.0);
    let log = || -> Vec<serde_json::Value> {
        let lines = lines.lock().unwrap();
        let lines = lines.iter().map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &serde_json::Value| line["path"] != "/metrics")
            .collect()
    };
    let began = std::time::Instant::now();
    while log().len() < 4 {
        assert!(began.elapsed() < super::PATIENCE, "{:?}", log());
        std::thread::sleep(Duration::from_millis(5));
    }
    let log = log();
    for line in &log[..2] {
        assert_eq!(
            (&line["method"], &line["path"], &line["status"]),
            (&json!("POST"), &json!("/v1/chat/completions"), &json!(200))
        );
        assert_eq!(line["prompt_tokens"], whole["usage"]["prompt_tokens"]);
        assert_eq!(line["completion_tokens"], whole["usage"]["completion_tokens"]);
        assert!(
            line["milliseconds"].is_u64() && line["time"].as_str().unwrap().ends_with('Z'),
            "{line}"
        );
    }
    assert_eq!(
        (&log[2]["path"], &log[2]["status"]),
        (&json!("/v1/nothing"), &json!(404))
    );
    assert_eq!(
        (&log[3]["status"], &log[3]["completion_tokens"]),
        (&json!(200), &json!(0))
    );
}

#[test]
fn who_is_silent_is_left() {
    let server = Running::with(few(), |o| o.limits.patience = Duration::from_millis(300));
    // nothing, half a head, and a head whose end never comes
    for head in [
        "",
        "POST /v1/chat/comp",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx: ",
    ] {
        let mut stream = server.connect();
        stream.write_all(head.as_bytes()).unwrap();
        let answered = rest(&mut stream);
        assert!(
            answered.is_empty() || Reply::parse(&answered).status == 408,
            "{}",
            String::from_utf8_lossy(&answered)
        );
    }
    let mut stream = server.connect();
    stream
        .write_all(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"model\"",
        )
        .unwrap();
    Reply::parse(&rest(&mut stream)).refusal(408);
    // who waits for an answer may be silent for longer than that
    let whole = server
        .chat(json!({ "traces": 512, "ignore_eos": true, "loop_stop": false, "max_total_tokens": 30_000 }));
    assert_eq!(whole.ok()["tts"]["cut"], "max_total_tokens");
    server.until("tts_connections", 1.0);
}

#[test]
fn what_is_no_http_is_refused() {
    let server = Running::start();
    let long = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "y".repeat(100_000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
        "x: y\r\n".repeat(500)
    );
    let uri = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "z".repeat(70_000));
    let cases: [&[u8]; 9] = [
        b"\0\0\0\0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
        uri.as_bytes(),
    ];
    for bytes in cases {
        let mut stream = server.connect();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answered = rest(&mut stream);
        if !answered.is_empty() {
            let status = std::str::from_utf8(&answered[9..12])
                .unwrap()
                .parse::<u16>()
                .unwrap();
            assert!(
                (400..500).contains(&status),
                "{}",
                String::from_utf8_lossy(&answered)
            );
        }
    }
    assert_eq!(server.chat(json!({})).status, 200, "the others are unharmed");
}

#[test]
fn damaged_requests_harm_nobody() {
    let server = Running::start();
    let body = chat(json!({ "traces": 1, "max_tokens": 4, "stream": true })).to_string();
    let whole = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nidempotency-key: a\r\ncontent-length: \
         {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // xorshift: the same damage in every run
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    };
    for _ in 0..400 {
        let mut bytes = whole.clone().into_bytes();
        for _ in 0..=below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = below(bytes.len());
            match below(4) {
                0 => bytes[at] = below(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"\r\n\0{}\",:"[below(8)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let mut stream = server.connect();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answered = rest(&mut stream);
        if let Some(status) = answered.get(9..12) {
            let status = std::str::from_utf8(status).unwrap().parse::<u16>().unwrap();
            assert!(
                (200..500).contains(&status),
                "{}",
                String::from_utf8_lossy(&answered)
            );
        }
    }
    server.until("tts_requests_running", 0.0);
    assert_eq!(server.chat(json!({})).status, 200);
}

#[test]
fn a_thousand_connections_leave_the_others_alone() {
    let server = Running::with(few(), |o| o.limits.connections = 40);
    let mut working = server.begin(endless(), &[]);
    read_until(&mut working, "traces ended");
    let mut held = Vec::new();
    for i in 0..1000 {
        let mut stream = connect(server.address);
        if held.len() < 60 {
            let _ = stream.write_all(if i % 2 == 0 { b"GET /" } else { b"" });
            held.push(stream);
        } else {
            // beyond the limit: closed, and told so where it listens
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }
    // the one that works still hears of its traces
    let before = read_until(&mut working, "traces ended").len();
    assert!(before > 0);
    drop(held);
    hang_up(&working);
    let began = std::time::Instant::now();
    while connect_and_ask(&server).is_none() {
        assert!(began.elapsed() < super::PATIENCE, "no place came free");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.until("tts_connections", 1.0);
    assert!(server.metric("tts_connections_refused_total") > 0.0);
}

/// A reply where the server has a place for one more connection.
fn connect_and_ask(server: &Running) -> Option<Reply> {
    let mut stream = connect(server.address);
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .ok()?;
    let all = rest(&mut stream);
    (!all.is_empty())
        .then(|| Reply::parse(&all))
        .filter(|r| r.status == 200)
}
