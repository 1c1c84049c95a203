//! States that are kept in the middle of traces, so that a fork there need not read its tokens again.
//!
//! They are a cache: what comes of a fork does not depend on whether a state was kept, so any may go at any time.

use std::collections::BTreeMap;

use tts_model::executor::{Executor, SeqId};
use tts_strategies::{Fork, TraceId};

/// The kept states of a problem's traces, by trace and number of tokens.
#[derive(Default)]
pub(super) struct KeptStates {
    held: BTreeMap<(TraceId, usize), KeptState>,
    bytes: u64,
    kept_so_far: u64,
}

struct KeptState {
    seq: SeqId,
    bytes: u64,
    /// how many were kept before it
    number: u64,
}

impl KeptStates {
    /// Bytes that they take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn holds(&self, point: (TraceId, usize)) -> bool {
        self.held.contains_key(&point)
    }

    /// Keeps the state of `seq` as that of a trace with so many tokens. The oldest states go where all of them would
    /// take more than `most` bytes.
    pub(super) fn keep(
        &mut self,
        point: (TraceId, usize),
        seq: SeqId,
        bytes: u64,
        most: u64,
        executor: &mut dyn Executor,
    ) {
        if bytes > most {
            return;
        }
        while self.bytes + bytes > most {
            let oldest = self.held.iter().min_by_key(|(_, kept)| kept.number);
            let Some(oldest) = oldest.map(|(point, _)| *point) else {
                return;
            };
            self.drop(oldest, executor);
        }
        let kept = KeptState {
            seq: executor.fork(seq, 1)[0],
            bytes,
            number: self.kept_so_far,
        };
        self.held.insert(point, kept);
        self.bytes += bytes;
        self.kept_so_far += 1;
    }

    /// The state of the trace that a fork goes on from at its point or, failing that, the last before.
    pub(super) fn nearest(&self, fork: Fork) -> Option<SeqId> {
        let upto = (fork.trace, 0)..=(fork.trace, fork.tokens);
        self.held.range(upto).next_back().map(|(_, kept)| kept.seq)
    }

    fn drop(&mut self, point: (TraceId, usize), executor: &mut dyn Executor) {
        if let Some(kept) = self.held.remove(&point) {
            executor.free(kept.seq);
            self.bytes -= kept.bytes;
        }
    }

    /// Gives all of them up; whether there were any.
    pub(super) fn drop_all(&mut self, executor: &mut dyn Executor) -> bool {
        let any = !self.held.is_empty();
        for kept in std::mem::take(&mut self.held).into_values() {
            executor.free(kept.seq);
        }
        self.bytes = 0;
        any
    }
}
