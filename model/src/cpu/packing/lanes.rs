//! Rows of a file turned into lanes: word by word, [`WIDTH`] rows side by side.

#![allow(
    unsafe_code,
    reason = "rows are transposed by vector instructions, over pointers that the caller has checked"
)]

use super::WIDTH;

/// One 32-bit word of every row of a panel.
pub(super) type Words = [u32; WIDTH];

/// The rows of a panel as they lie in a file: `count` of them, at most [`WIDTH`], `stride` bytes apart.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<'a> {
    bytes: &'a [u8],
    stride: usize,
    count: usize,
}

impl<'a> Lanes<'a> {
    /// Rows `panel * WIDTH..` of `n` rows of `stride` bytes.
    pub(crate) fn of(bytes: &'a [u8], stride: usize, n: usize, panel: usize) -> Self {
        let (first, count) = (panel * WIDTH, WIDTH.min(n - panel * WIDTH));
        Self {
            bytes: &bytes[first * stride..][..count * stride],
            stride,
            count,
        }
    }
    pub(super) fn is_whole(&self) -> bool {
        self.count == WIDTH
    }
    /// Every row, with its lane.
    pub(super) fn rows(&self) -> impl Iterator<Item = (usize, &'a [u8])> {
        let all = self.bytes;
        (0..self.count).map(move |lane| (lane, &all[lane * self.stride..][..self.stride]))
    }
    /// The byte at `at` of every row.
    #[inline(always)]
    pub(super) fn bytes(&self, at: usize) -> [u8; WIDTH] {
        let mut bytes = [0; WIDTH];
        for (lane, row) in self.rows() {
            bytes[lane] = row[at];
        }
        bytes
    }
    /// The 16-bit number at byte `at` of every row.
    #[inline(always)]
    pub(super) fn halves(&self, at: usize) -> [u16; WIDTH] {
        let mut halves = [0; WIDTH];
        for (lane, row) in self.rows() {
            halves[lane] = u16::from_le_bytes([row[at], row[at + 1]]);
        }
        halves
    }
    /// The words from byte `at` on of every row.
    #[inline(always)]
    pub(super) fn words<T: Transpose>(&self, at: usize, out: &mut [Words]) {
        assert!(at + out.len() * 4 <= self.stride, "words of a row");
        let eights = self.count / 8 * 8;
        let fours = out.len() / 4 * 4;
        // all of a cache line of the file before the next
        for first in (0..fours).step_by(16) {
            for lane in (0..eights).step_by(8) {
                for word in (first..fours.min(first + 16)).step_by(4) {
                    let from = &self.bytes[lane * self.stride + at + word * 4..];
                    assert!(from.len() >= 7 * self.stride + 16);
                    // SAFETY: eight rows have four words there; the caller's instructions
                    unsafe {
                        T::four(
                            from.as_ptr(),
                            self.stride,
                            out[word..].first_chunk_mut().expect("four words"),
                            lane,
                        )
                    };
                }
            }
        }
        // what is left of rows in eights, then the other rows
        for (lanes, first) in [(0..eights, fours), (eights..self.count, 0)] {
            if first == out.len() {
                continue;
            }
            for lane in lanes {
                let (words, _) = self.bytes[lane * self.stride + at..].as_chunks::<4>();
                for (out, word) in out[first..].iter_mut().zip(&words[first..]) {
                    out[lane] = u32::from_le_bytes(*word);
                }
            }
        }
    }
}

/// Instructions that turn rows into lanes.
pub(super) trait Transpose {
    /// Four words of eight rows, `stride` bytes apart, into lanes `lane..lane + 8`.
    ///
    /// # Safety
    /// The rows have 16 bytes at `from`, the lanes exist, and the machine has the instructions.
    unsafe fn four(from: *const u8, stride: usize, out: &mut [Words; 4], lane: usize);
}

/// No instructions of a kind.
pub(super) struct Plain;

impl Transpose for Plain {
    #[inline(always)]
    unsafe fn four(from: *const u8, stride: usize, out: &mut [Words; 4], lane: usize) {
        for row in 0..8 {
            for (word, out) in out.iter_mut().enumerate() {
                // SAFETY: the caller's rows
                let bytes = unsafe {
                    from.add(row * stride + word * 4)
                        .cast::<[u8; 4]>()
                        .read_unaligned()
                };
                out[lane + row] = u32::from_le_bytes(bytes);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Transpose for Avx2 {
    #[inline(always)]
    unsafe fn four(from: *const u8, stride: usize, out: &mut [Words; 4], lane: usize) {
        use std::arch::x86_64::*;
        debug_assert!(lane + 8 <= WIDTH);
        // SAFETY: the caller's rows and instructions
        unsafe {
            let row = |i: usize| _mm_loadu_si128(from.add(i * stride).cast());
            // rows i and i + 4 in the halves of a vector
            let [a, b, c, d] = [0, 1, 2, 3]
                .map(|i| _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(row(i)), row(i + 4)));
            let (ab, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            let turned = [
                _mm256_unpacklo_epi64(ab, cd),
                _mm256_unpackhi_epi64(ab, cd),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ];
            for (out, turned) in out.iter_mut().zip(turned) {
                _mm256_storeu_si256(out.as_mut_ptr().add(lane).cast(), turned);
            }
        }
    }
}
