//! Which scores know whether their trace is right.

use tts_evals::stats::{BOOTSTRAP, within_problem_auroc};
use tts_strategies::Statistic;

use super::{LEVEL, MIXED, ProblemRecords, ScoreTrial, WINDOWS};
use crate::run::TraceRecord;

/// The score that decides where a trace stops.
pub(super) const LOWEST: &str = "lowest group";

pub(super) fn scores(problem_records: &[ProblemRecords], right: &[Option<Vec<bool>>]) -> Vec<ScoreTrial> {
    let lengths: Vec<usize> = problem_records
        .iter()
        .flat_map(|p| p.records.iter().map(|r| r.tokens))
        .collect();
    let fits = |w: usize| 2 * lengths.iter().filter(|n| **n >= w).count() >= lengths.len();
    let plain = [
        ("mean", Statistic::Mean),
        ("sequence log-probability", Statistic::SequenceLogprob),
        ("self-certainty", Statistic::SelfCertainty),
    ];
    let grouped = [
        (LOWEST, Statistic::LowestGroup),
        ("bottom tenth", Statistic::Bottom),
        ("tail", Statistic::Tail),
    ];
    let mut asked: Vec<(&'static str, Statistic, Option<usize>)> =
        plain.map(|(name, s)| (name, s, None)).to_vec();
    for w in WINDOWS.into_iter().filter(|w| fits(*w)) {
        asked.extend(grouped.map(|(name, s)| (name, s, Some(w))));
    }
    let mut trials: Vec<ScoreTrial> = asked
        .into_iter()
        .filter_map(|(score, statistic, window)| {
            let value = |r: &TraceRecord| match &r.measured {
                Some(m) if statistic == Statistic::SelfCertainty => {
                    r.scores.self_certainty.or(m.self_certainty)
                }
                Some(m) => m.scores(window).get(statistic),
                None => r.scores.get(statistic).filter(|_| window.is_none()),
            };
            let by_problem: Vec<Vec<(f64, bool)>> = problem_records
                .iter()
                .zip(right)
                .filter_map(|(p, right)| {
                    let scored = p.records.iter().zip(right.as_ref()?);
                    Some(
                        scored
                            .filter_map(|(r, right)| Some((value(r).filter(|v| v.is_finite())?, *right)))
                            .collect(),
                    )
                })
                .collect();
            let auroc = within_problem_auroc(&by_problem, BOOTSTRAP, LEVEL, 0).ok()?;
            let knows = auroc.problems >= MIXED && auroc.interval.is_some_and(|i| i.low > 0.5);
            Some(ScoreTrial {
                score,
                window,
                auroc,
                knows,
            })
        })
        .collect();
    trials.sort_by(|a, b| b.auroc.mean.total_cmp(&a.auroc.mean));
    trials
}

/// The group size whose lowest group tells most.
pub(super) fn best_window(scores: &[ScoreTrial]) -> Option<usize> {
    scores.iter().find(|s| s.score == LOWEST)?.window
}
