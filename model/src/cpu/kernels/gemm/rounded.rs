//! Inputs of products, rounded for kernels that multiply in less than f32.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

use super::Input;
use crate::cpu::kernels::buf::{Buf, Rows, Shared, padded};
use crate::cpu::kernels::pool::ThreadPool;
use crate::cpu::kernels::simd::{Simd, tiers};

/// What an input is rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// bf16, to nearest even.
    Bf16,
    /// Integers of -127..=127 with an f32 scale for every [`GROUP`] elements.
    Int8,
}

/// Elements that share a scale.
pub(super) const GROUP: usize = 32;
/// Rows that one task rounds.
const CHUNK: usize = 8;

/// A rounded copy of the rows of an input.
pub(super) struct Rounded {
    source: *const f32,
    kind: Kind,
    stride: usize,
    data: Buf,
}

// SAFETY: `source` is only compared
unsafe impl Send for Rounded {}
// SAFETY: as above
unsafe impl Sync for Rounded {}

impl Rounded {
    /// Whether this is `x`, rounded to `kind`.
    pub(super) fn is(&self, x: &Rows, kind: Kind) -> bool {
        self.source == x.as_ptr() && self.kind == kind
    }
    /// Rows `first..first + count`; the stride is in words of four bytes.
    pub(super) fn rows(&self, first: usize, count: usize) -> Input<u32> {
        Input {
            // SAFETY: the caller's rows are those of the source
            data: unsafe { self.data.as_ptr().add(first * self.stride).cast() },
            stride: self.stride,
            count,
        }
    }
    /// Bytes of a copy of `rows` rows of `width`.
    pub(super) fn bytes(rows: usize, width: usize) -> usize {
        rows.next_power_of_two() * Kind::Bf16.stride(width).max(Kind::Int8.stride(width)) * size_of::<f32>()
    }
}

impl Kind {
    /// Words of four bytes in a row of `k` elements.
    fn stride(self, k: usize) -> usize {
        match self {
            Kind::Bf16 => padded(k.div_ceil(2)),
            Kind::Int8 => Row::new(k).integers + padded(k / 4),
        }
    }
}

/// Where the parts of a row of integers begin, in words of four bytes: `[groups]` scales come first.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// Negated sums of the groups' integers, i32 `[groups]`.
    pub(super) sums: usize,
    /// These times the scales, f32 `[groups]`.
    pub(super) minima: usize,
    /// Negated sums of half groups, i32 `[2 * groups]`.
    pub(super) half_sums: usize,
    /// The integers, i8 `[k]`.
    pub(super) integers: usize,
}

impl Row {
    /// Of `k` elements.
    pub(super) fn new(k: usize) -> Self {
        let groups = k / GROUP;
        Self {
            sums: groups,
            minima: 2 * groups,
            half_sums: 3 * groups,
            integers: padded(5 * groups),
        }
    }
}

/// Rounds `x`, unless that was done; returns how many of `all` are in use.
pub(super) fn round(
    pool: &mut ThreadPool,
    all: &mut Vec<Rounded>,
    used: usize,
    x: &Rows,
    kind: Kind,
) -> usize {
    if all[..used].iter().any(|r| r.is(x, kind)) {
        return used;
    }
    let (rows, stride) = (x.rows(), kind.stride(x.width()));
    if all.len() == used {
        all.push(Rounded {
            source: std::ptr::null(),
            kind,
            stride: 0,
            data: Buf::zeroed(0),
        });
    }
    let to = &mut all[used];
    (to.source, to.kind, to.stride) = (x.as_ptr(), kind, stride);
    if to.data.len() < rows * stride {
        to.data = Buf::zeroed(rows.next_power_of_two() * stride);
    }
    let (tier, out) = (pool.tier(), Shared(to.data.as_mut_ptr()));
    pool.run(rows.div_ceil(CHUNK), |task, _| {
        for r in task * CHUNK..rows.min((task + 1) * CHUNK) {
            // SAFETY: row r belongs to this task, and holds what its kind needs
            unsafe {
                let out = out.at(r * stride);
                match kind {
                    Kind::Bf16 => to_bf16(tier, x.row(r), out.cast()),
                    Kind::Int8 => to_int8(tier, x.row(r), out),
                }
            }
        }
    });
    used + 1
}

#[inline(always)]
unsafe fn to_bf16_body<S: Simd>(x: &[f32], out: *mut u16) {
    for (i, v) in x.iter().enumerate() {
        let bits = v.to_bits();
        // a NaN whose payload lies in the lost bits must not become an infinity
        let rounded = if v.is_nan() {
            bits | 0x40_0000
        } else {
            bits + (0x7fff + (bits >> 16 & 1))
        };
        unsafe { *out.add(i) = (rounded >> 16) as u16 };
    }
    if !x.len().is_multiple_of(2) {
        unsafe { *out.add(x.len()) = 0 };
    }
}
tiers!(
    /// Rounds to nearest even; a zero follows an odd number of values.
    pub(crate) fn to_bf16 = to_bf16_body(x: &[f32], out: *mut u16));

#[inline(always)]
unsafe fn to_int8_body<S: Simd>(x: &[f32], out: *mut f32) {
    let (groups, _) = x.as_chunks::<GROUP>();
    let row = Row::new(x.len());
    for (g, group) in groups.iter().enumerate() {
        let (mut largest, mut poison) = (unsafe { S::splat(0.0) }, unsafe { S::splat(0.0) });
        for i in (0..GROUP).step_by(S::LANES) {
            unsafe {
                let v = S::load(group.as_ptr().add(i));
                let zero = S::mul(v, S::splat(0.0));
                largest = S::max(S::max(v, S::sub(zero, v)), largest);
                // NaN where an element is NaN or infinite, else 0
                poison = S::add(poison, zero);
            }
        }
        let (largest, poison) = unsafe { (S::hmax(largest), S::sum(poison)) };
        let scale = largest / 127.0;
        let inverse = if scale > f32::MIN_POSITIVE && scale.is_finite() {
            1.0 / scale
        } else {
            0.0
        };
        let scale = scale + poison;
        let mut integers = [0i8; GROUP];
        if scale.is_finite() {
            for i in (0..GROUP).step_by(S::LANES) {
                unsafe {
                    S::store_i8(
                        integers.as_mut_ptr().add(i),
                        S::mul(S::load(group.as_ptr().add(i)), S::splat(inverse)),
                    )
                };
            }
        }
        let (mut low, mut high) = (0i32, 0i32);
        for i in 0..GROUP / 2 {
            low -= i32::from(integers[i]);
            high -= i32::from(integers[GROUP / 2 + i]);
        }
        unsafe {
            *out.add(g) = scale;
            *out.add(row.sums + g).cast::<i32>() = low + high;
            *out.add(row.minima + g) = scale * (low + high) as f32;
            *out.add(row.half_sums + 2 * g).cast::<i32>() = low;
            *out.add(row.half_sums + 2 * g + 1).cast::<i32>() = high;
            out.add(row.integers + g * GROUP / 4)
                .cast::<[i8; GROUP]>()
                .write_unaligned(integers);
        }
    }
}
tiers!(fn to_int8 = to_int8_body(x: &[f32], out: *mut f32));
