//! Runs one problem on remote engines: a stream for each live trace, handled in the order in which their
//! tokens come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;
use tts_strategies::{Finish, TraceId};

use super::fleet::Fleet;
use super::request::{CompletionRequest, Prompt};
use super::trace::{Chunk, Stream, TraceFailure};
use crate::run::{
    Control, EarlyEnd, Event, Observer, Outcome, ProblemRun, Request, RunError, RunFacts, RunObserver,
    TraceChunk,
};

/// A stream's next chunk, with the stream to ask again.
type Coming = Abortable<BoxFuture<'static, (TraceId, Stream, Result<Chunk, TraceFailure>)>>;

/// A problem in flight.
struct Drive {
    fleet: Arc<Fleet>,
    request: Arc<CompletionRequest>,
    k: Option<usize>,
    seed: u64,
    problem: ProblemRun,
    observer: RunObserver,
    control: Arc<Control>,
    streams: FuturesUnordered<Coming>,
    running: BTreeMap<TraceId, AbortHandle>,
    prompt_tokens: usize,
    peak: usize,
    /// the last stream that broke
    broken: Option<String>,
}

/// Runs a problem to its decision. Confidence is over `k` tokens, where the engines give them.
pub(super) async fn run(
    fleet: Arc<Fleet>,
    problem: Request,
    mut observer: Observer,
    request: CompletionRequest,
    k: Option<usize>,
) -> Result<Outcome, RunError> {
    let Request { mut setup, seed, .. } = problem;
    let (interrupt, deadline) = (observer.interrupt.clone(), observer.deadline);
    if interrupt.is_cancelled() {
        return Err(RunError::NotStarted(EarlyEnd::Interrupted));
    }
    if deadline.is_some_and(|d| std::time::Instant::now() >= d) {
        return Err(RunError::NotStarted(EarlyEnd::TimeLimit));
    }
    let bounds = setup.bounds.clone();
    let (checkpoint, control) = (observer.checkpoint.take(), observer.control.clone());
    let mut observer = RunObserver::new(observer);
    // an engine cannot be asked to go on in the middle of a trace with the random numbers that it had
    let cut: u64 = setup
        .recorded
        .iter()
        .filter(|r| r.finish == Finish::Cancelled)
        .map(|r| r.tokens as u64)
        .sum();
    setup.recorded.retain(|r| r.finish != Finish::Cancelled);
    if cut > 0 {
        let text = format!(
            "traces that were in flight when the run ended begin anew: {cut} tokens of them are generated \
             again"
        );
        observer.notice(&setup.id, text);
    }
    let order: Vec<TraceId> = setup.recorded.iter().map(|r| r.trace).collect();
    let problem = ProblemRun::new(setup);
    let prompt_tokens = match &request.prompt {
        Prompt::Ids(ids) => ids.len(),
        _ => 0,
    };
    observer.tell(|| Event::Started {
        problem: problem.id().to_owned(),
        slots: bounds.slots,
        prompt_tokens,
    });
    let mut drive = Drive {
        fleet,
        request: Arc::new(request),
        k,
        seed,
        problem,
        observer,
        control: control.clone(),
        streams: FuturesUnordered::new(),
        running: BTreeMap::new(),
        prompt_tokens,
        peak: 0,
        broken: None,
    };
    loop {
        drive.read_records(&order)?;
        if drive.problem.is_over() {
            break;
        }
        drive.keep_up();
        drive.observer.progress(&drive.problem);
        let time_is_up = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = interrupt.cancelled() => drive.problem.end_early(EarlyEnd::Interrupted),
            () = control.interrupted.cancelled() => drive.problem.end_early(EarlyEnd::Interrupted),
            () = time_is_up => drive.problem.end_early(EarlyEnd::TimeLimit),
            Some(chunk) = drive.streams.next() => {
                // a stream that was given up says nothing
                if let Ok((trace, stream, chunk)) = chunk {
                    drive.take(trace, stream, chunk)?;
                }
            }
        }
        drive.observer.keep(&mut drive.problem, |_, _| ())?;
        if let Some(snapshots) = &checkpoint {
            drive
                .observer
                .checkpoint(&drive.problem, snapshots.every, |_, _| Ok(()))?;
        }
    }
    drive.close(bounds)
}

impl Drive {
    /// Reads what is recorded of live traces, in the order in which they came then.
    fn read_records(&mut self, order: &[TraceId]) -> Result<(), RunError> {
        loop {
            let recorded: BTreeSet<TraceId> = self
                .problem
                .live()
                .iter()
                .filter(|r| r.has_record())
                .map(|r| r.id())
                .collect();
            let Some(next) = order.iter().find(|t| recorded.contains(t)) else {
                return Ok(());
            };
            self.problem.read_record(*next);
            self.observer.keep(&mut self.problem, |_, _| ())?;
        }
    }

    /// Gives up the streams of traces that are over and begins those of new ones.
    fn keep_up(&mut self) {
        let live: BTreeSet<TraceId> = self.problem.live().iter().map(|r| r.id()).collect();
        self.running.retain(|trace, handle| {
            let keep = live.contains(trace);
            if !keep {
                handle.abort();
            }
            keep
        });
        for trace in live {
            if !self.running.contains_key(&trace) {
                let seed = trace_seed(self.seed, self.problem.id(), trace);
                self.follow(
                    trace,
                    Stream::new(self.fleet.clone(), self.request.clone(), seed, self.k),
                );
            }
        }
        self.peak = self.peak.max(self.running.len());
    }

    fn follow(&mut self, trace: TraceId, mut stream: Stream) {
        let (handle, registration) = AbortHandle::new_pair();
        let next: BoxFuture<'static, _> = Box::pin(async move {
            let chunk = stream.next().await;
            (trace, stream, chunk)
        });
        self.running.insert(trace, handle);
        self.streams.push(Abortable::new(next, registration));
    }

    /// Handles what came of a trace.
    fn take(
        &mut self,
        trace: TraceId,
        stream: Stream,
        chunk: Result<Chunk, TraceFailure>,
    ) -> Result<(), RunError> {
        let Chunk { delta, broken } = chunk.map_err(|gave| self.failure(gave))?;
        self.prompt_tokens = delta.prompt_tokens.map_or(self.prompt_tokens, |n| n as usize);
        self.problem.receive(
            trace,
            TraceChunk {
                tokens: &delta.tokens,
                text: &delta.text,
                reported: delta.reported,
                end: delta.end,
            },
        );
        if delta.misnamed {
            let text = "the engine's log-probabilities name other tokens than the text holds: confidences \
            belong to other tokens";
            self.observer.notice(self.problem.id(), text.to_owned());
        }
        if let Some(why) = broken {
            self.observer
                .notice(self.problem.id(), format!("a trace failed: {why}"));
            self.broken = Some(why);
        }
        if self.problem.live().iter().any(|r| r.id() == trace) {
            // what ends a trace may not belong to its text
            if let (Some(stream), 0) = (&self.control.token_stream, trace) {
                stream.append(delta.text);
            }
            self.follow(trace, stream);
        } else {
            self.running.remove(&trace);
        }
        Ok(())
    }

    fn failure(&self, TraceFailure { at, why, refused }: TraceFailure) -> RunError {
        let problem = self.problem.id().to_owned();
        match refused {
            // what the user asked for, and not a key or an address
            Some(400 | 413 | 422) => RunError::Refused {
                problem,
                engine: at,
                reason: why,
            },
            Some(_) => RunError::Remote {
                problem,
                reason: format!("{at} refuses a request ({why})"),
            },
            None => RunError::Remote {
                problem,
                reason: format!("{at}: {why}"),
            },
        }
    }

    fn close(self, bounds: crate::run::Bounds) -> Result<Outcome, RunError> {
        if self.problem.all_failed() {
            return Err(RunError::Remote {
                problem: self.problem.id().to_owned(),
                reason: format!(
                    "every trace failed; the last: {}",
                    self.broken.unwrap_or_else(|| "as recorded".to_owned())
                ),
            });
        }
        let facts = RunFacts {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: 0,
            slots_wanted: bounds.slots,
            bounds,
            peak_rows: self.peak,
        };
        self.observer.close(&self.problem, facts)
    }
}

/// The seed that an engine is given for a trace: a function of the run's seed, the problem and the trace,
/// within 31 bits, which all engines take.
fn trace_seed(seed: u64, problem: &str, trace: TraceId) -> u32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"tts remote seed 1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&trace.to_le_bytes());
    hasher.update(problem.as_bytes());
    let bytes = hasher.finalize();
    let [a, b, c, d, ..] = *bytes.as_bytes();
    u32::from_le_bytes([a, b, c, d]) >> 1
}

#[cfg(test)]
mod tests {
    use super::trace_seed;

    #[test]
    fn seeds_differ_by_trace_problem_and_seed_and_do_not_change() {
        let seeds: std::collections::BTreeSet<u32> = (0..100)
            .flat_map(|t| {
                [
                    trace_seed(0, "a", t),
                    trace_seed(1, "a", t),
                    trace_seed(0, "b", t),
                ]
            })
            .collect();
        assert_eq!(seeds.len(), 300);
        assert!(seeds.iter().all(|s| *s <= i32::MAX as u32));
        assert_eq!(trace_seed(7, "x", 3), trace_seed(7, "x", 3));
    }
}
