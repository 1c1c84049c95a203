//! Values of canonical sums to about 30 digits: the last resort of comparison, never a class key.

use super::dd::{Dd, E, PI};
use super::sum::{Atom, Sum};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{FromPrimitive, One, Signed, ToPrimitive, Zero};

/// A complex number and the size of the numbers that were added up to make it, which bounds its error.
#[derive(Clone, Copy, Debug)]
struct Value {
    re: Dd,
    im: Dd,
    size: f64,
}

/// Share of the size that two values may differ by and still be called equal.
const CLOSE: f64 = 1e-24;

impl Value {
    fn real(re: Dd) -> Self {
        Self {
            re,
            im: Dd::from(0.0),
            size: re.hi.abs(),
        }
    }

    fn is_real(&self) -> bool {
        self.im.is_zero()
    }

    fn checked(self) -> Option<Self> {
        (self.re.hi.is_finite() && self.im.hi.is_finite() && self.size.is_finite()).then_some(self)
    }

    fn abs(&self) -> Dd {
        (self.re * self.re + self.im * self.im).sqrt()
    }

    fn add(self, o: Self) -> Self {
        Self {
            re: self.re + o.re,
            im: self.im + o.im,
            size: self.size + o.size,
        }
    }

    fn mul(self, o: Self) -> Self {
        let re = self.re * o.re - self.im * o.im;
        let im = self.re * o.im + self.im * o.re;
        Self {
            re,
            im,
            size: self.size * o.size,
        }
    }

    fn recip(self) -> Option<Self> {
        let norm = self.re * self.re + self.im * self.im;
        let r = norm.sqrt().hi;
        // A value that is all rounding error has no inverse.
        if r <= self.size * 1e-20 {
            return None;
        }
        Self {
            re: self.re / norm,
            im: -self.im / norm,
            size: self.size / (r * r),
        }
        .checked()
    }

    /// A power that is a fraction; a negative real base has one only for odd denominators (the real root).
    fn pow(self, power: &BigRational) -> Option<Self> {
        if power.is_integer() {
            let n = power
                .to_integer()
                .to_i64()
                .filter(|n| n.unsigned_abs() < 100_000)?;
            let mut base = if n < 0 { self.recip()? } else { self };
            let mut n = n.unsigned_abs();
            let mut result = Self::real(Dd::from(1.0));
            while n > 0 {
                if n & 1 == 1 {
                    result = result.mul(base);
                }
                base = base.mul(base);
                n >>= 1;
            }
            return result.checked();
        }
        let p = Dd::from_rational(power)?;
        if self.is_real() {
            let odd_root = power.denom().bit(0);
            return match self.re.hi {
                x if x > 0.0 => self.with((self.re.ln() * p).exp()),
                0.0 => None,
                _ if odd_root => {
                    let root = (self.re.abs().ln() * p).exp();
                    self.with(if power.numer().bit(0) { -root } else { root })
                }
                // Whether sqrt(x)sqrt(y) is sqrt(xy) is not asked where x and y are negative.
                _ => None,
            };
        }
        self.polar(p)
    }

    fn polar(self, p: Dd) -> Option<Self> {
        let radius = (self.abs().ln() * p).exp();
        let (sin, cos) = (Dd::atan2(self.im, self.re) * p).sin_cos();
        let spread = self.size / self.abs().hi;
        Self {
            re: radius * cos,
            im: radius * sin,
            size: radius.hi * spread.max(1.0),
        }
        .checked()
    }

    /// A real function's value; its relative error grows as the argument's did.
    fn with(self, value: Dd) -> Option<Self> {
        let spread = (self.size / self.re.hi.abs()).clamp(1.0, 1e10);
        Self {
            re: value,
            im: Dd::from(0.0),
            size: value.hi.abs() * spread,
        }
        .checked()
    }
}

/// Where variables are evaluated.
#[derive(Clone, Copy, Debug)]
struct Point(Option<u64>);

impl Point {
    /// A variable's value: between 0.3 and 2.3, at every other point negative. Without a point there is none.
    fn value(self, name: &str) -> Option<Dd> {
        let seed = self.0?;
        let mut h = 0xcbf2_9ce4_8422_2325u64 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for b in name.bytes() {
            h = (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
        h ^= h >> 29;
        h = h.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let unit = (h >> 40) as f64 / (1u64 << 24) as f64;
        let magnitude = 0.3 + 2.0 * unit;
        Some(Dd::from(if seed % 2 == 1 { -magnitude } else { magnitude }))
    }
}

fn evaluate(sum: &Sum, point: Point, fuel: &mut u32) -> Option<Value> {
    let mut total = Value {
        re: Dd::from(0.0),
        im: Dd::from(0.0),
        size: 0.0,
    };
    for (monomial, q) in &sum.0 {
        let mut term = Value::real(Dd::from_rational(q)?);
        for (atom, power) in &monomial.0 {
            *fuel = fuel.checked_sub(1)?;
            let value = evaluate_atom(atom, point, fuel)?;
            term = term.mul(if power.is_one() { value } else { value.pow(power)? });
        }
        total = total.add(term);
    }
    total.checked()
}

fn evaluate_atom(atom: &Atom, point: Point, fuel: &mut u32) -> Option<Value> {
    match atom {
        Atom::Int(n) => Some(Value::real(Dd::from_rational(&BigRational::from_integer(
            n.clone(),
        ))?)),
        Atom::Sym(name) => match name.as_str() {
            "\\pi" => Some(Value::real(PI)),
            "e" => Some(Value::real(E)),
            "i" => Some(Value {
                re: Dd::from(0.0),
                im: Dd::from(1.0),
                size: 1.0,
            }),
            "\\infty" => None,
            name => point.value(name).map(Value::real),
        },
        Atom::Base(sum) => evaluate(sum, point, fuel),
        Atom::Exp(base, exponent) => {
            let base = evaluate(base, point, fuel).filter(|v| v.is_real() && v.re.hi > 0.0)?;
            let exponent = evaluate(exponent, point, fuel)?;
            let ln = base.re.ln();
            let radius = (exponent.re * ln).exp();
            let (sin, cos) = (exponent.im * ln).sin_cos();
            let spread = (exponent.size * ln.hi.abs()).max(1.0);
            let im = if exponent.is_real() {
                Dd::from(0.0)
            } else {
                radius * sin
            };
            Value {
                re: radius * cos,
                im,
                size: radius.hi * spread,
            }
            .checked()
        }
        Atom::Func(name, args) => function(name, args, point, fuel),
    }
}

fn function(name: &str, args: &[Sum], point: Point, fuel: &mut u32) -> Option<Value> {
    let values: Option<Vec<Value>> = args.iter().map(|a| evaluate(a, point, fuel)).collect();
    let values = values?;
    let [x] = values.as_slice() else {
        return match name {
            "max" | "min" if values.iter().all(Value::is_real) => {
                let order = |a: &&Value, b: &&Value| a.re.hi.total_cmp(&b.re.hi);
                if name == "max" {
                    values.iter().max_by(order)
                } else {
                    values.iter().min_by(order)
                }
                .copied()
            }
            _ => None,
        };
    };
    if name == "abs" {
        return Some(Value {
            re: x.abs(),
            im: Dd::from(0.0),
            size: x.size,
        });
    }
    if !x.is_real() {
        return None;
    }
    let r = x.re;
    let one = Dd::from(1.0);
    let angle = |y, x| Dd::atan2(y, x);
    let value = match name {
        "ln" => r.ln(),
        "sin" => r.sin_cos().0,
        "cos" => r.sin_cos().1,
        "arctan" => angle(r, one),
        "arcsin" => angle(r, (one - r * r).sqrt()),
        "arccos" => angle((one - r * r).sqrt(), r),
        "sinh" => (r.exp() - (-r).exp()) * Dd::from(0.5),
        "cosh" => (r.exp() + (-r).exp()) * Dd::from(0.5),
        "tanh" => (r.exp() - (-r).exp()) / (r.exp() + (-r).exp()),
        _ => return None,
    };
    // Absolute error of the value: that of the argument, and its own rounding.
    Value {
        re: value,
        im: Dd::from(0.0),
        size: x.size.max(value.hi.abs()).max(1.0),
    }
    .checked()
}

const FUEL: u32 = 20_000;

fn constant(sum: &Sum) -> Option<Value> {
    evaluate(sum, Point(None), &mut FUEL.clone())
}

/// Whether two sums have the same value, to the last digits that can be trusted: at one point when they are
/// constants, otherwise at four points or more where both are defined. `None`: they cannot be evaluated.
pub(crate) fn same_value(a: &Sum, b: &Sum) -> Option<bool> {
    let close = |x: Value, y: Value| {
        let difference = Value::add(
            x,
            Value {
                re: -y.re,
                im: -y.im,
                size: y.size,
            },
        );
        difference.abs().hi <= CLOSE * difference.size
    };
    if let (Some(x), Some(y)) = (constant(a), constant(b)) {
        return Some(close(x, y));
    }
    let mut agreed = 0;
    for seed in 1..=12 {
        let at = |sum| evaluate(sum, Point(Some(seed)), &mut FUEL.clone());
        if let (Some(x), Some(y)) = (at(a), at(b)) {
            if !close(x, y) {
                return Some(false);
            }
            agreed += 1;
        }
    }
    (agreed >= 4).then_some(true)
}

/// The value as a double, when the sum is a real constant.
pub(crate) fn real_value(sum: &Sum) -> Option<f64> {
    constant(sum).filter(Value::is_real).map(|v| v.re.hi)
}

/// The value to about 30 digits as a fraction, when the sum is a real constant that was not left over from
/// cancellation.
pub(crate) fn rational_value(sum: &Sum) -> Option<BigRational> {
    let v = constant(sum).filter(|v| v.is_real() && v.re.hi.abs() > 1e-6 * v.size)?;
    Some(BigRational::from_f64(v.re.hi)? + BigRational::from_f64(v.re.lo)?)
}

/// 1 or -1 for a real constant that is clearly not 0.
pub(crate) fn sign_of_constant(sum: &Sum) -> Option<i64> {
    if let Some(q) = sum.as_rational() {
        return (!q.is_zero()).then(|| if q.is_negative() { -1 } else { 1 });
    }
    let v = constant(sum).filter(|v| v.is_real() && v.re.hi.abs() > 1e-20 * v.size)?;
    Some(if v.re.hi < 0.0 { -1 } else { 1 })
}

/// The floor of a real constant that is clearly not a whole number.
pub(crate) fn floor_of_constant(sum: &Sum) -> Option<BigInt> {
    let v = constant(sum).filter(|v| v.is_real() && v.size < 1e15)?;
    let floor = v.re.hi.floor();
    let share = (v.re - Dd::from(floor)).hi;
    (share > 1e-9 && share < 1.0 - 1e-9)
        .then(|| BigInt::from_f64(floor))
        .flatten()
}
