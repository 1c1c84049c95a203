//! Equations, inequalities, and where they hold.

use super::build::Builder;
use super::eval::is_constant;
use super::form::{Form, Left, Order};
use super::lex::Join;
use super::names::{argument, left_side, renamed};
use super::numeric::sign_of_constant;
use super::parse::Node;
use super::region::{End, Region, Span};
use super::sum::{Atom, Budget, Monomial, Result, Sum, TooMuch, int};
use num_rational::BigRational;
use num_traits::{One, Signed};

impl Builder {
    pub(super) fn relation(&mut self, parts: &[Node], relations: &[&'static str]) -> Result<Form> {
        // What is said to be about a value is that value; "x ≈ 11" is 11.
        if let Some(at) = relations.iter().position(|r| *r == "approx") {
            return match (at, left_side(&parts[0])) {
                (0, Left::Name | Left::Function) => self.form(&parts[1]),
                (0, _) => self.form(&parts[0]),
                _ => self.relation(&parts[..=at], &relations[..at]),
            };
        }
        if let Some(at) = relations.iter().rposition(|r| *r == "in") {
            return match &parts[at + 1..] {
                [set] => self.form(set),
                rest => self.relation(rest, &relations[at + 1..]),
            };
        }
        if relations.iter().all(|r| matches!(*r, "=" | "equiv")) {
            return self.equation(parts);
        }
        let mut below = Vec::new();
        for (pair, relation) in parts.windows(2).zip(relations) {
            let (low, high, order) = match *relation {
                "<" => (&pair[0], &pair[1], Order::Below),
                "le" => (&pair[0], &pair[1], Order::AtMost),
                ">" => (&pair[1], &pair[0], Order::Below),
                "ge" => (&pair[1], &pair[0], Order::AtMost),
                "ne" => (&pair[0], &pair[1], Order::Not),
                _ => return Err(TooMuch),
            };
            let difference = self.difference(low, high)?;
            let scale = difference.leading().map_or_else(
                || int(1),
                |q| match order {
                    Order::Not => q.recip(),
                    _ => q.abs().recip(),
                },
            );
            below.push((difference.scale(&scale, &mut self.budget)?, order));
        }
        self.unit = None;
        below.sort();
        let region = match self.place(&below) {
            Ok((_, region)) => Some(region),
            Err(_) => self.between(parts, relations),
        };
        Ok(Form::Relation {
            parts: below,
            either: false,
            region: region.map(|region| Box::new(region.into_form())),
        })
    }

    pub(super) fn difference(&mut self, a: &Node, b: &Node) -> Result<Sum> {
        let (a, b) = (self.sum(a)?, self.sum(b)?);
        let minus = b.scale(&int(-1), &mut self.budget)?;
        a.add(&minus, &mut self.budget)
    }

    /// `a < x < b`, whatever a and b are.
    fn between(&mut self, parts: &[Node], relations: &[&'static str]) -> Option<Region> {
        let ([a, x, b], [r, s]) = (parts, relations) else {
            return None;
        };
        let upwards = |r: &str| matches!(r, "<" | "le");
        let known = |r: &str| matches!(r, "<" | "le" | ">" | "ge");
        if !matches!(left_side(x), Left::Name | Left::Function)
            || !known(r)
            || !known(s)
            || upwards(r) != upwards(s)
        {
            return None;
        }
        let (a, b) = (self.sum(a).ok()?, self.sum(b).ok()?);
        let closed = |r: &str| matches!(r, "le" | "ge");
        let span = if upwards(r) {
            Span::new(a, closed(r), b, closed(s))
        } else {
            Span::new(b, closed(s), a, closed(r))
        };
        Some(Region(vec![span]))
    }

    /// Where one variable meets all of these, and its name.
    pub(super) fn place(&mut self, parts: &[(Sum, Order)]) -> Result<(String, Region)> {
        let mut all: Option<(String, Region)> = None;
        for (sum, order) in parts {
            let (name, region) = solve(sum, *order, &mut self.budget)?;
            all = Some(match all {
                None => (name, region),
                Some((before, _)) if before != name => return Err(TooMuch),
                Some((_, before)) => (name, before.intersection(&region)?),
            });
        }
        all.ok_or(TooMuch)
    }

    /// Where relations side by side hold: all of them, or where they are joined by "or" any.
    pub(super) fn solved(&mut self, items: &[Node], joins: &[Join]) -> Result<(Option<String>, Region)> {
        let mut variable: Option<String> = None;
        let mut regions = Vec::new();
        let mut inequality = false;
        for (n, item) in items.iter().enumerate() {
            // x ≠ 2, 3
            let repeated = match (n, &items[0], item) {
                (1.., Node::Rel(parts, relations), node)
                    if relations.as_slice() == ["ne"] && !matches!(node, Node::Rel(..)) =>
                {
                    Some(Node::Rel(vec![parts[0].clone(), node.clone()], relations.clone()))
                }
                _ => None,
            };
            let item = repeated.as_ref().unwrap_or(item);
            let Node::Rel(parts, relations) = item else {
                return Err(TooMuch);
            };
            let (name, region) = match self.form(item)? {
                Form::Relation {
                    parts: below, region, ..
                } => {
                    inequality = true;
                    match (self.place(&below), region) {
                        (Ok((name, region)), _) => (name, region),
                        // a < x < b alone, whatever a and b are
                        (Err(_), Some(region)) if items.len() == 1 => {
                            let named = parts.iter().find(|n| left_side(n) == Left::Name).ok_or(TooMuch)?;
                            (self.sum(named)?.to_string(), Region::of(&region).ok_or(TooMuch)?)
                        }
                        (Err(e), _) => return Err(e),
                    }
                }
                form if relations.as_slice() == ["in"] => {
                    inequality = true;
                    (
                        self.sum(&parts[0])?.to_string(),
                        Region::of(&form).ok_or(TooMuch)?,
                    )
                }
                Form::Expr(sum) if relations.as_slice() == ["="] && is_constant(&sum) => {
                    (self.sum(&parts[0])?.to_string(), Region(vec![Span::point(sum)]))
                }
                _ => return Err(TooMuch),
            };
            if variable.as_ref().is_some_and(|v| *v != name) {
                return Err(TooMuch);
            }
            variable = Some(name);
            regions.push(region);
        }
        if !inequality {
            return Err(TooMuch);
        }
        let united = joins.contains(&Join::Or);
        let mut met = regions.first().cloned().ok_or(TooMuch)?;
        for region in &regions[1..] {
            met = met.intersection(region)?;
        }
        // x < 1, x > 3: a comma is an "or" where nothing could meet both.
        let said = joins.contains(&Join::And);
        let region = if united || (met.is_empty() && !said) {
            Region::union(regions)?
        } else {
            met
        };
        Ok((variable, region))
    }

    /// a = b = c. A name with a value is that value; anything else is an equation, whose last part is its
    /// value.
    fn equation(&mut self, parts: &[Node]) -> Result<Form> {
        let (first, last) = (&parts[0], &parts[parts.len() - 1]);
        // The variable of a function may have any name.
        if let ([_, _], Some(variable)) = (parts, argument(first))
            && variable != "x"
            && let (Some(left), Some(right)) = (renamed(first, variable, "x"), renamed(last, variable, "x"))
        {
            let mut form = self.equation(&[left, right])?;
            if let Form::Equation { written, .. } = &mut form {
                *written = self.form(last).ok().map(Box::new);
            }
            return Ok(form);
        }
        let left = left_side(first);
        let named = matches!(left, Left::Name | Left::Function);
        let value = self.form(last)?;
        let constant = |form: &Form| form.quantity().is_none_or(|(sum, _)| is_constant(sum));
        let value_is_constant = constant(&value);
        if parts.len() == 2 && left_side(last) == Left::Name && !value_is_constant && left == Left::Other {
            // 5 = x
            let value = self.form(first)?;
            if value.quantity().is_some() && constant(&value) {
                return Ok(value);
            }
        }
        let right = match value.quantity() {
            Some((right, _)) if !(named && value_is_constant) => right.clone(),
            _ if named || parts.len() > 2 => return self.with_names(first, value),
            None => return Ok(value),
            _ => return Ok(value),
        };
        // 2 + 3 = 5 and x = ... = 5 are 5.
        let start = if parts.len() > 2 {
            &parts[parts.len() - 2]
        } else {
            first
        };
        let left_sum = self.sum(start);
        self.unit = None;
        let Ok(left_sum) = left_sum else {
            return Ok(value);
        };
        if (parts.len() > 2 || is_constant(&left_sum)) && value_is_constant {
            return Ok(value);
        }
        let minus = right.scale(&int(-1), &mut self.budget)?;
        let difference = left_sum.add(&minus, &mut self.budget)?;
        let scale = difference.leading().map_or_else(|| int(1), BigRational::recip);
        let zero = difference.scale(&scale, &mut self.budget)?;
        let left = match left {
            Left::Asked if !value_is_constant => Left::Other,
            left => left,
        };
        Ok(Form::Equation {
            zero,
            value: Box::new(value),
            written: None,
            left,
        })
    }

    /// `(y, x) = (5, 3)`: each name with its value.
    fn with_names(&mut self, first: &Node, value: Form) -> Result<Form> {
        if let (Node::Group('(', names, ')'), Form::Tuple(values)) = (first, &value)
            && names.len() == values.len()
        {
            let names: Result<Vec<String>> = names.iter().map(|n| Ok(self.sum(n)?.to_string())).collect();
            return Ok(Form::Named(
                names?.into_iter().zip(values.iter().cloned()).collect(),
            ));
        }
        Ok(value)
    }
}

fn is_constant_atom(atom: &Atom) -> bool {
    is_constant(&Sum::atom(atom.clone()))
}

/// `a * atom + b` with constants a and b.
fn linear(sum: &Sum, budget: &mut Budget) -> Result<(Atom, Sum, Sum)> {
    let mut unknown: Option<Atom> = None;
    let (mut a, mut b) = (Sum::default(), Sum::default());
    for (monomial, q) in &sum.0 {
        let mut rest = monomial.0.clone();
        let varying: Vec<Atom> = rest
            .keys()
            .filter(|atom| !is_constant_atom(atom))
            .cloned()
            .collect();
        match varying.as_slice() {
            [] => b = b.add(&Sum::term(monomial.clone(), q.clone()), budget)?,
            [atom] if unknown.as_ref().is_none_or(|u| u == atom) && rest[atom].is_one() => {
                rest.remove(atom);
                a = a.add(&Sum::term(Monomial(rest), q.clone()), budget)?;
                unknown = Some(atom.clone());
            }
            _ => return Err(TooMuch),
        }
    }
    Ok((unknown.ok_or(TooMuch)?, a, b))
}

/// The variable of a comparison of a linear sum, or of the size of one, with 0, and where it holds.
fn solve(sum: &Sum, order: Order, budget: &mut Budget) -> Result<(String, Region)> {
    let (atom, a, b) = linear(sum, budget)?;
    let sign = sign_of_constant(&a).ok_or(TooMuch)?;
    let bound = b
        .scale(&int(-1), budget)?
        .mul(&a.pow(&int(-1), budget)?, budget)?;
    let closed = order == Order::AtMost;
    let region = match order {
        Order::Not => Region(vec![Span::point(bound)]).complement()?,
        _ if sign > 0 => Region(vec![Span {
            low: None,
            high: Some((bound, closed)),
        }]),
        _ => Region(vec![Span {
            low: Some((bound, closed)),
            high: None,
        }]),
    };
    unfold(atom, region, budget)
}

/// Turns where an atom lies into where its variable lies.
fn unfold(atom: Atom, region: Region, budget: &mut Budget) -> Result<(String, Region)> {
    match &atom {
        Atom::Func(name, args) if name == "abs" => {
            let [inner] = args.as_slice() else {
                return Err(TooMuch);
            };
            let positive = Region(vec![Span {
                low: Some((Sum::default(), true)),
                high: None,
            }]);
            let right = region.intersection(&positive)?;
            let left = moved(&right, &Sum::default(), &Sum::rational(int(-1)), budget)?;
            let both = Region::union([left, right])?;
            let (atom, a, b) = linear(inner, budget)?;
            let minus = b.scale(&int(-1), budget)?;
            let both = moved(&both, &minus, &a.pow(&int(-1), budget)?, budget)?;
            unfold(atom, both, budget)
        }
        Atom::Sym(_) | Atom::Func(..) => Ok((Sum::atom(atom.clone()).to_string(), region)),
        _ => Err(TooMuch),
    }
}

/// `(r + shift) * scale` for all r of a region.
fn moved(region: &Region, shift: &Sum, scale: &Sum, budget: &mut Budget) -> Result<Region> {
    let turns = sign_of_constant(scale).ok_or(TooMuch)? < 0;
    let mut end = |end: &End| -> Result<End> {
        Ok(match end {
            Some((at, closed)) => Some((at.clone().add(shift, budget)?.mul(scale, budget)?, *closed)),
            None => None,
        })
    };
    let mut spans = Vec::new();
    for span in &region.0 {
        let (low, high) = (end(&span.low)?, end(&span.high)?);
        spans.push(if turns {
            Span { low: high, high: low }
        } else {
            Span { low, high }
        });
    }
    Region::union([Region(spans)])
}
