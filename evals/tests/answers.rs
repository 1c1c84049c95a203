//! Extraction and equality: a table of cases, and properties that hold for every text.

use proptest::prelude::*;
use tts_evals::answer::{
    AnswerKind, BracketRule, DecimalRule, EqualOptions, ExtractRules, ExtractionPath, ListOrder, PercentRule,
    ReadAnswer, RuleReader, UnitRule, canonical, compile_pattern, equal, extract,
};

fn math(prediction: &str, gold: &str) -> bool {
    equal(prediction, gold, AnswerKind::Math, &EqualOptions::default()).equal
}

fn found(text: &str) -> Option<(String, ExtractionPath, bool)> {
    extract(text, &ExtractRules::default()).map(|e| (e.answer, e.path, e.inside_thinking))
}

#[test]
fn what_is_an_answer_and_what_is_not() {
    use ExtractionPath::{Boxed, FinalAnswer, Hashes, LastFormula, LastNumber};
    type Case = (&'static str, Option<(&'static str, ExtractionPath, bool)>);
    let cases: &[Case] = &[
        (
            "first \\boxed{1}, no: \\boxed{\\frac{3}{4}}.",
            Some(("\\frac{3}{4}", Boxed, false)),
        ),
        (
            "\\[\\boxed{1},\\quad \\boxed{2} \\text{ and } \\boxed{3}\\]",
            Some(("1, 2, 3", Boxed, false)),
        ),
        ("\\fbox{ 5 } and \\boxed{unclosed", Some(("5", Boxed, false))),
        ("\\boxed{\\{1, 2\\}}", Some(("\\{1, 2\\}", Boxed, false))),
        ("I boxed it: 12", None),
        ("so \\boxed{12", None),
        ("put the answer in \\boxed{} or \\boxed{...}", None),
        ("nothing", None),
        (
            "<think>\\boxed{5}</think> The final answer is $6$. Done.",
            Some(("6", FinalAnswer, false)),
        ),
        (
            "<think>\\boxed{5}</think> no more to say",
            Some(("5", Boxed, true)),
        ),
        ("<think> perhaps \\boxed{5}", Some(("5", Boxed, true))),
        // all that is said counts, and of it the end
        (
            "\\boxed{1}</think>\\boxed{2}<think>\\boxed{3}</think>so it is",
            Some(("2", Boxed, false)),
        ),
        (
            "\\boxed{1}</think>\\boxed{2}<think>\\boxed{3}</think>\\boxed{4}",
            Some(("4", Boxed, false)),
        ),
        ("1</think>2<think>3</think>4", Some(("4", LastNumber, false))),
        (
            "\\boxed{2} <think>or is it \\boxed{3}?",
            Some(("2", Boxed, false)),
        ),
        ("\\boxed{1}</think><think>\\boxed{3}", Some(("3", Boxed, false))),
        (
            "<think>1</think>The tag <think> starts it, \\boxed{4}.",
            Some(("4", Boxed, false)),
        ),
        (
            "The tags <think> and </think>: \\boxed{4}",
            Some(("4", Boxed, false)),
        ),
        (
            "**Final Answer:** The volume is 120. I hope so.",
            Some(("120", FinalAnswer, false)),
        ),
        ("2 + 2 is 4\n#### 1,234", Some(("1,234", Hashes, false))),
        ("#### 3. Compute\nthe total", Some(("3", LastNumber, false))),
        ("so the pair is $(7, 6)$.", Some(("(7, 6)", LastFormula, false))),
        (
            "there are 3 to 70 of them, -5 at the least",
            Some(("-5", LastNumber, false)),
        ),
        ("each costs $5, so $x = 3$", Some(("x = 3", LastFormula, false))),
        ("from 30-70", Some(("70", LastNumber, false))),
    ];
    for (text, expected) in cases {
        let expected = expected.map(|(answer, path, thinking)| (answer.to_owned(), path, thinking));
        assert_eq!(found(text), expected, "{text:?}");
    }
}

/// A text that ends before its answer has none, whatever stood before it.
#[test]
fn what_was_cut_off_is_no_answer() {
    let ends = [
        "\\boxed{",
        "$",
        "\\(",
        "(",
        "-",
        "?",
        "...",
        "\\boxed{}",
        "\\boxed{ }",
        "\\text{",
        "\\boxed{9",
        "\\frac{1}{",
        "\\fbox{",
        "$\\boxed{",
        "$$",
        "\\[",
        "{",
        "[",
        "**",
        "…",
        "=",
        "\\text{}",
        "$-",
        "\\sqrt{2",
        "(1,",
        "\\{1, 2",
        "",
        " ",
    ];
    for end in ends {
        for text in [
            format!("The answer is {end}"),
            format!("First 2+3 = 5, then $x = 7$.\n\nThe final answer is: {end}"),
            format!("<think>2+3 = 5</think>The answer is {end}"),
        ] {
            let found = found(&text).filter(|(_, _, thinking)| !thinking);
            assert_eq!(found, None, "{text:?}");
        }
    }
    for text in [
        "The answer is \\emptyset",
        "The answer is ∅",
        "The answer is \\{\\}",
        "The answer is [0,1[",
    ] {
        assert!(found(text).is_some(), "{text:?}");
    }
}

#[test]
fn rules_are_settings() {
    assert_eq!(extract("it is 7", &ExtractRules::boxed()), None);
    let spoken_only = ExtractRules {
        inside_thinking: false,
        ..ExtractRules::boxed()
    };
    assert_eq!(extract("<think>\\boxed{5}</think>", &spoken_only), None);
    let prefilled = ExtractRules {
        starts_in_thinking: true,
        ..ExtractRules::boxed()
    };
    assert!(extract("\\boxed{5}", &prefilled).is_some_and(|e| e.inside_thinking));
    for (pattern, answer) in [
        (r"A:\s*(\d+)", "2"),
        (r"(A): (?<answer>\d+)", "2"),
        (r"A: \d", "A: 2"),
    ] {
        let rules = ExtractRules::pattern(compile_pattern(pattern).expect("a pattern"));
        assert_eq!(
            extract("A: 1, then A: 2, \\boxed{3}", &rules)
                .map(|e| e.answer)
                .as_deref(),
            Some(answer)
        );
    }
    assert!(
        compile_pattern("(")
            .expect_err("no pattern")
            .to_string()
            .contains("`(`")
    );
    assert!(compile_pattern(r"(\w{1000}){1000}").is_err());
    let choice = RuleReader::new(AnswerKind::Choice);
    let letter = |text: &str| choice.read(text).map(|e| choice.key(&e.answer));
    assert_eq!(letter("The answer: D, it cannot be A").as_deref(), Some("D"));
    assert_eq!(letter("\\boxed{\\text{(C)}}").as_deref(), Some("C"));
    assert_eq!(letter("I think it's B").as_deref(), Some("B"));
}

#[test]
fn integers() {
    let key = |s: &str| canonical(s, AnswerKind::Integer);
    let same = [
        "25",
        "025",
        "25.0",
        "+25",
        "\\text{25}",
        "\\mathbf{25}",
        "\\boxed{25}",
        "$25$",
        "\\(25\\)",
        "25\\text{ cm}",
        "25 square units",
        "25^\\circ",
        "m + n = 25",
        "\\frac{m}{n} = \\frac{12}{13}, m+n = 25",
        "25.",
        "2{,}500/100",
        "5^2",
        "\\$25",
    ];
    for s in same {
        assert_eq!(key(s), "25", "{s}");
    }
    for s in ["-25", "26", "25!", "2.5", "25x", "25\\%", "1/25", "no"] {
        assert_ne!(key(s), "25", "{s}");
    }
    for (s, n) in [
        ("1\\,000", "1000"),
        ("1 000", "1000"),
        ("70 \\pmod{1000}", "70"),
        ("6e2", "600"),
        ("-0", "0"),
        ("000", "0"),
    ] {
        assert_eq!(key(s), n, "{s}");
    }
    assert_eq!(key(&"9".repeat(100)), "9".repeat(100));
}

#[test]
fn one_class() {
    let classes: &[&[&str]] = &[
        &[
            "1/2",
            "0.5",
            "\\frac12",
            "\\dfrac{1}{2}",
            ".50",
            "50\\%",
            "50 percent",
            "x = \\tfrac{2}{4}",
            "½",
        ],
        &["12\\frac{3}{5}", "12.6", "63/5", "12 3/5"],
        &["104", "𝟭𝟬𝟰", "１０４", "𝟶𝟙𝟎𝟺"],
        &["\\frac{9}{\\sqrt{23}}", "\\frac{9\\sqrt{23}}{23}", "9/\\sqrt{23}"],
        &["\\sqrt{8}", "2\\sqrt2", "2√2", "\\sqrt{2} + \\sqrt{2}", "8^{1/2}"],
        &["\\sqrt{3+2\\sqrt2}", "1+\\sqrt{2}", "\\frac{1}{\\sqrt2-1}"],
        &["x^2+2x+1", "(x+1)^2", "(1+x)(x+1)"],
        &[
            "\\frac{-1\\pm\\sqrt{17}}{2}",
            "\\frac{-1-\\sqrt{17}}{2}, \\frac{-1+\\sqrt{17}}{2}",
        ],
        &["\\{1, 2, 3\\}", "3, 2, 1", "1, 2 \\text{ and } 3"],
        &["[1, \\infty)", "\\left[1, +\\infty\\right)"],
        &[
            "\\begin{pmatrix} 1 & 2 \\\\ 3 & 0.5 \\end{pmatrix}",
            "\\begin{bmatrix}1&2\\\\3&\\frac12\\end{bmatrix}",
        ],
        &["y = 2x + 1", "2x - y + 1 = 0"],
        &["5 \\ge x", "x \\le 5"],
        &["26!\\cdot 2^{25}", "\\frac{26! \\cdot 2^{26}}{2}"],
        &["\\log_2 8", "3"],
        &["\\binom{5}{2}", "10"],
        &["\\sin 30^\\circ", "\\cos\\frac{\\pi}{3}", "0.5"],
        &["1+2i", "i(2-i)"],
        &["0.\\overline{3}", "1/3"],
        &["\\text{Even}", "even"],
        &["\\lfloor \\pi \\rfloor", "3"],
        &["|{-3}|", "3"],
    ];
    for class in classes {
        for other in &class[1..] {
            assert_eq!(
                canonical(other, AnswerKind::Math),
                canonical(class[0], AnswerKind::Math),
                "{} and {other}",
                class[0]
            );
            assert!(math(other, class[0]), "{} and {other}", class[0]);
        }
    }
}

#[test]
fn not_equal() {
    let pairs = [
        ("6", "600"),
        ("600", "6"),
        ("600\\%", "600"),
        ("10\\%", "10"),
        ("0.333", "1/3"),
        ("3.14", "\\pi"),
        ("0.866025403784", "\\frac{\\sqrt3}{2}"),
        ("0.8660254037844387", "\\frac{\\sqrt3}{2}"),
        ("0.3333333333333", "0.333333333333333"),
        ("0.5000000000000001", "1/2"),
        ("8:34", "20:34"),
        ("Answer $ \n 9 \n $", "9"),
        ("8:34 a.m.", "20:34"),
        ("[1, 2]", "1 \\le |x| \\le 2"),
        ("p = 5, q = 3; p = 7, q = 2", "(5,2),(7,2)"),
        ("x < 1 \\text{ and } x > 3", "(-\\infty, 1) \\cup (3, \\infty)"),
        ("10m", "10"),
        ("2x", "2"),
        ("25!", "25"),
        ("[0,1)", "(0,1)"),
        ("[0,1]", "[0,2]"),
        ("(1,2)", "(2,1)"),
        ("2021", "\\pm 2021"),
        ("1:00", "12:00"),
        ("7:18", "7/18"),
        ("f(x)", "f(y)"),
        ("x \\le 5", "x \\ge 5"),
        ("0", "a^2 + b = 0"),
        ("\\sqrt{x^2}", "x"),
        ("1, 1, 2", "1, 2"),
        ("odd", "oddd"),
        ("", "5"),
        ("5", ""),
        ("\\sqrt{67}, -\\sqrt{85}", "\\sqrt{67}"),
        ("204_5", "204"),
    ];
    for (prediction, gold) in pairs {
        assert!(!math(prediction, gold), "{prediction} and {gold}");
    }
}

#[test]
fn equal_only_in_grading() {
    for (prediction, gold, rule) in [
        ("\\sec^2 y", "\\tan^2 y + 1", "same value"),
        ("2x + 3", "f(x) = 2x + 3", "value of an equation"),
        ("2t + 3", "f(t) = 2t + 3", "value of an equation"),
        ("m + n = 7", "7", "value of an equation"),
        ("(0, 1)", "0 < x < 1", "interval for an inequality"),
        ("\\frac{x^2-1}{x-1}", "x+1", "same value"),
        ("1,22", "1.22", "decimal comma"),
        ("\\frac{\\sqrt{3}}{2}", "0.8660254037844386", "decimal in full"),
        (
            "2.314814814815 \\times 10^{-3}",
            "\\frac{1}{432}",
            "decimal in full",
        ),
        ("3.141592653589793", "\\pi", "decimal in full"),
        ("20:34", "08:34 \\text{P.M.}", "same time of day"),
        (
            "[-2, -1] \\cup [1, 2]",
            "1 \\le |x| \\le 2",
            "interval for an inequality",
        ),
        ("(-3, 3)", "|x| < 3", "interval for an inequality"),
        (
            "$-5\\lex\\le1$ or $3\\lex\\le9$",
            "[-5,1]\\cup[3,9]",
            "union for ranges",
        ),
        (
            "\\begin{matrix} \\frac12 \\\\ 1 \\end{matrix}",
            "[0.5, 1]",
            "column written as a tuple",
        ),
        ("p = 5, q = 2; p = 7, q = 2", "(7,2),(5,2)", "same form"),
        ("Answer \\[ \n 9 \n \\]", "9", "same form"),
        ("2\n\n3\n\n3/2", "2, 3, 1.5", "same form"),
    ] {
        let verdict = equal(prediction, gold, AnswerKind::Math, &EqualOptions::default());
        assert_eq!(
            (verdict.equal, verdict.rule),
            (true, rule),
            "{prediction} and {gold}"
        );
    }
}

#[test]
fn options_change_what_graders_disagree_about() {
    let with = |options: &EqualOptions, p: &str, g: &str| equal(p, g, AnswerKind::Math, options).equal;
    let lenient = EqualOptions {
        percent: PercentRule::Lenient,
        ..EqualOptions::default()
    };
    assert!(with(&lenient, "10\\%", "10") && with(&lenient, "10", "10\\%") && !with(&lenient, "6", "600"));
    let tolerant = EqualOptions {
        tolerance: Some(0.001),
        ..EqualOptions::default()
    };
    assert!(
        with(&tolerant, "3.1416", "\\pi")
            && with(&tolerant, "0.3333", "1/3")
            && !with(&tolerant, "0.33", "1/3")
    );
    let exact = EqualOptions {
        decimals: DecimalRule::Exact,
        ..EqualOptions::default()
    };
    assert!(!with(&exact, "3.141592653589793", "\\pi") && with(&exact, "0.5", "1/2"));
    let loose = EqualOptions {
        units: UnitRule::Lenient,
        brackets: BracketRule::Lenient,
        ..EqualOptions::default()
    };
    assert!(
        with(&loose, "10m", "10")
            && with(&loose, "10", "10 m/s^2")
            && !with(&loose, "10m", "11")
            && !with(&loose, "x", "y")
    );
    assert!(
        with(&loose, "[0, 1)", "(0, 1)")
            && with(&loose, "[0, 1]", "(0, 1)")
            && !with(&loose, "[0, 1]", "(0, 2)")
    );
    let ordered = EqualOptions {
        list_order: ListOrder::Strict,
        ..EqualOptions::default()
    };
    assert!(with(&ordered, "1, 2", "1, 2.0") && !with(&ordered, "2, 1", "1, 2"));
}

/// Inputs made to hang or to fill memory.
fn hostile() -> Vec<String> {
    let n = 20_000;
    vec![
        "9^{9^{9^9}}".into(),
        format!("10^{}", "9".repeat(1000)),
        format!("1e{}", "9".repeat(1000)),
        "9".repeat(n),
        format!("({}1", "(".repeat(n)),
        "(".repeat(2000) + "1" + &")".repeat(2000),
        "{".repeat(n),
        "\\frac{1}{".repeat(1000),
        "\\sqrt{".repeat(300) + "2" + &"}".repeat(300),
        "\\boxed{".repeat(n),
        "\\boxed{".repeat(3000) + "1" + &"}".repeat(3000),
        "$".repeat(n),
        "\\(".repeat(n),
        "<think>".repeat(n),
        "1+".repeat(1500) + "1",
        "x!".repeat(1000),
        "-".repeat(4000) + "1",
        "(a+b+c+d+e+f)^{16}".into(),
        "(a+b)(c+d)(e+f)(g+h)(j+k)(l+m)(n+o)(p+q)(r+s)".into(),
        "((a+b+c)^{12}+1)^{12}".into(),
        "99999999!".into(),
        "\\binom{1999}{1000}^{999}".into(),
        "\\sqrt{123456789012345678901234567890123456789012345678901234567891}".into(),
        "2^{2^{12}}".into(),
        "3^{1/99999999}".into(),
        (1..400)
            .map(|i| format!("\\sqrt{{{i}}}"))
            .collect::<Vec<_>>()
            .join("+"),
        (1..200).map(|i| format!("(x+{i})")).collect::<String>(),
        (1..500)
            .map(|i| format!("\\sin({i}x)"))
            .collect::<Vec<_>>()
            .join(","),
        "\\[ $x$ ".repeat(n),
        "\\( \n$x$ ".repeat(n),
        "the answer is not { ".repeat(n),
        "= 1 ( ".repeat(n),
        "|".repeat(2000),
        "\\text{".repeat(2000),
        "final answer is ".repeat(2000),
        "\\begin{matrix}".repeat(500),
        "1 & 2 \\\\".repeat(1000),
        "\u{202e}\u{0}\u{fffd}𝟙½½½".repeat(300),
    ]
}

#[test]
fn hostile_inputs_are_bounded() {
    let inputs = hostile();
    for input in &inputs {
        for kind in [
            AnswerKind::Math,
            AnswerKind::Integer,
            AnswerKind::Choice,
            AnswerKind::Text,
        ] {
            canonical(input, kind);
            equal(input, "\\frac{x+1}{2}", kind, &EqualOptions::default());
            equal("1", input, kind, &EqualOptions::default());
        }
        equal(
            input,
            &format!("{input} "),
            AnswerKind::Math,
            &EqualOptions {
                tolerance: Some(0.1),
                ..EqualOptions::default()
            },
        );
        extract(input, &ExtractRules::default());
        extract(input, &ExtractRules::choice());
    }
    assert!(math("9^{9^{9^9}}", "9^{9^{9^9}}"));
}

/// Pieces of LaTeX, put together at random: far more of these parse than of random characters.
fn latex() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "1",
        "2",
        "0",
        "12",
        "0.5",
        "x",
        "y",
        "i",
        "e",
        "\\pi",
        "+",
        "-",
        "\\pm",
        "\\cdot ",
        "/",
        "^",
        "^{2}",
        "^{-1}",
        "_",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "\\{",
        "\\}",
        ",",
        ";",
        "=",
        "<",
        "\\le ",
        "\\frac",
        "\\frac{1}{2}",
        "\\sqrt",
        "\\sqrt{2}",
        "\\sqrt[3]{x}",
        "\\sin ",
        "\\ln ",
        "\\log_2 ",
        "!",
        "%",
        "\\%",
        "\\text{ cm}",
        "\\text{and}",
        "\\infty",
        "\\cup ",
        "|",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "&",
        "\\\\",
        "\\boxed{",
        "$",
        "\\overline{3}",
        "\\circ",
        "'",
        " ",
        "\n",
        ".",
        "is ",
        "the answer is ",
        "½",
        "−",
    ]);
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in any::<String>(), other in latex()) {
        for kind in [AnswerKind::Math, AnswerKind::Integer, AnswerKind::Choice, AnswerKind::Text] {
            canonical(&text, kind);
            equal(&text, &other, kind, &EqualOptions::default());
            equal(&other, &text, kind, &EqualOptions::default());
        }
        extract(&text, &ExtractRules::default());
        extract(&(text + &other), &ExtractRules::choice());
    }

    #[test]
    fn an_answer_is_equal_to_itself(text in latex()) {
        prop_assert!(math(&text, &text) || canonical(&text, AnswerKind::Math).is_empty());
        let in_dollars = format!("${text}$");
        let spaced = " ".to_owned() + &in_dollars;
        prop_assert!(math(&in_dollars, &spaced));
    }

    #[test]
    fn one_class_means_equal(a in latex(), b in latex()) {
        let (ka, kb) = (canonical(&a, AnswerKind::Math), canonical(&b, AnswerKind::Math));
        if ka == kb && !ka.is_empty() {
            prop_assert!(math(&a, &b), "{a:?} {b:?} {ka:?}");
        }
    }

    #[test]
    fn rationals_have_one_key(n in -9999i64..9999, d in 1i64..999, k in 1i64..50) {
        let key = canonical(&format!("\\frac{{{n}}}{{{d}}}"), AnswerKind::Math);
        prop_assert_eq!(&key, &canonical(&format!("{}/{}", n * k, d * k), AnswerKind::Math));
        prop_assert_eq!(&key, &canonical(&format!("x = \\frac{{{}}}{{{}}}", -n * k, -d * k), AnswerKind::Math));
        let other = canonical(&format!("{}/{d}", n + 1), AnswerKind::Math);
        prop_assert_ne!(&key, &other);
        let (hundredfold, once) = ((n * 100).to_string(), n.to_string());
        prop_assert!(n == 0 || !math(&hundredfold, &once));
    }

    #[test]
    fn polynomials_are_compared_by_their_terms(a in -9i64..10, b in -9i64..10, c in 1i64..10) {
        let factored = format!("{c}(x - {a})(x - {b})").replace("- -", "+ ");
        let expanded = format!("{c}x^2 + {}x + {}", -c * (a + b), c * a * b).replace("+ -", "- ");
        prop_assert!(math(&factored, &expanded), "{} {}", factored, expanded);
        let wrong = format!("{c}x^2 + {}x + {}", -c * (a + b) + 1, c * a * b).replace("+ -", "- ");
        prop_assert!(!math(&factored, &wrong));
    }
}

#[test]
fn values_are_compared_by_their_difference() {
    for (a, b) in [
        ("x+2^{90}", "y+2^{90}"),
        ("2^{100}+\\sqrt2", "2^{100}-\\sqrt2"),
        ("2^{100}x+1", "2^{100}x"),
        ("e^{-80}+1", "1"),
        ("1-\\frac{\\sqrt2}{2^{100}}", "1"),
        ("\\sqrt{x^2+10^{40}}", "10^{20}"),
        ("\\ln(10^{30}+57)", "1"),
        ("\\ln(10^{30}+57)", "30\\ln 10"),
        ("\\arctan(10^{30})", "\\frac{\\pi}{2}"),
        ("\\tanh(1000)", "1"),
        ("(1+\\sqrt2)^{100}", "(1+\\sqrt2)^{100}+(1-\\sqrt2)^{100}"),
        ("\\sin(10^{-30})", "10^{-30}"),
        ("e^{\\pi\\sqrt{163}}", "262537412640768744"),
        ("\\cosh(200)", "\\sinh(200)"),
    ] {
        assert!(!math(a, b) && !math(b, a), "{a} and {b}");
    }
    for (a, b) in [
        ("2^{100}+\\sqrt8", "2^{100}+2\\sqrt2"),
        ("\\ln(10^{30})", "30\\ln 10"),
        ("\\cosh(200)^2-\\sinh(200)^2", "1"),
        ("\\sec^2 y + 10^{30}", "\\tan^2 y + 1 + 10^{30}"),
        ("\\arctan(10^{30})", "\\frac{\\pi}{2}-\\arctan(10^{-30})"),
        ("\\sqrt{x^2+10^{40}}", "10^{20}\\sqrt{1+\\frac{x^2}{10^{40}}}"),
        ("\\lfloor 10^{30}\\pi \\rfloor", "3141592653589793238462643383279"),
    ] {
        assert!(math(a, b) && math(b, a), "{a} and {b}");
    }
}
