//! Memory in large pages for many pieces of the same size: what traces hold, which all of it is read at every
//! step.
//!
//! A piece alone is smaller than a large page, or lies across two, so pieces share mappings. What is given
//! back is handed out again, and a mapping without a piece in use goes back to the system when another one
//! has room.

#![allow(
    unsafe_code,
    reason = "pieces of a mapping are handed out as memory of their own, which threads share"
)]

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

/// Bytes of a mapping, of which only what is touched becomes memory.
const MAPPING: usize = 32 << 20;
/// Pieces begin at cache lines.
const LINE: usize = 64;

/// A mapping and how many of its pieces are in use.
struct Mapping {
    _map: MmapMut,
    used: AtomicUsize,
}

/// One piece of a mapping.
pub(super) struct Piece {
    at: NonNull<f32>,
    len: usize,
    of: Arc<Mapping>,
    /// whether it was in use before
    written: bool,
}

// SAFETY: a piece owns its memory
unsafe impl Send for Piece {}
// SAFETY: shared access only reads
unsafe impl Sync for Piece {}

/// Pieces that wait, by their length.
static FREE: Mutex<BTreeMap<usize, Vec<Piece>>> = Mutex::new(BTreeMap::new());

fn free() -> MutexGuard<'static, BTreeMap<usize, Vec<Piece>>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Piece {
    /// Memory for `len` elements, aligned to 64 bytes; none where the system maps no more, or they would fill
    /// a mapping by themselves.
    pub(super) fn new(len: usize) -> Option<Self> {
        let mut free = free();
        let waiting = free.entry(len).or_default();
        if waiting.is_empty() {
            *waiting = Self::mapped(len)?;
        }
        let piece = waiting.pop()?;
        piece.of.used.fetch_add(1, Ordering::Relaxed);
        Some(piece)
    }

    fn mapped(len: usize) -> Option<Vec<Self>> {
        let bytes = (len * size_of::<f32>()).next_multiple_of(LINE);
        let count = MAPPING.checked_div(bytes).filter(|count| *count > 1)?;
        let mut map = MmapMut::map_anon(MAPPING).ok()?;
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let base = map.as_mut_ptr();
        let mapping = Arc::new(Mapping {
            _map: map,
            used: AtomicUsize::new(0),
        });
        let piece = |i: usize| {
            Some(Self {
                // SAFETY: `count` pieces fit the mapping
                at: NonNull::new(unsafe { base.add(i * bytes) }.cast())?,
                len,
                of: mapping.clone(),
                written: false,
            })
        };
        // the first pieces are taken first, so that as few pages as possible are touched
        (0..count).rev().map(piece).collect()
    }

    pub(super) fn at(&self) -> NonNull<f32> {
        self.at
    }
    /// Whether it may hold anything but zeros.
    pub(super) fn is_written(&self) -> bool {
        self.written
    }
    /// Gives it back.
    pub(super) fn give_back(self) {
        let mut free = free();
        let waiting = free.entry(self.len).or_default();
        let idle = self.of.used.fetch_sub(1, Ordering::Relaxed) == 1;
        let of = self.of.clone();
        waiting.push(Self {
            written: true,
            ..self
        });
        // as many again wait elsewhere
        let pieces = Arc::strong_count(&of) - 1;
        if idle && waiting.len() >= 2 * pieces {
            waiting.retain(|piece| !Arc::ptr_eq(&piece.of, &of));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_used_again_and_idle_mappings_go() {
        // a length that nothing else asks for
        let len = (3 << 20) / size_of::<f32>() + 1;
        let per_mapping = MAPPING / (len * size_of::<f32>()).next_multiple_of(LINE);
        let pieces: Vec<Piece> = (0..2 * per_mapping).map(|_| Piece::new(len).unwrap()).collect();
        let mut places: Vec<usize> = pieces.iter().map(|p| p.at().addr().get()).collect();
        places.sort_unstable();
        assert!(
            places
                .windows(2)
                .all(|two| two[0] + len * size_of::<f32>() <= two[1]),
            "none overlap"
        );
        assert!(places.iter().all(|place| place.is_multiple_of(LINE)));
        assert!(pieces.iter().all(|p| !p.is_written()));
        assert_eq!(free()[&len].len(), 0);
        pieces.into_iter().for_each(Piece::give_back);
        assert_eq!(free()[&len].len(), per_mapping, "one of two idle mappings stays");
        let again = Piece::new(len).unwrap();
        assert!(again.is_written() && places.contains(&again.at().addr().get()));
        again.give_back();
    }

    #[test]
    fn large_pieces_are_refused() {
        assert!(Piece::new(MAPPING / size_of::<f32>()).is_none());
    }
}
