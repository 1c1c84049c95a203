//! A box that is a part of a longer formula: the term that it belongs to.

use crate::math::form::Form;
use crate::math::read;
use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

/// How far from a box its term is looked for.
const MAX_REACH: usize = 300;

/// Commands whose arguments make one value with them.
const VALUES: [&str; 10] = [
    "\\sqrt", "\\frac", "\\dfrac", "\\tfrac", "\\cfrac", "\\binom", "\\dbinom", "\\tbinom", "^", "_",
];

/// Commands that end a term: relations, arrows, space, words.
const ENDS: [&str; 50] = [
    "le",
    "leq",
    "leqslant",
    "ge",
    "geq",
    "geqslant",
    "lt",
    "gt",
    "ne",
    "neq",
    "approx",
    "equiv",
    "sim",
    "simeq",
    "cong",
    "to",
    "implies",
    "iff",
    "Rightarrow",
    "rightarrow",
    "Longrightarrow",
    "longrightarrow",
    "Leftarrow",
    "leftarrow",
    "Leftrightarrow",
    "leftrightarrow",
    "therefore",
    "because",
    "quad",
    "qquad",
    "in",
    "notin",
    "mid",
    "subset",
    "subseteq",
    "colon",
    "mapsto",
    "hfill",
    "par",
    "newline",
    "item",
    "hline",
    "tag",
    "label",
    "star",
    "bullet",
    "checkmark",
    "square",
    "blacksquare",
    "qed",
];

/// Commands whose argument is words.
const WORDS: [&str; 13] = [
    "text",
    "textbf",
    "textit",
    "textrm",
    "textsf",
    "texttt",
    "mbox",
    "hbox",
    "mathrm",
    "operatorname",
    "begin",
    "end",
    "hspace",
];

/// A box between what stands to its left and right in the same formula, or in the same run of characters.
pub(super) struct Place<'a> {
    pub(super) text: &'a str,
    pub(super) whole: Range<usize>,
    /// Whether the text is a formula; otherwise it is words, among which only what touches the box counts.
    pub(super) formula: bool,
}

impl<'a> Place<'a> {
    /// Where a box stands: in one of these formulas, or among words.
    pub(super) fn find(text: &'a str, whole: &Range<usize>, formulas: &[Range<usize>]) -> Self {
        let at = formulas.partition_point(|f| f.start <= whole.start);
        let inside = at.checked_sub(1).map(|at| formulas[at].clone());
        let formula = inside.filter(|f| f.end >= whole.end);
        let within = match &formula {
            Some(formula) => formula.clone(),
            None => run(text, whole),
        };
        let mut low = whole.start.saturating_sub(MAX_REACH).max(within.start);
        let mut high = (whole.end + MAX_REACH).min(within.end);
        while !text.is_char_boundary(low) {
            low += 1;
        }
        while !text.is_char_boundary(high) {
            high -= 1;
        }
        Self {
            text: &text[low..high],
            whole: whole.start - low..whole.end - low,
            formula: formula.is_some(),
        }
    }

    /// The term with the box's braces taken off; none where the box is all of it, or where it is no value.
    pub(super) fn term(&self, inside: &str) -> Option<String> {
        static NUMBER: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^\d+(?:[.,]\d+)*$").expect("a constant pattern"));
        static MARK: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^\(\w{1,3}\)$").expect("a constant pattern"));
        if inside.len() > MAX_REACH || inside.contains(['=', '<', '>', '$', '\n']) {
            return None;
        }
        let segment = self.segment()?;
        let before = spaceless(self.text.get(segment.start..self.whole.start)?);
        let after = spaceless(self.text.get(self.whole.end..segment.end)?);
        if after.is_empty() && matches!(before, "" | "-" | "−" | "+" | "\\pm" | "±" | "\\$" | "{") {
            return None;
        }
        // Two boxes side by side are no product.
        let boxed = |s: &str| s.starts_with("\\boxed") || s.starts_with("\\fbox");
        if boxed(after) || (before.ends_with('}') && boxed(before)) {
            return None;
        }
        if MARK.is_match(before) || (!self.formula && !touches(before, after)) {
            return None;
        }
        let glued = before.ends_with(|c: char| c.is_ascii_digit());
        let inner = if NUMBER.is_match(inside) && !glued {
            inside.to_owned()
        } else {
            format!("({inside})")
        };
        let term = format!("{before}{inner}{after}");
        let form = read(&term)?;
        let same = match (&form, read(inside)) {
            (Form::Text(_), _) => true,
            (form, Some(own)) => match (form.quantity(), own.quantity()) {
                (Some((a, _)), Some((b, _))) => a == b,
                _ => *form == own,
            },
            (_, None) => true,
        };
        (!same).then_some(term)
    }

    /// From the end of the term before to the beginning of the one behind.
    fn segment(&self) -> Option<Range<usize>> {
        let text = self.text;
        let mut start = 0;
        // Open brackets: whether they make a value with what is before them, and where the term around began.
        let mut open: Vec<(bool, usize)> = Vec::new();
        let mut depth_of_box = None;
        let mut i = 0;
        while i < text.len() {
            if i == self.whole.start {
                depth_of_box = Some(open.len());
                i = self.whole.end;
                continue;
            }
            let rest = &text[i..];
            let c = rest.chars().next()?;
            let behind = depth_of_box.is_some_and(|depth| open.len() <= depth);
            let (length, ends) = match c {
                '\\' => {
                    let n = rest[1..].bytes().take_while(u8::is_ascii_alphabetic).count();
                    let name = &rest[1..=n];
                    match rest[1..].chars().next() {
                        _ if WORDS.contains(&name) => self.words(i, n + 1),
                        _ if n > 0 => (n + 1, ENDS.contains(&name)),
                        Some('{') => {
                            open.push((false, start));
                            if depth_of_box.is_none() {
                                start = i + 2;
                            }
                            (2, false)
                        }
                        Some('}') => {
                            let Some((_, outer)) = open.pop() else {
                                return depth_of_box.map(|_| start..i);
                            };
                            if behind {
                                return Some(start..i);
                            }
                            if depth_of_box.is_none() {
                                start = outer;
                            }
                            (2, false)
                        }
                        Some('\\') => (2, true),
                        Some(next) => (1 + next.len_utf8(), false),
                        None => (1, true),
                    }
                }
                '{' | '(' | '[' => {
                    let lead = text[..i].trim_end();
                    let value = (c == '{'
                        && (VALUES.iter().any(|v| lead.ends_with(v)) || lead.ends_with(['}', ']'])))
                        || (c == '[' && lead.ends_with("\\sqrt"));
                    open.push((value, start));
                    if !value && depth_of_box.is_none() {
                        start = i + 1;
                    }
                    (1, false)
                }
                '}' | ')' | ']' => match open.pop() {
                    None if behind => return Some(start..i),
                    None => (1, true),
                    Some((value, outer)) => {
                        if behind && !value {
                            return Some(start..i);
                        }
                        if let Some(depth) = &mut depth_of_box {
                            *depth = (*depth).min(open.len());
                        } else {
                            start = outer;
                        }
                        (1, false)
                    }
                },
                ',' => (1, !self.groups_digits(i)),
                '.' => (1, !self.is_point(i)),
                '=' | '<' | '>' | ';' | ':' | '&' | '"' | '`' | '#' | '~' | '!' => (1, true),
                // emphasis, and no product
                '*' | '_' if !self.formula && !self.multiplies(i) => (1, true),
                c if c.is_ascii_alphabetic() => {
                    let n = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
                    (n, n > 1)
                }
                c if !c.is_ascii() => {
                    let sign = matches!(
                        c,
                        '−' | '×' | '·' | '÷' | '√' | '±' | 'π' | '⁄' | '²' | '³' | '°' | '∞'
                    );
                    (c.len_utf8(), !sign)
                }
                _ => (1, false),
            };
            if ends {
                match depth_of_box {
                    // Inside other brackets nothing ends.
                    Some(depth) if open.len() <= depth => return Some(start..i),
                    Some(_) => {}
                    None => start = i + length,
                }
            }
            i += length;
        }
        depth_of_box.map(|_| start..text.len())
    }

    /// A group of words: where it ends, and that it ends a term; the box may stand inside.
    fn words(&self, at: usize, name: usize) -> (usize, bool) {
        let rest = &self.text[at + name..];
        let gap = rest.len() - rest.trim_start_matches(['*', ' ']).len();
        let end = rest[gap..].strip_prefix('{').and_then(|inner| inner.find('}'));
        match end {
            Some(end) if at >= self.whole.end || at + name + gap + end + 2 <= self.whole.start => {
                (name + gap + end + 2, true)
            }
            _ => (name, true),
        }
    }

    /// Whether an asterisk here stands alone before a digit.
    fn multiplies(&self, at: usize) -> bool {
        let after = &self.text[at + 1..];
        self.text[at..].starts_with('*')
            && at == self.whole.end
            && after.starts_with(|c: char| c.is_ascii_digit())
    }

    /// Whether a comma here stands between groups of three digits.
    fn groups_digits(&self, at: usize) -> bool {
        let (before, after) = (&self.text[..at], &self.text[at + 1..]);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        digits == 3 && (at == self.whole.end || before.ends_with(|c: char| c.is_ascii_digit()))
    }

    /// Whether a full stop here is the point of a decimal.
    fn is_point(&self, at: usize) -> bool {
        let before = at == self.whole.end || self.text[..at].ends_with(|c: char| c.is_ascii_digit());
        let after = self.text[at + 1..].starts_with(|c: char| c.is_ascii_digit());
        before && (after || (self.formula && at + 1 == self.whole.start))
    }
}

/// The characters around a box up to white space.
fn run(text: &str, whole: &Range<usize>) -> Range<usize> {
    let left = &text[..whole.start];
    let left = if left.trim_end().ends_with('{') {
        left.trim_end()
    } else {
        left
    };
    let mut low = left.len();
    for c in left
        .chars()
        .rev()
        .take(MAX_REACH)
        .take_while(|c| !c.is_whitespace())
    {
        low -= c.len_utf8();
    }
    let right = &text[whole.end..];
    let gap = right.len() - right.trim_start().len();
    let gap = if right[gap..].starts_with('}') { gap } else { 0 };
    let mut high = whole.end + gap;
    for c in right[gap..]
        .chars()
        .take(MAX_REACH)
        .take_while(|c| !c.is_whitespace())
    {
        high += c.len_utf8();
    }
    low..high
}

/// Without the space around it.
fn spaceless(text: &str) -> &str {
    let mut s = text.trim();
    loop {
        let before = s.len();
        for space in [
            "\\,",
            "\\;",
            "\\:",
            "\\!",
            "\\ ",
            "\\left",
            "\\right",
            "\\displaystyle",
        ] {
            s = s.strip_prefix(space).unwrap_or(s).trim_start();
            s = s.strip_suffix(space).unwrap_or(s).trim_end();
        }
        if s.len() == before {
            return s;
        }
    }
}

/// Whether what touches a box among words makes one value with it: `2\boxed{5}`, `\boxed{5},000`, `1/\boxed{5}`.
fn touches(before: &str, after: &str) -> bool {
    static BEFORE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(?:|\\\$|[-−+]?\d+(?:[.,]\d+)*|(?:\d+(?:\.\d+)?|[a-z])[-−+/×·]|.*\\(?:sqrt|[dtc]?frac|binom)\b.*)$")
            .expect("a constant pattern")
    });
    static AFTER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(?:|(?:,\d{3})+(?:\.\d+)?|\.\d+|[-−+/*×·^][\da-z\\({].*|[abciknxyz]|\}.*|\\(?:cdot|times|sqrt|frac|div)\b.*)$")
            .expect("a constant pattern")
    });
    BEFORE.is_match(before) && AFTER.is_match(after)
}
