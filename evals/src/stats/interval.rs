//! Rates with their intervals, pass@k, and the mean over traces with a standard error clustered by problem.

use super::StatsError;
use statrs::distribution::{Beta, ContinuousCDF, Normal};

/// A confidence interval, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

fn check(successes: u64, trials: u64, level: f64) -> Result<(), StatsError> {
    if trials == 0 || successes > trials {
        return Err(StatsError::NotAShare { successes, trials });
    }
    if !(level > 0.0 && level < 1.0) {
        return Err(StatsError::Level(level));
    }
    Ok(())
}

/// Wilson's score interval for `successes` of `trials` (E. B. Wilson, JASA 22, 1927). `level` is 0.95 as a
/// rule.
///
/// # Errors
/// When the counts are no share or the level is not between 0 and 1.
pub fn wilson(successes: u64, trials: u64, level: f64) -> Result<Interval, StatsError> {
    check(successes, trials, level)?;
    let z = Normal::standard().inverse_cdf(f64::midpoint(1.0, level));
    let n = trials as f64;
    let p = successes as f64 / n;
    let centre = p + z * z / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    // At the ends the formula gives 0 and 1 but for rounding.
    let low = if successes == 0 {
        0.0
    } else {
        ((centre - half) / scale).max(0.0)
    };
    let high = if successes == trials {
        1.0
    } else {
        ((centre + half) / scale).min(1.0)
    };
    Ok(Interval { low, high })
}

/// The exact interval of Clopper and Pearson (Biometrika 26, 1934), from quantiles of the Beta distribution.
///
/// # Errors
/// When the counts are no share or the level is not between 0 and 1.
pub fn clopper_pearson(successes: u64, trials: u64, level: f64) -> Result<Interval, StatsError> {
    check(successes, trials, level)?;
    let tail = (1.0 - level) / 2.0;
    let (x, n) = (successes as f64, trials as f64);
    let quantile = |a: f64, b: f64, p: f64| {
        let beta = Beta::new(a, b).map_err(|_| StatsError::NotAShare { successes, trials })?;
        // statrs inverts by Newton steps; bisection on its CDF settles the last digits.
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if beta.cdf(middle) < p {
                low = middle
            } else {
                high = middle
            }
        }
        Ok(f64::midpoint(low, high))
    };
    Ok(Interval {
        low: if successes == 0 {
            0.0
        } else {
            quantile(x, n - x + 1.0, tail)?
        },
        high: if successes == trials {
            1.0
        } else {
            quantile(x + 1.0, n - x, 1.0 - tail)?
        },
    })
}

/// The unbiased pass@k of one problem, 1 - C(n-c, k)/C(n, k), from `n` traces of which `c` are right
/// (M. Chen et al., arXiv:2107.03374, section 2.1). Undefined (`None`) when n < k, when k is 0 or c > n.
pub fn pass_at_k(n: u64, c: u64, k: u64) -> Option<f64> {
    if k == 0 || n < k || c > n {
        return None;
    }
    if n - c < k {
        return Some(1.0);
    }
    let all_wrong: f64 = (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    Some(1.0 - all_wrong)
}

/// The mean of [`pass_at_k`] over problems given as (traces, right traces). `None` when it is undefined for
/// any of them: leaving those out would speak about another set.
pub fn mean_pass_at_k(problems: &[(u64, u64)], k: u64) -> Option<f64> {
    let each: Option<Vec<f64>> = problems.iter().map(|&(n, c)| pass_at_k(n, c, k)).collect();
    let each = each.filter(|each| !each.is_empty())?;
    Some(each.iter().sum::<f64>() / each.len() as f64)
}

/// A mean over traces and its standard errors.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct AvgAtN {
    /// Mean over all traces of all problems.
    pub mean: f64,
    /// Standard error clustered by problem, with the factor G/(G-1) for few clusters; NaN with one problem.
    pub se: f64,
    /// The same without that factor (E. Miller, arXiv:2411.00640, section 2.2).
    pub se_large_sample: f64,
    /// What the standard error would be if traces of one problem were independent. Too small or too large;
    /// never report it alone.
    pub se_naive: f64,
}

/// The mean of scores (0 or 1, as a rule) over traces, `problems[p][t]`, with a standard error clustered by
/// problem.
///
/// # Errors
/// When there is no trace.
pub fn avg_at_n(problems: &[Vec<f64>]) -> Result<AvgAtN, StatsError> {
    let n: usize = problems.iter().map(Vec::len).sum();
    if n == 0 {
        return Err(StatsError::Empty("avg@n"));
    }
    let n = n as f64;
    let mean = problems.iter().flatten().sum::<f64>() / n;
    let clusters = problems.iter().filter(|p| !p.is_empty()).count() as f64;
    let between: f64 = problems
        .iter()
        .map(|p| p.iter().map(|x| x - mean).sum::<f64>().powi(2))
        .sum();
    let squares: f64 = problems.iter().flatten().map(|x| (x - mean).powi(2)).sum();
    let se_large_sample = between.sqrt() / n;
    let se = if clusters > 1.0 {
        se_large_sample * (clusters / (clusters - 1.0)).sqrt()
    } else {
        f64::NAN
    };
    Ok(AvgAtN {
        mean,
        se,
        se_large_sample,
        se_naive: (squares / (n - 1.0) / n).sqrt(),
    })
}
