//! Statistics over the confidences of a trace: mean, tail, groups (arXiv 2508.15260, section 3).
//!
//! A group is the mean of `W` consecutive confidences, stride 1; group `i` exists for `i >= W - 1`. Values
//! that are not finite are left out of every mean (a group counts as full by its tokens, not by its finite
//! ones), so that one bad number never makes a trace unstoppable.

/// The mean of every full window of the last `W` confidences, in one pass and `4 W` bytes.
///
/// The sum is kept in f64 and taken anew every `W` tokens, so its error does not grow with the length of the
/// trace.
#[derive(Clone, Debug)]
pub struct GroupWindow<T = f32> {
    ring: Vec<T>,
    size: usize,
    at: usize,
    sum: f64,
    finite: usize,
}

impl<T: Copy + Into<f64>> GroupWindow<T> {
    /// An empty window of `size` tokens (0 is taken as 1). Allocates all it will ever need.
    pub fn new(size: usize) -> Self {
        let size = size.max(1);
        Self {
            ring: Vec::with_capacity(size),
            size,
            at: 0,
            sum: 0.0,
            finite: 0,
        }
    }

    /// Forgets the tokens, keeps the memory.
    pub fn clear(&mut self) {
        self.ring.clear();
        (self.at, self.sum, self.finite) = (0, 0.0, 0);
    }

    /// Takes one confidence and returns the mean of the last `W`, once there are as many.
    pub fn push(&mut self, confidence: T) -> Option<f64> {
        let new: f64 = confidence.into();
        if self.ring.len() < self.size {
            self.ring.push(confidence);
        } else {
            let old: f64 = std::mem::replace(&mut self.ring[self.at], confidence).into();
            if old.is_finite() {
                self.sum -= old;
                self.finite -= 1;
            }
        }
        if new.is_finite() {
            self.sum += new;
            self.finite += 1;
        }
        self.at += 1;
        if self.at == self.size {
            self.at = 0;
            self.sum = self
                .ring
                .iter()
                .map(|&c| c.into())
                .filter(|c: &f64| c.is_finite())
                .sum();
        }
        (self.ring.len() == self.size && self.finite > 0).then(|| self.sum / self.finite as f64)
    }
}

/// Mean of all values; 0 when there is none.
pub fn mean<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    let (mut sum, mut n) = (0.0, 0usize);
    for &v in values {
        let v: f64 = v.into();
        if v.is_finite() {
            sum += v;
            n += 1;
        }
    }
    if n == 0 { 0.0 } else { sum / n as f64 }
}

/// Mean of the last `window` values, of all when there are fewer.
pub fn tail<T: Copy + Into<f64>>(values: &[T], window: usize) -> f64 {
    mean(&values[values.len().saturating_sub(window.max(1))..])
}

/// All groups in order: `[n - window + 1]` values, none when `n < window`.
pub fn groups<T: Copy + Into<f64>>(values: &[T], window: usize) -> Vec<f64> {
    if values.len() < window {
        return Vec::new();
    }
    let mut w = GroupWindow::new(window);
    values.iter().filter_map(|&c| w.push(c)).collect()
}

/// The smallest group (the reference's `min_conf`); the mean of all values when no window is full, 0 for an
/// empty trace.
///
/// Computed by the same [`GroupWindow`] that watches a live trace: a trace that was never below a bar has a
/// lowest group that is not below it either, to the last bit.
pub fn lowest_group<T: Copy + Into<f64>>(values: &[T], window: usize) -> f64 {
    let lowest = groups(values, window).into_iter().min_by(f64::total_cmp);
    lowest.unwrap_or_else(|| mean(values))
}

/// Mean of the smallest `max(1, floor(fraction * groups))` groups; the mean of all values when no window is
/// full.
pub fn bottom<T: Copy + Into<f64>>(values: &[T], window: usize, fraction: f64) -> f64 {
    lowest_and_bottom(values, window, fraction).1
}

/// [`lowest_group`] and [`bottom`] in one pass over the trace.
pub fn lowest_and_bottom<T: Copy + Into<f64>>(values: &[T], window: usize, fraction: f64) -> (f64, f64) {
    let mut groups = groups(values, window);
    if groups.is_empty() {
        let mean = mean(values);
        return (mean, mean);
    }
    let keep = ((fraction * groups.len() as f64) as usize).clamp(1, groups.len());
    groups.select_nth_unstable_by(keep - 1, f64::total_cmp);
    // Sorted, so that the sum does not depend on how the selection happened to arrange them.
    let smallest = &mut groups[..keep];
    smallest.sort_unstable_by(f64::total_cmp);
    (smallest[0], smallest.iter().sum::<f64>() / keep as f64)
}

/// The group size that `window = "auto"` stands for: the largest power of two not above an eighth of the
/// median length, held between 16 and 2048. `None` without lengths.
///
/// An eighth leaves at least half of the traces several windows; a power of two keeps neighbouring problems
/// comparable.
pub fn auto_window(lengths: &[usize]) -> Option<usize> {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let n = sorted.len();
    // Twice the median, so that the mean of two middle values stays exact.
    let twice = sorted.get(n / 2)? + sorted[(n - 1) / 2];
    let eighth = twice / 16;
    Some(if eighth == 0 {
        16
    } else {
        (1usize << eighth.ilog2()).clamp(16, 2048)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn direct(values: &[f32], w: usize) -> Vec<f64> {
        values
            .windows(w)
            .map(|g| g.iter().map(|&c| f64::from(c)).sum::<f64>() / w as f64)
            .collect()
    }

    #[test]
    fn streaming_equals_direct_over_64k_tokens() {
        let mut x = 0x2545_f491_u32;
        let values: Vec<f32> = (0..65_536)
            .map(|i| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Spans eight orders of magnitude, so that a drifting sum would show.
                ((x >> 8) as f32 / 1e6) * if i % 1000 < 3 { 1e6 } else { 1e-2 }
            })
            .collect();
        let largest = values.iter().fold(0f64, |m, &v| m.max(f64::from(v)));
        for w in [1, 2, 2048] {
            let streamed = groups(&values, w);
            let direct = direct(&values, w);
            assert_eq!(streamed.len(), direct.len());
            for (s, d) in streamed.iter().zip(&direct) {
                assert!((s - d).abs() <= 1e-12 * largest, "{s} {d} at {w}");
            }
        }
    }

    #[test]
    fn ordinary_confidences_sum_exactly() {
        // Values of one binade and a few below: every partial sum is exact in f64, so streaming and direct
        // agree to the bit.
        let values: Vec<f32> = (0..65_536u32)
            .map(|i| 3.0 + (i.wrapping_mul(2_654_435_761) >> 9) as f32 / 1e6)
            .collect();
        assert_eq!(groups(&values, 1024), direct(&values, 1024));
    }

    #[test]
    fn a_bad_number_leaves_with_its_window() {
        let values = [5.0, f32::NAN, 7.0, 9.0, f32::INFINITY, 1.0, 1.0, 1.0];
        let g = groups(&values, 2);
        assert_eq!(g, [5.0, 7.0, 8.0, 9.0, 1.0, 1.0, 1.0]);
        assert_eq!(groups(&[f32::NAN; 5], 2), Vec::<f64>::new());
        assert_eq!(lowest_group(&[f32::NAN; 5], 2), 0.0);
    }

    #[test]
    fn auto_window_follows_its_rule() {
        let slow = |lengths: &[usize]| {
            let mut s: Vec<f64> = lengths.iter().map(|&l| l as f64).collect();
            s.sort_by(f64::total_cmp);
            let n = s.len();
            let median = if n % 2 == 1 {
                s[n / 2]
            } else {
                (s[n / 2 - 1] + s[n / 2]) / 2.0
            };
            ((median / 8.0).log2().floor().exp2()).clamp(16.0, 2048.0) as usize
        };
        for lengths in [
            &[0][..],
            &[1],
            &[127],
            &[128],
            &[255],
            &[256],
            &[511, 512],
            &[512, 512],
            &[511, 513],
            &[100_000],
            &[9, 4096, 3],
        ] {
            assert_eq!(auto_window(lengths), Some(slow(lengths)), "{lengths:?}");
        }
        assert_eq!(auto_window(&[]), None);
        assert_eq!(auto_window(&[8 * 2048, 1, 8 * 2048]), Some(2048));
        assert_eq!(auto_window(&[1023]), Some(64));
        assert_eq!(auto_window(&[1024]), Some(128));
    }

    proptest! {
        #[test]
        fn statistics_equal_the_slow_way(
            values in prop::collection::vec(0.0f32..40.0, 0..300),
            w in 1usize..64,
        ) {
            let mut g = if w <= values.len() { direct(&values, w) } else { vec![] };
            g.sort_by(f64::total_cmp);
            let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
            let all = if values.is_empty() { 0.0 } else { sum / values.len() as f64 };
            let k = (g.len() / 10).max(1);
            let low = g.first().copied().unwrap_or(all);
            let bot = if g.is_empty() { all } else { g[..k].iter().sum::<f64>() / k as f64 };
            let from = values.len().saturating_sub(w);
            prop_assert!((mean(&values) - all).abs() < 1e-10);
            prop_assert!((tail(&values, w) - mean(&values[from..])).abs() < 1e-10);
            prop_assert!((lowest_group(&values, w) - low).abs() < 1e-10);
            prop_assert!((bottom(&values, w, 0.1) - bot).abs() < 1e-10);
            prop_assert_eq!(lowest_and_bottom(&values, w, 0.1).0, lowest_group(&values, w));
        }
    }
}
