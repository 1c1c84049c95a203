//! Decisions over a recording.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tts_model::sampling::TOP;
use tts_strategies::{Needs, Strategy, TraceId, TraceStatistics};

use super::replayer::unreadable;
use super::{Replayer, replay};
use crate::run::record::Digest;
use crate::run::{
    Bounds, ExternalEvent, Looks, NoDecoder, Outcome, PoolProblem, ProblemRun, RunError, Setup,
    StoppingRules, TraceRecord, check_needs,
};

/// A decision over recorded traces.
pub struct Replayed {
    /// The problem as it stands at its end.
    pub problem: ProblemRun,
    /// Its traces as the strategy left them.
    pub records: Vec<TraceRecord>,
    /// Bounds that were in force: no more traces than there are.
    pub bounds: Bounds,
    /// Traces whose record ended before the strategy was through with them.
    pub short: BTreeSet<TraceId>,
    /// Whether the budget was cut to the number of recorded traces.
    pub capped: bool,
    /// Traces of which the strategy asked for what the recorded statistics do not say: where there are any,
    /// the decision does not stand.
    pub blind: u64,
}

impl Replayer {
    /// Decides over all of a problem's traces, as [`Replayer::traces`] gave them, by their tokens where their
    /// statistics do not do. A strategy that asks for traces of its own making is given those too.
    ///
    /// # Errors
    /// When no trace has what the strategy cannot do without.
    pub fn decide_all(
        &self,
        problem: &PoolProblem,
        records: &[Arc<TraceRecord>],
        strategy: Box<dyn Strategy>,
        bounds: &Bounds,
        scripted: &[ExternalEvent],
    ) -> Result<Replayed, RunError> {
        if strategy.needs().makes_traces() {
            let all = self.with_all(problem)?;
            return self
                .decide(&problem.id, &all, strategy, bounds, scripted)?
                .sighted();
        }
        let strategy = if strategy.reads_every_token() {
            strategy
        } else {
            let replayed = self.decide(&problem.id, records, strategy, bounds, scripted)?;
            if replayed.blind == 0 {
                return Ok(replayed);
            }
            replayed.problem.into_strategy()
        };
        let whole = self.with_tokens(problem, records)?;
        self.decide(&problem.id, &whole, strategy, bounds, scripted)?
            .sighted()
    }

    /// Decides over traces of [`Replayer::traces`], or over some of them, numbered from 0. Where the result
    /// is [`Replayed::blind`] it does not stand, and the traces are needed [`Replayer::with_tokens`].
    ///
    /// # Errors
    /// When no trace has what the strategy cannot do without.
    pub fn decide(
        &self,
        id: &str,
        records: &[Arc<TraceRecord>],
        strategy: Box<dyn Strategy>,
        bounds: &Bounds,
        scripted: &[ExternalEvent],
    ) -> Result<Replayed, RunError> {
        self.check_needs(strategy.as_ref(), records)?;
        let run = |strategy, bounds: Bounds, capped| {
            let mut short = BTreeSet::new();
            let setup = Setup {
                id: id.to_owned(),
                strategy,
                reader: self.reader.clone(),
                decode: Arc::new(NoDecoder),
                rules: Arc::new(StoppingRules {
                    max_tokens: self.max_tokens,
                    ..StoppingRules::default()
                }),
                bounds: bounds.clone(),
                recorded: records.to_vec(),
                scripted: scripted.to_vec(),
                looks: Looks::Recorded,
            };
            let (problem, records) = replay(setup, |trace| {
                short.insert(trace);
            });
            let blind = problem.blind() + unmeasured(&problem, &records);
            Replayed {
                problem,
                records,
                bounds,
                short,
                capped,
                blind,
            }
        };
        let all = run(strategy, bounds.clone(), false);
        failed(&all.problem)?;
        // a budget that is not used up decides nothing
        if all.short.iter().all(|t| (*t as usize) < records.len()) {
            return Ok(all);
        }
        let traces = bounds.traces.min(records.len());
        Ok(run(
            all.problem.into_strategy(),
            Bounds {
                traces,
                ..bounds.clone()
            },
            true,
        ))
    }

    /// Whether these traces have what the strategy cannot do without. Where those of other problems have
    /// confidences, a problem without any is decided all the same, and its traces cast no weighted vote.
    fn check_needs(&self, strategy: &dyn Strategy, records: &[Arc<TraceRecord>]) -> Result<(), RunError> {
        let mut offers = offered(records);
        // what such a strategy recorded need not hold any
        let made = self.was_decided_by(strategy.name());
        (offers.forks, offers.looks) = (offers.forks | made, offers.looks | made);
        if !records.iter().any(|r| r.finish.is_complete()) {
            offers = Needs {
                forks: offers.forks,
                looks: offers.looks,
                ..Needs::ALL
            };
        }
        offers.confidence |= self.pool.problems().iter().any(|p| p.confident > 0);
        check_needs(strategy, offers).map_err(|error| match (error, self.pool.fields()) {
            (RunError::Needs { strategy, what, .. }, Some(fields)) => {
                let named = match what.contains("confidence") {
                    true => "; name them with --field confidence=NAME",
                    false => "",
                };
                let path = self.pool.path().display();
                RunError::Needs {
                    strategy,
                    what,
                    lacking: format!("{path} does not hold ({fields}){named}"),
                }
            }
            (error, _) => error,
        })
    }

    /// The outcome of a replay of all of a problem's traces: with the digest and the solution, which are read
    /// from the whole recording.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn outcome(&self, problem: &PoolProblem, replayed: Replayed) -> Result<Outcome, RunError> {
        let Replayed {
            problem: at_end,
            records,
            bounds,
            short,
            capped,
            ..
        } = replayed;
        let mut decided = at_end.decide(&records);
        failed(&at_end)?;
        let mut notices = Vec::new();
        if self.pool.manifest().is_some_and(|m| m.traces.is_remote()) {
            notices.push(
                "recorded from remote engines, whose traces were decided over in the order in which they \
                 came; this decides in lockstep, so other tokens may have been in flight at a stop"
                    .to_owned(),
            );
        }
        if problem.made > 0 && !at_end.strategy().needs().makes_traces() {
            notices.push(format!(
                "left out: {} traces that were made from others (forks, second looks)",
                problem.made
            ));
        }
        if capped {
            notices.push(format!(
                "the recording holds {} traces of this problem: that is the budget here",
                bounds.traces
            ));
        }
        if !short.is_empty() {
            notices.push(format!(
                "traces that end in the recording before the strategy {} is through with them, and count as \
                 failed: {}{}",
                decided.strategy,
                short.len(),
                if at_end.strategy().needs().makes_traces() {
                    ""
                } else {
                    "; a recording of complete traces (--strategy majority) would hold the rest"
                }
            ));
        }
        if problem.texts || problem.ids {
            let read: BTreeMap<TraceId, usize> = records.iter().map(|r| (r.trace, r.tokens)).collect();
            let mut digest = Some(Digest::default()).filter(|_| problem.ids);
            let mut number: TraceId = 0;
            let winner = decided.decision.winner_trace;
            let mut solution = None;
            let all = at_end.strategy().needs().makes_traces();
            let mut take = |record: &TraceRecord| {
                if !all && !record.stands_alone() {
                    return;
                }
                // those that name each other keep their own numbers
                let trace = if all { record.trace } else { number };
                if let (Some(of_all), Some(tokens)) = (&mut digest, read.get(&trace)) {
                    match record.arrays.token_ids.get(..*tokens) {
                        Some(ids) => of_all.add(trace, *tokens, &Digest::of(ids)),
                        None => digest = None,
                    }
                }
                if winner == Some(trace) {
                    solution = record.solution();
                }
                number += 1;
            };
            match self.pool.recording().map_err(unreadable)? {
                Some(recording) => recording
                    .each(&problem.id, |record| take(&record))
                    .map_err(unreadable)?,
                None => self
                    .pool
                    .whole(problem)
                    .map_err(unreadable)?
                    .iter()
                    .for_each(|record| take(record)),
            }
            decided.digest = digest.map(|d| d.hex());
            decided.solution = solution;
        }
        Ok(Outcome {
            problem_id: problem.id.clone(),
            slots_wanted: bounds.slots,
            peak_rows: 0,
            prompt_tokens: self.prompt_tokens(&problem.id),
            cached_tokens: 0,
            decided,
            records,
            bounds,
            notices,
        })
    }

    /// Tokens of a problem's prompt, where a decision over the recording names them.
    fn prompt_tokens(&self, id: &str) -> usize {
        let line = self
            .pool
            .decided()
            .and_then(|d| d.last_decided(id).ok().flatten());
        line.and_then(|line| line.tokens)
            .map_or(0, |tokens| tokens.prompt as usize)
    }
}

impl Replayed {
    /// The decision, unless it does not stand.
    ///
    /// # Errors
    /// When the recording does not say what the strategy asked for.
    pub fn sighted(self) -> Result<Self, RunError> {
        if self.blind == 0 {
            return Ok(self);
        }
        let window = self
            .problem
            .bar()
            .1
            .map_or_else(String::new, |w| format!(" (groups of {w})"));
        Err(RunError::Needs {
            strategy: self.problem.strategy().name().to_owned(),
            what: format!("the confidence of every token{window}"),
            lacking: "this source of traces does not give".to_owned(),
        })
    }
}

/// Ended traces with statistics of confidences, but not for the group size that the strategy reads.
fn unmeasured(problem: &ProblemRun, records: &[TraceRecord]) -> u64 {
    let Some(window) = problem.bar().1.filter(|_| problem.strategy().needs().confidence) else {
        return 0;
    };
    let lacks = |m: &TraceStatistics| {
        (m.mean.is_some() || !m.windows.is_empty()) && m.windows.iter().all(|w| w.window != window)
    };
    let ended = records.iter().filter(|r| r.finish.is_complete());
    ended.filter(|r| r.measured.as_deref().is_some_and(lacks)).count() as u64
}

/// The scalars that any of the traces has.
fn offered(records: &[Arc<TraceRecord>]) -> Needs {
    let any = |has: &dyn Fn(&TraceRecord) -> bool| records.iter().any(|r| has(r));
    let measured = |r: &TraceRecord, has: &dyn Fn(&tts_strategies::TraceStatistics) -> bool| {
        r.measured.as_ref().is_some_and(|m| has(m))
    };
    Needs {
        confidence: any(&|r| {
            !r.arrays.confidence.is_empty() || measured(r, &|m| m.mean.is_some() || !m.windows.is_empty())
        }),
        logprob: any(&|r| !r.arrays.logprobs.is_empty() || measured(r, &|m| m.sequence_logprob.is_some())),
        self_certainty: any(&|r| r.scores.self_certainty.is_some()),
        entropy: any(&|r| {
            r.arrays.top_k() >= TOP || measured(r, &|m| m.windows.iter().any(|w| w.tail_entropy.is_some()))
        }),
        forks: any(&|r| r.fork.is_some()),
        looks: any(&|r| !r.shown.is_empty()),
    }
}

/// Refuses to go on where the strategy cannot.
fn failed(problem: &ProblemRun) -> Result<(), RunError> {
    match problem.failure() {
        Some(reason) => Err(RunError::Strategy {
            problem: problem.id().to_owned(),
            reason,
        }),
        None => Ok(()),
    }
}
