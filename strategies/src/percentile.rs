//! Percentiles by linear interpolation.

/// The `q`-th percentile (`0 <= q <= 100`) of `values` by NumPy's default rule, "linear", type R-7: over the
/// sorted values the position is `(n - 1) q / 100`, interpolated between its neighbours. NaN and infinities
/// are dropped first; `None` when nothing is left, the value itself when there is one.
pub fn percentile(values: &[f64], q: f64) -> Option<f64> {
    let mut x: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    x.sort_unstable_by(f64::total_cmp);
    let last = x.len().checked_sub(1)?;
    let position = last as f64 * (q / 100.0).clamp(0.0, 1.0);
    let below = (position as usize).min(last);
    let above = (below + 1).min(last);
    let t = position - below as f64;
    // From the nearer end, as NumPy does: keeps the result between its neighbours and monotonic in `q`.
    let step = x[above] - x[below];
    Some(if t < 0.5 {
        x[below] + step * t
    } else {
        x[above] - step * (1.0 - t)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_and_odd_inputs() {
        assert_eq!(percentile(&[], 50.0), None);
        assert_eq!(percentile(&[f64::NAN, f64::INFINITY], 50.0), None);
        assert_eq!(percentile(&[4.0], 90.0), Some(4.0));
        assert_eq!(percentile(&[f64::NAN, 4.0, f64::NEG_INFINITY], 10.0), Some(4.0));
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 50.0), Some(2.0));
        assert_eq!(percentile(&[1.0, 2.0], 100.0), Some(2.0));
        assert_eq!(percentile(&[1.0, 2.0], 0.0), Some(1.0));
    }

    proptest! {
        #[test]
        fn bounded_monotonic_and_order_free(
            mut v in prop::collection::vec(-1e6f64..1e6, 1..50),
            q in 0.0f64..100.0,
            p in 0.0f64..100.0,
        ) {
            let at = |v: &[f64], q| percentile(v, q).unwrap();
            let a = at(&v, q);
            let (lo, hi) = v.iter().fold((f64::MAX, f64::MIN), |(l, h), &x| (l.min(x), h.max(x)));
            prop_assert!(lo <= a && a <= hi);
            prop_assert!((at(&v, p) <= a) == (p <= q) || at(&v, p) == a);
            v.reverse();
            prop_assert_eq!(a, at(&v, q));
        }

        #[test]
        fn equals_the_plain_formula(
            mut v in prop::collection::vec(0.0f64..100.0, 1..50),
            q in 0.0f64..100.0,
        ) {
            let got = percentile(&v, q).unwrap();
            v.sort_by(f64::total_cmp);
            let i = (v.len() - 1) as f64 * q / 100.0;
            let (lo, hi) = (v[i.floor() as usize], v[i.ceil() as usize]);
            prop_assert!((got - (lo + (hi - lo) * (i - i.floor()))).abs() < 1e-9);
        }
    }
}
