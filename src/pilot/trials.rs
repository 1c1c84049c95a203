//! Strategies tried over random draws of the recorded traces.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tts_evals::stats::{clopper_pearson, compare, spread};
use tts_strategies::{Overrides, Preset, TraceId, Window};

use super::{LEVEL, PilotError, PilotOptions, ProblemRecords, Trial};
use crate::run::{Bounds, Replayer, RunError, Slots, TraceRecord};

/// A strategy to try.
struct Candidate {
    preset: Preset,
    slots: Slots,
    window: Option<usize>,
}

fn candidates(budget: usize, confident: bool, window: Option<usize>) -> Vec<Candidate> {
    let mut slots: Vec<Slots> = [Slots::fixed(8), Slots::fixed(16), Slots::all()]
        .map(|slots| slots.within(budget))
        .into();
    slots.dedup();
    if budget > 4 {
        slots.push(Slots::growing(4, 2));
    }
    let named = |name: &str| Preset::named(name).expect("a shipped preset");
    let mut all = vec![Candidate {
        preset: named("majority"),
        slots: Slots::all().within(budget),
        window: None,
    }];
    // votes over all traces that know more than their number: what they gain, they gain at full cost
    let votes = ["rpc", "best-of-n"].into_iter().filter(|_| confident);
    all.extend(votes.map(|name| Candidate {
        preset: named(name),
        slots: Slots::all().within(budget),
        window: None,
    }));
    for slots in slots {
        // all that end a problem early and cost no accuracy by design; others are for `tts sweep`
        all.extend(
            ["adaptive", "adaptive-consistency", "best-of-infinity", "esc"].map(|name| Candidate {
                preset: named(name),
                slots,
                window: None,
            }),
        );
        for name in ["deepconf-high", "deepconf-low"]
            .into_iter()
            .filter(|_| confident)
        {
            let preset = named(name);
            let fixed = window.and_then(|w| {
                let mut preset = preset.clone();
                let overrides = Overrides::default().with("window", Window::Fixed(w));
                preset.apply(&overrides).ok()?;
                Some(Candidate {
                    preset,
                    slots,
                    window: Some(w),
                })
            });
            all.extend(fixed);
            all.push(Candidate {
                preset,
                slots,
                window: None,
            });
        }
    }
    all
}

/// What came of one strategy: by problem and draw.
struct Outcome {
    correct: Vec<Vec<bool>>,
    tokens: Vec<Vec<f64>>,
    ticks: f64,
}

pub(super) fn trials(
    recorded: &Replayer,
    problem_records: &[ProblemRecords],
    options: &PilotOptions,
    confident: bool,
    window: Option<usize>,
    notes: &mut Vec<String>,
) -> Result<Vec<Trial>, PilotError> {
    let orders: Vec<Vec<Vec<Arc<TraceRecord>>>> = problem_records
        .iter()
        .enumerate()
        .map(|(i, d)| draws(&d.records, i as u64, options))
        .collect();
    let (mut trials, mut plain): (Vec<Trial>, Option<Outcome>) = (Vec::new(), None);
    for candidate in candidates(options.budget, confident, window) {
        let outcome = match play(recorded, problem_records, &orders, &candidate, options)? {
            Some(outcome) => outcome,
            None => {
                notes.push(format!(
                    "{} was not tried: the recording does not hold what it reads",
                    candidate.preset.name
                ));
                continue;
            }
        };
        let baseline = plain.as_ref().unwrap_or(&outcome);
        let tokens = spread(&outcome.tokens, LEVEL, options.seed).ok();
        let mean = tokens.as_ref().map_or(0.0, |t| t.mean);
        let base = spread(&baseline.tokens, LEVEL, options.seed).map_or(mean, |t| t.mean);
        let against = compare(&outcome.correct, &baseline.correct, LEVEL, options.seed).ok();
        let n = outcome.correct.len() as u64;
        let may_lose = against
            .as_ref()
            .and_then(|c| clopper_pearson(lost(c.only_b), n, LEVEL).ok())
            .map(|i| i.high);
        let is_plain = plain.is_none();
        trials.push(Trial {
            strategy: candidate.preset.name.clone(),
            slots: candidate.slots,
            window: candidate.window,
            reads_confidence: candidate.preset.build().needs().confidence,
            accuracy: against.as_ref().map(|_| share(&outcome.correct)),
            difference: against.as_ref().map(|c| c.difference.mean),
            difference_interval: against.as_ref().and_then(|c| c.difference.problems),
            lost: against.as_ref().map(|c| c.only_b),
            // plain majority loses nothing against itself
            may_lose: if is_plain {
                against.as_ref().map(|_| 0.0)
            } else {
                may_lose
            },
            tokens: mean,
            tokens_interval: tokens.and_then(|t| t.problems),
            share: if base > 0.0 { mean / base } else { 1.0 },
            ticks: outcome.ticks,
        });
        if is_plain {
            plain = Some(outcome);
        }
    }
    trials.sort_by(|a, b| a.tokens.total_cmp(&b.tokens).then(a.ticks.total_cmp(&b.ticks)));
    Ok(trials)
}

fn share(correct: &[Vec<bool>]) -> f64 {
    let all: Vec<bool> = correct.iter().flatten().copied().collect();
    all.iter().filter(|c| **c).count() as f64 / all.len().max(1) as f64
}

/// Lost problems as a count: draws may lose a part of one.
pub(super) fn lost(mean: f64) -> u64 {
    (mean - 1e-9).ceil().max(0.0) as u64
}

/// Random pools of a problem, each trace numbered by its place.
fn draws(records: &[Arc<TraceRecord>], stream: u64, options: &PilotOptions) -> Vec<Vec<Arc<TraceRecord>>> {
    let n = records.len();
    (0..options.draws)
        .map(|draw| {
            let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
            rng.set_stream(stream);
            rng.set_word_pos((draw as u128) << 40);
            let mut below = |n: usize| ((u64::from(rng.next_u32()) * n as u64) >> 32) as usize;
            let picked: Vec<usize> = if options.budget <= n {
                let mut order: Vec<usize> = (0..n).collect();
                for at in 0..options.budget {
                    order.swap(at, at + below(n - at));
                }
                order.truncate(options.budget);
                order
            } else {
                (0..options.budget).map(|_| below(n)).collect()
            };
            let number = |(i, at): (usize, usize)| {
                let mut record = TraceRecord::clone(&records[at]);
                record.trace = i as TraceId;
                Arc::new(record)
            };
            picked.into_iter().enumerate().map(number).collect()
        })
        .collect()
}

/// Decides every draw; nothing where the recording lacks what the strategy reads.
fn play(
    recorded: &Replayer,
    problem_records: &[ProblemRecords],
    orders: &[Vec<Vec<Arc<TraceRecord>>>],
    candidate: &Candidate,
    options: &PilotOptions,
) -> Result<Option<Outcome>, PilotError> {
    let bounds = Bounds::new(options.budget, candidate.slots, None);
    let mut outcome = Outcome {
        correct: Vec::new(),
        tokens: Vec::new(),
        ticks: 0.0,
    };
    for (problem, orders) in problem_records.iter().zip(orders) {
        let mut verdicts: BTreeMap<String, bool> = BTreeMap::new();
        let (mut correct, mut tokens) = (Vec::new(), Vec::new());
        for order in orders {
            let replayed = match recorded.decide(&problem.id, order, candidate.preset.build(), &bounds, &[]) {
                Ok(replayed) if replayed.problem.blind() == 0 => replayed,
                Ok(_) | Err(RunError::Needs { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let decided = replayed.problem.decide(&replayed.records);
            if let Some(gold) = &problem.gold {
                let right = |answer: String| {
                    *verdicts
                        .entry(answer)
                        .or_insert_with_key(|answer| recorded.reader().grade(answer, gold).equal)
                };
                correct.push(decided.answer.is_some_and(right));
            }
            tokens.push(decided.tokens.total() as f64);
            outcome.ticks += decided.ticks as f64;
        }
        if problem.gold.is_some() {
            outcome.correct.push(correct);
        }
        outcome.tokens.push(tokens);
    }
    outcome.ticks /= (problem_records.len() * options.draws).max(1) as f64;
    Ok(Some(outcome))
}
