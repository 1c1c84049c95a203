//! Reads a text beside what is running, for the likeliest tokens at each of its positions.

use std::sync::Arc;

use tokio::sync::oneshot;

use tts_model::session::{Each, PREFILL_CHUNK, Session};
use tts_model::top::likeliest;
use tts_model::{Model, Sequence};

/// For each token that was asked about, the likeliest ids at its place with their log-probabilities in nats,
/// likeliest first.
pub type Likeliest = Vec<Vec<(u32, f32)>>;

/// A text to read.
pub struct ToRead {
    /// Its token ids.
    pub ids: Vec<u32>,
    /// Index of the first token that is asked about; the first token of all has no distribution before it.
    pub from: usize,
    /// How many ids for each.
    pub k: usize,
    /// Takes what was found; nothing where the logits are not numbers.
    pub reply: oneshot::Sender<Option<Likeliest>>,
}

/// A text in the middle of being read.
pub(super) struct Reading {
    text: ToRead,
    sequence: Sequence,
    at: usize,
    found: Likeliest,
}

impl Reading {
    pub(super) fn new(text: ToRead, model: &Arc<Model>) -> Self {
        Self {
            text,
            sequence: model.sequence(),
            at: 0,
            found: Vec::new(),
        }
    }

    /// Tokens of the text.
    pub(super) fn tokens(&self) -> usize {
        self.text.ids.len()
    }

    /// Reads a chunk. Nothing is left once the text is through or nobody waits for it.
    pub(super) fn go_on(mut self, session: &mut Session) -> Option<Self> {
        let ToRead { ids, from, k, reply } = &self.text;
        if reply.is_closed() {
            return None;
        }
        // what follows the last token is not asked about
        let end = ids.len().saturating_sub(1);
        let chunk = &ids[self.at..end.min(self.at + PREFILL_CHUNK)];
        let (at, found, mut broken) = (self.at, &mut self.found, false);
        let mut each = |i: usize, row: &[f32]| {
            if at + i + 1 >= *from && !broken {
                match likeliest(row, *k) {
                    Some(of_token) => found.push(of_token),
                    None => broken = true,
                }
            }
        };
        if !chunk.is_empty() {
            let wanted = at + chunk.len() >= *from;
            session.read_chunk(&mut self.sequence, chunk, wanted.then_some(&mut each as Each<'_>));
        }
        self.at += chunk.len();
        if self.at < end && !broken {
            return Some(self);
        }
        let found = (!broken).then_some(self.found);
        let _ = self.text.reply.send(found);
        None
    }
}
