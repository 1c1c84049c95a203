//! `tts doctor`.

use crate::engine::memory::MemoryPlan;
use crate::run::Slots;
use crate::solver::{default_threads, default_tier};
use clap::Args;
use serde_json::json;
use tabled::builder::Builder;
use tts_model::cpu::kernels::Tier;
use tts_model::cpu::memory;
use tts_model::gpu::{self, CardInfo};

use super::ExitStatus;
use super::args::{BatchArgs, ModelArgs};
use super::number::{bytes, count};
use super::printer::Printer;
use super::reckoned;
use super::table::drawn;

#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Traces that the prediction is for
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(super) traces: usize,
    /// A published model's shape instead of a model, as falcon-h1r-7b or Qwen/Qwen3-8B: what it would take and how
    /// fast it would be here, before anything is downloaded; --dtype may be q4_k_m, q5_k_m or q6_k then
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    shape: Option<String>,
    /// Leaves out how fast a --shape would be, which some of its layers are measured for
    #[arg(long, requires = "shape")]
    pub(super) no_speed: bool,
    /// Tokens of a prompt that the prediction is for
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(super) prompt_tokens: usize,
    /// Tokens that a trace may generate
    #[arg(long, value_name = "N")]
    pub(super) max_tokens: Option<usize>,
    #[command(flatten)]
    pub(super) batch: BatchArgs,
    #[command(flatten)]
    pub(super) model: ModelArgs,
}

pub(crate) fn run(args: &DoctorArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    if let Some(shape) = &args.shape {
        return reckoned::run(args, shape, printer);
    }
    let available = memory::available();
    let tier = args.model.tier.unwrap_or_else(default_tier);
    let threads = args.model.threads.unwrap_or_else(default_threads);
    let loaded = args.model.open(printer)?;
    let (placed, spec) = (&loaded.placed, loaded.spec());
    let recommended = loaded
        .prompter
        .as_ref()
        .and_then(|p| p.generation().max_new_tokens);
    let most = spec.context.saturating_sub(args.prompt_tokens).max(1);
    let max_tokens = args.max_tokens.or(recommended).unwrap_or(most).min(most);
    let executor = placed.executor(threads, tier)?;
    let limits = executor.limits();
    let on_device = placed.device_name().map(|_| limits.free_bytes);
    let plan = MemoryPlan::new(
        &limits,
        args.prompt_tokens,
        max_tokens,
        args.batch.memory,
        args.batch.max_batch.0,
    );
    let rows = args
        .batch
        .slots
        .unwrap_or_else(Slots::all)
        .most(args.traces)
        .min(plan.max_batch)
        .max(1);
    let weights = placed.bytes();
    // a prompt of any length is read in chunks
    let work = executor.scratch_bytes(usize::MAX, rows);
    let prompt = limits.sequence_bytes(args.prompt_tokens, 0);
    let resident = weights + work + prompt + (rows as u64 * plan.bytes_per_trace).min(plan.budget);
    let kv = limits.block_bytes / limits.block_tokens as u64;
    let tiers: Vec<_> = Tier::available().iter().map(|t| t.name()).collect();
    let formats = placed.formats();
    let cards = gpu::cards();
    let format_bytes = || formats.iter().map(|(f, n)| json!({"format": f, "bytes": n}));
    if printer.json() {
        printer.object(&json!({
            "version": env!("CARGO_PKG_VERSION"), "tier": placed.arithmetic(tier), "tiers": tiers,
            "threads": threads, "device": placed.device().to_string(), "device_name": placed.device_name(),
            "device_free_bytes": on_device, "cards": cards_json(cards.as_deref().unwrap_or_default()),
            "cores": default_threads(), "memory_available_bytes": available, "model": loaded.name,
            "digest": loaded.digest(), "parameters": spec.parameters(),
            "layers": spec.layers.len(), "hidden": spec.hidden, "vocab": spec.vocab, "context": spec.context,
            "weight_bytes": weights, "weight_formats": format_bytes().collect::<Vec<_>>(),
            "tokenizer": loaded.prompter.is_some(),
            "chat_template": loaded.prompter.as_ref().is_some_and(|p| p.has_chat_template()),
            "state_bytes": placed.state_bytes(), "kv_bytes_per_token": kv,
            "expected_tokens": plan.expected_tokens, "bytes_per_trace": plan.bytes_per_trace,
            "max_batch": plan.max_batch, "traces": rows,
            "predicted_resident_bytes": resident,
        }))?;
        return Ok(ExitStatus::Done);
    }
    let mut table = Builder::default();
    let mut row = |what: &str, is: String| table.push_record([what.to_owned(), is]);
    row(
        "instruction tier",
        format!("{tier} (this machine runs {})", tiers.join(", ")),
    );
    row("threads", format!("{threads} of {}", default_threads()));
    row("memory available", bytes(available));
    match &cards {
        Ok(cards) => cards
            .iter()
            .for_each(|card| row(&format!("cuda:{}", card.index), of_card(card))),
        Err(why) => row("NVIDIA cards", format!("none: {why}")),
    }
    if let (Some(name), Some(free)) = (placed.device_name(), on_device) {
        row(
            "runs on",
            format!(
                "{}, {name} ({}), {} free beside the weights",
                placed.device(),
                placed.arithmetic(tier),
                bytes(free)
            ),
        );
    }
    row(
        "model",
        format!(
            "{}, {} parameters, {} blocks, context {}",
            loaded.name,
            count(spec.parameters()),
            spec.layers.len(),
            count(spec.context as u64)
        ),
    );
    let held: Vec<_> = formats
        .iter()
        .map(|(f, n)| format!("{f} {}", bytes(*n)))
        .collect();
    row("weights", format!("{} ({})", bytes(weights), held.join(", ")));
    row(
        "prompt",
        match &loaded.prompter {
            None => "no tokenizer: token ids only".to_owned(),
            Some(p) if p.has_chat_template() => format!(
                "tokenizer of {} ids, chat template",
                count(p.tokenizer_size() as u64)
            ),
            Some(p) => format!(
                "tokenizer of {} ids, no chat template",
                count(p.tokenizer_size() as u64)
            ),
        },
    );
    row("state of a trace", bytes(placed.state_bytes() as u64));
    row("keys and values", format!("{} a token", bytes(kv)));
    row(
        "a trace",
        format!(
            "{} at {} tokens",
            bytes(plan.bytes_per_trace),
            count(plan.expected_tokens as u64)
        ),
    );
    row(
        "rows of a batch",
        format!(
            "{} at most in {}",
            count(plan.max_batch as u64),
            bytes(plan.budget)
        ),
    );
    row(
        "resident memory",
        format!(
            "about {} with {} traces at a time",
            bytes(resident),
            count(rows as u64)
        ),
    );
    printer.line(drawn(table, 2).trim_end())?;
    Ok(ExitStatus::Done)
}

/// A card as a line.
fn of_card(card: &CardInfo) -> String {
    format!(
        "{}, compute capability {}.{}, {} free of {}",
        card.name,
        card.capability / 10,
        card.capability % 10,
        bytes(card.free_bytes),
        bytes(card.total_bytes)
    )
}

fn cards_json(cards: &[CardInfo]) -> serde_json::Value {
    let of = |card: &CardInfo| {
        json!({
            "index": card.index, "name": card.name, "capability": card.capability,
            "total_bytes": card.total_bytes, "free_bytes": card.free_bytes,
        })
    };
    cards.iter().map(of).collect()
}
