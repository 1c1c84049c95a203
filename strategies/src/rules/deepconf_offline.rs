//! Offline DeepConf: "Deep Think with Confidence" (arXiv 2508.15260), section 3.2, algorithm 1.

use super::deepconf_online::keep_top_bar;
use super::{needs_of, to_the_end, whole_traces};
use crate::interface::{Decision, Needs, PoolKind, Strategy};
use crate::pool::{Book, Filter, SETTLE_AFTER};
use crate::settings::OfflineSettings;

/// Offline DeepConf: K complete traces, the top share of those with an answer by one statistic, a weighted
/// vote.
#[derive(Clone, Debug)]
pub struct Offline {
    name: String,
    settings: OfflineSettings,
    book: Book,
}

impl Offline {
    /// A strategy that calls itself `name`.
    pub fn new(name: impl Into<String>, settings: OfflineSettings) -> Self {
        let book = Book::new(settings.window, SETTLE_AFTER, settings.count_truncated);
        Self {
            name: name.into(),
            settings,
            book,
        }
    }

    fn filter(&self, book: &Book) -> Option<Filter> {
        let statistic = self.settings.statistic;
        let voters = book.voters(PoolKind::Finished, None);
        let values: Vec<f64> = voters.iter().filter_map(|v| v.scores.get(statistic)).collect();
        keep_top_bar(&values, self.settings.keep_top).map(|bar| Filter::Bar { statistic, bar })
    }
}

impl Strategy for Offline {
    whole_traces!(leader = |offline| offline.settings.vote);
    to_the_end!();

    fn needs(&self) -> Needs {
        let (filter, vote) = (
            needs_of(Some(self.settings.statistic)),
            needs_of(self.settings.vote.statistic()),
        );
        Needs {
            confidence: filter.confidence || vote.confidence,
            logprob: filter.logprob || vote.logprob,
            self_certainty: filter.self_certainty || vote.self_certainty,
        }
    }

    fn decide(&self) -> Decision {
        let book = self.book.settled();
        let mut decision = book.decide(
            self.settings.vote,
            self.filter(&book),
            self.settings.min_votes,
            false,
        );
        decision.warnings.extend(book.window_warning());
        decision
    }
}
