//! Results as people read them. They are made from the object of `--json`, which is also what a run folder
//! keeps.

use std::collections::BTreeMap;

use serde_json::Value;
use tabled::builder::Builder;
use tabled::settings::object::{Columns, Segment};
use tabled::settings::{Alignment, Modify, Padding, Style};
use tts::evals::stats::wilson;

use crate::cli::number::{count, percent, plural, seconds};
use crate::cli::printer::{Printer, harmless};

/// Ballots that are shown.
const BALLOTS: usize = 8;
/// Fates with their names in the object.
const FATES: [(&str, &str); 6] = [
    ("warm-up", "warmup"),
    ("finished", "finished"),
    ("stopped", "stopped"),
    ("cancelled", "cancelled"),
    ("truncated", "truncated"),
    ("failed", "failed"),
];

/// A problem's result.
pub(crate) struct Report {
    /// The object of `--json`.
    pub(crate) result: Value,
    /// Tokens that all traces would have taken, estimated; nothing for a result of an earlier run.
    pub(crate) full_tokens: Option<f64>,
}

impl Report {
    /// Prints an object, a report, a line of a set, or the answer alone.
    pub(crate) fn print(&self, of_set: bool, budget: usize, printer: &Printer) -> anyhow::Result<()> {
        if printer.json() {
            return printer.object(&self.result);
        }
        let answer = self.text("answer");
        if !of_set {
            self.warnings().iter().for_each(|w| printer.warn(w));
        }
        if printer.for_humans() {
            printer.line(&if of_set {
                self.line(printer)
            } else {
                self.page(budget, printer)
            })?;
        } else if of_set || answer.is_some() {
            printer.line(&answer.unwrap_or_default().replace(['\n', '\r'], " "))?;
        } else {
            printer.note("no trace came to an answer");
        }
        Ok(())
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.result[field].as_str()
    }

    fn number(&self, object: &str, field: &str) -> u64 {
        self.result[object][field].as_u64().unwrap_or_default()
    }

    /// What the strategy, the memory or a limit has to say.
    fn warnings(&self) -> Vec<String> {
        let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
        let mut warnings: Vec<_> = list(&self.result["warnings"])
            .iter()
            .chain(&list(&self.result["machine"]["notices"]))
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect();
        warnings.extend(self.text("cut").and_then(|cut| match cut {
            "max_total_tokens" => Some("--max-total-tokens was reached; this is the vote so far".to_owned()),
            "time_limit" => Some("the time limit was reached; this is the vote so far".to_owned()),
            "interrupted" => Some("interrupted; this is the vote so far".to_owned()),
            _ => None,
        }));
        warnings
    }

    /// Right or wrong, where that is known.
    fn verdict(&self, printer: &Printer) -> String {
        match (self.result["correct"].as_bool(), self.text("gold")) {
            (Some(true), _) => printer.good("right"),
            (Some(false), Some(gold)) => format!("{} ({})", printer.bad("wrong"), harmless(gold)),
            _ => String::new(),
        }
    }

    fn ballots(&self) -> Vec<(String, f64, u64)> {
        let ballots = self.result["ballots"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        ballots
            .iter()
            .map(|b| {
                (
                    harmless(b["answer"].as_str().unwrap_or_default()),
                    b["weight"].as_f64().unwrap_or_default(),
                    b["traces"].as_u64().unwrap_or_default(),
                )
            })
            .collect()
    }

    /// One problem of a set.
    fn line(&self, printer: &Printer) -> String {
        let ballots = self.ballots();
        let all: f64 = ballots.iter().map(|b| b.1).sum();
        let share = ballots
            .first()
            .filter(|_| all > 0.0)
            .map_or_else(String::new, |b| percent(b.1 / all));
        let line = format!(
            "{:<26} {:<10} {share:>5}  {:>9} tokens  {:>6}  {}",
            harmless(self.text("problem_id").unwrap_or_default()),
            harmless(self.text("answer").unwrap_or("-")),
            count(self.number("tokens", "generated")),
            seconds(self.result["seconds"].as_f64().unwrap_or_default()),
            self.verdict(printer)
        );
        line.trim_end().to_owned()
    }

    /// Everything about one problem.
    fn page(&self, budget: usize, printer: &Printer) -> String {
        let mut out = Vec::new();
        if let (Some(text), Some(trace)) = (self.text("solution"), self.result["solution_trace"].as_u64()) {
            out.push(format!(
                "{}\n{}\n",
                printer.bold(&format!("solution (trace {trace})")),
                harmless(text.trim())
            ));
        }
        match self.text("answer") {
            Some(answer) => out.push(
                format!(
                    "{}  {}  {}",
                    printer.bold("answer"),
                    printer.bold(&harmless(answer)),
                    self.verdict(printer)
                )
                .trim_end()
                .to_owned()
                    + "\n",
            ),
            None => out.push(format!("{}  no trace came to one\n", printer.bold("answer"))),
        }
        if self.text("answer").is_some() {
            out.push(self.votes());
            out.push(self.ballot_table());
        }
        out.push(self.books());
        out.extend(self.saved(budget));
        out.push(self.cost());
        out.join("\n")
    }

    fn votes(&self) -> String {
        let mut table = Builder::default();
        table.push_record(["vote", "answer", "share"]);
        for (name, vote) in self.result["votes"].as_object().into_iter().flatten() {
            if let (Some(answer), Some(share)) = (vote["answer"].as_str(), vote["share"].as_f64()) {
                table.push_record([name.clone(), harmless(answer), percent(share)]);
            }
        }
        drawn(table, 2)
    }

    fn ballot_table(&self) -> String {
        let ballots = self.ballots();
        let mut table = Builder::default();
        table.push_record(["ballot", "weight", "traces"]);
        for (answer, weight, traces) in ballots.iter().take(BALLOTS) {
            table.push_record([answer.clone(), format!("{weight:.1}"), count(*traces)]);
        }
        let more = ballots.len().saturating_sub(BALLOTS) as u64;
        let rest = if more > 0 {
            format!("and {}\n", plural(more, "other answer"))
        } else {
            String::new()
        };
        drawn(table, 1) + &rest
    }

    fn books(&self) -> String {
        let mut table = Builder::default();
        table.push_record(["fate", "traces", "tokens"]);
        for (fate, field) in FATES
            .into_iter()
            .filter(|(_, field)| self.number("traces", field) > 0)
        {
            table.push_record([
                fate.to_owned(),
                count(self.number("traces", field)),
                count(self.number("tokens", field)),
            ]);
        }
        table.push_record([
            "in all".to_owned(),
            count(self.number("traces", "launched")),
            count(self.number("tokens", "generated")),
        ]);
        // a remote engine sends some after a trace was stopped
        let unseen = self.number("tokens", "unseen");
        if unseen > 0 {
            table.push_record(["of these unseen".to_owned(), String::new(), count(unseen)]);
        }
        drawn(table, 1)
    }

    fn saved(&self, budget: usize) -> Option<String> {
        let full = self.full_tokens.filter(|full| *full > 0.0)?;
        let saved = 1.0 - self.number("tokens", "generated") as f64 / full;
        (saved >= 0.005).then(|| {
            format!(
                "saved about {}: an estimate, against {} tokens of {budget} traces as long as those that ended by themselves",
                percent(saved),
                count(full as u64)
            )
        })
    }

    fn cost(&self) -> String {
        let time = self.result["seconds"].as_f64().unwrap_or_default();
        let speed = if time > 0.0 {
            self.number("tokens", "generated") as f64 / time
        } else {
            0.0
        };
        let mut how = vec![self.text("strategy").unwrap_or_default().to_owned()];
        how.extend(self.result["window"].as_u64().map(|w| format!("window {w}")));
        how.extend(self.result["threshold"].as_f64().map(|t| format!("bar {t:.2}")));
        how.extend(self.text("pool").map(|p| format!("pool {p}")));
        format!(
            "{}, {} tok/s; {} at a time; prompt of {}; {}",
            seconds(time),
            count(speed as u64),
            plural(self.result["slots"].as_u64().unwrap_or_default(), "trace"),
            plural(self.number("tokens", "prompt"), "token"),
            how.join(", ")
        )
    }
}

/// A table whose columns from `numbers` on are numbers.
pub(crate) fn drawn(table: Builder, numbers: usize) -> String {
    let mut table = table.build();
    table
        .with(Style::blank())
        .with(Modify::new(Segment::all()).with(Padding::new(0, 1, 0, 0)));
    table.with(Modify::new(Columns::new(numbers..)).with(Alignment::right()));
    table
        .to_string()
        .lines()
        .map(|l| l.trim_end().to_owned() + "\n")
        .collect()
}

/// How a set went.
#[derive(Default)]
pub(crate) struct Summary {
    pub(crate) answered: u64,
    pub(crate) not_started: u64,
    problems: u64,
    graded: u64,
    right: u64,
    tokens: u64,
    traces: u64,
    /// warnings by their text without numbers: how often, and the first
    warnings: BTreeMap<String, (u64, String)>,
}

impl Summary {
    pub(crate) fn add(&mut self, report: &Report) {
        let result = &report.result;
        self.problems += 1;
        for warning in report.warnings() {
            let kind = warning.chars().filter(|c| !c.is_ascii_digit()).collect();
            let first = || {
                (
                    0,
                    format!(
                        "problem {}: {warning}",
                        report.text("problem_id").unwrap_or_default()
                    ),
                )
            };
            self.warnings.entry(kind).or_insert_with(first).0 += 1;
        }
        self.answered += u64::from(result["answer"].is_string());
        self.graded += u64::from(result["correct"].is_boolean());
        self.right += u64::from(result["correct"] == true);
        self.tokens += result["tokens"]["generated"].as_u64().unwrap_or_default();
        self.traces += result["traces"]["launched"].as_u64().unwrap_or_default();
    }

    pub(crate) fn print(&self, printer: &Printer) {
        for (times, first) in self.warnings.values() {
            let more = if *times > 1 {
                format!(" (and so {} more)", plural(times - 1, "problem"))
            } else {
                String::new()
            };
            printer.warn(&format!("{first}{more}"));
        }
        let mut parts = vec![format!(
            "{}, {} answered",
            plural(self.problems, "problem"),
            count(self.answered)
        )];
        if let Ok(interval) = wilson(self.right, self.graded, 0.95) {
            parts.push(format!(
                "{} of {} right: {:.1} % (95 % interval {:.1} to {:.1} %)",
                count(self.right),
                count(self.graded),
                100.0 * self.right as f64 / self.graded as f64,
                100.0 * interval.low,
                100.0 * interval.high
            ));
        }
        parts.push(format!(
            "{}, {}",
            plural(self.traces, "trace"),
            plural(self.tokens, "token")
        ));
        if let Some(each) = self.tokens.checked_div(self.problems) {
            parts.push(format!("{} tokens a problem", count(each)));
        }
        if self.not_started > 0 {
            parts.push(format!(
                "{} not started before the run was cut",
                count(self.not_started)
            ));
        }
        printer.note(&parts.join("; "));
    }
}
