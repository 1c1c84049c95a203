//! Majority over complete traces: "Self-Consistency" (arXiv 2203.11171).

use super::{to_the_end, whole_traces};
use crate::interface::{Decision, Needs, Strategy};
use crate::pool::{Book, SETTLE_AFTER};
use crate::settings::MajoritySettings;
use crate::vote::VoteKind;

/// Runs all K traces to their end; the class with the most traces wins. Nothing is stopped.
#[derive(Clone, Debug)]
pub struct Majority {
    name: String,
    settings: MajoritySettings,
    book: Book,
}

impl Majority {
    /// A strategy that calls itself `name`.
    pub fn new(name: impl Into<String>, settings: MajoritySettings) -> Self {
        let book = Book::new(settings.window, SETTLE_AFTER, settings.count_truncated);
        Self {
            name: name.into(),
            settings,
            book,
        }
    }
}

impl Strategy for Majority {
    whole_traces!();
    to_the_end!();

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn decide(&self) -> Decision {
        self.book.settled().decide(VoteKind::Majority, None, 1, false)
    }
}
