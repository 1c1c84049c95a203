//! Axes: where a value stands, and which values are written beside it.

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleKind {
    Linear,
    /// decades are equally long
    Log,
}

/// A value that an axis names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    /// empty for a tick without a number
    pub(crate) label: String,
}

/// An axis: a range of values laid over a range of pixels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    kind: ScaleKind,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    pub(crate) ticks: Vec<Tick>,
}

/// Steps between ticks, times a power of ten.
const STEPS: [f64; 5] = [1.0, 2.0, 2.5, 5.0, 10.0];
/// Values are held within this, so that differences and decades of them are numbers too.
const BOUND: f64 = 1e100;

impl Scale {
    /// An axis whose range begins and ends on a tick. `values` need not be sorted; those that are not finite
    /// are passed over, and without any the range is 0 to 1. `wanted` is about the number of ticks.
    pub(crate) fn linear(values: impl IntoIterator<Item = f64>, wanted: usize) -> Self {
        let (low, high) = range(values.into_iter().map(|v| v.clamp(-BOUND, BOUND))).unwrap_or((0.0, 1.0));
        // values that are all alike stand in the middle
        let (low, high) = if high - low > 1e-9 * low.abs().max(high.abs()) {
            (low, high)
        } else {
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low - room, high + room)
        };
        let step = step((high - low) / wanted.max(2) as f64);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let largest = (first * step).abs().max((last * step).abs());
        let count = (last - first) as usize;
        let ticks = (0..=count)
            .map(|i| (first + i as f64) * step)
            .map(|value| Tick {
                value,
                label: label(value, step, largest),
            })
            .collect();
        Self {
            kind: ScaleKind::Linear,
            low: first * step,
            high: last * step,
            from: 0.0,
            to: 1.0,
            ticks,
        }
    }

    /// The same with ends that were chosen; the first may be the greater one.
    pub(crate) fn between(low: f64, high: f64, wanted: usize) -> Self {
        let mut scale = Self::linear([low, high], wanted);
        (scale.low, scale.high) = (low, high);
        let slack = (high - low).abs() * 1e-9;
        scale
            .ticks
            .retain(|t| (low.min(high) - slack..=low.max(high) + slack).contains(&t.value));
        scale
    }

    /// A logarithmic axis. Values that are not above 0 are passed over; without any the range is 1 to 10.
    pub(crate) fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let above = values
            .into_iter()
            .filter(|v| *v > 0.0)
            .map(|v| v.clamp(1.0 / BOUND, BOUND));
        let (low, high) = range(above).unwrap_or((1.0, 10.0));
        // half a decade at least, and a little room at both ends
        let (middle, half) = (
            f64::midpoint(low.log10(), high.log10()),
            (high / low).log10() / 2.0,
        );
        let half = (half * 1.08 + 0.02).max(0.25);
        let (from, to) = (middle - half, middle + half);
        let (first, last) = (from.floor() as i32, to.ceil() as i32);
        // what is labelled within a decade depends on how many decades there are
        let digits: &[u32] = match to - from {
            d if d < 0.8 => &[1, 2, 3, 4, 5, 6, 7, 8],
            d if d < 2.5 => &[1, 2, 5],
            _ => &[1],
        };
        let every = (((to - from) / 8.0).ceil() as i32).max(1);
        let mut ticks = Vec::new();
        for decade in first..=last {
            for digit in 1..10 {
                let value = f64::from(digit) * 10f64.powi(decade);
                // over many decades there is no room between them
                let passed_over = (to - from > 4.0 && digit > 1) || decade.rem_euclid(every) != 0;
                if !(from..=to).contains(&value.log10()) || passed_over {
                    continue;
                }
                let named = digits.contains(&digit);
                ticks.push(Tick {
                    value,
                    label: if named { short(value) } else { String::new() },
                });
            }
        }
        Self {
            kind: ScaleKind::Log,
            low: 10f64.powf(from),
            high: 10f64.powf(to),
            from: 0.0,
            to: 1.0,
            ticks,
        }
    }

    /// The same axis with numbers at these values, as far as it reaches.
    #[must_use]
    pub(crate) fn marked(mut self, values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values
            .into_iter()
            .filter(|v| (self.low..=self.high).contains(v))
            .collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        if !values.is_empty() {
            let tick = |value| Tick {
                value,
                label: short(value),
            };
            self.ticks = values.into_iter().map(tick).collect();
        }
        self
    }

    /// The same axis over these pixels.
    #[must_use]
    pub(crate) fn over(mut self, from: f64, to: f64) -> Self {
        (self.from, self.to) = (from, to);
        self
    }

    /// The pixel of a value; values outside of the range stand at its end. `None` for what is no number.
    pub(crate) fn at(&self, value: f64) -> Option<f64> {
        let share = match self.kind {
            ScaleKind::Linear => (value - self.low) / (self.high - self.low),
            ScaleKind::Log => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        (!share.is_nan() && !value.is_nan())
            .then(|| self.from + share.clamp(0.0, 1.0) * (self.to - self.from))
    }

    pub(crate) fn low(&self) -> f64 {
        self.low
    }
    pub(crate) fn high(&self) -> f64 {
        self.high
    }
}

/// The least and the greatest of the finite values.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|v| v.is_finite()).fold(None, |range, v| {
        Some(range.map_or((v, v), |(low, high): (f64, f64)| (low.min(v), high.max(v))))
    })
}

/// The smallest round step that is no smaller than this.
fn step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    STEPS
        .iter()
        .map(|s| s * power)
        .find(|s| *s >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// Digits after the point that tell multiples of `step` apart.
fn decimals(step: f64) -> usize {
    (0..12)
        .find(|d| {
            let scaled = step * 10f64.powi(*d);
            (scaled - scaled.round()).abs() < 1e-6 * scaled
        })
        .unwrap_or(12) as usize
}

/// A tick's number, all ticks of an axis in the unit of its largest: `0`, `20k`, `40k`.
fn label(value: f64, step: f64, largest: f64) -> String {
    let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
    let sign = if value < 0.0 { MINUS } else { "" };
    if largest >= 1e15 || step < 1e-9 {
        let text = format!("{:.9e}", value.abs());
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{sign}{}e{power}", trimmed(digits));
    }
    let (unit, name) = UNITS
        .into_iter()
        .find(|(unit, _)| largest >= unit * 10.0)
        .unwrap_or((1.0, ""));
    let digits = format!("{:.*}", decimals(step / unit), value.abs() / unit);
    let zero = value == 0.0 && unit > 1.0;
    if zero {
        "0".to_owned()
    } else {
        format!("{sign}{digits}{name}")
    }
}

/// Without zeros at the end of a fraction.
fn trimmed(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

const MINUS: &str = "\u{2212}";
const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];

/// A number in three or four digits: `950`, `1.2k`, `35M`.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    let sign = if value < 0.0 { MINUS } else { "" };
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e15).contains(&size) {
        return format!("{value:.0e}");
    }
    let (unit, name) = UNITS
        .into_iter()
        .find(|(unit, _)| size >= *unit * 0.9995)
        .unwrap_or((1.0, ""));
    let scaled = size / unit;
    let text = match scaled {
        s if s >= 99.95 => format!("{s:.0}"),
        s if s >= 9.995 => format!("{s:.1}"),
        s if s >= 0.9995 => format!("{s:.2}"),
        s => format!("{s:.4}"),
    };
    let text = trimmed(&text);
    format!("{sign}{text}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale
            .ticks
            .iter()
            .map(|t| t.label.as_str())
            .filter(|l| !l.is_empty())
            .collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            labels(&Scale::linear([0.0, 0.93], 5)),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            labels(&Scale::linear([-3.0, 11.0], 5)),
            ["\u{2212}5", "0", "5", "10", "15"]
        );
        assert_eq!(
            labels(&Scale::linear([0.0, 52_000.0], 5)),
            ["0", "20k", "40k", "60k"]
        );
        assert_eq!(
            labels(&Scale::log([120.0, 90_000.0])),
            ["100", "1k", "10k", "100k"]
        );
        assert_eq!(
            labels(&Scale::log([150.0, 700.0])),
            ["200", "300", "400", "500", "600", "700"].map(|s| s).as_slice()
        );
        assert_eq!(
            labels(&Scale::between(0.0, 1.0, 4)),
            ["0.00", "0.25", "0.50", "0.75", "1.00"]
        );
    }

    #[test]
    fn an_axis_of_nothing_is_an_axis() {
        assert_eq!(labels(&Scale::linear([], 2)), ["0.0", "0.5", "1.0"]);
        assert_eq!(labels(&Scale::linear([f64::NAN, f64::INFINITY], 2)).len(), 3);
        assert!(!labels(&Scale::log([0.0, -1.0, f64::NAN])).is_empty());
        let one = Scale::linear([7.0], 4).over(0.0, 100.0);
        assert_eq!(one.at(7.0), Some(50.0));
        assert_eq!(one.at(f64::NAN), None);
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (950.0, "950"),
            (1234.0, "1.23k"),
            (999.9, "1k"),
            (35e6, "35M"),
            (2.5e9, "2.5G"),
            (0.125, "0.125"),
            (-1500.0, "\u{2212}1.5k"),
            (12.0, "12"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    proptest! {
        #[test]
        fn axes_cover_their_values_and_ticks_are_apart(
            values in prop::collection::vec(
                prop_oneof![prop::num::f64::ANY, -1e6..1e6f64, 0.0..1.0f64],
                0..12,
            ),
            wanted in 1usize..12,
        ) {
            for scale in [Scale::linear(values.iter().copied(), wanted), Scale::log(values.iter().copied())] {
                let log = scale.kind == ScaleKind::Log;
                let scale = scale.over(40.0, 700.0);
                prop_assert!(
                scale.low < scale.high && scale.low.is_finite() && scale.high.is_finite(),
                "{scale:?}"
            );
                prop_assert!(scale.ticks.windows(2).all(|w| w[0].value < w[1].value), "{:?}", scale.ticks);
                prop_assert!(scale.ticks.len() <= 4 * wanted + 40);
                let named = labels(&scale);
                prop_assert!(!named.is_empty() && named.len() <= 2 * wanted + 14, "{named:?}");
                for pair in named.windows(2) {
                    prop_assert_ne!(pair[0], pair[1]);
                }
                let fits = |v: &f64| v.is_finite() && v.abs() < BOUND && (!log || *v > 1.0 / BOUND);
            let mut usable: Vec<f64> = values.iter().copied().filter(fits).collect();
                usable.sort_by(f64::total_cmp);
                let slack = 1e-6 * (scale.high - scale.low);
                for v in &usable {
                    prop_assert!(scale.low - slack <= *v && *v <= scale.high + slack, "{v} {scale:?}");
                }
                let places: Vec<f64> = usable.iter().filter_map(|v| scale.at(*v)).collect();
                prop_assert_eq!(places.len(), usable.len());
                prop_assert!(places.windows(2).all(|w| w[0] <= w[1]));
                prop_assert!(places.iter().all(|p| (40.0..=700.0).contains(p)));
            }
        }
    }
}
