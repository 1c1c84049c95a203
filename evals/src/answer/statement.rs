//! The answer in the sentence that states it: "The final answer is 73, obtained after 4 steps."

use super::dress::undress;
use super::extract::{last_formula, last_number};
use super::reading::{strip_math, turns};
use super::scan;
use crate::math::form::Form;
use crate::math::{is_label, read};
use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

/// Sentences longer than this state nothing that is read as a whole.
const MAX_STATED: usize = 4096;

/// Where a text says "the final answer is", "Answer:" and the like.
fn phrases(text: &str) -> Vec<Range<usize>> {
    static PHRASE: LazyLock<Regex> = LazyLock::new(|| {
        const LINK: &str = r"(?:\*\*|__)?\s*(?:is\s*:|are\s*:|is(?:n['’]t)?|are(?:n['’]t)?|would be|must be|(?:cannot|can['’]t|can not|could not|couldn['’]t|must not|mustn['’]t|will not be|would not be)\b|equals|:|：|=|→)(?:\*\*|__)?";
        Regex::new(&format!(
            r"(?i)\b(?:final|correct)?\s*answers?\b(?:\s+(?:to|for|of)\s[^.\n]{{0,80}}?)?\s*{LINK}|\bfinal\s+answer(?:\*\*|__)?\s*\n|\banswer\s*(?:\$|\\\(|\\\[)|\br[ée]ponse\s+(?:finale\s+)?(?:est|:)|\brespuesta\s*(?:final\s*)?(?:es|:)|\bresposta\s*(?:final\s*)?(?:é|:)|\brisposta\s*(?:finale\s*)?(?:è|:)|\bantwort\s*(?:ist|lautet|:)|ответ\s*[:：—–-]|(?:الجواب|الإجابة)(?:\s+النهائي(?:ة)?)?\s*(?:هو|هي|:|：)|(?:答案|答え|정답)(?:\*\*)?\s*(?:是|为|為|は|은|：|:)"
        ))
        .expect("a constant pattern")
    });
    PHRASE.find_iter(text).map(|m| m.range()).collect()
}

/// Whether what follows a phrase is denied: by its own verb, or by the word behind it.
fn is_denied(phrase: &str, tail: &str) -> bool {
    static VERB: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)(?:n['’]t|\bcannot|\bnot(?: be)?)[*_]*$").expect("a constant pattern")
    });
    static WORD: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)^(?:certainly |definitely |clearly |obviously |surely |therefore |thus |also )?(?:not|never|neither|no longer|unlikely|different from|anything but|other than)\b")
            .expect("a constant pattern")
    });
    VERB.is_match(phrase) || WORD.is_match(unmarked(tail))
}

/// What follows the last "the final answer is", "Answer:" and the like.
pub(super) fn final_answer(text: &str) -> Option<String> {
    static INSTEAD: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)(?:\bbut(?:\s+rather|\s+instead|\s+it\s+is|\s+it['’]s)?|[;,.:—–]\s*(?:rather\s+|instead\s+)?(?:it\s+is|it['’]s|rather|instead))\s*:?\s+")
            .expect("a constant pattern")
    });
    // The last of them counts; a few more are tried where it leads nowhere.
    phrases(text).into_iter().rev().take(8).find_map(|at| {
        // The delimiter that ends the phrase belongs to the answer.
        let opening = ["\\(", "\\[", "$"]
            .into_iter()
            .find(|d| text[at.clone()].ends_with(d));
        let tail = &text[at.end - opening.map_or(0, str::len)..];
        let phrase = &text[at.start..at.end];
        if is_denied(phrase, tail) {
            // not 6 but 5
            let line = unmarked(tail).lines().next().unwrap_or("");
            let value = INSTEAD.find(line).map(|found| &line[found.end()..])?;
            return stated(scan::first_sentence(unmarked(value))).filter(|answer| !is_cut(answer));
        }
        let answer = match listed(phrase, tail) {
            Some(items) => items,
            None => stated(scan::first_sentence(unmarked(tail)))?,
        };
        (!is_cut(&answer)).then_some(answer)
    })
}

/// Whether the last phrase that announces an answer is followed by none: the text ends there, or inside a
/// formula, or it only says what the answer is not. What stood before is no answer then.
pub(super) fn leads_nowhere(text: &str) -> bool {
    let Some(at) = phrases(text).pop() else {
        return false;
    };
    let (phrase, tail) = (&text[at.clone()], &text[at.end..]);
    let rest = unmarked(tail);
    if is_denied(phrase, tail) {
        // A sentence behind it may say what it is.
        let sentence = scan::first_sentence(rest);
        return says_nothing(&rest[sentence.len()..]);
    }
    rest.len() < 200 && is_cut(rest)
}

/// Whether a text holds nothing that could be an answer: no letter, digit or sign with a meaning.
pub(super) fn says_nothing(text: &str) -> bool {
    static LOOKS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"\\(?:boxed|fbox|framebox|text(?:bf|it|rm|sf|tt)?|mathrm|mathbf|mbox|left|right|displaystyle|quad|qquad|[lc]?dots|frac|dfrac|tfrac|sqrt|begin|end)\b",
        )
        .expect("a constant pattern")
    });
    if text.len() > MAX_STATED {
        return false;
    }
    let bare = LOOKS.replace_all(text, "");
    !bare.contains(|c: char| c.is_alphanumeric() || matches!(c, '∞' | '∅' | '⌀' | '√'))
        && !bare.contains("\\{\\}")
}

/// Whether an answer was cut off: it says nothing, or ends inside braces, a formula or an operation.
pub(super) fn is_cut(answer: &str) -> bool {
    static ENDS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?:[=^_/\\]|\s[-−+*×·]|\\(?:cdot|times|pm|frac|dfrac|sqrt|text|le|ge|cup|cap|left)\s*)$")
            .expect("a constant pattern")
    });
    let answer = answer.trim_end();
    if says_nothing(answer) {
        return true;
    }
    if answer.len() > MAX_STATED {
        return false;
    }
    let (mut depth, mut brackets) = (0i64, 0i64);
    let mut bytes = answer.bytes();
    let mut formula = false;
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => match bytes.next() {
                Some(b'(' | b'[') => formula = true,
                Some(b')' | b']') => formula = false,
                Some(b'{') => depth += 1,
                Some(b'}') => depth -= 1,
                _ => {}
            },
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            _ => {}
        }
    }
    // An interval may be written ]a, b[.
    let turned = answer.ends_with('[') && answer.contains(|c: char| c.is_ascii_digit());
    depth > 0 || formula || (brackets > 0 && !turned) || ENDS.is_match(answer)
}

/// A text without the signs that lead up to it.
fn unmarked(tail: &str) -> &str {
    tail.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '_' | ':' | '：' | '#' | '`'))
}

/// The items of a list that begins on a line of its own: what stands behind the marks `-`, `*`, `1.`.
fn listed(phrase: &str, tail: &str) -> Option<String> {
    static MARK: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^[ \t]*(?:[-*+•◦▪‣–—>]|\(?\d{1,2}[.)]|\(?[a-z][.)])[ \t]+(\S.*)$")
            .expect("a constant pattern")
    });
    let breaks = phrase.ends_with('\n')
        || tail
            .trim_start_matches([' ', '*', '_', ':', '：', '\r'])
            .starts_with('\n');
    if !breaks {
        return None;
    }
    let mut items = Vec::new();
    let lines = tail
        .trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ':' | '：' | '_'))
        .lines()
        .skip_while(|line| matches!(line.trim(), "" | "**" | "*"));
    for line in lines.take(50) {
        match MARK.captures(line) {
            Some(found) => items.push(stated(scan::first_sentence(unmarked(found.get(1)?.as_str())))?),
            // an empty line between the items
            None if line.trim().is_empty() && !items.is_empty() => {}
            None => break,
        }
    }
    (!items.is_empty()).then(|| items.join(", "))
}

/// Whether a text can be read as mathematics, and not only as words, nor as a value and words.
fn is_value(text: &str) -> bool {
    let text = undress(strip_math(undress(text)));
    let words = |form: &Form| matches!(form, Form::Text(_));
    if is_label(text) {
        return true;
    }
    !text.is_empty()
        && !text.contains('\n')
        && read(text).is_some_and(|form| match &form {
            Form::List(items) => !items.iter().any(words),
            form => !words(form),
        })
}

/// The answer in a sentence: what stands first in it, before a remark or a reason; else what follows an "is",
/// the formula, or the number.
fn stated(sentence: &str) -> Option<String> {
    static LINK: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\s(?:is|are|equals)\s+").expect("a constant pattern"));
    static CHOICE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(\(?[A-J]\)?)(?:[,;:.]|\s+(?:and\s+not|non|not|because|since)\b)")
            .expect("a constant pattern")
    });
    let answer = undress(sentence);
    if answer.is_empty() {
        return None;
    }
    if answer.len() > MAX_STATED {
        return last_formula(answer).or_else(|| last_number(answer));
    }
    if let Some(choice) = CHOICE.captures(answer) {
        return Some(choice[1].to_owned());
    }
    if let Some(value) = first(answer) {
        return Some(value);
    }
    for link in LINK.find_iter(answer).take(3) {
        if let Some(value) = first(answer[link.end()..].trim()) {
            return Some(value);
        }
    }
    let rest = LINK
        .find_iter(answer)
        .last()
        .map_or(answer, |link| answer[link.end()..].trim());
    static WORDS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?:^|[^\\A-Za-z{])[A-Za-z]{2,},?\s+[A-Za-z]{2,}").expect("a constant pattern")
    });
    if WORDS.is_match(rest) {
        let number = || if turns(rest) { None } else { last_number(rest) };
        return last_formula(rest)
            .or_else(number)
            .or_else(|| Some(rest.to_owned()));
    }
    Some(rest.to_owned())
}

/// The value that a text begins with: the longest beginning, up to a remark, that is one.
fn first(text: &str) -> Option<String> {
    static REMARK: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)\s+\((?:[a-z一-龥]|≈)|[,;:]\s+(?:[a-z]{2,}|\()|\s+(?:because|since|when|where|if|as|for|from|by|in|at|with|after|obtained|which|that|not|and\s+not|so|but|per|using|under|unless|given|based|instead|rather|hence|thus|therefore|is|on)\b|[，；（]|\s+[-–—]+\s+[a-z]|\s+[–—]+\s|\.\s|<(?:br|/?p)\b",
        )
        .expect("a constant pattern")
    });
    // 64 (2^6): a number and a remark, and no product
    static ASIDE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^([^()]*[\d%$*}])\s+\((?:[^a-zA-Z()\\]*|[^()]*[a-z]{2,}[^()]*)\)")
            .expect("a constant pattern")
    });
    if let Some(number) = ASIDE.captures(text).and_then(|c| value(&c[1])) {
        return Some(number);
    }
    // A reason is none of the value.
    static REASON: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i),?\s+(?:since|because)\b|\s+and\s+(?:we|that|this|it|the|so|our|(?-i:I)|you|then|thus|hence)\b|\s+/\s+[a-z]{2,}|\s+\[[a-z]{2,}|\s+[–—]+\s+[a-z]{5,}\b",
        )
        .expect("a constant pattern")
    });
    if let Some(found) = REASON
        .find(text)
        .and_then(|reason| value(&text[..reason.start()]))
    {
        return Some(found);
    }
    if let Some(whole) = value(text) {
        return Some(whole);
    }
    let cuts: Vec<usize> = REMARK.find_iter(text).take(4).map(|m| m.start()).collect();
    if let Some(found) = cuts.into_iter().rev().find_map(|cut| value(&text[..cut])) {
        return Some(found);
    }
    // the formula that it begins with
    let formula = scan::formulas(text).into_iter().next()?;
    let leads = text[..formula.start]
        .trim_matches(['$', '\\', '(', '[', ' ', '*', '_'])
        .is_empty();
    (leads && is_value(&text[formula.clone()])).then(|| text[formula].to_owned())
}

/// A text as an answer where it is a value, in its delimiters or without.
fn value(text: &str) -> Option<String> {
    let bare = strip_math(undress(text));
    is_value(bare).then(|| bare.to_owned())
}
