//! Dumps of DeepConf's reference code: an object a question, with its traces as objects.

use std::sync::Arc;

use serde_json::{Map, Value};
use tts_strategies::{Finish, TraceStatistics, WindowStatistics};

use super::fields::{pick, take_list};
use super::{DUMPED, Reading, bare, count, numbers};
use crate::run::TraceRecord;
use crate::run::lenient::whole;
use crate::run::line::{finish_of, is_impossible};
use crate::run::warnings::LineIssue;

impl Reading<'_> {
    pub(super) fn dump(&mut self, object: &mut Map<String, Value>, place: &str) -> Vec<TraceRecord> {
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
            let traces = take_list(object, &[part]).unwrap_or_default();
            for (i, trace) in traces.into_iter().enumerate() {
                let here = || format!("{part}[{i}] of {place}");
                let mut record = match trace {
                    Value::Object(mut trace) => self.dumped(&mut trace, window, &here),
                    _ => self.broken(LineIssue::NotJson, here),
                };
                record.trace = records.len() as u32;
                records.push(record);
            }
        }
        records
    }

    fn dumped(
        &mut self,
        trace: &mut Map<String, Value>,
        window: Option<usize>,
        here: &dyn Fn() -> String,
    ) -> TraceRecord {
        let fields = self.fields;
        self.other_values(trace, &here());
        self.found.saw_trace(trace, fields);
        let ids = take_list(trace, &["token_ids"]).unwrap_or_default();
        let confs = take_list(trace, &fields.confidences()).unwrap_or_default();
        let groups = take_list(trace, &["group_confs"]).unwrap_or_default();
        let known = [ids.len(), confs.len()].into_iter().find(|n| *n > 0);
        let length = pick(trace, &fields.tokens());
        self.found.lengths |= length.is_some() || known.is_some();
        let Some(tokens) = count(length).or(known) else {
            return self.broken(LineIssue::NoTokens, here);
        };
        let stopped = trace
            .get("stop_reason")
            .or_else(|| trace.get("finish_reason"))
            .and_then(Value::as_str);
        let Some(finish) = stopped.map_or(Some(Finish::Stop), finish_of) else {
            return self.broken(LineIssue::Finish, here);
        };
        let mut record = bare(tokens, finish);
        record.answer = self.answer(pick(trace, &fields.trace_answers()), here);
        record.text = pick(trace, &fields.texts())
            .and_then(Value::as_str)
            .map(str::to_owned);
        let mut warn = |issue| self.warnings.add(issue, here);
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
        if !confs.is_empty() {
            match numbers(&confs) {
                Some(confs) if confs.iter().any(|c| is_impossible(*c, 1.0)) => warn(LineIssue::Impossible),
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
        record
    }
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
            tail_entropy: None,
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
            tail_entropy: None,
            minima: Vec::new(),
        }],
        ..TraceStatistics::default()
    }
}
