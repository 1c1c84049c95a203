//! Random expressions with a known value, each written in two ways: equality must know them for equal, never
//! take two values for one, and put into one class of the vote only what is equal. The values are computed
//! here, in plain floating point.

use proptest::prelude::*;
use tts_evals::answer::{AnswerKind, EqualOptions, canonical, equal};

/// A real expression.
#[derive(Clone, Debug)]
enum E {
    Int(i64),
    Decimal(i64, u32),
    Pi,
    Add(Box<E>, Box<E>),
    Sub(Box<E>, Box<E>),
    Mul(Box<E>, Box<E>),
    Div(Box<E>, Box<E>),
    Pow(Box<E>, u32),
    Sqrt(u32),
    Root3(u32),
    Ln(u32),
    Binomial(u32, u32),
}

impl E {
    fn value(&self) -> f64 {
        match self {
            E::Int(n) => *n as f64,
            E::Decimal(n, places) => *n as f64 / 10f64.powi(*places as i32),
            E::Pi => std::f64::consts::PI,
            E::Add(a, b) => a.value() + b.value(),
            E::Sub(a, b) => a.value() - b.value(),
            E::Mul(a, b) => a.value() * b.value(),
            E::Div(a, b) => a.value() / b.value(),
            E::Pow(a, n) => a.value().powi(*n as i32),
            E::Sqrt(n) => f64::from(*n).sqrt(),
            E::Root3(n) => f64::from(*n).cbrt(),
            E::Ln(n) => f64::from(*n).ln(),
            E::Binomial(n, k) => (0..*k).fold(1.0, |c, i| c * f64::from(n - i) / f64::from(i + 1)),
        }
    }

    /// The expression in LaTeX; `style` chooses, bit by bit, among ways to write the same.
    fn write(&self, style: &mut u64) -> String {
        let mut pick = |n: u64| {
            *style = style
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (*style >> 33) % n
        };
        let way = pick(4);
        let wrap = |s: String| {
            if way % 2 == 0 {
                format!("({s})")
            } else {
                format!("\\left({s}\\right)")
            }
        };
        match self {
            E::Int(n) if *n < 0 => wrap(n.to_string()),
            E::Int(n) => match way {
                0 => format!("{n}.0"),
                1 => format!("{{{n}}}"),
                _ => n.to_string(),
            },
            E::Decimal(n, places) => {
                let digits = format!("{:0width$}", n, width = *places as usize + 1);
                let (whole, part) = digits.split_at(digits.len() - *places as usize);
                match way {
                    0 => format!("\\frac{{{n}}}{{{}}}", 10i64.pow(*places)),
                    1 => format!("{whole}.{part}0"),
                    2 => wrap(format!("{n} \\cdot 10^{{-{places}}}")),
                    _ => format!("{whole}.{part}"),
                }
            }
            E::Pi => if way == 0 { "π" } else { "\\pi " }.to_owned(),
            E::Add(a, b) => {
                // Addition may be turned round.
                let (a, b) = if way == 0 { (b, a) } else { (a, b) };
                let (a, b) = (a.write(style), b.write(style));
                wrap(format!("{a} + {b}"))
            }
            E::Sub(a, b) => {
                let (a, b) = (a.write(style), b.write(style));
                if way == 0 {
                    wrap(format!("-{b} + {a}"))
                } else {
                    wrap(format!("{a} - {b}"))
                }
            }
            E::Mul(a, b) => {
                let (a, b) = if way == 0 { (b, a) } else { (a, b) };
                let (a, b) = (a.write(style), b.write(style));
                match way {
                    1 => format!("{a} \\times {b}"),
                    2 => format!("({a})({b})"),
                    _ => format!("{a} \\cdot {b}"),
                }
            }
            E::Div(a, b) => {
                let (a, b) = (a.write(style), b.write(style));
                match way {
                    0 => format!("\\dfrac{{{a}}}{{{b}}}"),
                    1 => wrap(format!("({a})/({b})")),
                    _ => format!("\\frac{{{a}}}{{{b}}}"),
                }
            }
            E::Pow(a, n) => format!("\\left({}\\right)^{{{n}}}", a.write(style)),
            E::Sqrt(n) => match way {
                0 => format!("{n}^{{1/2}}"),
                1 => format!("\\sqrt{{{n}}}"),
                2 => format!("\\frac{{{n}}}{{\\sqrt{{{n}}}}}"),
                _ => format!("√{{{n}}}"),
            },
            E::Root3(n) => {
                if way == 0 {
                    format!("{n}^{{\\frac{{1}}{{3}}}}")
                } else {
                    format!("\\sqrt[3]{{{n}}}")
                }
            }
            E::Ln(n) => {
                if way == 0 {
                    format!("\\ln({n})")
                } else {
                    format!("\\ln {{{n}}}")
                }
            }
            E::Binomial(n, k) => {
                if way == 0 {
                    format!("\\binom{{{n}}}{{{}}}", n - k)
                } else {
                    format!("\\binom{{{n}}}{{{k}}}")
                }
            }
        }
    }
}

fn expression() -> impl Strategy<Value = E> {
    let leaf = prop_oneof![
        4 => (-12i64..40).prop_map(E::Int),
        1 => (0i64..999, 1u32..4).prop_map(|(n, places)| E::Decimal(n, places)),
        1 => Just(E::Pi),
        2 => (2u32..60).prop_map(E::Sqrt),
        1 => (2u32..60).prop_map(E::Root3),
        1 => (2u32..30).prop_map(E::Ln),
        1 => (2u32..9).prop_flat_map(|n| (Just(n), 1..n)).prop_map(|(n, k)| E::Binomial(n, k)),
    ];
    leaf.prop_recursive(3, 10, 2, |inner| {
        let two = (inner.clone(), inner.clone()).prop_map(|(a, b)| (Box::new(a), Box::new(b)));
        prop_oneof![
            two.clone().prop_map(|(a, b)| E::Add(a, b)),
            two.clone().prop_map(|(a, b)| E::Sub(a, b)),
            two.clone().prop_map(|(a, b)| E::Mul(a, b)),
            two.prop_map(|(a, b)| E::Div(a, b)),
            (inner, 2u32..4).prop_map(|(a, n)| E::Pow(Box::new(a), n)),
        ]
    })
}

/// Whether the expression is a number that floating point knows well enough to compare.
fn is_tame(e: &E) -> bool {
    fn parts(e: &E) -> Vec<f64> {
        let mut all = vec![e.value()];
        match e {
            E::Add(a, b) | E::Sub(a, b) | E::Mul(a, b) | E::Div(a, b) => {
                all.extend(parts(a));
                all.extend(parts(b));
            }
            E::Pow(a, _) => all.extend(parts(a)),
            _ => {}
        }
        all
    }
    let own = e.value();
    // A result much smaller than its parts is cancellation, and may be exactly 0.
    own.is_finite()
        && own.abs() > 1e-6
        && parts(e)
            .iter()
            .all(|p| p.is_finite() && p.abs() > 1e-9 && p.abs() < 1e9)
}

fn math(a: &str, b: &str) -> bool {
    equal(a, b, AnswerKind::Math, &EqualOptions::default()).equal
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_global_rejects: 1_000_000, ..ProptestConfig::default() })]

    #[test]
    fn one_value_in_two_spellings(e in expression(), style in any::<u64>(), other in any::<u64>()) {
        prop_assume!(is_tame(&e));
        let (a, b) = (e.write(&mut style.clone()), e.write(&mut other.clone()));
        prop_assert!(math(&a, &b), "{} and {} are both {}", a, b, e.value());
        prop_assert!(math(&b, &a), "the other way round: {} and {}", b, a);
    }

    #[test]
    fn two_values_are_never_equal(x in expression(), y in expression(), style in any::<u64>(), other in any::<u64>()) {
        prop_assume!(is_tame(&x) && is_tame(&y));
        let (a, b) = (x.write(&mut style.clone()), y.write(&mut other.clone()));
        let apart = (x.value() - y.value()).abs() > 1e-6 * x.value().abs().max(y.value().abs());
        if apart {
            prop_assert!(!math(&a, &b), "{} = {} and {} = {}", a, x.value(), b, y.value());
            prop_assert_ne!(canonical(&a, AnswerKind::Math), canonical(&b, AnswerKind::Math));
        }
    }

    /// The class key as an equivalence: over many spellings of few values, being of one class is reflexive,
    /// symmetric and transitive, never joins two values, and whatever shares a class is equal to the grader.
    #[test]
    fn the_class_key_is_an_equivalence(values in prop::collection::vec(expression(), 1..4), styles in prop::collection::vec(any::<u64>(), 4)) {
        prop_assume!(values.iter().all(is_tame));
        let mut spelled: Vec<(f64, String, String)> = Vec::new();
        for e in &values {
            for style in &styles {
                let text = e.write(&mut style.clone());
                let key = canonical(&text, AnswerKind::Math);
                prop_assert_eq!(&key, &canonical(&format!("$ {text} $"), AnswerKind::Math));
                spelled.push((e.value(), text, key));
            }
        }
        for (x, a, key_a) in &spelled {
            for (y, b, key_b) in &spelled {
                if key_a == key_b {
                    prop_assert!((x - y).abs() <= 1e-6 * x.abs().max(y.abs()), "{} and {} are of one class", a, b);
                    prop_assert!(math(a, b) && math(b, a), "{} and {}", a, b);
                }
                for (_, c, key_c) in &spelled {
                    prop_assert!(!(key_a == key_b && key_b == key_c && key_a != key_c), "{} {} {}", a, b, c);
                }
            }
        }
    }
}
