//! The lines that a policy reads and answers, and asking it.

use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tts_strategies::{Finish, Needs, TraceId, TraceScores};

use super::PolicyError;
use super::process::Process;

/// The version of the protocol.
const PROTOCOL: u32 = 1;

/// What a policy is told: the line that it reads.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum PolicyEvent<'a> {
    Hello {
        protocol: u32,
    },
    Begin {
        traces: usize,
        slots: usize,
        max_tokens: usize,
    },
    Finished {
        trace: TraceId,
        finish: Finish,
        tokens: usize,
        class: Option<u32>,
        scores: &'a TraceScores,
    },
    Decide,
}

/// What it answers to `hello`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct HelloReply {
    pub(super) protocol: u32,
    #[serde(default)]
    pub(super) needs: Vec<NeededScalar>,
    #[serde(default)]
    pub(super) window: Option<usize>,
}

/// A scalar that it cannot do without.
#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum NeededScalar {
    Confidence,
    Logprob,
    SelfCertainty,
    Entropy,
}

/// What it answers to `begin` and to `finished`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct LaunchReply {
    #[serde(default)]
    pub(super) launch: Option<usize>,
    #[serde(default)]
    pub(super) done: bool,
}

/// What it answers to `decide`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct BallotsReply {
    pub(super) ballots: Vec<WeightedBallot>,
}

/// The vote of one trace.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct WeightedBallot {
    pub(super) trace: TraceId,
    pub(super) weight: f64,
}

/// A command that decides, its settings as it told them, and its processes that no problem uses.
pub(super) struct PolicyCommand {
    pub(super) command: String,
    pub(super) words: Vec<String>,
    pub(super) timeout: Duration,
    pub(super) needs: Needs,
    pub(super) window: Option<usize>,
    pub(super) idle: Mutex<Vec<Process>>,
}

impl PolicyCommand {
    pub(super) fn failed(&self, what: impl Into<String>) -> PolicyError {
        PolicyError {
            command: self.command.clone(),
            what: what.into(),
        }
    }

    /// Starts a process and greets it.
    pub(super) fn start(&self) -> Result<(Process, HelloReply), PolicyError> {
        let mut process = Process::start(&self.words, self.timeout).map_err(|what| self.failed(what))?;
        let hello: HelloReply = self.ask(&mut process, &PolicyEvent::Hello { protocol: PROTOCOL })?;
        if hello.protocol != PROTOCOL {
            return Err(self.failed(format!("speaks protocol {} and not {PROTOCOL}", hello.protocol)));
        }
        if hello.window == Some(0) {
            return Err(self.failed("asks for a window of 0 tokens: it must be at least 1"));
        }
        Ok((process, hello))
    }

    pub(super) fn process(&self) -> Result<Process, PolicyError> {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        idle.map_or_else(|| self.start().map(|started| started.0), Ok)
    }

    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        process: &mut Process,
        event: &PolicyEvent<'_>,
    ) -> Result<T, PolicyError> {
        let line = serde_json::to_string(event).map_err(|e| self.failed(e.to_string()))?;
        let answer = process.ask(line).map_err(|what| self.failed(what))?;
        serde_json::from_str(&answer).map_err(|e| {
            let shown: String = answer.chars().take(120).collect();
            let name = serde_json::to_value(event)
                .ok()
                .and_then(|v| v["event"].as_str().map(str::to_owned))
                .unwrap_or_default();
            self.failed(format!(
                "answered `{shown}` to the event {name}, which is not what is expected there: {e}"
            ))
        })
    }
}
