//! A strategy that asks a process.

use std::cell::RefCell;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tts_strategies::{
    Decision, Limits, Needs, Next, PoolKind, Step, Strategy, Tally, TokenScalars, TraceId, TraceOutcome,
    VoteKind, Voter, Watching,
};

use super::PolicyError;
use super::process::Process;
use super::protocol::{BallotsReply, LaunchReply, Policy, PolicyEvent, WeightedBallot};

/// A strategy that asks a process.
pub(super) struct ExecStrategy {
    name: String,
    policy: Arc<Policy>,
    process: RefCell<Option<Process>>,
    failure: RefCell<Option<String>>,
    /// ended traces that have an answer, by index
    voters: Vec<Voter>,
    done: bool,
}

impl ExecStrategy {
    pub(super) fn new(name: &str, policy: Arc<Policy>) -> Self {
        Self {
            name: name.to_owned(),
            policy,
            process: RefCell::default(),
            failure: RefCell::default(),
            voters: Vec::new(),
            done: false,
        }
    }

    /// Asks, unless something failed before; a failure is kept, and its process ended.
    fn ask<T: DeserializeOwned>(&self, event: &PolicyEvent<'_>) -> Option<T> {
        if self.failure.borrow().is_some() {
            return None;
        }
        let mut slot = self.process.borrow_mut();
        let asked = (|| {
            let process = match slot.take() {
                Some(process) => process,
                None => self.policy.process()?,
            };
            self.policy.ask(slot.insert(process), event)
        })();
        asked.map_err(|error| self.fail(&mut slot, error)).ok()
    }

    fn fail(&self, slot: &mut Option<Process>, error: PolicyError) {
        *slot = None;
        self.failure.borrow_mut().get_or_insert_with(|| error.to_string());
    }

    fn complain(&self, what: impl Into<String>) {
        self.fail(&mut self.process.borrow_mut(), self.policy.failed(what));
    }

    /// The ballots that it names.
    fn ballots(&self) -> Option<Tally> {
        let BallotsReply { ballots } = self.ask(&PolicyEvent::Decide)?;
        let mut seen = std::collections::BTreeSet::new();
        let mut counted = Vec::with_capacity(ballots.len());
        for WeightedBallot { trace, weight } in ballots {
            let Ok(at) = self.voters.binary_search_by_key(&trace, |v| v.trace) else {
                self.complain(format!(
                    "lets trace {trace} vote, which has not ended with an answer"
                ));
                return None;
            };
            if !(weight >= 0.0 && weight.is_finite() && seen.insert(trace)) {
                self.complain(format!(
                    "gives trace {trace} the weight {weight}: each trace votes once, with a weight of at \
                     least 0"
                ));
                return None;
            }
            counted.push((trace, self.voters[at].class, weight));
        }
        Tally::count(counted)
    }
}

impl Strategy for ExecStrategy {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs(&self) -> Needs {
        self.policy.needs
    }

    fn begin(&mut self, limits: &Limits) -> usize {
        self.voters.clear();
        self.done = false;
        let event = PolicyEvent::Begin {
            traces: limits.traces,
            slots: limits.slots,
            max_tokens: limits.max_tokens,
        };
        match self.ask(&event) {
            Some(LaunchReply {
                launch: Some(n),
                done: false,
            }) if n > 0 => n.min(limits.traces),
            Some(_) => {
                self.complain("must answer the event begin with {\"launch\": N}, at least 1");
                limits.traces.min(1)
            }
            None => limits.traces.min(1),
        }
    }

    fn watching(&self, _: TraceId) -> Watching {
        if self.failure.borrow().is_some() {
            Watching::EveryToken
        } else {
            Watching::Nothing
        }
    }

    fn observe(&mut self, _: TraceId, _: &TokenScalars) -> Step {
        // After a failure no token more than need be.
        if self.failure.borrow().is_some() {
            Step::Stop
        } else {
            Step::Continue
        }
    }

    fn finished(&mut self, o: &TraceOutcome<'_>) -> Next {
        if self.done || self.failure.borrow().is_some() {
            return Next::Done;
        }
        let scores = o.scores(self.policy.window);
        let counts = o.finish.is_complete();
        let class = o.class.filter(|_| counts);
        if let Some(class) = class {
            let at = self.voters.partition_point(|v| v.trace < o.trace);
            self.voters.insert(
                at,
                Voter {
                    trace: o.trace,
                    class,
                    scores,
                },
            );
        }
        let event = PolicyEvent::Finished {
            trace: o.trace,
            finish: o.finish,
            tokens: o.tokens,
            class: class.map(|c| c.0),
            scores: &scores,
        };
        match self.ask(&event) {
            Some(LaunchReply {
                launch: None,
                done: false,
            }) => Next::Wait,
            Some(LaunchReply {
                launch: Some(n),
                done: false,
            }) => Next::Launch(n),
            Some(LaunchReply {
                launch: None,
                done: true,
            }) => {
                self.done = true;
                Next::Done
            }
            Some(_) => {
                self.complain("asks for more traces and is done in one answer");
                Next::Done
            }
            None => Next::Done,
        }
    }

    fn decide(&self) -> Decision {
        let tally = if self.voters.is_empty() {
            None
        } else {
            self.ballots()
        };
        let held = |kind| (kind, Tally::hold(kind, &self.voters).map(|t| t.winner()));
        let winner = tally.as_ref().map(Tally::winner);
        Decision {
            answer: winner.map(|w| w.class),
            winner_trace: tally.as_ref().map(|t| t.winner_trace),
            votes: VoteKind::REPORTED.iter().copied().map(held).collect(),
            margin: tally.as_ref().map_or(0.0, Tally::margin),
            pool: if tally.is_some() {
                PoolKind::Filtered
            } else {
                PoolKind::None
            },
            ballots: tally.map_or_else(Vec::new, |t| t.ballots),
            threshold: None,
            window: self.policy.window,
            consensus: None,
            warnings: Vec::new(),
        }
    }

    fn leading(&self) -> Option<(tts_strategies::ClassId, f64)> {
        let winner = Tally::hold(VoteKind::Majority, &self.voters)?.winner();
        Some((winner.class, winner.share))
    }

    fn window(&self) -> Option<usize> {
        self.policy.window
    }

    fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }
}

impl Drop for ExecStrategy {
    fn drop(&mut self) {
        // The next problem may have the process.
        if let (Some(process), Ok(mut idle)) = (self.process.take(), self.policy.idle.lock()) {
            idle.push(process);
        }
    }
}
