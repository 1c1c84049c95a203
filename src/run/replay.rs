//! A recorded run: traces come from a recording, and no model is asked.
//!
//! Decisions are made over statistics ([`crate::run::RecordedPool`]), by the same code and in the same
//! lockstep as live; texts and tokens are read again only for what is shown: the solution and the digest.
//! Nothing is made up: a trace that ends in the recording before the strategy is through with it, because the
//! recorded run had stopped it, counts as failed and is said to be missing.

mod decide;
mod reader;
mod replayer;

use tts_strategies::TraceId;

pub use decide::Replayed;
pub(super) use reader::RecordReader;
pub use replayer::Replayer;

use super::{ProblemRun, Setup, Token, TraceRecord};

/// Decides a problem whose traces are all recorded: no model, no clock but the records' own. `missing(trace)`
/// is asked for every trace whose record ends before the strategy is through with it, and its answer ends
/// that trace there.
pub fn replay(setup: Setup, mut missing: impl FnMut(TraceId)) -> (ProblemRun, Vec<TraceRecord>) {
    let mut problem = ProblemRun::new(setup);
    let mut records = Vec::new();
    while !problem.is_over() {
        problem.skip_quiet_ticks();
        problem.tick(|_, trace| {
            missing(trace.id());
            Token::Broken
        });
        records.append(&mut problem.take_ended());
    }
    records.append(&mut problem.take_ended());
    (problem, records)
}
