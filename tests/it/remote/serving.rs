//! `tts serve` before engines elsewhere.

use std::io::{BufRead, BufReader, Read, Seek};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tts::Settings;
use tts::Solver;
use tts::serve::{Limits, Options};
use tts::solver::RemoteApi;
use tts::source::RemoteOptions;

use super::server::{Server, Step, Trace, done, event, head, plain, question, well};
use super::{model_of, options, problem, settings, solve, until};

/// A server before an engine, stopped when it is dropped.
struct Front {
    url: String,
    stop: CancellationToken,
    client: reqwest::Client,
}

impl Front {
    async fn before(engines: &RemoteOptions, settings: Settings) -> Self {
        let (runner, _) = Solver::remote(engines, RemoteApi::Chat, settings, None, &problem())
            .await
            .unwrap();
        let options = Options {
            address: "127.0.0.1:0".parse().unwrap(),
            name: "big".to_owned(),
            limits: Limits {
                drain: Duration::from_secs(1),
                ..Limits::default()
            },
            seed: Some(0),
            ..Options::default()
        };
        let server = tts::serve::Server::bind(runner, options).await.unwrap();
        let (url, stop) = (
            format!("http://{}/v1", server.address()),
            CancellationToken::new(),
        );
        tokio::spawn(server.run(stop.clone()));
        let client = client().no_proxy().tls_certs_only([]).build().unwrap();
        Self { url, stop, client }
    }

    async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self
            .client
            .post(format!("{}/{path}", self.url))
            .body(body.to_string());
        request.send().await.unwrap()
    }

    /// A chat with one question, and other fields beside it: status and body.
    async fn chat(&self, fields: Value) -> (u16, Value) {
        let response = self.post("chat/completions", &chat(fields)).await;
        let status = response.status().as_u16();
        (
            status,
            serde_json::from_str(&response.text().await.unwrap()).unwrap(),
        )
    }

    /// The message and the field of a refusal.
    async fn refused(&self, status: u16, fields: Value) -> (String, Value) {
        let (got, body) = self.chat(fields).await;
        assert_eq!(got, status, "{body}");
        (
            body["error"]["message"].as_str().unwrap().to_owned(),
            body["error"]["param"].clone(),
        )
    }

    async fn running(&self) -> String {
        let text = self
            .client
            .get(self.url.replace("/v1", "/metrics"))
            .send()
            .await
            .unwrap();
        let text = text.text().await.unwrap();
        let line = text
            .lines()
            .find(|l| l.starts_with("tts_requests_running "))
            .unwrap();
        line.to_owned()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A client whose connections may be encrypted by what this process names, whatever ran in it before.
fn client() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}

fn chat(fields: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": "What is 3 + 4?" }] });
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    body
}

/// The answer that most of these traces have, and the tokens of all.
fn expected(server: &Server) -> (String, u64) {
    let traces = model_of(server);
    let sevens = traces
        .values()
        .filter(|t| t.words.contains(&"7}".to_owned()))
        .count();
    assert!(2 * sevens > traces.len(), "the script's answers");
    (
        "7".to_owned(),
        traces.values().map(|t| t.words.len() as u64).sum(),
    )
}

#[tokio::test]
async fn a_reply_is_the_vote_of_the_engines_traces() {
    let engine = Server::new(|r| {
        let mut steps = well(r, 3);
        // two pieces of three tokens, and nothing until the stream is closed
        if r.body["messages"].to_string().contains("slowly") && question(r, 1.0).is_none() {
            steps.truncate(4);
            steps.push(Step::Wait(Duration::from_secs(600)));
        }
        steps
    })
    .await;
    let front = Front::before(&options(&[engine.url()]), settings("majority", 9)).await;
    let messages = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "Hello" },
        { "role": "assistant", "content": "Hello!", "reasoning_content": "A greeting." },
        { "role": "user", "content": "What is 3 + 4?" },
    ]);
    let (status, reply) = front
        .chat(json!({
            "messages": messages, "model": "big@majority", "temperature": 0.5, "max_tokens": 90,
            "instruction": "Think."
        }))
        .await;
    assert_eq!(status, 200, "{reply}");
    let (answer, tokens) = expected(&engine);
    assert_eq!(
        (&reply["tts"]["answer"], &reply["model"]),
        (&json!(answer), &json!("big@majority"))
    );
    assert!(
        reply["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .ends_with("\\boxed{7}")
    );
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    assert_eq!(reply["tts"]["traces"]["finished"], 9);
    assert_eq!(reply["usage"]["completion_tokens"], tokens);
    assert_eq!(reply["usage"]["prompt_tokens"], 11);
    // which tokens of the engine's text are the content's is not known
    assert!(
        reply["usage"]["completion_tokens_details"]
            .get("reasoning_tokens")
            .is_none()
    );

    let asked = engine.traces();
    assert_eq!(asked.len(), 9);
    let sent = asked[0].body["messages"].as_array().unwrap();
    let roles: Vec<_> = sent.iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    assert_eq!(sent[0], json!({ "role": "system", "content": "Be brief." }));
    assert_eq!(sent[2]["reasoning_content"], "A greeting.");
    assert!(sent[3]["content"].as_str().unwrap().contains("Think."));
    assert_eq!(
        (&asked[0].body["temperature"], &asked[0].body["max_tokens"]),
        (&json!(0.5), &json!(90))
    );

    // a stop text ends traces where they write it, and is not in the reply
    let (_, reply) = front
        .chat(json!({ "stop": "w5", "traces": 2, "instruction": "Think slowly." }))
        .await;
    assert_eq!(reply["choices"][0]["message"]["content"], "w0 w1 w2 w3 w4");
    assert!(reply["tts"]["tokens"]["unseen"].is_null(), "{reply}");
    assert_eq!(
        reply["usage"]["completion_tokens"], 12,
        "two traces of two chunks of three"
    );
}

#[tokio::test]
async fn a_stream_ends_with_the_vote_and_shows_the_way_there() {
    let engine = Server::new(|r| well(r, 1)).await;
    let front = Front::before(&options(&[engine.url()]), settings("deepconf-low", 12)).await;
    let body =
        chat(json!({ "stream": true, "progress": "traces", "stream_options": { "include_usage": true } }));
    let text = front.post("chat/completions", &body).await.text().await.unwrap();
    let mut parts: Vec<&str> = text.split("\n\n").filter(|p| p.starts_with("data: ")).collect();
    assert_eq!(parts.pop(), Some("data: [DONE]"), "{text}");
    let events: Vec<Value> = parts
        .iter()
        .map(|p| serde_json::from_str(&p[6..]).unwrap())
        .collect();
    let of = |kind: &str| events.iter().filter(|e| e["tts"]["event"] == kind).count();
    assert_eq!((of("started"), of("decided")), (1, 1));
    // every trace is followed to its end, with confidences
    let ended = of("ended") as u64;
    let with_points = |e: &&Value| {
        e["tts"]["event"] == "traces" && !e["tts"]["traces"][0]["points"].as_array().unwrap().is_empty()
    };
    assert!(events.iter().any(|e| with_points(&e)));
    let content: String = events
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert!(content.ends_with("\\boxed{7}"), "{content}");
    let last = events
        .iter()
        .find(|e| e["tts"].get("answer").is_some() && e["tts"].get("votes").is_some())
        .unwrap();
    assert_eq!(last["tts"]["answer"], "7");
    assert_eq!(last["tts"]["traces"]["launched"], ended);
    assert!(last["tts"]["threshold"].is_number());
    let usage = &events.last().unwrap()["usage"];
    assert_eq!(usage["completion_tokens"], last["tts"]["tokens"]["generated"]);
}

#[tokio::test]
async fn thinking_that_an_engines_template_opens_is_told_from_the_answer() {
    let engine = Server::new(|r| {
        question(r, 1.0).unwrap_or_else(|| {
            let mut trace = Trace::of(r.body["seed"].as_u64().unwrap());
            trace.words[2] = "</think>\n".to_owned();
            let mut steps = vec![head()];
            steps.extend(trace.chunks(r.body, 1).iter().map(|c| Step::Send(event(c))));
            steps.push(Step::Send(done()));
            steps
        })
    })
    .await;
    let front = Front::before(&options(&[engine.url()]), settings("majority", 1)).await;
    let (status, reply) = front.chat(json!({})).await;
    assert_eq!(status, 200, "{reply}");
    let message = &reply["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "w0 w1");
    assert!(
        message["content"].as_str().unwrap().starts_with("w3 "),
        "{message}"
    );
}

#[tokio::test]
async fn solving_and_serving_show_the_same_of_a_text() {
    for (text, thought, said) in [
        ("1</think>2 <think>3</think>4", "1", "2 <think>3</think>4"),
        ("<think>1</think>2 <think>3</think>4", "1", "2 <think>3</think>4"),
        ("<think>1<think>2</think>3", "12", "3"),
        ("1</think>2 <think>3", "1", "2 <think>3"),
        (
            "<think>ab</think>\n\nThe tag <think> starts it, \\boxed{4}.",
            "ab",
            "The tag <think> starts it, \\boxed{4}.",
        ),
        (
            "The tags <think> and </think> make it \\boxed{4}",
            "",
            "The tags <think> and </think> make it \\boxed{4}",
        ),
    ] {
        // marks come in pieces
        let letters = text.chars().map(|c| ("content", c.to_string())).collect();
        let engine = says(letters).await;
        let solved = solve(&engine, settings("majority", 1)).await;
        assert_eq!(solved.solution.as_deref(), Some(said), "{text}");
        let front = Front::before(&options(&[engine.url()]), settings("majority", 1)).await;
        let (status, reply) = front.chat(json!({})).await;
        assert_eq!(status, 200, "{reply}");
        let message = &reply["choices"][0]["message"];
        assert_eq!(message["content"], said, "{text}");
        assert_eq!(
            message["reasoning_content"].as_str().unwrap_or_default(),
            thought,
            "{text}"
        );
        assert_eq!(
            streamed(&front).await,
            (thought.to_owned(), said.to_owned()),
            "{text}"
        );
    }
}

#[tokio::test]
async fn one_reply_with_a_lone_mark_does_not_speak_for_those_after_it() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let engine = saying(move || {
        let n = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let text = if n == 1 {
            "the mark </think> ends it"
        } else {
            "plain \\boxed{4}"
        };
        vec![("content", text.to_owned())]
    })
    .await;
    let front = Front::before(&options(&[engine.url()]), settings("majority", 1)).await;
    let mut contents = Vec::new();
    for _ in 0..4 {
        let (_, reply) = front.chat(json!({})).await;
        contents.push(
            reply["choices"][0]["message"]["content"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let plain = "plain \\boxed{4}";
    assert_eq!(contents, [plain, "ends it", plain, plain]);
    assert_eq!(streamed(&front).await, (String::new(), plain.to_owned()));
}

/// An engine that says these texts in these fields, a piece each.
async fn says(pieces: Vec<(&'static str, String)>) -> Server {
    saying(move || pieces.clone()).await
}

/// An engine that says what comes to it for each request, texts in fields, a piece each.
async fn saying(pieces: impl Fn() -> Vec<(&'static str, String)> + Send + Sync + 'static) -> Server {
    Server::new(move |r| {
        question(r, 1.0).unwrap_or_else(|| {
            let pieces = pieces();
            let chunk = |field: &str, content: &str, end: Option<&str>| {
                let list = json!([{"token": "x", "logprob": -0.1, "top_logprobs": [{"logprob": -0.1}]}]);
                Step::Send(event(&json!({"choices": [{
                    "index": 0, "delta": {field: content}, "logprobs": {"content": list},
                    "finish_reason": end,
                }]})))
            };
            let mut steps = vec![head()];
            steps.extend(pieces.iter().map(|(field, text)| chunk(field, text, None)));
            steps.extend([chunk("content", "", Some("stop")), Step::Send(done())]);
            steps
        })
    })
    .await
}

/// Thinking and content of a stream of one trace.
async fn streamed(front: &Front) -> (String, String) {
    let body = chat(json!({ "stream": true, "traces": 1 }));
    let text = front.post("chat/completions", &body).await.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let events: Vec<Value> = text
        .split("\n\n")
        .filter_map(|p| serde_json::from_str(p.strip_prefix("data: ")?).ok())
        .collect();
    let of = |field: &str| {
        let deltas = events
            .iter()
            .filter_map(|e| e["choices"][0]["delta"][field].as_str());
        deltas.collect::<String>()
    };
    (of("reasoning_content"), of("content"))
}

#[tokio::test]
async fn what_an_engine_calls_reasoning_is_thinking_and_its_content_may_speak_of_marks() {
    let piece = |field: &'static str, text: &str| (field, text.to_owned());
    let engine = says(vec![
        piece("reasoning_content", "a "),
        piece("reasoning_content", "</think>"),
        piece("reasoning_content", "b"),
        piece("content", "\n\nThe tag "),
        piece("content", "<think>"),
        piece("content", " and </think>: \\boxed{4}."),
    ])
    .await;
    let front = Front::before(&options(&[engine.url()]), settings("majority", 1)).await;
    let (_, reply) = front.chat(json!({})).await;
    let said = "The tag <think> and </think>: \\boxed{4}.";
    let message = &reply["choices"][0]["message"];
    assert_eq!(
        (&message["reasoning_content"], &message["content"]),
        (&json!("a b"), &json!(said))
    );
    assert_eq!(reply["tts"]["answer"], "4");
    assert_eq!(streamed(&front).await, ("a b".to_owned(), said.to_owned()));
}

#[tokio::test]
async fn a_lone_chat_is_shown_as_it_is_written() {
    // two pieces, and nothing until the stream is closed
    let engine = Server::new(|r| {
        question(r, 1.0).unwrap_or_else(|| {
            let mut steps = well(r, 3);
            steps.truncate(4);
            steps.push(Step::Wait(Duration::from_secs(600)));
            steps
        })
    })
    .await;
    let front = Front::before(&options(&[engine.url()]), settings("majority", 1)).await;
    let mut reply = front
        .post("chat/completions", &chat(json!({ "stream": true })))
        .await;
    let mut text = String::new();
    while !text.contains("w5") {
        text.push_str(&String::from_utf8_lossy(&reply.chunk().await.unwrap().unwrap()));
    }
    assert!(
        !text.contains("at most") && !text.contains("reasoning_content"),
        "{text}"
    );
    drop(reply);
    until(|| engine.traces().iter().all(|t| t.left), "the stream is closed").await;
}

#[tokio::test]
async fn a_lone_raw_completion_is_shown_as_it_is_written() {
    // two pieces, and nothing until the stream is closed
    let engine = Server::new(|r| {
        question(r, 1.0).unwrap_or_else(|| {
            let mut steps = well(r, 3);
            steps.truncate(4);
            steps.push(Step::Wait(Duration::from_secs(600)));
            steps
        })
    })
    .await;
    let front = Front::before(&options(&[engine.url()]), settings("majority", 1)).await;
    let mut reply = front
        .post("completions", &json!({ "prompt": "3 + 4 =", "stream": true }))
        .await;
    let mut text = String::new();
    while !text.contains("w5") {
        text.push_str(&String::from_utf8_lossy(&reply.chunk().await.unwrap().unwrap()));
    }
    let pieces: Vec<Value> = text
        .split("\n\n")
        .filter_map(|p| serde_json::from_str(p.strip_prefix("data: ")?).ok())
        .collect();
    let shown: String = pieces
        .iter()
        .filter_map(|p| p["choices"][0]["text"].as_str())
        .collect();
    assert!("w0 w1 w2 w3 w4 w5 ".starts_with(&shown), "{shown}");
    drop(reply);
    until(|| engine.traces().iter().all(|t| t.left), "the stream is closed").await;
}

#[tokio::test]
async fn requests_share_the_engines_and_their_limits() {
    let engines = [
        Server::new(|r| well(r, 2)).await,
        Server::new(|r| well(r, 2)).await,
    ];
    let engines_options = RemoteOptions {
        in_flight: 3,
        ..options(&engines.each_ref().map(Server::url))
    };
    let front = Front::before(&engines_options, settings("majority", 8)).await;
    let of = |seed: u64| {
        let front = &front;
        async move {
            let (status, reply) = front.chat(json!({ "seed": seed, "n": 2 })).await;
            assert_eq!(status, 200, "{reply}");
            [
                reply["choices"].clone(),
                reply["tts"]["choices"][0]["votes"].clone(),
                reply["usage"].clone(),
            ]
        }
    };
    let alone = [of(1).await, of(5).await, of(9).await];
    let together = futures::future::join_all((0..6).map(|i| of(1 + 4 * (i % 3)))).await;
    for (i, reply) in together.iter().enumerate() {
        assert_eq!(*reply, alone[i % 3]);
    }
    assert_eq!(engines.iter().map(|e| e.traces().len()).sum::<usize>(), 9 * 2 * 8);
    assert!(engines.iter().all(|e| e.most() <= 3 && !e.traces().is_empty()));
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_engines_streams() {
    // tokens without end
    let engine = Server::new(|r| {
        question(r, 1.0).unwrap_or_else(|| {
            let token = &Trace::of(1).chunks(r.body, 1)[1];
            vec![head(), Step::Forever(event(token))]
        })
    })
    .await;
    let settings = Settings {
        max_tokens: Some(4000),
        loop_stop: false,
        ..settings("majority", 6)
    };
    let front = Front::before(&options(&[engine.url()]), settings).await;
    for stream in [true, false] {
        let before = engine.traces().len();
        let body = chat(json!({ "stream": stream }));
        let request = front
            .client
            .post(format!("{}/chat/completions", front.url))
            .body(body.to_string());
        let waiting = tokio::spawn(request.send());
        until(|| engine.traces().len() == before + 6, "all traces are asked for").await;
        match stream {
            true => drop(waiting.await.unwrap().unwrap()),
            false => waiting.abort(),
        }
        until(
            || engine.traces().iter().all(|t| t.left),
            "all streams are closed",
        )
        .await;
        while front.running().await != "tts_requests_running 0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn an_engine_that_is_gone_is_said_and_may_come_back() {
    let down = Arc::new(AtomicBool::new(false));
    let off = down.clone();
    let engine = Server::new(move |r| match off.load(Ordering::SeqCst) {
        true => plain(
            "503 Service Unavailable",
            "retry-after: 0\r\n",
            "{\"error\": {\"message\": \"no room at 10.0.0.9\"}}",
        ),
        false => well(r, 1),
    })
    .await;
    let engines = RemoteOptions {
        timeouts: tts::source::remote::Timeouts {
            retries: 1,
            ..options(&[]).timeouts
        },
        ..options(&[engine.url()])
    };
    let front = Front::before(&engines, settings("majority", 3)).await;
    assert_eq!(front.chat(json!({})).await.0, 200);
    down.store(true, Ordering::SeqCst);
    let (status, body) = front.chat(json!({})).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (502, &json!("engine_unavailable"))
    );
    let address = engine.address.to_string();
    assert!(
        !body.to_string().contains(&address) && !body.to_string().contains("10.0.0.9"),
        "{body}"
    );
    let text = front
        .post("chat/completions", &chat(json!({ "stream": true })))
        .await
        .text()
        .await
        .unwrap();
    assert!(
        text.contains("engine_unavailable") && !text.contains(&address) && !text.contains("[DONE]"),
        "{text}"
    );
    down.store(false, Ordering::SeqCst);
    assert_eq!(front.chat(json!({})).await.0, 200);
}

#[tokio::test]
async fn what_an_engine_cannot_do_is_refused_by_name() {
    // no log-probabilities, and no patience with long prompts
    let engine = Server::new(|r| {
        let long = r.body["messages"][0]["content"]
            .as_str()
            .is_some_and(|c| c.contains("long"));
        if long {
            return plain(
                "400 Bad Request",
                "",
                "{\"error\": {\"message\": \"the prompt is too long\"}}",
            );
        }
        if !r.path.ends_with("completions") {
            return well(r, 1);
        }
        let mut body = r.body.clone();
        body.as_object_mut().unwrap().remove("top_logprobs");
        let mut steps = vec![head()];
        let chunks = Trace::of(body["seed"].as_u64().unwrap_or(1)).chunks(&body, 1);
        steps.extend(chunks.iter().map(|c| Step::Send(event(c))));
        steps.push(Step::Send(done()));
        steps
    })
    .await;
    let front = Front::before(&options(&[engine.url()]), settings("majority", 3)).await;
    assert_eq!(front.chat(json!({})).await.0, 200);
    let before = engine.traces().len();
    for (fields, field, words) in [
        (
            json!({ "logprobs": true }),
            json!("logprobs"),
            "an engine elsewhere",
        ),
        (
            json!({ "logit_bias": { "5": -100 } }),
            json!("logit_bias"),
            "an engine elsewhere",
        ),
        (
            json!({ "chat_template_kwargs": { "x": 1 } }),
            json!("chat_template_kwargs"),
            "not passed on",
        ),
        (
            json!({ "strategy": "deepconf-low" }),
            json!("strategy"),
            "needs token confidences",
        ),
        (
            json!({ "thinking_budget": 5 }),
            json!("thinking_budget"),
            "forces tokens",
        ),
    ] {
        let (message, param) = front.refused(400, fields.clone()).await;
        assert!(
            message.contains(words) && param == field,
            "{fields}: {message} ({param})"
        );
        assert!(!message.contains(&engine.address.to_string()), "{message}");
    }
    assert_eq!(engine.traces().len(), before, "not a token was spent");
    let (message, _) = front
        .refused(
            400,
            json!({ "messages": [{ "role": "user", "content": "a long one" }] }),
        )
        .await;
    assert_eq!(
        message,
        "the engine refuses the request: 400 Bad Request: the prompt is too long"
    );

    // a raw prompt goes to the plain endpoint as it is
    let reply = front.post("completions", &json!({ "prompt": "3 + 4 =" })).await;
    assert_eq!(reply.status(), 200);
    let asked = engine.traces();
    let last = asked.last().unwrap();
    assert_eq!(
        (last.path.as_str(), &last.body["prompt"]),
        ("/v1/completions", &json!("3 + 4 ="))
    );
    let ids = front.post("completions", &json!({ "prompt": [5, 6] })).await;
    assert_eq!(ids.status(), 200);
    assert_eq!(engine.traces().last().unwrap().body["prompt"], json!([5, 6]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_command_serves_what_engines_elsewhere_say() {
    const SECRET: &str = "sk-the-engine-s-key";
    let engine = Server::new(|r| well(r, 2)).await;
    let log = tempfile::tempfile().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tts"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TTS_")) {
        command.env_remove(name);
    }
    let command = command
        .env("OPENAI_API_KEY", SECRET)
        .env("TTS_LOG", "trace")
        .arg("serve");
    let mut child = command
        .args([
            "--backend",
            &engine.url(),
            "--port",
            "0",
            "--traces",
            "3",
            "--max-tokens",
            "100",
            "--seed",
            "0",
            "--backend-retries",
            "2",
        ])
        .stdout(Stdio::piped())
        .stderr(log.try_clone().unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let client = client().no_proxy().tls_certs_only([]).build().unwrap();
    let url = format!("{}/v1/chat/completions", line.trim());
    let reply = client
        .post(url)
        .bearer_auth("what-the-client-has")
        .body(chat(json!({})).to_string())
        .send()
        .await;
    let text = reply.unwrap().text().await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut err = String::new();
    let mut log = log;
    log.rewind().unwrap();
    log.read_to_string(&mut err).unwrap();
    let reply: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{err}"));
    assert_eq!(
        (&reply["model"], &reply["tts"]["answer"]),
        (&json!("m"), &json!("7")),
        "{err}"
    );
    // each key opens one door
    let key = format!("Bearer {SECRET}");
    assert!(
        engine
            .asked()
            .iter()
            .all(|a| a.authorization.as_ref() == Some(&key))
    );
    assert!(!err.contains(SECRET) && !text.contains(SECRET));
    assert!(err.contains("model m, confidence over 20 tokens"), "{err}");

    for (args, words) in [
        (["--backend-api", "completions"], "needs --model FOLDER"),
        (["--dtype", "f32"], "cannot be used with"),
        (["--max-prompt", "100"], "--max-prompt counts tokens"),
        (["--thinking-budget", "9"], "--thinking-budget forces tokens"),
    ] {
        let run = Command::new(env!("CARGO_BIN_EXE_tts"))
            .args([
                "serve",
                "--port",
                "0",
                "--strategy",
                "majority",
                "--backend",
                &engine.url(),
            ])
            .args(args)
            .output()
            .unwrap();
        let err = String::from_utf8(run.stderr).unwrap();
        assert!(
            run.status.code() == Some(2) && err.contains(words),
            "{args:?}: {err}"
        );
    }
}
