//! Error objects.

use crate::fmt::escaped;
use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

/// Most characters of an engine's sentence that are passed on.
const LONGEST: usize = 300;

/// The body of a refusal, and the data of an event that ends a stream with an error.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ErrorReply<'a> {
    pub(crate) error: ErrorBody<'a>,
}

/// What is wrong, and with which field.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ErrorBody<'a> {
    pub(crate) message: Cow<'a, str>,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) param: Option<Cow<'a, str>>,
    pub(crate) code: Option<&'static str>,
}

/// The sentence in an error object. Engines do not agree on its shape, so it is looked for in all that are
/// known.
pub(crate) fn error_message(error: &Value) -> String {
    let found = [
        &error["error"]["message"],
        &error["message"],
        &error["error"],
        &error["detail"],
        error,
    ];
    let text = found
        .into_iter()
        .find_map(Value::as_str)
        .map_or_else(|| error.to_string(), str::to_owned);
    shortened(&text)
}

/// The beginning of a text, on one line.
pub(crate) fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = escaped(&line);
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_engine_says_cannot_command_a_terminal() {
        let error = json!({"error": {"message": "\u{1b}]0;pwned\u{7}\u{1b}[2J no"}});
        assert_eq!(error_message(&error), "\\u{1b}]0;pwned\\u{7}\\u{1b}[2J no");
        assert!(shortened(&"\0".repeat(100_000)).len() < 400);
    }

    #[test]
    fn the_sentence_is_found_in_every_shape() {
        for error in [
            json!({"error": {"message": "no memory", "code": 500}}),
            json!({"message": "no memory"}),
            json!({"error": "no \n memory"}),
            json!({"detail": "no memory"}),
            json!("no memory"),
        ] {
            assert_eq!(error_message(&error), "no memory");
        }
        assert_eq!(error_message(&json!({"code": 7})), "{\"code\":7}");
        assert_eq!(shortened(&"x".repeat(400)).len(), 303);
    }

    #[test]
    fn a_refusal_names_what_it_has_not() {
        let error = ErrorBody {
            message: "no".into(),
            kind: "invalid_request_error",
            param: None,
            code: None,
        };
        let reply = serde_json::to_value(ErrorReply { error }).unwrap();
        let expected = json!({"error": {
            "message": "no", "type": "invalid_request_error", "param": null, "code": null}});
        assert_eq!(reply, expected);
    }
}
