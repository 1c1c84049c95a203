//! What of a request only the model in this process can do.

use super::error::ApiError;
use crate::engine::scoring::ScoredToken;
use crate::prompt::{Message, RenderOptions, Rendered};
use crate::solver::Solver;

/// The prompt of a conversation.
pub(super) fn render(
    solver: &Solver,
    messages: &[Message],
    options: &RenderOptions,
) -> Result<Rendered, ApiError> {
    if solver.source().capabilities().own_template && !options.variables.is_empty() {
        return Err(ApiError::invalid(
            Some("chat_template_kwargs"),
            "variables of the chat template are not passed on: an engine elsewhere fills it",
        ));
    }
    Ok(solver.source().render(messages, options)?)
}

/// The log-probability of each token of a text from index `from` on, and the `k` likeliest ids at its place.
pub(super) async fn score(
    solver: &Solver,
    ids: Vec<u32>,
    from: usize,
    k: usize,
) -> Result<Vec<ScoredToken>, ApiError> {
    let found = solver.source().score(ids, from, k).await?;
    found.ok_or_else(|| not_here("logprobs"))
}

/// Refuses a field that only the model in this process can do.
pub(super) fn only_here(solver: &Solver, field: &'static str) -> Result<(), ApiError> {
    match solver.source().capabilities().forcing {
        true => Ok(()),
        false => Err(not_here(field)),
    }
}

fn not_here(field: &'static str) -> ApiError {
    ApiError::invalid(
        Some(field),
        format!("`{field}` is not done: the traces of this server come from an engine elsewhere"),
    )
}
