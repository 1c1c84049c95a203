//! Runs problems on a session: admits them, steps their rows together, and sees to it that memory is there
//! before it is needed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tts_strategies::TraceId;

use super::memory::Plan;
use super::reading::{Reading, ToRead};
use crate::run::{
    Bounds, Checkpoint, Cut, Event, Observer, Outcome, Problem, Ran, Request, RunError, RunObserver, Token,
};
use tts_model::Sequence;
use tts_model::sampler::{Sampling, Stream};
use tts_model::session::{Lane, Manner, Prefix, Session, Turn, emptied};

/// Tokens of prompts that are read between two steps, or twice as many as there are rows: a long prompt holds
/// nobody up, and many short ones come in as fast as short traces end.
const READ: usize = 256;

/// Called once with the outcome.
pub type Reply = Box<dyn FnOnce(Result<Outcome, RunError>) + Send>;

/// A problem to run, for whom, and who waits for it.
pub struct Ticket {
    /// What is run.
    pub request: Request,
    /// Who watches.
    pub observer: Observer,
    /// Takes the outcome.
    pub reply: Reply,
}

/// A problem that has not begun.
struct Waiting {
    ticket: Ticket,
    /// how far its prompt is read
    begun: Option<Sequence>,
}

struct Running {
    problem: Problem,
    observer: RunObserver,
    checkpoint: Option<Checkpoint>,
    reply: Option<Reply>,
    sampling: Arc<Sampling>,
    seed: u64,
    banned_ids: Arc<[u32]>,
    prefix: Arc<Prefix>,
    lanes: BTreeMap<TraceId, Lane>,
    /// set aside: its lanes are gone until there is memory for them
    aside: bool,
    slots: usize,
    bounds: Bounds,
    wanted_slots: usize,
    peak_rows: usize,
}

/// Runs any number of problems in one batch.
pub struct Scheduler {
    session: Session,
    plan: Plan,
    waiting: VecDeque<Waiting>,
    running: Vec<Running>,
    /// texts to read, one at a time and one chunk a turn
    to_read: VecDeque<ToRead>,
    reading: Option<Reading>,
    /// memory of a step's turns, and of what came of them
    turns: Vec<Turn<'static>>,
    results: Vec<Token>,
}

impl Scheduler {
    /// A scheduler that keeps to `plan`.
    pub fn new(session: Session, plan: Plan) -> Self {
        Self {
            session,
            plan,
            waiting: VecDeque::new(),
            running: Vec::new(),
            to_read: VecDeque::new(),
            reading: None,
            turns: Vec::new(),
            results: Vec::new(),
        }
    }
    /// Queues a problem.
    pub fn submit(&mut self, ticket: Ticket) {
        self.waiting.push_back(Waiting { ticket, begun: None });
    }
    /// Queues a text whose tokens' likeliest alternatives are asked for.
    pub fn read(&mut self, text: ToRead) {
        self.to_read.push_back(text);
    }
    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.running.is_empty()
            && self.to_read.is_empty()
            && self.reading.is_none()
    }
    /// The session.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }
    /// Bytes that prompts and traces hold; at most the plan's budget, unless a single trace takes more.
    pub fn memory_used(&self) -> u64 {
        self.used()
    }

    /// Admits what fits, then gives every active problem one tick.
    pub fn turn(&mut self) {
        self.obey();
        self.admit();
        self.make_room();
        self.step();
        self.close();
        self.read_on();
        if self.running.is_empty() {
            self.session.trim(0);
        }
    }

    /// One more chunk of the text that is being read.
    fn read_on(&mut self) {
        self.reading = match self.reading.take() {
            Some(reading) => reading.go_on(&mut self.session),
            None => self
                .to_read
                .pop_front()
                .map(|text| Reading::new(text, self.session.model())),
        };
    }

    /// Cancellations, interrupts and deadlines.
    fn obey(&mut self) {
        let wanted = |o: &Observer| !o.control.cancelled.load(Ordering::Relaxed);
        self.waiting.retain(|w| wanted(&w.ticket.observer));
        self.running.retain(|r| wanted(&r.observer.caller));
        let now = Instant::now();
        let cut = |o: &Observer| {
            if o.control.interrupted.is_cancelled() {
                Some(Cut::Interrupted)
            } else {
                o.deadline.is_some_and(|d| now >= d).then_some(Cut::TimeLimit)
            }
        };
        for r in &mut self.running {
            if let Some(cut) = cut(&r.observer.caller) {
                r.problem.cut(cut);
            }
        }
        let mut i = 0;
        while i < self.waiting.len() {
            match cut(&self.waiting[i].ticket.observer) {
                Some(cut) => {
                    let Waiting { ticket, .. } = self.waiting.remove(i).expect("in range");
                    (ticket.reply)(Err(RunError::NotStarted(cut)));
                }
                None => i += 1,
            }
        }
    }

    /// Reads the prompts of those that fit, a part at a time, and lets them begin.
    fn admit(&mut self) {
        let mut left = READ.max(2 * self.rows());
        while let Some(Waiting { ticket: next, .. }) = self.waiting.front().filter(|_| left > 0) {
            // what was set aside comes back first, or it might wait for ever
            if self.running.iter().any(|r| r.aside) {
                return;
            }
            let reserved: usize = self.running.iter().map(|r| r.slots).sum();
            let wanted = next.request.setup.bounds.slots.max(1);
            let slots = wanted.min(self.plan.max_batch);
            let (prompt, each) =
                self.expected(next.request.prompt.ids.len(), next.request.setup.rules.max_tokens);
            let free = self
                .plan
                .budget
                .saturating_sub(self.promised())
                .saturating_sub(prompt);
            let fits = (free / each.max(1)).min(slots as u64) as usize;
            let busy = self.rows() > self.plan.most_before(slots);
            if !self.running.is_empty() && (busy || reserved + slots > self.plan.max_batch || fits < slots) {
                return;
            }
            let slots = slots.min(fits.max(1));
            let Waiting { ticket, begun } = self.waiting.pop_front().expect("there is a front");
            let begun = begun.unwrap_or_else(|| self.session.model().sequence());
            let to_read = ticket.request.prompt.ids.len() - begun.len();
            match self.session.prefill_on(begun, &ticket.request.prompt.ids, left) {
                ControlFlow::Continue(begun) => {
                    let begun = Some(begun);
                    self.waiting.push_front(Waiting { ticket, begun });
                    return;
                }
                ControlFlow::Break(Ok(prefix)) => self.start(ticket, prefix, wanted, slots),
                ControlFlow::Break(Err(_)) => {
                    (ticket.reply)(Err(RunError::BrokenPrompt(ticket.request.setup.id)))
                }
            }
            left = left.saturating_sub(to_read);
        }
    }

    fn start(&mut self, ticket: Ticket, prefix: Arc<Prefix>, wanted: usize, slots: usize) {
        let Ticket {
            mut request,
            mut observer,
            reply,
        } = ticket;
        let prompt = request.prompt.ids.len();
        request.setup.bounds.slots = slots;
        let bounds = request.setup.bounds.clone();
        let checkpoint = observer.checkpoint.take();
        let observer = RunObserver::new(observer);
        let problem = Problem::new(request.setup);
        observer.tell(|| Event::Started {
            problem: problem.id().to_owned(),
            slots,
            prompt_tokens: prompt,
        });
        let mut running = Running {
            problem,
            observer,
            checkpoint,
            reply: Some(reply),
            sampling: Arc::new(request.sampling),
            seed: request.seed,
            banned_ids: request.banned_ids.into(),
            prefix,
            lanes: BTreeMap::new(),
            aside: false,
            slots,
            bounds,
            wanted_slots: wanted,
            peak_rows: 0,
        };
        if slots < wanted {
            let per = self
                .session
                .model()
                .layout()
                .sequence_bytes(self.plan.expected_tokens, prompt) as f64
                / f64::from(1 << 20);
            running.notice(format!(
                "{slots} traces at a time instead of {wanted}: the batch holds {} rows and a trace takes {per:.1} MiB",
                self.plan.max_batch
            ));
        }
        self.running.push(running);
    }

    /// Rows that the running problems have, or are about to have.
    pub fn rows(&self) -> usize {
        let rows = |r: &Running| {
            if r.problem.ticks() == 0 {
                r.slots
            } else {
                r.problem.in_flight()
            }
        };
        self.running.iter().map(rows).sum()
    }

    /// Bytes that prompts and lanes hold.
    fn used(&self) -> u64 {
        let shape = self.session.model().layout();
        let reading = self
            .reading
            .as_ref()
            .map_or(0, |r| shape.sequence_bytes(r.tokens(), 0) as u64);
        let begun = self.waiting.iter().filter_map(|w| w.begun.as_ref());
        let begun: u64 = begun.map(|b| shape.sequence_bytes(b.len(), 0) as u64).sum();
        self.running.iter().map(|r| self.held(r)).sum::<u64>() + reading + begun
    }

    fn held(&self, r: &Running) -> u64 {
        let shape = self.session.model().layout();
        let prompt = r.prefix.ids().len();
        let lanes: usize = r
            .lanes
            .values()
            .map(|l| shape.sequence_bytes(l.sequence().len(), prompt))
            .sum();
        (shape.sequence_bytes(prompt, 0) + lanes) as u64
    }

    /// Bytes of a prompt, and of each trace at the length it is expected to reach.
    fn expected(&self, prompt: usize, max_tokens: usize) -> (u64, u64) {
        let shape = self.session.model().layout();
        let tokens = prompt + max_tokens.min(self.plan.expected_tokens.saturating_sub(prompt));
        (
            shape.sequence_bytes(prompt, 0) as u64,
            shape.sequence_bytes(tokens, prompt) as u64,
        )
    }

    /// Bytes that the running problems hold or are expected to.
    fn promised(&self) -> u64 {
        let each = |r: &Running| {
            let (prompt, each) = self.expected(r.prefix.ids().len(), r.problem.rules().max_tokens);
            self.held(r).max(prompt + r.problem.slots() as u64 * each)
        };
        self.running.iter().map(each).sum()
    }

    /// Bytes that the next tick of problem `r` takes beyond what it holds.
    fn next_tick(&self, r: &Running) -> u64 {
        let shape = self.session.model().layout();
        let prompt = r.prefix.ids().len();
        r.problem
            .live()
            .iter()
            .filter(|row| row.is_live())
            .map(|row| {
                let after = shape.sequence_bytes(prompt + row.tokens(), prompt);
                let held = r
                    .lanes
                    .get(&row.trace())
                    .map_or(0, |l| shape.sequence_bytes(l.sequence().len(), prompt));
                after.saturating_sub(held) as u64
            })
            .sum()
    }

    /// Forgets prompts that are not read to the end: they are read again when there is room. Whether there
    /// were any.
    fn forget_begun(&mut self) -> bool {
        self.waiting.iter_mut().filter_map(|w| w.begun.take()).count() > 0
    }

    /// Sets problems aside, youngest first, until the next tick fits; a lone problem goes on with fewer
    /// slots. Brings back what fits again.
    fn make_room(&mut self) {
        let mut used = self.used();
        for i in 0..self.running.len() {
            if self.running[i].aside {
                let others: u64 = (0..i).map(|j| self.next_tick(&self.running[j])).sum();
                // headroom of one block a row, or it would go out again at once
                let headroom = (self.running[i].problem.live().len()
                    * self.session.model().layout().block_bytes()) as u64;
                if used + others + self.next_tick(&self.running[i]) + headroom > self.plan.budget && i > 0 {
                    break;
                }
                self.running[i].aside = false;
                used = self.used();
            }
        }
        loop {
            let active: Vec<usize> = (0..self.running.len())
                .filter(|i| !self.running[*i].aside)
                .collect();
            let needed: u64 = active.iter().map(|i| self.next_tick(&self.running[*i])).sum();
            let left = self.plan.budget.checked_sub(self.used() + needed);
            // memory of ended traces is kept for others as long as nothing else needs it
            self.session.trim(left.unwrap_or(0));
            if left.is_some() {
                return;
            }
            if !active.is_empty() && self.forget_begun() {
                continue;
            }
            match active[..] {
                [] => return,
                [lone] => {
                    let r = &mut self.running[lone];
                    let live = r.problem.live().len();
                    if live <= 1 {
                        r.notice(
                            "memory holds less than one trace of this length; going on beyond the plan"
                                .to_owned(),
                        );
                        return;
                    }
                    r.problem.set_slots(live - 1);
                    let rows: BTreeSet<TraceId> =
                        r.problem.live().iter().map(crate::run::Row::trace).collect();
                    r.lanes.retain(|trace, _| rows.contains(trace));
                    r.notice(format!(
                        "traces outgrew the memory: {} at a time from token {}",
                        live - 1,
                        r.problem.ticks()
                    ));
                }
                [.., youngest] => {
                    let r = &mut self.running[youngest];
                    r.aside = true;
                    r.lanes.clear();
                    r.notice(
                        "set aside until there is memory; it will go on exactly where it was".to_owned(),
                    );
                }
            }
        }
    }

    fn step(&mut self) {
        // lanes for rows that have none: new traces, rows whose record ended, rows brought back
        for r in self
            .running
            .iter_mut()
            .filter(|r| !r.aside && !r.problem.is_over())
        {
            let missing = || {
                r.problem
                    .live()
                    .iter()
                    .filter(|row| row.is_live() && !r.lanes.contains_key(&row.trace()))
            };
            let traces: Vec<_> = missing().map(|row| row.trace()).collect();
            let shape = self.session.model().layout().clone();
            let wanted = missing().map(|row| {
                let manner = Manner {
                    sampling: r.sampling.clone(),
                    held: r.banned_ids.clone(),
                    stream: Stream::new(r.seed, r.problem.id(), row.trace()),
                };
                // the last id is the next that is read
                let kept = row.ids().split_last().and_then(|(_, read)| {
                    let snapshots = r.checkpoint.as_ref()?;
                    snapshots.load(r.problem.id(), row.trace(), &r.prefix, read, &shape)
                });
                (row.ids(), manner, kept)
            });
            let mut lanes = self.session.lanes(&r.prefix, wanted);
            if let Some(pages) = &r.observer.caller.control.pages {
                lanes.iter_mut().for_each(|lane| lane.find_likeliest(pages.k()));
            }
            r.lanes.extend(traces.into_iter().zip(lanes));
            r.peak_rows = r.peak_rows.max(r.lanes.len());
        }
        let mut turns = emptied(std::mem::take(&mut self.turns));
        for r in self
            .running
            .iter_mut()
            .filter(|r| !r.aside && !r.problem.is_over())
        {
            let mut lanes = r.lanes.iter_mut().peekable();
            let rules = r.problem.rules();
            let kept_now = r
                .checkpoint
                .as_ref()
                .is_some_and(|snapshots| r.observer.is_due(snapshots.every));
            for row in r.problem.live().iter().filter(|row| row.is_live()) {
                while lanes.peek().is_some_and(|(trace, _)| **trace < row.trace()) {
                    lanes.next();
                }
                let (_, lane) = lanes.next().expect("every live row has a lane");
                let free = if kept_now { 0 } else { row.free(rules) };
                turns.push(Turn::new(lane, row.forced()).then(free, rules.stops()));
            }
        }
        self.session.step(&mut turns);
        let results = &mut self.results;
        results.clear();
        results.extend(turns.iter().map(|t| t.result.map_or(Token::Broken, Token::Drawn)));
        self.turns = emptied(turns);
        let mut results = results.iter();
        for r in self
            .running
            .iter_mut()
            .filter(|r| !r.aside && !r.problem.is_over())
        {
            r.problem
                .tick(|_, _| *results.next().expect("one for every live row"));
            if let (Some(pages), Some(first)) = (
                &r.observer.caller.control.pages,
                r.problem.live().first().filter(|row| row.trace() == 0),
            ) {
                pages.write(first, r.lanes.get(&0).map_or(&[], Lane::likeliest));
            }
        }
    }

    /// Takes ended traces out of the batch and decided problems out of the run.
    fn close(&mut self) {
        let mut i = 0;
        while i < self.running.len() {
            let r = &mut self.running[i];
            let kept = r.keep();
            if kept.is_ok() && !r.problem.is_over() {
                r.observer.progress(&r.problem);
                i += 1;
                continue;
            }
            let mut r = self.running.remove(i);
            let reply = r.reply.take().expect("replied once");
            let ran = Ran {
                prompt_tokens: r.prefix.ids().len(),
                bounds: r.bounds,
                slots_wanted: r.wanted_slots,
                peak_rows: r.peak_rows,
            };
            reply(kept.and_then(|()| r.observer.close(&r.problem, ran)));
        }
    }
}

impl Running {
    fn notice(&mut self, text: String) {
        self.observer.notice(self.problem.id(), text);
    }

    /// Keeps what ended, and traces in flight with their states.
    fn keep(&mut self) -> Result<(), RunError> {
        let (snapshots, lanes, prefix) = (self.checkpoint.as_ref(), &mut self.lanes, &self.prefix);
        self.observer.keep(&mut self.problem, |problem, record| {
            lanes.remove(&record.trace);
            if let Some(snapshots) = snapshots {
                snapshots.forget(problem, record.trace);
            }
        })?;
        // a state that is ahead of its tokens is not kept; when it is time, lanes run ahead no more
        let Some(snapshots) = snapshots.filter(|_| !lanes.values().any(Lane::is_ahead)) else {
            return Ok(());
        };
        self.observer
            .checkpoint(&self.problem, snapshots.every, |problem, record| {
                let Some(lane) = lanes.get(&record.trace) else {
                    return Ok(());
                };
                let read = lane.read(&record.arrays.token_ids);
                let saved = snapshots.save(problem, record.trace, prefix, read, lane.sequence());
                saved.map_err(|e| format!("{}: {e}", snapshots.dir.display()))
            })
    }
}
