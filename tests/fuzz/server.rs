//! Requests to a server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tts::serve::{Limits, Options};
use tts::strategies::Preset;
use tts::{LoadOptions, Loaded, Settings, Solver};

use super::Target;
use super::damage::{self, Rng};

pub(super) struct Server {
    address: SocketAddr,
    given: Vec<u8>,
    cases: u64,
    digest: Option<Value>,
}

/// Requests that are answered: path and body.
fn seeds() -> [(&'static str, Value); 4] {
    let question = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": [{ "type": "text", "text": "1 + " }, { "type": "text", "text": "1" }] },
    ]);
    [
        (
            "/v1/chat/completions",
            json!({
                "model": "bundled@majority-2", "messages": question, "n": 2, "stop": ["\n\n", "="], "seed": 7,
                "temperature": 0.8, "top_p": 0.9,
                "top_k": 40, "min_p": 0.01, "presence_penalty": 0.1, "frequency_penalty": 0.1,
                "repetition_penalty": 1.1, "logprobs": true,
                "top_logprobs": 3, "logit_bias": { "5": -100 }, "max_tokens": 8, "max_total_tokens": 40,
                "time_limit": 20, "slots": 2,
            }),
        ),
        (
            "/v1/chat/completions",
            json!({
                "messages": question, "strategy": "deepconf-low", "traces": 4, "warmup": 2, "window": "auto",
                "keep_top": 0.5, "consensus": "off",
                "min_votes": 2, "vote": "min-weighted", "stream": true,
                "stream_options": { "include_usage": true }, "progress": "traces",
                "instruction": "Say why.", "chat_template_kwargs": { "a": 1 }, "reasoning_effort": "low",
                "thinking_budget": 4, "user": "x",
            }),
        ),
        (
            "/v1/chat/completions",
            json!({
                "messages": question, "traces": 1, "stream": true, "stop": "2", "logprobs": true,
                "top_logprobs": 2
            }),
        ),
        (
            "/v1/completions",
            json!({
                "prompt": ["1 + 1 = ", "2 + 2 = "], "max_tokens": 6, "n": 2, "logprobs": 2, "echo": false,
                "best_of": 2, "suffix": "", "stream": false,
                "ignore_eos": true, "loop_stop": false, "traces": 1,
            }),
        ),
    ]
}

impl Server {
    pub(super) fn new() -> Self {
        let settings = Settings {
            strategy: Preset::named("majority").expect("it is shipped"),
            traces: 2,
            threads: Some(1),
            max_tokens: Some(8),
            memory: Some(128 << 20),
            ..Settings::default()
        };
        let options = Options {
            address: "127.0.0.1:0".parse().expect("an address"),
            name: "bundled".to_owned(),
            limits: Limits {
                traces: 8,
                choices: 4,
                patience: Duration::from_millis(100),
                ..Limits::default()
            },
            seed: Some(0),
            ..Options::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let loaded = Loaded::open(&LoadOptions::default(), &mut |_| ()).expect("the bundled model");
        let server = runtime
            .block_on(tts::serve::Server::bind(
                Solver::local(loaded, settings).expect("settings"),
                options,
            ))
            .expect("a server");
        let address = server.address();
        std::thread::spawn(move || runtime.block_on(server.run(CancellationToken::new())));
        Self {
            address,
            given: Vec::new(),
            cases: 0,
            digest: None,
        }
    }

    /// What is answered to these bytes.
    fn ask(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut stream = TcpStream::connect(self.address).map_err(|e| format!("nobody listens: {e}"))?;
        stream
            .set_read_timeout(Some(super::PATIENCE))
            .map_err(|e| e.to_string())?;
        // it may be closed on us while we write
        let _ = stream.write_all(bytes);
        let mut answered = Vec::new();
        match stream.read_to_end(&mut answered) {
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                Err("it neither answers nor hangs up".to_owned())
            }
            _ => Ok(answered),
        }
    }

    /// The others are unharmed: a question has the answer that it always had.
    fn is_well(&mut self) -> Result<(), String> {
        let body = json!({ "messages": [{ "role": "user", "content": "1 + 1" }], "seed": 1 }).to_string();
        let answered = self.ask(&request("/v1/chat/completions", body.as_bytes()))?;
        let text = String::from_utf8_lossy(&answered);
        let reply = text
            .split_once("\r\n\r\n")
            .and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
        let digest = reply
            .map(|r| r["tts"]["digest"].clone())
            .filter(Value::is_string)
            .ok_or(format!("a good question is answered with {text}"))?;
        match self.digest.get_or_insert(digest.clone()) == &digest {
            true => Ok(()),
            false => Err("a good question is answered differently".to_owned()),
        }
    }
}

fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: \
         application/json\r\nauthorization: Bearer x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

impl Target for Server {
    fn name(&self) -> &'static str {
        "server"
    }

    fn given(&self) -> &[u8] {
        &self.given
    }

    fn case(&mut self, rng: &mut Rng) -> Result<(), String> {
        let [a, b, c, d] = &seeds();
        let (path, body) = rng.pick(&[a, b, c, d]);
        let mut body = body.clone();
        if !rng.once_in(4) {
            damage::json(rng, &mut body);
        }
        let mut body = body.to_string().into_bytes();
        if rng.once_in(4) {
            damage::bytes(rng, &mut body, usize::MAX);
        }
        let mut whole = request(path, &body);
        if rng.once_in(6) {
            let head = whole.len() - body.len();
            damage::bytes(rng, &mut whole, head);
        }
        if rng.once_in(8) {
            let name = format!("idempotency-key: {}\r\n", rng.below(5));
            let at = whole.windows(2).position(|w| w == b"\r\n").map_or(0, |at| at + 2);
            drop(whole.splice(at..at, name.into_bytes()));
        }
        self.given = whole;
        let answered = self.ask(&self.given)?;
        if let Some(line) = answered
            .split(|b| *b == b'\n')
            .next()
            .filter(|_| !answered.is_empty())
        {
            let line = String::from_utf8_lossy(line);
            let status = line.split(' ').nth(1).and_then(|s| s.parse::<u16>().ok());
            // 503: it waited for its turn longer than it gave itself
            if !status.is_some_and(|s| (200..500).contains(&s) || s == 503) {
                return Err(String::from_utf8_lossy(&answered).into_owned());
            }
        }
        self.cases += 1;
        if self.cases.is_multiple_of(32) {
            self.is_well()
        } else {
            Ok(())
        }
    }
}
