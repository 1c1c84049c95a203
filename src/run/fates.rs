//! Counts by fate: in which book a trace and its tokens stand.

use serde::{Deserialize, Serialize};
use tts_strategies::Fate;

/// Counts by fate: of traces, or of the tokens that they generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FateCounts {
    /// Ended by themselves as part of the warm-up.
    pub warmup: u64,
    /// Ended by themselves after the warm-up.
    pub finished: u64,
    /// Stopped by the strategy.
    pub stopped: u64,
    /// In flight when the problem was decided.
    pub cancelled: u64,
    /// EarlyEnd off by the token limit or for looping.
    pub truncated: u64,
    /// Failed: the logits were not numbers, or the source of the tokens gave up.
    pub failed: u64,
}

impl FateCounts {
    pub(super) fn add(&mut self, fate: Fate, n: u64) {
        match fate {
            Fate::Warmup => self.warmup += n,
            Fate::Finished => self.finished += n,
            Fate::Stopped => self.stopped += n,
            Fate::Cancelled => self.cancelled += n,
            Fate::Truncated => self.truncated += n,
            Fate::Failed => self.failed += n,
        }
    }
    /// Sum over all fates.
    pub fn total(&self) -> u64 {
        self.warmup + self.finished + self.stopped + self.cancelled + self.truncated + self.failed
    }
}

impl std::ops::AddAssign for FateCounts {
    fn add_assign(&mut self, other: Self) {
        self.warmup += other.warmup;
        self.finished += other.finished;
        self.stopped += other.stopped;
        self.cancelled += other.cancelled;
        self.truncated += other.truncated;
        self.failed += other.failed;
    }
}
