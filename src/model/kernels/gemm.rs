//! Matrix product of activations with packed weights, independent of the number of rows.
//!
//! Every output is one sum over k in ascending order, whatever the number of rows, threads or tasks: a row's result is bit-identical alone and
//! in a batch. Weights of any format become f32 panels of [`DEPTH`] x [`WIDTH`] in a cache-sized scratch as they are used, once for all rows,
//! so each format multiplies exactly its dequantised values.

use super::buf::{Buf, PAD, Rows, Shared};
use super::pool::Pool;
use super::simd::{Simd, Tier, tiers};
use crate::model::linear::{Linear, Storage};
use crate::model::weights::dequantize_row;

/// Outputs in a panel.
pub(crate) const WIDTH: usize = PAD;
/// k-steps that are unpacked at a time: a panel slice of 32 KiB stays in the first-level cache.
pub(crate) const DEPTH: usize = 256;
/// Most rows of one task; results wait in a tile of `ROWS x WIDTH`.
const ROWS: usize = 96;

/// What a task does with its tile.
#[derive(Clone, Copy)]
enum Sink<'a> {
    /// `out = scale * acc (+ bias)`
    Store,
    /// `out += scale * acc (+ bias)`
    Add,
    /// `out = silu(gate) * up`, where the job's product is the gate and this is `up`
    Gate(&'a Linear),
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
    pub(crate) fn add(first: (&'a Rows, &'a Linear), second: Option<(&'a Rows, &'a Linear)>, out: &'a mut Rows) -> Self {
        Self {
            products: [Some(first), second],
            sink: Sink::Add,
            out,
        }
    }
    /// `out[r] = silu(x[r] gate^T) * (x[r] up^T)`, scales and biases included.
    pub(crate) fn gated(x: &'a Rows, gate: &'a Linear, up: &'a Linear, out: &'a mut Rows) -> Self {
        Self {
            products: [Some((x, gate)), None],
            sink: Sink::Gate(up),
            out,
        }
    }
    fn panels(&self) -> usize {
        self.out.width().div_ceil(WIDTH)
    }
}

/// Per-thread scratch of the products.
pub(crate) struct Scratch {
    panel: Buf,
    row: Buf,
    tile: [Buf; 2],
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            panel: Buf::zeroed(DEPTH * WIDTH),
            row: Buf::zeroed(DEPTH),
            tile: [Buf::zeroed(ROWS * WIDTH), Buf::zeroed(ROWS * WIDTH)],
        }
    }
    pub(crate) fn bytes() -> usize {
        (DEPTH * WIDTH + DEPTH + 2 * ROWS * WIDTH) * size_of::<f32>()
    }
}

/// Runs all jobs (they must not depend on each other) as one parallel phase.
pub(crate) fn products<const N: usize>(pool: &mut Pool, scratch: &mut [Scratch], jobs: [Job<'_>; N]) {
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
        if let (Sink::Gate(up), Some((_, gate))) = (job.sink, job.products[0]) {
            assert!(up.n() == gate.n() && up.k() == gate.k(), "shapes of a gate");
        }
    }
    assert!(scratch.len() >= pool.threads());
    let panels: usize = jobs.iter().map(Job::panels).sum();
    // enough tasks for every thread, each with as many rows as possible, because a task unpacks its panel for itself
    let wanted = if pool.threads() == 1 { 1 } else { pool.threads() * 3 };
    let splits = rows.div_ceil(ROWS).max(wanted.div_ceil(panels).min(rows.div_ceil(12)));
    let chunk = rows.div_ceil(splits);
    let tier = pool.tier();
    let outs = jobs.each_ref().map(|job| Shared(job.out.as_ptr().cast_mut()));
    let scratch = Shared(scratch.as_mut_ptr());
    pool.run(panels * splits, |task, thread| {
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
        let Scratch {
            panel: unpacked,
            row,
            tile,
        } = unsafe { &mut *scratch.at(thread) };
        let [tile, gate_tile] = tile;
        let stride = job.out.stride();
        for (x, w) in job.products.iter().flatten() {
            // SAFETY: the rows exist in x, and the tile holds ROWS rows
            let a = unsafe { x.as_ptr().add(first * x.stride()) };
            multiply(tier, a, x.stride(), count, w, panel, unpacked, row, tile);
            let part = Part {
                panel,
                count,
                stride,
                add: matches!(job.sink, Sink::Add),
            };
            // SAFETY: rows first..first+count and this panel's columns belong to this task alone; the stride covers whole panels
            unsafe {
                let out = outs[index].at(first * stride + panel * WIDTH);
                match job.sink {
                    Sink::Store | Sink::Add => finish(tier, tile, w, out, part),
                    Sink::Gate(up) => {
                        multiply(tier, a, x.stride(), count, up, panel, unpacked, row, gate_tile);
                        finish_gate(tier, tile, gate_tile, w, up, out, part);
                    }
                }
            }
        }
    });
}

#[derive(Clone, Copy)]
struct Part {
    panel: usize,
    count: usize,
    stride: usize,
    add: bool,
}

/// The tile of `count` rows x [`WIDTH`] columns of panel `panel`.
#[allow(clippy::too_many_arguments)]
fn multiply(
    tier: Tier,
    a: *const f32,
    stride: usize,
    count: usize,
    w: &Linear,
    panel: usize,
    unpacked: &mut Buf,
    row: &mut Buf,
    tile: &mut Buf,
) {
    let k = w.k();
    let mut start = 0;
    while start < k {
        let depth = DEPTH.min(k - start);
        let b = unpack(tier, w, panel, start, depth, unpacked, row);
        // SAFETY: a has `count` rows of k elements, b has depth x WIDTH, the tile has ROWS x WIDTH >= count x WIDTH
        unsafe { inner(tier, a.add(start), stride, count, b, depth, tile.as_mut_ptr(), start == 0) };
        start += depth;
    }
}

/// Pointer to `depth x WIDTH` f32 weights of a panel, k-major: either the stored panel itself or the scratch after unpacking.
fn unpack(tier: Tier, w: &Linear, panel: usize, start: usize, depth: usize, unpacked: &mut Buf, row: &mut Buf) -> *const f32 {
    let offset = (panel * w.k() + start) * WIDTH;
    match w.storage() {
        Storage::F32(panels) => panels[offset..][..depth * WIDTH].as_ptr(),
        Storage::Bf16(panels) => {
            let src = &panels[offset..][..depth * WIDTH];
            // SAFETY: both sides hold depth x WIDTH elements
            unsafe { widen_bf16(tier, src.as_ptr(), unpacked.as_mut_ptr(), depth * WIDTH) };
            unpacked.as_ptr()
        }
        Storage::F16(panels) => {
            let src = &panels[offset..][..depth * WIDTH];
            // SAFETY: both sides hold depth x WIDTH elements
            unsafe { widen_f16(tier, src.as_ptr(), unpacked.as_mut_ptr(), depth * WIDTH) };
            unpacked.as_ptr()
        }
        Storage::Blocks { dtype, bytes, row_bytes } => {
            let from = start / dtype.block_len() * dtype.block_bytes();
            let size = depth / dtype.block_len() * dtype.block_bytes();
            for j in 0..WIDTH {
                let n = panel * WIDTH + j;
                if n >= w.n() {
                    for i in 0..depth {
                        unpacked[i * WIDTH + j] = 0.0;
                    }
                    continue;
                }
                dequantize_row(*dtype, &bytes[n * row_bytes + from..][..size], &mut row[..depth]);
                for (i, v) in row[..depth].iter().enumerate() {
                    unpacked[i * WIDTH + j] = *v;
                }
            }
            unpacked.as_ptr()
        }
    }
}

#[inline(always)]
unsafe fn widen_bf16_body<S: Simd>(src: *const u16, dst: *mut f32, n: usize) {
    for i in (0..n).step_by(S::LANES) {
        unsafe { S::store(dst.add(i), S::load_bf16(src.add(i))) }
    }
}
#[inline(always)]
unsafe fn widen_f16_body<S: Simd>(src: *const u16, dst: *mut f32, n: usize) {
    for i in (0..n).step_by(S::LANES) {
        unsafe { S::store(dst.add(i), S::load_f16(src.add(i))) }
    }
}
tiers!(fn widen_bf16 = widen_bf16_body(src: *const u16, dst: *mut f32, n: usize));
tiers!(fn widen_f16 = widen_f16_body(src: *const u16, dst: *mut f32, n: usize));

#[inline(always)]
unsafe fn inner_body<S: Simd>(a: *const f32, stride: usize, count: usize, b: *const f32, depth: usize, tile: *mut f32, first: bool) {
    unsafe {
        let mut r = 0;
        while r < count {
            let (a, c) = (a.add(r * stride), tile.add(r * WIDTH));
            // as many rows as the tier's registers hold; the choice does not touch any row's sum
            let left = count - r;
            if S::LANES == 16 {
                r += match left {
                    12.. => micro::<S, 12, 2>(a, stride, b, depth, c, first),
                    8..12 => micro::<S, 8, 2>(a, stride, b, depth, c, first),
                    4..8 => micro::<S, 4, 2>(a, stride, b, depth, c, first),
                    2..4 => micro::<S, 2, 2>(a, stride, b, depth, c, first),
                    _ => micro::<S, 1, 2>(a, stride, b, depth, c, first),
                };
            } else {
                for half in [0, 16] {
                    let (b, c) = (b.add(half), c.add(half));
                    match left {
                        6.. => micro::<S, 6, 2>(a, stride, b, depth, c, first),
                        4..6 => micro::<S, 4, 2>(a, stride, b, depth, c, first),
                        2..4 => micro::<S, 2, 2>(a, stride, b, depth, c, first),
                        _ => micro::<S, 1, 2>(a, stride, b, depth, c, first),
                    };
                }
                r += match left {
                    6.. => 6,
                    4..6 => 4,
                    2..4 => 2,
                    _ => 1,
                };
            }
        }
    }
}
tiers!(fn inner = inner_body(a: *const f32, stride: usize, count: usize, b: *const f32, depth: usize, tile: *mut f32, first: bool));

/// `M` rows x `N` vectors, accumulators in registers.
#[inline(always)]
unsafe fn micro<S: Simd, const M: usize, const N: usize>(
    a: *const f32,
    stride: usize,
    b: *const f32,
    depth: usize,
    c: *mut f32,
    first: bool,
) -> usize {
    unsafe {
        let mut acc = [[S::splat(0.0); N]; M];
        if !first {
            for (m, acc) in acc.iter_mut().enumerate() {
                for (n, acc) in acc.iter_mut().enumerate() {
                    *acc = S::load(c.add(m * WIDTH + n * S::LANES));
                }
            }
        }
        for k in 0..depth {
            let mut w = [S::splat(0.0); N];
            for (n, w) in w.iter_mut().enumerate() {
                *w = S::load(b.add(k * WIDTH + n * S::LANES));
            }
            for (m, acc) in acc.iter_mut().enumerate() {
                let x = S::splat(*a.add(m * stride + k));
                for (n, acc) in acc.iter_mut().enumerate() {
                    *acc = S::fma(x, w[n], *acc);
                }
            }
        }
        for (m, acc) in acc.iter().enumerate() {
            for (n, acc) in acc.iter().enumerate() {
                S::store(c.add(m * WIDTH + n * S::LANES), *acc);
            }
        }
        M
    }
}

#[inline(always)]
unsafe fn finish_body<S: Simd>(tile: &Buf, w: &Linear, out: *mut f32, part: Part) {
    let columns = part.panel * WIDTH;
    for r in 0..part.count {
        for j in (0..WIDTH).step_by(S::LANES) {
            unsafe {
                let v = epilogue::<S>(tile.as_ptr().add(r * WIDTH + j), w, columns + j);
                let at = out.add(r * part.stride + j);
                S::store(at, if part.add { S::add(S::load(at), v) } else { v });
            }
        }
    }
}
tiers!(fn finish = finish_body(tile: &Buf, w: &Linear, out: *mut f32, part: Part));

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

#[inline(always)]
unsafe fn finish_gate_body<S: Simd>(gate: &Buf, up: &Buf, gate_w: &Linear, up_w: &Linear, out: *mut f32, part: Part) {
    let columns = part.panel * WIDTH;
    for r in 0..part.count {
        for j in (0..WIDTH).step_by(S::LANES) {
            unsafe {
                let g = epilogue::<S>(gate.as_ptr().add(r * WIDTH + j), gate_w, columns + j);
                let u = epilogue::<S>(up.as_ptr().add(r * WIDTH + j), up_w, columns + j);
                S::store(out.add(r * part.stride + j), S::mul(S::silu(g), u));
            }
        }
    }
}
tiers!(fn finish_gate = finish_gate_body(gate: &Buf, up: &Buf, gate_w: &Linear, up_w: &Linear, out: *mut f32, part: Part));
