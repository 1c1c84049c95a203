//! Parts of the real line: unions of intervals, in order and apart from each other.

use super::form::Form;
use super::numeric::sign_of_constant;
use super::sum::{Atom, Budget, Result, Sum, TooMuch, int};
use std::cmp::Ordering;

/// Unions of more intervals are not followed.
const MAX_SPANS: usize = 32;

/// One end of an interval and whether it belongs to it; none at infinity.
pub(crate) type End = Option<(Sum, bool)>;

/// An interval.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) low: End,
    pub(crate) high: End,
}

/// A union of intervals. One interval may have any ends; of several, the ends are known constants in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Region(pub(crate) Vec<Span>);

/// 1 or -1 for infinity with its sign.
pub(crate) fn infinite(sum: &Sum) -> Option<i64> {
    let infinity = Atom::Sym("\\infty".to_owned());
    let mut terms = sum.0.iter().filter(|(m, _)| m.0.contains_key(&infinity));
    let (_, q) = terms.next()?;
    Some(if *q < int(0) { -1 } else { 1 })
}

fn compare(a: &Sum, b: &Sum) -> Result<Ordering> {
    if a == b {
        return Ok(Ordering::Equal);
    }
    let mut budget = Budget::default();
    let minus = b.clone().scale(&int(-1), &mut budget)?;
    let difference = a.clone().add(&minus, &mut budget)?;
    Ok(sign_of_constant(&difference).ok_or(TooMuch)?.cmp(&0))
}

impl Span {
    pub(crate) fn new(low: Sum, closed_low: bool, high: Sum, closed_high: bool) -> Self {
        // Infinity never belongs to an interval, however it is bracketed.
        let end = |sum: Sum, closed: bool| infinite(&sum).is_none().then_some((sum, closed));
        Self {
            low: end(low, closed_low),
            high: end(high, closed_high),
        }
    }

    pub(crate) fn point(at: Sum) -> Self {
        Self {
            low: Some((at.clone(), true)),
            high: Some((at, true)),
        }
    }

    /// Whether nothing lies between the ends.
    fn is_empty(&self) -> Result<bool> {
        let (Some((low, in_low)), Some((high, in_high))) = (&self.low, &self.high) else {
            return Ok(false);
        };
        Ok(match compare(low, high)? {
            Ordering::Less => false,
            Ordering::Equal => !(*in_low && *in_high),
            Ordering::Greater => true,
        })
    }
}

/// Which of two lower ends lies further left.
fn compare_low(a: &End, b: &End) -> Result<Ordering> {
    Ok(match (a, b) {
        (None, None) => Ordering::Equal,
        (None, _) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (Some((a, in_a)), Some((b, in_b))) => compare(a, b)?.then(in_b.cmp(in_a)),
    })
}

fn compare_high(a: &End, b: &End) -> Result<Ordering> {
    Ok(match (a, b) {
        (None, None) => Ordering::Equal,
        (None, _) => Ordering::Greater,
        (_, None) => Ordering::Less,
        (Some((a, in_a)), Some((b, in_b))) => compare(a, b)?.then(in_a.cmp(in_b)),
    })
}

/// Whether an interval that ends at `high` and one that begins at `low` to its right leave a gap.
fn gap(high: &End, low: &End) -> Result<bool> {
    Ok(match (high, low) {
        (Some((high, in_high)), Some((low, in_low))) => match compare(high, low)? {
            Ordering::Less => true,
            Ordering::Equal => !in_high && !in_low,
            Ordering::Greater => false,
        },
        _ => false,
    })
}

impl Region {
    pub(crate) fn all() -> Self {
        Self(vec![Span {
            low: None,
            high: None,
        }])
    }

    pub(crate) fn empty() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Any intervals, brought into order; each must have known ends.
    fn ordered(spans: Vec<Span>) -> Result<Self> {
        let mut sorted: Vec<Span> = Vec::new();
        for span in spans {
            if span.is_empty()? {
                continue;
            }
            let mut at = sorted.len();
            while at > 0 && compare_low(&sorted[at - 1].low, &span.low)? == Ordering::Greater {
                at -= 1;
            }
            sorted.insert(at, span);
        }
        let mut merged: Vec<Span> = Vec::new();
        for span in sorted {
            match merged.last_mut() {
                Some(last) if !gap(&last.high, &span.low)? => {
                    if compare_high(&span.high, &last.high)? == Ordering::Greater {
                        last.high = span.high;
                    }
                }
                _ => merged.push(span),
            }
        }
        Ok(Self(merged))
    }

    pub(crate) fn union(parts: impl IntoIterator<Item = Self>) -> Result<Self> {
        let spans: Vec<Span> = parts.into_iter().flat_map(|r| r.0).collect();
        if spans.len() > MAX_SPANS {
            return Err(TooMuch);
        }
        if spans.len() == 1 {
            Ok(Self(spans))
        } else {
            Self::ordered(spans)
        }
    }

    pub(crate) fn intersection(&self, other: &Self) -> Result<Self> {
        let mut spans = Vec::new();
        for a in &self.0 {
            for b in &other.0 {
                let low = if compare_low(&a.low, &b.low)? == Ordering::Less {
                    &b.low
                } else {
                    &a.low
                };
                let high = if compare_high(&a.high, &b.high)? == Ordering::Greater {
                    &b.high
                } else {
                    &a.high
                };
                spans.push(Span {
                    low: low.clone(),
                    high: high.clone(),
                });
            }
        }
        Self::ordered(spans)
    }

    pub(crate) fn complement(&self) -> Result<Self> {
        let turned = |end: &End| end.clone().map(|(at, closed)| (at, !closed));
        let mut spans = Vec::new();
        let mut low: End = None;
        let mut open = true;
        for span in &self.0 {
            if span.low.is_some() {
                spans.push(Span {
                    low: low.clone(),
                    high: turned(&span.low),
                });
            }
            low = turned(&span.high);
            open = span.high.is_some();
        }
        if open {
            spans.push(Span { low, high: None });
        }
        Self::ordered(spans)
    }

    /// What a form is as a part of the line, if it can be one.
    pub(crate) fn of(form: &Form) -> Option<Self> {
        match form {
            Form::Region(region) => Some(region.clone()),
            Form::Tuple(ends) => match ends.as_slice() {
                [Form::Expr(low), Form::Expr(high)] => {
                    Some(Self(vec![Span::new(low.clone(), false, high.clone(), false)]))
                }
                _ => None,
            },
            Form::Set(members) => {
                let points = members.iter().map(|member| match member {
                    Form::Expr(sum) => Some(Self(vec![Span::point(sum.clone())])),
                    _ => None,
                });
                Self::union(points.collect::<Option<Vec<_>>>()?).ok()
            }
            Form::Expr(sum) if *sum == Sum::symbol("\\emptyset") => Some(Self::empty()),
            Form::Relation { region, .. } => Self::of(region.as_deref()?),
            _ => None,
        }
    }

    /// The form that is written for it: an open interval is a pair, single points are a set.
    pub(crate) fn into_form(self) -> Form {
        let point = |span: &Span| match (&span.low, &span.high) {
            (Some((a, true)), Some((b, true))) if a == b => Some(Form::Expr(a.clone())),
            _ => None,
        };
        if self.is_empty() {
            return Form::Expr(Sum::symbol("\\emptyset"));
        }
        if let Some(points) = self.0.iter().map(point).collect::<Option<Vec<_>>>() {
            let mut points = points;
            points.sort();
            return Form::Set(points);
        }
        match self.0.as_slice() {
            [
                Span {
                    low: Some((low, false)),
                    high: Some((high, false)),
                },
            ] => Form::Tuple(vec![Form::Expr(low.clone()), Form::Expr(high.clone())]),
            _ => Form::Region(self),
        }
    }
}

impl std::fmt::Display for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, span) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(" U ")?;
            }
            match &span.low {
                Some((low, closed)) => write!(f, "{}{low}", if *closed { '[' } else { '(' })?,
                None => f.write_str("(-infty")?,
            }
            match &span.high {
                Some((high, closed)) => write!(f, ", {high}{}", if *closed { ']' } else { ')' })?,
                None => f.write_str(", infty)")?,
            }
        }
        Ok(())
    }
}
