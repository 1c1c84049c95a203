//! One product of many matrices, each with the rows that are its own.

use super::{Linear, ROWS, Region, Rows, Scratch, Shared, Sink, ThreadPool, Tiles, WIDTH, rounded, rounding};
use super::{finish, finish_gate, finish_squared_relu, multiply};
use crate::cpu::kernels::buf::Buf;

/// Rows of the input that a matrix multiplies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// which matrix
    matrix: usize,
    first: usize,
    rows: usize,
    /// its first task, and how many times its rows are split
    task: usize,
    splits: usize,
}

impl Group {
    /// Rows `first..first + rows` for the matrix of this index.
    pub(crate) fn new(matrix: usize, first: usize, rows: usize) -> Self {
        Self {
            matrix,
            first,
            rows,
            task: 0,
            splits: 1,
        }
    }
}

/// The products of all groups as one parallel phase: `of` names a group's matrix and what is done with its
/// product. Every row of `x` and of `out` belongs to one group at most, and a row's result is that of
/// [`super::matmul`].
pub(crate) fn grouped<'a>(
    pool: &mut ThreadPool,
    scratch: &mut Scratch,
    x: &Rows,
    groups: &mut [Group],
    out: &mut Rows,
    of: impl Fn(usize) -> (&'a Linear, Sink<'a>) + Sync,
) {
    assert!(scratch.threads.len() >= pool.threads() && x.rows() == out.rows());
    let (tier, panels) = (pool.tier(), out.width().div_ceil(WIDTH));
    let (mut used, mut tasks) = (0, 0);
    let wanted = if pool.threads() == 1 {
        1
    } else {
        3 * pool.threads()
    };
    let wanted = wanted.div_ceil(panels * groups.len().max(1));
    for group in groups.iter_mut() {
        let (w, sink) = of(group.matrix);
        let up = if let Sink::Gate(up, _) = sink {
            Some(up)
        } else {
            None
        };
        for w in std::iter::once(w).chain(up) {
            assert!(w.k() == x.width() && w.n() == out.width(), "shapes of a product");
            if let Some(kind) = rounding(tier, w) {
                used = rounded::round(pool, &mut scratch.rounded, used, x, kind);
            }
        }
        assert!(group.first + group.rows <= x.rows(), "rows of a product");
        group.splits = group.rows.div_ceil(ROWS).max(wanted.min(group.rows.div_ceil(12)));
        group.task = tasks;
        tasks += group.splits * panels;
    }
    let (groups, rounded) = (&*groups, &scratch.rounded[..used]);
    let tiles = Shared(scratch.threads.as_mut_ptr());
    let (stride, to) = (out.stride(), Shared(out.as_mut_ptr()));
    pool.run_in_spans(tasks, |task, thread| {
        let group = &groups[groups.partition_point(|group| group.task <= task) - 1];
        let (panel, split) = (
            (task - group.task) / group.splits,
            (task - group.task) % group.splits,
        );
        let chunk = group.rows.div_ceil(group.splits);
        let count = chunk.min(group.rows.saturating_sub(split * chunk));
        if count == 0 {
            return;
        }
        let first = group.first + split * chunk;
        // SAFETY: a thread runs one task at a time, so its scratch is its own
        let Tiles {
            widened,
            pairs,
            panel: scratch,
            tile: [tile, gate_tile],
        } = unsafe { &mut *tiles.at(thread) };
        let mut product = |w: &Linear, tile: &mut Buf| {
            let weights = w.storage().panel(panel, scratch);
            multiply(tier, x, rounded, first, count, w, weights, widened, pairs, tile);
        };
        let (w, sink) = of(group.matrix);
        product(w, tile);
        let region = Region {
            panel,
            count,
            stride,
            add: matches!(sink, Sink::Add),
        };
        // SAFETY: these rows and this panel's columns belong to this task alone; the stride covers whole
        // panels
        unsafe {
            let out = to.at(first * stride + panel * WIDTH);
            match sink {
                Sink::Store | Sink::Add => finish(tier, tile, w, out, region),
                Sink::SquaredRelu => finish_squared_relu(tier, tile, w, out, region),
                Sink::Gate(up, gating) => {
                    product(up, gate_tile);
                    finish_gate(tier, tile, gate_tile, w, up, gating, out, region);
                }
            }
        }
    });
}
