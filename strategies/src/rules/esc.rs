//! ESC: "Escape Sky-high Cost: Early-stopping Self-Consistency" (arXiv 2401.10480).

use super::whole_traces;
use crate::interface::{Decision, Needs, Next, PoolKind, Strategy, TraceId, TraceOutcome};
use crate::pool::{Book, Filter, SETTLE_AFTER};
use crate::settings::EscSettings;
use crate::vote::{Tally, VoteKind};

/// Early-stopping self-consistency: traces run in batches of w; a batch that is unanimous ends the problem
/// with its answer, else the majority of all traces decides. A trace without an answer agrees with nobody.
#[derive(Clone, Debug)]
pub struct Esc {
    name: String,
    settings: EscSettings,
    book: Book,
    budget: usize,
    /// First trace of the running batch, and the first beyond it.
    batch: (usize, usize),
    ended: usize,
    unanimous: bool,
}

impl Esc {
    /// A strategy that calls itself `name`.
    pub fn new(name: impl Into<String>, settings: EscSettings) -> Self {
        let book = Book::new(settings.window, SETTLE_AFTER, settings.count_truncated);
        Self {
            name: name.into(),
            settings,
            book,
            budget: 0,
            batch: (0, 0),
            ended: 0,
            unanimous: false,
        }
    }

    fn range(&self) -> Filter {
        Filter::Range(self.batch.0 as TraceId, self.batch.1 as TraceId)
    }

    fn next_batch(&mut self) -> usize {
        let from = self.batch.1;
        self.batch = (from, (from + self.settings.batch).min(self.budget));
        self.ended = 0;
        self.batch.1 - from
    }
}

impl Strategy for Esc {
    whole_traces!(
        first = |esc, limits| {
            esc.budget = limits.traces;
            esc.next_batch()
        }
    );

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn finished(&mut self, outcome: &TraceOutcome<'_>) -> Next {
        if self.unanimous {
            return Next::Done;
        }
        if !self.book.enter(outcome) {
            return Next::Wait;
        }
        self.ended += 1;
        if self.ended < self.batch.1 - self.batch.0 {
            return Next::Wait;
        }
        let tally = Tally::hold(
            VoteKind::Majority,
            &self.book.voters(PoolKind::Filtered, Some(self.range())),
        );
        if tally.is_some_and(|t| t.ballots[0].traces == self.settings.batch) {
            self.unanimous = true;
            return Next::Done;
        }
        match self.next_batch() {
            0 => Next::Wait,
            n => Next::Launch(n),
        }
    }

    fn decide(&self) -> Decision {
        let filter = self.unanimous.then(|| self.range());
        self.book.settled().decide(VoteKind::Majority, filter, 1, false)
    }
}
