//! Recordings made elsewhere whose lines are not one trace each.
//!
//! - A line a problem with arrays: `answers`, `lengths` (or `tokens`), and perhaps `gold`; the problem's name
//!   in `problem_id`, `problem`, `id` or
//!   `question_id`. An answer that is null or empty is none.
//! - Dumps of DeepConf's reference code as JSON: an object a question, or a list of them, with `traces`
//!   (`warmup_traces` and `final_traces` of its online runs), `ground_truth`, `question_id`; each trace with
//!   `num_tokens`, `extracted_answer`, `stop_reason`, and `confs`, or `group_confs` of the window that
//!   `config.window_size` names.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use tts_strategies::{Finish, TraceScores, TraceStatistics, WindowStatistics};

use super::error::RunFolderError;
use super::lenient::{parse, text, whole, word};
use super::warnings::{LineIssue, Warnings};
use super::{Arrays, TraceRecord};

/// A problem of such a recording.
pub(super) struct ForeignProblem {
    pub(super) id: String,
    pub(super) gold: Option<String>,
    pub(super) records: Vec<TraceRecord>,
}

/// Names of a problem, in the order in which they are looked for.
const NAMES: [&str; 5] = ["problem_id", "question_id", "qid", "problem", "id"];
const GOLDS: [&str; 3] = ["gold", "ground_truth", "answer"];
const DUMPED: [&str; 4] = ["warmup_traces", "final_traces", "traces", "all_traces"];

fn is_pool(object: &Map<String, Value>) -> bool {
    object.get("answers").is_some_and(Value::is_array)
}

fn is_dump(object: &Map<String, Value>) -> bool {
    DUMPED
        .iter()
        .any(|name| object.get(*name).is_some_and(Value::is_array))
}

fn is_foreign(value: &Value) -> bool {
    match value {
        Value::Object(object) => is_pool(object) || is_dump(object),
        Value::Array(items) => items.first().is_some_and(is_foreign),
        _ => false,
    }
}

/// Whether the beginning of a file says that it is one of these recordings. Lines of single traces are none,
/// and are told from their first line.
pub(super) fn is_one(path: &Path) -> Result<bool, RunFolderError> {
    use std::io::{BufRead, BufReader};
    let file = std::fs::File::open(path).map_err(RunFolderError::io("open", path))?;
    let mut first = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        first = line.map_err(RunFolderError::io("read", path))?;
        if !first.iter().all(u8::is_ascii_whitespace) {
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
        None => start.starts_with(b"[") || start == b"{",
    })
}

/// Reads such a file.
pub(super) fn read(path: &Path, warnings: &mut Warnings) -> Result<Vec<ForeignProblem>, RunFolderError> {
    let bytes = std::fs::read(path).map_err(RunFolderError::io("read", path))?;
    let (all, not_utf8) = text(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes));
    if not_utf8 {
        warnings.add(LineIssue::NotUtf8, || path.display().to_string());
    }
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    let mut take =
        |value: Value, place: String, warnings: &mut Warnings| match problem(value, &place, warnings) {
            Ok(foreign) if seen.insert(foreign.id.clone()) => problems.push(foreign),
            Ok(_) => warnings.add(LineIssue::Twice, || place),
            Err(issue) => warnings.add(issue, || place),
        };
    if let Some(value) = parse::<Value>(&all) {
        let items = if let Value::Array(items) = value {
            items
        } else {
            vec![value]
        };
        for (i, item) in items.into_iter().enumerate() {
            take(item, format!("item {} of {}", i + 1, path.display()), warnings);
        }
    } else {
        for (i, line) in all
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let place = format!("line {} of {}", i + 1, path.display());
            match parse::<Value>(line) {
                Some(value) => take(value, place, warnings),
                None => warnings.add(LineIssue::NotJson, || place),
            }
        }
    }
    Ok(problems)
}

fn problem(value: Value, place: &str, warnings: &mut Warnings) -> Result<ForeignProblem, LineIssue> {
    let Value::Object(mut object) = value else {
        return Err(LineIssue::NotJson);
    };
    let id = NAMES
        .iter()
        .find_map(|name| word(object.get(*name)?))
        .ok_or(LineIssue::NoName)?;
    let gold = GOLDS
        .iter()
        .find_map(|name| word(object.get(*name)?))
        .filter(|g| !g.is_empty());
    let mut records = if is_pool(&object) {
        pool(&mut object)?
    } else if is_dump(&object) {
        dump(&mut object, place, warnings)
    } else {
        return Err(LineIssue::NoName);
    };
    for (i, record) in records.iter_mut().enumerate() {
        record.trace = i as u32;
        record.problem_id.clone_from(&id);
        record.fresh = false;
    }
    Ok(ForeignProblem { id, gold, records })
}

fn list(object: &mut Map<String, Value>, name: &str) -> Option<Vec<Value>> {
    match object.remove(name) {
        Some(Value::Array(items)) => Some(items),
        _ => None,
    }
}

fn pool(object: &mut Map<String, Value>) -> Result<Vec<TraceRecord>, LineIssue> {
    let answers = list(object, "answers").unwrap_or_default();
    let lengths = list(object, "lengths")
        .or_else(|| list(object, "tokens"))
        .ok_or(LineIssue::NoTokens)?;
    if answers.len() != lengths.len() {
        return Err(LineIssue::Pool);
    }
    answers
        .iter()
        .zip(&lengths)
        .map(|(answer, length)| {
            let tokens = count(Some(length)).ok_or(LineIssue::NoTokens)?;
            Ok(TraceRecord {
                answer: word(answer).filter(|a| !a.trim().is_empty()),
                ..bare(tokens, Finish::Stop)
            })
        })
        .collect()
}

fn dump(object: &mut Map<String, Value>, place: &str, warnings: &mut Warnings) -> Vec<TraceRecord> {
    let window = object
        .get("config")
        .and_then(|c| c.get("window_size"))
        .and_then(whole)
        .map(|w| w as usize);
    // the package keeps all of them beside the two parts
    let parts: &[&str] = if object
        .get("all_traces")
        .is_some_and(|all| all.as_array().is_some_and(|a| !a.is_empty()))
    {
        &["all_traces"]
    } else {
        &DUMPED[..3]
    };
    let mut records = Vec::new();
    for part in parts {
        for (i, trace) in list(object, part).unwrap_or_default().into_iter().enumerate() {
            let here = || format!("{part}[{i}] of {place}");
            match trace {
                Value::Object(mut trace) => match dumped(&mut trace, window, |t| warnings.add(t, here)) {
                    Ok(record) => records.push(record),
                    Err(issue) => warnings.add(issue, here),
                },
                _ => warnings.add(LineIssue::NotJson, here),
            }
        }
    }
    records
}

fn dumped(
    trace: &mut Map<String, Value>,
    window: Option<usize>,
    mut warn: impl FnMut(LineIssue),
) -> Result<TraceRecord, LineIssue> {
    let ids = list(trace, "token_ids").unwrap_or_default();
    let confs = list(trace, "confs").unwrap_or_default();
    let groups = list(trace, "group_confs").unwrap_or_default();
    let known = [ids.len(), confs.len()].into_iter().find(|n| *n > 0);
    let tokens = count(trace.get("num_tokens"))
        .or(known)
        .ok_or(LineIssue::NoTokens)?;
    let stopped = trace
        .get("stop_reason")
        .or_else(|| trace.get("finish_reason"))
        .and_then(Value::as_str);
    let finish = match stopped {
        None | Some("stop" | "eos" | "eos_token") => Finish::Stop,
        Some("length" | "max_tokens") => Finish::Length,
        Some(reason) if reason.contains("conf") => Finish::LowConfidence,
        Some("abort" | "cancelled") => Finish::Cancelled,
        Some(_) => return Err(LineIssue::Finish),
    };
    let mut record = bare(tokens, finish);
    record.answer = trace
        .get("extracted_answer")
        .and_then(word)
        .filter(|a| !a.trim().is_empty());
    record.text = trace.get("text").and_then(Value::as_str).map(str::to_owned);
    if !ids.is_empty() {
        let id = |v: &Value| {
            whole(v)
                .and_then(|id| u32::try_from(id).ok())
                .filter(|id| *id != u32::MAX)
        };
        match ids
            .iter()
            .map(id)
            .collect::<Option<Vec<_>>>()
            .filter(|ids| ids.len() == tokens)
        {
            Some(ids) => record.arrays.token_ids = ids,
            None => warn(LineIssue::BadIds),
        }
    }
    let numbers = |values: &[Value]| {
        values
            .iter()
            .map(|v| v.as_f64().filter(|x| x.is_finite()))
            .collect::<Option<Vec<f64>>>()
    };
    if !confs.is_empty() {
        match numbers(&confs) {
            Some(confs) if confs.len() == tokens => {
                record.arrays.confidence = confs.iter().map(|c| *c as f32).collect()
            }
            Some(_) => warn(LineIssue::Lengths),
            None => warn(LineIssue::NotNumbers),
        }
    } else if let Some(window) = window.filter(|w| *w > 0 && !groups.is_empty()) {
        match numbers(&groups) {
            Some(groups) if tokens >= window && groups.len() == tokens - window + 1 => {
                record.measured = Some(Arc::new(of_groups(&groups, window)));
            }
            // a trace that never filled the window has its mean there
            Some(groups) if tokens < window && groups.len() == 1 => {
                record.measured = Some(Arc::new(of_mean(groups[0], window)))
            }
            Some(_) => warn(LineIssue::Lengths),
            None => warn(LineIssue::NotNumbers),
        }
    }
    Ok(record)
}

/// What the means of all groups of one window say.
fn of_groups(groups: &[f64], window: usize) -> TraceStatistics {
    let mut minima: Vec<(u32, f64)> = Vec::new();
    for (i, group) in groups.iter().enumerate() {
        if minima.last().is_none_or(|(_, lowest)| group < lowest) {
            minima.push(((i + window) as u32, *group));
        }
    }
    let mut sorted = groups.to_vec();
    sorted.sort_by(f64::total_cmp);
    let keep = ((tts_strategies::BOTTOM_FRACTION * sorted.len() as f64) as usize).max(1);
    TraceStatistics {
        windows: vec![WindowStatistics {
            window,
            tail: groups[groups.len() - 1],
            bottom: sorted[..keep].iter().sum::<f64>() / keep as f64,
            lowest_group: sorted[0],
            minima,
        }],
        ..TraceStatistics::default()
    }
}

fn of_mean(mean: f64, window: usize) -> TraceStatistics {
    TraceStatistics {
        mean: Some(mean),
        windows: vec![WindowStatistics {
            window,
            tail: mean,
            bottom: mean,
            lowest_group: mean,
            minima: Vec::new(),
        }],
        ..TraceStatistics::default()
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
