//! Products of 8-bit inputs with quantised weights: integer dot products inside a group, scaled and summed in
//! f32.
//!
//! The integers are exact, so they are the same with every set of instructions.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

use super::rounded::{GROUP, Row};
use super::{Input, prefetch_weights};
use crate::cpu::kernels::buf::Buf;
use crate::cpu::kernels::simd::{Portable, Simd, Tier};
use crate::cpu::packing::{Codebook, WIDTH};
use crate::weights::codes::{Format, Scales};

/// Most rows that are few.
const FEW: usize = 4;

/// Integer operations beside the vectors of a tier. As with [`Simd`], all of it is unsafe for want of the
/// instructions.
pub(super) trait Dots: Copy {
    type S: Simd;
    type I: Copy;
    /// Sums of one row in two vectors.
    type Acc: Copy;
    /// Most rows at a time.
    const ROWS: usize;
    /// Four codes of each lane's output.
    unsafe fn load(p: *const u8) -> Self::I;
    unsafe fn low_nibbles(codes: Self::I) -> Self::I;
    unsafe fn high_nibbles(codes: Self::I) -> Self::I;
    /// Puts the lowest `BITS` bits of every byte of `above` on top of the nibbles, and moves the next ones
    /// there.
    unsafe fn raise<const BITS: i32>(nibbles: Self::I, above: &mut Self::I) -> Self::I;
    /// The sixteen bytes as they are looked up.
    unsafe fn table(bytes: &[u8; 16]) -> Self::I;
    /// What `table` has for each byte, of which none is above 15.
    unsafe fn look_up(table: Self::I, nibbles: Self::I) -> Self::I;
    /// Sums that begin at `x`.
    unsafe fn start(x: i32) -> Self::Acc;
    /// Adds `codes . x` in every lane of two vectors: four unsigned codes below 64 and the four signed
    /// integers at `x`.
    unsafe fn add(acc: &mut Self::Acc, codes: [Self::I; 2], x: *const u32);
    /// As [`Self::add`], for codes of all 8 bits.
    unsafe fn add_wide(acc: &mut Self::Acc, codes: [Self::I; 2], x: *const u32);
    /// Makes room for as many additions as [`additions`] says.
    unsafe fn fold(acc: &mut Self::Acc);
    /// The sums, folded.
    unsafe fn total(acc: Self::Acc) -> [Self::I; 2];
    unsafe fn float(x: Self::I) -> <Self::S as Simd>::V;
}

/// Additions of codes of so many bits whose sums fit 16 bits: two products each, of at most 127 and the code.
const fn additions(bits: usize) -> usize {
    32767 / (2 * 127 * ((1 << bits) - 1))
}

/// The tile of `x` and a panel of `[.., k]` weights.
pub(super) fn multiply(tier: Tier, x: Input<u32>, k: usize, format: &Format, panel: &[f32], tile: &mut Buf) {
    assert_eq!(
        size_of_val(panel),
        k / format.block * Codebook::block_bytes(format),
        "a panel"
    );
    tile[..x.count * WIDTH].fill(0.0);
    // SAFETY: the slices have the lengths that the kernel asks for; a tier exists only where its instructions
    // do
    unsafe { dispatch(tier, x, k, format, panel.as_ptr().cast(), tile.as_mut_ptr()) }
}

unsafe fn dispatch(tier: Tier, x: Input<u32>, k: usize, format: &Format, data: *const u8, tile: *mut f32) {
    // SAFETY: see `multiply`
    unsafe {
        match tier {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 | Tier::Avx512Bf16 | Tier::Amx if x86::has_vnni() => {
                x86::vnni(x, k, format, data, tile)
            }
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 | Tier::Avx512Bf16 | Tier::Amx => x86::avx512(x, k, format, data, tile),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => x86::avx2(x, k, format, data, tile),
            _ => rows::<Plain>(x, k, format, data, tile),
        }
    }
}

#[inline(always)]
unsafe fn rows<D: Dots>(x: Input<u32>, k: usize, format: &Format, data: *const u8, tile: *mut f32) {
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
            // the first rows wait for the panel, the last ask for the next one, unless so few go together
            // that it is not memory they wait for
            let last = D::ROWS > FEW && r > 0 && r + left == x.count;
            let next = if last {
                k / format.block * Codebook::block_bytes(format)
            } else {
                0
            };
            r += match left {
                // two of eight rather than twelve and four
                12.. if x.count - r != 16 => columns::<D, 12>(part, k, format, data, tile, next),
                8.. => columns::<D, 8>(part, k, format, data, tile, next),
                4..8 => columns::<D, 4>(part, k, format, data, tile, next),
                2..4 => columns::<D, 2>(part, k, format, data, tile, next),
                _ => columns::<D, 1>(part, k, format, data, tile, next),
            };
        }
    }
}

#[inline(always)]
unsafe fn columns<D: Dots, const M: usize>(
    x: Input<u32>,
    k: usize,
    format: &Format,
    data: *const u8,
    tile: *mut f32,
    next: usize,
) -> usize {
    if M > D::ROWS {
        return M;
    }
    // SAFETY: the caller's pointers cover all columns
    unsafe {
        match (format.bits, format.minima, format.table) {
            (4, false, None) => micro::<D, M, 4, false, false>(x, k, format, data, tile, next),
            (4, false, Some(_)) => micro::<D, M, 4, false, true>(x, k, format, data, tile, next),
            (4, true, _) => micro::<D, M, 4, true, false>(x, k, format, data, tile, next),
            (5, false, _) => micro::<D, M, 5, false, false>(x, k, format, data, tile, next),
            (5, true, _) => micro::<D, M, 5, true, false>(x, k, format, data, tile, next),
            (6, ..) => micro::<D, M, 6, false, false>(x, k, format, data, tile, next),
            _ => micro::<D, M, 8, false, false>(x, k, format, data, tile, next),
        }
    }
    M
}

/// `M` rows. Integer sums of a group stay in registers; the f32 sums of few rows do too, else they wait in
/// the tile. Two vectors of columns at a time, all of a group's before the next, so that codes are read as
/// they lie. Codes of 6 bits come in groups half as long as the input's, all others in groups as long.
/// `MINIMA`: groups have minima. `TABLE`: codes are looked up.
#[inline(always)]
unsafe fn micro<D: Dots, const M: usize, const BITS: usize, const MINIMA: bool, const TABLE: bool>(
    x: Input<u32>,
    k: usize,
    format: &Format,
    data: *const u8,
    tile: *mut f32,
    next: usize,
) {
    let (lanes, groups) = (<D::S as Simd>::LANES, format.groups());
    let (unit, header) = (Codebook::block_bytes(format), Codebook::header(format));
    let input_row = Row::new(k);
    let halves = BITS == 6;
    let steps = if halves { GROUP / 8 } else { GROUP / 4 };
    let (line, read) = (WIDTH * 4, 2 * lanes * 4);
    let few = M <= FEW;
    // SAFETY: every offset below lies in a row of x, in a block of the panel or in the tile
    unsafe {
        let table = format.table.map(|bytes| D::table(bytes));
        let of_table = |codes: [D::I; 2]| match table {
            Some(table) if TABLE => codes.map(|codes| D::look_up(table, codes)),
            _ => codes,
        };
        // vectors of 8 take two parts
        let mut sums = [[[D::S::splat(0.0); 2]; M]; 2];
        for b in 0..k / format.block {
            let block = data.add(b * unit);
            prefetch_weights::<M>(block, next, header);
            for g in 0..groups {
                // the group's place among groups of the same length, and among the input's groups
                let at = b * groups + g;
                let input = if halves { at / 2 } else { at };
                let values = x.data.add(input_row.integers + at * steps);
                for (part, sums) in sums.iter_mut().enumerate().take(WIDTH / (2 * lanes)) {
                    let first = part * 2 * lanes;
                    let mut codes = block.add(header + g * Codebook::group_bytes(format) + first * 4);
                    let mut acc = [D::start(0); M];
                    if !MINIMA {
                        let sums = x.data.add(
                            if halves {
                                input_row.half_sums
                            } else {
                                input_row.sums
                            } + at,
                        );
                        for (m, acc) in acc.iter_mut().enumerate() {
                            *acc = D::start((*sums.add(m * x.stride) as i32).wrapping_mul(format.zero));
                        }
                    }
                    let load = |codes: *const u8| [D::load(codes), D::load(codes.add(lanes * 4))];
                    if BITS == 8 {
                        for step in 0..steps {
                            let w = load(codes);
                            for (m, acc) in acc.iter_mut().enumerate() {
                                D::add_wide(acc, w, values.add(step + m * x.stride));
                            }
                            prefetch_weights::<M>(codes, next, read);
                            codes = codes.add(line);
                        }
                    } else {
                        let mut above = load(if BITS > 4 {
                            codes.add(steps / 2 * line)
                        } else {
                            codes
                        });
                        for step in (0..steps).step_by(2) {
                            let both = load(codes);
                            let low = raised::<D, BITS>(both.map(|c| D::low_nibbles(c)), &mut above);
                            add::<D, M, BITS, TABLE>(&mut acc, of_table(low), values, step, x.stride);
                            let high = raised::<D, BITS>(both.map(|c| D::high_nibbles(c)), &mut above);
                            add::<D, M, BITS, TABLE>(&mut acc, of_table(high), values, step + 1, x.stride);
                            prefetch_weights::<M>(codes, next, read);
                            codes = codes.add(line);
                        }
                        if BITS > 4 {
                            prefetch_weights::<M>(codes, next, read);
                        }
                    }
                    let scale = [
                        scale::<D::S>(format, block, g, first),
                        scale::<D::S>(format, block, g, first + lanes),
                    ];
                    let mut minimum = scale;
                    if MINIMA {
                        minimum = [
                            minimum_of::<D::S>(format, block, g, first),
                            minimum_of::<D::S>(format, block, g, first + lanes),
                        ];
                    }
                    let (own, less) = (
                        x.data.add(input).cast::<f32>(),
                        x.data.add(input_row.minima + input).cast::<f32>(),
                    );
                    for (m, (acc, sums)) in acc.iter().zip(sums).enumerate() {
                        let acc = D::total(*acc);
                        let step = D::S::splat(*own.add(m * x.stride));
                        let at = tile.add(m * WIDTH + first);
                        let mut v = if few {
                            *sums
                        } else {
                            [D::S::load(at), D::S::load(at.add(lanes))]
                        };
                        v[0] = D::S::fma(D::float(acc[0]), D::S::mul(scale[0], step), v[0]);
                        v[1] = D::S::fma(D::float(acc[1]), D::S::mul(scale[1], step), v[1]);
                        if MINIMA {
                            let less = D::S::splat(*less.add(m * x.stride));
                            v[0] = D::S::fma(minimum[0], less, v[0]);
                            v[1] = D::S::fma(minimum[1], less, v[1]);
                        }
                        if few {
                            *sums = v;
                        } else {
                            D::S::store(at, v[0]);
                            D::S::store(at.add(lanes), v[1]);
                        }
                    }
                }
            }
        }
        if few {
            for (part, sums) in sums.iter().enumerate().take(WIDTH / (2 * lanes)) {
                for (m, sums) in sums.iter().enumerate() {
                    let at = tile.add(m * WIDTH + part * 2 * lanes);
                    D::S::store(at, sums[0]);
                    D::S::store(at.add(lanes), sums[1]);
                }
            }
        }
    }
}

/// Nibbles of a step, with the bits that codes have above them.
#[inline(always)]
pub(super) unsafe fn raised<D: Dots, const BITS: usize>(
    nibbles: [D::I; 2],
    above: &mut [D::I; 2],
) -> [D::I; 2] {
    // SAFETY: the caller's tier
    unsafe {
        match BITS {
            5 => [
                D::raise::<1>(nibbles[0], &mut above[0]),
                D::raise::<1>(nibbles[1], &mut above[1]),
            ],
            6 => [
                D::raise::<2>(nibbles[0], &mut above[0]),
                D::raise::<2>(nibbles[1], &mut above[1]),
            ],
            _ => nibbles,
        }
    }
}

/// Step `step` of a group for `M` rows, whose four integers of the first step lie at `x`, `stride` words
/// apart.
#[inline(always)]
unsafe fn add<D: Dots, const M: usize, const BITS: usize, const TABLE: bool>(
    acc: &mut [D::Acc; M],
    w: [D::I; 2],
    x: *const u32,
    step: usize,
    stride: usize,
) {
    // what a table has takes five bits
    let additions = if TABLE { additions(5) } else { additions(BITS) };
    for (m, acc) in acc.iter_mut().enumerate() {
        // SAFETY: the caller's rows and tier
        unsafe {
            D::add(acc, w, x.add(step + m * stride));
            if (step + 1).is_multiple_of(additions) {
                D::fold(acc);
            }
        }
    }
}

/// Scales of group `g` for a vector of columns from `column`.
#[inline(always)]
pub(super) unsafe fn scale<S: Simd>(format: &Format, block: *const u8, g: usize, column: usize) -> S::V {
    // SAFETY: the header holds them
    unsafe {
        if format.scales == Scales::Exponent {
            let exponents = block.add(g * WIDTH + column);
            return S::mul(S::load_exponents(exponents), S::splat(0.5));
        }
        let own = S::load_f16(block.cast::<u16>().add(column));
        let integers = block.add(if format.minima { 4 * WIDTH } else { 2 * WIDTH } + g * WIDTH + column);
        match format.scales {
            Scales::Unsigned => S::mul(own, S::load_u8(integers)),
            Scales::Signed => S::mul(own, S::load_i8(integers)),
            Scales::Block | Scales::Exponent => own,
        }
    }
}

/// Minima of group `g`, of a format that has them.
#[inline(always)]
pub(super) unsafe fn minimum_of<S: Simd>(format: &Format, block: *const u8, g: usize, column: usize) -> S::V {
    // SAFETY: the header holds them
    unsafe {
        let own = S::load_f16(block.cast::<u16>().add(WIDTH + column));
        match format.scales {
            Scales::Block => S::sub(S::splat(0.0), own),
            _ => S::mul(
                own,
                S::load_u8(block.add(4 * WIDTH + (format.groups() + g) * WIDTH + column)),
            ),
        }
    }
}

/// Plain integers.
#[derive(Clone, Copy)]
struct Plain;

impl Dots for Plain {
    type S = Portable;
    type I = [i32; 8];
    type Acc = [[i32; 8]; 2];
    const ROWS: usize = 4;
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
    unsafe fn raise<const BITS: i32>(nibbles: Self::I, above: &mut Self::I) -> Self::I {
        let mask = ((1 << BITS) - 1) * 0x1010_1010;
        let raised = std::array::from_fn(|i| nibbles[i] | (above[i] << 4 & mask));
        *above = above.map(|a| a >> BITS);
        raised
    }
    #[inline(always)]
    unsafe fn table(bytes: &[u8; 16]) -> Self::I {
        let (words, _) = bytes.as_chunks::<4>();
        std::array::from_fn(|i| i32::from_le_bytes(words[i % 4]))
    }
    #[inline(always)]
    unsafe fn look_up(table: Self::I, nibbles: Self::I) -> Self::I {
        let of = |n: u8| table[usize::from(n / 4)].to_le_bytes()[usize::from(n % 4)];
        nibbles.map(|four| i32::from_le_bytes(four.to_le_bytes().map(of)))
    }
    #[inline(always)]
    unsafe fn start(x: i32) -> Self::Acc {
        [[x; 8]; 2]
    }
    #[inline(always)]
    unsafe fn add(acc: &mut Self::Acc, codes: [Self::I; 2], x: *const u32) {
        let x = unsafe { *x };
        for byte in 0..4 {
            let x = i32::from((x >> (8 * byte)) as i8);
            for (acc, codes) in acc.as_flattened_mut().iter_mut().zip(codes.as_flattened()) {
                *acc += (codes >> (8 * byte) & 255) * x;
            }
        }
    }
    #[inline(always)]
    unsafe fn add_wide(acc: &mut Self::Acc, codes: [Self::I; 2], x: *const u32) {
        unsafe { Self::add(acc, codes, x) }
    }
    #[inline(always)]
    unsafe fn fold(_: &mut Self::Acc) {}
    #[inline(always)]
    unsafe fn total(acc: Self::Acc) -> [Self::I; 2] {
        acc
    }
    #[inline(always)]
    unsafe fn float(x: Self::I) -> [f32; 8] {
        x.map(|x| x as f32)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::{Dots, Format, Input, rows};
    use crate::cpu::kernels::simd::{Avx2, Avx512};

    /// 512-bit integer dot products.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Vnni;
    /// 512-bit vectors, products of 16-bit numbers.
    #[derive(Clone, Copy)]
    struct Wide;
    /// 256-bit vectors, products of 16-bit numbers.
    #[derive(Clone, Copy)]
    struct Narrow;

    /// Sums, and what is still to be added to them in pairs of 16 bits.
    #[derive(Clone, Copy)]
    struct Pairs<I> {
        sums: [I; 2],
        pairs: [I; 2],
    }

    pub(super) fn has_vnni() -> bool {
        is_x86_feature_detected!("avx512vnni")
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub(super) unsafe fn vnni(x: Input<u32>, k: usize, format: &Format, data: *const u8, tile: *mut f32) {
        unsafe { rows::<Vnni>(x, k, format, data, tile) }
    }
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    pub(super) unsafe fn avx512(x: Input<u32>, k: usize, format: &Format, data: *const u8, tile: *mut f32) {
        unsafe { rows::<Wide>(x, k, format, data, tile) }
    }
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn avx2(x: Input<u32>, k: usize, format: &Format, data: *const u8, tile: *mut f32) {
        unsafe { rows::<Narrow>(x, k, format, data, tile) }
    }

    /// In one piece: from intrinsics the compiler loads all rows' integers first, and has no registers left
    /// for sums.
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
        type Acc = [__m512i; 2];
        const ROWS: usize = 12;
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
        unsafe fn raise<const BITS: i32>(nibbles: Self::I, above: &mut Self::I) -> Self::I {
            unsafe {
                let mask = _mm512_set1_epi8(((1 << BITS) - 1) << 4);
                let raised = _mm512_or_si512(nibbles, _mm512_and_si512(_mm512_slli_epi16::<4>(*above), mask));
                *above = _mm512_srl_epi16(*above, _mm_cvtsi32_si128(BITS));
                raised
            }
        }
        #[inline(always)]
        unsafe fn table(bytes: &[u8; 16]) -> Self::I {
            unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(bytes.as_ptr().cast())) }
        }
        #[inline(always)]
        unsafe fn look_up(table: Self::I, nibbles: Self::I) -> Self::I {
            unsafe { _mm512_shuffle_epi8(table, nibbles) }
        }
        #[inline(always)]
        unsafe fn start(x: i32) -> Self::Acc {
            unsafe { [_mm512_set1_epi32(x); 2] }
        }
        #[inline(always)]
        unsafe fn add(acc: &mut Self::Acc, codes: [Self::I; 2], x: *const u32) {
            unsafe { *acc = dpbusd(*acc, codes, x) }
        }
        #[inline(always)]
        unsafe fn add_wide(acc: &mut Self::Acc, codes: [Self::I; 2], x: *const u32) {
            unsafe { *acc = dpbusd(*acc, codes, x) }
        }
        #[inline(always)]
        unsafe fn fold(_: &mut Self::Acc) {}
        #[inline(always)]
        unsafe fn total(acc: Self::Acc) -> [Self::I; 2] {
            acc
        }
        #[inline(always)]
        unsafe fn float(x: Self::I) -> __m512 {
            unsafe { _mm512_cvtepi32_ps(x) }
        }
    }

    impl Dots for Wide {
        type S = Avx512;
        type I = __m512i;
        type Acc = Pairs<__m512i>;
        const ROWS: usize = 8;
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
        unsafe fn raise<const BITS: i32>(nibbles: Self::I, above: &mut Self::I) -> Self::I {
            unsafe { Vnni::raise::<BITS>(nibbles, above) }
        }
        #[inline(always)]
        unsafe fn table(bytes: &[u8; 16]) -> Self::I {
            unsafe { Vnni::table(bytes) }
        }
        #[inline(always)]
        unsafe fn look_up(table: Self::I, nibbles: Self::I) -> Self::I {
            unsafe { Vnni::look_up(table, nibbles) }
        }
        #[inline(always)]
        unsafe fn start(x: i32) -> Self::Acc {
            unsafe {
                Pairs {
                    sums: [_mm512_set1_epi32(x); 2],
                    pairs: [_mm512_set1_epi32(0); 2],
                }
            }
        }
        #[inline(always)]
        unsafe fn add(acc: &mut Self::Acc, codes: [Self::I; 2], x: *const u32) {
            unsafe {
                let x = _mm512_set1_epi32(*x as i32);
                for (pairs, codes) in acc.pairs.iter_mut().zip(codes) {
                    *pairs = _mm512_add_epi16(*pairs, _mm512_maddubs_epi16(codes, x));
                }
            }
        }
        #[inline(always)]
        unsafe fn add_wide(acc: &mut Self::Acc, codes: [Self::I; 2], x: *const u32) {
            unsafe {
                // the sum of two products does not fit 16 bits: even and odd bytes apart
                let x = _mm512_set1_epi32(*x as i32);
                let x_even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(x));
                let x_odd = _mm512_srai_epi16::<8>(x);
                for (sums, codes) in acc.sums.iter_mut().zip(codes) {
                    let (even, odd) = (
                        _mm512_and_si512(codes, _mm512_set1_epi16(255)),
                        _mm512_srli_epi16::<8>(codes),
                    );
                    let sum =
                        _mm512_add_epi32(_mm512_madd_epi16(even, x_even), _mm512_madd_epi16(odd, x_odd));
                    *sums = _mm512_add_epi32(*sums, sum);
                }
            }
        }
        #[inline(always)]
        unsafe fn fold(acc: &mut Self::Acc) {
            unsafe {
                for (sums, pairs) in acc.sums.iter_mut().zip(&mut acc.pairs) {
                    *sums = _mm512_add_epi32(*sums, _mm512_madd_epi16(*pairs, _mm512_set1_epi16(1)));
                    *pairs = _mm512_set1_epi32(0);
                }
            }
        }
        #[inline(always)]
        unsafe fn total(acc: Self::Acc) -> [Self::I; 2] {
            acc.sums
        }
        #[inline(always)]
        unsafe fn float(x: Self::I) -> __m512 {
            unsafe { _mm512_cvtepi32_ps(x) }
        }
    }

    impl Dots for Narrow {
        type S = Avx2;
        type I = __m256i;
        type Acc = Pairs<__m256i>;
        const ROWS: usize = 4;
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
        unsafe fn raise<const BITS: i32>(nibbles: Self::I, above: &mut Self::I) -> Self::I {
            unsafe {
                let mask = _mm256_set1_epi8(((1 << BITS) - 1) << 4);
                let raised = _mm256_or_si256(nibbles, _mm256_and_si256(_mm256_slli_epi16::<4>(*above), mask));
                *above = _mm256_srl_epi16(*above, _mm_cvtsi32_si128(BITS));
                raised
            }
        }
        #[inline(always)]
        unsafe fn table(bytes: &[u8; 16]) -> Self::I {
            unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast())) }
        }
        #[inline(always)]
        unsafe fn look_up(table: Self::I, nibbles: Self::I) -> Self::I {
            unsafe { _mm256_shuffle_epi8(table, nibbles) }
        }
        #[inline(always)]
        unsafe fn start(x: i32) -> Self::Acc {
            unsafe {
                Pairs {
                    sums: [_mm256_set1_epi32(x); 2],
                    pairs: [_mm256_set1_epi32(0); 2],
                }
            }
        }
        #[inline(always)]
        unsafe fn add(acc: &mut Self::Acc, codes: [Self::I; 2], x: *const u32) {
            unsafe {
                let x = _mm256_set1_epi32(*x as i32);
                for (pairs, codes) in acc.pairs.iter_mut().zip(codes) {
                    *pairs = _mm256_add_epi16(*pairs, _mm256_maddubs_epi16(codes, x));
                }
            }
        }
        #[inline(always)]
        unsafe fn add_wide(acc: &mut Self::Acc, codes: [Self::I; 2], x: *const u32) {
            unsafe {
                // the sum of two products does not fit 16 bits: even and odd bytes apart
                let x = _mm256_set1_epi32(*x as i32);
                let x_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
                let x_odd = _mm256_srai_epi16::<8>(x);
                for (sums, codes) in acc.sums.iter_mut().zip(codes) {
                    let (even, odd) = (
                        _mm256_and_si256(codes, _mm256_set1_epi16(255)),
                        _mm256_srli_epi16::<8>(codes),
                    );
                    let sum =
                        _mm256_add_epi32(_mm256_madd_epi16(even, x_even), _mm256_madd_epi16(odd, x_odd));
                    *sums = _mm256_add_epi32(*sums, sum);
                }
            }
        }
        #[inline(always)]
        unsafe fn fold(acc: &mut Self::Acc) {
            unsafe {
                for (sums, pairs) in acc.sums.iter_mut().zip(&mut acc.pairs) {
                    *sums = _mm256_add_epi32(*sums, _mm256_madd_epi16(*pairs, _mm256_set1_epi16(1)));
                    *pairs = _mm256_set1_epi32(0);
                }
            }
        }
        #[inline(always)]
        unsafe fn total(acc: Self::Acc) -> [Self::I; 2] {
            acc.sums
        }
        #[inline(always)]
        unsafe fn float(x: Self::I) -> __m256 {
            unsafe { _mm256_cvtepi32_ps(x) }
        }
    }
}
