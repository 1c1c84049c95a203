//! What is run, and who watches it: what every source of traces is given.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::{Event, Setup, TokenStream, TraceRecord};
use crate::grammar::Grammar;
use crate::prompt::{Message, Rendered};
use tts_model::overrides::SamplingOverrides;
use tts_model::sampling::Sampling;

/// One problem to run: everything that its traces and its decision are a function of.
pub struct Request {
    /// What decides: strategy, reader, rules, bounds, and traces that were recorded before.
    pub setup: Setup,
    /// The conversation that the prompt was made of; empty where it is a raw text.
    pub messages: Vec<Message>,
    /// The prompt, with its ids where a tokenizer is known here.
    pub prompt: Rendered,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// What of `sampling` the caller has set: an engine elsewhere may take the rest as it likes.
    pub overrides: SamplingOverrides,
    /// Generated tokens of a trace that the caller allows, where it said so: an engine elsewhere is told no
    /// other limit. `setup.rules.max_tokens` is what it comes to.
    pub max_tokens: Option<usize>,
    /// Part of every trace's random stream.
    pub seed: u64,
    /// Ids that may not be drawn.
    pub banned_ids: Vec<u32>,
    /// What the text of every trace must be, after its thinking.
    pub grammar: Option<Arc<Grammar>>,
}

impl Request {
    /// A request with the default sampling settings and seed 0; the other fields are public.
    pub fn new(setup: Setup, prompt: Rendered) -> Self {
        Self {
            setup,
            messages: Vec::new(),
            prompt,
            sampling: Sampling::default(),
            overrides: SamplingOverrides::default(),
            max_tokens: None,
            seed: 0,
            banned_ids: Vec::new(),
            grammar: None,
        }
    }
}

/// Who watches a run, where its records go, and what may end it from outside. The default watches nothing.
#[derive(Default)]
pub struct Observer {
    /// Progress; a bounded ring, so a reader that is late loses the oldest events.
    pub events: Option<broadcast::Sender<Event>>,
    /// Where ended traces go; their arrays and texts are not held in memory from then on.
    pub records: Option<RecordSink>,
    /// Traces in flight go to `records` too, and their states to files, so that a killed run goes on in the
    /// middle of them.
    pub checkpoint: Option<Checkpoint>,
    /// When the vote so far must do.
    pub deadline: Option<Instant>,
    /// Cancelled: decide now with the votes there are. It may be shared by many runs.
    pub interrupt: CancellationToken,
    /// The caller's hand on this one run.
    pub control: Arc<Control>,
}

/// How often traces in flight are kept, and where.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Time between two checkpoints.
    pub every: Duration,
    /// The folder of the states, a file a trace. They fit the model, its formats and its tier alone: whoever
    /// names the folder sees to that.
    pub dir: PathBuf,
}

/// What a caller may do to a running problem.
#[derive(Default, Debug)]
pub struct Control {
    /// Nobody waits for the result any more: drop the problem.
    pub cancelled: AtomicBool,
    /// Decide now with the votes there are.
    pub interrupted: CancellationToken,
    /// Tell watchers the confidences of every trace as well ([`Event::Details`]).
    pub details: AtomicBool,
    /// The tokens of the first trace as they come, if anybody may want to read along.
    pub token_stream: Option<TokenStream>,
}

/// Where ended traces go as they end. An error ends the problem.
pub type RecordSink = Box<dyn FnMut(&TraceRecord) -> Result<(), String> + Send>;
