//! Counts of answers, for rules that look at nothing else.

use std::collections::BTreeMap;

use crate::interface::ClassId;

/// How many traces answered each class, kept as they end: an answer costs the logarithm of the number of classes.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClassCounts {
    counts: BTreeMap<ClassId, usize>,
    /// how many classes have so many traces
    classes: BTreeMap<usize, usize>,
}

impl ClassCounts {
    pub(crate) fn add(&mut self, class: ClassId) {
        let count = self.counts.entry(class).or_insert(0);
        if let Some(classes) = self.classes.get_mut(count) {
            *classes -= 1;
            if *classes == 0 {
                self.classes.remove(count);
            }
        }
        *count += 1;
        *self.classes.entry(*count).or_insert(0) += 1;
    }

    /// How many classes there are.
    pub(crate) fn classes(&self) -> usize {
        self.counts.len()
    }

    /// The counts, largest first, each with how many classes have it.
    pub(crate) fn ranked(&self) -> impl Iterator<Item = (usize, usize)> {
        self.classes
            .iter()
            .rev()
            .map(|(count, classes)| (*count, *classes))
    }

    /// The two largest counts, 0 where there is none.
    pub(crate) fn top_two(&self) -> (usize, usize) {
        let mut ranked = self.ranked();
        match ranked.next() {
            None => (0, 0),
            Some((first, classes)) if classes > 1 => (first, first),
            Some((first, _)) => (first, ranked.next().map_or(0, |(second, _)| second)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_ranked() {
        let mut counts = ClassCounts::default();
        assert_eq!((counts.top_two(), counts.classes()), ((0, 0), 0));
        let mut plain = std::collections::HashMap::new();
        for i in 0..500_u32 {
            let class = i * i % 37 % 11;
            counts.add(ClassId(class));
            *plain.entry(class).or_insert(0_usize) += 1;
            let mut all: Vec<usize> = plain.values().copied().collect();
            all.sort_unstable_by(|a, b| b.cmp(a));
            let ranked: Vec<usize> = counts
                .ranked()
                .flat_map(|(count, classes)| std::iter::repeat_n(count, classes))
                .collect();
            assert_eq!(ranked, all);
            assert_eq!(counts.top_two(), (all[0], all.get(1).copied().unwrap_or(0)));
            assert_eq!(counts.classes(), all.len());
        }
    }
}
