//! Random numbers that stay the same across versions of the random number crates.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The random numbers of one problem.
#[derive(Debug)]
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    pub(super) fn new(family: &str, seed: u64, index: u64) -> Draw {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&index.to_le_bytes());
        key[16..24].copy_from_slice(&fnv1a(family.bytes()).to_le_bytes());
        Draw(ChaCha8Rng::from_seed(key))
    }

    /// An integer from `low` to `high`, both included.
    pub(super) fn from(&mut self, low: u32, high: u32) -> u32 {
        let span = u64::from(high - low) + 1;
        // The high half of a 32 by 64 bit product: no bias worth naming for spans this small.
        low + ((u64::from(self.0.next_u32()) * span) >> 32) as u32
    }

    /// One of a list.
    pub(super) fn one_of(&mut self, list: &[u32]) -> u32 {
        list[self.from(0, list.len() as u32 - 1) as usize]
    }
}

/// The 64-bit FNV-1a hash.
pub(super) fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // FNV leaves the top bits of short texts poorly mixed; the split reads them.
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}
