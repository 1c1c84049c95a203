//! How plots of accuracy are drawn: which series, and what picture.

use std::collections::BTreeSet;

use crate::report::error::ReportError;
use crate::report::results::Arm;
use crate::report::summary::curves;

/// Series that are drawn where nobody names any: more hide each other.
const FEW: usize = 8;
/// Series that colour, marker and pattern of the line tell apart.
const MOST: usize = 16;

/// Which series plots of accuracy show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeriesChoice {
    /// All, where they are up to eight. Else those that are the best for their tokens somewhere, majority, and
    /// the most accurate, up to eight.
    #[default]
    Best,
    /// All, up to sixteen.
    All,
    /// These, by the names of their strategies or as tables name them.
    Named(Vec<String>),
}

/// How plots of accuracy are drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawing {
    /// Which series are shown.
    pub series: SeriesChoice,
    /// Whether the bands of uncertainty are left out.
    pub no_bands: bool,
    /// Width and height in pixels; 860 x 460 where nothing is said.
    pub size: Option<(u32, u32)>,
    /// A title instead of the plot's own.
    pub title: Option<String>,
}

impl Drawing {
    /// Says what cannot be drawn.
    ///
    /// # Errors
    /// A series that is not there, or more than can be told apart.
    pub(crate) fn check(&self, arms: &[Arm]) -> Result<(), ReportError> {
        let curves = curves(arms);
        let wanted = match &self.series {
            SeriesChoice::Best => return Ok(()),
            SeriesChoice::All => curves.len(),
            SeriesChoice::Named(names) => {
                let missing = names
                    .iter()
                    .find(|name| !curves.iter().any(|(series, arms)| is_named(name, series, arms)));
                if let Some(name) = missing {
                    return Err(ReportError::NoSuchSeries {
                        name: name.clone(),
                        known: curves.iter().map(|(series, _)| (*series).to_owned()).collect(),
                    });
                }
                self.shown(&curves).len()
            }
        };
        if wanted > MOST {
            return Err(ReportError::TooManySeries { wanted, most: MOST });
        }
        Ok(())
    }

    /// Which of the curves are shown, in their order.
    pub(super) fn shown(&self, curves: &[(&str, Vec<&Arm>)]) -> BTreeSet<usize> {
        let all = 0..curves.len();
        match &self.series {
            SeriesChoice::All => all.collect(),
            SeriesChoice::Named(names) => all
                .filter(|i| {
                    let (series, arms) = &curves[*i];
                    names.iter().any(|name| is_named(name, series, arms))
                })
                .collect(),
            SeriesChoice::Best if curves.len() <= FEW => all.collect(),
            SeriesChoice::Best => {
                let accuracy = |i: &usize| {
                    let means = curves[*i].1.iter().filter_map(|arm| Some(arm.accuracy?.mean));
                    means.fold(0.0, f64::max)
                };
                let has = |i: &usize, what: &dyn Fn(&Arm) -> bool| curves[*i].1.iter().any(|arm| what(arm));
                let rank = |i: &usize| {
                    if has(i, &|arm| arm.strategy == "majority") {
                        0
                    } else if has(i, &|arm| arm.pareto) {
                        1
                    } else {
                        2
                    }
                };
                let mut order: Vec<usize> = all.collect();
                order.sort_by(|a, b| rank(a).cmp(&rank(b)).then(accuracy(b).total_cmp(&accuracy(a))));
                order.into_iter().take(FEW).collect()
            }
        }
    }

    /// The others that a page has room for, to be switched on there.
    pub(super) fn further(&self, curves: &[(&str, Vec<&Arm>)]) -> BTreeSet<usize> {
        let shown = self.shown(curves);
        let others = (0..curves.len()).filter(|i| !shown.contains(i));
        others.take(MOST.saturating_sub(shown.len())).collect()
    }
}

fn is_named(name: &str, series: &str, arms: &[&Arm]) -> bool {
    series == name || arms.iter().any(|arm| arm.strategy == name)
}
