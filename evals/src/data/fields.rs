//! Which field of a record is which.

use super::{Choices, DataError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Names of fields that replace the usual ones; `None` looks for those.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fields {
    /// The field with the question.
    pub question: Option<String>,
    /// The field with the gold answer.
    pub answer: Option<String>,
    /// The field with the id.
    pub id: Option<String>,
    /// Where the options of a choice are.
    pub choices: Option<Choices>,
}

pub(super) const QUESTION: &[&str] = &["question", "problem", "Problem", "prompt", "Question"];
pub(super) const ANSWER: &[&str] = &["answer", "Answer", "expected_answer", "gold_answer"];
pub(super) const SOLUTION: &[&str] = &["solution", "Solution"];
/// Looked for after these: what they hold is the answer where it is a text or a number.
pub(super) const GOLD: &[&str] = &[
    "gold",
    "target",
    "ground_truth",
    "correct_answer",
    "final_answer",
    "reference_answer",
];
pub(super) const ID: &[&str] = &[
    "id",
    "ID",
    "problem_idx",
    "unique_id",
    "question_id",
    "problem_id",
    "qid",
];

impl Fields {
    /// Takes one `--field` argument: `question=NAME`, `answer=NAME` or `id=NAME`.
    ///
    /// # Errors
    /// When it is not of that form.
    pub fn set(&mut self, argument: &str) -> Result<(), DataError> {
        let bad = || DataError::BadField {
            given: argument.to_owned(),
        };
        let (role, name) = argument.split_once('=').ok_or_else(bad)?;
        let (role, name) = (role.trim(), name.trim());
        if name.is_empty() {
            return Err(bad());
        }
        let slot = match role {
            "question" | "problem" => &mut self.question,
            "answer" => &mut self.answer,
            "id" => &mut self.id,
            _ => return Err(bad()),
        };
        if slot.as_deref().is_some_and(|named| named != name) {
            return Err(DataError::FieldTwice {
                role: role.to_owned(),
            });
        }
        *slot = Some(name.to_owned());
        Ok(())
    }
}

/// The first of these fields that the record has and that is not null. A named field is looked for alone.
pub(super) fn pick<'a>(
    record: &'a Map<String, Value>,
    named: Option<&str>,
    usual: &[&'a str],
) -> Option<(String, &'a Value)> {
    let get = |name: &str| record.get_key_value(name).filter(|(_, value)| !value.is_null());
    let found = match named {
        Some(name) => get(name),
        None => usual.iter().find_map(|name| get(name)),
    };
    found.map(|(name, value)| (name.clone(), value))
}

/// The gold answer under one of its less usual names, and which: a text or a number, or a list of one.
pub(super) fn gold_field(record: &Map<String, Value>) -> Option<(String, String)> {
    GOLD.iter().find_map(|name| {
        let value = record.get(*name)?;
        let one = match value {
            Value::Array(items) if items.len() == 1 => &items[0],
            value => value,
        };
        let answer = text(one).filter(|t| !t.is_empty())?;
        Some(((*name).to_owned(), answer))
    })
}

/// A string or a number as text; a whole float loses its `.0`.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        // Only these: a form feed or a tab at the start is a lost `\\f` or `\\t`, to be warned about.
        Value::String(s) => Some(s.trim_matches([' ', '\n', '\r']).to_owned()),
        Value::Number(n) => Some(match n.as_f64() {
            // Beyond 2^53 a float no longer names one integer.
            Some(f) if n.is_f64() && f.fract() == 0.0 && f.abs() < 9e15 => format!("{f:.0}"),
            _ => n.to_string(),
        }),
        _ => None,
    }
}

/// A gold answer as written in a set: the part after GSM8K's `####`, without dollar signs around it.
pub(crate) fn gold(text: &str) -> String {
    let text = text
        .rsplit_once("####")
        .map_or(text, |(_, answer)| answer)
        .trim_matches([' ', '\n', '\r']);
    let inner = text
        .strip_prefix('$')
        .and_then(|t| t.strip_suffix('$'))
        .filter(|t| !t.contains('$'));
    inner.unwrap_or(text).trim_matches(' ').to_owned()
}
