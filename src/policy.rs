//! `--strategy exec:COMMAND`: a strategy in any language, at the granularity of traces.
//!
//! The command is run without a shell (words are split at spaces), once for each problem that is decided at a
//! time. It is written one JSON object a line on its standard input and answers each with one JSON object a
//! line on its standard output, in UTF-8, flushed, within 30 seconds. What it writes to standard error is
//! quoted if it fails. A policy must be deterministic: then live and replayed runs decide alike.
//!
//! | it reads | it answers |
//! |---|---|
//! | `{"event": "hello", "protocol": 1}` | `{"protocol": 1, "needs": ["confidence"], "window": 16}`; `needs` lists those of `confidence`, `logprob` and `self_certainty` that it cannot do without, `window` is the group size of the scores; both may be left out |
//! | `{"event": "begin", "traces": 64, "slots": 16, "max_tokens": 4096}`: a new problem, forget the last | `{"launch": 16}`: how many traces to launch, at least 1 |
//! | `{"event": "finished", "trace": 0, "finish": "stop", "tokens": 512, "class": 3, "scores": {"mean": 11.2, ...}}` | `{}` to wait, `{"launch": 4}` for more traces, `{"done": true}` to cancel the rest |
//! | `{"event": "decide"}` | `{"ballots": [{"trace": 0, "weight": 1.0}, ...]}`: the traces that vote, by index; the heaviest class wins |
//!
//! `class` is a number that equal answers share, null without an answer; `finish` is `stop`, `length`, `loop`
//! or `failed`; `scores` holds `mean`, `tail`, `bottom`,
//! `lowest_group`, `sequence_logprob`, `mean_logprob` and `self_certainty`, each null where it is not known
//! (`tail`, `bottom` and `lowest_group` without a `window`).
//! `examples/policy.py` is one.

mod process;

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tts_strategies::{
    Custom, Decision, Finish, Limits, Needs, Next, PoolKind, Preset, Step, Strategy, Tally, TokenScalars,
    TraceId, TraceOutcome, TraceScores, VoteKind, Voter, Watching,
};

use process::Process;

/// How long a policy may think about one line.
const PATIENCE: Duration = Duration::from_secs(30);
const PROTOCOL: u32 = 1;

/// A policy that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy `{command}` {what}")]
pub struct PolicyError {
    /// The command.
    pub command: String,
    /// What it did.
    pub what: String,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Said<'a> {
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    protocol: u32,
    #[serde(default)]
    needs: Vec<Need>,
    #[serde(default)]
    window: Option<usize>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Need {
    Confidence,
    Logprob,
    SelfCertainty,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    #[serde(default)]
    launch: Option<usize>,
    #[serde(default)]
    done: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ballots {
    ballots: Vec<Weighed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weighed {
    trace: TraceId,
    weight: f64,
}

/// A policy, its settings as it told them, and its processes that no problem uses.
struct Policy {
    command: String,
    words: Vec<String>,
    patience: Duration,
    needs: Needs,
    window: Option<usize>,
    idle: Mutex<Vec<Process>>,
}

impl Policy {
    fn failed(&self, what: impl Into<String>) -> PolicyError {
        PolicyError {
            command: self.command.clone(),
            what: what.into(),
        }
    }

    /// Starts a process and greets it.
    fn start(&self) -> Result<(Process, Hello), PolicyError> {
        let mut process = Process::start(&self.words, self.patience).map_err(|what| self.failed(what))?;
        let hello: Hello = self.ask(&mut process, &Said::Hello { protocol: PROTOCOL })?;
        if hello.protocol != PROTOCOL {
            return Err(self.failed(format!("speaks protocol {} and not {PROTOCOL}", hello.protocol)));
        }
        if hello.window == Some(0) {
            return Err(self.failed("asks for a window of 0 tokens: it must be at least 1"));
        }
        Ok((process, hello))
    }

    fn process(&self) -> Result<Process, PolicyError> {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        idle.map_or_else(|| self.start().map(|started| started.0), Ok)
    }

    fn ask<T: DeserializeOwned>(&self, process: &mut Process, said: &Said<'_>) -> Result<T, PolicyError> {
        let line = serde_json::to_string(said).map_err(|e| self.failed(e.to_string()))?;
        let answer = process.ask(line).map_err(|what| self.failed(what))?;
        serde_json::from_str(&answer).map_err(|e| {
            let shown: String = answer.chars().take(120).collect();
            let event = serde_json::to_value(said)
                .ok()
                .and_then(|v| v["event"].as_str().map(str::to_owned))
                .unwrap_or_default();
            self.failed(format!(
                "answered `{shown}` to the event {event}, which is not what is expected there: {e}"
            ))
        })
    }
}

/// A preset whose strategy is asked of a command.
///
/// # Errors
/// When the command cannot be run or does not greet as it should: before a model is opened.
pub fn preset(command: &str) -> Result<Preset, PolicyError> {
    preset_within(command, PATIENCE)
}

/// [`preset`] with another limit on the time that an answer may take.
///
/// # Errors
/// As [`preset`].
pub fn preset_within(command: &str, patience: Duration) -> Result<Preset, PolicyError> {
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let mut policy = Policy {
        command: command.trim().to_owned(),
        words,
        patience,
        needs: Needs::default(),
        window: None,
        idle: Mutex::default(),
    };
    if policy.words.is_empty() {
        return Err(policy.failed("names no command: write --strategy exec:./policy.py"));
    }
    let (process, hello) = policy.start()?;
    let needs = |need| hello.needs.contains(&need);
    policy.needs = Needs {
        confidence: needs(Need::Confidence),
        logprob: needs(Need::Logprob),
        self_certainty: needs(Need::SelfCertainty),
    };
    policy.window = hello.window;
    policy.idle = Mutex::new(vec![process]);
    let custom = Custom {
        command: policy.command.clone(),
        digest: digest(&policy.words),
        build: {
            let policy = Arc::new(policy);
            Arc::new(move |name| Box::new(Exec::new(name, policy.clone())))
        },
    };
    Ok(Preset::custom(
        format!("exec:{}", custom.command),
        "decided by a command",
        custom,
    ))
}

/// Digest of the files among the words of a command.
fn digest(words: &[String]) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    let mut any = false;
    for word in words.iter().filter(|w| Path::new(w).is_file()) {
        let bytes = std::fs::read(word).ok()?;
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
        any = true;
    }
    any.then(|| hasher.finalize().to_hex().to_string())
}

/// A strategy that asks a process.
struct Exec {
    name: String,
    policy: Arc<Policy>,
    process: RefCell<Option<Process>>,
    failure: RefCell<Option<String>>,
    /// ended traces that have an answer, by index
    voters: Vec<Voter>,
    done: bool,
}

impl Exec {
    fn new(name: &str, policy: Arc<Policy>) -> Self {
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
    fn ask<T: DeserializeOwned>(&self, said: &Said<'_>) -> Option<T> {
        if self.failure.borrow().is_some() {
            return None;
        }
        let mut slot = self.process.borrow_mut();
        let asked = (|| {
            let process = match slot.take() {
                Some(process) => process,
                None => self.policy.process()?,
            };
            self.policy.ask(slot.insert(process), said)
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
        let Ballots { ballots } = self.ask(&Said::Decide)?;
        let mut seen = std::collections::BTreeSet::new();
        let mut counted = Vec::with_capacity(ballots.len());
        for Weighed { trace, weight } in ballots {
            let Ok(at) = self.voters.binary_search_by_key(&trace, |v| v.trace) else {
                self.complain(format!(
                    "lets trace {trace} vote, which has not ended with an answer"
                ));
                return None;
            };
            if !(weight >= 0.0 && weight.is_finite() && seen.insert(trace)) {
                self.complain(format!(
                    "gives trace {trace} the weight {weight}: each trace votes once, with a weight of at least 0"
                ));
                return None;
            }
            counted.push((trace, self.voters[at].class, weight));
        }
        Tally::count(counted)
    }
}

impl Strategy for Exec {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs(&self) -> Needs {
        self.policy.needs
    }

    fn begin(&mut self, limits: &Limits) -> usize {
        self.voters.clear();
        self.done = false;
        let said = Said::Begin {
            traces: limits.traces,
            slots: limits.slots,
            max_tokens: limits.max_tokens,
        };
        match self.ask(&said) {
            Some(Move {
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
        let said = Said::Finished {
            trace: o.trace,
            finish: o.finish,
            tokens: o.tokens,
            class: class.map(|c| c.0),
            scores: &scores,
        };
        match self.ask(&said) {
            Some(Move {
                launch: None,
                done: false,
            }) => Next::Wait,
            Some(Move {
                launch: Some(n),
                done: false,
            }) => Next::Launch(n),
            Some(Move {
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

impl Drop for Exec {
    fn drop(&mut self) {
        // The next problem may have the process.
        if let (Some(process), Ok(mut idle)) = (self.process.take(), self.policy.idle.lock()) {
            idle.push(process);
        }
    }
}
