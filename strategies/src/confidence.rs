//! Token confidence: how peaked the distribution is that a token was drawn from.
//!
//! "Deep Think with Confidence" (arXiv 2508.15260), section 3: the negative mean log-probability of the 20
//! most likely tokens. Higher is more peaked. With at least 20 finite logits it is never below `ln 20 =
//! 2.996`, the value of a flat top 20.

/// How many of the most likely tokens the confidence averages over.
pub const TOP: usize = 20;

/// One position's confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// `logsumexp(z) - mean(largest z)`, in nats.
    pub value: f64,
    /// How many log-probabilities were averaged: [`TOP`], or fewer where the row or the server had fewer.
    pub averaged: usize,
}

/// Why a row of logits has no confidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// A NaN or a positive infinity: the trace fails.
    #[error("the logits hold NaN or +infinity; the trace cannot go on")]
    NotANumber,
    /// An empty row, or one that is masked throughout.
    #[error("the logits hold no finite value; the trace cannot go on")]
    AllMasked,
}

/// Confidence of raw logits `[vocab]`, before temperature, penalties and truncation: `C = logsumexp(z) -
/// mean(20 largest z)`.
///
/// The slow, plain form in f64, which fast kernels are compared with. Minus infinity is a mask; with fewer
/// than 20 finite logits those are averaged. The log-sum-exp is taken around the maximum: softmax followed by
/// a logarithm would give minus infinity for rare tokens, and one such value in a running sum makes a trace
/// unstoppable for good.
pub fn confidence_from_logits(logits: &[f32]) -> Result<Confidence, BadRow> {
    if logits.iter().any(|z| z.is_nan() || *z == f32::INFINITY) {
        return Err(BadRow::NotANumber);
    }
    let mut z: Vec<f64> = logits
        .iter()
        .filter(|z| z.is_finite())
        .map(|&z| f64::from(z))
        .collect();
    z.sort_unstable_by(|a, b| b.total_cmp(a));
    let Some(&max) = z.first() else {
        return Err(BadRow::AllMasked);
    };
    let logsumexp = max + z.iter().rev().map(|z| (z - max).exp()).sum::<f64>().ln();
    let averaged = z.len().min(TOP);
    let mean = z[..averaged].iter().sum::<f64>() / averaged as f64;
    Ok(Confidence {
        value: logsumexp - mean,
        averaged,
    })
}

/// Confidence of a server's list of top log-probabilities (in nats, any order): the mean of the 20 largest,
/// negated. Fewer than 20 are averaged as they are; entries that are not finite are taken as masked. `None`
/// when nothing is left.
pub fn confidence_from_top_logprobs(top: &[f64]) -> Option<Confidence> {
    let mut p: Vec<f64> = top.iter().copied().filter(|p| p.is_finite()).collect();
    p.sort_unstable_by(|a, b| b.total_cmp(a));
    p.truncate(TOP);
    if p.is_empty() {
        return None;
    }
    Some(Confidence {
        value: -p.iter().sum::<f64>() / p.len() as f64,
        averaged: p.len(),
    })
}

/// The variant that the reference code computes after the fact from a server's list, for numeric parity with
/// its recorded traces only: the mean runs over the list plus the sampled token when that is outside the list
/// (20 or 21 entries), infinities included, and is rounded to three decimals. `None` for an empty position,
/// which the reference skips.
pub fn reference_confidence(top: &[f64], sampled_outside: Option<f64>) -> Option<f64> {
    let n = top.len() + usize::from(sampled_outside.is_some());
    if n == 0 {
        return None;
    }
    let sum: f64 = top.iter().sum::<f64>() + sampled_outside.unwrap_or(0.0);
    Some(round3(-sum / n as f64))
}

/// Rounds to three decimals as NumPy does: scale, round half to even, scale back.
pub fn round3(x: f64) -> f64 {
    (x * 1000.0).round_ties_even() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_row_is_ln_of_the_vocabulary() {
        let flat = confidence_from_logits(&[3.5; 40]).unwrap();
        assert!((flat.value - 40f64.ln()).abs() < 1e-12);
        assert_eq!(flat.averaged, 20);
    }

    #[test]
    fn masked_entries_do_not_count() {
        let mut z = vec![f32::NEG_INFINITY; 100];
        z[7] = 2.0;
        assert_eq!(
            confidence_from_logits(&z).unwrap(),
            Confidence {
                value: 0.0,
                averaged: 1
            }
        );
        z[50] = 2.0;
        let two = confidence_from_logits(&z).unwrap();
        assert!((two.value - 2f64.ln()).abs() < 1e-12 && two.averaged == 2);
    }

    #[test]
    fn rows_without_numbers_are_refused() {
        assert_eq!(confidence_from_logits(&[0.0, f32::NAN]), Err(BadRow::NotANumber));
        assert_eq!(
            confidence_from_logits(&[0.0, f32::INFINITY]),
            Err(BadRow::NotANumber)
        );
        assert_eq!(confidence_from_logits(&[]), Err(BadRow::AllMasked));
        assert_eq!(
            confidence_from_logits(&[f32::NEG_INFINITY; 3]),
            Err(BadRow::AllMasked)
        );
    }

    #[test]
    fn extreme_logits_do_not_overflow() {
        let mut z = vec![-3.0e38f32; 64];
        z[0] = 3.0e38;
        let c = confidence_from_logits(&z).unwrap();
        assert!(c.value.is_finite() && c.value > 1e38);
    }

    #[test]
    fn a_server_list_equals_the_logits_it_came_from() {
        let z: Vec<f32> = (0..200).map(|i| ((i * 37) % 101) as f32 * 0.13).collect();
        let max = z.iter().fold(f64::MIN, |m, &z| m.max(f64::from(z)));
        let logsumexp = max + z.iter().map(|&z| (f64::from(z) - max).exp()).sum::<f64>().ln();
        let mut logprobs: Vec<f64> = z.iter().map(|&z| f64::from(z) - logsumexp).collect();
        let direct = confidence_from_logits(&z).unwrap();
        let all = confidence_from_top_logprobs(&logprobs).unwrap();
        assert!((direct.value - all.value).abs() < 1e-9 && all.averaged == 20);
        logprobs.sort_by(|a, b| b.total_cmp(a));
        let five = confidence_from_top_logprobs(&logprobs[..5]).unwrap();
        assert_eq!(five.averaged, 5);
        assert!(five.value < direct.value);
        assert_eq!(confidence_from_top_logprobs(&[f64::NEG_INFINITY]), None);
    }
}
