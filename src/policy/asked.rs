//! A strategy that asks a policy for every decision, and holds it to the rules of a vote.

use std::cell::RefCell;
use std::collections::BTreeSet;

use tts_strategies::{
    ClassId, Decision, Finish, Limits, Needs, Next, PoolKind, Step, Strategy, Tally, TokenScalars, TraceId,
    TraceOutcome, TraceScores, VoteKind, Voter, Watching,
};

use super::PolicyError;

/// What decides outside of the strategies here: another program, or an object of another language. It must be
/// deterministic: then live and replayed runs decide alike.
pub trait Policy: Send {
    /// The scalars it cannot do without.
    fn needs(&self) -> Needs;

    /// Group size of the scores in tokens.
    fn window(&self) -> Option<usize>;

    /// Whether it is shown every token.
    fn reads_tokens(&self) -> bool {
        false
    }

    /// A new problem, which forgets the last: how many traces to launch, at least 1.
    ///
    /// # Errors
    /// When it does not answer, or not as it should.
    fn begin(&self, limits: &Limits) -> Result<usize, PolicyError>;

    /// A token of a trace in flight. Asked where [`Policy::reads_tokens`] says so.
    ///
    /// # Errors
    /// As [`Policy::begin`].
    fn token(&self, _trace: TraceId, _token: &TokenScalars) -> Result<Step, PolicyError> {
        Ok(Step::Continue)
    }

    /// A trace that ended.
    ///
    /// # Errors
    /// As [`Policy::begin`].
    fn finished(&self, ended: &EndedTrace<'_>) -> Result<Next, PolicyError>;

    /// The traces that vote, each with its weight; `None` for one vote each of those that ended with an answer.
    ///
    /// # Errors
    /// As [`Policy::begin`].
    fn decide(&self) -> Result<Option<Vec<(TraceId, f64)>>, PolicyError>;

    /// Ends it for what it did, the rest of a sentence that begins with its name.
    fn refuse(&self, what: String) -> PolicyError;
}

/// A trace that ended, as a policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct EndedTrace<'a> {
    /// Index of the trace.
    pub trace: TraceId,
    /// Why the trace ended.
    pub finish: Finish,
    /// Generated tokens.
    pub tokens: usize,
    /// Class of its answer; `None` without one, and for a trace that was cut short.
    pub class: Option<ClassId>,
    /// Its scores, with groups of [`Policy::window`].
    pub scores: &'a TraceScores,
}

/// A strategy that asks a policy.
pub struct PolicyStrategy<P> {
    name: String,
    policy: P,
    failure: RefCell<Option<String>>,
    /// ended traces that have an answer, by index
    voters: Vec<Voter>,
    done: bool,
}

impl<P: Policy> PolicyStrategy<P> {
    /// A strategy of this name.
    pub fn new(name: &str, policy: P) -> Self {
        Self {
            name: name.to_owned(),
            policy,
            failure: RefCell::default(),
            voters: Vec::new(),
            done: false,
        }
    }

    /// Asks, unless something failed before; a failure is kept.
    fn ask<T>(&self, question: impl FnOnce(&P) -> Result<T, PolicyError>) -> Option<T> {
        if self.has_failed() {
            return None;
        }
        question(&self.policy)
            .map_err(|error| *self.failure.borrow_mut() = Some(error.to_string()))
            .ok()
    }

    fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// The vote as it names it.
    fn tally(&self) -> Option<Tally> {
        match self.ask(P::decide)? {
            Some(ballots) => Tally::count(self.ask(|policy| self.counted(policy, ballots))?),
            None => Tally::hold(VoteKind::Majority, &self.voters),
        }
    }

    /// Its ballots with their classes, if they can be counted.
    fn counted(
        &self,
        policy: &P,
        ballots: Vec<(TraceId, f64)>,
    ) -> Result<Vec<(TraceId, ClassId, f64)>, PolicyError> {
        let mut seen = BTreeSet::new();
        let mut counted = Vec::with_capacity(ballots.len());
        for (trace, weight) in ballots {
            let Ok(at) = self.voters.binary_search_by_key(&trace, |v| v.trace) else {
                return Err(policy.refuse(format!(
                    "lets trace {trace} vote, which has not ended with an answer"
                )));
            };
            if !(weight >= 0.0 && weight.is_finite() && seen.insert(trace)) {
                return Err(policy.refuse(format!(
                    "gives trace {trace} the weight {weight}: each trace votes once, with a weight of at \
                     least 0"
                )));
            }
            counted.push((trace, self.voters[at].class, weight));
        }
        Ok(counted)
    }
}

impl<P: Policy> Strategy for PolicyStrategy<P> {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs(&self) -> Needs {
        self.policy.needs()
    }

    fn begin(&mut self, limits: &Limits) -> usize {
        self.voters.clear();
        self.done = false;
        let launched = self.ask(|policy| policy.begin(limits));
        launched.unwrap_or(1).min(limits.traces)
    }

    fn watching(&self, _: TraceId) -> Watching {
        if self.policy.reads_tokens() || self.has_failed() {
            Watching::EveryToken
        } else {
            Watching::Nothing
        }
    }

    fn reads_every_token(&self) -> bool {
        self.policy.reads_tokens()
    }

    fn observe(&mut self, trace: TraceId, token: &TokenScalars) -> Step {
        // After a failure no token more than need be.
        self.ask(|policy| match policy.reads_tokens() {
            true => policy.token(trace, token),
            false => Ok(Step::Continue),
        })
        .unwrap_or(Step::Stop)
    }

    fn finished(&mut self, o: &TraceOutcome<'_>) -> Next {
        if self.done || self.has_failed() {
            return Next::Done;
        }
        let scores = o.scores(self.policy.window());
        let class = o.class.filter(|_| o.finish.is_complete());
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
        let ended = EndedTrace {
            trace: o.trace,
            finish: o.finish,
            tokens: o.tokens,
            class,
            scores: &scores,
        };
        let next = self.ask(|policy| policy.finished(&ended)).unwrap_or(Next::Done);
        self.done = next == Next::Done;
        next
    }

    fn decide(&self) -> Decision {
        let tally = if self.voters.is_empty() {
            None
        } else {
            self.tally()
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
            window: self.policy.window(),
            consensus: None,
            warnings: Vec::new(),
        }
    }

    fn leading(&self) -> Option<(ClassId, f64)> {
        let winner = Tally::hold(VoteKind::Majority, &self.voters)?.winner();
        Some((winner.class, winner.share))
    }

    fn window(&self) -> Option<usize> {
        self.policy.window()
    }

    fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }
}
