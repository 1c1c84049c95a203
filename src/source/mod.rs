//! Where traces come from.

mod local;
pub mod remote;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tts_strategies::Needs;

pub use local::{InProcess, InProcessOptions};
pub use remote::{Remote, RemoteOptions};

use crate::run::{Event, Outcome, RunError};

/// A source of traces.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The scalars that its tokens carry.
    fn offers(&self) -> Needs;
    /// Runs one problem to its decision. Dropping the future cancels the problem.
    async fn run(&self, job: Job) -> Result<Outcome, RunError>;
}

/// A problem for a backend.
pub struct Job {
    /// Strategy, rules, bounds, earlier records.
    pub setup: crate::run::Setup,
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// How tokens are drawn.
    pub sampling: tts_model::sampler::Sampling,
    /// Part of every trace's random stream.
    pub seed: u64,
    /// Ids that may not be drawn.
    pub held: Vec<u32>,
    /// When the vote so far must do.
    pub deadline: Option<std::time::Instant>,
    /// Cancelled: decide now with the votes there are.
    pub interrupt: tokio_util::sync::CancellationToken,
    /// Progress.
    pub events: Option<broadcast::Sender<Event>>,
    /// Where ended traces go; their arrays and texts are not held here from then on.
    pub records: Option<crate::run::RecordSink>,
    /// Traces in flight go there too, and their states to files, so that a killed run goes on in the middle
    /// of them.
    pub checkpoint: Option<crate::engine::snapshots::Snapshots>,
}
