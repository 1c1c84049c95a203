//! Class keys and verdicts.

use super::AnswerKind;
use super::choice::letter;
use super::compare::Comparison;
use super::lenient::{allowed, same_time};
use super::options::{EqualOptions, RelationRule};
use super::reading::{Reading, integer, understand};
use crate::math::form::{BEFORE_UNIT, Form};
use crate::math::text;
use serde::Serialize;

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
/// The answer is read as [`equal`] reads it, so that words around a value that say nothing are no part of the
/// class: `73`, `The answer is 73` and `m + n = 73` are of class `73`. For [`AnswerKind::Integer`] and
/// [`AnswerKind::Math`] every spelling of a rational number has the number itself as key (`042`, `42.0`,
/// `\frac{84}{2}` and `n = 42` have `42`; `0.5` and `\frac12` have `1/2`); a quantity has its number and its
/// unit where that measures something (`3 h`, `5 cm^2`, see [`without_unit`]), and its number alone where it says
/// what is counted (`73 apples`); a relation has the key of the interval that it describes; other expressions have
/// their canonical form, and what is not mathematics its letters without regard to case and spacing.
pub fn canonical(answer: &str, kind: AnswerKind) -> String {
    match kind {
        AnswerKind::Integer => {
            let reading = understand(answer);
            integer(&reading).map_or_else(|| reading.key(), |n| n.to_string())
        }
        AnswerKind::Math => understand(answer).key(),
        AnswerKind::Choice => letter(answer).map_or_else(|| text::key(answer), String::from),
        AnswerKind::Text => text::key(answer),
    }
}

/// The class key of the same value without its unit; nothing where a key has no unit.
///
/// An answer without a unit may mean any: a vote takes it for one of those whose value it is.
pub fn without_unit(key: &str) -> Option<&str> {
    key.rsplit_once(BEFORE_UNIT).map(|(value, _)| value)
}

/// Whether `prediction` is right, given `gold`. Bounded in time and memory for every input.
///
/// In order: the same text; the same canonical form; the same parts, each compared by value; the value of an
/// equation for its name; an interval for a gold inequality; what the options allow. A decimal equals an
/// exact value only when it is exactly that value. Two quantities in different units differ; one without a
/// unit may equal one that has one.
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
    compare(&understand(prediction), &understand(gold), options).unwrap_or(DIFFERENT)
}

fn compare(prediction: &Reading, gold: &Reading, options: &EqualOptions) -> Option<Verdict> {
    let (Some(p), Some(g)) = (&prediction.form, &gold.form) else {
        let key = prediction.key();
        return if key == gold.key() && !key.is_empty() {
            yes("same text")
        } else {
            same_time(&prediction.text, &gold.text)
        };
    };
    let comparison = Comparison::new(options);
    if let Some(rule) = comparison.same(p, g) {
        return yes(rule);
    }
    if let Form::Relation {
        region: Some(region), ..
    } = g
        && comparison.same(p, region).is_some()
    {
        return yes("interval for an inequality");
    }
    if let Form::Relation {
        region: Some(region), ..
    } = p
        // Relations joined by "or" are a union in words.
        && (options.relations == RelationRule::Lenient || is_union(p, region))
        && comparison.same(region, g).is_some()
    {
        return yes(if is_union(p, region) {
            "union for ranges"
        } else {
            "relation for an interval"
        });
    }
    // A gold answer may name the base that the question already asked for.
    if let (Some(digits), Form::Expr(sum)) = (based_digits(g), p)
        && sum.to_string() == digits
    {
        return yes("digits in the base asked for");
    }
    allowed(&prediction.text, &gold.text, p, g, options)
}

/// Whether a relation was made of several, and describes more than one interval.
fn is_union(form: &Form, region: &Form) -> bool {
    matches!((form, region), (Form::Relation { either: true, .. }, Form::Region(spans)) if spans.0.len() > 1)
}

/// The digits of a number that is written in a base.
fn based_digits(form: &Form) -> Option<String> {
    let Form::Expr(sum) = form else { return None };
    let written = sum.to_string();
    let (_, digits) = written.strip_prefix("base")?.split_once('(')?;
    digits.strip_suffix(')').map(str::to_owned)
}
