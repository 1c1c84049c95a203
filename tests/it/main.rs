//! Integration tests: one binary, one module a subject.

mod bad_models;
mod cli;
mod engine;
mod golden;
mod memory;
mod pools;
mod remote;
mod report;
mod rig;
mod rooms;
mod rules;
mod run_folder;
mod runner;
mod sampler;
mod scheduler;
mod serve;

use std::path::{Path, PathBuf};

/// A file or folder of tests/fixtures.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}
