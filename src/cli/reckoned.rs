//! `tts doctor --shape`: whether a published model would run here, before anything is downloaded.

use crate::bench::estimate::{self, Speed};
use crate::device::Device;
use crate::engine::memory::MemoryPlan;
use crate::run::Slots;
use crate::solver::{default_threads, default_tier};
use anyhow::bail;
use serde_json::json;
use tabled::builder::Builder;
use tts_model::cpu::memory;
use tts_model::executor::Limits;
use tts_model::{BLOCK, KvFormat, ModelSpec, StateLayout};

use super::ExitStatus;
use super::doctor::DoctorArgs;
use super::number::{bytes, count, digits, seconds as time};
use super::printer::Printer;
use super::shape;
use super::table::drawn;

/// Lengths of a trace that memory is said for.
const LENGTHS: [usize; 3] = [2048, 8192, 32_768];

/// What a trace takes: all that a plan reads, from the shape alone.
fn limits(spec: &ModelSpec, layout: &StateLayout, weights: u64, available: u64) -> Limits {
    Limits {
        vocab: spec.vocab,
        context: spec.context,
        state_bytes: layout.state_bytes() as u64,
        recurrent: layout.state_bytes() > 0,
        block_tokens: BLOCK,
        block_bytes: layout.block_bytes() as u64,
        row_bytes: 0,
        read_bytes: 0,
        weight_bytes: weights,
        free_bytes: available.saturating_sub(weights),
    }
}

/// Says what a model of a shape would take here, and how fast it would be.
pub(super) fn run(args: &DoctorArgs, name: &str, printer: &Printer) -> anyhow::Result<ExitStatus> {
    args.model.check()?;
    if args.model.device != Device::Cpu {
        bail!("--shape reckons for the processor: leave --device out");
    }
    let spec = shape::named(name)?;
    let dtype = args.model.dtype;
    let weights = dtype.bytes(&spec);
    let available = memory::available();
    let kv = args.model.kv_dtype.unwrap_or(match dtype.name() {
        "f32" => KvFormat::F32,
        _ => KvFormat::Bf16,
    });
    let layout = StateLayout::new(&spec, kv, args.model.state_dtype);
    let limits = limits(&spec, &layout, weights, available);
    let most = spec.context.saturating_sub(args.prompt_tokens).max(1);
    let max_tokens = args.max_tokens.unwrap_or(most).min(most);
    let (memory, batch) = (args.batch.memory, args.batch.max_batch.0);
    let plan = |tokens: usize| MemoryPlan::new(&limits, args.prompt_tokens, tokens, memory, batch);
    let expected = plan(max_tokens);
    let slots = args.batch.slots.unwrap_or_else(Slots::all).most(args.traces);
    let rows = slots.min(expected.max_batch).max(1);
    let needed = weights + rows as u64 * expected.bytes_per_trace;
    let fits = needed <= available;
    // a trace is half as long on average as at its end
    let tokens = expected.expected_tokens - args.prompt_tokens;
    let speed = if fits && !args.no_speed {
        printer.note("measuring a few of its layers here (--no-speed leaves that out)");
        Some(speeds(args, &spec, rows, tokens / 2)?)
    } else {
        None
    };
    let seconds = speed.map(|(_, all)| (args.traces * tokens) as f64 / all.tokens_per_second());
    let per_token = limits.block_bytes / BLOCK as u64;
    let lengths: Vec<usize> = LENGTHS.into_iter().filter(|n| *n <= spec.context).collect();
    let fitting = |length: usize| match plan(length - args.prompt_tokens.min(length - 1)) {
        _ if weights > available => 0,
        plan => (plan.budget / limits.sequence_bytes(length, args.prompt_tokens).max(1)) as usize,
    };
    if printer.json() {
        let lengths = lengths.iter().map(|length| {
            json!({
                "tokens": length, "bytes_per_trace": limits.sequence_bytes(*length, args.prompt_tokens),
                "traces_that_fit": fitting(*length),
            })
        });
        printer.object(&json!({
            "shape": name, "parameters": spec.parameters(), "context": spec.context, "dtype": dtype.name(),
            "weight_bytes": weights, "state_bytes": limits.state_bytes, "memory_available_bytes": available,
            "kv_bytes_per_token": per_token, "bytes_per_trace": expected.bytes_per_trace,
            "expected_tokens": expected.expected_tokens, "traces": rows, "predicted_resident_bytes": needed,
            "fits": fits, "lengths": lengths.collect::<Vec<_>>(),
            "tokens_per_second": speed.map(|(_, all)| all.tokens_per_second()),
            "tokens_per_second_of_one": speed.map(|(one, _)| one.tokens_per_second()),
            "tokens_of_a_problem": args.traces * tokens, "seconds_a_problem": seconds,
        }))?;
        return Ok(ExitStatus::Done);
    }
    let mut table = Builder::default();
    let mut row = |what: &str, is: String| table.push_record([what.to_owned(), is]);
    let (parameters, context) = (count(spec.parameters()), count(spec.context as u64));
    row(
        "shape",
        format!("{name}, {parameters} parameters, context {context}"),
    );
    row("weights", format!("about {} as {}", bytes(weights), dtype.name()));
    row("state of a trace", bytes(limits.state_bytes));
    row("keys and values", format!("{} a token", bytes(per_token)));
    for length in lengths {
        row(
            &format!("{} tokens", count(length as u64)),
            format!(
                "{} a trace; {} fit",
                bytes(limits.sequence_bytes(length, args.prompt_tokens)),
                match fitting(length) {
                    0 => "none".to_owned(),
                    n => count(n as u64),
                }
            ),
        );
    }
    row(
        "memory",
        format!(
            "about {} with {} traces of {} tokens at a time; {} are free here{}",
            bytes(needed),
            count(rows as u64),
            count(expected.expected_tokens as u64),
            bytes(available),
            if fits { "" } else { ", which is too little" }
        ),
    );
    if let Some(((one, all), seconds)) = speed.zip(seconds) {
        row(
            "speed",
            format!(
                "about {} tokens/s with {} traces, {} with one",
                digits(all.tokens_per_second()),
                count(all.traces as u64),
                digits(one.tokens_per_second())
            ),
        );
        row(
            "a problem",
            format!(
                "{} traces of {} tokens: about {}",
                count(args.traces as u64),
                count(tokens as u64),
                time(seconds)
            ),
        );
    }
    printer.line(drawn(table, 2).trim_end())?;
    Ok(ExitStatus::Done)
}

/// The speed of one trace, and of `rows`, that have `context` tokens behind them.
fn speeds(
    args: &DoctorArgs,
    spec: &ModelSpec,
    rows: usize,
    context: usize,
) -> anyhow::Result<(Speed, Speed)> {
    let machine = (
        args.model.threads.unwrap_or_else(default_threads),
        args.model.tier.unwrap_or_else(default_tier),
    );
    let of = |rows| {
        let like = args.model.dtype.measured_as();
        estimate::of_shape(spec, like, args.model.held(), (rows, context), machine)
    };
    Ok((of(1)?, of(rows)?))
}
