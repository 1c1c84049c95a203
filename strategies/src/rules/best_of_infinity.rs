//! Best-of-infinity: "Best-of-∞: Asymptotic Performance of Test-Time Compute" (arXiv 2509.21091), algorithm
//! 1.

use super::adaptive_consistency::ln_gamma;
use super::{BestOfInfinitySettings, stays_ahead};
use crate::counts::ClassCounts;
use crate::interface::{Decision, Next, TraceOutcome};
use crate::trace_pool::TracePool;
use crate::vote::VoteKind;
use crate::whole_traces::WholeTraces;

/// `P(Gamma(shape) <= x)`: the series below the mean, the continued fraction above it (Abramowitz and Stegun,
/// 6.5.29 and 6.5.31).
fn gamma_cdf(shape: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    let scale = (shape * x.ln() - x - ln_gamma(shape)).exp();
    if x < shape + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / shape, 1.0 / shape, shape);
        while term > sum * 1e-16 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return (scale * sum).min(1.0);
    }
    // Lentz's method.
    let mut b = x + 1.0 - shape;
    let mut c = 1e300;
    let mut d = 1.0 / b;
    let mut fraction = d;
    for i in 1..500 {
        let a = -f64::from(i) * (f64::from(i) - shape);
        b += 2.0;
        d = 1.0 / (a * d + b);
        c = b + a / c;
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    (1.0 - scale * fraction).max(0.0)
}

/// The probability that the first of several parts of a Dirichlet distribution is the largest. The parts are
/// gamma variables of these shapes, scaled to sum to 1, so it is the integral of the first one's density
/// times the others' distributions. Of the others each shape comes with how many parts have it.
fn first_is_largest(first: f64, others: &[(f64, usize)]) -> f64 {
    const STEPS: usize = 1024;
    let width = 12.0 * first.sqrt();
    // Over the square root of x, in which the integrand is smooth at 0.
    let (low, high) = ((first - width).max(0.0).sqrt(), (first + width + 30.0).sqrt());
    let h = (high - low) / STEPS as f64;
    let norm = ln_gamma(first);
    let value = |root: f64| {
        let x = root * root;
        let density = if x > 0.0 {
            ((first - 1.0) * x.ln() - x - norm).exp()
        } else {
            0.0
        };
        // Far out the density is nothing, whatever the rest is.
        if density < 1e-18 {
            return 0.0;
        }
        // Answers that were given equally often share one value.
        let below: f64 = others
            .iter()
            .map(|(shape, parts)| gamma_cdf(*shape, x).powi(*parts as i32))
            .product();
        2.0 * root * density * below
    };
    // Simpson's rule.
    let weight = |i: usize| match i {
        0 | STEPS => 1.0,
        i if i % 2 == 1 => 4.0,
        _ => 2.0,
    };
    let sum: f64 = (0..=STEPS).map(|i| weight(i) * value(low + h * i as f64)).sum();
    (sum * h / 3.0).clamp(0.0, 1.0)
}

/// Majority that stops as soon as the data say by a Bayes factor that its answer is the one that infinitely
/// many traces would give.
///
/// With counts n of the K - 1 answers seen, and one more part for an answer not seen yet, which counts as
/// `unknown` traces, the answers' shares follow a Dirichlet distribution of n + 1. The factor for "the leader
/// is the most frequent" is `K P/(1 - P)`, the odds after the data over the odds before. P is integrated,
/// where the authors' code draws samples.
#[derive(Clone, Debug)]
pub(super) struct BestOfInfinity {
    settings: BestOfInfinitySettings,
    counts: ClassCounts,
    done: bool,
}

impl BestOfInfinity {
    pub(super) fn new(settings: BestOfInfinitySettings) -> Self {
        Self {
            settings,
            counts: ClassCounts::default(),
            done: false,
        }
    }

    fn is_certain(&self) -> bool {
        let parts = (self.counts.classes() + 1) as f64;
        let factor = |p: f64| parts * p / (1.0 - p).max(f64::MIN_POSITIVE);
        let (first, second) = self.counts.top_two();
        // Being ahead of everybody is no likelier than being ahead of the runner-up, which costs less to
        // know.
        if factor(stays_ahead(first, second)) < self.settings.bayes_factor {
            return false;
        }
        let mut others: Vec<(f64, usize)> = self
            .counts
            .ranked()
            .map(|(count, classes)| (count as f64 + 1.0, classes))
            .collect();
        let Some((leader, classes)) = others.first_mut() else {
            return false;
        };
        let leader = *leader;
        *classes -= 1;
        others.retain(|(_, classes)| *classes > 0);
        let unseen = self.settings.unknown + 1.0;
        match others.last_mut() {
            Some((shape, classes)) if *shape == unseen => *classes += 1,
            _ => others.push((unseen, 1)),
        }
        factor(first_is_largest(leader, &others)) >= self.settings.bayes_factor
    }
}

impl WholeTraces for BestOfInfinity {
    fn finished(&mut self, pool: &mut TracePool, outcome: &TraceOutcome<'_>) -> Next {
        if !self.done
            && pool.enter(outcome)
            && let Some(class) = pool.vote_of(outcome)
        {
            self.counts.add(class);
            self.done = self.is_certain();
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

    #[test]
    fn gamma_functions_have_their_known_values() {
        for (x, factorial) in [(1.0, 1.0f64), (2.0, 1.0), (5.0, 24.0), (11.0, 3_628_800.0)] {
            assert!((ln_gamma(x) - factorial.ln()).abs() < 1e-12, "{x}");
        }
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-12);
        // Whole shapes: 1 - e^-x (1 + x + x^2/2 + ...).
        for x in [0.1f64, 1.0, 2.5, 3.9, 4.1, 20.0] {
            let poisson: f64 = [1.0, x, x * x / 2.0, x * x * x / 6.0].iter().sum();
            assert!(
                (gamma_cdf(4.0, x) - (1.0 - (-x).exp() * poisson)).abs() < 1e-13,
                "{x}"
            );
        }
        assert_eq!(gamma_cdf(1.3, 0.0), 0.0);
        assert!((gamma_cdf(1.3, 200.0) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn two_parts_are_the_beta_distribution() {
        for (first, second) in [(4, 0), (5, 1), (8, 2), (20, 11), (300, 270)] {
            let p = first_is_largest(first as f64 + 1.0, &[(second as f64 + 1.0, 1)]);
            assert!(
                (p - stays_ahead(first, second)).abs() < 1e-8,
                "{first} {second} {p}"
            );
        }
    }

    #[test]
    fn equal_parts_share_alike() {
        for k in 2..7 {
            let p = first_is_largest(3.0, &[(3.0, k - 1)]);
            assert!((p - 1.0 / k as f64).abs() < 1e-8, "{k} {p}");
        }
    }
}
