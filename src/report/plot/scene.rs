//! What a plot is made of: shapes in the colours of their roles. Written as SVG or painted as PNG, both from
//! the same scene.

/// What a shape stands for; a theme gives it a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColourRole {
    /// titles and values
    Text,
    /// what is said beside them
    Muted,
    Grid,
    Axis,
    /// what a plot is drawn on
    Surface,
    /// the n-th of things that are told apart, by marker and dashes as well as by colour
    Series(usize),
    Right,
    Wrong,
    /// of an unknown kind
    Unknown,
    /// the bar of a strategy
    Bar,
    Warmup,
    Finished,
    Stopped,
    Cancelled,
    Truncated,
    Failed,
}

/// How many series have a colour of their own.
pub(crate) const SERIES: usize = 8;

/// The colours of a plot: for a light or for a dark page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// Dark marks on a light page.
    #[default]
    Light,
    /// Light marks on a dark page.
    Dark,
}

impl ColourRole {
    /// Every role with the name of its style class.
    pub(crate) const ALL: [(Self, &'static str); 23] = [
        (Self::Text, "text"),
        (Self::Muted, "muted"),
        (Self::Grid, "grid"),
        (Self::Axis, "axis"),
        (Self::Surface, "surface"),
        (Self::Series(0), "s0"),
        (Self::Series(1), "s1"),
        (Self::Series(2), "s2"),
        (Self::Series(3), "s3"),
        (Self::Series(4), "s4"),
        (Self::Series(5), "s5"),
        (Self::Series(6), "s6"),
        (Self::Series(7), "s7"),
        (Self::Right, "right"),
        (Self::Wrong, "wrong"),
        (Self::Unknown, "unknown"),
        (Self::Bar, "bar"),
        (Self::Warmup, "warmup"),
        (Self::Finished, "finished"),
        (Self::Stopped, "stopped"),
        (Self::Cancelled, "cancelled"),
        (Self::Truncated, "truncated"),
        (Self::Failed, "failed"),
    ];

    /// The name of its style class.
    pub(crate) fn class(self) -> &'static str {
        let role = if let Self::Series(i) = self {
            Self::Series(i % SERIES)
        } else {
            self
        };
        Self::ALL
            .iter()
            .find(|(known, _)| *known == role)
            .map_or("text", |(_, class)| class)
    }

    /// Its colour as `0xrrggbb`. The series keep apart for people who confuse red and green (after M. Okabe
    /// and K. Ito, 2008), and keep a contrast of 3 to the surface.
    pub(crate) fn colour(self, theme: Theme) -> u32 {
        let (light, dark) = match self {
            Self::Text => (0x202733, 0xe8e8e4),
            Self::Muted => (0x5f6875, 0x9fa6b0),
            Self::Grid => (0xe7e5df, 0x2b3038),
            Self::Axis => (0xb9b6ad, 0x4a515c),
            Self::Surface => (0xffffff, 0x171a20),
            Self::Series(i) => [
                (0x0b6bb0, 0x5ab0ee),
                (0xc8541a, 0xf28a4d),
                (0x0a876a, 0x3fc79f),
                (0x9a4f96, 0xd895d3),
                (0xa37200, 0xe8b73a),
                (0x3b8fb8, 0x8fd3f4),
                (0x4d5461, 0xb6bcc6),
                (0x7a3b2e, 0xd0917f),
            ][i % SERIES],
            Self::Right | Self::Finished => (0x0b6bb0, 0x5ab0ee),
            Self::Wrong | Self::Stopped => (0xc8541a, 0xf28a4d),
            Self::Unknown | Self::Cancelled => (0x9d9a92, 0x7b828d),
            Self::Bar => (0x202733, 0xe8e8e4),
            Self::Warmup => (0x74b3d8, 0x3d86ba),
            Self::Truncated => (0x9a4f96, 0xd895d3),
            Self::Failed => (0x33363d, 0xd5d7da),
        };
        match theme {
            Theme::Light => light,
            Theme::Dark => dark,
        }
    }
}

/// The pattern of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dash {
    #[default]
    Solid,
    Dashed,
    Dotted,
    Mixed,
}

impl Dash {
    /// Of the n-th series.
    pub(crate) fn of(series: usize) -> Self {
        [Self::Solid, Self::Dashed, Self::Mixed, Self::Dotted][(series / 2 + series / (2 * SERIES)) % 4]
    }
    /// Lengths of strokes and gaps.
    pub(crate) fn lengths(self) -> &'static [f32] {
        match self {
            Self::Solid => &[],
            Self::Dashed => &[7.0, 4.0],
            Self::Dotted => &[1.5, 3.5],
            Self::Mixed => &[8.0, 3.0, 2.0, 3.0],
        }
    }
}

/// A line around or along a shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stroke {
    pub(crate) role: ColourRole,
    pub(crate) width: f64,
    pub(crate) dash: Dash,
}

/// How a shape is painted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Paint {
    pub(crate) fill: Option<ColourRole>,
    pub(crate) stroke: Option<Stroke>,
    /// of both
    pub(crate) opacity: f64,
}

impl Paint {
    pub(crate) fn fill(role: ColourRole) -> Self {
        Self {
            fill: Some(role),
            stroke: None,
            opacity: 1.0,
        }
    }
    /// Of a series' markers: full for those that have a colour of their own, hollow for those that share it.
    pub(crate) fn marker(series: usize, width: f64) -> Self {
        let own = ColourRole::Series(series);
        if (series / SERIES).is_multiple_of(2) {
            Self::fill(own).outlined(ColourRole::Surface, width)
        } else {
            Self::fill(ColourRole::Surface).outlined(own, 1.5 * width)
        }
    }
    pub(crate) fn line(role: ColourRole, width: f64) -> Self {
        Self {
            fill: None,
            stroke: Some(Stroke {
                role,
                width,
                dash: Dash::Solid,
            }),
            opacity: 1.0,
        }
    }
    pub(crate) fn dashed(mut self, dash: Dash) -> Self {
        if let Some(stroke) = &mut self.stroke {
            stroke.dash = dash;
        }
        self
    }
    pub(crate) fn outlined(mut self, role: ColourRole, width: f64) -> Self {
        self.stroke = Some(Stroke {
            role,
            width,
            dash: Dash::Solid,
        });
        self
    }
    pub(crate) fn faint(mut self, opacity: f64) -> Self {
        self.opacity = opacity;
        self
    }
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A text on one line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Label {
    /// on its baseline
    pub(crate) at: (f64, f64),
    pub(crate) text: String,
    pub(crate) size: f64,
    pub(crate) anchor: Anchor,
    pub(crate) role: ColourRole,
    /// reads upwards
    pub(crate) upwards: bool,
}

/// The outline of a shape.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outline {
    /// open
    Line(Vec<(f64, f64)>),
    /// closed
    Polygon(Vec<(f64, f64)>),
    Rect {
        x: f64,
        y: f64,
        width: f64,
        height: f64,
    },
    Circle {
        centre: (f64, f64),
        radius: f64,
    },
}

/// An outline with its paint, and what a reader sees when pointing at it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) outline: Outline,
    pub(crate) paint: Paint,
    /// What it says when it is pointed at; lines are separated by newlines.
    pub(crate) tip: Option<String>,
}

/// A shape or a text, in the order of painting.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SceneItem {
    Shape(Shape),
    Label(Label),
    /// what follows, up to the next end, belongs together
    Begin(Part),
    End,
}

/// Items that belong together: on a page one may switch the other on and off.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// lines, marks and bands of a series
    Series { index: usize, off: bool },
    /// its entry in the legend
    Switch { index: usize, off: bool, name: String },
}

/// A picture: its size in pixels, and what is painted in it from back to front.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scene {
    pub(crate) width: f64,
    pub(crate) height: f64,
    /// what it is, for those who see it and those who do not
    pub(crate) title: String,
    /// what it shows, in a sentence
    pub(crate) description: String,
    pub(crate) items: Vec<SceneItem>,
}

impl Scene {
    pub(crate) fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        Self {
            width,
            height,
            title: title.to_owned(),
            description: description.to_owned(),
            items: Vec::new(),
        }
    }

    /// What is drawn from here to [`Self::end`] belongs together.
    pub(crate) fn part(&mut self, part: Part) {
        self.items.push(SceneItem::Begin(part));
    }
    pub(crate) fn end(&mut self) {
        self.items.push(SceneItem::End);
    }

    pub(crate) fn draw(&mut self, outline: Outline, paint: Paint) {
        self.items.push(SceneItem::Shape(Shape {
            outline,
            paint,
            tip: None,
        }));
    }

    /// A shape that says something when it is pointed at.
    pub(crate) fn mark(&mut self, outline: Outline, paint: Paint, tip: String) {
        self.items.push(SceneItem::Shape(Shape {
            outline,
            paint,
            tip: Some(tip),
        }));
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), paint: Paint) {
        self.draw(Outline::Line(vec![from, to]), paint);
    }

    pub(crate) fn text(&mut self, at: (f64, f64), text: &str, size: f64, anchor: Anchor, role: ColourRole) {
        self.items.push(SceneItem::Label(Label {
            at,
            text: text.to_owned(),
            size,
            anchor,
            role,
            upwards: false,
        }));
    }
}

/// The marker of the n-th series: eight series have markers of different shape, and where colours come again,
/// full and hollow, other markers stand beside them.
pub(crate) fn marker(series: usize, (x, y): (f64, f64), r: f64) -> Outline {
    let corners = |points: &[(f64, f64)]| {
        Outline::Polygon(points.iter().map(|(dx, dy)| (x + dx * r, y + dy * r)).collect())
    };
    match (series + series / (2 * SERIES)) % SERIES {
        0 => Outline::Circle {
            centre: (x, y),
            radius: r,
        },
        1 => corners(&[(0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)]),
        2 => corners(&[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)]),
        3 => corners(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        4 => corners(&[(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)]),
        5 => corners(&[
            (-0.4, -1.2),
            (0.4, -1.2),
            (0.4, -0.4),
            (1.2, -0.4),
            (1.2, 0.4),
            (0.4, 0.4),
            (0.4, 1.2),
            (-0.4, 1.2),
            (-0.4, 0.4),
            (-1.2, 0.4),
            (-1.2, -0.4),
            (-0.4, -0.4),
        ]),
        6 => corners(&[
            (-0.55, -1.1),
            (0.55, -1.1),
            (1.15, 0.0),
            (0.55, 1.1),
            (-0.55, 1.1),
            (-1.15, 0.0),
        ]),
        _ => corners(&[(-1.3, -0.55), (1.3, -0.55), (1.3, 0.55), (-1.3, 0.55)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_of_a_hundred_series_look_alike() {
        let looks: Vec<_> = (0..100)
            .map(|i| {
                let fill = Paint::marker(i, 1.0).fill;
                (
                    ColourRole::Series(i).colour(Theme::Light),
                    marker(i, (0.0, 0.0), 1.0),
                    fill == Some(ColourRole::Surface),
                )
            })
            .collect();
        for (i, look) in looks.iter().enumerate() {
            assert!(!looks[..i].contains(look), "series {i}");
        }
    }
}
