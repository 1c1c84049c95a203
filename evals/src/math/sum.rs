//! The canonical form of an expression: a sum of rational multiples of products of atoms with rational
//! powers.
//!
//! Everything that has an exact rational value becomes one (`0.5`, `1/2`, `\frac12`); square roots are
//! reduced to square-free radicands and cleared from denominators; sums are expanded. What cannot be expanded
//! within the [`Budget`] stays behind as an opaque atom or is given up with [`TooMuch`], so no input can hang
//! or fill memory.

use super::power::rational_power;
use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};
use std::collections::BTreeMap;

/// The computation would exceed its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuch;

pub(crate) type Result<T> = std::result::Result<T, TooMuch>;

/// No number may grow beyond this many bits.
pub(super) const MAX_BITS: u64 = 4096;
/// No sum may have more terms than this.
const MAX_TERMS: usize = 400;
/// A sum is expanded up to this power.
pub(super) const MAX_EXPANDED_POWER: u32 = 16;

/// What one answer's computation may cost; about a tenth of a second at most.
#[derive(Debug)]
pub(crate) struct Budget(u32);

impl Default for Budget {
    fn default() -> Self {
        Self(40_000)
    }
}

impl Budget {
    /// Pays for `n` small steps.
    pub(crate) fn spend(&mut self, n: u64) -> Result<()> {
        self.0 = u32::try_from(n)
            .ok()
            .and_then(|n| self.0.checked_sub(n))
            .ok_or(TooMuch)?;
        Ok(())
    }

    pub(super) fn number(&mut self, q: &BigRational) -> Result<()> {
        let bits = q.numer().bits().max(q.denom().bits());
        if bits > MAX_BITS {
            return Err(TooMuch);
        }
        self.spend(1 + bits * bits / 65_536)
    }
}

/// A factor that is not broken up further.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Atom {
    /// A positive integer under a root; its power lies strictly between 0 and 1.
    Int(BigInt),
    /// A variable or a constant (`\pi`, `e`, `i`, `\infty`).
    Sym(String),
    /// A function of its arguments.
    Func(String, Vec<Sum>),
    /// A sum under a power that was not expanded.
    Base(Box<Sum>),
    /// A base with an exponent that is not a rational number.
    Exp(Box<Sum>, Box<Sum>),
}

/// A product of atoms, each with a power that is not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Monomial(pub(crate) BTreeMap<Atom, BigRational>);

/// A sum of monomials with coefficients that are not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sum(pub(crate) BTreeMap<Monomial, BigRational>);

pub(crate) fn int(n: i64) -> BigRational {
    BigRational::from_integer(BigInt::from(n))
}

impl Sum {
    pub(crate) fn rational(q: BigRational) -> Self {
        Self::term(Monomial::default(), q)
    }

    pub(crate) fn symbol(name: &str) -> Self {
        Self::atom(Atom::Sym(name.to_owned()))
    }

    pub(crate) fn atom(atom: Atom) -> Self {
        Self::term(
            Monomial(BTreeMap::from([(atom, BigRational::one())])),
            BigRational::one(),
        )
    }

    pub(super) fn term(monomial: Monomial, q: BigRational) -> Self {
        Self(if q.is_zero() {
            BTreeMap::new()
        } else {
            BTreeMap::from([(monomial, q)])
        })
    }

    /// The value when it is a rational number.
    pub(crate) fn as_rational(&self) -> Option<BigRational> {
        match self.0.len() {
            0 => Some(BigRational::zero()),
            1 => self
                .0
                .iter()
                .next()
                .filter(|(m, _)| m.0.is_empty())
                .map(|(_, q)| q.clone()),
            _ => None,
        }
    }

    pub(super) fn as_term(&self) -> Option<(&Monomial, &BigRational)> {
        if self.0.len() == 1 {
            self.0.iter().next()
        } else {
            None
        }
    }

    /// The coefficient that decides signs and scales: that of the greatest monomial.
    pub(crate) fn leading(&self) -> Option<&BigRational> {
        self.0.iter().next_back().map(|(_, q)| q)
    }

    pub(crate) fn add(mut self, other: &Self, budget: &mut Budget) -> Result<Self> {
        for (monomial, q) in &other.0 {
            budget.number(q)?;
            let slot = self.0.entry(monomial.clone()).or_insert_with(BigRational::zero);
            *slot += q;
            if slot.is_zero() {
                self.0.remove(monomial);
            }
        }
        if self.0.len() > MAX_TERMS {
            Err(TooMuch)
        } else {
            Ok(self)
        }
    }

    pub(crate) fn scale(mut self, q: &BigRational, budget: &mut Budget) -> Result<Self> {
        if q.is_zero() {
            return Ok(Self::default());
        }
        budget.number(q)?;
        for value in self.0.values_mut() {
            budget.number(value)?;
            *value *= q;
        }
        Ok(self)
    }

    pub(crate) fn mul(&self, other: &Self, budget: &mut Budget) -> Result<Self> {
        let mut product = Self::default();
        for (m1, q1) in &self.0 {
            for (m2, q2) in &other.0 {
                budget.spend(1 + (m1.0.len() + m2.0.len()) as u64)?;
                let mut merged = m1.0.clone();
                for (atom, power) in &m2.0 {
                    *merged.entry(atom.clone()).or_insert_with(BigRational::zero) += power;
                }
                let q = q1 * q2;
                budget.number(&q)?;
                product = product.add(&tidy(merged, q, budget)?, budget)?;
            }
        }
        Ok(product)
    }
}

/// Brings a merged product into order: whole powers of integers into the coefficient, powers of i below 2.
pub(super) fn tidy(
    mut factors: BTreeMap<Atom, BigRational>,
    mut q: BigRational,
    budget: &mut Budget,
) -> Result<Sum> {
    factors.retain(|_, power| !power.is_zero());
    for (atom, power) in &mut factors {
        match atom {
            Atom::Int(base) => {
                let whole = power.floor();
                if !whole.is_zero() {
                    q *= rational_power(
                        &BigRational::from_integer(base.clone()),
                        &whole.to_integer(),
                        budget,
                    )?;
                    *power -= whole;
                }
            }
            Atom::Sym(name) if name == "i" && power.is_integer() => {
                let quarter = power.to_integer().mod_floor(&BigInt::from(4));
                if quarter >= BigInt::from(2) {
                    q = -q;
                }
                *power = BigRational::from_integer(quarter.mod_floor(&BigInt::from(2)));
            }
            _ => {}
        }
    }
    factors.retain(|_, power| !power.is_zero());
    // A base that came back to a positive whole power is expanded again: sqrt(x+1)^2 = x+1.
    let whole = factors
        .iter()
        .find(|(a, p)| {
            matches!(a, Atom::Base(_))
                && p.is_integer()
                && p.is_positive()
                && p.numer() <= &BigInt::from(MAX_EXPANDED_POWER)
        })
        .map(|(a, p)| (a.clone(), p.clone()));
    if let Some((atom, power)) = whole {
        factors.remove(&atom);
        let rest = Sum::term(Monomial(factors), q);
        if let Atom::Base(base) = atom {
            return base.pow(&power, budget)?.mul(&rest, budget);
        }
        return Ok(rest);
    }
    Ok(Sum::term(Monomial(factors), q))
}
