//! Drives a strategy in lockstep over traces that are known in advance, by the rules of the run's clock: one
//! tick is one token of every live trace; all tokens of a tick are booked, then handled by ascending index; a
//! freed slot takes the next trace.

use std::collections::BTreeMap;

use tts_strategies::{
    ClassId, Decision, Fate, Finish, Limits, Next, Overrides, Preset, Step, Strategy, TokenScalars,
    TraceOutcome,
};

/// A complete trace: what it would do if nobody stopped it.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) confidences: Vec<f32>,
    pub(crate) class: Option<u32>,
    pub(crate) finish: Finish,
}

impl Script {
    pub(crate) fn new(class: u32, confidence: f32, tokens: usize) -> Self {
        Self {
            confidences: vec![confidence; tokens],
            class: Some(class),
            finish: Finish::Stop,
        }
    }

    pub(crate) fn ends(self, finish: Finish) -> Self {
        Self { finish, ..self }
    }

    pub(crate) fn silent(self) -> Self {
        Self { class: None, ..self }
    }
}

/// What happened in a simulated run: decisions, and what became of each trace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    pub(crate) decision: Decision,
    /// Per launched trace: fate and tokens.
    pub(crate) traces: BTreeMap<u32, (Fate, usize)>,
    /// Per launched trace: the number of traces that had ended, and the bar, when it took its slot.
    pub(crate) at_launch: BTreeMap<u32, (usize, Option<f64>)>,
    pub(crate) done: bool,
    pub(crate) generated: usize,
}

impl Run {
    pub(crate) fn count(&self, fate: Fate) -> usize {
        self.traces.values().filter(|t| t.0 == fate).count()
    }

    pub(crate) fn answer(&self) -> Option<u32> {
        self.decision.answer.map(|c| c.0)
    }
}

/// Runs `strategy` over `scripts` (the budget is their number) with `slots` traces in flight.
pub(crate) fn run(strategy: &mut dyn Strategy, scripts: &[Script], slots: usize) -> Run {
    let limits = Limits {
        traces: scripts.len(),
        slots,
        max_tokens: 1 << 20,
    };
    let mut queued = strategy.begin(&limits);
    let (mut traces, mut at_launch) = (BTreeMap::new(), BTreeMap::new());
    let mut live: Vec<(u32, usize)> = Vec::new();
    let (mut next, mut generated, mut done) = (0u32, 0, false);
    loop {
        while queued > 0 && live.len() < slots {
            assert!((next as usize) < scripts.len(), "launched beyond the budget");
            at_launch.insert(next, (traces.len(), strategy.threshold()));
            live.push((next, 0));
            (next, queued) = (next + 1, queued - 1);
        }
        if live.is_empty() {
            break;
        }
        for (trace, tokens) in &mut live {
            let more = usize::from(*tokens < scripts[*trace as usize].confidences.len());
            *tokens += more;
            generated += more;
        }
        for (trace, tokens) in live.clone() {
            let script = &scripts[trace as usize];
            let step = match tokens.checked_sub(1) {
                Some(i) => strategy.observe(
                    trace,
                    &TokenScalars {
                        confidence: script.confidences[i],
                        logprob: -0.5,
                    },
                ),
                None => Step::Continue,
            };
            let finish = if tokens == script.confidences.len() {
                script.finish
            } else if step == Step::Stop {
                Finish::LowConfidence
            } else {
                continue;
            };
            live.retain(|l| l.0 != trace);
            traces.insert(trace, (finish.fate(strategy.is_warmup(trace)), tokens));
            let outcome = TraceOutcome {
                trace,
                finish,
                tokens,
                class: script.class.map(ClassId),
                confidences: &script.confidences[..tokens],
                logprobs: &[],
                entropies: &[],
                self_certainty: None,
                measured: None,
            };
            match strategy.finished(&outcome) {
                Next::Launch(n) => queued += n,
                Next::Done => {
                    traces.extend(live.drain(..).map(|(t, n)| (t, (Fate::Cancelled, n))));
                    (queued, done) = (0, true);
                    break;
                }
                _ => {}
            }
        }
    }
    assert_eq!(
        generated,
        traces.values().map(|t| t.1).sum::<usize>(),
        "every token is booked once"
    );
    assert!(
        // one that makes traces of others may have none to make them of
        done || traces.len() == scripts.len() || strategy.needs().makes_traces(),
        "a run ends by a decision or with its whole budget"
    );
    Run {
        decision: strategy.decide(),
        traces,
        at_launch,
        done,
        generated,
    }
}

/// A preset with settings over it.
pub(crate) fn build(name: &str, overrides: Overrides) -> Box<dyn Strategy> {
    let mut preset = Preset::named(name).unwrap();
    preset.apply(&overrides).unwrap();
    preset.build()
}
