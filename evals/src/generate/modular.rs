//! Remainders of powers, polynomials and sums of products.

use super::Made;
use super::draw::Draw;
use super::worked::{Lines, PRIMES};

/// `Find the remainder when 7^53 is divided by 23.`
///
/// The exponent is halved down to 1; then each half is squared on the way back, and multiplied by the
/// base where the exponent is odd: `13:20*20=400-230=170-161=9*7=63-46=17`.
pub(super) fn power(draw: &mut Draw) -> Made {
    let m = draw.one_of(&PRIMES);
    let base = draw.from(2, 9);
    let bits = draw.from(2, 9);
    let exponent = draw.from(1 << bits, (2 << bits) - 1).min(999);
    let mut halves = vec![exponent];
    while let Some(&e) = halves.last()
        && e > 1
    {
        halves.push(e / 2);
    }
    let mut lines = Lines::default();
    lines.line(exponent);
    for half in &halves[1..] {
        lines.add(format_args!(",{half}"));
    }
    let mut x = base;
    lines.line(format_args!("1:{x}"));
    for &e in halves.iter().rev().skip(1) {
        lines.line(format_args!("{e}:{x}*{x}={}", x * x));
        x = lines.reduce(x * x, m);
        if e % 2 == 1 {
            lines.add(format_args!("*{base}={}", x * base));
            x = lines.reduce(x * base, m);
        }
    }
    Made {
        operands: format!("{m},{base},{exponent}"),
        problem: format!("Find the remainder when {base}^{exponent} is divided by {m}."),
        answer: x % m,
        steps: lines.done(),
    }
}

/// `Let P(x) = 3x^3+2x^2+4x+5. Find the remainder when P(6) is divided by 29.`
///
/// By Horner's rule, a line for each power: `2:18+2=20`.
pub(super) fn polynomial(draw: &mut Draw) -> Made {
    let m = draw.one_of(&PRIMES);
    let x = draw.from(2, 9);
    let degree = draw.from(3, 9);
    let coefficients: Vec<u32> = (0..=degree).map(|_| draw.from(2, 9)).collect();
    let mut lines = Lines::default();
    let mut text = String::new();
    let mut value = 0;
    for (&c, power) in coefficients.iter().zip((0..=degree).rev()) {
        if power == degree {
            lines.line(format_args!("{power}:{c}"));
            value = c;
        } else {
            lines.line(format_args!("{power}:{}+{c}={}", value * x, value * x + c));
            value = lines.reduce(value * x + c, m);
            text.push('+');
        }
        text.push_str(&match power {
            0 => format!("{c}"),
            1 => format!("{c}x"),
            _ => format!("{c}x^{power}"),
        });
    }
    Made {
        operands: format!("{m},{x},{text}"),
        problem: format!("Let P(x) = {text}. Find the remainder when P({x}) is divided by {m}."),
        answer: value,
        steps: lines.done(),
    }
}

/// `Find the remainder when 7*13+8*26+4*39 is divided by 31.`
pub(super) fn products(draw: &mut Draw) -> Made {
    let m = draw.one_of(&PRIMES);
    let terms = draw.from(3, 14);
    let terms: Vec<(u32, u32)> = (0..terms).map(|_| (draw.from(2, 9), draw.from(11, 29))).collect();
    let mut lines = Lines::default();
    let mut sum = 0;
    for (i, &(a, b)) in terms.iter().enumerate() {
        lines.line(format_args!("{}:{a}*{b}={}", i + 1, a * b));
        if i > 0 {
            lines.add(format_args!("+{sum}={}", a * b + sum));
        }
        sum = lines.reduce(a * b + sum, m);
    }
    let text: Vec<String> = terms.iter().map(|(a, b)| format!("{a}*{b}")).collect();
    let text = text.join("+");
    Made {
        operands: format!("{m},{text}"),
        problem: format!("Find the remainder when {text} is divided by {m}."),
        answer: sum,
        steps: lines.done(),
    }
}
