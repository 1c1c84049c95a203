//! Grading line by line: one JSON object in, the same object with the verdict out.

use crate::answer::{ExtractionPath, ReadAnswer};
use serde_json::{Map, Value, json};

/// A line that cannot be graded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GradeError {
    /// Not a JSON object.
    #[error("line {line} is not a JSON object: {reason}")]
    NotAnObject {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A field is missing.
    #[error(
        "line {line} has no field {wanted}: give {{\"prediction\": ..., \"gold\": ...}} or {{\"text\": \
         ..., \"gold\": ...}}"
    )]
    MissingField {
        /// Number of the line, from 1.
        line: usize,
        /// The field looked for.
        wanted: &'static str,
    },
    /// A field holds nothing.
    #[error("line {line}: the field \"{field}\" is empty")]
    Empty {
        /// Number of the line, from 1.
        line: usize,
        /// The field.
        field: &'static str,
    },
    /// A field that is neither a string nor a number.
    #[error("line {line}: the field \"{field}\" must be a string or a number")]
    NotText {
        /// Number of the line, from 1.
        line: usize,
        /// The field.
        field: &'static str,
    },
}

/// Grades one line: `{"prediction", "gold"}` or `{"text", "gold"}`. Other fields pass through. Adds
/// `extracted` (the answer, or null), `extraction` (how it was found, `prediction` when it was given),
/// `inside_thinking`,
/// `canonical` (its class key, or null), `equal` and `rule`.
///
/// # Errors
/// When the line is not an object with these fields; the message names the line.
pub fn grade_line(line: &str, number: usize, reader: &dyn ReadAnswer) -> Result<Value, GradeError> {
    let not_an_object = |reason: String| GradeError::NotAnObject { line: number, reason };
    let line = line.trim_start_matches('\u{feff}');
    let mut object: Map<String, Value> = match crate::json::read(line) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return Err(not_an_object("it is no object".to_owned())),
        Err(e) => return Err(not_an_object(e.to_string())),
    };
    let missing = |field, wanted| match object.get(field) {
        Some(_) => GradeError::Empty { line: number, field },
        None => GradeError::MissingField { line: number, wanted },
    };
    let gold = text_of(&object, "gold", number)?.ok_or_else(|| missing("gold", "\"gold\""))?;
    let gold = crate::data::gold(&gold);
    if gold.is_empty() {
        return Err(missing("gold", ""));
    }
    let has_text = object.get("text").is_some_and(|text| !text.is_null());
    let (answer, extraction, inside_thinking) = match text_of(&object, "prediction", number)? {
        Some(prediction) => (Some(prediction), Some("prediction"), false),
        None if !has_text && object.get("prediction").is_some_and(Value::is_null) => (None, None, false),
        None => {
            let wanted = GradeError::MissingField {
                line: number,
                wanted: "\"prediction\" or \"text\"",
            };
            let text = text_of(&object, "text", number)?.ok_or(wanted)?;
            match reader.read(&text) {
                Some(found) => (
                    Some(found.answer),
                    Some(ExtractionPath::as_str(found.path)),
                    found.inside_thinking,
                ),
                None => (None, None, false),
            }
        }
    };
    let (canonical, equal, rule) = match &answer {
        Some(answer) => {
            let verdict = reader.grade(answer, &gold);
            (Some(reader.key(answer)), verdict.equal, verdict.rule)
        }
        None => (None, false, "no answer"),
    };
    let added = json!({
        "extracted": answer, "extraction": extraction, "inside_thinking": inside_thinking,
        "canonical": canonical, "equal": equal, "rule": rule,
    });
    if let Value::Object(added) = added {
        object.extend(added);
    }
    Ok(Value::Object(object))
}

fn text_of(
    object: &Map<String, Value>,
    field: &'static str,
    line: usize,
) -> Result<Option<String>, GradeError> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s.clone())),
        Some(Value::Number(n)) => Ok(Some(n.to_string())),
        Some(_) => Err(GradeError::NotText { line, field }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{AnswerKind, RuleReader};

    fn grade(line: &str) -> Value {
        let reader = RuleReader::new(AnswerKind::Math);
        grade_line(line, 1, &reader).expect("a graded line")
    }

    #[test]
    fn a_prediction_is_compared() {
        let out = grade(r#"{"prediction": "\\frac12", "gold": 0.5, "note": [1]}"#);
        assert_eq!(
            (&out["equal"], &out["canonical"], &out["note"]),
            (&json!(true), &json!("1/2"), &json!([1]))
        );
    }

    #[test]
    fn a_text_is_searched_first() {
        let out = grade(r#"{"text": "so \\boxed{042}.", "gold": "42"}"#);
        assert_eq!(
            (&out["extracted"], &out["extraction"], &out["equal"]),
            (&json!("042"), &json!("boxed"), &json!(true))
        );
        let out = grade(r#"{"prediction": null, "text": "so \\boxed{5}", "gold": "a long way\n#### 5"}"#);
        assert_eq!(out["equal"], json!(true));
        let out = grade(r#"{"prediction": null, "gold": "5"}"#);
        assert_eq!(out["rule"], json!("no answer"));
        let out = grade(r#"{"text": "I do not know.", "gold": "42"}"#);
        assert_eq!(
            (&out["extracted"], &out["equal"], &out["rule"]),
            (&Value::Null, &json!(false), &json!("no answer"))
        );
    }

    #[test]
    fn errors_name_the_line_and_the_field() {
        let reader = RuleReader::default();
        let message = |line: &str| grade_line(line, 7, &reader).expect_err("an error").to_string();
        assert!(message("[1]").starts_with("line 7 is not a JSON object"));
        assert!(message(r#"{"gold": "1"}"#).contains("prediction"));
        assert!(message(r#"{"prediction": [1], "gold": "1"}"#).contains("\"prediction\" must be"));
        for empty in ["null", "\"\"", "\" \"", "\"#### \""] {
            let line = format!("{{\"prediction\": \"1\", \"gold\": {empty}}}");
            assert!(message(&line).contains("\"gold\" is empty"), "{line}");
        }
    }
}
