//! What all requests share: the source of traces, the settings and the limits that the server was started
//! with.

use std::sync::Arc;

use super::error::ApiError;
use super::source::Source;
use super::{Limits, Options};
use crate::error::Error;
use crate::loaded::Loaded;
use crate::runner::{Api, Reader, RemoteRunner, Runner, Settings};
use crate::source::{InProcess, InProcessOptions};

/// Tokens of a prompt that the batch is planned for.
const PROMPT: usize = 512;

/// What all requests share.
pub(super) struct AppState {
    pub(super) source: Source,
    /// What a request changes nothing about unless it says so.
    pub(super) settings: Settings,
    /// The model's name to the outside.
    pub(super) name: String,
    pub(super) limits: Limits,
}

impl AppState {
    /// Starts the engine.
    pub(super) fn open(
        loaded: Loaded,
        settings: Settings,
        reader: Option<Reader>,
        options: &Options,
    ) -> Result<Self, Error> {
        let runner = Runner::new(loaded.clone(), settings.clone())?;
        let resolved = runner.resolved();
        let room = loaded.model.config().max_positions;
        let prompt = PROMPT.min(room / 2).max(1);
        let plan = runner.plan(prompt, resolved.max_tokens.min(room - prompt));
        let engine = InProcess::start(
            loaded.model.clone(),
            InProcessOptions {
                threads: resolved.threads,
                tier: resolved.tier,
                plan,
            },
        )?;
        let source = Source::Here {
            loaded,
            engine: Arc::new(engine),
            reader,
        };
        Ok(Self::of(source, settings, options))
    }

    /// Traces come from engines elsewhere.
    pub(super) fn elsewhere(runner: RemoteRunner, options: &Options) -> Result<Self, Error> {
        if runner.api() == Api::Completions && runner.prompter().is_none() {
            return Err(Error::Setting(
                "--backend-api completions needs --model FOLDER here: without its template there are no prompts of conversations"
                    .to_owned(),
            ));
        }
        if runner.prompter().is_none() && options.limits.prompt != usize::MAX {
            return Err(Error::Setting(
                "--max-prompt counts tokens, which takes a tokenizer: name the model's folder with --model, or leave it out".to_owned(),
            ));
        }
        let settings = runner.settings().clone();
        Ok(Self::of(Source::There(Box::new(runner)), settings, options))
    }

    fn of(source: Source, settings: Settings, options: &Options) -> Self {
        Self {
            source,
            settings,
            name: options.name.clone(),
            limits: options.limits.clone(),
        }
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
