//! What scores and shares know: right and wrong traces by score, share right by rank, and winners by their
//! share of the vote.

use super::frame::{Axis, Frame, LegendMark};
use super::scale::Scale;
use super::scene::{ColourRole, Dash, Outline, Paint};
use crate::report::figures::{between, count, percent, plural};
use crate::report::results::{ReliabilityFacts, ScoreFacts};

/// Right traces upwards, wrong ones downwards, each as a share of their kind. `None` where there are not
/// both.
pub(crate) fn histogram(facts: &ScoreFacts) -> Option<Frame> {
    let h = facts.histogram.as_ref()?;
    let (right, wrong): (u64, u64) = (h.right.iter().sum(), h.wrong.iter().sum());
    if right == 0 || wrong == 0 {
        return None;
    }
    let (up, down) = (
        h.right.iter().map(|n| *n as f64 / right as f64),
        h.wrong.iter().map(|n| *n as f64 / wrong as f64),
    );
    let most = up.chain(down).fold(0.0, f64::max);
    let mut y = Scale::linear([-most * 100.0, most * 100.0], 6);
    // both directions count upwards from nothing
    for tick in &mut y.ticks {
        tick.label = tick.label.replace('\u{2212}', "");
    }
    let auroc = facts.auroc.as_ref().map(|a| {
        format!(
            "AUROC {:.2}{}",
            a.mean,
            a.interval.map_or_else(String::new, |i| format!(
                " [{}]",
                between(Some(i), |x| format!("{x:.2}"))
            ))
        )
    });
    let mut legend = vec![
        (
            LegendMark::Box(ColourRole::Right),
            format!("right: {}", count(right as f64)),
        ),
        (
            LegendMark::Box(ColourRole::Wrong),
            format!("wrong: {}", count(wrong as f64)),
        ),
    ];
    legend.extend(auroc.clone().map(|a| (LegendMark::None, a)));
    let mut frame = Frame::new(
        &format!("Right and wrong traces by {}", facts.score),
        &format!(
            "share of the right traces upwards, of the wrong ones downwards{}",
            auroc.map_or_else(String::new, |a| format!("; within problems {a}"))
        ),
        Axis {
            name: facts.score,
            scale: Scale::linear(h.edges.iter().copied(), 8),
        },
        Axis {
            name: "% of its kind: wrong below, right above",
            scale: y,
        },
        &legend,
    );
    let zero = frame.y.at(0.0)?;
    for (i, edges) in h.edges.windows(2).enumerate() {
        for (n, all, role, sign, kind) in [
            (h.right[i], right, ColourRole::Right, 1.0, "right"),
            (h.wrong[i], wrong, ColourRole::Wrong, -1.0, "wrong"),
        ] {
            if n == 0 {
                continue;
            }
            let share = n as f64 / all as f64;
            let (Some((from, end)), Some(to)) =
                (frame.at(edges[0], sign * share * 100.0), frame.x.at(edges[1]))
            else {
                continue;
            };
            let bar = Outline::Rect {
                x: from + 0.5,
                y: end.min(zero),
                width: (to - from - 1.0).max(0.5),
                height: (end - zero).abs().max(0.5),
            };
            let tip = format!(
                "{} {:.2} to {:.2}\n{}, {} of them",
                facts.score,
                edges[0],
                edges[1],
                plural(n, &format!("{kind} trace")),
                percent(share)
            );
            frame.scene.mark(bar, Paint::fill(role), tip);
        }
    }
    frame.scene.line(
        (frame.left, zero),
        (frame.right, zero),
        Paint::line(ColourRole::Axis, 1.2),
    );
    Some(frame)
}

/// Share right by rank of a score. `None` with fewer than two bins.
pub(crate) fn by_rank(facts: &ScoreFacts) -> Option<Frame> {
    if facts.by_rank.len() < 2 {
        return None;
    }
    let mut frame = Frame::new(
        &format!("Share right by rank of {}", facts.score),
        "traces from the lowest to the highest score in bins of equal count, each with its share of right \
         ones",
        Axis {
            name: "% of the traces, from the lowest score to the highest",
            scale: Scale::between(0.0, 100.0, 5),
        },
        Axis {
            name: "right, %",
            scale: Scale::between(0.0, 100.0, 5),
        },
        &[],
    );
    let all: usize = facts.by_rank.iter().map(|b| b.count).sum();
    let mut before = 0;
    let mut points = Vec::new();
    for bin in &facts.by_rank {
        let middle = (before as f64 + bin.count as f64 / 2.0) / all as f64 * 100.0;
        before += bin.count;
        points.extend(frame.at(middle, bin.right * 100.0).map(|p| (p, bin)));
    }
    frame.scene.draw(
        Outline::Line(points.iter().map(|p| p.0).collect()),
        Paint::line(ColourRole::Series(0), 2.0),
    );
    for (point, bin) in points {
        whisker(&mut frame, point.0, bin.interval.low, bin.interval.high);
        let tip = format!(
            "{} {:.2} to {:.2}\n{} of {} right\nif traces were independent {}",
            facts.score,
            bin.low,
            bin.high,
            percent(bin.right),
            plural(bin.count as u64, "trace"),
            between(Some(bin.interval), percent)
        );
        frame.scene.mark(
            Outline::Circle {
                centre: point,
                radius: 5.0,
            },
            Paint::fill(ColourRole::Series(0)).outlined(ColourRole::Surface, 1.2),
            tip,
        );
    }
    Some(frame)
}

/// Winners by their share of the vote, against the share of them that is right.
pub(crate) fn reliability(facts: &ReliabilityFacts) -> Option<Frame> {
    let bins = &facts.diagram.bins;
    let all: usize = bins.iter().map(|b| b.count).sum();
    let legend = [
        (
            LegendMark::Line(ColourRole::Unknown, Dash::Dashed),
            "means what it says".to_owned(),
        ),
        (
            LegendMark::Dot(ColourRole::Series(0)),
            "winners, larger where more".to_owned(),
        ),
        (
            LegendMark::None,
            format!("calibration error {:.3}", facts.diagram.calibration_error),
        ),
        (
            LegendMark::None,
            format!("Brier score {:.3}", facts.diagram.brier),
        ),
    ];
    let mut frame = Frame::new(
        "How often a winner is right, by its share of the vote",
        &format!(
            "{}; {all} problems, expected calibration error {:.3}",
            facts.of, facts.diagram.calibration_error
        ),
        Axis {
            name: "the winner\u{2019}s share of the vote, %",
            scale: Scale::between(0.0, 100.0, 5),
        },
        Axis {
            name: "right, %",
            scale: Scale::between(0.0, 100.0, 5),
        },
        &legend,
    );
    if let (Some(from), Some(to)) = (frame.at(0.0, 0.0), frame.at(100.0, 100.0)) {
        frame.scene.line(
            from,
            to,
            Paint::line(ColourRole::Unknown, 1.5).dashed(Dash::Dashed),
        );
    }
    let most = bins.iter().map(|b| b.count).max()? as f64;
    for bin in bins {
        let Some(point) = frame.at(bin.score * 100.0, bin.right * 100.0) else {
            continue;
        };
        whisker(&mut frame, point.0, bin.interval.low, bin.interval.high);
        let radius = 4.0 + 7.0 * (bin.count as f64 / most).sqrt();
        let tip = format!(
            "share {:.0} to {:.0}%, mean {}\n{} of {} right\nother problems {}",
            bin.low * 100.0,
            bin.high * 100.0,
            percent(bin.score),
            percent(bin.right),
            plural(bin.count as u64, "problem"),
            between(Some(bin.interval), percent)
        );
        frame.scene.mark(
            Outline::Circle {
                centre: point,
                radius,
            },
            Paint::fill(ColourRole::Series(0)).outlined(ColourRole::Surface, 1.2),
            tip,
        );
    }
    Some(frame)
}

fn whisker(frame: &mut Frame, x: f64, low: f64, high: f64) {
    if let (Some(low), Some(high)) = (frame.y.at(low * 100.0), frame.y.at(high * 100.0)) {
        let paint = Paint::line(ColourRole::Series(0), 1.4).faint(0.6);
        frame.scene.line((x, low), (x, high), paint);
        for y in [low, high] {
            frame.scene.line((x - 4.0, y), (x + 4.0, y), paint);
        }
    }
}
