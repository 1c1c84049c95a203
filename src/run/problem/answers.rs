//! Equivalence classes of answers, numbered in order of appearance.

use std::collections::BTreeMap;

use tts_evals::answer::without_unit;
use tts_strategies::ClassId;

/// Classes by the canonical keys of answers. Values in different units are different answers; a value without a
/// unit is of the class whose unit came first, as one of them left out what the others wrote.
#[derive(Default)]
pub(crate) struct Classes {
    by_key: BTreeMap<String, ClassId>,
    texts: Vec<String>,
    /// whether a class has a value with a unit
    has_unit: Vec<bool>,
}

impl Classes {
    /// The class of a canonical key; `text` is how its first member wrote the answer.
    pub(crate) fn class(&mut self, key: &str, text: &str) -> ClassId {
        if let Some(class) = self.by_key.get(key) {
            return *class;
        }
        let bare = without_unit(key);
        let unitless = bare.and_then(|bare| self.by_key.get(bare)).copied();
        let class = match unitless.filter(|class| !self.has_unit[class.0 as usize]) {
            Some(class) => class,
            None => self.begin(text),
        };
        self.by_key.insert(key.to_owned(), class);
        if let Some(bare) = bare {
            self.has_unit[class.0 as usize] = true;
            self.by_key.entry(bare.to_owned()).or_insert(class);
        }
        class
    }

    fn begin(&mut self, text: &str) -> ClassId {
        let class = ClassId(self.texts.len() as u32);
        self.texts.push(text.to_owned());
        self.has_unit.push(false);
        class
    }

    pub(super) fn text(&self, class: ClassId) -> &str {
        &self.texts[class.0 as usize]
    }
    pub(super) fn texts(&self) -> Vec<String> {
        self.texts.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tts_evals::answer::{AnswerKind, canonical};

    fn classes(answers: &[&str]) -> Vec<u32> {
        let mut classes = Classes::default();
        let mut of = |answer: &&str| classes.class(&canonical(answer, AnswerKind::Math), answer).0;
        answers.iter().map(&mut of).collect()
    }

    #[test]
    fn a_value_without_a_unit_joins_the_one_that_has_it() {
        assert_eq!(classes(&["5", "5 km", "5", "5 kilometers"]), [0, 0, 0, 0]);
        assert_eq!(classes(&["5 km", "5", "6 km", "6"]), [0, 0, 1, 1]);
        assert_eq!(classes(&["$5", "5", "5 dollars"]), [0, 0, 0]);
    }

    #[test]
    fn different_units_are_different_answers() {
        assert_eq!(classes(&["3 hours", "3 minutes", "3 minutes"]), [0, 1, 1]);
        assert_eq!(
            classes(&["3", "3 hours", "3 minutes", "3", "3 hours"]),
            [0, 0, 1, 0, 0]
        );
        assert_eq!(classes(&["3 minutes", "3 hours", "3"]), [0, 1, 0]);
        for (one, other) in [
            ("5 dollars", "5 cents"),
            ("$5", "€5"),
            ("5 cm", "5 cm^2"),
            ("5 mg", "5 kg"),
            ("5 cups", "5 pints"),
            ("5\\text{ km}", "5\\text{ m}"),
            ("30^\\circ", "30 cm"),
        ] {
            assert_eq!(classes(&[one, other]), [0, 1], "{one} {other}");
        }
        // things that are counted are no units
        assert_eq!(classes(&["12 ways", "12 arrangements", "12"]), [0, 0, 0]);
    }
}
