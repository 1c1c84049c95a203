//! What a preset can set, strategy by strategy.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::outside::Outside;
use crate::scores::Statistic;
use crate::vote::VoteKind;

/// A strategy's kind and its settings.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", content = "settings", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Settings {
    /// [`crate::Majority`].
    Majority(MajoritySettings),
    /// [`crate::Weighted`].
    Weighted(WeightedSettings),
    /// [`crate::Online`].
    DeepconfOnline(OnlineSettings),
    /// [`crate::Offline`].
    DeepconfOffline(OfflineSettings),
    /// [`crate::AdaptiveConsistency`].
    AdaptiveConsistency(AdaptiveSettings),
    /// [`crate::Esc`].
    Esc(EscSettings),
    /// [`crate::ShortMAtK`].
    ShortMAtK(ShortestSettings),
    /// [`crate::BestOfN`].
    BestOfN(BestOfNSettings),
    /// [`crate::Borda`].
    Borda(BordaSettings),
    /// [`crate::Cges`].
    Cges(CgesSettings),
    /// [`crate::BestOfInfinity`].
    BestOfInfinity(BestOfInfinitySettings),
    /// A strategy of another program or crate.
    Exec(Outside),
}

/// Group size: a number of tokens, or `"auto"` (see [`crate::windows::auto_window`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Window {
    /// From the median length of the first traces.
    #[default]
    Auto,
    /// This many tokens.
    Fixed(usize),
}

/// The share of the vote that ends a problem, or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Consensus {
    /// Never end a problem early.
    #[default]
    Off,
    /// End it when the leading class holds at least this share.
    At(f64),
}

impl Consensus {
    /// The share, unless it is off.
    pub fn share(self) -> Option<f64> {
        match self {
            Consensus::Off => None,
            Consensus::At(share) => Some(share),
        }
    }
}

impl From<Option<f64>> for Consensus {
    fn from(share: Option<f64>) -> Self {
        share.map_or(Consensus::Off, Consensus::At)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::Auto => f.write_str("auto"),
            Window::Fixed(n) => n.fmt(f),
        }
    }
}

impl fmt::Display for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Consensus::Off => f.write_str("off"),
            Consensus::At(share) => share.fmt(f),
        }
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.trim() {
            "auto" => Ok(Window::Auto),
            n => n
                .parse()
                .map(Window::Fixed)
                .map_err(|_| format!("window must be a number of tokens or \"auto\", not \"{s}\"")),
        }
    }
}

impl FromStr for Consensus {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.trim() {
            "off" => Ok(Consensus::Off),
            x => x
                .parse()
                .map(Consensus::At)
                .map_err(|_| format!("consensus must be a share such as 0.95 or \"off\", not \"{s}\"")),
        }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Window::Auto => s.serialize_str("auto"),
            Window::Fixed(n) => s.serialize_u64(*n as u64),
        }
    }
}

impl Serialize for Consensus {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Consensus::Off => s.serialize_str("off"),
            Consensus::At(share) => s.serialize_f64(*share),
        }
    }
}

/// A number or a word, as these two settings are written.
struct NumberOrWord<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> de::Visitor<'_> for NumberOrWord<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a word")
    }

    fn visit_str<E: de::Error>(self, s: &str) -> Result<T, E> {
        s.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<T, E> {
        self.visit_str(&n.to_string())
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<T, E> {
        self.visit_str(&n.to_string())
    }

    fn visit_f64<E: de::Error>(self, x: f64) -> Result<T, E> {
        self.visit_str(&x.to_string())
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(NumberOrWord(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Consensus {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(NumberOrWord(std::marker::PhantomData))
    }
}

macro_rules! settings {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $ty,)*
            /// Group size W of the confidence statistics.
            pub window: Window,
            /// Whether a trace cut off by the token limit or for looping votes.
            pub count_truncated: bool,
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* window: Window::Auto, count_truncated: false }
            }
        }
    };
}

settings! {
    /// Settings of [`crate::Majority`]; the window is that of the votes printed beside the majority.
    MajoritySettings {}
}

settings! {
    /// Settings of [`crate::Online`]; the defaults are those of `deepconf-low`.
    OnlineSettings {
        /// N_init: complete traces that set the bar.
        warmup: usize = 16,
        /// eta: the share of warm-ups at or above the bar, in `(0, 1]`. Small prunes hard.
        keep_top: f64 = 0.10,
        /// tau: the share of the vote that ends the problem, in `(0.5, 1]`, or off.
        consensus: Consensus = Consensus::At(0.95),
        /// The fewest ballots for a consensus, and for a vote over the filtered traces alone.
        min_votes: usize = 4,
        /// The vote that decides.
        vote: VoteKind = VoteKind::MinWeighted,
    }
}

settings! {
    /// Settings of [`crate::Offline`].
    OfflineSettings {
        /// eta: the share of traces that vote, in `(0, 1]`.
        keep_top: f64 = 0.10,
        /// What the traces are filtered by.
        statistic: Statistic = Statistic::Tail,
        /// The fewest ballots for a vote over the filtered traces alone.
        min_votes: usize = 4,
        /// The vote that decides.
        vote: VoteKind = VoteKind::TailWeighted,
    }
}

settings! {
    /// Settings of [`crate::AdaptiveConsistency`].
    AdaptiveSettings {
        /// The probability, in `(0.5, 1)`, that the leader stays ahead of the runner-up, at which sampling
        /// stops.
        certainty: f64 = 0.95,
    }
}

settings! {
    /// Settings of [`crate::Esc`].
    EscSettings {
        /// w: how many traces run at a time and must agree.
        batch: usize = 5,
    }
}

settings! {
    /// Settings of [`crate::ShortMAtK`].
    ShortestSettings {
        /// m: how many of the first traces to finish vote.
        first: usize = 3,
    }
}

settings! {
    /// Settings of [`crate::BestOfN`].
    BestOfNSettings {
        /// The score; the trace that has most of it wins.
        statistic: Statistic = Statistic::Mean,
    }
}

settings! {
    /// Settings of [`crate::Borda`].
    BordaSettings {
        /// What the traces are ranked by.
        statistic: Statistic = Statistic::SelfCertainty,
        /// p: rank r of N weighs (N - r + 1)^p.
        power: f64 = 0.5,
    }
}

settings! {
    /// Settings of [`crate::Weighted`].
    WeightedSettings {
        /// The vote that decides.
        vote: VoteKind = VoteKind::MeanWeighted,
    }
}

settings! {
    /// Settings of [`crate::Cges`].
    CgesSettings {
        /// The posterior of one answer, in `(0.5, 1)`, at which sampling stops.
        certainty: f64 = 0.95,
        /// Fewest traces with an answer before that.
        min_votes: usize = 4,
    }
}

settings! {
    /// Settings of [`crate::BestOfInfinity`].
    BestOfInfinitySettings {
        /// B: the Bayes factor, above 1, at which sampling stops.
        bayes_factor: f64 = 10.0,
        /// How many traces the answer that nobody has given yet counts as.
        unknown: f64 = 0.3,
    }
}
