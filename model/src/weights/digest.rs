//! The digest of a checkpoint.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Bytes, Checkpoint};

/// Tensors are hashed in pieces of this size, several at a time.
const PIECE: usize = 8 << 20;

/// blake3 over the configuration and, per tensor in the order of names, its name, type, shape and the digests
/// of its pieces.
pub(super) fn digest(checkpoint: &Checkpoint) -> String {
    let mut pieces: Vec<(&Bytes, Range<usize>)> = Vec::new();
    let mut total = blake3::Hasher::new();
    total.update(checkpoint.spec.arithmetic.as_bytes());
    for (name, entry) in &checkpoint.entries {
        let shape: Vec<usize> = entry.shape.iter().copied().filter(|d| *d != 1).collect();
        total.update(format!("{name} {} {shape:?}\n", entry.dtype).as_bytes());
        let places = [(entry.file, entry.range.clone())];
        for (file, range) in places.into_iter().chain(entry.exponents.clone()) {
            let source = &*checkpoint.sources[file];
            let starts = range.clone().step_by(PIECE);
            pieces.extend(starts.map(|start| (source, start..range.end.min(start + PIECE))));
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let next = AtomicUsize::new(0);
    let hash = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((source, range)) = pieces.get(at) else {
                return done;
            };
            done.push((at, blake3::hash(&source[range.clone()])));
            source.release(range.clone());
        }
    };
    let mut hashes = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(hash)).collect();
        let mut all = hash();
        for other in others {
            all.extend(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        all
    });
    hashes.sort_unstable_by_key(|(at, _)| *at);
    for (_, hash) in hashes {
        total.update(hash.as_bytes());
    }
    total.finalize().to_hex().to_string()
}
