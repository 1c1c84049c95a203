//! What all requests share: the model, its engine, the settings and the limits that the server was started with.

use std::sync::Arc;

use super::error::ApiError;
use super::{Limits, Options};
use crate::backend::{InProcess, InProcessOptions};
use crate::error::Error;
use crate::loaded::Loaded;
use crate::runner::{Reader, Runner, Settings};

/// Tokens of a prompt that the batch is planned for.
const PROMPT: usize = 512;

/// What all requests share.
pub(super) struct House {
    pub(super) loaded: Loaded,
    /// What a request changes nothing about unless it says so.
    pub(super) settings: Settings,
    reader: Option<Reader>,
    /// The model's name to the outside.
    pub(super) name: String,
    pub(super) limits: Limits,
    pub(super) engine: Arc<InProcess>,
}

impl House {
    /// Starts the engine.
    pub(super) fn open(loaded: Loaded, settings: Settings, reader: Option<Reader>, options: &Options) -> Result<Self, Error> {
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
        Ok(Self {
            loaded,
            settings,
            reader,
            name: options.name.clone(),
            limits: options.limits.clone(),
            engine: Arc::new(engine),
        })
    }

    /// The settings of a request, checked.
    pub(super) fn runner(&self, settings: Settings) -> Result<Runner, ApiError> {
        let runner = Runner::new(self.loaded.clone(), settings)?;
        Ok(match &self.reader {
            Some(reader) => runner.with_reader(reader.clone()),
            None => runner,
        })
    }

    pub(super) fn check_prompt(&self, tokens: usize) -> Result<(), ApiError> {
        if tokens > self.limits.prompt {
            return Err(ApiError::invalid(
                None,
                format!("the prompt has {tokens} tokens; this server takes at most {}", self.limits.prompt),
            )
            .with_code("context_length_exceeded"));
        }
        Ok(())
    }
}
