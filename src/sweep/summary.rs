//! What a sweep came to: a row for each strategy, number of slots and budget.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tts_evals::stats::{Comparison, Spread, StatsError, compare, mean_pass_at_k, spread, wilson};

use super::files::{PoolDecisions, SweepLine};
use crate::run::Slots;

/// Level of all intervals.
pub(crate) const LEVEL: f64 = 0.95;
/// Seed of every bootstrap: the same lines give the same intervals.
pub(crate) const SEED: u64 = 0;

/// A row of a sweep's summary: one strategy at one budget and number of slots, over all problems.
#[derive(Clone, Debug, Serialize)]
pub struct SweepRow {
    /// Name of the preset.
    pub strategy: String,
    /// Traces that might be launched.
    pub budget: usize,
    /// Traces in flight at once.
    pub slots: Option<Slots>,
    /// Problems with a right answer to compare with.
    pub graded: usize,
    /// Problems in all, those without a right answer included.
    pub problems: usize,
    /// Share of right answers, with both sources of spread; nothing without right answers to compare with.
    pub accuracy: Option<Spread>,
    /// Generated tokens a problem.
    pub tokens: f64,
    /// Length of the critical path in tokens, a problem.
    pub ticks: f64,
    /// Tokens for each right answer.
    pub tokens_per_right: Option<f64>,
    /// Its tokens as a share of those of majority at the same budget, where that was swept too.
    pub of_majority: Option<f64>,
    /// Against majority at the same budget, over the same resampled pools.
    pub against_majority: Option<Comparison>,
}

/// The rows of a sweep in order of strategy, slots and budget, and pass@k of its pools for each budget that
/// all of them hold.
///
/// # Errors
/// When lines of one cell have different numbers of resamples.
pub fn summary(lines: &[SweepLine]) -> Result<(Vec<SweepRow>, BTreeMap<usize, f64>), StatsError> {
    let mut cells: BTreeMap<(String, Option<Slots>, usize), Vec<&PoolDecisions>> = BTreeMap::new();
    let (mut order, mut pools, mut budgets) = (Vec::new(), Vec::new(), BTreeSet::new());
    for line in lines {
        match line {
            SweepLine::Decided(d) => {
                if !order.contains(&d.strategy) {
                    order.push(d.strategy.clone());
                }
                budgets.insert(d.budget);
                cells
                    .entry((d.strategy.clone(), d.slots, d.budget))
                    .or_default()
                    .push(d);
            }
            SweepLine::Pool(p) => pools.extend(p.right.map(|right| (&p.problem_id, (p.traces, right)))),
        }
    }
    // lines stand in the order in which threads came to them; sums and resamples over problems must not
    // depend on that
    cells
        .values_mut()
        .for_each(|lines| lines.sort_by(|a, b| a.problem_id.cmp(&b.problem_id)));
    pools.sort_unstable();
    let pools: Vec<_> = pools.into_iter().map(|(_, pool)| pool).collect();
    let mut rows = Vec::new();
    for ((strategy, slots, budget), lines) in &cells {
        let majority = ["majority"].into_iter().filter(|m| m != strategy).find_map(|m| {
            let at = |slots| cells.get(&(m.to_owned(), slots, *budget));
            at(*slots).or_else(|| at(None))
        });
        rows.push(row(
            strategy,
            *slots,
            *budget,
            lines,
            majority.map(Vec::as_slice),
        )?);
    }
    rows.sort_by_key(|r| (order.iter().position(|s| *s == r.strategy), r.slots, r.budget));
    let passes = budgets
        .into_iter()
        .filter_map(|k| Some((k, mean_pass_at_k(&pools, k as u64)?)))
        .collect();
    Ok((rows, passes))
}

/// Mean over problems of the mean over resamples.
pub(crate) fn each(lines: &[&PoolDecisions], of: fn(&PoolDecisions) -> &[u64]) -> f64 {
    let mean = |numbers: &[u64]| numbers.iter().map(|n| *n as f64).sum::<f64>() / numbers.len().max(1) as f64;
    lines.iter().map(|d| mean(of(d))).sum::<f64>() / lines.len().max(1) as f64
}

/// 1 for each right answer and 0 for each wrong one, by graded problem and resample.
pub(crate) fn rights(lines: &[&PoolDecisions]) -> Vec<Vec<f64>> {
    let of = |d: &&PoolDecisions| Some(d.correct.as_ref()?.iter().map(|c| f64::from(*c)).collect());
    lines.iter().filter_map(of).collect()
}

/// Tokens for each right answer, both counted over the graded problems.
pub(crate) fn tokens_per_right(lines: &[&PoolDecisions]) -> Option<f64> {
    let graded = || lines.iter().filter_map(|d| Some((d, d.correct.as_ref()?)));
    let right: u64 = graded().flat_map(|(_, c)| c).map(|c| u64::from(*c)).sum();
    let tokens: u64 = graded().flat_map(|(d, _)| &d.tokens).sum();
    (right > 0).then(|| tokens as f64 / right as f64)
}

/// The decisions of two strategies over the same problems, side by side.
pub(crate) fn paired<'a>(
    ours: &[&'a PoolDecisions],
    theirs: &[&'a PoolDecisions],
) -> Vec<(&'a PoolDecisions, &'a PoolDecisions)> {
    let by_problem: BTreeMap<&str, &PoolDecisions> =
        theirs.iter().map(|d| (d.problem_id.as_str(), *d)).collect();
    let pair = |d: &&'a PoolDecisions| Some((*d, *by_problem.get(d.problem_id.as_str())?));
    ours.iter().filter_map(pair).collect()
}

/// The first's tokens as a share of the second's.
pub(crate) fn share_of_tokens(pairs: &[(&PoolDecisions, &PoolDecisions)]) -> Option<f64> {
    let of = |d: &PoolDecisions| each(&[d], |d| &d.tokens);
    let (ours, theirs): (f64, f64) = pairs
        .iter()
        .fold((0.0, 0.0), |(a, b), (x, y)| (a + of(x), b + of(y)));
    (theirs > 0.0).then(|| ours / theirs)
}

/// How often each of the two is right where the other is not; nothing where no pair is graded.
pub(crate) fn against(pairs: &[(&PoolDecisions, &PoolDecisions)]) -> Option<Result<Comparison, StatsError>> {
    let rights = |d: &PoolDecisions| Some(d.correct.as_ref()?.iter().map(|c| *c == 1).collect::<Vec<bool>>());
    let (ours, theirs): (Vec<_>, Vec<_>) = pairs
        .iter()
        .filter_map(|(a, b)| Some((rights(a)?, rights(b)?)))
        .unzip();
    (!ours.is_empty()).then(|| compare(&ours, &theirs, LEVEL, SEED))
}

/// The mean of what is right, with both sources of spread, and how the one over problems was found:
/// `bootstrap`, or `wilson` where the problems were decided once, or are all alike and resample to themselves,
/// which says nothing of others. Nothing where none is graded.
pub(crate) fn accuracy(correct: &[Vec<f64>]) -> Result<Option<(Spread, &'static str)>, StatsError> {
    let Some(first) = correct.first() else {
        return Ok(None);
    };
    let mut spread = spread(correct, LEVEL, SEED)?;
    let single = first.len() == 1;
    if !single && spread.problems.is_some_and(|i| i.low != i.high) {
        return Ok(Some((spread, "bootstrap")));
    }
    let right: f64 = correct.iter().flatten().sum();
    let solved = (right / first.len() as f64).round() as u64;
    let alike = single || spread.problems.is_some();
    if alike {
        spread.problems = wilson(solved, correct.len() as u64, LEVEL).ok();
    }
    Ok(Some((spread, if alike { "wilson" } else { "bootstrap" })))
}

fn row(
    strategy: &str,
    slots: Option<Slots>,
    budget: usize,
    lines: &[&PoolDecisions],
    majority: Option<&[&PoolDecisions]>,
) -> Result<SweepRow, StatsError> {
    let graded = rights(lines);
    let accuracy = accuracy(&graded)?.map(|(accuracy, _)| accuracy);
    let pairs = paired(lines, majority.unwrap_or_default());
    Ok(SweepRow {
        strategy: strategy.to_owned(),
        budget,
        slots,
        graded: graded.len(),
        problems: lines.len(),
        tokens: each(lines, |d| &d.tokens),
        ticks: each(lines, |d| &d.ticks),
        tokens_per_right: tokens_per_right(lines),
        accuracy,
        of_majority: share_of_tokens(&pairs).filter(|_| pairs.len() == lines.len()),
        against_majority: against(&pairs).transpose()?,
    })
}
