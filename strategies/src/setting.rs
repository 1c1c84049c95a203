//! Settings of strategies: what one is called, what it may be, and the values that a strategy runs with.

use std::ops::{Bound, RangeBounds};

use serde::{Serialize, Serializer};

use crate::value::{SettingType, Value, ValueType};

/// The numbers that a setting may be.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    low: Bound<f64>,
    high: Bound<f64>,
    words: &'static str,
}

impl Range {
    /// Any finite number from one bound to the other; `words` says so, to follow "must be" in a sentence.
    pub const fn new(low: Bound<f64>, high: Bound<f64>, words: &'static str) -> Self {
        Self { low, high, words }
    }

    /// Any finite number that is at least `low`.
    pub const fn at_least(low: f64, words: &'static str) -> Self {
        Self::new(Bound::Included(low), Bound::Unbounded, words)
    }

    /// Any finite number above `low`.
    pub const fn above(low: f64, words: &'static str) -> Self {
        Self::new(Bound::Excluded(low), Bound::Unbounded, words)
    }

    /// Whether the number is one of them.
    pub fn contains(&self, number: f64) -> bool {
        number.is_finite() && (self.low, self.high).contains(&number)
    }
}

/// One setting of a strategy: its name, type, default, range and help.
///
/// Everything that can set it follows from this: the TOML of presets, [`crate::Overrides`], the flag of the
/// command line, its variable in the environment, the field of a request, and lists of strategies.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Name in presets, as `keep_top`.
    pub name: &'static str,
    /// Name as a flag and as a field of a request, where that is another.
    pub called: Option<&'static str>,
    /// What stands for the value in help, as `SHARE`.
    pub placeholder: &'static str,
    /// One line that says what it does.
    pub help: &'static str,
    /// What it is where nobody sets it; this is also its type.
    pub default: Value,
    /// The numbers that it may be; `None` where any value of its type will do.
    pub range: Option<Range>,
}

impl Setting {
    /// A setting that may be any value of the type of its default.
    pub const fn new(
        name: &'static str,
        default: Value,
        placeholder: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            name,
            called: None,
            placeholder,
            help,
            default,
            range: None,
        }
    }

    /// The same with bounds.
    pub const fn within(self, range: Range) -> Self {
        Self {
            range: Some(range),
            ..self
        }
    }

    /// The same with another name on the command line and in requests.
    pub const fn called(self, name: &'static str) -> Self {
        Self {
            called: Some(name),
            ..self
        }
    }

    /// The type that its values have: that of its default.
    pub fn value_type(&self) -> ValueType {
        self.default.value_type()
    }

    /// Its name as a field of a request, as `min_votes`; as a flag, dashes stand for the underscores.
    pub fn field(&self) -> &'static str {
        self.called.unwrap_or(self.name)
    }

    /// What it may be, to follow "must be" in a sentence.
    pub fn right(&self) -> String {
        match (self.range, self.value_type().names()) {
            (Some(range), _) => range.words.to_owned(),
            (None, Some(names)) => format!("one of {}", names.join(", ")),
            (None, None) => self.value_type().expected().to_owned(),
        }
    }

    /// The value as one of this setting's type, if it is one and in range.
    pub fn accepts(&self, value: Value) -> Option<Value> {
        let value = value.to_type(self.value_type())?;
        let fits = match (self.range, value.number()) {
            (Some(range), Some(number)) => range.contains(number),
            _ => true,
        };
        fits.then_some(value)
    }

    /// Whether the two are one to a user: set by the same flag, with the same meaning.
    pub(crate) fn is_same(&self, other: &Setting) -> bool {
        self.name == other.name
            && self.field() == other.field()
            && self.help == other.help
            && self.value_type() == other.value_type()
            && self.right() == other.right()
    }
}

/// The values of all settings of one strategy, in the order of its row.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingValues(Vec<(&'static str, Value)>);

impl SettingValues {
    /// The default of every setting, in the order of the row.
    pub fn defaults(settings: &[Setting]) -> Self {
        Self(settings.iter().map(|s| (s.name, s.default)).collect())
    }

    /// The value of a setting, as the type that the strategy reads it as; `None` if it has no such setting.
    pub fn get<T: SettingType>(&self, name: &str) -> Option<T> {
        self.value(name).and_then(T::of)
    }

    /// The value of a setting.
    pub fn value(&self, name: &str) -> Option<Value> {
        self.iter().find(|v| v.0 == name).map(|v| v.1)
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Value)> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn set(&mut self, name: &str, value: Value) {
        for setting in self.0.iter_mut().filter(|v| v.0 == name) {
            setting.1 = value;
        }
    }
}

impl Serialize for SettingValues {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter())
    }
}
