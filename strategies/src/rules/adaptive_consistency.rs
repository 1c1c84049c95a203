//! Adaptive-Consistency: "Let's Sample Step by Step" (arXiv 2305.11860), section 3, the Beta criterion.

use super::AdaptiveConsistencySettings;
use crate::counts::ClassCounts;
use crate::interface::{Decision, Next, TraceOutcome};
use crate::trace_pool::TracePool;
use crate::vote::VoteKind;
use crate::whole_traces::WholeTraces;

/// The probability that the leader of `first` against `second` votes is the more frequent answer, under a
/// flat prior:
/// `sum_{j = second + 1}^{n} C(n, j) / 2^n` with `n = first + second + 1`, that is `P(Beta(first + 1, second
/// + 1) > 1/2)` (arXiv 2305.11860, section 3).
pub fn stays_ahead(first: usize, second: usize) -> f64 {
    let n = first + second + 1;
    if n > MOST_SUMMED {
        return 1.0 - tail(n, second);
    }
    // In logarithms: 2^-n alone would vanish beyond a thousand votes. The smaller side is summed.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut behind = 0.0;
    for j in 0..=second {
        behind += term.exp();
        term += ((n - j) as f64 / (j + 1) as f64).ln();
    }
    1.0 - behind
}

/// Votes up to which the sum is taken term by term from its beginning.
const MOST_SUMMED: usize = 2000;

/// `sum_{j = 0}^{k} C(n, j) / 2^n` for `k < n / 2`, from its largest term down to those that no longer count: what is
/// summed grows with the root of `n`.
fn tail(n: usize, k: usize) -> f64 {
    let ln_factorial = |m: usize| ln_gamma(m as f64 + 1.0);
    let largest = ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k) - n as f64 * std::f64::consts::LN_2;
    let (mut term, mut sum) = (1.0, 0.0);
    for j in (0..=k).rev() {
        sum += term;
        term *= j as f64 / (n - j + 1) as f64;
        if term < sum * 1e-17 {
            break;
        }
    }
    (largest + f64::ln(sum)).exp()
}

/// The logarithm of the gamma function for `x > 0`: Stirling's series, after a shift to where it is exact to
/// the last digits.
pub(super) fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 12.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - shift
}

/// Majority that stops as soon as the leader is ahead of the runner-up for good, with probability
/// `certainty`.
#[derive(Clone, Debug)]
pub(super) struct AdaptiveConsistency {
    settings: AdaptiveConsistencySettings,
    counts: ClassCounts,
    done: bool,
}

impl AdaptiveConsistency {
    pub(super) fn new(settings: AdaptiveConsistencySettings) -> Self {
        Self {
            settings,
            counts: ClassCounts::default(),
            done: false,
        }
    }
}

impl WholeTraces for AdaptiveConsistency {
    fn finished(&mut self, pool: &mut TracePool, outcome: &TraceOutcome<'_>) -> Next {
        if !self.done
            && pool.enter(outcome)
            && let Some(class) = pool.vote_of(outcome)
        {
            self.counts.add(class);
            let (first, second) = self.counts.top_two();
            self.done = stays_ahead(first, second) >= self.settings.certainty;
        }
        if self.done { Next::Done } else { Next::Wait }
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        pool.decide(VoteKind::Majority, None, 1, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Term by term from the first, whatever there is of them.
    fn plain(first: usize, second: usize) -> f64 {
        let n = first + second + 1;
        let mut term = -(n as f64) * std::f64::consts::LN_2;
        let mut behind = 0.0;
        for j in 0..=second {
            behind += term.exp();
            term += ((n - j) as f64 / (j + 1) as f64).ln();
        }
        1.0 - behind
    }

    #[test]
    fn many_votes_are_summed_from_the_largest_term() {
        for (first, second) in [
            (1000, 1000),
            (1040, 960),
            (1500, 600),
            (2001, 0),
            (5000, 4890),
            (20_000, 19_800),
        ] {
            let (got, want) = (stays_ahead(first, second), plain(first, second));
            assert!((got - want).abs() < 1e-9, "{first} {second}: {got} {want}");
        }
        assert_eq!(stays_ahead(4, 0), 0.96875);
    }
}
