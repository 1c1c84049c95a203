//! Values of canonical sums to as many digits as it takes: the last resort of comparison, never a class key.
//!
//! Two sums are compared by what is left of their difference, which is looked at closer and closer until it
//! is clearly not 0, or is 0 to far more digits than the numbers that it was made of span.

use super::real::{Precision, Real};
use super::sum::{Atom, Budget, Sum, int};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};
use std::cell::Cell;

/// A complex number.
#[derive(Clone, Debug)]
struct Value {
    re: Real,
    im: Real,
}

/// Bits of a first look, of a number that is to be shown or rounded, and of the closest look of all.
const GLANCE: i64 = 64;
const LOOK: i64 = 256;
const CLOSEST: i64 = 16_384;
/// How many more bits than the numbers span a difference is looked at.
const BEYOND: i64 = 160;
/// Multiplications of short numbers that one value may cost, and all the values of two answers.
const FUEL: u64 = 3_000_000;
pub(crate) const FUEL_OF_ANSWERS: u64 = 12_000_000;
/// A root of a higher order than 2^this is taken for 1: no answer turns on it.
const HIGHEST_ROOT: u64 = 512;

impl Value {
    fn real(re: Real) -> Self {
        Self {
            re,
            im: Real::from_int(0),
        }
    }

    fn is_real(&self) -> bool {
        self.im.is_exact_zero()
    }

    fn may_be_zero(&self) -> bool {
        self.re.sign() == 0 && self.im.sign() == 0
    }
}

/// Where and how closely values are computed.
struct Evaluator {
    precision: Precision,
    /// The seed of the values of variables; without one they have none.
    point: Option<u64>,
}

impl Evaluator {
    /// A variable's value: between 0.3 and 2.3, at every other point negative.
    fn variable(&self, name: &str) -> Option<Value> {
        let seed = self.point?;
        let mut h = 0xcbf2_9ce4_8422_2325u64 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for b in name.bytes() {
            h = (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
        h ^= h >> 29;
        h = h.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let share = (h >> 40) as i64;
        let size = (3 << 24) + 20 * share;
        let size = BigRational::new(BigInt::from(size), BigInt::from(10i64 << 24));
        let value = self
            .precision
            .rational(&if seed % 2 == 1 { -size } else { size })?;
        Some(Value::real(value))
    }

    fn add(&self, a: &Value, b: &Value) -> Option<Value> {
        Some(Value {
            re: self.precision.add(&a.re, &b.re)?,
            im: self.precision.add(&a.im, &b.im)?,
        })
    }

    fn mul(&self, a: &Value, b: &Value) -> Option<Value> {
        let p = &self.precision;
        if a.is_real() && b.is_real() {
            return Some(Value::real(p.mul(&a.re, &b.re)?));
        }
        Some(Value {
            re: p.sub(&p.mul(&a.re, &b.re)?, &p.mul(&a.im, &b.im)?)?,
            im: p.add(&p.mul(&a.re, &b.im)?, &p.mul(&a.im, &b.re)?)?,
        })
    }

    /// The square of the distance from 0.
    fn norm(&self, a: &Value) -> Option<Real> {
        let p = &self.precision;
        p.add(&p.mul(&a.re, &a.re)?, &p.mul(&a.im, &a.im)?)
    }

    fn recip(&self, a: &Value) -> Option<Value> {
        let p = &self.precision;
        if a.is_real() {
            return Some(Value::real(p.recip(&a.re)?));
        }
        let inverse = p.recip(&self.norm(a)?)?;
        Some(Value {
            re: p.mul(&a.re, &inverse)?,
            im: p.mul(&a.im.neg(), &inverse)?,
        })
    }

    fn abs(&self, a: &Value) -> Option<Real> {
        if a.is_real() {
            Some(a.re.abs())
        } else {
            self.precision.sqrt(&self.norm(a)?)
        }
    }

    /// A power that is a fraction; a negative real base has one only for odd denominators (the real root).
    fn pow(&self, base: &Value, power: &BigRational) -> Option<Value> {
        if power.is_integer() {
            return self.whole_power(base, power.to_integer().to_i64()?);
        }
        let p = &self.precision;
        if !base.is_real() {
            return self.polar(base, power);
        }
        if *power.denom() == BigInt::from(2) && base.re.sign() >= 0 {
            let root = Value::real(p.sqrt(&base.re)?);
            return self.whole_power(&root, power.numer().to_i64()?);
        }
        let odd_root = power.denom().bit(0);
        match base.re.sign() {
            1 if power.denom().bits() > HIGHEST_ROOT + power.numer().bits() => {
                Some(Value::real(Real::from_int(1)))
            }
            1 => Some(Value::real(self.real_power(&base.re, power)?)),
            -1 if odd_root => {
                let root = self.real_power(&base.re.neg(), power)?;
                Some(Value::real(if power.numer().bit(0) { root.neg() } else { root }))
            }
            // Whether sqrt(x)sqrt(y) is sqrt(xy) is not asked where x and y are negative.
            _ => None,
        }
    }

    fn whole_power(&self, base: &Value, n: i64) -> Option<Value> {
        if n.unsigned_abs() >= 1 << 32 {
            return None;
        }
        let mut base = if n < 0 { self.recip(base)? } else { base.clone() };
        let mut n = n.unsigned_abs();
        let mut result = Value::real(Real::from_int(1));
        loop {
            if n & 1 == 1 {
                result = self.mul(&result, &base)?;
            }
            n >>= 1;
            if n == 0 {
                return Some(result);
            }
            base = self.mul(&base, &base)?;
        }
    }

    fn real_power(&self, base: &Real, power: &BigRational) -> Option<Real> {
        let p = &self.precision;
        p.exp(&p.mul(&p.ln(base)?, &p.rational(power)?)?)
    }

    fn polar(&self, base: &Value, power: &BigRational) -> Option<Value> {
        let p = &self.precision;
        let radius = self.real_power(&self.abs(base)?, power)?;
        let angle = p.mul(&p.atan2(&base.im, &base.re)?, &p.rational(power)?)?;
        self.on_circle(&radius, &angle)
    }

    fn on_circle(&self, radius: &Real, angle: &Real) -> Option<Value> {
        let p = &self.precision;
        let (sin, cos) = p.sin_cos(angle)?;
        Some(Value {
            re: p.mul(radius, &cos)?,
            im: p.mul(radius, &sin)?,
        })
    }

    fn sum(&self, sum: &Sum) -> Option<Value> {
        let mut total = Value::real(Real::from_int(0));
        for (monomial, q) in &sum.0 {
            let mut term = Value::real(self.precision.rational(q)?);
            for (atom, power) in &monomial.0 {
                let value = match atom {
                    Atom::Exp(base, exponent) => self.exponential(base, exponent, power)?,
                    _ if power.is_one() => self.atom(atom)?,
                    _ => self.pow(&self.atom(atom)?, power)?,
                };
                term = self.mul(&term, &value)?;
            }
            total = self.add(&total, &term)?;
        }
        Some(total)
    }

    fn atom(&self, atom: &Atom) -> Option<Value> {
        let p = &self.precision;
        match atom {
            Atom::Int(n) => Some(Value::real(p.rational(&BigRational::from_integer(n.clone()))?)),
            Atom::Sym(name) => match name.as_str() {
                "\\pi" => Some(Value::real(p.pi()?)),
                "e" => Some(Value::real(p.exp(&Real::from_int(1))?)),
                "i" => Some(Value {
                    re: Real::from_int(0),
                    im: Real::from_int(1),
                }),
                "\\infty" => None,
                name => self.variable(name),
            },
            Atom::Base(sum) => self.sum(sum),
            Atom::Exp(base, exponent) => self.exponential(base, exponent, &BigRational::one()),
            Atom::Func(name, args) => {
                let values = args.iter().map(|a| self.sum(a)).collect::<Option<Vec<_>>>()?;
                match values.as_slice() {
                    [x] => self.function(name, x),
                    _ if values.iter().all(Value::is_real) => self.greatest(name, values),
                    _ => None,
                }
            }
        }
    }

    /// `base^(exponent * power)` for a positive base.
    fn exponential(&self, base: &Sum, exponent: &Sum, power: &BigRational) -> Option<Value> {
        let p = &self.precision;
        let base = self.sum(base).filter(|v| v.is_real() && v.re.sign() == 1)?;
        let exponent = self.sum(exponent)?;
        let ln = p.mul(&p.ln(&base.re)?, &p.rational(power)?)?;
        let radius = p.exp(&p.mul(&exponent.re, &ln)?)?;
        if exponent.is_real() {
            Some(Value::real(radius))
        } else {
            self.on_circle(&radius, &p.mul(&exponent.im, &ln)?)
        }
    }

    fn greatest(&self, name: &str, values: Vec<Value>) -> Option<Value> {
        let wanted = match name {
            "max" => 1,
            "min" => -1,
            _ => return None,
        };
        values.into_iter().map(Some).reduce(|best, value| {
            let (best, value) = (best?, value?);
            match self.precision.sub(&value.re, &best.re)?.sign() {
                0 => None,
                sign => Some(if sign == wanted { value } else { best }),
            }
        })?
    }

    fn function(&self, name: &str, x: &Value) -> Option<Value> {
        let p = &self.precision;
        match name {
            "abs" => return Some(Value::real(self.abs(x)?)),
            "conj" => {
                return Some(Value {
                    re: x.re.clone(),
                    im: x.im.neg(),
                });
            }
            _ if !x.is_real() => return None,
            _ => {}
        }
        let r = &x.re;
        let one = Real::from_int(1);
        let beside = || p.sqrt(&p.sub(&one, &p.mul(r, r)?)?);
        let both = || Some((p.exp(r)?, p.exp(&r.neg())?));
        let half = |x: Real| {
            p.mul(
                &x,
                &p.rational(&BigRational::new(BigInt::one(), BigInt::from(2)))?,
            )
        };
        Some(Value::real(match name {
            "ln" => p.ln(r)?,
            "sin" => p.sin_cos(r)?.0,
            "cos" => p.sin_cos(r)?.1,
            "arctan" => p.atan2(r, &one)?,
            "arcsin" => p.atan2(r, &beside()?)?,
            "arccos" => p.atan2(&beside()?, r)?,
            "sinh" => both().and_then(|(a, b)| half(p.sub(&a, &b)?))?,
            "cosh" => both().and_then(|(a, b)| half(p.add(&a, &b)?))?,
            "tanh" => both().and_then(|(a, b)| p.mul(&p.sub(&a, &b)?, &p.recip(&p.add(&a, &b)?)?))?,
            _ => return None,
        }))
    }
}

/// Whether a sum is 0 at a point, or altogether where it has no variables. `None`: it has no value there, or
/// it cannot be told.
fn vanishes(sum: &Sum, point: Option<u64>, fuel: &Cell<u64>) -> Option<bool> {
    let mut bits = GLANCE;
    loop {
        let evaluator = Evaluator {
            precision: Precision::new(bits, fuel.get().min(FUEL)),
            point,
        };
        let value = evaluator.sum(sum);
        fuel.set(fuel.get() - (fuel.get().min(FUEL) - evaluator.precision.left()));
        let widest = evaluator.precision.widest() as i64;
        let enough = BEYOND + 4 * widest;
        match value {
            Some(value) if !value.may_be_zero() => return Some(false),
            Some(_) if bits >= enough => return Some(true),
            // What is too rough to be divided by, or to have a sign, may not be at a closer look.
            None if bits >= enough => return None,
            _ => {}
        }
        if enough > CLOSEST || evaluator.precision.left() == 0 {
            return None;
        }
        bits = enough;
    }
}

/// Whether two sums have the same value: as constants, otherwise at four points or more where their
/// difference is defined. `fuel` is what that may cost, and may be shared by several comparisons. `None`: it
/// cannot be told.
pub(crate) fn same_value(a: &Sum, b: &Sum, fuel: &Cell<u64>) -> Option<bool> {
    let mut budget = Budget::default();
    let minus = b.clone().scale(&int(-1), &mut budget).ok()?;
    let difference = a.clone().add(&minus, &mut budget).ok()?;
    if let Some(q) = difference.as_rational() {
        return Some(q.is_zero());
    }
    if super::is_constant(&difference) {
        return vanishes(&difference, None, fuel);
    }
    let mut agreed = 0;
    for seed in 1..=12 {
        match vanishes(&difference, Some(seed), fuel) {
            Some(false) => return Some(false),
            Some(true) => agreed += 1,
            None => {}
        }
        if agreed >= 6 {
            break;
        }
    }
    (agreed >= 4).then_some(true)
}

/// A constant's real value to about as many bits.
fn real(sum: &Sum, bits: i64) -> Option<Real> {
    let evaluator = Evaluator {
        precision: Precision::new(bits, FUEL),
        point: None,
    };
    Some(evaluator.sum(sum).filter(Value::is_real)?.re)
}

/// The value as a double, when the sum is a real constant.
pub(crate) fn real_value(sum: &Sum) -> Option<f64> {
    real(sum, GLANCE).map(|v| v.to_f64()).filter(|v| v.is_finite())
}

/// The value to 30 digits or more as a fraction, when the sum is a real constant.
pub(crate) fn rational_value(sum: &Sum) -> Option<BigRational> {
    let value = real(sum, LOOK).filter(|v| v.error() < v.magnitude() - 110.0)?;
    value.to_rational()
}

/// 1 or -1 for a real constant that is clearly not 0.
pub(crate) fn sign_of_constant(sum: &Sum) -> Option<i64> {
    if let Some(q) = sum.as_rational() {
        return (!q.is_zero()).then(|| if q.is_negative() { -1 } else { 1 });
    }
    if !super::is_constant(sum) {
        return None;
    }
    [GLANCE, LOOK, 16 * LOOK].into_iter().find_map(|bits| {
        let sign = real(sum, bits)?.sign();
        (sign != 0).then_some(sign)
    })
}

/// The floor of a real constant that is clearly not a whole number.
pub(crate) fn floor_of_constant(sum: &Sum) -> Option<BigInt> {
    if !super::is_constant(sum) {
        return None;
    }
    let rough = real(sum, GLANCE)?.magnitude().max(0.0) as i64;
    let value = real(sum, LOOK + rough).filter(|v| v.error() < -100.0)?;
    let middle = value.to_rational()?;
    let margin = BigRational::new(BigInt::one(), BigInt::one() << 90usize);
    let (low, high) = ((&middle - &margin).floor(), (&middle + &margin).floor());
    (low == high).then(|| low.to_integer())
}
