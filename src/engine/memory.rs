//! Memory is asked for before it is needed: how many traces fit, and what each costs.

use serde::Serialize;

use tts_model::Model;

/// Share of the memory that is there which traces may fill; the rest is left to the operating system's caches
/// and to other programs.
const SHARE: f64 = 0.8;
/// Tokens that a trace is expected to reach when it may go on for longer.
const EXPECTED: usize = 4096;

/// Bytes of memory that this process may still take: what the system has available, or less where a control
/// group says so.
pub fn available() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let system = field(&meminfo, "MemAvailable:").map(|kib| kib * 1024);
    let group = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|f| std::fs::read_to_string(f).ok()?.trim().parse::<u64>().ok());
    let used = [
        "/sys/fs/cgroup/memory.current",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ]
    .iter()
    .find_map(|f| std::fs::read_to_string(f).ok()?.trim().parse::<u64>().ok())
    .unwrap_or(0);
    // where nothing can be read (other systems), a size that every machine of the last decade has
    let system = system.unwrap_or(4 << 30);
    group.map_or(system, |limit| system.min(limit.saturating_sub(used)))
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|l| l.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// How many traces run at once, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Rows of a batch.
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

impl Plan {
    /// A plan for traces of up to `max_tokens` after a prompt of `prompt` tokens. `memory` replaces what the
    /// machine has, `max_batch` what fits.
    pub fn new(
        model: &Model,
        prompt: usize,
        max_tokens: usize,
        threads: usize,
        memory: Option<u64>,
        max_batch: Option<usize>,
    ) -> Self {
        let expected_tokens = prompt + max_tokens.min(EXPECTED);
        let bytes_per_trace = model.layout().sequence_bytes(expected_tokens, prompt) as u64;
        let free = memory.unwrap_or_else(|| {
            (available().saturating_sub(model.unpacked_bytes() as u64) as f64 * SHARE) as u64
        });
        let prefix = model.layout().sequence_bytes(prompt, 0) as u64;
        // logits and activations of a row come on top of its state
        let row = model.workspace_bytes(1, 1, 0) as u64;
        let budget =
            free.saturating_sub(model.workspace_bytes(tts_model::session::PREFILL_CHUNK, 1, threads) as u64);
        // the scheduler counts a problem's prompt against the budget
        let fits = (budget.saturating_sub(prefix) / (bytes_per_trace + row)).clamp(1, 65_536) as usize;
        let rows = max_batch.unwrap_or(fits);
        Self {
            max_batch: rows,
            budget: budget.saturating_sub(rows as u64 * row),
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
