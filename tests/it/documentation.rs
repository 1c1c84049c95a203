//! README.md and docs/: where their links lead, and that what is listed elsewhere is in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tts_model::overrides::SAMPLING_SETTINGS;

use crate::fixture;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// README.md, CONTRIBUTING.md and the files of docs/.
fn documents() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|e| e.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|e| e == "md"));
    docs.chain(["README.md", "CONTRIBUTING.md"].map(|name| root().join(name)))
        .collect()
}

/// What the links of a text point at.
fn links(text: &str) -> Vec<&str> {
    let starts = text.match_indices("](").map(|(at, _)| &text[at + 2..]);
    starts
        .filter_map(|rest| rest.split_once(')'))
        .map(|(link, _)| link)
        .collect()
}

/// The anchors of a text's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text)
            .into_iter()
            .filter(|link| !link.starts_with("https://"))
        {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", document.display());
            if !anchor.is_empty() {
                let there = anchors(&std::fs::read_to_string(&target).unwrap());
                assert!(
                    there.contains(anchor),
                    "{}: {link} of {there:?}",
                    document.display()
                );
            }
        }
    }
}

#[test]
fn every_document_is_in_both_lists() {
    let (readme, index) = (read("README.md"), read("docs/README.md"));
    for document in documents()
        .into_iter()
        .filter(|d| d.parent() == Some(&root().join("docs")))
    {
        let name = document.file_name().unwrap().to_str().unwrap();
        if name != "README.md" {
            assert!(
                readme.contains(&format!("](docs/{name})")),
                "README.md lacks {name}"
            );
            assert!(
                index.contains(&format!("]({name})")),
                "docs/README.md lacks {name}"
            );
        }
    }
    assert!(readme.lines().count() <= 200, "it is a front page");
}

#[test]
fn what_is_known_is_documented() {
    let (guide, server, strategies) = (
        read("docs/guide.md"),
        read("docs/server.md"),
        read("docs/strategies.md"),
    );
    for command in snapshot("help")
        .lines()
        .take_while(|line| *line != "Start with:")
        .filter_map(|line| line.strip_prefix("  "))
    {
        let name = command.split(' ').next().unwrap_or_default();
        if name.starts_with(|c: char| c.is_ascii_lowercase()) && name != "help" {
            assert!(
                guide.contains(&format!("`tts {name}")),
                "docs/guide.md lacks `tts {name}`"
            );
        }
    }
    for setting in SAMPLING_SETTINGS {
        assert!(
            server.contains(&format!("`{}`", setting.name)),
            "{}",
            setting.name
        );
    }
    for name in tts::strategies::names() {
        assert!(
            strategies.contains(&format!("`{name}`")),
            "docs/strategies.md lacks {name}"
        );
    }
    for task in tts::evals::task::Task::names() {
        assert!(guide.contains(task), "docs/guide.md lacks {task}");
    }
    let models = read("docs/models.md");
    for family in tts_model::arch::register() {
        let row = models
            .lines()
            .find(|line| line.starts_with('|') && line.contains(&format!("`{}`", family.name)))
            .unwrap_or_else(|| panic!("docs/models.md lacks {family:?}"));
        for told in [family.models, family.checked] {
            assert!(
                row.contains(told),
                "docs/models.md says otherwise of {family:?}: {told}"
            );
        }
    }
}

/// What users see of something, as the snapshots have it.
fn snapshot(name: &str) -> String {
    std::fs::read_to_string(fixture("../it/snapshots").join(format!("{name}.snap"))).unwrap()
}
