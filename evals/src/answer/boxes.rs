//! Boxes in a text, and what belongs to one from beside it: a sign, a unit, a factor.

use super::beside::Place;
use super::scan;
use crate::math::form::Form;
use crate::math::read;
use num_traits::One;
use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

/// One closed box: the whole of `\boxed{...}` and what stands between its braces.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BoxSpan {
    whole: Range<usize>,
    inner: Range<usize>,
}

/// The outermost closed boxes in order of their ends; boxes that are empty or only mentioned are left out.
///
/// One pass with a stack of open braces, so a text of nothing but `\boxed{` costs no more than any other.
fn closed_boxes(text: &str) -> Vec<BoxSpan> {
    static OPENING: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\\(?:boxed|fbox)\s*\{").expect("a constant pattern"));
    let bytes = text.as_bytes();
    let mut openings = OPENING.find_iter(text).peekable();
    let mut stack: Vec<Option<usize>> = Vec::new();
    let mut found: Vec<BoxSpan> = Vec::new();
    // The byte after each open brace on the stack, kept beside the box's own start.
    let mut inner_starts: Vec<usize> = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        if let Some(opening) = openings.next_if(|m| m.start() == i) {
            stack.push(Some(opening.start()));
            inner_starts.push(opening.end());
            i = opening.end();
            continue;
        }
        match bytes[i] {
            // An escaped brace is not a brace. `\\boxed`, a backslash doubled by some other tool, is still a
            // box.
            b'\\' => {
                i += match bytes.get(i + 1) {
                    Some(b'{' | b'}') => 2,
                    Some(b'\\') if openings.peek().is_none_or(|m| m.start() != i + 1) => 2,
                    _ => 1,
                };
                continue;
            }
            b'{' => {
                stack.push(None);
                inner_starts.push(i + 1);
            }
            b'}' => {
                let inner_start = inner_starts.pop();
                if let (Some(Some(start)), Some(inner_start)) = (stack.pop(), inner_start) {
                    found.push(BoxSpan {
                        whole: start..i + 1,
                        inner: inner_start..i,
                    });
                }
            }
            _ => {}
        }
        i += 1;
    }
    // A closing brace ends an inner box before an outer one: keep the outer.
    let mut outermost: Vec<BoxSpan> = Vec::new();
    for span in found {
        while outermost
            .last()
            .is_some_and(|last| last.whole.start > span.whole.start)
        {
            outermost.pop();
        }
        outermost.push(span);
    }
    outermost.retain(|span| !is_placeholder(unbox(&text[span.inner.clone()])));
    outermost
}

/// The content of `text` when the whole of it is a box, as often as boxes are nested.
pub(super) fn unbox(text: &str) -> &str {
    let mut text = text.trim();
    for _ in 0..8 {
        let Some(rest) = text
            .strip_prefix("\\boxed")
            .or_else(|| text.strip_prefix("\\fbox"))
        else {
            break;
        };
        let Some(inner) = rest
            .trim_start()
            .strip_prefix('{')
            .and_then(|r| r.strip_suffix('}'))
        else {
            break;
        };
        if !is_balanced(inner) {
            break;
        }
        text = inner.trim();
    }
    text
}

/// Whether every brace of `text` has its partner inside it (escaped braces do not count).
pub(super) fn is_balanced(text: &str) -> bool {
    let mut depth = 0usize;
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => {
                bytes.next();
            }
            b'{' => depth += 1,
            b'}' if depth == 0 => return false,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    depth == 0
}

/// A box that is talked about rather than filled in: `\boxed{}`, `\boxed{...}`, `\boxed{\text{answer}}`.
fn is_placeholder(inner: &str) -> bool {
    static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)^(?:\\[a-z]+\{)?[\s.…_?]*(?:\\[lc]?dots|\\square|\\ )?(?:(?:your|the|final|numeric(?:al)?)\s+)*(?:answer|result|solution)?[\s.…_?]*\}?$")
            .expect("a constant pattern")
    });
    inner.len() < 60 && PLACEHOLDER.is_match(inner)
}

/// The answer in the last closed box; neighbours in one list (`\boxed{1}, \boxed{2}`) are joined. A box that is
/// denied is none.
pub(super) fn last(text: &str) -> Option<String> {
    let spans: Vec<BoxSpan> = closed_boxes(text);
    if spans.is_empty() {
        return tagged(text).or_else(|| unbraced(text));
    }
    let kept: Vec<&BoxSpan> = spans
        .iter()
        .filter(|span| !is_denied(&text[..span.whole.start]) && !is_refuted(&text[span.whole.end..]))
        .collect();
    let last = kept.last()?;
    let formulas = scan::formulas(text);
    let mut list = vec![content(text, last, &formulas)];
    for pair in kept.windows(2).rev() {
        if !joins(text, pair[0], pair[1]) {
            break;
        }
        list.push(content(text, pair[0], &formulas));
    }
    list.reverse();
    list.dedup();
    Some(list.join(", "))
}

/// What all the boxes of an answer hold; none where there is no box in it.
pub(super) fn all(answer: &str) -> Option<String> {
    static WORD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?:^|[^\\A-Za-z])[A-Za-z]{2,}").expect("a constant pattern"));
    if !answer.contains("box") {
        return None;
    }
    // An answer without words is a formula as a whole.
    let formulas = if answer.contains('$') || WORD.is_match(answer) {
        scan::formulas(answer)
    } else {
        std::iter::once(0..answer.len()).collect()
    };
    let mut contents: Vec<String> = closed_boxes(answer)
        .iter()
        .map(|span| content(answer, span, &formulas))
        .collect();
    contents.dedup();
    (!contents.is_empty()).then(|| contents.join(", "))
}

/// Some models write their box as a pair of special tokens.
fn tagged(text: &str) -> Option<String> {
    const OPEN: &str = "<|begin_of_box|>";
    let end = text.rfind("<|end_of_box|>")?;
    let start = text[..end].rfind(OPEN)? + OPEN.len();
    Some(text[start..end].to_owned())
}

/// `\boxed 7`: a box without braces around one value.
fn unbraced(text: &str) -> Option<String> {
    static VALUE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\\(?:boxed|fbox)(?:\s+([-−]?\d[\d.,]*|[A-Za-z]\b)|([-−]?\d[\d.,]*))")
            .expect("a constant pattern")
    });
    let found = VALUE.captures_iter(text).last()?;
    let value = found.get(1).or_else(|| found.get(2))?.as_str();
    Some(value.trim_end_matches(['.', ',']).to_owned())
}

/// Whether two boxes are items of one list: with commas, "and", `\quad`, a `\text{}` with "and" between them, and
/// before each the same name or none.
fn joins(text: &str, one: &BoxSpan, other: &BoxSpan) -> bool {
    static SEPARATOR: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)^(?:\s|,|;|\$|\\\(|\\\)|\\,|\\;|\\:|\\!|\\ |\\q?quad|\b(?:and|or)\b|\\(?:text|mbox|textrm|mathrm)\{(?:[^{}]*\b(?:and|or)\s*|\s*)\})*?(?:([a-z](?:_\{?\w{1,3}\}?)?)\s*=\s*)?$",
        )
        .expect("a constant pattern")
    });
    let gap = &text[one.whole.end..other.whole.start];
    if gap.len() >= 200 || (gap.trim().is_empty() && gap.contains('\n')) {
        return false;
    }
    let Some(found) = SEPARATOR.captures(gap) else {
        return false;
    };
    let Some(name) = found.get(1).map(|name| name.as_str()) else {
        // boxes in formulas of their own are two answers, of which the last counts
        return !gap.contains('$') && !gap.contains("\\(") && !gap.contains("\\)");
    };
    let before = text[..one.whole.start].trim_end();
    let named = before.strip_suffix('=').map(str::trim_end);
    gap.len() > name.len() + 2
        && named
            .and_then(|before| before.strip_suffix(name))
            .is_some_and(|before| !before.ends_with(|c: char| c.is_alphanumeric() || c == '\\'))
}

/// Whether what stands before a value says that it is not the answer.
pub(super) fn is_denied(before: &str) -> bool {
    static DENIAL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)(?:\bnot|n['’]t|\bnever|\bcannot|\bneither|\bnor|\binstead of|\brather than|\\neq?|≠)(?:\s+(?:be|equal(?:\s+to)?|exactly|simply))*$",
        )
        .expect("a constant pattern")
    });
    let before = before.trim_end_matches(['$', ' ', '*', '(', '\\']);
    let from = (before.len().saturating_sub(60)..=before.len()).find(|at| before.is_char_boundary(*at));
    DENIAL.is_match(&before[from.unwrap_or(0)..])
}

/// Whether what stands behind a value says that it is wrong.
pub(super) fn is_refuted(after: &str) -> bool {
    static REFUTED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)^(?:\$|\\\)|\*|\s)*\(?(?:(?:is|are|was|were|would be|must be)\s+)?(?:clearly\s+|also\s+|obviously\s+)?(?:wrong|incorrect|false|invalid|impossible|extraneous|rejected|not\s+(?:the|an?|correct|right|valid|possible|allowed|it)\b|(?:isn|aren|wasn)['’]t\s+(?:the|an?|correct|right|valid|possible|allowed|it)\b)",
        )
        .expect("a constant pattern")
    });
    let to = (0..=after.len().min(80))
        .rev()
        .find(|at| after.is_char_boundary(*at));
    REFUTED.is_match(&after[..to.unwrap_or(0)])
}

/// What a box holds, with the sign before it and the unit or factor behind it, or the term that it belongs to.
fn content(text: &str, span: &BoxSpan, formulas: &[Range<usize>]) -> String {
    let inside = unbox(&text[span.inner.clone()]);
    if let Some(term) = Place::find(text, &span.whole, formulas).term(inside) {
        return term;
    }
    let sign = sign_before(&text[..span.whole.start]);
    let suffix = suffix(&text[span.whole.end..]);
    if sign.is_empty() && suffix.is_empty() {
        return inside.to_owned();
    }
    let inside = if needs_brackets(inside, &sign, suffix) {
        format!("({inside})")
    } else {
        inside.to_owned()
    };
    format!("{sign}{inside}{suffix}")
}

/// Whether a sign or a factor would bind only a part of what is inside.
fn needs_brackets(inside: &str, sign: &str, suffix: &str) -> bool {
    let factor = suffix.starts_with("\\pi") || suffix.starts_with("\\sqrt") || suffix.starts_with('π');
    (!sign.is_empty() || factor) && inside.get(1..).is_some_and(|rest| rest.contains(['+', '-']))
}

/// A minus or plus-minus sign directly before a box, which is no subtraction and no mark of a list.
fn sign_before(before: &str) -> String {
    let outer = before.trim_end_matches([' ', '{']);
    let (sign, rest) = if let Some(rest) = outer.strip_suffix("\\pm").or_else(|| outer.strip_suffix('±')) {
        ("\\pm ", rest)
    } else if let Some(rest) = outer.strip_suffix(['-', '−']) {
        ("-", rest)
    } else {
        return String::new();
    };
    let apart = outer.len() < before.len();
    let line = rest.trim_end_matches([' ', '\t']);
    // "- \boxed{5}" at the beginning of a line is an item of a list.
    if apart && sign == "-" && (line.is_empty() || line.ends_with('\n')) {
        return String::new();
    }
    let operand = rest.trim_end();
    let opens = operand
        .strip_suffix('$')
        .is_some_and(|r| r.is_empty() || r.ends_with(char::is_whitespace));
    let ends_value =
        operand.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ')' | '}' | ']' | '$' | '|' | '!'));
    // `\Rightarrow -\boxed{30}`: a command is no operand, but `\pi -` is
    let command = operand.rsplit_once('\\').is_some_and(|(_, name)| {
        let letters = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic());
        letters
            && (name.ends_with("arrow")
                || matches!(
                    name,
                    "to" | "implies" | "iff" | "therefore" | "quad" | "qquad" | "left"
                ))
    });
    if ends_value && !opens && !command {
        return String::new();
    }
    sign.to_owned()
}

/// A percent sign, a degree sign, a unit or a factor directly behind a box.
fn suffix(after: &str) -> &str {
    static NEAR: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(?:\\[,!])*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree\b|°|\\pi\b|π|\\sqrt\s*(?:\{[^{}]*\}|\d)|\\(?:cdot|times)\s*10\s*\^\s*(?:\{[-+]?\d+\}|\d)|\^\{?\d+\}?|![^!]?)",
        )
        .expect("a constant pattern")
    });
    static PERCENT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(?:\s|\$|\\[,;: ]|\\\)|\*)*(\\?%|pct\b|percent\b|per cent\b|\\(?:text|mathrm|textrm|mbox)\s*\{\s*(?:\\?%|percent)\s*\})")
            .expect("a constant pattern")
    });
    static WORDS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(?:\s|\\[,;: ]|~)*(\\(?:text|mathrm|textrm|mbox)\s*\{[^{}]{1,40}\}(?:\^\{?\d\}?)?)")
            .expect("a constant pattern")
    });
    static FACTOR: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(?:\$|\\[)]|\*)*(\s+(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore)s?\b)",
        )
        .expect("a constant pattern")
    });
    if let Some(found) = FACTOR.captures(after) {
        return found.get(1).map_or("", |m| m.as_str());
    }
    if let Some(found) = PERCENT.captures(after) {
        return found.get(1).map_or("", |m| m.as_str());
    }
    if let Some(found) = NEAR.find(after) {
        let found = found.as_str();
        // an exclamation mark that ends a sentence is no factorial
        return if found.starts_with('!') { "" } else { found };
    }
    if let Some(words) = WORDS.captures(after).and_then(|c| c.get(1)) {
        // A unit, or a number word.
        let counts = match read(&format!("1{}", words.as_str())) {
            Some(Form::Quantity(..)) => true,
            Some(Form::Expr(sum)) => sum.as_rational().is_some_and(|q| !q.is_one()),
            _ => false,
        };
        if counts {
            return words.as_str();
        }
    }
    ""
}
