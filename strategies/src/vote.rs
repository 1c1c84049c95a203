//! Votes over (answer class, trace scores).
//!
//! Grouping is by [`ClassId`]; ties are broken by weight, then by the number of traces, then by the lowest
//! trace index: never by hash order, class number or order of arrival. Weights of a class are summed in
//! ascending order, so the same ballots give the same sums, to the last bit, in whatever order they came.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::interface::{Ballot, ClassId, TraceId, Vote};
use crate::percentile::percentile;
use crate::scores::{Statistic, TraceScores};

/// The votes, named as in results and presets (arXiv 2508.15260, section 3, and its reference code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum VoteKind {
    /// One trace, one vote.
    Majority,
    /// Weighted by the mean confidence.
    MeanWeighted,
    /// Weighted by the tail confidence.
    TailWeighted,
    /// Weighted by the mean of the lowest tenth of the groups.
    BottomWeighted,
    /// Weighted by the lowest group.
    MinWeighted,
    /// Weighted by the geometric mean of the tokens' probabilities (arXiv 2203.11171, section 2).
    LogprobWeighted,
    /// Weighted by self-certainty (arXiv 2502.18581).
    CertaintyWeighted,
    /// Weighted by the exponential of the negative tail entropy: one over the number of ids that the trace's end
    /// was undecided between (arXiv 2606.08850).
    EntropyWeighted,
    /// The top tenth by tail confidence, then weighted by it.
    Top10Tail,
    /// The top tenth by bottom confidence, then weighted by it.
    Top10Bottom,
}

impl VoteKind {
    /// The votes of every result, in this order.
    pub const REPORTED: &[VoteKind] = &[
        VoteKind::Majority,
        VoteKind::MeanWeighted,
        VoteKind::TailWeighted,
        VoteKind::BottomWeighted,
        VoteKind::MinWeighted,
        VoteKind::Top10Tail,
        VoteKind::Top10Bottom,
    ];

    /// All votes that may decide.
    pub const ALL: &[VoteKind] = &[
        VoteKind::Majority,
        VoteKind::MeanWeighted,
        VoteKind::TailWeighted,
        VoteKind::BottomWeighted,
        VoteKind::MinWeighted,
        VoteKind::LogprobWeighted,
        VoteKind::CertaintyWeighted,
        VoteKind::EntropyWeighted,
        VoteKind::Top10Tail,
        VoteKind::Top10Bottom,
    ];

    /// The name in results and presets.
    pub fn name(self) -> &'static str {
        match self {
            VoteKind::Majority => "majority",
            VoteKind::MeanWeighted => "mean-weighted",
            VoteKind::TailWeighted => "tail-weighted",
            VoteKind::BottomWeighted => "bottom-weighted",
            VoteKind::MinWeighted => "min-weighted",
            VoteKind::LogprobWeighted => "logprob-weighted",
            VoteKind::CertaintyWeighted => "certainty-weighted",
            VoteKind::EntropyWeighted => "entropy-weighted",
            VoteKind::Top10Tail => "top10-tail",
            VoteKind::Top10Bottom => "top10-bottom",
        }
    }

    /// The statistic that weighs a ballot; `None` for one trace, one vote.
    pub fn statistic(self) -> Option<Statistic> {
        match self {
            VoteKind::Majority => None,
            VoteKind::MeanWeighted => Some(Statistic::Mean),
            VoteKind::TailWeighted | VoteKind::Top10Tail => Some(Statistic::Tail),
            VoteKind::BottomWeighted | VoteKind::Top10Bottom => Some(Statistic::Bottom),
            VoteKind::MinWeighted => Some(Statistic::LowestGroup),
            VoteKind::LogprobWeighted => Some(Statistic::MeanLogprob),
            VoteKind::CertaintyWeighted => Some(Statistic::SelfCertainty),
            VoteKind::EntropyWeighted => Some(Statistic::TailEntropy),
        }
    }

    /// What a voter's ballot weighs; nothing where it lacks the statistic.
    fn weight(self, statistic: Statistic, voter: &Voter) -> Option<f64> {
        let value = voter.scores.get(statistic)?;
        // entropies come with their sign turned
        Some(
            if matches!(self, VoteKind::LogprobWeighted | VoteKind::EntropyWeighted) {
                value.exp()
            } else {
                value.max(0.0)
            },
        )
    }

    /// Whether only the traces at or above the 90th percentile of the statistic vote.
    pub fn top_tenth(self) -> bool {
        matches!(self, VoteKind::Top10Tail | VoteKind::Top10Bottom)
    }
}

impl std::fmt::Display for VoteKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A trace that may vote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Voter {
    /// Index of the trace.
    pub trace: TraceId,
    /// The class of its answer.
    pub class: ClassId,
    /// What its ballot weighs, by statistic.
    pub scores: TraceScores,
}

/// A counted vote: the weight of every class, and the winner.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// The classes, heaviest first; never empty.
    pub ballots: Vec<Ballot>,
    /// The heaviest trace of the first class, of equally heavy ones the lowest index.
    pub winner_trace: TraceId,
    /// How many voters took no part for want of the statistic.
    pub abstained: usize,
    total: f64,
    voters: usize,
}

impl Tally {
    /// Counts ballots of (trace, class, weight). Weights are finite and not negative; `None` without ballots.
    pub fn count(ballots: impl IntoIterator<Item = (TraceId, ClassId, f64)>) -> Option<Self> {
        let mut classes: BTreeMap<ClassId, Vec<(f64, TraceId)>> = BTreeMap::new();
        for (trace, class, weight) in ballots {
            classes.entry(class).or_default().push((weight, trace));
        }
        let mut ranked: Vec<(Ballot, TraceId, TraceId)> = Vec::with_capacity(classes.len());
        for (class, mut votes) in classes {
            votes.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
            let weight = votes.iter().map(|v| v.0).sum();
            let first = votes.iter().map(|v| v.1).min()?;
            let heaviest = votes.last()?.1;
            ranked.push((
                Ballot {
                    class,
                    weight,
                    traces: votes.len(),
                },
                first,
                heaviest,
            ));
        }
        ranked.sort_by(|(a, first_a, _), (b, first_b, _)| rank(a, *first_a, b, *first_b));
        let winner_trace = ranked.first()?.2;
        let ballots: Vec<Ballot> = ranked.into_iter().map(|r| r.0).collect();
        let total = ballots.iter().map(|b| b.weight).sum();
        let voters = ballots.iter().map(|b| b.traces).sum();
        Some(Self {
            ballots,
            winner_trace,
            abstained: 0,
            total,
            voters,
        })
    }

    /// Holds one of the named votes. `None` when no voter has the statistic it needs; voters without it
    /// abstain.
    pub fn hold(kind: VoteKind, voters: &[Voter]) -> Option<Self> {
        let Some(statistic) = kind.statistic() else {
            return Self::count(voters.iter().map(|v| (v.trace, v.class, 1.0)));
        };
        let weigh = |v: &Voter| kind.weight(statistic, v);
        let bar = if kind.top_tenth() {
            percentile(&voters.iter().filter_map(weigh).collect::<Vec<_>>(), 90.0)?
        } else {
            f64::NEG_INFINITY
        };
        let ballots = voters.iter().filter_map(|v| Some((v.trace, v.class, weigh(v)?)));
        let tally = Self::count(ballots.filter(|b| b.2 >= bar))?;
        let abstained = voters.iter().filter(|v| weigh(v).is_none()).count();
        Some(Self { abstained, ..tally })
    }

    /// The winner and its share.
    pub fn winner(&self) -> Vote {
        Vote {
            class: self.ballots[0].class,
            share: self.share(0),
        }
    }

    /// Share of the winner minus share of the runner-up.
    pub fn margin(&self) -> f64 {
        self.share(0)
            - if self.ballots.len() > 1 {
                self.share(1)
            } else {
                0.0
            }
    }

    /// How many traces took part.
    pub fn voters(&self) -> usize {
        self.voters
    }

    /// Share of the weight; of the number of traces where all weights are zero.
    fn share(&self, i: usize) -> f64 {
        let b = &self.ballots[i];
        if self.ballots.len() == 1 {
            1.0
        } else if self.total > 0.0 {
            b.weight / self.total
        } else {
            b.traces as f64 / self.voters as f64
        }
    }
}

/// A vote that is added to, for the question whether a share can have been reached: weights are summed as they come,
/// so its shares are those of [`Tally`] up to rounding.
#[derive(Clone, Debug)]
pub(crate) struct RunningVote {
    kind: VoteKind,
    weights: BTreeMap<ClassId, f64>,
    heaviest: f64,
    total: f64,
    voters: usize,
}

/// How far a share may be off by the order in which weights were summed.
const ROUNDING: f64 = 1e-6;

impl RunningVote {
    pub(crate) fn new(kind: VoteKind) -> Self {
        Self {
            kind,
            weights: BTreeMap::new(),
            heaviest: 0.0,
            total: 0.0,
            voters: 0,
        }
    }

    pub(crate) fn add(&mut self, voter: &Voter) {
        self.voters += 1;
        let weight = match self.kind.statistic() {
            None => Some(1.0),
            Some(statistic) => self.kind.weight(statistic, voter),
        };
        if let Some(weight) = weight {
            let of_class = self.weights.entry(voter.class).or_insert(0.0);
            *of_class += weight;
            self.heaviest = self.heaviest.max(*of_class);
            self.total += weight;
        }
    }

    /// Voters so far, those that abstain included.
    pub(crate) fn voters(&self) -> usize {
        self.voters
    }

    /// Whether the winner's share may be at least `share`; a count says whether it is. False is certain.
    pub(crate) fn may_reach(&self, share: f64) -> bool {
        // who votes in the top tenth changes with every trace, and without weights numbers of traces count
        let unknown =
            self.kind.top_tenth() || self.weights.len() <= 1 || self.total.is_nan() || self.total <= 0.0;
        unknown || self.heaviest >= (share - ROUNDING) * self.total
    }
}

/// Heaviest first, then most traces, then lowest index.
fn rank(a: &Ballot, first_a: TraceId, b: &Ballot, first_b: TraceId) -> Ordering {
    b.weight
        .total_cmp(&a.weight)
        .then(b.traces.cmp(&a.traces))
        .then(first_a.cmp(&first_b))
}
