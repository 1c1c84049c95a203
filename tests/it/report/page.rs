//! The page: one file, whole, harmless, and alive in a browser.

use std::process::Command;

use tts::report::{Report, ReportOptions, Timeline};

use super::{open, run_fixture};

/// Elements that have no end.
const VOID: [&str; 4] = ["meta", "input", "br", "link"];

/// Fails unless every element that begins also ends, in order.
#[track_caller]
pub(crate) fn balanced(html: &str) {
    let mut rest = html;
    let mut open: Vec<&str> = Vec::new();
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').unwrap_or_else(|| {
            panic!(
                "a tag without an end: {}",
                rest.chars().take(60).collect::<String>()
            )
        });
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if tag.starts_with('!') {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(
                open.pop(),
                Some(name),
                "before {}",
                rest.chars().take(80).collect::<String>()
            );
            continue;
        }
        let name = tag.split([' ', '/', '\n']).next().unwrap_or_default();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "<{tag}>");
        assert!(tag.matches('"').count().is_multiple_of(2), "<{tag}>");
        if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
            // what is in these is no markup
            if name == "script" || name == "style" {
                let end = rest.find(&format!("</{name}>")).expect("its end");
                rest = &rest[end..];
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// Fails when the page would ask for anything beside itself.
#[track_caller]
pub(crate) fn self_contained(html: &str) {
    for word in [
        "http:",
        "https:",
        "//cdn",
        " src=",
        "<link",
        "@import",
        "url(",
        "fetch(",
        "XMLHttpRequest",
        "import(",
        "<iframe",
        "<img",
        "<object",
    ] {
        assert!(!html.contains(word), "{word}");
    }
    assert!(html.contains("default-src 'none'"));
}

/// The object that the page carries.
pub(crate) fn data(html: &str) -> serde_json::Value {
    let begin = "<script type=\"application/json\" id=\"data\">";
    let from = html.find(begin).expect("its data") + begin.len();
    let to = from + html[from..].find("</script>").expect("their end");
    serde_json::from_str(&html[from..to]).expect("JSON")
}

#[test]
fn one_file_with_everything_in_it() {
    let report = open(&run_fixture());
    let html = report.html();
    balanced(&html);
    self_contained(&html);
    let round: serde_json::Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(data(&html), round);
    for plot in report.plots() {
        assert!(
            html.contains(&format!("id=\"plot-{}\"", plot.name)),
            "{}",
            plot.name
        );
    }
    for group in &report.about {
        for (name, value) in &group.facts {
            assert!(html.contains(&format!("<dt>{name}</dt>")), "{name}");
            assert!(
                value.contains(['\'', '"', '<', '&']) || html.contains(value),
                "{value}"
            );
        }
    }
    // digests and settings that every number should name
    for fact in [
        "digest",
        "model",
        "prompter",
        "sampling.temperature",
        "seed",
        "max_tokens",
        "kind",
        "tool version",
        "keep_top",
    ] {
        assert!(html.contains(&format!("<dt>{fact}</dt>")), "{fact}");
    }
    assert!(
        html.contains("Other problems") && html.contains("Other traces"),
        "both sources of spread are named"
    );
    assert!(
        html.contains("class=\"m\" data-tip=\"deepconf-low, 12 traces"),
        "values show"
    );
    assert_eq!(html, open(&run_fixture()).html());
}

/// Every problem's traces wait in the page, in less detail, and only where that was asked for.
#[test]
fn any_problem_can_be_chosen() {
    let every = ReportOptions {
        every_problem: true,
        ..ReportOptions::default()
    };
    let report = Report::open(&run_fixture(), &every).unwrap();
    let html = report.html();
    balanced(&html);
    self_contained(&html);
    assert_eq!(
        (
            report.others.len(),
            html.matches("<option").count(),
            html.matches("data-problem=").count()
        ),
        (5, 6, 5)
    );
    assert_eq!(html.matches(" selected").count(), 1);
    for row in &report.problems {
        let chosen = ReportOptions {
            problem: Some(row.id.clone()),
            ..ReportOptions::default()
        };
        let alone = Report::open(&run_fixture(), &chosen).unwrap().timeline.unwrap();
        let here = report
            .others
            .iter()
            .chain(&report.timeline)
            .find(|t| t.problem == row.id)
            .unwrap();
        let fates = |t: &Timeline| {
            t.lanes
                .iter()
                .map(|l| (l.trace, l.fate, l.from, l.to, l.tokens, l.right))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (fates(here), here.threshold, &here.answer),
            (fates(&alone), alone.threshold, &alone.answer)
        );
    }
    assert!(open(&run_fixture()).others.is_empty() && !open(&run_fixture()).html().contains("data-problem="));
}

/// In a real browser, where there is one: the script runs, marks can be walked through by keyboard, tables
/// sort and filter.
#[test]
fn the_page_is_alive_in_a_browser() {
    let Some(browser) = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|b| {
            Command::new(b)
                .arg("--version")
                .output()
                .is_ok_and(|o| o.status.success())
        })
    else {
        // the page is not tried in a browser where there is none
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let probe = "<script>addEventListener('load', () => {
        const said = {};
        const plot = document.querySelector('#plot-accuracy-tokens svg');
        const key = (k) => plot.dispatchEvent(new KeyboardEvent('keydown', { key: k, bubbles: true, cancelable: true }));
        key('ArrowRight'); key('ArrowRight');
        said.tip = document.getElementById('tip').textContent;
        said.on = document.querySelectorAll('.m.on').length;
        key('Escape');
        said.hidden = document.getElementById('tip').hidden;
        const table = document.getElementById('list');
        table.tHead.rows[0].cells[0].querySelector('button').click();
        said.first = table.tBodies[0].rows[0].cells[0].textContent;
        const filter = document.getElementById('filter');
        filter.value = 'FIBO'; filter.dispatchEvent(new Event('input'));
        said.shown = document.getElementById('shown').textContent;
        const chosen = document.getElementById('problem');
        const title = () => document.querySelector('#plot-traces-steps svg').getAttribute('aria-label');
        said.before = title();
        chosen.selectedIndex = (chosen.selectedIndex + 1) % chosen.options.length;
        chosen.dispatchEvent(new Event('change'));
        said.after = title();
        said.option = chosen.selectedOptions[0].textContent;
        const other = document.querySelector('#plot-traces-steps svg');
        other.dispatchEvent(new KeyboardEvent('keydown', { key: 'Home', bubbles: true, cancelable: true }));
        said.lane = document.getElementById('tip').textContent;
        document.getElementById('theme').click();
        said.theme = document.documentElement.dataset.theme;
        said.requests = performance.getEntriesByType('resource').length;
        document.body.setAttribute('data-said', JSON.stringify(said));
    });</script></body>";
    let page = folder.path().join("page.html");
    let every = ReportOptions {
        every_problem: true,
        ..ReportOptions::default()
    };
    let report = Report::open(&run_fixture(), &every).unwrap();
    std::fs::write(&page, report.html().replace("</body>", probe)).unwrap();
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        ))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let from = dom.find("data-said=\"").unwrap_or_else(|| {
        panic!(
            "the script did not run: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    }) + 11;
    let said = dom[from..from + dom[from..].find('"').unwrap()].replace("&quot;", "\"");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(said["tip"].as_str().unwrap().contains("tokens"), "{said}");
    assert_eq!(
        (said["on"].as_u64(), said["hidden"].as_bool()),
        (Some(1), Some(true)),
        "{said}"
    );
    assert_eq!(said["shown"], "1 of 6", "{said}");
    assert!(said["first"].as_str().unwrap().starts_with("fib"), "{said}");
    assert!(["light", "dark"].contains(&said["theme"].as_str().unwrap()));
    assert_eq!(said["requests"], 0);
    let option = said["option"].as_str().unwrap();
    assert!(
        said["before"] != said["after"]
            && said["after"]
                .as_str()
                .unwrap()
                .contains(option.split(' ').next().unwrap()),
        "{said}"
    );
    assert!(said["lane"].as_str().unwrap().starts_with("trace "), "{said}");
}
