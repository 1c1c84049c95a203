//! Flags that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use crate::device::Device;
use crate::loaded::{LoadOptions, Loaded, prompter_of};
use crate::prompt::Prompter;
use crate::run::Slots;
use crate::solver::RemoteApi;
use crate::source::{RemoteOptions, remote::ApiKey, remote::Timeouts};
use anyhow::anyhow;
use clap::Args;
use tts_model::cpu::kernels::Tier;
use tts_model::overrides::{SAMPLING_SETTINGS, SamplingOverrides, SamplingSetting};
use tts_model::{Formats, KvFormat, StateFormat};

use super::downloads;
use super::number;
use super::printer::Printer;
use super::shape::Dtype;

/// Flags of every command.
#[derive(Args)]
pub(crate) struct GlobalArgs {
    /// Prints one JSON object a line and nothing else on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Prints results and errors only
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Takes flags from a TOML file, by their long names
    #[arg(long, global = true, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
}

/// Which model, and how it is held and run.
#[derive(Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// A folder, a .gguf file, org/name or org/name:file.gguf on the hub, ollama:NAME, or `bundled` [default:
    /// bundled]
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// How weights are held: as in the file, or as f32, bf16, q8_0 or q4_0
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "auto",
        hide_default_value = true,
        value_parser = Dtype::parse
    )]
    pub(crate) dtype: Dtype,
    /// How keys and values are held: f32, bf16, or q8_0 for about half the memory of bf16 and a less exact
    /// result [default: bf16, and f32 where all weights are]
    #[arg(long, value_name = "FORMAT", value_parser = kv_dtype)]
    pub(crate) kv_dtype: Option<KvFormat>,
    /// How Mamba states are held: f32, or bf16 for half the memory traffic and a less exact result
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "f32",
        hide_default_value = true,
        value_parser = state_dtype
    )]
    pub(crate) state_dtype: StateFormat,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Instruction tier: portable, avx2, avx512, avx512bf16 or amx [default: the best one here]
    #[arg(long, value_parser = Tier::parse)]
    pub(crate) tier: Option<Tier>,
    /// Where the model runs: cpu, cuda, cuda:N for the NVIDIA card of that number, auto for the card with the most
    /// free memory if the model fits there, else the cpu; emulated, for tests, computes on the cpu as a card would
    #[arg(
        long,
        value_name = "DEVICE",
        default_value = "cpu",
        hide_default_value = true,
        value_parser = Device::parse
    )]
    pub(crate) device: Device,
    /// Scale of the logits of a tied GGUF file that has no config.json beside it
    #[arg(long, value_name = "X")]
    pub(crate) tied_logit_scale: Option<f32>,
    /// Merges a LoRA adapter (the folder of its adapter_config.json) into the weights, its update times X where that
    /// is given; may be given several times
    #[arg(long, value_name = "DIR[=X]", value_parser = adapter)]
    pub(crate) lora: Vec<(PathBuf, f32)>,
    /// A Jinja file instead of the model's own chat template
    #[arg(long, value_name = "FILE")]
    pub(crate) chat_template: Option<PathBuf>,
}

impl ModelArgs {
    /// How everything is held.
    pub(crate) fn formats(&self) -> anyhow::Result<Formats> {
        Ok(Formats {
            weights: self.dtype.held()?,
            ..self.held()
        })
    }

    /// How all but the weights are held.
    pub(crate) fn held(&self) -> Formats {
        Formats {
            kv: self.kv_dtype,
            state: self.state_dtype,
            ..Formats::default()
        }
    }

    /// Refuses flags that contradict each other.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.threads == Some(0) {
            return Err(anyhow!(
                "--threads 0 leaves nothing to run on: it must be at least 1"
            ));
        }
        let of_the_cpu = [
            ("--tier", self.tier.is_some()),
            ("--threads", self.threads.is_some()),
        ];
        if let Some((flag, _)) = of_the_cpu.iter().find(|(_, given)| *given)
            && !matches!(self.device, Device::Cpu | Device::Auto)
        {
            return Err(anyhow!(
                "{flag} is about the processor, and the model runs on {}: leave one of the two out",
                self.device
            ));
        }
        Ok(())
    }

    /// Opens the model, with progress where it must be fetched.
    pub(crate) fn open(&self, printer: &Printer) -> anyhow::Result<Loaded> {
        self.check()?;
        if let Some(scale) = self.tied_logit_scale.filter(|s| !(s.is_finite() && *s > 0.0)) {
            return Err(anyhow!(
                "--tied-logit-scale is {scale}; it must be a number above 0"
            ));
        }
        let options = LoadOptions {
            model: self.model.clone(),
            formats: self.formats()?,
            device: self.device,
            tied_logit_scale: self.tied_logit_scale,
            lora: self.lora.clone(),
            chat_template: self.template()?,
            hub: None,
        };
        let before = std::time::Instant::now();
        let loaded = Loaded::open(&options, &mut downloads::watcher(printer))?;
        tracing::info!(
            model = loaded.name,
            digest = loaded.digest(),
            seconds = before.elapsed().as_secs_f64(),
            "opened"
        );
        loaded.notes.iter().for_each(|note| printer.warn(note));
        Ok(loaded)
    }

    /// The text of `--chat-template`, and where it came from.
    fn template(&self) -> anyhow::Result<Option<(String, String)>> {
        let read = |file: &PathBuf| {
            let text = tts_model::files::read_text(file, 1 << 20)
                .map_err(|e| anyhow!("--chat-template {} cannot be read: {e}", file.display()))?;
            Ok((text, file.display().to_string()))
        };
        self.chat_template.as_ref().map(read).transpose()
    }

    /// Tokenizer and template alone, where a model is named: its weights are elsewhere.
    pub(crate) fn prompter(&self) -> anyhow::Result<Option<Prompter>> {
        match &self.model {
            Some(model) => Ok(Some(prompter_of(model, self.template()?.as_ref())?)),
            None if self.chat_template.is_some() => Err(anyhow!(
                "--chat-template needs a tokenizer: name the model's folder with --model, or leave it out \
                 and the engine renders the prompt"
            )),
            None => Ok(None),
        }
    }
}

/// A folder, and the factor behind its last `=` where that is a number.
fn adapter(text: &str) -> Result<(PathBuf, f32), String> {
    let (folder, factor) = match text.rsplit_once('=') {
        Some((folder, factor)) if !folder.is_empty() => match factor.parse::<f32>() {
            Ok(factor) if factor.is_finite() => (folder, factor),
            Ok(factor) => return Err(format!("the factor is {factor}; it must be a number such as 0.5")),
            Err(_) => (text, 1.0),
        },
        _ => (text, 1.0),
    };
    Ok((PathBuf::from(folder), factor))
}

/// Engines elsewhere that the traces come from.
#[derive(Args, Default)]
#[command(next_help_heading = "Remote engines")]
pub(crate) struct BackendArgs {
    /// Takes traces from an OpenAI-compatible engine at this address, as http://127.0.0.1:8000/v1; may be
    /// given several times. --model then names the folder of its tokenizer, if that is wanted. The API key is
    /// read from TTS_BACKEND_API_KEY or OPENAI_API_KEY
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        conflicts_with_all = [
            "dtype", "kv_dtype", "state_dtype", "tier", "device", "tied_logit_scale", "lora", "max_batch", "memory"
        ]
    )]
    backend: Vec<String>,
    /// The model's name at the engine [default: the only one that it lists]
    #[arg(long, value_name = "NAME", requires = "backend")]
    backend_model: Option<String>,
    /// chat: the engine renders the conversation; completions: the prompt is rendered here with --model's
    /// template, else sent as it is [default: chat]
    #[arg(long, value_name = "chat|completions", requires = "backend", value_parser = api)]
    backend_api: Option<RemoteApi>,
    /// Requests in flight at each address [default: 64]
    #[arg(long, value_name = "N", requires = "backend")]
    backend_in_flight: Option<usize>,
    /// Time for a connection [default: 10s]
    #[arg(long, value_name = "TIME", requires = "backend", value_parser = number::parse_duration)]
    backend_connect_timeout: Option<Duration>,
    /// Time from a request to its first token, the engine's queue included [default: 10m]
    #[arg(long, value_name = "TIME", requires = "backend", value_parser = number::parse_duration)]
    backend_first_token_timeout: Option<Duration>,
    /// Time from one token to the next [default: 2m]
    #[arg(long, value_name = "TIME", requires = "backend", value_parser = number::parse_duration)]
    backend_idle_timeout: Option<Duration>,
    /// How often a request that brought no token is sent again [default: 8]
    #[arg(long, value_name = "N", requires = "backend")]
    backend_retries: Option<u32>,
}

impl BackendArgs {
    /// Whether traces come from elsewhere.
    pub(crate) fn is_remote(&self) -> bool {
        !self.backend.is_empty()
    }

    pub(crate) fn api(&self) -> RemoteApi {
        self.backend_api.unwrap_or_default()
    }

    /// The engines, with confidence over `k` tokens.
    pub(crate) fn options(&self, k: Option<usize>) -> RemoteOptions {
        let (default, timeouts) = (RemoteOptions::default(), Timeouts::default());
        RemoteOptions {
            backends: self.backend.clone(),
            model: self.backend_model.clone(),
            key: ApiKey::from_env(),
            in_flight: self.backend_in_flight.unwrap_or(default.in_flight),
            confidence_k: k.unwrap_or(default.confidence_k),
            timeouts: Timeouts {
                connect: self.backend_connect_timeout.unwrap_or(timeouts.connect),
                first_token: self.backend_first_token_timeout.unwrap_or(timeouts.first_token),
                idle: self.backend_idle_timeout.unwrap_or(timeouts.idle),
                retries: self.backend_retries.unwrap_or(timeouts.retries),
            },
        }
    }
}

fn api(name: &str) -> Result<RemoteApi, String> {
    match name {
        "chat" => Ok(RemoteApi::Chat),
        "completions" => Ok(RemoteApi::Completions),
        _ => Err("it is chat or completions".to_owned()),
    }
}

fn kv_dtype(name: &str) -> Result<KvFormat, String> {
    KvFormat::ALL
        .into_iter()
        .find(|f| f.name() == name)
        .ok_or_else(|| "it is f32, bf16 or q8_0".to_owned())
}

fn state_dtype(name: &str) -> Result<StateFormat, String> {
    StateFormat::ALL
        .into_iter()
        .find(|f| f.name() == name)
        .ok_or_else(|| "it is f32 or bf16".to_owned())
}

/// How tokens are drawn: a flag for every row of the table of sampling settings.
pub(crate) struct SamplingArgs {
    choice: SamplingOverrides,
    pub(crate) seed: u64,
    /// the seed, where one is given or has a default
    pub(crate) named_seed: Option<u64>,
}

impl SamplingArgs {
    pub(crate) fn choice(&self) -> SamplingOverrides {
        self.choice
    }
}

impl clap::FromArgMatches for SamplingArgs {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let choice = SamplingOverrides::read(|s| {
            Ok::<_, clap::Error>(match s.whole {
                true => matches.get_one::<usize>(s.name).map(|n| *n as f64),
                false => matches.get_one::<f64>(s.name).copied(),
            })
        })?;
        let named_seed = matches.get_one::<u64>("seed").copied();
        Ok(Self {
            choice,
            seed: named_seed.unwrap_or_default(),
            named_seed,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SamplingArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let heading = "Sampling (what is not set comes from the model's generation_config.json)";
        let flag = |s: &'static SamplingSetting| {
            let arg = clap::Arg::new(s.name)
                .long(s.flag)
                .value_name(s.value_name)
                .help(s.help)
                .help_heading(heading);
            match s.whole {
                true => arg.value_parser(clap::value_parser!(usize)),
                false => arg
                    .value_parser(clap::value_parser!(f64))
                    .allow_negative_numbers(true),
            }
        };
        let seed = clap::Arg::new("seed")
            .long("seed")
            .value_name("N")
            .default_value("0")
            .value_parser(clap::value_parser!(u64))
            .help("Seed of all random numbers")
            .help_heading(heading);
        command.args(SAMPLING_SETTINGS.iter().map(flag)).arg(seed)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// How many rows run at once, and in how much memory.
#[derive(Args)]
#[command(next_help_heading = "Batch")]
pub(crate) struct BatchArgs {
    /// Traces of a problem in flight at once: a number, or 4x2 for four, twice as many whenever these have ended
    /// and left it undecided [default: 4x2 for a strategy that may end a problem early, else as many as there are traces, at most 64]
    #[arg(long, value_name = "N|NxF")]
    pub(crate) slots: Option<Slots>,
    /// Rows of the batch; auto takes what fits into memory
    #[arg(
        long,
        value_name = "N|auto",
        default_value = "auto",
        hide_default_value = true,
        value_parser = MaxBatch::parse
    )]
    pub(crate) max_batch: MaxBatch,
    /// Memory that traces may take, as 512MiB or 4GiB [default: four fifths of what is free]
    #[arg(long, value_name = "BYTES", value_parser = number::parse_bytes)]
    pub(crate) memory: Option<u64>,
}

/// A number of rows, or none for `auto`.
#[derive(Clone, Copy)]
pub(crate) struct MaxBatch(pub(crate) Option<usize>);

impl MaxBatch {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self(None));
        }
        text.parse()
            .map(|n| Self(Some(n)))
            .map_err(|_| "it is a number of rows or auto".to_owned())
    }
}

/// A flag that takes `on` or `off`.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

impl Switch {
    pub(crate) fn is_on(self) -> bool {
        matches!(self, Self::On)
    }
}
