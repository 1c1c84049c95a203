//! A line a trace, with fields that are not called as in a run folder.

use serde_json::{Map, Value};
use tts_strategies::{Finish, TraceId};

use super::fields::{has, pick};
use super::{ForeignProblem, Reading, bare};
use crate::run::lenient::whole;
use crate::run::line::{self, ENDS};
use crate::run::warnings::LineIssue;

impl Reading<'_> {
    pub(super) fn single(&mut self, object: Map<String, Value>, id: Option<String>, place: &str) {
        let Some(id) = id else {
            return self.warnings.add(LineIssue::NoName, || place.to_owned());
        };
        self.found.ids = true;
        if self.ambiguous.is_none() {
            self.ambiguous = self.fields.ambiguous(&object);
        }
        if self.seen.contains(&id) && !self.singles.contains_key(&id) {
            // its traces stand in a list
            return self.warnings.add(LineIssue::Twice, || place.to_owned());
        }
        self.other_values(&object, place);
        let gold = self.gold(&object, false, &id);
        let at = *self.singles.entry(id.clone()).or_insert_with(|| {
            self.seen.insert(id.clone());
            self.problems.push(ForeignProblem {
                id: id.clone(),
                gold: None,
                records: Vec::new(),
            });
            self.problems.len() - 1
        });
        match (&self.problems[at].gold, gold) {
            (None, gold) => self.problems[at].gold = gold,
            (Some(old), Some(new)) if *old != new => self.warnings.add(LineIssue::Gold, || id.clone()),
            _ => {}
        }
        let answers = self.fields.trace_answers();
        self.found.answers |= has(&object, &answers);
        self.found.texts |= self.fields.has_text_alone(&object);
        let is_trace = ["trace", "tokens"].iter().any(|name| object.contains_key(*name))
            || has(&object, &answers)
            || has(&object, &self.fields.texts());
        if !is_trace {
            return;
        }
        let next = self.problems[at].records.len() as TraceId;
        let number = object.get("trace").and_then(whole);
        let number = number.and_then(|n| TraceId::try_from(n).ok());
        let here = |place: &str| format!("trace {} of problem `{id}`, {place}", number.unwrap_or(next));
        let answer = self.answer(pick(&object, &answers), || here(place));
        // as a run folder would hold it
        let own = self.own(object, &id, number.unwrap_or(next), answer);
        self.found.lengths |= ["tokens", "token_ids", "logprobs", "confidence"]
            .iter()
            .any(|name| own.get(*name).is_some_and(|v| !v.is_null()));
        let line = serde_json::to_vec(&own).expect("JSON");
        let warnings = &mut *self.warnings;
        let read = line::decode(&line, None, |issue| warnings.add(issue, || here(place)));
        let record = read.unwrap_or_else(|issue| {
            warnings.add(issue, || here(place));
            let mut record = bare(0, Finish::Failed);
            record.trace = number.unwrap_or(next);
            record
        });
        let records = &mut self.problems[at].records;
        match records.iter_mut().find(|known| known.trace == record.trace) {
            Some(known) => {
                self.warnings.add(LineIssue::TwoEnds, || here(place));
                if record.tokens > known.tokens {
                    *known = record;
                }
            }
            None => records.push(record),
        }
    }

    /// The line with the names of a run folder.
    fn own(
        &self,
        mut object: Map<String, Value>,
        id: &str,
        trace: TraceId,
        answer: Option<String>,
    ) -> Map<String, Value> {
        let renamed = [
            ("tokens", self.fields.tokens()),
            ("confidence", self.fields.confidences()),
            ("text", self.fields.texts()),
        ];
        let mut own = Map::new();
        for (name, names) in renamed {
            if let Some(value) = pick(&object, &names) {
                own.insert(name.to_owned(), value.clone());
            }
        }
        if let Some(ended) = pick(&object, &ENDS) {
            own.insert("finish".to_owned(), ended.clone());
        }
        for name in [
            "token_ids",
            "logprobs",
            "scores",
            "extraction",
            "seconds",
            "phase",
        ] {
            if let Some(value) = object.remove(name) {
                own.insert(name.to_owned(), value);
            }
        }
        own.insert("problem_id".to_owned(), Value::from(id));
        own.insert("trace".to_owned(), Value::from(trace));
        own.insert("answer".to_owned(), answer.map_or(Value::Null, Value::from));
        own
    }
}
