//! Settings given beside a preset, and where each one goes.

use crate::scores::Statistic;
use crate::settings::{Consensus, Settings, Window};
use crate::vote::VoteKind;

macro_rules! settings_table {
    ($($(#[$doc:meta])* $name:ident: $given:ty => $kept:ty,)*) => {
        /// Settings given beside a preset; `None` leaves the preset's own.
        #[derive(Clone, Copy, Debug, PartialEq, Default)]
        pub struct Overrides {
            $($(#[$doc])* pub $name: Option<$given>,)*
        }

        /// Where each setting lives in a strategy's settings, if the strategy has it.
        #[derive(Default)]
        pub(crate) struct Places<'a> {
            $(pub(crate) $name: Option<&'a mut $kept>,)*
        }

        impl Places<'_> {
            /// The names of the settings there is a place for.
            pub(crate) fn names(&self) -> Vec<&'static str> {
                let all = [$((stringify!($name), self.$name.is_some()),)*];
                all.into_iter().filter(|a| a.1).map(|a| a.0).collect()
            }

            /// Writes every given setting; the name of the first that has no place.
            pub(crate) fn put(self, given: &Overrides) -> Result<(), &'static str> {
                $(if let Some(value) = given.$name {
                    *self.$name.ok_or(stringify!($name))? = <$kept>::from(value);
                })*
                Ok(())
            }
        }
    };
}

settings_table! {
    /// Complete traces that set the bar, at least 1.
    warmup: usize => usize,
    /// Group size.
    window: Window => Window,
    /// Share kept, in `(0, 1]`.
    keep_top: f64 => f64,
    /// Share that ends a problem, in `(0.5, 1]`; `Some(None)` is off.
    consensus: Option<f64> => Consensus,
    /// Fewest ballots, at least 1.
    min_votes: usize => usize,
    /// The vote that decides.
    vote: VoteKind => VoteKind,
    /// What complete traces are filtered or ranked by.
    statistic: Statistic => Statistic,
    /// Probability that the leader stays ahead, or is right, in `(0.5, 1)`.
    certainty: f64 => f64,
    /// Traces that must agree, at least 2.
    batch: usize => usize,
    /// How many of the first to finish vote, at least 1.
    first: usize => usize,
    /// Exponent of a rank's weight, at least 0.
    power: f64 => f64,
    /// Bayes factor that ends a problem, above 1.
    bayes_factor: f64 => f64,
    /// Traces that an unseen answer counts as, at least 0.
    unknown: f64 => f64,
    /// Whether cut-off traces vote.
    count_truncated: bool => bool,
}

macro_rules! places {
    ($settings:ident: $($field:ident),*) => {
        Places { $($field: Some(&mut $settings.$field),)* ..Places::default() }
    };
}

impl<'a> Places<'a> {
    /// Those of one strategy.
    pub(crate) fn of(settings: &'a mut Settings) -> Self {
        match settings {
            Settings::Majority(s) => places!(s: window, count_truncated),
            Settings::Weighted(s) => places!(s: window, vote, count_truncated),
            Settings::DeepconfOnline(s) => {
                places!(s: warmup, window, keep_top, consensus, min_votes, vote, count_truncated)
            }
            Settings::DeepconfOffline(s) => {
                places!(s: window, keep_top, min_votes, vote, statistic, count_truncated)
            }
            Settings::AdaptiveConsistency(s) => places!(s: window, certainty, count_truncated),
            Settings::Esc(s) => places!(s: window, batch, count_truncated),
            Settings::ShortMAtK(s) => places!(s: window, first, count_truncated),
            Settings::BestOfN(s) => places!(s: window, statistic, count_truncated),
            Settings::Borda(s) => places!(s: window, statistic, power, count_truncated),
            Settings::Cges(s) => places!(s: window, certainty, min_votes, count_truncated),
            Settings::Exec(_) => Places::default(),
            Settings::BestOfInfinity(s) => places!(s: window, bayes_factor, unknown, count_truncated),
        }
    }
}
