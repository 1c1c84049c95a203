//! What a sweep came to: a row for each strategy, number of slots and budget.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tts_evals::stats::{Comparison, Spread, StatsError, compare, mean_pass_at_k, spread};

use super::files::{Decided, Line};

/// Level of all intervals.
const LEVEL: f64 = 0.95;

/// One strategy at one budget, over all problems.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the preset.
    pub strategy: String,
    /// Traces that might be launched.
    pub budget: usize,
    /// Traces in flight at once.
    pub slots: Option<usize>,
    /// Problems with a right answer to compare with.
    pub graded: usize,
    /// Problems in all.
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

/// The rows of a sweep in order of strategy, slots and budget, and pass@k of its pools for each budget that all of them hold.
///
/// # Errors
/// When lines of one cell have different numbers of resamples.
pub fn summary(lines: &[Line]) -> Result<(Vec<Row>, BTreeMap<usize, f64>), StatsError> {
    let mut cells: BTreeMap<(String, Option<usize>, usize), Vec<&Decided>> = BTreeMap::new();
    let (mut order, mut pools, mut budgets) = (Vec::new(), Vec::new(), BTreeSet::new());
    for line in lines {
        match line {
            Line::Decided(d) => {
                if !order.contains(&d.strategy) {
                    order.push(d.strategy.clone());
                }
                budgets.insert(d.budget);
                cells.entry((d.strategy.clone(), d.slots, d.budget)).or_default().push(d);
            }
            Line::Pool(p) => pools.extend(p.right.map(|right| (&p.problem_id, (p.traces, right)))),
        }
    }
    // lines stand in the order in which threads came to them; sums and resamples over problems must not depend on that
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
        rows.push(row(strategy, *slots, *budget, lines, majority.map(Vec::as_slice))?);
    }
    rows.sort_by_key(|r| (order.iter().position(|s| *s == r.strategy), r.slots, r.budget));
    let passes = budgets
        .into_iter()
        .filter_map(|k| Some((k, mean_pass_at_k(&pools, k as u64)?)))
        .collect();
    Ok((rows, passes))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0usize), |(sum, n), x| (sum + x, n + 1));
    sum / n.max(1) as f64
}

/// Mean over problems of the mean over resamples.
fn each(lines: &[&Decided], of: fn(&Decided) -> &[u64]) -> f64 {
    mean(lines.iter().map(|d| mean(of(d).iter().map(|n| *n as f64))))
}

fn row(strategy: &str, slots: Option<usize>, budget: usize, lines: &[&Decided], majority: Option<&[&Decided]>) -> Result<Row, StatsError> {
    let scores = |d: &&Decided| Some(d.correct.as_ref()?.iter().map(|c| f64::from(*c)).collect::<Vec<_>>());
    let graded: Vec<_> = lines.iter().filter_map(scores).collect();
    let accuracy = if graded.is_empty() {
        None
    } else {
        Some(spread(&graded, LEVEL, 0)?)
    };
    let tokens = each(lines, |d| &d.tokens);
    let by_problem: BTreeMap<&str, &Decided> = majority.unwrap_or_default().iter().map(|d| (d.problem_id.as_str(), *d)).collect();
    let pairs: Vec<_> = lines
        .iter()
        .filter_map(|d| Some((*d, *by_problem.get(d.problem_id.as_str())?)))
        .collect();
    let rights = |d: &Decided| Some(d.correct.as_ref()?.iter().map(|c| *c == 1).collect::<Vec<bool>>());
    let (ours, theirs): (Vec<_>, Vec<_>) = pairs.iter().filter_map(|(a, b)| Some((rights(a)?, rights(b)?))).unzip();
    let full = mean(pairs.iter().map(|(_, b)| mean(b.tokens.iter().map(|n| *n as f64))));
    Ok(Row {
        strategy: strategy.to_owned(),
        budget,
        slots,
        graded: graded.len(),
        problems: lines.len(),
        tokens,
        ticks: each(lines, |d| &d.ticks),
        tokens_per_right: accuracy.filter(|a| a.mean > 0.0).map(|a| tokens / a.mean),
        accuracy,
        of_majority: (pairs.len() == lines.len() && full > 0.0).then(|| tokens / full),
        against_majority: if ours.is_empty() {
            None
        } else {
            Some(compare(&ours, &theirs, LEVEL, 0)?)
        },
    })
}
