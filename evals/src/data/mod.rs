//! Problem sets from JSONL, JSON, CSV or parquet.

mod choices;
mod fields;
mod load;
#[cfg(feature = "parquet")]
mod parquet;

pub use choices::Choices;
pub use fields::Fields;
pub(crate) use fields::gold;
pub use load::{boxed_solution, load, load_first, lost_backslash, lost_backslash_sentence};

use crate::answer::{AnswerKind, canonical};
use serde::Serialize;
use serde_json::{Map, Value};

/// One problem of a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// Its name in the set; `line-N` (or `item-N` in a JSON array) when the file gives none.
    pub id: String,
    /// What the model is asked.
    pub problem: String,
    /// The gold answer, when the file has one.
    pub answer: Option<String>,
    /// Every other field of the record.
    pub extra: Map<String, Value>,
}

/// A loaded set.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The file's name, for messages and reports.
    pub name: String,
    /// The problems in the file's order, ids unique.
    pub problems: Vec<Problem>,
    /// SHA-256 of the file's bytes, in hexadecimal, as `sha256sum` prints it: two reports with the same
    /// digest used the same set.
    pub digest: String,
    /// What looks wrong but does not prevent use, such as control characters from a lost backslash.
    pub warnings: Vec<String>,
}

/// A file that cannot be used as a problem set.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// No records.
    #[error("{file} holds no problems: expected JSON lines, a JSON array, CSV with a header, or parquet")]
    Empty {
        /// The file.
        file: String,
    },
    /// A format that cannot be read.
    #[error("{file} is {format}, which cannot be read: convert it to JSONL, a JSON array or CSV in UTF-8")]
    Format {
        /// The file.
        file: String,
        /// What it is.
        format: &'static str,
    },
    /// Bytes that are not UTF-8.
    #[error("{file}, line {line}: byte {byte} of the file is not UTF-8; save the file as UTF-8")]
    NotUtf8 {
        /// The file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// Offset in the file, from 0.
        byte: usize,
    },
    /// A record that is not what the format promises.
    #[error("{file}, {place}: {reason}")]
    Record {
        /// The file.
        file: String,
        /// Where, as "line 3" or "item 3".
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A record without a field that is needed.
    #[error(
        "{file}, {place}: no field for the {what} (looked for {wanted}; the record has {present}); name it \
         with --field {what}=NAME"
    )]
    MissingField {
        /// The file.
        file: String,
        /// Where.
        place: String,
        /// `question`, `answer` or `id`.
        what: &'static str,
        /// The names looked for.
        wanted: String,
        /// The names that are there.
        present: String,
    },
    /// Two records with one id.
    #[error("{file}: the id \"{id}\" stands at {first} and again at {second}; ids must be unique")]
    DuplicateId {
        /// The file.
        file: String,
        /// The id.
        id: String,
        /// Where it stood first.
        first: String,
        /// Where it stands again.
        second: String,
    },
    /// A `--field` that is not one.
    #[error("--field {given}: write question=NAME, answer=NAME or id=NAME")]
    BadField {
        /// What was given.
        given: String,
    },
    /// A role has two names.
    #[error("--field {role}=... is given twice, with two names")]
    FieldTwice {
        /// The role.
        role: String,
    },
    /// Ids asked for that the set does not have.
    #[error("{file} has no problem with the id {missing}; its ids look like {examples}")]
    UnknownIds {
        /// The file.
        file: String,
        /// The ids that are not there.
        missing: String,
        /// Some that are.
        examples: String,
    },
}

impl Dataset {
    /// Keeps the problems whose field has one of these values; the others cannot be graded, for instance.
    pub fn keep(&mut self, field: &str, values: &[String]) {
        let is_kept = |p: &Problem| {
            p.extra
                .get(field)
                .and_then(fields::text)
                .is_some_and(|value| values.contains(&value))
        };
        self.problems.retain(is_kept);
    }

    /// SHA-256 of the gold answers, sorted, one a line: the same for every copy of a set, whatever its format
    /// and its order. Integers count by their value (`025` is 25), other answers as they are written.
    pub fn answers_digest(&self, kind: AnswerKind) -> String {
        let written = |answer: &str| match kind {
            AnswerKind::Integer => canonical(answer, kind),
            _ => answer.to_owned(),
        };
        let answers = self.problems.iter().filter_map(|p| p.answer.as_deref());
        let mut keys: Vec<String> = answers.map(written).collect();
        keys.sort();
        load::sha256(keys.join("\n").as_bytes())
    }

    /// The problems with these ids, in the order asked for (all, in the file's order, when there are none),
    /// and of these no more than `limit`.
    ///
    /// # Errors
    /// When an id is not in the set.
    pub fn select(&self, ids: &[String], limit: Option<usize>) -> Result<Vec<Problem>, DataError> {
        let limit = limit.unwrap_or(usize::MAX);
        if ids.is_empty() {
            return Ok(self.problems.iter().take(limit).cloned().collect());
        }
        let find = |id: &String| self.problems.iter().find(|p| p.id == *id);
        let missing: Vec<&str> = ids
            .iter()
            .filter(|id| find(id).is_none())
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            let examples: Vec<&str> = self.problems.iter().take(3).map(|p| p.id.as_str()).collect();
            return Err(DataError::UnknownIds {
                file: self.name.clone(),
                missing: missing.join(", "),
                examples: examples.join(", "),
            });
        }
        Ok(ids.iter().filter_map(find).take(limit).cloned().collect())
    }
}
