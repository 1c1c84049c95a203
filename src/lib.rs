//! Test-time scaling: many reasoning traces of one question in one batch, stopped while they run and voted by
//! confidence.
//!
//! A language model answers a hard question better when it is asked many times and its answers are voted on.
//! This library runs the traces of a question together, watches the confidence of every token, ends traces
//! that have lost their way, ends the question when the vote is clear, and accounts for every token. The
//! model runs in this process, or on OpenAI-compatible servers.
//!
//! | | |
//! |---|---|
//! | ask one question | [`Tts::solve`] gives an [`Answer`] |
//! | watch it being answered | [`Solving::stream`] gives [`Event`]s |
//! | solve a set, record it, go on after a kill | [`Tts::evaluate`] gives an [`Evaluation`] |
//! | decide a recording again, by another strategy | [`replay`] |
//! | models here | Hugging Face folders and `.gguf` files: [`Tts::open`] |
//! | models elsewhere | vLLM, SGLang, llama.cpp, Ollama, hosted ones: [`Tts::remote`] |
//! | decide | majority, DeepConf, adaptive consistency and others, or your own: [`strategies`] |
//! | read and compare answers | [`evals`] |
//!
//! Ask a question of the small model that the library carries:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tts::Error> {
//! use tts::Tts;
//!
//! let tts = Tts::open("bundled").strategy("deepconf-low").traces(16).build().await?;
//! let answer = tts.solve("Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20.").await?;
//! assert_eq!(answer.text(), Some("20"));
//! println!("{answer} after {} tokens in {} traces", answer.tokens(), answer.traces());
//! # Ok(())
//! # }
//! ```
//!
//! Watch a question being answered; dropping the stream would cancel its traces:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tts::Error> {
//! use futures::StreamExt;
//! use tts::{Event, Tts};
//!
//! let tts = Tts::open("bundled").strategy("majority").traces(8).build().await?;
//! let mut live = tts.solve("Find the remainder when 8^46 is divided by 23.").stream();
//! let (mut ended, mut decided) = (0, false);
//! while let Some(event) = live.next().await {
//!     match event? {
//!         Event::TraceEnded { .. } => ended += 1,
//!         Event::Decided { .. } => decided = true,
//!         _ => {}
//!     }
//! }
//! assert!(ended == 8 && decided);
//! # Ok(())
//! # }
//! ```
//!
//! Solve a set of problems side by side, with their right answers:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tts::Error> {
//! use futures::StreamExt;
//! use tts::{ProblemSet, Tts};
//!
//! let lines = r#"{"id": "a", "problem": "Let a_1 = 22 and a_{n+1} = 7 a_n + 4 mod 23. Find a_17.", "answer": "5"}
//! {"id": "b", "problem": "Let P(x) = 5x^3+8x^2+5x+9. Find the remainder when P(4) is divided by 17.", "answer": "1"}"#;
//! let set = ProblemSet::parse(lines.as_bytes(), "two.jsonl", &[])?;
//! let tts = Tts::open("bundled").strategy("deepconf-low").traces(16).build().await?;
//! let evaluation = tts.evaluate(&set.data.problems)?;
//! let mut results = evaluation.run(Default::default())?;
//! let mut graded = 0;
//! while let Some(result) = results.next().await {
//!     graded += usize::from(result?.record.correct.is_some());
//! }
//! assert_eq!(graded, 2);
//! # Ok(())
//! # }
//! ```

mod bench;
mod caught;
#[doc(hidden)] // the program's `main` calls it
pub mod cli;
mod device;
mod error;
pub mod evaluation;
mod facade;
mod fmt;
mod grammar;
mod hub;
mod loaded;
mod openai;
mod own_files;
mod problem_set;
pub mod replay;

// What the front door is made of. These are hidden because they change from version to version: the tests of
// this package reach into them, and so may a program that finds the front door too narrow.
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod pilot;
#[doc(hidden)]
pub mod policy;
#[doc(hidden)]
pub mod prompt;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod serve;
#[doc(hidden)]
pub mod solver;
#[doc(hidden)]
pub mod source;
#[doc(hidden)]
pub mod sweep;
#[doc(hidden)]
pub use device::Device;
pub use loaded::{LoadOptions, Loaded};
#[doc(hidden)]
pub use solver::{Solver, Watch};

pub use error::Error;
pub use evaluation::Evaluation;
pub use facade::{Answer, Builder, Solving, Tts};
pub use grammar::Grammar;
pub use hub::{HubError, Progress};
pub use problem_set::{ProblemSet, SetError};
pub use run::{BallotResult, Event, ProblemProgress};
pub use solver::{Settings, Solved};
pub use source::{ApiKey, RemoteOptions, Timeouts};
pub use tts_evals as evals;
pub use tts_model::overrides::SamplingOverrides;
#[doc(hidden)]
pub use tts_model::{Formats, KvFormat, WeightFormat};
pub use tts_strategies as strategies;
