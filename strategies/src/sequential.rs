//! Strategies that look at answers alone and end a problem early: Adaptive-Consistency, ESC, short-m@k.

use crate::interface::{ClassId, Decision, Finish, Limits, Needs, Next, PoolKind, Step, Strategy, TokenScalars, TraceId, TraceOutcome, Watching};
use crate::pool::{Book, Filter, Rule, SETTLE_AFTER};
use crate::settings::{AdaptiveSettings, EscSettings, ShortestSettings};
use crate::vote::{Tally, VoteKind, Voter};

/// What these strategies share: no need of confidences, nothing stopped inside a trace, the majority of the book.
macro_rules! answers_alone {
    () => {
        fn name(&self) -> &str {
            &self.name
        }

        fn needs(&self) -> Needs {
            Needs::default()
        }

        fn watching(&self, _: TraceId) -> Watching {
            Watching::Nothing
        }

        fn observe(&mut self, _: TraceId, _: &TokenScalars) -> Step {
            Step::Continue
        }

        fn leading(&self) -> Option<(ClassId, f64)> {
            self.book.leading(VoteKind::Majority, None)
        }

        fn window(&self) -> Option<usize> {
            self.book.window()
        }
    };
}

/// The probability that the leader of `first` against `second` votes is the more frequent answer, under a flat prior:
/// `sum_{j = second + 1}^{n} C(n, j) / 2^n` with `n = first + second + 1`, that is `P(Beta(first + 1, second + 1) > 1/2)`
/// (arXiv 2305.11860, section 3).
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

/// Adaptive-Consistency (arXiv 2305.11860): majority that stops as soon as the leader is ahead of the runner-up for good, with
/// probability `certainty`.
#[derive(Clone, Debug)]
pub struct AdaptiveConsistency {
    name: String,
    settings: AdaptiveSettings,
    book: Book,
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
            done: false,
        }
    }
}

impl Strategy for AdaptiveConsistency {
    answers_alone!();

    fn begin(&mut self, limits: &Limits) -> usize {
        *self = Self::new(std::mem::take(&mut self.name), self.settings);
        limits.traces
    }

    fn finished(&mut self, outcome: &TraceOutcome<'_>) -> Next {
        if !self.done && self.book.enter(outcome) {
            let tally = Tally::hold(VoteKind::Majority, &self.book.voters(PoolKind::Finished, None));
            self.done = tally.is_some_and(|t| {
                let second = t.ballots.get(1).map_or(0, |b| b.traces);
                stays_ahead(t.ballots[0].traces, second) >= self.settings.certainty
            });
        }
        if self.done { Next::Done } else { Next::Wait }
    }

    fn decide(&self) -> Decision {
        self.book.settled().decide(VoteKind::Majority, None, 1, false)
    }
}

/// Early-stopping self-consistency, ESC (arXiv 2401.10480): traces run in batches of w; a batch that is unanimous ends the problem
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
    answers_alone!();

    fn begin(&mut self, limits: &Limits) -> usize {
        *self = Self::new(std::mem::take(&mut self.name), self.settings);
        self.budget = limits.traces;
        self.next_batch()
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
        let tally = Tally::hold(VoteKind::Majority, &self.book.voters(PoolKind::Filtered, Some(self.range())));
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

/// short-m@k (arXiv 2505.17813): all k traces run side by side, the first m that end by themselves vote, the rest is cancelled;
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
    answers_alone!();

    fn begin(&mut self, limits: &Limits) -> usize {
        *self = Self::new(std::mem::take(&mut self.name), self.settings);
        limits.traces
    }

    fn finished(&mut self, outcome: &TraceOutcome<'_>) -> Next {
        let first = self.settings.first;
        if self.finished < first && self.book.enter(outcome) {
            self.finished += usize::from(outcome.finish == Finish::Stop);
        }
        if self.finished < first { Next::Wait } else { Next::Done }
    }

    fn decide(&self) -> Decision {
        let book = self.book.settled();
        let hold = |voters: &[Voter]| {
            // Counted in order of length, so that the lowest index of a tie is the shortest trace.
            let mut shortest: Vec<&Voter> = voters.iter().collect();
            shortest.sort_by_key(|v| (book.tokens(v.trace), v.trace));
            let ranked = shortest.iter().enumerate().map(|(rank, v)| (rank as TraceId, v.class, 1.0));
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
