//! A trace's statistics without its tokens: what a replay needs to decide over a trace that is far too long,
//! or one of far too many, to be read again.

use crate::scores::{TokenSeries, TraceScores};
use crate::windows::GroupWindow;

/// The statistics of one trace for some group sizes.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TraceStatistics {
    /// Mean confidence over the trace.
    pub mean: Option<f64>,
    /// Sum of the log-probabilities of the sampled tokens.
    pub sequence_logprob: Option<f64>,
    /// Mean of the same.
    pub mean_logprob: Option<f64>,
    /// Self-certainty of the trace.
    pub self_certainty: Option<f64>,
    /// One for each group size, ascending.
    pub windows: Vec<WindowStatistics>,
}

/// What depends on the group size.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct WindowStatistics {
    /// Group size in tokens.
    pub window: usize,
    /// Mean confidence of the trace's end in nats, see [`TraceScores::tail`].
    pub tail: f64,
    /// Mean of the lowest groups in nats, see [`TraceScores::bottom`].
    pub bottom: f64,
    /// The lowest group confidence in nats, see [`TraceScores::lowest_group`].
    pub lowest_group: f64,
    /// Mean entropy of the trace's end in nats, see [`TraceScores::tail_entropy`].
    pub tail_entropy: Option<f64>,
    /// Every group that was lower than all before it: the number of tokens at its end, and its mean. Enough
    /// to say where the trace first fell below any bar.
    pub minima: Vec<(u32, f64)>,
}

impl WindowStatistics {
    fn new(confidences: &[f32], window: usize, scores: &TraceScores) -> Option<Self> {
        let mut minima: Vec<(u32, f64)> = Vec::new();
        if confidences.len() >= window {
            let mut groups = GroupWindow::new(window);
            for (i, confidence) in confidences.iter().enumerate() {
                match groups.push(*confidence) {
                    Some(group) if minima.last().is_none_or(|(_, lowest)| group < *lowest) => {
                        minima.push((i as u32 + 1, group))
                    }
                    _ => {}
                }
            }
        }
        Some(Self {
            window,
            tail: scores.tail?,
            bottom: scores.bottom?,
            lowest_group: scores.lowest_group?,
            tail_entropy: scores.tail_entropy,
            minima,
        })
    }
}

impl TraceStatistics {
    /// Measures a trace.
    pub fn new(series: &TokenSeries<'_>, self_certainty: Option<f64>, windows: &[usize]) -> Self {
        let scores = TraceScores::new(series, self_certainty, None);
        let without = TokenSeries {
            logprobs: &[],
            ..*series
        };
        let windowed = |w: &usize| {
            WindowStatistics::new(
                series.confidences,
                *w,
                &TraceScores::new(&without, None, Some(*w)),
            )
        };
        Self {
            mean: scores.mean,
            sequence_logprob: scores.sequence_logprob,
            mean_logprob: scores.mean_logprob,
            self_certainty: scores.self_certainty,
            windows: windows.iter().filter_map(windowed).collect(),
        }
    }

    fn at(&self, window: usize) -> Option<&WindowStatistics> {
        self.windows.iter().find(|w| w.window == window)
    }

    /// The scores for a group size, equal to the last bit to [`TraceScores::new`]; those that depend on it
    /// are left out where it was not measured.
    pub fn scores(&self, window: Option<usize>) -> TraceScores {
        let windowed = window.and_then(|w| self.at(w));
        TraceScores {
            mean: self.mean,
            tail: windowed.map(|w| w.tail),
            bottom: windowed.map(|w| w.bottom),
            lowest_group: windowed.map(|w| w.lowest_group),
            sequence_logprob: self.sequence_logprob,
            mean_logprob: self.mean_logprob,
            self_certainty: self.self_certainty,
            tail_entropy: windowed.and_then(|w| w.tail_entropy),
        }
    }

    /// The number of tokens after which a full window was first below the bar, `Some(None)` if it never was;
    /// `None` where that was not measured.
    pub fn first_below(&self, window: usize, bar: f64) -> Option<Option<usize>> {
        if self.mean.is_none() && self.windows.is_empty() {
            return Some(None);
        }
        let minima = &self.at(window)?.minima;
        // they fall from one to the next
        let first = minima.partition_point(|(_, group)| *group >= bar);
        Some(minima.get(first).map(|(tokens, _)| *tokens as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn scores_and_crossings_are_those_of_the_tokens(
            confidences in prop::collection::vec(prop_oneof![9 => 3.0f32..20.0, 1 => Just(f32::NAN)], 0..200),
            window in 1usize..40,
            bar in 3.0f64..20.0,
        ) {
            let logprobs = vec![-0.5; confidences.len()];
            let series = TokenSeries { confidences: &confidences, logprobs: &logprobs, entropies: &confidences };
            let measured = TraceStatistics::new(&series, Some(0.25), &[window, 64]);
            let slow = |window| TraceScores::new(&series, Some(0.25), window);
            prop_assert_eq!(measured.scores(Some(window)), slow(Some(window)));
            prop_assert_eq!(measured.scores(None), slow(None));
            let mut groups = GroupWindow::new(window);
            let below = |c: &f32| groups.push(*c).is_some_and(|g| g < bar);
            let crossed = confidences.iter().position(below).map(|i| i + 1);
            prop_assert_eq!(measured.first_below(window, bar), Some(crossed));
        }
    }

    #[test]
    fn what_was_not_measured_is_not_known() {
        let series = TokenSeries {
            confidences: &[4.0, 5.0],
            ..TokenSeries::default()
        };
        let measured = TraceStatistics::new(&series, None, &[2]);
        assert_eq!(measured.first_below(3, 9.0), None);
        assert_eq!(measured.scores(Some(3)), TraceScores::new(&series, None, None));
        assert_eq!(
            TraceStatistics::new(&TokenSeries::default(), None, &[2]).first_below(2, 9.0),
            Some(None),
            "no confidence, no bar to fall below"
        );
    }
}
