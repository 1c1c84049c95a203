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
const ROWS: usize = 16;
/// Bytes of a row of a tile.
const LINE: usize = 64;
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
    assert!(k.is_multiple_of(STEPS) && panel.len() == k / 2 * WIDTH, "a panel");
    let bytes = size_of_val(panel);
    let mut r = 0;
    while r < x.count {
        let rows = (x.count - r).min(2 * ROWS);
        // the first rows wait for the panel; the last of several ask for the next one
        let ahead = if r == 0 { FAR } else { bytes };
        // SAFETY: x has `count` rows of `k / 2` pairs, the panel has as many for each column, the tile has room
        // for all rows; the tier was detected
        unsafe {
            let (a, c) = (x.data.add(r * x.stride), tile.as_mut_ptr().add(r * WIDTH));
            if rows > ROWS {
                micro::<true>(a, x.stride, panel.as_ptr(), k, c, rows, ahead);
            } else {
                micro::<false>(a, x.stride, panel.as_ptr(), k, c, rows, ahead);
            }
        }
        r += rows;
    }
}

/// `rows` rows, more than [`ROWS`] of them where `BOTH`, x [`WIDTH`] columns.
unsafe fn micro<const BOTH: bool>(
    a: *const u32,
    stride: usize,
    w: *const f32,
    k: usize,
    c: *mut f32,
    rows: usize,
    ahead: usize,
) {
    let config = Config::new(rows);
    let (input, weights) = (stride * size_of::<u32>(), WIDTH * size_of::<u32>());
    let step = STEPS / 2 * weights;
    // SAFETY: the caller's pointers cover the rows, the panel and the tile; tiles are the unit's own, and nothing
    // else in the process uses them
    unsafe {
        asm!(
            "ldtilecfg [{config}]",
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            config = in(reg) &raw const config,
            options(nostack, readonly, preserves_flags),
        );
        for i in 0..k / STEPS {
            let w = w.cast::<u8>().add(i * step);
            let upper = a.cast::<u8>().add(i * LINE);
            for line in (0..step).step_by(LINE) {
                if BOTH {
                    prefetch_far(w.wrapping_add(ahead + line));
                } else {
                    prefetch(w.wrapping_add(ahead + line));
                }
            }
            asm!(
                "tileloadd tmm6, [{w} + {weights}]",
                "tileloadd tmm7, [{w} + {weights} + 64]",
                "tileloadd tmm4, [{upper} + {input}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                w = in(reg) w, weights = in(reg) weights, upper = in(reg) upper, input = in(reg) input,
                options(nostack, readonly, preserves_flags),
            );
            if BOTH {
                let lower = upper.add(ROWS * input);
                asm!(
                    "tileloadd tmm5, [{lower} + {input}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    lower = in(reg) lower, input = in(reg) input,
                    options(nostack, readonly, preserves_flags),
                );
            }
        }
        asm!(
            "tilestored [{c} + {weights}], tmm0",
            "tilestored [{c} + {weights} + 64], tmm1",
            c = in(reg) c, weights = in(reg) weights,
            options(nostack, preserves_flags),
        );
        if BOTH {
            asm!(
                "tilestored [{c} + {weights}], tmm2",
                "tilestored [{c} + {weights} + 64], tmm3",
                c = in(reg) c.add(ROWS * WIDTH), weights = in(reg) weights,
                options(nostack, preserves_flags),
            );
        }
        asm!("tilerelease", options(nostack, nomem, preserves_flags));
    }
}
