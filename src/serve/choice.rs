//! What a run of the engine came to, as one choice of a reply.

use serde::Serialize;
use serde_json::{Value, json};
use tts_evals::answer::closes_unopened;
use tts_strategies::{Finish, TraceId, TraceScores};

use super::error::ApiError;
use super::logprobs::{self, TextToken};
use super::request::{ChatRequest, Endpoint};
use super::settings::for_clients;
use super::source;
use super::state::AppState;
use super::text::{ChoiceText, TextDelta};
use crate::prompt::ToolCall;
use crate::run::{Outcome, TraceRecord};
use crate::solver::{About, Prepared, Solved};

/// One choice: the best trace's text, and how it was chosen.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// The trace's text, and the tokens of it that are shown: what a stream of it is finished with.
    pub(super) text: String,
    pub(super) tokens: Vec<TextToken>,
    /// The tools that are called.
    pub(super) calls: Vec<ToolCall>,
    /// What a whole reply says.
    pub(super) whole: TextDelta,
    pub(super) finish_reason: &'static str,
    /// What stands under `tts`.
    pub(super) tts: Value,
    /// Every trace, for those who watched them.
    pub(super) traces: Vec<TraceSummary>,
    pub(super) prompt_tokens: u64,
    /// Those of them that were kept from an earlier prompt.
    pub(super) cached_tokens: u64,
    /// Tokens of all traces.
    pub(super) generated: u64,
    /// Tokens of the content, where it is known which they are.
    pub(super) shown_tokens: Option<u64>,
}

/// A trace at its end, for those who watched it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TraceSummary {
    trace: TraceId,
    finish: Finish,
    tokens: usize,
    answer: Option<String>,
    /// Mean confidence of its tokens, nats.
    mean: Option<f64>,
}

/// The trace whose text is shown.
#[derive(Serialize)]
struct Winner<'a> {
    trace: TraceId,
    tokens: usize,
    finish: Finish,
    confidence: &'a TraceScores,
}

/// Makes the choice `index` of an outcome.
pub(super) async fn choice(
    app: &AppState,
    request: &ChatRequest,
    endpoint: Endpoint,
    index: usize,
    outcome: Outcome,
) -> Result<Choice, ApiError> {
    let prompt = &request.prompts[index / request.n];
    let about = About {
        gold: None,
        model: Some(app.name.clone()),
        seed: Some(request.seed(index)),
        date: None,
        sampling: request.solver.resolved().settled().cloned(),
        machine: None,
    };
    let cached_tokens = outcome.cached_tokens as u64;
    let solved = Solved::of(outcome, about, |_, _| false);
    let solved = request.solver.remarked(prompt, solved);
    let best = best(&solved);
    let text = best.and_then(|b| b.text.clone()).unwrap_or_default();
    let ended = best.is_some_and(|b| b.finish == Finish::Stop);
    // one that a stop text ended may have been cut inside its thinking
    let whole = Some(&*text).filter(|text| ended && (request.stops.is_empty() || closes_unopened(text)));
    let mut shown = ChoiceText::new(app, request, endpoint, prompt, whole);
    shown.finish(&text);
    let rules = request.solver.rules(prompt);
    let mut tokens = best
        .map(|b| logprobs::tokens(app, b, rules.stops()))
        .unwrap_or_default();
    tokens.retain(|token| shown.shows(token));
    if let (Some(best), Some(k)) = (best, request.logprobs.filter(|k| *k > 0)) {
        add_top_logprobs(request, prompt, best, &mut tokens, k).await?;
    }
    shown.set_tokens(&tokens);
    let mut whole = shown.take(app);
    if request.echo && request.logprobs.is_some() {
        let mut all = score_prompt(app, request, prompt).await?;
        let mut said = tokens.clone();
        logprobs::put_behind(&mut said, &prompt.prompt.text);
        all.extend(said);
        whole.logprobs = Some(logprobs::object(app, endpoint, &all, request.logprobs > Some(0)));
    }
    if let Some(k) = request.logprobs.filter(|_| best.is_some())
        && whole.logprobs.is_none()
    {
        whole.logprobs = Some(logprobs::object(app, endpoint, &[], k > 0));
    }
    let mut calls = Vec::new();
    if let Some(found) = request
        .tools
        .as_ref()
        .and_then(|tools| tools.calls(&whole.content))
    {
        (whole.content, calls) = found;
    }
    Ok(Choice {
        whole,
        finish_reason: match (ended, calls.is_empty()) {
            (false, _) => "length",
            (true, false) => "tool_calls",
            (true, true) => "stop",
        },
        calls,
        tts: extras(&solved, best, request, prompt),
        traces: traces(&solved),
        prompt_tokens: solved.tokens.prompt,
        cached_tokens,
        generated: solved.tokens.generated,
        shown_tokens: app.solver.decoder().is_some().then_some(tokens.len() as u64),
        text,
        tokens,
    })
}

/// Finds the `k` likeliest ids at the place of each of these tokens of a trace.
async fn add_top_logprobs(
    request: &ChatRequest,
    prompt: &Prepared,
    trace: &TraceRecord,
    tokens: &mut [TextToken],
    k: usize,
) -> Result<(), ApiError> {
    let Some(first) = tokens.first().map(|token| token.index) else {
        return Ok(());
    };
    let ids = [&prompt.prompt.ids[..], &trace.arrays.token_ids].concat();
    let from = prompt.prompt.ids.len() + first;
    let scored = source::score(&request.solver, ids, from, k).await?;
    let mut scored: Vec<_> = scored.into_iter().map(|token| Some(token.top)).collect();
    for token in tokens {
        token.top_logprobs = scored[token.index - first].take();
    }
    Ok(())
}

/// The tokens of a prompt with what the model says of them.
async fn score_prompt(
    app: &AppState,
    request: &ChatRequest,
    prompt: &Prepared,
) -> Result<Vec<TextToken>, ApiError> {
    let ids = &prompt.prompt.ids;
    let scored = match (request.logprobs, ids.len()) {
        (Some(k), 2..) => source::score(&request.solver, ids.clone(), 1, k).await?,
        // the first token has no distribution before it
        _ => Vec::new(),
    };
    let mut tokens = logprobs::of_prompt(app, ids, scored);
    // what the vocabulary has no token for is shown otherwise than it was written
    logprobs::keep_within(&mut tokens, &prompt.prompt.text);
    Ok(tokens)
}

/// The choice of a request that asks for no tokens: its prompt, and what the model says of it.
pub(super) async fn only_prompt(
    app: &AppState,
    request: &ChatRequest,
    endpoint: Endpoint,
    index: usize,
) -> Result<Choice, ApiError> {
    let prompt = &request.prompts[index / request.n];
    let logprobs = match request.logprobs {
        Some(k) => {
            let tokens = score_prompt(app, request, prompt).await?;
            Some(logprobs::object(app, endpoint, &tokens, k > 0))
        }
        None => None,
    };
    let tokens = prompt.prompt.ids.len() as u64;
    Ok(Choice {
        text: String::new(),
        tokens: Vec::new(),
        calls: Vec::new(),
        whole: TextDelta {
            content: prompt.prompt.text.clone(),
            logprobs,
            ..TextDelta::default()
        },
        finish_reason: "length",
        tts: json!({
            "problem_id": prompt.id, "traces": { "launched": 0 },
            "tokens": { "prompt": tokens, "generated": 0 },
        }),
        traces: Vec::new(),
        prompt_tokens: tokens,
        cached_tokens: 0,
        generated: 0,
        shown_tokens: Some(0),
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
fn extras(solved: &Solved, best: Option<&TraceRecord>, request: &ChatRequest, prompt: &Prepared) -> Value {
    let mut tts = solved.to_json();
    let budget = request.solver.settings().traces;
    if let Some(fields) = tts.as_object_mut() {
        // these stand elsewhere in the reply, or are not the client's
        for name in ["solution", "correct", "machine", "model"] {
            fields.remove(name);
        }
        let winner = best.map(|b| Winner {
            trace: b.trace,
            tokens: b.tokens,
            finish: b.finish,
            confidence: &b.scores,
        });
        let winner = serde_json::to_value(winner).unwrap_or_default();
        fields.insert("winner".to_owned(), winner);
        fields.insert("strategy".to_owned(), for_clients(&solved.strategy).into());
        let full = solved.estimated_full_tokens(budget);
        let saved = full.map(|full| (full - solved.tokens.generated as f64).max(0.0).round() as u64);
        fields.insert("estimated_tokens_saved".to_owned(), saved.into());
        // a limit that was lowered is said, and what it cut
        let granted = prompt.max_tokens;
        if request.max_tokens.is_some_and(|wanted| wanted > granted) {
            fields.insert("max_tokens".to_owned(), granted.into());
            let is_cut = best.is_some_and(|b| b.finish == Finish::Length);
            if is_cut && solved.cut.is_none() {
                fields.insert("cut".to_owned(), "max_tokens".into());
            }
        }
    }
    tts
}

fn traces(solved: &Solved) -> Vec<TraceSummary> {
    let mut records: Vec<&TraceRecord> = solved.records.iter().collect();
    records.sort_by_key(|r| r.trace);
    let one = |r: &TraceRecord| TraceSummary {
        trace: r.trace,
        finish: r.finish,
        tokens: r.tokens,
        answer: r.answer.clone(),
        mean: r.scores.mean,
    };
    records.into_iter().map(one).collect()
}
