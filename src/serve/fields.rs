//! The fields of a request's JSON object, taken one by one: what is left at the end is a mistake.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_json::{Map, Value};
use tts_strategies::{Setting, Value as SettingValue, ValueType};

use super::error::ApiError;
use crate::fmt::meant;
use tts_model::overrides::SamplingSetting;

/// The fields of a request's body that were not read yet. A field that is null is one that was not given.
pub(super) struct UnreadFields {
    left: Map<String, Value>,
    /// names that were asked for, to find the one that was meant
    known: Vec<&'static str>,
}

impl UnreadFields {
    /// Reads a request's body as a JSON object.
    pub(super) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let text = std::str::from_utf8(body).map_err(|_| ApiError::invalid(None, "the body is not UTF-8"))?;
        match serde_json::from_str(text) {
            Ok(Value::Object(left)) => Ok(Self {
                left,
                known: Vec::new(),
            }),
            Ok(other) => Err(ApiError::invalid(
                None,
                format!("the body must be a JSON object, not {}", kind(&other)),
            )),
            Err(error) => Err(ApiError::invalid(
                None,
                format!("the body is not valid JSON: {error}"),
            )),
        }
    }

    /// A digest of what is asked; `but` does not count.
    pub(super) fn digest(&self, but: &[&str]) -> [u8; 32] {
        let rest: Map<String, Value> = self
            .left
            .iter()
            .filter(|(name, value)| !but.contains(&name.as_str()) && !value.is_null())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        *blake3::hash(Value::Object(rest).to_string().as_bytes()).as_bytes()
    }

    /// A field as it stands.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.remove(name).filter(|value| !value.is_null())
    }

    /// A field of any type that can be read from JSON; `right` says what it must be.
    pub(super) fn of<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        right: impl Display,
    ) -> Result<Option<T>, ApiError> {
        self.take(name)
            .map(|value| {
                let found = kind(&value);
                serde_json::from_value(value).map_err(|_| {
                    ApiError::invalid(Some(name), format!("`{name}` must be {right}; {found} was given"))
                })
            })
            .transpose()
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, ApiError> {
        self.of(name, "true or false")
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        self.of(name, "a string")
    }

    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<f64>, ApiError> {
        self.of(name, "a number")
    }

    /// A whole number within a range.
    pub(super) fn whole(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ApiError> {
        let right = match (*range.start(), *range.end()) {
            (0, u64::MAX) => "a whole number".to_owned(),
            (start, u64::MAX) => format!("a whole number of at least {start}"),
            (start, end) => format!("a whole number from {start} to {end}"),
        };
        let Some(value) = self.of::<u64>(name, &right)? else {
            return Ok(None);
        };
        if range.contains(&value) {
            Ok(Some(value))
        } else {
            Err(ApiError::invalid(
                Some(name),
                format!("`{name}` must be {right}, not {value}"),
            ))
        }
    }

    /// [`Self::whole`] that counts something in memory.
    pub(super) fn count(
        &mut self,
        name: &'static str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, ApiError> {
        let range = *range.start() as u64..=(*range.end()).min(u64::MAX as usize) as u64;
        Ok(self
            .whole(name, range)?
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
    }

    /// A sampling setting.
    pub(super) fn sampling(&mut self, setting: &SamplingSetting) -> Result<Option<f64>, ApiError> {
        if setting.whole {
            // vLLM's word for all of them is -1
            let given = self.of::<i64>(setting.name, setting.in_request)?;
            return Ok(given.map(|n| n.max(0) as f64));
        }
        self.of(setting.name, setting.in_request)
    }

    /// A setting of a strategy, under the name that users know it by.
    pub(super) fn setting(&mut self, setting: &Setting) -> Result<Option<SettingValue>, ApiError> {
        let (name, value_type) = (setting.field(), setting.value_type());
        if value_type == ValueType::Count {
            let least = usize::from(setting.accepts(SettingValue::Count(0)).is_none());
            return Ok(self.count(name, least..=usize::MAX)?.map(SettingValue::Count));
        }
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let found = kind(&value);
        value_type.deserialize(value).map(Some).map_err(|_| {
            let right = value_type.expected();
            ApiError::invalid(Some(name), format!("`{name}` must be {right}; {found} was given"))
        })
    }

    /// Refuses what is left.
    pub(super) fn finish(mut self) -> Result<(), ApiError> {
        let Some(name) = self.left.keys().next() else {
            return Ok(());
        };
        // a name may be as long as a body
        let shown: String = name.chars().take(64).collect();
        // of several that are as near, the first of the alphabet
        self.known.sort_unstable();
        let tip = meant(&shown, self.known.iter().copied())
            .map_or_else(String::new, |k| format!("; did you mean `{k}`?"));
        Err(ApiError::invalid(
            Some(&shown),
            format!("there is no field `{shown}` in this request{tip}"),
        ))
    }
}

/// What a JSON value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(n) if n.is_f64() => "a number with a fraction",
        Value::Number(n) if n.is_i64() && !n.is_u64() => "a negative number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
