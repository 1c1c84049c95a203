//! Problems × strategies × budgets: what a sweep decides over recorded traces, and the files it writes.
//!
//! A sweep's folder holds, beside the recording where the sweep made one (`manifest.json`, `traces.jsonl`,
//! `tokens.bin`, see [`crate::run`]):
//!
//! ```text
//! sweep.json    what was asked: one object, a [`SweepHeader`]
//! sweep.jsonl   what came of it: one line a problem's pool, and one a problem, strategy, budget and number
//!               of slots; appended as they are decided
//! ```
//!
//! `sweep.json`: `schema`, `tool_version`, `recording` (`path` and `digest` of what was decided over; `path`
//! is null where it is this folder),
//! `traces` (the settings that the traces were generated with, as in a manifest; null for a recording made
//! elsewhere), `data` (digest of the problem set), `strategies` (whole presets: `name`, `description`,
//! `kind`, `settings`), `budgets`, `slots` (a list; each a number or a schedule, or null for what suits each
//! strategy), `resamples` (a number, or null where the traces were taken once in recorded order), `seed`, `answers`
//! (how answers are read), `problems` (ids in order), `status` (`started` | `finished` | `interrupted`),
//! `notes` (sentences).
//!
//! A line of `sweep.jsonl` is one of two objects, told apart by `kind`.
//!
//! `"kind": "pool"`, once a problem: `problem_id`, `gold` (null where unknown), `traces` (how many complete
//! ones there are), `answered`, `right` (null without gold; a trace that was cut off counts as wrong,
//! whatever it says), `tokens` (their sum). From these: pass@1, avg@n and pass@k.
//!
//! `"kind": "decided"`: `problem_id`, `strategy` (the preset's name), `budget` (traces that might be
//! launched, as asked for), `slots` (as asked for, null for the default), `traces` (the budget, or the pool's
//! size where that is smaller: the result is then the same as at the smaller budget), and, with one entry for
//! each resample in the same order for every strategy, `correct` (0 or 1; the whole array null without gold;
//! a problem without an answer counts as 0), `tokens` (generated, all fates), `ticks` (length of the critical
//! path in tokens), `launched`. Summed over the resamples: `answered` (how often there was an answer),
//! `token_fates` and `trace_fates` (objects with `warmup`, `finished`, `stopped`, `cancelled`,
//! `truncated`, `failed`), `pools` (how often `filtered`, `finished`, `any`, `none` decided), `short` (traces
//! that ended in the recording before the strategy was through with them, and count as failed there).
//!
//! Resample `i` of a problem is one random order of its complete traces, the same one for every strategy,
//! budget and number of slots: a budget of k takes the first k. So resampled results are paired across all of
//! them, and entry `i` of two lines may be compared. Where the budget is the whole pool only the order
//! differs between resamples.
//!
//! Of two lines with the same `problem_id`, `strategy`, `budget` and `slots` the later counts. A last line
//! without its newline is unfinished.

mod decide;
mod files;
mod folder;
mod over;
mod run;
mod summary;

pub use decide::{SweepPlan, decides_recorded};
pub use files::{PoolDecisions, PoolSummary, RecordingSource, SweepHeader, SweepLine};
pub use folder::{SweepFolder, SweepFolderError, SweepResults};
pub use over::{Swept, over};
pub use run::{SweepError, run};
pub(crate) use summary::{
    LEVEL, SEED, accuracy, against, each, paired, rights, share_of_tokens, tokens_per_right,
};
pub use summary::{SweepRow, summary};

/// The layout that this version writes.
pub const SCHEMA: u32 = files::SCHEMA;
