//! What a run folder or a sweep's folder holds, read into one form: problems with their traces, and decisions
//! over them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tts_evals::answer::{ReadAnswer, RuleReader};

use super::ReportOptions;
use super::error::ReportError;
use super::escape::one_line;
use super::graded::{GradedTraces, gather, recorded};
use super::results::Basis;
use crate::run::{
    AnswerSettings, DecisionSettings, Manifest, RecordingFields, Replayer, Slots, SolvedRecord, Status,
    StrategyRecord,
};
use crate::sweep::{PoolDecisions, PoolSummary, SweepHeader, SweepLine, SweepResults};

/// Everything that a report is made from.
pub(crate) struct Evidence {
    pub(crate) kind: &'static str,
    pub(crate) path: PathBuf,
    /// of the sweep, or of the run folder's decisions
    pub(crate) header: Option<SweepHeader>,
    pub(crate) recorded: Option<Replayer>,
    /// how answers are compared
    pub(crate) answers: AnswerSettings,
    pub(crate) pools: Vec<PoolSummary>,
    /// by problem, in the order of `pools`; nothing where the recording is not at hand
    pub(crate) traces: Option<Vec<GradedTraces>>,
    pub(crate) decided: Vec<(Basis, PoolDecisions)>,
    /// the settings of the run's decisions, by the name that their arms have
    pub(crate) decisions: Vec<(String, DecisionSettings)>,
    /// where a run's decisions stand in `decided`
    places: BTreeMap<(String, String, usize, Option<Slots>), usize>,
    /// of a run's decisions, in their order: the winner's share of the deciding vote, and whether it was
    /// right
    pub(crate) winners: Vec<Option<(f64, bool)>>,
    pub(crate) warnings: Vec<String>,
}

impl Evidence {
    pub(crate) fn open(path: &Path, options: &ReportOptions) -> Result<Self, ReportError> {
        let gold = &options.gold;
        let results = if path.is_dir() {
            SweepResults::read(path)?
        } else {
            None
        };
        match results {
            Some(results) if gold.is_empty() => Self::of_sweep(path, results),
            Some(_) => Err(ReportError::Graded(path.to_owned())),
            None => Self::of_run(path, gold, &options.fields),
        }
    }

    fn of_run(
        path: &Path,
        golds: &BTreeMap<String, String>,
        fields: &RecordingFields,
    ) -> Result<Self, ReportError> {
        let manifest = manifest(path);
        let decisions = manifest.as_ref().map(|m| &m.decisions);
        let answers = decisions.and_then(|d| d.answers.clone()).unwrap_or_default();
        let fixed = decisions.and_then(|d| d.strategy.as_ref()?.window());
        let recorded = recorded(path, &answers, fixed, fields)?;
        let reader = answers.reader();
        let mut evidence = Self {
            kind: "run",
            path: path.to_owned(),
            header: None,
            recorded: None,
            answers,
            pools: Vec::new(),
            traces: None,
            decided: Vec::new(),
            decisions: Vec::new(),
            places: BTreeMap::new(),
            winners: Vec::new(),
            warnings: Vec::new(),
        };
        let mut unread = 0;
        let mut traces = Vec::new();
        for problem in recorded.pool().problems() {
            let lines = match recorded.pool().decided() {
                Some(decided) => decided.every_decided(&problem.id)?,
                None => Vec::new(),
            };
            let graded = || lines.iter().rev().find_map(|l| l.gold.clone());
            let given = golds.get(&problem.id).cloned();
            let gold = given.clone().or_else(|| problem.gold.clone()).or_else(graded);
            let (pool, of_problem) = gather(&recorded, problem, gold.as_deref(), fixed)?;
            for line in &lines {
                match decision(&problem.id, line, (gold.as_deref(), given.is_some()), &reader) {
                    Some(decided) => evidence.add_decision(decided, line),
                    None => unread += 1,
                }
            }
            evidence.pools.push(pool);
            traces.push(of_problem);
        }
        evidence.traces = Some(traces);
        if unread > 0 {
            evidence.warnings.push(format!(
                "{unread}: lines of problems.jsonl without tokens, traces or ticks were passed over"
            ));
        }
        if let Some(manifest) = manifest.filter(|m| m.status != Status::Finished) {
            let how = if manifest.status == Status::Started {
                "running, or it was killed"
            } else {
                "interrupted"
            };
            evidence.warnings.push(format!(
                "the run is not finished ({how}): this is about what it has so far"
            ));
        }
        evidence.warnings.extend_from_slice(recorded.pool().warnings());
        evidence.recorded = Some(recorded);
        Ok(evidence)
    }

    /// Keeps a decision under a name; decisions with other settings have other names. Of two with the same
    /// settings the later counts.
    fn add_decision(&mut self, mut decided: PoolDecisions, line: &SolvedRecord) {
        let settings = line.decisions.clone().unwrap_or_default();
        let known = self.decisions.iter().position(|(_, known)| *known == settings);
        let name = match known {
            Some(i) => self.decisions[i].0.clone(),
            None => {
                let same = self
                    .decisions
                    .iter()
                    .filter(|(_, s)| {
                        s.strategy_name() == settings.strategy_name() && s.strategy != settings.strategy
                    })
                    .count();
                let name = if same > 0 {
                    format!("{} ({})", decided.strategy, same + 1)
                } else {
                    decided.strategy.clone()
                };
                self.decisions.push((name.clone(), settings));
                name
            }
        };
        decided.strategy = name;
        let key = (
            decided.problem_id.clone(),
            decided.strategy.clone(),
            decided.budget,
            decided.slots,
        );
        let right = decided.correct.as_ref().and_then(|c| c.first()).map(|c| *c == 1);
        let weights: Vec<f64> = line.ballots.iter().map(|b| b.weight).collect();
        let (most, all) = (
            weights.iter().copied().fold(0.0, f64::max),
            weights.iter().sum::<f64>(),
        );
        let winner = right
            .filter(|_| all > 0.0 && all.is_finite())
            .map(|right| ((most / all).clamp(0.0, 1.0), right));
        match self.places.get(&key) {
            Some(&at) => {
                self.decided[at].1 = decided;
                self.winners[at] = winner;
            }
            None => {
                self.places.insert(key, self.decided.len());
                self.decided.push((Basis::Live, decided));
                self.winners.push(winner);
            }
        }
    }

    fn of_sweep(path: &Path, results: SweepResults) -> Result<Self, ReportError> {
        let SweepResults {
            header,
            lines,
            passed_over,
        } = results;
        let mut warnings: Vec<String> = header.notes.iter().map(|note| one_line(note)).collect();
        if passed_over > 0 {
            warnings.push(format!(
                "{passed_over}: lines of sweep.jsonl that are unfinished or not a sweep\u{2019}s were passed \
                 over"
            ));
        }
        let (pools, decided) = in_order(lines, &header, &mut warnings);
        if header.status != Status::Finished {
            warnings.push("the sweep is not finished: this is about what it has so far".to_owned());
        }
        let place = header
            .recording
            .path
            .as_ref()
            .map_or_else(|| path.to_owned(), PathBuf::from);
        let fixed = header.strategies.iter().find_map(StrategyRecord::window);
        let recorded = match recorded(&place, &header.answers, fixed, &header.recording.fields) {
            Ok(recorded) => Some(recorded),
            Err(e) => {
                warnings.push(format!(
                    "the recording is not at hand, so scores, votes and single traces are left out ({e})"
                ));
                None
            }
        };
        let mut traces = None;
        if let Some(recorded) = &recorded {
            let mut all = Vec::new();
            for pool in &pools {
                let problem = recorded
                    .pool()
                    .problems()
                    .iter()
                    .find(|p| p.id == pool.problem_id);
                all.push(match problem {
                    Some(problem) => gather(recorded, problem, pool.gold.as_deref(), fixed)?.1,
                    None => GradedTraces::default(),
                });
            }
            traces = Some(all);
            warnings.extend_from_slice(recorded.pool().warnings());
        }
        Ok(Self {
            kind: "sweep",
            path: path.to_owned(),
            answers: header.answers.clone(),
            header: Some(header),
            recorded,
            pools,
            traces,
            decided: decided.into_iter().map(|d| (Basis::Replayed, d)).collect(),
            decisions: Vec::new(),
            places: BTreeMap::new(),
            winners: Vec::new(),
            warnings,
        })
    }

    /// What reads and compares answers, as the run or the sweep did.
    pub(crate) fn reader(&self) -> RuleReader {
        self.answers.reader()
    }
}

/// The lines of a sweep, by strategy, slots, budget and problem in the order of the header.
fn in_order(
    lines: Vec<SweepLine>,
    header: &SweepHeader,
    warnings: &mut Vec<String>,
) -> (Vec<PoolSummary>, Vec<PoolDecisions>) {
    let (mut pools, mut decided, mut unequal) = (Vec::new(), Vec::new(), 0);
    for line in lines {
        match line {
            SweepLine::Pool(pool) => pools.push(pool),
            SweepLine::Decided(d) => {
                let n = d.tokens.len();
                if n == 0
                    || d.ticks.len() != n
                    || d.launched.len() != n
                    || d.correct.as_ref().is_some_and(|c| c.len() != n)
                {
                    unequal += 1;
                } else {
                    decided.push(*d);
                }
            }
        }
    }
    if unequal > 0 {
        warnings.push(format!(
            "{unequal}: lines of sweep.jsonl whose arrays are empty or differ in length were passed over"
        ));
    }
    let missing = header
        .problems
        .iter()
        .filter(|id| !pools.iter().any(|p: &PoolSummary| p.problem_id == **id))
        .count();
    if missing > 0 {
        warnings.push(format!(
            "{missing} of {} problems are not decided yet",
            header.problems.len()
        ));
    }
    let place: BTreeMap<&str, usize> = header
        .problems
        .iter()
        .enumerate()
        .map(|(i, id)| (id.as_str(), i))
        .collect();
    let at = |id: &str| place.get(id).copied().unwrap_or(usize::MAX);
    pools.sort_by_key(|p| at(&p.problem_id));
    let strategy = |name: &str| {
        header
            .strategies
            .iter()
            .position(|s| s.name.as_deref() == Some(name))
            .unwrap_or(usize::MAX)
    };
    decided.sort_by_key(|d| {
        (
            strategy(&d.strategy),
            d.slots.map_or(Slots::fixed(usize::MAX), |s| s),
            d.budget,
            at(&d.problem_id),
        )
    });
    (pools, decided)
}

/// The manifest beside a recording, if it has one that can be read.
fn manifest(path: &Path) -> Option<Manifest> {
    Manifest::read(path).ok().flatten()
}

/// A line of problems.jsonl as a decision over one draw; graded `anew` where another gold answer was given.
fn decision(
    id: &str,
    line: &SolvedRecord,
    (gold, anew): (Option<&str>, bool),
    reader: &RuleReader,
) -> Option<PoolDecisions> {
    let (traces, tokens) = (line.traces?, line.tokens?);
    let decisions = line.decisions.as_ref();
    let strategy = line.strategy.as_deref().or_else(|| decisions?.strategy_name())?;
    let budget = decisions
        .and_then(|d| d.traces)
        .unwrap_or(traces.launched as usize);
    let answer = line.answer.as_deref();
    let known = line.correct.filter(|_| !anew);
    let right =
        known.or_else(|| gold.map(|gold| answer.is_some_and(|answer| reader.grade(answer, gold).equal)));
    Some(PoolDecisions {
        problem_id: id.to_owned(),
        strategy: strategy.to_owned(),
        budget,
        slots: line
            .decisions
            .as_ref()
            .and_then(|d| d.slots)
            .or(line.slots.map(Slots::fixed)),
        traces: budget,
        correct: right.map(|right| vec![u8::from(right)]),
        tokens: vec![tokens.generated],
        ticks: vec![line.ticks?],
        launched: vec![traces.launched],
        answered: u64::from(answer.is_some()),
        token_fates: tokens.fates,
        trace_fates: traces.fates,
        pools: line.pool.map(|p| (p.name().to_owned(), 1)).into_iter().collect(),
        short: 0,
    })
}
