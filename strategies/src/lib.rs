//! Test-time-scaling strategies: token confidence, windows over a trace, thresholds, votes, and the state
//! machines that decide how many traces run, when one stops and which answer wins.
//!
//! Everything here is pure: no input or output, no clock, no randomness, no threads. The same [`Strategy`]
//! object therefore drives a live model, a remote engine and a recorded run, and decides alike in all of
//! them.
//!
//! ```
//! use tts_strategies::{ClassId, Finish, Limits, Preset, TraceOutcome};
//!
//! let mut strategy = Preset::named("majority")?.build();
//! assert_eq!(strategy.begin(&Limits { traces: 3, slots: 3, max_tokens: 100 }), 3);
//! for (trace, class) in [(0, 7), (1, 5), (2, 7)] {
//!     strategy.finished(&TraceOutcome {
//!         trace,
//!         finish: Finish::Stop,
//!         tokens: 10,
//!         class: Some(ClassId(class)),
//!         confidences: &[],
//!         logprobs: &[],
//!         entropies: &[],
//!         self_certainty: None,
//!         measured: None,
//!     });
//! }
//! assert_eq!(strategy.decide().answer, Some(ClassId(7)));
//! # Ok::<(), tts_strategies::PresetError>(())
//! ```

mod confidence;
mod counts;
mod custom;
mod interface;
mod measured;
mod overrides;
mod percentile;
mod preset;
mod register;
mod rules;
mod scores;
mod setting;
mod trace_pool;
mod value;
mod vote;
mod whole_traces;
pub mod windows;

pub use confidence::confidence_of_logprobs;
pub use custom::{Custom, StrategyBuilder};
pub use interface::{
    Ballot, ClassId, Decision, Fate, Finish, Fork, Limits, Needs, Next, PoolKind, Step, Strategy,
    TokenScalars, TraceId, TraceOutcome, Vote, Watching,
};
pub use measured::{TraceStatistics, WindowStatistics};
pub use overrides::Overrides;
pub use percentile::percentile;
pub use preset::{Preset, PresetError, describe, names, source};
pub use register::{Register, RegisterError, StrategyRow};
pub use rules::{keep_top_bar, stays_ahead};
pub use scores::{BOTTOM_FRACTION, Statistic, TokenSeries, TraceScores};
pub use setting::{Range, Setting, SettingValues};
pub use value::{Consensus, SettingType, Value, ValueType, Window};
pub use vote::{Tally, VoteKind, Voter};
