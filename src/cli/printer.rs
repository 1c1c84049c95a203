//! The one place that writes: results to stdout, everything else to stderr.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use anstream::{AutoStream, ColorChoice};
use indicatif::ProgressBar;
use serde::Serialize;

use super::table::wrapped;

/// What is printed, and where to.
pub(crate) struct Printer {
    json: bool,
    quiet: bool,
    terminal: bool,
    colour: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Printer {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let stdout = io::stdout();
        Self {
            json,
            quiet,
            terminal: stdout.is_terminal(),
            colour: stdout.is_terminal() && AutoStream::choice(&stdout) != ColorChoice::Never,
            bar: Mutex::new(None),
        }
    }

    /// Whether stdout is to hold JSON and nothing else.
    pub(crate) fn json(&self) -> bool {
        self.json
    }
    /// Whether somebody reads stdout as it is written.
    pub(crate) fn for_humans(&self) -> bool {
        self.terminal && !self.json
    }
    /// Columns of the terminal that stdout is.
    pub(crate) fn width(&self) -> Option<usize> {
        columns().filter(|_| self.terminal)
    }
    /// Whether stderr shows things that move.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Keeps lines and this bar from writing over each other; `None` when the bar is done.
    pub(crate) fn set_bar(&self, bar: Option<ProgressBar>) {
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = bar;
    }

    /// A line of the result.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        self.beside_bar(|| {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.write_all(b"\n")
        })
    }

    /// An object as a line of the result.
    pub(crate) fn object(&self, object: &impl Serialize) -> anyhow::Result<()> {
        Ok(self.line(&serde_json::to_string(object)?)?)
    }

    /// Something to know beside the result.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.to_stderr(text);
        }
    }

    /// Something that is probably not as it should be.
    pub(crate) fn warn(&self, text: &str) {
        if !self.quiet {
            self.to_stderr(&format!("warning: {}", bounded(text)));
        }
    }

    /// Why the program ends: one sentence, on one line.
    pub(crate) fn error(&self, text: &str) {
        let line = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        self.to_stderr(&format!("error: {}", bounded(&line)));
    }

    /// Makes sure that everything arrived.
    pub(crate) fn flush(&self) -> io::Result<()> {
        io::stdout().lock().flush()
    }

    /// Emphasised, where that can be seen.
    pub(crate) fn bold(&self, text: &str) -> String {
        if self.colour {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
    /// Green, where that can be seen.
    pub(crate) fn good(&self, text: &str) -> String {
        if self.colour {
            format!("\x1b[32m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
    /// Red, where that can be seen.
    pub(crate) fn bad(&self, text: &str) -> String {
        if self.colour {
            format!("\x1b[31m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn to_stderr(&self, text: &str) {
        let width = columns().filter(|width| *width >= NARROWEST && io::stderr().is_terminal());
        let text = wrapped(text, width, 2);
        // there is nobody to tell that stderr is gone
        let _ = self.beside_bar(|| io::stderr().lock().write_all(format!("{text}\n").as_bytes()));
    }

    fn beside_bar<T>(&self, write: impl FnOnce() -> T) -> T {
        match &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// Columns below which sentences are not broken into lines.
const NARROWEST: usize = 40;

/// Columns of the terminal, if there is one.
fn columns() -> Option<usize> {
    terminal_size::terminal_size()
        .map(|(width, _)| usize::from(width.0))
        .filter(|width| *width > 0)
}

/// A sentence with nothing in it that could command a terminal, and not longer than anybody reads.
fn bounded(text: &str) -> String {
    const LONGEST: usize = 4000;
    let cut = text.char_indices().nth(LONGEST).map_or(text.len(), |(at, _)| at);
    let more = if cut < text.len() { "..." } else { "" };
    let lines: Vec<String> = text[..cut].lines().map(crate::fmt::escaped).collect();
    format!("{}{more}", lines.join("\n"))
}

/// Text of a model without what could command a terminal.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}
