//! `tts bench`.

use std::time::Instant;

use crate::bench::limits::{self, Limits};
use crate::bench::{self, Figures, Workload};
use crate::device::{Device, Placed};
use crate::solver::{default_threads, default_tier};
use anyhow::bail;
use clap::Args;
use serde::Serialize;
use tabled::builder::Builder;
use tts_model::cpu::memory;
use tts_model::sampling::Sampling;
use tts_model::weights::Checkpoint;
use tts_model::{Formats, WeightFormat};

use super::args::ModelArgs;
use super::number::{bytes, count, digits, plural};
use super::printer::Printer;
use super::table::drawn;
use super::{ExitStatus, shape};

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Random weights of a published model's shape instead of a model, as falcon-h1-0.5b or tiny-90m
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    shape: Option<String>,
    /// Layers of the shape, where fewer than the published model has are enough
    #[arg(long, value_name = "N", requires = "shape")]
    layers: Option<usize>,
    /// Traces at a time; a line is printed for each
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,8,64")]
    batch: Vec<usize>,
    /// Tokens of the prompt, which all traces share
    #[arg(long, value_name = "N", default_value_t = 128)]
    prompt: usize,
    /// Tokens of its own that every trace has behind it before decoding is timed (made up, not read); a line is
    /// printed for each
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "0")]
    context: Vec<usize>,
    /// Leaves out what there is no memory for, and says so, instead of refusing everything
    #[arg(long)]
    fitting: bool,
    /// Tokens that each trace generates
    #[arg(long, value_name = "N", default_value_t = 64)]
    tokens: usize,
    /// Times that everything is done; medians are printed
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeat: usize,
    /// Also measures what the machine itself can do, and the share of it that was reached; about ten seconds
    #[arg(long)]
    limits: bool,
    /// Divides the logits; 0 takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Draws from the likeliest tokens that hold this share of the probability
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f64,
    #[command(flatten)]
    model: ModelArgs,
}

/// A line of `--json`.
#[derive(Serialize)]
struct BenchLine<'a> {
    model: &'a str,
    dtype: &'a str,
    kv_dtype: &'a str,
    state_dtype: &'a str,
    layers: usize,
    tier: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    threads: usize,
    #[serde(flatten)]
    figures: Figures,
    repeat: usize,
    load_seconds: f64,
    weight_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ceiling_tokens_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
}

pub(crate) fn run(args: &BenchArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let threads = args.model.threads.unwrap_or_else(default_threads);
    let tier = args.model.tier.unwrap_or_else(default_tier);
    let before = Instant::now();
    let (name, placed) = open(args, printer)?;
    if args.limits && placed.on_cpu().is_none() {
        bail!(
            "--limits measures what the processor can do, and the model runs on {}: leave it out",
            placed.device()
        );
    }
    let load_seconds = before.elapsed().as_secs_f64();
    let sampling = Sampling {
        temperature: args.temperature,
        top_p: args.top_p,
        ..Sampling::default()
    };
    let workload = |context: usize, batch: usize| Workload {
        batch,
        prompt: args.prompt,
        context,
        tokens: args.tokens,
        repeat: args.repeat,
        sampling: sampling.clone(),
    };
    let arithmetic = placed.arithmetic(tier);
    let mut executor = placed.executor(threads, tier)?;
    // all are checked before any takes its time
    let contexts = args.context.iter();
    let all = contexts.flat_map(|context| args.batch.iter().map(|batch| workload(*context, *batch)));
    let all: Vec<Workload> = all.collect();
    for work in &all {
        bench::check(executor.as_ref(), work)?;
    }
    let fits = |work: &Workload| bench::fits(executor.as_ref(), work);
    if !args.fitting || all.iter().all(|work| fits(work).is_err()) {
        all.iter().try_for_each(fits)?;
    }
    let mut works = Vec::new();
    for work in all {
        match fits(&work) {
            Ok(()) => works.push(work),
            Err(e) => printer.warn(&format!("left out: {e}")),
        }
    }
    let limits = args.limits.then(|| limits::measure(threads));
    let formats = placed.formats();
    let (spec, (kv, state)) = (placed.spec(), placed.held());
    let dtype = formats.first().map_or("", |(name, _)| *name);
    if !printer.json() {
        let what = format!(
            "{name}, {}, {} of {dtype} weights; {}, {arithmetic}; prompt of {}, {} each{}",
            plural(spec.layers.len() as u64, "layer"),
            bytes(placed.bytes()),
            match placed.device_name() {
                None => plural(threads as u64, "thread"),
                Some(device) => device.to_owned(),
            },
            args.prompt,
            plural(args.tokens as u64, "token"),
            match args.context[..] {
                [0] => String::new(),
                [context] => format!(" after {} of its own", count(context as u64)),
                _ => " after as many of its own as its line says".to_owned(),
            }
        );
        printer.note(&what);
    }
    let mut lines = Vec::new();
    for work in works {
        let figures = bench::measure(executor.as_mut(), &work)?;
        let demand = placed.on_cpu().map(|model| bench::demand(model, &work));
        let least = limits
            .zip(demand)
            .and_then(|(limits, demand)| limits.least_seconds(&demand, dtype, tier));
        let line = BenchLine {
            model: &name,
            dtype,
            kv_dtype: kv.name(),
            state_dtype: state.name(),
            layers: spec.layers.len(),
            tier: arithmetic,
            device: placed.device_name(),
            threads,
            figures,
            repeat: args.repeat,
            load_seconds,
            weight_bytes: placed.bytes(),
            ceiling_tokens_per_second: least.map(|s| work.batch as f64 / s),
            limits,
        };
        if printer.json() {
            printer.object(&line)?;
        }
        lines.push(line);
    }
    if !printer.json() {
        if let Some(limits) = &limits {
            printer.line(&limits_text(limits))?;
        }
        printer.line(table(&lines).trim_end())?;
    }
    Ok(ExitStatus::Done)
}

/// The model with the name that is printed.
fn open(args: &BenchArgs, printer: &Printer) -> anyhow::Result<(String, Placed)> {
    let Some(shape) = &args.shape else {
        let loaded = args.model.open(printer)?;
        return Ok((loaded.name, loaded.placed));
    };
    args.model.check()?;
    let mut spec = shape::named(shape)?;
    if let Some(layers) = args.layers {
        let all = spec.layers.len();
        if !(1..=all).contains(&layers) {
            bail!("--layers is {layers}; {shape} has 1 to {all} to measure");
        }
        spec.layers.truncate(layers);
    }
    let formats = args.model.formats()?;
    let (dtype, weights) = (args.model.dtype.name(), args.model.dtype.bytes(&spec));
    let free = memory::available();
    if weights > free && args.model.device == Device::Cpu {
        bail!(
            "--shape {shape} takes {} as {dtype} and {} are free: --layers would leave some of it out",
            bytes(weights),
            bytes(free)
        );
    }
    let random = Checkpoint::random(&spec, dtype, 0)?;
    let held = Formats {
        weights: WeightFormat::Auto,
        ..formats
    };
    let (placed, chosen) = Placed::load(&random, held, args.model.device)?;
    chosen.iter().for_each(|note| printer.warn(note));
    Ok((shape.clone(), placed))
}

fn limits_text(l: &Limits) -> String {
    let other = |name: &str, rate: Option<f64>| rate.map_or_else(String::new, |r| format!(", {name} {r:.0}"));
    format!(
        "this machine: memory {:.1} GB/s read, {:.1} updated in place; products, 10⁹ a second: f32 \
         {:.0}{}{}{}{}{}",
        l.read,
        l.update,
        l.f32,
        other("f32 of AVX2", l.f32_avx2),
        other("bf16", l.bf16),
        other("bf16 of AMX", l.amx),
        other("8-bit", l.int8),
        other("8-bit of AVX2", l.int8_avx2)
    )
}

fn table(lines: &[BenchLine<'_>]) -> String {
    let mut table = Builder::default();
    let ceiling = lines.iter().any(|l| l.ceiling_tokens_per_second.is_some());
    let contexts = lines
        .windows(2)
        .any(|pair| pair[0].figures.context_tokens != pair[1].figures.context_tokens);
    let mut head = vec![
        "traces",
        "tok/s",
        "ms a step",
        "prefill tok/s",
        "first token",
        "peak memory",
        "a trace",
    ];
    if contexts {
        head.insert(1, "context");
    }
    if ceiling {
        head.push("of the ceiling");
    }
    table.push_record(head);
    for line in lines {
        let f = &line.figures;
        let mut row = vec![
            count(f.batch as u64),
            digits(f.decode_tokens_per_second),
            digits(f.step_ms),
            digits(f.prefill_tokens_per_second),
            format!("{} ms", digits(f.first_token_ms)),
            f.peak_rss_bytes.map_or_else(|| "not told".to_owned(), bytes),
            bytes(f.bytes_per_trace),
        ];
        if contexts {
            row.insert(1, count(f.context_tokens as u64));
        }
        if ceiling {
            row.push(line.ceiling_tokens_per_second.map_or_else(
                || "not known".to_owned(),
                |c| format!("{:.0} % of {}", 100.0 * f.decode_tokens_per_second / c, digits(c)),
            ));
        }
        table.push_record(row);
    }
    drawn(table, 1)
}
