//! A against B on the same problems.

use super::{Interval, StatsError, quantile};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Problems that only one of two methods solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Discordant {
    /// Solved by A only.
    pub only_a: u64,
    /// Solved by B only.
    pub only_b: u64,
}

impl Discordant {
    /// Counts them from two series over the same problems.
    ///
    /// # Errors
    /// When the series differ in length.
    pub fn count(a: &[bool], b: &[bool]) -> Result<Self, StatsError> {
        if a.len() != b.len() {
            return Err(StatsError::Unpaired {
                a: a.len(),
                b: b.len(),
            });
        }
        let only = |x: &[bool], y: &[bool]| x.iter().zip(y).filter(|&(&x, &y)| x && !y).count() as u64;
        Ok(Self {
            only_a: only(a, b),
            only_b: only(b, a),
        })
    }
}

/// The two-sided p-value of McNemar's exact test: of `only_a + only_b` fair coins, as uneven a split or a
/// more uneven one.
pub fn mcnemar_exact(d: Discordant) -> f64 {
    let (n, fewer) = (d.only_a + d.only_b, d.only_a.min(d.only_b));
    // log C(n, i) - n log 2, summed from the smallest term, so that a large n does not underflow to 0 early.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = log_term.exp();
    for i in 0..fewer {
        log_term += ((n - i) as f64 / (i + 1) as f64).ln();
        tail += log_term.exp();
    }
    (2.0 * tail).min(1.0)
}

/// The mean difference A - B over problems and its bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct PairedDifference {
    /// Mean of A - B.
    pub difference: f64,
    /// Percentile interval from resampling problems; `None` for a single problem, which tells nothing of
    /// others.
    pub interval: Option<Interval>,
}

/// The difference of two scores per problem, with a percentile interval from resampling problems with
/// replacement (B. Efron, 1979). The same seed gives the same interval.
///
/// # Errors
/// When the series differ in length or are empty, or the level is not between 0 and 1.
pub fn paired_bootstrap(
    a: &[f64],
    b: &[f64],
    resamples: usize,
    level: f64,
    seed: u64,
) -> Result<PairedDifference, StatsError> {
    if a.len() != b.len() {
        return Err(StatsError::Unpaired {
            a: a.len(),
            b: b.len(),
        });
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let difference = mean(&differences).ok_or(StatsError::Empty("a paired bootstrap"))?;
    let interval = bootstrap_mean(&differences, resamples, level, seed)?;
    Ok(PairedDifference { difference, interval })
}

/// The percentile interval of a mean over problems; `None` when there is only one.
pub(super) fn bootstrap_mean(
    values: &[f64],
    resamples: usize,
    level: f64,
    seed: u64,
) -> Result<Option<Interval>, StatsError> {
    if !(level > 0.0 && level < 1.0) {
        return Err(StatsError::Level(level));
    }
    if values.is_empty() || resamples == 0 {
        return Err(StatsError::Empty("a bootstrap"));
    }
    if values.len() == 1 {
        return Ok(None);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let n = values.len();
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    let end = |p: f64| quantile(&means, p).ok_or(StatsError::Empty("a bootstrap"));
    Ok(Some(Interval {
        low: end((1.0 - level) / 2.0)?,
        high: end(f64::midpoint(1.0, level))?,
    }))
}

pub(super) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
