//! Plots: scenes of shapes, written as SVG and painted as PNG.

mod calibration;
mod drawing;
mod fates;
mod font;
mod frame;
mod png;
mod scale;
mod scene;
mod svg;
mod traces;
mod tradeoff;

use super::results::Report;
use super::results::Timeline;
use super::summary::largest;
pub use drawing::{Drawing, SeriesChoice};
pub use scene::Theme;
use scene::{ColourRole, Scene};
use tradeoff::CostAxis;

/// A plot of a report.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What its files are called.
    pub name: String,
    scene: Scene,
}

impl Plot {
    /// What it shows, in a few words.
    pub fn title(&self) -> &str {
        &self.scene.title
    }

    /// What it shows, in a sentence.
    pub fn description(&self) -> &str {
        &self.scene.description
    }

    /// An SVG file: light, or dark where its reader prefers that. Values show when they are pointed at.
    pub fn svg(&self) -> String {
        svg::file(&self.scene)
    }

    /// A PNG file; `None` for a picture that is too large.
    pub fn png(&self, theme: Theme) -> Option<Vec<u8>> {
        png::paint(&self.scene, theme)
    }

    /// A part of a page.
    pub(super) fn inline(&self) -> String {
        svg::inline(&self.scene)
    }
}

/// The colours of a theme as style rules of a page.
pub(super) fn colours(theme: Theme) -> String {
    let rule = |(role, class): (ColourRole, &str)| format!("--{class}:#{:06x};", role.colour(theme));
    ColourRole::ALL.into_iter().map(rule).collect()
}

/// The rules that give shapes these colours.
pub(super) fn classes() -> String {
    let rule = |(_, class): (ColourRole, &str)| {
        format!(".f-{class}{{fill:var(--{class})}}.k-{class}{{stroke:var(--{class})}}")
    };
    ColourRole::ALL.into_iter().map(rule).collect()
}

impl Report {
    /// The plots that there is something to draw in.
    pub fn plots(&self) -> Vec<Plot> {
        self.drawn(false)
    }

    /// The plots; those of accuracy hold what a page can switch on, too.
    pub(super) fn drawn(&self, on_a_page: bool) -> Vec<Plot> {
        let tradeoff = |against| {
            let frame = tradeoff::tradeoff(&self.arms, &self.pass_at, against, &self.drawing, on_a_page)?;
            Some(frame.scene)
        };
        let mut plots: Vec<(String, Option<Scene>)> = vec![
            ("accuracy-tokens".to_owned(), tradeoff(CostAxis::Tokens)),
            ("accuracy-traces".to_owned(), tradeoff(CostAxis::Traces)),
            ("fates".to_owned(), fates::fates(&largest(&self.arms))),
            (
                "reliability".to_owned(),
                self.reliability
                    .as_ref()
                    .and_then(calibration::reliability)
                    .map(|f| f.scene),
            ),
        ];
        for facts in &self.scores {
            let name = facts.score.replace(' ', "-");
            plots.push((
                format!("scores-{name}"),
                calibration::histogram(facts).map(|f| f.scene),
            ));
            plots.push((
                format!("rank-{name}"),
                calibration::by_rank(facts).map(|f| f.scene),
            ));
        }
        let plots = plots
            .into_iter()
            .filter_map(|(name, scene)| Some(Plot { name, scene: scene? }));
        plots.chain(self.timeline.iter().flat_map(of_traces)).collect()
    }
}

/// The plots of one problem's traces.
pub(super) fn of_traces(timeline: &Timeline) -> Vec<Plot> {
    let plots = [
        ("traces-confidence", traces::confidence(timeline)),
        ("traces-steps", traces::lanes(timeline)),
    ];
    let plot = |(name, frame): (&str, Option<frame::Frame>)| {
        Some(Plot {
            name: name.to_owned(),
            scene: frame?.scene,
        })
    };
    plots.into_iter().filter_map(plot).collect()
}
