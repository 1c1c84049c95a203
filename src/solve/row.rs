//! One trace in flight.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tts_evals::answer::ReadAnswer;
use tts_strategies::{Finish, TraceId, TraceScores};

use super::record::{Arrays, Phase, TraceRecord};
use super::{Decode, Token};
use crate::engine::sampler::Drawn;

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
}

/// A loop is one exact cycle, at least this often,
const LOOP_REPEATS: usize = 8;
/// over at least this many tokens,
const LOOP_TOKENS: usize = 1024;
/// looked for every so many tokens.
const LOOP_EVERY: usize = 64;

/// A trace in flight: its tokens and their scalars so far.
pub struct Row {
    trace: TraceId,
    arrays: Arrays,
    /// sum so far; `None` where it is not known
    self_certainty: Option<f64>,
    broken: bool,
    record: Option<Arc<TraceRecord>>,
    forced: VecDeque<u32>,
    thinking_over: bool,
    started: Instant,
}

impl Row {
    pub(super) fn new(trace: TraceId, rules: &Rules, record: Option<Arc<TraceRecord>>) -> Self {
        let mut row = Self {
            trace,
            arrays: Arrays::default(),
            self_certainty: Some(0.0),
            broken: false,
            record,
            forced: VecDeque::new(),
            thinking_over: false,
            started: Instant::now(),
        };
        row.budget(rules);
        row
    }

    /// Index of the trace.
    pub fn trace(&self) -> TraceId {
        self.trace
    }
    /// Generated tokens.
    pub fn tokens(&self) -> usize {
        self.arrays.len
    }
    /// Token ids so far; empty where a record holds none.
    pub fn ids(&self) -> &[u32] {
        &self.arrays.token_ids
    }
    /// The token that the next draw is forced to.
    pub fn forced(&self) -> Option<u32> {
        self.forced.front().copied()
    }
    /// Whether the next token must come from the engine.
    pub fn is_live(&self) -> bool {
        self.recorded_next().is_none()
    }
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }
    pub(super) fn last_confidence(&self) -> f32 {
        self.arrays.confidence.last().copied().unwrap_or(f32::NAN)
    }
    pub(super) fn last_logprob(&self) -> f32 {
        self.arrays.logprobs.last().copied().unwrap_or(f32::NAN)
    }

    /// What the record says of the next tick, if it reaches that far.
    pub(super) fn recorded_next(&self) -> Option<Token> {
        let record = self.record.as_ref()?;
        let i = self.arrays.len;
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
        }))
    }

    /// How the recorded trace ended, once all its tokens are read; nothing for one that was cut from outside.
    fn recorded_end(&self) -> Option<Finish> {
        let record = self.record.as_ref()?;
        let natural = matches!(record.finish, Finish::Stop | Finish::Length | Finish::Loop);
        (natural && self.arrays.len >= record.tokens).then_some(record.finish)
    }

    pub(super) fn push(&mut self, token: Token) {
        match token {
            Token::Drawn(drawn) => {
                self.arrays.push(&drawn);
                self.self_certainty = match &self.record {
                    // within a record the sum is known at its end alone
                    Some(r) if self.arrays.len <= r.tokens => r.self_certainty_sum.filter(|_| self.arrays.len == r.tokens),
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

    /// Whether the trace ends with its newest token.
    pub(super) fn ends(&mut self, rules: &Rules) -> Option<Finish> {
        if let Some(finish) = self.recorded_end() {
            return Some(finish);
        }
        // a record without ids ends by its own word alone
        let id = self.arrays.token_ids.last().copied().unwrap_or(u32::MAX);
        if !rules.ignore_eos && rules.stop_ids.contains(&id) {
            return Some(Finish::Stop);
        }
        if self.arrays.len >= rules.max_tokens {
            return Some(Finish::Length);
        }
        if rules.loop_stop && self.arrays.len.is_multiple_of(LOOP_EVERY) && is_loop(&self.arrays.token_ids) {
            return Some(Finish::Loop);
        }
        if !rules.think_end.is_empty() && self.arrays.token_ids.ends_with(&rules.think_end) {
            self.thinking_over = true;
        }
        self.budget(rules);
        None
    }

    fn budget(&mut self, rules: &Rules) {
        if let Some(budget) = rules.thinking_budget
            && !self.thinking_over
            && self.arrays.len >= budget
            && self.forced.is_empty()
        {
            self.forced.extend(&rules.think_end);
            self.thinking_over = true;
        }
    }

    pub(super) fn into_record(
        self,
        problem: &str,
        finish: Finish,
        warmup: bool,
        decode: &dyn Decode,
        reader: &dyn ReadAnswer,
    ) -> TraceRecord {
        let tokens = self.arrays.len;
        let natural = |finish| matches!(finish, Finish::Stop | Finish::Length | Finish::Loop);
        // the stop token of a trace that was cancelled with it is no longer (or now) part of its text
        let reread = |r: &TraceRecord| self.arrays.token_ids.len() == tokens && (finish == Finish::Stop) != (r.finish == Finish::Stop);
        // what was read from a record in full keeps what the record says of it
        if let Some(record) = self.record.as_ref().filter(|r| r.tokens == tokens && !reread(r)) {
            let mut same = TraceRecord::clone(record);
            same.finish = if self.broken { Finish::Failed } else { finish };
            same.phase = Phase::of(warmup);
            same.fresh = natural(finish) && !natural(record.finish);
            match (&same.answer, &same.text) {
                (Some(answer), _) if same.answer_key.is_none() => same.answer_key = Some(reader.key(answer)),
                (None, Some(text)) => same.read(text.clone(), reader),
                _ => {}
            }
            return same;
        }
        let sum = self.self_certainty.filter(|_| tokens > 0);
        let mut record = TraceRecord {
            problem_id: problem.to_owned(),
            trace: self.trace,
            phase: Phase::of(warmup),
            finish,
            tokens,
            scores: TraceScores {
                self_certainty: sum.map(|sum| sum / tokens as f64),
                ..TraceScores::default()
            },
            self_certainty_sum: sum,
            seconds: self.started.elapsed().as_secs_f64(),
            fresh: self
                .record
                .as_ref()
                .is_none_or(|r| tokens > r.tokens || (tokens == r.tokens && natural(finish) && !natural(r.finish))),
            arrays: self.arrays,
            ..TraceRecord::default()
        };
        if record.arrays.token_ids.len() == tokens {
            let ids = &record.arrays.token_ids;
            let end = if finish == Finish::Stop { tokens - 1 } else { tokens };
            let text = decode.decode(&ids[..end]);
            record.read(text, reader);
        }
        record
    }
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
