//! Which traces go on from which others, and how much they have in common.

use std::collections::BTreeMap;

use crate::interface::{Fork, TraceId};

/// The next place above `tokens` where a trace may be forked, every `spacing` tokens.
pub(super) fn next_point(spacing: usize, tokens: usize) -> usize {
    (tokens / spacing + 1).saturating_mul(spacing)
}

/// The forks of a problem, by the trace that goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Lineage(BTreeMap<TraceId, Fork>);

impl Lineage {
    /// Says where a trace begins that is about to be launched.
    pub(super) fn add(&mut self, trace: TraceId, fork: Fork) {
        self.0.insert(trace, fork);
    }

    /// Where the trace begins; `None` after the prompt.
    pub(super) fn fork_of(&self, trace: TraceId) -> Option<Fork> {
        self.0.get(&trace).copied()
    }

    /// Tokens that two traces have in common; no end of them for a trace and itself.
    fn shared(&self, mut a: TraceId, mut b: TraceId) -> usize {
        let mut most = usize::MAX;
        // a trace is younger than what it goes on from, so the younger one goes back
        while a != b {
            let Some(fork) = self.fork_of(a.max(b)) else {
                return 0;
            };
            most = most.min(fork.tokens);
            (a, b) = (a.min(b), fork.trace);
        }
        most
    }

    /// The part of their tokens that two traces of these lengths share: the cosine of the angle between them, so
    /// that a fork at half its length shares half of it with a sibling as long.
    pub(super) fn kinship(&self, a: (TraceId, usize), b: (TraceId, usize)) -> f64 {
        let product = (a.1.max(1) as f64 * b.1.max(1) as f64).sqrt();
        (self.shared(a.0, b.0) as f64 / product).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_ends_where_the_ways_part() {
        // 2 goes on from 0, 3 and 4 from 2, 5 from 1
        let mut of = Lineage::default();
        for (trace, parent, tokens) in [(2, 0, 30), (3, 2, 50), (4, 2, 20), (5, 1, 9)] {
            of.add(
                trace,
                Fork {
                    trace: parent,
                    tokens,
                },
            );
        }
        let shared = |a, b| (of.shared(a, b), of.shared(b, a));
        assert_eq!(shared(0, 2), (30, 30));
        assert_eq!(shared(0, 3), (30, 30), "of 3's 50 tokens 30 are those of 0");
        assert_eq!(shared(0, 4), (20, 20));
        assert_eq!(shared(3, 4), (20, 20));
        assert_eq!(shared(2, 3), (50, 50));
        assert_eq!(shared(1, 5), (9, 9));
        assert_eq!((shared(0, 1), shared(3, 5)), ((0, 0), (0, 0)));
        assert_eq!(of.kinship((0, 60), (2, 60)), 0.5);
        assert_eq!(of.kinship((0, 40), (2, 90)), 0.5);
        assert_eq!(of.kinship((3, 60), (3, 60)), 1.0);
    }
}
