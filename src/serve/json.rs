//! Bodies of requests as JSON, with what JSON leaves open settled: a key stands once, and a number that is
//! whole is a whole number however it is written.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A JSON value in which no object has a key twice: readers differ in which of the two counts.
pub(super) struct Unambiguous(pub(super) Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Unambiguous(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if all.contains_key(&key) {
                let shown: String = key.chars().take(64).collect();
                return Err(A::Error::custom(format_args!(
                    "the key `{shown}` stands twice in one object"
                )));
            }
            let Unambiguous(value) = entries.next_value()?;
            all.insert(key, value);
        }
        Ok(Value::Object(all))
    }
}

/// A number that is whole, also where it is written with a point: `1.0` is 1. Nothing beyond 64 bits.
pub(super) fn integer(value: &Value) -> Option<i128> {
    let Value::Number(number) = value else {
        return None;
    };
    if let Some(whole) = number.as_i128() {
        return Some(whole);
    }
    let float = number.as_f64().filter(|x| x.fract() == 0.0)?;
    // a whole number of this size is what it says
    (float.abs() < 2f64.powi(64)).then_some(float as i128)
}

/// What a JSON value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(n) => match integer(value) {
            Some(whole) if whole < 0 => "a negative number",
            Some(_) => "a whole number",
            None if n.as_f64().is_some_and(|x| x.fract() == 0.0) => "a number of more than 64 bits",
            None => "a number with a fraction",
        },
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Whether a value says nothing: null, or empty.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_named() {
        let read = |text: &str| serde_json::from_str::<Unambiguous>(text);
        let text = r#"{"a": [1, -2, 3.5, null, true, {"b": "c"}], "d": {}}"#;
        assert_eq!(
            read(text).unwrap().0,
            serde_json::from_str::<Value>(text).unwrap()
        );
        for text in [
            r#"{"a": 1, "b": 2, "a": 1}"#,
            r#"[{"x": {"a": {}, "a": null}}]"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            let error = read(text).err().unwrap().to_string();
            assert!(
                error.starts_with("the key `a` stands twice in one object"),
                "{error}"
            );
        }
        assert!(read(&format!("{}{}", "[".repeat(200), "]".repeat(200))).is_err());
    }

    #[test]
    fn numbers_are_what_they_say() {
        for (value, whole, words) in [
            (json!(1.0), Some(1), "a whole number"),
            (json!(-0.0), Some(0), "a whole number"),
            (json!(-3), Some(-3), "a negative number"),
            (json!(u64::MAX), Some(i128::from(u64::MAX)), "a whole number"),
            (json!(1.5), None, "a number with a fraction"),
            (json!(1e300), None, "a number of more than 64 bits"),
            (json!(-1e300), None, "a number of more than 64 bits"),
            (
                json!(18_446_744_073_709_551_616.0),
                None,
                "a number of more than 64 bits",
            ),
        ] {
            assert_eq!((integer(&value), kind(&value)), (whole, words), "{value}");
        }
    }
}
