//! One trace in flight.

mod loops;
mod stop_texts;
mod tokens;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tts_evals::answer::ReadAnswer;
use tts_strategies::{Finish, Fork, Step, TokenScalars, TraceId, TraceScores, Watching};

use loops::{LOOP_EVERY, is_loop};
use stop_texts::StopSearch;
use tokens::{DrawnTokens, Tokens};

use super::problem::{Decode, Token};
use super::record::{Arrays, Phase, TraceRecord};
use super::replay::RecordReader;
use super::rules::StoppingRules;

/// A trace in flight: its tokens and their scalars so far.
pub struct Trace {
    id: TraceId,
    tokens: Tokens,
    fork: Option<Fork>,
    shown_solutions: Vec<TraceId>,
    broken: bool,
    forced: VecDeque<u32>,
    thinking_over: bool,
    /// tokens before those that opened its thinking
    thinking_from: Option<usize>,
    /// looks for stop texts, where there are any
    stop_search: Option<StopSearch>,
    /// where in its text the stop text begins that ended it
    stop_at: Option<usize>,
    /// tokens that the strategy was shown
    shown: usize,
    /// the problem's ticks when it was launched
    born: u64,
    started: Instant,
}

impl Trace {
    /// A trace that begins after the prompt, which showed it the solutions of `shown`, or with what it takes over
    /// from another: `record` begins with that.
    pub(super) fn new(
        id: TraceId,
        rules: &StoppingRules,
        record: Option<Arc<TraceRecord>>,
        shown: &[TraceId],
        born: u64,
        decode: &dyn Decode,
    ) -> Self {
        let fork = record.as_ref().and_then(|record| record.fork);
        let mut new = Self {
            id,
            fork,
            shown_solutions: shown.to_vec(),
            tokens: match record {
                Some(record) => Tokens::Recorded(RecordReader::new(record)),
                None => Tokens::Drawn(DrawnTokens::default()),
            },
            broken: false,
            forced: VecDeque::new(),
            thinking_over: false,
            thinking_from: rules.think_start.is_empty().then_some(0),
            stop_search: None,
            stop_at: None,
            shown: 0,
            born,
            started: Instant::now(),
        };
        new.budget(rules);
        if let Some(Fork { tokens, .. }) = fork {
            new.skip_recorded(tokens, rules, decode);
            new.shown = tokens;
        }
        new
    }

    /// Its index among the problem's traces, from 0.
    pub fn id(&self) -> TraceId {
        self.id
    }
    /// How many tokens it has so far.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }
    /// Where it goes on from another trace.
    pub fn fork(&self) -> Option<Fork> {
        self.fork
    }
    /// How many tokens were generated for it: those that it did not take over.
    pub(super) fn generated(&self) -> usize {
        self.tokens() - self.fork.map_or(0, |fork| fork.tokens)
    }
    /// The first `tokens` of its tokens, where it has as many, as the beginning of a trace that goes on from it.
    pub(super) fn beginning(&self, tokens: usize) -> Option<Arrays> {
        (tokens <= self.tokens()).then(|| self.tokens.arrays().first(tokens))
    }
    /// Token ids so far; empty where a record holds none.
    pub fn ids(&self) -> &[u32] {
        so_far(&self.tokens.arrays().token_ids, self.tokens())
    }
    /// Confidences so far; empty where a record holds none.
    pub(crate) fn confidences(&self) -> &[f32] {
        so_far(&self.tokens.arrays().confidence, self.tokens())
    }
    /// Log-probabilities so far, nats; empty where a record holds none.
    pub(crate) fn logprobs(&self) -> &[f32] {
        so_far(&self.tokens.arrays().logprobs, self.tokens())
    }
    /// The token that the next draw is forced to.
    pub fn forced(&self) -> Option<u32> {
        self.forced.front().copied()
    }
    /// How many tokens after the next one will be drawn freely, unless the trace ends before.
    pub fn free(&self, rules: &StoppingRules) -> usize {
        let end = match rules.thinking_budget {
            // thinking that has not begun may begin with the next token
            Some(budget) if !self.thinking_over => {
                let from = self.thinking_from.unwrap_or(self.tokens());
                from.saturating_add(budget).min(rules.max_tokens)
            }
            _ => rules.max_tokens,
        };
        if self.forced.is_empty() {
            end.saturating_sub(self.tokens() + 1)
        } else {
            0
        }
    }
    /// Whether the next token must come from the engine.
    pub fn is_live(&self) -> bool {
        self.recorded_next().is_none()
    }
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }
    /// Generated tokens that no decision saw.
    pub(super) fn unseen(&self) -> u64 {
        self.tokens.unseen()
    }
    /// The tick that the trace's newest token belongs to if each of its tokens took one.
    pub(super) fn tick(&self) -> u64 {
        self.born + self.generated() as u64
    }

    /// Whether its tokens come from the record of an earlier run, and not from an engine yet.
    pub fn has_record(&self) -> bool {
        matches!(self.tokens, Tokens::Recorded(_))
    }
    /// The record of an earlier run, until the trace goes on beyond it.
    pub(super) fn recorded(&mut self) -> Option<&mut RecordReader> {
        match &mut self.tokens {
            Tokens::Recorded(reader) => Some(reader),
            _ => None,
        }
    }
    /// What the record says of the next tick, if it reaches that far.
    pub(super) fn recorded_next(&self) -> Option<Token> {
        match &self.tokens {
            Tokens::Recorded(reader) => reader.next(),
            _ => None,
        }
    }
    /// The trace as if it had no record, unless the strategy has seen some of it.
    pub(super) fn anew(&self, rules: &StoppingRules, decode: &dyn Decode) -> Option<Self> {
        (self.shown == 0).then(|| Self::new(self.id, rules, None, &self.shown_solutions, self.born, decode))
    }

    fn scalars(&self, i: usize) -> TokenScalars {
        let a = self.tokens.arrays();
        TokenScalars {
            confidence: a.confidence.get(i).copied().unwrap_or(f32::NAN),
            logprob: a.logprobs.get(i).copied().unwrap_or(f32::NAN),
        }
    }

    /// The tokens that the strategy has not been shown yet: the newest one, and those before it that were
    /// passed over.
    pub(super) fn unshown(&mut self) -> impl Iterator<Item = TokenScalars> + '_ {
        let tokens = self.tokens();
        let from = std::mem::replace(&mut self.shown, tokens);
        (from..tokens).map(|i| self.scalars(i))
    }

    /// Whether the tokens' confidences are not there to be shown, though a statistic made of them is.
    pub(super) fn is_blind(&self) -> bool {
        matches!(&self.tokens, Tokens::Recorded(reader) if reader.is_blind())
    }

    /// What the strategy answers to the newest token, where that is known without showing it.
    pub(super) fn known_step(&mut self, watching: Watching) -> Option<Step> {
        match (&mut self.tokens, watching) {
            (_, Watching::Nothing) => Some(Step::Continue),
            (Tokens::Recorded(reader), watching) => reader.step(watching),
            _ => None,
        }
    }

    pub(super) fn push(&mut self, token: Token, rules: &StoppingRules) {
        match token {
            Token::Drawn(drawn) => {
                self.tokens.push(&drawn, rules.record_top_k);
                self.forced.pop_front();
            }
            Token::Broken => self.broken = true,
        }
    }

    /// Text that came with the tokens, from a remote engine.
    pub(super) fn write(&mut self, text: &str) {
        self.tokens.write(text);
    }

    /// Counts tokens that a remote engine generated and no decision saw.
    pub(super) fn pass_unseen(&mut self, tokens: u64) {
        if let Tokens::Received(received) = &mut self.tokens {
            received.unseen = received.unseen.saturating_add(tokens);
        }
    }

    /// Passes over recorded tokens after which nothing ends, as if they had been pushed one by one.
    pub(super) fn skip_recorded(&mut self, tokens: usize, rules: &StoppingRules, decode: &dyn Decode) {
        let Tokens::Recorded(reader) = &mut self.tokens else {
            return;
        };
        if rules.thinking_budget.is_none() {
            reader.skip(tokens);
            return;
        }
        for _ in 0..tokens {
            self.recorded().expect("a skip stays within the record").skip(1);
            self.forced.pop_front();
            self.watch_thinking(rules, decode);
        }
    }

    /// Whether the newest token completes a stop text, or the newest piece of text where it comes by pieces.
    pub(super) fn stops_by_text(&mut self, rules: &StoppingRules, decode: &dyn Decode) -> bool {
        if rules.stop_texts.is_empty() {
            return false;
        }
        let mut search = self
            .stop_search
            .take()
            .unwrap_or_else(|| StopSearch::new(rules, decode.to_text()));
        match self.tokens.text() {
            Some(text) => search.read_text(text),
            None => search.read_tokens(self.ids()),
        }
        self.stop_at = search.find(rules);
        self.stop_search = Some(search);
        self.stop_at.is_some()
    }

    /// Whether the trace ends with its newest token.
    pub(super) fn ends(&mut self, rules: &StoppingRules, decode: &dyn Decode) -> Option<Finish> {
        if let Tokens::Recorded(reader) = &self.tokens
            && let Some(finish) = reader.end()
        {
            return Some(finish);
        }
        // a record without ids ends by its own word alone
        let id = self.ids().last().copied().unwrap_or(u32::MAX);
        if rules.stops().contains(&id) {
            return Some(Finish::Stop);
        }
        if self.tokens() >= rules.max_tokens {
            return Some(Finish::Length);
        }
        if rules.loop_stop && self.tokens().is_multiple_of(LOOP_EVERY) && is_loop(self.ids()) {
            return Some(Finish::Loop);
        }
        self.watch_thinking(rules, decode);
        None
    }

    fn watch_thinking(&mut self, rules: &StoppingRules, decode: &dyn Decode) {
        if !rules.think_end.is_empty() && self.ids().ends_with(&rules.think_end) {
            self.thinking_over = true;
        }
        if self.thinking_from.is_none() && self.ids().ends_with(&rules.think_start) {
            let from = self.tokens().saturating_sub(rules.think_start.len());
            // an answer that speaks of the mark does not think
            let opens = decode.decode(&self.ids()[..from]).trim().is_empty();
            self.thinking_from = opens.then_some(from);
        }
        self.budget(rules);
    }

    fn budget(&mut self, rules: &StoppingRules) {
        if let Some(budget) = rules.thinking_budget
            && !self.thinking_over
            && self
                .thinking_from
                .is_some_and(|from| self.tokens() - from >= budget)
            && self.forced.is_empty()
        {
            self.forced.extend(&rules.think_end);
            self.thinking_over = true;
        }
    }

    /// What is known of a trace that has gone beyond its record: to go on from, should this run be killed.
    pub(super) fn unfinished_record(&self, problem: &str, warmup: bool) -> Option<TraceRecord> {
        if self.has_record() || self.generated() == 0 || self.broken {
            return None;
        }
        Some(TraceRecord {
            problem_id: problem.to_owned(),
            trace: self.id,
            phase: Phase::of(warmup),
            finish: Finish::Cancelled,
            tokens: self.tokens(),
            fork: self.fork,
            shown: self.shown_solutions.clone(),
            arrays: self.tokens.arrays().clone(),
            text: self.tokens.text().map(str::to_owned),
            unseen: self.unseen(),
            self_certainty_sum: self.tokens.self_certainty(),
            seconds: self.started.elapsed().as_secs_f64(),
            ..TraceRecord::default()
        })
    }

    pub(super) fn into_record(
        self,
        problem: &str,
        finish: Finish,
        warmup: bool,
        decode: &dyn Decode,
        reader: &dyn ReadAnswer,
    ) -> TraceRecord {
        let tokens = self.tokens();
        let recorded = match &self.tokens {
            Tokens::Recorded(reader) => reader.in_full(),
            _ => None,
        };
        // the stop token of a trace that was cancelled with it is no longer (or now) part of its text
        let reread = |r: &TraceRecord| {
            self.ids().len() == tokens && (finish == Finish::Stop) != (r.finish == Finish::Stop)
        };
        // what was read from a record in full keeps what the record says of it
        if let Some(record) = recorded.filter(|r| !reread(r)) {
            let mut same = TraceRecord::clone(record);
            same.finish = if self.broken { Finish::Failed } else { finish };
            same.phase = Phase::of(warmup);
            same.fresh = finish.is_complete() && !record.finish.is_complete();
            match (&same.answer, &same.text) {
                (Some(answer), _) if same.answer_key.is_none() => same.answer_key = Some(reader.key(answer)),
                (None, Some(text)) => same.read(text.clone(), reader),
                _ => {}
            }
            return same;
        }
        let fresh = match recorded {
            Some(record) => finish.is_complete() && !record.finish.is_complete(),
            None => !self.has_record(),
        };
        let sum = self.tokens.self_certainty().filter(|_| tokens > 0);
        let unseen = self.unseen();
        let (arrays, text) = match self.tokens {
            Tokens::Recorded(reader) => (reader.record().arrays.first(tokens), None),
            Tokens::Drawn(drawn) => (drawn.arrays, None),
            Tokens::Received(received) => (received.arrays, Some(received.text)),
        };
        let text = text.or_else(|| {
            let ids = Some(&arrays.token_ids).filter(|ids| ids.len() == tokens)?;
            let stop_id = usize::from(finish == Finish::Stop && self.stop_at.is_none());
            Some(decode.decode(&ids[..tokens - stop_id]))
        });
        let mut record = TraceRecord {
            problem_id: problem.to_owned(),
            trace: self.id,
            phase: Phase::of(warmup),
            finish,
            tokens,
            fork: self.fork,
            shown: self.shown_solutions,
            scores: TraceScores {
                self_certainty: sum.map(|sum| sum / tokens as f64),
                ..TraceScores::default()
            },
            self_certainty_sum: sum,
            seconds: self.started.elapsed().as_secs_f64(),
            fresh,
            arrays,
            unseen,
            ..TraceRecord::default()
        };
        if let Some(mut text) = text {
            if let Some(at) = self.stop_at {
                text.truncate(text.floor_char_boundary(at));
            }
            record.read(text, reader);
        }
        record
    }
}

/// The first `n` of an array that may be shorter, which is then one that is not known.
fn so_far<T>(array: &[T], n: usize) -> &[T] {
    array.get(..n).unwrap_or_default()
}
