//! The report as one page: no file beside it, no network, light and dark, by mouse or by keyboard.

use tts_strategies::Fate;

use super::escape::{clipped, markup};
use super::figures::{count, percent};
use super::plot::{Plot, Theme, classes, colours, of_traces};
use super::results::{Arm, Report};
use super::results::{Timeline, TimelineTrace};
use super::summary::curves;
use super::tables::Table;
use super::timeline::ROOM;

/// Rows beyond which a table scrolls in itself.
const TALL: usize = 18;
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

impl Report {
    /// The report as one HTML page that needs no other file.
    pub fn html(&self) -> String {
        let plots = self.drawn(true);
        let find = |name: &str| plots.iter().find(|p| p.name == name);
        let mut page = Page::default();
        page.header(self);
        page.open("tradeoff", "What accuracy costs");
        page.plots(&[find("accuracy-tokens"), find("accuracy-traces")]);
        page.tables(self, &["Strategies", "Against", "Curves", "The ceiling"]);
        page.close();
        page.open("fates", "Where the tokens went");
        page.plots(&[find("fates")]);
        page.tables(self, &["Tokens a problem"]);
        page.close();
        page.open("confidence", "What confidence knows");
        let best = self.scores.iter().max_by(|a, b| {
            let of = |s: &super::results::ScoreFacts| s.auroc.as_ref().map_or(-1.0, |a| a.mean);
            of(a).total_cmp(&of(b))
        });
        let names: Vec<String> = self.scores.iter().map(|s| s.score.replace(' ', "-")).collect();
        let first = best.map(|s| s.score.replace(' ', "-"));
        if let Some(first) = &first {
            page.plots(&[find(&format!("scores-{first}")), find(&format!("rank-{first}"))]);
        }
        page.plots(&[find("reliability")]);
        let others = names.iter().filter(|n| Some(*n) != first.as_ref());
        let others: Vec<_> = others
            .flat_map(|n| [find(&format!("scores-{n}")), find(&format!("rank-{n}"))])
            .collect();
        page.folded("The other scores", &others);
        page.tables(self, &["Does a trace", "Does the winner"]);
        page.close();
        page.open("traces", "One problem, trace by trace");
        page.timelines(self);
        page.close();
        page.open("problems", "Every problem");
        if let Some(table) = self.of_problems() {
            page.filter();
            page.table(&table, true);
        }
        page.close();
        page.settings(self);
        page.finish(self)
    }
}

/// A page that grows from top to bottom. Sections without anything in them are left out.
#[derive(Default)]
struct Page {
    body: String,
    nav: String,
    section: Option<(String, String, String)>,
}

impl Page {
    fn header(&mut self, report: &Report) {
        let c = &report.counts;
        self.body.push_str(&format!(
            "<header><p class=\"kind\">tts {}</p><h1>{}</h1>",
            report.kind,
            markup(&report.path)
        ));
        let mut cards = vec![
            (count(c.problems as f64), "problems".to_owned()),
            (count(c.traces as f64), "complete traces".to_owned()),
            (count(c.tokens as f64), "tokens".to_owned()),
        ];
        if let Some(a) = report.average {
            cards.push((percent(a.mean), "of the traces are right".to_owned()));
        }
        if let Some(best) = best(&report.arms) {
            let accuracy = best.accuracy.map_or(f64::NAN, |a| a.mean);
            cards.push((
                percent(accuracy),
                format!("{} @{}, the most accurate", best.series, best.budget),
            ));
        }
        if let Some(saved) = cheapest(report) {
            cards.push((
                percent(1.0 - saved.1),
                format!("of majority\u{2019}s tokens do for {}", saved.0),
            ));
        }
        self.body.push_str("<div class=\"cards\">");
        for (figure, what) in cards {
            self.body.push_str(&format!(
                "<div class=\"card\"><b>{}</b><span>{}</span></div>",
                markup(&figure),
                markup(&what)
            ));
        }
        self.body.push_str("</div>");
        if !report.warnings.is_empty() {
            self.body
                .push_str("<details class=\"warnings\" open><summary>What to know first</summary><ul>");
            for warning in &report.warnings {
                self.body.push_str(&format!("<li>{}</li>", markup(warning)));
            }
            self.body.push_str("</ul></details>");
        }
        self.body.push_str("</header>\n");
    }

    fn open(&mut self, id: &str, title: &str) {
        self.section = Some((id.to_owned(), title.to_owned(), String::new()));
    }

    fn close(&mut self) {
        let Some((id, title, inside)) = self.section.take().filter(|s| !s.2.is_empty()) else {
            return;
        };
        self.nav.push_str(&format!("<a href=\"#{id}\">{title}</a>"));
        self.body.push_str(&format!(
            "<section id=\"{id}\"><h2>{title}</h2>\n{inside}</section>\n"
        ));
    }

    fn add(&mut self, text: &str) {
        if let Some((_, _, inside)) = &mut self.section {
            inside.push_str(text);
        }
    }

    fn plots(&mut self, plots: &[Option<&Plot>]) {
        plots.iter().flatten().for_each(|plot| self.add(&figure(plot)));
    }

    /// The traces of the problem that is shown at first, and those of others to be chosen.
    fn timelines(&mut self, report: &Report) {
        let Some(first) = &report.timeline else { return };
        if !report.others.is_empty() {
            // in the order of the problems, as far as they are here
            let mut all: Vec<(usize, &Timeline)> = report
                .others
                .iter()
                .chain([first])
                .map(|t| (place(report, t), t))
                .collect();
            all.sort_by_key(|(place, _)| *place);
            let option = |(place, t): &(usize, &Timeline)| {
                let chosen = if t.problem == first.problem {
                    " selected"
                } else {
                    ""
                };
                format!("<option{chosen} value=\"{place}\">{}</option>", markup(&said(t)))
            };
            let options: String = all.iter().map(option).collect();
            self.add(&format!(
                "<p class=\"filter\"><label>Problem <select id=\"problem\" \
                 autocomplete=\"off\">{options}</select></label></p>\n"
            ));
            let missing = report.problems.len() - all.len();
            if missing > 0 {
                self.paragraphs(
                    "note",
                    &[format!(
                        "{} have no pictures here: those that show most have them, as far as {} MiB go, and \
                         tts report --problem ID draws any one.",
                        super::figures::plural(missing as u64, "problem"),
                        ROOM >> 20
                    )],
                );
            }
        }
        self.add(&format!("<div id=\"one\">{}</div>\n", pictures(first)));
        for other in &report.others {
            // not read by a browser until it is chosen
            self.add(&format!(
                "<script type=\"text/plain\" data-problem=\"{}\">{}</script>\n",
                place(report, other),
                pictures(other)
            ));
        }
    }

    fn folded(&mut self, title: &str, plots: &[Option<&Plot>]) {
        if plots.iter().flatten().next().is_some() {
            self.add(&format!("<details class=\"more\"><summary>{title}</summary>"));
            self.plots(plots);
            self.add("</details>\n");
        }
    }

    fn paragraphs(&mut self, class: &str, texts: &[String]) {
        for text in texts {
            self.add(&format!("<p class=\"{class}\">{}</p>", markup(text)));
        }
    }

    /// The tables whose titles begin so, in this order.
    fn tables(&mut self, report: &Report, wanted: &[&str]) {
        let tables = report.tables();
        for begin in wanted {
            for table in tables.iter().filter(|t| t.title.starts_with(begin)) {
                self.table(table, false);
            }
        }
    }

    fn filter(&mut self) {
        self.add(
            "<p class=\"filter\"><label>Show problems with <input type=\"search\" id=\"filter\" \
             autocomplete=\"off\" spellcheck=\"false\"></label> <output id=\"shown\"></output></p>\n",
        );
    }

    fn table(&mut self, table: &Table, filtered: bool) {
        let mut out = format!(
            "<div class=\"scroll{2}\" tabindex=\"0\" role=\"region\" \
             aria-label=\"{0}\"><table{1}><caption>{0}</caption><thead><tr>",
            markup(table.title),
            if filtered { " id=\"list\"" } else { "" },
            if table.rows.len() > TALL { " tall" } else { "" }
        );
        let class = |i: usize| if i < table.texts { "" } else { " class=\"n\"" };
        for (i, column) in table.columns.iter().enumerate() {
            out.push_str(&format!(
                "<th scope=\"col\"{}><button type=\"button\">{}</button></th>",
                class(i),
                markup(column)
            ));
        }
        out.push_str("</tr></thead><tbody>");
        for row in &table.rows {
            out.push_str("<tr>");
            for (i, cell) in row.iter().enumerate() {
                out.push_str(&format!("<td{}>{}</td>", class(i), markup(cell)));
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div>\n");
        if let Some(note) = &table.note {
            out.push_str(&format!("<p class=\"note\">{}.</p>\n", markup(note)));
        }
        self.add(&out);
    }

    fn settings(&mut self, report: &Report) {
        self.open("reading", "How to read this");
        let notes: String = report
            .notes
            .iter()
            .map(|n| format!("<li>{}</li>", markup(n)))
            .collect();
        self.add(&format!("<ul class=\"notes\">{notes}</ul>"));
        self.close();
        self.open("settings", "Every digest and setting");
        self.add("<div class=\"facts\">");
        for group in &report.about {
            let facts: String = group
                .facts
                .iter()
                .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", markup(name), markup(value)))
                .collect();
            self.add(&format!(
                "<div><h3>{}</h3><dl>{facts}</dl></div>",
                markup(&group.title)
            ));
        }
        self.add("</div>");
        self.close();
    }

    fn finish(self, report: &Report) -> String {
        let data = in_script(&serde_json::to_string(report).unwrap_or_default());
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
             'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n<title>{title}</title>\n<style>\n\
             :root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n\
             :root[data-theme=light]{{{light}}}\n:root[data-theme=dark]{{{dark}}}\n{classes}\n\
             {STYLE}</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to the report</a>\n\
             <nav aria-label=\"Parts of the report\">{nav}<button type=\"button\" id=\"theme\" \
             aria-label=\"Light or dark\">\u{25d0}</button></nav>\n<main id=\"main\">\n{body}</main>\n\
             <div id=\"tip\" role=\"status\" aria-live=\"polite\" hidden></div>\n\
             <script type=\"application/json\" id=\"data\">{data}</script>\n<script>\n{SCRIPT}</script>\n\
             </body>\n</html>\n",
            title = markup(&format!("tts {} {}", report.kind, report.path)),
            light = colours(Theme::Light),
            dark = colours(Theme::Dark),
            classes = classes(),
            nav = self.nav,
            body = self.body,
        )
    }
}

/// Where a problem stands among all.
fn place(report: &Report, timeline: &Timeline) -> usize {
    report
        .problems
        .iter()
        .take_while(|p| p.id != timeline.problem)
        .count()
}

fn figure(plot: &Plot) -> String {
    format!(
        "<figure id=\"plot-{}\">{}<figcaption>{}</figcaption></figure>\n",
        plot.name,
        plot.inline(),
        markup(plot.description())
    )
}

/// What a reader must know about a problem's traces, and their plots.
fn pictures(timeline: &Timeline) -> String {
    let note = |note: &String| format!("<p class=\"note\">{}</p>", markup(note));
    let plots = of_traces(timeline);
    timeline
        .notes
        .iter()
        .map(note)
        .chain(plots.iter().map(figure))
        .collect()
}

/// A problem, to be chosen from a list.
fn said(timeline: &Timeline) -> String {
    let count = |is: fn(&TimelineTrace) -> bool| timeline.lanes.iter().filter(|l| is(l)).count();
    let (known, right) = (count(|l| l.right.is_some()), count(|l| l.right == Some(true)));
    let mut said = clipped(&timeline.problem, 60);
    if known > 0 {
        said.push_str(&format!(" \u{b7} {right} of {known} complete traces right"));
    }
    match count(|l| l.fate == Fate::Stopped) {
        0 => {}
        stopped => said.push_str(&format!(" \u{b7} {stopped} stopped")),
    }
    match timeline.correct {
        Some(true) => said.push_str(" \u{b7} solved"),
        Some(false) => said.push_str(" \u{b7} not solved"),
        None => {}
    }
    said
}

/// JSON that nothing in a page can be taken for but JSON: what stands in a script element ends at the first
/// `</`, and marks that turn the direction of writing act there too. All of it can only be within strings.
fn in_script(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut units = [0; 2];
    for c in json.chars() {
        if c.is_ascii() && !c.is_ascii_control() && !matches!(c, '<' | '>' | '&') {
            out.push(c);
        } else {
            c.encode_utf16(&mut units)
                .iter()
                .for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

/// The most accurate arm, of equally accurate ones the cheapest.
fn best(arms: &[Arm]) -> Option<&Arm> {
    // the last of those that are level is taken: from behind, that is the first
    arms.iter().rev().filter(|a| a.accuracy.is_some()).max_by(|a, b| {
        let of = |a: &Arm| a.accuracy.map_or(0.0, |x| x.mean);
        of(a).total_cmp(&of(b)).then(b.tokens.total_cmp(&a.tokens))
    })
}

/// The curve that saves most at plain majority's final accuracy.
fn cheapest(report: &Report) -> Option<(String, f64)> {
    let known = curves(&report.arms);
    let saving = report
        .curves
        .iter()
        .filter_map(|c| Some((c.series.clone(), c.saving.filter(|s| *s > 0.0)?)));
    saving
        .filter(|(series, _)| known.iter().any(|(s, _)| s == series))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}
