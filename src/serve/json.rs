//! Values in bodies of requests: a number that is whole is a whole number however it is written.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Floating-point numbers below this are what was written.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A number that is whole, also where it is written with a point: `1.0` is 1. Nothing beyond 64 bits, and nothing
/// with a point that is so large that its last digits were lost.
pub(super) fn integer(value: &Value) -> Option<i128> {
    let Value::Number(number) = value else {
        return None;
    };
    if let Some(whole) = number.as_i128() {
        return Some(whole);
    }
    let float = number.as_f64().filter(|x| x.fract() == 0.0)?;
    (float.abs() < EXACT).then_some(float as i128)
}

/// What a JSON value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(n) => match integer(value) {
            Some(whole) if whole < 0 => "a negative number",
            Some(_) => "a whole number",
            None if n.as_f64().is_some_and(|x| x.abs() >= 2f64.powi(64)) => "a number of more than 64 bits",
            None if n.as_f64().is_some_and(|x| x.fract() == 0.0) => {
                "a number with a point or an exponent whose last digits were lost"
            }
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

/// A value as canonical JSON: keys by name, whole numbers without a point.
pub(super) fn canonical(value: &Value) -> Value {
    match value {
        Value::Number(_) => match integer(value).and_then(|whole| i64::try_from(whole).ok()) {
            Some(whole) => whole.into(),
            None => value.clone(),
        },
        Value::Array(items) => items.iter().map(canonical).collect(),
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, Value> = fields.iter().map(|(k, v)| (k, canonical(v))).collect();
            Value::Object(
                sorted
                    .into_iter()
                    .map(|(k, v)| (k.clone(), v))
                    .collect::<Map<_, _>>(),
            )
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_what_they_say() {
        for (value, whole, words) in [
            (json!(1.0), Some(1), "a whole number"),
            (json!(-0.0), Some(0), "a whole number"),
            (json!(-3), Some(-3), "a negative number"),
            (json!(u64::MAX), Some(i128::from(u64::MAX)), "a whole number"),
            (
                json!(9_007_199_254_740_991.0),
                Some(9_007_199_254_740_991),
                "a whole number",
            ),
            (
                json!(9_007_199_254_740_993.0),
                None,
                "a number with a point or an exponent whose last digits were lost",
            ),
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
