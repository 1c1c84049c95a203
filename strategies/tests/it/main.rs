//! One binary for all tests of the crate's public interface.

mod deepconf;
mod golden;
mod nasty;
mod others;
mod presets;
mod sim;
mod votes;
