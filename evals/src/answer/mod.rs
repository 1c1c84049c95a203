//! From a model's text to an answer, and from answers to votes and grades.
//!
//! [`extract`] finds the answer in a text, [`canonical`] turns it into a class key for voting
//! ([`without_unit`] that of the value alone), and
//! [`equal`] compares it with a gold answer for grading. [`ReadAnswer`] ties the first two together
//! behind a trait, so that a library user can put a closure in their place.

mod beside;
mod boxes;
mod choice;
mod compare;
mod dress;
mod equal;
mod extract;
mod lenient;
mod options;
mod reading;
mod scan;
mod statement;
mod thinking;

pub use equal::{Verdict, canonical, equal, without_unit};
pub use extract::{ExtractRules, Extraction, ExtractionPath, PatternError, compile_pattern, extract};
pub use options::{BracketRule, DecimalRule, EqualOptions, ListOrder, PercentRule, RelationRule, UnitRule};
pub use thinking::{THINK_END, THINK_START, ThinkingSplitter, closes_unopened, solution};

use serde::{Deserialize, Serialize};

/// What kind of thing a task's answers are; it decides how two of them are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AnswerKind {
    /// An integer, as in AIME: units, an equation's left side and leading zeros are dropped.
    Integer,
    /// Any mathematical value: numbers, expressions, tuples, sets, intervals, matrices, short texts.
    #[default]
    Math,
    /// One letter of a multiple-choice question.
    Choice,
    /// Plain text, compared without regard to case and spacing.
    Text,
}

/// Reads the answer in a finished text and sorts answers into classes for the vote.
pub trait ReadAnswer: Send + Sync {
    /// The answer in `text`, or `None` when it holds none. "No answer" is never a class of the vote.
    fn read(&self, text: &str) -> Option<Extraction>;

    /// The canonical class key of an answer: two answers are in one class exactly when their keys are
    /// the same string, so the relation is transitive.
    fn key(&self, answer: &str) -> String;

    /// Whether an answer is right, given the gold answer. Grading may accept more than voting does.
    fn grade(&self, answer: &str, gold: &str) -> Verdict {
        Verdict {
            equal: self.key(answer) == self.key(gold),
            rule: "class key",
        }
    }
}

/// The reader that tasks use: extraction rules, the kind of the answers, and options of equality.
#[derive(Clone, Debug, Default)]
pub struct RuleReader {
    /// Where the answer is looked for.
    pub rules: ExtractRules,
    /// What kind of answer it is.
    pub kind: AnswerKind,
    /// Choices that graders disagree about.
    pub options: EqualOptions,
}

impl RuleReader {
    /// A reader with the default extraction rules for answers of this kind.
    pub fn new(kind: AnswerKind) -> Self {
        let rules = if kind == AnswerKind::Choice {
            ExtractRules::choice()
        } else {
            ExtractRules::default()
        };
        Self {
            rules,
            kind,
            options: EqualOptions::default(),
        }
    }
}

impl ReadAnswer for RuleReader {
    fn read(&self, text: &str) -> Option<Extraction> {
        extract(text, &self.rules)
    }

    fn key(&self, answer: &str) -> String {
        canonical(answer, self.kind)
    }

    fn grade(&self, answer: &str, gold: &str) -> Verdict {
        equal(answer, gold, self.kind, &self.options)
    }
}

type ReadFn = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;
type KeyFn = Box<dyn Fn(&str) -> String + Send + Sync>;

/// A reader made of closures, for library users whose answers are not mathematics.
///
/// ```
/// use tts_evals::answer::{FnReader, ReadAnswer};
/// let last_word = FnReader::new(|text| text.split_whitespace().last().map(str::to_owned));
/// assert_eq!(last_word.read("I choose blue").unwrap().answer, "blue");
/// assert_eq!(last_word.key("Blue"), last_word.key("blue "));
/// ```
pub struct FnReader {
    read: ReadFn,
    key: KeyFn,
}

impl FnReader {
    /// Takes the answer with `read`; answers are classed as plain text (case and spacing ignored).
    pub fn new(read: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self {
            read: Box::new(read),
            key: Box::new(|answer| canonical(answer, AnswerKind::Text)),
        }
    }

    /// Replaces the class key, for instance by `|a| canonical(a, AnswerKind::Math)`.
    #[must_use]
    pub fn with_key(mut self, key: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.key = Box::new(key);
        self
    }
}

impl std::fmt::Debug for FnReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FnReader").finish_non_exhaustive()
    }
}

impl ReadAnswer for FnReader {
    fn read(&self, text: &str) -> Option<Extraction> {
        let answer = (self.read)(text)?;
        Some(Extraction {
            answer,
            path: ExtractionPath::Custom,
            inside_thinking: false,
        })
    }

    fn key(&self, answer: &str) -> String {
        (self.key)(answer)
    }
}
