//! Settings given beside a preset.

use crate::value::Value;

/// Settings that replace a preset's own, by name.
///
/// ```
/// use tts_strategies::{Consensus, Overrides};
///
/// let given = Overrides::default().with("keep_top", 0.25).with("consensus", Consensus::Off);
/// assert!(!given.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Overrides(Vec<(&'static str, Value)>);

impl Overrides {
    /// The same and this setting, by its name in presets. A plain number stands for a window of so many
    /// tokens or a consensus of that share.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Adds a setting; of several values of one setting the last is taken.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push((name, value.into()));
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All names and values, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Value)> + '_ {
        self.0.iter().copied()
    }
}
