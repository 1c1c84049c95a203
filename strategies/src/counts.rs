//! Counts of answers, for rules that look at nothing else.

use crate::interface::ClassId;

/// How many traces answered each class, kept as they end: a rule that looks at nothing else costs as much as
/// there are classes.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClassCounts(Vec<(ClassId, usize)>);

impl ClassCounts {
    pub(crate) fn add(&mut self, class: ClassId) {
        match self.0.iter_mut().find(|c| c.0 == class) {
            Some(count) => count.1 += 1,
            None => self.0.push((class, 1)),
        }
    }

    /// The counts, largest first.
    pub(crate) fn ranked(&self) -> Vec<usize> {
        let mut counts: Vec<usize> = self.0.iter().map(|c| c.1).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    /// The two largest counts, 0 where there is none.
    pub(crate) fn top_two(&self) -> (usize, usize) {
        self.0.iter().fold((0, 0), |(first, second), &(_, n)| {
            if n > first {
                (n, first)
            } else {
                (first, second.max(n))
            }
        })
    }
}
