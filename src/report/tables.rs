//! The report's tables, for a terminal and as Markdown.

use serde::Serialize;

use super::escape::{markdown, one_line};
use super::figures::{between, count, interval, none, p, percent, plural, points, signed};
use super::results::{Arm, Report};
use super::summary::largest;

/// Rows of the table of problems where a table is read from top to bottom.
const PROBLEMS: usize = 40;

/// A table to be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// What the table shows, as a heading.
    pub title: &'static str,
    /// Headings of the columns, from left to right.
    pub columns: Vec<String>,
    /// How many columns from the left are text; the others are numbers.
    pub texts: usize,
    /// Its cells, on one line each.
    pub rows: Vec<Vec<String>>,
    /// What to know about it.
    pub note: Option<String>,
}

fn table(
    title: &'static str,
    texts: usize,
    columns: &[&str],
    rows: Vec<Vec<String>>,
    note: Option<String>,
) -> Option<Table> {
    (!rows.is_empty()).then(|| Table {
        title,
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        texts,
        rows,
        note,
    })
}

impl Report {
    /// The tables that have something in them.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables = vec![
            self.strategies(),
            self.fates(),
            self.compared(),
            self.curves(),
            self.passes(),
            self.calibration(),
            self.reliable(),
        ];
        if self.problems.len() <= PROBLEMS {
            tables.push(self.of_problems());
        }
        tables.into_iter().flatten().collect()
    }

    fn strategies(&self) -> Option<Table> {
        let row = |a: &Arm| {
            vec![
                one_line(&a.series),
                count(a.budget as f64),
                a.accuracy.map_or_else(none, |x| percent(x.mean)),
                interval(a.accuracy.and_then(|x| x.problems)),
                interval(a.accuracy.and_then(|x| x.traces)),
                count(a.tokens),
                a.saved.map_or_else(none, |s| format!("{:.2}", 1.0 - s)),
                a.tokens_per_right.map_or_else(none, count),
                count(a.steps),
                if a.pareto { "yes".to_owned() } else { String::new() },
            ]
        };
        table(
            "Strategies",
            1,
            &[
                "strategy",
                "traces",
                "accuracy",
                "other problems",
                "other traces",
                "tokens",
                "of majority\u{2019}s",
                "per right",
                "steps",
                "front",
            ],
            self.arms.iter().map(row).collect(),
            Some(
                "intervals of 95% in per cent; tokens, steps (one after the other) and tokens per right answer are means over \
                 problems; front: no other is as accurate for fewer tokens"
                    .to_owned(),
            ),
        )
    }

    fn fates(&self) -> Option<Table> {
        let used: Vec<usize> = (0..6)
            .filter(|i| self.arms.iter().any(|a| a.token_fates.each()[*i].1 > 0.0))
            .collect();
        let arms = largest(&self.arms);
        let names = arms
            .first()
            .map(|a| a.token_fates.each().map(|f| f.0))
            .unwrap_or_default();
        let mut columns = vec!["strategy", "traces"];
        columns.extend(used.iter().map(|i| names[*i]));
        columns.push("in all");
        let rows = arms
            .iter()
            .map(|a| {
                let mut row = vec![one_line(&a.series), count(a.budget as f64)];
                row.extend(used.iter().map(|i| count(a.token_fates.each()[*i].1)));
                row.push(count(a.tokens));
                row
            })
            .collect();
        table(
            "Tokens a problem, by fate of their trace",
            1,
            &columns,
            rows,
            None,
        )
    }

    fn compared(&self) -> Option<Table> {
        let rows = self.comparisons.iter().map(|c| {
            vec![
                one_line(&c.a),
                one_line(&c.b),
                points(c.difference),
                signed(c.problems_interval),
                signed(c.traces_interval),
                format!("{:.1}", c.only_a),
                format!("{:.1}", c.only_b),
                p(c.p),
                format!("{:.2}", c.tokens),
            ]
        });
        table(
            "Against plain majority, on the same problems and traces",
            2,
            &[
                "strategy",
                "against",
                "difference",
                "other problems",
                "other traces",
                "only it",
                "only other",
                "p",
                "of its tokens",
            ],
            rows.collect(),
            Some(
                "differences in percentage points; problems that only one of the two solved; p of \
                 McNemar\u{2019}s exact test over problems (over several draws twice the median of theirs)"
                    .to_owned(),
            ),
        )
    }

    fn curves(&self) -> Option<Table> {
        let known = self
            .curves
            .iter()
            .filter(|c| c.area.is_some() || c.saving.is_some());
        let rows = known.map(|c| {
            vec![
                one_line(&c.series),
                c.area.map_or_else(none, percent),
                c.saving.map_or_else(none, percent),
            ]
        });
        table(
            "Curves of accuracy against tokens",
            1,
            &["strategy", "mean accuracy", "tokens saved"],
            rows.collect(),
            Some(
                "mean accuracy over the tokens that all curves cover, on the logarithmic axis; tokens saved \
                 at plain majority\u{2019}s final accuracy, interpolated"
                    .to_owned(),
            ),
        )
    }

    fn passes(&self) -> Option<Table> {
        let rows = self
            .pass_at
            .iter()
            .map(|x| vec![format!("pass@{}", x.k), percent(x.pass), count(x.tokens)]);
        let note = self.average.map(|a| {
            format!(
                "mean over traces {} with a standard error of {:.1} points clustered by problem (as if \
                 traces were independent: {:.1}, which is wrong)",
                percent(a.mean),
                a.se * 100.0,
                a.se_naive * 100.0
            )
        });
        table(
            "The ceiling: at least one of k traces is right",
            1,
            &["", "share", "tokens"],
            rows.collect(),
            note,
        )
    }

    fn calibration(&self) -> Option<Table> {
        let rows = self.scores.iter().map(|s| {
            let a = s.auroc.as_ref();
            vec![
                s.score.to_owned(),
                a.map_or_else(none, |a| format!("{:.3}", a.mean)),
                between(a.and_then(|a| a.interval), |x| format!("{x:.3}")),
                a.map_or_else(none, |a| count(a.problems as f64)),
                count(s.traces as f64),
            ]
        });
        table(
            "Does a trace\u{2019}s score know whether it is right?",
            1,
            &["score", "AUROC", "other problems", "problems", "traces"],
            rows.collect(),
            Some(
                "AUROC within problems that have right and wrong traces, averaged: 0.5 knows nothing, 1 \
                 knows all"
                    .to_owned(),
            ),
        )
    }

    fn reliable(&self) -> Option<Table> {
        let reliability = self.reliability.as_ref()?;
        let diagram = &reliability.diagram;
        let rows = diagram.bins.iter().map(|b| {
            vec![
                format!("{:.0}\u{2013}{:.0}%", b.low * 100.0, b.high * 100.0),
                percent(b.score),
                percent(b.right),
                interval(Some(b.interval)),
                count(b.count as f64),
            ]
        });
        table(
            "Does the winner\u{2019}s share mean what it says?",
            1,
            &["share", "mean share", "right", "other problems", "problems"],
            rows.collect(),
            Some(format!(
                "{}; expected calibration error {:.3}, Brier score {:.3}",
                reliability.of, diagram.calibration_error, diagram.brier
            )),
        )
    }

    pub(crate) fn of_problems(&self) -> Option<Table> {
        let series: Vec<&str> = self
            .problems
            .first()
            .map(|p| p.decided.iter().map(|(s, _)| s.as_str()).collect())
            .unwrap_or_default();
        let mut columns = vec![
            "problem",
            "gold",
            "majority",
            "votes",
            "right",
            "traces",
            "mean tokens",
        ];
        columns.extend(&series);
        let rows = self.problems.iter().map(|p| {
            let mut row = vec![
                one_line(&p.id),
                p.gold.as_deref().map_or_else(none, one_line),
                p.majority.as_ref().map_or_else(none, |m| one_line(&m.answer)),
                p.majority.as_ref().map_or_else(none, |m| count(m.votes as f64)),
                p.right.map_or_else(none, |r| count(r as f64)),
                count(p.traces as f64),
                p.mean_tokens.map_or_else(none, count),
            ];
            row.extend(
                p.decided
                    .iter()
                    .map(|(_, share)| share.map_or_else(none, |s| format!("{:.0}%", s * 100.0))),
            );
            row
        });
        table(
            "Problems",
            3,
            &columns,
            rows.collect(),
            Some("for each strategy the share of the draws in which its answer was right".to_owned()),
        )
    }

    /// One line about what is here.
    pub fn headline(&self) -> String {
        let c = &self.counts;
        let mut parts = vec![
            plural(c.problems as u64, "problem"),
            plural(c.traces, "complete trace"),
            plural(c.tokens, "token"),
        ];
        if c.resamples > 1 {
            parts.push(format!("{} draws of each pool", c.resamples));
        }
        format!("{} {}: {}", self.kind, one_line(&self.path), parts.join(", "))
    }

    /// The report as Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}\n", markdown(&self.headline()));
        for warning in &self.warnings {
            out.push_str(&format!("\n> {}\n", markdown(warning)));
        }
        for table in self.tables() {
            out.push_str(&format!("\n## {}\n\n", table.title));
            let line = |cells: &[String]| {
                format!(
                    "| {} |\n",
                    cells.iter().map(|c| markdown(c)).collect::<Vec<_>>().join(" | ")
                )
            };
            out.push_str(&line(&table.columns));
            let rule: Vec<&str> = (0..table.columns.len())
                .map(|i| if i < table.texts { "---" } else { "--:" })
                .collect();
            out.push_str(&format!("| {} |\n", rule.join(" | ")));
            for row in &table.rows {
                out.push_str(&line(row));
            }
            if let Some(note) = &table.note {
                out.push_str(&format!("\n{}.\n", markdown(note)));
            }
        }
        out.push_str("\n## How to read this\n\n");
        for note in &self.notes {
            out.push_str(&format!("- {}\n", markdown(note)));
        }
        out.push_str("\n## Settings\n");
        for group in &self.about {
            out.push_str(&format!("\n{}\n\n", markdown(&group.title)));
            for (name, value) in &group.facts {
                out.push_str(&format!("- {}: {}\n", markdown(name), markdown(value)));
            }
        }
        out
    }
}
