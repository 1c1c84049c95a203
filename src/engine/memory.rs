//! Memory is asked for before it is needed: how many traces fit, and what each costs.

use serde::Serialize;

use tts_model::executor::Limits;

/// Share of the memory that is there which traces may fill; the rest is left to the operating system's caches
/// and to other programs.
const MEMORY_SHARE: f64 = 0.8;
/// Tokens that a trace is expected to reach when it may go on for longer.
const EXPECTED_TOKENS: usize = 4096;

/// How many traces run at once, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Most rows of a batch: traces that get a token in one step.
    pub max_batch: usize,
    /// Bytes that prompts and traces may take together.
    pub budget: u64,
    /// Bytes of one trace at the expected length.
    pub bytes_per_trace: u64,
    /// Tokens a trace is expected to reach, prompt included.
    pub expected_tokens: usize,
    /// Rows with which the machine is busy: another problem is begun only where its rows do not go far
    /// beyond. Without it problems are begun as long as they fit.
    pub busy: Option<usize>,
}

impl MemoryPlan {
    /// A plan for traces of up to `max_tokens` after a prompt of `prompt` tokens. `memory` replaces what the
    /// device has free, `max_batch` what fits.
    pub fn new(
        limits: &Limits,
        prompt: usize,
        max_tokens: usize,
        memory: Option<u64>,
        max_batch: Option<usize>,
    ) -> Self {
        let expected_tokens = prompt + max_tokens.min(EXPECTED_TOKENS);
        let bytes_per_trace = limits.sequence_bytes(expected_tokens, prompt);
        let free = memory.unwrap_or((limits.free_bytes as f64 * MEMORY_SHARE) as u64);
        let prefix = limits.sequence_bytes(prompt, 0);
        let budget = free.saturating_sub(limits.read_bytes);
        // the scheduler counts a problem's prompt against the budget; the scratch memory of a row comes on
        // top of its state
        let each = (bytes_per_trace + limits.row_bytes).max(1);
        let fits = (budget.saturating_sub(prefix) / each).clamp(1, 65_536) as usize;
        let rows = max_batch.unwrap_or(fits);
        Self {
            max_batch: rows,
            budget: budget.saturating_sub(rows as u64 * limits.row_bytes),
            bytes_per_trace,
            expected_tokens,
            busy: None,
        }
    }

    /// Rows above which a problem of so many slots does not join: it joins when half of its rows are wanted,
    /// so that the batch stays near what keeps the machine busy while others end.
    pub fn most_before(&self, slots: usize) -> usize {
        self.busy
            .map_or(usize::MAX, |busy| busy - slots.min(busy).div_ceil(2))
    }
}
