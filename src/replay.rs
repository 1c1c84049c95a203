//! Deciding again over a recording, without a model: with the strategy that it was made with, or another.
//!
//! ```no_run
//! # fn replay() -> Result<(), tts::Error> {
//! use tts::replay::{Replay, ReplaySettings};
//! use tts::strategies::Preset;
//!
//! let settings = ReplaySettings {
//!     strategy: Some(Preset::named("adaptive-consistency")?),
//!     slots: Some(8.into()),
//!     ..ReplaySettings::default()
//! };
//! let replay = Replay::open("run", settings)?;
//! for problem in replay.problems() {
//!     let solved = replay.solve(problem)?;
//!     println!("{} {:?} {}", solved.problem_id, solved.answer, solved.tokens.generated);
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tts_evals::answer::ReadAnswer;
use tts_strategies::Preset;

use crate::error::Error;
use crate::fmt::plural;
use crate::run::{
    AnswerSettings, Bounds, DecisionSettings, ExternalEvent, Outcome, PoolOptions, RecordedPool, Replayer,
    Slots, SolvedRecord, StrategyRecord,
};
use crate::solver::{About, Solved};

pub use crate::run::PoolProblem;

/// What is decided with; what is left open is the recording's.
#[derive(Clone, Debug, Default)]
pub struct ReplaySettings {
    /// The strategy that decides; `None` takes the one that the recording was decided with.
    pub strategy: Option<Preset>,
    /// Traces that may be launched for a problem.
    pub traces: Option<usize>,
    /// Traces of a problem in flight at once.
    pub slots: Option<Slots>,
    /// Generated tokens of a problem after which the vote so far decides.
    pub max_total_tokens: Option<u64>,
    /// Right answers by problem, over those that the recording names.
    pub gold: BTreeMap<String, String>,
}

/// A recording with the settings to decide over it.
pub struct Replay {
    recorded: Replayer,
    settings: ReplaySettings,
    strategy: Preset,
}

impl Replay {
    /// Opens a run folder, or a file of recorded traces. Answers are those that were recorded, and compared
    /// as they were compared then.
    ///
    /// # Errors
    /// A path that is no recording, and as [`Self::new`].
    pub fn open(path: impl AsRef<Path>, settings: ReplaySettings) -> Result<Self, Error> {
        let options = PoolOptions {
            windows: settings
                .strategy
                .iter()
                .filter_map(|p| p.build().window())
                .collect(),
            ..PoolOptions::default()
        };
        let pool = RecordedPool::open(path.as_ref(), &options)?;
        let recorded = pool.manifest().and_then(|m| m.decisions.answers.as_ref());
        let reader = recorded.map(AnswerSettings::reader).unwrap_or_default();
        Self::new(Arc::new(pool), settings, Arc::new(reader), false)
    }

    /// Settles what the settings leave open. `reader` says which answers are the same; with `reread` it takes
    /// them anew from the texts.
    ///
    /// # Errors
    /// When no strategy is named, neither here nor by the recording, or a number is 0.
    pub fn new(
        pool: Arc<RecordedPool>,
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
        if settings.traces == Some(0) {
            return Err(Error::Setting(
                "--traces 0 leaves nothing to decide over: it must be at least 1".to_owned(),
            ));
        }
        if let Some(slots) = settings.slots {
            slots
                .check(settings.traces.unwrap_or(usize::MAX))
                .map_err(Error::Setting)?;
        }
        Ok(Self {
            recorded: Replayer::new(pool, reader, reread),
            settings,
            strategy,
        })
    }

    /// The strategy that decides.
    pub fn strategy(&self) -> &Preset {
        &self.strategy
    }
    /// The problems, in the order in which they were recorded.
    pub fn problems(&self) -> &[PoolProblem] {
        self.recorded.pool().problems()
    }
    /// The recording that is decided over.
    pub fn recorded(&self) -> &Replayer {
        &self.recorded
    }

    /// Recorded traces of a problem that the strategy can use.
    pub fn traces_for(&self, problem: &PoolProblem) -> usize {
        let made = if self.strategy.build().needs().makes_traces() {
            problem.made
        } else {
            0
        };
        problem.traces + made
    }

    /// What the recording was decided with, as far as it says so.
    fn was(&self) -> Option<&DecisionSettings> {
        Some(&self.recorded.pool().manifest()?.decisions)
    }

    /// The bounds of a problem, and what came from outside where this is the very decision that was recorded.
    fn bounds(&self, problem: &PoolProblem) -> (Bounds, Vec<ExternalEvent>) {
        let traces = self
            .settings
            .traces
            .or_else(|| self.was()?.traces)
            .unwrap_or_else(|| self.traces_for(problem))
            .max(1);
        let strategy = StrategyRecord::from(&self.strategy);
        // the recorded number of slots was made for the recorded number of traces, and one that nobody chose for the
        // recorded strategy
        let chosen = |was: &&DecisionSettings| {
            let made_for_these = was.traces.is_none_or(|recorded| recorded == traces);
            let same = was.strategy.as_ref().is_none_or(|s| s.name == strategy.name);
            let by_itself = || {
                let recorded = recorded_strategy(self.recorded.pool()).ok().flatten();
                recorded.map(|preset| Slots::suiting(&preset).within(traces))
            };
            made_for_these && (same || was.slots != by_itself())
        };
        let slots = self
            .settings
            .slots
            .or_else(|| self.was().filter(chosen)?.slots)
            .unwrap_or_else(|| Slots::suiting(&self.strategy))
            .within(traces);
        let max_total_tokens = self.settings.max_total_tokens;
        let same = |line: &SolvedRecord| {
            line.decisions.as_ref().is_some_and(|d| {
                d.strategy
                    .as_ref()
                    .is_some_and(|s| s.name == strategy.name && s.rules_as(&strategy))
                    && d.traces == Some(traces)
                    && d.slots == Some(slots)
                    && (max_total_tokens.is_none() || d.max_total_tokens == max_total_tokens)
            })
        };
        let line = self
            .recorded
            .pool()
            .decided()
            .and_then(|d| d.newest(&problem.id, same).ok().flatten());
        let Some(line) = line else {
            return (Bounds::new(traces, slots, max_total_tokens), Vec::new());
        };
        let max_total_tokens = max_total_tokens.or(line.decisions.and_then(|d| d.max_total_tokens));
        let bounds = Bounds::new(traces, slots, max_total_tokens);
        let slots = line.slots.unwrap_or(bounds.slots).max(1);
        (Bounds { slots, ..bounds }, line.outside)
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
        let traces = self.recorded.pool().manifest().map(|m| &m.traces);
        let about = About {
            gold: self.gold(problem),
            model: model_of(self.recorded.pool()),
            seed: traces.and_then(|t| t.seed),
            date: traces.and_then(|t| t.date.clone()),
            sampling: traces.and_then(|t| t.drawn_with()),
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
        Ok(self
            .recorded
            .texts(problem, self.strategy.build().needs().makes_traces())?)
    }

    fn say_what_is_missing(&self, problem: &PoolProblem, outcome: &mut Outcome) {
        let needs = self.strategy.build().needs();
        let without = problem.traces - problem.confident;
        if needs.confidence && without > 0 {
            outcome.notices.push(format!(
                "{without} of {} recorded traces have no confidences: they cannot be stopped and cast no \
                 weighted vote",
                problem.traces
            ));
        }
    }
}

/// The model that a recording names.
fn model_of(pool: &RecordedPool) -> Option<String> {
    pool.manifest()?.machine.model.clone()
}

/// The right answer of a problem: as given, as a recorded trace names it, or as the problem was graded by.
pub(crate) fn gold(
    given: &BTreeMap<String, String>,
    pool: &RecordedPool,
    problem: &PoolProblem,
) -> Option<String> {
    let graded = || pool.decided()?.last_decided(&problem.id).ok().flatten()?.gold;
    given
        .get(&problem.id)
        .cloned()
        .or_else(|| problem.gold.clone())
        .or_else(graded)
}

/// What to say of problems that have no right answer, if there are any.
pub(crate) fn ungraded(
    given: &BTreeMap<String, String>,
    pool: &RecordedPool,
    problems: &[&PoolProblem],
) -> Option<String> {
    let without = problems.iter().filter(|p| gold(given, pool, p).is_none()).count();
    (without > 0).then(|| {
        format!(
            "{} without a right answer to compare with, not counted in any accuracy; --data names the set",
            plural(without as u64, "problem")
        )
    })
}

/// The strategy that a recording was made with, if it says so.
///
/// # Errors
/// When it is none that is known here.
pub fn recorded_strategy(pool: &RecordedPool) -> Result<Option<Preset>, Error> {
    let Some(strategy) = pool.manifest().and_then(|m| m.decisions.strategy.as_ref()) else {
        return Ok(None);
    };
    if let Some(command) = strategy.command() {
        let place = pool.path().display();
        let by_command = strategy
            .name
            .as_ref()
            .is_some_and(|name| name.starts_with("exec:"));
        return Err(Error::Setting(if by_command {
            format!(
                "{place} was decided by a command of its user's: to run it again say --strategy \"exec:{command}\""
            )
        } else {
            format!("{place} was decided by `{command}`, an object of its user's program: name a strategy")
        }));
    }
    let manifest = pool.path().join("manifest.json").display().to_string();
    Ok(Some(strategy.preset(&manifest)?))
}
