//! Does it help *this* model on *these* problems? A few problems with complete traces say what confidence knows, which strategy would do, and what the
//! whole set would cost; or that they are too few to say, and how many more would do.
//!
//! Strategies are decided over random draws of the recorded traces, by the code that decides live. Where the budget is larger than what was recorded,
//! traces are drawn with replacement, which makes pools more alike than they are: such numbers are estimates and are named so.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Serialize;
use tts_evals::stats::{Interval, WithinAuroc, clopper_pearson, compare, spread, within_problem_auroc};
use tts_strategies::{Finish, Overrides, Preset, Settings, Statistic, TraceId, Window};

use crate::backend::{Recorded, RunError};
use crate::run::PoolProblem;
use crate::solve::{Bounds, TraceRecord, is_natural};

/// Group sizes that are looked at, in tokens. A recording is opened with these.
pub const WINDOWS: [usize; 9] = [8, 16, 32, 64, 128, 256, 512, 1024, 2048];
/// Confidence level of every interval.
const LEVEL: f64 = 0.95;
/// Bootstrap draws over problems.
const BOOTSTRAP: usize = 2000;
/// Problems beyond which counting how many more would do is of no use.
const MOST: u64 = 100_000;
/// Problems with right and wrong traces without which nothing is said about scores.
const MIXED: usize = 5;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct PilotOptions {
    /// Problems of the whole set.
    pub whole: usize,
    /// Traces a problem that the whole set is to be solved with, at most.
    pub budget: usize,
    /// The share of problems that a strategy may lose of those that plain majority solves.
    pub margin: f64,
    /// Generated tokens a second, where that was measured.
    pub speed: Option<f64>,
    /// Random draws of each problem's traces.
    pub draws: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// Why there is no pilot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PilotError {
    /// The recording cannot be decided over.
    #[error(transparent)]
    Recorded(#[from] RunError),
    /// A number that makes no sense.
    #[error("{0}")]
    Option(&'static str),
    /// Some traces were not run to their end.
    #[error(
        "{incomplete} of {traces} recorded traces were stopped, cancelled or failed, and what they would have said is not known: a pilot needs complete traces, recorded with --strategy majority"
    )]
    Pruned {
        /// Those.
        incomplete: usize,
        /// All.
        traces: usize,
    },
    /// Nothing recorded.
    #[error("no trace is recorded, so there is nothing to say: a pilot needs a few problems with some 16 complete traces each")]
    Empty,
}

/// What a score knows.
#[derive(Clone, Debug, Serialize)]
pub struct ScoreTrial {
    /// The score.
    pub score: &'static str,
    /// Tokens in a group, for scores that have groups.
    pub window: Option<usize>,
    /// AUROC within problems.
    pub auroc: WithinAuroc,
    /// Whether it tells right from wrong beyond chance.
    pub knows: bool,
}

/// What a strategy would do.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Name of the preset.
    pub strategy: String,
    /// Traces in flight at once.
    pub slots: usize,
    /// Tokens in a group, where that was chosen here; else the preset's own.
    pub window: Option<usize>,
    /// Whether it reads confidences.
    pub reads_confidence: bool,
    /// Accuracy, mean over draws; `None` without gold answers.
    pub accuracy: Option<f64>,
    /// Accuracy less that of plain majority.
    pub difference: Option<f64>,
    /// 95% of that over other problems.
    pub difference_interval: Option<Interval>,
    /// Problems that plain majority solves and it does not, mean over draws.
    pub lost: Option<f64>,
    /// The largest share of other problems that it may lose so: the upper end of Clopper and Pearson's interval.
    pub may_lose: Option<f64>,
    /// Tokens a problem.
    pub tokens: f64,
    /// 95% of that over other problems.
    pub tokens_interval: Option<Interval>,
    /// The share of plain majority's tokens.
    pub share: f64,
    /// Steps one after another, mean over problems.
    pub ticks: f64,
}

/// How sure the advice is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "evidence")]
pub enum Verdict {
    /// The advice holds for other problems of the kind.
    Enough,
    /// It is the best guess.
    NotEnough {
        /// Why, and what would do.
        why: String,
        /// Problems that would do, if they are like these; `None` where no number would.
        problems_needed: Option<u64>,
    },
}

/// What a pilot says.
#[derive(Clone, Debug, Serialize)]
pub struct Pilot {
    /// Problems looked at.
    pub problems: usize,
    /// Those with a gold answer.
    pub graded: usize,
    /// Those with right and wrong traces: only they tell what a score knows.
    pub mixed: usize,
    /// Complete traces.
    pub traces: usize,
    /// Share of them that is right.
    pub right: Option<f64>,
    /// Draws of each problem's traces.
    pub draws: usize,
    /// Traces a problem at most.
    pub budget: usize,
    /// Whether traces were drawn with replacement, for want of as many as the budget.
    pub replaced: bool,
    /// The share of problems that a strategy may lose.
    pub margin: f64,
    /// Every score, the most telling first.
    pub scores: Vec<ScoreTrial>,
    /// Every strategy, the cheapest first.
    pub trials: Vec<Trial>,
    /// The one to use.
    pub advice: Trial,
    /// How sure that is.
    pub verdict: Verdict,
    /// Problems of the whole set.
    pub whole: usize,
    /// Tokens that the advice would take for the whole set.
    pub tokens: f64,
    /// 95% of that over problems; `None` for a single problem.
    pub tokens_interval: Option<Interval>,
    /// The same in seconds, at the speed that was measured.
    pub seconds: Option<f64>,
    /// What to know about these numbers.
    pub notes: Vec<String>,
}

/// A problem's traces and which of them are right.
struct Drawn {
    id: String,
    records: Vec<Arc<TraceRecord>>,
    gold: Option<String>,
}

/// Looks at recorded problems. `gold` are right answers beside those of the recording.
///
/// # Errors
/// When the recording cannot be read, nothing is recorded, or traces were stopped or cancelled when it was made.
pub fn pilot(
    recorded: &Recorded,
    problems: &[&PoolProblem],
    gold: &BTreeMap<String, String>,
    options: &PilotOptions,
) -> Result<Pilot, PilotError> {
    if options.budget == 0 || options.draws == 0 {
        return Err(PilotError::Option(
            "--budget and --draws must be at least 1: there is nothing to decide over no traces",
        ));
    }
    if !(options.margin > 0.0 && options.margin < 1.0) {
        return Err(PilotError::Option(
            "--margin is a share of the problems above 0 and below 1, such as 0.05",
        ));
    }
    let drawn = read(recorded, problems, gold)?;
    let right = rights(recorded, &drawn);
    let scores = scores(&drawn, &right);
    let window = best_window(&scores);
    let mut notes = Vec::new();
    let confident = drawn
        .iter()
        .flat_map(|d| &d.records)
        .any(|r| r.measured.as_ref().is_some_and(|m| m.mean.is_some()));
    if !confident {
        notes.push("no confidences are recorded: strategies that read them were not tried".to_owned());
    }
    let trials = trials(recorded, &drawn, options, confident, window, &mut notes)?;
    let most = drawn.iter().map(|d| d.records.len()).min().unwrap_or(0);
    let replaced = options.budget > most;
    if replaced {
        notes.push(format!(
            "{} traces a problem are an estimate: {most} were recorded, and these were drawn with replacement",
            options.budget
        ));
    }
    let graded: Vec<&Vec<bool>> = right.iter().flatten().collect();
    let mixed = graded.iter().filter(|r| r.contains(&true) && r.contains(&false)).count();
    let confidence_knows = scores.iter().any(|s| s.score == LOWEST && s.knows);
    let advice = advise(&trials, options.margin, confidence_knows).clone();
    let verdict = verdict(&advice, &scores, graded.len(), mixed, problems.len(), options.margin);
    if scores.len() > 1 {
        notes.push(
            "the score and the window are the best of several on these very problems, so their numbers flatter them a little".to_owned(),
        );
    }
    let all: Vec<bool> = graded.iter().flat_map(|r| r.iter().copied()).collect();
    let whole = options.whole as f64;
    Ok(Pilot {
        problems: drawn.len(),
        graded: graded.len(),
        mixed,
        traces: drawn.iter().map(|d| d.records.len()).sum(),
        right: (!all.is_empty()).then(|| all.iter().filter(|r| **r).count() as f64 / all.len() as f64),
        draws: options.draws,
        budget: options.budget,
        replaced,
        margin: options.margin,
        tokens: advice.tokens * whole,
        tokens_interval: advice.tokens_interval.map(|i| Interval {
            low: i.low * whole,
            high: i.high * whole,
        }),
        seconds: options.speed.filter(|s| *s > 0.0).map(|s| advice.tokens * whole / s),
        whole: options.whole,
        scores,
        trials,
        advice,
        verdict,
        notes,
    })
}

fn read(recorded: &Recorded, problems: &[&PoolProblem], gold: &BTreeMap<String, String>) -> Result<Vec<Drawn>, PilotError> {
    let (mut drawn, mut incomplete, mut traces) = (Vec::new(), 0, 0);
    for problem in problems {
        let records = recorded.traces(problem)?;
        traces += records.len();
        incomplete += records.iter().filter(|r| !is_natural(r.finish)).count();
        if !records.is_empty() {
            drawn.push(Drawn {
                id: problem.id.clone(),
                records,
                gold: crate::replay::gold(gold, recorded.pool(), problem),
            });
        }
    }
    match (traces, incomplete) {
        (0, _) => Err(PilotError::Empty),
        (_, 0) => Ok(drawn),
        _ => Err(PilotError::Pruned { incomplete, traces }),
    }
}

/// Which traces are right; nothing for a problem without a gold answer. A trace that was cut off is wrong.
fn rights(recorded: &Recorded, drawn: &[Drawn]) -> Vec<Option<Vec<bool>>> {
    let of = |d: &Drawn| {
        let gold = d.gold.as_ref()?;
        let mut known: BTreeMap<&str, bool> = BTreeMap::new();
        let mut rights = Vec::with_capacity(d.records.len());
        for record in &d.records {
            let answer = record.answer.as_deref().filter(|_| record.finish == Finish::Stop);
            rights.push(answer.is_some_and(|answer| *known.entry(answer).or_insert_with(|| recorded.reader().grade(answer, gold).equal)));
        }
        Some(rights)
    };
    drawn.iter().map(of).collect()
}

/// The score that decides where a trace stops.
const LOWEST: &str = "lowest group";

fn scores(drawn: &[Drawn], right: &[Option<Vec<bool>>]) -> Vec<ScoreTrial> {
    let lengths: Vec<usize> = drawn.iter().flat_map(|d| d.records.iter().map(|r| r.tokens)).collect();
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
    let mut asked: Vec<(&'static str, Statistic, Option<usize>)> = plain.map(|(name, s)| (name, s, None)).to_vec();
    for w in WINDOWS.into_iter().filter(|w| fits(*w)) {
        asked.extend(grouped.map(|(name, s)| (name, s, Some(w))));
    }
    let mut trials: Vec<ScoreTrial> = asked
        .into_iter()
        .filter_map(|(score, statistic, window)| {
            let value = |r: &TraceRecord| match &r.measured {
                Some(m) if statistic == Statistic::SelfCertainty => r.scores.self_certainty.or(m.self_certainty),
                Some(m) => m.scores(window).get(statistic),
                None => r.scores.get(statistic).filter(|_| window.is_none()),
            };
            let by_problem: Vec<Vec<(f64, bool)>> = drawn
                .iter()
                .zip(right)
                .filter_map(|(d, right)| {
                    let scored = d.records.iter().zip(right.as_ref()?);
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
fn best_window(scores: &[ScoreTrial]) -> Option<usize> {
    scores.iter().find(|s| s.score == LOWEST)?.window
}

/// A strategy to try.
struct Candidate {
    preset: Preset,
    slots: usize,
    window: Option<usize>,
}

fn candidates(budget: usize, confident: bool, window: Option<usize>) -> Vec<Candidate> {
    let mut slots: Vec<usize> = [8, 16, 64].into_iter().map(|s: usize| s.min(budget)).collect();
    slots.dedup();
    let named = |name: &str| Preset::named(name).expect("a shipped preset");
    let mut all = vec![Candidate {
        preset: named("majority"),
        slots: budget.min(64),
        window: None,
    }];
    for slots in slots {
        all.push(Candidate {
            preset: named("adaptive-consistency"),
            slots,
            window: None,
        });
        for name in ["deepconf-high", "deepconf-low"].into_iter().filter(|_| confident) {
            let preset = named(name);
            let fixed = window.and_then(|w| {
                let mut preset = preset.clone();
                let overrides = Overrides {
                    window: Some(Window::Fixed(w)),
                    ..Overrides::default()
                };
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

fn trials(
    recorded: &Recorded,
    drawn: &[Drawn],
    options: &PilotOptions,
    confident: bool,
    window: Option<usize>,
    notes: &mut Vec<String>,
) -> Result<Vec<Trial>, PilotError> {
    let orders: Vec<Vec<Vec<Arc<TraceRecord>>>> = drawn
        .iter()
        .enumerate()
        .map(|(i, d)| draws(&d.records, i as u64, options))
        .collect();
    let (mut trials, mut plain): (Vec<Trial>, Option<Outcome>) = (Vec::new(), None);
    for candidate in candidates(options.budget, confident, window) {
        let outcome = match play(recorded, drawn, &orders, &candidate, options)? {
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
            reads_confidence: matches!(
                candidate.preset.settings,
                Settings::DeepconfOnline(_) | Settings::DeepconfOffline(_)
            ),
            accuracy: against.as_ref().map(|_| share(&outcome.correct)),
            difference: against.as_ref().map(|c| c.difference.mean),
            difference_interval: against.as_ref().and_then(|c| c.difference.problems),
            lost: against.as_ref().map(|c| c.only_b),
            // plain majority loses nothing against itself
            may_lose: if is_plain { against.as_ref().map(|_| 0.0) } else { may_lose },
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
fn lost(mean: f64) -> u64 {
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
    recorded: &Recorded,
    drawn: &[Drawn],
    orders: &[Vec<Vec<Arc<TraceRecord>>>],
    candidate: &Candidate,
    options: &PilotOptions,
) -> Result<Option<Outcome>, PilotError> {
    let bounds = Bounds {
        traces: options.budget,
        slots: candidate.slots,
        max_total_tokens: None,
    };
    let mut outcome = Outcome {
        correct: Vec::new(),
        tokens: Vec::new(),
        ticks: 0.0,
    };
    for (problem, orders) in drawn.iter().zip(orders) {
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
    outcome.ticks /= (drawn.len() * options.draws).max(1) as f64;
    Ok(Some(outcome))
}

/// The cheapest that loses no more than the margin on these problems, of those whose grounds hold; plain majority otherwise.
fn advise(trials: &[Trial], margin: f64, confidence_knows: bool) -> &Trial {
    let plain = trials
        .iter()
        .find(|t| t.strategy == "majority")
        .expect("plain majority is always tried");
    let holds = |t: &&Trial| {
        let loses = t.difference.is_some_and(|d| -d <= margin);
        loses && (confidence_knows || !t.reads_confidence)
    };
    trials.iter().find(holds).unwrap_or(plain)
}

fn verdict(advice: &Trial, scores: &[ScoreTrial], graded: usize, mixed: usize, problems: usize, margin: f64) -> Verdict {
    let not_enough = |why: String, problems_needed| Verdict::NotEnough { why, problems_needed };
    if graded == 0 {
        return not_enough(
            "no gold answer is known, so nothing can be said about what a strategy loses; name the problem set".to_owned(),
            None,
        );
    }
    let percent = |x: f64| format!("{:.0}%", x * 100.0);
    let n = graded as u64;
    if advice.strategy == "majority" {
        // it is the fallback: say what would have been needed for another advice
        let lowest = scores.iter().find(|s| s.score == LOWEST).or(scores.first());
        return match lowest {
            Some(s) if s.knows => not_enough(
                "every cheaper strategy lost more than the margin on these problems".to_owned(),
                None,
            ),
            Some(s) => {
                let needed = needed_for_auroc(&s.auroc, mixed, problems);
                not_enough(
                    format!("{mixed} of {problems} problems have right and wrong traces, too few to say that confidence tells them apart"),
                    needed,
                )
            }
            None => not_enough(
                format!("{mixed} of {problems} problems have right and wrong traces: what a score knows can be seen on no others"),
                None,
            ),
        };
    }
    let (Some(lost_mean), Some(may_lose)) = (advice.lost, advice.may_lose) else {
        return not_enough("nothing is known about what it loses".to_owned(), None);
    };
    if may_lose <= margin {
        return Verdict::Enough;
    }
    let rate = lost_mean / n as f64;
    let needed = (1..).map(|i| n + i * 5).take_while(|n| *n <= MOST).find(|n| {
        let lost = lost(rate * *n as f64);
        clopper_pearson(lost, *n, LEVEL).is_ok_and(|i| i.high <= margin)
    });
    not_enough(
        format!(
            "it lost {lost_mean:.1} of {graded} problems that plain majority solves, and on others that may be as many as {} of them, more than the {} that are allowed",
            percent(may_lose),
            percent(margin)
        ),
        needed,
    )
}

/// Problems that would narrow the interval of an AUROC until it leaves chance out, if they are like these.
fn needed_for_auroc(auroc: &WithinAuroc, mixed: usize, problems: usize) -> Option<u64> {
    let (sd, above) = (auroc.sd?, auroc.mean - 0.5);
    if above <= 0.0 || mixed == 0 {
        return None;
    }
    let wanted = (1.96 * sd / above).powi(2).max(MIXED as f64) * problems as f64 / mixed as f64;
    let needed = wanted.ceil() as u64;
    (needed <= MOST).then_some(needed.max(problems as u64 + 1))
}
