//! A model on a GPU.
//!
//! Sequences share their prompt and copy its state when they read their first token. A step of many rows is recorded once for a number
//! of rows and a length, and replayed; what changes from step to step lies in the device's memory. Where a row's next token will be asked
//! for with the same settings, it is drawn while the processor handles this one.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use super::device::{Address, Buffer, Device, DeviceError, Recording};
use super::draw::{Came, Draw, Draws};
use super::memory::{Layout, Memory, PAGE, State};
use super::model::{self, GpuDevice, Parts};
use super::space::{Space, Widths};
use super::step::{self, Pass};
use crate::cpu::draw::Seen;
use crate::cpu::sequence::count;
use crate::cpu::top;
use crate::executor::{Executor, Limits, ScoreRequest, Scored, SeqId, StepRow};
use crate::sampling::{BrokenLogits, Drawn, Sampling, TOP};
use crate::saved;
use crate::weights::Checkpoint;
use crate::{Formats, KvFormat, ModelError, StateFormat};

/// Positions that are read at a time. Results do not depend on it.
const CHUNK: usize = 128;
/// The share of a device's free memory that is planned with: the rest is the driver's.
const SHARE: f64 = 0.95;
/// First bytes of a saved state, with the number of its layout: states and windows of the slot, then pages that the prompt does not share.
const MAGIC: &[u8; 8] = b"ttsgpu01";

/// A text that was read to its end, shared by all that goes on from it.
struct Prompt {
    ids: Vec<u32>,
    state: State,
    /// raw logits `[vocab]` after the text
    logits: Buffer,
}

/// A sequence that draws tokens after a prompt.
struct Trace {
    prompt: Arc<Prompt>,
    /// its own state, once it has read a token of its own
    own: Option<State>,
    /// ids after the prompt; the last one is not read yet, unless the device is ahead
    drawn: Vec<u32>,
    /// a token that was drawn and not handed out
    ahead: Option<Result<Came, BrokenLogits>>,
    /// whether the device is drawing its next token
    in_flight: bool,
    seen: Option<BTreeMap<u32, Seen>>,
    top: Vec<(u32, f32)>,
}

enum Entry {
    Reading(State),
    Trace(Box<Trace>),
}

impl Trace {
    fn new(prompt: Arc<Prompt>) -> Self {
        Self {
            prompt,
            own: None,
            drawn: Vec::new(),
            ahead: None,
            in_flight: false,
            seen: None,
            top: Vec::new(),
        }
    }
    fn state(&self) -> &State {
        self.own.as_ref().unwrap_or(&self.prompt.state)
    }
    fn is_ahead(&self) -> bool {
        self.ahead.is_some() || self.in_flight
    }
}

/// A model on a device, with its scratch memory and sequences.
pub struct GpuExecutor {
    id: String,
    sequences: Vec<Option<Entry>>,
    vacant: Vec<u32>,
    pub(super) memory: Memory,
    parts: Parts,
    space: Option<Space>,
    draws: Draws,
    graphs: HashMap<(usize, usize), Recording>,
    /// rows whose tokens the device is drawing for a later step
    flying: Vec<SeqId>,
    positions: u64,
    lost: Option<DeviceError>,
    /// given back last: everything above lies in its memory
    pub(super) device: Box<dyn Device>,
}

/// What a use of a handle that was freed panics with.
const HELD: &str = "a sequence that is held";

impl GpuExecutor {
    /// Opens a device and loads a checkpoint's weights there.
    ///
    /// # Errors
    /// Those of the checkpoint's tensors, and one sentence when the device cannot be used, has too little memory or cannot run the model.
    pub fn new(checkpoint: &Checkpoint, formats: Formats, on: GpuDevice) -> Result<Self, ModelError> {
        Self::on(model::open(checkpoint, formats, on)?, checkpoint, formats)
    }

    /// Loads a checkpoint's weights onto a device with its kernels.
    pub(super) fn on(
        device: Box<dyn Device>,
        checkpoint: &Checkpoint,
        formats: Formats,
    ) -> Result<Self, ModelError> {
        let (parts, layout) = model::load(checkpoint, formats, &*device)?;
        Ok(Self {
            id: device.id(),
            sequences: Vec::new(),
            vacant: Vec::new(),
            memory: Memory::new(layout),
            parts,
            space: None,
            draws: Draws::new(),
            graphs: HashMap::new(),
            flying: Vec::new(),
            positions: 0,
            lost: None,
            device,
        })
    }

    /// What a user calls the device.
    pub fn device_name(&self) -> String {
        self.device.name()
    }

    /// Types of the weights, with the bytes of each, largest first.
    pub fn formats(&self) -> &[(&'static str, u64)] {
        &self.parts.formats
    }

    /// How keys and values, and the states of recurrent parts, are held.
    pub fn held(&self) -> (KvFormat, StateFormat) {
        (self.memory.layout.kv, self.memory.layout.state)
    }

    /// Bytes of the states and windows of a sequence.
    pub fn state_bytes(&self) -> usize {
        self.memory.layout.state_bytes
    }

    fn fail(&mut self, e: DeviceError) {
        self.lost.get_or_insert(e);
    }

    fn put(&mut self, entry: Entry) -> SeqId {
        if let Some(vacant) = self.vacant.pop() {
            self.sequences[vacant as usize] = Some(entry);
            return SeqId(vacant);
        }
        self.sequences.push(Some(entry));
        SeqId(self.sequences.len() as u32 - 1)
    }
    fn trace(&self, seq: SeqId) -> &Trace {
        match self.sequences[seq.0 as usize].as_ref().expect(HELD) {
            Entry::Trace(trace) => trace,
            Entry::Reading(_) => panic!("the sequence has not read its text to the end"),
        }
    }
    fn trace_mut(&mut self, seq: SeqId) -> &mut Trace {
        match self.sequences[seq.0 as usize].as_mut().expect(HELD) {
            Entry::Trace(trace) => trace,
            Entry::Reading(_) => panic!("the sequence has not read its text to the end"),
        }
    }
    fn take(&mut self, seq: SeqId) -> Entry {
        self.sequences[seq.0 as usize].take().expect(HELD)
    }
    fn take_trace(&mut self, seq: SeqId) -> Box<Trace> {
        match self.take(seq) {
            Entry::Trace(trace) => trace,
            Entry::Reading(_) => panic!("the sequence has not read its text to the end"),
        }
    }

    /// The trace's own state, copied from its prompt's if it has none.
    fn own(&self, trace: &mut Trace) -> Result<(), DeviceError> {
        if trace.own.is_none() {
            trace.own = Some(self.memory.fork(&*self.device, &trace.prompt.state)?);
        }
        Ok(())
    }

    /// Takes tokens into the states they belong to; the logits of the last `wanted` rows are then in the space. One token each, with all
    /// rows wanted, is a step: it is replayed.
    pub(super) fn forward(
        &mut self,
        feeds: &mut [(&mut State, &[u32])],
        wanted: usize,
    ) -> Result<(), DeviceError> {
        let rows: usize = feeds.iter().map(|(_, tokens)| tokens.len()).sum();
        let is_step = feeds.len() == rows && wanted == rows;
        let padded = if is_step { rows.next_power_of_two() } else { rows };
        let wanted = if is_step { padded } else { wanted };
        let last = feeds
            .iter()
            .map(|(state, tokens)| state.len + tokens.len())
            .max()
            .unwrap_or(0);
        let splits = match self.memory.layout.page_bytes {
            0 => 1,
            _ => step::splits(last).next_power_of_two(),
        };
        for (state, tokens) in feeds.iter_mut() {
            self.memory.reserve(&*self.device, state, tokens.len())?;
        }
        self.room([padded, wanted, splits])?;
        let space = self.space.as_mut().expect("there is room");
        space.told.clear();
        for (state, tokens) in feeds.iter_mut() {
            let told = &mut space.told;
            told.feed_slot.push(state.slot.at.0);
            told.feed_first.push(told.slot.len() as u32);
            told.feed_count.push(tokens.len() as u32);
            for (i, token) in tokens.iter().enumerate() {
                told.slot.push(state.slot.at.0);
                told.position.push((state.len + i) as u32);
                told.id.push(*token);
            }
            state.len += tokens.len();
        }
        space
            .told
            .wanted
            .extend((padded - wanted..padded).map(|row| row as u32));
        space.tell(&*self.device);
        self.positions += rows as u64;
        let pass = Pass {
            device: &*self.device,
            parts: &self.parts,
            layout: &self.memory.layout,
            space,
            rows: padded,
            feeds: if is_step { padded } else { feeds.len() },
            wanted,
            splits,
        };
        if !is_step {
            pass.run();
            return Ok(());
        }
        let graph = *self.graphs.entry((padded, splits)).or_insert_with(|| {
            self.device.record();
            pass.run();
            self.device.recorded()
        });
        self.device.replay(graph);
        Ok(())
    }

    /// Makes room for a pass; what was recorded for other memory is forgotten.
    fn room(&mut self, wanted: [usize; 3]) -> Result<(), DeviceError> {
        if self.space.as_ref().is_some_and(|space| space.holds(wanted)) {
            return Ok(());
        }
        let have = self.space.as_ref().map_or([0; 3], Space::room);
        let room = std::array::from_fn(|i| wanted[i].next_power_of_two().max(have[i]));
        self.graphs.clear();
        // the old memory may make the room
        self.device.finish();
        self.space = None;
        self.space = Some(Space::new(&*self.device, &self.parts.widths, room)?);
        Ok(())
    }

    /// Row `i` of the last pass' logits.
    pub(super) fn logits(&self, i: usize) -> Address {
        let space = self.space.as_ref().expect("a pass was made");
        space.logits.at.plus((i * self.parts.widths.vocab * 4) as u64)
    }

    pub(super) fn logits_row(&self, at: Address) -> Vec<f32> {
        let mut bytes = vec![0; self.parts.widths.vocab * 4];
        self.device.read(at, &mut bytes);
        bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect()
    }

    /// The `k` likeliest ids of a row of logits, more than a draw brings.
    fn likeliest(&self, at: Address, k: usize, into: &mut Vec<(u32, f32)>) {
        let logits = self.logits_row(at);
        if let Some(sum) = top::log_sum_exp(&logits) {
            top::top_logprobs(&logits, sum, k, into);
        }
    }

    /// Reads tokens into a state; with `last` the logits after the last are the first row of the space.
    fn read_into(&mut self, state: &mut State, ids: &[u32], last: bool) -> Result<(), DeviceError> {
        let chunks = ids.len().div_ceil(CHUNK);
        for (i, chunk) in ids.chunks(CHUNK).enumerate() {
            let wanted = usize::from(last && i + 1 == chunks);
            self.forward(&mut [(&mut *state, chunk)], wanted)?;
        }
        Ok(())
    }

    /// Has the device draw the next tokens of these rows, `later` tokens after their own.
    fn launch(&mut self, rows: &[StepRow<'_>], later: usize) -> Result<(), DeviceError> {
        let mut traces: Vec<Box<Trace>> = rows.iter().map(|row| self.take_trace(row.seq)).collect();
        let done = self.launch_traces(&mut traces, rows, later);
        for (row, mut trace) in rows.iter().zip(traces) {
            trace.in_flight = done.is_ok();
            self.sequences[row.seq.0 as usize] = Some(Entry::Trace(trace));
        }
        done
    }

    fn launch_traces(
        &mut self,
        traces: &mut [Box<Trace>],
        rows: &[StepRow<'_>],
        later: usize,
    ) -> Result<(), DeviceError> {
        // traces that have drawn nothing start from the prompt's logits
        for trace in traces.iter_mut().filter(|trace| !trace.drawn.is_empty()) {
            self.own(trace)?;
        }
        let mut feeds = Vec::new();
        let mut at = Vec::new();
        for trace in traces.iter_mut() {
            let pending = trace.drawn.last().copied();
            at.push(pending.map(|_| feeds.len()));
            if let (Some(id), Some(own)) = (pending, trace.own.take()) {
                feeds.push((own, [id]));
            }
        }
        if !feeds.is_empty() {
            let wanted = feeds.len();
            let mut list: Vec<(&mut State, &[u32])> =
                feeds.iter_mut().map(|(state, id)| (state, &id[..])).collect();
            let done = self.forward(&mut list, wanted);
            let mut states = feeds.into_iter().map(|(state, _)| state);
            for trace in traces.iter_mut().filter(|trace| !trace.drawn.is_empty()) {
                trace.own = states.next();
            }
            done?;
        }
        let mut draws = Vec::with_capacity(rows.len());
        for trace in traces
            .iter_mut()
            .zip(rows)
            .filter_map(|(t, row)| row.sampling.has_penalties().then_some(t))
        {
            if trace.seen.is_none() {
                trace.seen = Some(count(&trace.prompt.ids, &trace.drawn));
            }
        }
        for ((trace, row), at) in traces.iter().zip(rows).zip(at) {
            draws.push(Draw {
                logits: at.map_or(trace.prompt.logits.at, |at| self.logits(at)),
                sampling: row.sampling,
                uniform: row.stream.uniform(row.index + later),
                forced: row.forced.filter(|_| later == 0),
                banned: row.banned_ids,
                seen: trace.seen.as_ref().filter(|_| row.sampling.has_penalties()),
            });
        }
        let logits: Vec<Address> = draws.iter().map(|draw| draw.logits).collect();
        self.draws
            .launch(&*self.device, self.parts.widths.vocab, &draws)?;
        // more of the likeliest ids than a draw brings are taken from the logits, before they are gone
        for ((trace, row), at) in traces.iter_mut().zip(rows).zip(logits) {
            trace.top.clear();
            if row.top_logprobs > TOP {
                self.likeliest(at, row.top_logprobs, &mut trace.top);
            }
        }
        Ok(())
    }

    /// Takes what the device drew for these sequences, in the order in which they were launched.
    fn collect(&mut self, seqs: impl ExactSizeIterator<Item = SeqId>) {
        let came: Vec<_> = self.draws.collect(&*self.device, seqs.len()).collect();
        for (seq, came) in seqs.zip(came) {
            // one that was freed meanwhile has nobody who waits
            let Some(Some(Entry::Trace(trace))) = self.sequences.get_mut(seq.0 as usize) else {
                continue;
            };
            if !std::mem::take(&mut trace.in_flight) {
                continue;
            }
            if let Ok(Came { drawn, .. }) = &came {
                trace.drawn.push(drawn.id);
                if let Some(seen) = &mut trace.seen {
                    seen.entry(drawn.id).or_default().generated += 1;
                }
            }
            trace.ahead = Some(came);
        }
    }

    fn land(&mut self) {
        let flying = std::mem::take(&mut self.flying);
        if !flying.is_empty() {
            self.collect(flying.into_iter());
        }
    }

    fn try_step(&mut self, rows: &[StepRow<'_>]) -> Result<(), DeviceError> {
        self.land();
        let waiting: Vec<StepRow<'_>> = rows
            .iter()
            .filter(|row| self.trace(row.seq).ahead.is_none())
            .copied()
            .collect();
        if !waiting.is_empty() {
            self.launch(&waiting, 0)?;
            self.collect(waiting.iter().map(|row| row.seq));
        }
        Ok(())
    }

    /// The rows whose next token can be drawn now: it will be asked for, and needs no more memory.
    fn next<'r>(&self, rows: &[StepRow<'r>], out: &[Result<Drawn, BrokenLogits>]) -> Vec<StepRow<'r>> {
        let goes_on = |(row, drawn): (&StepRow<'r>, &Result<Drawn, BrokenLogits>)| {
            let drawn = drawn.ok()?;
            let has_room = self
                .trace(row.seq)
                .own
                .as_ref()
                .is_some_and(|own| !own.len.is_multiple_of(PAGE));
            let goes_on = row.lookahead > 0 && row.top_logprobs == 0 && !row.stop_ids.contains(&drawn.id);
            (goes_on && has_room).then_some(*row)
        };
        let next: Vec<_> = rows.iter().zip(out).filter_map(goes_on).collect();
        // a few rows alone would cost a pass of their own, and the others another
        if 4 * next.len() >= 3 * rows.len() {
            next
        } else {
            Vec::new()
        }
    }

    /// The bytes of a trace that are its own beside its prompt: its states, and pages that it does not share.
    fn own_parts(&self, state: &State, prompt: &State) -> Vec<(Address, usize)> {
        let layout = &self.memory.layout;
        let shared = prompt.len / PAGE;
        let pages = state
            .pages
            .iter()
            .skip(shared)
            .map(|page| (page.at, layout.page_bytes));
        std::iter::once((state.slot.at, layout.state_bytes))
            .chain(pages)
            .filter(|(_, bytes)| *bytes > 0)
            .collect()
    }

    fn load_state(&mut self, trace: &mut Trace, ids: &[u32], from: &mut dyn io::Read) -> io::Result<()> {
        let read = saved::read_head(from, MAGIC, &trace.prompt.ids, ids)?;
        let fits = |e: DeviceError| io::Error::other(e.0);
        let mut state = self
            .memory
            .fork(&*self.device, &trace.prompt.state)
            .map_err(fits)?;
        self.memory
            .reserve(&*self.device, &mut state, read)
            .map_err(fits)?;
        state.len += read;
        let mut hasher = blake3::Hasher::new();
        let mut parts = Vec::new();
        for (at, bytes) in self.own_parts(&state, &trace.prompt.state) {
            let mut part = vec![0; bytes];
            from.read_exact(&mut part)?;
            hasher.update(&part);
            parts.push((at, part));
        }
        saved::read_end(from, &hasher)?;
        for (at, part) in parts {
            self.device.write(at, &part);
        }
        trace.own = Some(state);
        Ok(())
    }
}

/// Limits of a model of these shapes.
fn limits(widths: &Widths, layout: &Layout, context: usize, weights: u64, free: u64) -> Limits {
    let one = |rows: usize| widths.bytes(rows, rows) as u64;
    Limits {
        vocab: widths.vocab,
        context,
        state_bytes: layout.slot_bytes as u64,
        recurrent: layout.state_bytes > 0,
        block_tokens: PAGE,
        // partial results of attention are a row's for every SPLIT pages
        block_bytes: layout.page_bytes as u64 + (4 * widths.partial / step::SPLIT) as u64,
        // room is made for the next power of two
        row_bytes: 2 * one(1),
        read_bytes: one(CHUNK),
        weight_bytes: weights,
        free_bytes: free,
    }
}

impl Executor for GpuExecutor {
    fn id(&self) -> &str {
        &self.id
    }

    fn limits(&self) -> Limits {
        let free = (self.device.free_bytes() as f64 * SHARE) as u64 + self.memory.free_bytes();
        let Parts {
            widths, spec, bytes, ..
        } = &self.parts;
        limits(widths, &self.memory.layout, spec.context, *bytes, free)
    }

    fn scratch_bytes(&self, prompt: usize, rows: usize) -> u64 {
        let most = rows.max(prompt.min(CHUNK)).next_power_of_two();
        self.parts.widths.bytes(most, rows.next_power_of_two()) as u64
    }

    fn begin(&mut self) -> SeqId {
        match self.memory.begin(&*self.device) {
            Ok(state) => self.put(Entry::Reading(state)),
            Err(e) => {
                self.fail(e);
                self.sequences.push(None);
                SeqId(self.sequences.len() as u32 - 1)
            }
        }
    }

    fn read(&mut self, seq: SeqId, ids: &[u32], most: usize) -> Result<usize, BrokenLogits> {
        if self.failure().is_some() {
            return Err(BrokenLogits);
        }
        self.land();
        let fork = |this: &Self, of: &State| this.memory.fork(&*this.device, of);
        let state = match self.take(seq) {
            Entry::Reading(state) => Ok(state),
            Entry::Trace(mut trace) => match trace.own.take().filter(|_| !trace.is_ahead()) {
                Some(own) => Ok(own),
                None => fork(self, &trace.prompt.state),
            },
        };
        let mut state = match state {
            Ok(state) => state,
            Err(e) => {
                self.fail(e);
                return Err(BrokenLogits);
            }
        };
        let at = state.len;
        let end = ids
            .len()
            .min(at.saturating_add(most.div_ceil(CHUNK).max(1).saturating_mul(CHUNK)));
        let whole = end == ids.len();
        let read = self.read_into(&mut state, &ids[at..end], whole);
        if let Err(e) = read {
            self.fail(e);
        }
        if !whole || self.failure().is_some() || end == at {
            self.sequences[seq.0 as usize] = Some(Entry::Reading(state));
            return if whole { Err(BrokenLogits) } else { Ok(end) };
        }
        match self.prompt(ids, state) {
            Ok(prompt) => {
                self.sequences[seq.0 as usize] = Some(Entry::Trace(Box::new(Trace::new(Arc::new(prompt)))));
                Ok(end)
            }
            Err(state) => {
                self.sequences[seq.0 as usize] = Some(Entry::Reading(state));
                Err(BrokenLogits)
            }
        }
    }

    fn fork(&mut self, from: SeqId, n: usize) -> Vec<SeqId> {
        self.land();
        let trace = self.trace(from);
        let ahead = usize::from(trace.ahead.as_ref().is_some_and(Result::is_ok));
        let ids = trace.drawn[..trace.drawn.len() - ahead].to_vec();
        let (prompt, top) = (trace.prompt.clone(), trace.top.clone());
        let is_ahead = trace.is_ahead();
        let mut forks = Vec::with_capacity(n);
        for _ in 0..n {
            let trace = self.trace(from);
            let own = trace
                .own
                .as_ref()
                .filter(|_| !is_ahead)
                .map(|own| self.memory.fork(&*self.device, own));
            let own = own.transpose().unwrap_or_else(|e| {
                self.fail(e);
                None
            });
            let child = Trace {
                own,
                drawn: ids.clone(),
                top: top.clone(),
                ..Trace::new(prompt.clone())
            };
            forks.push(self.put(Entry::Trace(Box::new(child))));
        }
        if is_ahead {
            // the parent's state is beyond what it handed out
            let again: Vec<_> = forks.iter().map(|fork| (*fork, &ids[..])).collect();
            self.resume(&again);
        }
        forks
    }

    fn prefix(&mut self, from: SeqId, tokens: usize) -> Option<SeqId> {
        self.land();
        let state = match self.sequences[from.0 as usize].as_ref().expect(HELD) {
            Entry::Reading(state) => state,
            Entry::Trace(trace) => &trace.prompt.state,
        };
        if tokens != state.len && !self.memory.has_prefixes() {
            return None;
        }
        match self.memory.prefix(&*self.device, state, tokens) {
            Ok(state) => Some(self.put(Entry::Reading(state))),
            Err(e) => {
                self.fail(e);
                None
            }
        }
    }

    fn resume(&mut self, traces: &[(SeqId, &[u32])]) {
        for (seq, ids) in traces {
            let mut trace = self.take_trace(*seq);
            if let Some((_, read)) = ids.split_last().filter(|(_, read)| !read.is_empty()) {
                let done = match self.own(&mut trace) {
                    Ok(()) => {
                        let mut state = trace.own.take().expect("copied above");
                        let done = state.len - trace.prompt.ids.len();
                        let done = self.read_into(&mut state, &read[done..], false);
                        trace.own = Some(state);
                        done
                    }
                    Err(e) => Err(e),
                };
                if let Err(e) = done {
                    self.fail(e);
                }
            }
            trace.drawn = ids.to_vec();
            trace.seen = None;
            self.sequences[seq.0 as usize] = Some(Entry::Trace(trace));
        }
    }

    fn free(&mut self, seq: SeqId) {
        if let Some(Entry::Trace(trace)) = self.sequences[seq.0 as usize].take()
            && trace.in_flight
        {
            // its memory is used until the device has drawn; its handle is not given out again before
            self.land();
        }
        self.vacant.push(seq.0);
    }

    fn length(&self, seq: SeqId) -> usize {
        match self.sequences[seq.0 as usize].as_ref() {
            Some(Entry::Reading(state)) => state.len,
            Some(Entry::Trace(trace)) => trace.state().len,
            None => 0,
        }
    }

    fn step(&mut self, rows: &[StepRow<'_>], out: &mut Vec<Result<Drawn, BrokenLogits>>) {
        out.clear();
        let done = if self.failure().is_some() {
            Ok(())
        } else {
            self.try_step(rows)
        };
        if let Err(e) = done {
            self.fail(e);
        }
        for row in rows {
            let came = self.trace_mut(row.seq).ahead.take().unwrap_or(Err(BrokenLogits));
            if let Ok(came) = &came
                && (1..=TOP).contains(&row.top_logprobs)
            {
                came.likeliest(row.top_logprobs, &mut self.trace_mut(row.seq).top);
            }
            out.push(came.map(|came| came.drawn));
        }
        if self.failure().is_none() {
            let next = self.next(rows, out);
            if !next.is_empty() {
                match self.launch(&next, 1) {
                    Ok(()) => self.flying = next.iter().map(|row| row.seq).collect(),
                    Err(e) => self.fail(e),
                }
            }
        }
    }

    fn top_logprobs(&self, seq: SeqId) -> &[(u32, f32)] {
        &self.trace(seq).top
    }

    fn is_ahead(&self, seq: SeqId) -> bool {
        self.trace(seq).is_ahead()
    }

    fn score(
        &mut self,
        seq: SeqId,
        request: &ScoreRequest<'_>,
        most: usize,
        each: &mut dyn FnMut(Scored<'_>),
    ) -> Result<usize, BrokenLogits> {
        let ScoreRequest {
            ids,
            ref positions,
            top_logprobs,
        } = *request;
        if self.failure().is_some() {
            return Err(BrokenLogits);
        }
        self.land();
        let Entry::Reading(mut state) = self.take(seq) else {
            panic!("a sequence that is scored is used for nothing else");
        };
        let whole = most.div_ceil(CHUNK).max(1).saturating_mul(CHUNK);
        let end = ids.len().min(positions.end).min(state.len.saturating_add(whole));
        let (sampling, mut came) = (Sampling::default(), Ok(()));
        while state.len < end && came.is_ok() {
            let at = state.len;
            let chunk = &ids[at..end.min(at + CHUNK)];
            let first = positions.start.clamp(at, at + chunk.len());
            let wanted = first..at + chunk.len();
            let done = self
                .forward(&mut [(&mut state, chunk)], wanted.len())
                .and_then(|()| {
                    let draws: Vec<_> = wanted
                        .clone()
                        .enumerate()
                        .map(|(row, i)| Draw {
                            logits: self.logits(row),
                            sampling: &sampling,
                            uniform: 0.0,
                            // what is drawn is the id that follows
                            forced: Some(ids.get(i + 1).copied().unwrap_or(0)),
                            banned: &[],
                            seen: None,
                        })
                        .collect();
                    self.draws.launch(&*self.device, self.parts.widths.vocab, &draws)
                });
            if let Err(e) = done {
                self.fail(e);
                came = Err(BrokenLogits);
                break;
            }
            let rows: Vec<_> = self.draws.collect(&*self.device, wanted.len()).collect();
            for (row, (i, scored)) in wanted.zip(rows).enumerate() {
                let Ok(scored) = scored else {
                    came = Err(BrokenLogits);
                    break;
                };
                let mut more = Vec::new();
                if top_logprobs > TOP {
                    self.likeliest(self.logits(row), top_logprobs, &mut more);
                } else {
                    scored.likeliest(top_logprobs, &mut more);
                }
                each(Scored {
                    logprob: ids.get(i + 1).map(|_| scored.drawn.logprob),
                    confidence: scored.drawn.confidence,
                    top: &more,
                });
            }
        }
        let at = state.len;
        self.sequences[seq.0 as usize] = Some(Entry::Reading(state));
        came.map(|()| at)
    }

    fn save(&mut self, seq: SeqId, out: &mut dyn io::Write) -> io::Result<()> {
        let trace = self.trace(seq);
        if trace.is_ahead() {
            return Err(io::Error::other("the state is ahead of its tokens"));
        }
        let read = &trace.drawn[..trace.state().len - trace.prompt.ids.len()];
        saved::write_head(out, MAGIC, &trace.prompt.ids, read)?;
        let mut hasher = blake3::Hasher::new();
        for (at, bytes) in self.own_parts(trace.state(), &trace.prompt.state) {
            let mut part = vec![0; bytes];
            self.device.read(at, &mut part);
            hasher.update(&part);
            out.write_all(&part)?;
        }
        match self.failure() {
            Some(why) => Err(io::Error::other(why)),
            None => out.write_all(hasher.finalize().as_bytes()),
        }
    }

    fn load(&mut self, seq: SeqId, ids: &[u32], from: &mut dyn io::Read) -> io::Result<()> {
        let mut trace = self.take_trace(seq);
        let loaded = self.load_state(&mut trace, ids, from);
        self.sequences[seq.0 as usize] = Some(Entry::Trace(trace));
        loaded
    }

    fn trim(&mut self, bytes: u64) {
        self.memory.trim(bytes);
    }

    fn stretch(&mut self, seq: SeqId, tokens: usize) {
        let mut trace = self.take_trace(seq);
        let done = self.own(&mut trace).and_then(|()| {
            let own = trace.own.as_mut().expect("copied above");
            // the page that is begun is zeroed too: what it has room for was never written
            let first = own.len / PAGE;
            self.memory.reserve(&*self.device, own, tokens)?;
            for page in own.pages.iter().skip(first) {
                self.device.zero(page.at, self.memory.layout.page_bytes);
            }
            own.len += tokens;
            Ok(())
        });
        if let Err(e) = done {
            self.fail(e);
        }
        self.sequences[seq.0 as usize] = Some(Entry::Trace(trace));
    }

    fn positions(&self) -> u64 {
        self.positions
    }

    fn failure(&self) -> Option<String> {
        self.lost.clone().or_else(|| self.device.failure()).map(|e| e.0)
    }
}

impl GpuExecutor {
    /// The prompt that a state has read, with the logits after it; the state where they are not numbers.
    fn prompt(&mut self, ids: &[u32], state: State) -> Result<Prompt, State> {
        let (vocab, at) = (self.parts.widths.vocab, self.logits(0));
        let sampling = Sampling::default();
        let look = Draw {
            logits: at,
            sampling: &sampling,
            uniform: 0.0,
            forced: Some(0),
            banned: &[],
            seen: None,
        };
        let kept = self.draws.launch(&*self.device, vocab, &[look]).and_then(|()| {
            let sound = self.draws.collect(&*self.device, 1).all(|came| came.is_ok());
            let logits = self.device.alloc(vocab * 4)?;
            self.device.copy(at, logits.at, vocab * 4);
            Ok(sound.then_some(logits))
        });
        match kept {
            Ok(Some(logits)) => Ok(Prompt {
                ids: ids.to_vec(),
                state,
                logits,
            }),
            Ok(None) => Err(state),
            Err(e) => {
                self.fail(e);
                Err(state)
            }
        }
    }
}
