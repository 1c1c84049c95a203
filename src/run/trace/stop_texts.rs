//! Texts that end a trace which writes them in what it says.

use tts_evals::answer::{THINK_END, ThinkingSplitter};

use crate::run::problem::ToText;
use crate::run::rules::StoppingRules;

/// Looks for stop texts in the text of a trace as it grows.
///
/// They are looked for in what a reply shows: not in the thinking and, unless the text is raw, not in the
/// white space before the first word. One that begins with `</think>` ends a trace whose thinking ends, and
/// which goes on as the stop text does.
pub(super) struct StopSearch {
    splitter: ThinkingSplitter,
    to_text: ToText,
    text: String,
    /// tokens that the text is made of
    tokens: usize,
    /// bytes of the text that were searched
    searched: usize,
}

impl StopSearch {
    pub(super) fn new(rules: &StoppingRules, to_text: ToText) -> Self {
        Self {
            splitter: ThinkingSplitter::new(rules.starts_in_thinking),
            to_text,
            text: String::new(),
            tokens: 0,
            searched: 0,
        }
    }

    /// Takes in the tokens that came since the last time, of all tokens so far.
    pub(super) fn read_tokens(&mut self, ids: &[u32]) {
        for id in ids.get(self.tokens..).unwrap_or_default() {
            let more = (self.to_text)(*id);
            self.splitter.push(&more);
            self.text.push_str(&more);
        }
        self.tokens = ids.len();
    }

    /// Takes in the text that came since the last time, of all text so far.
    pub(super) fn read_text(&mut self, text: &str) {
        let more = text.get(self.text.len()..).unwrap_or_default();
        self.splitter.push(more);
        self.text.push_str(more);
    }

    /// Where in the text the first stop text begins, if one is complete.
    pub(super) fn find(&mut self, rules: &StoppingRules) -> Option<usize> {
        let from = match self.splitter.said_from() {
            // the white space at the beginning of a raw text is part of it, whatever comes
            None if rules.raw && !self.splitter.is_thinking() => 0,
            from => from?,
        };
        let said = &self.text[from..];
        let begin = match rules.raw {
            true => from,
            false => self.text.len() - said.trim_start().len(),
        };
        let ends_thinking = |stop: &String| {
            from > 0
                && stop.strip_prefix(THINK_END).is_some_and(|after| match rules.raw {
                    true => said.starts_with(after),
                    false => self.text[begin..].starts_with(after.trim_start()),
                })
        };
        if rules.stop_texts.iter().any(ends_thinking) {
            return Some(from);
        }
        let longest = rules.stop_texts.iter().map(String::len).max()?;
        let again = self
            .text
            .floor_char_boundary(self.searched.saturating_sub(longest));
        let area = again.max(begin);
        self.searched = self.text.len();
        let found = rules
            .stop_texts
            .iter()
            .filter_map(|stop| self.text[area..].find(stop.as_str()));
        found.min().map(|at| area + at)
    }
}
