//! A whole sweep over a recording in one call, for those who do not watch it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::decide::{SweepPlan, decides_recorded};
use super::folder::{SweepFolder, SweepFolderError, SweepResults};
use super::run::{SweepError, run};
use super::summary::{SweepRow, summary};
use crate::run::{AnswerSettings, PoolOptions, RecordedPool, Replayer, Status};

/// What a sweep came to.
#[derive(Clone, Debug)]
pub struct Swept {
    /// A row for each strategy, number of slots and budget.
    pub rows: Vec<SweepRow>,
    /// The chance that any of k traces is right, by k.
    pub passes: BTreeMap<usize, f64>,
    /// Sentences about what the recording does not hold.
    pub notes: Vec<String>,
}

/// Decides by a plan over a recording, a problem on each of `threads` threads, and keeps what is decided in a
/// folder: the same call goes on after it was stopped. Answers are compared as the recording says, else as
/// mathematics. When `stop` is set the problems that were begun are finished and no more are.
///
/// # Errors
/// A recording that cannot be read or used, a strategy that cannot decide over it, a folder that cannot be
/// written or holds another sweep.
pub fn over(
    recording: &Path,
    dir: &Path,
    plan: &SweepPlan,
    threads: usize,
    stop: &AtomicBool,
) -> Result<Swept, SweepError> {
    plan.strategies.iter().try_for_each(decides_recorded)?;
    let options = PoolOptions {
        windows: plan
            .strategies
            .iter()
            .filter_map(|s| s.build().window())
            .collect(),
        ..PoolOptions::default()
    };
    let pool = Arc::new(RecordedPool::open(recording, &options)?);
    let recorded = pool.manifest().and_then(|m| m.decisions.answers.clone());
    let answers = recorded.unwrap_or_else(|| AnswerSettings::of(None, &Default::default()));
    let reader = Arc::new(answers.reader());
    let problems: Vec<_> = pool.problems().iter().collect();
    let notes = plan.notes(&pool, &problems);
    let mut header = plan.header(&pool, &problems, answers);
    header.recording.path = (recording != dir).then(|| recording.display().to_string());
    let mut folder = SweepFolder::open(dir, header)?;
    let replayer = Replayer::new(pool.clone(), reader, false);
    run(&replayer, plan, &problems, &mut folder, threads, stop, |_| ())?;
    let status = if stop.load(Ordering::Relaxed) {
        Status::Interrupted
    } else {
        Status::Finished
    };
    folder.close(status, notes.clone())?;
    let gone = || SweepFolderError::Damaged {
        path: dir.to_owned(),
        reason: "the sweep that was just written is not there any more".to_owned(),
    };
    let results = SweepResults::read(dir)?.ok_or_else(gone)?;
    let (rows, passes) = summary(&results.lines)?;
    Ok(Swept { rows, passes, notes })
}
