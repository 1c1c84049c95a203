//! Borda voting by self-certainty: "Scalable Best-of-N Selection via Self-Certainty" (arXiv 2502.18581),
//! section 4.

use super::{needs_of, to_the_end, whole_traces};
use crate::interface::{Decision, Needs, Strategy};
use crate::pool::{Book, Rule, SETTLE_AFTER};
use crate::settings::BordaSettings;
use crate::vote::{Tally, Voter};

/// Borda voting: the trace of rank r among the N with an answer weighs
/// `(N - r + 1)^p`.
#[derive(Clone, Debug)]
pub struct Borda {
    name: String,
    settings: BordaSettings,
    book: Book,
}

impl Borda {
    /// A strategy that calls itself `name`.
    pub fn new(name: impl Into<String>, settings: BordaSettings) -> Self {
        let book = Book::new(settings.window, SETTLE_AFTER, settings.count_truncated);
        Self {
            name: name.into(),
            settings,
            book,
        }
    }
}

impl Strategy for Borda {
    whole_traces!();
    to_the_end!();

    fn needs(&self) -> Needs {
        needs_of(Some(self.settings.statistic))
    }

    fn decide(&self) -> Decision {
        let (statistic, power) = (self.settings.statistic, self.settings.power);
        let hold = |voters: &[Voter]| {
            let mut ranked: Vec<(f64, &Voter)> = voters
                .iter()
                .filter_map(|v| Some((v.scores.get(statistic)?, v)))
                .collect();
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.trace.cmp(&b.1.trace)));
            let n = ranked.len();
            let ballots = ranked
                .iter()
                .enumerate()
                .map(|(i, (_, v))| (v.trace, v.class, ((n - i) as f64).powf(power)));
            let mut tally = Tally::count(ballots)?;
            tally.abstained = voters.len() - n;
            Some(tally)
        };
        self.book.settled().decide_by(&Rule {
            filter: None,
            min_votes: 1,
            consensus: false,
            name: "borda",
            hold: &hold,
        })
    }
}
