//! Particles: traces that run side by side and are resampled by their probability on the way, so that what the model
//! itself finds unlikely makes room for copies of what it finds likely.
//!
//! Power-SMC (arXiv 2602.10273) draws from the model's distribution of whole traces raised to a power: a trace's
//! weight grows by `(alpha - 1) log p` with each token. When the effective number of the traces in flight falls below
//! a share of them, they are resampled by weight (systematically, which needs no random number where the offset is
//! fixed), and each then weighs their mean. What has ended is resampled no more. The vote is by weight.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ParticlesSettings;
use super::lineage::{Lineage, next_point};
use crate::interface::{
    ClassId, Decision, Fork, Limits, Needs, Next, Step, Strategy, TokenScalars, TraceId, TraceOutcome,
    Watching,
};
use crate::trace_pool::{DecisionRule, SETTLE_AFTER, TracePool};
use crate::vote::{Tally, VoteKind, Voter};

/// A trace in flight.
#[derive(Clone, Copy, Debug)]
struct Particle {
    tokens: usize,
    /// logarithm of its weight, to its newest token
    weight: f64,
    /// the same at the point where the traces are next compared, once it was there
    at_point: Option<f64>,
}

#[derive(Clone, Debug)]
pub(super) struct Particles {
    name: String,
    settings: ParticlesSettings,
    pool: TracePool,
    lineage: Lineage,
    /// traces that were launched, and that may be
    launched: usize,
    most: usize,
    side_by_side: usize,
    in_flight: usize,
    /// whether any trace has voted
    answered: bool,
    live: BTreeMap<TraceId, Particle>,
    /// tokens at which they are next compared
    point: usize,
    /// those that end with their next token, to make room
    leaving: BTreeSet<TraceId>,
    /// copies that wait for that room, with their weights
    copies: VecDeque<(Fork, f64)>,
    /// weights of copies that were launched and have drawn nothing yet
    begun: BTreeMap<TraceId, f64>,
    /// logarithms of the weights of those that ended
    ended: BTreeMap<TraceId, f64>,
}

impl Particles {
    pub(super) fn new(name: impl Into<String>, settings: ParticlesSettings) -> Self {
        Self {
            name: name.into(),
            pool: TracePool::new(settings.window, SETTLE_AFTER, settings.count_truncated),
            lineage: Lineage::default(),
            launched: 0,
            most: 0,
            side_by_side: 0,
            in_flight: 0,
            answered: false,
            live: BTreeMap::new(),
            point: settings.spacing,
            leaving: BTreeSet::new(),
            copies: VecDeque::new(),
            begun: BTreeMap::new(),
            ended: BTreeMap::new(),
            settings,
        }
    }

    fn launch(&mut self, wanted: usize) -> Next {
        let n = wanted.min(self.most - self.launched);
        self.launched += n;
        self.in_flight += n;
        if n == 0 { Next::Wait } else { Next::Launch(n) }
    }

    /// Compares the traces in flight once all of them have been at the point, and resamples them where few of them
    /// weigh much.
    fn compare(&mut self) {
        while !self.live.is_empty() && self.live.values().all(|p| p.at_point.is_some()) {
            let at: Vec<(TraceId, f64)> = self
                .live
                .iter()
                .map(|(trace, p)| (*trace, p.at_point.unwrap_or_default()))
                .collect();
            let point = self.point;
            self.point += self.settings.spacing;
            self.resample(&at, point);
            let next = self.point;
            for particle in self.live.values_mut() {
                // none is beyond two points: it would have been compared
                particle.at_point = (particle.tokens >= next).then_some(particle.weight);
            }
        }
    }

    fn resample(&mut self, at: &[(TraceId, f64)], point: usize) {
        let top = at.iter().map(|(_, w)| *w).fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = at.iter().map(|(_, w)| (w - top).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let squares: f64 = weights.iter().map(|w| w * w).sum();
        let n = at.len() as f64;
        let few = sum * sum / squares < self.settings.resample_below * n;
        // copies count as traces
        let room = self.most - self.launched - self.copies.len();
        let copies = systematic(&weights);
        let wanted: usize = copies.iter().map(|c| c.saturating_sub(1)).sum();
        if !few || !sum.is_finite() || wanted > room {
            return;
        }
        // each weighs the mean of all from here on, and what it has gained since
        let mean = top + (sum / n).ln();
        for ((trace, weight), copies) in at.iter().zip(copies) {
            if copies == 0 {
                self.leaving.insert(*trace);
                self.live.remove(trace);
                continue;
            }
            if let Some(particle) = self.live.get_mut(trace) {
                particle.weight += mean - weight;
            }
            let fork = Fork {
                trace: *trace,
                tokens: point,
            };
            self.copies.extend((1..copies).map(|_| (fork, mean)));
        }
    }
}

/// How many copies of each are in a systematic resample with these weights, of as many as there are.
fn systematic(weights: &[f64]) -> Vec<usize> {
    let sum: f64 = weights.iter().sum();
    let n = weights.len();
    let (mut reached, mut taken) = (0.0, 0usize);
    let mut copies: Vec<usize> = weights
        .iter()
        .map(|weight| {
            reached += weight / sum * n as f64;
            // the places are 1/2, 3/2, ..., n - 1/2
            let upto = ((reached + 0.5).floor() as usize).min(n);
            let own = upto - taken.min(upto);
            taken = taken.max(upto);
            own
        })
        .collect();
    // rounding may leave the last place free
    if let Some(last) = copies.last_mut() {
        *last += n - taken;
    }
    copies
}

impl Strategy for Particles {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs(&self) -> Needs {
        Needs {
            logprob: true,
            forks: true,
            ..Needs::default()
        }
    }

    fn begin(&mut self, limits: &Limits) -> usize {
        *self = Self::new(std::mem::take(&mut self.name), self.settings);
        self.most = limits.traces;
        // they are compared while they run, so all of them do
        self.side_by_side = limits.traces.min(self.settings.most).min(limits.slots);
        self.launch(self.side_by_side);
        self.side_by_side
    }

    fn fork_of(&self, trace: TraceId) -> Option<Fork> {
        self.lineage.fork_of(trace)
    }

    fn fork_point(&self, _: TraceId, tokens: usize) -> Option<usize> {
        Some(next_point(self.settings.spacing, tokens))
    }

    fn watching(&self, _: TraceId) -> Watching {
        Watching::EveryToken
    }

    fn observe(&mut self, trace: TraceId, token: &TokenScalars) -> Step {
        if self.leaving.contains(&trace) {
            return Step::Stop;
        }
        let fork = self.lineage.fork_of(trace);
        let begun = &mut self.begun;
        let particle = self.live.entry(trace).or_insert_with(|| Particle {
            tokens: fork.map_or(0, |fork| fork.tokens),
            weight: begun.remove(&trace).unwrap_or(0.0),
            at_point: None,
        });
        particle.tokens += 1;
        particle.weight += (self.settings.alpha - 1.0) * f64::from(token.logprob);
        if particle.tokens >= self.point && particle.at_point.is_none() {
            particle.at_point = Some(particle.weight);
            self.compare();
        }
        Step::Continue
    }

    fn finished(&mut self, outcome: &TraceOutcome<'_>) -> Next {
        let entered = self.pool.enter(outcome);
        self.in_flight = self.in_flight.saturating_sub(usize::from(entered));
        self.answered |= self.pool.vote_of(outcome).is_some();
        let left = self.leaving.remove(&outcome.trace);
        if let Some(particle) = self.live.remove(&outcome.trace) {
            // it may have ended with the very token after which it was to be copied: then it stands for its copies
            let before = self.copies.len();
            let (trace, tokens) = (outcome.trace, outcome.tokens);
            self.copies
                .retain(|(fork, _)| fork.trace != trace || fork.tokens < tokens);
            let stands_for = 1 + before - self.copies.len();
            self.ended
                .insert(trace, particle.weight + (stands_for as f64).ln());
            self.compare();
        }
        if self.live.is_empty() && self.copies.is_empty() {
            // those that come now begin anew
            self.point = self.settings.spacing;
        }
        if self.in_flight == 0 && !self.answered {
            // none of them said anything: as many again, as long as there are some
            return self.launch(self.side_by_side);
        }
        match self.copies.pop_front().filter(|_| left) {
            Some((fork, weight)) => {
                let trace = self.launched as TraceId;
                self.lineage.add(trace, fork);
                self.begun.insert(trace, weight);
                self.launch(1)
            }
            None => Next::Wait,
        }
    }

    fn decide(&self) -> Decision {
        let hold = |voters: &[Voter]| {
            let known = voters
                .iter()
                .filter_map(|v| Some((v, *self.ended.get(&v.trace)?)));
            let top = known.clone().map(|(_, w)| w).fold(f64::NEG_INFINITY, f64::max);
            Tally::count(known.map(|(v, w)| (v.trace, v.class, (w - top).exp())))
        };
        let mut decision = self.pool.settled().decide_by(&DecisionRule {
            filter: None,
            min_votes: 1,
            consensus: false,
            name: "particles",
            hold: &hold,
        });
        if self.side_by_side < self.settings.most.min(self.most) {
            decision.warnings.push(format!(
                "traces side by side, one a slot: {}; with more slots there are more to choose from",
                self.side_by_side
            ));
        } else if self.side_by_side == self.most {
            decision.warnings.push(format!(
                "copies count as traces, and with {} traces in all there is none left to copy: more traces make room",
                self.most
            ));
        }
        decision
    }

    fn leading(&self) -> Option<(ClassId, f64)> {
        self.pool.leading(VoteKind::Majority, None)
    }

    fn window(&self) -> Option<usize> {
        self.pool.window()
    }
}

#[cfg(test)]
mod tests {
    use super::systematic;

    #[test]
    fn a_systematic_resample_keeps_the_number_and_the_proportions() {
        assert_eq!(systematic(&[1.0; 4]), [1; 4]);
        assert_eq!(systematic(&[0.0, 8.0, 0.0, 0.0]), [0, 4, 0, 0]);
        assert_eq!(systematic(&[3.0, 1.0]), [2, 0]);
        assert_eq!(systematic(&[0.3, 0.3, 0.4]), [1, 1, 1]);
        let weights: Vec<f64> = (0..64).map(|i| f64::from(i % 7).exp()).collect();
        let copies = systematic(&weights);
        assert_eq!(copies.iter().sum::<usize>(), 64);
        let sum: f64 = weights.iter().sum();
        for (copies, weight) in copies.iter().zip(&weights) {
            assert!(
                (*copies as f64 - 64.0 * weight / sum).abs() <= 1.0,
                "{copies} {weight}"
            );
        }
    }
}
