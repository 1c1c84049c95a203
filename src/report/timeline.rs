//! One problem's traces over time: decided once more over the record, to see when each began, when it ended,
//! and why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tts_evals::answer::ReadAnswer;
use tts_strategies::windows::{GroupWindow, auto_window};
use tts_strategies::{Fate, Preset};

use super::error::ReportError;
use super::evidence::Evidence;
use super::results::{Timeline, TimelineTrace};
use crate::run::{
    Bounds, ExternalEvent, Looks, NoDecoder, Phase, PoolProblem, ProblemRun, Replayer, Setup, Slots,
    StoppingRules, StrategyRecord, Token, TraceRecord,
};

/// Points of a trace's line that are kept: of each stretch the lowest, so that no dip is lost.
const POINTS: usize = 160;
/// The same for the problems beside the one that is shown at first: as many as there is room for, in bytes of
/// the page, but not fewer than
const FEWEST_POINTS: usize = 8;
/// within about so many bytes for all of them,
pub(crate) const ROOM: usize = 16 << 20;
/// at about so many bytes a point, and for a trace without its points
const POINT_BYTES: usize = 12;
const TRACE_BYTES: usize = 560;

/// How a problem is decided for the picture.
struct TimelinePlan {
    preset: Preset,
    bounds: Bounds,
    scripted: Vec<ExternalEvent>,
    expected: Option<u64>,
}

/// The picture of the problem that is asked for, or of the one that shows most, and with `every` those of the
/// others, as far as they fit into [`ROOM`], in the order of the problems. Nothing where no trace is
/// recorded.
pub(crate) fn timelines(
    evidence: &Evidence,
    wanted: Option<&str>,
    every: bool,
    warnings: &mut Vec<String>,
) -> Result<(Option<Timeline>, Vec<Timeline>), ReportError> {
    let order = order(evidence, wanted)?;
    let (Some(recorded), Some((first, rest))) = (&evidence.recorded, order.split_first()) else {
        return Ok((None, Vec::new()));
    };
    let first = match picture(evidence, recorded, *first, POINTS)? {
        Picture::Drawn(timeline) => timeline,
        Picture::Empty => return Ok((None, Vec::new())),
        Picture::Unknown => {
            warnings.push(
                "no strategy that this version knows decided here, so no problem's traces are drawn over time"
                    .to_owned(),
            );
            return Ok((None, Vec::new()));
        }
    };
    let recorded_of =
        |at: &usize| evidence.pools[*at].traces + evidence.traces.as_ref().map_or(0, |t| t[*at].incomplete);
    let all: u64 = rest.iter().map(recorded_of).sum();
    let each = (ROOM / (all as usize).max(1)).saturating_sub(TRACE_BYTES) / POINT_BYTES;
    let points = each.clamp(FEWEST_POINTS, POINTS);
    let mut left = ROOM;
    let mut others = Vec::new();
    for at in rest.iter().filter(|_| every) {
        let bytes = recorded_of(at) as usize * (TRACE_BYTES + points * POINT_BYTES);
        if bytes > left {
            break;
        }
        if let Picture::Drawn(timeline) = picture(evidence, recorded, *at, points)? {
            left -= bytes;
            others.push((*at, timeline));
        }
    }
    others.sort_by_key(|(at, _)| *at);
    Ok((
        Some(first),
        others.into_iter().map(|(_, timeline)| timeline).collect(),
    ))
}

enum Picture {
    Drawn(Timeline),
    /// no trace is recorded
    Empty,
    /// nobody knows how it was decided
    Unknown,
}

fn picture(
    evidence: &Evidence,
    recorded: &Replayer,
    at: usize,
    points: usize,
) -> Result<Picture, ReportError> {
    let pool = &evidence.pools[at];
    let Some(problem) = recorded
        .pool()
        .problems()
        .iter()
        .find(|p| p.id == pool.problem_id)
    else {
        return Ok(Picture::Empty);
    };
    let Some(plan) = plan(evidence, recorded, problem)? else {
        return Ok(Picture::Unknown);
    };
    let records = recorded.with_tokens(problem, &recorded.traces(problem)?)?;
    if records.is_empty() {
        return Ok(Picture::Empty);
    }
    let gold = pool.gold.as_deref();
    Ok(Picture::Drawn(decide(
        evidence,
        plan,
        &pool.problem_id,
        gold,
        records,
        points,
    )))
}

/// Indices of the problems: the one that is asked for first, then those that show most.
fn order(evidence: &Evidence, wanted: Option<&str>) -> Result<Vec<usize>, ReportError> {
    // something stopped, then as many right as wrong traces
    let stopping = evidence.decided.iter().filter(|(_, d)| d.trace_fates.stopped > 0);
    let stopped: BTreeSet<&str> = stopping.map(|(_, d)| d.problem_id.as_str()).collect();
    let telling = |i: &usize| {
        let pool = &evidence.pools[*i];
        let stops = stopped.contains(pool.problem_id.as_str());
        let right = pool.right.unwrap_or(0);
        (
            stops,
            right.min(pool.traces.saturating_sub(right)),
            pool.traces,
            std::cmp::Reverse(*i),
        )
    };
    let mut order: Vec<usize> = (0..evidence.pools.len()).collect();
    order.sort_by_cached_key(|i| std::cmp::Reverse(telling(i)));
    if let Some(id) = wanted {
        let Some(at) = order.iter().position(|i| evidence.pools[*i].problem_id == id) else {
            return Err(ReportError::NoSuchProblem {
                path: evidence.path.clone(),
                problem: id.to_owned(),
            });
        };
        order[..=at].rotate_right(1);
    }
    Ok(order)
}

/// The preset of a record, where it is one that is known here.
fn preset(strategy: &StrategyRecord) -> Option<Preset> {
    strategy.name.as_ref()?;
    strategy.preset("the recording").ok()
}

fn plan(
    evidence: &Evidence,
    recorded: &Replayer,
    problem: &PoolProblem,
) -> Result<Option<TimelinePlan>, ReportError> {
    if let Some(header) = &evidence.header {
        let most = header.budgets.iter().copied().max().unwrap_or(1).max(1);
        let budget = most.min(problem.traces.max(1));
        let presets: Vec<Preset> = header.strategies.iter().filter_map(preset).collect();
        // a strategy with a warm-up sets a bar that is there to be drawn
        let warms_up = |p: &Preset| p.value("warmup").is_some();
        let watches = presets.iter().position(warms_up).unwrap_or(0);
        let slots = header.slots.first().copied().flatten();
        return Ok(presets.into_iter().nth(watches).map(|preset| TimelinePlan {
            bounds: Bounds::new(budget, slots.unwrap_or_else(|| Slots::suiting(&preset)), None),
            preset,
            scripted: Vec::new(),
            expected: None,
        }));
    }
    let lines = match recorded.pool().decided() {
        Some(decided) => decided.every_decided(&problem.id)?,
        None => Vec::new(),
    };
    // the newest in which a bar was set, else the newest
    let line = lines
        .iter()
        .rev()
        .find(|l| l.threshold.is_some())
        .or(lines.last());
    let Some(line) = line else {
        let budget = problem.traces.max(1);
        return Ok(Preset::named("majority").ok().map(|preset| TimelinePlan {
            preset,
            bounds: Bounds::new(budget, Slots::all(), None),
            scripted: Vec::new(),
            expected: None,
        }));
    };
    let Some(decisions) = &line.decisions else {
        return Ok(None);
    };
    let budget = decisions
        .traces
        .filter(|n| *n > 0)
        .unwrap_or_else(|| problem.traces.max(1));
    let asked = decisions.slots.unwrap_or_else(Slots::all);
    let mut bounds = Bounds::new(budget, asked, decisions.max_total_tokens);
    bounds.slots = line
        .slots
        .map_or(bounds.slots, |granted| granted.clamp(1, budget));
    Ok(decisions
        .strategy
        .as_ref()
        .and_then(preset)
        .map(|preset| TimelinePlan {
            preset,
            bounds,
            scripted: line.outside.clone(),
            expected: line.generated(),
        }))
}

fn decide(
    evidence: &Evidence,
    plan: TimelinePlan,
    id: &str,
    gold: Option<&str>,
    records: Vec<Arc<TraceRecord>>,
    points: usize,
) -> Timeline {
    let reader = evidence.reader();
    let lengths: Vec<usize> = records.iter().map(|r| r.tokens).collect();
    let max_tokens = lengths.iter().copied().max().unwrap_or(1).max(1);
    let name = plan.preset.name.clone();
    let mut problem = ProblemRun::new(Setup {
        id: id.to_owned(),
        strategy: plan.preset.build(),
        reader: Arc::new(evidence.reader()),
        // texts are in the record; a trace that this run cuts shorter needs none
        decode: Arc::new(NoDecoder),
        rules: Arc::new(StoppingRules {
            max_tokens,
            ..StoppingRules::default()
        }),
        bounds: plan.bounds.clone(),
        recorded: records,
        scripted: plan.scripted,
        looks: Looks::Recorded,
    });
    let (mut from, mut ended, mut missing, mut bar_tick) = (BTreeMap::new(), Vec::new(), 0usize, None);
    while !problem.is_over() {
        for trace in problem.live() {
            from.entry(trace.id()).or_insert(problem.ticks());
        }
        problem.tick(|_, _| {
            missing += 1;
            Token::Broken
        });
        if bar_tick.is_none() && problem.bar().0.is_some() {
            bar_tick = Some(problem.ticks());
        }
        ended.extend(problem.take_ended().into_iter().map(|r| (problem.ticks(), r)));
    }
    ended.extend(problem.take_ended().into_iter().map(|r| (problem.ticks(), r)));
    let (threshold, window) = problem.bar();
    let all: Vec<TraceRecord> = ended.iter().map(|(_, r)| r.clone()).collect();
    let decided = problem.decide(&all);
    drop(all);
    let threshold = threshold.or(decided.decision.threshold);
    let window = window
        .or(decided.decision.window)
        .or_else(|| auto_window(&lengths));
    ended.sort_by_key(|(_, r)| r.trace);
    let lanes: Vec<TimelineTrace> = ended
        .into_iter()
        .filter(|(_, r)| r.tokens > 0 || from.contains_key(&r.trace))
        .map(|(to, record)| {
            let fate = record.finish.fate(record.phase == Phase::Warmup);
            let complete = matches!(fate, Fate::Warmup | Fate::Finished | Fate::Truncated);
            let right = gold.filter(|_| complete).map(|gold| {
                fate != Fate::Truncated
                    && record
                        .answer
                        .as_ref()
                        .is_some_and(|answer| reader.grade(answer, gold).equal)
            });
            let (groups, lowest) = thinned(&record.arrays.confidence, window.unwrap_or(1), points);
            TimelineTrace {
                trace: record.trace,
                from: from.get(&record.trace).copied().unwrap_or(to),
                to,
                tokens: record.generated() as u64,
                fate,
                answer: record.answer,
                right,
                lowest,
                groups,
            }
        })
        .collect();
    let mut notes = Vec::new();
    if missing > 0 {
        notes.push(format!(
            "{missing}: traces whose record ends before the strategy is through with them count as failed \
             here"
        ));
    }
    if let Some(expected) = plan.expected.filter(|e| *e != decided.tokens.total()) {
        notes.push(format!(
            "the record gives {} tokens where the run spent {expected}: the picture is not the run's own, to \
             the last tick",
            decided.tokens.total()
        ));
    }
    Timeline {
        problem: id.to_owned(),
        strategy: name,
        budget: plan.bounds.traces,
        slots: plan.bounds.slots,
        window,
        threshold,
        bar_tick,
        steps: decided.ticks,
        correct: gold.map(|gold| {
            decided
                .answer
                .as_ref()
                .is_some_and(|answer| reader.grade(answer, gold).equal)
        }),
        answer: decided.answer,
        lanes,
        notes,
    }
}

/// The group means of a trace, thinned out to about so many `points`, and the lowest of all.
fn thinned(confidence: &[f32], window: usize, points: usize) -> (Vec<(u32, f32)>, Option<f64>) {
    let mut groups = GroupWindow::new(window);
    let stretch = confidence.len().div_ceil(points).max(1);
    let mut points: Vec<(u32, f32)> = Vec::new();
    let mut lowest: Option<f64> = None;
    for (i, c) in confidence.iter().enumerate() {
        let Some(mean) = groups.push(*c) else { continue };
        lowest = Some(lowest.map_or(mean, |l: f64| l.min(mean)));
        let point = (i as u32, mean as f32);
        match points.last_mut() {
            Some(last) if last.0 as usize / stretch == i / stretch => {
                if point.1 < last.1 {
                    *last = point;
                }
            }
            _ => points.push(point),
        }
    }
    (points, lowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_every_dip() {
        let mut confidence = vec![10.0f32; 10_000];
        confidence[5003] = 1.0;
        let (points, lowest) = thinned(&confidence, 1, POINTS);
        assert!(points.len() <= POINTS + 1, "{}", points.len());
        assert!(points.contains(&(5003, 1.0)));
        assert_eq!(lowest, Some(1.0));
        assert!(points.windows(2).all(|w| w[0].0 < w[1].0));
        assert_eq!(thinned(&[], 4, POINTS), (vec![], None));
        assert_eq!(
            thinned(&[1.0, 2.0], 4, POINTS),
            (vec![], None),
            "no window is full"
        );
        let (points, lowest) = thinned(&[f32::NAN, 3.0], 1, POINTS);
        assert_eq!((points, lowest), (vec![(1, 3.0)], Some(3.0)));
    }
}
