//! Where the tokens went: a bar a strategy, in the order of a trace's life.

use super::font;
use super::frame::{SMALL, TITLE, fitted};
use super::scale::Scale;
use super::scene::{Anchor, ColourRole, Outline, Paint, Scene};
use crate::report::escape::one_line;
use crate::report::figures::{count, percent, plural};
use crate::report::results::Arm;

/// The colours of the fates, in the order of [`crate::report::results::MeanFates::each`].
pub(crate) const INKS: [ColourRole; 6] = [
    ColourRole::Warmup,
    ColourRole::Finished,
    ColourRole::Stopped,
    ColourRole::Cancelled,
    ColourRole::Truncated,
    ColourRole::Failed,
];
const WIDTH: f64 = 860.0;
const ROW: f64 = 38.0;
const BAR: f64 = 22.0;

/// Tokens by fate of each arm. `None` without arms.
pub(crate) fn fates(arms: &[&Arm]) -> Option<Scene> {
    let most = arms.iter().map(|a| a.tokens).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let used: Vec<usize> = (0..6)
        .filter(|i| arms.iter().any(|a| a.token_fates.each()[*i].1 > 0.0))
        .collect();
    let height = 88.0 + ROW * arms.len() as f64 + 52.0;
    let title = "Tokens by fate";
    let mut scene = Scene::new(
        WIDTH,
        height,
        title,
        "generated tokens a problem, each counted once by the fate of its trace",
    );
    scene.text((20.0, 32.0), title, TITLE, Anchor::Start, ColourRole::Text);
    let mut x = 20.0;
    for i in &used {
        let name = arms[0].token_fates.each()[*i].0;
        legend(&mut scene, x, INKS[*i], name);
        x += font::width(name, SMALL) + 44.0;
    }
    let names: Vec<String> = arms
        .iter()
        .map(|a| fitted(&format!("{} @{}", one_line(&a.series), a.budget), 250.0))
        .collect();
    let left = 34.0 + names.iter().map(|n| font::width(n, SMALL)).fold(0.0, f64::max);
    let right = WIDTH - 86.0;
    let scale = Scale::linear([0.0, most], 6).over(left, right);
    let (top, bottom) = (88.0, 88.0 + ROW * arms.len() as f64);
    for tick in &scale.ticks {
        let Some(x) = scale.at(tick.value) else { continue };
        scene.line((x, top), (x, bottom), Paint::line(ColourRole::Grid, 1.0));
        scene.text(
            (x, bottom + 19.0),
            &tick.label,
            SMALL,
            Anchor::Middle,
            ColourRole::Muted,
        );
    }
    scene.text(
        (f64::midpoint(left, right), height - 14.0),
        "generated tokens a problem",
        SMALL,
        Anchor::Middle,
        ColourRole::Muted,
    );
    for (row, (arm, name)) in arms.iter().zip(&names).enumerate() {
        let y = top + ROW * row as f64 + (ROW - BAR) / 2.0;
        scene.text(
            (left - 12.0, y + BAR / 2.0 + 4.0),
            name,
            SMALL,
            Anchor::End,
            ColourRole::Text,
        );
        let (mut from, mut booked) = (left, 0.0);
        for (i, ((fate, tokens), (_, traces))) in arm
            .token_fates
            .each()
            .into_iter()
            .zip(arm.trace_fates.each())
            .enumerate()
        {
            booked += tokens;
            let to = scale.at(booked).unwrap_or(from);
            if tokens > 0.0 {
                let bar = Outline::Rect {
                    x: from,
                    y,
                    width: (to - from).max(0.5),
                    height: BAR,
                };
                let share = percent(tokens / arm.tokens);
                let tip = format!(
                    "{name}\n{fate}: {} tokens, {share}\n{}",
                    count(tokens),
                    plural_mean(traces)
                );
                scene.mark(bar, Paint::fill(INKS[i]).outlined(ColourRole::Surface, 1.0), tip);
            }
            from = to;
        }
        scene.text(
            (from + 8.0, y + BAR / 2.0 + 4.0),
            &count(arm.tokens),
            SMALL,
            Anchor::Start,
            ColourRole::Muted,
        );
    }
    Some(scene)
}

fn plural_mean(traces: f64) -> String {
    if (traces - traces.round()).abs() < 1e-9 {
        plural(traces as u64, "trace")
    } else {
        format!("{} traces", count(traces))
    }
}

/// An entry of the legend above the bars.
pub(crate) fn legend(scene: &mut Scene, x: f64, role: ColourRole, name: &str) {
    let sign = Outline::Rect {
        x,
        y: 52.0,
        width: 14.0,
        height: 13.0,
    };
    scene.draw(sign, Paint::fill(role));
    scene.text((x + 21.0, 63.0), name, SMALL, Anchor::Start, ColourRole::Text);
}
