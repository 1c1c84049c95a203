//! `tts report`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::report::{Drawing, PLOTS, RESULTS, Report, ReportOptions, SeriesChoice, TableKind, Theme};
use anyhow::anyhow;
use clap::Args;

use super::ExitStatus;
use super::printer::Printer;
use super::recordings::NamedFields;
use super::table::{drawn_within, wrapped};
use super::task::dataset;

#[derive(Args)]
pub(crate) struct ReportArgs {
    /// A run folder, a .jsonl file of traces, or a sweep's folder
    #[arg(value_name = "RUN|SWEEP")]
    path: PathBuf,
    /// Writes one page with everything in it, for a browser: also every problem's traces, as far as 16 MiB go
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Where every plot is written as SVG and PNG [default: plots/ in the folder, where results.json is
    /// written too]
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Whether PNG files are light or dark (SVG files are both)
    #[arg(
        long,
        value_name = "light|dark",
        default_value = "light",
        hide_default_value = true,
        value_parser = theme
    )]
    theme: Theme,
    /// Series that plots of accuracy show, by the names of their strategies, or all [default: up to eight: those that
    /// are best for their tokens, majority, the most accurate]
    #[arg(long, value_name = "NAME,...|all", value_delimiter = ',')]
    series: Vec<String>,
    /// Leaves the bands of uncertainty out of plots of accuracy
    #[arg(long)]
    no_bands: bool,
    /// Width and height of plots of accuracy, in pixels [default: 860x460]
    #[arg(long, value_name = "WxH", value_parser = size)]
    size: Option<(u32, u32)>,
    /// A title for plots of accuracy
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// The problem whose traces are shown over time [default: the one that shows most]
    #[arg(long, value_name = "ID")]
    problem: Option<String>,
    /// The set of problems that was recorded, for its right answers: a file, or a task of `tts list tasks`
    #[arg(long, value_name = "FILE|TASK")]
    data: Option<String>,
    /// Which field is what: of the set question=NAME, answer=NAME or id=NAME; of a recording made elsewhere
    /// answers=NAME, gold=NAME, tokens=NAME, confidence=NAME, text=NAME, and without --data also answer=NAME
    /// or id=NAME
    #[arg(long, value_name = "ROLE=NAME")]
    field: Vec<String>,
    /// Prints Markdown
    #[arg(long, conflicts_with_all = ["csv", "json"])]
    markdown: bool,
    /// Prints a table as CSV: strategies, comparisons, scores, pass-at-k, problems or traces
    #[arg(
        long,
        value_name = "TABLE",
        num_args = 0..=1,
        default_missing_value = "strategies",
        conflicts_with = "json",
        value_parser = table
    )]
    csv: Option<TableKind>,
}

fn theme(name: &str) -> Result<Theme, String> {
    match name {
        "light" => Ok(Theme::Light),
        "dark" => Ok(Theme::Dark),
        _ => Err("it is light or dark".to_owned()),
    }
}

/// A picture that holds its axes and can be painted.
fn size(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('x');
    let numbers = parts.and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    numbers
        .filter(|(width, height)| (480..=4000).contains(width) && (280..=4000).contains(height))
        .ok_or_else(|| "it is a width of 480 to 4000 and a height of 280 to 4000, as 1200x700".to_owned())
}

fn table(name: &str) -> Result<TableKind, String> {
    let known = TableKind::ALL;
    known
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, kind)| *kind)
        .ok_or_else(|| format!("it is one of {}", known.map(|k| k.0).join(", ")))
}

pub(crate) fn run(args: &ReportArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let fields = NamedFields::of(&args.field, args.data.is_some())?;
    let gold = match &args.data {
        Some(name) => dataset(name, &fields.set, printer)?.gold(),
        None => BTreeMap::new(),
    };
    let options = ReportOptions {
        problem: args.problem.clone(),
        every_problem: args.html.is_some(),
        gold,
        fields: fields.recording,
        drawing: Drawing {
            series: match &args.series[..] {
                [] => SeriesChoice::Best,
                [all] if all == "all" => SeriesChoice::All,
                names => SeriesChoice::Named(names.to_vec()),
            },
            no_bands: args.no_bands,
            size: args.size,
            title: args.title.clone(),
        },
    };
    let report = Report::open(&args.path, &options)?;
    if let Some(file) = &args.html {
        std::fs::write(file, report.html())
            .map_err(|e| anyhow!("{} cannot be written: {e}", file.display()))?;
        printer.note(&format!("wrote {}", file.display()));
    }
    if let Some(dir) = &args.plots {
        for name in report.write_plots(dir, args.theme)? {
            printer.warn(&format!(
                "{name} is too large for a PNG file; its SVG file is there"
            ));
        }
        printer.note(&format!(
            "wrote {} plots to {}",
            report.plots().len(),
            dir.display()
        ));
    }
    if args.path.is_dir() {
        let kept = report
            .write_results(&args.path.join(RESULTS))
            .and_then(|()| match args.plots {
                Some(_) => Ok(()),
                None => report.write_plots(&args.path.join(PLOTS), args.theme).map(drop),
            });
        // a folder that only may be read can be reported on
        if let Err(error) = kept {
            printer.warn(&error.to_string());
        }
    }
    if printer.json() {
        printer.object(&report)?;
    } else if args.markdown {
        printer.line(report.markdown().trim_end())?;
    } else if let Some(kind) = args.csv {
        printer.line(report.csv(kind).trim_end())?;
    } else if args.html.is_none() && args.plots.is_none() {
        read(&report, printer)?;
    }
    Ok(ExitStatus::Done)
}

/// Tables for a terminal.
fn read(report: &Report, printer: &Printer) -> anyhow::Result<()> {
    let width = printer.width();
    report.warnings.iter().for_each(|w| printer.warn(w));
    printer.line(&printer.bold(&report.headline()))?;
    for table in report.tables() {
        printer.line("")?;
        printer.line(&printer.bold(table.title))?;
        let mut rows = vec![table.columns.clone()];
        rows.extend(table.rows.iter().cloned());
        let keys = table.texts.clamp(1, 2);
        printer.line(drawn_within(&rows, table.texts, keys, width).trim_end())?;
        if let Some(note) = &table.note {
            printer.line(&wrapped(note, width, 0))?;
        }
    }
    printer.line("")?;
    for note in &report.notes {
        printer.line(&wrapped(note, width, 0))?;
    }
    printer.line("")?;
    for group in &report.about {
        let facts: Vec<String> = group
            .facts
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let line = format!("{}: {}", printer.bold(&group.title), facts.join(" · "));
        printer.line(&wrapped(&line, width, 2))?;
    }
    Ok(())
}
