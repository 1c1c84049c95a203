//! Whole numbers: factors, factorials, binomials, digits in a base, and how numbers print.

use super::sum::{Budget, Result, TooMuch};
use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

/// Factors of a positive number with their counts: primes below 10,000 and what is left over, itself unfolded
/// when it is a perfect power. Two spellings of one number always give the same factors.
pub(crate) fn factor(n: &BigInt, budget: &mut Budget) -> Result<Vec<(BigInt, u32)>> {
    const BOUND: u32 = 10_000;
    let mut rest = n.clone();
    let mut factors = Vec::new();
    budget.spend(10 + n.bits() / 4)?;
    let mut d = 2u32;
    while d < BOUND && rest > BigInt::one() {
        if let Some(small) = rest.to_u64()
            && u64::from(d) * u64::from(d) > small
        {
            break;
        }
        let mut count = 0;
        while (&rest % d).is_zero() {
            rest /= d;
            count += 1;
        }
        if count > 0 {
            factors.push((BigInt::from(d), count));
        }
        d += if d == 2 { 1 } else { 2 };
    }
    if rest > BigInt::one() {
        for k in [7u32, 5, 3, 2] {
            let root = rest.nth_root(k);
            if Pow::pow(&root, k) == rest {
                factors.push((root, k));
                return Ok(factors);
            }
        }
        factors.push((rest, 1));
    }
    Ok(factors)
}

/// n! for whole n up to 400.
pub(crate) fn factorial(q: &BigRational) -> Option<BigInt> {
    let n = whole(q).filter(|&n| n <= 400)?;
    Some((1..=n).fold(BigInt::one(), |product, k| product * k))
}

/// n!! for whole n up to 600.
pub(crate) fn double_factorial(q: &BigRational) -> Option<BigInt> {
    let n = whole(q).filter(|&n| n <= 600)?;
    Some(
        (1..=n)
            .rev()
            .step_by(2)
            .fold(BigInt::one(), |product, k| product * k),
    )
}

/// The binomial coefficient of whole numbers, n up to 2,000.
pub(crate) fn binomial(n: &BigRational, k: &BigRational) -> Option<BigInt> {
    let (n, k) = (whole(n).filter(|&n| n <= 2_000)?, whole(k)?);
    if k > n {
        return Some(BigInt::zero());
    }
    let k = k.min(n - k);
    Some((0..k).fold(BigInt::one(), |c, i| c * (n - i) / (i + 1)))
}

fn whole(q: &BigRational) -> Option<u32> {
    if q.is_integer() && !q.is_negative() {
        q.to_integer().to_u32()
    } else {
        None
    }
}

/// A decimal literal as an exact fraction: `digits` with `point` of them after the point, times
/// 10^`exponent`.
pub(crate) fn decimal(digits: &str, point: usize, exponent: i64) -> Result<BigRational> {
    // A number of more digits than this is text.
    if digits.len() > 1_200 {
        return Err(TooMuch);
    }
    let number = BigInt::parse_bytes(digits.as_bytes(), 10).ok_or(TooMuch)?;
    let shift = exponent
        .checked_sub(i64::try_from(point).map_err(|_| TooMuch)?)
        .ok_or(TooMuch)?;
    let power = u32::try_from(shift.unsigned_abs())
        .ok()
        .filter(|&p| p <= 1_200)
        .ok_or(TooMuch)?;
    let scale = Pow::pow(BigInt::from(10), power);
    Ok(if shift >= 0 {
        BigRational::from_integer(number * scale)
    } else {
        BigRational::new(number, scale)
    })
}

/// The least common multiple or greatest common divisor of whole numbers.
pub(crate) fn fold_whole(name: &str, numbers: &[BigRational]) -> Option<BigRational> {
    let mut numbers = numbers.iter();
    let first = numbers.next()?.clone();
    let all_whole = |q: &BigRational| q.is_integer();
    match name {
        "max" => Some(numbers.fold(first, |a, b| a.max(b.clone()))),
        "min" => Some(numbers.fold(first, |a, b| a.min(b.clone()))),
        "gcd" | "lcm" if all_whole(&first) && numbers.clone().all(all_whole) => {
            let fold = |a: BigInt, b: BigInt| if name == "gcd" { a.gcd(&b) } else { a.lcm(&b) };
            Some(BigRational::from_integer(
                numbers.fold(first.to_integer(), |a, b| fold(a, b.to_integer())),
            ))
        }
        _ => None,
    }
}
