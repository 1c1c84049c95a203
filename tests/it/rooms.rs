//! Rooms of the house import downwards only: a file that imports a room above its own fails here, with its
//! name and the import.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rooms of `src/`, from the bottom up. A room may import those before it and none after it; rooms of one
/// line may not import each other either.
const FLOORS: &[&[&str]] = &[
    &["caught", "fmt", "grammar", "own_files"],
    &["hub", "openai", "policy", "prompt"],
    &["run"],
    &["device", "problem_set"],
    &["error"],
    &["loaded", "engine"],
    &["bench", "source"],
    &["solver"],
    &["evaluation", "replay", "serve"],
    &["facade"],
    &["pilot", "sweep"],
    &["report"],
    &["cli"],
];

/// The crates that know neither each other nor what stands above them.
const CRATES: [&str; 3] = ["model", "strategies", "evals"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, by name.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The rooms that a file's text names as `crate::room` or `tts::room`, or in the braces after either, each
/// with the line where it does. What stands in comments does not count.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text
        .lines()
        .map(|l| l.split("//").next().unwrap_or_default())
        .collect();
    let code = lines.join("\n");
    for root in ["crate::", "tts::"] {
        for (at, _) in code.match_indices(root) {
            // the end of a longer word is no root
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let after = &code[at + root.len()..];
            let names = match after.strip_prefix('{') {
                Some(group) => heads(group),
                None => vec![word(after)],
            };
            found.extend(names.into_iter().map(|name| (line, name.to_owned())));
        }
    }
    found
}

/// The first word of each item of a group of imports; `group` begins behind its brace.
fn heads(group: &str) -> Vec<&str> {
    let (mut depth, mut heads, mut start) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && !c.is_whitespace() => {
                heads.push(word(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    &text[..end.unwrap_or(text.len())]
}

/// The room that a file of `src/` stands in; nothing for the roots of the two crates, which name all.
fn room(file: &Path) -> Option<String> {
    let first = file.strip_prefix(root().join("src")).unwrap().iter().next()?;
    let name = first.to_str()?.trim_end_matches(".rs").to_owned();
    (!matches!(name.as_str(), "lib" | "main")).then_some(name)
}

/// Every import of one room by another: (importing, imported) with the places where it happens.
fn arrows() -> BTreeMap<(String, String), Vec<String>> {
    let rooms: BTreeSet<&str> = FLOORS.iter().copied().flatten().copied().collect();
    let mut arrows: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for file in sources(&root().join("src")) {
        let Some(room) = room(&file) else { continue };
        let shown = file.strip_prefix(root()).unwrap().display().to_string();
        assert!(
            rooms.contains(room.as_str()),
            "{shown} stands in the room `{room}`, which has no floor: give it one in {}",
            file!()
        );
        for (line, name) in imports(&std::fs::read_to_string(&file).unwrap()) {
            if name != room && rooms.contains(name.as_str()) {
                let place = format!("{shown}:{line} imports `{name}`");
                arrows.entry((room.clone(), name)).or_default().push(place);
            }
        }
    }
    arrows
}

#[test]
fn rooms_import_downwards_only() {
    let floor = |room: &str| FLOORS.iter().position(|f| f.contains(&room)).unwrap();
    let upwards: Vec<String> = arrows()
        .into_iter()
        .filter(|((from, to), _)| floor(to) >= floor(from))
        .flat_map(|((from, to), places)| {
            let wrong = move |place| format!("{place}, but `{from}` stands below or beside `{to}`");
            places.into_iter().map(wrong)
        })
        .collect();
    assert!(upwards.is_empty(), "{}", upwards.join("\n"));
}

#[test]
fn imports_are_found_wherever_they_stand() {
    let text = "use crate::run::{Pool, self};\nuse crate::{error::Error, source::{Local, remote::Key}};\n\
        // use crate::cli;\nlet x = tts::serve::Keys::default(); my_crate::other; $crate::macros";
    let found: Vec<_> = imports(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(found, ["run", "error", "source", "macros", "serve"]);
}

#[test]
fn pure_crates_know_nothing_of_each_other() {
    for name in CRATES {
        let manifest = std::fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let named = manifest.get(section).and_then(toml::Value::as_table);
            for dependency in named.into_iter().flat_map(|t| t.keys()) {
                let house = dependency == "tts" || dependency.starts_with("tts-");
                assert!(!house, "{name}/Cargo.toml names {dependency} in [{section}]");
            }
        }
    }
}
