//! A recording's traces, graded, without their tokens.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tts_strategies::windows::auto_window;
use tts_strategies::{Finish, TraceScores};

use super::error::ReportError;
use crate::run::{
    AnswerSettings, PoolOptions, PoolProblem, RecordedPool, RecordingFields, Replayer, TraceRecord,
};
use crate::sweep::PoolSummary;

/// A trace without its tokens.
#[derive(Clone, Debug)]
pub(crate) struct GradedTrace {
    pub(crate) finish: Finish,
    pub(crate) tokens: u64,
    /// the answer and the key of its class; for traces that ended by themselves alone
    pub(crate) answer: Option<(String, String)>,
    /// nothing without a gold answer; a trace that was cut off is wrong
    pub(crate) right: Option<bool>,
    pub(crate) scores: TraceScores,
}

/// A problem's recorded traces.
#[derive(Clone, Debug, Default)]
pub(crate) struct GradedTraces {
    /// ended by themselves, or cut off by the token limit or for looping; by ascending index
    pub(crate) complete: Vec<GradedTrace>,
    /// stopped, cancelled, failed
    pub(crate) incomplete: u64,
}

/// Opens a recording for decisions over it.
pub(crate) fn recorded(
    path: &Path,
    answers: &AnswerSettings,
    window: Option<usize>,
    fields: &RecordingFields,
) -> Result<Replayer, ReportError> {
    let options = PoolOptions {
        windows: window.into_iter().collect(),
        fields: fields.clone(),
        ..PoolOptions::default()
    };
    let pool = RecordedPool::open(path, &options)?;
    Ok(Replayer::new(Arc::new(pool), Arc::new(answers.reader()), false))
}

/// A problem's traces without their tokens, each graded, with the scores of the fixed window, else of the
/// automatic one.
pub(crate) fn gather(
    recorded: &Replayer,
    problem: &PoolProblem,
    gold: Option<&str>,
    window: Option<usize>,
) -> Result<(PoolSummary, GradedTraces), ReportError> {
    let reader = recorded.reader();
    let mut verdicts: BTreeMap<String, bool> = BTreeMap::new();
    let mut traces = GradedTraces::default();
    let records = recorded.traces(problem)?;
    let lengths: Vec<usize> = records
        .iter()
        .filter(|r| r.finish.is_complete())
        .map(|r| r.tokens)
        .collect();
    let window = window.or_else(|| auto_window(&lengths));
    for record in records {
        if !record.finish.is_complete() {
            traces.incomplete += 1;
            continue;
        }
        let answer = answer(&record);
        let right = gold.map(|gold| {
            answer.as_ref().is_some_and(|(answer, _)| {
                *verdicts
                    .entry(answer.clone())
                    .or_insert_with(|| reader.grade(answer, gold).equal)
            })
        });
        traces.complete.push(GradedTrace {
            finish: record.finish,
            tokens: record.tokens as u64,
            answer,
            right,
            scores: record.measured.as_ref().map_or(record.scores, |m| TraceScores {
                self_certainty: record.scores.self_certainty.or(m.self_certainty),
                ..m.scores(window)
            }),
        });
    }
    let complete = &traces.complete;
    let pool = PoolSummary {
        problem_id: problem.id.clone(),
        gold: gold.map(str::to_owned),
        traces: complete.len() as u64,
        answered: complete.iter().filter(|t| t.answer.is_some()).count() as u64,
        right: gold.map(|_| complete.iter().filter(|t| t.right == Some(true)).count() as u64),
        tokens: complete.iter().map(|t| t.tokens).sum(),
    };
    Ok((pool, traces))
}

/// The answer of a trace that ended by itself, and its class.
fn answer(record: &TraceRecord) -> Option<(String, String)> {
    if record.finish != Finish::Stop {
        return None;
    }
    Some((record.answer.clone()?, record.answer_key.clone()?))
}
