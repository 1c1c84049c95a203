//! Equivalence classes of answers, numbered in order of appearance.

use std::collections::BTreeMap;

use tts_strategies::ClassId;

#[derive(Default)]
pub(super) struct Classes {
    by_key: BTreeMap<String, ClassId>,
    texts: Vec<String>,
}

impl Classes {
    /// The class of a canonical key; `text` is how its first member wrote the answer.
    pub(super) fn class(&mut self, key: &str, text: &str) -> ClassId {
        if let Some(class) = self.by_key.get(key) {
            return *class;
        }
        let class = ClassId(self.texts.len() as u32);
        self.by_key.insert(key.to_owned(), class);
        self.texts.push(text.to_owned());
        class
    }
    pub(super) fn text(&self, class: ClassId) -> &str {
        &self.texts[class.0 as usize]
    }
    pub(super) fn texts(&self) -> Vec<String> {
        self.texts.clone()
    }
}
