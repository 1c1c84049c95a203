//! What graders disagree about, as settings.

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
    /// Whether a relation may be given where the interval that it describes is wanted.
    #[serde(skip_serializing_if = "RelationRule::is_default")]
    pub relations: RelationRule,
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

/// Whether a relation is the interval that it describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelationRule {
    /// An interval is right for a gold relation, a relation not for a gold interval. In the vote the two are
    /// one class.
    #[default]
    Strict,
    /// Either is right for the other.
    Lenient,
}

impl RelationRule {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
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
