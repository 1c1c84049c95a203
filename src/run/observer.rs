//! What every source of traces does with a running problem beside running it: tell its watchers, keep what
//! ended, and close the books.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::details::SentDetails;
use super::{Bounds, Event, Observer, Outcome, ProblemProgress, ProblemRun, RunError, TraceRecord};

/// Time between two progress events of a problem.
const PROGRESS: Duration = Duration::from_millis(100);

/// The observer of one running problem, and the records that were made so far.
pub(crate) struct RunObserver {
    pub(crate) caller: Observer,
    records: Vec<TraceRecord>,
    told: Instant,
    /// when traces in flight were last written
    kept: Instant,
    notices: BTreeSet<String>,
    sent: SentDetails,
}

/// What a source of traces says of a run beside its decision.
pub(crate) struct RunFacts {
    pub(crate) prompt_tokens: usize,
    pub(crate) cached_tokens: usize,
    pub(crate) bounds: Bounds,
    pub(crate) slots_wanted: usize,
    pub(crate) peak_rows: usize,
}

impl RunObserver {
    pub(crate) fn new(observer: Observer) -> Self {
        Self {
            caller: observer,
            records: Vec::new(),
            told: Instant::now(),
            kept: Instant::now(),
            notices: BTreeSet::new(),
            sent: SentDetails::default(),
        }
    }

    fn wants_details(&self) -> bool {
        self.caller.control.details.load(Ordering::Relaxed) && self.has_watchers()
    }

    fn has_watchers(&self) -> bool {
        let events = self.caller.events.as_ref();
        events.is_some_and(|events| events.receiver_count() > 0)
    }

    /// Sends an event, if anybody listens.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(events) = self.caller.events.as_ref().filter(|_| self.has_watchers()) {
            let _ = events.send(event());
        }
    }

    /// A sentence for the user, once.
    pub(crate) fn notice(&mut self, problem: &str, text: String) {
        if self.notices.insert(text.clone()) {
            self.tell(|| Event::Notice {
                problem: problem.to_owned(),
                text,
            });
        }
    }

    /// Moves ended traces to the records and the journal; `ended` is given the problem's name and each of
    /// them.
    pub(crate) fn keep(
        &mut self,
        problem: &mut ProblemRun,
        mut ended: impl FnMut(&str, &TraceRecord),
    ) -> Result<(), RunError> {
        for mut record in problem.take_ended() {
            ended(problem.id(), &record);
            if self.wants_details() {
                let last = self.sent.ended(&record, problem);
                self.tell(|| Event::Details(last));
            }
            self.tell(|| Event::TraceEnded {
                problem: record.problem_id.clone(),
                trace: record.trace,
                finish: record.finish,
                tokens: record.tokens,
                answer: record.answer.clone(),
            });
            if let Some(sink) = &mut self.caller.records {
                if record.fresh {
                    sink(&record).map_err(RunError::Journal)?;
                }
                // another prompt may show it
                if !problem.strategy().needs().looks {
                    record.let_go();
                }
            }
            self.records.push(record);
        }
        Ok(())
    }

    /// Whether it is time to write the traces in flight.
    pub(crate) fn is_due(&self, every: Duration) -> bool {
        self.caller.records.is_some() && self.kept.elapsed() >= every
    }

    /// Writes the traces in flight, if so much time has passed; `state` keeps what else there is of each.
    pub(crate) fn checkpoint(
        &mut self,
        problem: &ProblemRun,
        every: Duration,
        mut state: impl FnMut(&str, &TraceRecord) -> Result<(), String>,
    ) -> Result<(), RunError> {
        if problem.is_over() || !self.is_due(every) {
            return Ok(());
        }
        let Some(sink) = &mut self.caller.records else {
            return Ok(());
        };
        for record in problem.unfinished_records() {
            // the tokens first: a state is of no use without them
            sink(&record)
                .and_then(|()| state(problem.id(), &record))
                .map_err(RunError::Journal)?;
        }
        // the time between two is that of work
        self.kept = Instant::now();
        Ok(())
    }

    /// Tells how things stand, if it is time.
    pub(crate) fn progress(&mut self, p: &ProblemRun) {
        if self.told.elapsed() < PROGRESS {
            return;
        }
        self.told = Instant::now();
        self.tell(|| {
            let (tokens, live_tokens) = p.tokens();
            let (threshold, window) = p.bar();
            Event::Progress(ProblemProgress {
                problem: p.id().to_owned(),
                live: p.live().len(),
                traces: p.traces(),
                budget: p.bounds().traces,
                tokens,
                live_tokens,
                ticks: p.ticks(),
                leading: p.leading().map(|(a, s)| (a.to_owned(), s)),
                threshold,
                window,
            })
        });
        if self.wants_details() {
            let now = self.sent.now(p);
            self.tell(|| Event::Details(now));
        }
    }

    /// The outcome of a problem that is over.
    pub(crate) fn close(self, problem: &ProblemRun, facts: RunFacts) -> Result<Outcome, RunError> {
        let id = || problem.id().to_owned();
        let failed = || {
            problem.failure().map(|reason| RunError::Strategy {
                problem: id(),
                reason,
            })
        };
        if let Some(error) = failed() {
            return Err(error);
        }
        if problem.all_failed() {
            return Err(RunError::AllFailed(id()));
        }
        let decided = problem.decide(&self.records);
        // to decide may be what fails
        if let Some(error) = failed() {
            return Err(error);
        }
        if decided.wanted_prompt.is_none() {
            self.tell(|| Event::Decided {
                problem: id(),
                answer: decided.answer.clone(),
            });
        }
        Ok(Outcome {
            problem_id: id(),
            decided,
            records: self.records,
            prompt_tokens: facts.prompt_tokens,
            cached_tokens: facts.cached_tokens,
            bounds: facts.bounds,
            slots_wanted: facts.slots_wanted,
            peak_rows: facts.peak_rows,
            notices: self.notices.into_iter().collect(),
        })
    }
}
