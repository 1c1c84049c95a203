//! Scores a text beside what is running: the likeliest tokens at each of its places.

use tokio::sync::oneshot;

use crate::run::RunError;
use tts_model::executor::{BrokenLogits, Executor, ScoreRequest, Scored, SeqId};

/// What the model says of a token of a text, under the raw distribution at its place.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredToken {
    /// The token's own log-probability in nats; nothing where it has no probability.
    pub logprob: Option<f32>,
    /// The likeliest ids with their log-probabilities in nats, likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// A text to score: its tokens' log-probabilities and the likeliest at their places are asked for.
pub struct ScoringRequest {
    /// Token ids of the text, the first one included.
    pub ids: Vec<u32>,
    /// Index of the first token that is asked about; the first token of all has no distribution before it.
    pub from: usize,
    /// How many ids for each.
    pub k: usize,
    /// Takes what was found.
    pub reply: oneshot::Sender<Result<Vec<ScoredToken>, RunError>>,
}

/// A text in the middle of being scored.
pub(super) struct Scoring {
    text: ScoringRequest,
    seq: SeqId,
    found: Vec<ScoredToken>,
}

impl Scoring {
    pub(super) fn new(text: ScoringRequest, executor: &mut dyn Executor) -> Self {
        Self {
            text,
            seq: executor.begin(),
            found: Vec::new(),
        }
    }

    /// Tokens of the text.
    pub(super) fn tokens(&self) -> usize {
        self.text.ids.len()
    }

    /// Scores a chunk. Nothing is left once the text is through or nobody waits for it.
    pub(super) fn go_on(mut self, executor: &mut dyn Executor) -> Option<Self> {
        if self.text.reply.is_closed() {
            executor.free(self.seq);
            return None;
        }
        let ScoringRequest { ids, from, k, .. } = &self.text;
        // what follows the last token is not asked about
        let end = ids.len().saturating_sub(1);
        let request = ScoreRequest {
            ids,
            positions: from.saturating_sub(1)..end,
            top_logprobs: *k,
        };
        let found = &mut self.found;
        let mut each = |scored: Scored<'_>| {
            found.push(ScoredToken {
                logprob: scored.logprob.filter(|logprob| logprob.is_finite()),
                top: with_a_probability(scored.top).to_vec(),
            });
        };
        let read = executor.score(self.seq, &request, 1, &mut each);
        // what failed with the device is ended with everything else
        if read.is_ok_and(|read| read < end) || executor.failure().is_some() {
            return Some(self);
        }
        executor.free(self.seq);
        let found = read.map(|_| self.found).map_err(|BrokenLogits| {
            RunError::Engine("the model's logits are not numbers (NaN or infinite)".to_owned())
        });
        let _ = self.text.reply.send(found);
        None
    }

    /// Gives it up.
    pub(super) fn fail(self, why: RunError, executor: &mut dyn Executor) {
        executor.free(self.seq);
        let _ = self.text.reply.send(Err(why));
    }
}

/// The first of the likeliest ids: those that have a probability.
pub(super) fn with_a_probability(top: &[(u32, f32)]) -> &[(u32, f32)] {
    &top[..top.partition_point(|(_, logprob)| logprob.is_finite())]
}
