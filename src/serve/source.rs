//! Where a server's traces come from: the model in this process, or engines elsewhere.

use std::sync::Arc;

use super::error::ApiError;
use crate::engine::reading::Likeliest;
use crate::error::Error;
use crate::loaded::Loaded;
use crate::prompt::{Message, Prompter, RenderOptions, Rendered};
use crate::run::{Control, Outcome, RunError, Setup};
use crate::runner::{Api, Prepared, Reader, RemoteRunner, Runner, Settings};
use crate::source::{InProcess, Job};
use tts_model::sampler::Sampling;

/// Where the traces of all requests come from.
pub(super) enum Source {
    /// The model in this process, and the engine that runs it.
    Here {
        loaded: Loaded,
        engine: Arc<InProcess>,
        reader: Option<Reader>,
    },
    /// Engines elsewhere.
    There(Box<RemoteRunner>),
}

impl Source {
    /// The settings of a request, checked.
    pub(super) fn runner(&self, settings: Settings) -> Result<RequestRunner, Error> {
        Ok(match self {
            Self::Here {
                loaded,
                engine,
                reader,
            } => {
                let mut runner = Runner::new(loaded.clone(), settings)?;
                if let Some(reader) = reader {
                    runner = runner.with_reader(reader.clone());
                }
                RequestRunner::Here(Box::new(runner), engine.clone())
            }
            Self::There(runner) => RequestRunner::There(Box::new(runner.with_settings(settings)?)),
        })
    }

    /// What texts are made of ids with; engines elsewhere give texts.
    pub(super) fn prompter(&self) -> Option<&Arc<Prompter>> {
        match self {
            Self::Here { loaded, .. } => loaded.prompter.as_ref(),
            Self::There(_) => None,
        }
    }

    /// What tells this source from others: part of every reply.
    pub(super) fn fingerprint(&self) -> String {
        let digest = match self {
            Self::Here { loaded, .. } => loaded.digest().to_owned(),
            Self::There(runner) => blake3::hash(runner.remote().model().as_bytes())
                .to_hex()
                .to_string(),
        };
        format!("fp_{}", digest.get(..16).unwrap_or_default())
    }
}

/// The settings of one request, where its traces will come from.
pub(super) enum RequestRunner {
    Here(Box<Runner>, Arc<InProcess>),
    There(Box<RemoteRunner>),
}

impl RequestRunner {
    pub(super) fn settings(&self) -> &Settings {
        match self {
            Self::Here(runner, _) => runner.settings(),
            Self::There(runner) => runner.settings(),
        }
    }

    /// How tokens are drawn; an engine elsewhere does not say what it takes for what is not set.
    pub(super) fn sampling(&self) -> Option<Sampling> {
        match self {
            Self::Here(runner, _) => Some(runner.resolved().sampling().clone()),
            Self::There(_) => None,
        }
    }

    /// Token limit of a trace.
    pub(super) fn max_tokens(&self) -> usize {
        match self {
            Self::Here(runner, _) => runner.resolved().max_tokens,
            Self::There(runner) => runner.max_tokens(),
        }
    }

    /// Tokens of a prompt and a trace together, where that is known.
    pub(super) fn context(&self) -> Option<usize> {
        match self {
            Self::Here(runner, _) => Some(runner.loaded().model.config().max_positions),
            Self::There(runner) => runner.remote().context(),
        }
    }

    /// Ids of tokens are below this, where that is known.
    pub(super) fn vocab(&self) -> Option<usize> {
        match self {
            Self::Here(runner, _) => Some(runner.loaded().model.config().vocab),
            Self::There(_) => None,
        }
    }

    /// Tokenizer and template. An engine elsewhere may have its own alone.
    pub(super) fn prompter(&self) -> Result<Option<&Arc<Prompter>>, Error> {
        match self {
            Self::Here(runner, _) => runner.loaded().prompter().map(Some),
            Self::There(runner) => Ok(runner.prompter()),
        }
    }

    /// Whether it is known what a prompt ends in: an engine elsewhere may fill a template of its own, which
    /// may open the thinking.
    pub(super) fn knows_template(&self, prompt: &Prepared) -> bool {
        match self {
            Self::Here(..) => true,
            Self::There(runner) => prompt.messages.is_empty() || runner.prompter().is_some(),
        }
    }

    /// The prompt of a conversation.
    pub(super) fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<Rendered, ApiError> {
        match self {
            Self::Here(runner, _) => Ok(runner
                .loaded()
                .prompter()?
                .render(messages, options)
                .map_err(Error::from)?),
            Self::There(runner) if runner.api() == Api::Chat && !options.variables.is_empty() => {
                Err(ApiError::invalid(
                    Some("chat_template_kwargs"),
                    "variables of the chat template are not passed on: an engine elsewhere fills it",
                ))
            }
            Self::There(runner) => Ok(runner.render(messages, options)?),
        }
    }

    /// What a prompt's traces are run with.
    pub(super) fn setup(&self, prompt: &Prepared) -> Result<Setup, Error> {
        match self {
            Self::Here(runner, _) => runner.setup(prompt, Vec::new(), Vec::new()),
            Self::There(runner) => Ok(runner.setup(prompt, Vec::new())),
        }
    }

    /// Runs a job to its decision.
    pub(super) async fn run(
        &self,
        prompt: &Prepared,
        job: Job,
        control: Arc<Control>,
    ) -> Result<Outcome, RunError> {
        match self {
            Self::Here(_, engine) => engine.run_controlled(job, control).await,
            Self::There(runner) => runner.run(prompt, job, control).await,
        }
    }

    /// The `k` likeliest ids before each token of a text from index `from` on.
    pub(super) async fn likeliest(
        &self,
        ids: Vec<u32>,
        from: usize,
        k: usize,
    ) -> Result<Likeliest, ApiError> {
        match self {
            Self::Here(_, engine) => Ok(engine.likeliest(ids, from, k).await?),
            Self::There(_) => Err(not_here("logprobs")),
        }
    }

    /// Refuses a field that only the model in this process can do.
    pub(super) fn only_here(&self, field: &'static str) -> Result<(), ApiError> {
        match self {
            Self::Here(..) => Ok(()),
            Self::There(_) => Err(not_here(field)),
        }
    }
}

fn not_here(field: &'static str) -> ApiError {
    ApiError::invalid(
        Some(field),
        format!("`{field}` is not done: the traces of this server come from an engine elsewhere"),
    )
}
