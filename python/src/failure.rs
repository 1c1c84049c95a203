//! What went wrong, as Python raises it.

use std::sync::{Mutex, PoisonError};

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(
    tts,
    Error,
    PyException,
    "A model, a set, a recording or a setting that cannot be used, or a run that cannot go on: one sentence that \
     says which and what would be right."
);

/// An error of the library as Python raises it.
pub(crate) fn raised(error: impl std::fmt::Display) -> PyErr {
    Error::new_err(in_python(&error.to_string()))
}

/// A sentence that names flags as arguments: `--max-tokens 0` is `max_tokens 0` here.
fn in_python(sentence: &str) -> String {
    let mut words = sentence.split("--");
    let mut text = words.next().unwrap_or_default().to_owned();
    for rest in words {
        let flag = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-');
        let (flag, rest) = rest.split_at(flag.unwrap_or(rest.len()));
        if flag.is_empty() {
            text.push_str("--");
        }
        text.push_str(&flag.replace('-', "_"));
        text.push_str(rest);
    }
    text
}

/// Exceptions that strategies in Python raised while runs went on, until whoever waits for a run asks.
#[derive(Default)]
pub(crate) struct Exceptions(Mutex<Vec<(String, PyErr)>>);

impl Exceptions {
    /// Keeps an exception under the words that the run will end with.
    pub(crate) fn keep(&self, words: &str, exception: PyErr) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push((words.to_owned(), exception));
    }

    /// The exception that ended a run, or the run's own error.
    pub(crate) fn raised(&self, error: impl std::fmt::Display) -> PyErr {
        let text = error.to_string();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.iter().position(|(words, _)| text.contains(words)) {
            Some(at) => kept.swap_remove(at).1,
            None => raised(text),
        }
    }
}
