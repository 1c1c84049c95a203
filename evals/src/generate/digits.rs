//! Digits: other bases, long numbers.

use super::Made;
use super::draw::Draw;
use super::worked::Lines;

/// `Find the sum of the digits of 865 written in base 7.`
///
/// By long division, a line for each: what every digit and the remainder before it make, quotient and
/// remainder; then the whole quotient, the last remainder, the sum so far:
/// `865:8=1r1,16=2r2,25=3r4:123r4,4`.
pub(super) fn base(draw: &mut Draw) -> Made {
    let base = draw.from(3, 9);
    let places = draw.from(3, 5);
    let number = draw.from(10u32.pow(places - 1), 10u32.pow(places) - 1);
    let mut lines = Lines::default();
    let (mut rest, mut sum) = (number, 0);
    while rest > 0 {
        lines.line(format_args!("{rest}:"));
        let mut carry = 0;
        for (i, digit) in rest.to_string().bytes().map(|b| u32::from(b - b'0')).enumerate() {
            if i > 0 {
                lines.add(format_args!(",{carry}"));
            }
            let part = carry * 10 + digit;
            carry = part % base;
            lines.add(format_args!("{digit}={}r{carry}", part / base));
        }
        sum += rest % base;
        rest /= base;
        lines.add(format_args!(":{rest}r{carry},{sum}"));
    }
    Made {
        operands: format!("{number},{base}"),
        problem: format!("Find the sum of the digits of {number} written in base {base}."),
        answer: sum,
        steps: lines.done(),
    }
}

/// `Find the sum of the digits of 37*2^15.`
///
/// By doubling, a line each, then every digit of the last number with the sum so far: `2:2,0:2,1:3,5:8`.
pub(super) fn doubling(draw: &mut Draw) -> Made {
    let start = draw.from(3, 999);
    let doublings = draw.from(3, 24);
    let mut lines = Lines::default();
    let mut value = u64::from(start);
    for i in 1..=doublings {
        value *= 2;
        lines.line(format_args!("{i}:{value}"));
    }
    let mut sum = 0;
    for (i, digit) in value.to_string().bytes().map(|b| u32::from(b - b'0')).enumerate() {
        sum += digit;
        if i == 0 {
            lines.line(format_args!("{digit}:{sum}"));
        } else {
            lines.add(format_args!(",{digit}:{sum}"));
        }
    }
    Made {
        // 307 * 2^5 and 614 * 2^4 run through the same numbers.
        operands: format!("{}", start >> start.trailing_zeros()),
        problem: format!("Find the sum of the digits of {start}*2^{doublings}."),
        answer: sum,
        steps: lines.done(),
    }
}
