//! Strategies that rank complete traces by one score: best-of-N and Borda voting.

use crate::interface::{ClassId, Decision, Limits, Needs, Next, PoolKind, Step, Strategy, TokenScalars, TraceId, TraceOutcome, Watching};
use crate::pool::{Book, Filter, Rule, SETTLE_AFTER};
use crate::scores::Statistic;
use crate::settings::{BestOfNSettings, BordaSettings};
use crate::vote::{Tally, VoteKind, Voter};

/// What these strategies share: the score's needs, all traces to their end.
macro_rules! complete_traces {
    () => {
        fn name(&self) -> &str {
            &self.name
        }

        fn needs(&self) -> Needs {
            needs(self.settings.statistic)
        }

        fn begin(&mut self, limits: &Limits) -> usize {
            *self = Self::new(std::mem::take(&mut self.name), self.settings);
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

        fn leading(&self) -> Option<(ClassId, f64)> {
            self.book.leading(VoteKind::Majority, None)
        }

        fn window(&self) -> Option<usize> {
            self.book.window()
        }
    };
}

fn needs(statistic: Statistic) -> Needs {
    Needs {
        confidence: statistic.of_confidence(),
        logprob: statistic == Statistic::SequenceLogprob,
        self_certainty: statistic == Statistic::SelfCertainty,
    }
}

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
    complete_traces!();

    fn decide(&self) -> Decision {
        let book = self.book.settled();
        let statistic = self.settings.statistic;
        let score = |v: &Voter| v.scores.get(statistic);
        let best = book.voters(PoolKind::Finished, None).iter().filter_map(score).reduce(f64::max);
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

/// Borda voting by self-certainty (arXiv 2502.18581, section 4): the trace of rank r among the N with an answer weighs
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
    complete_traces!();

    fn decide(&self) -> Decision {
        let (statistic, power) = (self.settings.statistic, self.settings.power);
        let hold = |voters: &[Voter]| {
            let mut ranked: Vec<(f64, &Voter)> = voters.iter().filter_map(|v| Some((v.scores.get(statistic)?, v))).collect();
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
