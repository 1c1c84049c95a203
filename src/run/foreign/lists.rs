//! A line a problem: lists of its traces' answers, lengths and confidences.

use serde_json::{Map, Value};
use tts_strategies::Finish;

use super::fields::take_list;
use super::{Reading, bare, count, numbers};
use crate::run::TraceRecord;
use crate::run::warnings::LineIssue;

impl Reading<'_> {
    pub(super) fn lists(
        &mut self,
        object: &mut Map<String, Value>,
        id: &str,
        place: &str,
    ) -> Vec<TraceRecord> {
        let fields = self.fields;
        let here = |i: usize| move || format!("trace {i} of problem `{id}`, {place}");
        let of_problem = || format!("problem `{id}`, {place}");
        let answers = take_list(object, &fields.answer_lists()).unwrap_or_default();
        let confidences = take_list(object, &fields.confidences());
        let texts = take_list(object, &["texts"]).unwrap_or_default();
        let lengths = take_list(object, &fields.tokens());
        self.found.answers = true;
        self.found.lengths |= lengths.is_some() || confidences.is_some();
        let n = answers.len();
        if let Some(lengths) = lengths.as_ref().filter(|lengths| lengths.len() != n) {
            // which length belongs to which answer is not known
            let n = n.max(lengths.len());
            return (0..n).map(|_| self.broken(LineIssue::Pool, of_problem)).collect();
        }
        let confidences = confidences.filter(|lists| {
            let fits = lists.len() == n;
            if !fits {
                self.warnings.add(LineIssue::Confidences, of_problem);
            }
            fits
        });
        let texts = if texts.len() == n { texts } else { Vec::new() };
        let record = |(i, answer): (usize, &Value)| {
            let given = confidences
                .as_ref()
                .map(|lists| &lists[i])
                .filter(|given| !given.is_null());
            let measured = given.and_then(Value::as_array).and_then(|list| numbers(list));
            if given.is_some() && measured.is_none() {
                self.warnings.add(LineIssue::NotNumbers, here(i));
            }
            let length = match &lengths {
                Some(lengths) => count(lengths.get(i)),
                None => measured.as_ref().map(Vec::len).filter(|n| *n > 0),
            };
            let Some(tokens) = length else {
                return self.broken(LineIssue::NoTokens, here(i));
            };
            let mut record = bare(tokens, Finish::Stop);
            record.trace = i as u32;
            record.answer = self.answer(Some(answer), here(i));
            record.text = texts.get(i).and_then(Value::as_str).map(str::to_owned);
            if let Some(measured) = measured.filter(|m| !m.is_empty()) {
                if measured.len() == tokens {
                    record.arrays.confidence = measured.iter().map(|c| *c as f32).collect();
                } else {
                    self.warnings.add(LineIssue::Lengths, here(i));
                }
            }
            record
        };
        answers.iter().enumerate().map(record).collect()
    }
}
