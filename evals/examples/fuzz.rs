//! Looks for answers that panic, take long, or break what equality promises:
//! `cargo run --release -p tts-evals --example fuzz -- SECONDS SEED [FILE]`. FILE holds lines to begin from,
//! JSON or plain.
//!
//! What it finds belongs among the cases of `tests/answers.rs`.

#![allow(clippy::print_stdout)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tts_evals::answer::{AnswerKind, EqualOptions, ExtractRules, RelationRule, canonical, equal, extract};

/// Pieces that answers are made of, and that parsers trip over.
const PIECES: [&str; 134] = [
    "0",
    "1",
    "2",
    "7",
    "12",
    "99",
    "0.5",
    ".",
    "1e9",
    "9^{9^{9}}",
    "x",
    "y",
    "n",
    "i",
    "e",
    "\\pi",
    "\\infty",
    "\\theta",
    "+",
    "-",
    "*",
    "/",
    "^",
    "_",
    "!",
    "!!",
    "%",
    "\\%",
    "=",
    "<",
    ">",
    "\\le",
    "\\lex",
    "\\ge ",
    "\\ne",
    "\\approx",
    "\\in",
    "\\pm",
    "\\mp",
    "\\cdot ",
    "\\times ",
    "\\div",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\\{",
    "\\}",
    "|",
    "\\left(",
    "\\right)",
    "\\left|",
    "\\right|",
    "\\lfloor ",
    "\\rfloor",
    "\\lceil",
    "\\rceil",
    "\\frac",
    "\\frac12",
    "\\frac{1}{2}",
    "\\dfrac{",
    "\\sqrt",
    "\\sqrt{2}",
    "\\sqrt[3]",
    "\\sqrt[",
    "\\binom{5}{2}",
    "\\sin ",
    "\\cos^2",
    "\\log_",
    "\\ln(",
    "\\text{",
    "\\text{ cm}",
    "\\mathrm{",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "\\begin{matrix}",
    "&",
    "\\\\",
    "\\cup ",
    "\\cap",
    "\\setminus",
    "\\boxed{",
    "\\pmod{",
    "\\overline{3}",
    "\\circ",
    "^\\circ",
    "'",
    ",",
    ";",
    ":",
    " and ",
    " or ",
    "$",
    "\\(",
    "\\)",
    "\\[",
    "\n",
    "½",
    "²",
    "√",
    "−",
    "the answer is ",
    "\\over",
    "\\choose ",
    "\\bmod ",
    "\\pmod7",
    "\\equiv",
    "\\mathbb{R}",
    "\\mid ",
    "\\subset ",
    "\\overline{3+4i}",
    "\\begin{cases}",
    "\\end{cases}",
    "\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}",
    " million ",
    " hours ",
    "\\text{ or more}",
    "x=1,y=2",
    "m+n=",
    "f(x)=",
    "|x-1|<3",
    "]2,7[",
    "0x1F",
    "2.(3)",
    "⁵",
    "٧٣",
    "**",
    "</s>",
    "(C) ",
    "_{16}",
    "\\$",
    "_",
];

fn mutate(rng: &mut ChaCha8Rng, corpus: &[String]) -> String {
    let mut text = match rng.random_range(0..4) {
        0 => String::new(),
        _ => corpus.choose(rng).cloned().unwrap_or_default(),
    };
    for _ in 0..rng.random_range(0..12) {
        let places: Vec<usize> = text.char_indices().map(|c| c.0).chain([text.len()]).collect();
        let at = places[rng.random_range(0..places.len())];
        match rng.random_range(0..10) {
            0..=5 => text.insert_str(at, PIECES.choose(rng).copied().unwrap_or_default()),
            6 => {
                let to = places[rng.random_range(0..places.len())];
                text.replace_range(at.min(to)..at.max(to), "");
            }
            7 => {
                let to = places[rng.random_range(0..places.len())];
                let part = text[at.min(to)..at.max(to)].repeat(rng.random_range(1..4));
                text.insert_str(at, &part);
            }
            8 => {
                let other = corpus.choose(rng).cloned().unwrap_or_default();
                text.insert_str(at, &other);
            }
            _ => text.insert(at, char::from_u32(rng.random_range(0..0x3000)).unwrap_or('?')),
        }
        if text.len() > 6_000 {
            text.truncate(
                text.char_indices()
                    .map(|c| c.0)
                    .take_while(|i| *i < 6_000)
                    .last()
                    .unwrap_or(0),
            );
        }
    }
    text
}

fn check(a: &str, b: &str) -> Result<(), String> {
    let options = EqualOptions {
        tolerance: Some(0.01),
        ..EqualOptions::default()
    };
    for kind in [
        AnswerKind::Math,
        AnswerKind::Integer,
        AnswerKind::Choice,
        AnswerKind::Text,
    ] {
        let (ka, kb) = (canonical(a, kind), canonical(b, kind));
        let verdict = equal(a, b, kind, &EqualOptions::default());
        equal(b, a, kind, &options);
        // Two units may share a class and differ, a relation is an interval only where an option says so.
        let lenient = EqualOptions {
            relations: RelationRule::Lenient,
            ..EqualOptions::default()
        };
        let agree = || {
            equal(a, b, kind, &lenient).equal || a.contains("hours") || a.contains("cm") || a.contains('$')
        };
        if ka == kb && !ka.is_empty() && !verdict.equal && !agree() {
            return Err(format!("one class ({ka}) and not equal as {kind:?}"));
        }
        if !a.trim().is_empty() && !ka.is_empty() && !equal(a, a, kind, &options).equal {
            return Err(format!("not equal to itself as {kind:?}"));
        }
        // Nothing is a hundred times itself, whatever is written around it.
        if kind == AnswerKind::Math && (a.trim(), b.trim()) == ("6", "600") && verdict.equal {
            return Err("6 is 600".to_owned());
        }
    }
    extract(a, &ExtractRules::default());
    extract(b, &ExtractRules::choice());
    Ok(())
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default: u64| args.next().and_then(|a| a.parse().ok()).unwrap_or(default);
    let (seconds, seed) = (number(60), number(0));
    let mut corpus: Vec<String> = [
        "\\frac{9\\sqrt{23}}{23}",
        "(-\\infty, 1) \\cup [2, 3]",
        "x^2 + 2x + 1 = 0",
        "\\begin{pmatrix}1 & 2\\\\3 & 4\\end{pmatrix}",
    ]
    .map(str::to_owned)
    .to_vec();
    if let Some(file) = args.next() {
        let text = std::fs::read_to_string(file).expect("the file is readable");
        for line in text.lines() {
            match serde_json::from_str::<serde_json::Value>(line) {
                Ok(value) => corpus.extend(
                    ["prediction", "gold", "answer", "text"]
                        .iter()
                        .filter_map(|f| value[*f].as_str())
                        .map(str::to_owned),
                ),
                Err(_) => corpus.push(line.to_owned()),
            }
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let start = Instant::now();
    let (mut tried, mut found, mut slowest) = (0u64, 0u64, (Duration::ZERO, String::new()));
    while start.elapsed() < Duration::from_secs(seconds) {
        let (a, b) = (mutate(&mut rng, &corpus), mutate(&mut rng, &corpus));
        let one = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| check(&a, &b)));
        let took = one.elapsed();
        tried += 1;
        match result {
            Ok(Ok(())) => {}
            Ok(Err(what)) => {
                found += 1;
                println!("{what}: {a:?} {b:?}");
            }
            Err(_) => {
                found += 1;
                println!("panic: {a:?} {b:?}");
            }
        }
        if took > slowest.0 {
            slowest = (took, format!("{a:?} {b:?}"));
        }
        if found >= 20 {
            break;
        }
    }
    println!(
        "{tried} pairs, {found} findings; the slowest took {:.1} ms: {}",
        slowest.0.as_secs_f64() * 1e3,
        slowest.1
    );
    std::process::exit(i32::from(found > 0));
}
