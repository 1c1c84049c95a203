//! Answers that are not mathematics, and mathematics whose lines were broken.

use regex::Regex;
use std::sync::LazyLock;

macro_rules! pattern {
    ($re:expr) => {{
        static RE: LazyLock<Regex> = LazyLock::new(|| Regex::new($re).expect("a constant pattern"));
        &*RE
    }};
}

/// A matrix of one column without its rows: an expression broken over them, a habit of some models.
pub(super) fn without_rows(folded: &str) -> Option<String> {
    let inner = folded
        .trim()
        .strip_prefix("\\begin{matrix}")?
        .strip_suffix("\\end{matrix}")?;
    if inner.contains("\\begin") {
        return None;
    }
    let flat = pattern!(r"\\\\|\\text\s*\{\s*\}|\\,").replace_all(inner, " ");
    Some(pattern!(r"\\log\s+_").replace_all(&flat, "\\log_").into_owned())
}

/// The key of an answer that is not mathematics: letters and digits, case and spacing ignored. Of formulas
/// the case counts.
pub(crate) fn key(text: &str) -> String {
    let folded = super::unicode::fold(text);
    let folded = pattern!(r"\\[lc]?dots\b\s*").replace_all(&folded, "...");
    let folded =
        pattern!(r"\\(mathbb|mathcal|mathbf|mathrm)\s*([A-Za-z])\b").replace_all(&folded, "\\$1{$2}");
    let unwrapped = pattern!(r"\\(?:text|mathrm|textbf|textit|mbox|mathbf|operatorname)\*?\s*\{([^{}]*)\}")
        .replace_all(&folded, " $1 ");
    let formula = unwrapped.contains('\\');
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
        if formula {
            key.push(c);
        } else {
            key.extend(c.to_lowercase());
        }
    }
    let trimmed = key.trim_end_matches(['.', ',', ';', '!']);
    if trimmed.is_empty() {
        return key;
    }
    // A list that goes on is another one.
    if super::label::goes_on(&key) {
        return key;
    }
    // "No solutions" says what "there is no solution" does.
    if let Some(none) = pattern!(
        r"^(?:there (?:is|are) |it has |has )?no ([a-z]+ )?(solution|root|value|answer)s?(?: exists?)?$"
    )
    .captures(trimmed)
    {
        return format!("no {}{}", none.get(1).map_or("", |m| m.as_str()), &none[2]);
    }
    trimmed.to_owned()
}
