//! The result of a problem: the object that `tts solve --json` prints.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;
use tts_strategies::{PoolKind, VoteKind};

use crate::run::{
    BallotResult, Decided, EarlyEnd, ExternalEvent, MachineInfo, Outcome, SolvedRecord, TokenCounts,
    TraceCounts, TraceRecord, VoteResult,
};
use tts_model::sampling::Sampling;

/// A problem's result. As JSON it is its [`SolvedRecord`].
#[derive(Clone, Debug)]
pub struct Solved {
    /// Name of the problem.
    pub problem_id: String,
    /// The answer, if one won.
    pub answer: Option<String>,
    /// Whether it equals the gold answer; `None` without either.
    pub correct: Option<bool>,
    /// Gold answer, if known.
    pub gold: Option<String>,
    /// Name of the strategy that decided.
    pub strategy: String,
    /// Model; nothing where a recording does not name it.
    pub model: Option<String>,
    /// Seed; nothing where a recording does not name it.
    pub seed: Option<u64>,
    /// The day that the chat template wrote as today's, as YYYY-MM-DD.
    pub date: Option<String>,
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
    /// How many traces were launched, and what became of them.
    pub traces: TraceCounts,
    /// How many tokens were read and generated, and what became of their traces.
    pub tokens: TokenCounts,
    /// Text after the thinking of the winning class's heaviest trace.
    pub solution: Option<String>,
    /// Index of the trace that `solution` is from; `None` without an answer.
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
    pub cut: Option<EarlyEnd>,
    /// External events and their ticks.
    pub external_events: Vec<ExternalEvent>,
    /// Sentences of the strategy.
    pub warnings: Vec<String>,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Machine; nothing for a replay, which has none.
    pub machine: Option<MachineInfo>,
    /// Every trace, in order of ending; without arrays where these went to a sink.
    pub records: Vec<TraceRecord>,
    /// The decision as it was made: what a run folder keeps.
    pub decided: Decided,
}

/// What stands in a result beside the decision.
pub(crate) struct About {
    pub(crate) gold: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) seed: Option<u64>,
    pub(crate) date: Option<String>,
    pub(crate) sampling: Option<Sampling>,
    pub(crate) machine: Option<MachineInfo>,
}

impl Solved {
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
        let (cut, kept) = (decided.early_end(), decided.clone());
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
            date: about.date,
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
            external_events: decided.external_events.clone(),
            warnings: d.warnings.iter().cloned().chain(notices).collect(),
            seconds: decided.seconds,
            machine: about.machine,
            answer: decided.answer,
            records,
            decided: kept,
        }
    }

    /// The result as files and the command line's JSON hold it, without its traces.
    pub fn record(&self) -> SolvedRecord {
        SolvedRecord {
            problem_id: self.problem_id.clone(),
            answer: self.answer.clone(),
            correct: self.correct,
            gold: self.gold.clone(),
            strategy: Some(self.strategy.clone()),
            model: self.model.clone(),
            seed: self.seed,
            date: self.date.clone(),
            votes: self
                .votes
                .iter()
                .map(|(k, v)| ((*k).to_owned(), v.clone()))
                .collect(),
            ballots: self.ballots.clone(),
            pool: Some(self.pool),
            threshold: self.threshold,
            window: self.window,
            consensus: self.consensus,
            margin: Some(self.margin),
            traces: Some(self.traces),
            tokens: Some(self.tokens),
            solution: self.solution.clone(),
            solution_trace: self.solution_trace,
            digest: self.digest.clone(),
            slots: Some(self.slots),
            ticks: Some(self.ticks),
            sampling: self.sampling.clone(),
            extractions: self.extractions.clone(),
            cut: self.cut,
            outside: self.external_events.clone(),
            warnings: self.warnings.clone(),
            seconds: Some(self.seconds),
            machine: self.machine.clone(),
            ..SolvedRecord::default()
        }
    }

    /// The object of the command line's JSON.
    pub fn to_json(&self) -> Value {
        self.record().to_json()
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

impl Serialize for Solved {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.record().serialize(serializer)
    }
}
