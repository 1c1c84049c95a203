//! Bytes to problems.

use super::fields::{self, ANSWER, Fields, GOLD, ID, QUESTION, SOLUTION};
use super::{DataError, Dataset, Problem};
use crate::answer::{AnswerKind, ExtractRules, ExtractionPath, canonical, extract};
use crate::json::{self, Unambiguous};
use serde::de::{DeserializeSeed, IgnoredAny, SeqAccess, Visitor};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Reads a problem set from a file's bytes. The format is known by the content: a JSON array, JSON lines, CSV
/// with a header line, or parquet. A byte-order mark, CRLF line ends and empty lines are taken in stride.
///
/// The question stands in one of question/problem/Problem/prompt/Question, the gold answer in
/// answer/Answer/expected_answer/gold_answer, else in gold/target/ground_truth/correct_answer/final_answer/
/// reference_answer, else after `####` (or in the last box) of solution, the id in
/// id/ID/problem_idx/unique_id/question_id/problem_id/qid, unless `fields` names others. A set without
/// answers is fine, and a warning names the fields that it has.
///
/// # Errors
/// One sentence with the file, the line and the field.
pub fn load(bytes: &[u8], name: &str, fields: &Fields) -> Result<Dataset, DataError> {
    load_first(bytes, name, fields, usize::MAX)
}

/// The first `most` problems of a set, as [`load`] reads them; what comes behind is not looked at.
///
/// # Errors
/// As [`load`], of what is read.
pub fn load_first(bytes: &[u8], name: &str, fields: &Fields, most: usize) -> Result<Dataset, DataError> {
    let records = if bytes.starts_with(b"PAR1") {
        parquet(bytes, name, most)?
    } else {
        let text = decode(bytes, name)?;
        match text.trim_start().chars().next() {
            None => {
                return Err(DataError::Empty {
                    file: name.to_owned(),
                });
            }
            Some('[') => array(text, name, most)?,
            Some('{') => lines(text, name, most)?,
            Some(_) => csv(text, name, most)?,
        }
    };
    if records.is_empty() {
        return Err(DataError::Empty {
            file: name.to_owned(),
        });
    }
    let mut problems = Vec::with_capacity(records.len());
    let mut warnings = Vec::new();
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    let first: Vec<String> = records
        .first()
        .map(|(_, record)| record.keys().cloned().collect())
        .unwrap_or_default();
    for (place, record) in records {
        let problem = problem(record, &place, name, fields)?;
        for (field, value) in [
            ("problem", Some(&problem.problem)),
            ("answer", problem.answer.as_ref()),
        ] {
            if let Some(c) = value.and_then(|text| lost_backslash(text)) {
                warnings.push(lost_backslash_sentence(&format!("{name}, {place}"), field, c));
            }
        }
        if let Some(first) = places.insert(problem.id.clone(), place.clone()) {
            return Err(DataError::DuplicateId {
                file: name.to_owned(),
                id: problem.id,
                first,
                second: place,
            });
        }
        problems.push(problem);
    }
    warnings.extend(ungraded(&problems, name, &first));
    warnings.extend(contradictions(&problems, name, fields));
    Ok(Dataset {
        name: name.to_owned(),
        problems,
        digest: sha256(bytes),
        warnings,
    })
}

/// What there is to say of problems whose other fields hold another question or another answer, where nobody named
/// the one that counts.
fn contradictions(problems: &[Problem], name: &str, fields: &Fields) -> Vec<String> {
    let others = |problem: &Problem, names: &[&[&str]]| -> Vec<(String, String)> {
        let names = names.iter().flat_map(|names| names.iter());
        names
            .filter_map(|field| Some(((*field).to_owned(), fields::text(problem.extra.get(*field)?)?)))
            .filter(|(_, text)| !text.is_empty())
            .collect()
    };
    let key = |answer: &str| canonical(answer, AnswerKind::Math);
    let answer = |problem: &Problem| {
        let right = problem.answer.as_ref()?;
        let mut others = others(problem, &[ANSWER, GOLD]).into_iter();
        others.find(|(_, other)| key(&fields::gold(other)) != key(right))
    };
    let question = |problem: &Problem| {
        let mut others = others(problem, &[QUESTION]).into_iter();
        others.find(|(_, other)| *other != problem.problem)
    };
    let said = |what: &str, flag: &str, other: &dyn Fn(&Problem) -> Option<(String, String)>| {
        let mut found = problems.iter().filter_map(|p| Some((&p.id, other(p)?)));
        let (id, (field, _)) = found.next()?;
        let n = found.count() + 1;
        Some(format!(
            "{n} of {} problems of {name} have another {what} in the field {field}, which does not count (the \
             first: {id}); --field {flag}=NAME says which does",
            problems.len()
        ))
    };
    let asked = fields
        .question
        .is_none()
        .then(|| said("question", "question", &question));
    let graded = fields.answer.is_none() && fields.choices.is_none();
    let graded = graded.then(|| said("answer", "answer", &answer));
    [asked, graded].into_iter().flatten().flatten().collect()
}

/// What there is to say of problems without an answer to compare with.
fn ungraded(problems: &[Problem], name: &str, first: &[String]) -> Option<String> {
    let mut without = problems.iter().filter(|p| p.answer.is_none());
    let example = &without.next()?.id;
    let missing = without.count() + 1;
    let all = problems.len();
    let fields = first.join(", ");
    Some(if missing == all {
        format!(
            "{name} has no answers to grade by, so nothing is graded (its fields are {fields}); if one of \
             them is the answer, name it with --field answer=NAME"
        )
    } else {
        format!("{missing} of {all} problems of {name} have no answer to grade by (the first: {example})")
    })
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn decode<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str, DataError> {
    let format = |format| {
        Err(DataError::Format {
            file: name.to_owned(),
            format,
        })
    };
    match bytes {
        [0x1f, 0x8b, ..] => return format("a gzip archive"),
        [b'P', b'K', 3, 4, ..] => return format("a zip archive"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return format("in UTF-16"),
        _ => {}
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let byte = e.valid_up_to();
        let line = 1 + bytes[..byte].iter().filter(|b| **b == b'\n').count();
        DataError::NotUtf8 {
            file: name.to_owned(),
            line,
            byte,
        }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.starts_with("version https://git-lfs") {
        return format("a git-lfs pointer instead of the file itself");
    }
    Ok(text)
}

pub(super) type Record = (String, Map<String, Value>);

pub(super) fn record_error(file: &str, place: &str, reason: impl Into<String>) -> DataError {
    DataError::Record {
        file: file.to_owned(),
        place: place.to_owned(),
        reason: reason.into(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn array(text: &str, name: &str, most: usize) -> Result<Vec<Record>, DataError> {
    let read = |text: &str| {
        let text = json::with_long_numbers_quoted(text);
        let mut reader = serde_json::Deserializer::from_str(&text);
        let items = FirstItems(most).deserialize(&mut reader)?;
        reader.end().map(|()| items)
    };
    let items: Vec<Value> = read(text).map_err(|e| {
        record_error(
            name,
            &format!("line {}", e.line()),
            format!("not a JSON array: {e}"),
        )
    })?;
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| {
            let place = format!("item {}", i + 1);
            match item {
                Value::Object(record) => Ok((place, record)),
                other => Err(record_error(
                    name,
                    &place,
                    format!("expected an object, found {}", kind(&other)),
                )),
            }
        })
        .collect()
}

fn lines(text: &str, name: &str, most: usize) -> Result<Vec<Record>, DataError> {
    let mut records = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if records.len() == most {
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("line {}", i + 1);
        if line.len() > MOST_RECORD {
            return Err(too_long(name, &place, "it", line.len()));
        }
        match json::read(line) {
            Ok(Value::Object(record)) => records.push((place, record)),
            Ok(other) => {
                return Err(record_error(
                    name,
                    &place,
                    format!("expected an object, found {}", kind(&other)),
                ));
            }
            Err(e) => {
                // One object written over several lines is a set of one problem.
                if i == 0
                    && let Ok(Value::Object(record)) = json::read(text)
                {
                    return Ok(vec![(place, record)]);
                }
                return Err(record_error(name, &place, format!("not valid JSON: {e}")));
            }
        }
    }
    Ok(records)
}

/// Bytes of a record; the contexts of the largest models hold less text.
const MOST_RECORD: usize = 16 << 20;

fn too_long(file: &str, place: &str, what: &str, bytes: usize) -> DataError {
    record_error(
        file,
        place,
        format!(
            "{what} has {} MiB, and no problem has more than {}",
            bytes >> 20,
            MOST_RECORD >> 20
        ),
    )
}

/// The first so many items of an array; the rest is passed over without being kept.
struct FirstItems(usize);

impl<'de> DeserializeSeed<'de> for FirstItems {
    type Value = Vec<Value>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Value>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for FirstItems {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Value>, A::Error> {
        let mut first = Vec::new();
        while first.len() < self.0 {
            match items.next_element()? {
                Some(Unambiguous(item)) => first.push(item),
                None => return Ok(first),
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first)
    }
}

#[cfg(feature = "parquet")]
use super::parquet::rows as parquet;

#[cfg(not(feature = "parquet"))]
fn parquet(_: &[u8], name: &str, _: usize) -> Result<Vec<Record>, DataError> {
    Err(DataError::Format {
        file: name.to_owned(),
        format: "a parquet file, and this program was built without the feature \"parquet\"",
    })
}

fn csv(text: &str, name: &str, most: usize) -> Result<Vec<Record>, DataError> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let fail = |e: csv::Error| {
        let place = e
            .position()
            .map_or("the file".to_owned(), |p| format!("line {}", p.line()));
        record_error(name, &place, format!("not valid CSV: {e}"))
    };
    let header = reader.headers().map_err(fail)?.clone();
    let mut named = BTreeSet::new();
    let twice = header
        .iter()
        .map(str::trim)
        .find(|column| !column.is_empty() && !named.insert(*column));
    if let Some(column) = twice {
        return Err(record_error(
            name,
            "line 1",
            format!("the column \"{column}\" stands twice"),
        ));
    }
    let mut records = Vec::new();
    for row in reader.records().take(most) {
        let row = row.map_err(fail)?;
        let place = format!("line {}", row.position().map_or(0, csv::Position::line));
        if row.as_slice().len() > MOST_RECORD {
            return Err(too_long(name, &place, "it", row.as_slice().len()));
        }
        let cell = |(key, value): (&str, &str)| {
            let value = if value.is_empty() {
                Value::Null
            } else {
                Value::String(value.to_owned())
            };
            (key.trim().to_owned(), value)
        };
        records.push((place, header.iter().zip(row.iter()).map(cell).collect()));
    }
    Ok(records)
}

fn problem(
    mut record: Map<String, Value>,
    place: &str,
    file: &str,
    fields: &Fields,
) -> Result<Problem, DataError> {
    let missing = |what: &'static str, named: Option<&str>, usual: &[&str]| DataError::MissingField {
        file: file.to_owned(),
        place: place.to_owned(),
        what,
        wanted: named.map_or_else(|| usual.join(", "), str::to_owned),
        present: record.keys().cloned().collect::<Vec<_>>().join(", "),
    };
    let not_text = |field: &str, value: &Value| {
        record_error(
            file,
            place,
            format!(
                "the field \"{field}\" must be a string or a number, not {}",
                kind(value)
            ),
        )
    };

    let (question_field, question) = fields::pick(&record, fields.question.as_deref(), QUESTION)
        .ok_or_else(|| missing("question", fields.question.as_deref(), QUESTION))?;
    let problem = fields::text(question).ok_or_else(|| not_text(&question_field, question))?;
    if problem.len() > MOST_RECORD {
        let what = format!("the field \"{question_field}\"");
        return Err(too_long(file, place, &what, problem.len()));
    }
    if problem.is_empty() {
        return Err(record_error(
            file,
            place,
            format!("the field \"{question_field}\" is empty"),
        ));
    }

    let mut used = vec![question_field];
    let answer = match fields::pick(&record, fields.answer.as_deref(), ANSWER) {
        Some((field, value)) => {
            let text = fields::text(value).ok_or_else(|| not_text(&field, value))?;
            // a worked solution that was named as the answer
            let worked = SOLUTION.contains(&field.as_str()).then(|| from_solution(&text));
            used.push(field);
            Some(worked.flatten().unwrap_or_else(|| fields::gold(&text)))
        }
        None if fields.answer.is_some() => {
            return Err(missing("answer", fields.answer.as_deref(), ANSWER));
        }
        None => match fields::gold_field(&record) {
            Some((field, text)) => {
                used.push(field);
                Some(fields::gold(&text))
            }
            None => boxed_solution(&record),
        },
    };
    let id = match fields::pick(&record, fields.id.as_deref(), ID) {
        Some((field, value)) => {
            let text = fields::text(value).ok_or_else(|| not_text(&field, value))?;
            used.push(field);
            text
        }
        None if fields.id.is_some() => return Err(missing("id", fields.id.as_deref(), ID)),
        None => place.replace(' ', "-"),
    };
    if id.is_empty() {
        return Err(record_error(file, place, "the id is empty"));
    }
    let (problem, answer) = match &fields.choices {
        Some(choices) => {
            let (problem, letter) = choices.ask(&record, &problem, &id, file, place)?;
            (problem, letter.or(answer))
        }
        None => (problem, answer),
    };
    for field in &used {
        record.remove(field);
    }
    Ok(Problem {
        id,
        problem,
        answer: answer.filter(|a| !a.is_empty()),
        extra: record,
    })
}

/// The answer that a record's worked solution ends with: after `####`, or in its last box.
pub fn boxed_solution(record: &Map<String, Value>) -> Option<String> {
    let (_, value) = fields::pick(record, None, SOLUTION)?;
    from_solution(&fields::text(value)?)
}

/// The answer that a worked solution ends with.
fn from_solution(solution: &str) -> Option<String> {
    if solution.contains("####") {
        return Some(fields::gold(solution));
    }
    extract(solution, &ExtractRules::steps(&[ExtractionPath::Boxed])).map(|found| found.answer)
}

/// What to say of a control character that [`lost_backslash`] found in a `field` of `place`.
pub fn lost_backslash_sentence(place: &str, field: &str, found: char) -> String {
    format!(
        "{place}: the {field} holds the control character U+{:04X}, probably a lost backslash (\\frac read \
         as a form feed); compare with the original",
        u32::from(found)
    )
}

/// A control character, or a tab that stands where `\t` of `\text`, `\times` or `\theta` should: what is left
/// of LaTeX that was read as if its backslashes were escapes.
pub fn lost_backslash(text: &str) -> Option<char> {
    let lost = |rest: &str| {
        ["ext", "imes", "heta", "frac", "an", "riangle"]
            .iter()
            .any(|word| rest.starts_with(word))
    };
    text.char_indices().find_map(|(i, c)| match c {
        '\n' | '\r' => None,
        '\t' => lost(&text[i + 1..]).then_some(c),
        c => c.is_control().then_some(c),
    })
}
