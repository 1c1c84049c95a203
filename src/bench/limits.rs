//! What the machine itself can do: memory traffic and multiply-adds, measured with loops that do nothing
//! else. A model's speed is judged against these, taken in the same run, because machines (and hours on a
//! shared one) differ.

#![allow(
    unsafe_code,
    reason = "the machine is measured with the vector instructions that kernels use, where they are there"
)]

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Demand;
use tts_model::cpu::kernels::Tier;

/// Bytes that each pass over memory touches: far more than any cache holds.
const BYTES: usize = 1 << 30;
/// Time that one reading takes.
const READING: Duration = Duration::from_millis(150);
/// Readings of each limit; the best counts, because nothing makes a machine faster than it is.
const READINGS: usize = 5;

/// Limits of this machine on a number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Limits {
    /// Threads that measured together.
    pub threads: usize,
    /// GB/s read from memory.
    pub read: f64,
    /// GB/s read and written where memory is updated in place, both directions counted.
    pub update: f64,
    /// f32 GFLOP/s of the widest vectors (a multiply-add counts as two).
    pub f32: f64,
    /// The same on AVX2 alone, as a machine without AVX-512 would have it.
    pub f32_avx2: Option<f64>,
    /// bf16 products summed in f32 (AVX-512 BF16), GFLOP/s.
    pub bf16: Option<f64>,
    /// The same on the matrix unit (AMX), GFLOP/s.
    pub amx: Option<f64>,
    /// 8-bit products summed in 32 bits (AVX-512 VNNI), GOP/s.
    pub int8: Option<f64>,
    /// 8-bit products summed in 32 bits through 16 (AVX2), GOP/s.
    pub int8_avx2: Option<f64>,
}

impl Limits {
    /// Seconds that a step cannot do without: its products at the full rate of these weights' arithmetic, or
    /// as long as the weights take from memory if that is longer, then the state's way through memory and the
    /// keys' and values' out of it. `None` where the rate is not known.
    pub(crate) fn least_seconds(&self, demand: &Demand, format: &str, tier: Tier) -> Option<f64> {
        let wide = tier >= Tier::Avx512;
        let f32 = if wide { Some(self.f32) } else { self.f32_avx2 };
        let rate = match format {
            // weights of all but these two formats are multiplied by the matrix unit
            "f32" | "f16" => f32,
            _ if tier == Tier::Amx => self.amx,
            "bf16" if wide => self.bf16.map_or(f32, |r| Some(r.max(self.f32))),
            "bf16" => f32,
            _ if wide => self.int8.or(self.int8_avx2),
            _ => self.int8_avx2,
        }?;
        const G: f64 = 1e9;
        let products = (demand.operations / (rate * G)).max(demand.weights / (self.read * G));
        Some(products + 2.0 * demand.state / (self.update * G) + demand.keys_values / (self.read * G))
    }
}

/// Measures; takes about ten seconds and a GiB of memory.
pub(crate) fn measure(threads: usize) -> Limits {
    let threads = threads.max(1);
    let mut memory = vec![1.0f32; BYTES / size_of::<f32>()];
    let read = best(|| {
        let pieces: Vec<&[f32]> = memory.chunks(memory.len().div_ceil(threads)).collect();
        together(pieces, |piece| {
            black_box(sum(piece));
            size_of_val(*piece)
        })
    });
    let update = best(|| {
        let size = memory.len().div_ceil(threads);
        together(memory.chunks_mut(size).collect(), |piece| {
            for v in piece.iter_mut() {
                *v = *v * 0.999 + 0.001;
            }
            black_box(&piece[0]);
            2 * size_of_val(*piece)
        })
    });
    drop(memory);
    let rate = |operations: Option<fn() -> usize>| {
        let operations = operations?;
        Some(best(|| together(vec![(); threads], |()| operations())))
    };
    Limits {
        threads,
        read,
        update,
        f32: rate(Some(products::f32_widest())).unwrap_or(0.0),
        f32_avx2: rate(products::f32_avx2()),
        bf16: rate(products::bf16()),
        amx: rate(products::amx()),
        int8: rate(products::int8()),
        int8_avx2: rate(products::int8_avx2()),
    }
}

fn best(mut reading: impl FnMut() -> f64) -> f64 {
    (0..READINGS).map(|_| reading()).fold(0.0, f64::max)
}

/// Every part does its work over and over on a thread of its own, all at the same time; work per nanosecond,
/// summed (work in units of 1e9 a second).
fn together<T: Send>(parts: Vec<T>, work: impl Fn(&mut T) -> usize + Sync) -> f64 {
    let barrier = Barrier::new(parts.len());
    std::thread::scope(|scope| {
        let running: Vec<_> = parts
            .into_iter()
            .map(|mut part| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    work(&mut part);
                    barrier.wait();
                    let start = Instant::now();
                    let mut done = 0usize;
                    while start.elapsed() < READING {
                        done += work(&mut part);
                    }
                    done as f64 / start.elapsed().as_nanos() as f64
                })
            })
            .collect();
        running.into_iter().map(|t| t.join().unwrap_or(0.0)).sum()
    })
}

/// A sum with enough partial sums that memory, not the adder, is what it waits for.
fn sum(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; 64];
    let mut chunks = values.chunks_exact(64);
    for chunk in &mut chunks {
        for (s, v) in sums.iter_mut().zip(chunk) {
            *s += v;
        }
    }
    sums.iter().sum::<f32>() + chunks.remainder().iter().sum::<f32>()
}

/// Loops of multiply-adds on registers. Each returns the operations of one call, or is absent where the
/// processor lacks the instruction.
mod products {
    /// Sums in flight: more than latency times units.
    #[cfg(target_arch = "x86_64")]
    const CHAINS: usize = 12;
    const ROUNDS: usize = 20_000;

    #[cfg(target_arch = "x86_64")]
    pub(super) use x86::*;

    type Loop = fn() -> usize;

    /// What the compiler makes of plain arithmetic.
    fn portable() -> usize {
        let (x, y) = (std::hint::black_box(1e-3f32), std::hint::black_box(0.5f32));
        let mut sums = [0.0f32; 32];
        for _ in 0..ROUNDS {
            for s in &mut sums {
                *s += x * y;
            }
            sums = std::hint::black_box(sums);
        }
        ROUNDS * sums.len() * 2
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn f32_widest() -> Loop {
        portable
    }
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn f32_avx2() -> Option<Loop> {
        None
    }
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn bf16() -> Option<Loop> {
        None
    }
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn amx() -> Option<Loop> {
        None
    }
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn int8() -> Option<Loop> {
        None
    }
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn int8_avx2() -> Option<Loop> {
        None
    }

    #[cfg(target_arch = "x86_64")]
    mod x86 {
        use super::{CHAINS, Loop, ROUNDS, portable};
        use std::arch::x86_64::*;
        use std::hint::black_box;
        use tts_model::cpu::kernels::Tier;

        /// `ROUNDS` of `CHAINS` independent accumulations with one instruction, on values the compiler cannot
        /// know.
        macro_rules! accumulate {
            (
                $feature:literal, $name:ident, $zero:expr, $a:expr, $b:expr, $lanes:expr,
                |$sum:ident, $x:ident, $y:ident| $step:expr
            ) => {
                #[target_feature(enable = $feature)]
                fn $name() -> usize {
                    let ($x, $y) = (black_box($a), black_box($b));
                    let mut sums = [$zero; CHAINS];
                    for _ in 0..ROUNDS {
                        for $sum in &mut sums {
                            *$sum = $step;
                        }
                    }
                    black_box(sums);
                    ROUNDS * CHAINS * $lanes * 2
                }
            };
        }

        accumulate!(
            "avx512f",
            fma512,
            _mm512_setzero_ps(),
            _mm512_set1_ps(1e-3),
            _mm512_set1_ps(0.5),
            16,
            |s, x, y| _mm512_fmadd_ps(x, y, *s)
        );
        accumulate!(
            "avx2,fma",
            fma256,
            _mm256_setzero_ps(),
            _mm256_set1_ps(1e-3),
            _mm256_set1_ps(0.5),
            8,
            |s, x, y| _mm256_fmadd_ps(x, y, *s)
        );
        accumulate!(
            "avx512f,avx512bf16",
            dot_bf16,
            _mm512_setzero_ps(),
            _mm512_cvtne2ps_pbh(_mm512_set1_ps(1e-3), _mm512_set1_ps(1e-3)),
            _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5), _mm512_set1_ps(0.5)),
            32,
            |s, x, y| _mm512_dpbf16_ps(*s, x, y)
        );
        accumulate!(
            "avx512f,avx512vnni",
            dot_int8,
            _mm512_setzero_si512(),
            _mm512_set1_epi8(3),
            _mm512_set1_epi8(-2),
            64,
            |s, x, y| _mm512_dpbusd_epi32(*s, x, y)
        );
        accumulate!(
            "avx2",
            dot_int8_avx2,
            _mm256_setzero_si256(),
            _mm256_set1_epi8(3),
            _mm256_set1_epi8(-2),
            32,
            // the product is recomputed in every chain: it depends on a value that the compiler must take as
            // new
            |s, x, y| _mm256_add_epi32(
                *s,
                _mm256_madd_epi16(_mm256_maddubs_epi16(black_box(x), y), _mm256_set1_epi16(1))
            )
        );

        pub(in super::super) fn f32_widest() -> Loop {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the feature was detected
                || unsafe { fma512() }
            } else {
                f32_avx2().unwrap_or(portable)
            }
        }
        pub(in super::super) fn f32_avx2() -> Option<Loop> {
            // SAFETY: the features were detected
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"))
                .then_some(|| unsafe { fma256() })
        }
        pub(in super::super) fn bf16() -> Option<Loop> {
            // SAFETY: the features were detected
            (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16"))
                .then_some(|| unsafe { dot_bf16() })
        }
        /// Four sums of 16 x 16 in flight, each of 32 k-steps an instruction.
        pub(in super::super) fn amx() -> Option<Loop> {
            (Tier::detect() == Tier::Amx).then_some(|| {
                // palette 1; bytes of a row from byte 16 on, rows from byte 48 on, for eight tiles
                let mut config = [0u8; 64];
                config[0] = 1;
                for tile in 0..8 {
                    (config[16 + 2 * tile], config[48 + tile]) = (64, 16);
                }
                // SAFETY: the unit was detected; tiles are used by nothing else here
                unsafe {
                    std::arch::asm!(
                        "ldtilecfg [{}]", "tilezero tmm4", "tilezero tmm6", "tilezero tmm7",
                        in(reg) &config, options(nostack, readonly, preserves_flags),
                    );
                    for _ in 0..ROUNDS {
                        std::arch::asm!(
                            "tdpbf16ps tmm0, tmm4, tmm6",
                            "tdpbf16ps tmm1, tmm4, tmm7",
                            "tdpbf16ps tmm2, tmm4, tmm6",
                            "tdpbf16ps tmm3, tmm4, tmm7",
                            options(nostack, nomem, preserves_flags),
                        );
                    }
                    std::arch::asm!("tilerelease", options(nostack, nomem, preserves_flags));
                }
                ROUNDS * 4 * 16 * 16 * 32 * 2
            })
        }
        pub(in super::super) fn int8() -> Option<Loop> {
            // SAFETY: the features were detected
            (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni"))
                .then_some(|| unsafe { dot_int8() })
        }
        pub(in super::super) fn int8_avx2() -> Option<Loop> {
            // SAFETY: the feature was detected
            is_x86_feature_detected!("avx2").then_some(|| unsafe { dot_int8_avx2() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        threads: 1,
        read: 10.0,
        update: 20.0,
        f32: 100.0,
        f32_avx2: Some(50.0),
        bf16: Some(200.0),
        amx: None,
        int8: Some(400.0),
        int8_avx2: None,
    };

    #[test]
    fn a_ceiling_is_the_slower_of_products_and_weights_and_then_the_state() {
        let demand = Demand {
            operations: 4e11,
            weights: 5e9,
            state: 10e9,
            keys_values: 1e9,
        };
        let least = |format, tier| LIMITS.least_seconds(&demand, format, tier);
        assert_eq!(least("f32", Tier::Avx512), Some(4.0 + 1.0 + 0.1));
        assert_eq!(least("f32", Tier::Avx2), Some(8.0 + 1.0 + 0.1));
        assert_eq!(least("bf16", Tier::Avx512), Some(2.0 + 1.0 + 0.1));
        assert_eq!(least("q4_k", Tier::Avx512), Some(1.0 + 1.0 + 0.1));
        assert_eq!(least("q8_0", Tier::Avx2), None);
        let idle = Demand {
            operations: 0.0,
            ..demand
        };
        assert_eq!(
            LIMITS.least_seconds(&idle, "f32", Tier::Avx512),
            Some(0.5 + 1.0 + 0.1)
        );
    }
}
