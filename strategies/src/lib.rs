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
//!         self_certainty: None,
//!         measured: None,
//!     });
//! }
//! assert_eq!(strategy.decide().answer, Some(ClassId(7)));
//! # Ok::<(), tts_strategies::PresetError>(())
//! ```

mod confidence;
mod interface;
mod measured;
mod outside;
mod overrides;
mod percentile;
mod pool;
mod preset;
mod rules;
mod scores;
mod settings;
mod vote;
pub mod windows;

pub use confidence::confidence_of_logprobs;
pub use interface::{
    Ballot, ClassId, Decision, Fate, Finish, Limits, Needs, Next, PoolKind, Step, Strategy, TokenScalars,
    TraceId, TraceOutcome, Vote, Watching,
};
pub use measured::{Measured, Windowed};
pub use outside::{Builder, Outside};
pub use overrides::Overrides;
pub use percentile::percentile;
pub use preset::{Preset, PresetError, describe, names, source};
pub use rules::adaptive_consistency::{AdaptiveConsistency, stays_ahead};
pub use rules::best_of_infinity::BestOfInfinity;
pub use rules::best_of_n::BestOfN;
pub use rules::borda::Borda;
pub use rules::cges::Cges;
pub use rules::deepconf_offline::Offline;
pub use rules::deepconf_online::{Online, keep_top_bar};
pub use rules::esc::Esc;
pub use rules::majority::Majority;
pub use rules::short_m_at_k::ShortMAtK;
pub use rules::weighted::Weighted;
pub use scores::{BOTTOM_FRACTION, Statistic, TraceScores};
pub use settings::{
    AdaptiveSettings, BestOfInfinitySettings, BestOfNSettings, BordaSettings, CgesSettings, Consensus,
    EscSettings, MajoritySettings, OfflineSettings, OnlineSettings, Settings, ShortestSettings,
    WeightedSettings, Window,
};
pub use vote::{Tally, VoteKind, Voter};
