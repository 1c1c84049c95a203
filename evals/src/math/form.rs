//! Canonical forms of whole answers.

use super::region::Region;
use super::sum::{Atom, Sum};
use super::words;

/// What an answer is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    Expr(Sum),
    /// A value and its unit.
    Quantity(Sum, String),
    /// Values in several units that make one.
    Compound(Vec<(Sum, String)>),
    /// In order, in round brackets; also an open interval.
    Tuple(Vec<Form>),
    /// A part of the real line that is more than an open interval.
    Region(Region),
    /// Between braces: sorted, each member once.
    Set(Vec<Form>),
    /// Without brackets, in order as written.
    List(Vec<Form>),
    /// Values of different names, in order as written.
    Named(Vec<(String, Form)>),
    /// `∩` and `U` of sets that are not followed, sorted; `\` in order.
    SetOp(char, Vec<Form>),
    Matrix(Vec<Vec<Form>>),
    /// Values and their conditions, sorted.
    Cases(Vec<(Form, Form)>),
    /// `zero` = 0, scaled to leading coefficient 1; `value` is the right-hand side.
    Equation {
        zero: Sum,
        value: Box<Form>,
        /// The right-hand side with the variable of the function as it was written, where that was renamed.
        written: Option<Box<Form>>,
        left: Left,
    },
    /// Every part is below 0 (or 0 itself, if `true`), or not 0; `region` is where that holds, where it is
    /// known.
    Relation {
        parts: Vec<(Sum, Order)>,
        /// Whether it is several, of which one holds.
        either: bool,
        region: Option<Box<Form>>,
    },
    /// `zero` is 0 modulo `modulus`; `value` is what a name is congruent to.
    Congruence {
        zero: Sum,
        modulus: Sum,
        value: Option<Box<Form>>,
    },
    Ratio(Vec<Sum>),
    /// The letter of a choice, and what stands behind it.
    Choice(char, Option<Box<Form>>),
    Text(String),
}

/// What is congruent to a value where that is not said.
pub(crate) const NAMELESS: &str = "?";

/// How a sum compares to 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    Below,
    AtMost,
    Not,
}

/// What stands on the left of an equals sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    /// `x`, `f(x)`, `AB`, `|AB|`, words.
    Name,
    /// A function of a variable: `f(x)`.
    Function,
    /// What a problem may ask for: `m + n`, `100m + n`, `\frac mn`.
    Asked,
    /// A function of unknowns: `\cos A`. It has a value, but it is not left out.
    Call,
    Other,
}

/// Between the number and the unit of a class key; no other key has it.
pub(crate) const BEFORE_UNIT: char = '\u{a0}';

impl Form {
    /// The class key. Forms of one class have equal keys, and forms of different classes different ones.
    ///
    /// What does not change the answer does not change the class: a name before a value, an inequality written
    /// for the interval that it describes, a unit that only says what is counted.
    pub(crate) fn key(&self) -> String {
        match self.measured() {
            (key, Some(unit)) if words::measures(unit) => format!("{key}{BEFORE_UNIT}{unit}"),
            (key, _) => key,
        }
    }

    /// The class key without the unit, and that unit where one is said, which all items of a list share.
    fn measured(&self) -> (String, Option<&str>) {
        match self {
            Self::Quantity(sum, unit) => (sum.to_string(), spoken(sum, unit)),
            Self::List(items) if same_units(items) => {
                let unit = items.first().and_then(|item| match item {
                    Self::Quantity(sum, unit) => spoken(sum, unit),
                    _ => None,
                });
                let key = braced(items, |item| match item {
                    Self::Quantity(sum, _) => sum.to_string(),
                    item => item.key(),
                });
                (key, unit)
            }
            Self::Equation {
                value,
                left: Left::Asked | Left::Function,
                ..
            } => value.measured(),
            form => (form.inner_key(), None),
        }
    }

    /// The key of a part, which keeps its unit.
    fn inner_key(&self) -> String {
        let keys = |forms: &[Self]| forms.iter().map(Self::inner_key).collect::<Vec<_>>().join(", ");
        match self {
            Self::Expr(sum) => sum.to_string(),
            Self::Quantity(sum, unit) => match spoken(sum, unit) {
                Some(unit) if unit != "degree" => format!("{sum} {unit}"),
                _ => sum.to_string(),
            },
            Self::Compound(parts) => parts
                .iter()
                .map(|(sum, unit)| format!("{sum} {unit}"))
                .collect::<Vec<_>>()
                .join(" "),
            Self::Tuple(items) => format!("({})", keys(items)),
            Self::Region(region) => region.to_string(),
            Self::Set(items) | Self::List(items) => braced(items, Self::inner_key),
            Self::Named(pairs) => {
                let mut sorted: Vec<&(String, Self)> = pairs.iter().collect();
                sorted.sort();
                let values: Vec<String> = sorted.iter().map(|(_, value)| value.inner_key()).collect();
                format!("({})", values.join(", "))
            }
            Self::SetOp(op, parts) => parts
                .iter()
                .map(Self::inner_key)
                .collect::<Vec<_>>()
                .join(&format!(" {op} ")),
            Self::Matrix(rows) => {
                format!(
                    "[{}]",
                    rows.iter().map(|row| keys(row)).collect::<Vec<_>>().join("; ")
                )
            }
            Self::Cases(rows) => {
                let row = |(value, condition): &(Self, Self)| {
                    format!("{} if {}", value.inner_key(), condition.inner_key())
                };
                rows.iter().map(row).collect::<Vec<_>>().join("; ")
            }
            Self::Equation {
                value,
                left: Left::Asked | Left::Function,
                ..
            } => value.key(),
            Self::Equation { zero, .. } => format!("{zero} = 0"),
            Self::Relation {
                region: Some(region), ..
            } => region.inner_key(),
            Self::Relation { parts, .. } => parts
                .iter()
                .map(|(sum, order)| match order {
                    Order::Below => format!("{sum} < 0"),
                    Order::AtMost => format!("{sum} <= 0"),
                    Order::Not => format!("{sum} != 0"),
                })
                .collect::<Vec<_>>()
                .join(" and "),
            Self::Congruence { zero, modulus, .. } => format!("{zero} = 0 mod {modulus}"),
            Self::Ratio(parts) => parts.iter().map(Sum::to_string).collect::<Vec<_>>().join(":"),
            Self::Choice(letter, _) => letter.to_string(),
            Self::Text(words) => super::text::key(words),
        }
    }

    /// The value and the unit of a quantity, or the value alone.
    pub(crate) fn quantity(&self) -> Option<(&Sum, Option<&str>)> {
        match self {
            Self::Expr(sum) => Some((sum, None)),
            Self::Quantity(sum, unit) => Some((sum, Some(unit))),
            _ => None,
        }
    }
}

/// A unit where it says more than that there is one: where there is a pi, an angle is in radians.
fn spoken<'a>(sum: &Sum, unit: &'a str) -> Option<&'a str> {
    let with_pi = || {
        let pi = Atom::Sym("\\pi".to_owned());
        sum.0.keys().any(|m| m.0.contains_key(&pi))
    };
    let silent = unit == "th" || unit.starts_with("unit") || (unit == "radian" && with_pi());
    (!silent).then_some(unit)
}

/// Members in braces, in an order of their own.
fn braced(items: &[Form], key: impl Fn(&Form) -> String) -> String {
    let mut sorted: Vec<&Form> = items.iter().collect();
    sorted.sort();
    let keys: Vec<String> = sorted.into_iter().map(key).collect();
    format!("{{{}}}", keys.join(", "))
}

/// Whether all items carry one unit, or none: then it says nothing.
fn same_units(items: &[Form]) -> bool {
    let mut units = items
        .iter()
        .filter_map(|item| item.quantity().map(|(_, unit)| unit));
    let first = units.next();
    units.all(|unit| Some(unit) == first)
}
