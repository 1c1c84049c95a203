//! How fast answers are compared: `cargo run --release -p tts-evals --example compare [FILE]`.
//!
//! FILE holds JSON lines with `prediction` and `gold`, as `tts grade` reads them; without one, answers as
//! contests have them are compared each with each. Every comparison reads both answers anew.

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tts_evals::answer::{AnswerKind, EqualOptions, canonical, equal};

const ANSWERS: [&str; 40] = [
    "204",
    "025",
    "\\boxed{73}",
    "-12",
    "3.5",
    "\\frac{7}{2}",
    "\\dfrac{11}{13}",
    "\\frac{9\\sqrt{23}}{23}",
    "\\frac{9}{\\sqrt{23}}",
    "2\\sqrt{3} + 3\\sqrt{2}",
    "\\sqrt{5 + 2\\sqrt{6}}",
    "\\frac{1 + \\sqrt{5}}{2}",
    "\\frac{-1 \\pm \\sqrt{17}}{2}",
    "14 + 6\\sqrt{37}",
    "\\pi^2/6",
    "4\\pi - 3\\sqrt{3}",
    "e^{i\\pi/3}",
    "2^{100} - 1",
    "\\binom{20}{10}",
    "26! \\cdot 2^{25}",
    "\\log_2 3",
    "\\ln(2) + \\ln(3)",
    "\\cos\\frac{\\pi}{7}",
    "(3, \\frac{\\pi}{2})",
    "\\left( -\\frac{1}{2}, \\infty \\right)",
    "[0, 1) \\cup (2, 3]",
    "1, 2, 3",
    "\\{1, \\sqrt{2}, -3\\}",
    "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}",
    "x^2 + 2xy + y^2",
    "(x + y)^2",
    "(x-1)(x-2)(x-3)",
    "y = 2x + 3",
    "x \\in [1, 2]",
    "0 < x \\le 5",
    "\\text{Evelyn}",
    "\\text{(C)}",
    "50\\%",
    "1.23 \\times 10^{5}",
    "\\$32,\\!500",
];

fn main() {
    let pairs: Vec<(String, String)> = match std::env::args().nth(1) {
        None => ANSWERS
            .iter()
            .flat_map(|p| ANSWERS.iter().map(|g| ((*p).to_owned(), (*g).to_owned())))
            .collect(),
        Some(file) => {
            let text = std::fs::read_to_string(&file).expect("the file is readable");
            let read = |line: &str| {
                let value: serde_json::Value = serde_json::from_str(line).expect("JSON lines");
                let field = |name: &str| value[name].as_str().expect("text").to_owned();
                (field("prediction"), field("gold"))
            };
            text.lines().map(read).collect()
        }
    };
    let options = EqualOptions::default();
    let (mut compared, mut equals, mut slowest) = (0u64, 0u64, (Duration::ZERO, 0));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        for (i, (prediction, gold)) in pairs.iter().enumerate() {
            let one = Instant::now();
            equals += u64::from(black_box(equal(prediction, gold, AnswerKind::Math, &options)).equal);
            slowest = slowest.max((one.elapsed(), i));
            compared += 1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{compared} comparisons in {seconds:.1} s: {:.2} million a minute ({:.1} % equal); the slowest took {:.2} ms: {:?}",
        compared as f64 / seconds * 60.0 / 1e6,
        100.0 * equals as f64 / compared as f64,
        slowest.0.as_secs_f64() * 1e3,
        pairs[slowest.1],
    );
    let start = Instant::now();
    let mut keys = 0u64;
    while start.elapsed() < Duration::from_secs(2) {
        for (prediction, _) in &pairs {
            black_box(canonical(prediction, AnswerKind::Math));
            keys += 1;
        }
    }
    println!(
        "{:.2} million class keys a minute",
        keys as f64 / start.elapsed().as_secs_f64() * 60.0 / 1e6
    );
}
