//! Expression trees to canonical sums, and what can be told from a tree before that.

use super::form::{Builder, Left};
use super::func;
use super::parse::Node;
use super::sum::{Atom, Result, Sum, TooMuch, int};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Num;

impl Builder {
    /// The canonical sum of an expression.
    pub(super) fn sum(&mut self, node: &Node) -> Result<Sum> {
        match node {
            Node::Num(q) => {
                if q.numer().bits().max(q.denom().bits()) > 4096 {
                    Err(TooMuch)
                } else {
                    Ok(Sum::rational(q.clone()))
                }
            }
            Node::Sym(name) => Ok(Sum::symbol(name)),
            Node::Add(terms) => {
                let mut total = Sum::default();
                for (sign, term) in terms {
                    let minus = match sign {
                        '-' => true,
                        '±' => !self.upper,
                        '∓' => self.upper,
                        _ => false,
                    };
                    let term = self
                        .sum(term)?
                        .scale(&int(if minus { -1 } else { 1 }), &mut self.budget)?;
                    total = total.add(&term, &mut self.budget)?;
                }
                Ok(total)
            }
            // Words beside a value are a sentence.
            Node::Mul(factors) if factors.iter().any(|(_, n)| matches!(n, Node::Text(_))) => Err(TooMuch),
            Node::Mul(factors) => {
                let mut product = Sum::rational(int(1));
                for (divided, factor) in factors {
                    let mut factor = self.sum(factor)?;
                    if *divided {
                        factor = factor.pow(&int(-1), &mut self.budget)?;
                    }
                    product = product.mul(&factor, &mut self.budget)?;
                }
                Ok(product)
            }
            Node::Pow(base, exponent) => {
                let (base, exponent) = (self.sum(base)?, self.sum(exponent)?);
                func::power(&base, &exponent, &mut self.budget)
            }
            Node::Call(name, args) => {
                let trig = matches!(*name, "sin" | "cos" | "tan" | "cot" | "sec" | "csc");
                let args = args
                    .iter()
                    .map(|arg| if trig { self.angle(arg) } else { self.sum(arg) });
                let args = args.collect::<Result<Vec<_>>>()?;
                func::apply(name, args, &mut self.budget)
            }
            Node::Apply(name, args) => {
                let args = args.iter().map(|arg| self.sum(arg)).collect::<Result<_>>()?;
                Ok(Sum::atom(Atom::Func(name.clone(), args)))
            }
            // A number written in base five keeps its digits: the base is part of the answer.
            Node::Based(digits, base) => {
                let valid = (2..=36).contains(base) && BigInt::from_str_radix(digits, *base).is_ok();
                let name = format!("base{base}");
                let digits = Sum::symbol(digits);
                if valid {
                    Ok(Sum::atom(Atom::Func(name, vec![digits])))
                } else {
                    Err(TooMuch)
                }
            }
            // An angle in degrees is given by its number.
            Node::Degree(inner) => self.sum(inner),
            Node::Group(_, items, _) if items.len() == 1 => self.sum(&items[0]),
            Node::Text(word) if word.len() <= 20 && word.chars().all(char::is_alphanumeric) => {
                Ok(Sum::symbol(word))
            }
            _ => Err(TooMuch),
        }
    }

    /// The argument of a trigonometric function: degrees become radians.
    fn angle(&mut self, node: &Node) -> Result<Sum> {
        match node {
            Node::Degree(inner) => {
                let turn = Sum::symbol("\\pi").scale(
                    &BigRational::new(BigInt::from(1), BigInt::from(180)),
                    &mut self.budget,
                )?;
                self.sum(inner)?.mul(&turn, &mut self.budget)
            }
            Node::Group(_, items, _) if items.len() == 1 => self.angle(&items[0]),
            Node::Mul(factors) if matches!(factors.as_slice(), [(false, _)]) => self.angle(&factors[0].1),
            node => self.sum(node),
        }
    }
}

/// Whether a sum holds no variables.
pub(crate) fn is_constant(sum: &Sum) -> bool {
    sum.0.keys().flat_map(|m| m.0.keys()).all(|atom| match atom {
        Atom::Int(_) => true,
        Atom::Sym(name) => {
            matches!(name.as_str(), "\\pi" | "e" | "i" | "\\infty" | "\\emptyset")
        }
        Atom::Func(name, args) => name.starts_with("base") || args.iter().all(is_constant),
        Atom::Base(sum) => is_constant(sum),
        Atom::Exp(a, b) => is_constant(a) && is_constant(b),
    })
}

pub(super) fn left_side(node: &Node) -> Left {
    let is_variable = |n: &Node| matches!(n, Node::Sym(name) if !matches!(name.as_str(), "\\pi" | "\\infty"));
    let is_point =
        |n: &Node| matches!(n, Node::Sym(name) if name.starts_with(|c: char| c.is_ascii_uppercase()));
    match node {
        node if is_variable(node) => Left::Name,
        Node::Text(_) | Node::Apply(..) => Left::Name,
        Node::Call("abs", inner) => inner.first().map_or(Left::Other, left_side),
        Node::Group('(', items, ')') if items.iter().all(is_variable) => Left::Name,
        // The length AB, and a function by another letter: h(x).
        Node::Mul(factors) if factors.iter().all(|(_, n)| is_point(n)) => Left::Name,
        Node::Mul(factors) => match factors.as_slice() {
            [(false, name), (false, Node::Group('(', args, ')'))] if is_variable(name) && args.len() == 1 => {
                Left::Name
            }
            [(false, Node::Text(_)), ..] | [.., (false, Node::Text(_))] => Left::Name,
            _ => Left::Other,
        },
        Node::Ratio(parts) if parts.iter().all(|p| left_side(p) == Left::Name) => Left::Name,
        Node::Add(terms) if terms.iter().all(|(sign, n)| *sign == '+' && is_variable(n)) => Left::Names,
        _ => Left::Other,
    }
}
