//! Majority over complete traces: "Self-Consistency" (arXiv 2203.11171).

use crate::interface::{ClassId, Decision, Limits, Needs, Next, Step, Strategy, TokenScalars, TraceId, TraceOutcome, Watching};
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
        Self {
            name: name.into(),
            settings,
            book: new_book(&settings),
        }
    }
}

fn new_book(s: &MajoritySettings) -> Book {
    Book::new(s.window, SETTLE_AFTER, s.count_truncated)
}

impl Strategy for Majority {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn begin(&mut self, limits: &Limits) -> usize {
        self.book = new_book(&self.settings);
        limits.traces
    }

    fn watching(&self, _: TraceId) -> Watching {
        Watching::Nothing
    }

    fn observe(&mut self, _: TraceId, _: &TokenScalars) -> Step {
        Step::Continue
    }

    fn finished(&mut self, outcome: &TraceOutcome<'_>) -> Next {
        self.book.enter(outcome);
        Next::Wait
    }

    fn decide(&self) -> Decision {
        self.book.settled().decide(VoteKind::Majority, None, 1, false)
    }

    fn leading(&self) -> Option<(ClassId, f64)> {
        self.book.leading(VoteKind::Majority, None)
    }

    fn window(&self) -> Option<usize> {
        self.book.window()
    }
}
