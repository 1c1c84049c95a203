//! What a run does with traces that an earlier run generated, beside reading them token by token.

use tts_strategies::{Finish, TraceId};

use super::{ExternalEvent, ProblemRun};

impl ProblemRun {
    /// Passes over ticks in which nothing can happen: every live trace reads its record, none ends, and the
    /// strategy stops none. A run comes to the same without it, later.
    pub fn skip_quiet_ticks(&mut self) {
        if self.over {
            return;
        }
        let live = self.live().len();
        let mut ticks = u64::MAX;
        for trace in &mut self.in_flight[..live] {
            let watching = self.strategy.watching(trace.id());
            match trace.recorded().and_then(|reader| reader.quiet_tokens(watching)) {
                Some(quiet) if quiet > 0 => ticks = ticks.min(quiet as u64),
                _ => return,
            }
        }
        if let Some(ExternalEvent::Slots { tick, .. } | ExternalEvent::Ended { tick, .. }) =
            self.scripted.front()
        {
            ticks = ticks.min(tick.saturating_sub(self.ticks).saturating_sub(1));
        }
        if let Some(max) = self.bounds.max_total_tokens {
            let left = max.saturating_sub(self.tokens.total() + self.live_tokens);
            ticks = ticks.min((left / live as u64).saturating_sub(1));
        }
        for trace in &mut self.in_flight[..live] {
            trace.skip_recorded(ticks as usize, &self.rules, self.decode.as_ref());
        }
        self.ticks += ticks;
        self.live_tokens += ticks * live as u64;
    }

    /// Reads the record of a live trace that has one to its end. A trace that the strategy is not through
    /// with there begins anew, or has failed if the strategy was shown tokens that may not come again.
    /// Returns false where there is no record to read.
    pub fn read_record(&mut self, id: TraceId) -> bool {
        let Some(at) = self.position(id).filter(|at| self.in_flight[*at].has_record()) else {
            return false;
        };
        let mut trace = self.in_flight.remove(at);
        let mut finish = None;
        while finish.is_none()
            && let Some(token) = trace.recorded_next()
        {
            trace.push(token, &self.rules);
            self.live_tokens += u64::from(!trace.is_broken());
            finish = self.handle(&mut trace);
        }
        if finish.is_none()
            && let Some(anew) = trace.anew(&self.rules, self.decode.as_ref())
        {
            self.live_tokens -= trace.generated() as u64;
            self.in_flight.insert(at, anew);
            return true;
        }
        self.settle(at, trace, Some(finish.unwrap_or(Finish::Failed)));
        true
    }
}
