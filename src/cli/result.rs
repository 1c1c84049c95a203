//! Results as people read them. They are made from the object of `--json`, which is also what a run folder
//! keeps.

use std::collections::BTreeMap;

use crate::evals::stats::wilson;
use crate::evaluation::Evaluated;
use crate::run::{EarlyEnd, FateCounts, SolvedRecord};
use crate::solver::UNLEARNT;
use tabled::builder::Builder;

use super::number::{count, percent, plural, seconds};
use super::printer::{Printer, harmless};
use super::table::drawn;

/// Ballots that are shown.
const BALLOTS: usize = 8;
/// Counts by fate, in the order of a trace's life.
fn fates(books: &FateCounts) -> [(&'static str, u64); 6] {
    [
        ("warm-up", books.warmup),
        ("finished", books.finished),
        ("stopped", books.stopped),
        ("cancelled", books.cancelled),
        ("truncated", books.truncated),
        ("failed", books.failed),
    ]
}

impl ProblemReport {
    /// Of a problem with so many traces at most.
    pub(crate) fn of(evaluated: Evaluated, traces: usize) -> Self {
        let full_tokens = evaluated.solved.and_then(|s| s.estimated_full_tokens(traces));
        Self {
            result: evaluated.record,
            full_tokens,
        }
    }
}

/// A problem's result as a terminal shows it.
pub(crate) struct ProblemReport {
    /// The object of `--json`.
    pub(crate) result: SolvedRecord,
    /// Tokens that all traces would have taken, estimated; nothing for a result of an earlier run.
    pub(crate) full_tokens: Option<f64>,
}

impl ProblemReport {
    /// Prints an object, a report, a line of a set, or the answer alone.
    pub(crate) fn print(&self, of_set: bool, budget: usize, printer: &Printer) -> anyhow::Result<()> {
        if printer.json() {
            return printer.object(&self.result.to_json());
        }
        let answer = self.result.answer.as_deref();
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

    /// Tokens that were generated.
    fn generated(&self) -> u64 {
        self.result.generated().unwrap_or_default()
    }

    /// What the strategy, the memory or a limit has to say.
    fn warnings(&self) -> Vec<String> {
        let notices = self.result.machine.iter().flat_map(|m| &m.notices);
        let cut = self.result.cut.and_then(|cut| match cut {
            EarlyEnd::MaxTotalTokens => Some("--max-total-tokens was reached; this is the vote so far"),
            EarlyEnd::TimeLimit => Some("the time limit was reached; this is the vote so far"),
            EarlyEnd::Interrupted => Some("interrupted; this is the vote so far"),
            EarlyEnd::Failed => None,
        });
        let said = self.result.warnings.iter().chain(notices).cloned();
        // said before the problem was solved
        let said = said.filter(|w| !w.contains(UNLEARNT));
        said.chain(cut.map(str::to_owned)).collect()
    }

    /// Right or wrong, where that is known.
    fn verdict(&self, printer: &Printer) -> String {
        match (self.result.correct, &self.result.gold) {
            _ if self.result.cut == Some(EarlyEnd::Interrupted) => String::new(),
            (Some(true), _) => printer.good("right"),
            (Some(false), Some(gold)) => format!("{} ({})", printer.bad("wrong"), harmless(gold)),
            _ => String::new(),
        }
    }

    /// One problem of a set.
    fn line(&self, printer: &Printer) -> String {
        let ballots = &self.result.ballots;
        let all: f64 = ballots.iter().map(|b| b.weight).sum();
        let share = ballots
            .first()
            .filter(|_| all > 0.0)
            .map_or_else(String::new, |b| percent(b.weight / all));
        let line = format!(
            "{:<26} {:<10} {share:>5}  {:>9} tokens  {:>6}  {}",
            harmless(&self.result.problem_id),
            harmless(self.result.answer.as_deref().unwrap_or("-")),
            count(self.generated()),
            seconds(self.result.seconds.unwrap_or_default()),
            self.verdict(printer)
        );
        line.trim_end().to_owned()
    }

    /// Everything about one problem.
    fn page(&self, budget: usize, printer: &Printer) -> String {
        let mut out = Vec::new();
        if let (Some(text), Some(trace)) = (&self.result.solution, self.result.solution_trace) {
            out.push(format!(
                "{}\n{}\n",
                printer.bold(&format!("solution (trace {trace})")),
                harmless(text.trim())
            ));
        }
        match &self.result.answer {
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
        if self.result.answer.is_some() {
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
        for (name, vote) in &self.result.votes {
            if let Some(vote) = vote {
                table.push_record([name.clone(), harmless(&vote.answer), percent(vote.share)]);
            }
        }
        drawn(table, 2)
    }

    fn ballot_table(&self) -> String {
        let ballots = &self.result.ballots;
        let mut table = Builder::default();
        table.push_record(["ballot", "weight", "traces"]);
        for b in ballots.iter().take(BALLOTS) {
            table.push_record([
                harmless(&b.answer),
                format!("{:.1}", b.weight),
                count(b.traces as u64),
            ]);
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
        let (traces, tokens) = (self.result.traces, self.result.tokens);
        let of_traces = traces.map(|t| fates(&t.fates)).unwrap_or_default();
        let of_tokens = tokens.map(|t| fates(&t.fates)).unwrap_or_default();
        for ((fate, traces), (_, tokens)) in of_traces.into_iter().zip(of_tokens) {
            if traces > 0 {
                table.push_record([fate.to_owned(), count(traces), count(tokens)]);
            }
        }
        table.push_record([
            "in all".to_owned(),
            count(traces.map_or(0, |t| t.launched)),
            count(self.generated()),
        ]);
        // a remote engine sends some after a trace was stopped
        let unseen = tokens.map_or(0, |t| t.unseen);
        if unseen > 0 {
            table.push_record(["of these unseen".to_owned(), String::new(), count(unseen)]);
        }
        drawn(table, 1)
    }

    fn saved(&self, budget: usize) -> Option<String> {
        // what a limit or Ctrl-C left undone is not saved
        let full = self
            .full_tokens
            .filter(|full| *full > 0.0 && self.result.cut.is_none())?;
        let saved = 1.0 - self.generated() as f64 / full;
        (saved >= 0.005).then(|| {
            format!(
                "saved about {}: an estimate, against {} tokens of {budget} traces as long as those that \
                 ended by themselves",
                percent(saved),
                count(full as u64)
            )
        })
    }

    fn cost(&self) -> String {
        let result = &self.result;
        let time = result.seconds.unwrap_or_default();
        let speed = if time > 0.0 {
            self.generated() as f64 / time
        } else {
            0.0
        };
        let mut how = vec![result.strategy.clone().unwrap_or_default()];
        how.extend(result.window.map(|w| format!("window {w}")));
        how.extend(result.threshold.map(|t| format!("bar {t:.2}")));
        how.extend(result.pool.map(|p| format!("pool {}", p.name())));
        // slots that grow seldom come to their most
        let rows = result
            .machine
            .as_ref()
            .and_then(|m| m.peak_rows)
            .filter(|rows| *rows > 0);
        let at_once = rows.or(result.slots).unwrap_or_default();
        format!(
            "{}, {} tok/s; {} at a time; prompt of {}; {}",
            seconds(time),
            count(speed as u64),
            plural(at_once as u64, "trace"),
            plural(result.tokens.map_or(0, |t| t.prompt), "token"),
            how.join(", ")
        )
    }
}

/// How a set went.
#[derive(Default)]
pub(crate) struct SetSummary {
    pub(crate) answered: u64,
    problems: u64,
    interrupted: u64,
    pub(crate) graded: u64,
    right: u64,
    tokens: u64,
    traces: u64,
    /// warnings by their text without numbers: how often, and the first
    warnings: BTreeMap<String, (u64, String)>,
}

impl SetSummary {
    /// Problems that came to their end and have no right answer to compare with.
    pub(crate) fn ungraded(&self) -> u64 {
        self.problems.saturating_sub(self.interrupted + self.graded)
    }

    pub(crate) fn add(&mut self, report: &ProblemReport) {
        let result = &report.result;
        self.problems += 1;
        for warning in report.warnings() {
            let kind = warning.chars().filter(|c| !c.is_ascii_digit()).collect();
            let first = || (0, format!("problem {}: {warning}", result.problem_id));
            self.warnings.entry(kind).or_insert_with(first).0 += 1;
        }
        self.answered += u64::from(result.answer.is_some());
        if result.cut == Some(EarlyEnd::Interrupted) {
            self.interrupted += 1;
        } else {
            self.graded += u64::from(result.correct.is_some());
            self.right += u64::from(result.correct == Some(true));
        }
        self.tokens += report.generated();
        self.traces += result.traces.map_or(0, |t| t.launched);
    }

    /// What is there to know of all problems; `not_started` of them were never begun.
    pub(crate) fn print(&self, not_started: u64, printer: &Printer) {
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
        if self.interrupted > 0 {
            parts.push(format!("{} interrupted and not graded", count(self.interrupted)));
        }
        if not_started > 0 {
            parts.push(format!(
                "{} not started before the run was cut",
                count(not_started)
            ));
        }
        printer.note(&parts.join("; "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ctrl_c_left_undone_is_neither_wrong_nor_saved() {
        let mut summary = SetSummary::default();
        for (cut, correct) in [(None, true), (Some(EarlyEnd::Interrupted), false)] {
            let report = ProblemReport {
                result: SolvedRecord {
                    cut,
                    correct: Some(correct),
                    gold: Some("1".to_owned()),
                    ..SolvedRecord::default()
                },
                full_tokens: Some(1000.0),
            };
            assert_eq!(report.saved(64).is_some(), cut.is_none());
            summary.add(&report);
        }
        assert_eq!((summary.right, summary.graded, summary.interrupted), (1, 1, 1));
    }
}
