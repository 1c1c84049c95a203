//! Best of N by a trace score.

use super::{needs_of, to_the_end, whole_traces};
use crate::interface::{Decision, Needs, PoolKind, Strategy};
use crate::pool::{Book, Filter, Rule, SETTLE_AFTER};
use crate::settings::BestOfNSettings;
use crate::vote::{Tally, VoteKind, Voter};

/// Best of N: the answer of the one trace with the highest score.
#[derive(Clone, Debug)]
pub struct BestOfN {
    name: String,
    settings: BestOfNSettings,
    book: Book,
}

impl BestOfN {
    /// A strategy that calls itself `name`.
    pub fn new(name: impl Into<String>, settings: BestOfNSettings) -> Self {
        let book = Book::new(settings.window, SETTLE_AFTER, settings.count_truncated);
        Self {
            name: name.into(),
            settings,
            book,
        }
    }
}

impl Strategy for BestOfN {
    whole_traces!();
    to_the_end!();

    fn needs(&self) -> Needs {
        needs_of(Some(self.settings.statistic))
    }

    fn decide(&self) -> Decision {
        let book = self.book.settled();
        let statistic = self.settings.statistic;
        let score = |v: &Voter| v.scores.get(statistic);
        let best = book
            .voters(PoolKind::Finished, None)
            .iter()
            .filter_map(score)
            .reduce(f64::max);
        // A filter with the best score as its bar lets the best trace through, and those equal to it.
        let filter = best.map(|bar| Filter::Bar { statistic, bar });
        let hold = |voters: &[Voter]| {
            voters
                .iter()
                .any(|v| score(v).is_some())
                .then(|| Tally::hold(VoteKind::Majority, voters))
                .flatten()
        };
        book.decide_by(&Rule {
            filter,
            min_votes: 1,
            consensus: false,
            name: "best-of-n",
            hold: &hold,
        })
    }
}
