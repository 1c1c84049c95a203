//! An engine that does as it is told, over plain TCP: well behaved unless a script says otherwise.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// One step of an answer.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Bytes as they are.
    Send(Vec<u8>),
    /// Silence.
    Wait(Duration),
    /// The connection is reset.
    Cut,
    /// These bytes for ever.
    Forever(Vec<u8>),
}

/// What one request was, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) body: Value,
    pub(super) authorization: Option<String>,
    pub(super) at: Instant,
    /// the client closed before everything was sent
    pub(super) left: bool,
}

/// What a script sees.
pub(super) struct Request<'a> {
    pub(super) path: &'a str,
    pub(super) body: &'a Value,
    /// completion requests with more than one token before this one
    pub(super) nth: usize,
}

type Script = dyn Fn(&Request<'_>) -> Vec<Step> + Send + Sync;

/// A server on a port of its own; it dies when it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    most: Arc<AtomicUsize>,
    life: CancellationToken,
}

impl Server {
    /// Answers completion requests by a script.
    pub(super) async fn new(script: impl Fn(&Request<'_>) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            most: Arc::default(),
            life: CancellationToken::new(),
        };
        let (asked, most, life, script): (_, _, _, Arc<Script>) = (
            server.asked.clone(),
            server.most.clone(),
            server.life.clone(),
            Arc::new(script),
        );
        let (now, nth) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    () = life.cancelled() => return,
                    stream = listener.accept() => stream.unwrap().0,
                };
                let (asked, most, now, nth, script) = (
                    asked.clone(),
                    most.clone(),
                    now.clone(),
                    nth.clone(),
                    script.clone(),
                );
                let one = async move {
                    if let Some((index, steps)) = hear(stream, &asked, &nth, script.as_ref()).await {
                        let (stream, steps) = steps;
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        let left = say(stream, steps).await;
                        now.fetch_sub(1, Ordering::SeqCst);
                        asked.lock().unwrap()[index].left = left;
                    }
                };
                let life = life.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = life.cancelled() => {}
                        () = one => {}
                    }
                });
            }
        });
        server
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
    /// Everything that was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
    /// Requests for traces, without the questions for single tokens and models.
    pub(super) fn traces(&self) -> Vec<Asked> {
        self.asked()
            .into_iter()
            .filter(|a| is_trace(&a.path, &a.body))
            .collect()
    }
    /// Most requests that were answered at a time.
    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
    /// Closes everything at once, the port included.
    pub(super) fn die(&self) {
        self.life.cancel();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.die();
    }
}

fn is_trace(path: &str, body: &Value) -> bool {
    path.ends_with("completions") && body["max_tokens"] != 1
}

type Heard = (usize, (TcpStream, Vec<Step>));

/// Reads a request and asks the script what to answer.
async fn hear(
    mut stream: TcpStream,
    asked: &Mutex<Vec<Asked>>,
    nth: &AtomicUsize,
    script: &Script,
) -> Option<Heard> {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&part[..n]),
            _ => return None,
        }
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let field = |name: &str| {
                let line = head.lines().find(|l| l.to_ascii_lowercase().starts_with(name))?;
                Some(line[name.len() + 1..].trim().to_owned())
            };
            let length: usize = field("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                bytes.drain(..end + 4);
                break ((head.clone(), field("authorization")), length);
            }
        }
    };
    let path = head.0.split(' ').nth(1).unwrap().to_owned();
    let body: Value = serde_json::from_slice(&bytes[..length]).unwrap_or(Value::Null);
    let steps = {
        let number = match is_trace(&path, &body) {
            true => nth.fetch_add(1, Ordering::SeqCst),
            false => 0,
        };
        script(&Request {
            path: &path,
            body: &body,
            nth: number,
        })
    };
    let mut asked = asked.lock().unwrap();
    asked.push(Asked {
        path,
        body,
        authorization: head.1,
        at: Instant::now(),
        left: false,
    });
    Some((asked.len() - 1, (stream, steps)))
}

/// Sends an answer; true when the client left before its end.
async fn say(mut stream: TcpStream, steps: Vec<Step>) -> bool {
    let mut probe = [0; 1];
    for step in steps {
        match step {
            Step::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return true;
                }
            }
            Step::Wait(time) => {
                tokio::select! {
                    () = tokio::time::sleep(time) => {}
                    _ = stream.read(&mut probe) => return true,
                }
            }
            Step::Cut => {
                let _ = stream.set_zero_linger();
                return false;
            }
            Step::Forever(bytes) => loop {
                if stream.write_all(&bytes).await.is_err() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            },
        }
    }
    let _ = stream.shutdown().await;
    // waits until the client has read everything: a socket closed with bytes unread is reset
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut probe)).await;
    false
}

/// A whole answer that is no stream.
pub(super) fn plain(status: &str, headers: &str, body: &str) -> Vec<Step> {
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}connection: \
         close\r\n\r\n{body}",
        body.len()
    );
    vec![Step::Send(text.into_bytes())]
}

/// The beginning of a stream.
pub(super) fn head() -> Step {
    Step::Send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_vec())
}

pub(super) fn event(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

pub(super) fn done() -> Vec<u8> {
    b"data: [DONE]\n\n".to_vec()
}

/// The list of models of an engine with one.
pub(super) fn models(name: &str) -> Vec<Step> {
    let body = json!({
        "object": "list", "data": [{"id": name, "object": "model", "owned_by": "vllm", "max_model_len": 4096}]
    });
    plain("200 OK", "", &body.to_string())
}

/// What the engine's model says to a seed: tokens with confidences, the last of them the end of the text.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) words: Vec<String>,
    pub(super) confidence: Vec<f64>,
    pub(super) finish: &'static str,
}

impl Trace {
    /// Of 24 to 39 tokens, sure or unsure of itself by its seed; two of three answer 7.
    pub(super) fn of(seed: u64) -> Self {
        let n = 24 + (seed % 16) as usize;
        let unsure = seed.is_multiple_of(4);
        let answer = if seed.is_multiple_of(3) { seed % 5 } else { 7 };
        let mut words: Vec<String> = (0..n - 3).map(|i| format!("w{} ", i % 7)).collect();
        words.extend(["\\boxed{".to_owned(), format!("{answer}}}"), String::new()]);
        let level = |i: usize| {
            8.0 + ((seed / 7 + i as u64 * 13) % 10) as f64 * 0.05 - if unsure && i > 12 { 3.0 } else { 0.0 }
        };
        Self {
            confidence: (0..n).map(level).collect(),
            words,
            finish: "stop",
        }
    }

    /// Log-probabilities of which the first 20 have the mean that makes the confidence, largest first.
    fn top(&self, i: usize, n: usize, scale: f64) -> Vec<f64> {
        (0..n)
            .map(|j| scale * (-self.confidence[i] + (9.5 - j as f64) * 0.2))
            .collect()
    }

    /// Chunks of the chat endpoint with up to `per` tokens each.
    pub(super) fn chunks(&self, body: &Value, per: usize) -> Vec<Value> {
        let asked = body["top_logprobs"].as_u64().map(|n| n as usize);
        let all: Vec<usize> = (0..self.words.len()).collect();
        let mut chunks = vec![json!({"choices": [
            {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}
        ]})];
        for part in all.chunks(per) {
            let text: String = part.iter().map(|i| self.words[*i].as_str()).collect();
            let last = part.last() == all.last();
            let mut choice =
                json!({"index": 0, "delta": {"content": text}, "finish_reason": last.then_some(self.finish)});
            if let Some(n) = asked {
                let entry = |i: &usize| {
                    let top = self.top(*i, n, 1.0);
                    let list: Vec<_> = top.iter().map(|p| json!({"token": "x", "logprob": p})).collect();
                    json!({"token": self.words[*i], "logprob": top[0], "top_logprobs": list})
                };
                choice["logprobs"] = json!({"content": part.iter().map(entry).collect::<Vec<_>>()});
            }
            if body["return_token_ids"] == true {
                choice["token_ids"] = part.iter().map(|i| json!(100 + i)).collect();
            }
            chunks.push(json!({"choices": [choice]}));
        }
        if body["stream_options"]["include_usage"] == true {
            chunks.push(
                json!({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": self.words.len()}}),
            );
        }
        chunks
    }
}

/// A well behaved answer: the list of models, a token for a question, a trace by its seed in chunks of `per`
/// tokens.
pub(super) fn well(request: &Request<'_>, per: usize) -> Vec<Step> {
    if let Some(steps) = question(request, 1.0) {
        return steps;
    }
    let chunks = Trace::of(request.body["seed"].as_u64().unwrap()).chunks(request.body, per);
    let mut steps = vec![head()];
    steps.extend(chunks.iter().map(|c| Step::Send(event(c))));
    steps.push(Step::Send(done()));
    steps
}

/// The answer to anything but a request for a trace. Log-probabilities are raised to a power of `1 /
/// temperature` by `processed` of 0.
pub(super) fn question(request: &Request<'_>, raw: f64) -> Option<Vec<Step>> {
    if request.path.ends_with("/models") {
        return Some(models("m"));
    }
    if !request.path.ends_with("completions") {
        return Some(plain("404 Not Found", "", "{}"));
    }
    if is_trace(request.path, request.body) {
        return None;
    }
    let temperature = request.body["temperature"].as_f64().unwrap();
    let scale = if raw == 1.0 { 1.0 } else { 1.0 / temperature };
    let mut token = Trace::of(1);
    token.words.truncate(1);
    token.finish = "length";
    let mut chunks = token.chunks(request.body, 1);
    for chunk in &mut chunks {
        if let Some(list) = chunk
            .pointer_mut("/choices/0/logprobs/content/0/top_logprobs")
            .and_then(Value::as_array_mut)
        {
            for top in list {
                top["logprob"] = json!(top["logprob"].as_f64().unwrap() * scale);
            }
        }
    }
    let mut steps = vec![head()];
    steps.extend(chunks.iter().map(|c| Step::Send(event(c))));
    steps.push(Step::Send(done()));
    Some(steps)
}
