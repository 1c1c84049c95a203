//! Online DeepConf: "Deep Think with Confidence" (arXiv 2508.15260), section 3.3, algorithm 2.

use super::DeepConfOnlineSettings;
use crate::interface::{
    ClassId, Decision, Limits, Needs, Next, PoolKind, Step, Strategy, TokenScalars, TraceId, TraceOutcome,
    Watching,
};
use crate::percentile::percentile;
use crate::scores::Statistic;
use crate::trace_pool::{FILTERED, Filter, TracePool};
use crate::vote::{RunningVote, Tally};
use crate::windows::GroupWindow;

/// The bar that keeps the top share `keep_top` of the values: their percentile `100 (1 - keep_top)`.
pub fn keep_top_bar(values: &[f64], keep_top: f64) -> Option<f64> {
    percentile(values, 100.0 - 100.0 * keep_top)
}

/// Online DeepConf (algorithm 2). A warm-up of complete traces sets a bar by their lowest groups; every
/// further trace stops as soon as its full window is below the bar; traces that ended by themselves at or
/// above it vote; the problem ends early when one class holds the consensus share of the vote.
///
/// Beyond the paper: at least `min_votes` ballots before a consensus counts, and a floor under the vote when
/// the filter leaves fewer. Without a bar (no warm-up has a confidence) nothing is stopped and nothing
/// filtered.
#[derive(Clone, Debug)]
pub(super) struct DeepConfOnline {
    name: String,
    settings: DeepConfOnlineSettings,
    pool: TracePool,
    budget: usize,
    max_tokens: usize,
    warmup: usize,
    warmups_ended: usize,
    bar: Option<f64>,
    /// the traces at or above the bar, once there is one
    vote: Option<RunningVote>,
    done: bool,
    /// By trace; `None` before the first token and after the last.
    live: Vec<Option<GroupWindow>>,
    spare: Vec<GroupWindow>,
}

impl DeepConfOnline {
    /// A strategy that calls itself `name`.
    pub(super) fn new(name: impl Into<String>, settings: DeepConfOnlineSettings) -> Self {
        Self {
            name: name.into(),
            pool: TracePool::new(settings.window, settings.warmup, settings.count_truncated),
            settings,
            budget: 0,
            max_tokens: 0,
            warmup: 0,
            warmups_ended: 0,
            bar: None,
            vote: None,
            done: false,
            live: Vec::new(),
            spare: Vec::new(),
        }
    }

    fn filter(&self) -> Option<Filter> {
        self.bar.map(|bar| Filter::Bar {
            statistic: Statistic::LowestGroup,
            bar,
        })
    }

    fn consensus_reached(&self) -> bool {
        let Some(tau) = self.settings.consensus.share() else {
            return false;
        };
        // a count costs as much as there are traces: it is taken where it can succeed
        if let Some(vote) = &self.vote
            && (vote.voters() < self.settings.min_votes || !vote.may_reach(tau))
        {
            return false;
        }
        let voters = self.pool.voters(PoolKind::Filtered, self.filter());
        voters.len() >= self.settings.min_votes
            && Tally::hold(self.settings.vote, &voters).is_some_and(|t| t.winner().share >= tau)
    }

    fn retire(&mut self, trace: TraceId) {
        if let Some(mut window) = self.live.get_mut(trace as usize).and_then(Option::take) {
            window.clear();
            self.spare.push(window);
        }
    }

    fn conclude(&mut self) -> Next {
        self.done = true;
        Next::Done
    }
}

impl Strategy for DeepConfOnline {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs(&self) -> Needs {
        let confidence = Needs {
            confidence: true,
            ..Needs::default()
        };
        confidence.and(Needs::of_vote(self.settings.vote))
    }

    fn begin(&mut self, limits: &Limits) -> usize {
        *self = Self::new(std::mem::take(&mut self.name), self.settings);
        self.budget = limits.traces;
        self.max_tokens = limits.max_tokens;
        self.warmup = self.settings.warmup.min(limits.traces);
        self.warmup
    }

    fn is_warmup(&self, trace: TraceId) -> bool {
        (trace as usize) < self.warmup
    }

    fn watching(&self, trace: TraceId) -> Watching {
        match (self.bar, self.pool.window()) {
            (Some(bar), Some(window)) if !self.is_warmup(trace) && window <= self.max_tokens => {
                Watching::Below { window, bar }
            }
            _ => Watching::Nothing,
        }
    }

    fn observe(&mut self, trace: TraceId, token: &TokenScalars) -> Step {
        let (Some(bar), Some(window)) = (self.bar, self.pool.window()) else {
            return Step::Continue;
        };
        // A window longer than any trace never fills: nothing to watch, and no memory for it.
        if self.is_warmup(trace) || window > self.max_tokens {
            return Step::Continue;
        }
        let index = trace as usize;
        if index >= self.live.len() {
            self.live.resize_with(index + 1, || None);
        }
        let live = self.live[index]
            .get_or_insert_with(|| self.spare.pop().unwrap_or_else(|| GroupWindow::new(window)));
        match live.push(token.confidence) {
            Some(group) if group < bar => Step::Stop,
            _ => Step::Continue,
        }
    }

    fn finished(&mut self, outcome: &TraceOutcome<'_>) -> Next {
        if self.done {
            return Next::Done;
        }
        if !self.pool.enter(outcome) {
            return Next::Wait;
        }
        self.retire(outcome.trace);
        if !self.is_warmup(outcome.trace) {
            let voter = self.pool.voter(outcome.trace, self.filter());
            if let (Some(vote), Some(voter)) = (&mut self.vote, voter) {
                vote.add(&voter);
            }
            return if self.consensus_reached() {
                self.conclude()
            } else {
                Next::Wait
            };
        }
        self.warmups_ended += 1;
        if self.warmups_ended < self.warmup {
            return Next::Wait;
        }
        self.pool.settle();
        self.bar = keep_top_bar(&self.pool.values(Statistic::LowestGroup), self.settings.keep_top);
        let mut vote = RunningVote::new(self.settings.vote);
        for voter in self.pool.voters(PoolKind::Filtered, self.filter()) {
            vote.add(&voter);
        }
        self.vote = Some(vote);
        if self.consensus_reached() {
            return self.conclude();
        }
        match self.budget - self.warmup {
            0 => Next::Wait,
            rest => Next::Launch(rest),
        }
    }

    fn decide(&self) -> Decision {
        let pool = self.pool.settled();
        let s = &self.settings;
        let mut decision = pool.decide(s.vote, self.filter(), s.min_votes, s.consensus.share().is_some());
        if self.warmups_ended == self.warmup && self.warmup > 0 && self.bar.is_none() {
            decision
                .warnings
                .push("no warm-up trace has a confidence: nothing was stopped or filtered".to_owned());
        }
        decision.warnings.extend(pool.window_warning());
        if self.budget > 0 && self.warmup == self.budget {
            // that few of so few traces pass the bar says nothing more
            decision.warnings.retain(|w| !w.starts_with(FILTERED));
            let all = match self.budget {
                1 => "the only trace is".to_owned(),
                n => format!("all {n} traces are"),
            };
            decision.warnings.push(format!(
                "{all} warm-up, so none could be stopped: more than {} traces, or a smaller warmup, make this \
                 strategy save",
                self.settings.warmup
            ));
        }
        decision
    }

    fn leading(&self) -> Option<(ClassId, f64)> {
        self.pool.leading(self.settings.vote, self.filter())
    }

    fn threshold(&self) -> Option<f64> {
        self.bar
    }

    fn window(&self) -> Option<usize> {
        self.pool.window()
    }
}
