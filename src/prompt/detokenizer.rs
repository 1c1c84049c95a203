//! Token ids back to text, whole or one at a time.

use std::sync::Arc;

use super::thinking::{FrameReader, Part, ThinkingMarks};
use super::vocabulary::Pieces;
use crate::caught::caught;

/// Longest run of ids that the general decoder waits for a whole character in.
const MAX_HELD: usize = 8;

/// Turns a stream of token ids into text.
///
/// A character that is spread over several tokens is held back until it is whole; bytes that cannot become a
/// character turn into U+FFFD, so the pieces joined together are the text that [`super::Prompter::decode`]
/// gives. What one token costs does not depend on how many came before.
pub struct Detokenizer {
    pieces: Pieces,
    skip_special: bool,
    /// Frames of messages; nothing where special tokens are shown as they are.
    frames: Option<FrameReader>,
    framed: bool,
    /// Bytes of a character that is not yet whole.
    pending: Vec<u8>,
    /// Text that the last call returned.
    out: String,
    /// Ids of the general decoder: the first `done` are context, the rest is not yet text.
    window: Vec<u32>,
    done: usize,
}

impl Detokenizer {
    pub(super) fn new(pieces: Pieces, skip_special: bool, marks: ThinkingMarks) -> Self {
        let pending = Vec::with_capacity(64);
        let out = String::with_capacity(64);
        Self {
            pieces,
            skip_special,
            frames: (skip_special && marks != ThinkingMarks::Plain).then(|| FrameReader::new(marks)),
            framed: false,
            pending,
            out,
            window: Vec::new(),
            done: 0,
        }
    }

    /// Takes the next token and returns the text that became certain, often one word, sometimes nothing.
    pub fn push(&mut self, id: u32) -> &str {
        self.out.clear();
        let part = match &mut self.frames {
            Some(frames) => frames.read(id, || self.pieces.bytes(id)),
            None => Part::Text,
        };
        self.framed = part != Part::Text;
        match part {
            Part::Text => self.push_text(id),
            Part::Frame => {}
            Part::Mark(mark) => {
                self.flush();
                self.out.push_str(mark);
            }
        }
        &self.out
    }

    /// Whether the last token is a part of a message's frame, or a mark that stands for its end: none of its own
    /// bytes are in the text.
    pub fn was_frame(&self) -> bool {
        self.framed
    }

    fn push_text(&mut self, id: u32) {
        match &self.pieces {
            Pieces::Bytes(table) => {
                if let Some(bytes) = table.get(id, self.skip_special) {
                    self.pending.extend_from_slice(bytes);
                    let taken = push_whole_characters(&self.pending, &mut self.out);
                    self.pending.drain(..taken);
                }
            }
            Pieces::Library(tokenizer) => {
                let tokenizer = Arc::clone(tokenizer);
                self.window.push(id);
                let text = decode(&tokenizer, &self.window, self.skip_special);
                let held = self.window.len() - self.done;
                let before = decode(&tokenizer, &self.window[..self.done], self.skip_special);
                let new = after_common_start(&text, &before);
                if held > MAX_HELD || !(new.is_empty() || new.ends_with('\u{fffd}')) {
                    self.out.push_str(new);
                    // The ids that made the last text stay as context for the next.
                    let drop = if new.is_empty() {
                        self.done..self.window.len()
                    } else {
                        0..self.done
                    };
                    self.window.drain(drop);
                    self.done = self.window.len();
                }
            }
        }
    }

    /// Bytes of a character that is not yet whole, where the bytes of tokens are known.
    pub fn held(&self) -> usize {
        self.pending.len()
    }

    /// Ends the stream: what was held back comes out, an unfinished character as U+FFFD. The next token
    /// starts a new text.
    pub fn finish(&mut self) -> &str {
        self.out.clear();
        self.flush();
        &self.out
    }

    /// Writes what was held back.
    fn flush(&mut self) {
        match &self.pieces {
            Pieces::Bytes(_) => {
                self.out.push_str(&String::from_utf8_lossy(&self.pending));
                self.pending.clear();
            }
            Pieces::Library(tokenizer) => {
                let text = decode(tokenizer, &self.window, self.skip_special);
                let before = decode(tokenizer, &self.window[..self.done], self.skip_special);
                self.out.push_str(after_common_start(&text, &before));
                self.window.clear();
                self.done = 0;
            }
        }
    }
}

/// Text of `ids` by the tokenizer's own decoder; what it cannot decode, or does not know, gives nothing.
pub(super) fn decode(tokenizer: &tokenizers::Tokenizer, ids: &[u32], skip_special: bool) -> String {
    let text = caught(|| tokenizer.decode(ids, skip_special).ok());
    text.ok().flatten().unwrap_or_default()
}

fn after_common_start<'a>(text: &'a str, before: &str) -> &'a str {
    let same = text.chars().zip(before.chars()).take_while(|(a, b)| a == b);
    let at = same.map(|(character, _)| character.len_utf8()).sum::<usize>();
    &text[at..]
}

/// Appends the whole characters of `bytes` to `out`, each impossible sequence as one U+FFFD as
/// `String::from_utf8_lossy` does, and returns how many bytes were used: the rest may still become a
/// character.
fn push_whole_characters(bytes: &[u8], out: &mut String) -> usize {
    let mut taken = 0;
    loop {
        match std::str::from_utf8(&bytes[taken..]) {
            Ok(text) => {
                out.push_str(text);
                return bytes.len();
            }
            Err(error) => {
                let valid = &bytes[taken..taken + error.valid_up_to()];
                out.push_str(&String::from_utf8_lossy(valid));
                taken += error.valid_up_to();
                match error.error_len() {
                    Some(length) => {
                        out.push('\u{fffd}');
                        taken += length;
                    }
                    None => return taken,
                }
            }
        }
    }
}
