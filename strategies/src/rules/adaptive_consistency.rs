//! Adaptive-Consistency: "Let's Sample Step by Step" (arXiv 2305.11860), section 3, the Beta criterion.

use super::{Counts, whole_traces};
use crate::interface::{Decision, Needs, Next, Strategy, TraceOutcome};
use crate::pool::{Book, SETTLE_AFTER};
use crate::settings::AdaptiveSettings;
use crate::vote::VoteKind;

/// The probability that the leader of `first` against `second` votes is the more frequent answer, under a
/// flat prior:
/// `sum_{j = second + 1}^{n} C(n, j) / 2^n` with `n = first + second + 1`, that is `P(Beta(first + 1, second
/// + 1) > 1/2)` (arXiv 2305.11860, section 3).
pub fn stays_ahead(first: usize, second: usize) -> f64 {
    let n = first + second + 1;
    // In logarithms: 2^-n alone would vanish beyond a thousand votes. The smaller side is summed.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut behind = 0.0;
    for j in 0..=second {
        behind += term.exp();
        term += ((n - j) as f64 / (j + 1) as f64).ln();
    }
    1.0 - behind
}

/// Majority that stops as soon as the leader is ahead of the runner-up for good, with probability
/// `certainty`.
#[derive(Clone, Debug)]
pub struct AdaptiveConsistency {
    name: String,
    settings: AdaptiveSettings,
    book: Book,
    counts: Counts,
    done: bool,
}

impl AdaptiveConsistency {
    /// A strategy that calls itself `name`.
    pub fn new(name: impl Into<String>, settings: AdaptiveSettings) -> Self {
        let book = Book::new(settings.window, SETTLE_AFTER, settings.count_truncated);
        Self {
            name: name.into(),
            settings,
            book,
            counts: Counts::default(),
            done: false,
        }
    }
}

impl Strategy for AdaptiveConsistency {
    whole_traces!();

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn finished(&mut self, outcome: &TraceOutcome<'_>) -> Next {
        if !self.done
            && self.book.enter(outcome)
            && let Some(class) = self.book.vote_of(outcome)
        {
            self.counts.add(class);
            let (first, second) = self.counts.top_two();
            self.done = stays_ahead(first, second) >= self.settings.certainty;
        }
        if self.done { Next::Done } else { Next::Wait }
    }

    fn decide(&self) -> Decision {
        self.book.settled().decide(VoteKind::Majority, None, 1, false)
    }
}
