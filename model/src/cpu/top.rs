//! The likeliest ids of a row of logits, and the log-probabilities of ids.

use std::cmp::Ordering;

/// The logarithm of the sum of exponentials of a row, summed in f64; `None` where the logits are not numbers.
pub(crate) fn log_sum_exp(row: &[f32]) -> Option<f64> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = row.iter().map(|z| (f64::from(*z) - f64::from(max)).exp()).sum();
    Some(f64::from(max) + total.ln()).filter(|sum| sum.is_finite())
}

/// The log-probability of an id in nats, -inf for one that is masked.
pub(crate) fn logprob(row: &[f32], log_sum_exp: f64, id: u32) -> f32 {
    (f64::from(row[id as usize]) - log_sum_exp) as f32
}

/// Puts the `k` likeliest ids with their log-probabilities into `top`, likeliest first, of equal ones the
/// lowest id first.
pub(crate) fn top_logprobs(row: &[f32], log_sum_exp: f64, k: usize, top: &mut Vec<(u32, f32)>) {
    top.clear();
    top.extend(
        largest(row, k)
            .into_iter()
            .map(|id| (id, logprob(row, log_sum_exp, id))),
    );
}

/// The ids of the `k` largest logits, largest first, of equal ones the lowest id first.
fn largest(row: &[f32], k: usize) -> Vec<u32> {
    let order =
        |a: &u32, b: &u32| -> Ordering { row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b)) };
    let mut ids: Vec<u32> = (0..row.len() as u32).collect();
    let k = k.min(ids.len());
    if k == 0 {
        return Vec::new();
    }
    if k < ids.len() {
        ids.select_nth_unstable_by(k - 1, order);
        ids.truncate(k);
    }
    ids.sort_unstable_by(order);
    ids
}

#[cfg(test)]
mod tests {
    use super::{largest, log_sum_exp, top_logprobs};

    #[test]
    fn the_largest_come_first_and_ties_by_id() {
        let row = [0.5, 2.0, f32::NEG_INFINITY, 2.0, -1.0];
        assert_eq!(largest(&row, 3), [1, 3, 0]);
        assert_eq!(largest(&row, 9), [1, 3, 0, 4, 2]);
        assert!(largest(&row, 0).is_empty());
    }

    #[test]
    fn likeliest_ids_have_probabilities_that_sum_to_one() {
        let row = [0.0, 3.0, f32::NEG_INFINITY, 1.0];
        let mut top = Vec::new();
        top_logprobs(&row, log_sum_exp(&row).unwrap(), 9, &mut top);
        assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 3, 0, 2]);
        assert_eq!(top[3].1, f32::NEG_INFINITY, "masked");
        assert!((top.iter().map(|t| f64::from(t.1).exp()).sum::<f64>() - 1.0).abs() < 1e-6);
        assert!(log_sum_exp(&[f32::NAN, 1.0]).is_none());
        assert!(log_sum_exp(&[f32::INFINITY, 1.0]).is_none());
        assert!(log_sum_exp(&[f32::NEG_INFINITY; 2]).is_none());
    }
}
