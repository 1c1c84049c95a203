use super::*;
use num_bigint::BigUint;
use num_traits::ToPrimitive;

/// The numbers of a text, in order.
fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter(|t| !t.is_empty())
        .map(|t| t.parse().unwrap())
        .collect()
}

fn digit_sum(number: &BigUint, base: u32) -> u32 {
    number.to_radix_be(base).iter().map(|&d| u32::from(d)).sum()
}

fn small(number: BigUint) -> u32 {
    number.to_u32().unwrap()
}

/// The answer from the problem's text alone, by big numbers and by trying.
fn slow_answer(family: &str, text: &str) -> u32 {
    let n = numbers(text);
    let big = |x: u32| BigUint::from(x);
    match family {
        "recurrence" | "last_digits" => {
            // Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20. No reduction on the way.
            let (first, p, q, last) = (n[1], n[3], n[4], n[n.len() - 1]);
            let modulus = if family == "recurrence" { n[5] } else { 1000 };
            let mut a = big(first);
            for _ in 1..last {
                a = a * p + q;
            }
            small(a % modulus)
        }
        "fibonacci" => {
            let (first, second, modulus, last) = (n[1], n[3], n[6], n[7]);
            let (mut a, mut b) = (big(first), big(second));
            for _ in 2..last {
                (a, b) = (b.clone(), a + b);
            }
            small(b % modulus)
        }
        "power" => small(big(n[0]).pow(n[1]) % n[2]),
        "polynomial" => {
            let (head, tail) = text.split_once(". ").unwrap();
            let ends = numbers(tail);
            let terms = head.split_once(" = ").unwrap().1;
            let value: BigUint = terms
                .split('+')
                .map(|term| match term.split_once('x') {
                    None => big(term.parse().unwrap()),
                    Some((c, "")) => big(c.parse().unwrap()) * ends[0],
                    Some((c, power)) => {
                        big(c.parse().unwrap()) * big(ends[0]).pow(power[1..].parse().unwrap())
                    }
                })
                .sum();
            small(value % ends[1])
        }
        "products" => {
            let (modulus, factors) = n.split_last().unwrap();
            factors.chunks(2).map(|f| f[0] * f[1]).sum::<u32>() % modulus
        }
        "gcd" => (1..=n[0])
            .rev()
            .find(|d| n[0].is_multiple_of(*d) && n[1].is_multiple_of(*d))
            .unwrap(),
        "base" => digit_sum(&big(n[0]), n[1]),
        "doubling" => digit_sum(&(big(n[0]) * big(2).pow(n[2])), 10),
        _ => unreachable!("{family}"),
    }
}

#[test]
fn answers_agree_with_a_slow_computation() {
    for family in families() {
        for index in 0..400 {
            for split in Split::ALL {
                let made = problem(family, 7, index, split);
                let answer: u32 = made.answer.parse().unwrap();
                assert_eq!(
                    answer,
                    slow_answer(family.name, &made.problem),
                    "{}",
                    made.problem
                );
                assert!(answer <= 999, "{made:?}");
            }
        }
    }
}

#[test]
fn solutions_end_in_the_answer() {
    for family in families() {
        for index in 0..400 {
            let made = problem(family, 3, index, Split::Train);
            let (steps, last) = made.solution.rsplit_once('\n').unwrap();
            assert_eq!(last, format!("The answer is \\boxed{{{}}}.", made.answer));
            assert!(!steps.contains("boxed") && steps.lines().count() >= 2, "{steps}");
        }
    }
}

/// Every `a+b=c`, `a*b=c`, `a*b+c=d`, `a-b=c` and `a=qrs` in the steps holds.
#[test]
fn every_written_step_is_true() {
    let step = Regex::new(r"^(\d+)([-+*])(\d+)(?:\+(\d+))?$").unwrap();
    let division = Regex::new(r"^(\d+)=(\d+)r(\d)$").unwrap();
    let mut seen = 0;
    for family in families() {
        for index in 0..400 {
            let made = problem(family, 5, index, Split::Train);
            for part in made.solution.split(['\n', ':', ',']) {
                if let Some(c) = division.captures(part) {
                    let [value, q, r] = [1, 2, 3].map(|i| c[i].parse::<u32>().unwrap());
                    let base = numbers(&made.problem)[1];
                    assert_eq!((value / base, value % base), (q, r), "{part} in {}", made.problem);
                    seen += 1;
                    continue;
                }
                let sides: Vec<&str> = part.split('=').collect();
                for pair in sides.windows(2) {
                    let Some(c) = step.captures(pair[0]) else {
                        continue;
                    };
                    let (a, b) = (c[1].parse::<u32>().unwrap(), c[3].parse::<u32>().unwrap());
                    let more: u32 = c.get(4).map_or(0, |m| m.as_str().parse().unwrap());
                    let want = more
                        + match &c[2] {
                            "+" => a + b,
                            "*" => a * b,
                            _ => a - b,
                        };
                    let got: u32 = numbers(pair[1])[0];
                    assert_eq!(got, want, "{part} in {}", made.problem);
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 60_000, "{seen}");
}

#[test]
fn the_same_numbers_make_the_same_problem() {
    for family in families() {
        for index in 0..20 {
            let make = |seed| problem(family, seed, index, Split::HeldOut);
            assert_eq!(make(1), make(1));
            assert_ne!(make(1).problem, make(2).problem, "{}", family.name);
        }
    }
    // What stands in data/ was made by these very numbers; a change here must make it anew.
    let all: Vec<&Family> = families().iter().collect();
    let text: String = set(&all, 11, Split::Train, 500)
        .iter()
        .map(|p| serde_json::to_string(p).unwrap())
        .collect();
    assert_eq!(format!("{:016x}", draw::fnv1a(text.bytes())), "089b4e776c106e00");
}

#[test]
fn splits_share_no_problem() {
    let all: Vec<&Family> = families().iter().collect();
    let texts = |split, seed| -> BTreeSet<String> {
        set(&all, seed, split, 3000)
            .into_iter()
            .map(|p| p.problem)
            .collect()
    };
    let (train, dev, held) = (
        texts(Split::Train, 1),
        texts(Split::Dev, 1),
        texts(Split::HeldOut, 2),
    );
    assert_eq!((train.len(), dev.len(), held.len()), (3000, 3000, 3000));
    assert!(train.is_disjoint(&dev) && train.is_disjoint(&held) && dev.is_disjoint(&held));
}

/// Held-out chains are not training chains run further: what defines them is apart, not only the text.
#[test]
fn splits_share_no_operands() {
    let parameters = |split| -> BTreeSet<(u32, u32, u32)> {
        let recurrence = family("recurrence").unwrap();
        (0..3000)
            .map(|i| {
                let n = numbers(&problem(recurrence, 1, i, split).problem);
                (n[3], n[4], n[5])
            })
            .collect()
    };
    assert!(parameters(Split::Train).is_disjoint(&parameters(Split::HeldOut)));
    let doubled = family("doubling").unwrap();
    let odd = |split| -> BTreeSet<u32> {
        (0..1000)
            .map(|i| numbers(&problem(doubled, 1, i, split).problem)[0])
            .map(|s| s >> s.trailing_zeros())
            .collect()
    };
    assert!(odd(Split::Train).is_disjoint(&odd(Split::HeldOut)));
}

#[test]
fn the_splits_have_the_sizes_that_are_stated() {
    let mut counts = [0usize; 3];
    for i in 0..16_000 {
        match Split::of("gcd", &format!("{i},{}", i * 7)) {
            Split::Train => counts[0] += 1,
            Split::Dev => counts[1] += 1,
            Split::HeldOut => counts[2] += 1,
        }
    }
    assert!(
        (850..1150).contains(&counts[1]) && (850..1150).contains(&counts[2]),
        "{counts:?}"
    );
}

#[test]
fn a_set_goes_round_and_says_nothing_twice() {
    let all: Vec<&Family> = families().iter().collect();
    let problems = set(&all, 0, Split::Dev, 95);
    assert_eq!(problems.len(), 95);
    assert_eq!(problems[11].family, problems[2].family);
    assert!(set(&[], 0, Split::Dev, 5).is_empty());
    // A family with fewer problems than asked for gives what it has.
    let few = set(&[family("gcd").unwrap()], 0, Split::HeldOut, 100_000);
    assert!((100..5_000).contains(&few.len()), "{}", few.len());
}

#[test]
fn a_problem_is_recognised_and_nothing_else_is() {
    for family in families() {
        assert_eq!(recognise(family.example).unwrap().name, family.name);
        for index in 0..300 {
            let made = problem(family, 2, index, Split::Train);
            assert_eq!(
                recognise(&made.problem).unwrap().name,
                family.name,
                "{}",
                made.problem
            );
        }
    }
    assert!(recognise("What is 2 + 2?").is_none());
    assert!(recognise("").is_none());
}

#[test]
fn a_problem_is_written_in_the_stated_order() {
    let made = problem(family("gcd").unwrap(), 0, 0, Split::Dev);
    let line = serde_json::to_string(&made).unwrap();
    let at = |field: &str| line.find(&format!("\"{field}\":")).unwrap();
    let order = ["id", "family", "problem", "answer", "solution"].map(at);
    assert!(order.is_sorted(), "{line}");
    assert_eq!(made.id, "gcd-dev-0-0");
}
