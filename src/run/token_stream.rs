//! What a lone trace writes, token by token, for those who read along.

use tokio::sync::watch;

use super::Trace;

/// A token that a trace went on from.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its id.
    pub id: u32,
    /// Its log-probability, nats.
    pub logprob: f32,
    /// The likeliest ids at its place with their log-probabilities, likeliest first, as many as were asked
    /// for.
    pub likeliest: Vec<(u32, f32)>,
    /// Its text, or that of several tokens, where an engine elsewhere gives texts and not ids.
    pub text: Option<String>,
}

/// A problem's first trace as far as it is written. Whoever comes late finds all of it. The token that ends
/// the trace is not among them: until then nobody knows whether it belongs to the text.
#[derive(Debug, Default)]
pub struct Pages {
    k: usize,
    tokens: watch::Sender<Vec<Written>>,
}

impl Pages {
    /// Blank pages; each token is to come with the `k` likeliest ids at its place.
    pub fn new(k: usize) -> Self {
        Self { k, ..Self::default() }
    }

    /// How many likeliest ids come with each token.
    pub fn k(&self) -> usize {
        self.k
    }

    /// All that is written, and a word when there is more.
    pub fn read(&self) -> watch::Receiver<Vec<Written>> {
        self.tokens.subscribe()
    }

    /// Adds a piece of text.
    pub(crate) fn append(&self, text: String) {
        let piece = Written {
            id: u32::MAX,
            logprob: f32::NAN,
            likeliest: Vec::new(),
            text: Some(text),
        };
        self.tokens.send_modify(|tokens| tokens.push(piece));
    }

    /// Adds what a trace in flight has written since the last time; `likeliest` are the likeliest ids at the
    /// place of its newest token.
    pub(crate) fn write(&self, trace: &Trace, likeliest: &[(u32, f32)]) {
        self.tokens.send_if_modified(|tokens| {
            let from = tokens.len();
            let new = trace.ids().iter().zip(trace.logprobs()).skip(from);
            tokens.extend(new.map(|(id, logprob)| Written {
                id: *id,
                logprob: *logprob,
                likeliest: Vec::new(),
                text: None,
            }));
            let more = tokens.len() > from;
            if let (true, Some(newest)) = (more, tokens.last_mut()) {
                newest.likeliest = likeliest.to_vec();
            }
            more
        });
    }
}
