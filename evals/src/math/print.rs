//! Canonical sums as readable text: `3/2*x^2 - 2^(1/2)`.

use super::sum::{Atom, Monomial, Sum};
use num_rational::BigRational;
use num_traits::{One, Signed};
use std::fmt::{Display, Formatter, Result};

impl Display for Sum {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.0.is_empty() {
            return f.write_str("0");
        }
        for (n, (monomial, q)) in self.0.iter().rev().enumerate() {
            match (n, q.is_negative()) {
                (0, false) => {}
                (0, true) => f.write_str("-")?,
                (_, false) => f.write_str(" + ")?,
                (_, true) => f.write_str(" - ")?,
            }
            let q = q.abs();
            match (q.is_one(), monomial.0.is_empty()) {
                (_, true) => write!(f, "{q}")?,
                (true, false) => write!(f, "{monomial}")?,
                (false, false) => write!(f, "{q}*{monomial}")?,
            }
        }
        Ok(())
    }
}

impl Display for Monomial {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (n, (atom, power)) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("*")?;
            }
            write!(f, "{atom}")?;
            write_power(f, power)?;
        }
        Ok(())
    }
}

fn write_power(f: &mut Formatter<'_>, power: &BigRational) -> Result {
    if power.is_one() {
        Ok(())
    } else if power.is_integer() && power.is_positive() {
        write!(f, "^{power}")
    } else {
        write!(f, "^({power})")
    }
}

impl Display for Atom {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Int(n) => write!(f, "{n}"),
            Self::Sym(name) => f.write_str(name.strip_prefix('\\').unwrap_or(name)),
            Self::Func(name, args) => {
                write!(f, "{name}(")?;
                for (n, arg) in args.iter().enumerate() {
                    if n > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{arg}")?;
                }
                f.write_str(")")
            }
            Self::Base(sum) => write!(f, "({sum})"),
            Self::Exp(base, exponent) => write!(f, "({base})^({exponent})"),
        }
    }
}
