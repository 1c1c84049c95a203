//! Terms of sequences: long chains of equal small steps.

use super::Made;
use super::draw::Draw;
use super::worked::{Lines, PRIMES};

/// `Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20.`
pub(super) fn recurrence(draw: &mut Draw) -> Made {
    let m = draw.one_of(&PRIMES);
    let (p, q) = (draw.from(2, 9), draw.from(1, 9));
    let first = draw.from(1, m - 1);
    let n = draw.from(5, 31);
    let mut lines = Lines::default();
    let mut a = first;
    lines.line(format_args!("1:{a}"));
    for i in 2..=n {
        lines.line(format_args!("{i}:{}+{q}={}", p * a, p * a + q));
        a = lines.reduce(p * a + q, m);
    }
    Made {
        // Every start lies on some other start's orbit, so the start does not count.
        operands: format!("{m},{p},{q}"),
        problem: format!("Let a_1 = {first} and a_{{n+1}} = {p} a_n + {q} mod {m}. Find a_{n}."),
        answer: a,
        steps: lines.done(),
    }
}

/// `Let F_1 = 12, F_2 = 35 and F_{n+2} = F_{n+1} + F_n mod 47. Find F_15.`
pub(super) fn fibonacci(draw: &mut Draw) -> Made {
    let m = draw.from(11, 60);
    let (first, second) = (draw.from(1, m - 1), draw.from(1, m - 1));
    let n = draw.from(8, 26);
    let mut lines = Lines::default();
    let (mut a, mut b) = (first, second);
    lines.line(format_args!("1:{a}"));
    lines.line(format_args!("2:{b}"));
    for i in 3..=n {
        lines.line(format_args!("{i}:{a}+{b}={}", a + b));
        (a, b) = (b, lines.reduce(a + b, m));
    }
    Made {
        operands: format!("{m},{first},{second}"),
        problem: format!(
            "Let F_1 = {first}, F_2 = {second} and F_{{n+2}} = F_{{n+1}} + F_n mod {m}. Find F_{n}."
        ),
        answer: b,
        steps: lines.done(),
    }
}

/// `Let a_1 = 37 and a_{n+1} = 7 a_n + 4. Find the last three digits of a_9.`
///
/// A step multiplies digit by digit, ones first, carries included: after `037`,
/// `2:7*7+4=53,3*7+5=26,0*7+2=2:263`.
pub(super) fn last_digits(draw: &mut Draw) -> Made {
    let (p, q) = (draw.from(2, 9), draw.from(1, 9));
    let first = draw.from(2, 99);
    let n = draw.from(3, 15);
    let mut lines = Lines::default();
    let mut a = first;
    lines.line(format_args!("1:{a:03}"));
    for i in 2..=n {
        let (mut rest, mut carry, mut unit, mut next) = (a, q, 1, 0);
        for mark in [':', ',', ','] {
            let value = rest % 10 * p + carry;
            if mark == ':' {
                lines.line(i);
            }
            lines.add(format_args!("{mark}{}*{p}+{carry}={value}", rest % 10));
            next += value % 10 * unit;
            (rest, carry, unit) = (rest / 10, value / 10, unit * 10);
        }
        a = next;
        lines.add(format_args!(":{a:03}"));
    }
    Made {
        operands: format!("{p},{q},{first}"),
        problem: format!(
            "Let a_1 = {first} and a_{{n+1}} = {p} a_n + {q}. Find the last three digits of a_{n}."
        ),
        answer: a,
        steps: lines.done(),
    }
}
