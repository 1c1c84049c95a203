//! Log-probabilities of the text that a reply shows, in the two shapes that OpenAI's interface has for them.
//!
//! There is one entry for each token, with the bytes of its own: a character of several tokens is in all of
//! them, and a token without text (a special one) has no bytes and goes by its name. Bytes that are no
//! character are written as `bytes:\xe2\x96`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::request::Endpoint;
use super::state::AppState;
use crate::engine::scoring::ScoredToken;
use crate::openai::{ChatLogprobs, Logprobs, TextLogprobs, TokenLogprob, TopLogprob};
use crate::prompt::{Detokenizer, Prompter};
use crate::run::TraceRecord;

/// A token of a trace, or of a prompt, and its place in the text.
#[derive(Clone, Debug)]
pub(super) struct TextToken {
    /// Index of the token in the trace.
    pub(super) index: usize,
    id: u32,
    /// What it adds to the text.
    bytes: Vec<u8>,
    /// Bytes, and characters, of the text before it.
    pub(super) from: usize,
    chars: usize,
    logprob: Option<f32>,
    /// The likeliest ids at its place with their log-probabilities.
    pub(super) top_logprobs: Option<Vec<(u32, f32)>>,
}

impl TextToken {
    /// Bytes that it takes in memory.
    pub(super) fn size(&self) -> usize {
        let alternatives = self.top_logprobs.as_ref().map_or(0, |top| size_of_val(&top[..]));
        size_of::<Self>() + self.bytes.len() + alternatives
    }

    /// Whether it adds to the text in this place, or stands in it or at its end without adding anything.
    pub(super) fn is_in(&self, place: &Range<usize>) -> bool {
        match self.bytes.len() {
            0 => self.from >= place.start && self.from <= place.end,
            len => self.from < place.end && self.from + len > place.start,
        }
    }
}

/// The tokens of a text with their places in it, one after the other.
pub(super) struct Tokens {
    prompter: Arc<Prompter>,
    decoder: Detokenizer,
    skip_special: bool,
    index: usize,
    /// bytes and characters of the text that is certain
    at: usize,
    chars: usize,
}

impl Tokens {
    /// Of a text that has no tokens yet; nothing where the model has no tokenizer.
    pub(super) fn new(app: &AppState, skip_special: bool) -> Option<Self> {
        let prompter = app.solver.decoder()?.clone();
        Some(Self {
            decoder: prompter.detokenizer(skip_special),
            prompter,
            skip_special,
            index: 0,
            at: 0,
            chars: 0,
        })
    }

    /// The next token, and the text that becomes certain with it.
    pub(super) fn next(
        &mut self,
        id: u32,
        logprob: Option<f32>,
        top_logprobs: Option<Vec<(u32, f32)>>,
    ) -> (TextToken, String) {
        let (held, chars) = (self.decoder.held(), self.chars);
        let from = self.at + held;
        let text = self.decoder.push(id).to_owned();
        let bytes = match self.decoder.was_frame() {
            true => Some(Vec::new()),
            false => self.prompter.token_bytes(id, self.skip_special),
        };
        // what was held and never became a character stands before the token as a mark of its own
        let own = bytes
            .as_deref()
            .filter(|_| held > 0 && text.starts_with('\u{fffd}'));
        let chars = chars
            + own.map_or(0, |own| {
                text.chars().count().saturating_sub(whole_characters(own))
            });
        let token = TextToken {
            index: self.index,
            id,
            bytes: bytes.unwrap_or_else(|| text.clone().into_bytes()),
            from,
            chars,
            logprob,
            top_logprobs,
        };
        self.index += 1;
        self.at += text.len();
        self.chars += text.chars().count();
        (token, text)
    }
}

/// Characters that bytes have to themselves, without one that others begin or end; 0 where they go on with one.
fn whole_characters(bytes: &[u8]) -> usize {
    let goes_on = bytes.first().is_some_and(|byte| byte & 0xc0 == 0x80);
    match std::str::from_utf8(bytes) {
        _ if goes_on => usize::MAX,
        Ok(text) => text.chars().count(),
        Err(error) => String::from_utf8_lossy(&bytes[..error.valid_up_to()])
            .chars()
            .count(),
    }
}

/// The tokens that the text of a trace is made of.
pub(super) fn tokens(app: &AppState, record: &TraceRecord, stop_ids: &[u32]) -> Vec<TextToken> {
    let Some(mut all) = Tokens::new(app, true) else {
        return Vec::new();
    };
    let arrays = &record.arrays;
    let one = |(i, id): (usize, &u32)| all.next(*id, arrays.logprobs.get(i).copied(), None).0;
    let mut tokens: Vec<TextToken> = arrays.token_ids.iter().enumerate().map(one).collect();
    // what says that the text is over is no part of it
    if tokens.last().is_some_and(|last| stop_ids.contains(&last.id)) {
        tokens.pop();
    }
    tokens
}

/// The tokens of a prompt; what was `scored` begins with the second of them.
pub(super) fn of_prompt(app: &AppState, ids: &[u32], scored: Vec<ScoredToken>) -> Vec<TextToken> {
    let Some(mut all) = Tokens::new(app, false) else {
        return Vec::new();
    };
    let mut scored = std::iter::once(None).chain(scored.into_iter().map(Some));
    let one = |id: &u32| {
        let found = scored.next().flatten();
        let logprob = found.as_ref().and_then(|found| found.logprob);
        all.next(*id, logprob, found.map(|found| found.top)).0
    };
    ids.iter().map(one).collect()
}

/// Has no token begin behind the end of a text.
pub(super) fn keep_within(tokens: &mut [TextToken], text: &str) {
    let chars = text.chars().count();
    for token in tokens {
        token.chars = token.chars.min(chars);
    }
}

/// Moves tokens behind a text of so many characters.
pub(super) fn put_behind(tokens: &mut [TextToken], text: &str) {
    let chars = text.chars().count();
    for token in tokens {
        token.chars += chars;
    }
}

/// How tokens are called.
struct Names<'a>(Option<&'a Prompter>);

impl Names<'_> {
    /// The name of a token with these bytes of text.
    fn of(&self, id: u32, bytes: &[u8]) -> String {
        match std::str::from_utf8(bytes) {
            Ok("") => {
                let name = self.0.map(|p| p.decode(&[id], false)).unwrap_or_default();
                if name.is_empty() { by_id(id) } else { name }
            }
            Ok(text) => text.to_owned(),
            Err(_) => by_bytes(bytes),
        }
    }

    /// The bytes of text of a token that was not drawn.
    fn bytes(&self, id: u32) -> Vec<u8> {
        let Some(prompter) = self.0 else {
            return Vec::new();
        };
        let bytes = prompter.token_bytes(id, true);
        bytes.unwrap_or_else(|| prompter.decode(&[id], true).into_bytes())
    }
}

fn by_id(id: u32) -> String {
    format!("token_id:{id}")
}

fn by_bytes(bytes: &[u8]) -> String {
    let codes = bytes.iter().map(|byte| format!("\\x{byte:02x}"));
    std::iter::once("bytes:".to_owned()).chain(codes).collect()
}

/// The `logprobs` of a choice or of a part of one: of these tokens; with the likeliest ids at their places if
/// `alternatives`.
pub(super) fn object(
    app: &AppState,
    endpoint: Endpoint,
    tokens: &[TextToken],
    alternatives: bool,
) -> Logprobs {
    let names = Names(app.solver.decoder().map(AsRef::as_ref));
    // JSON has no numbers but finite ones
    let number = |p: f32| Some(f64::from(p)).filter(|p| p.is_finite());
    let name = |token: &TextToken| names.of(token.id, &token.bytes);
    match endpoint {
        Endpoint::Chat => {
            let top = |(id, p): &(u32, f32)| {
                let bytes = names.bytes(*id);
                TopLogprob {
                    token: names.of(*id, &bytes),
                    bytes,
                    logprob: number(*p),
                }
            };
            let one = |token: &TextToken| TokenLogprob {
                id: None,
                token: name(token),
                logprob: token.logprob.and_then(number),
                bytes: token.bytes.clone(),
                top_logprobs: Some(token.top_logprobs.iter().flatten().map(top).collect()),
            };
            Logprobs::Chat(ChatLogprobs {
                content: tokens.iter().map(one).collect(),
                refusal: None,
            })
        }
        Endpoint::Completion => {
            let top = |token: &TextToken| {
                let mut by_name = BTreeMap::new();
                for (id, p) in token.top_logprobs.as_ref()? {
                    let bytes = names.bytes(*id);
                    // of tokens with one text the likeliest goes by it
                    let unused = [names.of(*id, &bytes), by_bytes(&bytes), by_id(*id)]
                        .into_iter()
                        .find(|name| !by_name.contains_key(name));
                    by_name.insert(unused.unwrap_or_else(|| by_id(*id)), number(*p));
                }
                Some(by_name)
            };
            Logprobs::Text(TextLogprobs {
                tokens: tokens.iter().map(name).collect(),
                token_logprobs: tokens.iter().map(|t| t.logprob.and_then(number)).collect(),
                top_logprobs: alternatives.then(|| tokens.iter().map(top).collect()),
                text_offset: tokens.iter().map(|t| t.chars).collect(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_tokens_are_their_own() {
        assert_eq!(whole_characters(b">a"), 2);
        assert_eq!(whole_characters("é".as_bytes()), 1);
        assert_eq!(whole_characters(&[b'a', 0xe2]), 1);
        assert_eq!(whole_characters(&[0xe2]), 0);
        // one that ends a character begins where that does
        assert_eq!(whole_characters(&[0x82, 0xac]), usize::MAX);
    }
}
