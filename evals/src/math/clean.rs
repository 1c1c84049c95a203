//! Takes the typography out of an answer: delimiters, spacing, fonts, Unicode look-alikes.

use regex::{Captures, Regex};
use std::sync::LazyLock;

macro_rules! pattern {
    ($re:expr) => {{
        static RE: LazyLock<Regex> = LazyLock::new(|| Regex::new($re).expect("a constant pattern"));
        &*RE
    }};
}

/// What a Unicode character is written as in LaTeX.
fn ascii(c: char) -> Option<&'static str> {
    let digit = |n: u32| &"0123456789"[n as usize..=n as usize];
    Some(match c {
        '０'..='９' => digit(c as u32 - '０' as u32),
        // mathematical digits: five fonts, one after the other
        '\u{1d7ce}'..='\u{1d7ff}' => digit((c as u32 - 0x1d7ce) % 10),
        '−' | '–' | '—' | '‐' | '‑' => "-",
        '×' | '⋅' | '·' | '∗' | '•' => "*",
        '÷' | '∕' | '⁄' => "/",
        '√' => "\\sqrt ",
        'π' => "\\pi ",
        '∞' => "\\infty ",
        '≤' | '⩽' => "\\le ",
        '≥' | '⩾' => "\\ge ",
        '≠' => "\\ne ",
        '≈' => "\\approx ",
        '∈' => "\\in ",
        '∪' => "\\cup ",
        '∩' => "\\cap ",
        '±' => "\\pm ",
        '°' => "^\\circ ",
        '∅' => "\\emptyset ",
        '½' => "\\frac{1}{2}",
        '¼' => "\\frac{1}{4}",
        '¾' => "\\frac{3}{4}",
        '²' => "^{2}",
        '³' => "^{3}",
        '’' | '′' => "'",
        '€' | '£' | '¥' | '\u{200b}' | '\u{feff}' => "",
        '％' => "%",
        '，' | '、' => ", ",
        '：' => ":",
        '（' => "(",
        '）' => ")",
        '\u{a0}' | '\u{2009}' | '\u{202f}' => " ",
        'θ' => "\\theta ",
        'α' => "\\alpha ",
        'β' => "\\beta ",
        'ω' => "\\omega ",
        'λ' => "\\lambda ",
        'φ' => "\\phi ",
        _ => return None,
    })
}

/// One line of plain LaTeX. Linear in the text.
pub(crate) fn clean(text: &str) -> String {
    let mut s = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match ascii(c) {
            Some(replacement) => s.push_str(replacement),
            None => s.push(c),
        }
    }
    // Backslashes doubled by another tool; in a matrix a double backslash ends a row.
    let doubled = !s.contains("\\begin") && s.contains("\\\\");
    if doubled {
        s = pattern!(r"\\\\([A-Za-z$%{}(\[,;!])")
            .replace_all(&s, "\\$1")
            .into_owned();
    }
    // Thousands: 14{,}916, 32,\! 349
    s = pattern!(r"(\d)(?:\{,\}|,\\!)\s*(\d{3})")
        .replace_all(&s, "$1,$2")
        .into_owned();
    s = pattern!(r"(\d)\{,\}\s*(\d{3})")
        .replace_all(&s, "$1,$2")
        .into_owned();
    s = pattern!(r"\\!").replace_all(&s, "").into_owned();
    s = pattern!(r"\\(?:[,;:>]|q?quad\b|enspace\b|thinspace\b|hspace\{[^{}]*\}|hfill\b|space\b)|~")
        .replace_all(&s, " ")
        .into_owned();
    s = pattern!(r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|bigl?|bigr|Bigl?|Bigr|biggl?|biggr|Biggl?|Biggr|rm|bf|it|boldsymbol|ensuremath|phantom\{[^{}]*\})(?:\b|$)").replace_all(&s, "").into_owned();
    s = pattern!(r"\\(?:left|right|middle)\s*(\\[A-Za-z{}|]|[()\[\]|.<>/])")
        .replace_all(&s, |c: &Captures<'_>| match &c[1] {
            "." => " ".to_owned(),
            delimiter => format!(" {delimiter} "),
        })
        .into_owned();
    s = pattern!(r"\\\$|\\\(|\\\)|\\\[|\\\]|\$")
        .replace_all(&s, " ")
        .into_owned();
    s = pattern!(
        r"\\(?:mathrm|mathbf|mathit|mathsf|mathtt|operatorname\*?|textbf|textit|textrm|textsf|texttt|emph|mbox|hbox|textnormal)(\s*\{)"
    )
    .replace_all(&s, "\\text$1")
    .into_owned();
    s = pattern!(r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b")
        .replace_all(&s, "\\degree ")
        .into_owned();
    s = pattern!(r"(?i)\b(?:pct|percent|per cent)\b")
        .replace_all(&s, "%")
        .into_owned();
    s = pattern!(r"\s+").replace_all(&s, " ").into_owned();
    let mut s = s.trim();
    loop {
        let before = s;
        s = s
            .trim_end_matches(['.', ',', ';', ':', ' ', '!'])
            .trim_start_matches([',', ';', ' ']);
        // A factorial is not punctuation.
        if before.trim_end_matches(['.', ' ']).ends_with('!')
            && before
                .trim_end_matches(['.', ' ', '!'])
                .ends_with(|c: char| c.is_alphanumeric() || matches!(c, ')' | '}'))
        {
            s = before
                .trim_end_matches(['.', ' '])
                .trim_start_matches([',', ';', ' ']);
        }
        if s.ends_with('\\') && !s.ends_with("\\\\") {
            s = &s[..s.len() - 1];
        }
        if s == before {
            return s.to_owned();
        }
    }
}

/// A matrix of one column without its rows.
pub(crate) fn without_rows(cleaned: &str) -> Option<String> {
    let inner = pattern!(r"^\\begin\{matrix\}(.*)\\end\{matrix\}$").captures(cleaned)?;
    let flat = pattern!(r"\\\\|\\text\s*\{\s*\}").replace_all(&inner[1], " ");
    Some(clean(&pattern!(r"\\log\s+_").replace_all(&flat, "\\log_")))
}

/// The key of an answer that is not mathematics: letters and digits, case and spacing ignored.
pub(crate) fn text_key(text: &str) -> String {
    let unwrapped =
        pattern!(r"\\(?:text|mathrm|textbf|textit|mbox|mathbf)\s*\{([^{}]*)\}").replace_all(text, " $1 ");
    let mut key = String::with_capacity(unwrapped.len());
    let mut after_word = false;
    let mut pending_space = false;
    for c in unwrapped.trim().chars() {
        if c.is_whitespace() || matches!(c, '$') {
            pending_space = true;
            continue;
        }
        // Spaces count only between two words.
        let is_word = c.is_alphanumeric();
        if pending_space && after_word && is_word {
            key.push(' ');
        }
        pending_space = false;
        after_word = is_word;
        key.extend(c.to_lowercase());
    }
    let trimmed = key.trim_end_matches(['.', ',', ';', '!']);
    if trimmed.is_empty() {
        key
    } else {
        trimmed.to_owned()
    }
}
