//! `tts complete`.

use std::sync::Arc;

use crate::evals::answer::FnReader;
use crate::prompt::{Prompter, Rendered};
use crate::run::{Bounds, Decode, Looks, Observer, Setup, ToText, TraceRecord};
use crate::solver::{Prepared, problem_id};
use crate::strategies::{Finish, Preset};
use crate::{Settings, Solver};
use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::args::{BatchArgs, ModelArgs, SamplingArgs, Switch};
use super::printer::{Printer, harmless};
use super::token_ids::InputArgs;
use super::{ExitStatus, interrupt};

#[derive(Args)]
pub(crate) struct CompleteArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Continuations
    #[arg(long, value_name = "N", default_value_t = 1)]
    traces: usize,
    /// Tokens at which a continuation is cut off
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Goes on past the end of the text
    #[arg(long)]
    ignore_eos: bool,
    /// Whether a continuation that repeats itself word for word is ended
    #[arg(long, value_name = "on|off", default_value = "on", hide_default_value = true)]
    loop_stop: Switch,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    batch: BatchArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// The object of `--json`.
#[derive(Serialize)]
struct Continuation<'a> {
    trace: u32,
    seed: u64,
    token_ids: &'a [u32],
    text: Option<&'a str>,
    logprobs: &'a [f32],
    confidence: &'a [f32],
    finish: Finish,
}

/// Text of ids where there is a tokenizer, none where there is not.
struct OptionalText(Option<Arc<Prompter>>);

impl Decode for OptionalText {
    fn decode(&self, ids: &[u32]) -> String {
        self.0.as_ref().map_or_else(String::new, |p| p.decode(ids, true))
    }

    fn to_text(&self) -> ToText {
        let mut detokenizer = self.0.as_ref().map(|p| p.detokenizer(true));
        Box::new(move |id| {
            detokenizer
                .as_mut()
                .map_or_else(String::new, |d| d.push(id).to_owned())
        })
    }
}

pub(crate) fn run(args: &CompleteArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let loaded = args.model.open(printer)?;
    let ids = args.input.ids(&loaded, printer)?;
    let context = loaded.spec().context;
    let left = context - ids.len();
    if left == 0 {
        bail!(
            "the prompt has {} tokens, which leaves no room in the model's context of {context}",
            ids.len()
        );
    }
    let settings = Settings {
        strategy: Preset::named("majority")?,
        traces: args.traces,
        slots: args.batch.slots,
        max_batch: args.batch.max_batch.0,
        memory: args.batch.memory,
        threads: args.model.threads,
        tier: args.model.tier,
        max_tokens: args.max_tokens,
        sampling: args.sampling.choice(),
        seed: args.sampling.seed,
        ignore_eos: args.ignore_eos,
        loop_stop: args.loop_stop.is_on(),
        ..Settings::default()
    };
    let prompter = loaded.prompter.clone();
    let solver = Solver::local(loaded, settings)?;
    if !solver.resolved().taken.is_empty() {
        printer.note(&format!(
            "from the model's generation_config.json: {}",
            solver.resolved().taken.join(", ")
        ));
    }
    let max_tokens = match args.max_tokens {
        Some(wanted) if wanted > left => {
            bail!(
                "--max-tokens {wanted} does not fit: the model's context is {context} and the prompt takes \
                 {}, so at most {left} would be right",
                ids.len()
            )
        }
        Some(wanted) => wanted,
        None => solver.resolved().max_tokens.min(left),
    };
    let name = problem_id(&ids.iter().map(u32::to_string).collect::<Vec<_>>().join(","));
    let text = prompter
        .as_ref()
        .map(|p| p.decode(&ids, false))
        .unwrap_or_default();
    let prompt = Prepared {
        id: name,
        problem: text.clone(),
        gold: None,
        prompt: Rendered {
            text,
            ids,
            ends_in_think: false,
        },
        messages: Vec::new(),
        max_tokens,
    };
    let has_text = prompter.is_some();
    let (records, interrupted) = interrupt::runtime()?.block_on(continue_all(&solver, &prompt, prompter))?;
    for record in &records {
        print(record, args.sampling.seed, has_text, records.len() > 1, printer)?;
    }
    Ok(if interrupted {
        ExitStatus::Interrupted
    } else {
        ExitStatus::Done
    })
}

/// Every continuation, in order, and whether they were interrupted.
async fn continue_all(
    solver: &Solver,
    prompt: &Prepared,
    prompter: Option<Arc<Prompter>>,
) -> anyhow::Result<(Vec<TraceRecord>, bool)> {
    let interrupt = interrupt::token();
    let settings = solver.settings();
    let setup = Setup {
        id: prompt.id.clone(),
        strategy: settings.strategy.build(),
        reader: Arc::new(FnReader::new(|_| None)),
        decode: Arc::new(OptionalText(prompter)),
        rules: Arc::new(solver.rules(prompt)),
        bounds: Bounds::new(settings.traces, solver.slots(), None),
        recorded: Vec::new(),
        scripted: Vec::new(),
        looks: Looks::None,
    };
    let observer = Observer {
        interrupt: interrupt.clone(),
        ..Observer::default()
    };
    let outcome = solver
        .source()
        .run(solver.request(prompt, setup), observer)
        .await?;
    let mut records = outcome.records;
    records.sort_by_key(|r| r.trace);
    Ok((records, interrupt.is_cancelled()))
}

fn print(
    record: &TraceRecord,
    seed: u64,
    has_text: bool,
    several: bool,
    printer: &Printer,
) -> anyhow::Result<()> {
    let text = record.text.as_deref().filter(|_| has_text);
    if printer.json() {
        return printer.object(&Continuation {
            trace: record.trace,
            seed,
            token_ids: &record.arrays.token_ids,
            text,
            logprobs: &record.arrays.logprobs,
            confidence: &record.arrays.confidence,
            finish: record.finish,
        });
    }
    let ids = || {
        record
            .arrays
            .token_ids
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let text = text.map_or_else(ids, str::to_owned);
    if several && printer.for_humans() {
        printer.line(&printer.bold(&format!("trace {}, {} tokens", record.trace, record.tokens)))?;
    }
    printer.line(&if printer.for_humans() {
        harmless(&text)
    } else {
        text
    })?;
    Ok(())
}
