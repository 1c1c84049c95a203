//! short-m@k: "Don't Overthink it. Preferring Shorter Thinking Chains" (arXiv 2505.17813).

use super::whole_traces;
use crate::interface::{Decision, Finish, Needs, Next, Strategy, TraceId, TraceOutcome};
use crate::pool::{Book, Rule, SETTLE_AFTER};
use crate::settings::ShortestSettings;
use crate::vote::{Tally, Voter};

/// short-m@k: all k traces run side by side, the first m that end by themselves vote, the rest is cancelled;
/// a tie goes to the class with the shortest trace. One without an answer is among the m, but casts no vote.
#[derive(Clone, Debug)]
pub struct ShortMAtK {
    name: String,
    settings: ShortestSettings,
    book: Book,
    finished: usize,
}

impl ShortMAtK {
    /// A strategy that calls itself `name`.
    pub fn new(name: impl Into<String>, settings: ShortestSettings) -> Self {
        let book = Book::new(settings.window, SETTLE_AFTER, settings.count_truncated);
        Self {
            name: name.into(),
            settings,
            book,
            finished: 0,
        }
    }
}

impl Strategy for ShortMAtK {
    whole_traces!();

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn finished(&mut self, outcome: &TraceOutcome<'_>) -> Next {
        let first = self.settings.first;
        if self.finished < first && self.book.enter(outcome) {
            self.finished += usize::from(outcome.finish == Finish::Stop);
        }
        if self.finished < first {
            Next::Wait
        } else {
            Next::Done
        }
    }

    fn decide(&self) -> Decision {
        let book = self.book.settled();
        let hold = |voters: &[Voter]| {
            // Counted in order of length, so that the lowest index of a tie is the shortest trace.
            let mut shortest: Vec<&Voter> = voters.iter().collect();
            shortest.sort_by_key(|v| (book.tokens(v.trace), v.trace));
            let ranked = shortest
                .iter()
                .enumerate()
                .map(|(rank, v)| (rank as TraceId, v.class, 1.0));
            let mut tally = Tally::count(ranked)?;
            tally.winner_trace = shortest.get(tally.winner_trace as usize)?.trace;
            Some(tally)
        };
        book.decide_by(&Rule {
            filter: None,
            min_votes: 1,
            consensus: false,
            name: "majority",
            hold: &hold,
        })
    }
}
