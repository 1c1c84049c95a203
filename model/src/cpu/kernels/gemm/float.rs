//! Products in f32: weights of any plain format become f32 panels of [`DEPTH`] x [`WIDTH`] in a scratch as
//! they are used, once for all rows of a task, so each format multiplies exactly its own values.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

use super::Input;
use crate::cpu::kernels::buf::Buf;
use crate::cpu::kernels::simd::{Simd, Tier, prefetch_far, tiers};
use crate::cpu::packing::{Layout, WIDTH};

/// k-steps that are unpacked at a time: a panel slice of 32 KiB stays in the first-level cache.
pub(super) const DEPTH: usize = 256;

/// The tile of `x` and a panel of `[.., k]` weights.
pub(super) fn multiply(
    tier: Tier,
    x: Input,
    layout: Layout,
    panel: &[f32],
    k: usize,
    widened: &mut Buf,
    tile: &mut Buf,
) {
    // bytes of the panel's weights of a k-step
    let step = if layout == Layout::F32 { 128 } else { 64 };
    let mut start = 0;
    while start < k {
        let depth = DEPTH.min(k - start);
        let next = panel.as_ptr().cast::<u8>().wrapping_add((start + depth) * step);
        let b = widen(tier, layout, panel, start, depth, widened);
        // SAFETY: x has `count` rows of k elements, b has depth x WIDTH, the tile has room for all rows
        unsafe {
            inner(
                tier,
                x.data.add(start),
                x.stride,
                x.count,
                b,
                depth,
                tile.as_mut_ptr(),
                start == 0,
                next,
                step,
            )
        };
        start += depth;
    }
}

/// Pointer to `depth x WIDTH` f32 weights of a panel, k-major: either the panel itself or the scratch after
/// widening.
fn widen(
    tier: Tier,
    layout: Layout,
    panel: &[f32],
    start: usize,
    depth: usize,
    widened: &mut Buf,
) -> *const f32 {
    match layout {
        Layout::F32 => panel[start * WIDTH..][..depth * WIDTH].as_ptr(),
        Layout::F16 => {
            // DEPTH is even
            let src = &panel[start * WIDTH / 2..][..depth * WIDTH / 2];
            // SAFETY: both sides hold depth x WIDTH elements
            unsafe { widen_f16(tier, src.as_ptr().cast(), widened.as_mut_ptr(), depth * WIDTH) };
            widened.as_ptr()
        }
        Layout::Bf16 => {
            let pairs = depth.div_ceil(2);
            let src = &panel[start / 2 * WIDTH..][..pairs * WIDTH];
            // SAFETY: the scratch holds DEPTH, an even number of, k-steps
            unsafe { widen_bf16(tier, src.as_ptr().cast(), widened.as_mut_ptr(), pairs) };
            widened.as_ptr()
        }
        Layout::Codes(_) => unreachable!("blocks of codes have kernels of their own"),
    }
}

#[inline(always)]
unsafe fn widen_bf16_body<S: Simd>(src: *const u32, dst: *mut f32, pairs: usize) {
    for p in 0..pairs {
        for j in (0..WIDTH).step_by(S::LANES) {
            unsafe {
                let (a, b) = S::load_bf16_pairs(src.add(p * WIDTH + j));
                S::store(dst.add(2 * p * WIDTH + j), a);
                S::store(dst.add((2 * p + 1) * WIDTH + j), b);
            }
        }
    }
}
#[inline(always)]
unsafe fn widen_f16_body<S: Simd>(src: *const u16, dst: *mut f32, n: usize) {
    for i in (0..n).step_by(S::LANES) {
        unsafe { S::store(dst.add(i), S::load_f16(src.add(i))) }
    }
}
tiers!(fn widen_bf16 = widen_bf16_body(src: *const u32, dst: *mut f32, pairs: usize));
tiers!(fn widen_f16 = widen_f16_body(src: *const u16, dst: *mut f32, n: usize));

#[allow(clippy::too_many_arguments)]
#[inline(always)]
unsafe fn inner_body<S: Simd>(
    a: *const f32,
    stride: usize,
    count: usize,
    b: *const f32,
    depth: usize,
    tile: *mut f32,
    first: bool,
    next: *const u8,
    step: usize,
) {
    unsafe {
        let mut r = 0;
        while r < count {
            // the last rows ask for the next slice, which would else be waited for
            let step = if count - r > 12 { 0 } else { step };
            let (a, c) = (a.add(r * stride), tile.add(r * WIDTH));
            // as many rows as the tier's registers hold; the choice does not touch any row's sum
            let left = count - r;
            if S::LANES == 16 {
                r += match left {
                    // two of eight rather than twelve and four
                    12.. if left != 16 => micro::<S, 12, 2>(a, stride, b, depth, c, first, next, step),
                    8.. => micro::<S, 8, 2>(a, stride, b, depth, c, first, next, step),
                    4..8 => micro::<S, 4, 2>(a, stride, b, depth, c, first, next, step),
                    2..4 => micro::<S, 2, 2>(a, stride, b, depth, c, first, next, step),
                    _ => micro::<S, 1, 2>(a, stride, b, depth, c, first, next, step),
                };
            } else {
                for half in [0, 16] {
                    let (b, c) = (b.add(half), c.add(half));
                    let step = if half == 0 { step } else { 0 };
                    match left {
                        6.. => micro::<S, 6, 2>(a, stride, b, depth, c, first, next, step),
                        4..6 => micro::<S, 4, 2>(a, stride, b, depth, c, first, next, step),
                        2..4 => micro::<S, 2, 2>(a, stride, b, depth, c, first, next, step),
                        _ => micro::<S, 1, 2>(a, stride, b, depth, c, first, next, step),
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
tiers!(fn inner = inner_body(
    a: *const f32, stride: usize, count: usize, b: *const f32, depth: usize, tile: *mut f32, first: bool,
    next: *const u8, step: usize
));

/// `M` rows x `N` vectors, accumulators in registers. With each k-step asks for `step` bytes from `next` on.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
unsafe fn micro<S: Simd, const M: usize, const N: usize>(
    a: *const f32,
    stride: usize,
    b: *const f32,
    depth: usize,
    c: *mut f32,
    first: bool,
    next: *const u8,
    step: usize,
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
            for line in (0..step).step_by(64) {
                prefetch_far(next.wrapping_add(k * step + line));
            }
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
