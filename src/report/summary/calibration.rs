//! What scores and shares of the vote know.

use std::collections::BTreeMap;

use tts_evals::stats::{BOOTSTRAP, histogram, reliability, right_by_rank, within_problem_auroc};
use tts_strategies::{Statistic, Tally};

use super::{LEVEL, SEED};
use crate::report::evidence::Evidence;
use crate::report::graded::GradedTraces;
use crate::report::results::{ReliabilityFacts, ScoreFacts};
use crate::run::Classes;
use crate::sweep::PoolSummary;

/// Bins of a histogram, of a reliability diagram, and of a diagram by rank.
const BINS: (usize, usize, usize) = (24, 10, 8);

/// The trace scores that a report looks at.
const SCORES: [(&str, Statistic); 6] = [
    ("lowest group", Statistic::LowestGroup),
    ("bottom tenth", Statistic::Bottom),
    ("tail", Statistic::Tail),
    ("mean", Statistic::Mean),
    ("sequence log-probability", Statistic::SequenceLogprob),
    ("self-certainty", Statistic::SelfCertainty),
];

/// What each score knows about its trace. All complete traces count, those that were cut off as wrong.
pub(crate) fn scores(pools: &[PoolSummary], traces: &[GradedTraces]) -> Vec<ScoreFacts> {
    SCORES
        .into_iter()
        .filter_map(|(name, statistic)| {
            let by_problem: Vec<Vec<(f64, bool)>> = pools
                .iter()
                .zip(traces)
                .filter(|(pool, _)| pool.gold.is_some())
                .map(|(_, t)| {
                    t.complete
                        .iter()
                        .filter_map(|t| Some((t.scores.get(statistic).filter(|s| s.is_finite())?, t.right?)))
                        .collect()
                })
                .collect();
            let all: Vec<(f64, bool)> = by_problem.iter().flatten().copied().collect();
            (!all.is_empty()).then(|| ScoreFacts {
                score: name,
                traces: all.len(),
                auroc: within_problem_auroc(&by_problem, BOOTSTRAP, LEVEL, SEED).ok(),
                histogram: histogram(&all, BINS.0).ok(),
                by_rank: right_by_rank(&all, BINS.2, LEVEL).unwrap_or_default(),
            })
        })
        .collect()
}

/// The answer with most votes among all complete traces, its votes, and its share of them.
pub(super) fn majority(traces: &GradedTraces) -> Option<(usize, usize, f64)> {
    let mut classes = Classes::default();
    let mut ballots = Vec::new();
    let mut first = BTreeMap::new();
    for (i, trace) in traces.complete.iter().enumerate() {
        if let Some((answer, key)) = &trace.answer {
            let class = classes.class(key, answer);
            first.entry(class.0).or_insert(i);
            ballots.push((i as u32, class, 1.0));
        }
    }
    let tally = Tally::count(ballots)?;
    let winner = tally.winner();
    let first = *first.get(&winner.class.0)?;
    Some((first, tally.ballots[0].traces, winner.share))
}

/// Winners by share: of the deciding votes of a run, else of plain majority over all complete traces.
pub(crate) fn reliable(evidence: &Evidence) -> Option<ReliabilityFacts> {
    let decided: Vec<(f64, bool)> = evidence.winners.iter().flatten().copied().collect();
    let (of, winners) = if decided.is_empty() {
        let of_pools = evidence
            .traces
            .iter()
            .flatten()
            .zip(&evidence.pools)
            .filter(|(_, p)| p.gold.is_some());
        let winners = of_pools.filter_map(|(traces, _)| {
            let (first, _, share) = majority(traces)?;
            Some((share, traces.complete[first].right?))
        });
        (
            "plain majority over all complete traces of a problem",
            winners.collect(),
        )
    } else {
        ("the vote that decided, as weighted by the strategy", decided)
    };
    let diagram = reliability(&winners, BINS.1, LEVEL).ok()?;
    Some(ReliabilityFacts {
        of: of.to_owned(),
        diagram,
    })
}
