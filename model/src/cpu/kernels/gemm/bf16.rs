//! Products of bf16 inputs with bf16 weights, two k-steps an instruction, summed in f32.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

use super::Input;
use crate::cpu::kernels::buf::Buf;

/// k-pairs that are multiplied at a time: a panel slice of 16 KiB stays in the first-level cache, beside the
/// input.
#[cfg(target_arch = "x86_64")]
const DEPTH: usize = 128;

/// The tile of `x` and a panel of `[.., k]` weights in pairs. Only on the tier that has the instruction.
#[cfg(target_arch = "x86_64")]
pub(super) fn multiply(x: Input<u32>, k: usize, panel: &[f32], tile: &mut Buf) {
    use crate::cpu::packing::WIDTH;
    let pairs = k.div_ceil(2);
    assert_eq!(panel.len(), pairs * WIDTH, "a panel");
    for start in (0..pairs).step_by(DEPTH) {
        let depth = DEPTH.min(pairs - start);
        // SAFETY: x has `count` rows of `pairs` pairs, the panel has pairs x WIDTH, the tile has room for all
        // rows; the tier was detected
        unsafe {
            x86::inner(
                x,
                start,
                panel.as_ptr().add(start * WIDTH),
                depth,
                tile.as_mut_ptr(),
                start == 0,
            )
        };
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn multiply(_: Input<u32>, _: usize, _: &[f32], _: &mut Buf) {
    unreachable!("no other processor has the tier");
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::prefetch_weights;
    use super::Input;
    use crate::cpu::packing::WIDTH;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) unsafe fn inner(
        x: Input<u32>,
        start: usize,
        w: *const f32,
        depth: usize,
        tile: *mut f32,
        first: bool,
    ) {
        let mut r = 0;
        while r < x.count {
            // SAFETY: rows r.. exist
            unsafe {
                let (a, c) = (x.data.add(r * x.stride + start), tile.add(r * WIDTH));
                // the first rows wait for the slice, the others ask for the next one
                let next = if r == 0 {
                    0
                } else {
                    depth * WIDTH * size_of::<f32>()
                };
                r += match x.count - r {
                    // two of eight rather than twelve and four
                    12.. if x.count - r != 16 => micro::<12>(a, x.stride, w, depth, c, first, next),
                    8.. => micro::<8>(a, x.stride, w, depth, c, first, next),
                    4..8 => micro::<4>(a, x.stride, w, depth, c, first, next),
                    2..4 => micro::<2>(a, x.stride, w, depth, c, first, next),
                    _ => micro::<1>(a, x.stride, w, depth, c, first, next),
                };
            }
        }
    }

    /// `M` rows x [`WIDTH`] columns, accumulators in registers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn micro<const M: usize>(
        a: *const u32,
        stride: usize,
        w: *const f32,
        depth: usize,
        c: *mut f32,
        first: bool,
        next: usize,
    ) -> usize {
        // SAFETY: the caller's pointers cover M rows, depth pairs and the tile
        unsafe {
            let mut acc = [[_mm512_setzero_ps(); 2]; M];
            if !first {
                for (m, acc) in acc.iter_mut().enumerate() {
                    *acc = [
                        _mm512_loadu_ps(c.add(m * WIDTH)),
                        _mm512_loadu_ps(c.add(m * WIDTH + 16)),
                    ];
                }
            }
            for p in 0..depth {
                let pair =
                    |at: *const f32| std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(at.cast()));
                let (w0, w1) = (pair(w.add(p * WIDTH)), pair(w.add(p * WIDTH + 16)));
                prefetch_weights::<M>(w.add(p * WIDTH).cast(), next, WIDTH * size_of::<f32>());
                for (m, acc) in acc.iter_mut().enumerate() {
                    let x = _mm512_set1_epi32(*a.add(m * stride + p) as i32);
                    let x = std::mem::transmute::<__m512i, __m512bh>(x);
                    acc[0] = _mm512_dpbf16_ps(acc[0], w0, x);
                    acc[1] = _mm512_dpbf16_ps(acc[1], w1, x);
                }
            }
            for (m, acc) in acc.iter().enumerate() {
                _mm512_storeu_ps(c.add(m * WIDTH), acc[0]);
                _mm512_storeu_ps(c.add(m * WIDTH + 16), acc[1]);
            }
        }
        M
    }
}
