//! A policy that is a process.

use std::cell::RefCell;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tts_strategies::{Limits, Needs, Next, TraceId};

use super::PolicyError;
use super::asked::{EndedTrace, Policy};
use super::process::Process;
use super::protocol::{BallotsReply, LaunchReply, PolicyCommand, PolicyEvent, WeightedBallot};

/// A policy that asks a process of a command, which the next problem may have.
pub(super) struct CommandPolicy {
    command: Arc<PolicyCommand>,
    process: RefCell<Option<Process>>,
}

impl CommandPolicy {
    pub(super) fn new(command: Arc<PolicyCommand>) -> Self {
        Self {
            command,
            process: RefCell::default(),
        }
    }

    /// Asks; a process that fails is ended.
    fn ask<T: DeserializeOwned>(&self, event: &PolicyEvent<'_>) -> Result<T, PolicyError> {
        let mut slot = self.process.borrow_mut();
        let process = match slot.take() {
            Some(process) => process,
            None => self.command.process()?,
        };
        let asked = self.command.ask(slot.insert(process), event);
        if asked.is_err() {
            *slot = None;
        }
        asked
    }
}

impl Policy for CommandPolicy {
    fn needs(&self) -> Needs {
        self.command.needs
    }

    fn window(&self) -> Option<usize> {
        self.command.window
    }

    fn begin(&self, limits: &Limits) -> Result<usize, PolicyError> {
        let event = PolicyEvent::Begin {
            traces: limits.traces,
            slots: limits.slots,
            max_tokens: limits.max_tokens,
        };
        match self.ask(&event)? {
            LaunchReply {
                launch: Some(n),
                done: false,
            } if n > 0 => Ok(n),
            _ => Err(self.refuse("must answer the event begin with {\"launch\": N}, at least 1".to_owned())),
        }
    }

    fn finished(&self, ended: &EndedTrace<'_>) -> Result<Next, PolicyError> {
        let event = PolicyEvent::Finished {
            trace: ended.trace,
            finish: ended.finish,
            tokens: ended.tokens,
            class: ended.class.map(|c| c.0),
            scores: ended.scores,
        };
        match self.ask(&event)? {
            LaunchReply {
                launch: None,
                done: false,
            } => Ok(Next::Wait),
            LaunchReply {
                launch: Some(n),
                done: false,
            } => Ok(Next::Launch(n)),
            LaunchReply {
                launch: None,
                done: true,
            } => Ok(Next::Done),
            LaunchReply { .. } => {
                Err(self.refuse("asks for more traces and is done in one answer".to_owned()))
            }
        }
    }

    fn decide(&self) -> Result<Option<Vec<(TraceId, f64)>>, PolicyError> {
        let BallotsReply { ballots } = self.ask(&PolicyEvent::Decide)?;
        let pair = |ballot: WeightedBallot| (ballot.trace, ballot.weight);
        Ok(Some(ballots.into_iter().map(pair).collect()))
    }

    fn refuse(&self, what: String) -> PolicyError {
        *self.process.borrow_mut() = None;
        self.command.failed(what)
    }
}

impl Drop for CommandPolicy {
    fn drop(&mut self) {
        if let (Some(process), Ok(mut idle)) = (self.process.take(), self.command.idle.lock()) {
            idle.push(process);
        }
    }
}
