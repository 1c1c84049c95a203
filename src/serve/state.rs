//! What all requests share: the source of traces, the settings and the limits that the server was started
//! with.

use std::sync::{Arc, OnceLock};

use super::error::ApiError;
use super::formats;
use super::text::Beginnings;
use super::{Limits, Options, UnknownFields};
use crate::error::Error;
use crate::grammar::Words;
use crate::solver::{Settings, Solver};
use crate::source::Capacity;

/// Tokens of a prompt that the batch is planned for.
const PROMPT: usize = 512;

/// What all requests share.
pub(super) struct AppState {
    pub(super) solver: Solver,
    /// What a request changes nothing about unless it says so.
    pub(super) settings: Settings,
    /// The model's name to the outside.
    pub(super) name: String,
    pub(super) limits: Limits,
    /// What is done with fields that are not known.
    pub(super) unknown_fields: UnknownFields,
    /// The seed of requests that name none, where it is always the same.
    pub(super) seed: Option<u64>,
    /// Where texts of an engine elsewhere begin.
    pub(super) beginnings: Beginnings,
    /// The model's vocabulary as grammars read it, once one was asked for.
    words: OnceLock<Result<Arc<Words>, String>>,
}

impl AppState {
    /// Starts the engine, where there is one here.
    pub(super) fn open(solver: Solver, options: &Options) -> Result<Self, Error> {
        let source = solver.source();
        let c = source.capabilities();
        if c.prompter.is_none() && !c.own_template && !c.settles_sampling {
            return Err(Error::Setting(
                "--backend-api completions needs --model FOLDER here: without its template there are no \
                 prompts of conversations"
                    .to_owned(),
            ));
        }
        if c.prompter.is_none() && !c.settles_sampling && options.limits.prompt != usize::MAX {
            return Err(Error::Setting(
                "--max-prompt counts tokens, which takes a tokenizer: name the model's folder with --model, \
                 or leave it out"
                    .to_owned(),
            ));
        }
        let room = c.context.unwrap_or(usize::MAX);
        let prompt = PROMPT.min(room / 2).max(1);
        let most = solver.resolved().max_tokens.min(room.saturating_sub(prompt));
        if let Capacity::Batch { plan, .. } = source.capacity(prompt, most) {
            source.start(plan)?;
        }
        Ok(Self {
            settings: solver.settings().clone(),
            solver,
            name: options.name.clone(),
            limits: options.limits.clone(),
            unknown_fields: options.unknown_fields,
            seed: options.seed,
            beginnings: Beginnings::default(),
            words: OnceLock::new(),
        })
    }

    /// The model's vocabulary as grammars read it.
    pub(super) fn words(&self) -> Result<Arc<Words>, String> {
        self.words.get_or_init(|| formats::words(&self.solver)).clone()
    }

    /// What tells this source of traces from others: part of every reply.
    pub(super) fn fingerprint(&self) -> String {
        let digest = self.solver.source().fingerprint();
        format!("fp_{}", digest.get(..16).unwrap_or_default())
    }

    pub(super) fn check_prompt(&self, tokens: usize) -> Result<(), ApiError> {
        if tokens > self.limits.prompt {
            return Err(ApiError::invalid(
                None,
                format!(
                    "the prompt has {tokens} tokens; this server takes at most {}",
                    self.limits.prompt
                ),
            )
            .with_code("context_length_exceeded"));
        }
        Ok(())
    }
}
