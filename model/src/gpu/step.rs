//! A forward pass as launches of kernels: the twin of what `cpu/layers` does.

use super::device::{Address, Args, Device, Launch, Packed};
use super::matrix::{Held, Matrix};
use super::memory::{Layout, PAGE};
use super::model::Parts;
use super::parts::{Attention, Branch, Mlp, Moe, Norm, Part, Recurrent, ShortConv, Wide};
use super::space::{Input, Space, ToldAt};
use crate::spec::Routing;

/// Pages of a partial result of attention, as `attention.cu` has them.
pub(super) const SPLIT: usize = 4;
/// Outputs of a block of a product.
const COLUMNS: usize = 32;
/// Rows of a block of a product.
const ROWS: usize = 64;

/// Partial results of attention up to a position.
pub(super) fn splits(len: usize) -> usize {
    len.div_ceil(SPLIT * PAGE)
}

/// A pass over `rows` rows in `feeds` feeds; the logits of `wanted` rows follow.
pub(super) struct Pass<'a> {
    pub(super) device: &'a dyn Device,
    pub(super) parts: &'a Parts,
    pub(super) layout: &'a Layout,
    pub(super) space: &'a Space,
    pub(super) rows: usize,
    pub(super) feeds: usize,
    pub(super) wanted: usize,
    pub(super) splits: usize,
}

/// What a product does with its numbers.
struct Sink {
    out: Input,
    kind: usize,
    first: usize,
    alpha: f32,
    limit: f32,
    factor: Address,
}

const STORE: usize = 0;
const ADD: usize = 1;
const SIGMOID: usize = 5;

impl Sink {
    fn store(out: Address, stride: usize, first: usize) -> Self {
        Self {
            out: Input {
                plain: out,
                stride,
                ..Input::default()
            },
            kind: STORE,
            first,
            alpha: 0.0,
            limit: 0.0,
            factor: Address(0),
        }
    }
    fn packed(&self) -> Packed {
        self.out
            .out()
            .u32(self.kind)
            .u32(self.first)
            .f32(self.alpha)
            .f32(self.limit)
            .at(self.factor)
    }
}

/// Which forms of an input these matrices read.
fn forms<'m>(matrices: impl IntoIterator<Item = &'m Matrix>) -> (bool, bool) {
    matrices.into_iter().fold((false, false), |(plain, packed), m| {
        let is_plain = m.held == Held::F32;
        (plain || is_plain, packed || !is_plain)
    })
}

/// Threads for a row of `width` numbers: a function of the width alone.
fn threads(width: usize) -> usize {
    width.next_multiple_of(32).clamp(32, 256)
}

impl Pass<'_> {
    fn launch(&self, kernel: &'static str, grid: [usize; 3], block: usize, args: Args) {
        self.device.launch(Launch {
            kernel,
            grid,
            block,
            args,
        });
    }
    fn told(&self) -> ToldAt {
        self.space.told_at()
    }

    /// Everything from the ids to the logits.
    pub(super) fn run(&self) {
        self.embed();
        for branch in &self.parts.branches {
            self.branch(branch);
        }
        self.logits();
    }

    fn embed(&self) {
        let Parts {
            embed, embed_scale, ..
        } = self.parts;
        let hidden = self.parts.widths.hidden;
        let args = Args::new()
            .pack(embed.packed())
            .u32(embed.held.number())
            .u32(hidden)
            .at(self.told().id)
            .f32(*embed_scale)
            .at(self.space.h.at);
        self.launch("embed", [self.rows, 1, 1], threads(hidden), args);
    }

    fn logits(&self) {
        if self.wanted == 0 {
            return;
        }
        let head = self.parts.head.as_ref().unwrap_or(&self.parts.embed);
        let (plain, packed) = forms([head]);
        let x = self.space.x.input(self.wanted, plain, packed);
        self.norm(&self.parts.norm, self.told().wanted, self.wanted, x);
        let sink = Sink::store(self.space.logits.at, self.parts.widths.vocab, 0);
        self.product(head, x, self.wanted, None, &sink);
    }

    /// The norm of the residual stream's rows, of those that `pick` lists if it does.
    fn norm(&self, norm: &Norm, pick: Address, rows: usize, out: Input) {
        let hidden = self.parts.widths.hidden;
        let args = Args::new()
            .at(self.space.h.at)
            .u32(hidden)
            .u32(hidden)
            .at(pick)
            .at(norm.weight.at())
            .f32(norm.eps)
            .pack(out.out());
        self.launch("norm_rows", [rows, 1, 1], threads(hidden.div_ceil(2)), args);
    }

    /// `experts`: the list of the tiles' matrices, and how many tiles.
    fn product(&self, m: &Matrix, x: Input, rows: usize, experts: Option<(Address, usize)>, sink: &Sink) {
        let (list, tiles) = experts.unwrap_or((Address(0), 0));
        let gate = sink.kind == 3 || sink.kind == 4;
        let args = Args::new().pack(m.packed());
        let (grid, block, args) = if m.held == Held::F32 {
            let width = if gate { m.n / 2 } else { m.n };
            let down = if experts.is_some() {
                tiles
            } else {
                rows.div_ceil(16)
            };
            let args = args.at(x.plain).u32(x.stride);
            ([width.div_ceil(128), down, 1], 128, args.u32(rows))
        } else {
            let down = if experts.is_some() {
                tiles
            } else {
                rows.div_ceil(ROWS)
            };
            let args = args.at(x.packed).u32(rows).u32(x.tiles);
            ([m.n.div_ceil(COLUMNS), down, 1], 32 * m.slices, args)
        };
        self.launch(m.held.kernel(), grid, block, args.at(list).pack(sink.packed()));
    }

    fn wide(&self, wide: &Wide, x: Input, stride: usize) {
        for (matrix, first) in &wide.matrices {
            let sink = Sink::store(self.space.u.at, stride, *first);
            self.product(matrix, x, self.rows, None, &sink);
        }
    }

    /// Adds a product of a part's inner rows to the residual stream.
    fn add(&self, m: &Matrix, x: Input) {
        let sink = Sink {
            kind: ADD,
            ..Sink::store(self.space.h.at, self.parts.widths.hidden, 0)
        };
        self.product(m, x, self.rows, None, &sink);
    }

    fn branch(&self, branch: &Branch) {
        let (mut plain, mut packed) = (false, false);
        for part in &branch.parts {
            let (p, q) = match part {
                Part::Attention(a) => forms(a.input.matrices.iter().map(|(m, _)| m)),
                Part::Recurrent(r) => forms(r.input.matrices.iter().map(|(m, _)| m)),
                Part::ShortConv(c) => forms([&c.input]),
                Part::Mlp(m) => forms([&m.input]),
                Part::Moe(m) => (
                    true,
                    m.shared.as_ref().is_some_and(|(mlp, _)| forms([&mlp.input]).1),
                ),
            };
            (plain, packed) = (plain || p, packed || q);
        }
        let x = self.space.x.input(self.rows, plain, packed);
        self.norm(&branch.norm, Address(0), self.rows, x);
        for part in &branch.parts {
            match part {
                Part::Attention(a) => self.attention(a, x),
                Part::Recurrent(r) => self.recurrent(r, x),
                Part::ShortConv(c) => self.short_conv(c, x),
                Part::Mlp(m) => self.mlp(m, x, Address(0)),
                Part::Moe(m) => self.moe(m, x),
            }
        }
    }

    fn inner(&self, m: &Matrix) -> Input {
        let (plain, packed) = forms([m]);
        self.space.a.input(self.rows, plain, packed)
    }

    fn attention(&self, a: &Attention, x: Input) {
        let [q, k, v, gate] = a.widths;
        let stride = q + k + v + gate;
        self.wide(&a.input, x, stride);
        let column = |first: usize| self.space.u.at.plus(4 * first as u64);
        let told = self.told();
        let rows = || {
            Packed::new()
                .at(told.slot)
                .at(told.position)
                .u64(self.layout.table)
        };
        let part_at = self.layout.attention[a.index];
        let norm = |norm: &Option<Norm>| {
            norm.as_ref()
                .map_or((Address(0), 0.0), |n| (n.weight.at(), n.eps))
        };
        let ((q_norm, q_eps), (k_norm, k_eps)) = (norm(&a.q_norm), norm(&a.k_norm));
        let (frequencies, pairs, scale) = match a.rope {
            Some(rope) => {
                let table = &self.parts.ropes[rope];
                (table.frequencies.at(), table.pairs, table.scale)
            }
            None => (Address(0), 0, 1.0),
        };
        let heads = Packed::new()
            .at(column(0))
            .at(column(q))
            .at(column(q + k))
            .u32(stride)
            .u32(stride)
            .u32(stride)
            .at(q_norm)
            .at(k_norm)
            .f32(q_eps)
            .f32(k_eps)
            .at(frequencies)
            .u32(pairs)
            .f32(scale);
        let args = Args::new().pack(rows()).u64(part_at).pack(heads);
        self.launch("enter", [self.rows, 1, 1], 128, args);
        let (kv_heads, heads, head_dim) = self.parts.attention;
        let args = Args::new()
            .pack(rows())
            .u64(part_at)
            .u32(a.window)
            .at(column(0))
            .u32(stride)
            .at(self.space.partial.at)
            .u32(self.splits);
        self.launch("attend", [self.splits, kv_heads, self.rows], 32 * SPLIT, args);
        let out = self.inner(&a.o);
        let args = Args::new()
            .pack(rows())
            .u32(a.window)
            .at(self.space.partial.at)
            .u32(self.splits)
            .at(a.sinks.at())
            .at(if gate > 0 { column(q + k + v) } else { Address(0) })
            .u32(stride)
            .pack(out.out());
        self.launch("attend_merge", [heads, self.rows, 1], threads(head_dim), args);
        self.add(&a.o, out);
    }

    fn feeds(&self) -> Packed {
        let told = self.told();
        Packed::new()
            .at(told.feed_slot)
            .at(told.feed_first)
            .at(told.feed_count)
    }

    fn recurrent(&self, r: &Recurrent, x: Input) {
        let [z, input, steps, strengths] = r.columns;
        let stride = r
            .input
            .matrices
            .iter()
            .map(|(m, first)| m.n + first)
            .max()
            .unwrap_or(0);
        self.wide(&r.input, x, stride);
        let column = |first: usize| self.space.u.at.plus(4 * first as u64);
        let (state_at, window_at) = self.layout.recurrent[r.index];
        let args = Args::new()
            .pack(self.feeds())
            .u64(window_at)
            .at(column(input))
            .u32(stride)
            .at(r.conv.at())
            .at(r.conv_bias.at())
            .u32(r.channels)
            .at(self.space.xbc.at);
        self.launch("conv", [r.channels.div_ceil(128), self.feeds, 1], 128, args);
        let rates = Packed::new()
            .at(column(steps))
            .at(column(strengths))
            .u32(stride)
            .u32(stride)
            .at(r.a.at())
            .at(r.d.at())
            .at(r.dt_bias.at())
            .f32(r.limit.0)
            .f32(r.limit.1);
        let args = Args::new()
            .pack(self.feeds())
            .u64(state_at)
            .at(self.space.xbc.at)
            .pack(rates)
            .at(self.space.y.at);
        // a warp has four channels of a head in flight
        let warps = (r.width / r.heads).div_ceil(4).clamp(1, 8);
        self.launch("state_update", [r.heads, self.feeds, 1], 32 * warps, args);
        let (kind, groups, norm) = &r.gate;
        let out = self.inner(&r.output);
        let args = Args::new()
            .at(self.space.y.at)
            .at(column(z))
            .u32(stride)
            .u32(r.width)
            .u32(*groups)
            .u32(*kind)
            .at(norm.weight.at())
            .f32(norm.eps)
            .pack(out.out());
        self.launch(
            "gate_rows",
            [*groups, self.rows, 1],
            threads(r.width / groups),
            args,
        );
        self.add(&r.output, out);
    }

    fn short_conv(&self, c: &ShortConv, x: Input) {
        let stride = 3 * c.channels;
        let sink = Sink::store(self.space.u.at, stride, 0);
        self.product(&c.input, x, self.rows, None, &sink);
        let out = self.inner(&c.output);
        let args = Args::new()
            .pack(self.feeds())
            .u64(self.layout.conv[c.index])
            .at(self.space.u.at)
            .u32(stride)
            .at(c.conv.at())
            .at(c.bias.at())
            .u32(c.channels)
            .pack(out.out());
        self.launch("short_conv", [c.channels.div_ceil(128), self.feeds, 1], 128, args);
        self.add(&c.output, out);
    }

    fn activate(
        &self,
        m: &Mlp,
        x: Input,
        rows: usize,
        experts: Option<(Address, usize)>,
        factor: Address,
        out: Input,
    ) {
        let sink = Sink {
            out,
            kind: m.activation.sink,
            first: 0,
            alpha: m.activation.alpha,
            limit: m.activation.limit,
            factor,
        };
        self.product(&m.input, x, rows, experts, &sink);
        if out.packed != Address(0) && !m.width.is_multiple_of(64) {
            let args = Args::new().u32(m.width).pack(out.out());
            self.launch("pad_rows", [rows, 1, 1], 64, args);
        }
    }

    fn mlp(&self, m: &Mlp, x: Input, factor: Address) {
        let out = self.inner(&m.down);
        self.activate(m, x, self.rows, None, factor, out);
        self.add(&m.down, out);
    }

    fn moe(&self, m: &Moe, x: Input) {
        let space = &self.space.moe;
        let hidden = self.parts.widths.hidden;
        let scores = Sink::store(space.scores.at, m.count, 0);
        self.product(&m.router, x, self.rows, None, &scores);
        let (kind, renormalise, least, scale) = match &m.routing {
            Routing::Softmax { renormalise } => (0, *renormalise, 0.0, 1.0),
            Routing::SoftmaxOfChosen => (1, true, 0.0, 1.0),
            Routing::Sigmoid {
                renormalise, scale, ..
            } => (2, renormalise.is_some(), renormalise.unwrap_or(0.0), *scale),
        };
        let routing = Packed::new()
            .u32(kind)
            .u32(m.count)
            .u32(m.active)
            .u32(usize::from(renormalise))
            .f32(least)
            .f32(scale)
            .at(m.correction.at());
        let args = Args::new()
            .at(self.told().slot)
            .at(space.scores.at)
            .pack(routing)
            .at(space.picks.at)
            .at(space.weights.at);
        self.launch("route", [self.rows, 1, 1], 32, args);
        let tiles = self.parts.widths.tiles(self.rows);
        let args = Args::new()
            .at(space.picks.at)
            .u32(self.rows * m.active)
            .u32(m.active)
            .u32(m.count)
            .u32(tiles)
            .at(space.expert.at)
            .at(space.source.at)
            .at(space.place.at);
        self.launch(
            "group_rows",
            [1, 1, 1],
            m.count.next_multiple_of(32).min(512),
            args,
        );
        let gathered = 16 * tiles;
        let (plain, packed) = forms([&m.experts.input]);
        let gathered_x = space.x.input(gathered, plain, packed);
        let args = Args::new()
            .at(x.plain)
            .u32(x.stride)
            .u32(hidden)
            .at(space.source.at)
            .pack(gathered_x.out());
        self.launch("gather_rows", [gathered, 1, 1], threads(hidden), args);
        let experts = Some((space.expert.at, tiles));
        let (plain, packed) = forms([&m.experts.down]);
        let inner = space.a.input(gathered, plain, packed);
        self.activate(&m.experts, gathered_x, gathered, experts, Address(0), inner);
        let y = Sink::store(space.y.at, hidden, 0);
        self.product(&m.experts.down, inner, gathered, experts, &y);
        let args = Args::new()
            .at(space.picks.at)
            .at(space.place.at)
            .at(space.weights.at)
            .u32(m.active)
            .at(space.y.at)
            .u32(hidden)
            .f32(m.scale)
            .at(self.space.h.at);
        self.launch("combine", [self.rows, 1, 1], threads(hidden), args);
        if let Some((mlp, gate)) = &m.shared {
            let factor = match gate {
                Some(gate) => {
                    let sink = Sink {
                        kind: SIGMOID,
                        ..Sink::store(space.factors.at, 1, 0)
                    };
                    self.product(gate, x, self.rows, None, &sink);
                    space.factors.at
                }
                None => Address(0),
            };
            self.mlp(mlp, x, factor);
        }
    }
}
