//! The server, over sockets: shapes that clients rely on, requests that run together, and clients that
//! misbehave.

mod agents;
mod clients;
mod formats;
mod guarded;
mod lenient;
mod load;
mod page;
mod process;
mod refused;
mod seen;
mod shapes;
mod sharing;
mod streams;
mod tokens;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tts::serve::{Limits, Options, Server};
use tts::strategies::Preset;
use tts::{LoadOptions, Loaded, Settings, Solver};

const PROBLEM: &str = "Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20.";
/// Longer than any reply takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server in this process, stopped when it is dropped.
struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Few traces, so that tests are fast.
fn few() -> Settings {
    Settings {
        strategy: Preset::named("majority").unwrap(),
        traces: 4,
        threads: Some(1),
        max_tokens: Some(400),
        memory: Some(256 << 20),
        ..Settings::default()
    }
}

impl Running {
    fn start() -> Self {
        Self::with(few(), |_| ())
    }

    fn with(settings: Settings, change: impl FnOnce(&mut Options)) -> Self {
        let loaded = Loaded::open(&LoadOptions::default(), &mut |_| ()).unwrap();
        Self::of(loaded, settings, change)
    }

    fn of(loaded: Loaded, settings: Settings, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            address: "127.0.0.1:0".parse().unwrap(),
            name: "bundled".to_owned(),
            limits: Limits {
                drain: Duration::from_secs(1),
                ..Limits::default()
            },
            // so that what is asked twice is answered alike
            seed: Some(0),
            ..Options::default()
        };
        change(&mut options);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let server = runtime
            .block_on(Server::bind(Solver::local(loaded, settings).unwrap(), options))
            .unwrap();
        let (address, stop) = (server.address(), CancellationToken::new());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || runtime.block_on(server.run(stopped)));
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_with(path, &[], body)
    }

    fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let mut stream = self.connect();
        send(&mut stream, path, headers, body.to_string().as_bytes());
        Reply::read(stream)
    }

    fn get(&self, path: &str) -> Reply {
        let mut stream = self.connect();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.address
        )
        .unwrap();
        Reply::read(stream)
    }

    /// A chat with one question, and other fields over it.
    fn chat(&self, fields: Value) -> Reply {
        self.post("/v1/chat/completions", &chat(fields))
    }

    /// Begins a request and leaves it running.
    fn begin(&self, fields: Value, headers: &[(&str, &str)]) -> TcpStream {
        let mut stream = self.connect();
        send(
            &mut stream,
            "/v1/chat/completions",
            headers,
            chat(fields).to_string().as_bytes(),
        );
        stream
    }

    /// A number of `/metrics`, summed over its labels.
    fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let lines = text.lines().filter(|l| {
            l.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        lines
            .map(|l| l.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum()
    }

    /// Waits until a number of `/metrics` is this.
    fn until(&self, name: &str, wanted: f64) {
        let began = std::time::Instant::now();
        while self.metric(name) != wanted {
            assert!(
                began.elapsed() < PATIENCE,
                "{name} never became {wanted}: {}",
                self.metric(name)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn send(stream: &mut TcpStream, path: &str, headers: &[(&str, &str)], body: &[u8]) {
    let address = stream.peer_addr().unwrap();
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n"
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
}

fn chat(fields: Value) -> Value {
    let mut body = json!({ "model": "bundled", "messages": [{ "role": "user", "content": PROBLEM }] });
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// Fields of a request that runs until nobody waits for it any more.
fn endless() -> Value {
    json!({ "traces": 512, "slots": 8, "ignore_eos": true, "loop_stop": false, "stream": true })
}

/// What a server answered.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    /// Reads until the server closes the connection.
    fn read(mut stream: TcpStream) -> Self {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        Self::parse(&all)
    }

    fn parse(all: &[u8]) -> Self {
        let end = all
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(all)));
        let head = std::str::from_utf8(&all[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .map(|l| l.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut body = all[end + 4..].to_vec();
        if headers
            .iter()
            .any(|h| h.0 == "transfer-encoding" && h.1 == "chunked")
        {
            body = whole(&body);
        }
        Self {
            status,
            headers,
            body,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|h| h.0 == name).map(|h| h.1.as_str())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The body of a reply that went well.
    fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// The message and the field of a refusal, which is in OpenAI's shape.
    fn refusal(&self, status: u16) -> (String, Value) {
        assert_eq!(self.status, status, "{}", self.text());
        let body = self.json();
        let error = body["error"].as_object().unwrap_or_else(|| panic!("{body}"));
        assert_eq!(
            error.keys().collect::<std::collections::BTreeSet<_>>(),
            ["code", "message", "param", "type"]
                .map(str::to_owned)
                .iter()
                .collect()
        );
        (
            error["message"].as_str().unwrap().to_owned(),
            error["param"].clone(),
        )
    }

    /// The objects of a stream, which ends as it should.
    fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text());
        assert!(
            self.header("content-type")
                .unwrap()
                .starts_with("text/event-stream")
        );
        let text = self.text();
        let mut parts: Vec<&str> = text.split("\n\n").collect();
        assert_eq!(parts.pop(), Some(""), "a stream ends with a blank line");
        assert_eq!(parts.pop(), Some("data: [DONE]"), "{text}");
        parts
            .iter()
            .filter(|p| !p.starts_with(':'))
            .map(|p| serde_json::from_str(p.strip_prefix("data: ").unwrap_or_else(|| panic!("{p}"))).unwrap())
            .collect()
    }
}

/// A chunked body put together. One that was cut off is left as far as it came.
fn whole(mut chunked: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = chunked.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&chunked[..line]).unwrap(), 16).unwrap();
        let rest = &chunked[line + 2..];
        if size == 0 || rest.len() < size + 2 {
            break;
        }
        body.extend_from_slice(&rest[..size]);
        chunked = &rest[size + 2..];
    }
    body
}

/// Reads until this text has come.
fn read_until(stream: &mut TcpStream, text: &str) -> Vec<u8> {
    let mut all = Vec::new();
    let mut part = [0; 4096];
    while !String::from_utf8_lossy(&all).contains(text) {
        let n = stream.read(&mut part).unwrap();
        assert!(n > 0, "ended before {text:?}: {}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&part[..n]);
    }
    all
}

/// Closes both ways.
fn hang_up(stream: &TcpStream) {
    stream.shutdown(Shutdown::Both).unwrap();
}
