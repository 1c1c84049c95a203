//! The strategies: one file each, and one row each in the register below.
//!
//! To add one, write its file beside the others, name the file here (`mod x;`) and add its row; a preset, if
//! it has one, is `presets/x.toml`. Settings are declared in the row: it makes their struct, their place in
//! presets, flags, request fields, lists and their documentation.

mod adaptive;
mod adaptive_consistency;
mod best_of_infinity;
mod best_of_n;
mod borda;
mod cges;
mod continuation;
mod deepconf_offline;
mod deepconf_online;
mod esc;
mod leader;
mod lineage;
mod majority;
mod particles;
mod rpc;
mod second_look;
mod short_m_at_k;
mod weighted;

use std::ops::Bound::{Excluded, Included};

pub use adaptive_consistency::stays_ahead;
pub use deepconf_online::keep_top_bar;

use crate::register::StrategyRow;
use crate::scores::Statistic;
use crate::setting::{Range, Setting, SettingValues};
use crate::value::{Consensus, Value, Window};
use crate::vote::VoteKind;
use crate::whole_traces::strategy as of_whole_traces;

/// Settings that several strategies have, without their defaults.
const fn shared(placeholder: &'static str, help: &'static str) -> Setting {
    Setting::new("", Value::Switch(false), placeholder, help)
}

const WINDOW: Setting =
    shared("N|auto", "Tokens in a group").within(Range::at_least(1.0, "at least 1 token or \"auto\""));
const KEEP_TOP: Setting = shared("SHARE", "Share of the traces that the bar keeps").within(Range::new(
    Excluded(0.0),
    Included(1.0),
    "above 0 and at most 1 (the share of traces kept)",
));
const MIN_VOTES: Setting = shared("N", "Fewest ballots of a filtered vote").within(ONE_OR_MORE);
const VOTE: Setting = shared("VOTE", "The vote that decides");
const STATISTIC: Setting = shared("STATISTIC", "What complete traces are filtered or ranked by");
const CERTAINTY: Setting = shared(
    "P",
    "Probability that the leader stays ahead, which ends a problem",
)
.within(Range::new(Excluded(0.5), Excluded(1.0), "above 0.5 and below 1"));
const MOST: Setting = shared(
    "N",
    "Traces that vote, or run side by side, however many there may be",
)
.called("most_traces")
.within(ONE_OR_MORE);
const SHARPNESS: Setting = shared(
    "X",
    "Exponent of a weight for each standard deviation above the mean (adaptive)",
)
.within(NOT_NEGATIVE);
const SPACING: Setting = shared(
    "N",
    "Tokens from one place where a trace may be forked to the next (forks)",
)
.within(ONE_OR_MORE);
const COUNT_TRUNCATED: Setting = shared("on|off", "Whether traces that were cut off vote");

const ONE_OR_MORE: Range = Range::at_least(1.0, "at least 1");
const NOT_NEGATIVE: Range = Range::at_least(0.0, "a number that is at least 0");

/// The value of a type of Rust, in a constant.
macro_rules! value {
    (usize, $value:expr) => {
        Value::Count($value)
    };
    (f64, $value:expr) => {
        Value::Number($value)
    };
    (bool, $value:expr) => {
        Value::Switch($value)
    };
    (Window, $value:expr) => {
        Value::Window($value)
    };
    (Consensus, $value:expr) => {
        Value::Consensus($value)
    };
    (VoteKind, $value:expr) => {
        Value::Vote($value)
    };
    (Statistic, $value:expr) => {
        Value::Statistic($value)
    };
}

/// Makes the rows of the register, and for each the struct in which its strategy reads its settings.
macro_rules! register {
    ($($settings:ident {
        kind: $kind:literal,
        description: $description:literal,
        citation: $citation:literal,
        presets: [$($preset:literal),*],
        ends_early: $ends_early:literal,
        build: $build:expr,
        $($field:ident: $type:tt = $default:expr, $spec:expr;)*
    })*) => {
        /// The strategies of this crate, in the order of lists.
        pub(crate) const ROWS: &[StrategyRow] = &[$(StrategyRow {
            kind: $kind,
            description: $description,
            citation: $citation,
            settings: &[$(Setting {
                name: stringify!($field),
                default: value!($type, $default),
                ..$spec
            }),*],
            presets: &[$(($preset, include_str!(concat!("../../presets/", $preset, ".toml")))),*],
            ends_early: $ends_early,
            build: |name, values| {
                let build: fn(&str, $settings) -> _ = $build;
                build(name, $settings::from(values))
            },
        }),*];

        $(
            #[doc = concat!("Settings of `", $kind, "`: ", $description, " (", $citation, ").")]
            #[derive(Clone, Copy, Debug, PartialEq)]
            pub(crate) struct $settings {
                $(pub(crate) $field: $type,)*
            }

            impl From<&SettingValues> for $settings {
                fn from(values: &SettingValues) -> Self {
                    Self { $($field: values.get(stringify!($field)).unwrap_or($default),)* }
                }
            }
        )*
    };
}

register! {
    MajoritySettings {
        kind: "majority",
        description: "all traces to their end, one trace one vote",
        citation: "arXiv 2203.11171",
        presets: ["majority"],
        ends_early: false,
        build: |name, s| of_whole_traces(name, majority::Majority, s.window, s.count_truncated),
        window: Window = Window::Auto, WINDOW;
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    WeightedSettings {
        kind: "weighted",
        description: "all traces to their end, each votes with its score as weight",
        citation: "arXiv 2203.11171, arXiv 2508.15260",
        presets: ["weighted", "tail-entropy"],
        ends_early: false,
        build: |name, s| of_whole_traces(name, weighted::Weighted(s), s.window, s.count_truncated),
        window: Window = Window::Auto, WINDOW;
        vote: VoteKind = VoteKind::MeanWeighted, VOTE;
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    DeepConfOnlineSettings {
        kind: "deepconf-online",
        description: "stops traces below a bar that the warm-up sets, ends at a consensus",
        citation: "arXiv 2508.15260",
        presets: ["deepconf-low", "deepconf-high"],
        ends_early: false,
        build: |name, s| Box::new(deepconf_online::DeepConfOnline::new(name, s)),
        warmup: usize = 16, shared("N", "Complete traces that set the bar").within(ONE_OR_MORE);
        window: Window = Window::Auto, WINDOW;
        keep_top: f64 = 0.10, KEEP_TOP;
        consensus: Consensus = Consensus::At(0.95), shared("TAU|off", "Share of the vote that ends a problem \
            early")
            .within(Range::new(Excluded(0.5), Included(1.0), "above 0.5 and at most 1, or \"off\""));
        min_votes: usize = 4, MIN_VOTES;
        vote: VoteKind = VoteKind::MinWeighted, VOTE;
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    DeepConfOfflineSettings {
        kind: "deepconf-offline",
        description: "all traces to their end, the most confident ones vote by confidence",
        citation: "arXiv 2508.15260",
        presets: ["deepconf-offline"],
        ends_early: false,
        build: |name, s| {
            of_whole_traces(name, deepconf_offline::DeepConfOffline(s), s.window, s.count_truncated)
        },
        window: Window = Window::Auto, WINDOW;
        keep_top: f64 = 0.10, KEEP_TOP;
        min_votes: usize = 4, MIN_VOTES;
        vote: VoteKind = VoteKind::TailWeighted, VOTE;
        statistic: Statistic = Statistic::Tail, STATISTIC;
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    AdaptiveSettings {
        kind: "adaptive",
        description: "few traces, weighted by their probability, ended once the leader is certain",
        citation: "arXiv 2305.11860, arXiv 2601.02970",
        presets: ["adaptive"],
        ends_early: true,
        build: |name, s| of_whole_traces(name, adaptive::Adaptive::new(s), s.window, s.count_truncated),
        window: Window = Window::Auto, WINDOW;
        min_votes: usize = 4, MIN_VOTES;
        statistic: Statistic = Statistic::MeanLogprob, STATISTIC;
        certainty: f64 = 0.9, CERTAINTY;
        certainty_last: f64 = 0.6,
            shared("P", "The same with the last of the traces, to which it falls if that is less (adaptive)")
                .within(Range::new(Included(0.5), Excluded(1.0), "at least 0.5 and below 1"));
        most: usize = 32, MOST;
        sharpness: f64 = 1.0, SHARPNESS;
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    ContinuationSettings {
        kind: "continuation",
        description: "few traces, then others that go on from late points of the better ones",
        citation: "arXiv 2606.31484",
        presets: ["continuation"],
        ends_early: true,
        build: |name, s| {
            of_whole_traces(name, continuation::Continuation::new(s), s.window, s.count_truncated)
        },
        window: Window = Window::Auto, WINDOW;
        keep_top: f64 = 0.5, KEEP_TOP;
        min_votes: usize = 4, MIN_VOTES;
        statistic: Statistic = Statistic::MeanLogprob, STATISTIC;
        certainty: f64 = 0.95, CERTAINTY;
        most: usize = 16, MOST;
        sharpness: f64 = 1.0, SHARPNESS;
        seeds: usize = 4, shared("N", "Whole traces before any is forked (continuation)").within(ONE_OR_MORE);
        from: f64 = 0.5, shared("SHARE", "Part of a trace before which it is not forked (continuation)")
            .called("fork_from")
            .within(Range::new(Included(0.0), Excluded(1.0), "at least 0 and below 1"));
        spacing: usize = 32, SPACING;
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    SecondLookSettings {
        kind: "second-look",
        description: "adaptive, and where the vote stays open the model reads its solutions and answers again",
        citation: "arXiv 2509.26626",
        presets: ["second-look"],
        ends_early: true,
        build: |name, s| of_whole_traces(name, second_look::SecondLook::new(s), s.window, s.count_truncated),
        window: Window = Window::Auto, WINDOW;
        min_votes: usize = 4, MIN_VOTES;
        statistic: Statistic = Statistic::MeanLogprob, STATISTIC;
        certainty: f64 = 0.95, CERTAINTY;
        most: usize = 16, MOST;
        sharpness: f64 = 1.0, SHARPNESS;
        show: usize = 4, shared("N", "Solutions that the second prompt shows (second-look)").within(ONE_OR_MORE);
        looks: usize = 8, shared("N", "Traces that answer the second prompt (second-look)").within(ONE_OR_MORE);
        join: bool = false,
            shared("on|off", "Whether the first traces vote beside those that looked again (second-look)");
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    ParticlesSettings {
        kind: "particles",
        description: "traces side by side, resampled by their probability on the way",
        citation: "arXiv 2602.10273",
        presets: ["particles"],
        ends_early: false,
        build: |name, s| Box::new(particles::Particles::new(name, s)),
        window: Window = Window::Auto, WINDOW;
        most: usize = 16, MOST;
        spacing: usize = 64, SPACING;
        alpha: f64 = 1.2, shared("X", "Power of the probability that traces are drawn by (particles)")
            .within(Range::at_least(1.0, "a number that is at least 1"));
        resample_below: f64 = 0.5,
            shared("SHARE", "Share of effective traces below which they are resampled (particles)")
                .within(Range::new(Included(0.0), Included(1.0), "from 0 to 1"));
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    AdaptiveConsistencySettings {
        kind: "adaptive-consistency",
        description: "majority, ended once the leader is ahead for good",
        citation: "arXiv 2305.11860",
        presets: ["adaptive-consistency"],
        ends_early: true,
        build: |name, s| {
            let rule = adaptive_consistency::AdaptiveConsistency::new(s);
            of_whole_traces(name, rule, s.window, s.count_truncated)
        },
        window: Window = Window::Auto, WINDOW;
        certainty: f64 = 0.95, CERTAINTY;
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    BestOfInfinitySettings {
        kind: "best-of-infinity",
        description: "majority, ended once a Bayes factor says that more traces would not change it",
        citation: "arXiv 2509.21091",
        presets: ["best-of-infinity"],
        ends_early: true,
        build: |name, s| {
            of_whole_traces(name, best_of_infinity::BestOfInfinity::new(s), s.window, s.count_truncated)
        },
        window: Window = Window::Auto, WINDOW;
        bayes_factor: f64 = 10.0,
            shared("B", "Odds of the leader against all others that end a problem (best-of-infinity)")
                .within(Range::above(1.0, "a number above 1"));
        unknown: f64 = 0.3,
            shared("X", "Weight of answers not seen yet (best-of-infinity)").within(NOT_NEGATIVE);
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    CgesSettings {
        kind: "cges",
        description: "ended once the posterior of one answer, from the traces' probabilities, is high enough",
        citation: "arXiv 2511.02603",
        presets: ["cges"],
        ends_early: true,
        build: |name, s| of_whole_traces(name, cges::Cges::new(s), s.window, s.count_truncated),
        window: Window = Window::Auto, WINDOW;
        min_votes: usize = 4, MIN_VOTES;
        certainty: f64 = 0.95, CERTAINTY;
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    EscSettings {
        kind: "esc",
        description: "batches of traces until one batch is unanimous, else majority",
        citation: "arXiv 2401.10480",
        presets: ["esc"],
        ends_early: false,
        build: |name, s| of_whole_traces(name, esc::Esc::new(s), s.window, s.count_truncated),
        window: Window = Window::Auto, WINDOW;
        batch: usize = 5, shared("N", "Traces that must agree (esc)")
            .called("agree")
            .within(Range::at_least(2.0, "at least 2 traces"));
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    ShortestSettings {
        kind: "short-m-at-k",
        description: "the first traces to finish vote, the others are cancelled",
        citation: "arXiv 2505.17813",
        presets: ["short-m-at-k"],
        ends_early: false,
        build: |name, s| of_whole_traces(name, short_m_at_k::ShortMAtK::new(s), s.window, s.count_truncated),
        window: Window = Window::Auto, WINDOW;
        first: usize = 3,
            shared("M", "How many of the first to finish vote (short-m-at-k)").within(ONE_OR_MORE);
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    BestOfNSettings {
        kind: "best-of-n",
        description: "all traces to their end, the one with the highest score answers",
        citation: "arXiv 2502.18581",
        presets: ["best-of-n"],
        ends_early: false,
        build: |name, s| of_whole_traces(name, best_of_n::BestOfN(s), s.window, s.count_truncated),
        window: Window = Window::Auto, WINDOW;
        statistic: Statistic = Statistic::Mean, STATISTIC;
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    RpcSettings {
        kind: "rpc",
        description: "all traces to their end, each votes with its probability, improbable ones pruned",
        citation: "arXiv 2510.15444",
        presets: ["rpc"],
        ends_early: false,
        build: |name, s| of_whole_traces(name, rpc::Rpc(s), s.window, s.count_truncated),
        window: Window = Window::Auto, WINDOW;
        min_votes: usize = 4, MIN_VOTES;
        count_truncated: bool = false, COUNT_TRUNCATED;
    }

    BordaSettings {
        kind: "borda",
        description: "all traces to their end, each votes by its rank in self-certainty",
        citation: "arXiv 2502.18581",
        presets: ["borda"],
        ends_early: false,
        build: |name, s| of_whole_traces(name, borda::Borda(s), s.window, s.count_truncated),
        window: Window = Window::Auto, WINDOW;
        statistic: Statistic = Statistic::SelfCertainty, STATISTIC;
        power: f64 = 0.5, shared("X", "Exponent of a rank's weight (borda)").within(NOT_NEGATIVE);
        count_truncated: bool = false, COUNT_TRUNCATED;
    }
}
