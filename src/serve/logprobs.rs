//! Log-probabilities of the text that a reply shows, in the two shapes that OpenAI's interface has for them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::request::Endpoint;
use super::state::AppState;
use crate::openai::{ChatLogprobs, Logprobs, TextLogprobs, TokenLogprob, TopLogprob};
use crate::prompt::Detokenizer;
use crate::run::TraceRecord;

/// A token of a trace and its place in the trace's text.
#[derive(Clone, Debug)]
pub(super) struct TextToken {
    /// Index of the token in the trace.
    pub(super) index: usize,
    /// What it adds to the text: a character of several tokens comes with the last of them.
    text: String,
    pub(super) from: usize,
    logprob: Option<f32>,
    /// The likeliest ids at its place with their log-probabilities.
    pub(super) top_logprobs: Vec<(u32, f32)>,
}

impl TextToken {
    /// What it adds to the text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Bytes that it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len() + size_of_val(&self.top_logprobs[..])
    }

    /// Whether it adds to the text in one of these places.
    pub(super) fn overlaps(&self, mut places: impl Iterator<Item = Range<usize>>) -> bool {
        !self.text.is_empty()
            && places.any(|place| self.from < place.end && self.from + self.text.len() > place.start)
    }
}

/// The tokens of a trace with their texts, one after the other.
pub(super) struct Tokens {
    decoder: Detokenizer,
    index: usize,
    at: usize,
}

impl Tokens {
    /// Of a trace that has no tokens yet; nothing where the model has no tokenizer.
    pub(super) fn new(app: &AppState) -> Option<Self> {
        let prompter = app.solver.decoder()?;
        Some(Self {
            decoder: prompter.detokenizer(true),
            index: 0,
            at: 0,
        })
    }

    /// The next token, and the text that it adds.
    pub(super) fn next(&mut self, id: u32, logprob: Option<f32>, top_logprobs: Vec<(u32, f32)>) -> TextToken {
        let token = TextToken {
            index: self.index,
            text: self.decoder.push(id).to_owned(),
            from: self.at,
            logprob,
            top_logprobs,
        };
        self.index += 1;
        self.at += token.text.len();
        token
    }
}

/// The tokens of a trace with their texts.
pub(super) fn tokens(app: &AppState, record: &TraceRecord) -> Vec<TextToken> {
    let Some(mut all) = Tokens::new(app) else {
        return Vec::new();
    };
    let arrays = &record.arrays;
    let one = |(i, id): (usize, &u32)| all.next(*id, arrays.logprobs.get(i).copied(), Vec::new());
    let mut tokens: Vec<TextToken> = arrays.token_ids.iter().enumerate().map(one).collect();
    if let Some(last) = tokens.last_mut() {
        last.text.push_str(all.decoder.finish());
    }
    tokens
}

/// The `logprobs` of a choice or of a part of one: of these tokens; with the likeliest ids at their places if
/// `alternatives`.
pub(super) fn object(
    app: &AppState,
    endpoint: Endpoint,
    tokens: &[TextToken],
    alternatives: bool,
) -> Logprobs {
    let text_of = |id: u32| {
        let prompter = app.solver.decoder();
        prompter.map_or_else(String::new, |p| p.decode(&[id], true))
    };
    // JSON has no numbers but finite ones
    let number = |p: f32| Some(f64::from(p)).filter(|p| p.is_finite());
    match endpoint {
        Endpoint::Chat => {
            let top = |(id, p): &(u32, f32)| {
                let token = text_of(*id);
                TopLogprob {
                    bytes: token.clone().into_bytes(),
                    token,
                    logprob: number(*p),
                }
            };
            let one = |token: &TextToken| TokenLogprob {
                id: None,
                token: token.text.clone(),
                logprob: token.logprob.and_then(number),
                bytes: token.text.clone().into_bytes(),
                top_logprobs: Some(token.top_logprobs.iter().map(top).collect()),
            };
            Logprobs::Chat(ChatLogprobs {
                content: tokens.iter().map(one).collect(),
                refusal: None,
            })
        }
        Endpoint::Completion => {
            let top = |token: &TextToken| {
                // of tokens with one text the likeliest counts
                let mut by_text = BTreeMap::new();
                for (id, p) in &token.top_logprobs {
                    by_text.entry(text_of(*id)).or_insert_with(|| number(*p));
                }
                Some(by_text)
            };
            Logprobs::Text(TextLogprobs {
                tokens: tokens.iter().map(|t| t.text.clone()).collect(),
                token_logprobs: tokens.iter().map(|t| t.logprob.and_then(number)).collect(),
                top_logprobs: alternatives.then(|| tokens.iter().map(top).collect()),
                text_offset: tokens.iter().map(|t| t.from).collect(),
            })
        }
    }
}
