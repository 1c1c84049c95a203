//! The token-mixing half of a residual branch: convolution and state update of a recurrent part (Mamba-2, the
//! delta rule), decode attention, either alone or both on the same input.
//!
//! One position is one row of arithmetic, in prefill as in decode: a feed is a run of consecutive positions
//! of one sequence, and its rows are computed exactly as if they came one at a time.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

use std::ops::Range;
use std::sync::Arc;

use super::attention::{self, RowView};
use super::buf::{Rows, Shared, padded};
use super::delta;
use super::norm;
use super::pool::ThreadPool;
use super::simd::{Tier, prefetch_all};
use super::ssm::{self, Params, Rule};
use crate::Feed;
use crate::cpu::state::{BLOCK, KvBlock, KvLayout, SsmLayout};

/// An attention part and its activations; one row a position.
pub(crate) struct AttentionPart<'a> {
    pub(crate) layout: &'a KvLayout,
    pub(crate) params: &'a HeadParams,
    /// `[rows, heads * head_dim]`; normed and rotated here
    pub(crate) q: &'a mut Rows,
    /// `[rows, kv_heads * head_dim]`
    pub(crate) k: &'a mut Rows,
    pub(crate) v: &'a Rows,
    /// cosines then sines of the rotation, `[rows, dims]`, if there is one
    pub(crate) rope: Option<&'a Rows>,
    /// the result before o_proj `[rows, heads * head_dim]`
    pub(crate) attended: &'a mut Rows,
}

/// What happens to query and key heads beside rotation, and which scores there are.
#[derive(Default)]
pub(crate) struct HeadParams {
    pub(crate) q_norm: Option<HeadNorm>,
    pub(crate) k_norm: Option<HeadNorm>,
    /// for each query head one more score, whose value is 0; empty where there are none
    pub(crate) sinks: Vec<f32>,
    /// how many positions a query sees, its own the last of them; all where there is none
    pub(crate) window: Option<usize>,
}

/// A norm over each head.
pub(crate) struct HeadNorm {
    /// `[heads * head_dim]`: the same for every head
    pub(crate) weight: Vec<f32>,
    pub(crate) heads: usize,
    pub(crate) eps: f32,
}

impl HeadNorm {
    fn apply(norm: Option<&Self>, tier: Tier, heads: &mut [f32]) {
        if let Some(Self {
            weight,
            heads: n,
            eps,
        }) = norm
        {
            norm::norm_heads(tier, heads, weight, *n, *eps);
        }
    }
}

/// A Mamba-2 or delta-rule part and its activations.
pub(crate) struct RecurrentPart<'a> {
    pub(crate) layout: &'a SsmLayout,
    pub(crate) params: &'a Params,
    /// the gate, in the first columns
    pub(crate) z: &'a Rows,
    /// what passes the convolution: x, B, C, or queries, keys, values
    pub(crate) input: Columns<'a>,
    /// raw step sizes, one a head
    pub(crate) steps: Columns<'a>,
    /// raw strengths of the delta rule, one a head
    pub(crate) strengths: Option<&'a Rows>,
    /// scratch: the input after the convolution
    pub(crate) xbc: &'a mut Rows,
    /// the result before out_proj `[rows, heads * head_dim]`
    pub(crate) y: &'a mut Rows,
}

/// Columns of rows from one on.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub(crate) rows: &'a Rows,
    pub(crate) first: usize,
}

impl Columns<'_> {
    fn row(&self, row: usize) -> &[f32] {
        &self.rows.row(row)[self.first..]
    }
}

/// Scratch of the mixers that lives from step to step.
pub(crate) struct Scratch {
    /// step sizes or strengths, then decays, of a row's heads: `[rows, 2 * padded heads]`
    rates: Rows,
    jobs: Vec<Job>,
    views: Vec<RowView>,
    attention: Vec<attention::Scratch>,
}

/// A feed, and where its sequence's memory lies: states and windows of the Mamba-2 part, blocks of all parts.
struct Job {
    row: usize,
    tokens: usize,
    /// positions before them
    len: usize,
    window: *mut f32,
    state: *mut f32,
    blocks: *const Arc<KvBlock>,
}

// SAFETY: tasks touch disjoint parts of what the pointers lead to
unsafe impl Sync for Job {}

// SAFETY: the pointers in `jobs` and `views` are only used inside `mix`, which fills them first
unsafe impl Send for Scratch {}

impl Scratch {
    pub(crate) fn new(heads: usize) -> Self {
        Self {
            rates: Rows::zeroed(1, Self::width(heads)),
            jobs: Vec::new(),
            views: Vec::new(),
            attention: Vec::new(),
        }
    }
    /// Elements of a row.
    pub(crate) fn width(heads: usize) -> usize {
        2 * padded(heads)
    }

    /// Notes where the feeds' memory lies; rows of attention see what was before them, as far as the window
    /// reaches, and themselves.
    fn job(&mut self, recurrent: Option<&SsmLayout>, seen: Option<usize>, feeds: &mut [Feed<'_>]) {
        self.jobs.clear();
        self.views.clear();
        let (state, window) = recurrent.map_or((0, 0), |m| (m.state_offset, m.window_offset));
        for feed in feeds.iter() {
            let (blocks, len) = (feed.sequence.kv.as_ptr(), feed.sequence.len);
            self.jobs.push(Job {
                row: feed.row,
                tokens: feed.tokens.len(),
                len,
                // only followed where there is a Mamba-2 part, whose memory lies there
                window: feed.sequence.window.raw().wrapping_add(window),
                state: feed.sequence.ssm.raw().wrapping_add(state),
                blocks,
            });
            let views = (len + 1..=len + feed.tokens.len()).map(|len| RowView {
                blocks,
                from: seen.map_or(0, |seen| len.saturating_sub(seen)),
                len,
            });
            self.views.extend(views);
        }
    }
}

/// Runs the mixers of one residual branch over all feeds.
pub(crate) fn mix(
    pool: &mut ThreadPool,
    scratch: &mut Scratch,
    mut attention: Option<AttentionPart<'_>>,
    mut recurrent: Option<RecurrentPart<'_>>,
    feeds: &mut [Feed<'_>],
) {
    let window = attention.as_ref().and_then(|a| a.params.window);
    scratch.job(recurrent.as_ref().map(|m| m.layout), window, feeds);
    if let Some(a) = &attention {
        let width = a.q.width();
        scratch
            .attention
            .resize_with(pool.threads(), || attention::Scratch::new(a.layout, width));
    }
    scratch.rates.resize(scratch.views.len());
    let rates = Grid::of(&mut scratch.rates);
    let attention_tasks = attention.as_mut().map(AttentionTasks::new);
    let recurrent_tasks = recurrent.as_mut().map(|m| RecurrentTasks::new(m, rates));
    let (jobs, views, threads, tier) = (&scratch.jobs, &scratch.views, pool.threads(), pool.tier());

    // convolution, step sizes, rotation and the new keys and values: a feed at a time, because positions
    // follow each other
    pool.run(jobs.len(), |task, _| {
        let job = &jobs[task];
        if let Some(next) = jobs.get(task + threads).filter(|next| next.tokens > 0) {
            if let Some(m) = &recurrent_tasks {
                prefetch_all(next.window, m.layout.window_len());
            }
            if let Some(a) = &attention_tasks {
                // SAFETY: the blocks reach to the new positions, and their contents are not looked at
                let block = unsafe { &*next.blocks.add(next.len / BLOCK) };
                attention::prefetch_block(a.layout, block, next.len % BLOCK);
            }
        }
        for i in 0..job.tokens {
            // SAFETY: rows of a feed belong to its task, and so does what is its own of the sequence
            unsafe {
                if let Some(m) = &recurrent_tasks {
                    m.enter(tier, job, i);
                }
                if let Some(a) = &attention_tasks {
                    a.enter(tier, job, i);
                }
            }
        }
    });

    // state updates and attention, independent of each other, in one phase; the longest tasks first, so that
    // threads end together
    let attending = attention_tasks.as_ref().map_or(0, |a| a.count(views.len()));
    let parts = recurrent_tasks
        .as_ref()
        .map_or(0, |m| m.parts(jobs.len(), threads));
    let attention_scratch = Shared(scratch.attention.as_mut_ptr());
    pool.run(attending + jobs.len() * parts, |task, thread| {
        // SAFETY: each (rows, kv head) pair, and each (feed, part of its heads) pair, is one task; the
        // thread's scratch is its own
        unsafe {
            match (&attention_tasks, &recurrent_tasks) {
                (Some(a), _) if task < attending => {
                    a.attend(tier, task, views, &mut *attention_scratch.at(thread));
                }
                (_, Some(m)) => m.update(tier, task - attending, parts, threads, jobs),
                (_, None) => unreachable!("there are no other tasks"),
            }
        }
    });
    if let Some(m) = recurrent {
        norm::gate(pool, &m.params.gate, m.z, m.y);
    }
}

/// Rows that tasks write, each its own.
#[derive(Clone, Copy)]
struct Grid {
    data: Shared<f32>,
    stride: usize,
}

impl Grid {
    fn of(rows: &mut Rows) -> Self {
        Self {
            data: Shared(rows.as_mut_ptr()),
            stride: rows.stride(),
        }
    }
    /// # Safety
    /// The row exists, and belongs to the task.
    unsafe fn row(self, row: usize) -> *mut f32 {
        unsafe { self.data.at(row * self.stride) }
    }
}

/// What the tasks of an attention part share.
struct AttentionTasks<'a> {
    layout: &'a KvLayout,
    params: &'a HeadParams,
    q: Grid,
    q_width: usize,
    k: Grid,
    v: &'a Rows,
    rope: Option<&'a Rows>,
    attended: Grid,
}

impl<'a> AttentionTasks<'a> {
    fn new(part: &'a mut AttentionPart<'_>) -> Self {
        assert!(part.q.width() == part.attended.width() && part.q.stride() == part.attended.stride());
        Self {
            layout: part.layout,
            params: part.params,
            q_width: part.q.width(),
            q: Grid::of(part.q),
            k: Grid::of(part.k),
            v: part.v,
            rope: part.rope,
            attended: Grid::of(part.attended),
        }
    }

    /// Tasks for `rows` rows.
    fn count(&self, rows: usize) -> usize {
        rows.div_ceil(attention::GROUP) * self.layout.heads
    }

    /// Norms and rotates position `i` of a feed and writes its keys and values.
    ///
    /// # Safety
    /// The feed belongs to the task.
    unsafe fn enter(&self, tier: Tier, job: &Job, i: usize) {
        let (row, position, layout) = (job.row + i, job.len + i, self.layout);
        // SAFETY: the caller's promise; strides cover the widths
        unsafe {
            let queries = std::slice::from_raw_parts_mut(self.q.row(row), self.q_width);
            let keys = std::slice::from_raw_parts_mut(self.k.row(row), layout.heads * layout.head_dim);
            HeadNorm::apply(self.params.q_norm.as_ref(), tier, queries);
            HeadNorm::apply(self.params.k_norm.as_ref(), tier, keys);
            if let Some(rope) = self.rope {
                rotate(queries, rope.row(row), layout.head_dim);
                rotate(keys, rope.row(row), layout.head_dim);
            }
            let block = &*job.blocks.add(position / BLOCK);
            attention::append(tier, layout, block, position % BLOCK, keys, self.v.row(row));
        }
    }

    /// # Safety
    /// A task runs once, and nobody else uses the scratch.
    unsafe fn attend(&self, tier: Tier, task: usize, views: &[RowView], scratch: &mut attention::Scratch) {
        let (group, head) = (task / self.layout.heads, task % self.layout.heads);
        let first = group * attention::GROUP;
        let views = &views[first..views.len().min(first + attention::GROUP)];
        // SAFETY: the caller's promise
        unsafe {
            let (q, out) = (self.q.row(first), self.attended.row(first));
            let served = self.params.sinks.len() / self.layout.heads;
            let sinks = &self.params.sinks[head * served..][..served];
            attention::attend(
                tier,
                self.layout,
                head,
                views,
                q,
                self.q.stride,
                sinks,
                out,
                scratch,
            );
        }
    }
}

/// What the tasks of a recurrent part share.
struct RecurrentTasks<'a> {
    layout: &'a SsmLayout,
    params: &'a Params,
    input: Columns<'a>,
    steps: Columns<'a>,
    strengths: Option<&'a Rows>,
    xbc: Grid,
    y: Grid,
    rates: Grid,
}

impl<'a> RecurrentTasks<'a> {
    fn new(part: &'a mut RecurrentPart<'_>, rates: Grid) -> Self {
        Self {
            layout: part.layout,
            params: part.params,
            input: part.input,
            steps: part.steps,
            strengths: part.strengths,
            xbc: Grid::of(part.xbc),
            y: Grid::of(part.y),
            rates,
        }
    }

    /// Into how many tasks a feed's heads go.
    fn parts(&self, feeds: usize, threads: usize) -> usize {
        if feeds >= 2 * threads {
            1
        } else {
            self.layout.heads.min(4 * threads)
        }
    }

    /// The convolution and the step sizes of position `i` of a feed.
    ///
    /// # Safety
    /// The feed belongs to the task.
    unsafe fn enter(&self, tier: Tier, job: &Job, i: usize) {
        let (row, position, layout) = (job.row + i, job.len + i, self.layout);
        let heads = layout.heads;
        // SAFETY: the caller's promise; strides cover the widths
        unsafe {
            ssm::conv_row(
                tier,
                self.input.row(row).as_ptr(),
                job.window,
                self.params.conv_weight.as_ptr(),
                self.params.conv_bias.as_ptr(),
                layout.channels,
                layout.taps - 1,
                position,
                self.xbc.row(row),
            );
            let steps = self.rates.row(row);
            steps.copy_from_nonoverlapping(self.steps.row(row)[..heads].as_ptr(), heads);
            ssm::step_sizes(tier, self.params, heads, steps, steps.add(padded(heads)));
            if let (Rule::Delta(keys), Some(strengths)) = (&self.params.rule, self.strengths) {
                // what was added is in the decay, and the strength takes the step's place
                let strengths = &strengths.row(row)[..heads];
                for (at, raw) in strengths.iter().enumerate() {
                    *steps.add(at) = 1.0 / (1.0 + (-raw).exp());
                }
                keys.normalise(
                    tier,
                    std::slice::from_raw_parts_mut(self.xbc.row(row), layout.channels),
                );
            }
        }
    }

    /// Updates the states of some heads of a feed, position by position.
    ///
    /// # Safety
    /// A task runs once.
    unsafe fn update(&self, tier: Tier, task: usize, parts: usize, threads: usize, jobs: &[Job]) {
        let (job, layout, all) = (&jobs[task / parts], self.layout, self.layout.heads);
        let per_part = all.div_ceil(parts);
        let heads: Range<usize> = (task % parts) * per_part..all.min((task % parts + 1) * per_part);
        let after = jobs
            .get((task + threads) / parts)
            .map_or(job.state, |next| next.state);
        // what is only asked for may lie outside
        let of = |state: *mut f32, head: usize| state.wrapping_add(head * layout.head_len());
        // a head's state stays in the cache for all positions of the feed
        for head in heads.clone() {
            let next = if head + 1 < heads.end {
                of(job.state, head + 1)
            } else {
                of(after, (task + threads) % parts * per_part)
            };
            for row in job.row..job.row + job.tokens {
                // SAFETY: tasks of one feed touch disjoint heads of its state and of its rows of y
                unsafe {
                    let steps = self.rates.row(row).add(head);
                    let rates = (*steps, *steps.add(padded(all)));
                    let xbc = std::slice::from_raw_parts(self.xbc.row(row).cast_const(), layout.channels);
                    let state = (of(job.state, head), next.cast_const());
                    let y = self.y.row(row);
                    match &self.params.rule {
                        Rule::Selective { d, groups } => {
                            ssm::update(tier, layout, (d, *groups), state, xbc, rates, head, y);
                        }
                        Rule::Delta(keys) => delta::update(tier, layout, keys, state, xbc, rates, head, y),
                    }
                }
            }
        }
    }
}

/// Rotates pairs (i, i + dims/2) of the first `angles.len()` dimensions of every head by the row's angles,
/// whose cosines come first.
fn rotate(heads: &mut [f32], angles: &[f32], head_dim: usize) {
    let (cos, sin) = angles.split_at(angles.len() / 2);
    for head in heads.chunks_exact_mut(head_dim) {
        let (a, b) = head[..angles.len()].split_at_mut(cos.len());
        for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
            (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
        }
    }
}
