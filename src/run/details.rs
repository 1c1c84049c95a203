//! The confidences of a problem's traces as they run, for those who draw them.

use std::collections::BTreeMap;

use tts_strategies::TraceId;
use tts_strategies::windows::GroupWindow;

use super::{Details, Phase, ProblemRun, TraceDetails, TraceRecord};

/// Tokens that a mean is taken over until the strategy has a window of its own.
const WINDOW: usize = 32;
/// Most points of a trace at a time.
const POINTS: usize = 8;

/// How many tokens of each trace, and how many ended traces, were sent to watchers.
#[derive(Default)]
pub(crate) struct SentDetails {
    tokens: BTreeMap<TraceId, usize>,
    ended: u64,
}

impl SentDetails {
    /// What is new in the traces in flight, and in the vote.
    pub(crate) fn now(&mut self, problem: &ProblemRun) -> Details {
        let window = window(problem);
        let mut traces = Vec::new();
        for trace in problem.live() {
            let from = self.tokens.insert(trace.id(), trace.tokens()).unwrap_or(0);
            let points = points(trace.confidences(), from, window);
            if !points.is_empty() {
                traces.push(TraceDetails {
                    trace: trace.id(),
                    warmup: problem.strategy().is_warmup(trace.id()),
                    points,
                });
            }
        }
        let ended = problem.traces().total();
        let changed = std::mem::replace(&mut self.ended, ended) != ended;
        Details {
            problem: problem.id().to_owned(),
            window,
            traces,
            ballots: changed.then(|| problem.ballots()),
        }
    }

    /// The last stretch of a trace that ended.
    pub(crate) fn ended(&mut self, record: &TraceRecord, problem: &ProblemRun) -> Details {
        let from = self.tokens.remove(&record.trace).unwrap_or(0);
        let window = window(problem);
        Details {
            problem: problem.id().to_owned(),
            window,
            traces: vec![TraceDetails {
                trace: record.trace,
                warmup: record.phase == Phase::Warmup,
                points: points(&record.arrays.confidence, from, window),
            }],
            ballots: None,
        }
    }
}

fn window(problem: &ProblemRun) -> usize {
    problem.bar().1.unwrap_or(WINDOW)
}

/// The mean of the last `window` confidences (of all, before there are as many) at some tokens after `from`,
/// the last one among them.
fn points(confidences: &[f32], from: usize, window: usize) -> Vec<(usize, f32)> {
    let to = confidences.len();
    if from >= to {
        return Vec::new();
    }
    let stride = (to - from).div_ceil(POINTS);
    let begin = (from + 1).saturating_sub(window);
    let mut groups = GroupWindow::new(window.min(to));
    let (mut sum, mut found) = (0.0, Vec::with_capacity(POINTS));
    for (i, c) in confidences[begin..].iter().enumerate() {
        let full = groups.push(*c);
        sum += f64::from(*c);
        let tokens = begin + i + 1;
        if tokens > from && (to - tokens).is_multiple_of(stride) {
            found.push((tokens, full.unwrap_or(sum / (i + 1) as f64) as f32));
        }
    }
    // an engine elsewhere may give none
    found.retain(|point| point.1.is_finite());
    found
}

#[cfg(test)]
mod tests {
    use super::{POINTS, points};

    #[test]
    fn points_are_means_over_the_window_and_end_with_the_newest_token() {
        let c: Vec<f32> = (1..=100).map(|i| i as f32).collect();
        for (from, to, window) in [
            (0, 1, 4),
            (0, 100, 8),
            (40, 100, 8),
            (97, 100, 32),
            (3, 5, 1),
            (0, 7, 100),
        ] {
            let found = points(&c[..to], from, window);
            assert!(!found.is_empty() && found.len() <= POINTS, "{found:?}");
            assert_eq!(found.last().unwrap().0, to);
            for (tokens, mean) in found {
                assert!(tokens > from && tokens <= to);
                let slow = &c[tokens.saturating_sub(window)..tokens];
                let slow = slow.iter().sum::<f32>() / slow.len() as f32;
                assert!(
                    (mean - slow).abs() < 1e-4,
                    "{from}..{to}, window {window}: {mean} at {tokens}, not {slow}"
                );
            }
        }
        assert!(points(&c, 100, 8).is_empty());
        assert!(points(&[], 0, 8).is_empty());
    }
}
