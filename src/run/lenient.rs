//! JSON as others write it: numbers for strings, 12.0 for 12, Python's NaN, bytes that are no UTF-8.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::warnings::LineIssue;
use crate::evals::json;

/// A string, or a number as one writes it.
pub(super) fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

/// A whole number, also when it is written 12.0.
pub(super) fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|x| x.fract() == 0.0 && (0.0..=9e15).contains(x))
            .map(|x| x as u64)
    })
}

/// The line as text, and whether bytes had to be replaced for that.
pub(super) fn text(line: &[u8]) -> (Cow<'_, str>, bool) {
    let text = String::from_utf8_lossy(line);
    let replaced = matches!(text, Cow::Owned(_));
    (text, replaced)
}

/// JSON, also with Python's NaN and Infinity, which become null.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    serde_json::from_str(text)
        .ok()
        .or_else(|| serde_json::from_str(&without_nan(text)?).ok())
}

/// JSON made elsewhere, as [`parse`] takes it, in which a key stands once and whole numbers keep their digits.
///
/// # Errors
/// Whether a key stands twice, or it is no JSON.
pub(super) fn value(text: &str) -> Result<Value, LineIssue> {
    json::read(text)
        .or_else(|error| without_nan(text).map_or(Err(error), |text| json::read(&text)))
        .map_err(|error| match parse::<IgnoredAny>(text) {
            Some(_) if error.is_data() => LineIssue::KeyTwice,
            _ => LineIssue::NotJson,
        })
}

/// The text with NaN, Infinity and -Infinity outside of strings replaced by null; `None` where there are
/// none.
fn without_nan(text: &str) -> Option<String> {
    let (mut out, mut rest, mut changed) = (String::with_capacity(text.len()), text, false);
    while let Some(at) = rest.find(['"', 'N', 'I', '-']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('"') {
            let mut escaped = false;
            let end = rest[1..].find(|c| match c {
                '\\' if !escaped => {
                    escaped = true;
                    false
                }
                '"' if !escaped => true,
                _ => {
                    escaped = false;
                    false
                }
            })?;
            out.push_str(&rest[..end + 2]);
            rest = &rest[end + 2..];
        } else if let Some(word) = ["NaN", "Infinity", "-Infinity"]
            .into_iter()
            .find(|w| rest.starts_with(w))
        {
            out.push_str("null");
            rest = &rest[word.len()..];
            changed = true;
        } else {
            out.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    changed.then_some(out)
}
