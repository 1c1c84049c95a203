//! Questions with options to choose from: the options are written under the question, the answer is a letter.

use super::DataError;
use super::fields;
use super::load::record_error;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Which fields of a record hold the options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Choices {
    /// A field with the list of all options, in the order of their letters; the answer is a letter already.
    pub options: Option<String>,
    /// The field with the right option, where right and wrong ones stand in fields of their own.
    pub right: Option<String>,
    /// The fields with the wrong ones.
    pub wrong: Vec<String>,
    /// Seed of the order in which these are asked: each problem has its own, the same in every run.
    pub seed: u64,
}

/// Letters of options; no set has more.
const LETTERS: &str = "ABCDEFGHIJKLMNOP";

impl Choices {
    /// The question with its options under it, and the letter of the right one where the record says which it
    /// is.
    pub(super) fn ask(
        &self,
        record: &Map<String, Value>,
        question: &str,
        id: &str,
        file: &str,
        place: &str,
    ) -> Result<(String, Option<String>), DataError> {
        let bad = |reason: String| record_error(file, place, reason);
        let text = |field: &String| {
            let value = record.get(field).and_then(fields::text);
            value
                .filter(|t| !t.is_empty())
                .ok_or_else(|| bad(format!("the field \"{field}\" holds no option")))
        };
        let (options, right) = match (&self.options, &self.right) {
            (Some(field), None) => {
                let Some(Value::Array(list)) = record.get(field) else {
                    return Err(bad(format!("the field \"{field}\" must be a list of options")));
                };
                let options: Option<Vec<String>> = list.iter().map(fields::text).collect();
                (
                    options.ok_or_else(|| {
                        bad(format!("the field \"{field}\" holds an option that is no text"))
                    })?,
                    None,
                )
            }
            (None, Some(right)) => {
                let mut options = vec![(true, text(right)?)];
                for wrong in &self.wrong {
                    options.push((false, text(wrong)?));
                }
                let rank = |i: usize| blake3::hash(format!("{}\n{id}\n{i}", self.seed).as_bytes());
                let mut order: Vec<usize> = (0..options.len()).collect();
                order.sort_by_key(|i| *rank(*i).as_bytes());
                let right = order.iter().position(|i| options[*i].0);
                (order.into_iter().map(|i| options[i].1.clone()).collect(), right)
            }
            _ => {
                return Err(bad(
                    "the task's choices need either `options`, or `right` and `wrong`".to_owned(),
                ));
            }
        };
        if !(2..=LETTERS.len()).contains(&options.len()) {
            return Err(bad(format!(
                "{} options are not between 2 and {}",
                options.len(),
                LETTERS.len()
            )));
        }
        let lines: Vec<String> = LETTERS
            .chars()
            .zip(&options)
            .map(|(letter, option)| format!("{letter}) {option}"))
            .collect();
        let right = right.and_then(|at| LETTERS.chars().nth(at)).map(String::from);
        Ok((format!("{}\n\n{}", question.trim_end(), lines.join("\n")), right))
    }
}
