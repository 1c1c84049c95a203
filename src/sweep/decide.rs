//! One problem of a sweep: its pool, and every strategy at every budget over the same resampled orders of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tts_evals::stats::Resamples;
use tts_strategies::{Finish, Preset, TraceId};

use super::files::{PoolDecisions, PoolSummary, RecordingSource, SCHEMA, SweepHeader, SweepLine};
use crate::error::Error;
use crate::fmt::{count, plural};
use crate::run::{
    self as recording, AnswerSettings, Bounds, PoolProblem, Replayed, Replayer, RunError, Slots, Status,
    StrategyRecord, TraceRecord,
};

/// What is decided over each problem's pool.
#[derive(Clone, Debug)]
pub struct SweepPlan {
    /// Strategies to decide with, each with its settings.
    pub strategies: Vec<Preset>,
    /// Traces that may be launched.
    pub budgets: Vec<usize>,
    /// Traces in flight at once; nothing stands for what suits each strategy.
    pub slots: Vec<Option<Slots>>,
    /// Random orders of each pool; nothing takes the traces once in recorded order.
    pub resamples: Option<usize>,
    /// Seed of the orders.
    pub seed: u64,
    /// Right answers by problem, over those that the recording names.
    pub gold: BTreeMap<String, String>,
}

/// Whether a strategy can decide over any of the traces that are recorded, in any order.
///
/// # Errors
/// For one that asks for traces of its own.
pub fn decides_recorded(strategy: &Preset) -> Result<(), RunError> {
    if strategy.build().needs().makes_traces() {
        return Err(RunError::Needs {
            strategy: strategy.name.clone(),
            what: "traces that are made from others".to_owned(),
            lacking: "a sweep over recorded ones cannot have; `tts solve --data` runs it".to_owned(),
        });
    }
    Ok(())
}

/// A cell of a sweep's grid: a strategy at one budget and number of slots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GridCell {
    pub(super) strategy: String,
    pub(super) budget: usize,
    pub(super) slots: Option<Slots>,
}

impl SweepPlan {
    /// What a sweep by this plan says of itself. Its recording's path is nothing: that of the sweep's own
    /// folder.
    pub fn header(
        &self,
        pool: &recording::RecordedPool,
        problems: &[&PoolProblem],
        answers: AnswerSettings,
    ) -> SweepHeader {
        SweepHeader {
            schema: SCHEMA,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            recording: RecordingSource {
                path: None,
                digest: pool.digest().to_owned(),
                fields: Default::default(),
            },
            traces: pool.manifest().map(|m| m.traces.clone()),
            data: pool.manifest().and_then(|m| m.data.clone()),
            strategies: self.strategies.iter().map(StrategyRecord::from).collect(),
            budgets: self.budgets.clone(),
            slots: self.slots.clone(),
            resamples: self.resamples,
            seed: self.seed,
            answers,
            problems: problems.iter().map(|p| p.id.clone()).collect(),
            status: Status::Started,
            notes: Vec::new(),
        }
    }

    /// Sentences about what the recording does not hold.
    pub fn notes(&self, pool: &recording::RecordedPool, problems: &[&PoolProblem]) -> Vec<String> {
        let mut notes = Vec::new();
        let most = self.budgets.iter().copied().max().unwrap_or(1);
        let fewest = problems.iter().map(|p| p.complete).min().unwrap_or(0);
        if fewest < most {
            let few = problems.iter().filter(|p| p.complete < most).count();
            notes.push(format!(
                "in {} of {} there are fewer than {most} complete traces (the fewest {fewest}): the budget \
                 is then what there is",
                count(few as u64),
                plural(problems.len() as u64, "problem")
            ));
        }
        let cut: usize = problems.iter().map(|p| p.traces - p.complete).sum();
        if cut > 0 {
            notes.push(format!(
                "left out: {} that were stopped or cancelled, or failed, when they were recorded; what they \
                 would have said is not known",
                plural(cut as u64, "trace")
            ));
        }
        let made: usize = problems.iter().map(|p| p.made).sum();
        if made > 0 {
            notes.push(format!(
                "left out: {} made from others (forks, second looks): no draws of the model from its prompt",
                plural(made as u64, "trace")
            ));
        }
        let mut empty = problems.iter().filter(|p| p.complete == 0);
        if let Some(first) = empty.next() {
            notes.push(format!(
                "{} without a complete trace, counted as not answered (the first: {})",
                plural(empty.count() as u64 + 1, "problem"),
                first.id
            ));
        }
        notes.extend(crate::replay::ungraded(&self.gold, pool, problems));
        notes
    }

    /// Decisions over each problem's pool.
    pub(crate) fn decisions(&self) -> usize {
        self.strategies.len() * self.budgets.len() * self.slots.len() * self.resamples.unwrap_or(1)
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = (&Preset, GridCell)> {
        let of = move |preset| {
            let with_slots = move |slots| {
                self.budgets.iter().map(move |budget| GridCell {
                    strategy: Preset::clone(preset).name,
                    budget: *budget,
                    slots,
                })
            };
            self.slots
                .iter()
                .copied()
                .flat_map(with_slots)
                .map(move |cell| (preset, cell))
        };
        self.strategies.iter().flat_map(of)
    }

    /// The orders in which the `n` traces of a problem are taken.
    fn orders(&self, id: &str, n: usize) -> Vec<Vec<usize>> {
        let Some(count) = self.resamples else {
            return vec![(0..n).collect()];
        };
        let name = blake3::hash(id.as_bytes());
        let stream = u64::from_le_bytes(name.as_bytes()[..8].try_into().expect("eight bytes"));
        Resamples {
            n,
            k: n,
            count,
            seed: self.seed,
            stream,
        }
        .subsets()
        .collect()
    }
}

/// Decides one problem in all cells for which `wanted` says so. The pool's line comes first.
///
/// # Errors
/// When its traces cannot be read, or lack what a strategy cannot do without.
pub(super) fn problem(
    recorded: &Replayer,
    plan: &SweepPlan,
    of: &PoolProblem,
    wanted: &dyn Fn(&GridCell) -> bool,
    pool_wanted: bool,
) -> Result<Vec<SweepLine>, Error> {
    plan.strategies.iter().try_for_each(decides_recorded)?;
    let gold = crate::replay::gold(&plan.gold, recorded.pool(), of);
    let complete: Vec<_> = recorded
        .traces(of)?
        .into_iter()
        .filter(|r| r.finish.is_complete())
        .collect();
    let mut right = GradeCache {
        recorded,
        gold: gold.as_deref(),
        known: BTreeMap::new(),
    };
    let mut lines = Vec::new();
    if pool_wanted {
        lines.push(SweepLine::Pool(pool(of, gold.clone(), &complete, &mut right)));
    }
    if complete.is_empty() {
        let cells = plan.cells().filter(|(_, cell)| wanted(cell));
        lines.extend(cells.map(|(_, cell)| unanswered(&of.id, cell, plan, gold.is_some())));
        return Ok(lines);
    }
    let mut orders = ResampledPool::new(recorded, of, &complete, plan);
    // a budget beyond the pool is the pool
    let mut known: BTreeMap<GridCell, PoolDecisions> = BTreeMap::new();
    for (preset, cell) in plan.cells().filter(|(_, cell)| wanted(cell)) {
        let traces = cell.budget.min(complete.len());
        let same = GridCell {
            budget: traces,
            ..cell.clone()
        };
        let mut line = match known.get(&same) {
            Some(line) => line.clone(),
            None => decide(recorded, preset, &cell, traces, &mut orders, &mut right)?,
        };
        line.budget = cell.budget;
        if traces == complete.len() {
            known.insert(same, line.clone());
        }
        lines.push(SweepLine::Decided(Box::new(line)));
    }
    Ok(lines)
}

/// Of a problem without a complete trace: it is counted, and nothing was answered.
fn unanswered(id: &str, cell: GridCell, plan: &SweepPlan, graded: bool) -> SweepLine {
    let orders = plan.resamples.unwrap_or(1);
    SweepLine::Decided(Box::new(PoolDecisions {
        problem_id: id.to_owned(),
        strategy: cell.strategy,
        budget: cell.budget,
        slots: cell.slots,
        traces: 0,
        correct: graded.then(|| vec![0; orders]),
        tokens: vec![0; orders],
        ticks: vec![0; orders],
        launched: vec![0; orders],
        answered: 0,
        token_fates: Default::default(),
        trace_fates: Default::default(),
        pools: BTreeMap::new(),
        short: 0,
    }))
}

fn pool(
    of: &PoolProblem,
    gold: Option<String>,
    complete: &[Arc<TraceRecord>],
    right: &mut GradeCache<'_>,
) -> PoolSummary {
    let voted: Vec<_> = complete
        .iter()
        .filter(|r| r.finish == Finish::Stop)
        .filter_map(|r| r.answer.as_deref())
        .collect();
    PoolSummary {
        problem_id: of.id.clone(),
        traces: complete.len() as u64,
        answered: voted.len() as u64,
        right: gold
            .is_some()
            .then(|| voted.iter().filter(|a| right.is(a)).count() as u64),
        tokens: complete.iter().map(|r| r.tokens as u64).sum(),
        gold,
    }
}

/// Whether answers are right, each asked once.
struct GradeCache<'a> {
    recorded: &'a Replayer,
    gold: Option<&'a str>,
    known: BTreeMap<String, bool>,
}

impl GradeCache<'_> {
    fn is(&mut self, answer: &str) -> bool {
        let Some(gold) = self.gold else { return false };
        if let Some(right) = self.known.get(answer) {
            return *right;
        }
        let right = self.recorded.reader().grade(answer, gold).equal;
        self.known.insert(answer.to_owned(), right);
        right
    }
}

/// The pool in each of its orders, numbered anew.
struct ResampledPool<'a> {
    recorded: &'a Replayer,
    of: &'a PoolProblem,
    complete: &'a [Arc<TraceRecord>],
    orders: Vec<Vec<usize>>,
    lean: Vec<Vec<Arc<TraceRecord>>>,
    /// with their tokens, once a strategy has asked for them
    whole: Option<Vec<Arc<TraceRecord>>>,
}

impl<'a> ResampledPool<'a> {
    fn new(
        recorded: &'a Replayer,
        of: &'a PoolProblem,
        complete: &'a [Arc<TraceRecord>],
        plan: &SweepPlan,
    ) -> Self {
        let orders = plan.orders(&of.id, complete.len());
        let lean = orders.iter().map(|order| numbered(complete, order)).collect();
        Self {
            recorded,
            of,
            complete,
            orders,
            lean,
            whole: None,
        }
    }

    fn with_tokens(&mut self, i: usize) -> Result<Vec<Arc<TraceRecord>>, Error> {
        if self.whole.is_none() {
            let all = self.recorded.traces(self.of)?;
            let all = self.recorded.with_tokens(self.of, &all)?;
            self.whole = Some(all.into_iter().filter(|r| r.finish.is_complete()).collect());
        }
        let whole = self.whole.as_deref().unwrap_or(self.complete);
        Ok(numbered(whole, &self.orders[i]))
    }
}

fn numbered(pool: &[Arc<TraceRecord>], order: &[usize]) -> Vec<Arc<TraceRecord>> {
    let place = |(i, from): (usize, &usize)| {
        let record = &pool[*from];
        if record.trace as usize == i {
            return record.clone();
        }
        let mut record = TraceRecord::clone(record);
        record.trace = i as TraceId;
        Arc::new(record)
    };
    order.iter().enumerate().map(place).collect()
}

fn decide(
    recorded: &Replayer,
    preset: &Preset,
    cell: &GridCell,
    traces: usize,
    orders: &mut ResampledPool<'_>,
    right: &mut GradeCache<'_>,
) -> Result<PoolDecisions, Error> {
    let slots = cell.slots.unwrap_or_else(|| Slots::suiting(preset));
    let bounds = Bounds::new(traces, slots, None);
    let mut line = PoolDecisions {
        problem_id: orders.of.id.clone(),
        strategy: cell.strategy.clone(),
        budget: cell.budget,
        slots: cell.slots,
        traces,
        correct: right.gold.map(|_| Vec::new()),
        tokens: Vec::new(),
        ticks: Vec::new(),
        launched: Vec::new(),
        answered: 0,
        token_fates: Default::default(),
        trace_fates: Default::default(),
        pools: BTreeMap::new(),
        short: 0,
    };
    for i in 0..orders.orders.len() {
        let id = orders.of.id.clone();
        let go = |records: &[Arc<TraceRecord>], strategy| {
            recorded.decide(&id, &records[..traces], strategy, &bounds, &[])
        };
        let strategy = preset.build();
        let replayed = if strategy.reads_every_token() {
            go(&orders.with_tokens(i)?, strategy)?.sighted()?
        } else {
            match go(&orders.lean[i], strategy)? {
                replayed if replayed.blind == 0 => replayed,
                _ => go(&orders.with_tokens(i)?, preset.build())?.sighted()?,
            }
        };
        let Replayed {
            problem,
            records,
            short,
            ..
        } = replayed;
        let decided = problem.decide(&records);
        line.short += short.len() as u64;
        line.answered += u64::from(decided.answer.is_some());
        if let Some(correct) = &mut line.correct {
            correct.push(u8::from(decided.answer.as_deref().is_some_and(|a| right.is(a))));
        }
        line.tokens.push(decided.tokens.total());
        line.ticks.push(decided.ticks);
        line.launched.push(decided.launched);
        line.token_fates += decided.tokens;
        line.trace_fates += decided.traces;
        let pool = decided.decision.pool.name().to_owned();
        *line.pools.entry(pool).or_insert(0) += 1;
    }
    Ok(line)
}
