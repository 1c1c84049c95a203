//! A line a problem: lists of its traces' answers, lengths, confidences and log-probabilities.

use serde_json::{Map, Value};

use super::fields::take_list;
use super::{Reading, bare, count, numbers};
use crate::run::TraceRecord;
use crate::run::line::{finish_in, is_impossible};
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
        let logprobs = take_list(object, &["logprobs"]);
        let texts = take_list(object, &fields.text_lists());
        let lengths = take_list(object, &fields.tokens());
        let ends = take_list(object, &["finish_reasons", "stop_reasons", "finishes", "finish"]);
        self.found.answers = true;
        self.found.lengths |= lengths.is_some() || confidences.is_some();
        let n = answers.len();
        if n == 0 && lengths.as_ref().is_none_or(Vec::is_empty) {
            return vec![self.broken(LineIssue::NoTraces, of_problem)];
        }
        if let Some(lengths) = lengths.as_ref().filter(|lengths| lengths.len() != n) {
            // which length belongs to which answer is not known
            let n = n.max(lengths.len());
            return (0..n).map(|_| self.broken(LineIssue::Pool, of_problem)).collect();
        }
        let mut fitting = |lists: Option<Vec<Value>>| {
            let lists = lists?;
            if lists.len() == n {
                return Some(lists);
            }
            self.warnings.add(LineIssue::Confidences, of_problem);
            None
        };
        let (confidences, logprobs) = (fitting(confidences), fitting(logprobs));
        let (texts, ends) = (
            fitting(texts).unwrap_or_default(),
            fitting(ends).unwrap_or_default(),
        );
        let record = |(i, answer): (usize, &Value)| {
            let mut measured = |lists: &Option<Vec<Value>>| {
                let given = lists.as_ref()?.get(i).filter(|given| !given.is_null())?;
                let measured = given.as_array().and_then(|list| numbers(list));
                if measured.is_none() {
                    self.warnings.add(LineIssue::NotNumbers, here(i));
                }
                measured
            };
            let (measured, likely) = (measured(&confidences), measured(&logprobs));
            let length = match &lengths {
                Some(lengths) => count(lengths.get(i)),
                None => measured.as_ref().map(Vec::len).filter(|n| *n > 0),
            };
            let Some(tokens) = length else {
                return self.broken(LineIssue::NoTokens, here(i));
            };
            let Ok(finish) = finish_in([ends.get(i)]) else {
                return self.broken(LineIssue::Finish, here(i));
            };
            let mut record = bare(tokens, finish);
            record.trace = i as u32;
            record.answer = self.answer(Some(answer), here(i));
            record.text = texts.get(i).and_then(Value::as_str).map(str::to_owned);
            let mut whole = |numbers: Option<Vec<f64>>, sign: f64| {
                let numbers = numbers.filter(|numbers| !numbers.is_empty()).unwrap_or_default();
                if numbers.iter().any(|x| is_impossible(*x, sign)) {
                    self.warnings.add(LineIssue::Impossible, here(i));
                    return Vec::new();
                }
                if !numbers.is_empty() && numbers.len() != tokens {
                    self.warnings.add(LineIssue::Lengths, here(i));
                    return Vec::new();
                }
                numbers.iter().map(|x| *x as f32).collect()
            };
            (record.arrays.confidence, record.arrays.logprobs) = (whole(measured, 1.0), whole(likely, -1.0));
            record
        };
        answers.iter().enumerate().map(record).collect()
    }
}
