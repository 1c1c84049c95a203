//! Canonical forms of whole answers.

use super::eval::{is_constant, left_side};
use super::parse::Node;
use super::sum::{Atom, Budget, Result, Sum, TooMuch, int};
use num_rational::BigRational;
use num_traits::Signed;

/// What an answer is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    Expr(Sum),
    /// In order, in round brackets; also an open interval.
    Tuple(Vec<Form>),
    /// Two ends and whether each belongs to it, at least one of them in square brackets.
    Interval {
        low: Sum,
        closed_low: bool,
        high: Sum,
        closed_high: bool,
    },
    /// Sorted. A set in braces holds each member once, a bare list as often as it is written.
    Set(Vec<Form>),
    /// Sorted parts of a union; `∩` and `\` keep their order.
    SetOp(char, Vec<Form>),
    Matrix(Vec<Vec<Form>>),
    /// `zero` = 0, scaled to leading coefficient 1; `value` is the right-hand side, `named` whether the left
    /// is a name.
    Equation {
        zero: Sum,
        value: Box<Form>,
        left: Left,
    },
    /// Every part is below 0 (or 0 itself, if `true`); `between` is the same as an interval, where it is one.
    Below {
        parts: Vec<(Sum, bool)>,
        between: Option<Box<Form>>,
    },
    NotZero(Sum),
    Ratio(Vec<Sum>),
    Text(String),
}

/// What stands on the left of an equals sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    /// `x`, `f(x)`, `AB`, `|AB|`, words.
    Name,
    /// A sum of different variables, such as `m + n`.
    Names,
    Other,
}

impl Form {
    /// The class key. Equal forms have equal keys and different forms different ones.
    pub(crate) fn key(&self) -> String {
        let keys = |forms: &[Self]| forms.iter().map(Self::key).collect::<Vec<_>>().join(", ");
        match self {
            Self::Expr(sum) => sum.to_string(),
            Self::Tuple(items) => format!("({})", keys(items)),
            Self::Interval {
                low,
                closed_low,
                high,
                closed_high,
            } => {
                let open = if *closed_low { '[' } else { '(' };
                let close = if *closed_high { ']' } else { ')' };
                format!("{open}{low}, {high}{close}")
            }
            Self::Set(items) => format!("{{{}}}", keys(items)),
            Self::SetOp(op, parts) => parts
                .iter()
                .map(Self::key)
                .collect::<Vec<_>>()
                .join(&format!(" {op} ")),
            Self::Matrix(rows) => {
                format!(
                    "[{}]",
                    rows.iter().map(|row| keys(row)).collect::<Vec<_>>().join("; ")
                )
            }
            Self::Equation { zero, .. } => format!("{zero} = 0"),
            Self::Below { parts, .. } => parts
                .iter()
                .map(|(sum, or_equal)| format!("{sum} {} 0", if *or_equal { "<=" } else { "<" }))
                .collect::<Vec<_>>()
                .join(" and "),
            Self::NotZero(sum) => format!("{sum} != 0"),
            Self::Ratio(parts) => parts.iter().map(Sum::to_string).collect::<Vec<_>>().join(":"),
            Self::Text(words) => super::clean::text_key(words),
        }
    }
}

/// Builds the form of a tree; an answer with ± is the list of both values.
pub(crate) fn build(tree: &Node) -> Result<Form> {
    let mut builder = Builder {
        budget: Budget::default(),
        upper: true,
    };
    builder.with_signs(tree)
}

/// Turns one tree into its form, within one budget.
pub(super) struct Builder {
    pub(super) budget: Budget,
    /// Whether ± now means + (and ∓ means -).
    pub(super) upper: bool,
}

/// An interval; an open one is a pair.
fn interval(low: Sum, closed_low: bool, high: Sum, closed_high: bool) -> Form {
    if closed_low || closed_high {
        Form::Interval {
            low,
            closed_low,
            high,
            closed_high,
        }
    } else {
        Form::Tuple(vec![Form::Expr(low), Form::Expr(high)])
    }
}

fn has_plus_minus(node: &Node) -> bool {
    match node {
        Node::Add(terms) => terms
            .iter()
            .any(|(sign, n)| matches!(sign, '±' | '∓') || has_plus_minus(n)),
        Node::Mul(factors) => factors.iter().any(|(_, n)| has_plus_minus(n)),
        Node::Pow(a, b) => has_plus_minus(a) || has_plus_minus(b),
        Node::Degree(a) => has_plus_minus(a),
        Node::Call(_, nodes) | Node::Apply(_, nodes) | Node::Group(_, nodes, _) | Node::Rel(nodes, _) => {
            nodes.iter().any(has_plus_minus)
        }
        _ => false,
    }
}

impl Builder {
    fn with_signs(&mut self, node: &Node) -> Result<Form> {
        match node {
            Node::List(items) => Ok(Form::Set(self.members(items)?)),
            Node::Set(items) => {
                let mut members = self.members(items)?;
                members.dedup();
                Ok(Form::Set(members))
            }
            node if has_plus_minus(node) => self.members(std::slice::from_ref(node)).map(Form::Set),
            node => self.form(node),
        }
    }

    /// The members of a list, sorted; each ± gives two, and a nested bare list gives its own.
    fn members(&mut self, items: &[Node]) -> Result<Vec<Form>> {
        let mut members = Vec::new();
        for item in items {
            let both = has_plus_minus(item);
            for upper in if both { &[true, false][..] } else { &[true] } {
                self.upper = *upper;
                // x = 2, x = 3 and (p, q) = (1, 2), (3, 4): only the values are listed.
                members.push(match self.form(item)? {
                    Form::Equation {
                        value,
                        left: Left::Name,
                        ..
                    } => *value,
                    form => form,
                });
            }
            self.upper = true;
        }
        members.sort();
        Ok(members)
    }

    fn form(&mut self, node: &Node) -> Result<Form> {
        match node {
            Node::Group(_, items, _) if items.len() == 1 => self.with_signs(&items[0]),
            Node::Group(open, items, close) => self.group(*open, items, *close),
            Node::Set(_) | Node::List(_) => self.with_signs(node),
            Node::Matrix(rows) => {
                let rows: Result<Vec<Vec<Form>>> = rows
                    .iter()
                    .map(|row| row.iter().map(|cell| self.form(cell)).collect())
                    .collect();
                Ok(Form::Matrix(rows?))
            }
            Node::Add(terms) if terms.iter().any(|(_, n)| matches!(n, Node::Matrix(_))) => {
                self.matrix_sum(terms)
            }
            Node::SetOp(op, parts) => {
                let mut parts = parts.iter().map(|p| self.form(p)).collect::<Result<Vec<_>>>()?;
                if matches!(op, 'U' | '∩') {
                    parts.sort();
                }
                Ok(Form::SetOp(*op, parts))
            }
            Node::Ratio(parts) => Ok(Form::Ratio(
                parts.iter().map(|p| self.sum(p)).collect::<Result<_>>()?,
            )),
            Node::Text(words) => Ok(Form::Text(words.clone())),
            Node::Rel(parts, relations) => self.relation(parts, relations),
            node => self.sum(node).map(Form::Expr),
        }
    }

    fn matrix_sum(&mut self, terms: &[(char, Node)]) -> Result<Form> {
        let mut total: Option<Vec<Vec<Form>>> = None;
        for (sign, term) in terms {
            let sign = int(if *sign == '-' { -1 } else { 1 });
            let Form::Matrix(mut rows) = self.form(term)? else {
                return Err(TooMuch);
            };
            let same_shape =
                |other: &Vec<Vec<Form>>| other.len() == rows.len() && other[0].len() == rows[0].len();
            if !total.as_ref().is_none_or(same_shape) {
                return Err(TooMuch);
            }
            let before = total
                .take()
                .into_iter()
                .flatten()
                .flatten()
                .map(Some)
                .chain(std::iter::repeat(None));
            for (cell, before) in rows.iter_mut().flatten().zip(before) {
                let Form::Expr(sum) = cell else {
                    return Err(TooMuch);
                };
                let mut sum = std::mem::take(sum).scale(&sign, &mut self.budget)?;
                if let Some(Form::Expr(before)) = before {
                    sum = sum.add(&before, &mut self.budget)?;
                }
                *cell = Form::Expr(sum);
            }
            total = Some(rows);
        }
        total.map(Form::Matrix).ok_or(TooMuch)
    }

    fn group(&mut self, open: char, items: &[Node], close: char) -> Result<Form> {
        if let ([low, high], true) = (items, open == '[' || close == ']') {
            let (low, high) = (self.sum(low)?, self.sum(high)?);
            // Infinity never belongs to an interval, however it is bracketed.
            let infinite = |sum: &Sum| {
                sum.0
                    .keys()
                    .any(|m| m.0.contains_key(&Atom::Sym("\\infty".to_owned())))
            };
            let (closed_low, closed_high) =
                (open == '[' && !infinite(&low), close == ']' && !infinite(&high));
            return Ok(interval(low, closed_low, high, closed_high));
        }
        Ok(Form::Tuple(
            items.iter().map(|item| self.form(item)).collect::<Result<_>>()?,
        ))
    }

    fn relation(&mut self, parts: &[Node], relations: &[&'static str]) -> Result<Form> {
        // What is said to be about a value is that value; "x ≈ 11" is 11.
        if let Some(at) = relations.iter().position(|r| *r == "approx") {
            return match (at, &parts[0]) {
                (0, name) if left_side(name) == Left::Name => self.with_signs(&parts[1]),
                (0, value) => self.with_signs(value),
                _ => self.relation(&parts[..=at], &relations[..at]),
            };
        }
        if let Some(at) = relations.iter().rposition(|r| *r == "in") {
            return match &parts[at + 1..] {
                [set] => self.with_signs(set),
                rest => self.relation(rest, &relations[at + 1..]),
            };
        }
        if relations.iter().all(|r| matches!(*r, "=" | "cong")) {
            return self.equation(parts);
        }
        if let ([left, right], ["ne"]) = (parts, relations) {
            let difference = self.difference(left, right)?;
            return Ok(Form::NotZero(self.unit_leading(difference)?));
        }
        let mut below = Vec::new();
        for (pair, relation) in parts.windows(2).zip(relations) {
            let (low, high) = match *relation {
                "<" | "le" => (&pair[0], &pair[1]),
                ">" | "ge" => (&pair[1], &pair[0]),
                _ => return Err(TooMuch),
            };
            let difference = self.difference(low, high)?;
            let scale = difference.leading().map_or_else(|| int(1), |q| q.abs().recip());
            below.push((
                difference.scale(&scale, &mut self.budget)?,
                matches!(*relation, "le" | "ge"),
            ));
        }
        below.sort();
        let between = self.between(parts, relations)?.map(Box::new);
        Ok(Form::Below {
            parts: below,
            between,
        })
    }

    fn difference(&mut self, a: &Node, b: &Node) -> Result<Sum> {
        let (a, b) = (self.sum(a)?, self.sum(b)?);
        let minus = b.scale(&int(-1), &mut self.budget)?;
        a.add(&minus, &mut self.budget)
    }

    fn unit_leading(&mut self, sum: Sum) -> Result<Sum> {
        let scale = sum.leading().map_or_else(|| int(1), BigRational::recip);
        sum.scale(&scale, &mut self.budget)
    }

    /// `a < |x| <= b` and `|x| < b` as intervals around 0: those of |x|, and their mirror images.
    fn mirrored(&mut self, range: &Form) -> Result<Option<Form>> {
        let (low, closed_low, high, closed_high) = match range {
            Form::Interval {
                low,
                closed_low,
                high,
                closed_high,
            } => (low.clone(), *closed_low, high.clone(), *closed_high),
            Form::Tuple(ends) => match ends.as_slice() {
                [Form::Expr(low), Form::Expr(high)] => (low.clone(), false, high.clone(), false),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let minus = |sum: Sum, budget: &mut Budget| sum.scale(&int(-1), budget);
        let bounded_below = low.as_rational().is_some_and(|q| !q.is_negative());
        let unbounded_below = low == minus(Sum::symbol("\\infty"), &mut self.budget)?;
        if unbounded_below {
            let low = minus(high.clone(), &mut self.budget)?;
            return Ok(Some(interval(low, closed_high, high, closed_high)));
        }
        if !bounded_below {
            return Ok(None);
        }
        let (far, near) = (
            minus(high.clone(), &mut self.budget)?,
            minus(low.clone(), &mut self.budget)?,
        );
        let mut parts = vec![
            interval(far, closed_high, near, closed_low),
            interval(low, closed_low, high, closed_high),
        ];
        parts.sort();
        Ok(Some(Form::SetOp('U', parts)))
    }

    /// `a < x <= b` and `x < b` as intervals.
    fn between(&mut self, parts: &[Node], relations: &[&'static str]) -> Result<Option<Form>> {
        let range = self.range(parts, relations)?;
        let of_abs = parts.iter().any(|part| matches!(part, Node::Call("abs", _)));
        match range {
            Some(range) if of_abs => self.mirrored(&range),
            range => Ok(range),
        }
    }

    fn range(&mut self, parts: &[Node], relations: &[&'static str]) -> Result<Option<Form>> {
        let upwards = |r: &&str| matches!(*r, "<" | "le");
        let (low, closed_low, high, closed_high) = match (parts, relations) {
            ([a, x, b], [r, s]) if left_side(x) == Left::Name && upwards(r) == upwards(s) => {
                let (a, b) = (self.sum(a)?, self.sum(b)?);
                let (r, s) = (matches!(*r, "le" | "ge"), matches!(*s, "le" | "ge"));
                if upwards(&relations[0]) {
                    (a, r, b, s)
                } else {
                    (b, s, a, r)
                }
            }
            ([x, b], [r]) if left_side(x) == Left::Name => {
                let bound = self.sum(b)?;
                let closed = matches!(*r, "le" | "ge");
                let infinity = Sum::symbol("\\infty");
                if upwards(r) {
                    (infinity.scale(&int(-1), &mut self.budget)?, false, bound, closed)
                } else {
                    (bound, closed, infinity, false)
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(interval(low, closed_low, high, closed_high)))
    }

    /// a = b = c. A name with a value is that value; anything else is an equation, whose last part is its
    /// value.
    fn equation(&mut self, parts: &[Node]) -> Result<Form> {
        let (first, last) = (&parts[0], &parts[parts.len() - 1]);
        let left = left_side(first);
        let value = self.with_signs(last)?;
        let value_is_constant = match &value {
            Form::Expr(sum) => is_constant(sum),
            _ => true,
        };
        if parts.len() == 2 && left_side(last) == Left::Name && !value_is_constant && left == Left::Other {
            // 5 = x
            let value = self.with_signs(first)?;
            if matches!(&value, Form::Expr(sum) if is_constant(sum)) {
                return Ok(value);
            }
        }
        let (Form::Expr(right), true) = (&value, !(left == Left::Name && value_is_constant)) else {
            return Ok(value);
        };
        // 2 + 3 = 5 and x = ... = 5 are 5.
        let start = if parts.len() > 2 {
            &parts[parts.len() - 2]
        } else {
            first
        };
        let right = right.clone();
        let Ok(left_sum) = self.sum(start) else {
            return Ok(value);
        };
        if (parts.len() > 2 || is_constant(&left_sum)) && value_is_constant {
            return Ok(value);
        }
        let minus = right.scale(&int(-1), &mut self.budget)?;
        let difference = left_sum.add(&minus, &mut self.budget)?;
        let zero = self.unit_leading(difference)?;
        Ok(Form::Equation {
            zero,
            value: Box::new(value),
            left,
        })
    }
}
