//! The batched engine: a scheduler that runs many problems on one
//! [`Executor`](tts_model::executor::Executor), and the memory that they are given.
//!
//! It is bookkeeping over handles: which traces take part in the next step, which problems wait, and whether
//! their memory is there. What a sequence is, and where its tokens are drawn, is the executor's business.

mod checkpoints;
mod kept_prefixes;
mod kept_states;
pub mod memory;
mod pace;
mod running;
pub mod scheduler;
pub mod scoring;
