//! Powers of canonical sums: expanded, rationalised, denested, or kept as one atom.

use super::sum::{Atom, Budget, MAX_BITS, MAX_EXPANDED_POWER, Monomial, Result, Sum, TooMuch, int, tidy};
use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};
use std::collections::BTreeMap;

impl Sum {
    /// `self` to a rational power.
    pub(crate) fn pow(&self, power: &BigRational, budget: &mut Budget) -> Result<Self> {
        budget.spend(4)?;
        if power.is_zero() {
            return Ok(Self::rational(BigRational::one()));
        }
        if self.0.is_empty() {
            return if power.is_positive() {
                Ok(Self::default())
            } else {
                Err(TooMuch)
            };
        }
        if power.is_one() {
            return Ok(self.clone());
        }
        if let Some((monomial, q)) = self.as_term() {
            return power_of_term(monomial, q, power, budget);
        }
        if power.is_integer() {
            let n = power.to_integer();
            if n.is_positive() {
                if let Some(n) = n.to_u32().filter(|&n| n <= MAX_EXPANDED_POWER) {
                    let mut result = self.clone();
                    for _ in 1..n {
                        result = result.mul(self, budget)?;
                    }
                    return Ok(result);
                }
            } else if let Some(inverse) = self.inverse_by_conjugate(budget)? {
                return inverse.pow(&-power, budget);
            }
            return self.opaque(power, budget);
        }
        if *power.denom() == BigInt::from(2)
            && let Some(root) = self.denested_root(budget)?
        {
            return root.pow(&BigRational::from_integer(power.numer().clone()), budget);
        }
        self.opaque(power, budget)
    }

    /// A sum kept as one atom, scaled so that proportional sums share it.
    fn opaque(&self, power: &BigRational, budget: &mut Budget) -> Result<Self> {
        let leading = self.leading().cloned().unwrap_or_else(BigRational::one);
        // Under a root only a positive factor may be taken out.
        let scale = if power.is_integer() {
            leading
        } else {
            leading.abs()
        };
        let mut base = self.clone().scale(&scale.recip(), budget)?;
        let mut outside = Self::rational(scale).pow(power, budget)?;
        if power.is_integer() {
            // Factors common to all terms come out too: 1/(x^2 + x) = 1/x * 1/(x + 1).
            let common = base.common_factor();
            if !common.0.is_empty() {
                let inverse = Monomial(common.0.iter().map(|(a, p)| (a.clone(), -p)).collect());
                base = base.mul(&Self::term(inverse, BigRational::one()), budget)?;
                outside = outside.mul(
                    &Self::term(common, BigRational::one()).pow(power, budget)?,
                    budget,
                )?;
            }
        }
        let atom = Monomial(BTreeMap::from([(Atom::Base(Box::new(base)), power.clone())]));
        outside.mul(&Self::term(atom, BigRational::one()), budget)
    }

    fn common_factor(&self) -> Monomial {
        let mut terms = self.0.keys();
        let mut common = terms.next().cloned().unwrap_or_default().0;
        common.retain(|atom, _| !matches!(atom, Atom::Int(_)));
        for monomial in terms {
            common.retain(|atom, power| match monomial.0.get(atom) {
                Some(other) => {
                    *power = power.clone().min(other.clone());
                    true
                }
                None => false,
            });
        }
        Monomial(common)
    }

    /// 1/(a + b) for terms whose squares are rational: (a - b)/(a^2 - b^2).
    fn inverse_by_conjugate(&self, budget: &mut Budget) -> Result<Option<Self>> {
        if self.0.len() != 2 || !self.0.keys().all(|m| m.0.keys().all(is_quadratic)) {
            return Ok(None);
        }
        let mut conjugate = self.clone();
        if let Some(mut last) = conjugate.0.last_entry() {
            let flipped = -last.get().clone();
            last.insert(flipped);
        }
        let norm = self.mul(&conjugate, budget)?;
        match norm.as_rational() {
            Some(q) if !q.is_zero() => Ok(Some(conjugate.scale(&q.recip(), budget)?)),
            _ => Ok(None),
        }
    }

    /// The square root of r + s*sqrt(c), when it is a sum of two square roots.
    fn denested_root(&self, budget: &mut Budget) -> Result<Option<Self>> {
        let mut terms = self.0.iter();
        let (Some((one, r)), Some((root, s)), None) = (terms.next(), terms.next(), terms.next()) else {
            return Ok(None);
        };
        let is_root = root
            .0
            .iter()
            .all(|(a, p)| matches!(a, Atom::Int(_)) && *p.denom() == BigInt::from(2));
        if !one.0.is_empty() || !is_root || !r.is_positive() {
            return Ok(None);
        }
        let surd = Self::term(root.clone(), s.clone());
        let Some(square) = surd.mul(&surd, budget)?.as_rational() else {
            return Ok(None);
        };
        let Some(d) = exact_sqrt(&(r * r - square)) else {
            return Ok(None);
        };
        let half = BigRational::new(BigInt::one(), BigInt::from(2));
        let root_of = |q: BigRational, budget: &mut Budget| Self::rational(q * &half).pow(&half, budget);
        let larger = root_of(r + &d, budget)?;
        let smaller = root_of(r - &d, budget)?;
        let sign = if s.is_negative() { int(-1) } else { int(1) };
        Ok(Some(larger.add(&smaller.scale(&sign, budget)?, budget)?))
    }
}

fn is_quadratic(atom: &Atom) -> bool {
    matches!(atom, Atom::Int(_)) || *atom == Atom::Sym("i".to_owned())
}

fn exact_sqrt(q: &BigRational) -> Option<BigRational> {
    if q.is_negative() {
        return None;
    }
    let root = BigRational::new(q.numer().sqrt(), q.denom().sqrt());
    (&root * &root == *q).then_some(root)
}

/// A rational number to a whole power, if the result is not too large.
pub(crate) fn rational_power(q: &BigRational, n: &BigInt, budget: &mut Budget) -> Result<BigRational> {
    if q.is_one() || n.is_zero() {
        return Ok(BigRational::one());
    }
    if q.is_zero() {
        return if n.is_positive() {
            Ok(q.clone())
        } else {
            Err(TooMuch)
        };
    }
    if (-q).is_one() {
        return Ok(if n.is_even() {
            BigRational::one()
        } else {
            q.clone()
        });
    }
    let n = n.to_i32().ok_or(TooMuch)?;
    let bits = q.numer().bits().max(q.denom().bits());
    if bits.saturating_mul(u64::from(n.unsigned_abs())) > MAX_BITS {
        return Err(TooMuch);
    }
    let power = Pow::pow(q, n);
    budget.number(&power)?;
    Ok(power)
}

fn power_of_term(
    monomial: &Monomial,
    q: &BigRational,
    power: &BigRational,
    budget: &mut Budget,
) -> Result<Sum> {
    if power.is_integer() {
        let n = power.to_integer();
        let coefficient = match rational_power(q, &n, budget) {
            Ok(value) => value,
            // 9^(9^9) stays as it is written.
            Err(_) if monomial.0.is_empty() && q.is_positive() => {
                return Ok(Sum::atom(Atom::Exp(
                    Box::new(Sum::rational(q.clone())),
                    Box::new(Sum::rational(power.clone())),
                )));
            }
            Err(e) => return Err(e),
        };
        let mut factors = BTreeMap::new();
        for (atom, p) in &monomial.0 {
            let p = p * power;
            budget.number(&p)?;
            factors.insert(atom.clone(), p);
        }
        return tidy(factors, coefficient, budget);
    }
    // A root may be taken factor by factor only where the factors are not negative.
    let splits = |atom: &Atom, p: &BigRational| match atom {
        Atom::Int(_) | Atom::Exp(..) => true,
        Atom::Sym(name) if name == "i" => false,
        Atom::Sym(name) if name == "\\pi" || name == "e" => true,
        Atom::Sym(_) => monomial.0.len() == 1 && p.is_one(),
        Atom::Func(..) | Atom::Base(_) => p.denom().is_even(),
    };
    let all_split = monomial.0.iter().all(|(a, p)| splits(a, p));
    if !all_split
        || (q.is_negative()
            && !monomial
                .0
                .keys()
                .all(|a| matches!(a, Atom::Int(_) | Atom::Sym(_))))
    {
        let base = Sum::term(monomial.clone(), BigRational::one());
        let sign = if q.is_negative() { int(-1) } else { int(1) };
        let outside = root_of_rational(&q.abs(), power, budget)?;
        let atom = Atom::Base(Box::new(base.scale(&sign, budget)?));
        return outside.mul(
            &Sum::term(
                Monomial(BTreeMap::from([(atom, power.clone())])),
                BigRational::one(),
            ),
            budget,
        );
    }
    let mut result = root_of_rational(q, power, budget)?;
    for (atom, p) in &monomial.0 {
        let p = p * power;
        budget.number(&p)?;
        result = result.mul(
            &tidy(BTreeMap::from([(atom.clone(), p)]), BigRational::one(), budget)?,
            budget,
        )?;
    }
    Ok(result)
}

/// A rational number to a power that is not whole: prime factors with powers between 0 and 1.
fn root_of_rational(q: &BigRational, power: &BigRational, budget: &mut Budget) -> Result<Sum> {
    if power.is_integer() {
        return Ok(Sum::rational(rational_power(q, &power.to_integer(), budget)?));
    }
    let mut result = Sum::rational(BigRational::one());
    if q.is_negative() {
        let two = BigInt::from(2);
        if power.denom().is_odd() {
            // The real root: the cube root of -8 is -2.
            if power.numer().is_odd() {
                result = Sum::rational(int(-1));
            }
        } else if *power.denom() == two {
            result = Sum::symbol("i").pow(&BigRational::from_integer(power.numer().clone()), budget)?;
        } else {
            let atom = Atom::Base(Box::new(Sum::rational(q.clone())));
            return Ok(Sum::term(
                Monomial(BTreeMap::from([(atom, power.clone())])),
                BigRational::one(),
            ));
        }
    }
    for (number, sign) in [(q.numer().abs(), 1), (q.denom().clone(), -1)] {
        for (prime, count) in super::number::factor(&number, budget)? {
            let p = power * int(i64::from(count) * sign);
            result = result.mul(
                &tidy(
                    BTreeMap::from([(Atom::Int(prime), p)]),
                    BigRational::one(),
                    budget,
                )?,
                budget,
            )?;
        }
    }
    Ok(result)
}
