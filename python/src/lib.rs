//! The extension module `tts._tts`: the library for Python. It converts arguments and results, and decides
//! nothing; what can be seen of results stands in Python beside it (`tts/`).

mod answer;
mod column;
mod evaluation;
mod event;
mod failure;
mod grading;
mod recording;
mod solver;
mod strategy;
mod waiting;

use std::ffi::OsString;

use pyo3::prelude::*;

/// The bindings of `tts`; use the package `tts`.
#[pymodule]
mod _tts {
    use super::*;
    #[pymodule_export]
    use super::{
        answer::{Answer, Vote},
        column::Column,
        evaluation::{replay, sweep},
        event::Event,
        failure::Error,
        grading::{canonical, extract, grade, wilson},
        main,
        recording::read_run,
        solver::{Solver, Solving},
        strategy::EndedTrace,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// Runs the command line `tts` on these words, of which the first names the program, and gives its exit code.
#[pyfunction]
fn main(py: Python<'_>, words: Vec<OsString>) -> u8 {
    py.detach(|| tts::cli::main_of(words))
}
