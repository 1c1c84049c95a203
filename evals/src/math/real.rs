//! Real numbers to any precision, each with a bound on its error (midpoint and radius, as in F. Johansson,
//! "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic", 2017).
//!
//! A number is `man * 2^exp`, and the true value lies within `2^err` of it. The functions work on integers
//! scaled by a power of two, with guard bits that keep their own error below that of the result.

use num_bigint::{BigInt, Sign};
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};
use std::cell::{Cell, RefCell};

/// A number that is known to within `2^err`; `err` is -infinity where it is exact.
#[derive(Clone, Debug)]
pub(crate) struct Real {
    man: BigInt,
    exp: i64,
    err: f64,
}

const EXACT: f64 = f64::NEG_INFINITY;
/// No magnitude may leave 2^±this.
const MAX_MAGNITUDE: f64 = 1e9;
/// Arguments of sine and cosine are below 2^this.
const MAX_ANGLE: f64 = 8192.0;

/// log2(2^a + 2^b), rounded up a little.
fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == EXACT {
        return high;
    }
    high + (1.0 + (low - high).exp2()).log2() + 1e-9
}

impl Real {
    pub(crate) fn from_int(n: i64) -> Self {
        Self::exact(BigInt::from(n), 0)
    }

    fn exact(man: BigInt, exp: i64) -> Self {
        Self { man, exp, err: EXACT }
    }

    pub(crate) fn is_exact_zero(&self) -> bool {
        self.man.is_zero() && self.err == EXACT
    }

    /// log2 of a bound from above on the size.
    pub(crate) fn magnitude(&self) -> f64 {
        if self.man.is_zero() {
            self.err
        } else {
            (self.exp + self.man.bits() as i64) as f64
        }
    }

    /// 1 or -1, or 0 where the number may be 0.
    pub(crate) fn sign(&self) -> i64 {
        if self.man.is_zero() || self.magnitude() - 1.0 <= self.err {
            return 0;
        }
        if self.man.is_negative() { -1 } else { 1 }
    }

    pub(crate) fn neg(&self) -> Self {
        Self {
            man: -&self.man,
            ..self.clone()
        }
    }

    pub(crate) fn abs(&self) -> Self {
        Self {
            man: self.man.abs(),
            ..self.clone()
        }
    }

    /// How close the number is known to be, as log2 of the bound.
    pub(crate) fn error(&self) -> f64 {
        self.err
    }

    /// The same number, known less closely.
    pub(crate) fn blurred(mut self, err: f64) -> Self {
        self.err = log_add(self.err, err);
        self
    }

    pub(crate) fn to_rational(&self) -> Option<BigRational> {
        let shift = usize::try_from(self.exp.unsigned_abs())
            .ok()
            .filter(|s| *s < 100_000)?;
        Some(if self.exp >= 0 {
            BigRational::from_integer(&self.man << shift)
        } else {
            BigRational::new(self.man.clone(), BigInt::one() << shift)
        })
    }

    pub(crate) fn to_f64(&self) -> f64 {
        let drop = self.man.bits().saturating_sub(64);
        let top = (&self.man >> drop).to_f64().unwrap_or(f64::NAN);
        let exp = (self.exp + drop as i64).clamp(-2000, 2000) as i32;
        // in two steps, so that a value of ordinary size does not overflow on the way
        top * 2f64.powi(exp / 2) * 2f64.powi(exp - exp / 2)
    }
}

/// A precision to compute with, the work that may still be spent, and the widest magnitude met so far.
pub(crate) struct Precision {
    bits: i64,
    fuel: Cell<u64>,
    widest: Cell<f64>,
}

impl Precision {
    pub(crate) fn new(bits: i64, fuel: u64) -> Self {
        Self {
            bits,
            fuel: Cell::new(fuel),
            widest: Cell::new(0.0),
        }
    }

    /// The greatest |log2| of a number met.
    pub(crate) fn widest(&self) -> f64 {
        self.widest.get()
    }

    pub(crate) fn left(&self) -> u64 {
        self.fuel.get()
    }

    /// Pays for `n` multiplications.
    fn spend(&self, n: i64, bits: i64) -> Option<()> {
        let limbs = (bits / 64 + 1) as u64;
        let cost = n as u64 * (2 + limbs * limbs / 4);
        self.fuel.set(self.fuel.get().checked_sub(cost)?);
        Some(())
    }

    fn note(&self, x: Real) -> Option<Real> {
        // The size of what may be 0 is that of its error, and says nothing.
        if x.sign() != 0 {
            let size = x.magnitude().abs();
            if size > MAX_MAGNITUDE {
                return None;
            }
            self.widest.set(self.widest.get().max(size));
        }
        Some(x)
    }

    fn round(&self, mut x: Real) -> Option<Real> {
        let extra = x.man.bits() as i64 - self.bits;
        if extra > 0 {
            x.man >>= extra as usize;
            x.exp += extra;
            x.err = log_add(x.err, x.exp as f64);
        }
        self.note(x)
    }

    pub(crate) fn rational(&self, q: &BigRational) -> Option<Real> {
        let top = self.round(Real::exact(q.numer().clone(), 0))?;
        if q.denom().is_one() {
            return Some(top);
        }
        let below = self.round(Real::exact(q.denom().clone(), 0))?;
        self.mul(&top, &self.recip(&below)?)
    }

    pub(crate) fn add(&self, a: &Real, b: &Real) -> Option<Real> {
        self.spend(1, self.bits)?;
        let err = log_add(a.err, b.err);
        if a.man.is_zero() || b.man.is_zero() {
            let other = if a.man.is_zero() { b } else { a };
            return Some(Real { err, ..other.clone() });
        }
        let (high, low) = if a.magnitude() >= b.magnitude() {
            (a, b)
        } else {
            (b, a)
        };
        // What lies wholly below the last bit kept is part of the error.
        if high.magnitude() - low.magnitude() > (self.bits + 8) as f64 + high.man.bits() as f64 {
            let err = log_add(err, low.magnitude());
            return Some(Real { err, ..high.clone() });
        }
        let exp = a.exp.min(b.exp);
        let at = |x: &Real| &x.man << (x.exp - exp) as usize;
        self.round(Real {
            man: at(a) + at(b),
            exp,
            err,
        })
    }

    pub(crate) fn sub(&self, a: &Real, b: &Real) -> Option<Real> {
        self.add(a, &b.neg())
    }

    pub(crate) fn mul(&self, a: &Real, b: &Real) -> Option<Real> {
        self.spend(1, self.bits)?;
        if a.is_exact_zero() || b.is_exact_zero() {
            return Some(Real::from_int(0));
        }
        let crossed = log_add(a.magnitude() + b.err, b.magnitude() + a.err);
        self.round(Real {
            man: &a.man * &b.man,
            exp: a.exp + b.exp,
            err: if crossed == EXACT {
                EXACT
            } else {
                log_add(crossed, a.err + b.err)
            },
        })
    }

    /// 1/a; none for what may be 0.
    pub(crate) fn recip(&self, a: &Real) -> Option<Real> {
        self.spend(3, self.bits)?;
        if a.sign() == 0 || a.magnitude() - 2.0 <= a.err {
            return None;
        }
        let shift = self.bits + a.man.bits() as i64;
        let man = (BigInt::one() << shift as usize) / &a.man;
        let exp = -shift - a.exp;
        let err = log_add(a.err - 2.0 * (a.magnitude() - 1.0) + 1.0, exp as f64);
        self.round(Real { man, exp, err })
    }

    /// The root of what is not negative.
    pub(crate) fn sqrt(&self, a: &Real) -> Option<Real> {
        self.spend(4, self.bits)?;
        match a.sign() {
            0 if a.man.is_zero() && a.err == EXACT => return Some(a.clone()),
            0 => {
                let zero = Real::from_int(0);
                return Some(zero.blurred((a.err + 1.5) / 2.0));
            }
            -1 => return None,
            _ => {}
        }
        let mut shift = (2 * self.bits + 2 - a.man.bits() as i64).max(0);
        shift += (a.exp - shift) & 1;
        let man = (&a.man << shift as usize).sqrt();
        let exp = (a.exp - shift) / 2;
        let err = log_add(a.err - (a.magnitude() - 1.0) / 2.0, exp as f64);
        self.round(Real { man, exp, err })
    }

    /// `x * 2^bits`, rounded down.
    fn fixed(x: &Real, bits: i64) -> BigInt {
        let shift = x.exp + bits;
        if shift >= 0 {
            &x.man << shift as usize
        } else {
            &x.man >> shift.unsigned_abs() as usize
        }
    }

    /// A fixed-point result that is right to a few units of its 24th bit from the end.
    fn unfix(&self, man: BigInt, bits: i64, err: f64) -> Option<Real> {
        let err = log_add(err, (24 - bits) as f64);
        self.round(Real { man, exp: -bits, err })
    }

    pub(crate) fn exp(&self, x: &Real) -> Option<Real> {
        if x.is_exact_zero() {
            return Some(Real::from_int(1));
        }
        if x.magnitude() > 30.0 || x.err > -1.0 {
            return None;
        }
        let bits = self.bits + 64 + x.magnitude().max(0.0) as i64;
        self.spend(bits.isqrt() * 2, bits)?;
        let scaled = Self::fixed(x, bits);
        let ln2 = ln2(bits);
        let k = rounded(&scaled, &ln2);
        let r = scaled - &k * ln2;
        let k = k.to_i64()?;
        let man = exp_fixed(&r, bits);
        let relative = log_add(x.err + 1.0, (28 - bits) as f64 + x.magnitude().max(0.0));
        self.round(Real {
            man,
            exp: k - bits,
            err: relative + k as f64 + 1.0,
        })
    }

    pub(crate) fn ln(&self, x: &Real) -> Option<Real> {
        if x.sign() != 1 || x.magnitude() - 2.0 <= x.err {
            return None;
        }
        let bits = self.bits + 64;
        let steps = 1 + (bits / 90).ilog(3) as i64 + 1;
        self.spend(bits.isqrt() * 2 * steps, bits)?;
        // x = m * 2^k with m between 0.7 and 1.4
        let length = x.man.bits() as i64;
        let mut k = x.exp + length;
        let mut m = Self::fixed(&Real::exact(x.man.clone(), -length), bits);
        if (&m << 3) < (BigInt::one() << bits as usize) * 6 {
            m <<= 1;
            k -= 1;
        }
        let start = Real::exact(m.clone(), -bits).to_f64().ln();
        let mut y = from_f64(start, bits);
        for _ in 0..steps {
            let e = exp_fixed(&y, bits);
            y += ((&m - &e) << (bits + 1) as usize) / (&m + &e);
        }
        y += ln2(bits) * k;
        let relative = x.err - (x.magnitude() - 1.0) + 1.0;
        self.unfix(y, bits, log_add(relative, (32 - bits) as f64))
    }

    /// Sine and cosine.
    pub(crate) fn sin_cos(&self, x: &Real) -> Option<(Real, Real)> {
        if x.is_exact_zero() {
            return Some((Real::from_int(0), Real::from_int(1)));
        }
        if x.magnitude() > MAX_ANGLE {
            return None;
        }
        let bits = self.bits + 64 + x.magnitude().max(0.0) as i64;
        self.spend(bits.isqrt() * 3, bits)?;
        let (sin, cos) = sin_cos_fixed(&Self::fixed(x, bits), bits);
        let err = x.err.max(-(bits as f64) + 32.0 + x.magnitude().max(0.0));
        Some((self.unfix(sin, bits, err)?, self.unfix(cos, bits, err)?))
    }

    /// The angle of the point (x, y), which is not the origin.
    pub(crate) fn atan2(&self, y: &Real, x: &Real) -> Option<Real> {
        let r = self.sqrt(&self.add(&self.mul(x, x)?, &self.mul(y, y)?)?)?;
        let inverse = self.recip(&r)?;
        let (y, x) = (self.mul(y, &inverse)?, self.mul(x, &inverse)?);
        // Next to the negative half-axis the angle jumps.
        if y.sign() == 0 && !y.is_exact_zero() && x.sign() != 1 {
            return None;
        }
        let bits = self.bits + 64;
        let steps = 2 + (bits / 40).ilog(3) as i64;
        self.spend(bits.isqrt() * 3 * steps, bits)?;
        let (fy, fx) = (Self::fixed(&y, bits), Self::fixed(&x, bits));
        let mut angle = from_f64(y.to_f64().atan2(x.to_f64()), bits);
        for _ in 0..steps {
            let (sin, cos) = sin_cos_fixed(&angle, bits);
            angle += (&fy * cos - &fx * sin) >> bits as usize;
        }
        self.unfix(angle, bits, log_add(x.err, y.err) + 1.0)
    }

    pub(crate) fn pi(&self) -> Option<Real> {
        let bits = self.bits + 64;
        self.unfix(pi(bits), bits, EXACT)
    }
}

fn from_f64(x: f64, bits: i64) -> BigInt {
    let head = (x * 2f64.powi(60)).round() as i64;
    let head = BigInt::from(head);
    if bits >= 60 {
        head << (bits - 60) as usize
    } else {
        head >> (60 - bits) as usize
    }
}

/// The whole number nearest to a/b, for b > 0.
fn rounded(a: &BigInt, b: &BigInt) -> BigInt {
    ((a << 1usize) + b).div_floor(&(b << 1usize))
}

/// e^r for a fixed-point |r| < 1.
fn exp_fixed(r: &BigInt, bits: i64) -> BigInt {
    let halvings = (bits.isqrt() / 2).max(4) as usize;
    let w = bits as usize + halvings + 8;
    let r = (r << (halvings + 8)) >> halvings;
    let one = BigInt::one() << w;
    let (mut sum, mut term, mut n) = (one.clone(), one, 1u32);
    loop {
        term = ((term * &r) >> w) / n;
        // rounding down leaves -1 of a negative term for ever
        if term.bits() <= 1 {
            break;
        }
        sum += &term;
        n += 1;
    }
    for _ in 0..halvings {
        sum = (&sum * &sum) >> w;
    }
    sum >> (halvings + 8)
}

/// Sine and cosine of a fixed-point number.
fn sin_cos_fixed(x: &BigInt, bits: i64) -> (BigInt, BigInt) {
    let half_pi = pi(bits) >> 1usize;
    let k = rounded(x, &half_pi);
    let r = x - &k * half_pi;
    // cos(2t) - 1 = 2 s (s + 2) with s = cos t - 1, which keeps small angles exact
    let halvings = (bits.isqrt() / 2).max(4) as usize;
    let w = bits as usize + 2 * halvings + 8;
    let t = (&r << (2 * halvings + 8)) >> halvings;
    let square = (&t * &t) >> w;
    let (mut sin, mut term, mut n) = (t.clone(), t, 1u64);
    while term.bits() > 1 {
        term = -((term * &square) >> w) / (2 * n * (2 * n + 1));
        sin += &term;
        n += 1;
    }
    let one = BigInt::one() << w;
    let mut cos = ((&one * &one) - (&sin * &sin)).sqrt();
    for _ in 0..halvings {
        let (s, c) = (sin, cos);
        sin = (&s * &c) >> (w - 1);
        cos = ((&c * &c) >> (w - 1)) - &one;
    }
    let back = 2 * halvings + 8;
    let (sin, cos) = (sin >> back, cos >> back);
    match k.mod_floor(&BigInt::from(4)).to_u32() {
        Some(1) => (cos, -sin),
        Some(2) => (-sin, -cos),
        Some(3) => (-cos, sin),
        _ => (sin, cos),
    }
}

thread_local! {
    /// The longest value computed so far of pi, and of the logarithm of 2.
    static CONSTANTS: RefCell<[(i64, BigInt); 2]> = const { RefCell::new([(0, BigInt::ZERO), (0, BigInt::ZERO)]) };
}

fn constant(which: usize, bits: i64, compute: impl Fn(usize) -> BigInt) -> BigInt {
    CONSTANTS.with_borrow_mut(|known| {
        let (have, value) = &mut known[which];
        if *have < bits {
            *have = bits + bits / 4;
            *value = compute(*have as usize + 16) >> 16usize;
        }
        &*value >> (*have - bits) as usize
    })
}

/// pi = 16 arctan(1/5) - 4 arctan(1/239) (J. Machin, 1706).
fn pi(bits: i64) -> BigInt {
    constant(0, bits, |w| arc(5, -1, w) * 16 - arc(239, -1, w) * 4)
}

/// ln 2 = 18 artanh(1/26) - 2 artanh(1/4801) + 8 artanh(1/8749).
fn ln2(bits: i64) -> BigInt {
    constant(1, bits, |w| {
        arc(26, 1, w) * 18 - arc(4801, 1, w) * 2 + arc(8749, 1, w) * 8
    })
}

/// The sum of sign^k / ((2k+1) n^(2k+1)) in fixed point.
fn arc(n: u64, sign: i64, w: usize) -> BigInt {
    let mut power = (BigInt::one() << w) / n;
    let (mut sum, mut k, mut s) = (BigInt::zero(), 1u64, 1i64);
    while power.sign() != Sign::NoSign {
        sum += &power / k * s;
        power /= n * n;
        k += 2;
        s *= sign;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(x: &Real, y: f64) {
        assert!(
            (x.to_f64() - y).abs() <= 1e-14 * y.abs().max(1.0),
            "{} {y}",
            x.to_f64()
        );
    }

    #[test]
    fn functions_agree_with_doubles_and_keep_their_bound() {
        let (low, high) = (Precision::new(64, u64::MAX), Precision::new(700, u64::MAX));
        for (n, d) in [
            (1, 3),
            (-7, 5),
            (22, 7),
            (-100, 1),
            (1, 1000),
            (355, 1),
            (31_415, 10_000),
        ] {
            let q = BigRational::new(BigInt::from(n), BigInt::from(d));
            let x = n as f64 / d as f64;
            let all = |p: &Precision| {
                let r = p.rational(&q).expect("a number");
                let (sin, cos) = p.sin_cos(&r).expect("an angle");
                let one = Real::from_int(1);
                let mut values = vec![p.exp(&r), Some(sin), Some(cos), p.atan2(&r, &one), p.recip(&r)];
                if n > 0 {
                    values.extend([p.ln(&r), p.sqrt(&r)]);
                }
                values
                    .into_iter()
                    .map(|v| v.expect("a value"))
                    .collect::<Vec<_>>()
            };
            let (rough, fine) = (all(&low), all(&high));
            let doubles = [x.exp(), x.sin(), x.cos(), x.atan(), 1.0 / x, x.ln(), x.sqrt()];
            for ((a, b), y) in rough.iter().zip(&fine).zip(doubles) {
                close(a, y);
                assert!(b.error() < b.magnitude() - 600.0 && a.error() < a.magnitude() - 40.0);
                // the finer value lies where the rougher one says it does
                assert_eq!(high.sub(a, b).expect("a difference").sign(), 0, "{n}/{d} {y}");
            }
        }
    }

    #[test]
    fn identities_hold_to_the_last_bit() {
        let p = Precision::new(2000, u64::MAX);
        let x = p
            .rational(&BigRational::new(BigInt::from(1234), BigInt::from(567)))
            .expect("a number");
        let back = p.ln(&p.exp(&x).expect("exp")).expect("ln");
        let left = p.sub(&back, &x).expect("a difference");
        assert!(left.sign() == 0 && left.error() < -1900.0);
        let (sin, cos) = p.sin_cos(&x).expect("an angle");
        let angle = p.atan2(&sin, &cos).expect("an angle");
        assert_eq!(p.sub(&angle, &x).expect("a difference").sign(), 0);
        let (sin, _) = p.sin_cos(&p.pi().expect("pi")).expect("an angle");
        assert!(sin.sign() == 0 && sin.error() < -1900.0);
    }
}
