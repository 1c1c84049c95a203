//! The register of strategies: everything that parsing, flags, requests, lists and documentation say about a
//! strategy is read from its row.

use std::sync::LazyLock;

use crate::interface::Strategy;
use crate::preset::{Preset, PresetError};
use crate::rules::ROWS;
use crate::setting::{Setting, SettingValues};

/// A strategy in a register: its name, settings, presets and source, and how it is made.
///
/// ```
/// use tts_strategies::{Range, Register, Setting, StrategyRow, Value};
///
/// static PATIENT: StrategyRow = StrategyRow {
///     kind: "patient",
///     description: "a majority of traces that are not in a hurry",
///     citation: "arXiv 2203.11171",
///     settings: &[
///         Setting::new("patience", Value::Count(3), "N", "Traces to wait for")
///             .within(Range::at_least(1.0, "at least 1")),
///     ],
///     presets: &[],
///     ends_early: false,
///     // a strategy of one's own stands here
///     build: |_, _| tts_strategies::Preset::named("majority").expect("it ships").build(),
/// };
///
/// let register = Register::shipped().with(&PATIENT)?;
/// let preset = register.preset("patient").unwrap();
/// assert_eq!(preset.value("patience"), Some(Value::Count(3)));
/// # Ok::<(), tts_strategies::RegisterError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct StrategyRow {
    /// Name of the rules, as presets name them under `kind`.
    pub kind: &'static str,
    /// One line for lists, where a preset does not bring its own.
    pub description: &'static str,
    /// Where the rules come from: papers by their arXiv number.
    pub citation: &'static str,
    /// Its settings, in the order of lists.
    pub settings: &'static [Setting],
    /// Its presets: name and TOML. Without any, its defaults are the preset, under the name of its kind.
    pub presets: &'static [(&'static str, &'static str)],
    /// Whether a few whole traces may settle a problem, which then need not all run at once.
    pub ends_early: bool,
    /// Makes a strategy that calls itself by this name. The values are those of all its settings, checked.
    pub build: fn(&str, &SettingValues) -> Box<dyn Strategy>,
}

/// A row that a register cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the strategy \"{kind}\" cannot be registered: {why}")]
pub struct RegisterError {
    /// The kind of the row that was refused.
    pub kind: &'static str,
    /// What is wrong with it.
    pub why: String,
}

/// The strategies that are known, in the order of lists.
#[derive(Clone, Debug, Default)]
pub struct Register {
    rows: Vec<&'static StrategyRow>,
}

impl Register {
    /// The strategies of this crate.
    pub fn shipped() -> &'static Register {
        static SHIPPED: LazyLock<Register> = LazyLock::new(|| Register {
            rows: ROWS.iter().collect(),
        });
        &SHIPPED
    }

    /// This register and one strategy more.
    ///
    /// # Errors
    /// When its kind or a preset's name is taken, a preset cannot be read, a default is out of range, or a
    /// setting has the name of another strategy's and does not mean the same: one flag sets both.
    pub fn with(&self, row: &'static StrategyRow) -> Result<Self, RegisterError> {
        let refuse = |why: String| Err(RegisterError { kind: row.kind, why });
        let mut register = self.clone();
        register.rows.push(row);
        if self.row(row.kind).is_some() {
            return refuse("there is a strategy of this kind".to_owned());
        }
        for (i, setting) in row.settings.iter().enumerate() {
            let name = setting.name;
            if setting.accepts(setting.default).is_none() {
                let (right, default) = (setting.right(), setting.default);
                return refuse(format!("the default of {name} must be {right}, not {default}"));
            }
            let known = self.settings().into_iter().chain(&row.settings[..i]);
            let taken =
                |s: &&Setting| (s.name == name || s.field() == setting.field()) && !s.is_same(setting);
            if known.clone().any(|s| taken(&s)) || row.settings[..i].iter().any(|s| s.name == name) {
                return refuse(format!("another setting {name} does not mean the same"));
            }
        }
        for name in row.names() {
            if self.names().any(|n| n == name) {
                return refuse(format!("there is a strategy named \"{name}\""));
            }
            if let Err(error) = register.preset(name) {
                return refuse(error.to_string());
            }
        }
        Ok(register)
    }

    /// The rows in the order of lists.
    pub fn rows(&self) -> impl Iterator<Item = &'static StrategyRow> + '_ {
        self.rows.iter().copied()
    }

    /// The row of a kind.
    pub fn row(&self, kind: &str) -> Option<&'static StrategyRow> {
        self.rows().find(|row| row.kind == kind)
    }

    /// The settings that there are, each once, in an order that keeps to that of every row where it can.
    pub fn settings(&self) -> Vec<&'static Setting> {
        let mut all: Vec<&'static Setting> = Vec::new();
        for row in self.rows() {
            for (i, setting) in row.settings.iter().enumerate() {
                let place = |s: &Setting| all.iter().position(|a| a.name == s.name);
                if place(setting).is_none() {
                    // before the next that is known
                    let at = row.settings[i..].iter().find_map(place).unwrap_or(all.len());
                    all.insert(at, setting);
                }
            }
        }
        all
    }

    /// The names of the presets that have a setting.
    pub fn having(&self, setting: &str) -> Vec<&'static str> {
        let rows = self.rows().filter(|row| row.setting(setting).is_some());
        rows.flat_map(StrategyRow::names).collect()
    }

    /// The names of all presets.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.rows().flat_map(StrategyRow::names)
    }

    /// The TOML of a preset, to copy and edit; `None` if there is no such file.
    pub fn source(&self, name: &str) -> Option<&'static str> {
        let mut presets = self.rows().flat_map(|row| row.presets);
        presets.find(|p| p.0 == name).map(|p| p.1)
    }

    /// A preset by its name.
    ///
    /// # Errors
    /// When there is none; the sentence names the nearest.
    pub fn preset(&self, name: &str) -> Result<Preset, PresetError> {
        if let Some(text) = self.source(name) {
            return Preset::parse(self, text, name, &format!("presets/{name}.toml"));
        }
        if let Some(row) = self.row(name).filter(|row| row.presets.is_empty()) {
            return Ok(Preset::new(row));
        }
        let distance = |known: &&str| strsim::levenshtein(name, known);
        Err(PresetError::Unknown {
            name: name.to_owned(),
            nearest: self.names().min_by_key(distance).unwrap_or("majority"),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }

    /// A preset from the text of a file; `file` is what errors call it, and its stem becomes the strategy's
    /// name.
    ///
    /// # Errors
    /// When it is not TOML, or names a kind or a setting that there is not, or a value out of range.
    pub fn read(&self, text: &str, file: &str) -> Result<Preset, PresetError> {
        let stem = file.rsplit(['/', '\\']).next().unwrap_or(file);
        Preset::parse(self, text, stem.strip_suffix(".toml").unwrap_or(stem), file)
    }
}

impl StrategyRow {
    /// The names of its presets.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        let (kind, presets) = (self.kind, self.presets);
        let own = presets.is_empty().then_some(kind);
        presets.iter().map(|p| p.0).chain(own)
    }

    /// One of its settings.
    pub fn setting(&self, name: &str) -> Option<&'static Setting> {
        self.settings.iter().find(|s| s.name == name)
    }
}
