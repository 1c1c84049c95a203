//! How many traces of a problem are in flight at once: a number, or one that grows while nothing is settled.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tts_strategies::Preset;

/// Most traces of a problem in flight at once where nobody says how many.
const MOST: usize = 64;

/// Traces of a problem in flight at once. Written `8`, or `4x2`: four at first, twice as many once four have
/// ended and left the problem undecided, twice as many again once those eight have ended too, and so on. The
/// first of many short traces then do not decide alone, and a problem that a few traces settle costs few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slots {
    first: usize,
    factor: usize,
}

impl Slots {
    /// What is used for a strategy unless somebody, or a recording, says otherwise: `4x2` where a few traces may settle a
    /// problem, else as many as there are traces, at most 64.
    pub fn suiting(strategy: &Preset) -> Self {
        if strategy.row().is_some_and(|row| row.ends_early) {
            Self::growing(4, 2)
        } else {
            Self::all()
        }
    }

    /// As many as there are traces, at most 64.
    pub fn all() -> Self {
        Self::fixed(MOST)
    }

    /// The same number from beginning to end.
    pub fn fixed(slots: usize) -> Self {
        Self {
            first: slots,
            factor: 1,
        }
    }

    /// `first`, multiplied by `factor` each time that as many traces have ended; both are at least 1.
    pub fn growing(first: usize, factor: usize) -> Self {
        Self {
            first: first.max(1),
            factor: factor.max(1),
        }
    }

    /// How many there are at first.
    pub fn first(self) -> usize {
        self.first
    }

    /// Whether it grows.
    pub fn grows(self) -> bool {
        self.factor > 1
    }

    /// The most of `traces` traces that can be in flight at once.
    pub fn most(self, traces: usize) -> usize {
        if !self.grows() {
            return self.first.min(traces);
        }
        // what is left when a number has ended that makes it grow is all that can be in flight
        let (mut slots, mut ended, mut most) = (self.first, 0usize, 0);
        while ended < traces {
            most = most.max(slots.min(traces - ended));
            ended = ended.saturating_add(slots);
            slots = slots.saturating_mul(self.factor);
        }
        most
    }

    /// How many once `ended` traces have ended.
    pub fn after(self, ended: usize) -> usize {
        let (mut slots, mut grown) = (self.first, self.first);
        while self.grows() && grown <= ended && grown < usize::MAX {
            slots = slots.saturating_mul(self.factor);
            grown = grown.saturating_add(slots);
        }
        slots
    }

    /// The same with no more of them at first than there are traces.
    pub(crate) fn within(self, traces: usize) -> Self {
        Self {
            first: self.first.min(traces),
            ..self
        }
    }

    /// Refuses what leaves nothing to run, and what cannot be with so many traces.
    pub(crate) fn check(self, traces: usize) -> Result<(), String> {
        if self.first == 0 {
            return Err(format!(
                "--slots {self} leaves nothing to run: it must be at least 1"
            ));
        }
        if self.grows() && self.first > traces {
            return Err(format!(
                "--slots {self} begins with more than the {traces} traces there may be"
            ));
        }
        Ok(())
    }
}

impl From<usize> for Slots {
    fn from(slots: usize) -> Self {
        Self::fixed(slots)
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.factor {
            1 => write!(f, "{}", self.first),
            factor => write!(f, "{}x{factor}", self.first),
        }
    }
}

impl FromStr for Slots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.parse::<usize>().ok().filter(|_| !part.starts_with('+'));
        let wanted = || {
            format!(
                "{text:?} is no number of slots: give one, as 8, or a first number and what it grows by, as 4x2"
            )
        };
        let (first, factor) = match text.split_once(['x', 'X']) {
            None => (number(text), Some(1)),
            Some((first, factor)) => (number(first), number(factor)),
        };
        let (first, factor) = first.zip(factor).ok_or_else(wanted)?;
        match text.contains(['x', 'X']) {
            true if first == 0 => Err(format!(
                "{text:?} begins with none: the first number must be at least 1"
            )),
            true if factor < 2 => Err(format!(
                "{text:?} does not grow: the second number must be at least 2"
            )),
            _ => Ok(Self { first, factor }),
        }
    }
}

impl Serialize for Slots {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.grows() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.first as u64)
        }
    }
}

impl<'de> Deserialize<'de> for Slots {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(usize),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(slots) => Ok(Self::fixed(slots)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_each_time_that_as_many_have_ended() {
        let slots: Slots = "4x2".parse().unwrap();
        let after: Vec<usize> = [0, 3, 4, 11, 12, 27, 28].map(|ended| slots.after(ended)).to_vec();
        assert_eq!(after, [4, 4, 8, 8, 16, 16, 32]);
        assert_eq!(Slots::fixed(8).after(1000), 8);
        assert!(slots.after(usize::MAX) > 1 << 60, "no overflow");
    }

    #[test]
    fn the_most_in_flight_are_those_that_are_left() {
        let most = |traces| Slots::growing(4, 2).most(traces);
        assert_eq!([1, 4, 5, 12, 13, 28, 64].map(most), [1, 4, 4, 8, 8, 16, 32]);
        assert_eq!(Slots::fixed(8).most(3), 3);
        assert_eq!(Slots::fixed(8).most(64), 8);
        assert!(Slots::growing(1, 2).most(usize::MAX) > 0, "no overflow");
        assert_eq!(Slots::growing(0, 0).most(9), 1, "and no end");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let no = |slots: Slots, traces| slots.check(traces).unwrap_err();
        assert!(no(Slots::fixed(0), 8).contains("--slots 0 leaves nothing to run"));
        assert!(no(Slots::growing(16, 2), 8).contains("--slots 16x2 begins with more than the 8 traces"));
        assert!(Slots::growing(8, 2).check(8).is_ok() && Slots::fixed(64).check(8).is_ok());
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["8", "4x2", "16x3"] {
            let slots: Slots = text.parse().unwrap();
            assert_eq!(slots.to_string(), text);
            let json = serde_json::to_string(&slots).unwrap();
            assert_eq!(serde_json::from_str::<Slots>(&json).unwrap(), slots);
        }
        assert_eq!(serde_json::to_string(&Slots::fixed(8)).unwrap(), "8");
        for text in ["0x2", "4x", "x2", "4x1", "4x0", "-4", "+4", "4x2x2", "four", ""] {
            assert!(text.parse::<Slots>().is_err(), "{text:?}");
        }
    }
}
