//! The answer in the sentence that states it: "The final answer is 73, obtained after 4 steps."

use super::dress::undress;
use super::extract::{last_formula, last_number};
use super::reading::{strip_math, turns};
use super::scan;
use crate::math::form::Form;
use crate::math::read;
use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

/// Sentences longer than this state nothing that is read as a whole.
const MAX_STATED: usize = 4096;

/// What follows the last "the final answer is", "Answer:" and the like.
pub(super) fn final_answer(text: &str) -> Option<String> {
    static PHRASE: LazyLock<Regex> = LazyLock::new(|| {
        const LINK: &str =
            r"(?:\*\*|__)?\s*(?:is\s*:|are\s*:|is|are|would be|must be|equals|:|：|=|→)(?:\*\*|__)?";
        Regex::new(&format!(
            r"(?i)\b(?:final|correct)?\s*answers?\b(?:\s+(?:to|for|of)\s[^.\n]{{0,80}}?)?\s*{LINK}|\bfinal\s+answer(?:\*\*|__)?\s*\n|\banswer\s*(?:\$|\\\(|\\\[)|\br[ée]ponse\s+(?:finale\s+)?(?:est|:)|\brespuesta\s*(?:final\s*)?(?:es|:)|\bresposta\s*(?:final\s*)?(?:é|:)|\brisposta\s*(?:finale\s*)?(?:è|:)|\bantwort\s*(?:ist|lautet|:)|ответ\s*[:：—–-]|(?:الجواب|الإجابة)(?:\s+النهائي(?:ة)?)?\s*(?:هو|هي|:|：)|(?:答案|答え|정답)(?:\*\*)?\s*(?:是|为|為|は|은|：|:)"
        ))
        .expect("a constant pattern")
    });
    let phrases: Vec<Range<usize>> = PHRASE.find_iter(text).map(|m| m.range()).collect();
    // The last of them counts; a few more are tried where it leads nowhere.
    phrases.into_iter().rev().take(8).find_map(|at| {
        // The delimiter that ends the phrase belongs to the answer.
        let opening = ["\\(", "\\[", "$"]
            .into_iter()
            .find(|d| text[at.clone()].ends_with(d));
        let tail = &text[at.end - opening.map_or(0, str::len)..];
        let answer = match listed(&text[at.start..at.end], tail) {
            Some(items) => items,
            None => stated(scan::first_sentence(unmarked(tail)))?,
        };
        (!answer.starts_with("not ")).then_some(answer)
    })
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
            r"(?i)\s+\((?:[a-z一-龥]|≈)|[,;:]\s+(?:[a-z]{2,}|\()|\s+(?:because|since|when|where|if|as|for|from|by|in|at|with|after|obtained|which|that|not|and\s+not|so|but|per|using|under|unless|given|based|instead|rather|hence|thus|therefore|is|on)\b|[，；（]|\s+[-–—]+\s+[a-z]|\.\s|<(?:br|/?p)\b",
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
