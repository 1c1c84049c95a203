//! One problem's traces: their confidence token by token against the bar, and when each of them ran.

use tts_strategies::Fate;

use super::frame::{Axis, Frame, LegendMark, WIDTH};
use super::scale::Scale;
use super::scene::{ColourRole, Dash, Outline, Paint};
use crate::report::escape::clipped;
use crate::report::figures::{count, plural};
use crate::report::results::{Timeline, TimelineTrace};

/// In the order of a trace's life.
const FATES: [(Fate, ColourRole, &str); 6] = [
    (Fate::Warmup, ColourRole::Warmup, "warm-up"),
    (Fate::Finished, ColourRole::Finished, "finished"),
    (Fate::Stopped, ColourRole::Stopped, "stopped"),
    (Fate::Cancelled, ColourRole::Cancelled, "cancelled"),
    (Fate::Truncated, ColourRole::Truncated, "truncated"),
    (Fate::Failed, ColourRole::Failed, "failed"),
];
/// Fates from the bottom of the picture to its top.
const PAINTED: [Fate; 6] = [
    Fate::Cancelled,
    Fate::Failed,
    Fate::Truncated,
    Fate::Finished,
    Fate::Warmup,
    Fate::Stopped,
];

fn of(fate: Fate) -> (ColourRole, &'static str) {
    FATES
        .iter()
        .find(|f| f.0 == fate)
        .map_or((ColourRole::Failed, "failed"), |f| (f.1, f.2))
}

fn legend(timeline: &Timeline) -> Vec<(LegendMark, String)> {
    let counted = FATES.iter().map(|(fate, role, name)| {
        (
            timeline.lanes.iter().filter(|l| l.fate == *fate).count(),
            *role,
            *name,
        )
    });
    counted
        .filter(|(n, _, _)| *n > 0)
        .map(|(n, role, name)| (LegendMark::Box(role), format!("{name}: {n}")))
        .collect()
}

fn said(lane: &TimelineTrace) -> String {
    let mut lines = vec![format!(
        "trace {}: {} after {}",
        lane.trace,
        of(lane.fate).1,
        plural(lane.tokens, "token")
    )];
    match (&lane.answer, lane.right) {
        (Some(answer), Some(true)) => lines.push(format!("answers {}: right", clipped(answer, 40))),
        (Some(answer), Some(false)) => lines.push(format!("answers {}: wrong", clipped(answer, 40))),
        (Some(answer), None) => lines.push(format!("answers {}", clipped(answer, 40))),
        (None, Some(_)) => lines.push("no answer".to_owned()),
        (None, None) => {}
    }
    if let Some(lowest) = lane.lowest {
        lines.push(format!("lowest group {lowest:.2}"));
    }
    lines.push(format!(
        "steps {} to {}",
        count(lane.from as f64 + 1.0),
        count(lane.to as f64)
    ));
    lines.join("\n")
}

fn about(timeline: &Timeline) -> String {
    format!(
        "{}, {} traces at most, {} at a time",
        crate::report::escape::one_line(&timeline.strategy),
        timeline.budget,
        timeline.slots
    )
}

/// Group confidence of every trace by token, with the bar, and a cross where one was stopped. `None` without
/// confidences.
pub(crate) fn confidence(timeline: &Timeline) -> Option<Frame> {
    let values = || {
        timeline
            .lanes
            .iter()
            .flat_map(|l| l.groups.iter().map(|g| f64::from(g.1)))
    };
    values().next()?;
    let last = timeline
        .lanes
        .iter()
        .flat_map(|l| l.groups.last())
        .map(|g| f64::from(g.0) + 1.0)
        .fold(1.0, f64::max);
    let mut legend = legend(timeline);
    if let Some(bar) = timeline.threshold {
        legend.push((
            LegendMark::Line(ColourRole::Bar, Dash::Dashed),
            format!("the bar, {bar:.2}"),
        ));
    }
    let mut frame = Frame::new(
        &format!("Confidence of every trace of {}", clipped(&timeline.problem, 40)),
        &format!(
            "mean of the last {} tokens; {}",
            timeline.window.unwrap_or(1),
            about(timeline)
        ),
        Axis {
            name: "tokens of the trace",
            scale: Scale::linear([0.0, last], 7),
        },
        Axis {
            name: "group confidence",
            scale: Scale::linear(values().chain(timeline.threshold), 6),
        },
        &legend,
    );
    let opacity = (18.0 / timeline.lanes.len() as f64).sqrt().clamp(0.18, 0.8);
    let ordered = || {
        PAINTED
            .iter()
            .flat_map(|fate| timeline.lanes.iter().filter(move |l| l.fate == *fate))
    };
    for lane in ordered() {
        let points: Vec<_> = lane
            .groups
            .iter()
            .filter_map(|(at, mean)| frame.at(f64::from(*at) + 1.0, f64::from(*mean)))
            .collect();
        if points.len() > 1 {
            frame.scene.mark(
                Outline::Line(points),
                Paint::line(of(lane.fate).0, 1.3).faint(opacity),
                said(lane),
            );
        }
    }
    if let Some(y) = timeline.threshold.and_then(|t| frame.y.at(t)) {
        frame.scene.line(
            (frame.left, y),
            (frame.right, y),
            Paint::line(ColourRole::Bar, 1.6).dashed(Dash::Dashed),
        );
    }
    for lane in ordered().filter(|l| l.fate == Fate::Stopped) {
        // the token that stopped it is its last
        if let Some((x, y)) = lane
            .groups
            .last()
            .and_then(|(at, mean)| frame.at(f64::from(*at) + 1.0, f64::from(*mean)))
        {
            cross(&mut frame, (x, y), 3.5, said(lane));
        }
    }
    Some(frame)
}

fn cross(frame: &mut Frame, (x, y): (f64, f64), r: f64, tip: String) {
    frame.scene.mark(
        Outline::Circle {
            centre: (x, y),
            radius: r + 2.0,
        },
        Paint::fill(ColourRole::Surface).faint(0.6),
        tip,
    );
    for (dx, dy) in [(r, r), (r, -r)] {
        frame.scene.line(
            (x - dx, y - dy),
            (x + dx, y + dy),
            Paint::line(ColourRole::Stopped, 1.8),
        );
    }
}

/// When each trace ran: a lane a trace, steps from left to right. `None` without traces.
pub(crate) fn lanes(timeline: &Timeline) -> Option<Frame> {
    let n = timeline.lanes.len();
    if n == 0 {
        return None;
    }
    let mut legend = legend(timeline);
    if timeline.lanes.iter().any(|l| l.right.is_some()) {
        legend.push((
            LegendMark::Dot(ColourRole::Text),
            "its answer is right".to_owned(),
        ));
    }
    if timeline.bar_tick.is_some() {
        legend.push((
            LegendMark::Line(ColourRole::Bar, Dash::Dashed),
            "the bar is set".to_owned(),
        ));
    }
    let verdict = match (&timeline.answer, timeline.correct) {
        (Some(answer), Some(right)) => format!(
            "{}: {}",
            clipped(answer, 18),
            if right { "right" } else { "wrong" }
        ),
        (Some(answer), None) => clipped(answer, 24),
        (None, _) => "no answer".to_owned(),
    };
    legend.push((LegendMark::None, format!("answer {verdict}")));
    let height = 114.0 + (n as f64 * 8.0).clamp(160.0, 640.0);
    let mut frame = Frame::sized(
        (WIDTH, height),
        &format!("When each trace of {} ran", clipped(&timeline.problem, 40)),
        &format!(
            "one step is one token of every trace in flight; {}",
            about(timeline)
        ),
        Axis {
            name: "steps",
            scale: Scale::linear([0.0, timeline.steps as f64], 7),
        },
        Axis {
            name: "trace",
            scale: Scale::between(n as f64, 0.0, 6),
        },
        &legend,
    );
    let pitch = (frame.bottom - frame.top) / n as f64;
    let thick = (pitch * 0.72).clamp(0.6, 9.0);
    for (i, lane) in timeline.lanes.iter().enumerate() {
        let middle = frame.top + pitch * (i as f64 + 0.5);
        let (Some(from), Some(to)) = (frame.x.at(lane.from as f64), frame.x.at(lane.to as f64)) else {
            continue;
        };
        let bar = Outline::Rect {
            x: from,
            y: middle - thick / 2.0,
            width: (to - from).max(1.0),
            height: thick,
        };
        frame.scene.mark(bar, Paint::fill(of(lane.fate).0), said(lane));
        if lane.right == Some(true) {
            let radius = (thick * 0.42).clamp(0.8, 3.0);
            frame.scene.draw(
                Outline::Circle {
                    centre: (to + radius + 2.0, middle),
                    radius,
                },
                Paint::fill(ColourRole::Text),
            );
        }
    }
    if let Some(x) = timeline.bar_tick.and_then(|t| frame.x.at(t as f64)) {
        frame.scene.line(
            (x, frame.top - 4.0),
            (x, frame.bottom),
            Paint::line(ColourRole::Bar, 1.4).dashed(Dash::Dashed),
        );
    }
    Some(frame)
}
