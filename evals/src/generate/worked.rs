//! Pieces of worked solutions.

use std::fmt::Write;

/// Prime moduli that small steps suit.
pub(super) const PRIMES: [u32; 7] = [7, 11, 13, 17, 19, 23, 29];

/// Steps, a line each.
#[derive(Debug, Default)]
pub(super) struct Lines(String);

impl Lines {
    /// Starts a line.
    pub(super) fn line(&mut self, text: impl std::fmt::Display) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.add(text);
    }

    /// Goes on with the line.
    pub(super) fn add(&mut self, text: impl std::fmt::Display) {
        // Writing to a String does not fail.
        let _ = write!(self.0, "{text}");
    }

    /// Takes multiples of `m` away from `value`, which was just written: tens of `m` first, then
    /// ones (`841-620=221-217=4` for 841 mod 31). Returns what is left.
    pub(super) fn reduce(&mut self, mut value: u32, m: u32) -> u32 {
        for unit in [100 * m, 10 * m, m] {
            let multiple = value / unit * unit;
            if multiple > 0 {
                value -= multiple;
                self.add(format_args!("-{multiple}={value}"));
            }
        }
        value
    }

    pub(super) fn done(self) -> String {
        self.0
    }
}
