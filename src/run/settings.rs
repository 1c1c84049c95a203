//! What a run was asked for, as typed records: what its traces are a function of, and what its decisions are
//! a function of.
//!
//! Every field may be missing in a file of an earlier version; fields of a later one are kept in `other`,
//! compared and written again.

mod compare;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tts_evals::answer::{AnswerKind, EqualOptions, RuleReader};
use tts_evals::task::Task;
use tts_model::overrides::SamplingOverrides;
use tts_model::sampling::Sampling;
use tts_strategies::{Preset, PresetError};

use compare::{differences, same};

use super::Slots;

/// Fields of a record that this version has no name for.
pub type OtherFields = Map<String, Value>;

/// Everything that a trace is a function of, beside its problem and its index. Two runs mix only if all of it
/// is the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TraceSettings {
    /// `remote` where another engine generated the traces; absent for a model that ran here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// blake3 of the weights and the configuration, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Number formats that weights are stored in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Vec<String>>,
    /// Number format of the KV cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_dtype: Option<String>,
    /// Number format of the SSM states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dtype: Option<String>,
    /// Instruction tier of the kernels: bits are the same within one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Name of the model at remote engines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_model: Option<String>,
    /// How remote engines were spoken to: `chat` or `completions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_api: Option<String>,
    /// How many of the most likely ids remote engines gave, over which confidence was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_k: Option<usize>,
    /// What the generation_config.json of the model at remote engines recommends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended: Option<SamplingOverrides>,
    /// Digest of the tokenizer and the chat template.
    pub prompter: Option<String>,
    /// What is asked after a problem.
    pub instruction: Option<String>,
    /// The system message before the problem; `None` where none is sent.
    pub system: Option<String>,
    /// Text that makes the user's message.
    pub prompt_template: Option<String>,
    /// Variables of the chat template that were set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub template_variables: BTreeMap<String, serde_json::Value>,
    /// The day that the chat template wrote as today's, as YYYY-MM-DD; absent where it writes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// How tokens were drawn. Of remote engines: what was asked for, the rest being theirs.
    pub sampling: Option<SamplingOverrides>,
    /// Part of every trace's random stream.
    pub seed: Option<u64>,
    /// Generated tokens at which a trace was cut off.
    pub max_tokens: Option<usize>,
    /// Ids that end a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_ids: Option<Vec<u32>>,
    /// Whether those were passed over.
    pub ignore_eos: Option<bool>,
    /// Whether verbatim loops ended a trace.
    pub loop_stop: Option<bool>,
    /// Generated tokens at which the end of thinking was forced.
    pub thinking_budget: Option<usize>,
    /// What this version has no name for.
    #[serde(flatten)]
    pub other: OtherFields,
}

/// `source` of traces that remote engines generated.
const REMOTE: &str = "remote";

impl TraceSettings {
    /// Those of remote engines, with nothing said yet.
    pub fn remote() -> Self {
        Self {
            source: Some(REMOTE.to_owned()),
            ..Self::default()
        }
    }

    /// Whether remote engines generated the traces, in an order of their own.
    pub fn is_remote(&self) -> bool {
        self.source.as_deref() == Some(REMOTE)
    }

    /// How tokens were drawn, where that is known in full: a remote engine's own settings are not.
    pub fn drawn_with(&self) -> Option<Sampling> {
        let known = serde_json::to_value(self.sampling?).ok()?;
        serde_json::from_value(known).ok()
    }

    /// Every setting that differs, as a phrase with both values.
    pub(super) fn differences(&self, now: &Self) -> Vec<String> {
        let mut what = Vec::new();
        differences("", &value_of(self), &value_of(now), &mut what);
        what
    }
}

/// Everything that a decision over given traces is a function of. Free to change from run to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DecisionSettings {
    /// The strategy with all its settings.
    pub strategy: Option<StrategyRecord>,
    /// Traces that might be launched for a problem.
    pub traces: Option<usize>,
    /// Traces of a problem in flight at once.
    pub slots: Option<Slots>,
    /// Generated tokens of a problem after which the vote so far decides.
    pub max_total_tokens: Option<u64>,
    /// Seconds after which the votes so far decide.
    pub time_limit_seconds: Option<f64>,
    /// How answers are read and compared.
    pub answers: Option<AnswerSettings>,
    /// What this version has no name for.
    #[serde(flatten)]
    pub other: OtherFields,
}

impl DecisionSettings {
    /// Whether both decide alike: a strategy's description may read otherwise.
    pub fn decides_as(&self, other: &Self) -> bool {
        let silent = |settings: &Self| {
            let mut settings = settings.clone();
            if let Some(strategy) = &mut settings.strategy {
                strategy.description = None;
            }
            value_of(&settings)
        };
        same(&silent(self), &silent(other))
    }

    /// Name of the strategy.
    pub fn strategy_name(&self) -> Option<&str> {
        self.strategy.as_ref()?.name.as_deref()
    }
}

/// A strategy as it stands in a record: a preset, also one that this version does not know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StrategyRecord {
    /// Name of the preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One line for lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The kind of rule that decides, as presets name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The rule's settings by name, defaults included.
    pub settings: Map<String, Value>,
    /// What this version has no name for.
    #[serde(flatten)]
    pub other: OtherFields,
}

impl From<&Preset> for StrategyRecord {
    fn from(preset: &Preset) -> Self {
        serde_json::to_value(preset)
            .and_then(serde_json::from_value)
            .expect("a preset is an object with a name, a kind and settings")
    }
}

impl StrategyRecord {
    /// The preset that was recorded; `place` is what errors call the file.
    ///
    /// # Errors
    /// When the strategy or one of its settings is none that is known here.
    pub fn preset(&self, place: &str) -> Result<Preset, PresetError> {
        #[derive(Serialize)]
        struct File<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            kind: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            description: Option<&'a str>,
            settings: &'a Map<String, Value>,
        }
        let name = self.name.as_deref().unwrap_or("recorded");
        let text = toml::to_string(&File {
            kind: self.kind.as_deref(),
            description: self.description.as_deref(),
            settings: &self.settings,
        })
        .map_err(|e| PresetError::File {
            file: place.to_owned(),
            line: None,
            message: e.to_string(),
        })?;
        let mut preset = Preset::from_toml(&text, name)?;
        preset.name = name.to_owned();
        Ok(preset)
    }

    /// The command that decided, where it was a command of the user's.
    pub fn command(&self) -> Option<&str> {
        let command = || self.settings.get("command").and_then(Value::as_str);
        (self.kind.as_deref() == Some("exec")).then(|| command().unwrap_or_default())
    }

    /// The group size in tokens that the settings fix.
    pub fn window(&self) -> Option<usize> {
        let window = self.settings.get("window")?.as_u64()?;
        (window > 0).then_some(window as usize)
    }

    /// Whether it makes traces from others, which are of no use to other strategies.
    pub(super) fn makes_traces(&self) -> bool {
        self.preset("manifest.json")
            .is_ok_and(|preset| preset.build().needs().makes_traces())
    }

    /// Whether both are one rule with the same settings, under whatever name.
    pub fn rules_as(&self, other: &Self) -> bool {
        (&self.kind, &self.settings) == (&other.kind, &other.settings)
    }
}

/// How answers are read and compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnswerSettings {
    /// The task whose rules were used.
    pub task: Option<String>,
    /// What answers are: numbers, choices, texts and the like.
    pub kind: Option<AnswerKind>,
    /// The regular expression that takes them.
    pub pattern: Option<String>,
    /// Choices that graders disagree about; absent for the strict ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<EqualOptions>,
    /// What this version has no name for.
    #[serde(flatten)]
    pub other: OtherFields,
}

impl AnswerSettings {
    /// Those of a reader: a task's, where it is one's.
    pub fn of(task: Option<&Task>, reader: &RuleReader) -> Self {
        Self {
            task: task.map(|t| t.name.clone()),
            kind: Some(reader.kind),
            options: (reader.options != EqualOptions::default()).then(|| reader.options.clone()),
            ..Self::default()
        }
    }

    /// What compares recorded answers as they were compared then. A task from a file is not at hand; its kind
    /// of answers is.
    pub fn reader(&self) -> RuleReader {
        let task = self.task.as_deref().and_then(|name| Task::named(name).ok());
        let mut reader = task
            .and_then(|task| task.reader().ok())
            .unwrap_or_else(|| RuleReader::new(self.kind.unwrap_or_default()));
        if let Some(kind) = self.kind {
            reader.kind = kind;
        }
        if let Some(options) = &self.options {
            reader.options.clone_from(options);
        }
        reader
    }
}

/// A record as JSON.
pub(crate) fn value_of(record: &impl Serialize) -> Value {
    serde_json::to_value(record).expect("a record is plain data")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tts_evals::answer::{PercentRule, ReadAnswer};

    use super::*;

    #[test]
    fn a_preset_comes_back_from_a_record() {
        for name in tts_strategies::names() {
            let shipped = Preset::named(name).expect("shipped");
            let record = StrategyRecord::from(&shipped);
            assert_eq!(
                record.other,
                OtherFields::new(),
                "every field of a preset has a name here"
            );
            assert_eq!(value_of(&record), value_of(&shipped));
            assert_eq!(record.preset("manifest.json").expect("known"), shipped);
        }
        let strange = StrategyRecord {
            kind: Some("unheard-of".to_owned()),
            ..StrategyRecord::default()
        };
        assert!(strange.preset("manifest.json").is_err());
    }

    #[test]
    fn answers_are_compared_with_the_options_of_the_record() {
        let lenient = AnswerSettings {
            options: Some(EqualOptions {
                percent: PercentRule::Lenient,
                ..EqualOptions::default()
            }),
            ..AnswerSettings::default()
        };
        assert!(lenient.reader().grade("10\\%", "10").equal);
        assert!(!AnswerSettings::default().reader().grade("10\\%", "10").equal);
        let choice: AnswerSettings = serde_json::from_value(json!({"kind": "choice"})).expect("settings");
        assert_eq!(
            choice
                .reader()
                .read("The answer is (B).")
                .map(|e| e.answer)
                .as_deref(),
            Some("(B)")
        );
    }

    #[test]
    fn what_has_no_name_here_is_kept_and_compared() {
        let text = json!({"seed": u64::MAX, "sampling": {"temperature": 0.1}, "executor": "x/1"});
        let settings: TraceSettings = serde_json::from_value(text).expect("settings");
        assert_eq!(
            (settings.seed, &settings.other["executor"]),
            (Some(u64::MAX), &json!("x/1"))
        );
        assert_eq!(value_of(&settings)["executor"], "x/1");
        let mut now = settings.clone();
        now.other.clear();
        assert_eq!(
            settings.differences(&now),
            ["`executor` was \"x/1\" and is now not set"]
        );
        let decisions = |settings: Value| -> DecisionSettings {
            serde_json::from_value(json!({"traces": 8, "strategy": settings})).expect("settings")
        };
        let one = decisions(json!({"name": "a", "description": "x", "kind": "k", "settings": {"w": 1}}));
        let reworded =
            decisions(json!({"name": "a", "description": "y", "kind": "k", "settings": {"w": 1.0}}));
        let other = decisions(json!({"name": "a", "description": "x", "kind": "k", "settings": {"w": 2}}));
        assert!(one.decides_as(&reworded) && !one.decides_as(&other));
    }
}
