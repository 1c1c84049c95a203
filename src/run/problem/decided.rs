//! What a problem's run came to.

use std::collections::BTreeMap;

use tts_strategies::{Decision, TraceId};

use super::{EarlyEnd, ExternalEvent, ProblemRun};
use crate::run::record::digest;
use crate::run::{FateCounts, TraceRecord};

/// What a problem came to.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The strategy's decision: the winning class, the votes, and what they ran over.
    pub decision: Decision,
    /// The winning answer as the heaviest trace of its class wrote it.
    pub answer: Option<String>,
    /// Text of every class in the decision, by class number.
    pub classes: Vec<String>,
    /// Name of the strategy.
    pub strategy: String,
    /// Number of ended traces by fate.
    pub traces: FateCounts,
    /// Traces that took a slot.
    pub launched: u64,
    /// Generated tokens by fate.
    pub tokens: FateCounts,
    /// Of these, the tokens of [`TraceRecord::unseen`].
    pub unseen: u64,
    /// Text after the end of thinking of the winning trace.
    pub solution: Option<String>,
    /// blake3 over every trace's index, length and blake3 of its token ids, in trace order; `None` where the
    /// record holds none.
    pub digest: Option<String>,
    /// Ticks that the problem took: the length of its critical path in tokens.
    pub ticks: u64,
    /// Traces in flight at once when the run began; `external_events` say how that changed.
    pub slots: usize,
    /// What came from outside of the traces, by ascending tick.
    pub external_events: Vec<ExternalEvent>,
    /// How the answers of the traces that ended by themselves or were cut off were found.
    pub extractions: BTreeMap<String, u64>,
    /// Wall time of the run in seconds.
    pub seconds: f64,
    /// The traces whose solutions a further prompt is to show, where the strategy asked for one: the decision then is
    /// the one so far.
    pub wanted_prompt: Option<Vec<TraceId>>,
}

impl Decided {
    /// The cut that ended the run, if one did.
    pub fn early_end(&self) -> Option<EarlyEnd> {
        self.external_events.iter().rev().find_map(|o| {
            if let ExternalEvent::Ended { reason, .. } = o {
                Some(*reason)
            } else {
                None
            }
        })
    }
}

impl ProblemRun {
    /// The vote as it would be decided now, heaviest answer first: answer, weight, traces.
    pub fn ballots(&self) -> Vec<(String, f64, usize)> {
        let of = |b: &tts_strategies::Ballot| (self.classes.text(b.class).to_owned(), b.weight, b.traces);
        self.strategy.decide().ballots.iter().map(of).collect()
    }

    /// The decision as things stand; `records` are all of the problem's ended traces.
    pub fn decide(&self, records: &[TraceRecord]) -> Decided {
        let decision = self.strategy.decide();
        let winner = decision
            .winner_trace
            .and_then(|t| records.iter().find(|r| r.trace == t));
        let mut by_trace: Vec<_> = records.iter().collect();
        by_trace.sort_by_key(|r| r.trace);
        let mut extractions = BTreeMap::new();
        for record in by_trace.iter().filter(|r| r.finish.is_complete()) {
            *extractions
                .entry(
                    record
                        .extraction
                        .clone()
                        .unwrap_or_else(|| if record.answer.is_some() { "given" } else { "none" }.to_owned()),
                )
                .or_insert(0) += 1;
        }
        Decided {
            answer: winner
                .and_then(|w| w.answer.clone())
                .or_else(|| decision.answer.map(|c| self.classes.text(c).to_owned())),
            solution: winner.and_then(TraceRecord::solution),
            classes: self.classes.texts(),
            strategy: self.strategy.name().to_owned(),
            traces: self.traces,
            launched: u64::from(self.next_trace),
            tokens: self.tokens,
            unseen: self.unseen,
            digest: digest(&by_trace),
            ticks: self.ticks,
            slots: self.slots_at_first,
            external_events: self.external_events.clone(),
            extractions,
            seconds: self.started.elapsed().as_secs_f64(),
            wanted_prompt: self.prompts.wanted.clone(),
            decision,
        }
    }
}
