//! Deciding again over a recording, without a model: with the strategy that it was made with, or another.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tts_evals::answer::ReadAnswer;
use tts_strategies::{Preset, PresetError};

use crate::error::Error;
use crate::run::{Bounds, Outcome, Outside, Pool, PoolProblem, Recorded, outside};
use crate::runner::{About, Solved};
use tts_model::sampler::Sampling;

/// Most traces of a problem at once where neither the user nor the recording says otherwise.
pub(crate) const DEFAULT_SLOTS: usize = 64;

/// What is decided with; what is left open is the recording's.
#[derive(Clone, Debug, Default)]
pub struct ReplaySettings {
    /// The strategy.
    pub strategy: Option<Preset>,
    /// Traces that may be launched for a problem.
    pub traces: Option<usize>,
    /// Traces of a problem in flight at once.
    pub slots: Option<usize>,
    /// Generated tokens of a problem after which the vote so far decides.
    pub max_total_tokens: Option<u64>,
    /// Right answers by problem, over those that the recording names.
    pub gold: BTreeMap<String, String>,
}

/// A recording with the settings to decide over it.
pub struct Replay {
    recorded: Recorded,
    settings: ReplaySettings,
    strategy: Preset,
}

impl Replay {
    /// Settles what the settings leave open. `reader` says which answers are the same; with `reread` it takes
    /// them anew from the texts.
    ///
    /// # Errors
    /// When no strategy is named, neither here nor by the recording, or a number is 0.
    pub fn new(
        pool: Arc<Pool>,
        settings: ReplaySettings,
        reader: Arc<dyn ReadAnswer>,
        reread: bool,
    ) -> Result<Self, Error> {
        let strategy = match &settings.strategy {
            Some(preset) => preset.clone(),
            None => recorded_strategy(&pool)?.ok_or_else(|| {
                Error::Setting(format!(
                    "{} does not say which strategy it was recorded with: name one with --strategy",
                    pool.path().display()
                ))
            })?,
        };
        for (flag, number) in [("traces", settings.traces), ("slots", settings.slots)] {
            if number == Some(0) {
                return Err(Error::Setting(format!(
                    "--{flag} 0 leaves nothing to decide over: it must be at least 1"
                )));
            }
        }
        Ok(Self {
            recorded: Recorded::new(pool, reader, reread),
            settings,
            strategy,
        })
    }

    /// The strategy that decides.
    pub fn strategy(&self) -> &Preset {
        &self.strategy
    }
    /// The recording.
    pub fn recorded(&self) -> &Recorded {
        &self.recorded
    }

    /// A setting of the recorded decisions.
    fn was(&self, name: &str) -> Option<&Value> {
        self.recorded.pool().manifest()?.decisions.get(name)
    }

    /// The bounds of a problem, and what came from outside where this is the very decision that was recorded.
    fn bounds(&self, problem: &PoolProblem) -> (Bounds, Vec<Outside>) {
        let number = |name| self.was(name).and_then(Value::as_u64).map(|n| n as usize);
        let traces = self
            .settings
            .traces
            .or_else(|| number("traces"))
            .unwrap_or(problem.traces)
            .max(1);
        // the recorded number of slots was made for the recorded number of traces
        let of_recording =
            || number("slots").filter(|_| self.settings.traces.is_none_or(|t| Some(t) == number("traces")));
        let slots = self
            .settings
            .slots
            .or_else(of_recording)
            .unwrap_or(traces.min(DEFAULT_SLOTS));
        let max_total_tokens = self.settings.max_total_tokens;
        let same = |line: &Value| {
            let d = &line["decisions"];
            let is = |name: &str, n: Option<u64>| d[name].as_u64() == n;
            of_preset(&d["strategy"]) == preset_value(&self.strategy)
                && is("traces", Some(traces as u64))
                && is("slots", Some(slots as u64))
                && (max_total_tokens.is_none() || is("max_total_tokens", max_total_tokens))
        };
        let line = self
            .recorded
            .pool()
            .decided()
            .and_then(|d| d.newest(&problem.id, same).ok().flatten());
        let Some(line) = line else {
            let bounds = Bounds {
                traces,
                slots,
                max_total_tokens,
            };
            return (bounds, Vec::new());
        };
        let bounds = Bounds {
            traces,
            slots: line["slots"].as_u64().map_or(slots, |n| n as usize),
            max_total_tokens: max_total_tokens.or_else(|| line["decisions"]["max_total_tokens"].as_u64()),
        };
        (bounds, outside(&line))
    }

    /// The right answer of a problem, if it is known.
    pub fn gold(&self, problem: &PoolProblem) -> Option<String> {
        gold(&self.settings.gold, self.recorded.pool(), problem)
    }

    /// Decides a problem.
    ///
    /// # Errors
    /// When its traces cannot be read or lack what the strategy cannot do without.
    pub fn solve(&self, problem: &PoolProblem) -> Result<Solved, Error> {
        let (bounds, scripted) = self.bounds(problem);
        let records = self.recorded.traces(problem)?;
        let replayed =
            self.recorded
                .decide_all(problem, &records, self.strategy.build(), &bounds, &scripted)?;
        let mut outcome = self.recorded.outcome(problem, replayed)?;
        self.say_what_is_missing(problem, &mut outcome);
        let of = |name: &str| self.recorded.pool().manifest().and_then(|m| m.traces.get(name));
        let about = About {
            gold: self.gold(problem),
            model: model_of(self.recorded.pool()),
            seed: of("seed").and_then(Value::as_u64),
            sampling: of("sampling").and_then(|s| serde_json::from_value::<Sampling>(s.clone()).ok()),
            machine: None,
        };
        let reader = self.recorded.reader();
        Ok(Solved::of(outcome, about, |answer, gold| {
            reader.grade(answer, gold).equal
        }))
    }

    /// The texts of a problem's recorded traces, where they were recorded.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn texts(&self, problem: &PoolProblem) -> Result<Vec<Option<String>>, Error> {
        Ok(self.recorded.texts(problem)?)
    }

    fn say_what_is_missing(&self, problem: &PoolProblem, outcome: &mut Outcome) {
        let needs = self.strategy.build().needs();
        let without = problem.traces - problem.confident;
        if needs.confidence && without > 0 {
            outcome.notices.push(format!(
                "{without} of {} recorded traces have no confidences: they cannot be stopped and cast no weighted vote",
                problem.traces
            ));
        }
    }
}

/// The model that a recording names.
fn model_of(pool: &Pool) -> Option<String> {
    pool.manifest()?.machine.get("model")?.as_str().map(str::to_owned)
}

/// The right answer of a problem: as given, as a recorded trace names it, or as the problem was graded by.
pub(crate) fn gold(given: &BTreeMap<String, String>, pool: &Pool, problem: &PoolProblem) -> Option<String> {
    let graded = || {
        let line = pool.decided()?.last_decided(&problem.id).ok().flatten()?;
        line["gold"].as_str().map(str::to_owned)
    };
    given
        .get(&problem.id)
        .cloned()
        .or_else(|| problem.gold.clone())
        .or_else(graded)
}

/// A preset as it stands in manifests, without its words.
fn preset_value(preset: &Preset) -> Value {
    of_preset(&serde_json::to_value(preset).unwrap_or_default())
}

fn of_preset(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        object.remove("description");
    }
    value
}

/// The strategy that a recording was made with, if it says so.
///
/// # Errors
/// When it is none that is known here.
pub fn recorded_strategy(pool: &Pool) -> Result<Option<Preset>, Error> {
    let Some(Value::Object(mut object)) = pool.manifest().and_then(|m| m.decisions.get("strategy").cloned())
    else {
        return Ok(None);
    };
    let name = match object.remove("name") {
        Some(Value::String(name)) => name,
        _ => "recorded".to_owned(),
    };
    if object.get("kind").and_then(Value::as_str) == Some("exec") {
        let command = object
            .get("settings")
            .and_then(|s| s["command"].as_str())
            .unwrap_or_default();
        return Err(Error::Setting(format!(
            "{} was decided by a command of its user's: to run it again say --strategy \"exec:{command}\"",
            pool.path().display()
        )));
    }
    let text = toml::to_string(&object).map_err(|e| PresetError::File {
        file: pool.path().join("manifest.json").display().to_string(),
        line: None,
        message: e.to_string(),
    })?;
    Ok(Some(Preset::from_toml(&text, &name)?))
}
