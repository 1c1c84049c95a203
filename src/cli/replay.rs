//! `tts replay`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::evals::data::Problem;
use crate::replay::{Replay, ReplaySettings};
use crate::run::{MachineInfo, RunError, Slots};
use crate::{Error, ProblemSet};
use anyhow::anyhow;
use clap::Args;

use super::ExitStatus;
use super::number::plural;
use super::printer::Printer;
use super::recordings::{OpenRecording, SetArgs, in_common, reader};
use super::result::{ProblemReport, SetSummary};
use super::samples::Samples;
use super::strategy::StrategyArgs;
use super::task::AnswerArgs;

/// What a recording made elsewhere looks like.
pub(super) const SHAPES: &str = "\
Recordings made elsewhere are files of JSON lines, or one JSON list:
  a trace    {\"problem_id\": \"p\", \"trace\": 0, \"answer\": \"42\", \"tokens\": 812,
              \"gold\": \"42\", \"confidence\": [11.2, ...]}
  a problem  {\"problem_id\": \"p\", \"gold\": \"42\", \"answers\": [\"42\", null, ...],
              \"lengths\": [812, 990, ...], \"confidences\": [[11.2, ...], ...]}
  a dump of DeepConf's reference code, as JSON
Without gold nothing is graded; without confidences, one a token, only those
strategies decide that read none. Fields of other names: --field answer=NAME.";

#[derive(Args)]
#[command(after_long_help = SHAPES)]
pub(crate) struct ReplayArgs {
    /// A run folder, a .jsonl file of recorded traces, or a JSON dump of DeepConf's reference code
    #[arg(value_name = "RUN")]
    pub(super) run: PathBuf,
    /// Traces for each problem, at most [default: the recording's]
    #[arg(long, value_name = "N")]
    traces: Option<usize>,
    /// Traces of a problem in flight at once [default: the recording's, else as many as there are traces, at
    /// most 64]
    #[arg(long, value_name = "N|NxF")]
    slots: Option<Slots>,
    /// Tokens of a problem after which the vote so far decides
    #[arg(long, value_name = "N")]
    max_total_tokens: Option<u64>,
    /// Takes confidence over the K most likely ids instead of 20; the recording must hold them
    /// (--record-top-k)
    #[arg(long, value_name = "K")]
    confidence_k: Option<usize>,
    /// Also writes each problem with all its texts and the answer decided on as a line in the shape of
    /// lm-evaluation-harness's samples
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    #[command(flatten)]
    strategy: StrategyArgs,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    answers: AnswerArgs,
}

pub(crate) fn run(args: &ReplayArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let set = args.set.set(printer)?;
    if let Some(set) = &set {
        args.answers.compare(set, printer)?;
    }
    // the strategy's windows are wanted before the recording is opened, and the recording's strategy only
    // after that
    let named = args.strategy.named()?;
    let opened = OpenRecording {
        presets: named.as_slice(),
        confidence_k: args.confidence_k,
        fields: &args.set.fields()?.recording,
    };
    let pool = opened.open(&args.run, printer)?;
    if let Some(set) = &set {
        in_common(set.data.problems.iter().map(|p| p.id.as_str()), &pool)?;
    }
    let (reader, reread, _) = reader(&args.answers, set.as_ref().and_then(|s| s.task.as_ref()), &pool)?;
    let strategy = match named {
        Some(preset) => Some(preset),
        None => crate::replay::recorded_strategy(&pool)?
            .map(|p| args.strategy.over(p))
            .transpose()?,
    };
    let gold = set.as_ref().map(ProblemSet::gold).unwrap_or_default();
    let problems = set.into_iter().flat_map(|s| s.data.problems);
    let asked: BTreeMap<String, Problem> = problems.map(|p| (p.id.clone(), p)).collect();
    let mut samples = args.samples.as_deref().map(Samples::create).transpose()?;
    let settings = ReplaySettings {
        strategy,
        traces: args.traces,
        slots: args.slots,
        max_total_tokens: args.max_total_tokens,
        gold,
    };
    let replay = Replay::new(pool.clone(), settings, Arc::new(reader), reread)?;
    let problems = args.set.select(&pool)?;
    let of_set = problems.len() > 1;
    let mut summary = SetSummary::default();
    for problem in problems {
        if problem.traces == 0 {
            printer.warn(&format!(
                "problem `{}` has no recorded traces and was passed over",
                problem.id
            ));
            continue;
        }
        let solved = replay.solve(problem).map_err(|error| match error {
            // it names the problem itself
            Error::Run(RunError::Strategy { .. }) => anyhow!(error),
            error => anyhow!("problem `{}`: {error}", problem.id),
        })?;
        let mut result = solved.record();
        result.machine = Some(MachineInfo {
            recording: Some(args.run.display().to_string()),
            ..MachineInfo::default()
        });
        if let Some(samples) = &mut samples {
            let texts = replay.texts(problem)?;
            samples.write(&solved, asked.get(&problem.id), &texts)?;
        }
        let report = ProblemReport {
            result,
            full_tokens: solved.estimated_full_tokens(args.traces.unwrap_or(replay.traces_for(problem))),
        };
        report.print(of_set, args.traces.unwrap_or(replay.traces_for(problem)), printer)?;
        summary.add(&report);
    }
    if let Some(samples) = samples {
        samples.close()?;
    }
    if of_set {
        summary.print(0, printer);
    }
    if let Some(sentence) = nothing_graded(&replay, &summary) {
        printer.warn(&sentence);
    } else if summary.ungraded() > 0 {
        printer.warn(&format!(
            "{} without a right answer to compare with, not counted in the accuracy; --data names the set",
            plural(summary.ungraded(), "problem")
        ));
    }
    Ok(if summary.answered > 0 {
        ExitStatus::Done
    } else {
        ExitStatus::NoAnswer
    })
}

/// Why no answer was compared with a right one, where a recording made elsewhere was to be graded.
fn nothing_graded(replay: &Replay, summary: &SetSummary) -> Option<String> {
    let pool = replay.recorded().pool();
    if summary.graded > 0 {
        return None;
    }
    let fields = pool.fields()?;
    Some(format!(
        "nothing is graded: no right answer was found ({fields}); name it with --field gold=NAME, or the \
         set of problems with --data"
    ))
}
