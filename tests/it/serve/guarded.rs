//! Clients that mean harm, or are broken.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use tts::serve::{Keys, Limits, Options, Server};
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
        name: "bundled".to_owned(),
        keys: Keys::default(),
        limits: Limits::default(),
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
