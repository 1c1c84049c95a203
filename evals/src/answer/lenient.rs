//! What graders disagree about: our defaults, and what the options let pass beside them. None of it makes a
//! class of the vote.

use super::compare::Comparison;
use super::equal::{Verdict, yes};
use super::options::{BracketRule, DecimalRule, EqualOptions, PercentRule, UnitRule};
use super::reading::time_of_day;
use crate::math::form::Form;
use crate::math::region::Region;
use crate::math::sum::Sum;
use crate::math::{numeric, read};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{FromPrimitive, Pow, Signed, Zero};
use regex::Regex;
use std::sync::LazyLock;

/// Significant digits from which a decimal is taken for an exact value written out in full: what a double
/// prints.
const FULL_DIGITS: usize = 13;

/// Tries what is left when the two are not equal as they stand; `p` and `g` are their forms.
pub(super) fn allowed(
    prediction: &str,
    gold: &str,
    p: &Form,
    g: &Form,
    options: &EqualOptions,
) -> Option<Verdict> {
    let comparison = Comparison::new(options);
    if let Some(verdict) = same_time(prediction, gold) {
        return Some(verdict);
    }
    if options.brackets == BracketRule::Lenient
        && let (Some(p), Some(g)) = (without_ends(p), without_ends(g))
        && comparison.same(&p, &g).is_some()
    {
        return yes("same ends, other brackets");
    }
    if options.units == UnitRule::Lenient {
        let (bare_p, bare_g) = (without_unit(prediction), without_unit(gold));
        if (bare_p.is_some() || bare_g.is_some())
            && let (Some(a), Some(b)) = (read(bare_p.unwrap_or(prediction)), read(bare_g.unwrap_or(gold)))
            && comparison.same(&a, &b).is_some()
        {
            return yes("same number, unit dropped");
        }
    }
    let (Form::Expr(a), Form::Expr(b)) = (p, g) else {
        return decimal_comma(prediction, gold);
    };
    if options.decimals == DecimalRule::Full
        && (is_written_out(prediction, a, b) || is_written_out(gold, b, a))
    {
        return yes("decimal in full");
    }
    if options.percent == PercentRule::Lenient
        && let (Some(a), Some(b)) = (a.as_rational(), b.as_rational())
    {
        let hundred = BigRational::from_i32(100)?;
        let marked = |s: &str| s.contains('%') || s.contains("percent") || s.contains("pct");
        if (marked(prediction) && &a * &hundred == b) || (marked(gold) && &b * &hundred == a) {
            return yes("percent, lenient");
        }
    }
    within(a, b, options.tolerance.filter(|t| *t > 0.0)?)
}

/// The same time of day, of which one may leave out the half of the day.
pub(super) fn same_time(prediction: &str, gold: &str) -> Option<Verdict> {
    let (a, b) = (time_of_day(prediction)?, time_of_day(gold)?);
    if a.0 == b.0 && (a.1 || b.1) {
        yes("same time of day")
    } else {
        None
    }
}

fn within(a: &Sum, b: &Sum, tolerance: f64) -> Option<Verdict> {
    let close = match (a.as_rational(), b.as_rational()) {
        (Some(a), Some(b)) if !b.is_zero() => (a - &b).abs() <= BigRational::from_f64(tolerance)? * b.abs(),
        _ => {
            let (a, b) = (numeric::real_value(a)?, numeric::real_value(b)?);
            (a - b).abs() <= tolerance * b.abs()
        }
    };
    if close { yes("within tolerance") } else { None }
}

/// Whether `text`, whose value is `decimal`, is a decimal with so many digits that it can only be `exact`
/// rounded to them.
fn is_written_out(text: &str, decimal: &Sum, exact: &Sum) -> bool {
    static DECIMAL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^[-+]?(\d*)\.(\d+)\s*(?:(?:\\times|\\cdot|\*)\s*10\s*\^\s*\{?\s*([-+]?\d{1,3})\s*\}?|[eE]([-+]?\d{1,3}))?$")
            .expect("a constant pattern")
    });
    let Some(parts) = DECIMAL.captures(text.trim().trim_matches('$').trim()) else {
        return false;
    };
    let digits = format!("{}{}", &parts[1], &parts[2]);
    if digits.trim_start_matches('0').len() < FULL_DIGITS || digits.len() > 40 {
        return false;
    }
    let exponent = parts
        .get(3)
        .or(parts.get(4))
        .map_or(Some(0), |e| e.as_str().parse::<i32>().ok());
    let (Some(value), Some(exponent)) = (decimal.as_rational(), exponent) else {
        return false;
    };
    // Half a unit of the last digit, a little more for what is itself known to 30 digits only.
    let last = exponent - parts[2].len() as i32;
    let scale = BigRational::from_integer(Pow::pow(BigInt::from(10), last.unsigned_abs()));
    let unit = if last < 0 { scale.recip() } else { scale };
    let half = unit / BigRational::from_integer(BigInt::from(2));
    match exact.as_rational() {
        // A short decimal beside a long one is another number, not the same rounded.
        Some(q) => !is_decimal(&q) && (q - value).abs() <= half,
        None => numeric::rational_value(exact).is_some_and(|q| (q - value).abs() <= half),
    }
}

/// Whether a fraction has a decimal that ends.
fn is_decimal(q: &BigRational) -> bool {
    let mut rest = q.denom().clone();
    for prime in [2u32, 5] {
        while (&rest % prime).is_zero() {
            rest /= prime;
        }
    }
    rest == BigInt::from(1u32)
}

/// Intervals without the ends that belong to them; a pair is an open interval.
fn without_ends(form: &Form) -> Option<Form> {
    // A relation for an interval is another option.
    if matches!(form, Form::Relation { .. }) {
        return None;
    }
    let mut region = Region::of(form)?;
    for span in &mut region.0 {
        for (_, closed) in [&mut span.low, &mut span.high].into_iter().flatten() {
            *closed = false;
        }
    }
    Some(Form::Region(region))
}

/// The number before letters that are glued to it or follow it: the 10 of `10m` and of `10 m/s`.
fn without_unit(text: &str) -> Option<&str> {
    static UNIT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^\$?\s*([-+]?\d[\d.,]*)\s*[A-Za-zµΩ°]+(?:\s*/\s*[A-Za-z]+)?(?:\s*\^?\s*\{?[23]\}?)?\s*\$?$",
        )
        .expect("a constant pattern")
    });
    UNIT.captures(text.trim())
        .and_then(|c| c.get(1))
        .map(|m| m.as_str())
}

/// 1,22 for 1.22: one comma, no space, not three digits after it.
fn decimal_comma(prediction: &str, gold: &str) -> Option<Verdict> {
    let swap = |s: &str| {
        let s = s.trim();
        let (whole, digits) = s.split_once(',')?;
        let plain = |d: &str| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit());
        (plain(whole) && plain(digits) && digits.len() != 3).then(|| format!("{whole}.{digits}"))
    };
    let is_decimal = |s: &str| s.trim().contains('.') && !s.contains(',');
    let value = |s: &str| match read(s)? {
        Form::Expr(sum) => sum.as_rational(),
        _ => None,
    };
    let same = match (swap(prediction), swap(gold)) {
        (Some(p), None) if is_decimal(gold) => value(&p)? == value(gold)?,
        (None, Some(g)) if is_decimal(prediction) => value(prediction)? == value(&g)?,
        _ => false,
    };
    if same { yes("decimal comma") } else { None }
}
