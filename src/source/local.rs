//! Traces of a model in this process.

use std::sync::OnceLock;

use async_trait::async_trait;
use tts_strategies::Needs;

use super::{Capabilities, Capacity, InProcess, TraceSource};
use crate::engine::memory::MemoryPlan;
use crate::engine::scoring::ScoredToken;
use crate::error::Error;
use crate::loaded::Loaded;
use crate::prompt::{Message, RenderOptions, Rendered};
use crate::run::{MachineInfo, Observer, Outcome, Request, RunError, TraceSettings};
use tts_model::cpu::kernels::Tier;

/// How a model uses this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalOptions {
    /// Threads; one for each core where `None`.
    pub threads: Option<usize>,
    /// Instruction tier; the best one here where `None`.
    pub tier: Option<Tier>,
    /// Bytes that traces may take; from the machine where `None`.
    pub memory: Option<u64>,
    /// Rows of a batch; from memory where `None`.
    pub max_batch: Option<usize>,
    /// Prompts that are kept for later ones which begin alike.
    pub prefix_cache: PrefixCache,
}

/// How much of prompts that were read is kept in memory, so that a later one that begins with the same tokens, as
/// the next turn of a conversation, is read from there on. Results do not depend on it; it is given up before
/// anything that runs wants for memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrefixCache {
    /// Nothing.
    #[default]
    Off,
    /// Up to a quarter of the memory that traces may take.
    Auto,
    /// Up to so many bytes.
    Bytes(u64),
}

impl PrefixCache {
    /// Bytes, of those that traces may take.
    fn bytes(self, budget: u64) -> u64 {
        match self {
            Self::Off => 0,
            Self::Auto => budget / 4,
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// A model in this process. Its engine starts with the first problem, or by hand with [`TraceSource::start`].
pub struct Local {
    loaded: Loaded,
    options: LocalOptions,
    capabilities: Capabilities,
    engine: OnceLock<InProcess>,
}

impl Local {
    /// A model that was opened, on this machine.
    pub fn new(loaded: Loaded, options: LocalOptions) -> Self {
        let spec = loaded.spec();
        let stop_ids = match &loaded.prompter {
            Some(prompter) => prompter.stop_ids().iter().copied().collect(),
            None => spec.eos.clone(),
        };
        Self {
            capabilities: Capabilities {
                scalars: Needs::ALL,
                prompter: loaded.prompter.clone(),
                vocabulary: Some(spec.vocab),
                context: Some(spec.context),
                stop_ids,
                gives_ids: true,
                forcing: true,
                forks: true,
                settles_sampling: true,
                own_template: false,
            },
            loaded,
            options,
            engine: OnceLock::new(),
        }
    }

    /// The model that generates the traces.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }
    /// Threads that compute the model, on the processor.
    pub fn threads(&self) -> usize {
        self.options.threads.unwrap_or_else(default_threads)
    }
    /// Instruction tier of the processor's kernels.
    pub fn tier(&self) -> Tier {
        self.options.tier.unwrap_or_else(default_tier)
    }

    /// How many traces run at once for prompts of `prompt` tokens, and what each costs.
    pub fn plan(&self, prompt: usize, max_tokens: usize) -> MemoryPlan {
        MemoryPlan::new(
            &self.loaded.placed.limits(self.threads()),
            prompt,
            max_tokens,
            self.options.memory,
            self.options.max_batch,
        )
    }

    /// The engine, started with what `plan` gives unless it runs already.
    fn engine(&self, plan: impl FnOnce() -> MemoryPlan) -> Result<&InProcess, RunError> {
        if self.engine.get().is_none() {
            let executor = self.loaded.placed.executor(self.threads(), self.tier())?;
            let plan = plan();
            let prefixes = self.options.prefix_cache.bytes(plan.budget);
            let engine = InProcess::start(executor, plan, prefixes)?;
            let _ = self.engine.set(engine);
        }
        Ok(self.engine.get().expect("just set"))
    }
}

#[async_trait]
impl TraceSource for Local {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn model(&self) -> &str {
        &self.loaded.name
    }

    fn fingerprint(&self) -> String {
        self.loaded.digest().to_owned()
    }

    fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<Rendered, Error> {
        Ok(self.loaded.prompter()?.render(messages, options)?)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(self.loaded.prompter()?.encode_raw(text)?)
    }

    fn capacity(&self, prompt: usize, max_tokens: usize) -> Capacity {
        Capacity::Batch {
            plan: self.plan(prompt, max_tokens),
            weights: self.loaded.placed.bytes(),
        }
    }

    fn start(&self, plan: MemoryPlan) -> Result<(), Error> {
        self.engine(|| plan)?;
        Ok(())
    }

    async fn run(&self, request: Request, observer: Observer) -> Result<Outcome, RunError> {
        let (prompt, most) = (request.prompt.ids.len(), request.setup.rules.max_tokens);
        self.engine(|| self.plan(prompt, most))?
            .run(request, observer)
            .await
    }

    async fn score(
        &self,
        ids: Vec<u32>,
        from: usize,
        k: usize,
    ) -> Result<Option<Vec<ScoredToken>>, RunError> {
        let engine = self.engine(|| self.plan(ids.len(), 1))?;
        engine.score(ids, from, k).await.map(Some)
    }

    fn describe(&self, settings: TraceSettings) -> TraceSettings {
        let placed = &self.loaded.placed;
        let (kv, state) = placed.held();
        TraceSettings {
            model: Some(self.loaded.digest().to_owned()),
            kv_dtype: Some(kv.name().to_owned()),
            state_dtype: Some(state.name().to_owned()),
            dtype: Some(
                placed
                    .formats()
                    .iter()
                    .map(|(format, _)| (*format).to_owned())
                    .collect(),
            ),
            tier: Some(placed.arithmetic(self.tier()).to_owned()),
            stop_ids: Some(self.capabilities.stop_ids.clone()),
            ..settings
        }
    }

    fn machine(&self, so_far: bool) -> MachineInfo {
        let placed = &self.loaded.placed;
        MachineInfo {
            device: placed.device_name().map(str::to_owned),
            threads: placed.on_cpu().map(|_| self.threads()),
            tier: Some(placed.arithmetic(self.tier()).to_owned()),
            max_batch: self.engine.get().filter(|_| so_far).map(|e| e.plan().max_batch),
            ..MachineInfo::default()
        }
    }
}

/// The threads that are used when no number is given.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The instruction tier that is used when none is named.
pub fn default_tier() -> Tier {
    Tier::detect()
}
