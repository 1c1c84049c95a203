//! The tokens of a trace in flight, by where they come from.

use tts_model::sampling::Drawn;

use crate::run::record::{Arrays, TraceRecord};
use crate::run::replay::RecordReader;

/// The tokens of a trace so far, by where they come from.
pub(super) enum Tokens {
    /// Read from the record of an earlier run, up to the reader's place in it.
    Recorded(RecordReader),
    /// Drawn by the engine; those of a record come first, if there was one.
    Drawn(DrawnTokens),
    /// Received from a remote engine, with their text.
    Received(ReceivedTokens),
}

/// Tokens that were drawn by the engine.
pub(super) struct DrawnTokens {
    pub(super) arrays: Arrays,
    /// Sum of their self-certainty, nats; `None` where that of one of them is not known.
    pub(super) self_certainty: Option<f64>,
}

/// Tokens that came from a remote engine.
#[derive(Default)]
pub(super) struct ReceivedTokens {
    pub(super) arrays: Arrays,
    pub(super) text: String,
    /// Bytes of the text that came last.
    pub(super) newest: usize,
    /// Generated tokens that no decision saw.
    pub(super) unseen: u64,
}

impl Tokens {
    /// How many there are so far.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Recorded(reader) => reader.tokens(),
            Self::Drawn(drawn) => drawn.arrays.len,
            Self::Received(received) => received.arrays.len,
        }
    }

    /// Their ids and numbers; those of a record go on beyond [`Tokens::len`].
    pub(super) fn arrays(&self) -> &Arrays {
        match self {
            Self::Recorded(reader) => &reader.record().arrays,
            Self::Drawn(drawn) => &drawn.arrays,
            Self::Received(received) => &received.arrays,
        }
    }

    /// Adds a token: reads it where the record has more of them, keeps it where not.
    pub(super) fn push(&mut self, token: &Drawn, top_k: usize) {
        match self {
            Self::Recorded(reader) if reader.left() > 0 => reader.skip(1),
            Self::Recorded(reader) => {
                let mut drawn = DrawnTokens::after(reader.record());
                drawn.push(token, top_k);
                *self = Self::Drawn(drawn);
            }
            Self::Drawn(drawn) => drawn.push(token, top_k),
            Self::Received(received) => received.arrays.push(token, top_k),
        }
    }

    /// Adds text that came with tokens from a remote engine.
    pub(super) fn write(&mut self, text: &str) {
        if let Self::Drawn(drawn) = self {
            *self = Self::Received(ReceivedTokens {
                arrays: std::mem::take(&mut drawn.arrays),
                ..ReceivedTokens::default()
            });
        }
        if let Self::Received(received) = self {
            received.text.push_str(text);
            received.newest = text.len();
        }
    }

    /// The text, where it comes with the tokens.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Received(received) => Some(&received.text),
            _ => None,
        }
    }

    /// Generated tokens that no decision saw.
    pub(super) fn unseen(&self) -> u64 {
        match self {
            Self::Recorded(reader) => reader.unseen(),
            Self::Drawn(_) => 0,
            Self::Received(received) => received.unseen,
        }
    }

    /// Sum of the tokens' self-certainty, nats; `None` where it is not known.
    pub(super) fn self_certainty(&self) -> Option<f64> {
        match self {
            Self::Recorded(reader) => reader.self_certainty(),
            Self::Drawn(drawn) => drawn.self_certainty,
            Self::Received(_) => None,
        }
    }
}

impl Default for DrawnTokens {
    fn default() -> Self {
        Self {
            arrays: Arrays::default(),
            self_certainty: Some(0.0),
        }
    }
}

impl DrawnTokens {
    /// The tokens of a record, to which others will be added.
    fn after(record: &TraceRecord) -> Self {
        if record.tokens == 0 {
            return Self::default();
        }
        Self {
            arrays: record.arrays.first(record.tokens),
            self_certainty: record.self_certainty_sum,
        }
    }

    fn push(&mut self, token: &Drawn, top_k: usize) {
        self.arrays.push(token, top_k);
        // a sum with a part missing is no sum
        let sum = self.self_certainty.filter(|_| token.self_certainty.is_finite());
        self.self_certainty = sum.map(|sum| sum + f64::from(token.self_certainty));
    }
}
