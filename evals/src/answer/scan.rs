//! Single-pass scanners over a model's text: formulas, numbers, sentences. All are linear in the text.

use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

/// The formulas of a text, in order: `$$..$$`, `\[..\]` (these may span lines), `$..$`, `\(..\)` (one line).
///
/// A delimiter's next partner is looked up once and kept until it is passed, so many openings cost no more
/// than one.
pub(super) fn formulas(text: &str) -> Vec<Range<usize>> {
    let (mut displays, mut brackets) = (Finder::new("$$"), Finder::new("\\]"));
    let (mut parens, mut line_ends) = (Finder::new("\\)"), Finder::new("\n"));
    let mut found = Vec::new();
    let mut i = 0;
    while let Some(step) = text[i..].find(['$', '\\']) {
        i += step;
        let rest = &text[i..];
        let (open, close) = if rest.starts_with("$$") {
            (2, displays.after(text, i + 2))
        } else if rest.starts_with('$') {
            // "$5, so $" is money and the start of a formula.
            let money = |inner: &str| inner.starts_with(|c: char| c.is_ascii_digit()) && inner.ends_with(' ');
            let close = dollar_on_line(text, i + 1);
            (1, close.filter(|close| !money(&text[i + 1..*close])))
        } else if rest.starts_with("\\[") {
            (2, brackets.after(text, i + 2))
        } else if rest.starts_with("\\(") {
            let close = parens.after(text, i + 2);
            let end = line_ends.after(text, i + 2).unwrap_or(text.len());
            (2, close.filter(|close| *close < end))
        } else {
            // A command, or an escaped dollar sign.
            i += 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            continue;
        };
        match close.filter(|close| *close > i + open && !is_prose(&text[i + open..*close])) {
            Some(close) => {
                found.push(i + open..close);
                i = close + open;
            }
            // Money, or an opening that nothing closes.
            None => i += open,
        }
    }
    found
}

/// The next dollar sign on this line that is not escaped.
fn dollar_on_line(text: &str, from: usize) -> Option<usize> {
    let mut escaped = false;
    for (i, b) in text.as_bytes()[from..].iter().enumerate() {
        match b {
            b'\n' => return None,
            b'$' if !escaped => return Some(from + i),
            _ => {}
        }
        escaped = *b == b'\\' && !escaped;
    }
    None
}

/// Finds the next occurrence of a string from positions that only grow.
struct Finder {
    wanted: &'static str,
    next: Option<usize>,
}

impl Finder {
    fn new(wanted: &'static str) -> Self {
        Self {
            wanted,
            next: Some(0),
        }
    }

    fn after(&mut self, text: &str, from: usize) -> Option<usize> {
        // Position 0 means that nothing was looked up yet: a partner never stands there.
        if self.next.is_some_and(|next| next < from) {
            self.next = text[from..].find(self.wanted).map(|at| from + at);
        }
        self.next
    }
}

/// Two or more words in a row outside `\text{}`: what stands between two stray dollar signs.
fn is_prose(text: &str) -> bool {
    static WORDS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?:^|[^\\A-Za-z{])[A-Za-z]{2,}[,.]?\s+[A-Za-z]{3,}").expect("a constant pattern")
    });
    WORDS.is_match(text)
}

/// The last number of a text, with its sign, thousands separators, denominator or percent sign.
pub(super) fn last_number(text: &str) -> Option<Range<usize>> {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        const DIGITS: &str = r"(?:\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?|\.\d+)";
        Regex::new(&format!(
            r"\\[dtc]?frac\s*\{{\s*[-−]?{DIGITS}\s*\}}\s*\{{\s*{DIGITS}\s*\}}|{DIGITS}(?:\s?/\s?\d+(?:\.\d+)?|[eE][-+]?\d+\b)?(?:\s?\\?%)?"
        ))
        .expect("a constant pattern")
    });
    let mut last = None;
    for m in NUMBER.find_iter(text) {
        let before = &text[..m.start()];
        // A digit glued to a letter, an exponent or an index is a name, not a number.
        if before.ends_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '^' | '_')) {
            continue;
        }
        last = Some(with_sign(before, m.range()));
    }
    last
}

/// Takes a minus sign before the number when it cannot be a subtraction or a range.
fn with_sign(before: &str, number: Range<usize>) -> Range<usize> {
    let Some(sign) = before.chars().next_back().filter(|c| matches!(c, '-' | '−')) else {
        return number;
    };
    let start = number.start - sign.len_utf8();
    let operand = before[..start].trim_end().chars().next_back();
    if operand.is_some_and(|c| c.is_alphanumeric() || matches!(c, ')' | '}' | ']' | '$')) {
        number
    } else {
        start..number.end
    }
}

/// The first sentence of a text: up to a line's end, an ideographic full stop, or a full stop before a space,
/// none of them inside braces or a formula's delimiters.
pub(super) fn first_sentence(text: &str) -> &str {
    // An odd dollar sign is money, not the start of a formula.
    sentence(text, true)
        .or_else(|| sentence(text, false))
        .unwrap_or(text)
}

fn sentence(text: &str, dollars_delimit: bool) -> Option<&str> {
    let mut depth = 0usize;
    let mut in_dollars = false;
    let mut chars = text.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, '(' | '[')) => depth += 1,
                Some((_, ')' | ']')) => depth = depth.saturating_sub(1),
                _ => {}
            },
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '$' if dollars_delimit => {
                // Two dollar signs are one delimiter.
                chars.next_if(|(_, next)| *next == '$');
                in_dollars = !in_dollars;
            }
            '。' => return Some(&text[..i]),
            '\n' if depth == 0 && !in_dollars => return Some(&text[..i]),
            '.' if depth == 0 && !in_dollars && chars.peek().is_none_or(|(_, n)| n.is_whitespace()) => {
                // An ellipsis belongs to what it continues.
                let end = if text[..i].ends_with("..") { i + 1 } else { i };
                return Some(&text[..end]);
            }
            '!' if depth == 0 && !in_dollars => {
                let after = text[i..].trim_start_matches('!');
                if after.is_empty() || after.starts_with(char::is_whitespace) {
                    return Some(&text[..i]);
                }
            }
            _ => {}
        }
    }
    (!in_dollars).then_some(text)
}
