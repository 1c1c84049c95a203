//! Does a trace score know which traces are right?

use super::paired::{bootstrap_mean, mean};
use super::{Interval, StatsError};

/// The chance that a right trace scores higher than a wrong one, ties counting one half. `None` when there
/// are no traces of one of the two kinds, or a score is not a number.
pub fn auroc(scored: &[(f64, bool)]) -> Option<f64> {
    if scored.iter().any(|(score, _)| score.is_nan()) {
        return None;
    }
    let right = scored.iter().filter(|(_, right)| *right).count();
    let wrong = scored.len() - right;
    if right == 0 || wrong == 0 {
        return None;
    }
    let mut sorted: Vec<&(f64, bool)> = scored.iter().collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Mann-Whitney: each right trace counts the wrong ones below it, and half of those level with it.
    let mut wins = 0.0;
    let mut wrong_below = 0;
    for level in sorted.chunk_by(|a, b| a.0 == b.0) {
        let right_here = level.iter().filter(|(_, right)| *right).count();
        let wrong_here = level.len() - right_here;
        wins += right_here as f64 * (wrong_below as f64 + wrong_here as f64 / 2.0);
        wrong_below += wrong_here;
    }
    Some(wins / (right as f64 * wrong as f64))
}

/// The mean within-problem AUROC.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct WithinAuroc {
    /// Mean over the problems that have both right and wrong traces.
    pub mean: f64,
    /// Percentile interval from resampling those problems; `None` when there is one only.
    pub interval: Option<Interval>,
    /// How many problems that is.
    pub problems: usize,
    /// Standard deviation of their AUROCs: how many problems more an interval of some width needs follows
    /// from it.
    /// `None` when there is one only.
    pub sd: Option<f64>,
}

/// The AUROC of a score within each problem, `problems[p]` being (score, right) pairs, averaged over the
/// problems where it is defined. Across problems a score also tells easy from hard, which helps no vote.
///
/// # Errors
/// When no problem has both right and wrong traces, or the level is not between 0 and 1.
pub fn within_problem_auroc(
    problems: &[Vec<(f64, bool)>],
    resamples: usize,
    level: f64,
    seed: u64,
) -> Result<WithinAuroc, StatsError> {
    let each: Vec<f64> = problems.iter().filter_map(|p| auroc(p)).collect();
    let mean = mean(&each).ok_or(StatsError::Empty(
        "the AUROC within problems (a problem with right and wrong traces)",
    ))?;
    let n = each.len() as f64;
    let squares: f64 = each.iter().map(|auroc| (auroc - mean).powi(2)).sum();
    Ok(WithinAuroc {
        mean,
        interval: bootstrap_mean(&each, resamples, level, seed)?,
        problems: each.len(),
        sd: (each.len() > 1).then(|| (squares / (n - 1.0)).sqrt()),
    })
}
