//! Classes of the vote: answers that say the same are of one class, others are not.

use proptest::prelude::*;
use tts_evals::answer::{AnswerKind, EqualOptions, RelationRule, canonical, equal, without_unit};

fn key(answer: &str) -> String {
    canonical(answer, AnswerKind::Math)
}

/// Answers in one row are of one class, answers of different rows of different classes.
const CLASSES: &[&[&str]] = &[
    &[
        "73",
        "The answer is 73",
        "m+n=73",
        "100m + n = 73",
        "**73**",
        "\\boxed{73}",
        "Answer: 73",
        "\\text{The answer is }73",
        "x = 73",
        "73 apples",
        "٧٣",
    ],
    &["73^\\circ", "73°"],
    &[
        "(3, 5)",
        "x=3, y=5",
        "y=5, x=3",
        "(x,y)=(3,5)",
        "\\begin{cases}x=3\\\\y=5\\end{cases}",
    ],
    &["(5, 3)", "x=5, y=3"],
    &["3, 5", "5, 3", "\\{3, 5\\}", "x=3 or x=5", "3 and 5"],
    &[
        "[2,\\infty)",
        "x\\ge2",
        "2\\le x",
        "2x\\ge4",
        "\\{x : x\\ge 2\\}",
        "[2, \\infty[",
    ],
    &["(2,\\infty)", "x>2", "2 < x"],
    &[
        "-3, 3",
        "x=\\pm3",
        "\\pm3",
        "\\{3,-3\\}",
        "x=3,x=-3",
        "x=3\\text{ or }x=-3",
    ],
    &["5000000", "5\\text{ million}", "5 million", "5\\times10^6"],
    &["5", "5 units", "5 square units"],
    &["5\\text{ dollars}", "\\$5", "5 dollars"],
    &["73\\text{ cm}", "73 centimeters", "73 cm"],
    &["73\\text{ cm}^2", "73 square centimeters"],
    &["3 hours", "3\\text{ h}"],
    &["3 minutes"],
    &["5 cents"],
    &["£5"],
    &["€5", "5 euros"],
    &["2 cups"],
    &["2 pints"],
    &["20°C", "20 degrees Celsius"],
    &["20°F"],
    &["5 mg"],
    &["5 kg"],
    &["5\\text{ km}", "x = 5\\text{ km}"],
    &["5\\text{ m}"],
    &["30 cm"],
    &["30°"],
    &["3 cm, 5 cm"],
    &["3 km, 5 km"],
    &["12:30 p.m.", "12:30 PM"],
    &["No solutions", "no solution"],
    &[
        "2 hours 30 minutes",
        "2\\text{ hours }30\\text{ minutes}",
        "2 hrs 30 mins",
    ],
    &["x\\equiv3\\pmod7", "x\\equiv10\\pmod7"],
    &["x\\equiv3\\pmod5"],
    &[
        "\\mathbb{R}",
        "(-\\infty,\\infty)",
        "x\\in\\mathbb{R}",
        "all real numbers",
    ],
    &["f(x)=2x+3", "f(t)=2t+3", "2x+3"],
    &["A\\subset B"],
    &["B\\subset A"],
    &["5 out of 8"],
    &["40"],
    &["9\\text{ AM}"],
    &["9\\text{ PM}"],
    &["n\\text{ even}"],
    &["n\\text{ odd}"],
    &["\\text{red, blue}", "blue, red", "blue and red"],
    &["x+2^{90}"],
    &["y+2^{90}"],
    &["greater than 5"],
    &["\\cos A = \\frac12"],
    &["\\sin A = \\frac12"],
];

#[test]
fn what_says_the_same_is_one_class() {
    for (i, class) in CLASSES.iter().enumerate() {
        for answer in *class {
            assert_eq!(key(answer), key(class[0]), "{answer} and {}", class[0]);
        }
        for other in &CLASSES[..i] {
            assert_ne!(key(class[0]), key(other[0]), "{} and {}", class[0], other[0]);
        }
    }
}

/// What shares a class is equal to the grader, but for a relation where an interval is wanted, which an option
/// accepts, and for two units.
#[test]
fn one_class_is_equal() {
    let options = EqualOptions {
        relations: RelationRule::Lenient,
        ..EqualOptions::default()
    };
    for class in CLASSES {
        for a in *class {
            for b in *class {
                let units = |s: &str| {
                    ["apples", "cm", "circ", "square", "units", "\\$", "dollars"]
                        .iter()
                        .any(|unit| s.contains(unit))
                };
                if !(units(a) && units(b)) {
                    assert!(equal(a, b, AnswerKind::Math, &options).equal, "{a} and {b}");
                }
            }
        }
    }
    let strict = |a: &str, b: &str| equal(a, b, AnswerKind::Math, &EqualOptions::default()).equal;
    assert!(!strict("x\\ge2", "[2,\\infty)") && strict("[2,\\infty)", "x\\ge2"));
    assert!(!strict("3\\text{ hours}", "3\\text{ minutes}") && strict("3", "3\\text{ hours}"));
}

/// A key keeps the unit of what was measured, and says what it is without.
#[test]
fn keys_keep_units_apart_and_say_what_they_are_without() {
    let key = |answer: &str| canonical(answer, AnswerKind::Math);
    for (one, other) in [
        ("3 hours", "3 minutes"),
        ("5 dollars", "5 cents"),
        ("\\$5", "€5"),
        ("£5", "€5"),
        ("5 cm", "5 cm^2"),
        ("5 mg", "5 kg"),
        ("5 cups", "5 pints"),
        ("5\\text{ km}", "5\\text{ m}"),
        ("30^\\circ", "30 cm"),
        ("45°", "45 rad"),
    ] {
        let (one, other) = (key(one), key(other));
        assert_ne!(one, other);
        assert_eq!(without_unit(&one), without_unit(&other));
        assert!(without_unit(&one).is_some(), "{one}");
    }
    for (same, as_this) in [
        ("3 hours", "3\\text{ h}"),
        ("\\$5", "5 dollars"),
        ("12 ways", "12 arrangements"),
        ("12 ways", "12"),
        ("5 units", "5"),
    ] {
        assert_eq!(key(same), key(as_this));
    }
    assert_eq!(without_unit(&key("5 km")), Some(&*key("5")));
    for bare in ["5", "(1, 2)", "x + 1", "no unit", "[1, 2]"] {
        assert_eq!(without_unit(&key(bare)), None, "{bare}");
    }
}

/// Pieces that answers are made of, words among them.
fn answer() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "1",
        "2",
        "3",
        "12",
        "0.5",
        "x",
        "y",
        "m",
        "n",
        "i",
        "\\pi",
        "+",
        "-",
        "\\pm",
        "\\cdot ",
        "/",
        "^2",
        "(",
        ")",
        "[",
        "]",
        "\\{",
        "\\}",
        ",",
        ", ",
        ";",
        "=",
        "<",
        "\\le ",
        ">",
        "\\ne ",
        "\\frac{1}{2}",
        "\\sqrt{2}",
        "x=",
        "y=",
        "m+n=",
        "f(x)=",
        "\\text{ cm}",
        "\\text{ or }",
        " and ",
        " or ",
        "\\infty",
        "\\cup ",
        "\\mathbb{R}",
        "\\setminus",
        "\\bmod ",
        "\\pmod ",
        "\\equiv ",
        "!",
        "!!",
        "%",
        "^\\circ",
        "\\in ",
        "|",
        "\\mid ",
        " million",
        "\\subset ",
        "\\to ",
        "\\begin{pmatrix}1\\\\2\\end{pmatrix}",
        "the answer is ",
        "**",
        "\\boxed{",
        "}",
        "{",
        "\\overline{",
        "\\choose ",
        "_2",
        "(x,y)=",
        ":",
        " apples",
        " hours",
        "\\text{ km}",
        "\\$",
        " rad",
        "°",
        " units",
        "\\land ",
        "\\lor ",
        " (mod 4)",
        "...",
        "\\times ",
        "\\vec a",
        "\\phi",
        "E[",
        " sixths",
        "third",
        "\\emptyset",
        "p",
        "k\\in\\mathbb{Z}",
    ]);
    prop::collection::vec(piece, 1..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Being of one class is being the same string, and so transitive; what is more, the grader agrees.
    #[test]
    fn a_class_holds_equals(a in answer(), b in answer()) {
        let options = EqualOptions { relations: RelationRule::Lenient, ..EqualOptions::default() };
        let same = |a: &str, b: &str| equal(a, b, AnswerKind::Math, &options).equal;
        // A thing that is counted, a degree and a dollar are of the class of their number.
        let silent = |s: &str| [" apples", "^\\circ", "°", "\\$"].iter().any(|unit| s.contains(unit));
        if key(&a) == key(&b) && !key(&a).is_empty() && !(silent(&a) && silent(&b)) {
            prop_assert!(same(&a, &b) && same(&b, &a), "{a:?} {b:?} {:?}", key(&a));
        }
        let dressed = format!("The answer is **{a}**");
        prop_assert!(key(&a).is_empty() || same(&a, &a), "{a:?}");
        canonical(&dressed, AnswerKind::Math);
    }
}
