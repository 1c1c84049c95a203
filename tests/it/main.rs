//! Integration tests: one binary, one module a subject.

mod bad_models;
mod bookkeeping;
mod cli;
mod devices;
mod documentation;
mod engine;
mod evaluation;
mod forks;
mod golden;
mod lora;
mod memory;
mod mock;
mod oracle;
mod pools;
mod prefixes;
mod real_weights;
mod remote;
mod report;
mod rig;
mod rooms;
mod rules;
mod run_folder;
mod sampler;
mod scheduler;
mod serve;
mod solver;

use std::path::{Path, PathBuf};

/// A file or folder of tests/fixtures.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Leaves five decimals of every number, so that a text with them holds on every machine.
fn round(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::Number(number) if number.is_f64() => {
            let x = number.as_f64().unwrap_or_default();
            *value = Value::from((x * 1e5).round() / 1e5);
        }
        Value::Array(values) => values.iter_mut().for_each(round),
        Value::Object(fields) => fields.values_mut().for_each(round),
        _ => (),
    }
}
