//! A trace's text told apart, whole or as it is written: its thinking, and what it says outside of it.

use std::ops::Range;

const THINK_START: &str = "<think>";
const THINK_END: &str = "</think>";

/// How texts are told apart.
#[derive(Clone, Debug)]
pub(super) enum Apart {
    /// Everything is said, just as it stands.
    No,
    /// Thinking stands between its marks. Neither part begins or ends with white space.
    Thinking {
        /// Whether a text begins inside of it.
        inside: bool,
    },
}

/// The parts of a text as far as it is written. What is certain at one time is the beginning of what is
/// certain at any later time.
#[derive(Debug)]
pub(super) struct Parts {
    apart: Apart,
    thinks: bool,
    /// texts that would end it: the beginning of one is held back
    stops: Vec<String>,
    text: String,
    /// up to here it is told apart
    at: usize,
    thought: String,
    said: String,
    /// where in the text it was said
    from: Vec<Range<usize>>,
}

impl Parts {
    /// Of a text that is yet to be written.
    pub(super) fn new(apart: Apart, stops: Vec<String>) -> Self {
        Self {
            thinks: matches!(apart, Apart::Thinking { inside: true }),
            apart,
            stops,
            text: String::new(),
            at: 0,
            thought: String::new(),
            said: String::new(),
            from: Vec::new(),
        }
    }

    /// Of a whole text.
    pub(super) fn of(text: &str, apart: Apart) -> Self {
        let mut parts = Self::new(apart, Vec::new());
        parts.push(text);
        parts.end();
        parts
    }

    /// The text goes on.
    pub(super) fn push(&mut self, more: &str) {
        self.text.push_str(more);
        self.go_on(false);
    }

    /// The text is over: what looked like the beginning of a mark or a stop text was none.
    pub(super) fn end(&mut self) {
        self.go_on(true);
    }

    fn go_on(&mut self, over: bool) {
        loop {
            let rest = &self.text[self.at..];
            let mark = match self.apart {
                Apart::No => None,
                Apart::Thinking { .. } => first_mark(rest),
            };
            let held = if over { 0 } else { self.held(rest) };
            let certain = mark.map_or(rest.len() - held, |(at, _)| at);
            self.add(self.at..self.at + certain);
            self.at += certain;
            let Some((_, mark)) = mark else { return };
            self.at += mark.len();
            self.thinks = mark == THINK_START;
        }
    }

    /// Bytes at the end that may be the beginning of a mark or of a stop text.
    fn held(&self, rest: &str) -> usize {
        let marks: &[&str] = match self.apart {
            Apart::No => &[],
            Apart::Thinking { .. } => &[THINK_START, THINK_END],
        };
        let all = marks.iter().copied().chain(self.stops.iter().map(String::as_str));
        all.map(|whole| begun(rest, whole)).max().unwrap_or(0)
    }

    fn add(&mut self, range: Range<usize>) {
        let part = if self.thinks {
            &mut self.thought
        } else {
            &mut self.said
        };
        let trims = part.is_empty() && !matches!(self.apart, Apart::No);
        let all = &self.text[range.clone()];
        let new = if trims { all.trim_start() } else { all };
        if !new.is_empty() {
            part.push_str(new);
            if !self.thinks {
                self.from.push(range.end - new.len()..range.end);
            }
        }
    }

    fn shown<'a>(&self, part: &'a str) -> &'a str {
        match self.apart {
            Apart::No => part,
            Apart::Thinking { .. } => part.trim_end(),
        }
    }

    /// Its thinking.
    pub(super) fn thought(&self) -> &str {
        self.shown(&self.thought)
    }

    /// What it says.
    pub(super) fn said(&self) -> &str {
        self.shown(&self.said)
    }

    /// Where in the text that stands.
    pub(super) fn places(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut left = self.said().len();
        self.from.iter().map_while(move |range| {
            let end = range.end.min(range.start + left);
            left -= end - range.start;
            (end > range.start).then_some(range.start..end)
        })
    }
}

/// Whether a text seems to begin inside the thinking: it ends what it did not begin.
pub(super) fn begins_inside(text: &str) -> bool {
    first_mark(text).is_some_and(|(_, mark)| mark == THINK_END)
}

/// The first mark of a text and where it stands.
fn first_mark(text: &str) -> Option<(usize, &'static str)> {
    let at = |mark: &'static str| text.find(mark).map(|at| (at, mark));
    at(THINK_START).into_iter().chain(at(THINK_END)).min()
}

/// The length of the longest beginning of `whole`, but not all of it, that a text ends with.
fn begun(text: &str, whole: &str) -> usize {
    let most = text.len().min(whole.len().saturating_sub(1));
    let ends = |n: &usize| text.as_bytes().ends_with(&whole.as_bytes()[..*n]);
    (1..=most).rev().find(ends).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn thinking_is_told_from_the_answer() {
        let read = |text: &str, inside| {
            let parts = Parts::of(text, Apart::Thinking { inside });
            let found: String = parts.places().map(|place| &text[place]).collect();
            assert_eq!(found, parts.said());
            (parts.thought().to_owned(), found)
        };
        let told = |thought: &str, said: &str| (thought.to_owned(), said.to_owned());
        assert_eq!(read("<think>a\nb</think>\n\n42 ", false), told("a\nb", "42"));
        assert_eq!(read("a</think>42", true), told("a", "42"));
        assert_eq!(read("<think>a</think>42", true), told("a", "42"));
        assert_eq!(read("a</think> b <think>c</think> d", true), told("ac", "b  d"));
        assert_eq!(read("half a thought", true), told("half a thought", ""));
        assert_eq!(read("<think>half</thi", false), told("half</thi", ""));
        assert_eq!(read(" plain <3 ", false), told("", "plain <3"));
        assert_eq!(read("<think></think>", false), told("", ""));
        assert_eq!(read("", true), told("", ""));
        let whole = Parts::of(" <think>a</think> ", Apart::No);
        assert_eq!((whole.said(), whole.thought()), (" <think>a</think> ", ""));
    }

    #[test]
    fn what_may_be_a_stop_text_waits() {
        let mut parts = Parts::new(Apart::No, vec!["END".to_owned(), "\u{e4}\u{f6}".to_owned()]);
        for (more, said) in [
            ("a E", "a "),
            ("N", "a "),
            ("\u{e4}", "a EN"),
            ("E", "a EN\u{e4}"),
        ] {
            parts.push(more);
            assert_eq!(parts.said(), said);
        }
        parts.end();
        assert_eq!(parts.said(), "a EN\u{e4}E");
    }

    proptest! {
        #[test]
        fn a_text_in_pieces_is_the_whole(
            pieces in vec(prop::sample::select(&["<think>", "</think>", "<", "</", "think>", " ", "\n", "a", "\u{1f600}", "STOP", "ST"][..]), 0..20),
            inside: bool,
            thinking: bool,
        ) {
            let apart = if thinking { Apart::Thinking { inside } } else { Apart::No };
            let text = pieces.concat();
            let whole = Parts::of(&text, apart.clone());
            let mut parts = Parts::new(apart, vec!["STOP".to_owned()]);
            let mut before = (String::new(), String::new());
            for piece in &pieces {
                parts.push(piece);
                prop_assert!(parts.thought().starts_with(&before.0) && parts.said().starts_with(&before.1));
                prop_assert!(whole.thought().starts_with(parts.thought()) && whole.said().starts_with(parts.said()));
                before = (parts.thought().to_owned(), parts.said().to_owned());
            }
            parts.end();
            prop_assert_eq!((parts.thought(), parts.said()), (whole.thought(), whole.said()));
            let found: String = parts.places().map(|place| &text[place]).collect();
            prop_assert_eq!(found, parts.said());
        }
    }
}
