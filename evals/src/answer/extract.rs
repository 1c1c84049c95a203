//! Where in a text the answer stands.

use super::dress::undress;
use super::scan;
use super::thinking::{THINK_END, THINK_START, ThinkingSplitter};
use super::{boxes, statement};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

/// How an answer was found; counted in reports, because a guess is worth less than a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ExtractionPath {
    /// The last closed `\boxed{}` or `\fbox{}`; neighbours in one list (`\boxed{1}, \boxed{2}`) are joined.
    Boxed,
    /// After "the final answer is", "Answer:" and the like.
    FinalAnswer,
    /// After GSM8K's `####`.
    Hashes,
    /// The last formula, when no number follows it.
    LastFormula,
    /// The last number.
    LastNumber,
    /// The last free-standing capital letter from A to J.
    LastLetter,
    /// The user's regular expression.
    Pattern,
    /// The user's own function.
    Custom,
}

impl ExtractionPath {
    /// The name used in JSON and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boxed => "boxed",
            Self::FinalAnswer => "final-answer",
            Self::Hashes => "hashes",
            Self::LastFormula => "last-formula",
            Self::LastNumber => "last-number",
            Self::LastLetter => "last-letter",
            Self::Pattern => "pattern",
            Self::Custom => "custom",
        }
    }
}

/// An answer and the way it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extraction {
    /// The answer as written, trimmed.
    pub answer: String,
    /// How it was found.
    pub path: ExtractionPath,
    /// True when it stood only in the thinking, not in the text after it.
    pub inside_thinking: bool,
}

/// Where to look, in order.
#[derive(Clone, Debug)]
pub struct ExtractRules {
    /// What is tried, in this order; the first that finds something wins.
    pub steps: Vec<ExtractionPath>,
    /// Whether to look inside the thinking when the text after it holds no answer.
    pub inside_thinking: bool,
    /// Whether the text is known to start inside the thinking, because the prompt already opened `<think>`.
    /// Where it is not known, a text that closes thinking which it did not open is taken to start inside.
    pub starts_in_thinking: bool,
    /// What [`ExtractionPath::Pattern`] looks for: its last match; the group `answer`, else group 1, else the
    /// whole match.
    pub pattern: Option<Regex>,
}

impl Default for ExtractRules {
    /// Every path, from the surest to the wildest guess.
    fn default() -> Self {
        use ExtractionPath::{Boxed, FinalAnswer, Hashes, LastFormula, LastNumber};
        Self::steps(&[Boxed, FinalAnswer, Hashes, LastFormula, LastNumber])
    }
}

impl ExtractRules {
    /// These steps in this order, inside the thinking too.
    pub fn steps(steps: &[ExtractionPath]) -> Self {
        Self {
            steps: steps.to_vec(),
            inside_thinking: true,
            starts_in_thinking: false,
            pattern: None,
        }
    }

    /// Closed boxes only: what contests ask for.
    pub fn boxed() -> Self {
        Self::steps(&[ExtractionPath::Boxed])
    }

    /// A letter: boxed, announced, or the last one that stands alone.
    pub fn choice() -> Self {
        Self::steps(&[
            ExtractionPath::Boxed,
            ExtractionPath::FinalAnswer,
            ExtractionPath::LastLetter,
        ])
    }

    /// The user's pattern and nothing else (see [`compile_pattern`]).
    pub fn pattern(pattern: Regex) -> Self {
        Self {
            pattern: Some(pattern),
            ..Self::steps(&[ExtractionPath::Pattern])
        }
    }
}

/// A regular expression that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the answer pattern `{pattern}` is not a usable regular expression: {source}")]
pub struct PatternError {
    pattern: String,
    source: Box<regex::Error>,
}

/// Compiles a user's pattern, with a bound on its size. `.` matches no line end unless `(?s)` says so.
///
/// # Errors
/// When it is not a regular expression, or one that compiles to more than a megabyte.
pub fn compile_pattern(pattern: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(pattern)
        .size_limit(1 << 20)
        .build()
        .map_err(|source| PatternError {
            pattern: pattern.to_owned(),
            source: Box::new(source),
        })
}

/// Finds the answer: in what was said first, then, if the rules allow it, inside the thinking (see
/// [`ThinkingSplitter`] for what is which).
///
/// Only closed boxes count: the word "boxed", an unclosed box or an empty one is no answer. A text that
/// speaks of a box but never closes one is not searched for a last number either: that would be a guess
/// at something the model did not get to say. Time is linear in the text.
pub fn extract(text: &str, rules: &ExtractRules) -> Option<Extraction> {
    let split = ThinkingSplitter::whole(text, rules.starts_in_thinking);
    let found = |region: &str, inside_thinking| {
        let (answer, path) = rules
            .steps
            .iter()
            .find_map(|&step| Some((run(step, region, rules)?, step)))?;
        Some(Extraction {
            answer,
            path,
            inside_thinking,
        })
    };
    found(&without_asides(split.said()), false).or_else(|| {
        if rules.inside_thinking {
            found(&joined(text, split.thought_places()), true)
        } else {
            None
        }
    })
}

/// What is said, without thinking that was opened once more behind the first: up to where it is closed, or,
/// behind a box, to the end.
fn without_asides(said: &str) -> Cow<'_, str> {
    let (mut kept, mut rest) = (Cow::Borrowed(""), said);
    while let Some((before, aside)) = rest.split_once(THINK_START)
        && let Some((_, after)) = aside.split_once(THINK_END)
    {
        kept.to_mut().push_str(before);
        kept.to_mut().push_str("\n\n");
        rest = after;
    }
    if let Some((before, _)) = rest.split_once(THINK_START)
        && (boxes::last(before).is_some() || boxes::last(&kept).is_some())
    {
        rest = before;
    }
    if kept.is_empty() {
        return Cow::Borrowed(rest);
    }
    kept.to_mut().push_str(rest);
    kept
}

/// These places of a text, as paragraphs of their own: a number or a list of boxes ends where its place does.
fn joined(text: &str, mut places: impl Iterator<Item = Range<usize>>) -> Cow<'_, str> {
    let Some(first) = places.next() else {
        return Cow::Borrowed("");
    };
    let mut joined = Cow::Borrowed(&text[first]);
    for place in places {
        let joined = joined.to_mut();
        joined.push_str("\n\n");
        joined.push_str(&text[place]);
    }
    joined
}

fn run(step: ExtractionPath, text: &str, rules: &ExtractRules) -> Option<String> {
    let answer = match step {
        ExtractionPath::Boxed => boxes::last(text),
        ExtractionPath::FinalAnswer => statement::final_answer(text),
        ExtractionPath::Hashes => hashes(text),
        ExtractionPath::LastFormula => last_formula(text),
        ExtractionPath::LastNumber => last_number(text),
        ExtractionPath::LastLetter => last_letter(text),
        ExtractionPath::Pattern => pattern(text, rules.pattern.as_ref()?),
        ExtractionPath::Custom => None,
    }?;
    // The user's own pattern says exactly what is wanted.
    let answer = match step {
        ExtractionPath::Pattern => answer.trim(),
        _ => undress(&answer),
    };
    let whole = match step {
        ExtractionPath::Pattern => !answer.is_empty(),
        ExtractionPath::FinalAnswer | ExtractionPath::Hashes => !statement::is_cut(answer),
        _ => !statement::says_nothing(answer),
    };
    whole.then(|| answer.to_owned())
}

fn hashes(text: &str) -> Option<String> {
    static HASHES: LazyLock<Regex> = LazyLock::new(|| {
        // A heading such as "#### 3. Compute" is not an answer.
        Regex::new(r"(?m)(?:^|[^#])####[ \t]*([-+−]?[ \t]?[$\\(\[]*[-−]?[ \t]?(?:\d|\.\d|\\|[a-z]\b)[^\n]*)$")
            .expect("a constant pattern")
    });
    static HEADING: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\d+[.)]\s+\S").expect("a constant pattern"));
    let line = HASHES.captures_iter(text).last()?.get(1)?.as_str().trim();
    (!HEADING.is_match(line)).then(|| line.trim_end_matches('.').to_owned())
}

/// Whether the text speaks of a box that it never closes.
fn promises_a_box(text: &str) -> bool {
    static BOX: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\\?\b(?:boxed|fbox)\b").expect("a constant pattern"));
    BOX.is_match(text)
}

pub(super) fn last_formula(text: &str) -> Option<String> {
    let formula = scan::formulas(text).pop()?;
    if promises_a_box(text) || statement::leads_nowhere(text) {
        return None;
    }
    // A number after the formula is nearer to the end, and so to the answer.
    let later_number = scan::last_number(&text[formula.end..]).is_some();
    (!later_number && text[formula.clone()].chars().any(char::is_alphanumeric))
        .then(|| text[formula].to_owned())
}

pub(super) fn last_number(text: &str) -> Option<String> {
    if promises_a_box(text) || statement::leads_nowhere(text) {
        return None;
    }
    let number = scan::last_number(text)?;
    let before = &text[..number.start];
    if boxes::is_denied(before) {
        // 5, not 6
        let sentence = before.rfind(['.', '\n', '?', '!']).map_or(0, |at| at + 1);
        let other = scan::last_number(&before[sentence..])?;
        return (!boxes::is_denied(&before[sentence..sentence + other.start]))
            .then(|| before[sentence..][other].to_owned());
    }
    // The right-hand side of an equation that ends with the number, such as "= -1013 ln 2026", is one value.
    static VALUE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"[=≈]\s*([-−+]?\s*(?:[\d.,]+|[a-zπ√^*/·×()+−-]|\s(?:ln|log|sqrt|sin|cos|tan|pi|exp)\s|\s)*)$",
        )
        .expect("a constant pattern")
    });
    let line_start = text[..number.start].rfind('\n').map_or(0, |at| at + 1);
    let line = &text[line_start..number.end];
    let value = VALUE
        .captures(line)
        .and_then(|c| c.get(1))
        .map(|m| m.as_str().trim());
    let words = |s: &str| {
        s.split(|c: char| !c.is_alphabetic()).any(|w| {
            w.len() > 1 && !matches!(w, "ln" | "log" | "sqrt" | "sin" | "cos" | "tan" | "pi" | "exp")
        })
    };
    match value {
        Some(value)
            if !value.is_empty()
                && !words(value)
                && boxes::is_balanced(value)
                && value.matches('(').count() == value.matches(')').count() =>
        {
            Some(value.to_owned())
        }
        _ => Some(text[number].to_owned()),
    }
}

fn last_letter(text: &str) -> Option<String> {
    static LETTER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b([A-J])\b").expect("a constant pattern"));
    // "A" and "I" are also words: count them only where no lower-case word follows.
    let is_word = |end: usize, letter: &str| {
        matches!(letter, "A" | "I")
            && text[end..]
                .strip_prefix(' ')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    let denied = |start: usize| {
        let before = text[..start].trim_end();
        ["not", "n't", "不是", "non"]
            .iter()
            .any(|no| before.ends_with(no))
    };
    let letters = LETTER.captures_iter(text).filter_map(|c| c.get(1)).filter(|m| {
        !is_word(m.end(), m.as_str()) && !denied(m.start()) && !boxes::is_refuted(&text[m.end()..])
    });
    letters.last().map(|m| m.as_str().to_owned())
}

fn pattern(text: &str, pattern: &Regex) -> Option<String> {
    let found = pattern.captures_iter(text).last()?;
    let group = found
        .name("answer")
        .or_else(|| found.get(1))
        .or_else(|| found.get(0))?;
    Some(group.as_str().to_owned())
}
