//! The likeliest ids of a row of logits.

use std::cmp::Ordering;

/// The `k` likeliest ids with their log-probabilities, fewer where fewer have one; nothing where the logits
/// are not numbers.
pub fn likeliest(row: &[f32], k: usize) -> Option<Vec<(u32, f32)>> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = row.iter().map(|z| (f64::from(*z) - f64::from(max)).exp()).sum();
    let logsumexp = f64::from(max) + total.ln();
    if !logsumexp.is_finite() {
        return None;
    }
    let of = |id: u32| (id, (f64::from(row[id as usize]) - logsumexp) as f32);
    Some(
        largest(row, k)
            .into_iter()
            .map(of)
            .filter(|(_, p)| p.is_finite())
            .collect(),
    )
}

/// The ids of the `k` largest logits, largest first, of equal ones the lowest id first.
pub fn largest(row: &[f32], k: usize) -> Vec<u32> {
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
    use super::{largest, likeliest};

    #[test]
    fn the_largest_come_first_and_ties_by_id() {
        let row = [0.5, 2.0, f32::NEG_INFINITY, 2.0, -1.0];
        assert_eq!(largest(&row, 3), [1, 3, 0]);
        assert_eq!(largest(&row, 9), [1, 3, 0, 4, 2]);
        assert!(largest(&row, 0).is_empty());
    }

    #[test]
    fn likeliest_ids_have_probabilities_that_sum_to_one() {
        let found = likeliest(&[0.0, 3.0, f32::NEG_INFINITY, 1.0], 9).unwrap();
        assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), [1, 3, 0]);
        assert!((found.iter().map(|f| f64::from(f.1).exp()).sum::<f64>() - 1.0).abs() < 1e-6);
        assert!(likeliest(&[f32::NAN, 1.0], 2).is_none());
        assert!(likeliest(&[f32::NEG_INFINITY; 2], 2).is_none());
    }
}
