//! A model on the processor's cores.
//!
//! What it keeps to itself: sequences share their prompt and copy its state when they read their first token,
//! into memory of sequences that ended; small models draw several tokens in a row ([`super::multi_step`]);
//! wide steps go through the layers in parts, one a thread; weights stay in their file until there is time to
//! pack them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::draw;
use super::memory;
use super::multi_step::{self, ActiveRow, Worker};
use super::sequence::{Entry, Prompt, Trace};
use super::state_pool::StatePool;
use super::top::{log_sum_exp, logprob, top_logprobs};
use crate::cpu::kernels::sample::scan;
use crate::cpu::kernels::{ThreadPool, Tier};
use crate::executor::{Executor, Limits, ScoreRequest, Scored, SeqId, StepRow, emptied};
use crate::sampling::{BrokenLogits, Drawn};
use crate::{BLOCK, Feed, Model, Sequence, Want, Workspace};

/// Positions that are read at a time. It bounds the workspace; results do not depend on it.
const PREFILL_CHUNK: usize = 128;

/// A model on the processor's cores, with its threads, scratch memory and sequences.
pub struct CpuExecutor {
    id: String,
    model: Arc<Model>,
    pool: ThreadPool,
    space: Workspace,
    samplers: Vec<Mutex<draw::Scratch>>,
    /// one a thread where tokens are drawn ahead, else none
    workers: Vec<Mutex<Worker>>,
    /// by handle
    sequences: Vec<Option<Entry>>,
    vacant: Vec<u32>,
    states: StatePool,
    positions: u64,
    lists: Lists,
}

/// Memory of a step's lists: its rows; feeds and the rows of logits that they have; or rows and their groups.
#[derive(Default)]
struct Lists {
    active: Vec<ActiveRow<'static>>,
    feeds: Vec<Feed<'static>>,
    logits: Vec<Option<usize>>,
    picked: Vec<&'static mut ActiveRow<'static>>,
    groups: Vec<&'static mut [&'static mut ActiveRow<'static>]>,
}

impl CpuExecutor {
    /// A model on `threads` threads, with kernels of this instruction tier.
    pub fn new(model: Arc<Model>, threads: usize, tier: Tier) -> Self {
        let pool = ThreadPool::new(threads, tier);
        Self {
            id: format!("cpu/{}", tier.name()),
            space: model.workspace(pool.threads()),
            samplers: (0..pool.threads()).map(|_| Mutex::default()).collect(),
            workers: Worker::each(&model, pool.threads(), tier)
                .into_iter()
                .map(Mutex::new)
                .collect(),
            model,
            pool,
            sequences: Vec::new(),
            vacant: Vec::new(),
            states: StatePool::default(),
            positions: 0,
            lists: Lists::default(),
        }
    }

    /// [`Executor::limits`] of a model on `threads` threads, before there is an executor.
    pub fn limits_of(model: &Model, threads: usize) -> Limits {
        let shape = model.layout();
        Limits {
            vocab: model.spec().vocab,
            context: model.spec().context,
            state_bytes: shape.state_bytes() as u64,
            recurrent: shape.state_bytes() > 0,
            block_tokens: BLOCK,
            block_bytes: shape.block_bytes() as u64,
            row_bytes: model.workspace_bytes(1, 1, 0) as u64,
            read_bytes: model.workspace_bytes(PREFILL_CHUNK, 1, threads) as u64,
            weight_bytes: model.bytes() as u64,
            free_bytes: memory::available().saturating_sub(model.unpacked_bytes() as u64),
        }
    }

    /// The state of a sequence, for tests of what it shares.
    #[doc(hidden)]
    pub fn state(&self, seq: SeqId) -> &Sequence {
        match self.entry(seq) {
            Entry::Reading(state) => state,
            Entry::Trace(trace) => trace.state(),
        }
    }

    /// An executor that draws no tokens ahead, to compare with.
    #[cfg(test)]
    pub(super) fn together(mut self) -> Self {
        self.workers.clear();
        self
    }

    fn put(&mut self, entry: Entry) -> SeqId {
        if let Some(vacant) = self.vacant.pop() {
            self.sequences[vacant as usize] = Some(entry);
            return SeqId(vacant);
        }
        self.sequences.push(Some(entry));
        SeqId(self.sequences.len() as u32 - 1)
    }
    fn entry(&self, seq: SeqId) -> &Entry {
        self.sequences[seq.0 as usize].as_ref().expect(HELD)
    }
    fn trace(&self, seq: SeqId) -> &Trace {
        match self.entry(seq) {
            Entry::Trace(trace) => trace,
            Entry::Reading(_) => panic!("the sequence has not read its text to the end"),
        }
    }
    /// Takes a trace out of the list, to be put back.
    fn take_trace(&mut self, seq: SeqId) -> Box<Trace> {
        match self.sequences[seq.0 as usize].take().expect(HELD) {
            Entry::Trace(trace) => trace,
            Entry::Reading(_) => panic!("the sequence has not read its text to the end"),
        }
    }
    fn put_back(&mut self, seq: SeqId, entry: Entry) {
        self.sequences[seq.0 as usize] = Some(entry);
    }

    /// Reads tokens into a state; with `want_last` the logits after the last are then in the workspace.
    fn read_into(&mut self, state: &mut Sequence, ids: &[u32], want_last: bool) {
        let chunks = ids.len().div_ceil(PREFILL_CHUNK);
        for (i, chunk) in ids.chunks(PREFILL_CHUNK).enumerate() {
            let last = want_last && i + 1 == chunks;
            self.forward(state, chunk, if last { Want::Last } else { Want::Nothing });
        }
    }

    fn forward(&mut self, state: &mut Sequence, chunk: &[u32], want: Want) {
        self.model.forward(
            &mut self.pool,
            &mut self.space,
            &mut [Feed::new(state, chunk, want)],
        );
        self.positions += chunk.len() as u64;
    }

    /// All rows take their token at the same time, and share every read of the weights.
    fn step_together(&mut self, active: &mut [ActiveRow<'_>]) {
        let states = &self.states;
        if active.iter().any(|row| row.trace.begins()) {
            self.pool.for_each(active, |_, row, _| {
                if row.trace.begins() {
                    row.trace.own(states);
                }
            });
        }
        // traces that have drawn nothing start from the prompt's logits
        let mut feeds = emptied(std::mem::take(&mut self.lists.feeds));
        self.lists.logits.clear();
        for row in active.iter_mut() {
            let at = row.trace.has_drawn().then_some(feeds.len());
            self.lists.logits.push(at);
            feeds.extend(row.trace.feed(states));
        }
        if !feeds.is_empty() {
            self.model.forward(&mut self.pool, &mut self.space, &mut feeds);
            self.positions += feeds.len() as u64;
        }
        self.lists.feeds = emptied(feeds);
        let (logits, at, samplers, tier) = (
            self.space.logits(),
            &self.lists.logits,
            &self.samplers,
            self.pool.tier(),
        );
        self.pool.for_each(active, |i, row, thread| {
            let mut scratch = samplers[thread].lock().unwrap_or_else(PoisonError::into_inner);
            let logits = at[i].map(|at| logits.row(at));
            row.drawn = row.trace.draw(tier, logits, &row.row, &mut scratch);
        });
    }

    /// Traces hand out what they drew before; those that have nothing left draw several tokens, in groups of
    /// a thread each.
    fn step_ahead(&mut self, active: &mut [ActiveRow<'_>]) {
        debug_assert!(
            active
                .iter()
                .all(|row| row.row.forced.is_none() || row.trace.ahead.is_empty()),
            "it was said that nothing would be forced"
        );
        let threads = self.pool.threads();
        let mut picked = emptied(std::mem::take(&mut self.lists.picked));
        multi_step::pick(active, threads, &mut picked);
        let size = multi_step::group_size(picked.len(), threads);
        let mut groups = emptied(std::mem::take(&mut self.lists.groups));
        groups.extend(picked.chunks_mut(size));
        let (workers, model, states) = (&self.workers, &self.model, &self.states);
        self.pool.for_each(&mut groups, |_, group, thread| {
            workers[thread]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .draw_several(model, states, group);
        });
        self.lists.groups = emptied(groups);
        self.lists.picked = emptied(picked);
        for worker in &mut self.workers {
            let worker = worker.get_mut().unwrap_or_else(PoisonError::into_inner);
            self.positions += std::mem::take(&mut worker.positions);
        }
        for row in active {
            row.drawn = row.trace.ahead.pop_front().unwrap_or(Err(BrokenLogits));
        }
    }
}

/// What a use of a handle that was freed, or stands in a step twice, panics with.
const HELD: &str = "a sequence that is held, once a step";

impl Executor for CpuExecutor {
    fn id(&self) -> &str {
        &self.id
    }

    fn limits(&self) -> Limits {
        Self::limits_of(&self.model, self.pool.threads())
    }

    fn scratch_bytes(&self, prompt: usize, rows: usize) -> u64 {
        let most = rows.max(prompt.min(PREFILL_CHUNK));
        self.model.workspace_bytes(most, rows, self.pool.threads()) as u64
    }

    fn begin(&mut self) -> SeqId {
        let state = self.model.sequence();
        self.put(Entry::Reading(state))
    }

    fn read(&mut self, seq: SeqId, ids: &[u32], most: usize) -> Result<usize, BrokenLogits> {
        let mut state = match self.sequences[seq.0 as usize].take().expect(HELD) {
            Entry::Reading(state) => state,
            // what it drew ahead is no part of the text
            Entry::Trace(trace) if trace.ahead.is_empty() => {
                let prompt = trace.prompt().clone();
                trace
                    .into_own()
                    .unwrap_or_else(|| self.states.fork(&prompt.state))
            }
            Entry::Trace(trace) => self.states.fork(&trace.prompt().state),
        };
        let at = state.len();
        let end = ids.len().min(at.saturating_add(whole_chunks(most)));
        let whole = end == ids.len();
        self.read_into(&mut state, &ids[at..end], whole);
        if !whole {
            self.put_back(seq, Entry::Reading(state));
            return Ok(end);
        }
        let logits = (end > at).then(|| self.space.logits().row(0).to_vec());
        let sound = |logits: &Vec<f32>| {
            let scan = scan(self.pool.tier(), logits);
            !scan.broken && scan.kept > 0
        };
        let Some(logits) = logits.filter(sound) else {
            self.put_back(seq, Entry::Reading(state));
            return Err(BrokenLogits);
        };
        let prompt = Prompt {
            ids: ids.to_vec(),
            state,
            logits,
        };
        self.put_back(seq, Entry::Trace(Box::new(Trace::new(Arc::new(prompt)))));
        Ok(end)
    }

    fn fork(&mut self, from: SeqId, n: usize) -> Vec<SeqId> {
        let (ahead, ids) = (self.is_ahead(from), self.trace(from).handed_out().to_vec());
        let mut forks = Vec::with_capacity(n);
        for _ in 0..n {
            let child = self.trace(from).fork(&self.states);
            forks.push(self.put(Entry::Trace(Box::new(child))));
        }
        if ahead {
            // the parent's state is beyond what it handed out
            let again: Vec<_> = forks.iter().map(|fork| (*fork, &ids[..])).collect();
            self.resume(&again);
        }
        forks
    }

    fn prefix(&mut self, from: SeqId, tokens: usize) -> Option<SeqId> {
        let read = match self.entry(from) {
            Entry::Reading(state) => state,
            Entry::Trace(trace) => &trace.prompt().state,
        };
        let state = if tokens == read.len() {
            self.states.fork(read)
        } else {
            read.cut(tokens)?
        };
        Some(self.put(Entry::Reading(state)))
    }

    fn resume(&mut self, traces: &[(SeqId, &[u32])]) {
        let mut taken: Vec<_> = traces
            .iter()
            .map(|(seq, ids)| (*seq, self.take_trace(*seq), *ids))
            .collect();
        // the copies of the prompt's state are made on all threads
        let states = &self.states;
        self.pool.for_each(&mut taken, |_, (_, trace, ids), _| {
            if ids.len() > 1 {
                trace.own(states);
            }
        });
        for (seq, mut trace, ids) in taken {
            // a position is the same arithmetic in a chunk as alone
            if let Some((_, read)) = ids.split_last().filter(|(_, read)| !read.is_empty()) {
                let done = trace.state().len() - trace.prompt().ids.len();
                let mut state = trace.take_own().expect("copied above");
                self.read_into(&mut state, &read[done..], false);
                trace.set_own(state);
            }
            trace.set_drawn(ids);
            self.put_back(seq, Entry::Trace(trace));
        }
    }

    fn free(&mut self, seq: SeqId) {
        if let Entry::Trace(trace) = self.sequences[seq.0 as usize].take().expect(HELD)
            && let Some(state) = trace.into_own()
        {
            self.states.give(state);
        }
        self.vacant.push(seq.0);
    }

    fn length(&self, seq: SeqId) -> usize {
        self.state(seq).len()
    }

    fn step(&mut self, rows: &[StepRow<'_>], out: &mut Vec<Result<Drawn, BrokenLogits>>) {
        let mut active = emptied(std::mem::take(&mut self.lists.active));
        for row in rows {
            active.push(ActiveRow::new(self.take_trace(row.seq), *row));
        }
        if self.workers.is_empty() {
            self.step_together(&mut active);
        } else {
            self.step_ahead(&mut active);
        }
        out.clear();
        for ActiveRow {
            trace, row, drawn, ..
        } in active.drain(..)
        {
            out.push(drawn);
            self.put_back(row.seq, Entry::Trace(trace));
        }
        self.lists.active = emptied(active);
    }

    fn top_logprobs(&self, seq: SeqId) -> &[(u32, f32)] {
        self.trace(seq).top()
    }

    fn is_ahead(&self, seq: SeqId) -> bool {
        !self.trace(seq).ahead.is_empty()
    }

    fn score(
        &mut self,
        seq: SeqId,
        request: &ScoreRequest<'_>,
        most: usize,
        each: &mut dyn FnMut(Scored<'_>),
    ) -> Result<usize, BrokenLogits> {
        let ScoreRequest {
            ids, ref positions, ..
        } = *request;
        let Entry::Reading(mut state) = self.sequences[seq.0 as usize].take().expect(HELD) else {
            panic!("a sequence that is scored is used for nothing else");
        };
        let (mut at, mut top, mut came) = (state.len(), Vec::new(), Ok(()));
        let end = ids
            .len()
            .min(positions.end)
            .min(at.saturating_add(whole_chunks(most)));
        while at < end && came.is_ok() {
            let chunk = &ids[at..end.min(at + PREFILL_CHUNK)];
            let wanted = at + chunk.len() > positions.start;
            self.forward(&mut state, chunk, if wanted { Want::All } else { Want::Nothing });
            for i in (at..at + chunk.len()).filter(|i| positions.contains(i)) {
                let row = self.space.logits().row(i - at);
                let scan = scan(self.pool.tier(), row);
                let sum = log_sum_exp(row).filter(|_| !scan.broken && scan.kept > 0);
                let Some(sum) = sum else {
                    came = Err(BrokenLogits);
                    break;
                };
                top_logprobs(row, sum, request.top_logprobs, &mut top);
                each(Scored {
                    logprob: ids.get(i + 1).map(|next| logprob(row, sum, *next)),
                    confidence: scan.confidence(),
                    top: &top,
                });
            }
            at += chunk.len();
        }
        self.put_back(seq, Entry::Reading(state));
        came.map(|()| at)
    }

    fn save(&mut self, seq: SeqId, out: &mut dyn io::Write) -> io::Result<()> {
        self.trace(seq).save(out)
    }

    fn load(&mut self, seq: SeqId, ids: &[u32], from: &mut dyn io::Read) -> io::Result<()> {
        let mut trace = self.take_trace(seq);
        let loaded = trace.load(self.model.layout(), ids, from);
        self.put_back(seq, Entry::Trace(trace));
        loaded
    }

    fn trim(&mut self, bytes: u64) {
        let keep = usize::try_from(bytes).unwrap_or(usize::MAX) / self.model.layout().state_bytes().max(1);
        self.states.trim(keep);
    }

    fn idle(&mut self) -> bool {
        self.model.pack_share(&mut self.pool)
    }

    fn stretch(&mut self, seq: SeqId, tokens: usize) {
        let mut trace = self.take_trace(seq);
        trace.own(&self.states).stretch(tokens);
        self.put_back(seq, Entry::Trace(trace));
    }

    fn positions(&self) -> u64 {
        self.positions
    }
}

/// Tokens of as many whole chunks as `most` begins, at least one.
fn whole_chunks(most: usize) -> usize {
    most.div_ceil(PREFILL_CHUNK).max(1).saturating_mul(PREFILL_CHUNK)
}
