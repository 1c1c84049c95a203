//! Splits a reasoning model's text into what it thought and what it said.
//!
//! There is one definition, for streams, for whole replies and for the extraction of answers: thinking begins
//! where the prompt opened it or where `<think>` is the first thing that the text says, and ends with the
//! first `</think>`. These marks belong to neither part. All else is said: an answer may speak of the marks.
//! Marks do not nest: models that find `<think>` in their prompt often write it once more, and close it once.

use std::ops::Range;

/// Opens a model's thinking.
pub const THINK_START: &str = "<think>";
/// Closes a model's thinking.
pub const THINK_END: &str = "</think>";

/// Splits a text that arrives in pieces into thinking and what is said.
///
/// After any piece, [`said`](Self::said) and [`thought`](Self::thought) are beginnings of what they will be
/// later, however the text goes on, so they can be streamed: what may be the beginning of a mark waits. After
/// [`finish`](Self::finish) they are the final texts. Both are trimmed of white space at both ends. Time is
/// linear in the text.
///
/// ```
/// use tts_evals::answer::ThinkingSplitter;
/// let mut splitter = ThinkingSplitter::new(false);
/// for piece in ["<thi", "nk>2 and 2", "</think>4"] {
///     splitter.push(piece);
/// }
/// splitter.finish();
/// assert_eq!((splitter.thought(), splitter.said()), ("2 and 2", "4"));
/// ```
#[derive(Clone, Debug)]
pub struct ThinkingSplitter {
    verbatim: bool,
    part: Part,
    stop_texts: Vec<String>,
    /// the end of the text, which may be the beginning of a mark or of a stop text
    pending: String,
    /// bytes of the text before it
    at: usize,
    /// bytes of the text up to the end of its thinking, mark included
    thinking_end: Option<usize>,
    thought: String,
    said: String,
    /// where in the text that was thought, and that said
    thought_places: Vec<Range<usize>>,
    said_places: Vec<Range<usize>>,
}

/// What a text has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Its beginning: white space, or less than a mark.
    Beginning,
    Thinking,
    /// What is said, to the end of the text.
    Said,
}

impl ThinkingSplitter {
    /// A splitter of a text that is still to come. `starts_in_thinking` says whether the prompt before it
    /// already opened the thinking.
    pub fn new(starts_in_thinking: bool) -> Self {
        Self {
            verbatim: false,
            part: if starts_in_thinking {
                Part::Thinking
            } else {
                Part::Beginning
            },
            stop_texts: Vec::new(),
            pending: String::new(),
            at: 0,
            thinking_end: None,
            thought: String::new(),
            said: String::new(),
            thought_places: Vec::new(),
            said_places: Vec::new(),
        }
    }

    /// A splitter that takes everything as said, marks and white space included: the text of a raw
    /// completion.
    pub fn verbatim() -> Self {
        Self {
            verbatim: true,
            part: Part::Said,
            ..Self::new(false)
        }
    }

    /// A whole text, split. Where the prompt is not known, `starts_in_thinking` is false; a text that closes
    /// thinking which it did not open is then taken to begin inside of it.
    pub fn whole(text: &str, starts_in_thinking: bool) -> Self {
        let mut splitter = Self::new(starts_in_thinking || closes_unopened(text));
        splitter.push(text);
        splitter.finish();
        splitter
    }

    /// Holds back what may be the beginning of one of these texts, which would end the text before it.
    #[must_use]
    pub fn holding_back(mut self, stop_texts: Vec<String>) -> Self {
        self.stop_texts = stop_texts;
        self
    }

    /// Takes in the next piece of the text.
    pub fn push(&mut self, piece: &str) {
        self.pending.push_str(piece);
        self.advance(false);
    }

    /// Bytes of the text so far.
    pub fn len(&self) -> usize {
        self.at + self.pending.len()
    }

    /// Whether there is no text yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes back what goes beyond the first `len` bytes of the text, as far as it was held back: a stop text
    /// that was completed is no part of the text.
    pub fn truncate(&mut self, len: usize) {
        let mut kept = len.saturating_sub(self.at).min(self.pending.len());
        while !self.pending.is_char_boundary(kept) {
            kept -= 1;
        }
        self.pending.truncate(kept);
    }

    /// Ends the text: what might have become a mark or a stop text was none.
    pub fn finish(&mut self) {
        self.advance(true);
    }

    fn advance(&mut self, over: bool) {
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_str();
        if self.part == Part::Beginning {
            // white space at the beginning belongs to neither part
            let text = rest.trim_start();
            self.at += rest.len() - text.len();
            rest = text;
            if let Some(thinking) = rest.strip_prefix(THINK_START) {
                self.at += THINK_START.len();
                rest = thinking;
                self.part = Part::Thinking;
            } else if over || !THINK_START.starts_with(rest) {
                self.part = Part::Said;
            }
        }
        while self.part == Part::Thinking {
            let mark = first_mark(rest);
            let certain = match mark {
                Some((at, _)) => at,
                None if over => rest.len(),
                None => rest.len() - begun(rest, THINK_START).max(begun(rest, THINK_END)),
            };
            self.add(&rest[..certain]);
            rest = &rest[certain..];
            let Some((_, mark)) = mark else { break };
            self.at += mark.len();
            rest = &rest[mark.len()..];
            if mark == THINK_END {
                self.part = Part::Said;
                self.thinking_end = Some(self.at);
            }
        }
        if self.part == Part::Said {
            let undecided = if over { 0 } else { self.undecided(rest) };
            let certain = rest.len() - undecided;
            self.add(&rest[..certain]);
            rest = &rest[certain..];
        }
        self.pending.push_str(rest);
    }

    /// Bytes at the end of what is said that may be the beginning of a stop text.
    fn undecided(&self, rest: &str) -> usize {
        let of = |stop: &String| {
            // one that begins with the mark ends a text that goes on behind it so
            let after_mark = stop
                .strip_prefix(THINK_END)
                .filter(|_| self.thinking_end.is_some());
            match after_mark {
                Some(after) if self.said.is_empty() && after.trim_start().starts_with(rest.trim_start()) => {
                    rest.len()
                }
                _ => begun(rest, stop),
            }
        };
        self.stop_texts.iter().map(of).max().unwrap_or(0)
    }

    /// Adds text that is certain to what is thought or said.
    fn add(&mut self, text: &str) {
        self.at += text.len();
        let (part, places) = if self.part == Part::Thinking {
            (&mut self.thought, &mut self.thought_places)
        } else {
            (&mut self.said, &mut self.said_places)
        };
        let new = if part.is_empty() && !self.verbatim {
            text.trim_start()
        } else {
            text
        };
        if new.is_empty() {
            return;
        }
        part.push_str(new);
        let new = self.at - new.len()..self.at;
        match places.last_mut() {
            Some(last) if last.end == new.start => last.end = new.end,
            _ => places.push(new),
        }
    }

    fn trimmed<'a>(&self, part: &'a str) -> &'a str {
        if self.verbatim { part } else { part.trim_end() }
    }

    /// The thinking so far.
    pub fn thought(&self) -> &str {
        self.trimmed(&self.thought)
    }

    /// What is said so far.
    pub fn said(&self) -> &str {
        self.trimmed(&self.said)
    }

    /// Whether the text so far ends inside the thinking.
    pub fn is_thinking(&self) -> bool {
        self.part == Part::Thinking
    }

    /// Bytes of the text before the first that is said, white space included, once anything may be: those of
    /// the thinking with its marks.
    pub fn said_from(&self) -> Option<usize> {
        (self.part == Part::Said).then(|| self.thinking_end.unwrap_or(0))
    }

    /// Where in the text [`said`](Self::said) stands: ranges of bytes, in order, none next to another.
    pub fn places(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        first(&self.said_places, self.said().len())
    }

    /// Where in the text [`thought`](Self::thought) stands.
    pub fn thought_places(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        first(&self.thought_places, self.thought().len())
    }
}

/// The first `left` bytes of these places.
fn first(places: &[Range<usize>], mut left: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    places.iter().map_while(move |range| {
        let end = range.end.min(range.start + left);
        left -= end - range.start;
        (end > range.start).then_some(range.start..end)
    })
}

/// The text that shows a solution: what is said, trimmed. A text that ends in thinking before anything was
/// said is shown as it is, because there is nothing else to show.
pub fn solution(text: &str) -> String {
    let splitter = ThinkingSplitter::whole(text, false);
    match splitter.said() {
        "" if splitter.is_thinking() => text.trim().to_owned(),
        said => said.to_owned(),
    }
}

/// Whether a text closes thinking that it did not open: then it seems to begin inside of it.
pub fn closes_unopened(text: &str) -> bool {
    first_mark(text).is_some_and(|(_, mark)| mark == THINK_END)
}

/// The first mark of a text and where it stands.
fn first_mark(text: &str) -> Option<(usize, &'static str)> {
    text.match_indices('<').find_map(|(at, _)| {
        let mark = [THINK_START, THINK_END]
            .into_iter()
            .find(|mark| text[at..].starts_with(mark))?;
        Some((at, mark))
    })
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

    /// What a text says and thinks, in one piece and one character at a time.
    fn split(text: &str, inside: bool) -> (String, String) {
        let mut splitter = ThinkingSplitter::new(inside);
        splitter.push(text);
        splitter.finish();
        let mut slowly = ThinkingSplitter::new(inside);
        for c in text.chars() {
            slowly.push(c.encode_utf8(&mut [0; 4]));
        }
        slowly.finish();
        assert_eq!(
            (slowly.thought(), slowly.said()),
            (splitter.thought(), splitter.said())
        );
        let thought: String = splitter.thought_places().map(|place| &text[place]).collect();
        assert_eq!(thought, splitter.thought());
        let found: String = splitter.places().map(|place| &text[place]).collect();
        assert_eq!(found, splitter.said());
        (splitter.thought().to_owned(), found)
    }

    #[test]
    fn thinking_ends_with_the_first_mark_and_all_else_is_said() {
        for (text, inside, thought, said) in [
            ("<think>a\nb</think>\n\n42 ", false, "a\nb", "42"),
            (" \n<think>a</think>42", false, "a", "42"),
            // a prompt that opens the thinking, and a model that opens it once more
            ("a</think>42", true, "a", "42"),
            ("<think>a</think>42", true, "a", "42"),
            // marks do not nest
            ("<think>a<think>b</think>c</think>d", false, "ab", "c</think>d"),
            // an answer may speak of them
            (
                "<think>ab</think>\n\nThe tag <think> starts it, \\boxed{4}.",
                false,
                "ab",
                "The tag <think> starts it, \\boxed{4}.",
            ),
            ("a</think>b<think>c</think>d", true, "a", "b<think>c</think>d"),
            ("a</think> b <think>c", true, "a", "b <think>c"),
            ("a</think>b</thi", true, "a", "b</thi"),
            (
                "The tag <think> starts it",
                false,
                "",
                "The tag <think> starts it",
            ),
            ("a</think>b", false, "", "a</think>b"),
            ("`<think>` opens", false, "", "`<think>` opens"),
            ("so <think>half</thi", false, "", "so <think>half</thi"),
            // thinking that does not end, and what is none yet
            ("half a thought</thi", true, "half a thought</thi", ""),
            ("<thin", false, "", "<thin"),
            (
                "<think>the mark `</think>` ends</think>it",
                false,
                "the mark `",
                "` ends</think>it",
            ),
            (" plain <3 ", false, "", "plain <3"),
            ("<<think>a<</think>", false, "", "<<think>a<</think>"),
            ("<think></think>", false, "", ""),
            ("", true, "", ""),
        ] {
            assert_eq!(
                split(text, inside),
                (thought.to_owned(), said.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_whole_text_may_begin_inside() {
        let whole = |text| {
            let splitter = ThinkingSplitter::whole(text, false);
            (splitter.thought().to_owned(), splitter.said().to_owned())
        };
        let of = |thought: &str, said: &str| (thought.to_owned(), said.to_owned());
        assert_eq!(
            whole("a</think>b<think>c</think>d"),
            of("a", "b<think>c</think>d")
        );
        assert_eq!(whole("a<think>b</think>c"), of("", "a<think>b</think>c"));
        assert_eq!(solution("a</think>b<think>c</think>d"), "b<think>c</think>d");
        assert_eq!(solution("a</think>\n42\n"), "42");
        assert_eq!(solution("<think>half "), "<think>half");
        assert_eq!(solution("<think>a</think>"), "");
        assert_eq!(solution(" 7 "), "7");
    }

    #[test]
    fn what_is_said_begins_behind_the_thinking() {
        for (text, thinking, from) in [
            ("a", false, Some(0)),
            (" <th", false, None),
            ("a", true, None),
            ("a</think>b", true, Some(9)),
            ("a</think>b<think>c", true, Some(9)),
            (" <think>a</think>b</think>", false, Some(17)),
        ] {
            let mut splitter = ThinkingSplitter::new(thinking);
            splitter.push(text);
            assert_eq!(splitter.said_from(), from, "{text}");
        }
    }

    #[test]
    fn a_stop_text_that_begins_with_the_mark_waits_behind_it() {
        let mut splitter = ThinkingSplitter::new(true).holding_back(vec!["</think>\nThe".to_owned()]);
        for (more, said) in [
            ("a</think>", ""),
            ("\n", ""),
            ("\nTh", ""),
            ("is", "This"),
            ("The", "ThisThe"),
        ] {
            splitter.push(more);
            assert_eq!(splitter.said(), said, "{more}");
        }
    }

    #[test]
    fn what_may_be_a_stop_text_waits() {
        let stop_texts = vec!["END".to_owned(), "\u{e4}\u{f6}".to_owned()];
        let mut splitter = ThinkingSplitter::verbatim().holding_back(stop_texts);
        for (more, said) in [
            ("a E", "a "),
            ("N", "a "),
            ("\u{e4}", "a EN"),
            ("E", "a EN\u{e4}"),
        ] {
            splitter.push(more);
            assert_eq!(splitter.said(), said);
        }
        let mut stopped = splitter.clone();
        splitter.finish();
        assert_eq!(splitter.said(), "a EN\u{e4}E");
        // the rest came at once, and was one: the text ends before it
        stopped.truncate("a EN\u{e4}".len());
        stopped.finish();
        assert_eq!((stopped.said(), stopped.len()), ("a EN\u{e4}", 6));
    }

    #[test]
    fn a_verbatim_text_is_said_as_it_stands() {
        let mut splitter = ThinkingSplitter::verbatim();
        splitter.push(" <think>a</think> ");
        splitter.finish();
        assert_eq!((splitter.said(), splitter.thought()), (" <think>a</think> ", ""));
    }

    const PIECES: &[&str] = &[
        "<think>",
        "</think>",
        "<",
        "</",
        "think>",
        " ",
        "\n",
        "a",
        "\u{1f600}",
        "STOP",
        "ST",
    ];

    proptest! {
        #[test]
        fn a_text_in_pieces_is_the_whole(
            pieces in vec(prop::sample::select(PIECES), 0..20),
            inside: bool,
            verbatim: bool,
        ) {
            let new = || if verbatim { ThinkingSplitter::verbatim() } else { ThinkingSplitter::new(inside) };
            let text = pieces.concat();
            let mut whole = new();
            whole.push(&text);
            whole.finish();
            let mut split = new().holding_back(vec!["STOP".to_owned()]);
            let mut before = (String::new(), String::new());
            for piece in &pieces {
                split.push(piece);
                prop_assert!(split.thought().starts_with(&before.0) && split.said().starts_with(&before.1));
                prop_assert!(whole.thought().starts_with(split.thought()));
                prop_assert!(whole.said().starts_with(split.said()));
                before = (split.thought().to_owned(), split.said().to_owned());
            }
            split.finish();
            prop_assert_eq!((split.thought(), split.said()), (whole.thought(), whole.said()));
            let found: String = split.places().map(|place| &text[place]).collect();
            prop_assert_eq!(found, split.said());
            if !verbatim {
                let from = whole.said_from();
                prop_assert_eq!(from.is_none(), whole.is_thinking());
                let said = from.map_or("", |from| text[from..].trim());
                prop_assert_eq!(said, whole.said());
            }
        }
    }
}
