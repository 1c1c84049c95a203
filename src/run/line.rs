//! One line of traces.jsonl: how a trace is written, and how lines of our own and of strangers are read.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tts_strategies::{Finish, Fork, TraceId, TraceScores};

use super::lenient::{parse, text, value, whole, word};
use super::warnings::LineIssue;
use super::{Arrays, Phase, TraceRecord};
use crate::evals::json::Unambiguous;
use tts_model::sampling::TOP;

/// Bytes of one token in tokens.bin: id, log-probability, confidence. The log-probabilities of the most
/// likely ids come on top.
const TOKEN_BYTES: u64 = 12;

/// Where a trace's arrays are in tokens.bin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ArraysSpan {
    pub(super) offset: u64,
    pub(super) n: u64,
    /// Log-probabilities of the most likely ids that are kept of each token.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) top_k: u64,
    /// First 8 bytes of the blake3 of the bytes, in hex; recordings made elsewhere have none.
    pub(super) check: Option<String>,
}

impl ArraysSpan {
    fn of(value: &Value) -> Option<Self> {
        let (offset, n) = (value.get("offset")?.as_u64()?, value.get("n")?.as_u64()?);
        let top_k = value
            .get("top_k")
            .map_or(Some(0), Value::as_u64)
            .filter(|k| *k <= TOP as u64)?;
        offset.checked_add(n.checked_mul(TOKEN_BYTES + 4 * top_k)?)?;
        Some(Self {
            offset,
            n,
            top_k,
            check: value.get("check").and_then(Value::as_str).map(str::to_owned),
        })
    }
    pub(super) fn end(&self) -> u64 {
        self.offset + self.n * (TOKEN_BYTES + 4 * self.top_k)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

pub(super) fn checksum(bytes: &[u8]) -> String {
    check_of(blake3::hash(bytes))
}

/// The part of a hash that is written down.
pub(super) fn check_of(hash: blake3::Hash) -> String {
    hash.to_hex()[..CHECK].to_owned()
}

/// What a line of the journal ends with, before the check of the rest and `"}`.
const SEAL: &[u8] = b",\"line_check\":\"";
const CHECK: usize = 16;

/// A line with a check over all of it as its last field, so that damage to it is noticed.
pub(super) fn sealed(mut line: Vec<u8>) -> Vec<u8> {
    let check = checksum(&line);
    line.pop();
    line.extend(SEAL);
    line.extend(check.bytes());
    line.extend(b"\"}");
    line
}

/// The line as it was before it was sealed. Lines without a check are taken as they are: older versions and other
/// programs write them.
pub(super) fn unsealed(line: &[u8]) -> Result<Cow<'_, [u8]>, LineIssue> {
    let line = line.trim_ascii_end();
    let end = line.len().checked_sub(SEAL.len() + CHECK + 2);
    let sealed = end.filter(|at| line[*at..].starts_with(SEAL) && line.ends_with(b"\"}"));
    let Some(at) = sealed else {
        // one that stands elsewhere or is written otherwise is of another line
        let name = &SEAL[1..SEAL.len() - 2];
        let named = line.windows(name.len()).any(|part| part == name);
        return if named {
            Err(LineIssue::LineAltered)
        } else {
            Ok(Cow::Borrowed(line))
        };
    };
    let own = [&line[..at], b"}"].concat();
    let check = &line[at + SEAL.len()..line.len() - 2];
    if checksum(&own).as_bytes() == check {
        Ok(Cow::Owned(own))
    } else {
        Err(LineIssue::LineAltered)
    }
}

#[derive(Serialize)]
struct TraceLine<'a> {
    problem_id: &'a str,
    trace: TraceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a str>,
    phase: Phase,
    finish: Finish,
    tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    fork: Option<Fork>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    shown: &'a [TraceId],
    #[serde(skip_serializing_if = "is_zero")]
    unseen: u64,
    text: Option<&'a str>,
    answer: Option<&'a str>,
    answer_key: Option<&'a str>,
    extraction: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrays: Option<ArraysSpan>,
    scores: &'a TraceScores,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_certainty_sum: Option<f64>,
    seconds: f64,
}

/// The bytes of a trace: its arrays for tokens.bin, to be written at `offset`, and its line with the newline.
pub(super) fn encode(
    record: &TraceRecord,
    offset: u64,
    seed: Option<u64>,
    prompt: Option<&str>,
) -> (Vec<u8>, Vec<u8>) {
    let (n, a) = (record.tokens, &record.arrays);
    let held = [a.token_ids.len(), a.logprobs.len(), a.confidence.len()];
    let mut bytes = Vec::new();
    let top_k = a.top_k();
    if n > 0 && held.contains(&n) {
        // an array that was not measured is all ones, which is NaN: so the layout is the same for every trace
        let mut put = |held: usize, value: &dyn Fn(usize) -> [u8; 4]| {
            (0..n).for_each(|i| bytes.extend(if held == n { value(i) } else { [0xff; 4] }))
        };
        put(held[0], &|i| a.token_ids[i].to_le_bytes());
        put(held[1], &|i| a.logprobs[i].to_le_bytes());
        put(held[2], &|i| a.confidence[i].to_le_bytes());
        a.top[..n * top_k]
            .iter()
            .for_each(|p| bytes.extend(p.to_le_bytes()));
    }
    let arrays = (!bytes.is_empty()).then(|| ArraysSpan {
        offset,
        n: n as u64,
        top_k: top_k as u64,
        check: Some(checksum(&bytes)),
    });
    let line = TraceLine {
        problem_id: &record.problem_id,
        trace: record.trace,
        seed,
        prompt,
        phase: record.phase,
        finish: record.finish,
        tokens: n,
        fork: record.fork,
        shown: &record.shown,
        unseen: record.unseen,
        text: record.text.as_deref(),
        answer: record.answer.as_deref(),
        answer_key: record.answer_key.as_deref(),
        extraction: record.extraction.as_deref(),
        arrays,
        scores: &record.scores,
        self_certainty_sum: record.self_certainty_sum,
        seconds: record.seconds,
    };
    let mut line = sealed(serde_json::to_vec(&line).expect("a trace line is plain data"));
    line.push(b'\n');
    (bytes, line)
}

/// What the index needs of a line; arrays in the line are counted, not kept.
#[derive(Deserialize)]
struct RawLineHead {
    problem_id: Option<Value>,
    trace: Option<Value>,
    finish: Option<Value>,
    finish_reason: Option<Value>,
    stop_reason: Option<Value>,
    tokens: Option<Value>,
    arrays: Option<Unambiguous>,
    /// only looked at for keys that stand twice
    #[serde(rename = "scores")]
    _scores: Option<Unambiguous>,
    gold: Option<Value>,
    prompt: Option<Value>,
    token_ids: Option<Vec<IgnoredAny>>,
    logprobs: Option<Vec<IgnoredAny>>,
    confidence: Option<Vec<IgnoredAny>>,
}

/// A line as the index sees it.
#[derive(Debug)]
pub(super) struct LineHead {
    pub(super) problem_id: String,
    pub(super) gold: Option<String>,
    pub(super) prompt: Option<String>,
    /// nothing in a line that names no trace
    pub(super) trace: Option<(TraceId, u64, Finish)>,
    pub(super) span: Option<ArraysSpan>,
    pub(super) not_utf8: bool,
    /// only that the trace was there is known
    pub(super) broken: bool,
}

impl LineHead {
    pub(super) fn read(line: &[u8]) -> Result<Self, LineIssue> {
        let line = unsealed(line)?;
        let (text, not_utf8) = text(&line);
        let (raw, _) = parsed::<RawLineHead>(&text)?;
        let problem_id = raw.problem_id.as_ref().and_then(word).ok_or(LineIssue::NoName)?;
        let gold = raw.gold.as_ref().and_then(word);
        let span = match &raw.arrays {
            Some(Unambiguous(arrays)) => Some(ArraysSpan::of(arrays).ok_or(LineIssue::NoSpan)?),
            None => None,
        };
        let trace = match raw.trace {
            None | Some(Value::Null) if gold.is_some() => None,
            None => return Err(LineIssue::NoName),
            Some(value) => {
                let trace = whole(&value)
                    .and_then(|t| TraceId::try_from(t).ok())
                    .ok_or(LineIssue::NoName)?;
                let finish =
                    finish_in([&raw.finish, &raw.finish_reason, &raw.stop_reason].map(Option::as_ref))?;
                let inline = [&raw.token_ids, &raw.logprobs, &raw.confidence]
                    .into_iter()
                    .flatten()
                    .map(Vec::len)
                    .find(|n| *n > 0);
                let tokens = match &raw.tokens {
                    None | Some(Value::Null) => span.as_ref().map(|s| s.n).or(inline.map(|n| n as u64)),
                    Some(value) => whole(value),
                };
                // a trace that ended by itself has at least one token
                let ended = finish.is_complete();
                let tokens = tokens
                    .filter(|n| *n <= u64::from(u32::MAX) && (*n > 0 || !ended))
                    .ok_or(LineIssue::NoTokens)?;
                Some((trace, tokens, finish))
            }
        };
        Ok(Self {
            problem_id,
            gold,
            prompt: raw.prompt.as_ref().and_then(word),
            trace,
            span,
            not_utf8,
            broken: false,
        })
    }
}

/// A line, without those of its arrays that hold something else than numbers; whether there were any.
fn parsed<T: DeserializeOwned>(text: &str) -> Result<(T, bool), LineIssue> {
    if let Some(line) = parse(text) {
        return Ok((line, false));
    }
    let Value::Object(mut line) = value(text)? else {
        return Err(LineIssue::NotJson);
    };
    let is_number = |v: &Value| v.is_number() || v.is_null();
    line.retain(|name, value| {
        !["token_ids", "logprobs", "confidence"].contains(&name.as_str())
            || value.is_null()
            || value.as_array().is_some_and(|list| list.iter().all(is_number))
    });
    let line = serde_json::from_value(Value::Object(line)).map_err(|_| LineIssue::NotJson)?;
    Ok((line, true))
}

/// What can be read of a line that is no whole trace: which problem and which trace.
#[derive(Deserialize)]
struct RawName {
    problem_id: Option<Value>,
    trace: Option<Value>,
    gold: Option<Value>,
    answer: Option<Value>,
    tokens: Option<Value>,
}

impl LineHead {
    /// A line whose trace has no vote, because its length, its end or its number cannot be read: nothing more
    /// is known than that it was there. `number` is the line's, and names a trace that has no number.
    pub(super) fn broken(line: &[u8], number: u32) -> Option<Self> {
        let raw: RawName = parse(&text(&unsealed(line).ok()?).0)?;
        let of_trace = [&raw.trace, &raw.answer, &raw.tokens];
        if !of_trace.into_iter().flatten().any(|value| !value.is_null()) {
            return None;
        }
        let named = raw.trace.as_ref().and_then(whole);
        let named = named.and_then(|t| TraceId::try_from(t).ok());
        Some(Self {
            problem_id: raw.problem_id.as_ref().and_then(word)?,
            gold: raw.gold.as_ref().and_then(word),
            prompt: None,
            trace: Some((named.unwrap_or(TraceId::MAX - number), 0, Finish::Failed)),
            span: None,
            not_utf8: false,
            broken: true,
        })
    }

    /// The trace's name in a sentence.
    pub(super) fn named(&self) -> String {
        match self.trace {
            Some((trace, ..)) if trace < TraceId::MAX / 2 => {
                format!("trace {trace} of problem `{}`", self.problem_id)
            }
            _ => format!("a trace of problem `{}`", self.problem_id),
        }
    }
}

#[derive(Deserialize)]
struct RawTrace {
    phase: Option<Value>,
    fork: Option<Value>,
    shown: Option<Value>,
    unseen: Option<Value>,
    text: Option<Value>,
    answer: Option<Value>,
    answer_key: Option<Value>,
    extraction: Option<Value>,
    token_ids: Option<Vec<Option<f64>>>,
    logprobs: Option<Vec<Option<f64>>>,
    confidence: Option<Vec<Option<f64>>>,
    scores: Option<Value>,
    self_certainty_sum: Option<Value>,
    seconds: Option<Value>,
}

/// A whole trace. `arrays` are its bytes of tokens.bin, if its line names any there; what was passed over
/// goes to `warn`.
pub(super) fn decode(
    line: &[u8],
    arrays: Option<&[u8]>,
    mut warn: impl FnMut(LineIssue),
) -> Result<TraceRecord, LineIssue> {
    let head = LineHead::read(line)?;
    let (trace, tokens, finish) = head.trace.ok_or(LineIssue::NoName)?;
    let line = unsealed(line)?;
    let (text, _) = text(&line);
    let (raw, not_numbers) = parsed::<RawTrace>(&text)?;
    if not_numbers {
        warn(LineIssue::NotNumbers);
    }
    if raw
        .answer
        .as_ref()
        .is_some_and(|a| !a.is_null() && word(a).is_none())
    {
        warn(LineIssue::AnswerKind);
    }
    let n = tokens as usize;
    let mut held = Arrays {
        len: n,
        ..Arrays::default()
    };
    if let (Some(span), Some(bytes)) = (&head.span, arrays) {
        if span.check.as_ref().is_some_and(|check| *check != checksum(bytes)) {
            return Err(LineIssue::Altered);
        }
        if span.n != tokens && span.check.is_some() {
            // a line of ours that contradicts itself: without its arrays the trace would be another one
            return Err(LineIssue::Lengths);
        }
        if span.n != tokens {
            warn(LineIssue::Lengths);
        } else {
            let part = |i: usize| {
                bytes[i * n * 4..(i + 1) * n * 4]
                    .chunks_exact(4)
                    .map(|b| [b[0], b[1], b[2], b[3]])
            };
            held.token_ids = part(0).map(u32::from_le_bytes).collect();
            if held.token_ids.contains(&u32::MAX) {
                if held.token_ids.iter().any(|id| *id != u32::MAX) {
                    warn(LineIssue::BadIds);
                }
                held.token_ids.clear();
            }
            held.logprobs = possible(part(1).map(f32::from_le_bytes).collect(), -1.0, &mut warn);
            held.confidence = possible(part(2).map(f32::from_le_bytes).collect(), 1.0, &mut warn);
            held.top = bytes[12 * n..]
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
        }
    } else {
        let mut inline = |array: Option<Vec<Option<f64>>>| match array {
            Some(a) if !a.is_empty() && a.len() != n => {
                warn(LineIssue::Lengths);
                Vec::new()
            }
            a => a.unwrap_or_default(),
        };
        let (ids, logprobs, confidence) = (
            inline(raw.token_ids),
            inline(raw.logprobs),
            inline(raw.confidence),
        );
        let id = |x: &Option<f64>| {
            x.filter(|x| x.fract() == 0.0 && (0.0..f64::from(u32::MAX)).contains(x))
                .map(|x| x as u32)
        };
        held.token_ids = ids.iter().map(id).collect::<Option<_>>().unwrap_or_else(|| {
            warn(LineIssue::BadIds);
            Vec::new()
        });
        let floats = |array: Vec<Option<f64>>| {
            array
                .into_iter()
                .map(|x| x.map_or(f32::NAN, |x| x as f32))
                .collect()
        };
        held.logprobs = possible(floats(logprobs), -1.0, &mut warn);
        held.confidence = possible(floats(confidence), 1.0, &mut warn);
    }
    let origin = |named: Option<Value>| named.filter(|value| !value.is_null());
    let fork = match origin(raw.fork) {
        Some(value) => {
            let fork = Fork::deserialize(value).map_err(|_| LineIssue::Origin)?;
            if fork.trace >= trace || fork.tokens > n {
                return Err(LineIssue::Origin);
            }
            Some(fork)
        }
        None => None,
    };
    let shown = match origin(raw.shown) {
        Some(value) => Vec::<TraceId>::deserialize(value).map_err(|_| LineIssue::Origin)?,
        None => Vec::new(),
    };
    if shown.iter().any(|other| *other >= trace) {
        return Err(LineIssue::Origin);
    }
    let string = |v: Option<Value>| v.as_ref().and_then(|v| v.as_str().map(str::to_owned));
    Ok(TraceRecord {
        problem_id: head.problem_id,
        trace,
        phase: raw
            .phase
            .and_then(|p| serde_json::from_value(p).ok())
            .unwrap_or_default(),
        finish,
        tokens: n,
        fork,
        shown,
        // no trace has more
        unseen: raw
            .unseen
            .as_ref()
            .and_then(Value::as_u64)
            .filter(|n| *n <= u64::from(u32::MAX))
            .unwrap_or(0),
        text: string(raw.text),
        answer: raw.answer.as_ref().and_then(word),
        answer_key: string(raw.answer_key),
        extraction: string(raw.extraction),
        arrays: held,
        measured: None,
        scores: raw
            .scores
            .and_then(|s| serde_json::from_value(s).ok())
            .unwrap_or_default(),
        self_certainty_sum: raw.self_certainty_sum.as_ref().and_then(Value::as_f64),
        seconds: raw.seconds.as_ref().and_then(Value::as_f64).unwrap_or(0.0),
        fresh: false,
        is_solution: false,
        ids: None,
    })
}

/// All of them, or none when one is NaN; all NaN is how an array that was not measured is written.
fn numbers(array: Vec<f32>, warn: &mut impl FnMut(LineIssue)) -> Vec<f32> {
    let bad = array.iter().filter(|x| x.is_nan()).count();
    if bad == 0 {
        return array;
    }
    if bad < array.len() {
        warn(LineIssue::NotNumbers);
    }
    Vec::new()
}

/// Numbers of this sign, as no confidence is below 0 and no log-probability above, but for what rounding leaves.
fn possible(array: Vec<f32>, sign: f32, warn: &mut impl FnMut(LineIssue)) -> Vec<f32> {
    let array = numbers(array, warn);
    if array
        .iter()
        .any(|x| is_impossible(f64::from(*x), f64::from(sign)))
    {
        warn(LineIssue::Impossible);
        return Vec::new();
    }
    array
}

/// Whether a number is on the other side of 0 than its sign, by more than rounding leaves.
pub(super) fn is_impossible(x: f64, sign: f64) -> bool {
    x * sign < -1e-3
}

/// Fields that say how a trace ended: the own one, and what engines and DeepConf's code call it.
pub(super) const ENDS: [&str; 3] = ["finish", "finish_reason", "stop_reason"];

/// How a trace ended, by the first of these that says so; by itself where none does.
pub(super) fn finish_in<const N: usize>(values: [Option<&Value>; N]) -> Result<Finish, LineIssue> {
    let Some(value) = values.into_iter().flatten().find(|value| !value.is_null()) else {
        return Ok(Finish::Stop);
    };
    let word = value.as_str().and_then(finish_of);
    word.map_or_else(|| Finish::deserialize(value).map_err(|_| LineIssue::Finish), Ok)
}

/// How a trace ended, as engines say it.
pub(super) fn finish_of(reason: &str) -> Option<Finish> {
    Some(match reason {
        "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" => Finish::Stop,
        "length" | "max_tokens" => Finish::Length,
        "abort" | "cancelled" => Finish::Cancelled,
        reason if reason.contains("conf") => Finish::LowConfidence,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> (Result<TraceRecord, LineIssue>, Vec<LineIssue>) {
        let mut warned = Vec::new();
        let record = decode(line.as_bytes(), None, |t| warned.push(t));
        (record, warned)
    }

    #[test]
    fn a_trace_comes_back_as_it_was_written() {
        let record = TraceRecord {
            problem_id: "p \"1\"\n\u{2028}".into(),
            trace: 3,
            phase: Phase::Warmup,
            finish: Finish::LowConfidence,
            tokens: 3,
            fork: Some(Fork { trace: 1, tokens: 2 }),
            shown: vec![2, 0],
            unseen: 3,
            text: Some("a\u{0}b\r\n\u{1F600}".into()),
            answer: Some("042".into()),
            answer_key: Some("42".into()),
            extraction: Some("boxed".into()),
            arrays: Arrays {
                len: 3,
                token_ids: vec![0, 7, u32::MAX - 1],
                logprobs: vec![-0.1, f32::MIN_POSITIVE, -1e30],
                confidence: vec![16.9, f32::INFINITY, 0.0],
                top: vec![-0.5, -1.0, -0.25, f32::NEG_INFINITY, -1e-9, -40.0],
            },
            measured: None,
            scores: TraceScores {
                mean: Some(0.1),
                self_certainty: Some(1.0 / 3.0),
                ..TraceScores::default()
            },
            self_certainty_sum: Some(0.1 + 0.2),
            seconds: 0.25,
            fresh: false,
            is_solution: false,
            ids: None,
        };
        let (bytes, line) = encode(&record, 24, Some(u64::MAX), Some("ab"));
        assert_eq!(bytes.len(), 60);
        assert_eq!(bytes[4..8], 7u32.to_le_bytes());
        assert_eq!(bytes[12..16], (-0.1f32).to_le_bytes());
        assert_eq!(bytes[24..28], 16.9f32.to_le_bytes());
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        let head = LineHead::read(&line).expect("a head");
        assert_eq!(head.span.as_ref().map(|s| (s.offset, s.end())), Some((24, 84)));
        assert_eq!(
            decode(&line, Some(&bytes), |t| panic!("{t:?}")).expect("read"),
            record
        );
        let mut torn = bytes.clone();
        torn[20] ^= 1;
        assert_eq!(
            decode(&line, Some(&torn), |_| {}).expect_err("altered"),
            LineIssue::Altered
        );
        // what was not measured is not made up
        let bare = TraceRecord {
            arrays: Arrays {
                len: 3,
                confidence: vec![1.0, 2.0, 3.0],
                ..Arrays::default()
            },
            ..record.clone()
        };
        let (bytes, line) = encode(&bare, 0, None, None);
        assert_eq!(
            decode(&line, Some(&bytes), |t| panic!("{t:?}")).expect("read"),
            bare
        );
        let none = TraceRecord {
            arrays: Arrays {
                len: 3,
                ..Arrays::default()
            },
            ..record
        };
        let (bytes, line) = encode(&none, 0, None, None);
        assert!(bytes.is_empty());
        assert_eq!(decode(&line, None, |t| panic!("{t:?}")).expect("read"), none);
    }

    #[test]
    fn strangers_lines_are_read_as_far_as_they_go() {
        let (record, warned) =
            read(r#"{"problem_id": 7, "trace": 2.0, "answer": 12, "tokens": 5, "stranger": [1, {"a": 2}]}"#);
        let record = record.expect("enough");
        assert_eq!(
            (
                record.problem_id.as_str(),
                record.trace,
                record.tokens,
                record.finish
            ),
            ("7", 2, 5, Finish::Stop)
        );
        assert_eq!((record.answer.as_deref(), warned.len()), (Some("12"), 0));
        let (record, warned) = read(
            r#"{"problem_id": "p", "trace": 0, "token_ids": [5, 6], "confidence": [1.5, 2], "logprobs": [-1, -2, -3], "finish": "length"}"#,
        );
        let record = record.expect("enough");
        assert_eq!(
            record.arrays,
            Arrays {
                len: 2,
                token_ids: vec![5, 6],
                confidence: vec![1.5, 2.0],
                ..Arrays::default()
            }
        );
        assert_eq!(warned, [LineIssue::Lengths]);
        let (record, warned) = read(
            r#"{"problem_id": "NaN \" NaN", "trace": 0, "tokens": 2, "confidence": [NaN, -Infinity], "logprobs": [1, NaN], "token_ids": [1.5, -1]}"#,
        );
        let record = record.expect("enough");
        assert_eq!(
            (record.problem_id.as_str(), record.arrays),
            (
                "NaN \" NaN",
                Arrays {
                    len: 2,
                    ..Arrays::default()
                }
            )
        );
        assert_eq!(warned, [LineIssue::BadIds, LineIssue::NotNumbers]);
        for (line, issue) in [
            ("[]", LineIssue::NotJson),
            ("{", LineIssue::NotJson),
            (
                r#"{"problem_id": "p", "trace": 0, "tokens": 1, "answer": "1", "answer": "2"}"#,
                LineIssue::KeyTwice,
            ),
            (
                r#"{"problem_id": "p", "trace": 0, "trace": 1, "tokens": 1}"#,
                LineIssue::KeyTwice,
            ),
            (
                r#"{"problem_id": "p", "trace": 0, "arrays": {"offset": 0, "n": 1, "n": 2}}"#,
                LineIssue::KeyTwice,
            ),
            (
                r#"{"problem_id": "p", "trace": 0, "tokens": 1, "scores": {"mean": 1, "mean": 2}}"#,
                LineIssue::KeyTwice,
            ),
            (r#"{"trace": 0, "tokens": 1}"#, LineIssue::NoName),
            (r#"{"problem_id": "p", "tokens": 1}"#, LineIssue::NoName),
            (
                r#"{"problem_id": "p", "trace": -1, "tokens": 1}"#,
                LineIssue::NoName,
            ),
            (
                r#"{"problem_id": "p", "trace": 4294967296, "tokens": 1}"#,
                LineIssue::NoName,
            ),
            (
                r#"{"problem_id": "p", "trace": 0, "answer": "1"}"#,
                LineIssue::NoTokens,
            ),
            (
                r#"{"problem_id": "p", "trace": 0, "tokens": 0}"#,
                LineIssue::NoTokens,
            ),
            (
                r#"{"problem_id": "p", "trace": 0, "tokens": 1e300}"#,
                LineIssue::NoTokens,
            ),
            (
                r#"{"problem_id": "p", "trace": 0, "tokens": 1, "finish": "bored"}"#,
                LineIssue::Finish,
            ),
        ] {
            assert_eq!(read(line).0.expect_err(line), issue, "{line}");
        }
        for (end, finish) in [
            ("\"finish_reason\": \"length\"", Finish::Length),
            ("\"stop_reason\": \"max_tokens\"", Finish::Length),
            ("\"finish\": null, \"finish_reason\": \"stop\"", Finish::Stop),
            ("\"finish\": \"eos\"", Finish::Stop),
            ("\"finish\": \"loop\", \"finish_reason\": \"stop\"", Finish::Loop),
            ("\"stop_reason\": \"gconf_threshold\"", Finish::LowConfidence),
        ] {
            let line = format!("{{\"problem_id\": \"p\", \"trace\": 0, \"tokens\": 1, {end}}}");
            assert_eq!(read(&line).0.expect(&line).finish, finish, "{line}");
        }
        for origin in [
            r#""fork": "x""#,
            r#""fork": {"trace": 0}"#,
            r#""fork": {"trace": 3, "tokens": 1}"#,
            r#""fork": {"trace": 0, "tokens": 9}"#,
            r#""shown": [-1]"#,
            r#""shown": [3]"#,
        ] {
            let line = format!("{{\"problem_id\": \"p\", \"trace\": 3, \"tokens\": 4, {origin}}}");
            assert_eq!(read(&line).0.expect_err(&line), LineIssue::Origin, "{line}");
        }
        let gold = LineHead::read(br#"{"problem_id": "p", "gold": 42}"#).expect("gold alone is fine");
        assert_eq!((gold.gold.as_deref(), gold.trace.is_none()), (Some("42"), true));
    }
}
