//! One problem's run and its clock. The first file to read.
//!
//! A [`ProblemRun`] wraps a strategy with what every run needs: trace ids, slots, answers and their
//! classes, token books, records. It owns the problem's clock: one tick is one token for each of its live
//! traces. Where a trace's next token comes from is not its business: from the engine (solving), from a
//! record (replay), or first from the one and then from the other (resuming). All three go through
//! [`ProblemRun::tick`], so live and replayed runs cannot decide differently. An engine that answers in its
//! own order has no common tick: what it sends comes through [`ProblemRun::receive`], by the same rules.
//!
//! The rules of a tick: all traces' tokens are booked first, then handled by ascending trace index; the
//! end-of-text token is counted and observed; a stop id beats the length limit; a token that ends a trace and
//! crosses the bar makes it finished; after `Done` the tick's other traces are cancelled, that token counted;
//! a trace launched after tick t has its first token in tick t + 1.

mod answers;
mod decided;
mod external;
mod forks;
mod looks;
mod receive;
mod recorded;
mod setup;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tts_evals::answer::ReadAnswer;
use tts_model::sampling::Drawn;
use tts_strategies::{Finish, Limits, Next, Step, Strategy, TraceId, TraceOutcome, TraceScores};

pub(crate) use answers::Classes;
pub use decided::Decided;
pub use external::{EarlyEnd, ExternalEvent};
pub use receive::TraceChunk;
pub use setup::{Bounds, Decode, NoDecoder, Setup, ToText};

use forks::ForkSources;
pub use looks::Looks;
use looks::Prompts;

use super::{FateCounts, StoppingRules, Trace, TraceRecord};

/// A token, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token {
    /// Drawn by the engine or read from a record.
    Drawn(Drawn),
    /// The logits were not numbers, or the source gave up: the trace has failed.
    Broken,
}

/// One problem's run: its traces in flight, its strategy, its books and its clock.
pub struct ProblemRun {
    id: String,
    strategy: Box<dyn Strategy>,
    reader: Arc<dyn ReadAnswer>,
    decode: Arc<dyn Decode>,
    rules: Arc<StoppingRules>,
    bounds: Bounds,
    /// ascending trace index; the first `slots` of them are live
    in_flight: Vec<Trace>,
    /// records by trace index, for traces that were generated before and are not launched yet
    recorded: BTreeMap<TraceId, Arc<TraceRecord>>,
    forks: ForkSources,
    prompts: Prompts,
    next_trace: TraceId,
    slots_at_first: usize,
    /// launched by the strategy so far, in flight or waiting for a slot
    target: usize,
    classes: Classes,
    tokens: FateCounts,
    traces: FateCounts,
    live_tokens: u64,
    /// generated tokens in the books that no decision saw
    unseen: u64,
    ticks: u64,
    external_events: Vec<ExternalEvent>,
    /// external events of a recording, still to come
    scripted: VecDeque<ExternalEvent>,
    over: bool,
    ended: Vec<TraceRecord>,
    started: Instant,
    failures: u64,
    blind: u64,
}

impl ProblemRun {
    /// Starts the clock: the first traces are launched.
    pub fn new(setup: Setup) -> Self {
        let Setup {
            id,
            mut strategy,
            reader,
            decode,
            rules,
            bounds,
            recorded,
            scripted,
            looks,
        } = setup;
        let limits = Limits {
            traces: bounds.traces,
            slots: bounds.slots,
            max_tokens: rules.max_tokens,
        };
        let target = strategy.begin(&limits).min(bounds.traces);
        let mut problem = Self {
            id,
            forks: ForkSources::of(strategy.as_ref()),
            prompts: Prompts::new(looks),
            strategy,
            reader,
            decode,
            rules,
            slots_at_first: bounds.slots,
            bounds,
            in_flight: Vec::new(),
            recorded: recorded.into_iter().map(|r| (r.trace, r)).collect(),
            next_trace: 0,
            target,
            classes: Classes::default(),
            tokens: FateCounts::default(),
            traces: FateCounts::default(),
            live_tokens: 0,
            unseen: 0,
            ticks: 0,
            external_events: Vec::new(),
            scripted: scripted.into(),
            over: false,
            ended: Vec::new(),
            started: Instant::now(),
            failures: 0,
            blind: 0,
        };
        problem.fill_slots();
        problem.apply_scripted();
        problem
    }

    /// Name of the problem.
    pub fn id(&self) -> &str {
        &self.id
    }
    /// Whether it is decided.
    pub fn is_over(&self) -> bool {
        self.over
    }
    /// Traces that get a token in the next tick, by ascending trace index.
    pub fn live(&self) -> &[Trace] {
        &self.in_flight[..self.in_flight.len().min(self.bounds.slots)]
    }
    /// Traces in flight, those that wait for memory included.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
    /// Most traces in flight at once.
    pub fn slots(&self) -> usize {
        self.bounds.slots
    }
    /// Traces that may be in flight now: the slots, as far as they have grown.
    pub fn open_slots(&self) -> usize {
        let ended = self.next_trace as usize - self.in_flight.len();
        let open = self.bounds.growth.map_or(usize::MAX, |slots| slots.after(ended));
        open.min(self.bounds.slots)
    }
    /// The bounds of the run.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }
    /// Ticks so far: one is one token for each live trace.
    pub fn ticks(&self) -> u64 {
        self.ticks
    }
    /// The rules that end traces.
    pub fn rules(&self) -> &StoppingRules {
        &self.rules
    }
    /// Tokens so far: of ended traces by fate, and of traces in flight.
    pub fn tokens(&self) -> (FateCounts, u64) {
        (self.tokens, self.live_tokens)
    }
    /// Ended traces by fate.
    pub fn traces(&self) -> FateCounts {
        self.traces
    }
    /// The leading answer and its share.
    pub fn leading(&self) -> Option<(&str, f64)> {
        self.strategy
            .leading()
            .map(|(class, share)| (self.classes.text(class), share))
    }
    /// Bar and window, once known.
    pub fn bar(&self) -> (Option<f64>, Option<usize>) {
        (self.strategy.threshold(), self.strategy.window())
    }
    /// Traces that ended since the last call, in order of ending.
    pub fn take_ended(&mut self) -> Vec<TraceRecord> {
        std::mem::take(&mut self.ended)
    }

    /// The traces in flight as they are, for those that are beyond their record: a run that is killed goes on
    /// from there.
    pub fn unfinished_records(&self) -> impl Iterator<Item = TraceRecord> + '_ {
        let of = |trace: &Trace| trace.unfinished_record(&self.id, self.strategy.is_warmup(trace.id()));
        self.in_flight.iter().filter_map(of)
    }

    /// From the next tick on, `slots` traces are in flight at once. Traces beyond them wait.
    pub fn set_slots(&mut self, slots: usize) {
        self.bounds.slots = slots.max(1);
        self.external_events.push(ExternalEvent::Slots {
            tick: self.ticks,
            slots: self.bounds.slots,
        });
    }

    /// Ends the run with the vote so far.
    pub fn end_early(&mut self, reason: EarlyEnd) {
        if !self.over {
            self.external_events.push(ExternalEvent::Ended {
                tick: self.ticks,
                reason,
            });
            self.prompts.wanted = None;
            self.finish_all();
        }
    }

    /// One tick: `next(i, trace)` gives the token of live trace i unless its record holds it.
    pub fn tick(&mut self, mut next: impl FnMut(usize, &Trace) -> Token) {
        if self.over {
            return;
        }
        self.ticks += 1;
        let live = self.live().len();
        // all tokens are booked before any is handled
        for i in 0..live {
            let trace = &self.in_flight[i];
            let token = trace.recorded_next().unwrap_or_else(|| next(i, trace));
            self.in_flight[i].push(token, &self.rules);
        }
        self.live_tokens += self.in_flight[..live].iter().filter(|r| !r.is_broken()).count() as u64;
        let mut done = false;
        let mut kept = Vec::with_capacity(self.in_flight.len());
        for (i, mut trace) in std::mem::take(&mut self.in_flight).into_iter().enumerate() {
            if i >= live {
                kept.push(trace);
                continue;
            }
            let finish = if done {
                Some(Finish::Cancelled)
            } else {
                self.handle(&mut trace)
            };
            match finish {
                None => kept.push(trace),
                Some(Finish::Cancelled) => drop(self.book(trace, Finish::Cancelled)),
                Some(finish) => done = self.end(trace, finish),
            }
        }
        self.in_flight = kept;
        if done {
            self.finish_all();
            return;
        }
        self.go_on();
    }

    /// What follows every token: the limit on all of them, then free slots are taken, then what comes from
    /// outside.
    fn go_on(&mut self) {
        let spent = self.tokens.total() + self.live_tokens;
        let scripted = match self.scripted.front() {
            Some(ExternalEvent::Ended { tick, reason }) => {
                *reason == EarlyEnd::MaxTotalTokens && *tick <= self.ticks
            }
            _ => false,
        };
        if scripted || self.bounds.max_total_tokens.is_some_and(|max| spent >= max) {
            self.end_early(EarlyEnd::MaxTotalTokens);
            return;
        }
        // as it was live: freed slots are taken at the end of a tick, and what comes from outside comes
        // between two ticks
        self.fill_slots();
        if !self.over {
            self.apply_scripted();
        }
    }

    /// Shows a trace's newest token to the strategy and says whether the trace ends with it.
    fn handle(&mut self, trace: &mut Trace) -> Option<Finish> {
        if trace.is_broken() {
            return Some(Finish::Failed);
        }
        let step = self.observe(trace);
        if trace.stops_by_text(&self.rules, self.decode.as_ref()) {
            return Some(Finish::Stop);
        }
        if let Some(finish) = trace.ends(&self.rules, self.decode.as_ref()) {
            return Some(finish);
        }
        match step {
            Step::Continue => None,
            _ => Some(Finish::LowConfidence),
        }
    }

    /// Shows a trace's newest token to the strategy, unless what it will answer is known.
    fn observe(&mut self, trace: &mut Trace) -> Step {
        if let Some(step) = trace.known_step(self.strategy.watching(trace.id())) {
            return step;
        }
        self.blind += u64::from(trace.is_blind());
        let mut step = Step::Continue;
        let id = trace.id();
        for scalars in trace.unshown() {
            step = self.strategy.observe(id, &scalars);
        }
        step
    }

    /// Tokens whose confidences a strategy asked for and that a record of statistics alone could not give:
    /// the decision does not stand.
    pub fn blind(&self) -> u64 {
        self.blind
    }

    /// Ends a trace and tells the strategy; true when the problem is decided.
    fn end(&mut self, trace: Trace, finish: Finish) -> bool {
        let id = trace.id();
        let entropies = self.book(trace, finish);
        let record = self.ended.last().expect("just booked");
        // what the unfinished text of a stopped trace says could not be had from a record of the complete
        // one: no strategy learns it
        let key = record.answer_key.as_ref().filter(|_| finish.is_complete());
        let outcome = TraceOutcome {
            trace: id,
            finish,
            tokens: record.tokens,
            class: key.map(|key| self.classes.class(key, record.answer.as_deref().unwrap_or(key))),
            confidences: &record.arrays.confidence,
            logprobs: &record.arrays.logprobs,
            entropies: if self.strategy.needs().entropy {
                &entropies
            } else {
                &[]
            },
            self_certainty: record.scores.self_certainty,
            measured: record.measured.as_ref(),
        };
        match self.strategy.finished(&outcome) {
            Next::Done => true,
            Next::Launch(n) => {
                self.target = (self.target + n).min(self.bounds.traces);
                false
            }
            _ => false,
        }
    }

    /// Counts a trace's tokens and makes its record; returns the entropies of its tokens where its scores were taken
    /// from these.
    fn book(&mut self, trace: Trace, finish: Finish) -> Vec<f32> {
        let warmup = self.strategy.is_warmup(trace.id());
        let fate = finish.fate(warmup);
        let tokens = trace.generated() as u64;
        self.live_tokens -= tokens;
        self.unseen += trace.unseen();
        self.tokens.add(fate, tokens + trace.unseen());
        self.traces.add(fate, 1);
        if finish == Finish::Failed {
            self.failures += 1;
        }
        let mut record = trace.into_record(
            &self.id,
            finish,
            warmup,
            self.decode.as_ref(),
            self.reader.as_ref(),
        );
        // a recording made elsewhere may hold scores and no arrays
        let (a, mut entropies) = (&record.arrays, Vec::new());
        if let Some(measured) = &record.measured {
            record.scores = measured.scores(self.strategy.window());
        } else if !(a.confidence.is_empty() && a.logprobs.is_empty()) {
            entropies = a.entropies();
            record.scores = TraceScores::new(
                &a.series(&entropies),
                record.scores.self_certainty,
                self.strategy.window(),
            );
        }
        self.forks.ended(&record);
        self.ended.push(record);
        entropies
    }

    fn finish_all(&mut self) {
        for trace in std::mem::take(&mut self.in_flight) {
            self.book(trace, Finish::Cancelled);
        }
        self.over = true;
    }

    fn fill_slots(&mut self) {
        while self.in_flight.len() < self.open_slots() && (self.next_trace as usize) < self.target {
            let id = self.next_trace;
            if !self.is_prompted(id) {
                break;
            }
            match self.beginning(id) {
                Ok(record) => self.in_flight.push(Trace::new(
                    id,
                    &self.rules,
                    record,
                    &self.prompts.shows,
                    self.ticks,
                    self.decode.as_ref(),
                )),
                Err(reason) => {
                    self.forks.impossible = Some(format!("strategy `{}` {reason}", self.strategy.name()));
                    self.finish_all();
                    return;
                }
            }
            self.next_trace += 1;
        }
        if self.in_flight.is_empty() {
            self.over = true;
        }
    }

    fn apply_scripted(&mut self) {
        while !self.over
            && let Some(event) = self.scripted.front().copied()
        {
            match event {
                ExternalEvent::Slots { tick, slots } if tick <= self.ticks => self.set_slots(slots),
                ExternalEvent::Ended { tick, reason } if tick <= self.ticks => self.end_early(reason),
                _ => return,
            }
            self.scripted.pop_front();
        }
    }

    /// The strategy that decides.
    pub fn strategy(&self) -> &dyn Strategy {
        self.strategy.as_ref()
    }

    /// Gives the strategy back, to begin another problem with.
    pub fn into_strategy(self) -> Box<dyn Strategy> {
        self.strategy
    }

    /// Why the strategy cannot go on, or asked for what cannot be, if so; asked after [`ProblemRun::decide`], which may be what
    /// fails.
    pub fn failure(&self) -> Option<String> {
        let impossible = self.forks.impossible.clone();
        impossible.or_else(|| self.strategy.failure())
    }

    /// Whether every trace that ended has failed.
    pub fn all_failed(&self) -> bool {
        self.failures > 0 && self.failures == self.traces.total()
    }
}
