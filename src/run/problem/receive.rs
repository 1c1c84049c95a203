//! Traces of an engine that answers in its own order: each is handled when it comes, by the rules of a tick.
//!
//! There is no lockstep: a trace is decided over token by token in the order of arrival, and the problem's
//! ticks are the length of the longest chain of tokens that had to come one after the other. What the engine
//! generated and no decision saw (tokens in the same piece after the one that stopped the trace, tokens that
//! it reports and did not send) is in the trace's book too, and stands apart as
//! [`TraceRecord::unseen`](crate::run::TraceRecord::unseen).

use tts_strategies::{Finish, Step, TraceId};

use super::{ProblemRun, Token};
use crate::run::Trace;
use tts_model::sampling::Drawn;

/// What came of a trace at once from a remote engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceChunk<'a> {
    /// Its tokens, in order.
    pub tokens: &'a [Drawn],
    /// Text of these tokens, which may end in the middle of a word.
    pub text: &'a str,
    /// Tokens of the trace so far, these included, by the engine's own count.
    pub reported: Option<u64>,
    /// How the trace ended with them, by the engine's word; [`Finish::Failed`] where its stream broke.
    pub end: Option<Finish>,
}

/// Tokens that an engine may count beyond the most that were asked for.
const ENDING: u64 = 16;

impl ProblemRun {
    /// FateCounts what came of a live trace and shows it to the strategy token by token; what comes of any
    /// other trace is passed over.
    pub fn receive(&mut self, id: TraceId, piece: TraceChunk<'_>) {
        let Some(at) = self.position(id).filter(|at| !self.in_flight[*at].has_record()) else {
            return;
        };
        let mut trace = self.in_flight.remove(at);
        trace.write(piece.text);
        let wrote_stop = trace.stops_by_text(&self.rules, self.decode.as_ref());
        let mut finish = None;
        for (i, token) in piece.tokens.iter().enumerate() {
            trace.push(Token::Drawn(*token), &self.rules);
            self.live_tokens += 1;
            let last = i + 1 == piece.tokens.len();
            // a token that ends a trace and crosses the bar makes it finished: the engine's word comes with
            // the last one
            let step = self.observe(&mut trace);
            finish = (last && wrote_stop)
                .then_some(Finish::Stop)
                .or(trace.ends(&self.rules, self.decode.as_ref()))
                .or(piece.end.filter(|end| last && *end != Finish::Failed))
                .or((step != Step::Continue).then_some(Finish::LowConfidence));
            if finish.is_some() {
                trace.pass_unseen((piece.tokens.len() - 1 - i) as u64);
                break;
            }
        }
        // no trace has more tokens than were asked for, but for those that end it
        let most = (self.rules.max_tokens as u64).saturating_add(ENDING);
        if let Some(total) = piece.reported.filter(|total| *total <= most) {
            trace.pass_unseen(total.saturating_sub(trace.tokens() as u64 + trace.unseen()));
        }
        self.settle(
            at,
            trace,
            finish.or(wrote_stop.then_some(Finish::Stop)).or(piece.end),
        );
    }

    pub(super) fn position(&self, id: TraceId) -> Option<usize> {
        self.live().iter().position(|trace| trace.id() == id)
    }

    /// Puts a trace back where it was, or ends it.
    pub(super) fn settle(&mut self, at: usize, trace: Trace, finish: Option<Finish>) {
        self.ticks = self.ticks.max(trace.tick());
        match finish {
            None => self.in_flight.insert(at, trace),
            Some(finish) => {
                if self.end(trace, finish) {
                    self.finish_all();
                    return;
                }
            }
        }
        self.go_on();
    }
}
