//! Products of bf16 inputs with bf16 weights on the matrix unit of Intel's processors (AMX): tiles of 16 rows by 16
//! columns, 32 k-steps an instruction, summed in f32.
//!
//! A row's sum does not depend on what rows lie in a tile beside it. The unit takes subnormal numbers for zero.
//! Tiles are used through `asm!`, for want of stable intrinsics; the compiler has no use for them, so they keep
//! their contents from one block to the next.

#![allow(
    unsafe_code,
    reason = "instructions of the matrix unit run over pointers that the safe function here has checked"
)]

use std::arch::asm;

use super::Input;
use crate::cpu::kernels::buf::Buf;
use crate::cpu::kernels::simd::{prefetch, prefetch_far};
use crate::cpu::packing::WIDTH;

/// k-steps of an instruction; a product's k is a multiple of it.
pub(super) const STEPS: usize = 32;
/// Rows of a tile.
pub(super) const ROWS: usize = 16;
/// Most rows that are multiplied at a time.
pub(super) const MOST: usize = 2 * ROWS;
/// Bytes of a row of a tile.
const LINE: usize = 64;
/// Bytes of the weights of an instruction.
const STEP: usize = STEPS / 2 * WIDTH * size_of::<u32>();
/// Bytes by which a panel that comes from memory is asked for before it is read.
const FAR: usize = 16 << 10;

/// What the unit is set up with.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// bytes of a row of each tile
    columns: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// Tiles 0 to 3 hold sums (two of columns for each of two of rows), 4 and 5 inputs, 6 and 7 weights, for
    /// `rows` rows.
    fn new(rows: usize) -> Self {
        let upper = rows.min(ROWS) as u8;
        let lower = rows.saturating_sub(ROWS).max(1) as u8;
        let mut config = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            columns: [0; 16],
            rows: [0; 16],
        };
        config.columns[..8].fill(LINE as u16);
        config.rows[..8].copy_from_slice(&[upper, upper, lower, lower, upper, lower, 16, 16]);
        config
    }
}

/// The tile of `x` and a panel of `[.., k]` weights in pairs. Only on the tier that has the unit.
pub(super) fn multiply(x: Input<u32>, k: usize, panel: &[f32], tile: &mut Buf) {
    assert!(
        k.is_multiple_of(STEPS) && panel.len() == k / 2 * WIDTH && tile.len() >= x.count * WIDTH,
        "a panel"
    );
    let first = Input {
        count: x.count.min(MOST),
        ..x
    };
    let (panel, bytes) = (panel.as_ptr().cast::<u8>(), size_of_val(panel));
    let ahead = |by: usize| Ahead {
        from: panel.wrapping_add(by),
        bytes: STEP,
    };
    // SAFETY: x has `count` rows of `k / 2` pairs, the panel has as many for each column, the tile has room for all
    // rows; the tier was detected
    unsafe {
        // the first rows wait for the panel; the others ask for the next one
        rows(first, 0, k, panel, ahead(FAR), tile.as_mut_ptr());
        rows(x, MOST, k, panel, ahead(bytes), tile.as_mut_ptr());
    }
}

/// What is asked for beside each step: so many bytes at a time.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub(super) from: *const u8,
    pub(super) bytes: usize,
}

/// Rows `r..` of `x` times the pairs of a panel, to the tile that begins with row 0.
pub(super) unsafe fn rows(
    x: Input<u32>,
    mut r: usize,
    k: usize,
    panel: *const u8,
    ahead: Ahead,
    tile: *mut f32,
) {
    while r < x.count {
        // SAFETY: rows r.. exist
        unsafe {
            let part = Input {
                data: x.data.add(r * x.stride),
                count: (x.count - r).min(MOST),
                ..x
            };
            begin(part.count);
            for i in 0..k / STEPS {
                for line in (0..ahead.bytes).step_by(LINE) {
                    let line = ahead.from.wrapping_add(i * ahead.bytes + line);
                    if part.count > ROWS {
                        prefetch_far(line);
                    } else {
                        prefetch(line);
                    }
                }
                step(part, i, panel.add(i * STEP));
            }
            end(part.count, tile.add(r * WIDTH));
            r += part.count;
        }
    }
}

/// Sets sums of so many rows to zero.
#[inline(always)]
pub(super) unsafe fn begin(rows: usize) {
    let config = Config::new(rows);
    // SAFETY: tiles are the unit's own, and nothing else in the process uses them
    unsafe {
        asm!(
            "ldtilecfg [{config}]",
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            config = in(reg) &raw const config,
            options(nostack, readonly, preserves_flags),
        );
    }
}

/// Adds the products of step `i` of the rows of `x` with its pairs at `w`.
#[inline(always)]
pub(super) unsafe fn step(x: Input<u32>, i: usize, w: *const u8) {
    let (input, weights) = (x.stride * size_of::<u32>(), WIDTH * size_of::<u32>());
    // SAFETY: the caller's rows have the step
    unsafe {
        let upper = x.data.cast::<u8>().add(i * LINE);
        asm!(
            "tileloadd tmm6, [{w} + {weights}]",
            "tileloadd tmm7, [{w} + {weights} + 64]",
            "tileloadd tmm4, [{upper} + {input}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            w = in(reg) w, weights = in(reg) weights, upper = in(reg) upper, input = in(reg) input,
            options(nostack, readonly, preserves_flags),
        );
        if x.count > ROWS {
            asm!(
                "tileloadd tmm5, [{lower} + {input}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                lower = in(reg) upper.add(ROWS * input), input = in(reg) input,
                options(nostack, readonly, preserves_flags),
            );
        }
    }
}

/// Writes the sums of so many rows.
#[inline(always)]
pub(super) unsafe fn end(rows: usize, tile: *mut f32) {
    let line = WIDTH * size_of::<f32>();
    // SAFETY: the tile has room for the rows
    unsafe {
        asm!(
            "tilestored [{c} + {line}], tmm0",
            "tilestored [{c} + {line} + 64], tmm1",
            c = in(reg) tile, line = in(reg) line,
            options(nostack, preserves_flags),
        );
        if rows > ROWS {
            asm!(
                "tilestored [{c} + {line}], tmm2",
                "tilestored [{c} + {line} + 64], tmm3",
                c = in(reg) tile.add(ROWS * WIDTH), line = in(reg) line,
                options(nostack, preserves_flags),
            );
        }
        asm!("tilerelease", options(nostack, nomem, preserves_flags));
    }
}
