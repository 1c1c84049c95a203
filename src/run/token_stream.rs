//! The tokens of a trace that is the only one of its problem, for those who read along.

use tokio::sync::watch;

use super::Trace;

/// A token that a trace went on from.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamedToken {
    /// The token's id in the model's vocabulary.
    pub id: u32,
    /// Its log-probability, nats, at most 0.
    pub logprob: f32,
    /// The likeliest ids at its place with their log-probabilities in nats, likeliest first, as many as were
    /// asked for.
    pub top_logprobs: Vec<(u32, f32)>,
    /// Its text, or that of several tokens, where an engine elsewhere gives texts and not ids; the id is then
    /// `u32::MAX` and the log-probability NaN.
    pub text: Option<String>,
}

/// A problem's first trace as far as it is generated. Whoever comes late finds all of it. The token that ends
/// the trace is not among them: until then nobody knows whether it belongs to the text.
#[derive(Debug, Default)]
pub struct TokenStream {
    k: usize,
    tokens: watch::Sender<Vec<StreamedToken>>,
}

impl TokenStream {
    /// An empty stream; each token is to come with the `k` likeliest ids at its place.
    pub fn new(k: usize) -> Self {
        Self { k, ..Self::default() }
    }

    /// How many likeliest ids come with each token.
    pub fn k(&self) -> usize {
        self.k
    }

    /// All tokens so far, and a notice when there are more.
    pub fn read(&self) -> watch::Receiver<Vec<StreamedToken>> {
        self.tokens.subscribe()
    }

    /// Adds a piece of text.
    pub(crate) fn append(&self, text: String) {
        let piece = StreamedToken {
            id: u32::MAX,
            logprob: f32::NAN,
            top_logprobs: Vec::new(),
            text: Some(text),
        };
        self.tokens.send_modify(|tokens| tokens.push(piece));
    }

    /// Adds the tokens of a trace in flight that are not in the stream yet; `top_logprobs` belong to the
    /// newest of them.
    pub(crate) fn write(&self, trace: &Trace, top_logprobs: &[(u32, f32)]) {
        self.tokens.send_if_modified(|tokens| {
            let from = tokens.len();
            let new = trace.ids().iter().zip(trace.logprobs()).skip(from);
            tokens.extend(new.map(|(id, logprob)| StreamedToken {
                id: *id,
                logprob: *logprob,
                top_logprobs: Vec::new(),
                text: None,
            }));
            let more = tokens.len() > from;
            if let (true, Some(newest)) = (more, tokens.last_mut()) {
                newest.top_logprobs = top_logprobs.to_vec();
            }
            more
        });
    }
}
