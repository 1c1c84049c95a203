//! A problem that runs: its clock, and the sequences of its traces by handle.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use tts_strategies::TraceId;

use super::kept_states::KeptStates;
use super::scheduler::{EngineRequest, OutcomeReply};
use super::scoring::with_a_probability;
use crate::grammar::{Follower, Grammar};
use crate::run::{
    Bounds, Checkpoint, EarlyEnd, Event, Observer, Outcome, ProblemRun, RunError, RunFacts, RunObserver,
    StoppingRules, Token, TokenStream, Trace,
};
use tts_model::executor::{BrokenLogits, Drawn, Executor, Limits, Sampling, SeqId, StepRow, Stream};

/// A problem that runs.
pub(super) struct RunningProblem {
    pub(super) problem: ProblemRun,
    /// the sequence of its prompt, from which its traces are forked
    prompt: SeqId,
    pub(super) prompt_tokens: usize,
    /// tokens of the prompt that were kept from an earlier one
    cached_tokens: usize,
    traces: BTreeMap<TraceId, LiveTrace>,
    /// states where its strategy may fork a trace, while there is memory for them
    kept: KeptStates,
    /// its sequences were freed; they are computed again once there is memory for them
    pub(super) preempted: bool,
    /// it waits with its sequences while others fill the batch
    pub(super) waits: bool,
    /// traces that it may have in flight at once, at least 1
    slots: usize,
    wanted_slots: usize,
    /// most sequences of its traces at once
    peak_rows: usize,
    bounds: Bounds,
    sampling: Sampling,
    seed: u64,
    banned_ids: Vec<u32>,
    grammar: Option<Arc<Grammar>>,
    checkpoint: Option<Checkpoint>,
    observer: RunObserver,
    reply: OutcomeReply,
}

/// A sequence of the executor and the random numbers that its tokens are drawn with.
struct LiveTrace {
    seq: SeqId,
    stream: Stream,
    /// ids that may not be drawn next, where a grammar says so
    follower: Option<Follower>,
}

/// Whether somebody or the clock ends a problem now.
pub(super) fn early_end(caller: &Observer, now: Instant) -> Option<EarlyEnd> {
    if caller.control.interrupted.is_cancelled() {
        Some(EarlyEnd::Interrupted)
    } else {
        caller
            .deadline
            .is_some_and(|d| now >= d)
            .then_some(EarlyEnd::TimeLimit)
    }
}

impl RunningProblem {
    /// Starts the clock of a problem whose prompt was read into `prompt`, but for its first `cached_tokens`, with `slots` traces in flight at
    /// once.
    pub(super) fn new(request: EngineRequest, prompt: SeqId, cached_tokens: usize, slots: usize) -> Self {
        let EngineRequest {
            run,
            mut observer,
            reply,
        } = request;
        let (mut setup, prompt_tokens) = (run.setup, run.prompt.ids.len());
        let wanted_slots = setup.bounds.slots.max(1);
        setup.bounds.slots = slots;
        let checkpoint = observer.checkpoint.take();
        let observer = RunObserver::new(observer);
        let bounds = setup.bounds.clone();
        let problem = ProblemRun::new(setup);
        observer.tell(|| Event::Started {
            problem: problem.id().to_owned(),
            slots,
            prompt_tokens,
        });
        Self {
            problem,
            prompt,
            prompt_tokens,
            cached_tokens,
            traces: BTreeMap::new(),
            kept: KeptStates::default(),
            preempted: false,
            waits: false,
            slots,
            wanted_slots,
            peak_rows: 0,
            bounds,
            sampling: run.sampling,
            seed: run.seed,
            banned_ids: run.banned_ids,
            grammar: run.grammar,
            checkpoint,
            observer,
            reply,
        }
    }

    /// Who watches it, and may end it.
    pub(super) fn caller(&self) -> &Observer {
        &self.observer.caller
    }

    fn token_stream(&self) -> Option<&TokenStream> {
        self.observer.caller.control.token_stream.as_ref()
    }

    /// Whether it takes part in the next step.
    pub(super) fn is_active(&self) -> bool {
        !self.preempted && !self.waits && !self.problem.is_over()
    }

    /// Ends it with the vote so far, where somebody or the clock says so.
    pub(super) fn apply_early_ends(&mut self, now: Instant) {
        if let Some(reason) = early_end(self.caller(), now) {
            self.problem.end_early(reason);
        }
    }

    /// Says that it has fewer slots than were asked for, where that is so.
    pub(super) fn notice_slots(&mut self, max_batch: usize, bytes_per_trace: u64) {
        let (slots, wanted) = (self.slots, self.wanted_slots);
        if slots < wanted {
            let mib = bytes_per_trace as f64 / f64::from(1 << 20);
            self.notice(format!(
                "{slots} traces at a time instead of {wanted}: the batch holds {max_batch} rows and a trace \
                 takes {mib:.1} MiB"
            ));
        }
    }

    fn notice(&mut self, text: String) {
        self.observer.notice(self.problem.id(), text);
    }

    /// Rows that it has, or is about to have.
    pub(super) fn rows(&self) -> usize {
        if self.problem.ticks() == 0 {
            self.problem.open_slots()
        } else {
            self.problem.in_flight()
        }
    }

    /// Bytes that its prompt and its traces hold.
    pub(super) fn used_bytes(&self, limits: &Limits, executor: &dyn Executor) -> u64 {
        let of_trace =
            |live: &LiveTrace| limits.sequence_bytes(executor.length(live.seq), self.prompt_tokens);
        let traces: u64 = self.traces.values().map(of_trace).sum();
        limits.sequence_bytes(self.prompt_tokens, 0) + traces + self.kept.bytes()
    }

    /// Gives up the states that it keeps for forks; whether there were any.
    pub(super) fn drop_kept(&mut self, executor: &mut dyn Executor) -> bool {
        self.kept.drop_all(executor)
    }

    /// Whether its strategy may fork traces.
    pub(super) fn forks(&self) -> bool {
        self.problem.strategy().needs().forks
    }

    /// Keeps the states of traces that have come to where they may be forked, up to `most` bytes of them.
    pub(super) fn keep_fork_points(&mut self, most: u64, limits: &Limits, executor: &mut dyn Executor) {
        let strategy = self.problem.strategy();
        if self.preempted || !self.forks() {
            return;
        }
        let at_point = |trace: &&Trace| {
            let tokens = trace.tokens();
            trace.is_live() && tokens > 0 && strategy.fork_point(trace.id(), tokens - 1) == Some(tokens)
        };
        for trace in self.problem.live().iter().filter(at_point) {
            let Some(live) = self.traces.get(&trace.id()) else {
                continue;
            };
            let point = (trace.id(), trace.tokens());
            if !executor.is_ahead(live.seq) && !self.kept.holds(point) {
                let bytes = limits.sequence_bytes(executor.length(live.seq), self.prompt_tokens);
                self.kept.keep(point, live.seq, bytes, most, executor);
            }
        }
    }

    /// Bytes that its next token for every live trace takes beyond what it holds.
    pub(super) fn next_step_bytes(&self, limits: &Limits, executor: &dyn Executor) -> u64 {
        let of_trace = |trace: &Trace| {
            let after = limits.sequence_bytes(self.prompt_tokens + trace.tokens(), self.prompt_tokens);
            let held = self.traces.get(&trace.id()).map_or(0, |live| {
                limits.sequence_bytes(executor.length(live.seq), self.prompt_tokens)
            });
            after.saturating_sub(held)
        };
        let live = self.problem.live().iter().filter(|trace| trace.is_live());
        live.map(of_trace).sum()
    }

    /// Gives sequences to the traces that have none: new ones, those whose record ended, those that were
    /// preempted.
    pub(super) fn begin_traces(&mut self, executor: &mut dyn Executor) {
        let missing = |trace: &&Trace| trace.is_live() && !self.traces.contains_key(&trace.id());
        let missing: Vec<&Trace> = self.problem.live().iter().filter(missing).collect();
        if missing.is_empty() {
            return;
        }
        let seqs = self.sequences_for(&missing, executor);
        let begun = seqs
            .iter()
            .zip(&missing)
            .filter(|(_, trace)| !trace.ids().is_empty());
        let begun: Vec<(SeqId, &[u32])> = begun.map(|(seq, trace)| (*seq, trace.ids())).collect();
        if let Some(checkpoint) = &self.checkpoint {
            for (seq, trace) in seqs
                .iter()
                .zip(&missing)
                .filter(|(_, trace)| !trace.ids().is_empty())
            {
                let load = |from: &mut dyn io::Read| executor.load(*seq, trace.ids(), from);
                checkpoint.load(self.problem.id(), trace.id(), load);
            }
        }
        executor.resume(&begun);
        for (seq, trace) in seqs.into_iter().zip(missing) {
            let stream = Stream::new(self.seed, self.problem.id(), trace.id());
            let follower = self.grammar.as_ref().map(|grammar| grammar.begin());
            let live = LiveTrace {
                seq,
                stream,
                follower,
            };
            self.traces.insert(trace.id(), live);
        }
        self.peak_rows = self.peak_rows.max(self.traces.len());
    }

    /// Sequences for traces that have none: forks of the prompt, or of the nearest state that was kept of the trace
    /// that one goes on from.
    fn sequences_for(&self, missing: &[&Trace], executor: &mut dyn Executor) -> Vec<SeqId> {
        let nearest = |trace: &&Trace| trace.fork().and_then(|fork| self.kept.nearest(fork));
        let from_prompt = missing.iter().filter(|trace| nearest(trace).is_none()).count();
        let mut from_prompt = executor.fork(self.prompt, from_prompt).into_iter();
        let of = |trace: &&Trace| match nearest(trace) {
            Some(kept) => executor.fork(kept, 1)[0],
            None => from_prompt.next().expect("one for each of these"),
        };
        missing.iter().map(of).collect()
    }

    /// Adds a row for every live trace, by ascending trace index.
    pub(super) fn add_rows<'r>(&'r mut self, rows: &mut Vec<StepRow<'r>>) {
        for trace in self.problem.live().iter().filter(|trace| trace.is_live()) {
            let follower = self
                .traces
                .get_mut(&trace.id())
                .and_then(|live| live.follower.as_mut());
            if let Some(follower) = follower {
                follower.follow(trace.ids(), &self.banned_ids);
            }
        }
        let this = &*self;
        this.add_followed_rows(rows);
    }

    fn add_followed_rows<'r>(&'r self, rows: &mut Vec<StepRow<'r>>) {
        let rules = self.problem.rules();
        let saves_now = self
            .checkpoint
            .as_ref()
            .is_some_and(|checkpoint| self.observer.is_due(checkpoint.every));
        let mut traces = self.traces.iter().peekable();
        for trace in self.problem.live().iter().filter(|trace| trace.is_live()) {
            while traces.peek().is_some_and(|(id, _)| **id < trace.id()) {
                traces.next();
            }
            let (_, live) = traces.next().expect("every live trace has a sequence");
            rows.push(StepRow {
                seq: live.seq,
                sampling: &self.sampling,
                stream: live.stream,
                index: trace.tokens(),
                forced: trace.forced(),
                banned_ids: match &live.follower {
                    Some(follower) => follower.banned(),
                    None => &self.banned_ids,
                },
                top_logprobs: self.token_stream().map_or(0, TokenStream::k),
                // what may follow is known once the token is
                lookahead: if saves_now || live.follower.is_some() {
                    0
                } else {
                    self.lookahead(trace, rules)
                },
                stop_ids: rules.stops(),
            });
        }
    }

    /// Tokens that may be drawn ahead of time: a state is not kept where it is ahead of its tokens.
    fn lookahead(&self, trace: &Trace, rules: &StoppingRules) -> usize {
        let tokens = trace.tokens();
        let point = self.problem.strategy().fork_point(trace.id(), tokens);
        let to_point = point.map_or(usize::MAX, |point| point.saturating_sub(tokens + 1));
        trace.free(rules).min(to_point)
    }

    /// Takes the tokens of its rows from those of the step.
    pub(super) fn take_tokens<'d>(
        &mut self,
        drawn: &mut impl Iterator<Item = &'d Result<Drawn, BrokenLogits>>,
        executor: &dyn Executor,
    ) {
        self.problem.skip_quiet_ticks();
        self.problem.tick(|_, _| {
            let drawn = *drawn.next().expect("one for every live row");
            drawn.map_or(Token::Broken, Token::Drawn)
        });
        if let Some(token_stream) = self.token_stream()
            && let Some(first) = self.problem.live().first().filter(|trace| trace.id() == 0)
        {
            let live = self.traces.get(&0);
            let top = live.map_or(&[][..], |live| executor.top_logprobs(live.seq));
            token_stream.write(first, with_a_probability(top));
        }
    }

    /// Frees its sequences until there is memory for them.
    pub(super) fn preempt(&mut self, executor: &mut dyn Executor) {
        self.preempted = true;
        self.free_traces(executor);
        self.notice("set aside until there is memory; it will go on exactly where it was".to_owned());
    }

    /// Goes on with one slot less; with one trace left it goes on beyond the plan, and this is false.
    pub(super) fn lower_slots(&mut self, executor: &mut dyn Executor) -> bool {
        let live = self.problem.live().len();
        if live <= 1 {
            self.notice(
                "memory holds less than one trace of this length; going on beyond the plan".to_owned(),
            );
            return false;
        }
        self.problem.set_slots(live - 1);
        let live_ids: BTreeSet<TraceId> = self.problem.live().iter().map(Trace::id).collect();
        self.traces.retain(|trace, live| {
            let stays = live_ids.contains(trace);
            if !stays {
                executor.free(live.seq);
            }
            stays
        });
        self.notice(format!(
            "traces outgrew the memory: {} at a time from token {}",
            live - 1,
            self.problem.ticks()
        ));
        true
    }

    /// Hands on what ended, and writes traces in flight with their states when it is time.
    pub(super) fn keep(&mut self, executor: &mut dyn Executor) -> Result<(), RunError> {
        let (checkpoint, traces) = (self.checkpoint.as_ref(), &mut self.traces);
        self.observer.keep(&mut self.problem, |problem, record| {
            if let Some(live) = traces.remove(&record.trace) {
                executor.free(live.seq);
            }
            if let Some(checkpoint) = checkpoint {
                checkpoint.forget(problem, record.trace);
            }
        })?;
        let Some(checkpoint) = checkpoint else {
            return Ok(());
        };
        // a state that is ahead of its tokens is not kept; when it is time, none is drawn ahead any more
        if traces.values().any(|live| executor.is_ahead(live.seq)) {
            return Ok(());
        }
        self.observer
            .checkpoint(&self.problem, checkpoint.every, |problem, record| {
                let Some(live) = traces.get(&record.trace) else {
                    return Ok(());
                };
                checkpoint
                    .save(problem, record.trace, |out| executor.save(live.seq, out))
                    .map_err(|e| format!("{}: {e}", checkpoint.dir.display()))
            })
    }

    /// Tells how things stand, if it is time.
    pub(super) fn progress(&mut self) {
        self.observer.progress(&self.problem);
    }

    /// Gives up everything, and replies with the outcome or with what went wrong.
    pub(super) fn close(mut self, kept: Result<(), RunError>, executor: &mut dyn Executor) {
        self.release(executor);
        let facts = RunFacts {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            bounds: self.bounds,
            slots_wanted: self.wanted_slots,
            peak_rows: self.peak_rows,
        };
        let outcome: Result<Outcome, RunError> =
            kept.and_then(|()| self.observer.close(&self.problem, facts));
        (self.reply)(outcome);
    }

    /// Frees its sequences, its prompt's included.
    pub(super) fn release(&mut self, executor: &mut dyn Executor) {
        self.free_traces(executor);
        executor.free(self.prompt);
    }

    fn free_traces(&mut self, executor: &mut dyn Executor) {
        self.kept.drop_all(executor);
        for live in std::mem::take(&mut self.traces).into_values() {
            executor.free(live.seq);
        }
    }
}
