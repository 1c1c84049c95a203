//! From evidence to numbers: what is averaged over what, and how sure it is.

mod calibration;
mod counted;

use std::collections::BTreeMap;

use tts_evals::stats::{Curve, Point, avg_at_n, mean_pass_at_k, pareto, spread};

use super::evidence::Evidence;
use super::results::{
    Accuracy, Arm, BaselineComparison, Basis, CurveFacts, DataCounts, MeanFates, PassAt, ProblemRow, Winner,
};
use crate::run::{FateCounts, Slots};
use crate::sweep::{self, PoolDecisions, PoolSummary};
pub(crate) use crate::sweep::{LEVEL, SEED};
use calibration::majority;
pub(crate) use calibration::{reliable, scores};
use counted::budgets;
pub(crate) use counted::{COUNTED, counted};

pub(crate) fn counts(evidence: &Evidence) -> DataCounts {
    let pools = &evidence.pools;
    let sum = |of: fn(&PoolSummary) -> u64| pools.iter().map(of).sum();
    DataCounts {
        problems: pools.len(),
        graded: pools.iter().filter(|p| p.gold.is_some()).count(),
        empty: pools.iter().filter(|p| p.traces == 0).count(),
        traces: sum(|p| p.traces),
        answered: sum(|p| p.answered),
        right: sum(|p| p.right.unwrap_or(0)),
        incomplete: evidence.traces.iter().flatten().map(|t| t.incomplete).sum(),
        tokens: sum(|p| p.tokens),
        resamples: evidence
            .decided
            .iter()
            .map(|(_, d)| d.tokens.len())
            .max()
            .unwrap_or(1),
    }
}

/// Whether the recorded traces are all that were launched, so that they speak for the model and not for what
/// a strategy kept of them.
pub(crate) fn is_whole(evidence: &Evidence) -> bool {
    evidence.traces.iter().flatten().all(|t| t.incomplete == 0)
}

/// Name of a series: the strategy, and its slots where that is no matter of course.
fn series(d: &PoolDecisions, several_slots: bool) -> String {
    match d.slots.filter(|_| several_slots) {
        Some(slots) => format!("{}, {slots} slots", d.strategy),
        None => d.strategy.clone(),
    }
}

/// The decisions of one arm, one a problem.
struct ArmDecisions<'a> {
    basis: Basis,
    series: String,
    decided: Vec<&'a PoolDecisions>,
}

/// Decisions by series and budget, in the order in which they came.
fn groups(decided: &[(Basis, PoolDecisions)]) -> Vec<ArmDecisions<'_>> {
    let mut slots: Vec<_> = decided
        .iter()
        .filter(|(b, _)| *b != Basis::Counted)
        .map(|(_, d)| d.slots)
        .collect();
    slots.sort_unstable();
    slots.dedup();
    let mut places: BTreeMap<(Basis, &str, Option<Slots>, usize), usize> = BTreeMap::new();
    let mut groups: Vec<ArmDecisions<'_>> = Vec::new();
    for (basis, d) in decided {
        let at = *places
            .entry((*basis, &d.strategy, d.slots, d.budget))
            .or_insert(groups.len());
        if at == groups.len() {
            groups.push(ArmDecisions {
                basis: *basis,
                series: series(d, slots.len() > 1),
                decided: Vec::new(),
            });
        }
        groups[at].decided.push(d);
    }
    // resamples over problems must not depend on the order of these, nor differ from the sweep's own
    groups
        .iter_mut()
        .for_each(|group| group.decided.sort_by(|a, b| a.problem_id.cmp(&b.problem_id)));
    groups
}

/// Every strategy at every budget; arms whose problems were not resampled equally often are left out and
/// said.
pub(crate) fn arms(decided: &[(Basis, PoolDecisions)], warnings: &mut Vec<String>) -> Vec<Arm> {
    let mut arms: Vec<Arm> = Vec::new();
    let groups = groups(decided);
    for group in &groups {
        let first = group.decided[0];
        if group.decided.iter().any(|d| d.tokens.len() != first.tokens.len()) {
            warnings.push(format!(
                "{} with {} traces is left out: its problems were not all resampled equally often",
                group.series, first.budget
            ));
            continue;
        }
        arms.push(arm(group));
    }
    let points: Vec<Option<Point>> = arms.iter().map(point).collect();
    let on_front = pareto(&points.iter().flatten().copied().collect::<Vec<_>>());
    let mut front = on_front.into_iter();
    for (arm, point) in arms.iter_mut().zip(&points) {
        arm.pareto = point.is_some() && front.next().unwrap_or(false);
    }
    let tokens: Vec<Option<f64>> = arms
        .iter()
        .map(|arm| baseline(&arms, arm).map(|b| b.tokens))
        .collect();
    for (arm, tokens) in arms.iter_mut().zip(tokens) {
        arm.saved = tokens.filter(|t| *t > 0.0).map(|t| 1.0 - arm.tokens / t);
    }
    arms
}

/// Accuracy against tokens; `None` for an arm without one or the other.
pub(crate) fn point(arm: &Arm) -> Option<Point> {
    let accuracy = arm.accuracy?.mean;
    (arm.tokens > 0.0).then_some(Point {
        tokens: arm.tokens,
        accuracy,
    })
}

/// Plain majority with the same budget, over the same problems: what an arm is measured against. Majority
/// itself has none.
fn baseline<'a>(arms: &'a [Arm], arm: &Arm) -> Option<&'a Arm> {
    let plain = |a: &&Arm| {
        (a.strategy == "majority" || a.basis == Basis::Counted)
            && a.budget == arm.budget
            && a.problems == arm.problems
    };
    if arm.strategy == "majority" || arm.basis == Basis::Counted {
        return None;
    }
    let same_slots = arms
        .iter()
        .filter(plain)
        .find(|a| a.slots == arm.slots && a.basis == arm.basis);
    same_slots.or_else(|| arms.iter().find(plain))
}

fn arm(group: &ArmDecisions<'_>) -> Arm {
    let (decided, n) = (&group.decided, group.decided.len() as f64);
    let first = decided[0];
    let resamples = first.tokens.len();
    let draws = resamples as f64;
    let tokens: Vec<Vec<f64>> = decided
        .iter()
        .map(|d| d.tokens.iter().map(|x| *x as f64).collect())
        .collect();
    let correct = sweep::rights(decided);
    let accuracy = sweep::accuracy(&correct)
        .ok()
        .flatten()
        .map(|(s, method)| Accuracy {
            mean: s.mean,
            problems: s.problems,
            method,
            traces: (resamples > 1).then_some(s.traces),
        });
    let fates = |of: fn(&PoolDecisions) -> &FateCounts| {
        let sum = |field: fn(&FateCounts) -> u64| {
            decided.iter().map(|d| field(of(d)) as f64).sum::<f64>() / (n * draws)
        };
        MeanFates {
            warmup: sum(|b| b.warmup),
            finished: sum(|b| b.finished),
            stopped: sum(|b| b.stopped),
            cancelled: sum(|b| b.cancelled),
            truncated: sum(|b| b.truncated),
            failed: sum(|b| b.failed),
        }
    };
    Arm {
        series: group.series.clone(),
        strategy: first.strategy.clone(),
        slots: first.slots,
        budget: first.budget,
        capped: decided.iter().filter(|d| d.traces < d.budget).count(),
        basis: group.basis,
        problems: decided.len(),
        graded: correct.len(),
        resamples,
        accuracy,
        answered: decided.iter().map(|d| d.answered as f64).sum::<f64>() / (n * draws),
        tokens: sweep::each(decided, |d| &d.tokens),
        tokens_problems: spread(&tokens, LEVEL, SEED).ok().and_then(|s| s.problems),
        token_fates: fates(|d| &d.token_fates),
        trace_fates: fates(|d| &d.trace_fates),
        launched: sweep::each(decided, |d| &d.launched),
        steps: sweep::each(decided, |d| &d.ticks),
        tokens_per_right: sweep::tokens_per_right(decided),
        saved: None,
        pareto: false,
        short: decided.iter().map(|d| d.short).sum(),
    }
}

/// pass@k for the budgets, as far as every graded problem has k traces.
pub(crate) fn pass_at(pools: &[PoolSummary]) -> Vec<PassAt> {
    let graded: Vec<&PoolSummary> = pools.iter().filter(|p| p.right.is_some()).collect();
    let counts: Vec<(u64, u64)> = graded.iter().map(|p| (p.traces, p.right.unwrap_or(0))).collect();
    let each: Vec<f64> = graded
        .iter()
        .filter(|p| p.traces > 0)
        .map(|p| p.tokens as f64 / p.traces as f64)
        .collect();
    let mean = each.iter().sum::<f64>() / each.len().max(1) as f64;
    budgets(pools)
        .into_iter()
        .filter_map(|k| {
            Some(PassAt {
                k: k as u64,
                pass: mean_pass_at_k(&counts, k as u64)?,
                tokens: k as f64 * mean,
            })
        })
        .collect()
}

/// The mean over traces: pass@1 with its standard error clustered by problem.
pub(crate) fn average(pools: &[PoolSummary]) -> Option<tts_evals::stats::AvgAtN> {
    let scores: Vec<Vec<f64>> = pools
        .iter()
        .filter_map(|p| {
            let right = p.right?.min(p.traces);
            Some((0..p.traces).map(|i| if i < right { 1.0 } else { 0.0 }).collect())
        })
        .collect();
    avg_at_n(&scores).ok()
}

/// Each series at its largest budget against plain majority with the same budget, else against the first
/// series.
pub(crate) fn comparisons(decided: &[(Basis, PoolDecisions)], arms: &[Arm]) -> Vec<BaselineComparison> {
    let groups = groups(decided);
    let find = |arm: &Arm| {
        groups
            .iter()
            .find(|g| g.basis == arm.basis && g.series == arm.series && g.decided[0].budget == arm.budget)
    };
    let mut all = Vec::new();
    let first = largest(arms).into_iter().find(|a| a.accuracy.is_some());
    for arm in largest(arms) {
        let other = baseline(arms, arm).or_else(|| {
            first.filter(|f| {
                f.series != arm.series && arm.strategy != "majority" && arm.basis != Basis::Counted
            })
        });
        let Some((other, (a, b))) = other.and_then(|other| Some((other, (find(arm)?, find(other)?)))) else {
            continue;
        };
        let mut pairs = sweep::paired(&a.decided, &b.decided);
        pairs.retain(|(a, b)| a.correct.is_some() && b.correct.is_some());
        let Some(Ok(c)) = sweep::against(&pairs) else {
            continue;
        };
        all.push(BaselineComparison {
            a: format!("{}@{}", arm.series, arm.budget),
            b: if other.budget == arm.budget {
                format!("{}@{}", other.series, other.budget)
            } else {
                format!("{}@{} (another budget)", other.series, other.budget)
            },
            problems: pairs.len(),
            difference: c.difference.mean,
            problems_interval: c.difference.problems,
            traces_interval: (arm.resamples > 1).then_some(c.difference.traces),
            only_a: c.only_a,
            only_b: c.only_b,
            p: c.p,
            tokens: sweep::share_of_tokens(&pairs).unwrap_or(f64::NAN),
        });
    }
    all
}

/// Each series at its largest budget.
pub(crate) fn largest(arms: &[Arm]) -> Vec<&Arm> {
    let mut largest: Vec<&Arm> = Vec::new();
    for arm in arms {
        match largest
            .iter_mut()
            .find(|a| a.series == arm.series && a.basis == arm.basis)
        {
            Some(known) if known.budget < arm.budget => *known = arm,
            Some(_) => {}
            None => largest.push(arm),
        }
    }
    largest
}

/// The arms of each series that has an accuracy, by budget.
pub(crate) fn curves(arms: &[Arm]) -> Vec<(&str, Vec<&Arm>)> {
    let mut curves: Vec<(&str, Vec<&Arm>)> = Vec::new();
    for arm in arms.iter().filter(|a| point(a).is_some()) {
        match curves.iter_mut().find(|(series, _)| *series == arm.series) {
            Some((_, arms)) => arms.push(arm),
            None => curves.push((&arm.series, vec![arm])),
        }
    }
    for (_, arms) in &mut curves {
        arms.sort_by_key(|a| a.budget);
    }
    curves
}

pub(crate) fn curve_facts(arms: &[Arm]) -> Vec<CurveFacts> {
    let curves: Vec<(String, bool, Curve)> = curves(arms)
        .into_iter()
        .filter(|(_, arms)| arms.len() > 1)
        .filter_map(|(series, arms)| {
            let points: Vec<Point> = arms.iter().filter_map(|a| point(a)).collect();
            let plain = arms[0].strategy == "majority" || arms[0].basis == Basis::Counted;
            Some((series.to_owned(), plain, Curve::new(&points).ok()?))
        })
        .collect();
    let shared =
        Curve::shared(&curves.iter().map(|c| c.2.clone()).collect::<Vec<_>>()).filter(|_| curves.len() > 1);
    let majority = curves.iter().find(|c| c.1).map(|c| &c.2);
    curves
        .iter()
        .map(|(series, plain, curve)| CurveFacts {
            series: series.clone(),
            area: shared.and_then(|range| curve.area(range)),
            saving: majority.filter(|_| !plain).and_then(|m| curve.saving_against(m)),
        })
        .collect()
}

pub(crate) fn problems(evidence: &Evidence, arms: &[Arm]) -> Vec<ProblemRow> {
    let groups = groups(&evidence.decided);
    let shown: Vec<(&str, BTreeMap<&str, &PoolDecisions>)> = largest(arms)
        .into_iter()
        .filter_map(|arm| {
            let group = groups.iter().find(|g| {
                g.basis == arm.basis && g.series == arm.series && g.decided[0].budget == arm.budget
            })?;
            Some((
                arm.series.as_str(),
                group
                    .decided
                    .iter()
                    .map(|d| (d.problem_id.as_str(), *d))
                    .collect(),
            ))
        })
        .collect();
    let row = |(i, pool): (usize, &PoolSummary)| {
        let traces = evidence.traces.as_ref().map(|t| &t[i]);
        let share = |d: &PoolDecisions| {
            d.correct
                .as_ref()
                .map(|c| c.iter().map(|c| f64::from(*c)).sum::<f64>() / c.len() as f64)
        };
        ProblemRow {
            id: pool.problem_id.clone(),
            gold: pool.gold.clone(),
            traces: pool.traces,
            answered: pool.answered,
            right: pool.right,
            majority: traces.and_then(|t| {
                let (first, votes, _) = majority(t)?;
                let answer = t.complete[first].answer.as_ref()?.0.clone();
                Some(Winner { answer, votes })
            }),
            decided: shown
                .iter()
                .map(|(series, of)| {
                    (
                        (*series).to_owned(),
                        of.get(pool.problem_id.as_str()).and_then(|d| share(d)),
                    )
                })
                .collect(),
            mean_tokens: (pool.traces > 0).then(|| pool.tokens as f64 / pool.traces as f64),
        }
    };
    evidence.pools.iter().enumerate().map(row).collect()
}
