//! Running an evaluation while somebody watches.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Error;
use crate::evaluation::{Evaluated, Evaluation, Options, RecordOptions};
use crate::run::RunError;
use crate::solver::deadline;
use futures::StreamExt;
use tokio::sync::broadcast;

use super::interrupt;
use super::printer::Printer;
use super::progress::ProgressLine;

/// Progress events that may wait to be shown.
const EVENTS: usize = 1024;

/// How an evaluation ended.
pub(crate) struct EvaluationEnd {
    /// Whether Ctrl-C ended it.
    pub(crate) interrupted: bool,
    /// Problems of which no trace was begun.
    pub(crate) not_started: u64,
    /// From the first trace to the last decision.
    pub(crate) took: Duration,
}

/// Keeps everything in a folder, and says what it holds already.
pub(crate) fn record(
    evaluation: &mut Evaluation<'_>,
    dir: &Path,
    options: RecordOptions,
    printer: &Printer,
) -> anyhow::Result<()> {
    let found = evaluation.record(dir, options)?;
    for warning in &found.warnings {
        printer.warn(&format!("{}: {warning}", dir.display()));
    }
    if found.traces > 0 {
        printer.note(&format!(
            "going on with {}, which holds {} traces of this",
            dir.display(),
            found.traces
        ));
    }
    Ok(())
}

/// Shows progress until all problems are decided or Ctrl-C comes, and hands over every result as it is there.
pub(crate) async fn run(
    evaluation: Evaluation<'_>,
    printer: &Printer,
    mut each: impl FnMut(Evaluated) -> anyhow::Result<()>,
) -> anyhow::Result<EvaluationEnd> {
    let interrupt = interrupt::token();
    let of_set = evaluation.problems().len() > 1;
    let (events, watched) = broadcast::channel(EVENTS);
    let options = Options {
        events: Some(events),
        interrupt: interrupt.clone(),
        deadline: deadline(evaluation.settings().time_limit),
    };
    let before = Instant::now();
    let mut results = evaluation.run(options)?;
    let mut progress = Some(ProgressLine::start(watched, evaluation.problems().len(), printer));
    let mut not_started = 0;
    let mut failure: Option<anyhow::Error> = None;
    while let Some(result) = results.next().await {
        match result {
            Ok(evaluated) => {
                if let Some(progress) = progress.take_if(|_| !of_set) {
                    progress.finish(printer);
                }
                failure = each(evaluated).err();
            }
            Err(Error::Run(RunError::NotStarted(_))) => not_started += 1,
            Err(error) => failure = Some(error.into()),
        }
        if failure.is_some() {
            break;
        }
    }
    drop(results);
    let took = before.elapsed();
    if let Some(progress) = progress {
        progress.finish(printer);
    }
    let interrupted = interrupt.is_cancelled();
    let closed = evaluation.close(failure.is_none() && !interrupted && not_started == 0);
    if let Some(error) = failure {
        return Err(error);
    }
    closed?;
    Ok(EvaluationEnd {
        interrupted,
        not_started,
        took,
    })
}
