//! JSON as Python writes it, and typed access to its fields with errors that name them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::ModelError;

/// Replaces the bare literals `NaN`, `Infinity` and `-Infinity`, which Python writes and JSON does not know,
/// by the object `{"__float__": "..."}` that transformers 5.x writes for them.
pub fn without_python_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let (mut copied, mut at, mut in_string) = (0, 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'N' | b'I' | b'-' if !in_string => {
                if let Some(word) = ["NaN", "Infinity", "-Infinity"]
                    .into_iter()
                    .find(|w| bytes[at..].starts_with(w.as_bytes()))
                {
                    out.push_str(&text[copied..at]);
                    out.push_str("{\"__float__\":\"");
                    out.push_str(word);
                    out.push_str("\"}");
                    at += word.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    out.push_str(&text[copied..]);
    out
}

/// JSON, of which nothing is kept but whether a key stands twice in one object: readers differ in which of the
/// two counts.
#[derive(Default)]
pub(crate) struct OnceEach {
    /// The first key that does.
    pub(crate) twice: Option<String>,
}

impl<'de> Deserialize<'de> for OnceEach {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = OnceEach;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<OnceEach, E> {
        Ok(OnceEach::default())
    }
    fn visit_bool<E>(self, _: bool) -> Result<OnceEach, E> {
        Ok(OnceEach::default())
    }
    fn visit_u64<E>(self, _: u64) -> Result<OnceEach, E> {
        Ok(OnceEach::default())
    }
    fn visit_i64<E>(self, _: i64) -> Result<OnceEach, E> {
        Ok(OnceEach::default())
    }
    fn visit_f64<E>(self, _: f64) -> Result<OnceEach, E> {
        Ok(OnceEach::default())
    }
    fn visit_str<E>(self, _: &str) -> Result<OnceEach, E> {
        Ok(OnceEach::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OnceEach, A::Error> {
        let mut twice = None;
        while let Some(item) = items.next_element::<OnceEach>()? {
            twice = twice.or(item.twice);
        }
        Ok(OnceEach { twice })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<OnceEach, A::Error> {
        let (mut seen, mut twice) = (BTreeSet::new(), None);
        while let Some((key, value)) = entries.next_entry::<String, OnceEach>()? {
            twice = twice.or(value.twice);
            if twice.is_none() && seen.contains(&key) {
                twice = Some(key);
            } else {
                seen.insert(key);
            }
        }
        Ok(OnceEach { twice })
    }
}

/// No factor or size of a published model is near this.
pub(crate) const MOST_FACTOR: f64 = 1e9;

/// Whether a number can be a factor of a model's arithmetic.
pub(crate) fn is_factor(value: f64) -> bool {
    value > 0.0 && value < MOST_FACTOR
}

/// The fields of one JSON object of one file.
pub(crate) struct Fields<'a> {
    map: Map<String, Value>,
    file: &'a Path,
}

impl<'a> Fields<'a> {
    /// Parses `text`, which must be one object.
    pub(crate) fn parse(text: &str, file: &'a Path) -> Result<Self, ModelError> {
        let text = without_python_literals(text);
        if let Ok(OnceEach { twice: Some(key) }) = serde_json::from_str(&text) {
            return Err(ModelError::field(file, key, "stands twice in one object"));
        }
        match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => Ok(Self { map, file }),
            Ok(_) => Err(ModelError::malformed(file, "JSON", "it holds no object ({...})")),
            Err(error) => Err(ModelError::malformed(file, "JSON", error.to_string())),
        }
    }

    /// The object under `key`, if there is one.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Fields<'a>>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) if !map.contains_key("__float__") => Ok(Some(Fields {
                map: map.clone(),
                file: self.file,
            })),
            Some(other) => Err(self.wrong(key, other, "an object")),
        }
    }

    /// The file that they stand in.
    pub(crate) fn file(&self) -> &'a Path {
        self.file
    }

    /// The value under `key`; null counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// Whether `key` stands in the object, be it as null.
    pub(crate) fn states(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    pub(crate) fn error(&self, key: &str, problem: impl Into<String>) -> ModelError {
        ModelError::field(self.file, key, problem)
    }

    fn wrong(&self, key: &str, found: &Value, expected: &str) -> ModelError {
        let mut text = found.to_string();
        if let Some((cut, _)) = text.char_indices().nth(60) {
            text.truncate(cut);
            text.push_str("...");
        }
        self.error(key, format!("is {text}: it must be {expected}"))
    }

    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let whole = value.as_u64().or_else(|| {
            let v = value.as_f64()?;
            (v.fract() == 0.0 && (0.0..9e15).contains(&v)).then_some(v as u64)
        });
        match whole.and_then(|v| usize::try_from(v).ok()) {
            Some(v) => Ok(Some(v)),
            None => Err(self.wrong(key, value, "a whole number")),
        }
    }

    pub(crate) fn required_size(&self, key: &str) -> Result<usize, ModelError> {
        self.size(key)?.ok_or_else(|| self.error(key, "is missing"))
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(*v)),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(v)) => Ok(Some(v)),
            Some(other) => Err(self.wrong(key, other, "a string")),
        }
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        as_number(value)
            .map(Some)
            .ok_or_else(|| self.wrong(key, value, "a number"))
    }

    /// A factor of the arithmetic: a positive number that no model's goes beyond.
    pub(crate) fn factor(&self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.number(key)? {
            Some(value) if !is_factor(value) => Err(self.error(
                key,
                format!("is {value}: it must be a number above 0 and below {MOST_FACTOR}"),
            )),
            value => Ok(value),
        }
    }

    /// An array of exactly `N` numbers.
    pub(crate) fn numbers<const N: usize>(&self, key: &str) -> Result<Option<[f64; N]>, ModelError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value
            .as_array()
            .and_then(|items| items.iter().map(as_number).collect::<Option<Vec<_>>>())
            .and_then(|items| items.try_into().ok())
            .map(Some)
            .ok_or_else(|| self.wrong(key, value, &format!("a list of {N} numbers")))
    }

    /// One id or a list of ids.
    pub(crate) fn ids(&self, key: &str) -> Result<Vec<u32>, ModelError> {
        let id = |v: &Value| v.as_u64().and_then(|v| u32::try_from(v).ok());
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        match value {
            Value::Array(items) => items.iter().map(id).collect(),
            single => id(single).map(|v| vec![v]),
        }
        .ok_or_else(|| self.wrong(key, value, "a token id or a list of token ids"))
    }
}

/// A JSON number, or `{"__float__": "Infinity" | "-Infinity" | "NaN"}`.
fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64(),
        Value::Object(map) if map.len() == 1 => match map.get("__float__")? {
            Value::String(s) => match s.as_str() {
                "Infinity" | "inf" => Some(f64::INFINITY),
                "-Infinity" | "-inf" => Some(f64::NEG_INFINITY),
                "NaN" | "nan" => Some(f64::NAN),
                other => other.parse().ok(),
            },
            _ => None,
        },
        _ => None,
    }
}
