//! What accuracy costs: against tokens, and against traces.

use tts_evals::stats::Interval;

use super::drawing::Drawing;
use super::frame::{Axis, Frame, HEIGHT, LegendMark, WIDTH};
use super::scale::Scale;
use super::scene::{ColourRole, Dash, Outline, Paint, Part, marker};
use crate::report::figures::{between, count, percent};
use crate::report::results::{Accuracy, Arm, Basis, PassAt};
use crate::report::summary::curves;

/// Series beyond which bands would hide each other.
const WIDE: usize = 4;

/// What is on the horizontal axis.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CostAxis {
    Tokens,
    Traces,
}

impl CostAxis {
    fn value(self, arm: &Arm) -> f64 {
        match self {
            Self::Tokens => arm.tokens,
            Self::Traces => arm.budget as f64,
        }
    }
}

/// Accuracy of every series, with bands, the ceiling, and against tokens the front. `None` without an
/// accuracy.
pub(crate) fn tradeoff(
    arms: &[Arm],
    ceiling: &[PassAt],
    against: CostAxis,
    drawing: &Drawing,
    on_a_page: bool,
) -> Option<Frame> {
    let every = curves(arms);
    let (shown, further) = (drawing.shown(&every), drawing.further(&every));
    let drawn = |i: &usize| shown.contains(i) || (on_a_page && further.contains(i));
    let off: Vec<bool> = (0..every.len())
        .filter(drawn)
        .map(|i| !shown.contains(&i))
        .collect();
    let hidden = every.len() - off.len();
    let curves: Vec<_> = every
        .into_iter()
        .enumerate()
        .filter(|(i, _)| drawn(i))
        .map(|(_, curve)| curve)
        .collect();
    if curves.is_empty() {
        return None;
    }
    let bands = !drawing.no_bands && curves.len() <= WIDE;
    let (title, name) = match against {
        CostAxis::Tokens => ("Accuracy against tokens", "generated tokens a problem"),
        CostAxis::Traces => ("Accuracy against traces", "traces a problem, at most"),
    };
    let all = || curves.iter().flat_map(|(_, arms)| arms.iter());
    let spread = |a: &Arm| a.accuracy.and_then(|x| x.problems.filter(|_| bands));
    let values = all().flat_map(|a| {
        let mean = a.accuracy.map(|x| x.mean);
        mean.into_iter()
            .chain(spread(a).into_iter().flat_map(|b| [b.low, b.high]))
    });
    let budgets = all()
        .filter(|_| against == CostAxis::Traces)
        .map(|a| a.budget as f64);
    let x = all().map(|a| against.value(a)).chain(ceiling.iter().map(|c| {
        if against == CostAxis::Tokens {
            c.tokens
        } else {
            c.k as f64
        }
    }));
    let y = percents(values.chain(ceiling.iter().map(|c| c.pass)));
    let mut legend: Vec<(LegendMark, String)> = curves
        .iter()
        .enumerate()
        .map(|(i, (series, _))| {
            let mark = match on_a_page {
                true => LegendMark::Switch(i, off[i]),
                false => LegendMark::Series(i),
            };
            (mark, crate::report::escape::one_line(series))
        })
        .collect();
    let fronted = against == CostAxis::Tokens && all().filter(|a| a.pareto).count() > 1;
    if fronted {
        legend.push((
            LegendMark::Line(ColourRole::Text, Dash::Dotted),
            "front: none better for less".to_owned(),
        ));
    }
    if !ceiling.is_empty() {
        legend.push((
            LegendMark::Line(ColourRole::Unknown, Dash::Dashed),
            "pass@k, the ceiling".to_owned(),
        ));
    }
    if hidden > 0 {
        legend.push((LegendMark::None, format!("{hidden} more: --series")));
    }
    let best = all()
        .filter(|a| a.pareto)
        .max_by(|a, b| against.value(a).total_cmp(&against.value(b)));
    let narrow = all().any(|a| a.accuracy.is_some_and(|x| x.traces.is_some()));
    let said_of_bands = match (bands, narrow) {
        (true, true) => {
            "wide bands: 95% over other problems; narrow bands: over other draws of traces for these problems"
        }
        (true, false) => "bands: 95% over other problems",
        (false, _) => "no bands: 95% over other problems and over other traces are in the table",
    };
    let description = format!(
        "{}; {said_of_bands}{}",
        if curves.len() == 1 {
            "one series".to_owned()
        } else {
            format!("{} series", curves.len())
        },
        best.and_then(|a| Some(format!(
            ". At the top: {} with {}",
            a.series,
            percent(a.accuracy?.mean)
        )))
        .unwrap_or_default()
    );
    let (width, height) = match drawing.size {
        Some((width, height)) => (f64::from(width), f64::from(height)),
        None => (WIDTH, HEIGHT),
    };
    let mut frame = Frame::sized(
        (width, height),
        drawing.title.as_deref().unwrap_or(title),
        &description,
        Axis {
            name,
            scale: Scale::log(x).marked(budgets),
        },
        Axis {
            name: "accuracy, %",
            scale: y,
        },
        &legend,
    );
    for (i, (_, arms)) in curves.iter().enumerate().filter(|_| bands) {
        frame.scene.part(Part::Series {
            index: i,
            off: off[i],
        });
        band(&mut frame, i, arms, against, |a| a.problems, 0.1);
        band(&mut frame, i, arms, against, |a| a.traces, 0.18);
        frame.scene.end();
    }
    if !ceiling.is_empty() {
        let points: Vec<_> = ceiling
            .iter()
            .filter_map(|c| {
                frame.at(
                    if against == CostAxis::Tokens {
                        c.tokens
                    } else {
                        c.k as f64
                    },
                    c.pass * 100.0,
                )
            })
            .collect();
        frame.scene.draw(
            Outline::Line(points.clone()),
            Paint::line(ColourRole::Unknown, 1.5).dashed(Dash::Dashed),
        );
        for (point, c) in points.into_iter().zip(ceiling) {
            frame.scene.mark(
                Outline::Circle {
                    centre: point,
                    radius: 3.0,
                },
                Paint::fill(ColourRole::Surface).outlined(ColourRole::Unknown, 1.5),
                format!("pass@{}: {}\n{} tokens", c.k, percent(c.pass), count(c.tokens)),
            );
        }
    }
    if fronted {
        front(&mut frame, all().copied());
    }
    for (i, (_, arms)) in curves.iter().enumerate() {
        frame.scene.part(Part::Series {
            index: i,
            off: off[i],
        });
        line(&mut frame, i, arms, against);
        frame.scene.end();
    }
    Some(frame)
}

/// An axis of per cent that holds these shares with a little room, never beyond 0 and 100.
fn percents(shares: impl Iterator<Item = f64>) -> Scale {
    let shares: Vec<f64> = shares.filter(|s| s.is_finite()).map(|s| s * 100.0).collect();
    let low = shares.iter().copied().fold(100.0, f64::min);
    let high = shares.iter().copied().fold(0.0, f64::max);
    let (low, high) = if low <= high { (low, high) } else { (0.0, 100.0) };
    let wide = Scale::linear([low, high], 6);
    Scale::between(wide.low().clamp(0.0, 95.0), wide.high().clamp(5.0, 100.0), 6)
}

/// The band of one source of spread; whiskers where a series has a single arm.
fn band(
    frame: &mut Frame,
    i: usize,
    arms: &[&Arm],
    against: CostAxis,
    of: fn(&Accuracy) -> Option<Interval>,
    opacity: f64,
) {
    let ends: Vec<(f64, Interval)> = arms
        .iter()
        .filter_map(|a| Some((against.value(a), of(a.accuracy.as_ref()?)?)))
        .collect();
    let side = |of: fn(&Interval) -> f64, frame: &Frame| -> Vec<(f64, f64)> {
        ends.iter()
            .filter_map(|(x, band)| frame.at(*x, of(band) * 100.0))
            .collect()
    };
    let (upper, lower) = (side(|b| b.high, frame), side(|b| b.low, frame));
    match (upper.as_slice(), lower.as_slice()) {
        ([up], [down]) => {
            let paint = Paint::line(ColourRole::Series(i), 1.4).faint(0.75);
            frame.scene.line(*up, *down, paint);
            for (x, y) in [*up, *down] {
                frame.scene.line((x - 4.0, y), (x + 4.0, y), paint);
            }
        }
        ([_, ..], [_, ..]) => {
            let mut outline = upper;
            outline.extend(lower.into_iter().rev());
            frame.scene.draw(
                Outline::Polygon(outline),
                Paint::fill(ColourRole::Series(i)).faint(opacity),
            );
        }
        _ => {}
    }
}

fn line(frame: &mut Frame, i: usize, arms: &[&Arm], against: CostAxis) {
    let points: Vec<((f64, f64), &Arm)> = arms
        .iter()
        .filter_map(|a| Some((frame.at(against.value(a), a.accuracy?.mean * 100.0)?, *a)))
        .collect();
    if points.len() > 1 {
        frame.scene.draw(
            Outline::Line(points.iter().map(|p| p.0).collect()),
            Paint::line(ColourRole::Series(i), 2.0).dashed(Dash::of(i)),
        );
    }
    for (point, arm) in points {
        frame
            .scene
            .mark(marker(i, point, 5.0), Paint::marker(i, 1.2), said(arm));
    }
}

/// The arms that no other beats, by steps: between two of them there is nothing better than the first.
fn front<'a>(frame: &mut Frame, arms: impl Iterator<Item = &'a Arm>) {
    let mut best: Vec<&Arm> = arms.filter(|a| a.pareto).collect();
    best.sort_by(|a, b| a.tokens.total_cmp(&b.tokens));
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for arm in best {
        let Some(point) = arm.accuracy.and_then(|a| frame.at(arm.tokens, a.mean * 100.0)) else {
            continue;
        };
        if let Some((_, y)) = steps.last().copied() {
            steps.push((point.0, y));
        }
        steps.push(point);
    }
    frame.scene.draw(
        Outline::Line(steps),
        Paint::line(ColourRole::Text, 1.4).dashed(Dash::Dotted).faint(0.7),
    );
}

/// Everything about an arm.
pub(crate) fn said(arm: &Arm) -> String {
    let mut lines = vec![format!(
        "{}, {} traces",
        crate::report::escape::one_line(&arm.series),
        arm.budget
    )];
    if let Some(a) = arm.accuracy {
        lines.push(format!("accuracy {} of {} problems", percent(a.mean), arm.graded));
        if let Some(band) = a.problems {
            lines.push(format!("other problems {}", between(Some(band), percent)));
        }
        if let Some(band) = a.traces {
            lines.push(format!("other traces {}", between(Some(band), percent)));
        }
    }
    lines.push(format!("{} tokens a problem", count(arm.tokens)));
    if let Some(saved) = arm.saved {
        lines.push(if saved >= 0.0 {
            format!("{} fewer than majority", percent(saved))
        } else {
            format!("{} more than majority", percent(-saved))
        });
    }
    lines.push(match arm.basis {
        Basis::Live => "decided live".to_owned(),
        Basis::Replayed => format!("replayed, {} draws", arm.resamples),
        Basis::Counted => format!("votes counted, {} draws", arm.resamples),
    });
    lines.join("\n")
}
