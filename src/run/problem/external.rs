//! What happens to a run from outside of its traces.

use serde::{Deserialize, Serialize};

/// Why a problem ended before its strategy was done: the vote so far decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyEnd {
    /// The problem's traces had generated `max_total_tokens` tokens together.
    MaxTotalTokens,
    /// The time limit was reached.
    TimeLimit,
    /// The user or the caller interrupted the run.
    Interrupted,
    /// Every trace failed, so there was nothing left to run.
    Failed,
}

/// A change that did not come from the traces, and the tick after which it took effect: replay needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ExternalEvent {
    /// Memory allows this many traces in flight from now on.
    Slots {
        /// The tick after which it took effect.
        tick: u64,
        /// New number of traces in flight at once, at least 1.
        slots: usize,
    },
    /// The run was ended early.
    #[serde(rename = "cut")]
    Ended {
        /// The tick after which it took effect.
        tick: u64,
        /// Why it was ended.
        #[serde(rename = "cut")]
        reason: EarlyEnd,
    },
}
