//! The two sources of spread, apart: which traces were drawn, and which problems the benchmark happens to
//! hold.

use super::paired::{bootstrap_mean, mean};
use super::{Discordant, Interval, StatsError, mcnemar_exact, quantile};

/// A mean over problems and resamples, with each source of spread by itself.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Spread {
    /// Mean over all.
    pub mean: f64,
    /// Where the middle of the resamples lies, each averaged over the problems: what another run over *these
    /// problems* might have given.
    pub traces: Interval,
    /// Percentile interval from resampling problems, each averaged over its resamples: what *other problems
    /// of the benchmark's kind* might give. `None` for a single problem, which tells nothing of others.
    pub problems: Option<Interval>,
}

/// How many bootstrap draws over problems an interval takes.
pub const BOOTSTRAP: usize = 2_000;

/// The spread of `scores[problem][resample]`: of rights and wrongs, of tokens, of anything that was counted
/// for every problem in every resample. The same seed gives the same intervals.
///
/// # Errors
/// When there is no score, a problem has more resamples than another, or the level is not between 0 and 1.
pub fn spread(scores: &[Vec<f64>], level: f64, seed: u64) -> Result<Spread, StatsError> {
    let (by_problem, by_resample) = margins(scores)?;
    Ok(Spread {
        mean: mean(&by_problem).ok_or(StatsError::Empty("a spread"))?,
        traces: middle(by_resample, level)?,
        problems: bootstrap_mean(&by_problem, BOOTSTRAP, level, seed)?,
    })
}

/// Means over resamples, one for each problem; and means over problems, one for each resample.
fn margins(scores: &[Vec<f64>]) -> Result<(Vec<f64>, Vec<f64>), StatsError> {
    let resamples = scores.first().map_or(0, Vec::len);
    if resamples == 0 {
        return Err(StatsError::Empty("a spread"));
    }
    if let Some(other) = scores.iter().find(|s| s.len() != resamples) {
        return Err(StatsError::Unpaired {
            a: resamples,
            b: other.len(),
        });
    }
    let by_problem = scores.iter().filter_map(|s| mean(s)).collect();
    let n = scores.len() as f64;
    let by_resample = (0..resamples)
        .map(|r| scores.iter().map(|s| s[r]).sum::<f64>() / n)
        .collect();
    Ok((by_problem, by_resample))
}

/// Where the middle `level` of the values lies.
fn middle(mut values: Vec<f64>, level: f64) -> Result<Interval, StatsError> {
    if !(level > 0.0 && level < 1.0) {
        return Err(StatsError::Level(level));
    }
    values.sort_by(f64::total_cmp);
    let end = |p| quantile(&values, p).ok_or(StatsError::Empty("a spread"));
    Ok(Interval {
        low: end((1.0 - level) / 2.0)?,
        high: end(f64::midpoint(1.0, level))?,
    })
}

/// Two methods over the same problems and the same resampled pools.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Comparison {
    /// Accuracy of A less accuracy of B, with both sources of spread.
    pub difference: Spread,
    /// Problems that only A solved, mean over resamples.
    pub only_a: f64,
    /// Problems that only B solved, mean over resamples.
    pub only_b: f64,
    /// Two-sided p of McNemar's exact test over problems. With several resamples, twice the median of theirs,
    /// which is a valid p-value however they depend on each other (C. DiCiccio, T. DiCiccio, J. Romano,
    /// Statistics & Probability Letters 166, 2020).
    pub p: f64,
}

/// Compares `a[problem][resample]` with `b[problem][resample]`, whether each was solved.
///
/// # Errors
/// When there is nothing, the two are not about the same problems and resamples, or the level is not between
/// 0 and 1.
pub fn compare(a: &[Vec<bool>], b: &[Vec<bool>], level: f64, seed: u64) -> Result<Comparison, StatsError> {
    let unpaired = |a: usize, b: usize| StatsError::Unpaired { a, b };
    if a.len() != b.len() {
        return Err(unpaired(a.len(), b.len()));
    }
    if let Some((a, b)) = a.iter().zip(b).find(|(a, b)| a.len() != b.len()) {
        return Err(unpaired(a.len(), b.len()));
    }
    let number = |x: bool| f64::from(u8::from(x));
    let differences: Vec<Vec<f64>> = (a.iter().zip(b))
        .map(|(a, b)| a.iter().zip(b).map(|(&a, &b)| number(a) - number(b)).collect())
        .collect();
    let difference = spread(&differences, level, seed)?;
    let resamples = differences[0].len();
    let mut total = Discordant { only_a: 0, only_b: 0 };
    let mut each = Vec::with_capacity(resamples);
    for r in 0..resamples {
        let count = |wanted: f64| differences.iter().filter(|d| d[r] == wanted).count() as u64;
        let d = Discordant {
            only_a: count(1.0),
            only_b: count(-1.0),
        };
        total.only_a += d.only_a;
        total.only_b += d.only_b;
        each.push(mcnemar_exact(d));
    }
    each.sort_by(f64::total_cmp);
    let median = quantile(&each, 0.5).ok_or(StatsError::Empty("a comparison"))?;
    Ok(Comparison {
        difference,
        only_a: total.only_a as f64 / resamples as f64,
        only_b: total.only_b as f64 / resamples as f64,
        p: if resamples == 1 {
            median
        } else {
            (2.0 * median).min(1.0)
        },
    })
}
