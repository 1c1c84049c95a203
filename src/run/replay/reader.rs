//! A recorded trace, read token by token.

use std::sync::Arc;

use tts_model::sampling::{Drawn, TOP};
use tts_strategies::windows::GroupWindow;
use tts_strategies::{Finish, Step, Watching};

use crate::run::{Token, TraceRecord};

/// A trace's record and how far it was read.
///
/// A record may hold statistics in the place of the tokens' numbers ([`crate::run::RecordedPool`]): then it
/// knows where the trace first falls below a bar, and cannot show its tokens to a strategy.
pub(in crate::run) struct RecordReader {
    record: Arc<TraceRecord>,
    /// tokens that were read
    read: usize,
    /// the window and the bar last asked about, with the answer
    crossing: Option<(usize, f64, Option<usize>)>,
}

impl RecordReader {
    pub(in crate::run) fn new(record: Arc<TraceRecord>) -> Self {
        Self {
            record,
            read: 0,
            crossing: None,
        }
    }

    /// The record that is read.
    pub(in crate::run) fn record(&self) -> &TraceRecord {
        &self.record
    }

    /// How many tokens were read.
    pub(in crate::run) fn tokens(&self) -> usize {
        self.read
    }

    /// How many tokens are still to come.
    pub(in crate::run) fn left(&self) -> usize {
        self.record.tokens.saturating_sub(self.read)
    }

    fn is_at_end(&self) -> bool {
        self.read >= self.record.tokens
    }

    /// The record, once all its tokens are read.
    pub(in crate::run) fn in_full(&self) -> Option<&TraceRecord> {
        Some(self.record()).filter(|_| self.is_at_end())
    }

    /// What the next read gives; `None` where the record ends and the trace may go on.
    pub(in crate::run) fn next(&self) -> Option<Token> {
        let (record, i) = (&self.record, self.read);
        if self.is_at_end() {
            return (record.finish == Finish::Failed).then_some(Token::Broken);
        }
        let a = &record.arrays;
        Some(Token::Drawn(Drawn {
            id: a.token_ids.get(i).copied().unwrap_or(u32::MAX),
            logprob: a.logprobs.get(i).copied().unwrap_or(f32::NAN),
            confidence: a.confidence.get(i).copied().unwrap_or(f32::NAN),
            entropy: f32::NAN,
            self_certainty: f32::NAN,
            top: [f32::NAN; TOP],
        }))
    }

    /// Counts tokens of the record as read.
    pub(in crate::run) fn skip(&mut self, tokens: usize) {
        debug_assert!(
            tokens <= self.left(),
            "a record is read to its end and no further"
        );
        self.read += tokens;
    }

    /// How the trace ended, once all its tokens are read; `None` for one that was cut from outside.
    pub(in crate::run) fn end(&self) -> Option<Finish> {
        Some(self.in_full()?.finish).filter(|finish| finish.is_complete())
    }

    /// Generated tokens that no decision saw: they belong to the record's end.
    pub(in crate::run) fn unseen(&self) -> u64 {
        self.in_full().map_or(0, |record| record.unseen)
    }

    /// Sum of the self-certainty of the tokens read, nats: known at the record's beginning and end alone.
    pub(in crate::run) fn self_certainty(&self) -> Option<f64> {
        if self.read == 0 {
            Some(0.0)
        } else {
            self.in_full()?.self_certainty_sum
        }
    }

    /// Whether the tokens' confidences are not there to be shown, though a statistic made of them is.
    pub(in crate::run) fn is_blind(&self) -> bool {
        let measured = self.record.measured.as_ref();
        let confidences = self.record.arrays.confidence.get(..self.read);
        confidences.is_none_or(<[f32]>::is_empty)
            && measured.is_some_and(|m| m.mean.is_some() || !m.windows.is_empty())
    }

    /// What a strategy that watches for this answers to the newest token; `None` where the token must be
    /// shown.
    pub(in crate::run) fn step(&mut self, watching: Watching) -> Option<Step> {
        match watching {
            Watching::Nothing => Some(Step::Continue),
            Watching::Below { window, bar } => {
                let crosses_now = self.crossing(window, bar)? == Some(self.read);
                Some(if crosses_now { Step::Stop } else { Step::Continue })
            }
            _ => None,
        }
    }

    /// How many tokens can be read before anything may come of one: the strategy watches for this, and the
    /// record's last token may end the trace. `None` where each token must be shown.
    pub(in crate::run) fn quiet_tokens(&mut self, watching: Watching) -> Option<usize> {
        let mut left = self.left();
        match watching {
            Watching::Nothing => {}
            Watching::Below { window, bar } => {
                if let Some(crossing) = self.crossing(window, bar)?.filter(|at| *at > self.read) {
                    left = left.min(crossing - self.read);
                }
            }
            _ => return None,
        }
        Some(left.saturating_sub(1))
    }

    /// The number of tokens after which the record first falls below the bar, if it does; the outer `None`
    /// where that is not known.
    fn crossing(&mut self, window: usize, bar: f64) -> Option<Option<usize>> {
        if let Some((w, b, at)) = self.crossing
            && (w, b.to_bits()) == (window, bar.to_bits())
        {
            return Some(at);
        }
        let record = &self.record;
        let at = match &record.measured {
            Some(measured) => measured.first_below(window, bar)?,
            None if record.arrays.confidence.len() == record.tokens => {
                let mut groups = GroupWindow::new(window);
                let below = |c: &f32| groups.push(*c).is_some_and(|group| group < bar);
                record.arrays.confidence.iter().position(below).map(|i| i + 1)
            }
            None => return None,
        };
        self.crossing = Some((window, bar, at));
        Some(at)
    }
}
