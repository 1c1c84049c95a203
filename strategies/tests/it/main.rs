//! One binary for all tests of the crate's public interface.

mod bayes;
mod deepconf;
mod golden;
mod made;
mod nasty;
mod others;
mod pools;
mod presets;
mod register;
mod sim;
mod votes;
