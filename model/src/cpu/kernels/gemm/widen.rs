//! Products of bf16 inputs with quantised weights on a matrix unit: every weight is widened to a bf16 once for all
//! rows, beside the products of what was widened before it.
//!
//! A weight is the number on the line of its group that its code names, made larger by [`GROWTH`] and cut to a bf16,
//! which is as near on average as the nearest bf16 and costs nothing.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe function here has checked"
)]

use std::arch::x86_64::*;

use super::codes::x86::Vnni;
use super::codes::{Dots, minimum_of, raised, scale};
use super::{Input, amx, prefetch_far};
use crate::cpu::kernels::buf::Buf;
use crate::cpu::kernels::simd::Avx512;
use crate::cpu::packing::{Codebook, WIDTH};
use crate::weights::codes::Format;

/// What evens out that the bits below a bf16 are cut off: between half of its last bit for significands near 2 and
/// half for those near 1.
pub(super) const GROWTH: f32 = 1.0 + 0.72 / 256.0;
/// Columns of a vector.
const LANES: usize = WIDTH / 2;
/// Bytes of four codes, or of a pair, of all columns.
const LINE: usize = WIDTH * 4;
/// Bytes by which codes are asked for before they are read.
const FAR: usize = 4096;
/// Bytes of the pairs of one instruction of the matrix unit.
const STEP: usize = amx::STEPS / 2 * LINE;
/// Steps whose pairs are kept where no other rows need them.
const KEPT: usize = 4;

/// The tile of `x` and a panel of `[.., k]` codes. Only on the tier that has the unit.
pub(super) fn multiply(
    x: Input<u32>,
    k: usize,
    format: &Format,
    panel: &[f32],
    pairs: &mut Buf,
    tile: &mut Buf,
) {
    assert_eq!(
        size_of_val(panel),
        k / format.block * Codebook::block_bytes(format),
        "a panel"
    );
    assert!(
        k.is_multiple_of(amx::STEPS) && tile.len() >= x.count * WIDTH,
        "a tile"
    );
    let steps = if x.count > amx::MOST { k / amx::STEPS } else { KEPT };
    let words = steps * STEP / size_of::<f32>();
    if pairs.len() < words {
        *pairs = Buf::zeroed(words);
    }
    // SAFETY: the panel has all blocks, the pairs have room for the steps that are kept, the tile for all rows;
    // processors with the unit have the instructions
    unsafe {
        let (data, pairs) = (panel.as_ptr().cast(), pairs.as_mut_ptr().cast());
        let first = Input {
            count: x.count.min(amx::MOST),
            ..x
        };
        let tile = tile.as_mut_ptr();
        match (format.bits, format.table) {
            (4, None) => blocks::<4, false>(format, first, k, data, pairs, steps, tile),
            (4, Some(_)) => blocks::<4, true>(format, first, k, data, pairs, steps, tile),
            (5, _) => blocks::<5, false>(format, first, k, data, pairs, steps, tile),
            (6, _) => blocks::<6, false>(format, first, k, data, pairs, steps, tile),
            _ => blocks::<8, false>(format, first, k, data, pairs, steps, tile),
        }
        // the others ask for the next panel
        let next = amx::Ahead {
            from: data.add(size_of_val(panel)),
            bytes: size_of_val(panel) / (k / amx::STEPS),
        };
        amx::rows(x, amx::MOST, k, pairs, next, tile);
    }
}

/// Widens the panel, `kept` steps at a time one behind the other, and multiplies each step with the rows of `x`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn blocks<const BITS: usize, const TABLE: bool>(
    format: &Format,
    x: Input<u32>,
    k: usize,
    data: *const u8,
    pairs: *mut u8,
    kept: usize,
    tile: *mut f32,
) {
    let (unit, header) = (Codebook::block_bytes(format), Codebook::header(format));
    let bytes = Codebook::group_bytes(format);
    let groups = amx::STEPS / format.group;
    let per_block = format.block / amx::STEPS;
    // SAFETY: every offset lies in a block of the panel, in the pairs, in a row of x or in the tile
    unsafe {
        let table = Vnni::table(format.table.unwrap_or(&[0; 16]));
        amx::begin(x.count);
        let (mut block, mut place) = (data, 0);
        for step in 0..k / amx::STEPS {
            let part = step % per_block;
            if part == 0 {
                block = data.add(step / per_block * unit);
                for ahead in (0..header).step_by(64) {
                    prefetch_far(block.wrapping_add(FAR + ahead));
                }
            }
            let out = pairs.add(place * STEP);
            for group in 0..groups {
                let g = part * groups + group;
                let codes = block.add(header + g * bytes);
                let out = out.add(group * STEP / groups);
                for first in [0, LANES] {
                    let line = Line::of::<BITS>(format, block, g, first);
                    let (codes, out) = (codes.add(first * 4), out.add(first * 4));
                    line.widen::<BITS, TABLE>(codes, format.group / 4, table, out);
                }
            }
            amx::step(x, step, out);
            place = if place + 1 == kept { 0 } else { place + 1 };
        }
        amx::end(x.count, tile);
    }
}

/// The line on which the weights of a group lie, for a vector of columns. A code stands among the upper bits of
/// the significand of a number between 1 and 2, from which `near` makes the weight, or `far` where it stands four
/// bits lower.
#[derive(Clone, Copy)]
struct Line {
    near: [__m512; 2],
    far: [__m512; 2],
}

impl Line {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    unsafe fn of<const BITS: usize>(format: &Format, block: *const u8, g: usize, first: usize) -> Self {
        // SAFETY: the header holds them
        unsafe {
            let growth = _mm512_set1_ps(GROWTH);
            let step = _mm512_mul_ps(scale::<Avx512>(format, block, g, first), growth);
            // the weight of code 0
            let start = if format.minima {
                let least = minimum_of::<Avx512>(format, block, g, first);
                _mm512_mul_ps(least, _mm512_sub_ps(_mm512_setzero_ps(), growth))
            } else {
                _mm512_mul_ps(step, _mm512_set1_ps(-format.zero as f32))
            };
            // a NaN whose payload lies in the lost bits would become an infinity
            let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(step, start);
            let step = _mm512_mask_mov_ps(_mm512_set1_ps(f32::NAN), number, step);
            let line = |one: f32| {
                let slope = _mm512_mul_ps(step, _mm512_set1_ps(one));
                [slope, _mm512_sub_ps(start, slope)]
            };
            Self {
                near: line(if BITS == 8 { 256.0 } else { 128.0 }),
                far: line(2048.0),
            }
        }
    }

    /// `steps` times four codes of every column as two lines of pairs.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn widen<const BITS: usize, const TABLE: bool>(
        self,
        codes: *const u8,
        steps: usize,
        table: __m512i,
        out: *mut u8,
    ) {
        // SAFETY: the caller's group
        unsafe {
            let load = |i: usize| {
                let at = codes.add(i * LINE);
                prefetch_far(at.wrapping_add(FAR));
                Vnni::load(at)
            };
            let write = |step: usize, pairs: [__m512i; 2]| {
                _mm512_store_si512(out.add(2 * step * LINE).cast(), pairs[0]);
                _mm512_store_si512(out.add((2 * step + 1) * LINE).cast(), pairs[1]);
            };
            if BITS == 8 {
                for step in 0..steps {
                    write(step, self.bytes::<BITS>(load(step)));
                }
                return;
            }
            let mut above = [if BITS > 4 { load(steps / 2) } else { table }; 2];
            for i in 0..steps / 2 {
                let both = load(i);
                if BITS == 4 && !TABLE {
                    let [low, high] = self.nibbles(both);
                    write(2 * i, low);
                    write(2 * i + 1, high);
                    continue;
                }
                for (half, nibbles) in [Vnni::low_nibbles(both), Vnni::high_nibbles(both)]
                    .into_iter()
                    .enumerate()
                {
                    let [codes, _] = raised::<Vnni, BITS>([nibbles; 2], &mut above);
                    let codes = if TABLE { Vnni::look_up(table, codes) } else { codes };
                    write(2 * i + half, self.bytes::<BITS>(codes));
                }
            }
        }
    }

    /// The weight of the bits of `significand` that `mask` leaves.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    fn weight(line: [__m512; 2], significand: __m512i, mask: i32) -> __m512i {
        let (mask, one) = (_mm512_set1_epi32(mask), _mm512_set1_epi32(0x3f80_0000));
        // (significand & mask) | one
        let x = _mm512_ternarylogic_epi32::<0xea>(significand, mask, one);
        _mm512_castps_si512(_mm512_fmadd_ps(_mm512_castsi512_ps(x), line[0], line[1]))
    }

    /// Weights of one byte each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    fn bytes<const BITS: usize>(self, codes: __m512i) -> [__m512i; 2] {
        let shifted = if BITS == 8 {
            [
                _mm512_slli_epi32::<15>(codes),
                _mm512_slli_epi32::<7>(codes),
                _mm512_srli_epi32::<1>(codes),
                _mm512_srli_epi32::<9>(codes),
            ]
        } else {
            [
                _mm512_slli_epi32::<16>(codes),
                _mm512_slli_epi32::<8>(codes),
                codes,
                _mm512_srli_epi32::<8>(codes),
            ]
        };
        let mask = if BITS == 8 { 0xff << 15 } else { 0x7f << 16 };
        let w = shifted.map(|codes| Self::weight(self.near, codes, mask));
        [pair(w[0], w[1]), pair(w[2], w[3])]
    }

    /// Weights of the low and of the high halves of bytes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    fn nibbles(self, codes: __m512i) -> [[__m512i; 2]; 2] {
        let near = |codes: __m512i| Self::weight(self.near, codes, 0xf << 16);
        let far = |codes: __m512i| Self::weight(self.far, codes, 0xf << 12);
        let (up, down) = (_mm512_slli_epi32::<8>(codes), _mm512_srli_epi32::<8>(codes));
        let (first, last) = (_mm512_slli_epi32::<16>(codes), _mm512_srli_epi32::<12>(codes));
        [
            [pair(near(first), near(up)), pair(near(codes), near(down))],
            [pair(far(up), far(codes)), pair(far(down), near(last))],
        ]
    }
}

/// The upper halves of two numbers, the first one's below.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn pair(a: __m512i, b: __m512i) -> __m512i {
    let (a, upper) = (
        _mm512_srli_epi32::<16>(a),
        _mm512_set1_epi32(0xffff_0000_u32 as i32),
    );
    // a | b & upper
    _mm512_ternarylogic_epi32::<0xf8>(a, b, upper)
}
