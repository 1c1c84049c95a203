//! Test-time scaling: hundreds of reasoning traces in one batch, stopped while they run and voted by
//! confidence.
//!
//! The front door is [`Runner`]: open a model ([`Loaded`]), choose [`Settings`], solve. `examples/` shows it
//! in a dozen lines.

pub mod bench;
pub mod engine;
mod error;
pub mod evaluation;
#[doc(hidden)]
pub mod fmt;
pub mod hub;
mod loaded;
mod openai;
pub mod pilot;
pub mod policy;
mod problem_set;
pub mod prompt;
pub mod replay;
pub mod report;
pub mod run;
pub mod runner;
pub mod serve;
pub mod source;
pub mod sweep;

pub use error::Error;
pub use loaded::{BUNDLED, LoadOptions, Loaded, prompter_of};
pub use problem_set::{ProblemSet, SetError, open_task};
pub use runner::{Runner, Settings, Solved, Watch};
pub use tts_evals as evals;
#[doc(hidden)]
pub use tts_model as model;
pub use tts_strategies as strategies;
