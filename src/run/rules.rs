//! When a trace ends by itself, and what it is forced to say.

use serde::{Deserialize, Serialize};

/// When a trace ends by itself, and what it is forced to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoppingRules {
    /// Ids that end a trace; the id is counted and is the trace's last.
    pub stop_ids: Vec<u32>,
    /// Whether stop ids are passed over.
    #[serde(default)]
    pub ignore_eos: bool,
    /// Generated tokens at which a trace is cut off.
    pub max_tokens: usize,
    /// Whether verbatim loops end a trace.
    pub loop_stop: bool,
    /// Tokens of thinking at which its end is forced.
    #[serde(default)]
    pub thinking_budget: Option<usize>,
    /// Ids that end thinking, forced at the budget.
    #[serde(default)]
    pub think_end: Vec<u32>,
    /// Ids that open thinking; without them a trace is taken to think from its beginning. The budget counts
    /// from here on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub think_start: Vec<u32>,
    /// Log-probabilities of the most likely ids that are kept of each token.
    #[serde(default)]
    pub record_top_k: usize,
    /// Texts that end a trace which writes them outside of its thinking; they are not part of its text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_texts: Vec<String>,
    /// Whether a trace begins inside its thinking: needed for `stop_texts` alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starts_in_thinking: bool,
    /// Whether the text is shown as it stands, white space at its ends included: needed for `stop_texts`
    /// alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
}

impl StoppingRules {
    /// Ids that end a trace as it is run.
    pub fn stops(&self) -> &[u32] {
        if self.ignore_eos { &[] } else { &self.stop_ids }
    }
}
