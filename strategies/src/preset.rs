//! Strategies by name, as data: `presets/*.toml`, embedded, and files that a user copied from them.

use serde::{Deserialize, Serialize};

use crate::interface::Strategy;
use crate::outside::Outside;
use crate::overrides::{Overrides, Places};
use crate::rules::adaptive_consistency::AdaptiveConsistency;
use crate::rules::best_of_infinity::BestOfInfinity;
use crate::rules::best_of_n::BestOfN;
use crate::rules::borda::Borda;
use crate::rules::cges::Cges;
use crate::rules::deepconf_offline::Offline;
use crate::rules::deepconf_online::Online;
use crate::rules::esc::Esc;
use crate::rules::majority::Majority;
use crate::rules::short_m_at_k::ShortMAtK;
use crate::rules::weighted::Weighted;
use crate::settings::{Consensus, Settings, Window};

macro_rules! shipped {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("../presets/", $name, ".toml")))),*]
    };
}

/// The presets that ship with the crate.
const SHIPPED: [(&str, &str); 12] = shipped![
    "majority",
    "weighted",
    "deepconf-low",
    "deepconf-high",
    "deepconf-offline",
    "adaptive-consistency",
    "best-of-infinity",
    "cges",
    "esc",
    "short-m-at-k",
    "best-of-n",
    "borda"
];

/// What is wrong with a preset or with a setting given beside it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// No such name.
    #[error("there is no strategy \"{name}\"; did you mean \"{nearest}\"? (known: {known})")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The known name that is closest in spelling.
        nearest: &'static str,
        /// All names.
        known: String,
    },
    /// Not TOML, a field that the strategy does not have, or one of the wrong type.
    #[error("{file}{}: {message}", line.map_or_else(String::new, |l| format!(", line {l}")))]
    File {
        /// The file as the user named it.
        file: String,
        /// Line, counted from 1.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// A setting given for a strategy that has no such setting.
    #[error("the strategy \"{strategy}\" has no setting {setting}; it has {has}")]
    NoSuchSetting {
        /// The preset's name.
        strategy: String,
        /// The setting.
        setting: &'static str,
        /// Those it has.
        has: String,
    },
    /// A value out of its range.
    #[error("{setting} of the strategy \"{strategy}\" must be {range}, not {value}")]
    OutOfRange {
        /// The preset's name.
        strategy: String,
        /// The setting.
        setting: &'static str,
        /// What would be right.
        range: &'static str,
        /// What was given.
        value: String,
    },
}

/// A named strategy with its settings: what `strategies/presets/*.toml` hold.
///
/// ```
/// use tts_strategies::{Overrides, Preset};
///
/// let mut preset = Preset::named("deepconf-low")?;
/// preset.apply(&Overrides { keep_top: Some(0.25), ..Overrides::default() })?;
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
    /// Kind and settings.
    #[serde(flatten)]
    pub settings: Settings,
}

/// The names of the shipped presets, in the order of lists.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|p| p.0)
}

/// The one-line description of a shipped preset.
pub fn describe(name: &str) -> Option<String> {
    Preset::named(name).ok().map(|p| p.description)
}

/// The TOML of a shipped preset, to copy and edit.
pub fn source(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|p| p.0 == name).map(|p| p.1)
}

/// The first look at a file: which kind it is.
#[derive(Deserialize)]
struct Head {
    kind: Kind,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Majority,
    Weighted,
    DeepconfOnline,
    DeepconfOffline,
    AdaptiveConsistency,
    Esc,
    ShortMAtK,
    BestOfN,
    Borda,
    Cges,
    BestOfInfinity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole<S> {
    #[serde(rename = "kind")]
    _kind: Kind,
    #[serde(default)]
    description: String,
    settings: S,
}

impl Preset {
    /// A preset for a strategy that is not of this crate.
    pub fn outside(name: impl Into<String>, description: impl Into<String>, outside: Outside) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            settings: Settings::Exec(outside),
        }
    }

    /// A shipped preset.
    pub fn named(name: &str) -> Result<Self, PresetError> {
        if let Some(text) = source(name) {
            return Self::parse(text, name, &format!("presets/{name}.toml"));
        }
        let distance = |known: &&str| edit_distance(name, known);
        Err(PresetError::Unknown {
            name: name.to_owned(),
            nearest: names().min_by_key(distance).unwrap_or("majority"),
            known: names().collect::<Vec<_>>().join(", "),
        })
    }

    /// A preset from the text of a file; `file` is what errors call it, and its stem becomes the strategy's
    /// name.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, PresetError> {
        let stem = file.rsplit(['/', '\\']).next().unwrap_or(file);
        Self::parse(text, stem.strip_suffix(".toml").unwrap_or(stem), file)
    }

    fn parse(text: &str, name: &str, file: &str) -> Result<Self, PresetError> {
        fn read<'de, T: Deserialize<'de>>(text: &'de str, file: &str) -> Result<T, PresetError> {
            toml::from_str(text).map_err(|e| PresetError::File {
                file: file.to_owned(),
                line: e
                    .span()
                    .map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1),
                message: e.message().trim().replace('\n', ", "),
            })
        }
        fn whole<'de, S: Deserialize<'de>>(
            text: &'de str,
            file: &str,
            settings: fn(S) -> Settings,
        ) -> Result<(String, Settings), PresetError> {
            let w: Whole<S> = read(text, file)?;
            Ok((w.description, settings(w.settings)))
        }
        let (description, settings) = match read::<Head>(text, file)?.kind {
            Kind::Majority => whole(text, file, Settings::Majority),
            Kind::Weighted => whole(text, file, Settings::Weighted),
            Kind::DeepconfOnline => whole(text, file, Settings::DeepconfOnline),
            Kind::DeepconfOffline => whole(text, file, Settings::DeepconfOffline),
            Kind::AdaptiveConsistency => whole(text, file, Settings::AdaptiveConsistency),
            Kind::Esc => whole(text, file, Settings::Esc),
            Kind::ShortMAtK => whole(text, file, Settings::ShortMAtK),
            Kind::BestOfN => whole(text, file, Settings::BestOfN),
            Kind::Borda => whole(text, file, Settings::Borda),
            Kind::Cges => whole(text, file, Settings::Cges),
            Kind::BestOfInfinity => whole(text, file, Settings::BestOfInfinity),
        }?;
        let preset = Self {
            name: name.to_owned(),
            description,
            settings,
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
            settings: &'a Settings,
        }
        toml::to_string(&File {
            description: &self.description,
            settings: &self.settings,
        })
        .unwrap_or_default()
    }

    /// The strategy, ready for [`Strategy::begin`].
    pub fn build(&self) -> Box<dyn Strategy> {
        match &self.settings {
            Settings::Majority(s) => Box::new(Majority::new(&self.name, *s)),
            Settings::Weighted(s) => Box::new(Weighted::new(&self.name, *s)),
            Settings::DeepconfOnline(s) => Box::new(Online::new(&self.name, *s)),
            Settings::DeepconfOffline(s) => Box::new(Offline::new(&self.name, *s)),
            Settings::AdaptiveConsistency(s) => Box::new(AdaptiveConsistency::new(&self.name, *s)),
            Settings::Esc(s) => Box::new(Esc::new(&self.name, *s)),
            Settings::ShortMAtK(s) => Box::new(ShortMAtK::new(&self.name, *s)),
            Settings::BestOfN(s) => Box::new(BestOfN::new(&self.name, *s)),
            Settings::Borda(s) => Box::new(Borda::new(&self.name, *s)),
            Settings::Cges(s) => Box::new(Cges::new(&self.name, *s)),
            Settings::BestOfInfinity(s) => Box::new(BestOfInfinity::new(&self.name, *s)),
            Settings::Exec(outside) => (outside.build)(&self.name),
        }
    }

    /// Puts settings over the preset's own. Refuses, and then changes nothing, when the strategy does not
    /// have one of them or a value is out of range.
    pub fn apply(&mut self, o: &Overrides) -> Result<(), PresetError> {
        let mut changed = self.clone();
        Places::of(&mut changed.settings)
            .put(o)
            .map_err(|setting| PresetError::NoSuchSetting {
                strategy: self.name.clone(),
                setting,
                has: match self.setting_names().as_slice() {
                    [] => "none".to_owned(),
                    names => names.join(", "),
                },
            })?;
        changed.check()?;
        *self = changed;
        Ok(())
    }

    /// The names of the settings that this strategy has.
    pub fn setting_names(&self) -> Vec<&'static str> {
        Places::of(&mut self.settings.clone()).names()
    }

    fn check(&self) -> Result<(), PresetError> {
        let bad = |setting, range, value: String| {
            Err(PresetError::OutOfRange {
                strategy: self.name.clone(),
                setting,
                range,
                value,
            })
        };
        let mut copy = self.settings.clone();
        let p = Places::of(&mut copy);
        if let Some(0) = p.warmup {
            return bad("warmup", "at least 1", "0".to_owned());
        }
        if let Some(Window::Fixed(0)) = p.window {
            return bad("window", "at least 1 token or \"auto\"", "0".to_owned());
        }
        if let Some(&mut keep) = p.keep_top
            && !(keep > 0.0 && keep <= 1.0)
        {
            return bad(
                "keep_top",
                "above 0 and at most 1 (the share of traces kept)",
                keep.to_string(),
            );
        }
        if let Some(&mut Consensus::At(tau)) = p.consensus
            && !(tau > 0.5 && tau <= 1.0)
        {
            return bad(
                "consensus",
                "above 0.5 and at most 1, or \"off\"",
                tau.to_string(),
            );
        }
        if let Some(0) = p.min_votes {
            return bad("min_votes", "at least 1", "0".to_owned());
        }
        if let Some(&mut certainty) = p.certainty
            && !(certainty > 0.5 && certainty < 1.0)
        {
            return bad("certainty", "above 0.5 and below 1", certainty.to_string());
        }
        if let Some(&mut batch) = p.batch
            && batch < 2
        {
            return bad("batch", "at least 2 traces", batch.to_string());
        }
        if let Some(0) = p.first {
            return bad("first", "at least 1", "0".to_owned());
        }
        if let Some(&mut power) = p.power
            && !(power.is_finite() && power >= 0.0)
        {
            return bad("power", "a number that is at least 0", power.to_string());
        }
        if let Some(&mut factor) = p.bayes_factor
            && !(factor.is_finite() && factor > 1.0)
        {
            return bad("bayes_factor", "a number above 1", factor.to_string());
        }
        if let Some(&mut unknown) = p.unknown
            && !(unknown.is_finite() && unknown >= 0.0)
        {
            return bad("unknown", "a number that is at least 0", unknown.to_string());
        }
        Ok(())
    }
}

/// Insertions, deletions and substitutions that turn `a` into `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
