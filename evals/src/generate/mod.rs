//! Seeded problem generators with exact answers and worked solutions.
//!
//! Every problem is a function of (family, seed, index, split) and of nothing else. Answers are
//! integers from 0 to 999. A solution is a chain of small steps, one a line, and ends with the line
//! `The answer is \boxed{N}.`
//!
//! # Splits
//!
//! Training, tuning and held-out problems never share operands, whatever their seeds: a hash of the
//! operands that define a problem's chain (without its length: a held-out recurrence is not a training
//! recurrence run further) decides the only split that the problem may stand in. `Split::of` says which.

mod digits;
mod divisors;
mod draw;
mod modular;
mod sequences;
mod worked;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use draw::Draw;
use regex::Regex;
use serde::Serialize;

/// A kind of problem.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Its name on the command line and in a problem's id.
    pub name: &'static str,
    /// What it asks, in a line.
    pub about: &'static str,
    /// A problem of this family, word for word.
    pub example: &'static str,
    /// What all its problems look like: a regular expression for the whole text.
    pattern: &'static str,
    make: fn(&mut Draw) -> Made,
}

/// What a family makes of its random numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Made {
    /// The operands that decide the split, as text.
    operands: String,
    problem: String,
    answer: u32,
    /// The steps, a line each, without the last line.
    steps: String,
}

/// Which set a problem may stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// For training the bundled model: 14 of 16 operands.
    Train,
    /// For tuning settings: 1 of 16.
    Dev,
    /// For measuring: 1 of 16.
    HeldOut,
}

impl Split {
    /// All splits.
    pub const ALL: [Split; 3] = [Split::Train, Split::Dev, Split::HeldOut];

    /// The name on the command line and in ids.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Dev => "dev",
            Split::HeldOut => "heldout",
        }
    }

    /// The split of that name.
    pub fn named(name: &str) -> Option<Split> {
        Split::ALL.into_iter().find(|s| s.name() == name)
    }

    /// The one split that operands belong to: FNV-1a of `family:operands`, its top four bits;
    /// 0 is held out, 1 is for tuning, the rest is for training.
    fn of(family: &str, operands: &str) -> Split {
        let bytes = family.bytes().chain([b':']).chain(operands.bytes());
        match draw::fnv1a(bytes) >> 60 {
            0 => Split::HeldOut,
            1 => Split::Dev,
            _ => Split::Train,
        }
    }
}

/// A problem with its exact answer and a worked solution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// `family-split-seed-index`.
    pub id: String,
    /// The family's name.
    pub family: String,
    /// What is asked.
    pub problem: String,
    /// The answer, 0 to 999, without leading zeros.
    pub answer: String,
    /// The steps, then `The answer is \boxed{N}.`
    pub solution: String,
}

/// All families, in the order in which sets go round them.
pub fn families() -> &'static [Family] {
    &FAMILIES
}

/// The family of that name.
pub fn family(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|f| f.name == name)
}

/// The family that a text is a problem of, if it is one word for word: what lies outside is outside
/// what the bundled model has learnt.
pub fn recognise(text: &str) -> Option<&'static Family> {
    static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
        FAMILIES
            .iter()
            .map(|f| Regex::new(&format!("^{}$", f.pattern)).expect("the patterns are constants, and tested"))
            .collect()
    });
    let found = PATTERNS.iter().position(|p| p.is_match(text.trim()))?;
    FAMILIES.get(found)
}

static FAMILIES: [Family; 9] = [
    Family {
        name: "recurrence",
        about: "a term of a_{n+1} = p a_n + q mod m, 4 to 30 steps",
        example: "Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20.",
        pattern: r"Let a_1 = \d+ and a_\{n\+1\} = \d a_n \+ \d mod \d+\. Find a_\d+\.",
        make: sequences::recurrence,
    },
    Family {
        name: "fibonacci",
        about: "a term of F_{n+2} = F_{n+1} + F_n mod m, 6 to 24 steps",
        example: "Let F_1 = 12, F_2 = 35 and F_{n+2} = F_{n+1} + F_n mod 47. Find F_15.",
        pattern: r"Let F_1 = \d+, F_2 = \d+ and F_\{n\+2\} = F_\{n\+1\} \+ F_n mod \d+\. Find F_\d+\.",
        make: sequences::fibonacci,
    },
    Family {
        name: "last_digits",
        about: "the last three digits of a term of a_{n+1} = p a_n + q, 2 to 14 steps",
        example: "Let a_1 = 37 and a_{n+1} = 7 a_n + 4. Find the last three digits of a_9.",
        pattern: r"Let a_1 = \d+ and a_\{n\+1\} = \d a_n \+ \d\. Find the last three digits of a_\d+\.",
        make: sequences::last_digits,
    },
    Family {
        name: "power",
        about: "the remainder of a power, by repeated squaring",
        example: "Find the remainder when 7^53 is divided by 23.",
        pattern: r"Find the remainder when \d\^\d+ is divided by \d+\.",
        make: modular::power,
    },
    Family {
        name: "polynomial",
        about: "the remainder of a polynomial's value, degree 3 to 9",
        example: "Let P(x) = 3x^3+2x^2+4x+5. Find the remainder when P(6) is divided by 29.",
        pattern: r"Let P\(x\) = (?:\d(?:x(?:\^\d+)?)?\+?)+\. Find the remainder when P\(\d\) is divided by \d+\.",
        make: modular::polynomial,
    },
    Family {
        name: "products",
        about: "the remainder of a sum of 3 to 14 products",
        example: "Find the remainder when 7*13+8*26+4*39 is divided by 31.",
        pattern: r"Find the remainder when \d\*\d\d(?:\+\d\*\d\d)* is divided by \d+\.",
        make: modular::products,
    },
    Family {
        name: "gcd",
        about: "the greatest common divisor, by subtraction, 3 to 16 steps",
        example: "Find the greatest common divisor of 161 and 115.",
        pattern: r"Find the greatest common divisor of \d{1,3} and \d{1,3}\.",
        make: divisors::gcd,
    },
    Family {
        name: "base",
        about: "the sum of a number's digits in another base",
        example: "Find the sum of the digits of 865 written in base 7.",
        pattern: r"Find the sum of the digits of \d+ written in base \d\.",
        make: digits::base,
    },
    Family {
        name: "doubling",
        about: "the sum of the digits of c * 2^k, k from 3 to 24",
        example: "Find the sum of the digits of 37*2^15.",
        pattern: r"Find the sum of the digits of \d+\*2\^\d+\.",
        make: digits::doubling,
    },
];

/// Problem `index` of a family under a seed, in a split.
pub fn problem(family: &Family, seed: u64, index: u64, split: Split) -> Problem {
    let mut draw = Draw::new(family.name, seed, index);
    let made = loop {
        let made = (family.make)(&mut draw);
        if Split::of(family.name, &made.operands) == split {
            break made;
        }
    };
    let Made {
        problem,
        answer,
        steps,
        ..
    } = made;
    Problem {
        id: format!("{}-{}-{seed}-{index}", family.name, split.name()),
        family: family.name.to_owned(),
        problem,
        answer: answer.to_string(),
        solution: format!("{steps}\nThe answer is \\boxed{{{answer}}}."),
    }
}

/// A set of `count` problems with no text twice, going round the families; fewer where the families
/// have no more to give.
pub fn set(families: &[&Family], seed: u64, split: Split, count: usize) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    let mut stale = 0;
    for index in 0.. {
        for family in families {
            if problems.len() == count || stale > 2_000 {
                return problems;
            }
            let next = problem(family, seed, index, split);
            if seen.insert(next.problem.clone()) {
                problems.push(next);
                stale = 0;
            } else {
                stale += 1;
            }
        }
        if families.is_empty() {
            break;
        }
    }
    problems
}

#[cfg(test)]
mod tests;
