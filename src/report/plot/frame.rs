//! What every plot has: a title, two axes with a grid, and a legend.

use super::font;
use super::scale::Scale;
use super::scene::{Anchor, ColourRole, Dash, Label, Outline, Paint, Part, Scene, SceneItem, marker};

/// Size of a title's text, in pixels.
pub(crate) const TITLE: f64 = 17.0;
pub(crate) const SMALL: f64 = 12.0;
pub(crate) const WIDTH: f64 = 860.0;
pub(crate) const HEIGHT: f64 = 460.0;
/// Width in pixels that a legend may take at most.
const LEGEND: f64 = 250.0;

/// An axis and what it counts.
pub(crate) struct Axis<'a> {
    pub(crate) name: &'a str,
    pub(crate) scale: Scale,
}

/// What a legend shows beside a name.
#[derive(Clone, Copy)]
pub(crate) enum LegendMark {
    /// the marker and line of a series
    Series(usize),
    /// the same of one that a page switches, on or off at first
    Switch(usize, bool),
    Line(ColourRole, Dash),
    Box(ColourRole),
    Dot(ColourRole),
    /// nothing: a remark
    None,
}

/// A scene with axes.
pub(crate) struct Frame {
    pub(crate) scene: Scene,
    pub(crate) x: Scale,
    pub(crate) y: Scale,
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
}

impl Frame {
    /// Draws title, grid, axes and legend.
    pub(crate) fn new(
        title: &str,
        description: &str,
        x: Axis<'_>,
        y: Axis<'_>,
        legend: &[(LegendMark, String)],
    ) -> Self {
        Self::sized((WIDTH, HEIGHT), title, description, x, y, legend)
    }

    pub(crate) fn sized(
        (width, height): (f64, f64),
        title: &str,
        description: &str,
        x: Axis<'_>,
        y: Axis<'_>,
        legend: &[(LegendMark, String)],
    ) -> Self {
        // no name of a long legend is cut off
        let height = height.max(70.0 + 21.0 * legend.len() as f64);
        let mut scene = Scene::new(width, height, title, description);
        scene.text((20.0, 32.0), title, TITLE, Anchor::Start, ColourRole::Text);
        let widest = y
            .scale
            .ticks
            .iter()
            .map(|t| font::width(&t.label, SMALL))
            .fold(0.0, f64::max);
        let indent = |sign: &LegendMark| {
            if matches!(sign, LegendMark::None) {
                -32.0
            } else {
                0.0
            }
        };
        let named = legend
            .iter()
            .map(|(sign, name)| font::width(name, SMALL) + indent(sign))
            .fold(0.0, f64::max)
            .min(LEGEND);
        let (left, top, bottom) = (40.0 + widest, 56.0, height - 58.0);
        let right = if legend.is_empty() {
            width - 28.0
        } else {
            width - named - 66.0
        };
        let mut frame = Self {
            scene,
            x: x.scale.over(left, right),
            y: y.scale.over(bottom, top),
            left,
            right,
            top,
            bottom,
        };
        frame.grid();
        frame.scene.text(
            (f64::midpoint(left, right), height - 16.0),
            x.name,
            SMALL,
            Anchor::Middle,
            ColourRole::Muted,
        );
        frame.scene.items.push(SceneItem::Label(Label {
            at: (22.0, f64::midpoint(top, bottom)),
            text: y.name.to_owned(),
            size: SMALL,
            anchor: Anchor::Middle,
            role: ColourRole::Muted,
            upwards: true,
        }));
        for (i, (sign, name)) in legend.iter().enumerate() {
            frame.entry(right + 24.0, top + 8.0 + 21.0 * i as f64, *sign, name);
        }
        frame
    }

    fn grid(&mut self) {
        let mut last = f64::NEG_INFINITY;
        for tick in &self.x.ticks {
            let Some(x) = self.x.at(tick.value) else { continue };
            let faint = if tick.label.is_empty() { 0.5 } else { 1.0 };
            self.scene.line(
                (x, self.top),
                (x, self.bottom),
                Paint::line(ColourRole::Grid, 1.0).faint(faint),
            );
            // a label that would run into the one before it is left out
            let half = font::width(&tick.label, SMALL) / 2.0;
            if !tick.label.is_empty() && x - half > last + 6.0 {
                self.scene.text(
                    (x, self.bottom + 19.0),
                    &tick.label,
                    SMALL,
                    Anchor::Middle,
                    ColourRole::Muted,
                );
                last = x + half;
            }
        }
        for tick in &self.y.ticks {
            let Some(y) = self.y.at(tick.value) else { continue };
            self.scene.line(
                (self.left, y),
                (self.right, y),
                Paint::line(ColourRole::Grid, 1.0),
            );
            self.scene.text(
                (self.left - 9.0, y + 4.0),
                &tick.label,
                SMALL,
                Anchor::End,
                ColourRole::Muted,
            );
        }
        self.scene.line(
            (self.left, self.bottom),
            (self.right, self.bottom),
            Paint::line(ColourRole::Axis, 1.2),
        );
    }

    fn entry(&mut self, x: f64, y: f64, sign: LegendMark, name: &str) {
        if let LegendMark::Switch(index, off) = sign {
            self.scene.part(Part::Switch {
                index,
                off,
                name: name.to_owned(),
            });
            // the whole entry may be clicked
            self.scene.draw(
                Outline::Rect {
                    x: x - 4.0,
                    y: y - 10.0,
                    width: 40.0 + font::width(name, SMALL).min(LEGEND),
                    height: 20.0,
                },
                Paint::fill(ColourRole::Surface),
            );
            self.entry(x, y, LegendMark::Series(index), name);
            return self.scene.end();
        }
        match sign {
            LegendMark::Switch(..) => {}
            LegendMark::Series(i) => {
                self.scene.line(
                    (x, y),
                    (x + 24.0, y),
                    Paint::line(ColourRole::Series(i), 2.0).dashed(Dash::of(i)),
                );
                self.scene
                    .draw(marker(i, (x + 12.0, y), 4.0), Paint::marker(i, 1.0));
            }
            LegendMark::Dot(role) => self.scene.draw(
                Outline::Circle {
                    centre: (x + 12.0, y),
                    radius: 3.5,
                },
                Paint::fill(role),
            ),
            LegendMark::None => {
                return self.scene.text(
                    (x, y + 4.0),
                    &fitted(name, LEGEND + 32.0),
                    SMALL,
                    Anchor::Start,
                    ColourRole::Muted,
                );
            }
            LegendMark::Line(role, dash) => {
                self.scene
                    .line((x, y), (x + 24.0, y), Paint::line(role, 2.0).dashed(dash))
            }
            LegendMark::Box(role) => self.scene.draw(
                Outline::Rect {
                    x: x + 5.0,
                    y: y - 6.5,
                    width: 14.0,
                    height: 13.0,
                },
                Paint::fill(role),
            ),
        }
        self.scene.text(
            (x + 32.0, y + 4.0),
            &fitted(name, LEGEND),
            SMALL,
            Anchor::Start,
            ColourRole::Text,
        );
    }

    /// The pixel of a point; `None` where a coordinate is no number.
    pub(crate) fn at(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        Some((self.x.at(x)?, self.y.at(y)?))
    }
}

/// The text, or its beginning where it is wider than this.
pub(crate) fn fitted(text: &str, width: f64) -> String {
    if font::width(text, SMALL) <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        if font::width(&short, SMALL) > width - 12.0 {
            break;
        }
    }
    short.push('\u{2026}');
    short
}
