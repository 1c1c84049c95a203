//! Traces of an engine that answers in its own order: each is handled when it comes, by the rules of a tick.
//!
//! There is no lockstep: a trace is decided over token by token in the order of arrival, and the problem's
//! ticks are the length of the longest chain of tokens that had to come one after the other. What the engine
//! generated and no decision saw (tokens in the same piece after the one that stopped the trace, tokens that
//! it reports and did not send) is in the trace's book too, and stands apart as
//! [`TraceRecord::unseen`](crate::run::TraceRecord::unseen).

use tts_strategies::{Finish, Step, TraceId};

use super::{Problem, Token};
use crate::run::Row;
use tts_model::sampling::Drawn;

/// What came of a trace at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrived<'a> {
    /// Its tokens, in order.
    pub tokens: &'a [Drawn],
    /// Their text.
    pub text: &'a str,
    /// Tokens of the trace so far, these included, by the engine's own count.
    pub reported: Option<u64>,
    /// How the trace ended with them, by the engine's word; [`Finish::Failed`] where its stream broke.
    pub end: Option<Finish>,
}

impl Problem {
    /// Books what came of a live trace and shows it to the strategy token by token; what comes of any other
    /// trace is passed over.
    pub fn arrived(&mut self, trace: TraceId, piece: Arrived<'_>) {
        let Some(at) = self.position(trace) else { return };
        let mut row = self.rows.remove(at);
        row.write(piece.text);
        let wrote_stop = row.stops_by_text(&self.rules, self.decode.as_ref());
        let mut finish = None;
        for (i, token) in piece.tokens.iter().enumerate() {
            row.push(Token::Drawn(*token), &self.rules);
            self.live_tokens += 1;
            let last = i + 1 == piece.tokens.len();
            // a token that ends a trace and crosses the bar makes it finished: the engine's word comes with
            // the last one
            let step = self.watch(&mut row);
            finish = (last && wrote_stop)
                .then_some(Finish::Stop)
                .or(row.ends(&self.rules))
                .or(piece.end.filter(|end| last && *end != Finish::Failed))
                .or((step != Step::Continue).then_some(Finish::LowConfidence));
            if finish.is_some() {
                row.pass_unseen((piece.tokens.len() - 1 - i) as u64);
                break;
            }
        }
        if let Some(total) = piece.reported {
            row.pass_unseen(total.saturating_sub(row.tokens() as u64 + row.unseen()));
        }
        self.settle(
            at,
            row,
            finish.or(wrote_stop.then_some(Finish::Stop)).or(piece.end),
        );
    }

    /// Reads the record of a live trace that has one to its end. A trace that the strategy is not through
    /// with there begins anew, or has failed if the strategy was shown tokens that may not come again.
    /// Returns false where there is no record to read.
    pub fn read_record(&mut self, trace: TraceId) -> bool {
        let Some(at) = self.position(trace).filter(|at| self.rows[*at].has_record()) else {
            return false;
        };
        let mut row = self.rows.remove(at);
        let mut finish = None;
        while finish.is_none()
            && let Some(token) = row.recorded_next()
        {
            row.push(token, &self.rules);
            self.live_tokens += u64::from(!row.is_broken());
            finish = self.handle(&mut row);
        }
        if finish.is_none()
            && let Some(anew) = row.anew(&self.rules)
        {
            self.live_tokens -= row.tokens() as u64;
            self.rows.insert(at, anew);
            return true;
        }
        self.settle(at, row, Some(finish.unwrap_or(Finish::Failed)));
        true
    }

    fn position(&self, trace: TraceId) -> Option<usize> {
        self.live().iter().position(|row| row.trace() == trace)
    }

    /// Puts a row back where it was, or ends it.
    fn settle(&mut self, at: usize, row: Row, finish: Option<Finish>) {
        self.ticks = self.ticks.max(row.tick());
        match finish {
            None => self.rows.insert(at, row),
            Some(finish) => {
                if self.end(row, finish) {
                    self.finish_all();
                    return;
                }
            }
        }
        self.go_on();
    }
}
