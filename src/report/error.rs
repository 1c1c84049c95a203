//! Why there is no report.

use std::path::PathBuf;

use crate::run::{RunError, RunFolderError};
use crate::sweep::SweepFolderError;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The run folder or recording cannot be read.
    #[error(transparent)]
    Run(#[from] RunFolderError),
    /// A sweep that cannot be read.
    #[error(transparent)]
    Sweep(#[from] SweepFolderError),
    /// A recording that cannot be decided over.
    #[error(transparent)]
    Recorded(#[from] RunError),
    /// Right answers for a sweep.
    #[error(
        "{} is a sweep, which was graded when it was made: give the right answers to `tts sweep`, or report \
         on the recording",
        .0.display()
    )]
    Graded(PathBuf),
    /// A file that cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A series that is not there.
    #[error("--series {name}: the series are {}", known.join(", "))]
    NoSuchSeries {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// More series than can be told apart in one plot.
    #[error(
        "{wanted} series cannot be told apart in one plot: name up to {most} with --series, or leave it out for \
         the front, majority and the most accurate"
    )]
    TooManySeries {
        /// How many were asked for.
        wanted: usize,
        /// How many there may be.
        most: usize,
    },
    /// A problem that is not there.
    #[error("{} has no problem `{problem}`", path.display())]
    NoSuchProblem {
        /// Path of the folder.
        path: PathBuf,
        /// What was asked for.
        problem: String,
    },
}
