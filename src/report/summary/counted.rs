//! What a run folder says about fewer traces without another run: votes counted by the report itself.

use std::collections::BTreeMap;

use tts_evals::answer::ReadAnswer;
use tts_evals::stats::Resamples;
use tts_strategies::{ClassId, Finish, Tally};

use super::SEED;
use crate::report::evidence::Evidence;
use crate::run::{Classes, FateCounts};
use crate::sweep::{PoolDecisions, PoolSummary};

/// Name of the series.
pub(crate) const COUNTED: &str = "majority, counted";
/// Draws from a pool.
const DRAWS: usize = 64;

/// Powers of two up to the largest pool, and that itself.
pub(super) fn budgets(pools: &[PoolSummary]) -> Vec<usize> {
    let most = pools.iter().map(|p| p.traces as usize).max().unwrap_or(0);
    let mut budgets: Vec<usize> = (0..usize::BITS)
        .map(|i| 1usize << i)
        .take_while(|b| *b < most)
        .collect();
    if most > 0 {
        budgets.push(most);
    }
    budgets
}

/// Plain majority over k of the recorded traces, for every budget: what a run folder says about fewer traces
/// without another run.
pub(crate) fn counted(evidence: &Evidence) -> Vec<PoolDecisions> {
    let budgets = budgets(&evidence.pools);
    let reader = evidence.reader();
    let mut all = Vec::new();
    for (stream, (pool, traces)) in evidence
        .pools
        .iter()
        .zip(evidence.traces.iter().flatten())
        .enumerate()
    {
        let complete = &traces.complete;
        if complete.is_empty() {
            continue;
        }
        let mut keys = Classes::default();
        let mut right = Vec::new();
        let classes: Vec<Option<ClassId>> = complete
            .iter()
            .map(|t| {
                let (answer, key) = t.answer.as_ref()?;
                let ClassId(class) = keys.class(key, answer);
                if class as usize == right.len() {
                    right.push(
                        pool.gold
                            .as_ref()
                            .is_some_and(|gold| reader.grade(answer, gold).equal),
                    );
                }
                Some(ClassId(class))
            })
            .collect();
        let draws = Resamples {
            n: complete.len(),
            k: complete.len(),
            count: DRAWS,
            seed: SEED,
            stream: stream as u64,
        };
        let orders: Vec<Vec<usize>> = draws.subsets().collect();
        for &budget in &budgets {
            let k = budget.min(complete.len());
            let mut decided = PoolDecisions {
                problem_id: pool.problem_id.clone(),
                strategy: COUNTED.to_owned(),
                budget,
                slots: None,
                traces: k,
                correct: pool.gold.as_ref().map(|_| Vec::new()),
                tokens: Vec::new(),
                ticks: Vec::new(),
                launched: Vec::new(),
                answered: 0,
                token_fates: FateCounts::default(),
                trace_fates: FateCounts::default(),
                pools: BTreeMap::new(),
                short: 0,
            };
            for order in &orders {
                let drawn = &order[..k];
                let ballots = drawn
                    .iter()
                    .enumerate()
                    .filter_map(|(i, t)| Some((i as u32, classes[*t]?, 1.0)));
                let winner = Tally::count(ballots).map(|tally| tally.winner().class);
                decided.answered += u64::from(winner.is_some());
                if let Some(correct) = &mut decided.correct {
                    correct.push(u8::from(winner.is_some_and(|class| right[class.0 as usize])));
                }
                let lengths = || drawn.iter().map(|t| complete[*t].tokens);
                decided.tokens.push(lengths().sum());
                decided.ticks.push(lengths().max().unwrap_or(0));
                decided.launched.push(k as u64);
                for trace in drawn.iter().map(|t| &complete[*t]) {
                    let whole = trace.finish == Finish::Stop;
                    let (t, n) = (&mut decided.token_fates, &mut decided.trace_fates);
                    let (t, n) = if whole {
                        (&mut t.finished, &mut n.finished)
                    } else {
                        (&mut t.truncated, &mut n.truncated)
                    };
                    *t += trace.tokens;
                    *n += 1;
                }
            }
            all.push(decided);
        }
    }
    all
}
