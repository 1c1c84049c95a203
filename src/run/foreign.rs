//! Recordings made elsewhere.
//!
//! - A line a problem with lists: `answers`, `lengths` (or `tokens`), perhaps `confidences` (a list of numbers
//!   a trace) and a right answer. An answer that is null or empty is none.
//! - A line a trace whose fields are not called as in a run folder.
//! - Dumps of DeepConf's reference code as JSON: an object a question, or a list of them, with `traces`
//!   (`warmup_traces` and `final_traces` of its online runs), `ground_truth`, `question_id`; each trace with
//!   `num_tokens`, `extracted_answer`, `stop_reason`, and `confs`, or `group_confs` of the window that
//!   `config.window_size` names.
//!
//! Fields are looked for by their usual names, or by those that [`RecordingFields`] gives. A file in which no
//! trace says what it answered, or how long it is, is refused with the fields that it has.

mod dump;
mod fields;
mod lists;
mod single;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};
use tts_evals::answer::{AnswerKind, canonical};
use tts_evals::data::boxed_solution;
use tts_strategies::{Finish, TraceScores};

use super::error::RunFolderError;
use super::lenient::{parse, text, value, whole, word};
use super::warnings::{LineIssue, Warnings};
use super::{Arrays, TraceRecord};
use crate::fmt::shown;

pub use fields::RecordingFields;
use fields::{has, has_list, pick};

/// A problem of such a recording.
pub(super) struct ForeignProblem {
    pub(super) id: String,
    pub(super) gold: Option<String>,
    pub(super) records: Vec<TraceRecord>,
}

/// Lists of traces in a dump.
const DUMPED: [&str; 4] = ["warmup_traces", "final_traces", "traces", "all_traces"];

/// What an object of such a file is.
enum Shape {
    /// a problem with lists of its traces' answers and lengths
    Lists,
    Dump,
    Single,
}

impl Shape {
    fn of(object: &Map<String, Value>, fields: &RecordingFields) -> Self {
        // a list that is null or something else is a list of nothing
        let of_problem = object.contains_key("answers") && fields.answer.is_none();
        if of_problem || has_list(object, &fields.answer_lists()) {
            Self::Lists
        } else if has_list(object, &DUMPED) {
            Self::Dump
        } else {
            Self::Single
        }
    }
}

/// Whether a line is a trace as a run folder holds it, with what makes it one.
fn is_own(object: &Map<String, Value>) -> bool {
    let named = |name: &str| object.get(name).is_some_and(|v| !v.is_null());
    if named("arrays") || object.contains_key("line_check") {
        return true;
    }
    if is_gold_alone(object) {
        return true;
    }
    let usual = RecordingFields::default();
    let long = ["tokens", "token_ids", "confidence", "logprobs"]
        .into_iter()
        .any(named);
    let graded = named("gold") || pick(object, &usual.golds()).is_none();
    named("problem_id")
        && named("trace")
        && object.contains_key("answer")
        && long
        && graded
        && usual.ambiguous(object).is_none()
}

/// Whether a line names a problem's right answer and says nothing of any trace.
fn is_gold_alone(object: &Map<String, Value>) -> bool {
    let named = |name: &str| object.get(name).is_some_and(|v| !v.is_null());
    let of_traces = ["trace", "answers", "lengths", "tokens"]
        .into_iter()
        .any(|name| object.contains_key(name));
    named("problem_id") && named("gold") && !of_traces && !object.values().any(Value::is_array)
}

fn is_foreign(value: &Value) -> bool {
    match value {
        Value::Object(object) => {
            !matches!(Shape::of(object, &RecordingFields::default()), Shape::Single) || !is_own(object)
        }
        Value::Array(items) => items.first().is_some_and(is_foreign),
        _ => false,
    }
}

/// Whether the beginning of a file says that it is one of these recordings. Lines of single traces as a run
/// folder holds them are none, and are told from their first line.
pub(super) fn is_one(path: &Path, fields: &RecordingFields) -> Result<bool, RunFolderError> {
    use std::io::{BufRead, BufReader};
    if !fields.is_empty() {
        return Ok(true);
    }
    let file = tts_model::files::open(path).map_err(RunFolderError::io("open", path))?;
    let mut first = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        first = line.map_err(RunFolderError::io("read", path))?;
        // a right answer alone may stand before lines of any kind
        let gold = || parse::<Map<String, Value>>(&text(&first).0).is_some_and(|line| is_gold_alone(&line));
        if !first.iter().all(u8::is_ascii_whitespace) && !gold() {
            break;
        }
    }
    let start = first
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(&first)
        .trim_ascii_start();
    // a whole file of JSON may be written over many lines
    Ok(match parse::<Value>(&text(start).0) {
        Some(value) => is_foreign(&value),
        None => start.starts_with(b"[") || start.trim_ascii_end() == b"{",
    })
}

/// What the traces of a file have, and what its lines are made of.
#[derive(Default)]
pub(super) struct Found {
    answers: bool,
    lengths: bool,
    texts: bool,
    ids: bool,
    /// roles of `--field` whose names were found
    named: BTreeSet<&'static str>,
    /// fields of the first line, and of the first trace in it
    line: Vec<String>,
    trace: Vec<String>,
}

impl Found {
    /// The fields, as the middle of a sentence.
    fn fields(&self) -> String {
        let line = self.line.join(", ");
        if self.trace.is_empty() {
            format!("a line has the fields {line}")
        } else {
            format!(
                "a line has the fields {line}, a trace in it {}",
                self.trace.join(", ")
            )
        }
    }

    fn saw_line(&mut self, object: &Map<String, Value>, fields: &RecordingFields) {
        self.saw_names(object, fields);
        if self.line.is_empty() {
            self.line = object.keys().cloned().collect();
            self.line.sort();
        }
    }

    fn saw_trace(&mut self, object: &Map<String, Value>, fields: &RecordingFields) {
        if self.trace.is_empty() {
            self.trace = object.keys().cloned().collect();
            self.trace.sort();
        }
        self.saw_names(object, fields);
        self.answers |= has(object, &fields.trace_answers());
        self.texts |= fields.has_text_alone(object);
    }

    fn saw_names(&mut self, object: &Map<String, Value>, fields: &RecordingFields) {
        let found = fields.named().filter(|(_, name)| object.contains_key(*name));
        self.named.extend(found.map(|(role, _)| role));
    }
}

/// A recording made elsewhere.
pub(super) struct ForeignRecording {
    pub(super) problems: Vec<ForeignProblem>,
    /// what its lines are made of, as the middle of a sentence
    pub(super) fields: String,
}

/// Reads such a file.
pub(super) fn read(
    path: &Path,
    fields: &RecordingFields,
    warnings: &mut Warnings,
) -> Result<ForeignRecording, RunFolderError> {
    let bytes = tts_model::files::read_regular(path, u64::MAX).map_err(RunFolderError::io("read", path))?;
    let (all, not_utf8) = text(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes));
    if not_utf8 {
        warnings.add(LineIssue::NotUtf8, || path.display().to_string());
    }
    let mut file = Reading {
        fields,
        warnings,
        found: Found::default(),
        problems: Vec::new(),
        seen: BTreeSet::new(),
        singles: BTreeMap::new(),
        ambiguous: None,
        of_lists: false,
    };
    if let Ok(value) = value(&all) {
        let items = if let Value::Array(items) = value {
            items
        } else {
            vec![value]
        };
        for (i, item) in items.into_iter().enumerate() {
            file.take(item, i, &format!("item {} of {}", i + 1, path.display()));
        }
    } else {
        for (i, line) in all
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let place = format!("line {} of {}", i + 1, path.display());
            match value(line) {
                Ok(value) => file.take(value, i, &place),
                Err(issue) => file.warnings.add(issue, || place),
            }
        }
    }
    let Reading {
        found,
        mut problems,
        ambiguous,
        of_lists,
        ..
    } = file;
    let unknown = |what: &'static str, role: &'static str| RunFolderError::NoField {
        path: path.to_owned(),
        what,
        fields: found.fields(),
        role,
    };
    if let Some(name) = ambiguous {
        return Err(RunFolderError::TwoAnswers {
            path: path.to_owned(),
            name,
        });
    }
    let absent = fields.named().find(|(role, _)| !found.named.contains(role));
    if let Some((role, name)) = absent.filter(|_| !found.line.is_empty()) {
        return Err(RunFolderError::NoSuchField {
            path: path.to_owned(),
            argument: format!("{role}={name}"),
            fields: found.fields(),
        });
    }
    if !found.line.is_empty() && !found.ids {
        return Err(unknown("the name of a problem", "id"));
    }
    if !found.line.is_empty() && !found.answers && !found.texts {
        return Err(unknown(
            "what a trace answered",
            "answer=NAME, or its text with --field text",
        ));
    }
    if !found.line.is_empty() && !found.lengths {
        return Err(unknown("how many tokens a trace has", "tokens"));
    }
    for problem in &mut problems {
        if of_lists && problem.records.is_empty() {
            warnings.add(LineIssue::NoTraces, || format!("problem `{}`", problem.id));
            problem.records.push(bare(0, Finish::Failed));
        }
        problem.records.sort_by_key(|record| record.trace);
        for (i, record) in problem.records.iter_mut().enumerate() {
            record.trace = i as u32;
            record.problem_id.clone_from(&problem.id);
            record.fresh = false;
        }
    }
    Ok(ForeignRecording {
        problems,
        fields: found.fields(),
    })
}

/// A file on its way into problems.
struct Reading<'a> {
    fields: &'a RecordingFields,
    warnings: &'a mut Warnings,
    found: Found,
    problems: Vec<ForeignProblem>,
    seen: BTreeSet<String>,
    /// where problems of single traces stand
    singles: BTreeMap<String, usize>,
    ambiguous: Option<&'static str>,
    /// whether lines are problems, so that one without traces is one that was not answered
    of_lists: bool,
}

impl Reading<'_> {
    fn take(&mut self, value: Value, number: usize, place: &str) {
        let Value::Object(mut object) = value else {
            return self.warnings.add(LineIssue::NotJson, || place.to_owned());
        };
        self.found.saw_line(&object, self.fields);
        let named = pick(&object, &self.fields.ids()).and_then(word);
        let shape = Shape::of(&object, self.fields);
        if matches!(shape, Shape::Single) {
            return self.single(object, named, place);
        }
        self.of_lists = true;
        if matches!(shape, Shape::Lists) && has_list(&object, &DUMPED) {
            self.warnings.add(LineIssue::ListsAndTraces, || place.to_owned());
        }
        // a problem that has no name has its place
        self.found.ids |= named.is_some() || self.fields.id.is_none();
        let id = named.unwrap_or_else(|| format!("line-{}", number + 1));
        self.other_values(&object, place);
        let gold = self.gold(&object, true, &id);
        if !self.seen.insert(id.clone()) {
            return self.warnings.add(LineIssue::Twice, || place.to_owned());
        }
        let records = match shape {
            Shape::Lists => self.lists(&mut object, &id, place),
            _ => self.dump(&mut object, place),
        };
        self.problems.push(ForeignProblem { id, gold, records });
    }

    /// The right answer that a line names; `of_problem` where `answer` is none of a trace's.
    fn gold(&mut self, object: &Map<String, Value>, of_problem: bool, id: &str) -> Option<String> {
        let mut names = self.fields.golds();
        if of_problem && !self.fields.is_gold_named() {
            names.extend(["answer", "Answer", "final_answer"]);
        }
        if let Some(value) = pick(object, &names) {
            self.other_golds(object, &names, id);
            let gold = word(value).filter(|gold| !gold.trim().is_empty());
            if gold.is_none() && !value.is_string() {
                self.warnings
                    .add(LineIssue::GoldKind, || format!("problem `{id}`"));
            }
            return gold;
        }
        boxed_solution(object).filter(|_| of_problem && !self.fields.is_gold_named())
    }

    /// Counts an object that says under two names how long a trace is, or how sure, and not the same.
    fn other_values(&mut self, object: &Map<String, Value>, place: &str) {
        for names in [self.fields.tokens(), self.fields.confidences()] {
            let all = names.iter().filter_map(|name| Some((name, object.get(*name)?)));
            let mut given = all.filter(|(_, value)| !value.is_null());
            let Some((first, value)) = given.next() else {
                continue;
            };
            if let Some((other, _)) = given.find(|(_, other)| *other != value) {
                self.warnings
                    .add(LineIssue::Values, || format!("`{first}` and `{other}`, {place}"));
            }
        }
    }

    /// Counts a line whose right answers, under several of these names, are not one.
    fn other_golds(&mut self, object: &Map<String, Value>, names: &[&str], id: &str) {
        // beside a right answer, a final one is what was voted
        let golds: Vec<_> = names
            .iter()
            .filter(|name| **name != "final_answer")
            .filter_map(|name| Some((name, word(object.get(*name)?)?)))
            .collect();
        let Some((first, right)) = golds.first() else {
            return;
        };
        let key = |answer: &str| canonical(answer, AnswerKind::Math);
        let other = golds.iter().find(|(_, gold)| key(gold) != key(right));
        if let Some((name, gold)) = other {
            self.warnings.add(LineIssue::Golds, || {
                format!(
                    "problem `{id}`: `{first}` is {}, `{name}` {}",
                    shown(right),
                    shown(gold)
                )
            });
        }
    }

    /// What a trace answered: a text or a number that is not empty.
    fn answer(&mut self, value: Option<&Value>, place: impl FnOnce() -> String) -> Option<String> {
        let value = value.filter(|v| !v.is_null())?;
        let answer = word(value);
        if answer.is_none() {
            self.warnings.add(LineIssue::AnswerKind, place);
        }
        answer.filter(|a| !a.trim().is_empty())
    }

    /// A trace of which only that it was there is known: it has no vote.
    fn broken(&mut self, issue: LineIssue, place: impl FnOnce() -> String) -> TraceRecord {
        self.warnings.add(issue, place);
        bare(0, Finish::Failed)
    }
}

/// A trace of which no more is known.
fn bare(tokens: usize, finish: Finish) -> TraceRecord {
    TraceRecord {
        finish,
        tokens,
        arrays: Arrays {
            len: tokens,
            ..Arrays::default()
        },
        scores: TraceScores::default(),
        ..TraceRecord::default()
    }
}

/// A trace's number of tokens: whole, at least 1, and no more than a record can hold.
fn count(value: Option<&Value>) -> Option<usize> {
    whole(value?)
        .filter(|n| (1..=u64::from(u32::MAX)).contains(n))
        .map(|n| n as usize)
}

/// Finite numbers, all of them or none.
fn numbers(values: &[Value]) -> Option<Vec<f64>> {
    let finite = |v: &Value| v.as_f64().filter(|x| x.is_finite());
    values.iter().map(finite).collect()
}
