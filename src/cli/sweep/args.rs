//! The arguments of `tts sweep`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tts_model::overrides::SAMPLING_SETTINGS;

use crate::cli::args::{BackendArgs, MaxBatch, ModelArgs, SamplingArgs};
use crate::cli::number;
use crate::cli::recordings::SetArgs;
use crate::cli::task::AnswerArgs;
use crate::cli::trace_args::{LimitArgs, PromptArgs};
use crate::run::Slots;

/// Flags that a recording has decided already.
fn of_generation() -> impl Iterator<Item = &'static str> {
    let sampling = SAMPLING_SETTINGS.iter().map(|s| s.name);
    ["model", "backend", "seed", "max_tokens", "max_batch"]
        .into_iter()
        .chain(sampling)
}

#[derive(Args)]
pub(crate) struct SweepArgs {
    /// Decides over this recording: a run folder, or a .jsonl file of traces. Without it the traces are
    /// generated and recorded first
    #[arg(long, value_name = "RUN", conflicts_with_all = of_generation())]
    pub(super) replay: Option<PathBuf>,
    /// Strategies of `tts list strategies`, or preset files
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "A,B",
        default_value = "majority,adaptive,adaptive-consistency,deepconf-low,deepconf-high"
    )]
    pub(super) strategies: Vec<String>,
    /// Budgets: traces that may be launched for a problem
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "N,N",
        default_value = "1,2,4,8,16,32,64"
    )]
    pub(super) traces: Vec<usize>,
    /// Traces of a problem in flight at once; auto is 4x2 for a strategy that may end a problem early, else as many as there are traces, at most 64
    #[arg(long, value_delimiter = ',', value_name = "N,N|auto", default_value = "auto", value_parser = slots)]
    pub(super) slots: Vec<AskedSlots>,
    /// Random orders in which each problem's traces are taken, or `recorded` for the recorded order once
    #[arg(long, value_name = "N|recorded", default_value = "64", value_parser = resamples)]
    pub(super) resamples: Resamples,
    /// Seed of the random orders
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) resample_seed: u64,
    /// Where results (and the recording, where one is made) go [default: the folder of --replay, else
    /// sweep-NAME]
    #[arg(long, value_name = "DIR")]
    pub(super) run: Option<PathBuf>,
    /// Also records the log-probabilities of the K most likely ids of every token, so that confidence over
    /// fewer than 20 can be replayed
    #[arg(long, value_name = "K", conflicts_with = "replay")]
    pub(super) record_top_k: Option<usize>,
    /// Takes confidence over the K most likely ids instead of 20; the recording must hold them
    /// (--record-top-k)
    #[arg(long, value_name = "K")]
    pub(super) confidence_k: Option<usize>,
    /// While traces are generated, also records those in flight, every so many minutes, tokens and states; a
    /// killed run goes on in the middle of them
    #[arg(long, value_name = "MINUTES", conflicts_with = "replay", value_parser = number::parse_minutes)]
    pub(super) checkpoint: Option<Duration>,
    #[command(flatten)]
    pub(super) set: SetArgs,
    #[command(flatten)]
    pub(super) answers: AnswerArgs,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
    #[command(flatten)]
    pub(super) prompt: PromptArgs,
    #[command(flatten)]
    pub(super) sampling: SamplingArgs,
    /// Rows of the batch; auto takes what fits into memory
    #[arg(
        long,
        value_name = "N|auto",
        default_value = "auto",
        hide_default_value = true,
        value_parser = MaxBatch::parse,
        help_heading = "Batch"
    )]
    pub(super) max_batch: MaxBatch,
    /// Memory that traces may take, as 512MiB or 4GiB [default: four fifths of what is free]
    #[arg(long, value_name = "BYTES", value_parser = number::parse_bytes, help_heading = "Batch")]
    pub(super) memory: Option<u64>,
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

/// Slots, or none for `auto`.
#[derive(Clone, Copy)]
pub(super) struct AskedSlots(pub(super) Option<Slots>);

fn slots(text: &str) -> Result<AskedSlots, String> {
    match text {
        "auto" => Ok(AskedSlots(None)),
        _ => text.parse().map(|slots| AskedSlots(Some(slots))),
    }
}

/// A number of random orders, or none for the recorded order once.
#[derive(Clone, Copy)]
pub(super) struct Resamples(pub(super) Option<usize>);

fn resamples(text: &str) -> Result<Resamples, String> {
    match (text, text.parse()) {
        ("recorded", _) => Ok(Resamples(None)),
        (_, Ok(n)) if n > 0 => Ok(Resamples(Some(n))),
        _ => Err("it is a number, at least 1, or `recorded` for the recorded order once".to_owned()),
    }
}
