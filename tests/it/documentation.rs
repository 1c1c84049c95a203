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
            let in_the_book = !document.starts_with(root().join("docs")) || !file.starts_with("..");
            assert!(
                in_the_book,
                "{}: {link} leads out of the book",
                document.display()
            );
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
fn every_document_is_in_all_lists() {
    let (readme, index, contents) = (read("README.md"), read("docs/README.md"), read("docs/SUMMARY.md"));
    for document in documents()
        .into_iter()
        .filter(|d| d.parent() == Some(&root().join("docs")))
    {
        let name = document.file_name().unwrap().to_str().unwrap();
        assert!(
            name == "SUMMARY.md" || contents.contains(&format!("]({name})")),
            "docs/SUMMARY.md lacks {name}"
        );
        if !["README.md", "SUMMARY.md"].contains(&name) {
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
    assert!(readme.lines().count() <= 150, "it is a front page");
}

/// A command of the documents: the block that it stands in, and its arguments.
struct Shown {
    place: String,
    /// the whole line, where it needs nothing that is not here
    runs: Option<String>,
    args: Vec<String>,
}

/// The words of a command as a shell has them, up to a comment, a pipe or another command.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (None, '#' | '|' | '>' | '<' | '&' | ';') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if open == c => quote = None,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Every `tts` command in the blocks of all documents; those of blocks that are marked `run` need nothing that is not here, but each
/// other.
fn commands() -> Vec<Shown> {
    let mut shown = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap().replace("\\\n", " ");
        let (mut inside, mut runs) = (false, false);
        for (at, line) in text.lines().enumerate() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                (inside, runs) = (!inside, language == "console run");
                continue;
            }
            let Some(command) = line.trim_start().strip_prefix("$ ").filter(|_| inside) else {
                continue;
            };
            let mut args = words(command);
            // variables before the program
            args.drain(..args.iter().take_while(|word| word.contains('=')).count());
            if args.first().is_some_and(|program| program == "tts") {
                args.remove(0);
                shown.push(Shown {
                    place: format!("{}:{}: {line}", document.display(), at + 1),
                    runs: runs.then(|| command.to_owned()),
                    args,
                });
            }
        }
    }
    shown
}

fn tts() -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_tts"));
    command.env("HF_HUB_OFFLINE", "1");
    command
}

/// Flags and their values are read before help is given.
#[test]
fn commands_are_understood() {
    let commands = commands();
    assert!(commands.len() >= 60, "{}", commands.len());
    for Shown { place, args, .. } in &commands {
        let said = tts().args(args).arg("--help").output().unwrap();
        assert!(
            said.status.success(),
            "{place}\n{}",
            String::from_utf8_lossy(&said.stderr)
        );
    }
}

#[test]
fn commands_that_need_nothing_run() {
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_tts")).parent().unwrap();
    let path = std::env::join_paths(std::iter::once(program.to_owned()).chain(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    )))
    .unwrap();
    let mut ran = 0;
    for Shown { place, runs, .. } in commands() {
        let Some(line) = runs else { continue };
        let mut shell = assert_cmd::Command::new("sh");
        shell
            .args(["-c", &line])
            .env("PATH", &path)
            .env("HF_HUB_OFFLINE", "1");
        let said = shell.current_dir(&folder).output().unwrap();
        assert!(
            said.status.success(),
            "{place}\n{}",
            String::from_utf8_lossy(&said.stderr)
        );
        ran += 1;
    }
    assert!(ran >= 10, "{ran}");
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
