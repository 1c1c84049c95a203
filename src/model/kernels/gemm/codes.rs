//! Products of 8-bit inputs with quantised weights: integer dot products inside a group, scaled and summed in f32.
//!
//! The integers are exact, so they are the same with every set of instructions.

use super::Input;
use super::rounded::{GROUP, Row};
use crate::model::kernels::buf::Buf;
use crate::model::kernels::simd::{Portable, Simd, Tier, prefetch};
use crate::model::packing::{Codebook, WIDTH};
use crate::model::weights::codes::Scales;

/// Bytes by which codes are asked for before they are read: two groups.
const AHEAD: usize = 2048;

/// Integer operations beside the vectors of a tier. As with [`Simd`], all of it is unsafe for want of the instructions.
trait Dots: Copy {
    type S: Simd;
    type I: Copy;
    /// Most rows at a time.
    const ROWS: usize;
    unsafe fn splat(x: i32) -> Self::I;
    /// Four codes of each lane's output.
    unsafe fn load(p: *const u8) -> Self::I;
    unsafe fn low_nibbles(codes: Self::I) -> Self::I;
    unsafe fn high_nibbles(codes: Self::I) -> Self::I;
    /// `acc + codes . x` in every lane of two vectors: four unsigned codes and the four signed integers at `x`. `WIDE` where codes may
    /// exceed 127.
    unsafe fn dots<const WIDE: bool>(acc: [Self::I; 2], codes: [Self::I; 2], x: *const u32) -> [Self::I; 2];
    unsafe fn float(x: Self::I) -> <Self::S as Simd>::V;
}

/// The tile of `x` and panel `panel` of `[.., k]` weights.
pub(super) fn multiply(tier: Tier, x: Input<u32>, k: usize, book: &Codebook, panel: usize, tile: &mut Buf) {
    let format = &book.format;
    let bytes = k / format.block * Codebook::block_bytes(format);
    let data = &book.data.bytes()[panel * bytes..][..bytes];
    tile[..x.count * WIDTH].fill(0.0);
    // SAFETY: the slices have the lengths that the kernel asks for; a tier exists only where its instructions do
    unsafe { dispatch(tier, x, k, book, data.as_ptr(), tile.as_mut_ptr()) }
}

unsafe fn dispatch(tier: Tier, x: Input<u32>, k: usize, book: &Codebook, data: *const u8, tile: *mut f32) {
    // SAFETY: see `multiply`
    unsafe {
        match tier {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 | Tier::Avx512Bf16 if x86::has_vnni() => x86::vnni(x, k, book, data, tile),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 | Tier::Avx512Bf16 => x86::avx512(x, k, book, data, tile),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => x86::avx2(x, k, book, data, tile),
            _ => rows::<Plain>(x, k, book, data, tile),
        }
    }
}

#[inline(always)]
unsafe fn rows<D: Dots>(x: Input<u32>, k: usize, book: &Codebook, data: *const u8, tile: *mut f32) {
    let mut r = 0;
    while r < x.count {
        let left = (x.count - r).min(D::ROWS);
        // SAFETY: rows r.. exist
        unsafe {
            let part = Input {
                data: x.data.add(r * x.stride),
                ..x
            };
            let tile = tile.add(r * WIDTH);
            r += match left {
                // two of eight rather than twelve and four
                12.. if x.count - r != 16 => columns::<D, 12>(part, k, book, data, tile),
                8.. => columns::<D, 8>(part, k, book, data, tile),
                4..8 => columns::<D, 4>(part, k, book, data, tile),
                2..4 => columns::<D, 2>(part, k, book, data, tile),
                _ => columns::<D, 1>(part, k, book, data, tile),
            };
        }
    }
}

#[inline(always)]
unsafe fn columns<D: Dots, const M: usize>(x: Input<u32>, k: usize, book: &Codebook, data: *const u8, tile: *mut f32) -> usize {
    if M > D::ROWS {
        return M;
    }
    let format = &book.format;
    for first in (0..WIDTH).step_by(2 * D::S::LANES) {
        let part = Part {
            x,
            k,
            book,
            data,
            first,
            tile,
        };
        // SAFETY: the caller's pointers cover all columns
        unsafe {
            match (format.bits, format.zero, format.minima, format.group) {
                (4, _, false, _) => micro::<D, M, true, false, false, false>(part),
                (4, _, true, _) => micro::<D, M, true, false, true, false>(part),
                (_, 128, ..) => micro::<D, M, false, true, false, false>(part),
                (_, _, false, GROUP) => micro::<D, M, false, false, false, false>(part),
                (_, _, false, _) => micro::<D, M, false, false, false, true>(part),
                (_, _, true, _) => micro::<D, M, false, false, true, false>(part),
            }
        }
    }
    M
}

/// Two vectors of columns from `first`, for some rows.
#[derive(Clone, Copy)]
struct Part<'a> {
    x: Input<u32>,
    k: usize,
    book: &'a Codebook,
    data: *const u8,
    first: usize,
    tile: *mut f32,
}

/// `M` rows. Integer sums of a group stay in registers, the f32 sums wait in the tile. `NIBBLES`: codes of four bits; `WIDE`: codes above 127;
/// `MINIMA`: groups have minima; `HALVES`: they are half as long as the input's.
#[inline(always)]
unsafe fn micro<D: Dots, const M: usize, const NIBBLES: bool, const WIDE: bool, const MINIMA: bool, const HALVES: bool>(part: Part<'_>) {
    let Part { x, k, book, first, .. } = part;
    let format = &book.format;
    let (lanes, groups) = (<D::S as Simd>::LANES, format.groups());
    let (unit, header) = (Codebook::block_bytes(format), Codebook::header(format));
    let input_row = Row::new(k);
    let steps = if HALVES { GROUP / 8 } else { GROUP / 4 };
    let line = WIDTH * 4;
    // SAFETY: every offset below lies in a row of x, in a block of the panel or in the tile
    unsafe {
        for b in 0..k / format.block {
            let block = part.data.add(b * unit);
            for g in 0..groups {
                // the group's place among groups of the same length, and among the input's groups
                let at = b * groups + g;
                let input = if HALVES { at / 2 } else { at };
                let mut codes = block.add(header + g * Codebook::group_bytes(format) + first * 4);
                let values = x.data.add(input_row.integers + at * steps);
                let mut acc = [[D::splat(0); 2]; M];
                if !MINIMA {
                    let sums = x.data.add(if HALVES { input_row.half_sums } else { input_row.sums } + at);
                    for (m, acc) in acc.iter_mut().enumerate() {
                        *acc = [D::splat((*sums.add(m * x.stride) as i32).wrapping_mul(format.zero)); 2];
                    }
                }
                if NIBBLES {
                    for step in (0..steps).step_by(2) {
                        let (a, b) = (D::load(codes), D::load(codes.add(lanes * 4)));
                        let low = [D::low_nibbles(a), D::low_nibbles(b)];
                        dots::<D, M, WIDE>(&mut acc, low, values.add(step), x.stride);
                        let high = [D::high_nibbles(a), D::high_nibbles(b)];
                        dots::<D, M, WIDE>(&mut acc, high, values.add(step + 1), x.stride);
                        ahead::<D>(codes);
                        codes = codes.add(line);
                    }
                } else {
                    for step in 0..steps {
                        let w = [D::load(codes), D::load(codes.add(lanes * 4))];
                        dots::<D, M, WIDE>(&mut acc, w, values.add(step), x.stride);
                        ahead::<D>(codes);
                        codes = codes.add(line);
                    }
                }
                let scale = [scale::<D::S>(book, block, g, first), scale::<D::S>(book, block, g, first + lanes)];
                let mut minimum = scale;
                if MINIMA {
                    minimum = [
                        minimum_of::<D::S>(book, block, g, first),
                        minimum_of::<D::S>(book, block, g, first + lanes),
                    ];
                }
                let (own, less) = (x.data.add(input).cast::<f32>(), x.data.add(input_row.minima + input).cast::<f32>());
                for (m, acc) in acc.iter().enumerate() {
                    let step = D::S::splat(*own.add(m * x.stride));
                    let at = part.tile.add(m * WIDTH + first);
                    let mut v = [D::S::load(at), D::S::load(at.add(lanes))];
                    v[0] = D::S::fma(D::float(acc[0]), D::S::mul(scale[0], step), v[0]);
                    v[1] = D::S::fma(D::float(acc[1]), D::S::mul(scale[1], step), v[1]);
                    if MINIMA {
                        let less = D::S::splat(*less.add(m * x.stride));
                        v[0] = D::S::fma(minimum[0], less, v[0]);
                        v[1] = D::S::fma(minimum[1], less, v[1]);
                    }
                    D::S::store(at, v[0]);
                    D::S::store(at.add(lanes), v[1]);
                }
            }
        }
    }
}

/// Asks for the codes that will be read soon.
#[inline(always)]
unsafe fn ahead<D: Dots>(codes: *const u8) {
    for line in (0..2 * D::S::LANES * 4).step_by(64) {
        prefetch(codes.wrapping_add(AHEAD + line));
    }
}

/// One step of `M` rows, whose four integers lie at `x`, `stride` words apart.
#[inline(always)]
unsafe fn dots<D: Dots, const M: usize, const WIDE: bool>(acc: &mut [[D::I; 2]; M], w: [D::I; 2], x: *const u32, stride: usize) {
    for (m, acc) in acc.iter_mut().enumerate() {
        // SAFETY: the caller's rows and tier
        unsafe {
            *acc = D::dots::<WIDE>(*acc, w, x.add(m * stride));
        }
    }
}

/// Scales of group `g` for a vector of columns from `column`.
#[inline(always)]
unsafe fn scale<S: Simd>(book: &Codebook, block: *const u8, g: usize, column: usize) -> S::V {
    let format = &book.format;
    // SAFETY: the header holds them
    unsafe {
        let own = S::load_f16(block.cast::<u16>().add(column));
        let integers = block.add(if format.minima { 4 * WIDTH } else { 2 * WIDTH } + g * WIDTH + column);
        match format.scales {
            Scales::Block => own,
            Scales::Unsigned => S::mul(own, S::load_u8(integers)),
            Scales::Signed => S::mul(own, S::load_i8(integers)),
        }
    }
}

/// Minima of group `g`, of a format that has them.
#[inline(always)]
unsafe fn minimum_of<S: Simd>(book: &Codebook, block: *const u8, g: usize, column: usize) -> S::V {
    let format = &book.format;
    // SAFETY: the header holds them
    unsafe {
        let own = S::load_f16(block.cast::<u16>().add(WIDTH + column));
        match format.scales {
            Scales::Block => S::sub(S::splat(0.0), own),
            _ => S::mul(own, S::load_u8(block.add(4 * WIDTH + (format.groups() + g) * WIDTH + column))),
        }
    }
}

/// Plain integers.
#[derive(Clone, Copy)]
struct Plain;

impl Dots for Plain {
    type S = Portable;
    type I = [i32; 8];
    const ROWS: usize = 4;
    #[inline(always)]
    unsafe fn splat(x: i32) -> Self::I {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self::I {
        unsafe { p.cast::<Self::I>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn low_nibbles(codes: Self::I) -> Self::I {
        codes.map(|c| c & 0x0f0f_0f0f)
    }
    #[inline(always)]
    unsafe fn high_nibbles(codes: Self::I) -> Self::I {
        codes.map(|c| c >> 4 & 0x0f0f_0f0f)
    }
    #[inline(always)]
    unsafe fn dots<const WIDE: bool>(mut acc: [Self::I; 2], codes: [Self::I; 2], x: *const u32) -> [Self::I; 2] {
        let x = unsafe { *x };
        for byte in 0..4 {
            let x = i32::from((x >> (8 * byte)) as i8);
            for (acc, codes) in acc.as_flattened_mut().iter_mut().zip(codes.as_flattened()) {
                *acc += (codes >> (8 * byte) & 255) * x;
            }
        }
        acc
    }
    #[inline(always)]
    unsafe fn float(x: Self::I) -> [f32; 8] {
        x.map(|x| x as f32)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Codebook, Dots, Input, rows};
    use crate::model::kernels::simd::{Avx2, Avx512};

    /// 512-bit integer dot products.
    #[derive(Clone, Copy)]
    struct Vnni;
    /// 512-bit vectors, products of 16-bit numbers.
    #[derive(Clone, Copy)]
    struct Wide;
    /// 256-bit vectors, products of 16-bit numbers.
    #[derive(Clone, Copy)]
    struct Narrow;

    pub(super) fn has_vnni() -> bool {
        is_x86_feature_detected!("avx512vnni")
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub(super) unsafe fn vnni(x: Input<u32>, k: usize, book: &Codebook, data: *const u8, tile: *mut f32) {
        unsafe { rows::<Vnni>(x, k, book, data, tile) }
    }
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    pub(super) unsafe fn avx512(x: Input<u32>, k: usize, book: &Codebook, data: *const u8, tile: *mut f32) {
        unsafe { rows::<Wide>(x, k, book, data, tile) }
    }
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn avx2(x: Input<u32>, k: usize, book: &Codebook, data: *const u8, tile: *mut f32) {
        unsafe { rows::<Narrow>(x, k, book, data, tile) }
    }

    /// In one piece: from intrinsics the compiler loads all rows' integers first, and has no registers left for sums.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn dpbusd([mut a, mut b]: [__m512i; 2], codes: [__m512i; 2], x: *const u32) -> [__m512i; 2] {
        let four: __m512i;
        // SAFETY: the pointer is the caller's, and only read
        unsafe {
            std::arch::asm!(
                "vpbroadcastd {four}, dword ptr [{x}]",
                "vpdpbusd {a}, {codes_a}, {four}",
                "vpdpbusd {b}, {codes_b}, {four}",
                four = out(zmm_reg) four,
                a = inout(zmm_reg) a,
                b = inout(zmm_reg) b,
                codes_a = in(zmm_reg) codes[0],
                codes_b = in(zmm_reg) codes[1],
                x = in(reg) x,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        let _ = four;
        [a, b]
    }

    impl Dots for Vnni {
        type S = Avx512;
        type I = __m512i;
        const ROWS: usize = 12;
        #[inline(always)]
        unsafe fn splat(x: i32) -> Self::I {
            unsafe { _mm512_set1_epi32(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const u8) -> Self::I {
            unsafe { _mm512_loadu_si512(p.cast()) }
        }
        #[inline(always)]
        unsafe fn low_nibbles(codes: Self::I) -> Self::I {
            unsafe { _mm512_and_si512(codes, _mm512_set1_epi8(15)) }
        }
        #[inline(always)]
        unsafe fn high_nibbles(codes: Self::I) -> Self::I {
            unsafe { _mm512_and_si512(_mm512_srli_epi16::<4>(codes), _mm512_set1_epi8(15)) }
        }
        #[inline(always)]
        unsafe fn dots<const WIDE: bool>(acc: [Self::I; 2], codes: [Self::I; 2], x: *const u32) -> [Self::I; 2] {
            unsafe { dpbusd(acc, codes, x) }
        }
        #[inline(always)]
        unsafe fn float(x: Self::I) -> __m512 {
            unsafe { _mm512_cvtepi32_ps(x) }
        }
    }

    impl Dots for Wide {
        type S = Avx512;
        type I = __m512i;
        const ROWS: usize = 8;
        #[inline(always)]
        unsafe fn splat(x: i32) -> Self::I {
            unsafe { _mm512_set1_epi32(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const u8) -> Self::I {
            unsafe { _mm512_loadu_si512(p.cast()) }
        }
        #[inline(always)]
        unsafe fn low_nibbles(codes: Self::I) -> Self::I {
            unsafe { Vnni::low_nibbles(codes) }
        }
        #[inline(always)]
        unsafe fn high_nibbles(codes: Self::I) -> Self::I {
            unsafe { Vnni::high_nibbles(codes) }
        }
        #[inline(always)]
        unsafe fn dots<const WIDE: bool>(acc: [Self::I; 2], codes: [Self::I; 2], x: *const u32) -> [Self::I; 2] {
            unsafe {
                let x = _mm512_set1_epi32(*x as i32);
                if !WIDE {
                    let one = |acc, codes| {
                        let pairs = _mm512_maddubs_epi16(codes, x);
                        _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
                    };
                    return [one(acc[0], codes[0]), one(acc[1], codes[1])];
                }
                // the sum of two products of wide codes does not fit 16 bits: even and odd bytes apart
                let x_even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(x));
                let x_odd = _mm512_srai_epi16::<8>(x);
                let one = |acc, codes| {
                    let (even, odd) = (_mm512_and_si512(codes, _mm512_set1_epi16(255)), _mm512_srli_epi16::<8>(codes));
                    let sum = _mm512_add_epi32(_mm512_madd_epi16(even, x_even), _mm512_madd_epi16(odd, x_odd));
                    _mm512_add_epi32(acc, sum)
                };
                [one(acc[0], codes[0]), one(acc[1], codes[1])]
            }
        }
        #[inline(always)]
        unsafe fn float(x: Self::I) -> __m512 {
            unsafe { _mm512_cvtepi32_ps(x) }
        }
    }

    impl Dots for Narrow {
        type S = Avx2;
        type I = __m256i;
        const ROWS: usize = 4;
        #[inline(always)]
        unsafe fn splat(x: i32) -> Self::I {
            unsafe { _mm256_set1_epi32(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const u8) -> Self::I {
            unsafe { _mm256_loadu_si256(p.cast()) }
        }
        #[inline(always)]
        unsafe fn low_nibbles(codes: Self::I) -> Self::I {
            unsafe { _mm256_and_si256(codes, _mm256_set1_epi8(15)) }
        }
        #[inline(always)]
        unsafe fn high_nibbles(codes: Self::I) -> Self::I {
            unsafe { _mm256_and_si256(_mm256_srli_epi16::<4>(codes), _mm256_set1_epi8(15)) }
        }
        #[inline(always)]
        unsafe fn dots<const WIDE: bool>(acc: [Self::I; 2], codes: [Self::I; 2], x: *const u32) -> [Self::I; 2] {
            unsafe {
                let x = _mm256_set1_epi32(*x as i32);
                if !WIDE {
                    let one = |acc, codes| {
                        let pairs = _mm256_maddubs_epi16(codes, x);
                        _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
                    };
                    return [one(acc[0], codes[0]), one(acc[1], codes[1])];
                }
                // the sum of two products of wide codes does not fit 16 bits: even and odd bytes apart
                let x_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
                let x_odd = _mm256_srai_epi16::<8>(x);
                let one = |acc, codes| {
                    let (even, odd) = (_mm256_and_si256(codes, _mm256_set1_epi16(255)), _mm256_srli_epi16::<8>(codes));
                    let sum = _mm256_add_epi32(_mm256_madd_epi16(even, x_even), _mm256_madd_epi16(odd, x_odd));
                    _mm256_add_epi32(acc, sum)
                };
                [one(acc[0], codes[0]), one(acc[1], codes[1])]
            }
        }
        #[inline(always)]
        unsafe fn float(x: Self::I) -> __m256 {
            unsafe { _mm256_cvtepi32_ps(x) }
        }
    }
}
