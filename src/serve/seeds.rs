//! Seeds: fresh ones for requests that name none, and one for each choice.

use std::hash::{BuildHasher, RandomState};

/// Bits of the seeds that are made here: as many as a client's floating-point numbers keep, so that it can
/// send back what it was told.
const BITS: u32 = 53;

/// A seed that nobody asked for.
pub(super) fn fresh() -> u64 {
    // its keys are random, and no two are alike
    RandomState::new().hash_one(std::process::id()) >> (u64::BITS - BITS)
}

/// The seed of the choice `index` of those that a prompt has in a request: the request's own for the first,
/// else one that no other request's choices come near.
pub(super) fn of_choice(seed: u64, index: usize) -> u64 {
    if index == 0 {
        return seed;
    }
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(b"tts choice seed 1")
        .update(&seed.to_le_bytes())
        .update(&(index as u64).to_le_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes) >> (u64::BITS - BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{fresh, of_choice};

    #[test]
    fn no_two_choices_of_neighbouring_seeds_are_alike() {
        let near = (0..64).chain((0..64).map(|i| u64::MAX - i));
        let seeds: BTreeSet<u64> = near
            .flat_map(|seed| (0..16).map(move |i| of_choice(seed, i)))
            .collect();
        assert_eq!(seeds.len(), 128 * 16);
        assert_eq!(of_choice(7, 0), 7);
        assert_eq!(of_choice(7, 1), of_choice(7, 1));
        assert!((1..16).all(|i| of_choice(u64::MAX, i) < 1 << 53));
    }

    #[test]
    fn fresh_seeds_differ() {
        let seeds: BTreeSet<u64> = (0..1000).map(|_| fresh()).collect();
        assert!(seeds.len() == 1000 && seeds.iter().all(|seed| *seed < 1 << 53));
    }
}
