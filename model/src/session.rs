//! The batched session: lanes that advance by one token a step.
//!
//! A lane is one sequence with its own random stream, sampling settings and held-back ids. Which lanes step
//! together changes nothing about any of them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ahead::{self, Hand};
use crate::kernels::{Pool, Tier};
use crate::sampler::{self, BrokenLogits, Draw, Drawn, Sampling, Seen, Stream};
use crate::top::likeliest;
use crate::{BLOCK, Feed, Model, Sequence, StateMemory, Want, Workspace};

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
pub type Each<'a> = &'a mut dyn FnMut(usize, &[f32]);

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
    /// its own state, once it has read a token of its own: the first token is drawn from the prompt's logits,
    /// and waits for no copy
    sequence: Option<Sequence>,
    /// drawn and not yet read; none before the first token
    pending: Option<u32>,
    drawn: usize,
    /// drawn and not yet handed out, oldest first
    pub(crate) ahead: VecDeque<Result<Drawn, BrokenLogits>>,
    manner: Manner,
    seen: BTreeMap<u32, Seen>,
    /// how many of the likeliest ids are wanted at each token, and those of the newest one
    k: usize,
    likeliest: Vec<(u32, f32)>,
}

impl Lane {
    /// A lane that goes on from here with a stream (and settings) of its own.
    ///
    /// # Panics
    /// When the lane has drawn tokens that it has not handed out: its state is beyond them. Steps draw none
    /// early where [`Turn::then`] does not allow it.
    pub fn fork(&self, manner: Manner) -> Self {
        assert!(
            self.ahead.is_empty(),
            "a lane that is ahead cannot be forked where it was"
        );
        Self {
            spare: self.spare.clone(),
            prefix: self.prefix.clone(),
            sequence: self.sequence.as_ref().map(|own| self.spare.fork(own)),
            pending: self.pending,
            drawn: self.drawn,
            ahead: VecDeque::new(),
            manner,
            seen: self.seen.clone(),
            k: self.k,
            likeliest: self.likeliest.clone(),
        }
    }
    /// The ids that the state has read after the prompt: all that were drawn but the last, of which `ids` is
    /// the list.
    pub fn read<'i>(&self, ids: &'i [u32]) -> &'i [u32] {
        &ids[..self.sequence().len() - self.prefix.ids.len()]
    }
    /// The lane's state; the prompt's before its first token was read.
    pub fn sequence(&self) -> &Sequence {
        self.sequence.as_ref().unwrap_or(&self.prefix.sequence)
    }
    fn own(&mut self) -> &mut Sequence {
        self.sequence
            .get_or_insert_with(|| self.spare.fork(&self.prefix.sequence))
    }
    /// Tokens drawn (or forced) and handed out so far.
    pub fn tokens(&self) -> usize {
        self.drawn - self.ahead.iter().filter(|drawn| drawn.is_ok()).count()
    }
    /// Whether its state has read tokens that were not handed out.
    pub fn is_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }
    /// Settings that the next draws follow.
    pub fn manner_mut(&mut self) -> &mut Manner {
        &mut self.manner
    }

    /// From its next token on, finds the `k` likeliest ids at each.
    pub fn find_likeliest(&mut self, k: usize) {
        self.k = k;
    }
    /// The likeliest ids where the newest token was drawn, with their log-probabilities in nats, where they
    /// are wanted.
    pub fn likeliest(&self) -> &[(u32, f32)] {
        &self.likeliest
    }

    /// Pretends that the lane read `tokens` more tokens, for measurements of speed at a long private context.
    pub fn stretch(&mut self, tokens: usize) {
        self.own().stretch(tokens);
    }

    fn note(&mut self, id: u32) {
        self.seen.entry(id).or_default().generated += 1;
    }

    /// Whether its next token depends on what its state reads first; before it has drawn anything it depends
    /// on the prompt's logits.
    pub(crate) fn has_read(&self) -> bool {
        self.pending.is_some()
    }
    /// Whether its state reads on without more memory, which is asked for by the step.
    fn has_room(&self) -> bool {
        self.sequence
            .as_ref()
            .is_some_and(|own| !own.len().is_multiple_of(BLOCK))
    }
    /// What its state reads next.
    pub(crate) fn feed(&mut self) -> Option<Feed<'_>> {
        self.pending?;
        self.own();
        let sequence = self.sequence.as_mut().expect("copied above");
        Some(Feed::new(sequence, self.pending.as_slice(), Want::Last))
    }
    /// Takes a token from the logits after what was read, or from the prompt's.
    pub(crate) fn draw(
        &mut self,
        tier: Tier,
        logits: Option<&[f32]>,
        forced: Option<u32>,
        scratch: &mut sampler::Scratch,
    ) -> Result<Drawn, BrokenLogits> {
        let row = logits.unwrap_or(&self.prefix.logits);
        let Manner {
            sampling,
            held,
            stream,
        } = &mut self.manner;
        let how = Draw {
            sampling,
            uniform: stream.uniform(self.drawn),
            forced,
            held,
            seen: &self.seen,
        };
        let drawn = sampler::draw(tier, row, &how, scratch);
        if self.k > 0 {
            self.likeliest = likeliest(row, self.k).unwrap_or_default();
        }
        if let Ok(Drawn { id, .. }) = drawn {
            self.pending = Some(id);
            self.drawn += 1;
            self.note(id);
        }
        drawn
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.spare
            .list()
            .extend(self.sequence.take().map(Sequence::into_memory));
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
    free: usize,
    stops: &'a [u32],
    /// whether it draws in this round
    pub(crate) draws: bool,
}

impl<'a> Turn<'a> {
    /// A turn that has not been taken.
    pub fn new(lane: &'a mut Lane, forced: Option<u32>) -> Self {
        Self {
            lane,
            forced,
            result: Err(BrokenLogits),
            free: 0,
            stops: &[],
            draws: false,
        }
    }

    /// Says that `free` tokens after this one will be drawn as the lane stands, none forced and no setting
    /// changed, unless the trace ends before; after one of `stops` none is drawn. The session may draw them
    /// now, for later steps.
    pub fn then(mut self, free: usize, stops: &'a [u32]) -> Self {
        (self.free, self.stops) = (free, stops);
        self
    }

    /// Whether the lane has a token to draw, for this step or a later one.
    pub(crate) fn wants(&self) -> bool {
        let lane = &*self.lane;
        match lane.ahead.back() {
            None => true,
            // the likeliest ids are those of the newest token
            Some(Ok(last)) => {
                let few = lane.ahead.len() <= self.free && lane.ahead.len() < ahead::MOST;
                few && lane.k == 0 && lane.has_room() && !self.stops.contains(&last.id)
            }
            Some(Err(BrokenLogits)) => false,
        }
    }
}

/// A model with its threads and scratch memory.
pub struct Session {
    model: Arc<Model>,
    pool: Pool,
    space: Workspace,
    samplers: Vec<Mutex<sampler::Scratch>>,
    /// one a thread where tokens are drawn ahead, else none
    hands: Vec<Mutex<Hand>>,
    positions: u64,
    spare: Arc<Spare>,
    /// memory of a step's lists: feeds and the rows that they have, or turns and their groups
    feeds: Vec<Feed<'static>>,
    rows: Vec<Option<usize>>,
    picked: Vec<&'static mut Turn<'static>>,
    groups: Vec<&'static mut [&'static mut Turn<'static>]>,
}

/// The memory of a list whose items are gone, for items that borrow something else: collecting in place keeps
/// it.
pub fn emptied<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    list.into_iter().filter_map(|_| None).collect()
}

impl Session {
    /// A session on `threads` threads.
    pub fn new(model: Arc<Model>, threads: usize, tier: Tier) -> Self {
        let pool = Pool::new(threads, tier);
        let space = model.workspace(pool.threads());
        let samplers = (0..pool.threads()).map(|_| Mutex::default()).collect();
        let hands = Hand::each(&model, pool.threads(), tier)
            .into_iter()
            .map(Mutex::new)
            .collect();
        Self {
            model,
            pool,
            space,
            samplers,
            hands,
            positions: 0,
            spare: Arc::default(),
            feeds: Vec::new(),
            rows: Vec::new(),
            picked: Vec::new(),
            groups: Vec::new(),
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
    /// Packs all weights that are still in their file.
    pub fn pack(&mut self) {
        self.model.pack(&mut self.pool);
    }
    /// Packs a share of them; false where there is nothing to do.
    pub fn pack_share(&mut self) -> bool {
        self.model.pack_share(&mut self.pool)
    }
    /// Positions that the model has read for this session: of prompts, of traces, again where a trace was
    /// taken up later, and ahead of traces that were then stopped.
    pub fn positions(&self) -> u64 {
        self.positions
    }
    /// Keeps at most `bytes` of the memory of lanes that ended.
    pub fn trim(&self, bytes: u64) {
        let keep = usize::try_from(bytes).unwrap_or(usize::MAX) / self.model.layout().state_bytes().max(1);
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
            let want = if want_last && i + 1 == chunks {
                Want::Last
            } else {
                Want::Nothing
            };
            self.model.forward(
                &mut self.pool,
                &mut self.space,
                &mut [Feed::new(sequence, chunk, want)],
            );
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

    /// [`Self::prefill`] in parts: reads on where `sequence` is, in whole chunks until `most` tokens are
    /// read. Gives the sequence back as long as there is more of the prompt to read. The chunks are those of
    /// one reading.
    pub fn prefill_on(
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
            let scan = crate::kernels::sample::scan(self.pool.tier(), logits);
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

    /// A lane after the prompt and `ids`, which it had drawn before. Reading them again gives the state bit
    /// for bit, because a position is the same arithmetic in a chunk as alone.
    pub fn lane(&mut self, prefix: &Arc<Prefix>, ids: &[u32], manner: Manner) -> Lane {
        self.go_on(prefix, None, ids, manner)
    }

    /// [`Self::lane`] for each of `wanted`, or from a state that has read some of its ids; the copies of the
    /// prompt's state are made on all threads.
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

    fn go_on(
        &mut self,
        prefix: &Arc<Prefix>,
        mut sequence: Option<Sequence>,
        ids: &[u32],
        manner: Manner,
    ) -> Lane {
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
            ahead: VecDeque::new(),
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
        if self.hands.is_empty() {
            self.step_together(turns);
        } else {
            self.step_ahead(turns);
        }
    }

    /// A session that draws no tokens ahead, to compare with.
    #[cfg(test)]
    pub(crate) fn together(mut self) -> Self {
        self.hands.clear();
        self
    }

    /// All rows take their token at the same time, and share every read of the weights.
    fn step_together(&mut self, turns: &mut [Turn<'_>]) {
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
            rows.push(turn.lane.has_read().then_some(feeds.len()));
            feeds.extend(turn.lane.feed());
        }
        if !feeds.is_empty() {
            self.model.forward(&mut self.pool, &mut self.space, &mut feeds);
            self.positions += feeds.len() as u64;
        }
        self.feeds = emptied(feeds);
        let (logits, samplers, tier) = (self.space.logits(), &self.samplers, self.pool.tier());
        self.pool.for_each(turns, |i, turn, thread| {
            let mut scratch = samplers[thread].lock().unwrap_or_else(PoisonError::into_inner);
            turn.result = turn
                .lane
                .draw(tier, rows[i].map(|r| logits.row(r)), turn.forced, &mut scratch);
        });
        self.rows = rows;
    }

    /// Lanes hand out what they drew before; those that have nothing left draw several tokens, in groups of a
    /// thread each.
    fn step_ahead(&mut self, turns: &mut [Turn<'_>]) {
        debug_assert!(
            turns
                .iter()
                .all(|turn| turn.forced.is_none() || !turn.lane.is_ahead()),
            "it was said to be free"
        );
        let threads = self.pool.threads();
        let mut picked = emptied(std::mem::take(&mut self.picked));
        ahead::pick(turns, threads, &mut picked);
        let size = ahead::group_size(picked.len(), threads);
        let mut groups = emptied(std::mem::take(&mut self.groups));
        groups.extend(picked.chunks_mut(size));
        let (hands, model) = (&self.hands, &self.model);
        self.pool.for_each(&mut groups, |_, group, thread| {
            hands[thread]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(model, group);
        });
        self.groups = emptied(groups);
        self.picked = emptied(picked);
        for hand in &mut self.hands {
            let hand = hand.get_mut().unwrap_or_else(PoisonError::into_inner);
            self.positions += std::mem::take(&mut hand.positions);
        }
        for turn in turns {
            turn.result = turn.lane.ahead.pop_front().unwrap_or(Err(BrokenLogits));
        }
    }

    /// Reads at most [`PREFILL_CHUNK`] tokens into a sequence; with `each` the logits after every one of them
    /// are handed out.
    pub fn read_chunk(&mut self, sequence: &mut Sequence, chunk: &[u32], each: Option<Each<'_>>) {
        let want = if each.is_some() { Want::All } else { Want::Nothing };
        self.model.forward(
            &mut self.pool,
            &mut self.space,
            &mut [Feed::new(sequence, chunk, want)],
        );
        self.positions += chunk.len() as u64;
        if let Some(each) = each {
            for r in 0..chunk.len() {
                each(r, self.space.logits().row(r));
            }
        }
    }

    /// Raw logits `[ids, vocab]` of every position of `ids`, handed out chunk by chunk as (first position,
    /// rows).
    pub fn score(&mut self, ids: &[u32], mut each: impl FnMut(usize, &[f32])) {
        let mut sequence = self.model.sequence();
        for (i, chunk) in ids.chunks(PREFILL_CHUNK).enumerate() {
            let mut of_chunk = |r: usize, row: &[f32]| each(i * PREFILL_CHUNK + r, row);
            self.read_chunk(&mut sequence, chunk, Some(&mut of_chunk));
        }
    }
}
