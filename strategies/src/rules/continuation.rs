//! Continuation: a few whole traces, and while they leave the problem open others that go on from late points of the
//! better ones where confidence dips, in the place of others from the beginning.
//!
//! The idea is Fork-Think's (arXiv 2606.31484), of which the rule is not public; this one is ours. A fork costs the
//! tokens after its point alone, and shares what comes before with its kin: their votes are worth less than those of
//! strangers, and the certainty knows it. The stop and the weights are those of `adaptive`.

use std::collections::BTreeMap;

use super::ContinuationSettings;
use super::leader::Leader;
use super::lineage::{Lineage, next_point};
use crate::interface::{Decision, Fork, Limits, Needs, Next, TraceId, TraceOutcome};
use crate::trace_pool::TracePool;
use crate::whole_traces::WholeTraces;

#[derive(Clone, Debug)]
pub(super) struct Continuation {
    settings: ContinuationSettings,
    leader: Leader,
    lineage: Lineage,
    /// the points of the whole traces that voted, the one of the deepest dip first
    points: BTreeMap<TraceId, Vec<usize>>,
    /// traces that were launched, and that may be
    launched: usize,
    most: usize,
    /// whole traces that have yet to end
    open: usize,
    /// whether the forks were asked for
    forked: bool,
    voters: usize,
    done: bool,
}

impl Continuation {
    pub(super) fn new(settings: ContinuationSettings) -> Self {
        Self {
            leader: Leader::new(settings.statistic, settings.sharpness, settings.min_votes),
            settings,
            lineage: Lineage::default(),
            points: BTreeMap::new(),
            launched: 0,
            most: 0,
            open: 0,
            forked: false,
            voters: 0,
            done: false,
        }
    }

    /// Where a whole trace may be forked, in the order of the mean confidence of the tokens up to the next such
    /// place: what is drawn again first is what the model was least sure of.
    fn points_of(&self, outcome: &TraceOutcome<'_>) -> Vec<usize> {
        let spacing = self.settings.spacing;
        let from = (outcome.tokens as f64 * self.settings.from).ceil() as usize;
        let mut points: Vec<(f64, usize)> = (1..)
            .map(|i| i * spacing)
            .skip_while(|at| *at < from)
            .take_while(|at| *at < outcome.tokens)
            .map(|at| {
                let end = outcome.tokens.min(at + spacing);
                let after = outcome.confidences.get(at..end).unwrap_or_default();
                let sum: f64 = after.iter().map(|c| f64::from(*c)).sum();
                (sum / after.len() as f64, at)
            })
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        points.into_iter().map(|(_, at)| at).collect()
    }

    /// Gives each of the next `n` traces its point: the better traces in turn, each at its deepest dip first. Where no
    /// trace is long enough for a point they begin after the prompt.
    fn assign(&mut self, pool: &TracePool, n: usize) {
        let pool = pool.knowing(self.settings.statistic);
        let mut whole: Vec<(Option<f64>, TraceId)> = self
            .points
            .iter()
            .filter(|(_, points)| !points.is_empty())
            .map(|(trace, _)| {
                (
                    pool.scores(*trace).and_then(|s| s.get(self.settings.statistic)),
                    *trace,
                )
            })
            .collect();
        whole.sort_by(|a, b| {
            let of = |score: Option<f64>| score.unwrap_or(f64::NEG_INFINITY);
            of(b.0).total_cmp(&of(a.0)).then(a.1.cmp(&b.1))
        });
        let better = (whole.len() as f64 * self.settings.keep_top).ceil() as usize;
        whole.truncate(better);
        for i in 0..n {
            let Some((_, trace)) = whole.get(i % whole.len().max(1)) else {
                return;
            };
            let points = &self.points[trace];
            let tokens = points[i / whole.len() % points.len()];
            let fork = Fork {
                trace: *trace,
                tokens,
            };
            self.lineage.add((self.launched + i) as TraceId, fork);
        }
    }

    /// The forks, once the whole traces have ended and left the problem open.
    fn fork(&mut self, pool: &TracePool) -> Next {
        self.forked = true;
        let wanted = self.settings.most.saturating_sub(self.voters);
        let n = wanted.min(self.most - self.launched);
        self.assign(pool, n);
        self.launched += n;
        Next::Launch(n)
    }

    /// Another in the place of one that said nothing, as long as there is one: from the same point.
    fn replace(&mut self, trace: TraceId) -> Next {
        if self.launched == self.most {
            return Next::Wait;
        }
        match self.lineage.fork_of(trace) {
            Some(fork) => self.lineage.add(self.launched as TraceId, fork),
            None => self.open += 1,
        }
        self.launched += 1;
        Next::Launch(1)
    }
}

impl WholeTraces for Continuation {
    fn needs(&self) -> Needs {
        Needs {
            confidence: true,
            forks: true,
            ..Needs::default()
        }
    }

    fn begin(&mut self, limits: &Limits) -> usize {
        self.most = limits.traces;
        self.launched = self.most.min(self.settings.seeds).min(self.settings.most);
        self.open = self.launched;
        self.launched
    }

    fn fork_of(&self, trace: TraceId) -> Option<Fork> {
        self.lineage.fork_of(trace)
    }

    fn fork_point(&self, trace: TraceId, tokens: usize) -> Option<usize> {
        // only whole traces are forked, once
        (!self.forked && self.lineage.fork_of(trace).is_none())
            .then(|| next_point(self.settings.spacing, tokens))
    }

    fn finished(&mut self, pool: &mut TracePool, outcome: &TraceOutcome<'_>) -> Next {
        if self.done || !pool.enter(outcome) {
            return if self.done { Next::Done } else { Next::Wait };
        }
        let whole = self.lineage.fork_of(outcome.trace).is_none();
        self.open = self.open.saturating_sub(usize::from(whole));
        if pool.vote_of(outcome).is_some() {
            self.voters += 1;
            if whole {
                self.points.insert(outcome.trace, self.points_of(outcome));
            }
        } else if let Next::Launch(n) = self.replace(outcome.trace) {
            return Next::Launch(n);
        }
        let kinship = |a, b| self.lineage.kinship((a, pool.tokens(a)), (b, pool.tokens(b)));
        let certainty = self.leader.certainty(pool, self.voters, None, Some(&kinship));
        self.done = self.voters >= self.settings.most || certainty >= self.settings.certainty;
        if self.done {
            Next::Done
        } else if !self.forked && self.open == 0 {
            self.fork(pool)
        } else {
            Next::Wait
        }
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        self.leader.decide(pool, None, "continuation")
    }
}
