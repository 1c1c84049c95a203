//! Weighted votes over complete traces: "Self-Consistency" (arXiv 2203.11171, section 2, weighted sums) and
//! "Deep Think with Confidence" (arXiv 2508.15260, section 3.2, without the filter).

use super::{needs_of, to_the_end, whole_traces};
use crate::interface::{Decision, Needs, Strategy};
use crate::pool::{Book, SETTLE_AFTER};
use crate::settings::WeightedSettings;

/// Runs all K traces to their end; each votes with the weight that the named vote gives it. Nothing is
/// stopped or filtered.
#[derive(Clone, Debug)]
pub struct Weighted {
    name: String,
    settings: WeightedSettings,
    book: Book,
}

impl Weighted {
    /// A strategy that calls itself `name`.
    pub fn new(name: impl Into<String>, settings: WeightedSettings) -> Self {
        let book = Book::new(settings.window, SETTLE_AFTER, settings.count_truncated);
        Self {
            name: name.into(),
            settings,
            book,
        }
    }
}

impl Strategy for Weighted {
    whole_traces!();
    to_the_end!();

    fn needs(&self) -> Needs {
        needs_of(self.settings.vote.statistic())
    }

    fn decide(&self) -> Decision {
        let book = self.book.settled();
        let mut decision = book.decide(self.settings.vote, None, 1, false);
        decision.warnings.extend(book.window_warning());
        decision
    }
}
