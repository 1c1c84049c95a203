//! Traces that go on from the middle of others: where their first tokens come from.
//!
//! A fork's record begins with the tokens that it took over, so a fork is a trace whose beginning is recorded
//! already: solving, replaying and resuming read it there, and go on after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tts_strategies::{Finish, Fork, Strategy, TraceId};

use super::ProblemRun;
use crate::run::TraceRecord;
use crate::run::record::Arrays;

/// What forks are made from, for a strategy that asks for any.
#[derive(Default)]
pub(super) struct ForkSources {
    wanted: bool,
    /// tokens of the traces that ended
    ended: BTreeMap<TraceId, Arrays>,
    /// why a fork that was asked for cannot be
    pub(super) impossible: Option<String>,
}

impl ForkSources {
    pub(super) fn of(strategy: &dyn Strategy) -> Self {
        Self {
            wanted: strategy.needs().forks,
            ..Self::default()
        }
    }

    /// Keeps the tokens of a trace that ended, where any may be asked for.
    pub(super) fn ended(&mut self, record: &TraceRecord) {
        if self.wanted {
            self.ended.insert(record.trace, record.arrays.clone());
        }
    }
}

impl ProblemRun {
    /// What is known of a trace that is about to begin: its own record, or the tokens that it takes over.
    pub(super) fn beginning(&mut self, id: TraceId) -> Result<Option<Arc<TraceRecord>>, String> {
        let fork = self.strategy.fork_of(id);
        let Some(recorded) = self.recorded.remove(&id) else {
            let taken_over = fork.map(|fork| self.taken_over(id, fork)).transpose()?;
            return Ok(taken_over.map(Arc::new));
        };
        let (asked, is) = (
            begins(fork, &self.prompts.shows),
            begins(recorded.fork, &recorded.shown),
        );
        if asked == is {
            Ok(Some(recorded))
        } else {
            Err(format!(
                "asks for a trace {id} that {asked}, and the recorded one {is}: the recording lacks a trace before it, or was made with other settings"
            ))
        }
    }

    /// The record of a fork that has drawn nothing yet.
    fn taken_over(&self, id: TraceId, fork: Fork) -> Result<TraceRecord, String> {
        let Fork { trace, tokens } = fork;
        let in_flight = self.in_flight.iter().find(|t| t.id() == trace);
        let arrays = match in_flight {
            Some(parent) => parent.beginning(tokens),
            // what has ended cannot be gone on from at its end
            None => self
                .forks
                .ended
                .get(&trace)
                .filter(|arrays| tokens < arrays.len)
                .map(|arrays| arrays.first(tokens)),
        };
        let record = arrays.filter(|_| tokens > 0).map(|arrays| TraceRecord {
            problem_id: self.id.clone(),
            trace: id,
            finish: Finish::Cancelled,
            tokens,
            fork: Some(fork),
            arrays,
            fresh: false,
            ..TraceRecord::default()
        });
        record.ok_or_else(|| {
            format!(
                "asks for a trace {id} that {}, and there are no such tokens",
                begins(Some(fork), &[])
            )
        })
    }
}

/// How a trace begins, in words.
fn begins(fork: Option<Fork>, shown: &[TraceId]) -> String {
    match fork {
        Some(Fork { trace, tokens }) => format!("goes on from token {tokens} of trace {trace}"),
        None if shown.is_empty() => "begins after the prompt".to_owned(),
        None => format!("is shown the solutions of traces {}", list(shown)),
    }
}

fn list(traces: &[TraceId]) -> String {
    traces.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
