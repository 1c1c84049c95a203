//! What looks like mathematics and is none: dates, ranges, telephone numbers, codes, lists that go on.

use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

macro_rules! pattern {
    ($re:expr) => {{
        static RE: LazyLock<Regex> = LazyLock::new(|| Regex::new($re).expect("a constant pattern"));
        &*RE
    }};
}

/// Labels are short.
const MAX_LABEL: usize = 60;

/// Whether a text is a name, a date or a code made of letters and digits: `2023-03-05`, `4–6`, `555-1234`, `H2O`,
/// `v1.2`, `NE`.
pub(crate) fn is_label(text: &str) -> bool {
    if text.len() > MAX_LABEL {
        return false;
    }
    let text = bare(text);
    is_dashed(text) || is_code(text)
}

/// Without delimiters and the command that says that it is words.
fn bare(text: &str) -> &str {
    let mut s = text.trim().trim_matches('$').trim();
    for (open, close) in [
        ("\\(", "\\)"),
        ("\\text{", "}"),
        ("\\mathrm{", "}"),
        ("\\textbf{", "}"),
        ("\\mathbf{", "}"),
    ] {
        if let Some(inner) = s.strip_prefix(open).and_then(|s| s.strip_suffix(close)) {
            s = inner.trim();
        }
    }
    s.trim_end_matches(['.', ',', ';'])
}

/// Dates, ranges and telephone numbers. A plain `4-6` is a difference.
fn is_dashed(text: &str) -> bool {
    let first = |c: char| c.is_ascii_digit() || c == '(' || c == '+';
    if !text.starts_with(first) || !text.contains(['-', '–', '—', '‒', '/', '.']) {
        return false;
    }
    // 4–6, written with a dash that is no minus sign
    pattern!(r"^\d[\d.,]*\s*[–—‒]\s*\d[\d.,]*(?:\s*\\text\s*\{[a-zA-Z .]*\}|\s*[a-zA-Z]{2,}[a-zA-Z .]*)?$").is_match(text)
        // 4-6 weeks
        || pattern!(r"^\d+(?:\.\d+)?-\d+(?:\.\d+)?\s*(?:\\[,; ]\s*)?(?:\\(?:text|mathrm)\s*\{\s*[a-zA-Z][a-zA-Z .]*\}|\s[a-zA-Z]{2,}[a-zA-Z .]*)$")
            .is_match(text)
        // 2020-01, 555-1234
        || pattern!(r"^\d+-0\d*$|^\d{3,5}-\d{4}$").is_match(text)
        // 2023-03-05, 555-123-4567
        || pattern!(r"^\d+(?:-\d+){2,}$").is_match(text)
        || pattern!(r"^(?:\+\d{1,3}[ -]?)?\(\d{3}\)[ -]?\d{3}-?\d{4}$").is_match(text)
        // 1/1/2000
        || pattern!(r"^\d{1,2}/\d{1,2}/(?:\d{4}|\d{2})$|^\d{4}/\d{1,2}/\d{1,2}$").is_match(text)
        // 1.1.2000
        || pattern!(r"^\d{1,4}\.\d{1,2}\.\d{1,4}$").is_match(text)
}

/// Letters and digits in an order that counts.
fn is_code(text: &str) -> bool {
    let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'{' | b'}' | b'-');
    if !text.bytes().all(part) || !text.contains(|c: char| c.is_ascii_alphabetic()) {
        return false;
    }
    // a number with an exponent, or in another base
    if pattern!(
        r"^\d+(?:\.\d+)?[eE][-+]?\d+$|^0[xX][0-9a-fA-F]+$|^0[bB][01]+$|^0[oO][0-7]+$|^0[dD]\d+$|^\d+[CP]\d+$"
    )
    .is_match(text)
    {
        return false;
    }
    // A1B2, v1.2, x2
    pattern!(r"^[A-Za-z0-9.]*[A-Za-z]\d[A-Za-z0-9.]*$").is_match(text)
        // A-1, B-52
        || pattern!(r"^[A-Z]{1,4}-\d+[A-Z]?$").is_match(text)
        // NE
        || pattern!(r"^[NS]{1,2}[EW]$|^[EW][NS]{1,2}$|^[EW][NS][EW]$").is_match(text)
        // H_2O
        || (text.contains('_') && pattern!(r"^(?:[A-Z][a-z]?(?:_(?:\d|\{\d+\}))?){2,}$").is_match(text))
}

/// Whether a text ends with an ellipsis that says something: `1, 2, 3, ...`, `0.1010010001...`; not `5...`.
pub(super) fn goes_on(text: &str) -> bool {
    text.trim_end()
        .strip_suffix("...")
        .is_some_and(|rest| rest.contains([',', '.', ';', '+']))
}

/// Other ways to write binomial coefficients: `5C2`, `C(5,2)`, `{}_5C_2`.
pub(super) fn binomials(text: &str) -> Cow<'_, str> {
    if !text.contains('C') {
        return Cow::Borrowed(text);
    }
    pattern!(r"^\s*(\d{1,4})C(\d{1,4})\s*$")
        .captures(text)
        .or_else(|| {
            pattern!(r"^\s*(?:\{\s*\})?\s*[_^]\s*\{?(\d{1,4})\}?\s*C\s*_\s*\{?(\d{1,4})\}?\s*$")
                .captures(text)
        })
        .or_else(|| pattern!(r"^\s*C\s*\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)\s*$").captures(text))
        .map_or(Cow::Borrowed(text), |found| {
            Cow::Owned(format!("\\binom{{{}}}{{{}}}", &found[1], &found[2]))
        })
}
