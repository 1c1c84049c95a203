//! Runs problems on an executor: admits them, steps their traces together, and sees to it that memory is
//! there before it is needed.

mod admission;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::kept_prefixes::{KeptPrefixes, PromptReading};
use super::memory::MemoryPlan;
use super::pace::Pace;
use super::running::{self, RunningProblem};
use super::scoring::{Scoring, ScoringRequest};
use crate::run::{Observer, Outcome, Request, RunError};
use tts_model::executor::{BrokenLogits, Drawn, Executor, Limits, StepRow, emptied};

/// Takes a problem's outcome; it is called once.
pub type OutcomeReply = Box<dyn FnOnce(Result<Outcome, RunError>) + Send>;

/// A problem to run, for whom, and who waits for it.
pub struct EngineRequest {
    /// The problem, its prompt and how its tokens are drawn.
    pub run: Request,
    /// Who watches it, and may end it.
    pub observer: Observer,
    /// Takes the outcome, once; it is never called for a problem that was cancelled.
    pub reply: OutcomeReply,
}

/// States for forks take at most one part of so many of the memory that is left.
const KEPT_PART: u64 = 4;

/// A problem that has not begun.
struct WaitingProblem {
    request: EngineRequest,
    /// its prompt, once reading it was begun
    prompt: Option<PromptReading>,
}

/// Runs any number of problems in one batch.
pub struct Scheduler {
    executor: Box<dyn Executor>,
    limits: Limits,
    plan: MemoryPlan,
    waiting: VecDeque<WaitingProblem>,
    /// oldest first
    running: Vec<RunningProblem>,
    /// prompts that later ones may go on from
    prefixes: KeptPrefixes,
    /// texts to score, one at a time and one chunk a step
    texts: VecDeque<ScoringRequest>,
    scoring: Option<Scoring>,
    /// memory of a step's rows, and of what came of them
    rows: Vec<StepRow<'static>>,
    drawn: Vec<Result<Drawn, BrokenLogits>>,
    pace: Pace,
}

impl Scheduler {
    /// A scheduler that keeps to `plan`.
    pub fn new(executor: Box<dyn Executor>, plan: MemoryPlan) -> Self {
        let limits = executor.limits();
        Self {
            prefixes: KeptPrefixes::new(0, limits),
            limits,
            executor,
            plan,
            waiting: VecDeque::new(),
            running: Vec::new(),
            texts: VecDeque::new(),
            scoring: None,
            rows: Vec::new(),
            drawn: Vec::new(),
            pace: Pace::default(),
        }
    }
    /// Keeps up to so many bytes of prompts that were read, for later ones that begin with the same tokens. They are
    /// given up before anything that runs wants for memory. Results do not depend on it.
    #[must_use]
    pub fn keeping_prefixes(mut self, bytes: u64) -> Self {
        self.prefixes = KeptPrefixes::new(bytes, self.limits);
        self
    }
    /// Queues a problem; it begins in a later step, once there is room for it.
    pub fn submit(&mut self, request: EngineRequest) {
        self.waiting.push_back(WaitingProblem {
            request,
            prompt: None,
        });
    }
    /// Queues a text whose tokens' likeliest alternatives are asked for.
    pub fn score(&mut self, text: ScoringRequest) {
        self.texts.push_back(text);
    }
    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.texts.is_empty() && self.scoring.is_none()
    }
    /// Lets the executor do what need not be done while somebody waits; false where there is nothing.
    pub fn idle(&mut self) -> bool {
        self.executor.idle()
    }
    /// What computes the model.
    pub fn executor(&self) -> &dyn Executor {
        self.executor.as_ref()
    }
    /// Bytes that prompts and traces hold, and prompts that are kept for later ones; at most the plan's budget, unless a single trace takes more.
    pub fn memory_used(&self) -> u64 {
        self.used_bytes() + self.prefixes.bytes()
    }

    /// One step: admits what fits, then gives every live trace of every active problem one token. Once the executor
    /// has failed, everything ends with its sentence instead, and no token of it counts.
    pub fn step(&mut self) {
        self.apply_early_ends();
        self.admit();
        if self.executor.failure().is_none() {
            self.make_room();
            self.take_turns();
            let began = Instant::now();
            self.begin_traces();
            self.draw();
            self.pace.drew(began.elapsed());
        }
        if self.executor.failure().is_none() {
            self.close();
            if self.running.is_empty() {
                self.pace.forgive();
            }
            self.go_on_scoring();
        }
        if let Some(why) = self.executor.failure() {
            self.fail(&why);
        }
        if self.running.is_empty() {
            self.executor.trim(0);
        }
    }

    /// Ends everything, since the executor can do no more.
    fn fail(&mut self, why: &str) {
        let executor = self.executor.as_mut();
        let failed = || {
            RunError::Device(format!(
                "{why}; what a run folder holds is kept, and the same command goes on from there"
            ))
        };
        for running in self.running.drain(..) {
            running.close(Err(failed()), executor);
        }
        for WaitingProblem { request, prompt } in self.waiting.drain(..) {
            prompt.into_iter().for_each(|prompt| prompt.free(executor));
            (request.reply)(Err(failed()));
        }
        if let Some(scoring) = self.scoring.take() {
            scoring.fail(failed(), executor);
        }
        for text in self.texts.drain(..) {
            let _ = text.reply.send(Err(failed()));
        }
    }

    /// Cancellations, interrupts and deadlines.
    fn apply_early_ends(&mut self) {
        let (executor, now) = (self.executor.as_mut(), Instant::now());
        let cancelled = |o: &Observer| o.control.cancelled.load(Ordering::Relaxed);
        self.running.retain_mut(|r| {
            let stays = !cancelled(r.caller());
            if stays {
                r.apply_early_ends(now);
            } else {
                r.release(executor);
            }
            stays
        });
        let mut i = 0;
        while let Some(caller) = self.waiting.get(i).map(|w| &w.request.observer) {
            let (cancelled, early_end) = (cancelled(caller), running::early_end(caller, now));
            if !cancelled && early_end.is_none() {
                i += 1;
                continue;
            }
            let WaitingProblem { request, prompt } = self.waiting.remove(i).expect("it is there");
            prompt.into_iter().for_each(|prompt| prompt.free(executor));
            if let Some(reason) = early_end.filter(|_| !cancelled) {
                (request.reply)(Err(RunError::NotStarted(reason)));
            }
        }
    }

    /// Rows that the running problems have, or are about to have.
    pub fn rows(&self) -> usize {
        self.running.iter().map(RunningProblem::rows).sum()
    }

    /// Bytes that prompts, traces and the text that is being scored hold.
    fn used_bytes(&self) -> u64 {
        let begun = self.waiting.iter().filter_map(|w| w.prompt.as_ref());
        let begun: u64 = begun
            .map(|prompt| prompt.bytes(&self.limits, self.executor.as_ref()))
            .sum();
        let scored = self.scoring.as_ref().map(Scoring::tokens);
        let scored = scored.map_or(0, |tokens| self.limits.sequence_bytes(tokens, 0));
        begun + scored + self.running.iter().map(|r| self.used_bytes_of(r)).sum::<u64>()
    }

    fn used_bytes_of(&self, r: &RunningProblem) -> u64 {
        r.used_bytes(&self.limits, self.executor.as_ref())
    }

    fn next_step_bytes(&self, r: &RunningProblem) -> u64 {
        r.next_step_bytes(&self.limits, self.executor.as_ref())
    }

    /// Bytes of a prompt, and of each trace at the length it is expected to reach.
    fn expected_bytes(&self, prompt: usize, max_tokens: usize) -> (u64, u64) {
        let tokens = prompt + max_tokens.min(self.plan.expected_tokens.saturating_sub(prompt));
        (
            self.limits.sequence_bytes(prompt, 0),
            self.limits.sequence_bytes(tokens, prompt),
        )
    }

    /// Bytes that the running problems hold or are expected to.
    fn reserved_bytes(&self) -> u64 {
        let each = |r: &RunningProblem| {
            let (prompt, each) = self.expected_bytes(r.prompt_tokens, r.problem.rules().max_tokens);
            self.used_bytes_of(r)
                .max(prompt + r.problem.open_slots() as u64 * each)
        };
        self.running.iter().map(each).sum()
    }

    /// Forgets prompts that are not read to the end: they are read again when there is room. Whether there
    /// were any.
    fn drop_partial_prompts(&mut self) -> bool {
        let executor = self.executor.as_mut();
        let begun = self.waiting.iter_mut().filter_map(|w| w.prompt.take());
        begun.map(|prompt| prompt.free(executor)).count() > 0
    }

    /// Gives up states that were kept for forks; whether there were any.
    fn drop_kept_states(&mut self) -> bool {
        let executor = self.executor.as_mut();
        self.running
            .iter_mut()
            .fold(false, |any, r| r.drop_kept(executor) | any)
    }

    /// Preempts problems, youngest first, until the next step fits; a lone problem goes on with fewer
    /// slots. Brings back what fits again.
    fn make_room(&mut self) {
        self.resume_preempted();
        loop {
            let active: Vec<usize> = (0..self.running.len())
                .filter(|i| !self.running[*i].preempted)
                .collect();
            let needed: u64 = active
                .iter()
                .map(|i| self.next_step_bytes(&self.running[*i]))
                .sum();
            let left = self.plan.budget.checked_sub(self.memory_used() + needed);
            // memory of ended traces is kept for others as long as nothing else needs it
            self.executor.trim(left.unwrap_or(0));
            if left.is_some() {
                return;
            }
            if self.prefixes.drop_oldest(self.executor.as_mut()) {
                continue;
            }
            if !active.is_empty() && (self.drop_partial_prompts() || self.drop_kept_states()) {
                continue;
            }
            match active[..] {
                [] => return,
                [lone] => {
                    if !self.running[lone].lower_slots(self.executor.as_mut()) {
                        return;
                    }
                }
                [.., youngest] => self.running[youngest].preempt(self.executor.as_mut()),
            }
        }
    }

    fn resume_preempted(&mut self) {
        let mut used = self.used_bytes();
        for i in 0..self.running.len() {
            let r = &self.running[i];
            if !r.preempted {
                continue;
            }
            let others: u64 = self.running[..i].iter().map(|r| self.next_step_bytes(r)).sum();
            // headroom of one block a row, or it would go out again at once
            let headroom = r.problem.live().len() as u64 * self.limits.block_bytes;
            if used + others + self.next_step_bytes(r) + headroom > self.plan.budget && i > 0 {
                return;
            }
            self.running[i].preempted = false;
            used = self.used_bytes();
        }
    }

    /// The oldest problems take part in the next step, as many as the batch holds. Slots that grow can come to
    /// more rows than that; a problem's clock stands while it waits, so its decisions do not depend on it.
    fn take_turns(&mut self) {
        let mut rows = 0;
        for r in self.running.iter_mut().filter(|r| !r.preempted) {
            let own = r.problem.live().len();
            r.waits = rows > 0 && rows + own > self.plan.max_batch;
            if !r.waits {
                rows += own;
            }
        }
    }

    /// Sequences for the traces that have none.
    fn begin_traces(&mut self) {
        for r in self.running.iter_mut().filter(|r| r.is_active()) {
            r.begin_traces(self.executor.as_mut());
        }
    }

    /// One token for every live trace.
    fn draw(&mut self) {
        let mut rows = emptied(std::mem::take(&mut self.rows));
        for r in self.running.iter_mut().filter(|r| r.is_active()) {
            r.add_rows(&mut rows);
        }
        self.executor.step(&rows, &mut self.drawn);
        self.rows = emptied(rows);
        if self.executor.failure().is_some() {
            return;
        }
        let mut drawn = self.drawn.iter();
        for r in self.running.iter_mut().filter(|r| r.is_active()) {
            r.take_tokens(&mut drawn, self.executor.as_ref());
        }
        self.keep_fork_points();
    }

    /// Keeps states where traces may be forked, in a part of the memory that is left.
    fn keep_fork_points(&mut self) {
        if !self.running.iter().any(RunningProblem::forks) {
            return;
        }
        let left = self.plan.budget.saturating_sub(self.memory_used()) / KEPT_PART;
        let (limits, executor) = (&self.limits, self.executor.as_mut());
        for r in &mut self.running {
            r.keep_fork_points(left, limits, executor);
        }
    }

    /// Takes ended traces out of the batch and decided problems out of the run.
    fn close(&mut self) {
        let executor = self.executor.as_mut();
        let mut i = 0;
        while i < self.running.len() {
            let r = &mut self.running[i];
            let kept = r.keep(executor);
            if kept.is_ok() && !r.problem.is_over() {
                r.progress();
                i += 1;
            } else {
                self.running.remove(i).close(kept, executor);
            }
        }
    }

    /// One more chunk of the text that is being scored.
    fn go_on_scoring(&mut self) {
        if self.pace.rests() {
            return;
        }
        let began = Instant::now();
        let executor = self.executor.as_mut();
        self.scoring = match self.scoring.take() {
            Some(scoring) => scoring.go_on(executor),
            None => self.texts.pop_front().map(|text| Scoring::new(text, executor)),
        };
        if !self.running.is_empty() {
            self.pace.waited(began.elapsed());
        }
    }
}
