//! Where traces come from: the model in this process ([`Local`]) or OpenAI-compatible servers ([`Remote`]),
//! behind one trait, [`TraceSource`].

mod in_process;
mod local;
pub mod remote;

use std::sync::Arc;

use async_trait::async_trait;
use tts_strategies::Needs;

pub use in_process::InProcess;
pub use local::{Local, LocalOptions, PrefixCache, default_threads, default_tier};
pub use remote::{ApiKey, Remote, RemoteOptions, Timeouts};

use crate::engine::memory::MemoryPlan;
use crate::engine::scoring::ScoredToken;
use crate::error::Error;
use crate::prompt::{Message, Prompter, RenderOptions, Rendered};
use crate::run::{MachineInfo, Observer, Outcome, Request, RunError, TraceSettings};

/// What a source of traces can do, and what is known here of its model.
#[derive(Clone)]
pub struct Capabilities {
    /// The scalars that its tokens carry: log-probabilities, confidences, self-certainty.
    pub scalars: Needs,
    /// Tokenizer and chat template, where they are known here.
    pub prompter: Option<Arc<Prompter>>,
    /// Token ids are below this, where that is known.
    pub vocabulary: Option<usize>,
    /// Tokens of a prompt and a trace together, where that is known.
    pub context: Option<usize>,
    /// Ids that end a trace; none where the source itself says when a trace has ended.
    pub stop_ids: Vec<u32>,
    /// Whether tokens come with their ids; else texts come.
    pub gives_ids: bool,
    /// Whether tokens can be forced and ids be banned.
    pub forcing: bool,
    /// Whether the prompt is read once and its traces are forks of it.
    pub forks: bool,
    /// Whether sampling settings are settled here; else the source may take what is not set as it likes.
    pub settles_sampling: bool,
    /// Whether the source fills a chat template of its own, with no variables but the messages.
    pub own_template: bool,
}

impl Capabilities {
    /// Whether it is known what a prompt of these messages ends in: a template elsewhere may open the
    /// thinking.
    pub fn knows_template(&self, messages: &[Message]) -> bool {
        self.settles_sampling || self.prompter.is_some() || messages.is_empty()
    }
}

/// How much a source takes on at once.
#[derive(Clone, Copy, Debug)]
pub enum Capacity {
    /// Rows of a batch on this machine, planned from its memory.
    Batch {
        /// Rows of a batch and bytes for traces, as planned from the memory that is there.
        plan: MemoryPlan,
        /// Bytes of the weights.
        weights: u64,
    },
    /// This many streams at once.
    Streams(usize),
}

/// A source of traces.
#[async_trait]
pub trait TraceSource: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> &Capabilities;

    /// Name of the model, as results give it.
    fn model(&self) -> &str;

    /// A digest that tells its model from others, in hexadecimal.
    fn fingerprint(&self) -> String;

    /// The prompt of a conversation, as far as it can be known here.
    ///
    /// # Errors
    /// A model without a tokenizer, a template that fails.
    fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<Rendered, Error>;

    /// The ids of a text as it is; none where no tokenizer is known here.
    ///
    /// # Errors
    /// A model in this process without a tokenizer.
    fn encode(&self, text: &str) -> Result<Vec<u32>, Error>;

    /// How much it takes on of prompts of `prompt` tokens with traces of up to `max_tokens`.
    fn capacity(&self, prompt: usize, max_tokens: usize) -> Capacity;

    /// Makes ready to run by this plan, unless it is ready already.
    ///
    /// # Errors
    /// When no thread can be started.
    fn start(&self, plan: MemoryPlan) -> Result<(), Error>;

    /// Runs one problem to its decision. Dropping the future cancels its traces.
    ///
    /// # Errors
    /// When the run cannot go on; what was recorded is kept.
    async fn run(&self, request: Request, observer: Observer) -> Result<Outcome, RunError>;

    /// The log-probability of each token of `ids` from index `from` (at least 1) on, in nats, and the `k`
    /// likeliest ids at its place, under the raw distribution; nothing where the source cannot score a text.
    ///
    /// # Errors
    /// When the engine is gone, or the logits are not numbers.
    async fn score(&self, ids: Vec<u32>, from: usize, k: usize)
    -> Result<Option<Vec<ScoredToken>>, RunError>;

    /// Adds to the record of what traces are a function of what this source knows of it.
    fn describe(&self, settings: TraceSettings) -> TraceSettings;

    /// Where traces are generated, for the record; with `so_far` also what came of it until now.
    fn machine(&self, so_far: bool) -> MachineInfo;
}
