//! Numbers as a report writes them.

use tts_evals::stats::Interval;

use crate::fmt::grouped;
pub(crate) use crate::fmt::plural;

/// `1234567.8` as `1,234,568`; below ten with one decimal, unless it is whole.
pub(crate) fn count(x: f64) -> String {
    if !x.is_finite() {
        return String::from("\u{2013}");
    }
    if x.abs() < 9.95 && (x - x.round()).abs() > 1e-9 {
        return format!("{x:.1}");
    }
    let sign = if x <= -0.5 { "-" } else { "" };
    format!("{sign}{}", grouped(&format!("{:.0}", x.abs())))
}

/// A share as a percentage: `0.7142` as `71.4%`.
pub(crate) fn percent(share: f64) -> String {
    if share.is_finite() {
        format!("{:.1}%", share * 100.0)
    } else {
        String::from("\u{2013}")
    }
}

/// A difference of shares in percentage points with its sign: `0.012` as `+1.2`.
pub(crate) fn points(difference: f64) -> String {
    if difference.is_finite() {
        format!("{:+.1}", difference * 100.0)
    } else {
        String::from("\u{2013}")
    }
}

/// `90.7\u{2013}94.8` in per cent.
pub(crate) fn interval(interval: Option<Interval>) -> String {
    between(interval, |x| format!("{:.1}", x * 100.0))
}

/// The same with a sign before each end.
pub(crate) fn signed(interval: Option<Interval>) -> String {
    interval.map_or_else(none, |i| format!("{} to {}", points(i.low), points(i.high)))
}

/// Both ends, written by `write`.
pub(crate) fn between(interval: Option<Interval>, write: impl Fn(f64) -> String) -> String {
    interval.map_or_else(none, |i| format!("{}\u{2013}{}", write(i.low), write(i.high)))
}

/// What stands where there is nothing.
pub(crate) fn none() -> String {
    String::from("\u{2013}")
}

/// A p-value with as many digits as it is good for.
pub(crate) fn p(p: f64) -> String {
    if p < 0.001 {
        "<0.001".to_owned()
    } else {
        format!("{p:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        for (x, text) in [
            (0.0, "0"),
            (3.0, "3"),
            (3.25, "3.2"),
            (9.96, "10"),
            (999.6, "1,000"),
            (1_234_567.8, "1,234,568"),
            (-1234.0, "-1,234"),
            (f64::NAN, "\u{2013}"),
        ] {
            assert_eq!(count(x), text);
        }
        assert_eq!(
            (percent(0.93), points(-0.0126), p(0.0)),
            ("93.0%".to_owned(), "-1.3".to_owned(), "<0.001".to_owned())
        );
    }
}
