//! What a run of the engine came to, as one choice of a reply.

use serde_json::{Value, json};
use tts_strategies::{Finish, TraceScores};

use super::ask::{Asked, Endpoint};
use super::error::ApiError;
use super::house::House;
use super::logprobs;
use super::parts::{Apart, Parts, begins_inside};
use crate::prompt::Rendered;
use crate::run::{Outcome, TraceRecord};
use crate::runner::{About, Prepared, Solved};

/// One choice: the best trace's text, and how it was chosen.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// The text after the thinking; of a raw completion all of it.
    pub(super) content: String,
    /// The thinking.
    pub(super) reasoning: Option<String>,
    pub(super) finish_reason: &'static str,
    pub(super) logprobs: Option<Value>,
    /// What stands under `tts`.
    pub(super) tts: Value,
    /// Every trace, for those who watched them.
    pub(super) traces: Value,
    pub(super) prompt_tokens: u64,
    /// Tokens of all traces.
    pub(super) generated: u64,
    /// Tokens of the content, where it is known which they are.
    pub(super) shown_tokens: Option<u64>,
}

/// How the text of a trace is told apart: a raw completion shows all of it.
pub(super) fn apart(endpoint: Endpoint, prompt: &Rendered) -> Apart {
    match endpoint {
        Endpoint::Chat => Apart::Thinking {
            inside: prompt.ends_in_think,
        },
        Endpoint::Completion => Apart::No,
    }
}

/// Makes a choice of an outcome.
pub(super) async fn choice(
    house: &House,
    asked: &Asked,
    endpoint: Endpoint,
    prompt: &Prepared,
    outcome: Outcome,
) -> Result<Choice, ApiError> {
    let about = About {
        gold: None,
        model: Some(house.name.clone()),
        seed: Some(asked.runner.settings().seed),
        sampling: asked.runner.sampling(),
        machine: None,
    };
    let solved = Solved::of(outcome, about, |_, _| false);
    let best = best(&solved);
    let text = best.and_then(|b| b.text.as_deref()).unwrap_or_default();
    let apart = if asked.runner.knows_template(prompt) {
        apart(endpoint, &prompt.prompt)
    } else {
        Apart::Thinking {
            inside: begins_inside(text),
        }
    };
    let parts = Parts::of(text, apart);
    let mut pieces = best.map(|b| logprobs::pieces(house, b)).unwrap_or_default();
    pieces.retain(|piece| piece.overlaps(parts.places()));
    let logprobs = match (asked.logprobs, best) {
        (Some(k), Some(best)) => {
            if let Some(first) = pieces.first().filter(|_| k > 0).map(|piece| piece.index) {
                let text = [&prompt.prompt.ids[..], &best.arrays.token_ids].concat();
                let likeliest = asked
                    .runner
                    .likeliest(text, prompt.prompt.ids.len() + first, k)
                    .await?;
                let mut likeliest: Vec<_> = likeliest.into_iter().map(Some).collect();
                for piece in &mut pieces {
                    piece.likeliest = likeliest[piece.index - first].take().unwrap_or_default();
                }
            }
            Some(logprobs::object(house, endpoint, &pieces, k > 0))
        }
        _ => None,
    };
    let mut content = parts.said().to_owned();
    if asked.echo {
        content.insert_str(0, &prompt.prompt.text);
    }
    Ok(Choice {
        content,
        reasoning: Some(parts.thought().to_owned()).filter(|thought| !thought.is_empty()),
        finish_reason: if best.is_some_and(|b| b.finish == Finish::Stop) {
            "stop"
        } else {
            "length"
        },
        logprobs,
        tts: extras(&solved, best, asked.runner.settings().traces),
        traces: traces(&solved),
        prompt_tokens: solved.tokens.prompt,
        generated: solved.tokens.generated,
        shown_tokens: house.source.prompter().is_some().then_some(pieces.len() as u64),
    })
}

/// The winning trace; where there was no vote, the most confident of those that got furthest.
fn best(solved: &Solved) -> Option<&TraceRecord> {
    if let Some(winner) = solved.solution_trace {
        return solved.records.iter().find(|r| r.trace == winner);
    }
    let rank = |r: &TraceRecord| match r.finish {
        Finish::Stop => 2,
        Finish::Failed => 0,
        _ => 1,
    };
    let score = |r: &TraceRecord| (rank(r), r.scores.mean.unwrap_or(f64::NEG_INFINITY));
    solved.records.iter().max_by(|a, b| {
        let ((rank_a, mean_a), (rank_b, mean_b)) = (score(a), score(b));
        rank_a
            .cmp(&rank_b)
            .then(mean_a.total_cmp(&mean_b))
            .then(b.trace.cmp(&a.trace))
    })
}

/// How the choice was made.
fn extras(solved: &Solved, best: Option<&TraceRecord>, budget: usize) -> Value {
    let mut tts = solved.to_json();
    if let Some(fields) = tts.as_object_mut() {
        // these stand elsewhere in the reply, or are not the client's
        for name in ["solution", "correct", "machine", "model"] {
            fields.remove(name);
        }
        fields.insert(
            "winner".to_owned(),
            best.map_or(Value::Null, |b| {
                let confidence: &TraceScores = &b.scores;
                json!({ "trace": b.trace, "tokens": b.tokens, "finish": b.finish, "confidence": confidence })
            }),
        );
        let full = solved.estimated_full_tokens(budget);
        let saved = full.map(|full| (full - solved.tokens.generated as f64).max(0.0).round() as u64);
        fields.insert("estimated_tokens_saved".to_owned(), json!(saved));
    }
    tts
}

fn traces(solved: &Solved) -> Value {
    let mut records: Vec<&TraceRecord> = solved.records.iter().collect();
    records.sort_by_key(|r| r.trace);
    records
        .iter()
        .map(|r| json!({ "trace": r.trace, "finish": r.finish, "tokens": r.tokens, "answer": r.answer, "mean": r.scores.mean }))
        .collect()
}
