//! One trace in flight.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tts_evals::answer::{ReadAnswer, THINK_END, last_said};
use tts_strategies::windows::GroupWindow;
use tts_strategies::{Finish, Measured, TokenScalars, TraceId, TraceScores};

use super::problem::{Decode, Token};
use super::record::{Arrays, Phase, TraceRecord};
use tts_model::sampling::{Drawn, TOP};

/// When a trace ends by itself, and what it is forced to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Ids that end a trace; the id is counted and is the trace's last.
    pub stop_ids: Vec<u32>,
    /// Whether stop ids are passed over.
    #[serde(default)]
    pub ignore_eos: bool,
    /// Generated tokens at which a trace is cut off.
    pub max_tokens: usize,
    /// Whether verbatim loops end a trace.
    pub loop_stop: bool,
    /// Generated tokens at which the end of thinking is forced.
    #[serde(default)]
    pub thinking_budget: Option<usize>,
    /// Ids that end thinking, forced at the budget.
    #[serde(default)]
    pub think_end: Vec<u32>,
    /// Log-probabilities of the most likely ids that are kept of each token.
    #[serde(default)]
    pub record_top_k: usize,
    /// Texts that end a trace which writes them outside of its thinking; they are not part of its text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_texts: Vec<String>,
    /// Whether a trace begins inside its thinking: needed for `stop_texts` alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starts_in_thinking: bool,
}

impl Rules {
    /// Ids that end a trace as it is run.
    pub fn stops(&self) -> &[u32] {
        if self.ignore_eos { &[] } else { &self.stop_ids }
    }
}

/// A loop is one exact cycle, at least this often,
const LOOP_REPEATS: usize = 8;
/// over at least this many tokens,
const LOOP_TOKENS: usize = 1024;
/// looked for every so many tokens.
const LOOP_EVERY: usize = 64;

/// A trace in flight: its tokens and their scalars so far.
pub struct Trace {
    id: TraceId,
    /// generated tokens
    at: usize,
    record: Option<Arc<TraceRecord>>,
    /// the tokens of a trace that went on beyond its record, or never had one
    own: Option<Arrays>,
    /// sum so far; `None` where it is not known
    self_certainty: Option<f64>,
    broken: bool,
    forced: VecDeque<u32>,
    thinking_over: bool,
    /// whether the newest token belongs to the thinking, where stop texts are looked for
    in_thinking: Option<bool>,
    /// whether a stop text ended it
    wrote_stop: bool,
    /// tokens that the strategy was shown
    shown: usize,
    /// where the record first falls below a bar, for the window and bar last asked about
    crossing: Option<(usize, f64, Option<usize>)>,
    /// the text, where it comes with the tokens
    text: Option<String>,
    /// bytes of it that came last
    written: usize,
    /// generated tokens that no decision saw
    unseen: u64,
    /// the problem's ticks when it was launched
    born: u64,
    started: Instant,
}

impl Trace {
    pub(super) fn new(id: TraceId, rules: &Rules, record: Option<Arc<TraceRecord>>, born: u64) -> Self {
        let mut new = Self {
            id,
            at: 0,
            own: record.is_none().then(Arrays::default),
            record,
            self_certainty: Some(0.0),
            broken: false,
            forced: VecDeque::new(),
            thinking_over: false,
            in_thinking: None,
            wrote_stop: false,
            shown: 0,
            crossing: None,
            text: None,
            written: 0,
            unseen: 0,
            born,
            started: Instant::now(),
        };
        new.budget(rules);
        new
    }

    /// Its index among the problem's traces, from 0.
    pub fn id(&self) -> TraceId {
        self.id
    }
    /// How many tokens it has generated so far.
    pub fn tokens(&self) -> usize {
        self.at
    }
    fn arrays(&self) -> &Arrays {
        match (&self.own, &self.record) {
            (Some(own), _) => own,
            (None, Some(record)) => &record.arrays,
            (None, None) => unreachable!("a trace without a record has arrays of its own"),
        }
    }
    /// Token ids so far; empty where a record holds none.
    pub fn ids(&self) -> &[u32] {
        so_far(&self.arrays().token_ids, self.at)
    }
    /// Confidences so far; empty where a record holds none.
    pub(crate) fn confidences(&self) -> &[f32] {
        so_far(&self.arrays().confidence, self.at)
    }
    /// Log-probabilities so far, nats; empty where a record holds none.
    pub(crate) fn logprobs(&self) -> &[f32] {
        so_far(&self.arrays().logprobs, self.at)
    }
    /// The token that the next draw is forced to.
    pub fn forced(&self) -> Option<u32> {
        self.forced.front().copied()
    }
    /// How many tokens after the next one will be drawn freely, unless the trace ends before.
    pub fn free(&self, rules: &Rules) -> usize {
        let end = match rules.thinking_budget {
            Some(budget) if !self.thinking_over => budget.min(rules.max_tokens),
            _ => rules.max_tokens,
        };
        if self.forced.is_empty() {
            end.saturating_sub(self.at + 1)
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
        let recorded = self
            .record
            .as_ref()
            .filter(|r| self.own.is_none() && r.tokens == self.at);
        recorded.map_or(self.unseen, |r| r.unseen)
    }
    pub(super) fn pass_unseen(&mut self, tokens: u64) {
        self.unseen += tokens;
    }
    /// Text that came with the tokens.
    pub(super) fn write(&mut self, text: &str) {
        self.text.get_or_insert_default().push_str(text);
        self.written = text.len();
    }
    /// The tick that the trace's newest token belongs to if each of its tokens took one.
    pub(super) fn tick(&self) -> u64 {
        self.born + self.at as u64
    }
    /// Whether an earlier run recorded some of it.
    pub fn has_record(&self) -> bool {
        self.record.is_some()
    }
    /// The trace as if it had no record, unless the strategy has seen some of it.
    pub(super) fn anew(&self, rules: &Rules) -> Option<Self> {
        (self.shown == 0).then(|| Self::new(self.id, rules, None, self.born))
    }
    fn scalars(&self, i: usize) -> TokenScalars {
        let a = self.arrays();
        TokenScalars {
            confidence: a.confidence.get(i).copied().unwrap_or(f32::NAN),
            logprob: a.logprobs.get(i).copied().unwrap_or(f32::NAN),
        }
    }

    /// The tokens that the strategy has not been shown yet: the newest one, and those before it that were
    /// passed over.
    pub(super) fn unshown(&mut self) -> impl Iterator<Item = TokenScalars> + '_ {
        let from = std::mem::replace(&mut self.shown, self.at);
        (from..self.at).map(|i| self.scalars(i))
    }

    /// Whether the tokens' confidences are not there to be shown, though a statistic made of them is.
    pub(super) fn is_blind(&self) -> bool {
        self.own.is_none()
            && self.confidences().is_empty()
            && self
                .measured()
                .is_some_and(|m| m.mean.is_some() || !m.windows.is_empty())
    }

    /// The record's statistics, while the trace is within it.
    fn measured(&self) -> Option<&Arc<Measured>> {
        self.record
            .as_ref()
            .filter(|_| self.own.is_none())?
            .measured
            .as_ref()
    }

    /// Tokens of the record that are still to come.
    pub(super) fn recorded_left(&self) -> usize {
        self.record
            .as_ref()
            .map_or(0, |r| r.tokens.saturating_sub(self.at))
    }

    /// The number of tokens after which the record first falls below the bar; `None` where that is not known
    /// or the trace is beyond its record.
    pub(super) fn crossing(&mut self, window: usize, bar: f64) -> Option<Option<usize>> {
        if self.own.is_some() {
            return None;
        }
        if let Some((w, b, at)) = self.crossing
            && (w, b.to_bits()) == (window, bar.to_bits())
        {
            return Some(at);
        }
        let record = self.record.as_ref()?;
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

    /// What the record says of the next tick, if it reaches that far.
    pub(super) fn recorded_next(&self) -> Option<Token> {
        let record = self.record.as_ref()?;
        let i = self.at;
        if i >= record.tokens {
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

    /// How the recorded trace ended, once all its tokens are read; nothing for one that was cut from outside.
    fn recorded_end(&self) -> Option<Finish> {
        let record = self.record.as_ref()?;
        (record.finish.is_complete() && self.at >= record.tokens).then_some(record.finish)
    }

    pub(super) fn push(&mut self, token: Token, rules: &Rules) {
        match token {
            Token::Drawn(drawn) => {
                let recorded = self.recorded_left() > 0;
                self.at += 1;
                if !recorded {
                    let before = || {
                        self.record
                            .as_ref()
                            .map_or_else(Arrays::default, |r| r.arrays.clone())
                    };
                    let own = self.own.take().unwrap_or_else(before);
                    self.own.insert(own).push(&drawn, rules.record_top_k);
                }
                self.self_certainty = match &self.record {
                    // within a record the sum is known at its end alone
                    Some(r) if recorded => r.self_certainty_sum.filter(|_| self.at == r.tokens),
                    // a sum with a part missing is no sum
                    _ => self
                        .self_certainty
                        .filter(|_| drawn.self_certainty.is_finite())
                        .map(|sum| sum + f64::from(drawn.self_certainty)),
                };
                self.forced.pop_front();
            }
            Token::Broken => self.broken = true,
        }
    }

    /// Passes over recorded tokens after which nothing ends, as if they had been pushed one by one.
    pub(super) fn pass_over(&mut self, tokens: usize, rules: &Rules) {
        debug_assert!(tokens < self.recorded_left());
        if rules.thinking_budget.is_none() {
            self.at += tokens;
            return;
        }
        for _ in 0..tokens {
            self.at += 1;
            self.forced.pop_front();
            self.watch_thinking(rules);
        }
    }

    /// Whether the newest token completes a stop text, or the newest piece of text where it comes by pieces.
    pub(super) fn stops_by_text(&mut self, rules: &Rules, decode: &dyn Decode) -> bool {
        let Some(longest) = rules.stop_texts.iter().map(String::len).max() else {
            return false;
        };
        let reach = longest.max(THINK_END.len());
        let tail = if let Some(text) = &self.text {
            Cow::Borrowed(&text[text.floor_char_boundary(text.len().saturating_sub(reach + self.written))..])
        } else {
            // a token is a byte at least, special ones aside
            let ids = self.ids();
            Cow::Owned(decode.decode(&ids[ids.len().saturating_sub(reach + 4)..]))
        };
        let said = last_said(&tail, self.in_thinking.unwrap_or(rules.starts_in_thinking));
        self.in_thinking = Some(said.is_none());
        // the mark itself may be a stop text
        let said = said.map(|at| &tail[at.saturating_sub(THINK_END.len())..]);
        self.wrote_stop =
            said.is_some_and(|said| rules.stop_texts.iter().any(|stop| said.contains(stop.as_str())));
        self.wrote_stop
    }

    /// Whether the trace ends with its newest token.
    pub(super) fn ends(&mut self, rules: &Rules) -> Option<Finish> {
        if let Some(finish) = self.recorded_end() {
            return Some(finish);
        }
        // a record without ids ends by its own word alone
        let id = self.ids().last().copied().unwrap_or(u32::MAX);
        if rules.stops().contains(&id) {
            return Some(Finish::Stop);
        }
        if self.at >= rules.max_tokens {
            return Some(Finish::Length);
        }
        if rules.loop_stop && self.at.is_multiple_of(LOOP_EVERY) && is_loop(self.ids()) {
            return Some(Finish::Loop);
        }
        self.watch_thinking(rules);
        None
    }

    fn watch_thinking(&mut self, rules: &Rules) {
        if !rules.think_end.is_empty() && self.ids().ends_with(&rules.think_end) {
            self.thinking_over = true;
        }
        self.budget(rules);
    }

    fn budget(&mut self, rules: &Rules) {
        if let Some(budget) = rules.thinking_budget
            && !self.thinking_over
            && self.at >= budget
            && self.forced.is_empty()
        {
            self.forced.extend(&rules.think_end);
            self.thinking_over = true;
        }
    }

    /// What is known of a trace that has gone beyond its record: to go on from, should this run be killed.
    pub(super) fn snapshot(&self, problem: &str, warmup: bool) -> Option<TraceRecord> {
        let arrays = self.own.as_ref().filter(|_| self.at > 0 && !self.broken)?;
        Some(TraceRecord {
            problem_id: problem.to_owned(),
            trace: self.id,
            phase: Phase::of(warmup),
            finish: Finish::Cancelled,
            tokens: self.at,
            arrays: arrays.clone(),
            text: self.text.clone(),
            unseen: self.unseen,
            self_certainty_sum: self.self_certainty,
            seconds: self.started.elapsed().as_secs_f64(),
            ..TraceRecord::default()
        })
    }

    pub(super) fn into_record(
        self,
        problem: &str,
        finish: Finish,
        warmup: bool,
        rules: &Rules,
        decode: &dyn Decode,
        reader: &dyn ReadAnswer,
    ) -> TraceRecord {
        let tokens = self.at;
        // the stop token of a trace that was cancelled with it is no longer (or now) part of its text
        let reread = |r: &TraceRecord| {
            self.ids().len() == tokens && (finish == Finish::Stop) != (r.finish == Finish::Stop)
        };
        // what was read from a record in full keeps what the record says of it
        if let Some(record) = self.record.as_ref().filter(|r| r.tokens == tokens && !reread(r)) {
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
        let sum = self.self_certainty.filter(|_| tokens > 0);
        let by_id = finish == Finish::Stop && !self.wrote_stop;
        let unseen = self.unseen();
        let arrays = match self.own {
            Some(own) => own,
            None => self
                .record
                .as_ref()
                .map_or_else(Arrays::default, |r| r.arrays.first(tokens)),
        };
        let mut record = TraceRecord {
            problem_id: problem.to_owned(),
            trace: self.id,
            phase: Phase::of(warmup),
            finish,
            tokens,
            scores: TraceScores {
                self_certainty: sum.map(|sum| sum / tokens as f64),
                ..TraceScores::default()
            },
            self_certainty_sum: sum,
            seconds: self.started.elapsed().as_secs_f64(),
            fresh: self.record.as_ref().is_none_or(|r| {
                tokens > r.tokens || (tokens == r.tokens && finish.is_complete() && !r.finish.is_complete())
            }),
            arrays,
            unseen,
            ..TraceRecord::default()
        };
        if let Some(mut text) = self.text {
            if self.wrote_stop {
                text.truncate(before_stop(&text, &rules.stop_texts));
            }
            record.read(text, reader);
        } else if record.arrays.token_ids.len() == tokens {
            let ids = &record.arrays.token_ids;
            let end = if by_id { tokens - 1 } else { tokens };
            let mut text = decode.decode(&ids[..end]);
            if self.wrote_stop {
                text.truncate(before_stop(&text, &rules.stop_texts));
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

/// The length of a text before the first stop text after its thinking.
fn before_stop(text: &str, stops: &[String]) -> usize {
    let from = last_said(text, false).unwrap_or(0);
    let first = stops
        .iter()
        .filter_map(|stop| text[from..].find(stop.as_str()))
        .min();
    first.map_or(text.len(), |at| from + at)
}

/// Whether the ids end in one exact cycle of any length, often and long enough.
fn is_loop(ids: &[u32]) -> bool {
    let n = ids.len();
    if n < LOOP_TOKENS {
        return false;
    }
    (1..=n / LOOP_REPEATS).any(|period| {
        let needed = LOOP_TOKENS.max(period * LOOP_REPEATS);
        needed <= n && (0..needed - period).all(|back| ids[n - 1 - back] == ids[n - 1 - back - period])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_are_exact_cycles_that_are_long_and_frequent_enough() {
        let cycle = |period: usize, n: usize| (0..n).map(|i| (i % period) as u32).collect::<Vec<_>>();
        assert!(is_loop(&cycle(1, 1024)));
        assert!(!is_loop(&cycle(1, 1023)));
        assert!(is_loop(&cycle(100, 1024)));
        assert!(is_loop(&cycle(1000, 8000)));
        assert!(!is_loop(&cycle(1000, 7999)));
        let mut broken = cycle(100, 1024);
        broken[1000] = 7777;
        assert!(!is_loop(&broken));
        let mut later: Vec<u32> = (0..5000).collect();
        later.extend(cycle(3, 1024));
        assert!(is_loop(&later));
    }
}
