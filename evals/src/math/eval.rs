//! Expression trees to canonical sums.

use super::build::Builder;
use super::func;
use super::parse::Node;
use super::sum::{Atom, Result, Sum, TooMuch, int};
use super::vector::is_vector;
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Num;

impl Builder {
    /// The canonical sum of an expression.
    pub(super) fn sum(&mut self, node: &Node) -> Result<Sum> {
        self.budget.spend(1)?;
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
            Node::Opaque => Err(TooMuch),
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
            Node::Call(name, args) => self.call(name, args),
            Node::Apply(name, args) => {
                let args = args.iter().map(|arg| self.sum(arg)).collect::<Result<_>>()?;
                Ok(Sum::atom(Atom::Func(name.clone(), args)))
            }
            // A number written in base five keeps its digits: the base is part of the answer.
            Node::Based(digits, base) => {
                let valid = (2..=36).contains(base) && BigInt::from_str_radix(digits, *base).is_ok();
                let name = format!("base{base}");
                let digits = match digits.trim_start_matches('0') {
                    "" => "0",
                    digits => digits,
                };
                if valid {
                    Ok(Sum::atom(Atom::Func(name, vec![Sum::symbol(digits)])))
                } else {
                    Err(TooMuch)
                }
            }
            // An angle in degrees is given by its number, but not to a function.
            Node::Degree(inner) => {
                let value = self.sum(inner)?;
                if !self.turning {
                    return self.measured(value, "degree");
                }
                let turn = BigRational::new(BigInt::from(1), BigInt::from(180));
                value.mul(
                    &Sum::symbol("\\pi").scale(&turn, &mut self.budget)?,
                    &mut self.budget,
                )
            }
            Node::Unit(inner, unit) => {
                let value = self.sum(inner)?;
                self.measured(value, unit)
            }
            Node::Group(_, items, _) if items.len() == 1 => self.sum(&items[0]),
            Node::Text(word) if word.len() <= 20 && word.chars().all(char::is_alphanumeric) => {
                Ok(Sum::symbol(word))
            }
            _ => Err(TooMuch),
        }
    }

    /// A value with its unit; the parts of one value have one.
    fn measured(&mut self, value: Sum, unit: &str) -> Result<Sum> {
        if self.unit.as_ref().is_some_and(|other| other != unit) {
            return Err(TooMuch);
        }
        self.unit = Some(unit.to_owned());
        Ok(value)
    }

    /// The argument of a trigonometric function: degrees become radians.
    fn angle(&mut self, node: &Node) -> Result<Sum> {
        let before = std::mem::replace(&mut self.turning, true);
        let sum = self.sum(node);
        self.turning = before;
        sum
    }

    fn call(&mut self, name: &'static str, args: &[Node]) -> Result<Sum> {
        let trig = matches!(name, "sin" | "cos" | "tan" | "cot" | "sec" | "csc" | "cis");
        match (name, args) {
            ("det" | "abs", [arg]) if is_vector(arg) => self.determinant(arg),
            // The determinant of a matrix that has only a name.
            ("det", [arg]) => Ok(Sum::atom(Atom::Func("det".to_owned(), vec![self.sum(arg)?]))),
            ("conj", [arg]) => {
                let sum = self.sum(arg)?;
                if is_constant(&sum) {
                    self.conjugate(&sum)
                } else {
                    Ok(Sum::atom(Atom::Func("conj".to_owned(), vec![sum])))
                }
            }
            _ => {
                let args = args
                    .iter()
                    .map(|arg| if trig { self.angle(arg) } else { self.sum(arg) })
                    .collect::<Result<Vec<_>>>()?;
                func::apply(name, args, &mut self.budget)
            }
        }
    }

    /// A number with -i for i. Only what is a sum of products with i in it is followed.
    fn conjugate(&mut self, sum: &Sum) -> Result<Sum> {
        let i = Atom::Sym("i".to_owned());
        let mut turned = Sum::default();
        for (monomial, q) in &sum.0 {
            let hidden = monomial.0.keys().any(|atom| *atom != i && !is_real(atom));
            let odd = monomial.0.get(&i).is_some_and(|p| *p == int(1));
            if hidden || (monomial.0.contains_key(&i) && !odd) {
                return Err(TooMuch);
            }
            let term = Sum::term(monomial.clone(), if odd { -q } else { q.clone() });
            turned = turned.add(&term, &mut self.budget)?;
        }
        Ok(turned)
    }
}

/// Whether an atom is a real number for certain.
fn is_real(atom: &Atom) -> bool {
    match atom {
        Atom::Int(_) => true,
        Atom::Sym(name) => matches!(name.as_str(), "\\pi" | "e"),
        Atom::Func(_, args) => args
            .iter()
            .all(|arg| arg.as_rational().is_some_and(|q| q > int(0))),
        _ => false,
    }
}

/// Whether a sum holds no variables.
pub(crate) fn is_constant(sum: &Sum) -> bool {
    sum.0.keys().flat_map(|m| m.0.keys()).all(|atom| match atom {
        Atom::Int(_) => true,
        Atom::Sym(name) => {
            matches!(name.as_str(), "\\pi" | "e" | "i" | "\\infty" | "\\emptyset")
        }
        Atom::Func(name, args) => {
            name.starts_with("base") || (name != "conj" && args.iter().all(is_constant))
        }
        Atom::Base(sum) => is_constant(sum),
        Atom::Exp(a, b) => is_constant(a) && is_constant(b),
    })
}
