//! The strategies, one file each.

pub(crate) mod adaptive_consistency;
pub(crate) mod best_of_infinity;
pub(crate) mod best_of_n;
pub(crate) mod borda;
pub(crate) mod cges;
pub(crate) mod deepconf_offline;
pub(crate) mod deepconf_online;
pub(crate) mod esc;
pub(crate) mod majority;
pub(crate) mod short_m_at_k;
pub(crate) mod weighted;

use crate::interface::{ClassId, Needs};
use crate::scores::Statistic;

/// What all strategies but online DeepConf share: a name, all K traces launched at once (or as many as
/// `first` says), nothing stopped inside a trace, the book's window, and the leader of the majority so far
/// (or of the vote that `leader` names).
macro_rules! whole_traces {
    () => {
        whole_traces!(first = |_, limits| limits.traces);
    };
    (first = $first:expr) => {
        whole_traces!($first, |_| $crate::vote::VoteKind::Majority);
    };
    (leader = $leader:expr) => {
        whole_traces!(|_, limits| limits.traces, $leader);
    };
    ($first:expr, $leader:expr) => {
        fn begin(&mut self, limits: &$crate::interface::Limits) -> usize {
            *self = Self::new(std::mem::take(&mut self.name), self.settings);
            let first: fn(&mut Self, &$crate::interface::Limits) -> usize = $first;
            first(self, limits)
        }

        fn name(&self) -> &str {
            &self.name
        }

        fn watching(&self, _: $crate::interface::TraceId) -> $crate::interface::Watching {
            $crate::interface::Watching::Nothing
        }

        fn observe(
            &mut self,
            _: $crate::interface::TraceId,
            _: &$crate::interface::TokenScalars,
        ) -> $crate::interface::Step {
            $crate::interface::Step::Continue
        }

        fn leading(&self) -> Option<($crate::interface::ClassId, f64)> {
            let leader: fn(&Self) -> $crate::vote::VoteKind = $leader;
            self.book.leading(leader(self), None)
        }

        fn window(&self) -> Option<usize> {
            self.book.window()
        }
    };
}

/// What strategies share that run every launched trace to its end before they decide.
macro_rules! to_the_end {
    () => {
        fn finished(&mut self, outcome: &$crate::interface::TraceOutcome<'_>) -> $crate::interface::Next {
            self.book.enter(outcome);
            $crate::interface::Next::Wait
        }
    };
}

pub(crate) use {to_the_end, whole_traces};

/// What a statistic is made of.
fn needs_of(statistic: Option<Statistic>) -> Needs {
    statistic.map_or_else(Needs::default, |s| Needs {
        confidence: s.of_confidence(),
        logprob: matches!(s, Statistic::SequenceLogprob | Statistic::MeanLogprob),
        self_certainty: s == Statistic::SelfCertainty,
    })
}

/// How many traces answered each class, kept as they end: a rule that looks at nothing else costs as much as
/// there are classes.
#[derive(Clone, Debug, Default)]
struct Counts(Vec<(ClassId, usize)>);

impl Counts {
    fn add(&mut self, class: ClassId) {
        match self.0.iter_mut().find(|c| c.0 == class) {
            Some(count) => count.1 += 1,
            None => self.0.push((class, 1)),
        }
    }

    /// The counts, largest first.
    fn ranked(&self) -> Vec<usize> {
        let mut counts: Vec<usize> = self.0.iter().map(|c| c.1).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    /// The two largest counts, 0 where there is none.
    fn top_two(&self) -> (usize, usize) {
        self.0.iter().fold((0, 0), |(first, second), &(_, n)| {
            if n > first {
                (n, first)
            } else {
                (first, second.max(n))
            }
        })
    }
}
