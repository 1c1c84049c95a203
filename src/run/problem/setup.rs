//! What a problem's run is made of.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tts_evals::answer::ReadAnswer;
use tts_strategies::Strategy;

use super::{ExternalEvent, Looks};
use crate::run::{Slots, StoppingRules, TraceRecord};

/// What a problem is made of.
pub struct Setup {
    /// Names the problem; part of every trace's random stream.
    pub id: String,
    /// What decides which traces go on, and the answer.
    pub strategy: Box<dyn Strategy>,
    /// Takes answers from texts.
    pub reader: Arc<dyn ReadAnswer>,
    /// Makes texts of ids.
    pub decode: Arc<dyn Decode>,
    /// When traces end by themselves, and what they are forced to say.
    pub rules: Arc<StoppingRules>,
    /// How many traces may be launched, and how many at once.
    pub bounds: Bounds,
    /// Traces that were generated before, and what came from outside then.
    pub recorded: Vec<Arc<TraceRecord>>,
    /// External events to apply again (replay); empty when solving.
    pub scripted: Vec<ExternalEvent>,
    /// Which prompts' traces it can have beside those of the problem's own.
    pub looks: Looks,
}

/// Turns token ids into text; special tokens are kept except where they end the text.
pub trait Decode: Send + Sync {
    /// The text of these ids. Ids without text (padding of the vocabulary) give nothing.
    fn decode(&self, ids: &[u32]) -> String;

    /// Gives the text that each further id of a trace makes certain; together it is the text of all of them.
    fn to_text(&self) -> ToText;
}

/// What a token adds to the text of those before it.
pub type ToText = Box<dyn FnMut(u32) -> String + Send>;

/// Gives no texts: where there are no ids to decode, what has a text has it already.
pub struct NoDecoder;

impl Decode for NoDecoder {
    fn decode(&self, _: &[u32]) -> String {
        String::new()
    }

    fn to_text(&self) -> ToText {
        Box::new(|_| String::new())
    }
}

/// Bounds of one problem's run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// Traces that may be launched in all (K).
    pub traces: usize,
    /// Most traces in flight at once.
    pub slots: usize,
    /// How many of them at first and later, where that grows.
    pub growth: Option<Slots>,
    /// Generated tokens of the problem after which the vote so far decides.
    pub max_total_tokens: Option<u64>,
}

impl Bounds {
    /// At most `traces` traces, `slots` of them at once.
    pub fn new(traces: usize, slots: Slots, max_total_tokens: Option<u64>) -> Self {
        Self {
            traces,
            slots: slots.most(traces).max(1),
            growth: slots.grows().then_some(slots),
            max_total_tokens,
        }
    }
}
