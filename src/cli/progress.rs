//! The progress line.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::run::{Event, ProblemProgress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;

use super::number::{count, percent, seconds};
use super::printer::{Printer, harmless};

/// The time over which the speed is taken.
const SPEED_OVER: Duration = Duration::from_secs(5);
/// Ended traces from which on their lengths say something.
const ENOUGH: u64 = 8;

/// The line on the terminal that shows how far the problems are, until it is finished.
pub(crate) struct ProgressLine {
    bar: Option<ProgressBar>,
    task: JoinHandle<()>,
}

impl ProgressLine {
    pub(crate) fn start(mut events: broadcast::Receiver<Event>, problems: usize, printer: &Printer) -> Self {
        let bar = printer.shows_progress().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(
                ProgressStyle::with_template("{wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar
        });
        printer.set_bar(bar.clone());
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            let Some(bar) = shown else { return };
            let mut progress = BatchProgress {
                problems,
                started: Instant::now(),
                ..BatchProgress::default()
            };
            loop {
                match events.recv().await {
                    Ok(event) => progress.take(event, Instant::now()),
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return,
                }
                if events.is_empty() {
                    bar.set_message(progress.line(Instant::now()));
                }
            }
        });
        Self { bar, task }
    }

    pub(crate) fn finish(self, printer: &Printer) {
        self.task.abort();
        printer.set_bar(None);
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

struct BatchProgress {
    problems: usize,
    decided: usize,
    progress: BTreeMap<String, ProblemProgress>,
    last: Option<String>,
    speed: VecDeque<(Instant, u64)>,
    started: Instant,
}

impl Default for BatchProgress {
    fn default() -> Self {
        Self {
            problems: 0,
            decided: 0,
            progress: BTreeMap::new(),
            last: None,
            speed: VecDeque::new(),
            started: Instant::now(),
        }
    }
}

impl BatchProgress {
    fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Progress(progress) => {
                self.last = Some(progress.problem.clone());
                self.progress.insert(progress.problem.clone(), progress);
                let tokens = self
                    .progress
                    .values()
                    .map(|s| s.tokens.total() + s.live_tokens)
                    .sum();
                self.speed.push_back((now, tokens));
                while self.speed.front().is_some_and(|(t, _)| now - *t > SPEED_OVER) {
                    self.speed.pop_front();
                }
            }
            Event::Decided { problem, .. } => {
                self.decided += 1;
                if let Some(s) = self.progress.get_mut(&problem) {
                    s.live = 0;
                }
            }
            _ => {}
        }
    }

    /// Tokens a second over the last seconds.
    fn speed(&self) -> Option<f64> {
        let ((t0, n0), (t1, n1)) = (self.speed.front()?, self.speed.back()?);
        let elapsed = (*t1 - *t0).as_secs_f64();
        (elapsed > 0.2).then(|| n1.saturating_sub(*n0) as f64 / elapsed)
    }

    fn line(&self, now: Instant) -> String {
        let sum = |f: fn(&ProblemProgress) -> u64| self.progress.values().map(f).sum::<u64>();
        let mut parts = Vec::new();
        if self.problems > 1 {
            parts.push(format!("{}/{} decided", self.decided, self.problems));
        }
        parts.push(format!("live {}", count(sum(|s| s.live as u64))));
        parts.push(format!(
            "finished {}",
            count(sum(|s| s.traces.warmup + s.traces.finished))
        ));
        parts.push(format!("stopped {}", count(sum(|s| s.traces.stopped))));
        if let Some(speed) = self.speed() {
            parts.push(format!("{} tok/s", count(speed as u64)));
        }
        let last = self.last.as_ref().and_then(|p| self.progress.get(p));
        if let Some((answer, share)) = last
            .filter(|_| self.problems == 1)
            .and_then(|s| s.leading.as_ref())
        {
            parts.push(format!("{} leads ({})", harmless(answer), percent(*share)));
        }
        if let Some(saved) = self.saved() {
            parts.push(format!("saved {}", percent(saved)));
        }
        if let Some(left) = self.left(now) {
            parts.push(format!("{} left", seconds(left)));
        }
        parts.join(" · ")
    }

    /// Share of the ended traces' tokens that was saved if they had all become as long as those that ended by
    /// themselves.
    fn saved(&self) -> Option<f64> {
        let (mut whole, mut whole_tokens, mut stopped, mut stopped_tokens) = (0, 0, 0, 0);
        for s in self.progress.values() {
            whole += s.traces.warmup + s.traces.finished;
            whole_tokens += s.tokens.warmup + s.tokens.finished;
            stopped += s.traces.stopped;
            stopped_tokens += s.tokens.stopped;
        }
        if whole < ENOUGH || stopped == 0 {
            return None;
        }
        let full = whole_tokens as f64 / whole as f64 * (whole + stopped) as f64;
        Some((1.0 - (whole_tokens + stopped_tokens) as f64 / full).max(0.0))
    }

    /// Seconds that are left, if no consensus ends the run before.
    fn left(&self, now: Instant) -> Option<f64> {
        if self.problems > 1 {
            let share = self.decided as f64 / self.problems as f64;
            return (self.decided > 0 && self.decided < self.problems)
                .then(|| (now - self.started).as_secs_f64() * (1.0 - share) / share);
        }
        let s = self.progress.values().next()?;
        let ended = s.traces.total();
        if ended < ENOUGH {
            return None;
        }
        let mean = s.tokens.total() as f64 / ended as f64;
        let open = (s.budget as u64).saturating_sub(ended) as f64;
        Some((mean * open - s.live_tokens as f64).max(0.0) / self.speed()?.max(1.0))
    }
}
