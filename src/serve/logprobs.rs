//! Log-probabilities of the text that a reply shows, in the two shapes that OpenAI's interface has for them.

use serde_json::{Map, Value, json};

use super::ask::Endpoint;
use super::error::ApiError;
use super::source::RequestRunner;
use crate::runner::Prepared;
use crate::solve::TraceRecord;

/// A token of a trace and its place in the trace's text.
pub(super) struct Piece {
    /// Index of the token in the trace.
    index: usize,
    /// What it adds to the text: a character of several tokens comes with the last of them.
    text: String,
    from: usize,
}

impl Piece {
    /// Whether it adds to the text between two places.
    pub(super) fn overlaps(&self, from: usize, to: usize) -> bool {
        !self.text.is_empty() && self.from < to && self.from + self.text.len() > from
    }
}

/// The tokens of a trace with their texts, where its text was made of them here.
pub(super) fn pieces(runner: &RequestRunner, record: &TraceRecord) -> Option<Vec<Piece>> {
    let RequestRunner::Here(runner, _) = runner else {
        return None;
    };
    let prompter = runner.loaded().prompter.as_ref()?;
    let mut decoder = prompter.detokenizer(true);
    let mut at = 0;
    let mut pieces: Vec<Piece> = Vec::with_capacity(record.arrays.token_ids.len());
    for (index, id) in record.arrays.token_ids.iter().enumerate() {
        let text = decoder.push(*id).to_owned();
        let from = at;
        at += text.len();
        pieces.push(Piece { index, text, from });
    }
    if let Some(last) = pieces.last_mut() {
        last.text.push_str(decoder.finish());
    }
    Some(pieces)
}

/// The `logprobs` of a choice: of these tokens of a trace, with the `k` likeliest at each place.
pub(super) async fn object(
    runner: &RequestRunner,
    endpoint: Endpoint,
    prompt: &Prepared,
    record: &TraceRecord,
    pieces: &[Piece],
    k: usize,
) -> Result<Value, ApiError> {
    let ids = &record.arrays.token_ids;
    let likeliest = match pieces.first() {
        Some(first) if k > 0 => {
            let last = pieces.last().map_or(0, |p| p.index);
            let text = [&prompt.prompt.ids[..], &ids[..=last]].concat();
            runner.likeliest(text, prompt.prompt.ids.len() + first.index, k).await?
        }
        _ => Vec::new(),
    };
    let text_of = |id: u32| {
        let prompter = runner.prompter().ok().flatten();
        prompter.map_or_else(String::new, |p| p.decode(&[id], true))
    };
    let first = pieces.first().map_or(0, |p| p.index);
    let top = |piece: &Piece| likeliest.get(piece.index - first).map_or(&[][..], Vec::as_slice);
    let logprob = |piece: &Piece| record.arrays.logprobs.get(piece.index).copied();
    Ok(match endpoint {
        Endpoint::Chat => {
            let content: Vec<Value> = pieces
                .iter()
                .map(|piece| {
                    let top: Vec<Value> = top(piece)
                        .iter()
                        .map(|(id, p)| {
                            let text = text_of(*id);
                            json!({ "token": text, "logprob": p, "bytes": text.as_bytes() })
                        })
                        .collect();
                    json!({
                        "token": piece.text, "logprob": logprob(piece), "bytes": piece.text.as_bytes(), "top_logprobs": top,
                    })
                })
                .collect();
            json!({ "content": content, "refusal": null })
        }
        Endpoint::Completion => {
            let top: Vec<Value> = pieces
                .iter()
                .map(|piece| {
                    // of tokens with one text the likeliest counts
                    let mut by_text = Map::new();
                    for (id, p) in top(piece) {
                        by_text.entry(text_of(*id)).or_insert_with(|| json!(p));
                    }
                    by_text.into()
                })
                .collect();
            json!({
                "tokens": pieces.iter().map(|p| &p.text).collect::<Vec<_>>(),
                "token_logprobs": pieces.iter().map(logprob).collect::<Vec<_>>(),
                "top_logprobs": if k > 0 { Value::Array(top) } else { Value::Null },
                "text_offset": pieces.iter().map(|p| p.from).collect::<Vec<_>>(),
            })
        }
    })
}
