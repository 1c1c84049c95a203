//! `tts score`.

use crate::solver::{default_threads, default_tier};
use crate::strategies::windows::GroupWindow;
use anyhow::bail;
use clap::Args;
use serde::Serialize;
use tabled::builder::Builder;
use tts_model::executor::{BrokenLogits, Executor, ScoreRequest};

use super::ExitStatus;
use super::args::ModelArgs;
use super::printer::{Printer, harmless};
use super::table::drawn;
use super::token_ids::InputArgs;

/// Alternatives that the table shows.
const SHOWN: usize = 3;

#[derive(Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Most likely ids that are given for each position
    #[arg(long, value_name = "K", default_value_t = 20)]
    top_k: usize,
    /// Tokens in a group: group_confidence is the mean confidence of that many tokens, null before the first
    /// full group
    #[arg(long, value_name = "N", default_value_t = 2048)]
    window: usize,
    #[command(flatten)]
    model: ModelArgs,
}

/// The object of `--json`. `confidence[i]` and `top[i]` belong to the distribution after tokens `0..=i`,
/// `logprobs[i]` is token i under the distribution before it.
#[derive(Serialize)]
struct ScoreReport {
    token_ids: Vec<u32>,
    logprobs: Vec<Option<f32>>,
    confidence: Vec<f32>,
    group_confidence: Vec<Option<f32>>,
    top: Vec<Vec<(u32, Option<f32>)>>,
}

pub(crate) fn run(args: &ScoreArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    if args.window == 0 {
        bail!("--window 0 holds no token; it must be at least 1");
    }
    let loaded = args.model.open(printer)?;
    let ids = args.input.ids(&loaded, printer)?;
    let tier = args.model.tier.unwrap_or_else(default_tier);
    let threads = args.model.threads.unwrap_or_else(default_threads);
    let mut executor = loaded.placed.executor(threads, tier)?;
    let scored = score(executor.as_mut(), ids, args.top_k, args.window)?;
    if printer.json() {
        printer.object(&scored)?;
        return Ok(ExitStatus::Done);
    }
    let text = |id: u32| match &loaded.prompter {
        Some(prompter) => harmless(
            &prompter
                .decode(&[id], false)
                .replace('\n', "\\n")
                .replace('\t', "\\t"),
        ),
        None => String::new(),
    };
    if printer.for_humans() {
        let mut table = Builder::default();
        table.push_record([
            "token",
            "id",
            "logprob",
            "confidence",
            "group",
            "most likely next",
        ]);
        for (i, id) in scored.token_ids.iter().enumerate() {
            let next: Vec<_> = scored.top[i]
                .iter()
                .take(SHOWN)
                .map(|(id, p)| format!("{} {:.2}", text(*id), p.unwrap_or(f32::NEG_INFINITY)))
                .collect();
            let number = |x: Option<f32>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.4}"));
            table.push_record([
                text(*id),
                id.to_string(),
                number(scored.logprobs[i]),
                number(Some(scored.confidence[i])),
                number(scored.group_confidence[i]),
                next.join("  "),
            ]);
        }
        printer.line(drawn(table, 6).trim_end())?;
        let sum: f64 = scored.logprobs.iter().flatten().map(|p| f64::from(*p)).sum();
        printer.note(&format!(
            "{} tokens, log-probability {sum:.4}",
            scored.token_ids.len()
        ));
    } else {
        let number = |x: Option<f32>| x.map_or_else(String::new, |x| x.to_string());
        for (i, id) in scored.token_ids.iter().enumerate() {
            printer.line(&format!(
                "{id}\t{}\t{}\t{}",
                number(scored.logprobs[i]),
                scored.confidence[i],
                text(*id)
            ))?;
        }
    }
    Ok(ExitStatus::Done)
}

fn score(
    executor: &mut dyn Executor,
    ids: Vec<u32>,
    top_k: usize,
    window: usize,
) -> anyhow::Result<ScoreReport> {
    let n = ids.len();
    let mut scored = ScoreReport {
        logprobs: Vec::with_capacity(n + 1),
        confidence: Vec::with_capacity(n),
        group_confidence: Vec::with_capacity(n),
        top: Vec::with_capacity(n),
        token_ids: ids,
    };
    let mut groups = GroupWindow::new(window.min(n + 1));
    // a masked id has no finite log-probability, and JSON no infinity
    let finite = |p: f32| Some(p).filter(|p| p.is_finite());
    let request = ScoreRequest {
        ids: &scored.token_ids,
        positions: 0..n,
        top_logprobs: top_k,
    };
    scored.logprobs.push(None);
    let seq = executor.begin();
    let read = executor.score(seq, &request, usize::MAX, &mut |after| {
        scored.logprobs.extend(after.logprob.map(finite));
        let top = after.top.iter().map(|(id, p)| (*id, finite(*p)));
        scored.top.push(top.collect());
        scored.confidence.push(after.confidence);
        let group = groups.push(after.confidence);
        scored.group_confidence.push(group.map(|g| g as f32));
    });
    executor.free(seq);
    if let Some(why) = executor.failure() {
        bail!(why);
    }
    if let Err(BrokenLogits) = read {
        bail!(
            "the model's logits after token {} are not numbers (NaN or infinite); the weights are damaged or \
             the dtype overflows",
            scored.confidence.len()
        )
    }
    scored.logprobs.truncate(n);
    Ok(scored)
}
