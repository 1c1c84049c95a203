//! Memory of states whose sequences ended, for those that begin.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Sequence, StateMemory};

/// The free list of state memory. The system hands out large memory a page at a time, zeroed: to use it again
/// costs a copy alone.
#[derive(Default)]
pub(super) struct StatePool(Mutex<Vec<StateMemory>>);

impl StatePool {
    fn list(&self) -> MutexGuard<'_, Vec<StateMemory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of a sequence that goes its own way.
    pub(super) fn fork(&self, sequence: &Sequence) -> Sequence {
        let memory = self.list().pop();
        sequence.fork_into(memory)
    }

    /// Takes the memory of a sequence that ended.
    pub(super) fn give(&self, sequence: Sequence) {
        self.list().push(sequence.into_memory());
    }

    /// Frees all but `keep` states.
    pub(super) fn trim(&self, keep: usize) {
        self.list().truncate(keep);
    }
}
