//! One vector type per instruction tier. Kernels are written once over [`Simd`] and compiled once per tier;
//! the tier is chosen at run time.
//!
//! Within a tier every kernel is bit-reproducible; between tiers sums are taken in other orders and with or
//! without fused multiply-add.

#![allow(
    unsafe_code,
    reason = "vector instructions are intrinsics, which may be called only where their tier was detected"
)]

use std::fmt;

use crate::weights::codes::power_of_two;

/// The instruction tier that kernels run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Plain Rust, whatever the target's baseline is (SSE2, NEON).
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 on processors whose bf16 dot products are faster than their f32 products (AMD Zen 4 and
    /// later). Products with bf16 weights, and attention over bf16 keys and values, round their input to
    /// bf16; everything else is as in [`Tier::Avx512`].
    Avx512Bf16,
    /// AVX-512 and the matrix unit of Intel's processors (AMX): products with bf16 and with quantised weights
    /// (those of experts apart) round their input to bf16, and quantised weights too; everything else is as in
    /// [`Tier::Avx512`].
    Amx,
}

impl Tier {
    /// The best tier of this machine.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx2 && avx512 {
                if x86::has_amx() {
                    return Tier::Amx;
                }
                // Intel's first cores with these instructions run them at half the speed of f32
                let fast = is_x86_feature_detected!("avx512bf16") && x86::is_amd();
                return if fast { Tier::Avx512Bf16 } else { Tier::Avx512 };
            }
            if avx2 {
                return Tier::Avx2;
            }
        }
        Tier::Portable
    }

    /// Every tier that this machine can run, lowest first.
    pub fn available() -> Vec<Self> {
        let best = Self::detect();
        let all = [
            Tier::Portable,
            Tier::Avx2,
            Tier::Avx512,
            Tier::Avx512Bf16,
            Tier::Amx,
        ];
        all.into_iter().filter(|t| *t <= best).collect()
    }

    /// `portable`, `avx2`, `avx512`, `avx512bf16` or `amx`.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Portable => "portable",
            Tier::Avx2 => "avx2",
            Tier::Avx512 => "avx512",
            Tier::Avx512Bf16 => "avx512bf16",
            Tier::Amx => "amx",
        }
    }

    /// The tier of that name, if this machine can run it.
    ///
    /// # Errors
    /// A sentence that names the tiers that would be right.
    pub fn parse(name: &str) -> Result<Self, String> {
        let available = Self::available();
        available
            .iter()
            .copied()
            .find(|t| t.name() == name)
            .ok_or_else(|| {
                let names: Vec<_> = available.iter().map(|t| t.name()).collect();
                format!(
                    "instruction tier `{name}` is not one that this machine runs: {}",
                    names.join(", ")
                )
            })
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Vector operations of one tier. All pointers may be unaligned.
///
/// # Safety
/// Every method may be called only where the tier's instructions are enabled, and pointers must be valid for
/// [`Self::LANES`] elements.
pub(crate) trait Simd: Copy {
    type V: Copy;
    const LANES: usize;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// bf16 numbers in pairs: the first of each, then the second
    unsafe fn load_bf16_pairs(p: *const u32) -> (Self::V, Self::V);
    /// what [`Self::load_bf16_pairs`] reads, each rounded to nearest even; not for NaN
    unsafe fn store_bf16_pairs(p: *mut u32, a: Self::V, b: Self::V);
    /// rounded to the nearest integers, which must be within -128..=127
    unsafe fn store_i8(p: *mut i8, v: Self::V);
    unsafe fn load_u8(p: *const u8) -> Self::V;
    unsafe fn load_i8(p: *const u8) -> Self::V;
    unsafe fn load_f16(p: *const u16) -> Self::V;
    unsafe fn load_bf16(p: *const u16) -> Self::V;
    /// for each byte 2 to its power less 127, NaN for 255
    unsafe fn load_exponents(p: *const u8) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn round(a: Self::V) -> Self::V;
    /// 2^n for integral n in -126..=127
    unsafe fn pow2(n: Self::V) -> Self::V;
    unsafe fn sum(a: Self::V) -> f32;
    unsafe fn hmax(a: Self::V) -> f32;

    /// e^x to about one unit in the last place; 0 below the smallest normal result, finite above the largest.
    #[inline(always)]
    unsafe fn exp(x: Self::V) -> Self::V {
        unsafe {
            // the second operand is what comes back when one is NaN, so NaN goes through
            let x = Self::min(Self::splat(88.02), x);
            let live = Self::max(Self::splat(-87.33), x);
            let n = Self::round(Self::mul(live, Self::splat(std::f32::consts::LOG2_E)));
            // ln 2 in two parts, the first exact in few bits (Cody and Waite)
            let r = Self::fma(n, Self::splat(-0.693_359_4), live);
            let r = Self::fma(n, Self::splat(2.121_944_4e-4), r);
            let mut p = Self::splat(1.0 / 5040.0);
            for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
                p = Self::fma(p, r, Self::splat(c));
            }
            // masks are -inf and must weigh exactly nothing
            Self::zero_below(x, Self::splat(-87.33), Self::mul(p, Self::pow2(n)))
        }
    }
    /// 0 where `x < limit`, else `v`
    unsafe fn zero_below(x: Self::V, limit: Self::V, v: Self::V) -> Self::V;

    /// ln(1 + e^x) without overflow; 0 where e^x is below the smallest normal number.
    #[inline(always)]
    unsafe fn softplus(x: Self::V) -> Self::V {
        unsafe {
            let zero = Self::splat(0.0);
            let e = Self::exp(Self::sub(zero, Self::max(Self::sub(zero, x), x)));
            // ln(1 + e) = 2 artanh(z), and z is at most a third
            let z = Self::div(e, Self::add(Self::splat(2.0), e));
            let w = Self::mul(z, z);
            let mut p = Self::splat(1.0 / 15.0);
            for c in [
                1.0 / 13.0,
                1.0 / 11.0,
                1.0 / 9.0,
                1.0 / 7.0,
                1.0 / 5.0,
                1.0 / 3.0,
                1.0,
            ] {
                p = Self::fma(p, w, Self::splat(c));
            }
            Self::fma(Self::add(z, z), p, Self::max(zero, x))
        }
    }

    /// x / (1 + e^-x)
    #[inline(always)]
    unsafe fn silu(x: Self::V) -> Self::V {
        unsafe {
            let e = Self::exp(Self::sub(Self::splat(0.0), x));
            Self::div(x, Self::add(Self::splat(1.0), e))
        }
    }
}

/// Asks for a cache line that will be read soon; any address will do.
#[inline(always)]
pub(crate) fn prefetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch does not fault
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// As [`prefetch`], into the second-level cache.
#[inline(always)]
pub(crate) fn prefetch_far(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch does not fault
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// [`prefetch_far`] for `len` elements from `from` on.
#[inline(always)]
pub(crate) fn prefetch_all(from: *const f32, len: usize) {
    const LINE: usize = 16;
    for line in (0..len).step_by(LINE) {
        prefetch_far(from.wrapping_add(line).cast());
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Portable;

const P: usize = 8;

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; P] {
    let mut v = [0.0; P];
    for (i, v) in v.iter_mut().enumerate() {
        *v = f(i);
    }
    v
}

impl Simd for Portable {
    type V = [f32; P];
    const LANES: usize = P;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; P]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { p.cast::<[f32; P]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { p.cast::<[f32; P]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(p: *const u32) -> (Self::V, Self::V) {
        let raw = unsafe { p.cast::<[u32; P]>().read_unaligned() };
        (
            each(|i| f32::from_bits(raw[i] << 16)),
            each(|i| f32::from_bits(raw[i] & 0xffff_0000)),
        )
    }
    #[inline(always)]
    unsafe fn store_bf16_pairs(p: *mut u32, a: Self::V, b: Self::V) {
        let rounded = |v: f32| v.to_bits().wrapping_add(0x7fff + (v.to_bits() >> 16 & 1)) >> 16;
        let mut pairs = [0u32; P];
        for (i, pair) in pairs.iter_mut().enumerate() {
            *pair = rounded(a[i]) | rounded(b[i]) << 16;
        }
        unsafe { p.cast::<[u32; P]>().write_unaligned(pairs) }
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, v: Self::V) {
        let v = unsafe { Self::round(v) }.map(|x| x as i8);
        unsafe { p.cast::<[i8; P]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> Self::V {
        let raw = unsafe { p.cast::<[u8; P]>().read_unaligned() };
        each(|i| f32::from(raw[i]))
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> Self::V {
        let raw = unsafe { p.cast::<[i8; P]>().read_unaligned() };
        each(|i| f32::from(raw[i]))
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self::V {
        let raw = unsafe { p.cast::<[u16; P]>().read_unaligned() };
        each(|i| half::f16::from_bits(raw[i]).to_f32_const())
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::V {
        let raw = unsafe { p.cast::<[u16; P]>().read_unaligned() };
        each(|i| f32::from_bits(u32::from(raw[i]) << 16))
    }
    #[inline(always)]
    unsafe fn load_exponents(p: *const u8) -> Self::V {
        let raw = unsafe { p.cast::<[u8; P]>().read_unaligned() };
        each(|i| power_of_two(raw[i]))
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // on x86 without FMA, mul_add would be a library call
        if cfg!(target_arch = "aarch64") {
            each(|i| a[i].mul_add(b[i], c[i]))
        } else {
            each(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    unsafe fn round(a: Self::V) -> Self::V {
        // adding and taking away 1.5 * 2^23 rounds to the nearest even integer without a library call
        const MAGIC: f32 = 12_582_912.0;
        each(|i| (a[i] + MAGIC) - MAGIC)
    }
    #[inline(always)]
    unsafe fn pow2(n: Self::V) -> Self::V {
        each(|i| f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn sum(a: Self::V) -> f32 {
        ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]))
    }
    #[inline(always)]
    unsafe fn hmax(a: Self::V) -> f32 {
        a.iter()
            .fold(f32::NEG_INFINITY, |m, x| if *x > m { *x } else { m })
    }
    #[inline(always)]
    unsafe fn zero_below(x: Self::V, limit: Self::V, v: Self::V) -> Self::V {
        each(|i| if x[i] < limit[i] { 0.0 } else { v[i] })
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    pub(super) fn is_amd() -> bool {
        let leaf = __cpuid(0);
        [leaf.ebx, leaf.edx, leaf.ecx]
            .map(u32::to_le_bytes)
            .as_flattened()
            == b"AuthenticAMD"
    }

    /// Whether there is a matrix unit with bf16 products, and the system lets this process use it.
    #[cfg(target_os = "linux")]
    pub(super) fn has_amx() -> bool {
        static HAS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        *HAS.get_or_init(|| {
            let leaf = if __get_cpuid_max(0).0 >= 7 {
                __cpuid_count(7, 0)
            } else {
                return false;
            };
            // AMX-BF16, AMX-TILE
            const UNIT: u32 = 1 << 22 | 1 << 24;
            if leaf.edx & UNIT != UNIT || !is_x86_feature_detected!("avx512bf16") {
                return false;
            }
            // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA): the kernel saves tiles for those alone who ask
            let granted: isize;
            // SAFETY: the call changes nothing but this permission
            unsafe {
                std::arch::asm!(
                    "syscall",
                    inlateout("rax") 158isize => granted,
                    in("rdi") 0x1023usize,
                    in("rsi") 18usize,
                    lateout("rcx") _,
                    lateout("r11") _,
                    options(nostack),
                );
            }
            granted == 0
        })
    }
    #[cfg(not(target_os = "linux"))]
    pub(super) fn has_amx() -> bool {
        false
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self::V {
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: Self::V) {
            unsafe { _mm256_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn load_bf16_pairs(p: *const u32) -> (Self::V, Self::V) {
            unsafe {
                let raw = _mm256_loadu_si256(p.cast());
                let second = _mm256_and_si256(raw, _mm256_set1_epi32(0xffff_0000_u32 as i32));
                (
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(raw)),
                    _mm256_castsi256_ps(second),
                )
            }
        }
        #[inline(always)]
        unsafe fn store_bf16_pairs(p: *mut u32, a: Self::V, b: Self::V) {
            unsafe {
                let rounded = |v| {
                    let bits = _mm256_castps_si256(v);
                    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                    _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)))
                };
                let high = _mm256_and_si256(rounded(b), _mm256_set1_epi32(0xffff_0000_u32 as i32));
                let pairs = _mm256_or_si256(_mm256_srli_epi32::<16>(rounded(a)), high);
                _mm256_storeu_si256(p.cast(), pairs);
            }
        }
        #[inline(always)]
        unsafe fn store_i8(p: *mut i8, v: Self::V) {
            unsafe {
                let words = _mm256_cvtps_epi32(v);
                let halves = _mm_packs_epi32(
                    _mm256_castsi256_si128(words),
                    _mm256_extracti128_si256::<1>(words),
                );
                _mm_storel_epi64(p.cast(), _mm_packs_epi16(halves, halves));
            }
        }
        #[inline(always)]
        unsafe fn load_u8(p: *const u8) -> Self::V {
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()))) }
        }
        #[inline(always)]
        unsafe fn load_i8(p: *const u8) -> Self::V {
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) }
        }
        #[inline(always)]
        unsafe fn load_f16(p: *const u16) -> Self::V {
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
        }
        #[inline(always)]
        unsafe fn load_bf16(p: *const u16) -> Self::V {
            unsafe {
                let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
            }
        }
        #[inline(always)]
        unsafe fn load_exponents(p: *const u8) -> Self::V {
            unsafe {
                let exponents = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
                let nan = _mm256_cmpeq_epi32(exponents, _mm256_set1_epi32(255));
                // the least is below the smallest normal number, and a bit more makes infinity NaN
                let bit = _mm256_set1_epi32(1 << 22);
                let bits = _mm256_max_epi32(_mm256_slli_epi32::<23>(exponents), bit);
                _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_and_si256(nan, bit)))
            }
        }
        #[inline(always)]
        unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm256_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm256_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn round(a: Self::V) -> Self::V {
            unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        }
        #[inline(always)]
        unsafe fn pow2(n: Self::V) -> Self::V {
            unsafe {
                let i = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(i))
            }
        }
        #[inline(always)]
        unsafe fn sum(a: Self::V) -> f32 {
            unsafe {
                let q = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let d = _mm_add_ps(q, _mm_movehl_ps(q, q));
                _mm_cvtss_f32(_mm_add_ss(d, _mm_shuffle_ps::<1>(d, d)))
            }
        }
        #[inline(always)]
        unsafe fn hmax(a: Self::V) -> f32 {
            unsafe {
                let q = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let d = _mm_max_ps(q, _mm_movehl_ps(q, q));
                _mm_cvtss_f32(_mm_max_ss(d, _mm_shuffle_ps::<1>(d, d)))
            }
        }
        #[inline(always)]
        unsafe fn zero_below(x: Self::V, limit: Self::V, v: Self::V) -> Self::V {
            unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(x, limit), v) }
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self::V {
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: Self::V) {
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn load_bf16_pairs(p: *const u32) -> (Self::V, Self::V) {
            unsafe {
                let raw = _mm512_loadu_si512(p.cast());
                let second = _mm512_and_si512(raw, _mm512_set1_epi32(0xffff_0000_u32 as i32));
                (
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(raw)),
                    _mm512_castsi512_ps(second),
                )
            }
        }
        #[inline(always)]
        unsafe fn store_bf16_pairs(p: *mut u32, a: Self::V, b: Self::V) {
            unsafe {
                let rounded = |v| {
                    let bits = _mm512_castps_si512(v);
                    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                    _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)))
                };
                let high = _mm512_and_si512(rounded(b), _mm512_set1_epi32(0xffff_0000_u32 as i32));
                let pairs = _mm512_or_si512(_mm512_srli_epi32::<16>(rounded(a)), high);
                _mm512_storeu_si512(p.cast(), pairs);
            }
        }
        #[inline(always)]
        unsafe fn store_i8(p: *mut i8, v: Self::V) {
            unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v))) }
        }
        #[inline(always)]
        unsafe fn load_u8(p: *const u8) -> Self::V {
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))) }
        }
        #[inline(always)]
        unsafe fn load_i8(p: *const u8) -> Self::V {
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
        }
        #[inline(always)]
        unsafe fn load_f16(p: *const u16) -> Self::V {
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
        }
        #[inline(always)]
        unsafe fn load_bf16(p: *const u16) -> Self::V {
            unsafe {
                let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
            }
        }
        #[inline(always)]
        unsafe fn load_exponents(p: *const u8) -> Self::V {
            unsafe {
                let exponents = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
                let nan = _mm512_cmpeq_epi32_mask(exponents, _mm512_set1_epi32(255));
                let bit = _mm512_set1_epi32(1 << 22);
                let bits = _mm512_max_epi32(_mm512_slli_epi32::<23>(exponents), bit);
                _mm512_castsi512_ps(_mm512_mask_or_epi32(bits, nan, bits, bit))
            }
        }
        #[inline(always)]
        unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn round(a: Self::V) -> Self::V {
            unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        }
        #[inline(always)]
        unsafe fn pow2(n: Self::V) -> Self::V {
            unsafe {
                let i = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(i))
            }
        }
        #[inline(always)]
        unsafe fn sum(a: Self::V) -> f32 {
            unsafe { _mm512_reduce_add_ps(a) }
        }
        #[inline(always)]
        unsafe fn hmax(a: Self::V) -> f32 {
            unsafe { _mm512_reduce_max_ps(a) }
        }
        #[inline(always)]
        unsafe fn zero_below(x: Self::V, limit: Self::V, v: Self::V) -> Self::V {
            unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, limit), v) }
        }
    }
}

/// Defines `unsafe fn name(tier, args)` that runs `body::<tier's vectors>(args)` compiled with that tier's
/// instructions.
macro_rules! tiers {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident = $body:ident ( $($arg:ident : $ty:ty),* $(,)? ) $(-> $ret:ty)?
    ) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name(tier: $crate::cpu::kernels::simd::Tier, $($arg: $ty),*) $(-> $ret)? {
            use $crate::cpu::kernels::simd;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $ty),*) $(-> $ret)? {
                unsafe { $body::<simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $ty),*) $(-> $ret)? {
                unsafe { $body::<simd::Avx2>($($arg),*) }
            }
            // SAFETY: a tier above Portable exists only where detection found its instructions; the rest is
            // the caller's promise
            unsafe {
                match tier {
                    #[cfg(target_arch = "x86_64")]
                    simd::Tier::Avx512 | simd::Tier::Avx512Bf16 | simd::Tier::Amx => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    simd::Tier::Avx2 => avx2($($arg),*),
                    _ => $body::<simd::Portable>($($arg),*),
                }
            }
        }
    };
}
pub(crate) use tiers;
