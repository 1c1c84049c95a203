//! Shares time between prompts that are read and traces that are drawn.

use std::time::Duration;

/// A part of a prompt that takes less than this delays nobody.
const UNNOTICED: Duration = Duration::from_millis(10);
/// Parts that take longer than the one are halved, and may grow again below the other.
const LONG: Duration = Duration::from_millis(80);
const SHORT: Duration = Duration::from_millis(20);

/// How much of prompts is read between two steps. While traces run, reading takes no more time than they do,
/// in parts that are short enough for those who read along.
#[derive(Debug)]
pub(super) struct Pace {
    /// time that reading took and drawing has not had yet
    owed: Duration,
    /// tokens of a part beside traces that run
    tokens: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            owed: Duration::ZERO,
            tokens: usize::MAX,
        }
    }
}

impl Pace {
    /// Whether traces that run have their turn before more is read.
    pub(super) fn rests(&self) -> bool {
        !self.owed.is_zero()
    }

    /// Tokens of the next part, of `most`; `alone` where no trace runs.
    pub(super) fn part(&self, most: usize, alone: bool) -> usize {
        if alone { most } else { most.min(self.tokens) }
    }

    /// A part of so many tokens was read beside traces that run.
    pub(super) fn read(&mut self, tokens: usize, took: Duration) {
        self.waited(took);
        if took > LONG {
            self.tokens = (tokens / 2).max(1);
        } else if took < SHORT {
            self.tokens = self.tokens.saturating_mul(2);
        }
    }

    /// Traces that run waited for so long for something else.
    pub(super) fn waited(&mut self, took: Duration) {
        if took > UNNOTICED {
            self.owed += took;
        }
    }

    /// Traces were drawn for so long.
    pub(super) fn drew(&mut self, took: Duration) {
        self.owed = self.owed.saturating_sub(took);
    }

    /// No trace runs any more.
    pub(super) fn forgive(&mut self) {
        self.owed = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_waits_until_drawing_had_as_long() {
        let ms = Duration::from_millis;
        let mut pace = Pace::default();
        assert_eq!(
            (pace.rests(), pace.part(256, true), pace.part(256, false)),
            (false, 256, 256)
        );
        pace.read(256, ms(5));
        assert!(!pace.rests(), "that was too short to matter");
        pace.read(256, ms(200));
        assert_eq!((pace.part(256, true), pace.part(256, false)), (256, 128));
        pace.drew(ms(150));
        assert!(pace.rests());
        pace.drew(ms(60));
        assert!(!pace.rests());
        pace.read(1, ms(200));
        assert_eq!(pace.part(256, false), 1);
        pace.forgive();
        pace.read(1, ms(1));
        assert_eq!((pace.rests(), pace.part(256, false)), (false, 2));
    }
}
