//! Splits a reasoning model's text into what it thought and what it said.
//!
//! There is one definition, for streams, for whole replies and for the extraction of answers: everything
//! between `<think>` and the next `</think>` is thinking, all else is said, and the marks belong to neither.
//! Marks do not nest: models that find `<think>` in their prompt often write it once more, and close it once.
//! They count wherever they stand, in code too, because a model writes them as tokens of their own.

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
    thinking: bool,
    stop_texts: Vec<String>,
    /// the end of the text, which may be the beginning of a mark or of a stop text
    pending: String,
    /// bytes of the text before it
    at: usize,
    thought: String,
    said: String,
    /// where in the text that was thought, and that said
    thought_places: Vec<Range<usize>>,
    said_places: Vec<Range<usize>>,
}

impl ThinkingSplitter {
    /// A splitter of a text that is still to come. `starts_in_thinking` says whether the prompt before it
    /// already opened the thinking.
    pub fn new(starts_in_thinking: bool) -> Self {
        Self {
            verbatim: false,
            thinking: starts_in_thinking,
            stop_texts: Vec::new(),
            pending: String::new(),
            at: 0,
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
        loop {
            let mark = if self.verbatim { None } else { first_mark(rest) };
            let certain = match mark {
                Some((at, _)) => at,
                None if over => rest.len(),
                None => rest.len() - self.undecided(rest),
            };
            self.add(&rest[..certain]);
            rest = &rest[certain..];
            let Some((_, mark)) = mark else { break };
            self.at += mark.len();
            rest = &rest[mark.len()..];
            self.thinking = mark == THINK_START;
        }
        self.pending.push_str(rest);
    }

    /// Bytes at the end that may be the beginning of a mark or of a stop text.
    fn undecided(&self, rest: &str) -> usize {
        let marks: &[&str] = match self.verbatim {
            true => &[],
            false => &[THINK_START, THINK_END],
        };
        let stop_texts = self.stop_texts.iter().map(String::as_str);
        let all = marks.iter().copied().chain(stop_texts);
        all.map(|whole| begun(rest, whole)).max().unwrap_or(0)
    }

    /// Adds text that is certain to what is thought or said.
    fn add(&mut self, text: &str) {
        self.at += text.len();
        let (part, places) = if self.thinking {
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
        self.thinking
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

/// Where the stretch of said text at the end of a text begins; `None` where the text ends in thinking.
/// `thinking` says whether the text before it did.
pub fn last_said(text: &str, thinking: bool) -> Option<usize> {
    let (opened, closed) = (text.rfind(THINK_START), text.rfind(THINK_END));
    match (opened, closed) {
        (None, None) => (!thinking).then_some(0),
        _ if opened > closed => None,
        _ => closed.map(|at| at + THINK_END.len()),
    }
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
    fn all_that_is_not_between_marks_is_said() {
        for (text, inside, thought, said) in [
            ("<think>a\nb</think>\n\n42 ", false, "a\nb", "42"),
            // a prompt that opens the thinking, and a model that opens it once more
            ("a</think>42", true, "a", "42"),
            ("<think>a</think>42", true, "a", "42"),
            // several thoughts
            ("a</think>b<think>c</think>d", true, "ac", "bd"),
            ("a</think> b <think>c</think> d", true, "ac", "b  d"),
            ("a<think>b</think>c<think>d</think>e", false, "bd", "ace"),
            // marks do not nest; one that closes nothing is dropped
            ("<think>a<think>b</think>c</think>d", false, "ab", "cd"),
            ("a</think>b", false, "", "ab"),
            // thinking that does not end
            ("half a thought", true, "half a thought", ""),
            ("so <think>half</thi", false, "half</thi", "so"),
            ("a</think>b<think>c", true, "ac", "b"),
            // marks in code are marks
            ("`<think>` opens", false, "` opens", "`"),
            (
                "<think>the mark `</think>` ends</think>it",
                false,
                "the mark `",
                "` endsit",
            ),
            (" plain <3 ", false, "", "plain <3"),
            ("<<think>a<</think>", false, "a<", "<"),
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
        assert_eq!(whole("a</think>b<think>c</think>d"), of("ac", "bd"));
        assert_eq!(whole("a<think>b</think>c"), of("b", "ac"));
        assert_eq!(solution("a</think>b<think>c</think>d"), "bd");
        assert_eq!(solution("a</think>\n42\n"), "42");
        assert_eq!(solution("<think>half "), "<think>half");
        assert_eq!(solution("<think>a</think>"), "");
        assert_eq!(solution(" 7 "), "7");
    }

    #[test]
    fn the_last_stretch_that_is_said_is_found() {
        for (text, thinking, from) in [
            ("a", false, Some(0)),
            ("a", true, None),
            ("a</think>b", true, Some(9)),
            ("a</think>b<think>c", false, None),
            ("<think>a</think>b</think>", false, Some(25)),
        ] {
            assert_eq!(last_said(text, thinking), from, "{text}");
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
                prop_assert_eq!(last_said(&text, inside).is_none(), whole.is_thinking());
            }
        }
    }
}
