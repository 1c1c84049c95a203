//! Statistics that reports print: intervals, pass@k, paired comparison, resampling, calibration.
//!
//! Two sources of spread are kept apart throughout: resampling *traces* speaks about this problem set,
//! resampling *problems* speaks about the benchmark that the set was drawn from.

mod calibration;
mod frontier;
mod interval;
mod paired;
mod rank;
mod resample;
mod spread;

pub use calibration::{Histogram, Reliability, ReliabilityBin, histogram, reliability, right_by_rank};
pub use frontier::{Curve, Point, pareto};
pub use interval::{AvgAtN, Interval, avg_at_n, clopper_pearson, mean_pass_at_k, pass_at_k, wilson};
pub use paired::{Discordant, PairedDifference, mcnemar_exact, paired_bootstrap};
pub use rank::{WithinAuroc, auroc, within_problem_auroc};
pub use resample::{Resamples, expectation, quantile};
pub use spread::{BOOTSTRAP, Comparison, Spread, compare, spread};

/// What cannot be computed from the numbers given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// No numbers at all.
    #[error("{0} needs at least one value, but there is none")]
    Empty(&'static str),
    /// A share with more successes than trials, or no trials.
    #[error(
        "{successes} of {trials} is not a share: give between 0 and {trials} successes of at least 1 trial"
    )]
    NotAShare {
        /// Successes counted.
        successes: u64,
        /// Trials counted.
        trials: u64,
    },
    /// Something that is no probability where one is needed.
    #[error("a probability lies between 0 and 1, not at {0}")]
    NotAProbability(f64),
    /// Numbers that are not finite.
    #[error("{0} needs finite numbers")]
    NotFinite(&'static str),
    /// A level outside (0, 1).
    #[error("a confidence level lies between 0 and 1 (0.95 is usual), not at {0}")]
    Level(f64),
    /// Two series that should be about the same problems.
    #[error("the two series must be about the same problems, but one has {a} and the other {b}")]
    Unpaired {
        /// Length of the first.
        a: usize,
        /// Length of the second.
        b: usize,
    },
}
