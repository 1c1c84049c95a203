//! What is kept of a trace that ended.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tts_evals::answer::{Extraction, ReadAnswer, solution};
use tts_strategies::{
    Finish, Fork, TokenSeries, TraceId, TraceScores, TraceStatistics, confidence_of_logprobs,
};

use tts_model::sampling::{Drawn, TOP};

/// Whether a trace belonged to the strategy's warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// One of the traces that set the strategy's bar.
    Warmup,
    /// Any trace that is not part of the warm-up.
    #[default]
    Main,
}

impl Phase {
    pub(super) fn of(warmup: bool) -> Self {
        if warmup { Phase::Warmup } else { Phase::Main }
    }
}

/// A trace's tokens: `len` of them; each array is either that long or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrays {
    /// Number of generated tokens.
    pub len: usize,
    /// The id of each.
    pub token_ids: Vec<u32>,
    /// Log-probability of each, nats, at most 0.
    pub logprobs: Vec<f32>,
    /// Confidence of the distribution each was drawn from, nats.
    pub confidence: Vec<f32>,
    /// Log-probabilities of the most likely ids of each, `[len, top_k]`, largest first; empty where they were
    /// not asked for.
    pub top: Vec<f32>,
}

impl Arrays {
    pub(super) fn push(&mut self, token: &Drawn, top_k: usize) {
        // a trace that was taken up without them has none
        if self.top.len() == self.len * top_k {
            self.top.extend(&token.top[..top_k]);
        } else {
            self.top.clear();
        }
        self.len += 1;
        if token.id != u32::MAX {
            self.token_ids.push(token.id);
        }
        if !token.logprob.is_nan() {
            self.logprobs.push(token.logprob);
        }
        if !token.confidence.is_nan() {
            self.confidence.push(token.confidence);
        }
    }

    /// The first `n` tokens.
    pub(super) fn first(&self, n: usize) -> Self {
        Self {
            len: n,
            token_ids: self.token_ids.get(..n).unwrap_or_default().to_vec(),
            logprobs: self.logprobs.get(..n).unwrap_or_default().to_vec(),
            confidence: self.confidence.get(..n).unwrap_or_default().to_vec(),
            top: self.top.get(..n * self.top_k()).unwrap_or_default().to_vec(),
        }
    }

    /// How many log-probabilities stand in `top` for each token.
    pub fn top_k(&self) -> usize {
        self.top.len().checked_div(self.len).unwrap_or(0)
    }

    /// The entropies in nats of each token's 20 likeliest ids, their probabilities taken to sum to 1; nothing
    /// where fewer were recorded, NaN for a token all of whose ids were masked.
    pub fn entropies(&self) -> Vec<f32> {
        let held = self.top_k();
        if held < TOP {
            return Vec::new();
        }
        let of = |row: &[f32]| {
            let (mut total, mut sum) = (0.0, 0.0);
            for ln_p in row[..TOP].iter().map(|p| f64::from(*p)).filter(|p| p.is_finite()) {
                let p = ln_p.exp();
                (total, sum) = (total + p, sum + p * ln_p);
            }
            // -sum of q ln q with q = p / total
            (f64::ln(total) - sum / total) as f32
        };
        self.top.chunks_exact(held).map(of).collect()
    }

    /// Its numbers, beside `entropies` that were taken from it.
    pub(super) fn series<'a>(&'a self, entropies: &'a [f32]) -> TokenSeries<'a> {
        TokenSeries {
            confidences: &self.confidence,
            logprobs: &self.logprobs,
            entropies,
        }
    }

    /// The confidences with the `k` most likely ids instead of 20, where as many were recorded; NaN for a
    /// token all of whose ids were masked.
    pub fn confidence_of(&self, k: usize) -> Option<Vec<f32>> {
        let held = self.top_k();
        let of = |row: &[f32]| {
            let confidence = confidence_of_logprobs(row[..k].iter().map(|p| f64::from(*p)));
            confidence.map_or(f32::NAN, |c| c as f32)
        };
        (k > 0 && k <= held).then(|| self.top.chunks_exact(held).map(of).collect())
    }
}

/// A trace that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceRecord {
    /// Name of the problem.
    pub problem_id: String,
    /// Index within the problem, from 0.
    pub trace: TraceId,
    /// Whether it belonged to the warm-up.
    pub phase: Phase,
    /// Why the trace ended.
    pub finish: Finish,
    /// Its tokens, the one that ended it included, and those that it took over from the trace it goes on from.
    pub tokens: usize,
    /// Where it goes on from another trace.
    pub fork: Option<Fork>,
    /// The traces whose solutions its prompt showed; none where it was asked the problem alone.
    pub shown: Vec<TraceId>,
    /// Tokens that a remote engine generated beyond these and that no decision saw: they came after the trace
    /// was stopped, or the engine reported them without sending them. They are in the same book.
    pub unseen: u64,
    /// Its text, without the stop token.
    pub text: Option<String>,
    /// The answer taken from it.
    pub answer: Option<String>,
    /// Canonical key of the answer's class.
    pub answer_key: Option<String>,
    /// How the answer was found.
    pub extraction: Option<String>,
    /// Ids, log-probabilities and confidences of its tokens.
    pub arrays: Arrays,
    /// Statistics for several windows, where a replay holds these instead of the arrays.
    pub measured: Option<Arc<TraceStatistics>>,
    /// Scores of the whole trace, with groups of the run's window.
    pub scores: TraceScores,
    /// Sum of the self-certainty over the tokens in nats, if measured: a trace that goes on from its record
    /// goes on with it.
    pub self_certainty_sum: Option<f64>,
    /// Wall time from launch to end, seconds.
    pub seconds: f64,
    /// Whether it holds tokens that no earlier record of the trace held.
    pub fresh: bool,
    /// Whether of its text only the solution was kept.
    pub is_solution: bool,
    /// Digest of the token ids, where these were let go.
    pub ids: Option<blake3::Hash>,
}

impl Default for TraceRecord {
    fn default() -> Self {
        Self {
            problem_id: String::new(),
            trace: 0,
            phase: Phase::Main,
            finish: Finish::Stop,
            tokens: 0,
            fork: None,
            shown: Vec::new(),
            unseen: 0,
            text: None,
            answer: None,
            answer_key: None,
            extraction: None,
            arrays: Arrays::default(),
            measured: None,
            scores: TraceScores::default(),
            self_certainty_sum: None,
            seconds: 0.0,
            fresh: true,
            is_solution: false,
            ids: None,
        }
    }
}

impl TraceRecord {
    /// Sets the text and reads the answer from it.
    pub(super) fn read(&mut self, text: String, reader: &dyn ReadAnswer) {
        let found = reader.read(&text);
        self.answer_key = found.as_ref().map(|e| reader.key(&e.answer));
        self.extraction = found.as_ref().map(how_found);
        self.answer = found.map(|e| e.answer);
        self.text = Some(text);
    }
}

impl TraceRecord {
    /// Tokens that were generated for it: without those that it took over.
    pub fn generated(&self) -> usize {
        self.tokens - self.fork.map_or(0, |fork| fork.tokens.min(self.tokens))
    }

    /// Whether it is a draw of its own from the problem's prompt: it neither goes on from another trace nor was shown
    /// any.
    pub(crate) fn stands_alone(&self) -> bool {
        self.fork.is_none() && self.shown.is_empty()
    }

    /// A trace of which no more is known than that it was there.
    pub(super) fn without_vote(problem_id: &str, trace: TraceId) -> Self {
        Self {
            problem_id: problem_id.to_owned(),
            trace,
            finish: Finish::Failed,
            fresh: false,
            ..Self::default()
        }
    }

    /// Lets go of what a journal keeps: the arrays, of which the ids' digest stays, and the text, of which
    /// the solution stays. A problem can be decided without them.
    pub(crate) fn let_go(&mut self) {
        self.ids = self.ids_digest();
        self.arrays = Arrays::default();
        self.text = self.solution();
        self.is_solution = true;
    }

    /// What its text says once the thinking is over; a text that was let go is that already, and may begin with
    /// a mark that the answer speaks of.
    pub(crate) fn solution(&self) -> Option<String> {
        let text = self.text.as_deref()?;
        Some(if self.is_solution {
            text.to_owned()
        } else {
            solution(text)
        })
    }

    /// Digest of the token ids; `None` where the record has none.
    fn ids_digest(&self) -> Option<blake3::Hash> {
        let whole = self.arrays.token_ids.len() == self.tokens;
        self.ids
            .or_else(|| whole.then(|| Digest::of(&self.arrays.token_ids)))
    }
}

/// How an answer was found, in words.
pub(crate) fn how_found(found: &Extraction) -> String {
    if found.inside_thinking {
        format!("{}, inside thinking", found.path.as_str())
    } else {
        found.path.as_str().to_owned()
    }
}

/// blake3 over every trace's index, length and blake3 of its token ids, in trace order.
#[derive(Default)]
pub(crate) struct Digest(blake3::Hasher);

impl Digest {
    /// Of one trace's ids, each as four bytes, little-endian.
    pub(crate) fn of(ids: &[u32]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for id in ids {
            hasher.update(&id.to_le_bytes());
        }
        hasher.finalize()
    }
    pub(crate) fn add(&mut self, trace: TraceId, tokens: usize, ids: &blake3::Hash) {
        self.0.update(&trace.to_le_bytes());
        self.0.update(&(tokens as u64).to_le_bytes());
        self.0.update(ids.as_bytes());
    }
    pub(crate) fn hex(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// The digest of these records; `None` where ids are missing.
pub(super) fn digest(records: &[&TraceRecord]) -> Option<String> {
    let mut digest = Digest::default();
    for record in records {
        digest.add(record.trace, record.tokens, &record.ids_digest()?);
    }
    Some(digest.hex())
}

#[cfg(test)]
mod tests {
    use super::{Arrays, TraceRecord};

    #[test]
    fn a_solution_is_taken_once() {
        let mut record = TraceRecord {
            text: Some("so it is 7</think>\n</think>\nThe answer is 7.".to_owned()),
            ..TraceRecord::default()
        };
        let said = Some("</think>\nThe answer is 7.".to_owned());
        assert_eq!(record.solution(), said);
        record.let_go();
        assert_eq!(record.solution(), said, "of what was kept as of the whole");
    }

    #[test]
    fn entropies_are_those_of_twenty_ids() {
        // two equally likely ids, four of them, and one alone; what is masked is not there
        let row = |ids: usize| (0..20).map(move |i| if i < ids { -5.0 } else { f32::NEG_INFINITY });
        let arrays = Arrays {
            len: 4,
            top: [2, 4, 1, 0].into_iter().flat_map(row).collect(),
            ..Arrays::default()
        };
        let got = arrays.entropies();
        for (got, want) in got.iter().zip([2.0f32.ln(), 4.0f32.ln(), 0.0]) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
        assert!(got[3].is_nan(), "{got:?}");
        let few = Arrays {
            len: 4,
            top: vec![-1.0; 76],
            ..Arrays::default()
        };
        assert!(few.entropies().is_empty(), "nineteen are not twenty");
    }

    #[test]
    fn confidence_over_fewer_ids_leaves_masked_ones_out() {
        let masked = f32::NEG_INFINITY;
        let arrays = Arrays {
            len: 2,
            top: vec![-0.5, -1.5, -4.0, masked, masked, masked],
            ..Arrays::default()
        };
        let of = |k| arrays.confidence_of(k).unwrap();
        assert_eq!((of(2)[0], of(3)[0]), (1.0, 2.0));
        assert!(of(2)[1].is_nan(), "no ids, no confidence: no bar to fall below");
        assert_eq!(arrays.confidence_of(4), None);
    }
}
