//! Class keys and verdicts.

use super::AnswerKind;
use super::lenient::allowed;
use super::reading::{integer, letter, readings, strip_math};
use super::scan;
use crate::math::clean::text_key;
use crate::math::form::Left;
use crate::math::sum::Sum;
use crate::math::{Form, is_constant, numeric, read};
use serde::{Deserialize, Serialize};

/// Choices that graders disagree about; the defaults are the strict ones.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EqualOptions {
    /// What a percent sign means.
    pub percent: PercentRule,
    /// Whether the order of a bare list (`1, 2`) matters; that of a tuple always does.
    pub list_order: ListOrder,
    /// Whether an exact value may be written as a decimal in full.
    pub decimals: DecimalRule,
    /// Whether letters glued to a number are its unit.
    pub units: UnitRule,
    /// Whether it matters which ends belong to an interval.
    pub brackets: BracketRule,
    /// Accept a real number that differs from the gold number by at most this share of it (0.01 is 1%).
    /// Off by default: 0.333 is not 1/3.
    pub tolerance: Option<f64>,
}

/// What a percent sign means to the grader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PercentRule {
    /// `10%` is 0.1 and not 10.
    #[default]
    Exact,
    /// `10%` is also accepted for a gold answer of 10, and 10 for `10%`.
    Lenient,
}

/// Whether an exact value may be written as a decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecimalRule {
    /// Only with so many digits, 13 or more, that it can be nothing but the exact value rounded:
    /// 0.8660254037844386 for half the root of 3, and never 0.866. A decimal that ends is a number of its
    /// own.
    #[default]
    Full,
    /// Never: a decimal is exactly what it says.
    Exact,
}

/// What letters after a number mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitRule {
    /// `10m` is ten times m; units count as such in `\text{}`, or as words that are nothing else (`10 cm`).
    #[default]
    Strict,
    /// `10m` is also accepted for 10.
    Lenient,
}

/// Whether the brackets of an interval matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BracketRule {
    /// `[0, 1)` is not `(0, 1)`.
    #[default]
    Strict,
    /// Only the ends matter.
    Lenient,
}

/// Whether the order of a list written without brackets matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListOrder {
    /// `1, 2` is `2, 1`: roots and solutions are sets.
    #[default]
    Free,
    /// Each item must stand where the gold answer has it.
    Strict,
}

/// Whether two answers are equal, and which rule said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether the prediction counts as right.
    pub equal: bool,
    /// The rule that decided.
    pub rule: &'static str,
}

pub(super) fn yes(rule: &'static str) -> Option<Verdict> {
    Some(Verdict { equal: true, rule })
}

const DIFFERENT: Verdict = Verdict {
    equal: false,
    rule: "different",
};

/// The class key of an answer. Being equal in class is being the same string, so it is transitive.
///
/// For [`AnswerKind::Integer`] and [`AnswerKind::Math`] every spelling of a rational number has the number
/// itself as key (`042`, `42.0`, `\frac{84}{2}` and `n = 42` have `42`; `0.5` and `\frac12` have `1/2`);
/// other expressions have their canonical form, and what is not mathematics its letters without regard to
/// case and spacing.
pub fn canonical(answer: &str, kind: AnswerKind) -> String {
    let answer = scan::unbox(strip_math(answer));
    match kind {
        AnswerKind::Integer => match integer(answer) {
            Some(n) => n.to_string(),
            None => read(answer).map_or_else(|| text_key(answer), |form| form.key()),
        },
        AnswerKind::Math => read(answer).map_or_else(|| text_key(answer), |form| form.key()),
        AnswerKind::Choice => letter(answer).map_or_else(|| text_key(answer), String::from),
        AnswerKind::Text => text_key(answer),
    }
}

/// Whether `prediction` is right, given `gold`. Bounded in time and memory for every input.
///
/// In order: the same text; the same canonical form; the value of an equation for its name; the same parts,
/// each compared by value to 30 digits; an interval for a gold inequality; what the options allow. A decimal
/// equals an exact value only when it is exactly that value.
pub fn equal(prediction: &str, gold: &str, kind: AnswerKind, options: &EqualOptions) -> Verdict {
    if kind != AnswerKind::Math {
        let same = canonical(prediction, kind) == canonical(gold, kind);
        return if same {
            Verdict {
                equal: true,
                rule: "same form",
            }
        } else {
            DIFFERENT
        };
    }
    if !prediction.trim().is_empty() && prediction.trim() == gold.trim() {
        return Verdict {
            equal: true,
            rule: "same text",
        };
    }
    let golds = readings(gold);
    let predictions = readings(prediction);
    for gold in &golds {
        for prediction in &predictions {
            if let Some(verdict) = compare(prediction, gold, options) {
                return verdict;
            }
        }
    }
    DIFFERENT
}

fn compare(prediction: &str, gold: &str, options: &EqualOptions) -> Option<Verdict> {
    let (Some(p), Some(g)) = (read(prediction), read(gold)) else {
        let (p, g) = (text_key(prediction), text_key(gold));
        return if p == g && !p.is_empty() {
            yes("same text")
        } else {
            None
        };
    };
    let strict_list =
        options.list_order == ListOrder::Strict && matches!((&p, &g), (Form::Set(_), Form::Set(_)));
    if strict_list && !prediction.contains("\\{") {
        return in_order(prediction, gold, options);
    }
    if p.key() == g.key() {
        return yes("same form");
    }
    if let Some(rule) = same(&p, &g) {
        return yes(rule);
    }
    if let Form::Equation { value, left, zero } = &p {
        // A name, or the sum of unknowns that a problem asks for.
        let accepted = match left {
            Left::Name => true,
            Left::Names => matches!(&g, Form::Expr(sum) if is_constant(sum) && !zero.0.is_empty()),
            Left::Other => false,
        };
        if accepted && same(value, &g).is_some() {
            return yes("value of an equation");
        }
    }
    if let Form::Equation {
        value,
        left: Left::Name,
        ..
    } = &g
        && same(&p, value).is_some()
    {
        return yes("value of an equation");
    }
    if let (
        Form::Below {
            between: Some(interval),
            ..
        },
        Form::Interval { .. } | Form::Tuple(_) | Form::SetOp('U', _),
    ) = (&g, &p)
        && same(&p, interval).is_some()
    {
        return yes("interval for an inequality");
    }
    for ((text, one), other) in [((prediction, &p), &g), ((gold, &g), &p)] {
        if let (Some(union), Form::SetOp('U', _)) = (either_range(text, one), other)
            && same(&union, other).is_some()
        {
            return yes("union for ranges");
        }
    }
    last_equation(prediction, &g).or_else(|| allowed(prediction, gold, &p, &g, options))
}

/// `x < 1 or x > 3` as the union of its intervals.
fn either_range(text: &str, form: &Form) -> Option<Form> {
    let Form::Set(members) = form else { return None };
    let ranges = members.iter().map(|member| match member {
        Form::Below {
            between: Some(range), ..
        } => Some((**range).clone()),
        _ => None,
    });
    let mut ranges = ranges.collect::<Option<Vec<_>>>()?;
    ranges.sort();
    (text.contains("or") && !text.contains("and")).then_some(Form::SetOp('U', ranges))
}

/// `m/n = 3/4, m + n = 7`: several equations, of which the last says what was asked for.
fn last_equation(prediction: &str, gold: &Form) -> Option<Verdict> {
    let (before, last) = prediction.rsplit_once([',', ';'])?;
    let Form::Expr(sum) = gold else { return None };
    match read(last)? {
        Form::Equation {
            value,
            left: Left::Names,
            ..
        } if before.contains('=') && is_constant(sum) => {
            same(&value, gold).and_then(|_| yes("last of several equations"))
        }
        _ => None,
    }
}

/// Whether two forms are the same in structure with parts of the same value.
pub(super) fn same(p: &Form, g: &Form) -> Option<&'static str> {
    if p == g {
        return Some("same form");
    }
    let all = |a: &[Form], b: &[Form]| {
        (a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b).is_some())).then_some("same parts")
    };
    let close =
        |a: &Sum, b: &Sum| a == b || (!both_rational(a, b) && numeric::same_value(a, b) == Some(true));
    match (p, g) {
        (Form::Expr(a), Form::Expr(b)) => close(a, b).then_some("same value"),
        (Form::Tuple(a), Form::Tuple(b)) => all(a, b),
        (
            Form::Interval {
                low,
                closed_low,
                high,
                closed_high,
            },
            Form::Interval {
                low: l,
                closed_low: cl,
                high: h,
                closed_high: ch,
            },
        ) => {
            let ends = closed_low == cl && closed_high == ch;
            (ends && (low == l || close(low, l)) && (high == h || close(high, h))).then_some("same parts")
        }
        (Form::Set(a), Form::Set(b)) => matching(a, b).then_some("same members"),
        (Form::SetOp(p, a), Form::SetOp(q, b)) if p == q => matching(a, b).then_some("same members"),
        (Form::Matrix(a), Form::Matrix(b)) => {
            (a.len() == b.len() && a.iter().zip(b).all(|(a, b)| all(a, b).is_some())).then_some("same parts")
        }
        (Form::Ratio(a), Form::Ratio(b)) => {
            (a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b))).then_some("same parts")
        }
        (Form::Equation { zero: a, .. }, Form::Equation { zero: b, .. }) => {
            close(a, b).then_some("same equation")
        }
        // A list of one, and a tuple or a column written as a list in the same order.
        (Form::Set(a), one) if a.len() == 1 => same(&a[0], one),
        (one, Form::Set(b)) if b.len() == 1 => same(one, &b[0]),
        (Form::Tuple(a), Form::Set(b)) | (Form::Set(a), Form::Tuple(b)) => {
            all(a, b).map(|_| "same parts, other brackets")
        }
        (Form::Matrix(a), other) | (other, Form::Matrix(a)) if a.iter().all(|row| row.len() == 1) => {
            let column: Vec<Form> = a.iter().flatten().cloned().collect();
            match other {
                Form::Tuple(b) => all(&column, b).map(|_| "column written as a tuple"),
                // In square brackets two numbers look like an interval; a matrix says that they are none.
                Form::Interval {
                    low,
                    closed_low: true,
                    high,
                    closed_high: true,
                } => all(&column, &[Form::Expr(low.clone()), Form::Expr(high.clone())])
                    .map(|_| "column written as a tuple"),
                _ => None,
            }
        }
        (Form::Text(words), Form::Expr(_)) | (Form::Expr(_), Form::Text(words)) => {
            (p.key() == g.key() && !words.is_empty()).then_some("same text")
        }
        _ => None,
    }
}

fn both_rational(a: &Sum, b: &Sum) -> bool {
    a.as_rational().is_some() && b.as_rational().is_some()
}

/// Whether members can be paired off; both lists are sorted and most pairs are identical.
fn matching(a: &[Form], b: &[Form]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut rest: Vec<&Form> = b.iter().collect();
    let mut unmatched = Vec::new();
    for form in a {
        match rest.iter().position(|other| *other == form) {
            Some(at) => {
                rest.remove(at);
            }
            None => unmatched.push(form),
        }
    }
    // Comparing by value costs more: a long list must be canonical.
    unmatched.len() <= 12
        && unmatched.into_iter().all(|form| {
            let at = rest.iter().position(|other| same(form, other).is_some());
            at.map(|at| rest.remove(at)).is_some()
        })
}

fn in_order(prediction: &str, gold: &str, options: &EqualOptions) -> Option<Verdict> {
    let split = |s: &str| s.split([',', ';']).map(str::to_owned).collect::<Vec<_>>();
    let (p, g) = (split(prediction), split(gold));
    let options = EqualOptions {
        list_order: ListOrder::Free,
        ..options.clone()
    };
    let equal = p.len() == g.len() && p.iter().zip(&g).all(|(p, g)| compare(p, g, &options).is_some());
    if equal { yes("same parts") } else { None }
}
