//! What an answer says: one reading, for the vote and for grading.

use super::boxes;
use super::dress::undress;
use super::extract::{self, ExtractRules, ExtractionPath};
use crate::math::form::{Form, Left};
use crate::math::{read, text};
use num_rational::BigRational;
use regex::Regex;
use std::sync::LazyLock;

/// Sentences longer than this are searched for no answer.
const MAX_SENTENCE: usize = 4096;

/// An answer as it is understood.
pub(super) struct Reading {
    /// The part of it that counts.
    pub(super) text: String,
    /// What that is, where it is mathematics.
    pub(super) form: Option<Form>,
}

impl Reading {
    /// The class key.
    pub(super) fn key(&self) -> String {
        match &self.form {
            Some(form) => form.key(),
            None => match time_of_day(&self.text) {
                Some((minutes, true)) => {
                    let (hour, half) = (minutes / 60, if minutes < 12 * 60 { "am" } else { "pm" });
                    format!("{}:{:02} {half}", (hour + 11) % 12 + 1, minutes % 60)
                }
                _ => text::key(&self.text),
            },
        }
    }
}

/// Takes formula delimiters off the ends, so that a boxed answer inside them is seen as one.
pub(super) fn strip_math(answer: &str) -> &str {
    let mut s = answer.trim();
    for _ in 0..16 {
        let inner = [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")]
            .iter()
            .find_map(|(open, close)| s.trim_end_matches('.').strip_prefix(open)?.strip_suffix(close));
        match inner {
            Some(inner) if !inner.contains('$') => s = inner.trim(),
            _ => break,
        }
    }
    s
}

/// Reads an answer: the boxes in it, or itself, or the value that its words lead up to.
pub(super) fn understand(answer: &str) -> Reading {
    let dressed = undress(strip_math(undress(answer)));
    let boxed = boxes::all(dressed);
    let said = boxed
        .as_deref()
        .map_or(dressed, |inside| undress(strip_math(undress(inside))));
    let form = if is_broken(said) { None } else { read(said) };
    if let Some(form) = form.filter(|form| !is_prose(form)) {
        return Reading {
            text: said.to_owned(),
            form: Some(form),
        };
    }
    for inner in inner_readings(said, answer) {
        let inner = undress(strip_math(undress(&inner)));
        if let Some(form) = read(inner).filter(|form| !is_prose(form)) {
            return Reading {
                text: inner.to_owned(),
                form: Some(form),
            };
        }
    }
    Reading {
        text: said.to_owned(),
        form: None,
    }
}

/// A formula over several lines is one only where its delimiters say so: dollar signs do not.
fn is_broken(text: &str) -> bool {
    text.contains('\n') && !text.contains("\\begin") && !text.contains("\\[")
}

/// Words, of which there is more than one.
fn is_prose(form: &Form) -> bool {
    match form {
        Form::Text(words) => words.contains(' '),
        _ => false,
    }
}

/// What stands inside a sentence, or on its lines.
fn inner_readings(said: &str, answer: &str) -> Vec<String> {
    static LEAD: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)^(?:\\text(?:bf|rm|it)?\s*\{)?\s*(?:so|thus|therefore|hence|and)?,?\s*(?:the|our|my)?\s*(?:final|correct)?\s*answers?\s*(?:is|are|would be|equals|:|：|=)\s*[:：]?\s*(.+)$",
        )
        .expect("a constant pattern")
    });
    let mut readings = Vec::new();
    if said.len() > MAX_SENTENCE {
        return readings;
    }
    let one_line = !said.contains('\n');
    if one_line && let Some(rest) = LEAD.captures(said) {
        let rest = rest[1].to_owned();
        // \text{The answer is }73: the brace of the words
        let open = said.len() - rest.len();
        let words_open = said[..open].matches('{').count() > said[..open].matches('}').count();
        readings.push(if words_open {
            rest.replacen('}', " ", 1)
        } else {
            rest.clone()
        });
        readings.push(rest);
    }
    // One item on each line is a list.
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let whole = |line: &&str| line.len() < 200 && line.matches('$').count().is_multiple_of(2);
    if lines.len() > 1 && lines.iter().all(whole) {
        readings.push(lines.join(", "));
    }
    if one_line || said.contains("\\[") {
        use ExtractionPath::{Boxed, FinalAnswer, LastFormula, LastNumber};
        let mut steps = vec![Boxed, FinalAnswer, LastFormula];
        if states(said) {
            steps.push(LastNumber);
        }
        let found = extract::extract(answer, &ExtractRules::steps(&steps));
        readings.extend(found.map(|e| e.answer));
    }
    readings
}

/// Whether a sentence without formulas says what something is, so that the number in it is the answer: "there
/// are 7 ways", and not "5 out of 8" or "greater than 5", nor two values of which one would be lost: "12 and the
/// remainder is 3". A number inside a name (AZYUK2A) does not count.
fn states(said: &str) -> bool {
    static VERB: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)\b(?:is|are|was|were|be|it's|equals|gives|gets?|has|have|there)\b")
            .expect("a constant pattern")
    });
    static TWO: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)\d\S*\s+and\b.*\d|\d\S*\s+(?:with|,)?\s*(?:a\s+|the\s+)?remainder\b.*\d")
            .expect("a constant pattern")
    });
    said.split_whitespace().nth(2).is_some()
        && !said.contains('\\')
        && VERB.is_match(said)
        && !turns(said)
        && !TWO.is_match(said)
}

/// Whether words beside a number make it another: "5 out of 8", "greater than 5", "2 million".
pub(super) fn turns(said: &str) -> bool {
    static TURNS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)\b(?:than|least|most|over|under|above|below|between|of|out|to|minus|plus|times|or|and|even|odd|half)\s+\S*\d|\d\S*\s+(?:or|out|of|to|in|million|billion|thousand|hundred|times|am|pm|minus|plus)\b",
        )
        .expect("a constant pattern")
    });
    TURNS.is_match(said)
}

/// The rational value of an AIME-style answer: of the whole, or of what follows the last equals sign.
pub(super) fn integer(reading: &Reading) -> Option<BigRational> {
    fn value(form: &Form) -> Option<BigRational> {
        match form {
            Form::Expr(sum) | Form::Quantity(sum, _) => sum.as_rational(),
            Form::Equation {
                value: inner, left, ..
            } if *left != Left::Call => value(inner),
            Form::Congruence {
                value: Some(inner), ..
            } => value(inner),
            _ => None,
        }
    }
    reading
        .form
        .as_ref()
        .and_then(value)
        .or_else(|| value(&read(reading.text.rsplit_once('=')?.1)?))
}

/// A time of day in minutes, and whether it says which half of the day it is: `20:34`, `8:34 p.m.`, `9 am`.
pub(super) fn time_of_day(answer: &str) -> Option<(u32, bool)> {
    if answer.len() > 100 {
        return None;
    }
    let key: String = text::key(answer)
        .to_lowercase()
        .chars()
        .filter(|c| !matches!(c, '.' | ' '))
        .collect();
    let (time, half) = match (key.strip_suffix("am"), key.strip_suffix("pm")) {
        (Some(time), _) => (time, Some(0)),
        (_, Some(time)) => (time, Some(12)),
        _ => (key.as_str(), None),
    };
    let (hours, minutes) = match time.split_once(':') {
        Some(parts) => parts,
        None if half.is_some() => (time, "00"),
        None => return None,
    };
    let number = |digits: &str, most: usize| {
        let plain = (1..=most).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse::<u32>().ok()).flatten()
    };
    let (hours, minutes) = (
        number(hours, 2)?,
        number(minutes, 2).filter(|m| minutes.len() == 2 && *m < 60)?,
    );
    match half {
        None => (hours < 24).then_some((hours * 60 + minutes, false)),
        Some(half) => (1..=12)
            .contains(&hours)
            .then_some(((hours % 12 + half) * 60 + minutes, true)),
    }
}
