//! The result of a problem: the object that `tts solve --json` prints.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use tts_strategies::{PoolKind, VoteKind};

use super::{Prepared, Runner};
use crate::engine::memory::Plan;
use crate::run::{Books, Cut, Decided, Outcome, Outside, TraceRecord};
use tts_model::sampler::Sampling;

/// The winner of one vote.
#[derive(Clone, Debug, Serialize)]
pub struct VoteResult {
    /// The winning answer.
    pub answer: String,
    /// Its share of the weight.
    pub share: f64,
}

/// One answer in the deciding vote.
#[derive(Clone, Debug, Serialize)]
pub struct BallotResult {
    /// The answer.
    pub answer: String,
    /// Weight of its traces.
    pub weight: f64,
    /// Number of its traces.
    pub traces: usize,
}

/// Traces by fate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TraceCounts {
    /// Took a slot.
    pub launched: u64,
    /// By fate.
    #[serde(flatten)]
    pub fates: Books,
}

/// Tokens by fate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TokenCounts {
    /// Of the prompt, read once.
    pub prompt: u64,
    /// Generated in all.
    pub generated: u64,
    /// By fate; they sum to `generated`.
    #[serde(flatten)]
    pub fates: Books,
    /// Of these, tokens of a remote engine that no decision saw: they came after their trace was stopped, or
    /// were reported and not sent.
    #[serde(skip_serializing_if = "is_zero")]
    pub unseen: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What depends on the machine or the batch, and not on the settings.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Machine {
    /// The model ran here.
    Here(LocalMachine),
    /// It ran on remote engines.
    Remote(RemoteMachine),
}

/// Remote engines.
#[derive(Clone, Debug, Serialize)]
pub struct RemoteMachine {
    /// Addresses, engines and their versions, requests in flight at each.
    #[serde(flatten)]
    pub remote: Value,
    /// What came of each address since the run began.
    pub tallies: BTreeMap<String, crate::source::remote::Tally>,
    /// Most streams of this problem at once.
    pub peak_rows: usize,
    /// Sentences about engines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// This machine.
#[derive(Clone, Debug, Serialize)]
pub struct LocalMachine {
    /// Threads.
    pub threads: usize,
    /// Instruction tier.
    pub tier: &'static str,
    /// Rows of a batch.
    pub max_batch: usize,
    /// Most rows of this problem at once.
    pub peak_rows: usize,
    /// Slots that were asked for, where memory or the batch gave fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots_wanted: Option<usize>,
    /// Sentences about memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// A problem's result.
#[derive(Clone, Debug, Serialize)]
pub struct Solved {
    /// Problem.
    pub problem_id: String,
    /// The answer, if one won.
    pub answer: Option<String>,
    /// Whether it equals the gold answer; `None` without either.
    pub correct: Option<bool>,
    /// Gold answer, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gold: Option<String>,
    /// Strategy.
    pub strategy: String,
    /// Model; nothing where a recording does not name it.
    pub model: Option<String>,
    /// Seed; nothing where a recording does not name it.
    pub seed: Option<u64>,
    /// Every vote side by side, over the pool that decided.
    pub votes: BTreeMap<&'static str, Option<VoteResult>>,
    /// The deciding vote, heaviest answer first.
    pub ballots: Vec<BallotResult>,
    /// The traces that voted.
    pub pool: PoolKind,
    /// The bar, where there was one.
    pub threshold: Option<f64>,
    /// Tokens in a group.
    pub window: Option<usize>,
    /// Share of the winner, where consensus may stop a problem.
    pub consensus: Option<f64>,
    /// Share of the winner minus share of the second.
    pub margin: f64,
    /// Traces by fate.
    pub traces: TraceCounts,
    /// Tokens by fate.
    pub tokens: TokenCounts,
    /// Text after the thinking of the winning class's heaviest trace.
    pub solution: Option<String>,
    /// That trace.
    pub solution_trace: Option<u32>,
    /// blake3 over every trace's index, length and blake3 of its token ids, in order.
    pub digest: Option<String>,
    /// Traces that may be launched, and in flight at once.
    pub slots: usize,
    /// Ticks of the problem's clock: its critical path in tokens.
    pub ticks: u64,
    /// How tokens were drawn; nothing where a recording does not say.
    pub sampling: Option<Sampling>,
    /// How answers were found, by number of traces.
    pub extractions: BTreeMap<String, u64>,
    /// What ended the run early, if anything did.
    pub cut: Option<Cut>,
    /// Outside events and their ticks.
    pub outside: Vec<Outside>,
    /// Sentences of the strategy.
    pub warnings: Vec<String>,
    /// Wall time.
    pub seconds: f64,
    /// Machine; nothing for a replay, which has none.
    pub machine: Option<Machine>,
    /// Every trace, in order of ending; without arrays where these went to a sink.
    #[serde(skip)]
    pub records: Vec<TraceRecord>,
    /// The decision as it was made: what a run folder keeps.
    #[serde(skip)]
    pub decided: Decided,
}

/// What stands in a result beside the decision.
pub(crate) struct About {
    pub(crate) gold: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) seed: Option<u64>,
    pub(crate) sampling: Option<Sampling>,
    pub(crate) machine: Option<Machine>,
}

impl Solved {
    pub(super) fn new(runner: &Runner, problem: &Prepared, mut outcome: Outcome, plan: Plan) -> Self {
        let about = About {
            gold: problem.gold.clone(),
            model: Some(runner.loaded().name.clone()),
            seed: Some(runner.settings().seed),
            sampling: Some(runner.resolved().sampling.clone()),
            machine: Some(Machine::Here(LocalMachine {
                threads: runner.resolved().threads,
                tier: runner.resolved().tier.name(),
                max_batch: plan.max_batch,
                peak_rows: outcome.peak_rows,
                slots_wanted: (outcome.slots_wanted != outcome.bounds.slots).then_some(outcome.slots_wanted),
                notices: std::mem::take(&mut outcome.notices),
            })),
        };
        Self::of(outcome, about, |answer, gold| runner.grade(answer, gold))
    }

    /// The result of an outcome; its notices come after the strategy's warnings.
    pub(crate) fn of(outcome: Outcome, about: About, grade: impl Fn(&str, &str) -> bool) -> Self {
        let Outcome {
            problem_id,
            decided,
            records,
            prompt_tokens,
            notices,
            ..
        } = outcome;
        let (cut, kept) = (decided.cut(), decided.clone());
        let text = |class: tts_strategies::ClassId| decided.classes[class.0 as usize].clone();
        let d = &decided.decision;
        let correct = match (&decided.answer, &about.gold) {
            (Some(answer), Some(gold)) => Some(grade(answer, gold)),
            (None, Some(_)) => Some(false),
            _ => None,
        };
        Self {
            problem_id,
            correct,
            gold: about.gold,
            strategy: decided.strategy.clone(),
            model: about.model,
            seed: about.seed,
            votes: d
                .votes
                .iter()
                .map(|(kind, vote)| {
                    (
                        VoteKind::name(*kind),
                        vote.map(|v| VoteResult {
                            answer: text(v.class),
                            share: v.share,
                        }),
                    )
                })
                .collect(),
            ballots: d
                .ballots
                .iter()
                .map(|b| BallotResult {
                    answer: text(b.class),
                    weight: b.weight,
                    traces: b.traces,
                })
                .collect(),
            pool: d.pool,
            threshold: d.threshold,
            window: d.window,
            consensus: d.consensus,
            margin: d.margin,
            traces: TraceCounts {
                launched: decided.launched,
                fates: decided.traces,
            },
            tokens: TokenCounts {
                prompt: prompt_tokens as u64,
                generated: decided.tokens.total(),
                fates: decided.tokens,
                unseen: decided.unseen,
            },
            solution: decided.solution.clone(),
            solution_trace: d.winner_trace,
            digest: decided.digest.clone(),
            slots: decided.slots,
            ticks: decided.ticks,
            sampling: about.sampling,
            extractions: decided.extractions.clone(),
            cut,
            outside: decided.outside.clone(),
            warnings: d.warnings.iter().cloned().chain(notices).collect(),
            seconds: decided.seconds,
            machine: about.machine,
            answer: decided.answer,
            records,
            decided: kept,
        }
    }

    /// The object of the command line's JSON.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("a result has no map with keys that are not strings")
    }

    /// Tokens that majority over all traces would have taken, estimated from the mean length of traces that
    /// ended by themselves.
    pub fn estimated_full_tokens(&self, traces: usize) -> Option<f64> {
        let complete: Vec<f64> = self
            .records
            .iter()
            .filter(|r| r.finish == tts_strategies::Finish::Stop)
            .map(|r| r.tokens as f64)
            .collect();
        (!complete.is_empty()).then(|| complete.iter().sum::<f64>() / complete.len() as f64 * traces as f64)
    }
}
