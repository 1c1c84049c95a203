//! Accuracy against tokens: what is worth its tokens, and what one curve saves against another.

use super::{Interval, StatsError};

/// One strategy at one budget.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Point {
    /// Generated tokens a problem, above 0.
    pub tokens: f64,
    /// Accuracy, or any other gain.
    pub accuracy: f64,
}

/// Which points no other beats: none has at least their accuracy for fewer tokens, or more accuracy for at
/// most their tokens. Points that are alike are in or out together. In the order given.
pub fn pareto(points: &[Point]) -> Vec<bool> {
    let beats = |a: &Point, b: &Point| {
        a.tokens <= b.tokens && a.accuracy >= b.accuracy && (a.tokens < b.tokens || a.accuracy > b.accuracy)
    };
    points
        .iter()
        .map(|p| !points.iter().any(|other| beats(other, p)))
        .collect()
}

/// Accuracy against tokens for growing budgets of one strategy, linear in the logarithm of the tokens between
/// points.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// By tokens, each number of tokens once.
    points: Vec<Point>,
}

impl Curve {
    /// A curve through the points, in any order; of points with the same tokens the most accurate counts.
    ///
    /// # Errors
    /// When there are none, or one has no finite accuracy or no positive number of tokens.
    pub fn new(points: &[Point]) -> Result<Self, StatsError> {
        if points.is_empty() {
            return Err(StatsError::Empty("a curve"));
        }
        if points
            .iter()
            .any(|p| !(p.tokens > 0.0 && p.tokens.is_finite() && p.accuracy.is_finite()))
        {
            return Err(StatsError::NotFinite(
                "a curve of accuracy against tokens (all above 0)",
            ));
        }
        let mut points = points.to_vec();
        points.sort_by(|a, b| {
            a.tokens
                .total_cmp(&b.tokens)
                .then(b.accuracy.total_cmp(&a.accuracy))
        });
        points.dedup_by(|b, a| a.tokens == b.tokens);
        Ok(Self { points })
    }

    /// The tokens of its first and its last point.
    pub fn tokens(&self) -> Interval {
        Interval {
            low: self.points[0].tokens,
            high: self.points[self.points.len() - 1].tokens,
        }
    }

    /// Its accuracy at this many tokens; `None` outside of its range.
    pub fn accuracy_at(&self, tokens: f64) -> Option<f64> {
        let above = self.points.iter().position(|p| p.tokens >= tokens)?;
        let high = self.points[above];
        if high.tokens == tokens {
            return Some(high.accuracy);
        }
        let low = self.points[above.checked_sub(1)?];
        let at = (tokens / low.tokens).ln() / (high.tokens / low.tokens).ln();
        Some(low.accuracy + (high.accuracy - low.accuracy) * at)
    }

    /// The fewest tokens at which it has this accuracy; `None` where it never has. Where already its first
    /// point has it, fewer tokens might do: that point's tokens are returned.
    pub fn tokens_at(&self, accuracy: f64) -> Option<f64> {
        let above = self.points.iter().position(|p| p.accuracy >= accuracy)?;
        let high = self.points[above];
        let Some(low) = above.checked_sub(1).map(|i| self.points[i]) else {
            return Some(high.tokens);
        };
        let at = (accuracy - low.accuracy) / (high.accuracy - low.accuracy);
        Some(low.tokens * (high.tokens / low.tokens).powf(at))
    }

    /// The range of tokens that all the curves cover, if there is one.
    pub fn shared(curves: &[Curve]) -> Option<Interval> {
        let low = curves.iter().map(|c| c.tokens().low).reduce(f64::max)?;
        let high = curves.iter().map(|c| c.tokens().high).reduce(f64::min)?;
        (low < high).then_some(Interval { low, high })
    }

    /// The mean accuracy over a range of tokens, on the logarithmic axis: the area under the curve divided by
    /// the range's width. `None` when the curve does not cover the range.
    pub fn area(&self, range: Interval) -> Option<f64> {
        let own = self.tokens();
        if !(range.low < range.high && own.low <= range.low && range.high <= own.high) {
            return None;
        }
        let inside = self
            .points
            .iter()
            .filter(|p| range.low < p.tokens && p.tokens < range.high)
            .copied();
        let end = |tokens| {
            self.accuracy_at(tokens)
                .map(|accuracy| Point { tokens, accuracy })
        };
        let mut corners = vec![end(range.low)?];
        corners.extend(inside);
        corners.push(end(range.high)?);
        let area: f64 = corners
            .windows(2)
            .map(|w| (w[1].tokens / w[0].tokens).ln() * f64::midpoint(w[0].accuracy, w[1].accuracy))
            .sum();
        Some(area / (range.high / range.low).ln())
    }

    /// The share of tokens that this curve saves against another where it is as accurate as the other at its
    /// end: 0.4 when it needs 60% of them, negative when it needs more. `None` when it is never as accurate.
    pub fn saving_against(&self, other: &Curve) -> Option<f64> {
        let goal = other.points.last()?;
        Some(1.0 - self.tokens_at(goal.accuracy)? / goal.tokens)
    }
}
