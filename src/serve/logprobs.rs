//! Log-probabilities of the text that a reply shows, in the two shapes that OpenAI's interface has for them.

use std::ops::Range;

use serde_json::{Map, Value, json};

use super::ask::Endpoint;
use super::house::House;
use crate::prompt::Detokenizer;
use crate::run::TraceRecord;

/// A token of a trace and its place in the trace's text.
#[derive(Debug)]
pub(super) struct Piece {
    /// Index of the token in the trace.
    pub(super) index: usize,
    /// What it adds to the text: a character of several tokens comes with the last of them.
    text: String,
    pub(super) from: usize,
    logprob: Option<f32>,
    /// The likeliest ids at its place with their log-probabilities.
    pub(super) likeliest: Vec<(u32, f32)>,
}

impl Piece {
    /// What it adds to the text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it adds to the text in one of these places.
    pub(super) fn overlaps(&self, mut places: impl Iterator<Item = Range<usize>>) -> bool {
        !self.text.is_empty()
            && places.any(|place| self.from < place.end && self.from + self.text.len() > place.start)
    }
}

/// Makes pieces of a trace's tokens.
pub(super) struct Cutter {
    decoder: Detokenizer,
    index: usize,
    at: usize,
}

impl Cutter {
    /// Of a trace that has no tokens yet; nothing where the model has no tokenizer.
    pub(super) fn new(house: &House) -> Option<Self> {
        let prompter = house.source.prompter()?;
        Some(Self {
            decoder: prompter.detokenizer(true),
            index: 0,
            at: 0,
        })
    }

    /// The next token, and the text that it adds.
    pub(super) fn cut(&mut self, id: u32, logprob: Option<f32>, likeliest: Vec<(u32, f32)>) -> Piece {
        let piece = Piece {
            index: self.index,
            text: self.decoder.push(id).to_owned(),
            from: self.at,
            logprob,
            likeliest,
        };
        self.index += 1;
        self.at += piece.text.len();
        piece
    }
}

/// The tokens of a trace with their texts.
pub(super) fn pieces(house: &House, record: &TraceRecord) -> Vec<Piece> {
    let Some(mut cutter) = Cutter::new(house) else {
        return Vec::new();
    };
    let arrays = &record.arrays;
    let one = |(i, id): (usize, &u32)| cutter.cut(*id, arrays.logprobs.get(i).copied(), Vec::new());
    let mut pieces: Vec<Piece> = arrays.token_ids.iter().enumerate().map(one).collect();
    if let Some(last) = pieces.last_mut() {
        last.text.push_str(cutter.decoder.finish());
    }
    pieces
}

/// The `logprobs` of a choice or of a part of one: these tokens; with the likeliest ids at their places if
/// `alternatives`.
pub(super) fn object(house: &House, endpoint: Endpoint, pieces: &[Piece], alternatives: bool) -> Value {
    let text_of = |id: u32| {
        let prompter = house.source.prompter();
        prompter.map_or_else(String::new, |p| p.decode(&[id], true))
    };
    match endpoint {
        Endpoint::Chat => {
            let token = |piece: &Piece| {
                let alternative = |(id, p): &(u32, f32)| {
                    let text = text_of(*id);
                    json!({ "token": text, "logprob": p, "bytes": text.as_bytes() })
                };
                let top: Vec<Value> = piece.likeliest.iter().map(alternative).collect();
                json!({ "token": piece.text, "logprob": piece.logprob, "bytes": piece.text.as_bytes(), "top_logprobs": top })
            };
            json!({ "content": pieces.iter().map(token).collect::<Vec<_>>(), "refusal": null })
        }
        Endpoint::Completion => {
            let top = |piece: &Piece| {
                // of tokens with one text the likeliest counts
                let mut by_text = Map::new();
                for (id, p) in &piece.likeliest {
                    by_text.entry(text_of(*id)).or_insert_with(|| json!(p));
                }
                Value::Object(by_text)
            };
            json!({
                "tokens": pieces.iter().map(|p| &p.text).collect::<Vec<_>>(),
                "token_logprobs": pieces.iter().map(|p| p.logprob).collect::<Vec<_>>(),
                "top_logprobs": alternatives.then(|| pieces.iter().map(top).collect::<Vec<_>>()),
                "text_offset": pieces.iter().map(|p| p.from).collect::<Vec<_>>(),
            })
        }
    }
}

/// The `logprobs` of a choice without its first `n` tokens; nothing where no token is left.
pub(super) fn without(logprobs: &Value, n: usize) -> Option<Value> {
    let rest = |value: &Value| match value {
        Value::Array(all) => Value::from(all.get(n..).unwrap_or_default()),
        other => other.clone(),
    };
    let fields: Map<String, Value> = logprobs
        .as_object()?
        .iter()
        .map(|(name, value)| (name.clone(), rest(value)))
        .collect();
    let left = fields
        .values()
        .any(|value| value.as_array().is_some_and(|all| !all.is_empty()));
    left.then_some(Value::Object(fields))
}
