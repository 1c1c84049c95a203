//! Which field of a recording made elsewhere is what.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Names of fields of a recording made elsewhere, where they are not the usual ones. Each replaces the usual
/// names of its role in every line: of traces, of problems with lists, and of dumps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordingFields {
    /// The problem's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The right answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gold: Option<String>,
    /// What a trace answered, or the list of what all traces of a problem answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// A trace's number of tokens, or the list of all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<String>,
    /// A trace's confidences, one a token, or a list of such lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<String>,
    /// A trace's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Names of a problem, in the order in which they are looked for.
const NAMES: &[&str] = &["problem_id", "question_id", "qid", "problem", "id"];
const GOLDS: &[&str] = &[
    "gold",
    "ground_truth",
    "gold_answer",
    "target",
    "expected_answer",
    "correct_answer",
    "reference_answer",
];
const TRACE_ANSWERS: &[&str] = &["extracted_answer", "answer"];
/// What a trace's own answer is called where `answer` may be the right one.
const PREDICTIONS: &[&str] = &["prediction", "pred", "predicted_answer", "model_answer"];

impl RecordingFields {
    /// Roles that `--field ROLE=NAME` may name.
    pub const ROLES: &'static str = "answer, gold, tokens, confidence, text or id";

    /// Takes one `ROLE=NAME`; false where it is none, or the role has another name already.
    pub fn set(&mut self, argument: &str) -> bool {
        let Some((role, name)) = argument.split_once('=') else {
            return false;
        };
        let slot = match role.trim() {
            "answer" | "answers" => &mut self.answer,
            "gold" => &mut self.gold,
            "tokens" | "length" | "lengths" => &mut self.tokens,
            "confidence" | "confidences" => &mut self.confidence,
            "text" | "texts" => &mut self.text,
            "id" => &mut self.id,
            _ => return false,
        };
        let name = name.trim();
        let is_new = slot.as_deref().is_none_or(|named| named == name);
        *slot = Some(name.to_owned());
        is_new && !name.is_empty()
    }

    /// Whether any was named.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn text_lists(&self) -> Vec<&str> {
        names(&self.text, &["texts"])
    }

    /// What was named, with its role.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let roles = [
            ("id", &self.id),
            ("gold", &self.gold),
            ("answer", &self.answer),
            ("tokens", &self.tokens),
            ("confidence", &self.confidence),
            ("text", &self.text),
        ];
        roles
            .into_iter()
            .filter_map(|(role, name)| Some((role, name.as_deref()?)))
    }

    pub(super) fn ids(&self) -> Vec<&str> {
        names(&self.id, NAMES)
    }
    pub(super) fn golds(&self) -> Vec<&str> {
        names(&self.gold, GOLDS)
    }
    pub(super) fn is_gold_named(&self) -> bool {
        self.gold.is_some()
    }
    pub(super) fn trace_answers(&self) -> Vec<&str> {
        names(&self.answer, TRACE_ANSWERS)
    }
    pub(super) fn answer_lists(&self) -> Vec<&str> {
        names(&self.answer, &["answers"])
    }
    pub(super) fn tokens(&self) -> Vec<&str> {
        names(&self.tokens, &["num_tokens", "tokens", "lengths", "length"])
    }
    pub(super) fn confidences(&self) -> Vec<&str> {
        names(&self.confidence, &["confs", "confidences", "confidence"])
    }
    pub(super) fn texts(&self) -> Vec<&str> {
        names(&self.text, &["text"])
    }

    /// Whether an object has a trace's text, and nothing beside it that may be what the trace answered.
    pub(super) fn has_text_alone(&self, object: &Map<String, Value>) -> bool {
        let chosen = self.answer.is_some() || self.text.is_some();
        has(object, &self.texts()) && (chosen || !has(object, PREDICTIONS))
    }

    /// The two names between which only the user can choose: `answer` beside what a model's answer is called.
    pub(super) fn ambiguous(&self, line: &Map<String, Value>) -> Option<&'static str> {
        let open = self.answer.is_none() && line.contains_key("answer");
        let mut predictions = PREDICTIONS.iter().filter(|name| line.contains_key(**name));
        predictions.next().filter(|_| open).copied()
    }
}

fn names<'a>(named: &'a Option<String>, usual: &[&'a str]) -> Vec<&'a str> {
    match named {
        Some(name) => vec![name],
        None => usual.to_vec(),
    }
}

/// The first of these fields that is there and not null.
pub(super) fn pick<'a>(object: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    names
        .iter()
        .filter_map(|name| object.get(*name))
        .find(|value| !value.is_null())
}

/// Whether one of these fields is there, though it may be null.
pub(super) fn has(object: &Map<String, Value>, names: &[&str]) -> bool {
    names.iter().any(|name| object.contains_key(*name))
}

/// Whether one of these fields is a list.
pub(super) fn has_list(object: &Map<String, Value>, names: &[&str]) -> bool {
    names.iter().any(|name| is_list(object, name))
}

fn is_list(object: &Map<String, Value>, name: &str) -> bool {
    object.get(name).is_some_and(Value::is_array)
}

/// The first of these fields that is a list, taken out.
pub(super) fn take_list(object: &mut Map<String, Value>, names: &[&str]) -> Option<Vec<Value>> {
    let name = names.iter().find(|name| is_list(object, name))?;
    match object.remove(*name) {
        Some(Value::Array(items)) => Some(items),
        _ => None,
    }
}
