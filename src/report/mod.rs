//! Reports: what a run or a sweep found, as tables, Markdown, CSV, JSON, plots and one page. They read what
//! [`crate::run`] and [`crate::sweep`] wrote and nothing else, and the same folder always gives the same
//! report.

mod about;
mod csv;
mod error;
mod escape;
mod evidence;
mod figures;
mod files;
mod graded;
mod page;
mod plot;
mod results;
mod summary;
mod tables;
mod timeline;

use std::collections::BTreeMap;
use std::path::Path;

pub use csv::TableKind;
pub use error::ReportError;
pub use files::{PLOTS, RESULTS};
pub use plot::{Drawing, Plot, SeriesChoice, Theme};
pub use results::{
    Accuracy, Arm, BaselineComparison, Basis, CurveFacts, DataCounts, FactGroup, MeanFates, PassAt,
    ProblemRow, ReliabilityFacts, Report, SCHEMA, ScoreFacts, Timeline, TimelineTrace, Winner,
};
pub use tables::Table;

use evidence::Evidence;

use crate::run::RecordingFields;

/// What a report is to be about, beside what stands in the folder.
#[derive(Clone, Debug, Default)]
pub struct ReportOptions {
    /// The problem whose traces are shown over time; without it that is the one that shows most.
    pub problem: Option<String>,
    /// Whether [`Report::html`] is to show the traces of the other problems too, as far as they fit: every
    /// one of them is read and decided again.
    pub every_problem: bool,
    /// Right answers by problem, over those of the recording.
    pub gold: BTreeMap<String, String>,
    /// Which field is what in a recording made elsewhere.
    pub fields: RecordingFields,
    /// How plots of accuracy are drawn.
    pub drawing: Drawing,
}

impl Report {
    /// Reads a run folder, a .jsonl file of traces, or a sweep's folder.
    ///
    /// # Errors
    /// When nothing is recorded there, a file cannot be read or is of a newer layout, or there is no such
    /// problem.
    pub fn open(path: &Path, options: &ReportOptions) -> Result<Self, ReportError> {
        let mut evidence = Evidence::open(path, options)?;
        let mut warnings = std::mem::take(&mut evidence.warnings);
        let counts = summary::counts(&evidence);
        let whole = summary::is_whole(&evidence);
        if evidence.header.is_none() && whole {
            let counted = summary::counted(&evidence);
            evidence
                .decided
                .extend(counted.into_iter().map(|d| (Basis::Counted, d)));
        }
        let arms = summary::arms(&evidence.decided, &mut warnings);
        options.drawing.check(&arms)?;
        let (timeline, others) = timeline::timelines(
            &evidence,
            options.problem.as_deref(),
            options.every_problem,
            &mut warnings,
        )?;
        about::warn(&evidence, &counts, whole, &arms, &mut warnings);
        Ok(Self {
            schema: SCHEMA,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            kind: evidence.kind,
            path: path.display().to_string(),
            about: about::about(&evidence),
            counts,
            pass_at: if whole {
                summary::pass_at(&evidence.pools)
            } else {
                Vec::new()
            },
            average: summary::average(&evidence.pools).filter(|_| whole),
            comparisons: summary::comparisons(&evidence.decided, &arms),
            curves: summary::curve_facts(&arms),
            scores: evidence
                .traces
                .as_ref()
                .map(|t| summary::scores(&evidence.pools, t))
                .unwrap_or_default(),
            reliability: summary::reliable(&evidence),
            problems: summary::problems(&evidence, &arms),
            timeline,
            others,
            drawing: options.drawing.clone(),
            notes: about::notes(&counts, &arms),
            warnings,
            arms,
        })
    }
}
