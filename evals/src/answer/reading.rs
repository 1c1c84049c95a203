//! What an answer as written may mean, before it is compared.

use super::extract::{self, ExtractRules, ExtractionPath};
use super::scan;
use crate::math::clean::text_key;
use crate::math::{Form, read};
use num_rational::BigRational;

/// Takes formula delimiters off the ends, so that a boxed answer inside them is seen as one.
pub(super) fn strip_math(answer: &str) -> &str {
    let mut s = answer.trim();
    loop {
        let inner = [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")]
            .iter()
            .find_map(|(open, close)| s.trim_end_matches('.').strip_prefix(open)?.strip_suffix(close));
        match inner {
            Some(inner) if !inner.contains('$') => s = inner.trim(),
            _ => return s,
        }
    }
}

/// The rational value of an AIME-style answer: of the whole, or of what follows the last equals sign.
pub(super) fn integer(answer: &str) -> Option<BigRational> {
    let value = |text: &str| match read(text)? {
        Form::Expr(sum) => sum.as_rational(),
        Form::Equation { value, .. } => match *value {
            Form::Expr(sum) => sum.as_rational(),
            _ => None,
        },
        _ => None,
    };
    value(answer).or_else(|| value(answer.rsplit_once('=')?.1))
}

/// The letter of a choice: `(C)`, `C.`, `C Cecile`.
pub(super) fn letter(answer: &str) -> Option<char> {
    let text = text_key(answer).to_ascii_uppercase();
    let mut chars = text.trim_start_matches(['(', '[', '{', '*', '"']).chars();
    let first = chars.next().filter(|c| c.is_ascii_uppercase())?;
    chars.next().is_none_or(|c| !c.is_alphanumeric()).then_some(first)
}

/// What an answer may mean: itself, the boxes in it, or the formula that a sentence ends in.
pub(super) fn readings(answer: &str) -> Vec<String> {
    let stripped = strip_math(answer);
    let boxes = scan::closed_boxes(stripped);
    let mut readings = Vec::new();
    if boxes.is_empty() {
        readings.push(stripped.to_owned());
    } else {
        let mut contents: Vec<&str> = boxes
            .iter()
            .map(|b| scan::unbox(&stripped[b.inner.clone()]))
            .collect();
        contents.dedup();
        readings.push(contents.join(", "));
        // A percent sign after the box belongs to it.
        if let [only] = boxes.as_slice() {
            let tail = stripped[only.whole.end..].trim_start_matches(['$', ' ', '\\']);
            if tail.starts_with('%') || tail.starts_with("pct") || tail.starts_with("percent") {
                readings = vec![format!("{} %", contents[0])];
            }
        }
    }
    readings.extend(assignments(stripped));
    if readings
        .first()
        .is_none_or(|r| read(r).is_none() || r.contains('\n'))
    {
        use ExtractionPath::{Boxed, FinalAnswer, LastFormula, LastNumber};
        let mut steps = vec![Boxed, FinalAnswer, LastFormula];
        // A number in a sentence counts; one inside a name (AZYUK2A) does not.
        if stripped.split_whitespace().nth(2).is_some() && !stripped.contains('\\') {
            steps.push(LastNumber);
        }
        // One item on each line is a list.
        let lines: Vec<&str> = stripped
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        if lines.len() > 1 && lines.iter().all(|line| line.len() < 200) {
            readings.push(lines.join(", "));
        }
        // A formula over several lines is one only where its delimiters say so: dollar signs do not.
        if !stripped.contains('\n') || stripped.contains("\\[") {
            let found = extract::extract(answer, &ExtractRules::steps(&steps));
            readings.extend(found.map(|e| e.answer));
        }
    }
    readings.truncate(3);
    readings
}

/// `p = 5, q = 2; p = 7, q = 2` as the tuples of values that it lists: `(5, 2), (7, 2)`.
fn assignments(answer: &str) -> Option<String> {
    if !answer.contains(';') || answer.len() > 1_000 {
        return None;
    }
    let mut names: Option<Vec<&str>> = None;
    let mut tuples = Vec::new();
    for group in answer.trim_end_matches(['.', ' ']).split(';') {
        let pairs: Option<Vec<(&str, &str)>> = group.split(',').map(|pair| pair.split_once('=')).collect();
        let pairs = pairs.filter(|pairs| pairs.len() > 1)?;
        let own: Vec<&str> = pairs.iter().map(|(name, _)| name.trim()).collect();
        let same = names.as_ref().is_none_or(|names| *names == own);
        if !same
            || own.iter().any(|name| name.is_empty())
            || pairs.iter().any(|(_, value)| value.contains('='))
        {
            return None;
        }
        names = Some(own);
        let values: Vec<&str> = pairs.iter().map(|(_, value)| value.trim()).collect();
        tuples.push(format!("({})", values.join(", ")));
    }
    Some(tuples.join(", "))
}

/// A time of day in minutes, and whether it says which half of the day it is: `20:34`, `8:34 p.m.`.
pub(super) fn time_of_day(answer: &str) -> Option<(u32, bool)> {
    let key: String = text_key(answer)
        .chars()
        .filter(|c| !matches!(c, '.' | ' '))
        .collect();
    let (time, half) = match (key.strip_suffix("am"), key.strip_suffix("pm")) {
        (Some(time), _) => (time, Some(0)),
        (_, Some(time)) => (time, Some(12)),
        _ => (key.as_str(), None),
    };
    let (hours, minutes) = time.split_once(':')?;
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
