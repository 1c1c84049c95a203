//! Settings compared as JSON, so that those of a later version are compared too.

use serde_json::{Map, Value};

/// Every setting that differs, as a phrase with both values. A setting that is missing is one that is null.
pub(super) fn differences(key: &str, was: &Value, now: &Value, out: &mut Vec<String>) {
    if let (Value::Object(a), Value::Object(b)) = (was, now) {
        let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
        keys.sort();
        keys.dedup();
        for k in keys {
            let path = if key.is_empty() {
                k.clone()
            } else {
                format!("{key}.{k}")
            };
            differences(&path, at(a, k), at(b, k), out);
        }
    } else if !same(was, now) {
        out.push(format!("`{key}` was {} and is now {}", short(was), short(now)));
    }
}

fn at<'a>(map: &'a Map<String, Value>, key: &str) -> &'a Value {
    map.get(key).unwrap_or(&Value::Null)
}

/// Equality in which 1 is 1.0 and null is what is missing.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            x == y || ((x.is_f64() || y.is_f64()) && x.as_f64() == y.as_f64())
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Value::Object(x), Value::Object(y)) => x.keys().chain(y.keys()).all(|k| same(at(x, k), at(y, k))),
        _ => a == b,
    }
}

fn short(value: &Value) -> String {
    let text = if value.is_null() {
        "not set".to_owned()
    } else {
        value.to_string()
    };
    if text.chars().count() > 80 {
        format!("{}...", text.chars().take(77).collect::<String>())
    } else {
        text
    }
}
