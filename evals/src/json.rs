//! JSON with what it leaves open settled: a key stands once in an object, and a whole number keeps its digits.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A text as a value in which no object has a key twice. A whole number of more than 64 bits, which would lose
/// digits, becomes a string of them.
///
/// # Errors
/// What is wrong with the text, or which key stands twice.
pub fn read(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(&with_long_numbers_quoted(text)).map(|Unambiguous(value)| value)
}

/// The text with quotes around whole numbers of more than 64 bits outside of strings.
pub fn with_long_numbers_quoted(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while let Some(byte) = bytes.get(at).filter(|byte| **byte != b'"') {
                    at += if *byte == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let start = at;
                while bytes
                    .get(at)
                    .is_some_and(|b| matches!(b, b'+' | b'-' | b'.' | b'e' | b'E' | b'0'..=b'9'))
                {
                    at += 1;
                }
                let number = &text[start..at];
                let digits = number.strip_prefix('-').unwrap_or(number);
                let whole = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
                if whole
                    && digits.len() > 18
                    && number.parse::<i64>().is_err()
                    && number.parse::<u64>().is_err()
                {
                    out.push_str(&text[copied..start]);
                    out.push('"');
                    out.push_str(number);
                    out.push('"');
                    copied = at;
                }
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// A JSON value in which no object has a key twice: readers differ in which of the two counts.
pub struct Unambiguous(pub Value);

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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn long_numbers_keep_their_digits() {
        let text = r#"{"a\"1": [123456789012345678901, -123456789012345678901, 18446744073709551615, 1.5e300],
                       "b": "123456789012345678901"}"#;
        let read = read(text).unwrap();
        assert_eq!(read["b"], "123456789012345678901");
        let long = [json!("123456789012345678901"), json!("-123456789012345678901")];
        assert_eq!(read["a\"1"].as_array().unwrap()[..2], long);
        assert_eq!(read["a\"1"][2], json!(u64::MAX));
        assert_eq!(read["a\"1"][3], json!(1.5e300));
        for broken in [
            "{\"a",
            "\"\\",
            "1234567890123456789012345x",
            "-",
            "[00000000000000000000000]",
        ] {
            assert!(super::read(broken).is_err(), "{broken}");
        }
    }

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
}
