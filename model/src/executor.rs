//! The seam to hardware: what a device must do to run traces, as the trait [`Executor`]. This page is all
//! that the author of a backend has to read.
//!
//! Above the seam stand handles ([`SeqId`]), token ids, settings, uniform numbers and scalars. Below it stay
//! weights, logits, states, keys and values, threads, streams and instruction sets: tokens are drawn where
//! the logits are, and a step hands back one [`Drawn`] a row.
//!
//! A problem passes through like this: [`begin`](Executor::begin) a sequence, [`read`](Executor::read) the
//! prompt into it, a part at a time between the steps of others; [`fork`](Executor::fork) it once for each
//! trace; [`step`](Executor::step) all traces of all problems together, one token each, until they end;
//! [`free`](Executor::free) every handle.
//!
//! What is promised, and tested, of every executor: **a row's result depends on its sequence and its
//! [`StepRow`] alone**, bit for bit. It does not depend on the rows beside it, on their number or order, on
//! how a prompt was cut into parts, or on what the executor drew ahead. A trace is bit-exact within one
//! [`id`](Executor::id).

use std::io;
use std::ops::Range;

pub use crate::sampling::{BrokenLogits, Drawn, Sampling, Stream};

/// The handle of a sequence that an executor holds: a prompt, or a prompt and the tokens of a trace. It is
/// valid from [`Executor::begin`] or [`Executor::fork`] to [`Executor::free`]; to use it before or after is a
/// mistake of the caller, and a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqId(pub u32);

/// What a model takes on a device, in bytes and tokens: all that a memory plan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ids of the vocabulary.
    pub vocab: usize,
    /// Tokens of the longest sequence.
    pub context: usize,
    /// Bytes of the part of a sequence that does not grow: states and convolution windows.
    pub state_bytes: u64,
    /// Whether that part holds states which cannot be taken back to an earlier token, as recurrent ones.
    pub recurrent: bool,
    /// Tokens of a block of keys and values. Memory for them is taken, and shared by forks, by whole blocks.
    pub block_tokens: usize,
    /// Bytes of a block of keys and values, of all layers that keep them.
    pub block_bytes: u64,
    /// Bytes of scratch memory for each row of a step: activations and logits.
    pub row_bytes: u64,
    /// Bytes of scratch memory for reading prompts.
    pub read_bytes: u64,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Bytes that are free for sequences and scratch memory at this moment: what weights will still take is
    /// not among them.
    pub free_bytes: u64,
}

impl Limits {
    /// Bytes of a sequence of `tokens` tokens, of which the first `shared` stand in blocks that it shares
    /// with the sequence it was forked from.
    pub fn sequence_bytes(&self, tokens: usize, shared: usize) -> u64 {
        let blocks = tokens.div_ceil(self.block_tokens) - shared.min(tokens) / self.block_tokens;
        self.state_bytes + blocks as u64 * self.block_bytes
    }
}

/// A row of a step: a sequence, and how its next token is drawn. The sequence first reads the token that it
/// drew last, if any.
#[derive(Clone, Copy, Debug)]
pub struct StepRow<'a> {
    /// The sequence; it stands in one row only.
    pub seq: SeqId,
    /// Sampling settings. Penalties look back on the ids that the sequence has read and drawn, which the
    /// executor keeps.
    pub sampling: &'a Sampling,
    /// Where the uniform number of the draw comes from: it is `stream.uniform(index)`.
    pub stream: Stream,
    /// Index of the token in its trace.
    pub index: usize,
    /// The token to take instead of drawing one.
    pub forced: Option<u32>,
    /// Ids that may not be drawn.
    pub banned_ids: &'a [u32],
    /// How many of the likeliest ids are wanted with their log-probabilities; see [`Executor::top_logprobs`].
    pub top_logprobs: usize,
    /// How many tokens after this one will be asked for with the same settings, none of them forced, unless
    /// the trace ends before. An executor may draw them now for later steps, and may ignore this.
    pub lookahead: usize,
    /// Ids after which no token will be asked for.
    pub stop_ids: &'a [u32],
}

/// The positions of a text that are scored.
#[derive(Clone, Debug)]
pub struct ScoreRequest<'a> {
    /// Ids of the whole text.
    pub ids: &'a [u32],
    /// Positions that are asked about: what is said of position i is the distribution after `ids[..=i]`. The
    /// text is read up to their end.
    pub positions: Range<usize>,
    /// How many of the likeliest ids are wanted for each.
    pub top_logprobs: usize,
}

/// The distribution after a position of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored<'a> {
    /// The log-probability of the id that follows in the text, in nats, -inf where it is masked; `None` after
    /// the last.
    pub logprob: Option<f32>,
    /// Confidence of the distribution, in nats.
    pub confidence: f32,
    /// The likeliest ids with their log-probabilities in nats, likeliest first, of equal ones the lowest id
    /// first; -inf for ids that are masked.
    pub top: &'a [(u32, f32)],
}

/// A model on a device: sequences by handle, steps that draw one token for each of many rows.
pub trait Executor: Send {
    /// What a trace is bit-exact within: device and arithmetic, as `cpu/avx512bf16` or `cuda/sm90`.
    fn id(&self) -> &str;

    /// Sizes of the model, and the memory that is free now.
    fn limits(&self) -> Limits;

    /// Bytes of scratch memory for prompts of `prompt` tokens and steps of `rows` rows.
    fn scratch_bytes(&self, prompt: usize, rows: usize) -> u64;

    /// Begins an empty sequence, which has read nothing and can only read.
    fn begin(&mut self) -> SeqId;

    /// Prefill: reads on in the text `ids`, of which the sequence has read the first [`Self::length`] tokens,
    /// and returns how many it has read now. About `most` tokens are read, at least one; the size of a chunk
    /// is the executor's, and results do not depend on it. Once the whole text is read the sequence can be
    /// forked, and its next token is drawn from the logits after the text.
    ///
    /// # Errors
    /// When the logits after the text are not numbers.
    fn read(&mut self, seq: SeqId, ids: &[u32], most: usize) -> Result<usize, BrokenLogits>;

    /// `n` sequences that go on from where this one is, each its own way; the blocks of keys and values that
    /// are full are shared and not copied. The sequence must have read its text to the end; one that has drawn tokens
    /// since gives them to its forks, as far as it handed them out.
    fn fork(&mut self, from: SeqId, n: usize) -> Vec<SeqId>;

    /// A sequence that has read the first `tokens` tokens of the text that this one has read, and can only read on;
    /// its blocks of keys and values that are full are shared. `tokens` is at least 1 and at most what was read.
    /// Where that is all of it there always is one; of less there is none where the model keeps a state that
    /// cannot be taken back, as recurrent ones.
    fn prefix(&mut self, from: SeqId, tokens: usize) -> Option<SeqId>;

    /// Takes up traces again: each sequence is one that was forked from its prompt and has drawn nothing, and
    /// goes on as if it had drawn these ids. The result is bit for bit that of drawing them, so an executor
    /// whose prefill is another arithmetic than its steps takes them through its steps.
    fn resume(&mut self, traces: &[(SeqId, &[u32])]);

    /// Gives a sequence up, wherever it is.
    fn free(&mut self, seq: SeqId);

    /// Tokens that the sequence's state has read. It is at least what it drew and handed out, but the last.
    fn length(&self, seq: SeqId) -> usize;

    /// One token for every row: clears `out` and fills it with what came of each, in the order of `rows`.
    /// Rows whose logits are not numbers have failed, and only they.
    fn step(&mut self, rows: &[StepRow<'_>], out: &mut Vec<Result<Drawn, BrokenLogits>>);

    /// The likeliest ids where the sequence's newest token was drawn, with their log-probabilities under the
    /// raw distribution in nats, as many as its row asked for; ordered as [`Scored::top`].
    fn top_logprobs(&self, seq: SeqId) -> &[(u32, f32)];

    /// Whether the sequence has drawn tokens that it has not handed out. Steps with a lookahead of 0 end
    /// that.
    fn is_ahead(&self, _seq: SeqId) -> bool {
        false
    }

    /// Reads on in a text as [`Self::read`] does, and hands out the distribution after each of the positions
    /// that are asked about and reached now, in order. Returns how many tokens of the text the sequence has
    /// read. A sequence that is used for this is used for nothing else.
    ///
    /// # Errors
    /// When the logits after a position are not numbers: the first that was not handed out.
    fn score(
        &mut self,
        seq: SeqId,
        request: &ScoreRequest<'_>,
        most: usize,
        each: &mut dyn FnMut(Scored<'_>),
    ) -> Result<usize, BrokenLogits>;

    /// Writes what [`Self::load`] needs to go on from here: the state of a trace beside its prompt.
    ///
    /// # Errors
    /// Those of `out`, and one for a sequence that [is ahead](Self::is_ahead).
    fn save(&mut self, seq: SeqId, out: &mut dyn io::Write) -> io::Result<()>;

    /// Takes up the state of a trace that has drawn `ids`, at least as far as it was when it was saved, in a
    /// sequence that was forked from its prompt and has drawn nothing; [`Self::resume`] reads the rest.
    ///
    /// # Errors
    /// When what is read is damaged, or belongs to another prompt or other ids; the sequence is then as
    /// before.
    fn load(&mut self, seq: SeqId, ids: &[u32], from: &mut dyn io::Read) -> io::Result<()>;

    /// Gives back memory of sequences that were freed until at most `bytes` are kept for new ones.
    fn trim(&mut self, bytes: u64);

    /// Does a share of the work that need not be done while somebody waits, as packing weights; false where
    /// there is none.
    fn idle(&mut self) -> bool {
        false
    }

    /// Pretends that the sequence read `tokens` more tokens, for measurements of speed at a long context of
    /// its own. What it draws then means nothing.
    fn stretch(&mut self, seq: SeqId, tokens: usize);

    /// Positions that the model has read so far: of prompts, of traces, again where a trace was taken up
    /// later, and ahead of traces that were then stopped.
    fn positions(&self) -> u64;

    /// Why the device can do no more, a sentence, once it failed: a card that was lost, memory that it does not give. Rows fail from then
    /// on, which says nothing about their logits.
    fn failure(&self) -> Option<String> {
        None
    }
}

/// The memory of a list whose items are gone, for items that borrow something else: a list of [`StepRow`]s is
/// filled at every step, and need not be allocated at every step.
pub fn emptied<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    // collecting in place keeps the memory
    list.into_iter().filter_map(|_| None).collect()
}
