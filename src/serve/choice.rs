//! What a run of the engine came to, as one choice of a reply.

use serde_json::{Value, json};
use tts_strategies::{Finish, TraceScores};

use super::ask::{Asked, Endpoint};
use super::error::ApiError;
use super::house::House;
use super::logprobs::{self, Piece};
use crate::backend::Outcome;
use crate::runner::{About, Prepared, Solved};
use crate::solve::TraceRecord;

const THINK_START: &str = "<think>";
const THINK_END: &str = "</think>";

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

/// A text's part that is shown, and where it stands.
struct Shown {
    reasoning: Option<String>,
    from: usize,
    to: usize,
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
    let shown = match endpoint {
        Endpoint::Chat => split(text, prompt.prompt.ends_in_think),
        Endpoint::Completion => Shown {
            reasoning: None,
            from: 0,
            to: text.len(),
        },
    };
    let pieces = best.and_then(|b| logprobs::pieces(&asked.runner, b));
    let of_content = |p: &Piece| p.overlaps(shown.from, shown.to);
    let pieces: Option<Vec<_>> = pieces.map(|all| all.into_iter().filter(of_content).collect());
    let logprobs = match (asked.logprobs, best, &pieces) {
        (Some(k), Some(best), Some(pieces)) => Some(logprobs::object(&asked.runner, endpoint, prompt, best, pieces, k).await?),
        _ => None,
    };
    let mut content = text[shown.from..shown.to].to_owned();
    if asked.echo {
        content.insert_str(0, &prompt.prompt.text);
    }
    Ok(Choice {
        content,
        reasoning: shown.reasoning,
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
        shown_tokens: pieces.map(|p| p.len() as u64),
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
        rank_a.cmp(&rank_b).then(mean_a.total_cmp(&mean_b)).then(b.trace.cmp(&a.trace))
    })
}

/// Parts a text into thinking and the rest.
fn split(text: &str, starts_in_thinking: bool) -> Shown {
    let thought = |text: &str| Some(text.trim().trim_start_matches(THINK_START).trim().to_owned()).filter(|t| !t.is_empty());
    let trimmed = |from: usize| {
        let rest = &text[from..];
        let from = from + (rest.len() - rest.trim_start().len());
        (from, from + text[from..].trim_end().len())
    };
    match text.rfind(THINK_END) {
        Some(at) => {
            let (from, to) = trimmed(at + THINK_END.len());
            Shown {
                reasoning: thought(&text[..at]),
                from,
                to,
            }
        }
        // it never got to its answer
        None if starts_in_thinking || text.trim_start().starts_with(THINK_START) => Shown {
            reasoning: thought(text),
            from: text.len(),
            to: text.len(),
        },
        None => {
            let (from, to) = trimmed(0);
            Shown { reasoning: None, from, to }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn thinking_is_told_from_the_answer() {
        let read = |text: &'static str, inside| {
            let s = split(text, inside);
            (s.reasoning, &text[s.from..s.to])
        };
        let thought = |t: &str| Some(t.to_owned());
        assert_eq!(read("<think>a\nb</think>\n\n42 ", false), (thought("a\nb"), "42"));
        assert_eq!(read("a</think>42", true), (thought("a"), "42"));
        assert_eq!(read("a <think>b</think> c</think> d", true), (thought("a <think>b</think> c"), "d"));
        assert_eq!(read("half a thought", true), (thought("half a thought"), ""));
        assert_eq!(read("<think>half", false), (thought("half"), ""));
        assert_eq!(read(" plain ", false), (None, "plain"));
        assert_eq!(read("<think></think>", false), (None, ""));
        assert_eq!(read("", true), (None, ""));
    }
}
