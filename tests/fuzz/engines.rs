//! Replies of an engine elsewhere.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Runtime;
use tts::Solver;
use tts::evals::data::Problem;
use tts::solver::RemoteApi;
use tts::source::{RemoteOptions, remote::Timeouts};
use tts::strategies::Preset;
use tts::{Settings, Watch};

use super::Target;
use super::damage::{self, Rng};
use super::scripted::{Server, Step, well};

pub(super) struct Engines {
    runtime: Runtime,
    given: Vec<u8>,
}

impl Engines {
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        Self {
            runtime,
            given: Vec::new(),
        }
    }
}

/// Damages the JSON of an event or of a body, or its bytes.
fn damaged(rng: &mut Rng, bytes: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let json = text.find('{').map(|at| (at, text[at..].trim_end()));
    let parsed = json.and_then(|(at, json)| Some((at, json.len(), serde_json::from_str(json).ok()?)));
    match parsed {
        Some((at, len, mut value)) if !rng.once_in(3) => {
            damage::json(rng, &mut value);
            let body = value.to_string();
            let head = text[..at].replace(
                &format!("content-length: {len}\r\n"),
                &format!("content-length: {}\r\n", body.len()),
            );
            (head + &body + &text[at + len..]).into_bytes()
        }
        _ => {
            let mut bytes = bytes;
            damage::bytes(rng, &mut bytes, usize::MAX);
            bytes
        }
    }
}

impl Target for Engines {
    fn name(&self) -> &'static str {
        "engines"
    }

    fn given(&self) -> &[u8] {
        &self.given
    }

    fn case(&mut self, rng: &mut Rng) -> Result<(), String> {
        let strategy = rng.pick(&["majority", "deepconf-low"]);
        let api = if rng.once_in(3) {
            RemoteApi::Completions
        } else {
            RemoteApi::Chat
        };
        let said: Arc<Mutex<Vec<u8>>> = Arc::default();
        // replies before the first one that is damaged: questions about the engine come first
        let sound = rng.below(6);
        let own = Mutex::new((Rng::new(rng.below(usize::MAX) as u64, 0, 0), 0));
        let listening = said.clone();
        let outcome = self.runtime.block_on(async {
            let server = Server::new(move |request| {
                let mut own = own.lock().expect("nobody panics with it");
                let (rng, nth) = &mut *own;
                *nth += 1;
                let mut steps = well(request, 1 + rng.below(4));
                if *nth > sound {
                    for step in &mut steps {
                        if let Step::Send(bytes) = step
                            && rng.once_in(4)
                        {
                            *bytes = damaged(rng, std::mem::take(bytes));
                        }
                    }
                    if rng.once_in(10) {
                        steps.insert(rng.below(steps.len()), Step::Cut);
                    }
                }
                let mut said = listening.lock().expect("nobody panics with it");
                said.extend_from_slice(b"\n=== ");
                said.extend_from_slice(request.path.as_bytes());
                said.push(b'\n');
                for step in &steps {
                    if let Step::Send(bytes) = step {
                        said.extend_from_slice(bytes);
                    }
                }
                steps
            })
            .await;
            let settings = Settings {
                strategy: Preset::named(strategy).expect("it is shipped"),
                traces: 3,
                max_tokens: Some(40),
                ..Settings::default()
            };
            let options = RemoteOptions {
                backends: vec![server.url()],
                timeouts: Timeouts {
                    connect: Duration::from_secs(5),
                    first_token: Duration::from_millis(400),
                    idle: Duration::from_millis(400),
                    retries: 1,
                },
                ..RemoteOptions::default()
            };
            let problem = Problem {
                id: "p".to_owned(),
                problem: "What is 3 + 4?".to_owned(),
                answer: None,
                extra: serde_json::Map::new(),
            };
            let (runner, _) = Solver::remote(&options, api, settings, None, &problem).await?;
            runner.solve(&runner.prepare(&problem)?, Watch::default()).await
        });
        self.given = std::mem::take(&mut *said.lock().expect("nobody panics with it"));
        match outcome {
            Ok(solved) => {
                let spent: u64 = solved.records.iter().map(|r| r.tokens as u64 + r.unseen).sum();
                if spent != solved.tokens.generated {
                    return Err(format!(
                        "{spent} tokens of traces, {} in the books",
                        solved.tokens.generated
                    ));
                }
                Ok(())
            }
            Err(error) if error.to_string().is_empty() => Err("it is refused without a word".to_owned()),
            Err(_) => Ok(()),
        }
    }
}
