//! Random subsets of a recording, and quantiles.

use super::{Interval, StatsError, paired::mean};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The quantile of sorted values by linear interpolation between order statistics (R's type 7, NumPy's
/// default; Hyndman and Fan 1996). `p` is clamped to [0, 1]; `None` without values.
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = p.clamp(0.0, 1.0) * last as f64;
    let below = at.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    Some(if low == high {
        low
    } else {
        low + (high - low) * (at - below as f64)
    })
}

/// Seeded subsets of `k` of `n` traces without replacement: maj@k and strategy@k are expectations over these.
/// The i-th subset depends on the seed, the stream, `n` and i only, so every strategy can be given the same
/// ones, and the subset for a smaller budget is the head of the one for a larger.
#[derive(Clone, Copy, Debug)]
pub struct Resamples {
    /// Traces there are.
    pub n: usize,
    /// Traces in a subset; no more than `n`.
    pub k: usize,
    /// How many subsets; 64 unless said otherwise.
    pub count: usize,
    /// Seed of the whole comparison.
    pub seed: u64,
    /// One stream for each problem.
    pub stream: u64,
}

impl Resamples {
    /// The subsets, as indices in the order drawn (a strategy sees traces in this order). Empty when k > n.
    pub fn subsets(self) -> impl Iterator<Item = Vec<usize>> {
        let count = if self.k > self.n { 0 } else { self.count };
        (0..count).map(move |i| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(self.stream);
            // Far enough apart that no two subsets share random numbers.
            rng.set_word_pos((i as u128) << 40);
            // The first k steps of a shuffle (R. Durstenfeld, 1964).
            let mut order: Vec<usize> = (0..self.n).collect();
            for at in 0..self.k {
                order.swap(at, rng.random_range(at..self.n));
            }
            order.truncate(self.k);
            order
        })
    }
}

/// The mean of `score` over subsets, and the interval that holds the middle `level` of them: the spread that
/// comes from resampling traces.
///
/// # Errors
/// When there are no subsets.
pub fn expectation(
    resamples: Resamples,
    level: f64,
    score: impl FnMut(Vec<usize>) -> f64,
) -> Result<(f64, Interval), StatsError> {
    let mut scores: Vec<f64> = resamples.subsets().map(score).collect();
    let average = mean(&scores).ok_or(StatsError::Empty("an expectation over subsets"))?;
    scores.sort_by(f64::total_cmp);
    let end = |p| quantile(&scores, p).ok_or(StatsError::Empty("an expectation over subsets"));
    Ok((
        average,
        Interval {
            low: end((1.0 - level) / 2.0)?,
            high: end(f64::midpoint(1.0, level))?,
        },
    ))
}
