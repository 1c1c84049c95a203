//! The batched session: lanes that advance by one token a step.
//!
//! A lane is one sequence with its own random stream, sampling settings and held-back ids. Which lanes step together changes nothing about
//! any of them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::reading::likeliest;
use super::sampler::{self, BrokenLogits, Draw, Drawn, Sampling, Seen, Stream};
use crate::model::kernels::{Pool, Tier};
use crate::model::{Feed, Model, Sequence, StateMemory, Want, Workspace};

/// Positions that a prefill reads at a time. It bounds the workspace; results do not depend on it.
pub const PREFILL_CHUNK: usize = 128;

/// A prompt that was read once: its state, to be forked, and the logits after it.
pub struct Prefix {
    sequence: Sequence,
    logits: Vec<f32>,
    ids: Vec<u32>,
}

impl Prefix {
    /// The prompt's token ids.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }
    /// Raw logits `[vocab]` after the prompt.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }
    /// State after the prompt.
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }
}

/// How a lane's tokens are drawn.
#[derive(Clone)]
pub struct Manner {
    /// Settings.
    pub sampling: Arc<Sampling>,
    /// Ids that may not be drawn.
    pub held: Arc<[u32]>,
    /// Random stream.
    pub stream: Stream,
}

/// Takes the index of a token in its chunk and the logits `[vocab]` after it.
pub(super) type Each<'a> = &'a mut dyn FnMut(usize, &[f32]);

/// State memory of lanes that ended, for those that begin.
#[derive(Default)]
struct Spare(Mutex<Vec<StateMemory>>);

impl Spare {
    fn list(&self) -> MutexGuard<'_, Vec<StateMemory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn fork(&self, sequence: &Sequence) -> Sequence {
        let memory = self.list().pop();
        sequence.fork_into(memory)
    }
}

/// One live trace.
pub struct Lane {
    spare: Arc<Spare>,
    prefix: Arc<Prefix>,
    /// its own state, once it has read a token of its own: the first token is drawn from the prompt's logits, and waits for no copy
    sequence: Option<Sequence>,
    /// drawn and not yet read; none before the first token
    pending: Option<u32>,
    drawn: usize,
    manner: Manner,
    seen: BTreeMap<u32, Seen>,
    /// how many of the likeliest ids are wanted at each token, and those of the newest one
    k: usize,
    likeliest: Vec<(u32, f32)>,
}

impl Lane {
    /// A lane that goes on from here with a stream (and settings) of its own.
    pub fn fork(&self, manner: Manner) -> Self {
        Self {
            spare: self.spare.clone(),
            prefix: self.prefix.clone(),
            sequence: self.sequence.as_ref().map(|own| self.spare.fork(own)),
            pending: self.pending,
            drawn: self.drawn,
            manner,
            seen: self.seen.clone(),
            k: self.k,
            likeliest: self.likeliest.clone(),
        }
    }
    /// The ids that the state has read after the prompt: all that were drawn but the last, of which `ids` is the list.
    pub(super) fn read<'i>(&self, ids: &'i [u32]) -> &'i [u32] {
        &ids[..self.sequence().len() - self.prefix.ids.len()]
    }
    /// The lane's state; the prompt's before its first token was read.
    pub fn sequence(&self) -> &Sequence {
        self.sequence.as_ref().unwrap_or(&self.prefix.sequence)
    }
    fn own(&mut self) -> &mut Sequence {
        self.sequence.get_or_insert_with(|| self.spare.fork(&self.prefix.sequence))
    }
    /// Tokens drawn (or forced) so far.
    pub fn tokens(&self) -> usize {
        self.drawn
    }
    /// Settings that the next draws follow.
    pub fn manner_mut(&mut self) -> &mut Manner {
        &mut self.manner
    }

    /// From its next token on, finds the `k` likeliest ids at each.
    pub(super) fn find_likeliest(&mut self, k: usize) {
        self.k = k;
    }
    /// The likeliest ids where the newest token was drawn, with their log-probabilities in nats, where they are wanted.
    pub(super) fn likeliest(&self) -> &[(u32, f32)] {
        &self.likeliest
    }

    /// Pretends that the lane read `tokens` more tokens, for measurements of speed at a long private context.
    pub(crate) fn stretch(&mut self, tokens: usize) {
        self.own().stretch(tokens);
    }

    fn note(&mut self, id: u32) {
        self.seen.entry(id).or_default().generated += 1;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.spare.list().extend(self.sequence.take().map(Sequence::into_memory));
    }
}

/// One lane's part in a step.
pub struct Turn<'a> {
    /// The lane.
    pub lane: &'a mut Lane,
    /// A token to take instead of drawing one.
    pub forced: Option<u32>,
    /// What came of it.
    pub result: Result<Drawn, BrokenLogits>,
}

impl<'a> Turn<'a> {
    /// A turn that has not been taken.
    pub fn new(lane: &'a mut Lane, forced: Option<u32>) -> Self {
        Self {
            lane,
            forced,
            result: Err(BrokenLogits),
        }
    }
}

/// A model with its threads and scratch memory.
pub struct Session {
    model: Arc<Model>,
    pool: Pool,
    space: Workspace,
    samplers: Vec<Mutex<sampler::Scratch>>,
    positions: u64,
    spare: Arc<Spare>,
    /// memory of a step's feeds, and of the rows that they have
    feeds: Vec<Feed<'static>>,
    rows: Vec<Option<usize>>,
}

/// The memory of a list whose items are gone, for items that borrow something else: collecting in place keeps it.
pub(super) fn emptied<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    list.into_iter().filter_map(|_| None).collect()
}

impl Session {
    /// A session on `threads` threads.
    pub fn new(model: Arc<Model>, threads: usize, tier: Tier) -> Self {
        let pool = Pool::new(threads, tier);
        let space = model.workspace(pool.threads());
        let samplers = (0..pool.threads()).map(|_| Mutex::default()).collect();
        Self {
            model,
            pool,
            space,
            samplers,
            positions: 0,
            spare: Arc::default(),
            feeds: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }
    /// Threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
    /// Positions that the model has read for this session: of prompts, of traces, and again where a trace was taken up later.
    pub fn positions(&self) -> u64 {
        self.positions
    }
    /// Keeps at most `bytes` of the memory of lanes that ended.
    pub(super) fn trim(&self, bytes: u64) {
        let keep = usize::try_from(bytes).unwrap_or(usize::MAX) / self.model.shape().state_bytes().max(1);
        self.spare.list().truncate(keep);
    }
    /// Instruction tier.
    pub fn tier(&self) -> Tier {
        self.pool.tier()
    }

    /// Reads tokens into a sequence; returns the logits `[vocab]` after the last.
    fn read(&mut self, sequence: &mut Sequence, ids: &[u32], want_last: bool) -> Option<Vec<f32>> {
        let chunks = ids.len().div_ceil(PREFILL_CHUNK);
        for (i, chunk) in ids.chunks(PREFILL_CHUNK).enumerate() {
            let want = if want_last && i + 1 == chunks { Want::Last } else { Want::Nothing };
            self.model
                .forward(&mut self.pool, &mut self.space, &mut [Feed::new(sequence, chunk, want)]);
            self.positions += chunk.len() as u64;
        }
        (want_last && chunks > 0).then(|| self.space.logits().row(0).to_vec())
    }

    /// Reads a prompt of at least one token.
    ///
    /// # Errors
    /// When the logits after it are not numbers.
    pub fn prefill(&mut self, ids: &[u32]) -> Result<Arc<Prefix>, BrokenLogits> {
        match self.prefill_on(self.model.sequence(), ids, usize::MAX) {
            ControlFlow::Break(prefix) => prefix,
            ControlFlow::Continue(_) => unreachable!("no prompt is longer than all tokens there can be"),
        }
    }

    /// [`Self::prefill`] in parts: reads on where `sequence` is, in whole chunks until `most` tokens are read. Gives the sequence back as long as
    /// there is more of the prompt to read. The chunks are those of one reading.
    pub(super) fn prefill_on(
        &mut self,
        mut sequence: Sequence,
        ids: &[u32],
        most: usize,
    ) -> ControlFlow<Result<Arc<Prefix>, BrokenLogits>, Sequence> {
        let at = sequence.len();
        let most = most.div_ceil(PREFILL_CHUNK).max(1).saturating_mul(PREFILL_CHUNK);
        let end = ids.len().min(at.saturating_add(most));
        let whole = end == ids.len();
        let logits = self.read(&mut sequence, &ids[at..end], whole);
        if !whole {
            return ControlFlow::Continue(sequence);
        }
        let sound = |logits: &Vec<f32>| {
            let scan = crate::model::kernels::sample::scan(self.pool.tier(), logits);
            !scan.broken && scan.kept > 0
        };
        ControlFlow::Break(logits.filter(sound).ok_or(BrokenLogits).map(|logits| {
            Arc::new(Prefix {
                sequence,
                logits,
                ids: ids.to_vec(),
            })
        }))
    }

    /// A lane after the prompt and `ids`, which it had drawn before. Reading them again gives the state bit for bit, because a position is the
    /// same arithmetic in a chunk as alone.
    pub fn lane(&mut self, prefix: &Arc<Prefix>, ids: &[u32], manner: Manner) -> Lane {
        self.go_on(prefix, None, ids, manner)
    }

    /// [`Self::lane`] for each of `wanted`, or from a state that has read some of its ids; the copies of the prompt's state are made on all threads.
    pub fn lanes<'i>(
        &mut self,
        prefix: &Arc<Prefix>,
        wanted: impl IntoIterator<Item = (&'i [u32], Manner, Option<Sequence>)>,
    ) -> Vec<Lane> {
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        let spare = &self.spare;
        self.pool.for_each(&mut wanted, |_, (ids, _, sequence), _| {
            if ids.len() > 1 {
                sequence.get_or_insert_with(|| spare.fork(&prefix.sequence));
            }
        });
        let lane = |(ids, manner, sequence)| self.go_on(prefix, sequence, ids, manner);
        wanted.into_iter().map(lane).collect()
    }

    fn go_on(&mut self, prefix: &Arc<Prefix>, mut sequence: Option<Sequence>, ids: &[u32], manner: Manner) -> Lane {
        if let Some((_, read)) = ids.split_last().filter(|(_, read)| !read.is_empty()) {
            let sequence = sequence.get_or_insert_with(|| self.spare.fork(&prefix.sequence));
            let done = sequence.len() - prefix.ids.len();
            self.read(sequence, &read[done..], false);
        }
        let mut lane = Lane {
            spare: self.spare.clone(),
            prefix: prefix.clone(),
            sequence,
            pending: ids.last().copied(),
            drawn: ids.len(),
            manner,
            seen: BTreeMap::new(),
            k: 0,
            likeliest: Vec::new(),
        };
        // kept whether or not penalties are on: the settings may change on the way
        for id in prefix.ids() {
            lane.seen.entry(*id).or_default().prompt = true;
        }
        for id in ids {
            lane.note(*id);
        }
        lane
    }

    /// One token for every turn's lane.
    pub fn step(&mut self, turns: &mut [Turn<'_>]) {
        let begins = |lane: &Lane| lane.pending.is_some() && lane.sequence.is_none();
        if turns.iter().any(|turn| begins(turn.lane)) {
            self.pool.for_each(turns, |_, turn, _| {
                if begins(turn.lane) {
                    turn.lane.own();
                }
            });
        }
        // lanes that have drawn nothing start from the prompt's logits
        let mut feeds = emptied(std::mem::take(&mut self.feeds));
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        for turn in turns.iter_mut() {
            let lane = &mut *turn.lane;
            rows.push(lane.pending.is_some().then_some(feeds.len()));
            if let Some(pending) = &lane.pending {
                let sequence = lane.sequence.as_mut().expect("copied above");
                feeds.push(Feed::new(sequence, std::slice::from_ref(pending), Want::Last));
            }
        }
        if !feeds.is_empty() {
            self.model.forward(&mut self.pool, &mut self.space, &mut feeds);
            self.positions += feeds.len() as u64;
        }
        self.feeds = emptied(feeds);
        let (logits, samplers, tier) = (self.space.logits(), &self.samplers, self.pool.tier());
        self.pool.for_each(turns, |i, turn, thread| {
            let lane = &mut *turn.lane;
            let row = rows[i].map_or(&lane.prefix.logits[..], |r| logits.row(r));
            let Manner { sampling, held, stream } = &mut lane.manner;
            let how = Draw {
                sampling,
                uniform: stream.uniform(lane.drawn),
                forced: turn.forced,
                held,
                seen: &lane.seen,
            };
            let mut scratch = samplers[thread].lock().unwrap_or_else(PoisonError::into_inner);
            turn.result = sampler::draw(tier, row, &how, &mut scratch);
            if lane.k > 0 {
                lane.likeliest = likeliest(row, lane.k).unwrap_or_default();
            }
            if let Ok(drawn) = &turn.result {
                lane.pending = Some(drawn.id);
                lane.drawn += 1;
                lane.note(drawn.id);
            }
        });
        self.rows = rows;
    }

    /// Reads at most [`PREFILL_CHUNK`] tokens into a sequence; with `each` the logits after every one of them are handed out.
    pub(super) fn read_chunk(&mut self, sequence: &mut Sequence, chunk: &[u32], each: Option<Each<'_>>) {
        let want = if each.is_some() { Want::All } else { Want::Nothing };
        self.model
            .forward(&mut self.pool, &mut self.space, &mut [Feed::new(sequence, chunk, want)]);
        self.positions += chunk.len() as u64;
        if let Some(each) = each {
            for r in 0..chunk.len() {
                each(r, self.space.logits().row(r));
            }
        }
    }

    /// Raw logits `[ids, vocab]` of every position of `ids`, handed out chunk by chunk as (first position, rows).
    pub fn score(&mut self, ids: &[u32], mut each: impl FnMut(usize, &[f32])) {
        let mut sequence = self.model.sequence();
        for (i, chunk) in ids.chunks(PREFILL_CHUNK).enumerate() {
            let mut of_chunk = |r: usize, row: &[f32]| each(i * PREFILL_CHUNK + r, row);
            self.read_chunk(&mut sequence, chunk, Some(&mut of_chunk));
        }
    }
}
