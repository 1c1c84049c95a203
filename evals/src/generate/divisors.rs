//! Common divisors.

use super::Made;
use super::draw::Draw;
use super::worked::Lines;

/// `Find the greatest common divisor of 161 and 115.`
///
/// By subtraction, until nothing is left: `161-115=46`, `115-46=69`, `69-46=23`, ...
pub(super) fn gcd(draw: &mut Draw) -> Made {
    let want = draw.from(3, 16);
    loop {
        let divisor = draw.from(1, 60);
        let most = 199 / divisor;
        let (mut a, mut b) = (
            draw.from(2, most.max(2)) * divisor,
            draw.from(2, most.max(2)) * divisor,
        );
        if a <= b || a > 199 {
            continue;
        }
        let (operands, problem) = (
            format!("{a},{b}"),
            format!("Find the greatest common divisor of {a} and {b}."),
        );
        let mut lines = Lines::default();
        let mut steps = 0;
        while b > 0 && steps <= want {
            lines.line(format_args!("{a}-{b}={}", a - b));
            let rest = a - b;
            (a, b) = if rest == 0 {
                (b, 0)
            } else {
                (rest.max(b), rest.min(b))
            };
            steps += 1;
        }
        if steps == want && b == 0 {
            return Made {
                operands,
                problem,
                answer: a,
                steps: lines.done(),
            };
        }
    }
}
