//! Matrix product of activations with packed weights, independent of the number of rows.
//!
//! Every output is one sum over k in ascending order, whatever the number of rows, threads or tasks: a row's
//! result is bit-identical alone and in a batch. Plain weights are multiplied in f32 ([`float`]); quantised
//! ones as integers with an input rounded to 8 bits ([`codes`]); bf16 ones, on processors that are fast at
//! it, with an input rounded to bf16 ([`bf16`], and `amx` on a matrix unit, where quantised ones are widened to
//! bf16 first, in `widen`).

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

#[cfg(target_arch = "x86_64")]
mod amx;
mod bf16;
mod codes;
mod float;
mod grouped;
mod rounded;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod widen;

use super::buf::{Buf, Rows, Shared};
use super::pool::ThreadPool;
use super::simd::{Simd, Tier, prefetch, prefetch_far, tiers};
use crate::cpu::linear::Linear;
use crate::cpu::packing::{Layout, WIDTH};
pub(crate) use grouped::{Group, grouped};
pub(crate) use rounded::to_bf16;
use rounded::{Kind, Rounded};

/// Most rows of one task, whose results wait in a tile.
const ROWS: usize = 96;
/// The same where each task widens its panel for itself.
const ROWS_OF_WIDENED: usize = 256;

/// Bytes by which weights are asked for before they are read. With few rows memory is what decides: the
/// second-level cache can wait for more lines at once than the first.
const NEAR: usize = 2048;
const FAR: usize = 4096;

/// For a product of `M` rows, asks for what will be read as long after the `bytes` bytes at `from`; with
/// `next`, for what lies so far behind them.
#[inline(always)]
fn prefetch_weights<const M: usize>(from: *const u8, next: usize, bytes: usize) {
    for line in (0..bytes).step_by(64) {
        if next > 0 {
            prefetch_far(from.wrapping_add(next + line));
        } else if M > 2 {
            prefetch(from.wrapping_add(NEAR + line));
        } else {
            prefetch_far(from.wrapping_add(FAR + line));
        }
    }
}

/// What a task does with its tile.
#[derive(Clone, Copy)]
pub(crate) enum Sink<'a> {
    /// `out = scale * acc (+ bias)`
    Store,
    /// `out += scale * acc (+ bias)`
    Add,
    /// `out = relu(scale * acc (+ bias))^2`
    SquaredRelu,
    /// `out = silu(gate) * up` or the like, where the job's product is the gate and this is `up`
    Gate(&'a Linear, Gating),
}

/// How a gate and what it gates become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Gating {
    /// `silu(gate) * up`
    Silu,
    /// `gate * sigmoid(alpha * gate) * (up + 1)`, the gate at most `limit`, the other within it
    Clamped { alpha: f32, limit: f32 },
}

/// One output matrix and the products that make it.
pub(crate) struct Job<'a> {
    products: [Option<(&'a Rows, &'a Linear)>; 2],
    sink: Sink<'a>,
    out: &'a mut Rows,
}

impl<'a> Job<'a> {
    /// `out[r] = x[r] W^T * scale + bias`: x `[rows, k]`, W `[n, k]`, out `[rows, n]`.
    pub(crate) fn store(x: &'a Rows, w: &'a Linear, out: &'a mut Rows) -> Self {
        Self {
            products: [Some((x, w)), None],
            sink: Sink::Store,
            out,
        }
    }
    /// `out[r] += x[r] W^T * scale + bias`, then the same for `second`.
    pub(crate) fn add(
        first: (&'a Rows, &'a Linear),
        second: Option<(&'a Rows, &'a Linear)>,
        out: &'a mut Rows,
    ) -> Self {
        Self {
            products: [Some(first), second],
            sink: Sink::Add,
            out,
        }
    }
    /// `out[r]` from `x[r] gate^T` and `x[r] up^T`, scales and biases included.
    pub(crate) fn gated(
        x: &'a Rows,
        (gate, up): (&'a Linear, &'a Linear),
        gating: Gating,
        out: &'a mut Rows,
    ) -> Self {
        Self {
            products: [Some((x, gate)), None],
            sink: Sink::Gate(up, gating),
            out,
        }
    }
    /// `out[r] = relu(x[r] up^T)^2`, scales and biases included.
    pub(crate) fn squared_relu(x: &'a Rows, up: &'a Linear, out: &'a mut Rows) -> Self {
        Self {
            products: [Some((x, up)), None],
            sink: Sink::SquaredRelu,
            out,
        }
    }
    fn panels(&self) -> usize {
        self.out.width().div_ceil(WIDTH)
    }
}

/// Scratch of the products that lives from step to step.
pub(crate) struct Scratch {
    threads: Vec<Tiles>,
    rounded: Vec<Rounded>,
}

struct Tiles {
    /// a slice of a panel in f32
    widened: Buf,
    /// codes in pairs of bf16
    pairs: Buf,
    /// a panel of weights that are not packed yet
    panel: Buf,
    tile: [Buf; 2],
}

impl Scratch {
    pub(crate) fn new(threads: usize) -> Self {
        let tile = || Buf::zeroed(ROWS_OF_WIDENED * WIDTH);
        let tiles = || Tiles {
            widened: Buf::zeroed(float::DEPTH * WIDTH),
            pairs: Buf::zeroed(0),
            panel: Buf::zeroed(0),
            tile: [tile(), tile()],
        };
        Self {
            threads: (0..threads).map(|_| tiles()).collect(),
            rounded: Vec::new(),
        }
    }
    /// Bytes for `threads` threads and inputs of `rows` rows, the widest of which has `width` columns.
    pub(crate) fn bytes(threads: usize, rows: usize, width: usize) -> usize {
        let thread = (float::DEPTH + 2 * ROWS_OF_WIDENED) * WIDTH + width / 2 * WIDTH;
        threads * thread * size_of::<f32>() + 2 * Rounded::bytes(rows, width)
    }
}

/// How the input of a product with these weights is rounded; `None` where it is read as it is.
fn rounding(tier: Tier, weights: &Linear) -> Option<Kind> {
    match weights.storage().layout() {
        #[cfg(target_arch = "x86_64")]
        Layout::Codes(_) if tier == Tier::Amx && !weights.is_for_few_rows() => Some(Kind::Bf16),
        Layout::Codes(_) => Some(Kind::Int8),
        Layout::Bf16 if tier == Tier::Avx512Bf16 => Some(Kind::Bf16),
        #[cfg(target_arch = "x86_64")]
        Layout::Bf16 if tier == Tier::Amx && weights.k().is_multiple_of(amx::STEPS) => Some(Kind::Bf16),
        _ => None,
    }
}

/// Runs all jobs (they must not depend on each other) as one parallel phase.
pub(crate) fn matmul<const N: usize>(pool: &mut ThreadPool, scratch: &mut Scratch, jobs: [Job<'_>; N]) {
    let rows = jobs[0].out.rows();
    if rows == 0 {
        return;
    }
    for job in &jobs {
        for (x, w) in job.products.iter().flatten() {
            assert!(
                x.rows() == rows && job.out.rows() == rows && x.width() == w.k() && w.n() == job.out.width(),
                "shapes of a product"
            );
        }
        if let (Sink::Gate(up, _), Some((_, gate))) = (job.sink, job.products[0]) {
            assert!(up.n() == gate.n() && up.k() == gate.k(), "shapes of a gate");
        }
    }
    assert!(scratch.threads.len() >= pool.threads());
    let tier = pool.tier();
    let mut used = 0;
    for job in &jobs {
        for (x, w) in job.products.iter().flatten() {
            let up = if let Sink::Gate(up, _) = job.sink {
                Some(up)
            } else {
                None
            };
            for w in std::iter::once(*w).chain(up) {
                if let Some(kind) = rounding(tier, w) {
                    used = rounded::round(pool, &mut scratch.rounded, used, x, kind);
                }
            }
        }
    }
    let rounded = &scratch.rounded[..used];
    let panels: usize = jobs.iter().map(Job::panels).sum();
    // enough tasks for every thread, each with as many rows as possible, because a task unpacks its panel for
    // itself
    let wanted = if pool.threads() == 1 {
        1
    } else {
        pool.threads() * 3
    };
    let splits = rows
        .div_ceil(if tier == Tier::Amx { ROWS_OF_WIDENED } else { ROWS })
        .max(wanted.div_ceil(panels).min(rows.div_ceil(12)));
    let chunk = rows.div_ceil(splits);
    let outs = jobs.each_ref().map(|job| Shared(job.out.as_ptr().cast_mut()));
    let tiles = Shared(scratch.threads.as_mut_ptr());
    pool.run_in_spans(panels * splits, |task, thread| {
        let (mut panel, split) = (task / splits, task % splits);
        let first = split * chunk;
        let count = chunk.min(rows.saturating_sub(first));
        if count == 0 {
            return;
        }
        let mut index = 0;
        while panel >= jobs[index].panels() {
            panel -= jobs[index].panels();
            index += 1;
        }
        let job = &jobs[index];
        // SAFETY: a thread runs one task at a time, so its scratch is its own
        let Tiles {
            widened,
            pairs,
            panel: scratch,
            tile,
        } = unsafe { &mut *tiles.at(thread) };
        let [tile, gate_tile] = tile;
        let mut multiply = |x: &Rows, w: &Linear, tile: &mut Buf| {
            let weights = w.storage().panel(panel, scratch);
            multiply(tier, x, rounded, first, count, w, weights, widened, pairs, tile);
        };
        let stride = job.out.stride();
        for (x, w) in job.products.iter().flatten() {
            multiply(x, w, tile);
            let region = Region {
                panel,
                count,
                stride,
                add: matches!(job.sink, Sink::Add),
            };
            // SAFETY: rows first..first+count and this panel's columns belong to this task alone; the stride
            // covers whole panels
            unsafe {
                let out = outs[index].at(first * stride + panel * WIDTH);
                match job.sink {
                    Sink::Store | Sink::Add => finish(tier, tile, w, out, region),
                    Sink::SquaredRelu => finish_squared_relu(tier, tile, w, out, region),
                    Sink::Gate(up, gating) => {
                        multiply(x, up, gate_tile);
                        finish_gate(tier, tile, gate_tile, w, up, gating, out, region);
                    }
                }
            }
        }
    });
}

#[derive(Clone, Copy)]
struct Region {
    panel: usize,
    count: usize,
    stride: usize,
    add: bool,
}

/// `count` rows of a task's input, `stride` elements of `T` apart.
#[derive(Clone, Copy)]
struct Input<T = f32> {
    data: *const T,
    stride: usize,
    count: usize,
}

/// The tile of rows `first..first + count` x the columns of a panel of `w`.
#[allow(clippy::too_many_arguments)]
fn multiply(
    tier: Tier,
    x: &Rows,
    rounded: &[Rounded],
    first: usize,
    count: usize,
    w: &Linear,
    panel: &[f32],
    widened: &mut Buf,
    pairs: &mut Buf,
    tile: &mut Buf,
) {
    let (layout, k) = (w.storage().layout(), w.k());
    let Some(kind) = rounding(tier, w) else {
        // SAFETY: the rows exist in x
        let data = unsafe { x.as_ptr().add(first * x.stride()) };
        let stride = x.stride();
        return float::multiply(
            tier,
            Input { data, stride, count },
            layout,
            panel,
            k,
            widened,
            tile,
        );
    };
    let x = rounded
        .iter()
        .find(|r| r.is(x, kind))
        .expect("rounded before the products");
    match layout {
        #[cfg(target_arch = "x86_64")]
        Layout::Codes(book) if kind == Kind::Bf16 => {
            widen::multiply(x.rows(first, count), k, &book.format, panel, pairs, tile);
        }
        Layout::Codes(book) => codes::multiply(tier, x.rows(first, count), k, &book.format, panel, tile),
        #[cfg(target_arch = "x86_64")]
        Layout::Bf16 if tier == Tier::Amx => amx::multiply(x.rows(first, count), k, panel, tile),
        Layout::Bf16 => bf16::multiply(x.rows(first, count), k, panel, tile),
        Layout::F32 | Layout::F16 => unreachable!("other formats read f32"),
    }
}

#[inline(always)]
unsafe fn finish_body<S: Simd>(tile: &Buf, w: &Linear, out: *mut f32, region: Region) {
    let columns = region.panel * WIDTH;
    for r in 0..region.count {
        for j in (0..WIDTH).step_by(S::LANES) {
            unsafe {
                let v = epilogue::<S>(tile.as_ptr().add(r * WIDTH + j), w, columns + j);
                let at = out.add(r * region.stride + j);
                S::store(at, if region.add { S::add(S::load(at), v) } else { v });
            }
        }
    }
}
tiers!(fn finish = finish_body(tile: &Buf, w: &Linear, out: *mut f32, region: Region));

#[inline(always)]
unsafe fn finish_squared_relu_body<S: Simd>(tile: &Buf, w: &Linear, out: *mut f32, region: Region) {
    let columns = region.panel * WIDTH;
    for r in 0..region.count {
        for j in (0..WIDTH).step_by(S::LANES) {
            unsafe {
                let v = epilogue::<S>(tile.as_ptr().add(r * WIDTH + j), w, columns + j);
                // a NaN stays one
                let squared = S::mul(v, S::max(v, S::splat(0.0)));
                S::store(out.add(r * region.stride + j), squared);
            }
        }
    }
}
tiers!(fn finish_squared_relu = finish_squared_relu_body(
    tile: &Buf, w: &Linear, out: *mut f32, region: Region
));

#[inline(always)]
unsafe fn epilogue<S: Simd>(acc: *const f32, w: &Linear, column: usize) -> S::V {
    unsafe {
        let v = S::mul(S::load(acc), S::load(w.scale().as_ptr().add(column)));
        match w.bias() {
            Some(bias) => S::add(v, S::load(bias.as_ptr().add(column))),
            None => v,
        }
    }
}

#[allow(clippy::too_many_arguments)]
#[inline(always)]
unsafe fn finish_gate_body<S: Simd>(
    gate: &Buf,
    up: &Buf,
    gate_w: &Linear,
    up_w: &Linear,
    gating: Gating,
    out: *mut f32,
    region: Region,
) {
    let columns = region.panel * WIDTH;
    for r in 0..region.count {
        for j in (0..WIDTH).step_by(S::LANES) {
            unsafe {
                let g = epilogue::<S>(gate.as_ptr().add(r * WIDTH + j), gate_w, columns + j);
                let u = epilogue::<S>(up.as_ptr().add(r * WIDTH + j), up_w, columns + j);
                let gated = match gating {
                    Gating::Silu => S::mul(S::silu(g), u),
                    Gating::Clamped { alpha, limit } => clamped::<S>(g, u, alpha, limit),
                };
                S::store(out.add(r * region.stride + j), gated);
            }
        }
    }
}
tiers!(fn finish_gate = finish_gate_body(
    gate: &Buf, up: &Buf, gate_w: &Linear, up_w: &Linear, gating: Gating, out: *mut f32, region: Region
));

#[inline(always)]
unsafe fn clamped<S: Simd>(gate: S::V, up: S::V, alpha: f32, limit: f32) -> S::V {
    unsafe {
        // the second operand is what comes back when one is NaN, so NaN goes through
        let g = S::min(S::splat(limit), gate);
        let u = S::max(S::splat(-limit), S::min(S::splat(limit), up));
        let e = S::exp(S::mul(S::splat(-alpha), g));
        let one = S::splat(1.0);
        S::mul(S::div(g, S::add(one, e)), S::add(u, one))
    }
}
