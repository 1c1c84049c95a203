//! Token confidence from log-probabilities: how peaked the distribution is that a token was drawn from.
//!
//! An engine that has the logits takes `logsumexp(z) - mean(20 largest z)` over them, which is the same
//! number; this is for those that only have a list of log-probabilities.

/// Token confidence C of a distribution, in nats, from the log-probabilities of its most likely tokens (at or
/// below 0, as many as the confidence is to average, in any order): their mean, negated (arXiv 2508.15260,
/// section 3). Higher is more peaked.
///
/// Those that are not finite are masked tokens and left out. `None` when nothing is left.
///
/// ```
/// use tts_strategies::confidence_of_logprobs;
///
/// assert_eq!(confidence_of_logprobs([-0.5, -1.5, f64::NEG_INFINITY]), Some(1.0));
/// assert_eq!(confidence_of_logprobs([]), None);
/// ```
pub fn confidence_of_logprobs(most_likely: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut averaged) = (0.0, 0usize);
    for logprob in most_likely.into_iter().filter(|p| p.is_finite()) {
        sum += logprob;
        averaged += 1;
    }
    (averaged > 0).then(|| -sum / averaged as f64)
}
