//! `tts serve`.

use std::ffi::OsStr;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::evals::data::Problem;
use crate::serve::{Keys, Limits, Options, Origins, RequestLog, Server, UnknownFields};
use crate::solver::Reader;
use crate::source::PrefixCache;
use crate::{Settings, Solver};
use anyhow::{anyhow, bail};
use clap::Args;
use clap::builder::Resettable;
use serde_json::json;

use super::args::{BackendArgs, BatchArgs, ModelArgs, SamplingArgs};
use super::number::{self, count, plural};
use super::printer::Printer;
use super::solve::of_problems;
use super::solver::engines;
use super::strategy::StrategyArgs;
use super::task::AnswerArgs;
use super::trace_args::{LimitArgs, PromptArgs, of_traces};
use super::{ExitStatus, interrupt};

/// The variable that holds API keys. There is no flag for them: other users of the machine can read a command
/// line.
pub(super) const KEY: &str = "TTS_API_KEY";

#[derive(Args)]
#[command(
    after_help = "API keys come from the variable TTS_API_KEY, or from the file of --api-key-file, one a \
                  line. --max-tokens, --max-total-tokens and --time-limit are for each request, and none \
                  exceeds them.",
    mut_arg("seed", |seed| {
        seed.default_value(Resettable::Reset)
            .help("Seed of requests that name none [default: a fresh one for each]")
    })
)]
pub(crate) struct ServeArgs {
    /// Address to listen on; one that other machines can reach needs an API key
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = host)]
    host: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// The model's name in requests [default: the last part of --model]
    #[arg(long, value_name = "NAME")]
    served_name: Option<String>,
    /// API keys that open the server, one a line
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Traces for each choice, unless the request says otherwise
    #[arg(long, value_name = "N", default_value_t = 64)]
    traces: usize,
    /// Traces that a request may ask for [default: 512, or --traces where that is more]
    #[arg(long, value_name = "N")]
    max_traces: Option<usize>,
    /// Choices that a request may ask for [default: 16, or --max-requests where that is less]
    #[arg(long, value_name = "N")]
    max_choices: Option<usize>,
    /// What is done with fields of a request that are not known: a misspelt one that is ignored changes
    /// nothing without a word
    #[arg(long, value_name = "refuse|ignore", default_value = "refuse", value_parser = unknown_fields)]
    unknown_fields: UnknownFields,
    /// Lets pages of this origin ask, as http://localhost:3000; may be given several times. * is every page,
    /// and needs an API key
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// Writes a line for each request to stderr: time, method, path, status, milliseconds, tokens
    #[arg(long, value_name = "text|json", num_args = 0..=1, default_missing_value = "text", require_equals = true)]
    request_log: Option<LogFormat>,
    /// Tokens of a prompt [default: the model's context]
    #[arg(long, value_name = "N")]
    max_prompt: Option<usize>,
    /// Bytes of a request
    #[arg(long, value_name = "BYTES", default_value = "1MiB", value_parser = number::parse_bytes)]
    max_body: u64,
    /// Choices that run or wait for a place in the batch; beyond these a request is told to come again
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_requests: usize,
    /// Open connections; more are closed at once
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_connections: usize,
    /// Time in which a request must arrive, and a client must take something of what is written to it
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = number::parse_duration)]
    patience: Duration,
    /// Time that running requests have to end when the server is stopped; then the votes so far decide
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = number::parse_duration)]
    drain: Duration,
    #[command(flatten)]
    strategy: StrategyArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    answers: AnswerArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    batch: BatchArgs,
    /// Bytes of prompts that are kept, so that the next turn of a conversation is read from where it goes on; auto
    /// is a quarter of what traces may take. They are given up before a trace wants for memory
    #[arg(
        long,
        value_name = "BYTES|auto|off",
        default_value = "auto",
        hide_default_value = true,
        value_parser = prefix_cache,
        conflicts_with = "backend",
        help_heading = "Batch"
    )]
    prefix_cache: PrefixCache,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// Most likely tokens that an engine's confidences are taken over [default: 20]
    #[arg(long, value_name = "K", requires = "backend", help_heading = "Remote engines")]
    confidence_k: Option<usize>,
}

/// How the lines of `--request-log` look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn unknown_fields(text: &str) -> Result<UnknownFields, String> {
    match text {
        "refuse" => Ok(UnknownFields::Refuse),
        "ignore" => Ok(UnknownFields::Ignore),
        _ => Err("it is refuse or ignore".to_owned()),
    }
}

fn prefix_cache(text: &str) -> Result<PrefixCache, String> {
    match text {
        "auto" => Ok(PrefixCache::Auto),
        "off" => Ok(PrefixCache::Off),
        bytes => match number::parse_bytes(bytes) {
            Ok(0) => Ok(PrefixCache::Off),
            Ok(bytes) => Ok(PrefixCache::Bytes(bytes)),
            Err(_) => Err("it is a number of bytes, as 2GiB, or auto or off".to_owned()),
        },
    }
}

fn host(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.parse()
        .map_err(|_| "it is an IP address, as 127.0.0.1, 0.0.0.0 or ::1, or localhost".to_owned())
}

pub(crate) fn run(args: &ServeArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let settings = args.settings()?;
    let limits = args.limits()?;
    let keys = args.keys(printer)?;
    let origins = Origins::parse(&args.cors).map_err(|what| anyhow!("--cors {what}"))?;
    let task = args.answers.task()?;
    let reader = if args.answers.any() {
        Some(Reader::Rules(args.answers.reader(task.as_ref())?))
    } else {
        None
    };
    let address = SocketAddr::new(args.host, args.port);
    let (strategy, guarded) = (settings.strategy.name.clone(), !keys.is_empty());
    let options = |name| Options {
        address,
        name,
        keys,
        limits,
        seed: args.sampling.named_seed,
        unknown_fields: args.unknown_fields,
        origins,
        request_log: args.request_log.map(|format| RequestLog {
            json: format == LogFormat::Json,
            write: Arc::new(|line| {
                // a log that cannot be written is no reason to answer nobody
                let _ = writeln!(std::io::stderr().lock(), "{line}");
            }),
        }),
    };
    let here = if args.backend.is_remote() {
        None
    } else {
        let name = args.name(file_name(
            args.model.model.as_deref().unwrap_or(crate::loaded::BUNDLED),
        ))?;
        let mut loaded = args.model.open(printer)?;
        if let Some(most) = args.max_prompt {
            loaded.limit_prompts(most);
        }
        Some((name, loaded))
    };
    interrupt::runtime()?.block_on(async {
        let stop = interrupt::stop();
        let (server, name) = match here {
            Some((name, loaded)) => {
                let mut solver = Solver::local(loaded, settings)?;
                if let Some(reader) = reader {
                    solver = solver.with_reader(reader);
                }
                (Server::bind(solver, options(name.clone())).await?, name)
            }
            None => {
                let solver = args.reach(settings, reader, printer).await?;
                let model = solver.source().model();
                let name = args.name(model.rsplit('/').next().unwrap_or(model))?;
                (Server::bind(solver, options(name.clone())).await?, name)
            }
        };
        let url = format!("http://{}", server.address());
        if printer.json() {
            printer
                .object(&json!({ "url": url, "model": name, "strategy": strategy, "traces": args.traces }))?;
        } else {
            printer.line(&url)?;
        }
        printer.flush()?;
        printer.note(&format!(
            "{name} with {strategy}, {} for each answer; {}. The page is at {url}/, OpenAI's interface at \
             {url}/v1. Ctrl-C lets running requests end",
            plural(args.traces as u64, "trace"),
            if guarded {
                "an API key is needed"
            } else {
                "no API key is needed"
            },
        ));
        let stopped = stop.clone();
        let note = async {
            stopped.cancelled().await;
            printer.note(&format!(
                "stopping: running requests have {} to end; once more leaves at once",
                number::seconds(args.drain.as_secs_f64())
            ));
        };
        tokio::join!(server.run(stop), note);
        Ok(ExitStatus::Done)
    })
}

impl ServeArgs {
    fn settings(&self) -> anyhow::Result<Settings> {
        let mut settings = of_problems(&self.strategy, self.traces, &self.batch, &self.limits)?;
        settings.prefix_cache = self.prefix_cache;
        of_traces(settings, &self.limits, &self.prompt, &self.sampling, &self.model)
    }

    fn limits(&self) -> anyhow::Result<Limits> {
        let choices = self.max_choices.unwrap_or(16.min(self.max_requests));
        let numbers = [
            ("max-traces", self.max_traces.unwrap_or(1)),
            ("max-choices", self.max_choices.unwrap_or(1)),
            ("max-prompt", self.max_prompt.unwrap_or(1)),
            ("max-requests", self.max_requests),
            ("max-connections", self.max_connections),
        ];
        for (flag, n) in numbers {
            // as many as a semaphore counts
            if n == 0 || n > u32::MAX as usize >> 3 {
                bail!(
                    "--{flag} {n} is out of range: it must be at least 1 and at most {}",
                    count(u64::from(u32::MAX >> 3))
                );
            }
        }
        if choices > self.max_requests {
            bail!(
                "--max-choices {} could never run with --max-requests {}: it must be at most that",
                choices,
                self.max_requests
            );
        }
        Ok(Limits {
            body: usize::try_from(self.max_body).unwrap_or(usize::MAX),
            prompt: self.max_prompt.unwrap_or(usize::MAX),
            traces: self
                .max_traces
                .unwrap_or(self.traces.max(Limits::default().traces)),
            choices,
            requests: self.max_requests,
            connections: self.max_connections,
            patience: self.patience,
            drain: self.drain,
        })
    }

    fn keys(&self, printer: &Printer) -> anyhow::Result<Keys> {
        let (text, from) = match (&self.api_key_file, std::env::var(KEY)) {
            (Some(file), _) => {
                let read = std::fs::read_to_string(file)
                    .map_err(|e| anyhow!("--api-key-file {} cannot be read: {e}", file.display()))?;
                if is_open_to_others(file) {
                    printer.warn(&format!(
                        "--api-key-file {}: other users of this machine can read it; chmod 600 keeps its keys",
                        file.display()
                    ));
                }
                (read, format!("--api-key-file {}", file.display()))
            }
            (None, Ok(key)) => (key, KEY.to_owned()),
            (None, Err(std::env::VarError::NotPresent)) => return Ok(Keys::default()),
            (None, Err(_)) => bail!("{KEY} is not text"),
        };
        let keys = Keys::parse(&text).map_err(|what| anyhow!("{from}: {what}"))?;
        // who names keys wants a closed door
        if keys.is_empty() {
            bail!("{from} holds no API key; write one a line, or leave it out");
        }
        Ok(keys)
    }

    /// The engines elsewhere, asked what they give.
    async fn reach(
        &self,
        settings: Settings,
        reader: Option<Reader>,
        printer: &Printer,
    ) -> anyhow::Result<Solver> {
        let sample = Problem {
            id: String::new(),
            problem: "What is 1 + 1?".to_owned(),
            answer: None,
            extra: serde_json::Map::new(),
        };
        let options = self.backend.options(self.confidence_k);
        let (mut solver, remote) = Solver::remote(
            &options,
            self.backend.api(),
            settings,
            self.model.prompter()?,
            &sample,
        )
        .await?;
        if let Some(reader) = reader {
            solver = solver.with_reader(reader);
        }
        remote.notices().for_each(|notice| printer.warn(&notice));
        printer.note(&engines(&remote));
        Ok(solver)
    }

    /// What clients call the model. Where it lies on this machine or another is none of their business.
    fn name(&self, model: &str) -> anyhow::Result<String> {
        let name = self.served_name.clone().unwrap_or_else(|| model.to_owned());
        if name.is_empty() || name.contains('@') || name.chars().any(char::is_control) {
            bail!("--served-name {name:?} is no name for a model: it must not be empty and have no @ in it");
        }
        Ok(name)
    }
}

/// Whether users other than its owner may read a file.
#[cfg(unix)]
fn is_open_to_others(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o044 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> bool {
    false
}

/// The last part of `--model`, without the ending of a file.
fn file_name(model: &str) -> &str {
    let last = Path::new(model)
        .file_name()
        .and_then(OsStr::to_str)
        .unwrap_or(model);
    let last = last.rsplit_once(':').map_or(last, |(_, file)| file);
    last.strip_suffix(".gguf").unwrap_or(last)
}
