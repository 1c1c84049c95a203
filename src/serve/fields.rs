//! The fields of a request's JSON object, taken one by one: what is left at the end is a mistake.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_json::{Map, Value};
use tts_strategies::{Setting, Value as SettingValue, ValueType};

use super::UnknownFields;
use super::error::ApiError;
use super::json::{canonical, integer, kind};
use crate::evals::json::Unambiguous;
use crate::fmt::meant;
use crate::run::Slots;
use tts_model::overrides::SamplingSetting;

/// The fields of a request's body that were not read yet. A field that is null is one that was not given.
#[derive(Debug)]
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
            Ok(Unambiguous(Value::Object(left))) => Ok(Self {
                left,
                known: Vec::new(),
            }),
            Ok(Unambiguous(other)) => Err(ApiError::invalid(
                None,
                format!("the body must be a JSON object, not {}", kind(&other)),
            )),
            Err(error) if error.is_data() => {
                let why = error.to_string();
                let twice = why
                    .strip_prefix("the key `")
                    .and_then(|rest| rest.split_once('`'));
                Err(ApiError::invalid(twice.map(|(key, _)| key), why.as_str()))
            }
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
        *blake3::hash(canonical(&Value::Object(rest)).to_string().as_bytes()).as_bytes()
    }

    /// A field as it stands.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.remove(name).filter(|value| !value.is_null())
    }

    /// A field as it stands, which is not one that is known by this.
    pub(super) fn take_if_given(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    /// Puts a field back that is to be read once more.
    pub(super) fn put(&mut self, name: &'static str, value: Value) {
        self.left.insert(name.to_owned(), value);
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
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let wrong = |what: String| ApiError::invalid(Some(name), format!("`{name}` must be {right}{what}"));
        let Some(whole) = integer(&value) else {
            return Err(wrong(format!("; {} was given", kind(&value))));
        };
        match u64::try_from(whole) {
            Ok(whole) if range.contains(&whole) => Ok(Some(whole)),
            Ok(whole) => Err(wrong(format!(", not {whole}"))),
            Err(_) => Err(wrong(format!("; {} was given", kind(&value)))),
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

    /// Slots: a number, or a text as `4x2`.
    pub(super) fn slots(&mut self, most: usize) -> Result<Option<Slots>, ApiError> {
        const NAME: &str = "slots";
        match self.take(NAME) {
            Some(Value::String(text)) => {
                let read = text.parse::<Slots>();
                read.map(Some)
                    .map_err(|e| ApiError::invalid(Some(NAME), format!("`{NAME}`: {e}")))
            }
            Some(value) => {
                self.put(NAME, value);
                Ok(self.count(NAME, 1..=most)?.map(Slots::fixed))
            }
            None => Ok(None),
        }
    }

    /// A sampling setting.
    pub(super) fn sampling(&mut self, setting: &SamplingSetting) -> Result<Option<f64>, ApiError> {
        if setting.whole {
            let Some(value) = self.take(setting.name) else {
                return Ok(None);
            };
            // vLLM's word for all of them is -1
            return match integer(&value) {
                Some(whole) => Ok(Some(whole.max(0) as f64)),
                None => Err(ApiError::invalid(
                    Some(setting.name),
                    format!(
                        "`{}` must be {}; {} was given",
                        setting.name,
                        setting.in_request,
                        kind(&value)
                    ),
                )),
            };
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

    /// Refuses what is left, unless it says nothing.
    pub(super) fn finish(mut self, unknown: UnknownFields) -> Result<(), ApiError> {
        let given = self.left.iter().find(|(_, value)| !value.is_null());
        let Some((name, _)) = given.filter(|_| unknown == UnknownFields::Refuse) else {
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
