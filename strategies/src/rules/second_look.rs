//! A second look: `adaptive`, and where its vote ends without a certain leader a second prompt that shows the model
//! what it came to, from which further traces answer.
//!
//! One round of what RSA (arXiv 2509.26626) does ten times and GenSelect once: a trace that reads others can do what
//! no vote can, find that all of them are wrong, and can be misled by them. Which solutions are shown is a function of
//! the pool.

use super::adaptive::Adaptive;
use super::leader::Leader;
use super::{AdaptiveSettings, SecondLookSettings};
use crate::interface::{Decision, Limits, Needs, Next, TraceId, TraceOutcome};
use crate::trace_pool::{Filter, TracePool};
use crate::whole_traces::WholeTraces;

#[derive(Clone, Debug)]
pub(super) struct SecondLook {
    settings: SecondLookSettings,
    first: Adaptive,
    /// of the second traces, where these vote alone
    leader: Leader,
    launched: usize,
    most: usize,
    /// the first trace of the second prompt, once there is one
    from: Option<TraceId>,
    shown: Vec<TraceId>,
    voters: usize,
}

impl SecondLook {
    pub(super) fn new(settings: SecondLookSettings) -> Self {
        let first = AdaptiveSettings {
            window: settings.window,
            min_votes: settings.min_votes,
            statistic: settings.statistic,
            certainty: settings.certainty,
            certainty_last: settings.certainty,
            most: settings.most,
            sharpness: settings.sharpness,
            count_truncated: settings.count_truncated,
        };
        Self {
            first: Adaptive::new(first),
            leader: Leader::new(settings.statistic, settings.sharpness, settings.min_votes),
            settings,
            launched: 0,
            most: 0,
            from: None,
            shown: Vec::new(),
            voters: 0,
        }
    }

    /// The traces of the second prompt, where these vote alone and any of them has voted.
    fn filter(&self) -> Option<Filter> {
        let alone = !self.settings.join && self.voters > 0;
        self.from
            .filter(|_| alone)
            .map(|from| Filter::Range(from, TraceId::MAX))
    }

    fn look(&mut self, pool: &TracePool, left: usize) -> Next {
        let looks = self.settings.looks.min(left);
        self.shown = self.first.leader().spokesmen(pool, self.settings.show);
        if looks == 0 || self.shown.is_empty() {
            return Next::Done;
        }
        self.from = Some(self.launched as TraceId);
        self.launched += looks;
        Next::Launch(looks)
    }
}

impl WholeTraces for SecondLook {
    fn needs(&self) -> Needs {
        Needs {
            looks: true,
            ..self.first.needs()
        }
    }

    fn begin(&mut self, limits: &Limits) -> usize {
        self.most = limits.traces;
        self.launched = self.first.begin(limits);
        self.launched
    }

    fn shown(&self, trace: TraceId) -> &[TraceId] {
        match self.from {
            Some(from) if trace >= from => &self.shown,
            _ => &[],
        }
    }

    fn finished(&mut self, pool: &mut TracePool, outcome: &TraceOutcome<'_>) -> Next {
        if self.from.is_none() {
            let next = self.first.finished(pool, outcome);
            if let Next::Launch(n) = next {
                self.launched += n;
            }
            return match self.first.left_open() {
                Some(left) => self.look(pool, left),
                None => next,
            };
        }
        pool.enter(outcome);
        if pool.vote_of(outcome).is_none() {
            return Next::Wait;
        }
        self.voters += 1;
        let filter = self.filter();
        let (leader, voters) = match filter {
            Some(_) => (&mut self.leader, self.voters),
            None => (self.first.leader(), self.launched),
        };
        let certain = leader.certainty(pool, voters, filter, None) >= self.settings.certainty;
        if certain { Next::Done } else { Next::Wait }
    }

    fn decide(&self, pool: &TracePool) -> Decision {
        let mut decision = self.leader.decide(pool, self.filter(), "second look");
        let open = !self.first.is_certain() && self.from.is_none();
        if open && self.most <= self.launched {
            decision.warnings.push(format!(
                "the vote is open and there was no trace left for a second look: more than {} traces make room \
                 for one",
                self.most
            ));
        }
        decision
    }
}
