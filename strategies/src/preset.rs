//! Strategies with their settings, by name: `presets/*.toml`, embedded, and files that a user copied from
//! them.

use std::collections::BTreeMap;

use serde::de::{DeserializeSeed, IgnoredAny};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use toml::Spanned;

use crate::custom::Custom;
use crate::interface::Strategy;
use crate::overrides::Overrides;
use crate::register::{Register, StrategyRow};
use crate::setting::SettingValues;
use crate::value::Value;

/// What is wrong with a preset or with a setting given beside it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// There is no preset of this name.
    #[error("there is no strategy \"{name}\"; did you mean \"{nearest}\"? (known: {known})")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The known name that is closest in spelling.
        nearest: &'static str,
        /// Names of all presets, separated by commas.
        known: String,
    },
    /// Not TOML, a field that the strategy does not have, or one of the wrong type.
    #[error("{file}{}: {message}", line.map_or_else(String::new, |l| format!(", line {l}")))]
    File {
        /// The file as the user named it.
        file: String,
        /// Line, counted from 1.
        line: Option<usize>,
        /// What is wrong with the file, as a sentence.
        message: String,
    },
    /// A setting given for a strategy that has no such setting.
    #[error(
        "the strategy \"{strategy}\" has no setting {setting}; it has {has}{}",
        if others.is_empty() { String::new() } else { format!(" ({setting} is one of {others})") }
    )]
    NoSuchSetting {
        /// Name of the preset.
        strategy: String,
        /// Name of the setting.
        setting: &'static str,
        /// Names of the settings that the strategy has.
        has: String,
        /// Names of shipped presets that have the setting.
        others: String,
    },
    /// A value out of its range, or of another type.
    #[error("{setting} of the strategy \"{strategy}\" must be {range}, not {value}")]
    OutOfRange {
        /// Name of the preset.
        strategy: String,
        /// Name of the setting.
        setting: &'static str,
        /// What would be right.
        range: String,
        /// The value that was given, as text.
        value: String,
    },
}

/// A named strategy with its settings: what `strategies/presets/*.toml` hold.
///
/// ```
/// use tts_strategies::{Overrides, Preset};
///
/// let mut preset = Preset::named("deepconf-low")?;
/// preset.apply(&Overrides::default().with("keep_top", 0.25))?;
/// let strategy = preset.build();
/// assert_eq!(strategy.name(), "deepconf-low");
/// # Ok::<(), tts_strategies::PresetError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preset {
    /// The preset's name, or the stem of its file.
    pub name: String,
    /// One line for lists.
    pub description: String,
    /// The kind of rule with its settings, or the command that decides.
    #[serde(flatten)]
    rules: PresetRules,
}

/// What a preset sets.
#[derive(Clone, Debug)]
enum PresetRules {
    Registered(&'static StrategyRow, SettingValues),
    Custom(Custom),
}

impl PartialEq for PresetRules {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (PresetRules::Registered(a, these), PresetRules::Registered(b, those)) => {
                a.kind == b.kind && these == those
            }
            (PresetRules::Custom(a), PresetRules::Custom(b)) => a == b,
            _ => false,
        }
    }
}

/// The names of the presets that ship with the crate, in the order of lists.
pub fn names() -> impl Iterator<Item = &'static str> {
    Register::shipped().names()
}

/// The one-line description of a shipped preset.
pub fn describe(name: &str) -> Option<String> {
    Preset::named(name).ok().map(|p| p.description)
}

/// The TOML of a shipped preset, to copy and edit.
pub fn source(name: &str) -> Option<&'static str> {
    Register::shipped().source(name)
}

impl Preset {
    /// The defaults of a strategy, under the name of its kind.
    pub fn new(row: &'static StrategyRow) -> Self {
        Self {
            name: row.kind.to_owned(),
            description: row.description.to_owned(),
            rules: PresetRules::Registered(row, SettingValues::defaults(row.settings)),
        }
    }

    /// A preset for a strategy that no register has.
    pub fn custom(name: impl Into<String>, description: impl Into<String>, custom: Custom) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            rules: PresetRules::Custom(custom),
        }
    }

    /// A shipped preset, see [`Register::preset`].
    ///
    /// # Errors
    /// When there is no such name.
    pub fn named(name: &str) -> Result<Self, PresetError> {
        Register::shipped().preset(name)
    }

    /// A preset of a shipped strategy from the text of a file, see [`Register::read`].
    ///
    /// # Errors
    /// When something in the file is wrong; the sentence names the line.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, PresetError> {
        Register::shipped().read(text, file)
    }

    pub(crate) fn parse(
        register: &Register,
        text: &str,
        name: &str,
        file: &str,
    ) -> Result<Self, PresetError> {
        #[derive(Deserialize)]
        struct KindOnly {
            kind: Spanned<String>,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct PresetFile {
            #[serde(rename = "kind")]
            _kind: IgnoredAny,
            description: Option<String>,
            settings: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
        }
        let wrong = |span: Option<std::ops::Range<usize>>, message: &str| PresetError::File {
            file: file.to_owned(),
            line: span.map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1),
            message: message.trim().replace('\n', ", "),
        };
        let of_toml = |e: toml::de::Error| wrong(e.span(), e.message());
        let one_of = |names: &[&str]| format!("expected one of `{}`", names.join("`, `"));
        let kind = toml::from_str::<KindOnly>(text).map_err(of_toml)?.kind;
        let row = register.row(kind.get_ref()).ok_or_else(|| {
            let kinds: Vec<_> = register.rows().map(|r| r.kind).collect();
            let said = format!("unknown variant `{}`, {}", kind.get_ref(), one_of(&kinds));
            wrong(Some(kind.span()), &said)
        })?;
        let file: PresetFile = toml::from_str(text).map_err(of_toml)?;
        let mut values = SettingValues::defaults(row.settings);
        let mut lines: Vec<_> = file.settings.into_iter().collect();
        lines.sort_by_key(|(key, _)| key.span().start);
        for (key, given) in lines {
            let setting = row.setting(key.get_ref()).ok_or_else(|| {
                let names: Vec<_> = row.settings.iter().map(|s| s.name).collect();
                let said = format!("unknown field `{}`, {}", key.get_ref(), one_of(&names));
                wrong(Some(key.span()), &said)
            })?;
            let (span, given) = (given.span(), given.into_inner());
            let read = setting.value_type().deserialize(given);
            values.set(setting.name, read.map_err(|e| wrong(Some(span), e.message()))?);
        }
        let preset = Self {
            name: name.to_owned(),
            description: file.description.unwrap_or_default(),
            rules: PresetRules::Registered(row, values),
        };
        preset.check()?;
        Ok(preset)
    }

    /// The preset as a file that [`Preset::from_toml`] reads, for the record of a run.
    pub fn to_toml(&self) -> String {
        #[derive(Serialize)]
        struct File<'a> {
            description: &'a str,
            #[serde(flatten)]
            rules: &'a PresetRules,
        }
        toml::to_string(&File {
            description: &self.description,
            rules: &self.rules,
        })
        .unwrap_or_default()
    }

    /// The strategy, ready for [`Strategy::begin`].
    pub fn build(&self) -> Box<dyn Strategy> {
        match &self.rules {
            PresetRules::Registered(row, values) => (row.build)(&self.name, values),
            PresetRules::Custom(custom) => (custom.build)(&self.name),
        }
    }

    /// Puts settings over the preset's own.
    ///
    /// # Errors
    /// When the strategy does not have one of them or a value is out of range; nothing is changed then.
    pub fn apply(&mut self, given: &Overrides) -> Result<(), PresetError> {
        let mut changed = self.clone();
        for (name, value) in given.iter() {
            changed.set(name, value)?;
        }
        *self = changed;
        Ok(())
    }

    fn set(&mut self, name: &'static str, value: Value) -> Result<(), PresetError> {
        let has_not = |strategy: &str, has: &[&str]| PresetError::NoSuchSetting {
            strategy: strategy.to_owned(),
            setting: name,
            has: if has.is_empty() {
                "none".to_owned()
            } else {
                has.join(", ")
            },
            others: Register::shipped().having(name).join(", "),
        };
        match &mut self.rules {
            PresetRules::Custom(_) => Err(has_not(&self.name, &[])),
            PresetRules::Registered(row, values) => {
                let setting = row.setting(name).ok_or_else(|| {
                    let names: Vec<_> = row.settings.iter().map(|s| s.name).collect();
                    has_not(&self.name, &names)
                })?;
                let accepted = setting.accepts(value).ok_or_else(|| PresetError::OutOfRange {
                    strategy: self.name.clone(),
                    setting: setting.name,
                    range: setting.right(),
                    value: value.to_string(),
                })?;
                values.set(name, accepted);
                Ok(())
            }
        }
    }

    /// Name of the rules: that of the strategy's row, or `exec` for one that no register has.
    pub fn kind(&self) -> &str {
        match &self.rules {
            PresetRules::Registered(row, _) => row.kind,
            PresetRules::Custom(_) => "exec",
        }
    }

    /// The strategy's row in its register.
    pub fn row(&self) -> Option<&'static StrategyRow> {
        match &self.rules {
            PresetRules::Registered(row, _) => Some(row),
            PresetRules::Custom(_) => None,
        }
    }

    /// The value of a setting, by its name in presets; `None` if the strategy has no such setting.
    pub fn value(&self, name: &str) -> Option<Value> {
        match &self.rules {
            PresetRules::Registered(_, values) => values.value(name),
            PresetRules::Custom(_) => None,
        }
    }

    /// Whether all values are in their ranges.
    fn check(&self) -> Result<(), PresetError> {
        let PresetRules::Registered(row, values) = &self.rules else {
            return Ok(());
        };
        let mut all = row.settings.iter().zip(values.iter());
        match all.find(|(setting, (_, value))| setting.accepts(*value).is_none()) {
            None => Ok(()),
            Some((setting, (_, value))) => Err(PresetError::OutOfRange {
                strategy: self.name.clone(),
                setting: setting.name,
                range: setting.right(),
                value: value.to_string(),
            }),
        }
    }
}

impl Serialize for PresetRules {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(2))?;
        match self {
            PresetRules::Registered(row, values) => {
                map.serialize_entry("kind", row.kind)?;
                map.serialize_entry("settings", values)?;
            }
            PresetRules::Custom(custom) => {
                map.serialize_entry("kind", "exec")?;
                map.serialize_entry("settings", custom)?;
            }
        }
        map.end()
    }
}
