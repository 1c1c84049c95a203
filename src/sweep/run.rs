//! All problems of a sweep, several at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use super::decide::{SweepPlan, problem};
use super::files::SweepLine;
use super::folder::{SweepFolder, SweepFolderError};
use crate::error::Error;
use crate::run::{PoolProblem, Replayer, RunError, RunFolderError};
use tts_evals::stats::StatsError;

/// Why a sweep ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// A problem could not be decided.
    #[error("problem `{problem}`: {source}")]
    Problem {
        /// Name of the problem.
        problem: String,
        /// Why it could not be decided.
        source: Box<Error>,
    },
    /// Results could not be written.
    #[error(transparent)]
    Folder(#[from] SweepFolderError),
    /// The recording cannot be read.
    #[error(transparent)]
    Recording(#[from] RunFolderError),
    /// A strategy cannot decide over recorded traces.
    #[error(transparent)]
    Strategy(#[from] RunError),
    /// Results cannot be counted.
    #[error(transparent)]
    Statistics(#[from] StatsError),
}

/// Decides what the folder does not hold yet, on `threads` threads, a problem on each. `done` is told how
/// many problems are through; when `stop` is set the problems that were begun are finished and no more are.
///
/// # Errors
/// The first problem that could not be decided; what was decided before it is kept.
pub fn run(
    recorded: &Replayer,
    plan: &SweepPlan,
    problems: &[&PoolProblem],
    folder: &mut SweepFolder,
    threads: usize,
    stop: &AtomicBool,
    mut done: impl FnMut(usize),
) -> Result<(), SweepError> {
    let open: Vec<&PoolProblem> = problems
        .iter()
        .copied()
        .filter(|p| !folder.is_done(&p.id, plan))
        .collect();
    let mut through = problems.len() - open.len();
    done(through);
    let next = AtomicUsize::new(0);
    let held: Vec<_> = open
        .iter()
        .map(|p| {
            let cells: Vec<_> = plan
                .cells()
                .map(|(_, cell)| cell)
                .filter(|cell| folder.has(&p.id, Some(cell)))
                .collect();
            (cells, folder.has(&p.id, None))
        })
        .collect();
    std::thread::scope(|scope| {
        let (results, inbox) = mpsc::sync_channel::<(usize, Result<Vec<SweepLine>, Error>)>(threads);
        let (held, open, next) = (&held, &open, &next);
        for _ in 0..threads.clamp(1, open.len().max(1)) {
            let results = results.clone();
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(of) = open.get(i) else { return };
                    let (cells, pool) = &held[i];
                    let lines = problem(recorded, plan, of, &|cell| !cells.contains(cell), !pool);
                    if results.send((i, lines)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        let mut failed = None;
        for (i, lines) in inbox {
            match lines {
                Ok(lines) if failed.is_none() => {
                    if let Err(error) = folder.append(&lines) {
                        failed = Some(error.into());
                        stop.store(true, Ordering::Relaxed);
                    }
                    through += 1;
                    done(through);
                }
                Ok(_) => {}
                Err(source) => {
                    stop.store(true, Ordering::Relaxed);
                    failed.get_or_insert(SweepError::Problem {
                        problem: open[i].id.clone(),
                        source: Box::new(source),
                    });
                }
            }
        }
        failed.map_or(Ok(()), Err)
    })
}
