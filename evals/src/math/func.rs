//! Exact values of functions; what has none stays a [`Atom::Func`].

use super::number;
use super::numeric;
use super::sum::{Atom, Budget, Monomial, Result, Sum, TooMuch, int};
use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};
use std::collections::BTreeMap;

/// What it costs to look at the value of a constant.
const LOOK: u64 = 400;

fn func(name: &str, args: Vec<Sum>) -> Sum {
    Sum::atom(Atom::Func(name.to_owned(), args))
}

/// The value of function `name` at `args`.
pub(crate) fn apply(name: &str, mut args: Vec<Sum>, budget: &mut Budget) -> Result<Sum> {
    budget.spend(10)?;
    let rationals: Option<Vec<BigRational>> = args.iter().map(Sum::as_rational).collect();
    if let Some(q) = rationals.as_deref() {
        let whole = |n: BigInt| Some(Sum::rational(BigRational::from_integer(n)));
        let value = match (name, q) {
            ("abs", [q]) => Some(Sum::rational(q.abs())),
            ("floor", [q]) => Some(Sum::rational(q.floor())),
            ("ceil", [q]) => Some(Sum::rational(q.ceil())),
            ("factorial", [n]) => number::factorial(n).and_then(whole),
            ("double factorial", [n]) => number::double_factorial(n).and_then(whole),
            ("binom", [n, k]) => number::binomial(n, k).and_then(whole),
            ("max" | "min" | "gcd" | "lcm", q) => number::fold_whole(name, q).map(Sum::rational),
            _ => None,
        };
        if let Some(value) = value {
            return Ok(value);
        }
    }
    let one = || Sum::rational(int(1));
    let reciprocal = |sum: Sum, budget: &mut Budget| sum.pow(&int(-1), budget);
    match (name, args.as_slice()) {
        ("exp", [x]) => power(&Sum::symbol("e"), x, budget),
        ("log", [base, x]) => ln(x, budget)?.mul(&ln(base, budget)?.pow(&int(-1), budget)?, budget),
        ("lg", [x]) => {
            let ten = ln(&Sum::rational(int(10)), budget)?;
            ln(x, budget)?.mul(&ten.pow(&int(-1), budget)?, budget)
        }
        ("ln", [x]) => ln(x, budget),
        ("factorial", [x]) => factorial(x, budget),
        ("binom", [n, k]) => binomial(n, k, budget),
        ("cis", [x]) => {
            let i = Sum::symbol("i").mul(&trig("sin", x.clone(), budget)?, budget)?;
            trig("cos", x.clone(), budget)?.add(&i, budget)
        }
        ("sin" | "cos", [x]) => trig(name, x.clone(), budget),
        ("tan", [x]) => {
            trig("sin", x.clone(), budget)?.mul(&reciprocal(trig("cos", x.clone(), budget)?, budget)?, budget)
        }
        ("cot", [x]) => {
            trig("cos", x.clone(), budget)?.mul(&reciprocal(trig("sin", x.clone(), budget)?, budget)?, budget)
        }
        ("sec", [x]) => reciprocal(trig("cos", x.clone(), budget)?, budget),
        ("csc", [x]) => reciprocal(trig("sin", x.clone(), budget)?, budget),
        ("abs", [x]) => {
            budget.spend(LOOK)?;
            if let Some(sign) = numeric::sign_of_constant(x) {
                return x.clone().scale(&int(sign), budget);
            }
            let negative = x.leading().is_some_and(Signed::is_negative);
            let x = x.clone().scale(&int(if negative { -1 } else { 1 }), budget)?;
            Ok(func("abs", vec![x]))
        }
        ("floor" | "ceil", [x]) => {
            budget.spend(LOOK)?;
            Ok(match numeric::floor_of_constant(x) {
                Some(n) if name == "floor" => Sum::rational(BigRational::from_integer(n)),
                Some(n) => Sum::rational(BigRational::from_integer(n + 1)),
                None => func(name, args),
            })
        }
        ("arcsin" | "arccos" | "arctan", [x]) if x.0.is_empty() || *x == one() => {
            let quarter_turns = match (name, x.0.is_empty()) {
                ("arcsin" | "arctan", true) | ("arccos", false) => int(0),
                ("arctan", false) => BigRational::new(BigInt::one(), BigInt::from(4)),
                _ => BigRational::new(BigInt::one(), BigInt::from(2)),
            };
            Sum::symbol("\\pi").scale(&quarter_turns, budget)
        }
        ("max" | "min" | "gcd" | "lcm", _) => {
            args.sort();
            Ok(func(name, args))
        }
        _ => Ok(func(name, args)),
    }
}

/// (n + c)! as a multiple of n!, so that quotients of factorials are found.
fn factorial(x: &Sum, budget: &mut Budget) -> Result<Sum> {
    const FURTHEST: i64 = 12;
    let one = Monomial::default();
    let shift =
        x.0.get(&one)
            .filter(|q| q.is_integer())
            .and_then(|q| q.to_integer().to_i64());
    let Some(shift) = shift.filter(|c| x.0.len() > 1 && c.abs() <= FURTHEST) else {
        return Ok(func("factorial", vec![x.clone()]));
    };
    let mut base = x.clone();
    base.0.remove(&one);
    let step = |k: i64, budget: &mut Budget| base.clone().add(&Sum::rational(int(k)), budget);
    let mut product = func("factorial", vec![base.clone()]);
    for k in 1..=shift {
        product = product.mul(&step(k, budget)?, budget)?;
    }
    for k in 0..-shift {
        product = product.mul(&step(-k, budget)?.pow(&int(-1), budget)?, budget)?;
    }
    Ok(product)
}

/// n(n-1).../k! for a small whole k, or n - k.
fn binomial(n: &Sum, k: &Sum, budget: &mut Budget) -> Result<Sum> {
    const LARGEST: u32 = 8;
    let minus = k.clone().scale(&int(-1), budget)?;
    let other = n.clone().add(&minus, budget)?;
    let small = |sum: &Sum| {
        let q = sum.as_rational().filter(|q| q.is_integer() && !q.is_negative())?;
        q.to_integer().to_u32().filter(|k| *k <= LARGEST)
    };
    let Some(count) = small(k).or_else(|| small(&other)) else {
        return Ok(func("binom", vec![n.clone(), k.clone()]));
    };
    let mut product = Sum::rational(int(1));
    for i in 0..i64::from(count) {
        let factor = n.clone().add(&Sum::rational(int(-i)), budget)?;
        let share = BigRational::new(BigInt::one(), BigInt::from(i + 1));
        product = product.mul(&factor.scale(&share, budget)?, budget)?;
    }
    Ok(product)
}

/// `base` to the power `exponent`, whatever that is.
pub(crate) fn power(base: &Sum, exponent: &Sum, budget: &mut Budget) -> Result<Sum> {
    if let Some(q) = exponent.as_rational() {
        return base.pow(&q, budget);
    }
    if base.as_rational().is_some_and(|q| q.is_one()) {
        return Ok(base.clone());
    }
    // b^(r + c*s) = b^r * (b^s)^c
    let mut symbolic = exponent.clone();
    let constant = symbolic
        .0
        .remove(&Monomial::default())
        .unwrap_or_else(BigRational::zero);
    let scale = symbolic.leading().cloned().unwrap_or_else(BigRational::one);
    let symbolic = symbolic.scale(&scale.recip(), budget)?;
    let scale_is_small = scale.numer().bits() < 64;
    let (symbolic, scale) = if scale_is_small {
        (symbolic, scale)
    } else {
        (exponent.clone(), int(1))
    };
    let atom = Atom::Exp(Box::new(base.clone()), Box::new(symbolic));
    let variable = Sum(BTreeMap::from([(
        Monomial(BTreeMap::from([(atom, scale)])),
        int(1),
    )]));
    base.pow(&constant, budget)?.mul(&variable, budget)
}

/// Natural logarithm: of a positive rational the sum over its prime factors, of a single power of e its
/// exponent.
fn ln(x: &Sum, budget: &mut Budget) -> Result<Sum> {
    let Some((monomial, q)) = (if x.0.len() == 1 { x.0.iter().next() } else { None }) else {
        return if x.0.is_empty() {
            Err(TooMuch)
        } else {
            Ok(func("ln", vec![x.clone()]))
        };
    };
    if !q.is_positive() {
        return Ok(func("ln", vec![x.clone()]));
    }
    let mut result = Sum::default();
    for (n, sign) in [(q.numer(), 1), (q.denom(), -1)] {
        for (prime, count) in number::factor(n, budget)? {
            let log = func("ln", vec![Sum::rational(BigRational::from_integer(prime))]);
            result = result.add(&log.scale(&int(i64::from(count) * sign), budget)?, budget)?;
        }
    }
    let known =
        |atom: &Atom| matches!(atom, Atom::Int(_)) || matches!(atom, Atom::Sym(s) if s == "e" || s == "\\pi");
    let mut rest = monomial.clone();
    rest.0.retain(|atom, _| !known(atom));
    for (atom, power) in monomial.0.iter().filter(|(a, _)| known(a)) {
        let log = match atom {
            Atom::Sym(s) if s == "e" => Sum::rational(int(1)),
            Atom::Int(n) => ln(&Sum::rational(BigRational::from_integer(n.clone())), budget)?,
            other => func("ln", vec![Sum::atom(other.clone())]),
        };
        result = result.add(&log.scale(power, budget)?, budget)?;
    }
    if !rest.0.is_empty() {
        let mut argument = Sum::default();
        argument.0.insert(rest, int(1));
        result = result.add(&func("ln", vec![argument]), budget)?;
    }
    Ok(result)
}

/// Sine or cosine, exact at the multiples of pi/4 and pi/6, and with the sign of the argument taken out.
fn trig(name: &str, x: Sum, budget: &mut Budget) -> Result<Sum> {
    let pi = Monomial(BTreeMap::from([(Atom::Sym("\\pi".to_owned()), int(1))]));
    let turns = match x.0.len() {
        0 => Some(BigRational::zero()),
        1 => x.0.get(&pi).cloned(),
        _ => None,
    };
    if let Some(turns) = turns {
        let twelfths = turns * int(12);
        if twelfths.is_integer() {
            let shift = BigInt::from(if name == "cos" { 6 } else { 0 });
            let k = (twelfths.to_integer() + shift)
                .mod_floor(&BigInt::from(24))
                .to_i64()
                .unwrap_or(0);
            let (sign, k) = if k >= 12 { (-1, k - 12) } else { (1, k) };
            let k = k.min(12 - k);
            // sin(k*pi/12) squared for k = 0, 2, 3, 4, 6
            let square = match k {
                0 => Some((0, 1)),
                2 => Some((1, 4)),
                3 => Some((1, 2)),
                4 => Some((3, 4)),
                6 => Some((1, 1)),
                _ => None,
            };
            if let Some((n, d)) = square {
                let half = BigRational::new(BigInt::one(), BigInt::from(2));
                let square = Sum::rational(BigRational::new(BigInt::from(n), BigInt::from(d)));
                return if n == 0 {
                    Ok(Sum::default())
                } else {
                    square.pow(&half, budget)?.scale(&int(sign), budget)
                };
            }
        }
    }
    if x.leading().is_some_and(Signed::is_negative) {
        let sign = if name == "sin" { -1 } else { 1 };
        return func(name, vec![x.scale(&int(-1), budget)?]).scale(&int(sign), budget);
    }
    Ok(func(name, vec![x]))
}
