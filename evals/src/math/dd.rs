//! Complex numbers of about 31 decimal digits, each part an unevaluated sum of two doubles
//! (T. J. Dekker, "A floating-point technique for extending the available precision", 1971).

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{FromPrimitive, Signed, ToPrimitive, Zero};
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A real number `hi + lo`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dd {
    pub(crate) hi: f64,
    pub(crate) lo: f64,
}

pub(crate) const PI: Dd = Dd {
    hi: std::f64::consts::PI,
    lo: 1.224_646_799_147_353_2e-16,
};
pub(crate) const E: Dd = Dd {
    hi: std::f64::consts::E,
    lo: 1.445_646_891_729_250_2e-16,
};
const LN_2: Dd = Dd {
    hi: std::f64::consts::LN_2,
    lo: 2.319_046_813_846_299_6e-17,
};

fn two_sum(a: f64, b: f64) -> Dd {
    let s = a + b;
    let bb = s - a;
    Dd {
        hi: s,
        lo: (a - (s - bb)) + (b - bb),
    }
}

fn quick(hi: f64, lo: f64) -> Dd {
    let s = hi + lo;
    Dd {
        hi: s,
        lo: lo - (s - hi),
    }
}

impl From<f64> for Dd {
    fn from(hi: f64) -> Self {
        Self { hi, lo: 0.0 }
    }
}

impl Add for Dd {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        let s = two_sum(self.hi, o.hi);
        let t = two_sum(self.lo, o.lo);
        let s = quick(s.hi, s.lo + t.hi);
        quick(s.hi, s.lo + t.lo)
    }
}

impl Neg for Dd {
    type Output = Self;
    fn neg(self) -> Self {
        Self {
            hi: -self.hi,
            lo: -self.lo,
        }
    }
}

impl Sub for Dd {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        self + -o
    }
}

impl Mul for Dd {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        let p = self.hi * o.hi;
        let e = self.hi.mul_add(o.hi, -p);
        quick(p, e + (self.hi * o.lo + self.lo * o.hi))
    }
}

impl Div for Dd {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let q1 = self.hi / o.hi;
        let r = self - o * Self::from(q1);
        let q2 = r.hi / o.hi;
        let r = r - o * Self::from(q2);
        quick(q1, q2) + Self::from(r.hi / o.hi)
    }
}

impl Dd {
    pub(crate) fn abs(self) -> Self {
        if self.hi < 0.0 { -self } else { self }
    }

    pub(crate) fn is_zero(self) -> bool {
        self.hi == 0.0
    }

    pub(crate) fn sqrt(self) -> Self {
        if self.hi <= 0.0 {
            return if self.hi == 0.0 {
                self
            } else {
                Self::from(f64::NAN)
            };
        }
        let x = Self::from(self.hi.sqrt());
        let x = x + (self - x * x) / (x + x);
        x + (self - x * x) / (x + x)
    }

    pub(crate) fn exp(self) -> Self {
        if !(-600.0..600.0).contains(&self.hi) {
            return Self::from(f64::NAN);
        }
        let k = (self.hi / LN_2.hi).round();
        // |r| < 0.35 / 512, so a dozen terms are enough.
        let r = (self - LN_2 * Self::from(k)) / Self::from(512.0);
        let mut sum = Self::from(1.0);
        let mut term = sum;
        for n in 1..14 {
            term = term * r / Self::from(f64::from(n));
            sum = sum + term;
        }
        for _ in 0..9 {
            sum = sum * sum;
        }
        sum * Self::from(2f64.powf(k))
    }

    pub(crate) fn ln(self) -> Self {
        if self.hi <= 0.0 || !self.hi.is_finite() {
            return Self::from(f64::NAN);
        }
        let mut y = Self::from(self.hi.ln());
        for _ in 0..2 {
            y = y + self * (-y).exp() - Self::from(1.0);
        }
        y
    }

    /// Sine and cosine.
    pub(crate) fn sin_cos(self) -> (Self, Self) {
        if self.hi.abs() >= 1e9 {
            return (Self::from(f64::NAN), Self::from(f64::NAN));
        }
        let half_pi = PI * Self::from(0.5);
        let k = (self.hi / half_pi.hi).round();
        let r = self - half_pi * Self::from(k);
        let square = r * r;
        let (mut sin, mut cos) = (r, Self::from(1.0));
        let (mut s, mut c) = (r, Self::from(1.0));
        for n in 1..18 {
            let n = f64::from(n) * 2.0;
            c = -(c * square) / Self::from((n - 1.0) * n);
            s = -(s * square) / Self::from(n * (n + 1.0));
            cos = cos + c;
            sin = sin + s;
        }
        match k.rem_euclid(4.0) {
            1.0 => (cos, -sin),
            2.0 => (-sin, -cos),
            3.0 => (-cos, sin),
            _ => (sin, cos),
        }
    }

    /// The angle of the point (x, y).
    pub(crate) fn atan2(y: Self, x: Self) -> Self {
        let r = (x * x + y * y).sqrt();
        if r.is_zero() {
            return Self::from(0.0);
        }
        let (x, y) = (x / r, y / r);
        let mut angle = Self::from(y.hi.atan2(x.hi));
        for _ in 0..2 {
            let (sin, cos) = angle.sin_cos();
            angle = angle + (y * cos - x * sin);
        }
        angle
    }

    /// The nearest number to a fraction, if it is within range.
    pub(crate) fn from_rational(q: &BigRational) -> Option<Self> {
        let bits = q.numer().bits().max(q.denom().bits());
        if bits <= 900 {
            return Some(Self::from_int(q.numer())? / Self::from_int(q.denom())?);
        }
        let shift = bits - 900;
        let denominator: BigInt = q.denom() >> shift;
        if denominator.bits() < 120 {
            return None;
        }
        let numerator: BigInt = q.numer() >> shift;
        Some(Self::from_int(&numerator)? / Self::from_int(&denominator)?)
    }

    fn from_int(n: &BigInt) -> Option<Self> {
        let hi = n.to_f64().filter(|f| f.is_finite())?;
        let rest = n - BigInt::from_f64(hi)?;
        let lo = if rest.is_zero() {
            0.0
        } else {
            rest.abs().to_f64()? * if rest.is_negative() { -1.0 } else { 1.0 }
        };
        Some(quick(hi, lo))
    }
}
