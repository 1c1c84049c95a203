//! Whether two forms say the same.

use super::options::{EqualOptions, ListOrder};
use crate::math::form::{Form, Left, NAMELESS};
use crate::math::region::{End, Region};
use crate::math::sum::{Atom, Sum};
use crate::math::{is_constant, numeric};
use num_traits::Zero;
use std::cell::Cell;

/// Pairs of parts that are compared in two answers.
const MAX_PARTS: u32 = 20_000;
/// Members that are not written alike are paired by value up to this many.
const MAX_PAIRED: usize = 12;

/// Compares forms under the options that concern their structure.
pub(super) struct Comparison {
    list_order: ListOrder,
    /// What the values of two answers may still cost, and how many parts may still be compared.
    fuel: Cell<u64>,
    parts: Cell<u32>,
    /// How deep in other forms: there a set of one is not its member.
    depth: Cell<u32>,
}

impl Comparison {
    pub(super) fn new(options: &EqualOptions) -> Self {
        Self {
            list_order: options.list_order,
            fuel: Cell::new(numeric::FUEL_OF_ANSWERS),
            parts: Cell::new(MAX_PARTS),
            depth: Cell::new(0),
        }
    }

    /// Compares what stands inside the two.
    fn deeper<T>(&self, compare: impl FnOnce() -> T) -> T {
        self.depth.set(self.depth.get() + 1);
        let result = compare();
        self.depth.set(self.depth.get() - 1);
        result
    }

    /// The rule by which a prediction and a gold answer are the same, if they are.
    pub(super) fn same(&self, p: &Form, g: &Form) -> Option<&'static str> {
        if p == g {
            return Some("same form");
        }
        self.parts.set(self.parts.get().checked_sub(1)?);
        match (p, g) {
            (Form::Expr(a), Form::Expr(b)) => self.close(a, b).then_some("same value"),
            (Form::Expr(_) | Form::Quantity(..), Form::Expr(_) | Form::Quantity(..)) => {
                let ((a, unit), (b, other)) = (p.quantity()?, g.quantity()?);
                let rule = if a == b { "same form" } else { "same value" };
                (one_unit(unit, other) && self.close(a, b)).then_some(rule)
            }
            (Form::Compound(a), Form::Compound(b)) => {
                let parts = a.iter().zip(b);
                (a.len() == b.len()
                    && parts
                        .into_iter()
                        .all(|((a, u), (b, v))| u == v && self.close(a, b)))
                .then_some("same parts")
            }
            (Form::Tuple(a), Form::Tuple(b)) => self.all(a, b).then_some("same parts"),
            (Form::Region(a), Form::Region(b)) => {
                let ends = |a: &End, b: &End| match (a, b) {
                    (Some((a, x)), Some((b, y))) => x == y && self.close(a, b),
                    (a, b) => a == b,
                };
                let spans = a.0.iter().zip(&b.0);
                (a.0.len() == b.0.len()
                    && spans
                        .into_iter()
                        .all(|(a, b)| ends(&a.low, &b.low) && ends(&a.high, &b.high)))
                .then_some("same parts")
            }
            (Form::List(a), Form::List(b)) if self.list_order == ListOrder::Strict => {
                self.all(a, b).then_some("same parts")
            }
            (Form::List(a), Form::List(b)) => self.matching(a, b).then_some(if p.key() == g.key() {
                "same form"
            } else {
                "same members"
            }),
            (Form::Set(a), Form::Set(b)) => self.matching(a, b).then_some("same members"),
            (Form::Set(a), Form::List(b)) | (Form::List(b), Form::Set(a)) => {
                self.matching(a, b).then_some(if p.key() == g.key() {
                    "same form"
                } else {
                    "same members"
                })
            }
            (Form::SetOp(o, a), Form::SetOp(q, b)) if o == q => {
                let same = if *o == '\\' {
                    self.all(a, b)
                } else {
                    self.matching(a, b)
                };
                same.then_some("same members")
            }
            (Form::Matrix(a), Form::Matrix(b)) => {
                (a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.all(a, b))).then_some("same parts")
            }
            (Form::Cases(a), Form::Cases(b)) => {
                let pairs = a.iter().zip(b);
                (a.len() == b.len()
                    && pairs
                        .into_iter()
                        .all(|((v, c), (w, d))| self.same(v, w).is_some() && self.same(c, d).is_some()))
                .then_some("same parts")
            }
            (Form::Ratio(a), Form::Ratio(b)) => {
                (a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.close(a, b))).then_some("same parts")
            }
            (Form::Relation { region: Some(a), .. }, Form::Relation { region: Some(b), .. }) => {
                self.same(a, b).map(|_| "same range")
            }
            (Form::Relation { parts: a, .. }, Form::Relation { parts: b, .. }) => {
                let parts = a.iter().zip(b);
                (!a.is_empty()
                    && a.len() == b.len()
                    && parts
                        .into_iter()
                        .all(|((a, o), (b, q))| o == q && self.close(a, b)))
                .then_some("same parts")
            }
            (
                Form::Congruence {
                    zero: a,
                    modulus: m,
                    value: v,
                },
                Form::Congruence {
                    zero: b,
                    modulus: n,
                    value: w,
                },
            ) => {
                // A name that is said or not said, as in an equation.
                let nameless = is_nameless(a) != is_nameless(b);
                let same = self.close(a, b) || (nameless && congruent(v.as_deref(), w.as_deref(), m));
                (same && self.close(m, n)).then_some("same congruence")
            }
            // The modulus said or not said, as a unit is.
            (
                Form::Congruence {
                    value: Some(value), ..
                },
                other,
            )
            | (
                other,
                Form::Congruence {
                    value: Some(value), ..
                },
            ) => self.same(value, other).map(|_| "value of a congruence"),
            (Form::Named(_), _) | (_, Form::Named(_)) => self.named(p, g),
            (Form::Equation { .. }, _) | (_, Form::Equation { .. }) => self.equation(p, g),
            (Form::Choice(a, _), Form::Choice(b, _)) => (a == b).then_some("same letter"),
            (Form::Choice(letter, rest), other) | (other, Form::Choice(letter, rest)) => {
                let is_letter = matches!(other, Form::Expr(sum) if *sum == Sum::symbol(&letter.to_string()));
                let value = || rest.as_ref().is_some_and(|rest| self.same(rest, other).is_some());
                (is_letter || value()).then_some("letter of a choice")
            }
            // A list of one, and a tuple or a column written as a list in the same order.
            (Form::List(a), one) if a.len() == 1 => self.same(&a[0], one),
            (one, Form::List(b)) if b.len() == 1 => self.same(one, &b[0]),
            (Form::Set(a), one) if a.len() == 1 && self.depth.get() == 0 && is_number(one) => {
                self.same(&a[0], one)
            }
            (one, Form::Set(b)) if b.len() == 1 && self.depth.get() == 0 && is_number(one) => {
                self.same(one, &b[0])
            }
            (Form::Tuple(a), Form::List(b)) | (Form::List(a), Form::Tuple(b)) => {
                self.all(a, b).then_some("same parts, other brackets")
            }
            (Form::Matrix(rows), other) | (other, Form::Matrix(rows)) => self.column(rows, other),
            (Form::Text(_), Form::Expr(_) | Form::Quantity(..))
            | (Form::Expr(_) | Form::Quantity(..), Form::Text(_)) => {
                let key = p.key();
                (key == g.key() && !key.is_empty()).then_some("same text")
            }
            (Form::Text(_), Form::Text(_)) => (p.key() == g.key()).then_some("same form"),
            _ => None,
        }
    }

    /// Whether two sums have one value. Rational numbers do only where they are the same.
    fn close(&self, a: &Sum, b: &Sum) -> bool {
        let both_rational = a.as_rational().is_some() && b.as_rational().is_some();
        a == b || (!both_rational && numeric::same_value(a, b, &self.fuel) == Some(true))
    }

    fn all(&self, a: &[Form], b: &[Form]) -> bool {
        a.len() == b.len() && self.deeper(|| a.iter().zip(b).all(|(a, b)| self.same(a, b).is_some()))
    }

    /// Whether members can be paired off; most pairs are identical.
    fn matching(&self, a: &[Form], b: &[Form]) -> bool {
        if a.len() != b.len() {
            return false;
        }
        let (mut left, mut right): (Vec<&Form>, Vec<&Form>) = (a.iter().collect(), b.iter().collect());
        left.sort();
        right.sort();
        let (mut i, mut j) = (0, 0);
        let (mut unmatched, mut rest) = (Vec::new(), Vec::new());
        while i < left.len() || j < right.len() {
            let order = match (left.get(i), right.get(j)) {
                (Some(x), Some(y)) => x.cmp(y),
                (Some(_), None) => std::cmp::Ordering::Less,
                _ => std::cmp::Ordering::Greater,
            };
            if order.is_le() {
                if order.is_lt() {
                    unmatched.push(left[i]);
                }
                i += 1;
            }
            if order.is_ge() {
                if order.is_gt() {
                    rest.push(right[j]);
                }
                j += 1;
            }
        }
        // Comparing by value costs more: a long list must be canonical.
        unmatched.len() <= MAX_PAIRED
            && unmatched.into_iter().all(|form| {
                let at = self.deeper(|| rest.iter().position(|other| self.same(form, other).is_some()));
                at.map(|at| rest.remove(at)).is_some()
            })
    }

    /// A column against a tuple or what looks like an interval.
    fn column(&self, rows: &[Vec<Form>], other: &Form) -> Option<&'static str> {
        if !rows.iter().all(|row| row.len() == 1) {
            return None;
        }
        let column: Vec<Form> = rows.iter().flatten().cloned().collect();
        let same = match other {
            Form::Tuple(items) => self.all(&column, items),
            // In square brackets two numbers look like an interval; a matrix says that they are none.
            Form::Region(Region(spans)) => match spans.as_slice() {
                [span] => match (&span.low, &span.high) {
                    (Some((low, true)), Some((high, true))) => {
                        self.all(&column, &[Form::Expr(low.clone()), Form::Expr(high.clone())])
                    }
                    _ => false,
                },
                _ => false,
            },
            _ => false,
        };
        same.then_some("column written as a tuple")
    }

    /// Named values: by their names where both have them, else in order.
    fn named(&self, p: &Form, g: &Form) -> Option<&'static str> {
        let sorted = |pairs: &[(String, Form)]| {
            let mut pairs = pairs.to_vec();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs
        };
        let values =
            |pairs: &[(String, Form)]| pairs.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
        match (p, g) {
            (Form::Named(a), Form::Named(b)) => {
                let (a, b) = (sorted(a), sorted(b));
                let same_names = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0);
                let shared = a.iter().any(|(name, _)| b.iter().any(|(other, _)| other == name));
                ((same_names || !shared) && self.all(&values(&a), &values(&b))).then_some("same named values")
            }
            (Form::Named(pairs), Form::Tuple(items)) | (Form::Tuple(items), Form::Named(pairs)) => {
                (self.all(&values(pairs), items) || self.all(&values(&sorted(pairs)), items))
                    .then_some("named values in order")
            }
            (Form::Named(pairs), Form::List(items)) | (Form::List(items), Form::Named(pairs)) => {
                // x_1 and x_2 are the roots, in any order.
                let indexed = pairs
                    .iter()
                    .map(|(name, _)| name.split_once('_').map(|(base, _)| base));
                let first = pairs
                    .first()
                    .and_then(|(name, _)| name.split_once('_').map(|(base, _)| base));
                let roots = first.is_some() && indexed.into_iter().all(|base| base == first);
                (self.all(&values(pairs), items) || (roots && self.matching(&values(pairs), items)))
                    .then_some("named values in order")
            }
            _ => None,
        }
    }

    /// An equation against another, or against the value that it gives its left side.
    fn equation(&self, p: &Form, g: &Form) -> Option<&'static str> {
        if let (Form::Equation { zero: a, .. }, Form::Equation { zero: b, .. }) = (p, g)
            && self.close(a, b)
        {
            return Some("same equation");
        }
        match (p, g) {
            (
                Form::Equation {
                    value: a, left: l, ..
                },
                Form::Equation {
                    value: b, left: r, ..
                },
            ) => {
                let named = |left: &Left| matches!(left, Left::Name | Left::Function);
                let asked = |left: &Left| matches!(left, Left::Asked);
                ((named(l) && named(r)) || (asked(l) && asked(r)))
                    .then(|| self.same(a, b))
                    .flatten()
                    .map(|_| "value of an equation")
            }
            (
                Form::Equation {
                    value, written, left, ..
                },
                other,
            ) => {
                let constant = matches!(other, Form::Expr(sum) | Form::Quantity(sum, _) if is_constant(sum));
                let accepted = match left {
                    Left::Name | Left::Function => true,
                    Left::Asked | Left::Call => constant,
                    Left::Other => false,
                };
                if accepted {
                    let written = || self.same(written.as_deref()?, other);
                    self.same(value, other)
                        .or_else(written)
                        .map(|_| "value of an equation")
                } else {
                    None
                }
            }
            (other, equation @ Form::Equation { left, .. }) if *left != Left::Call => {
                self.equation(equation, other)
            }
            _ => None,
        }
    }
}

/// Whether a congruence does not say what is congruent.
fn is_nameless(zero: &Sum) -> bool {
    zero.0
        .keys()
        .any(|m| m.0.contains_key(&Atom::Sym(NAMELESS.to_owned())))
}

/// Whether two values are the same modulo a number.
fn congruent(a: Option<&Form>, b: Option<&Form>, modulus: &Sum) -> bool {
    let rational = |form: Option<&Form>| form?.quantity()?.0.as_rational();
    match (rational(a), rational(b), modulus.as_rational()) {
        (Some(a), Some(b), Some(m)) if !m.is_zero() => ((a - b) / m).is_integer(),
        _ => false,
    }
}

/// Whether a form is a value that a set of one may be given for: the only solution, but not a set of its own.
fn is_number(form: &Form) -> bool {
    match form {
        Form::Expr(sum) => *sum != Sum::symbol("\\emptyset"),
        Form::Quantity(..) | Form::Equation { .. } | Form::Text(_) => true,
        _ => false,
    }
}

/// Whether two units may be one: either is not said, one names the other more closely, or one is the unit of a
/// drawing (5 square units), which has the other's dimension.
fn one_unit(a: Option<&str>, b: Option<&str>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return true };
    for (a, b) in [(a, b), (b, a)] {
        if let Some(power) = a.strip_prefix("unit")
            && (power.is_empty() || power.starts_with('^'))
        {
            return dimension(b) == Some(power);
        }
    }
    let stem = |word: &str| {
        word.strip_suffix('s')
            .filter(|w| w.len() > 1)
            .unwrap_or(word)
            .to_owned()
    };
    let words = |unit: &str| unit.split(' ').map(stem).collect::<Vec<_>>();
    let (a, b) = (words(a), words(b));
    let within = |a: &[String], b: &[String]| a.iter().all(|word| b.contains(word));
    let open = |words: &[String]| !words.iter().any(|w| w == "per");
    a == b || (open(&a) && open(&b) && (within(&a, &b) || within(&b, &a)))
}

/// The power of a length that a unit measures; none where it measures something else that has a name of its own.
fn dimension(unit: &str) -> Option<&str> {
    match unit {
        "acre" | "hectare" => Some("^2"),
        "l" | "ml" | "gal" | "pt" | "qt" | "cup" => Some("^3"),
        "degree" | "radian" | "dollar" | "cent" | "euro" | "th" => None,
        unit => match unit.find('^') {
            Some(at) => Some(&unit[at..]),
            None => Some(""),
        },
    }
}
