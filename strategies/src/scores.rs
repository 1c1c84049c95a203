//! What remains of a trace when its tokens are gone: one number per statistic.

use serde::{Deserialize, Serialize};

use crate::windows;

/// The share of the lowest groups that the bottom statistic averages (arXiv 2508.15260, section 3: "bottom
/// 10%").
pub const BOTTOM_FRACTION: f64 = 0.1;

/// The numbers of a trace's tokens, one each; a slice is empty where they were not measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenSeries<'a> {
    /// Confidences in nats.
    pub confidences: &'a [f32],
    /// Log-probabilities of the sampled tokens.
    pub logprobs: &'a [f32],
    /// Entropies in nats of the 20 likeliest ids.
    pub entropies: &'a [f32],
}

/// The statistics of one trace. A field is `None` where the source of traces did not have the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TraceScores {
    /// Mean confidence over the trace.
    pub mean: Option<f64>,
    /// Mean confidence of the last `window` tokens.
    pub tail: Option<f64>,
    /// Mean of the lowest tenth of the groups.
    pub bottom: Option<f64>,
    /// The lowest mean confidence of any `window` tokens in a row, nats.
    pub lowest_group: Option<f64>,
    /// Sum of the log-probabilities of the sampled tokens.
    pub sequence_logprob: Option<f64>,
    /// The same divided by the number of tokens: the logarithm of the geometric mean of their probabilities.
    pub mean_logprob: Option<f64>,
    /// Mean over tokens of `-(1/V) sum_j log p_j - log V` (arXiv 2502.18581).
    pub self_certainty: Option<f64>,
    /// Mean entropy of the last `window` tokens, nats (arXiv 2606.08850): low where the end was sure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail_entropy: Option<f64>,
}

impl TraceScores {
    /// Scores of a trace. `window` is the size of a group and of the tail, in tokens; without one the statistics that need it
    /// are left out.
    pub fn new(series: &TokenSeries<'_>, self_certainty: Option<f64>, window: Option<usize>) -> Self {
        let TokenSeries {
            confidences,
            logprobs,
            entropies,
        } = *series;
        let measured = confidences.iter().any(|c| c.is_finite());
        let windowed = window.filter(|_| measured);
        let groups = windowed.map(|w| windows::lowest_and_bottom(confidences, w, BOTTOM_FRACTION));
        let sum: f64 = logprobs.iter().map(|&p| f64::from(p)).sum();
        Self {
            mean: measured.then(|| windows::mean(confidences)),
            tail: windowed.map(|w| windows::tail(confidences, w)),
            bottom: groups.map(|g| g.1),
            lowest_group: groups.map(|g| g.0),
            sequence_logprob: (!logprobs.is_empty() && sum.is_finite()).then_some(sum),
            mean_logprob: (!logprobs.is_empty() && sum.is_finite()).then(|| sum / logprobs.len() as f64),
            self_certainty: self_certainty.filter(|s| s.is_finite()),
            tail_entropy: window
                .filter(|_| entropies.iter().any(|h| h.is_finite()))
                .map(|w| windows::tail(entropies, w)),
        }
    }

    /// The value of one statistic, of which more is better: entropies have their sign turned.
    pub fn get(&self, statistic: Statistic) -> Option<f64> {
        match statistic {
            Statistic::Mean => self.mean,
            Statistic::Tail => self.tail,
            Statistic::Bottom => self.bottom,
            Statistic::LowestGroup => self.lowest_group,
            Statistic::SequenceLogprob => self.sequence_logprob,
            Statistic::MeanLogprob => self.mean_logprob,
            Statistic::SelfCertainty => self.self_certainty,
            Statistic::TailEntropy => self.tail_entropy.map(|h| -h),
        }
    }
}

/// Names of the fields of [`TraceScores`], as in presets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Statistic {
    /// Mean token confidence, see [`TraceScores::mean`].
    Mean,
    /// Confidence of the trace's end, see [`TraceScores::tail`].
    Tail,
    /// Mean of the lowest groups, see [`TraceScores::bottom`].
    Bottom,
    /// The lowest group, see [`TraceScores::lowest_group`].
    LowestGroup,
    /// Log-probability of the whole trace, see [`TraceScores::sequence_logprob`].
    SequenceLogprob,
    /// Mean log-probability of a token, see [`TraceScores::mean_logprob`].
    MeanLogprob,
    /// Distance from a uniform distribution, see [`TraceScores::self_certainty`].
    SelfCertainty,
    /// Entropy of the trace's end, the lower the better, see [`TraceScores::tail_entropy`].
    TailEntropy,
}

impl Statistic {
    /// All of them, in the order of lists.
    pub const ALL: &[Statistic] = &[
        Statistic::Mean,
        Statistic::Tail,
        Statistic::Bottom,
        Statistic::LowestGroup,
        Statistic::SequenceLogprob,
        Statistic::MeanLogprob,
        Statistic::SelfCertainty,
        Statistic::TailEntropy,
    ];

    /// The name in presets and results.
    pub fn name(self) -> &'static str {
        match self {
            Statistic::Mean => "mean",
            Statistic::Tail => "tail",
            Statistic::Bottom => "bottom",
            Statistic::LowestGroup => "lowest-group",
            Statistic::SequenceLogprob => "sequence-logprob",
            Statistic::MeanLogprob => "mean-logprob",
            Statistic::SelfCertainty => "self-certainty",
            Statistic::TailEntropy => "tail-entropy",
        }
    }

    /// Whether it is taken from groups of tokens, so that it is not known before their size is.
    pub fn has_window(self) -> bool {
        matches!(
            self,
            Statistic::Tail | Statistic::Bottom | Statistic::LowestGroup | Statistic::TailEntropy
        )
    }

    /// Whether it is a mean of token confidences.
    pub fn of_confidence(self) -> bool {
        !matches!(
            self,
            Statistic::SequenceLogprob
                | Statistic::MeanLogprob
                | Statistic::SelfCertainty
                | Statistic::TailEntropy
        )
    }
}

impl std::fmt::Display for Statistic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series<'a>(confidences: &'a [f32], logprobs: &'a [f32]) -> TokenSeries<'a> {
        TokenSeries {
            confidences,
            logprobs,
            entropies: &[],
        }
    }

    #[test]
    fn missing_numbers_stay_missing() {
        let none = TraceScores::new(&TokenSeries::default(), None, Some(4));
        assert_eq!(none, TraceScores::default());
        assert_eq!(
            TraceScores::new(&series(&[f32::NAN; 3], &[f32::NAN]), Some(f64::NAN), Some(2)),
            TraceScores::default()
        );
        let no_window = TraceScores::new(&series(&[4.0, 6.0], &[-1.0, -0.5]), Some(0.3), None);
        assert_eq!(
            (no_window.mean, no_window.tail, no_window.lowest_group),
            (Some(5.0), None, None)
        );
        assert_eq!(no_window.self_certainty, Some(0.3));
        assert_eq!(
            (no_window.sequence_logprob, no_window.mean_logprob),
            (Some(-1.5), Some(-0.75))
        );
    }

    #[test]
    fn scores_of_a_small_trace() {
        let c: Vec<f32> = (1..=20).map(|i| i as f32).collect();
        let entropies = [3.0, 0.5, 0.25];
        let s = TraceScores::new(
            &TokenSeries {
                entropies: &entropies,
                ..series(&c, &[])
            },
            None,
            Some(2),
        );
        assert_eq!(
            (s.tail_entropy, s.get(Statistic::TailEntropy)),
            (Some(0.375), Some(-0.375))
        );
        assert_eq!(s.mean, Some(10.5));
        assert_eq!(s.tail, Some(19.5));
        assert_eq!(s.lowest_group, Some(1.5));
        assert_eq!(s.bottom, Some(1.5), "floor(1.9) = 1 group");
    }
}
