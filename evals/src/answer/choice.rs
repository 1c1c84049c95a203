//! The letter of a multiple-choice question.

use super::boxes;
use super::dress::undress;
use super::reading::strip_math;
use crate::math::text;
use regex::Regex;
use std::sync::LazyLock;

/// The letter of a choice: `(C)`, `C.`, `C Cecile`, `Option C`, `The answer is (B)`. Two letters side by side
/// are no choice, nor is a letter in a formula.
pub(super) fn letter(answer: &str) -> Option<char> {
    static LEAD: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(?:(?:i|i'd|we|it's|it’s|that's|choose|chose|chosen|pick|picked|select|selected|say|the|my|so|thus|therefore|hence|it|is|are|final|correct|best|right|answer|option|choice|letter|would|be|must|选项?|选择|答案?|應該?是|为|為|是)(?:[\s:：,*_]+|\b)|[\s:：*_]+|答案|选|答|为|是)+",
        )
        .expect("a constant pattern")
    });
    static SECOND: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^[)\]}.\s]*(?:,|;|/|&|\+|\||、|，|or\b|and\b|nor\b|和|或|及)+\s*(?:or\b|and\b)?\s*[(\[]?[a-z](?:[)\]]|[^a-z0-9'’]|$)")
            .expect("a constant pattern")
    });
    static OTHER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^[)\]}.\s]*(?:(?:vs|versus|against|but not|minus|plus|without|except)\b|(?:[-−–—→∪∩×⊂⊆]|\\(?:cup|cap|setminus|times|to|subset|subseteq|land|lor|wedge|vee|rightarrow|cdot|circ)\b)\s*[(\[]?[a-z](?:[^a-z0-9'’]|$))",
        )
        .expect("a constant pattern")
    });
    let dressed = undress(strip_math(undress(answer)));
    let boxed = boxes::all(dressed);
    let said = boxed.as_deref().unwrap_or(dressed);
    let key = text::key(undress(strip_math(said)));
    // Long answers are no letters, and patterns are not tried on them.
    let key: String = key.chars().take(200).collect::<String>().to_lowercase();
    let trim = |s: &str| {
        s.trim_start_matches(['(', '[', '{', '*', '"', '`', ' ', '\''])
            .to_owned()
    };
    let mut text = trim(&key);
    let is_letter = |text: &str| {
        let mut chars = text.chars();
        chars.next().is_some_and(|c| c.is_ascii_lowercase())
            && chars.next().is_none_or(|c| !c.is_alphanumeric())
    };
    if let Some(lead) = LEAD.find(&text)
        && !lead.is_empty()
        && is_letter(&trim(&text[lead.end()..]))
    {
        text = trim(&text[lead.end()..]);
    }
    if !is_letter(&text) {
        return None;
    }
    let rest = &text[1..];
    let formula = rest
        .trim_start()
        .starts_with(['=', '^', '+', '<', '>', '_', '*', '!', '\''])
        && !rest.starts_with("**");
    let denied = boxes::is_refuted(rest.trim_start_matches([')', ']', '}', '.', ' ']));
    if SECOND.is_match(rest) || OTHER.is_match(rest) || denied || formula {
        return None;
    }
    text.chars().next().map(|c| c.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::letter;

    #[test]
    fn one_letter_is_a_choice() {
        for (answer, expected) in [
            ("C", Some('C')),
            ("(C)", Some('C')),
            ("\\text{(C)}", Some('C')),
            ("C. Cecile", Some('C')),
            ("C Cecile", Some('C')),
            ("Option C", Some('C')),
            ("\\text{Choice B}", Some('B')),
            ("Answer: C", Some('C')),
            ("The answer is (B).", Some('B')),
            ("`B`", Some('B')),
            ("**D**", Some('D')),
            ("答案选C", Some('C')),
            ("D, it cannot be A", Some('D')),
            ("A", Some('A')),
            ("I choose B", Some('B')),
            ("It's B", Some('B')),
            ("I", Some('I')),
            ("\\boxed{B}", Some('B')),
            ("\\boxed{\\text{B}}", Some('B')),
            ("$\\boxed{(B)}$", Some('B')),
            ("B - Paris", Some('B')),
            ("B is wrong", None),
            ("B is incorrect", None),
            ("(B) is not correct", None),
            ("B vs C", None),
            ("B vs. C", None),
            ("B-C", None),
            ("B\\cup C", None),
            ("B \\cap C", None),
            ("B → C", None),
            ("It is not B", None),
            ("C or D", None),
            ("C, D", None),
            ("B/C", None),
            ("(B) and (C)", None),
            ("A & B", None),
            ("E = mc^2", None),
            ("x^2", None),
            ("Cecile", None),
        ] {
            assert_eq!(letter(answer), expected, "{answer}");
        }
    }
}
