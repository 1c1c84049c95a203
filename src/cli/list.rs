//! `tts list`.

use crate::evals::task::Task;
use crate::fmt::nearest;
use crate::hub::HubOptions;
use crate::loaded::{BUNDLED, LoadOptions, Loaded};
use crate::strategies::{Register, Value as SettingValue};
use anyhow::bail;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tts_model::arch;

use super::ExitStatus;
use super::printer::Printer;
use super::strategy::long;
use super::table::{drawn_within, wrapped};

#[derive(Args)]
pub(crate) struct ListArgs {
    /// What to list [default: the names of all three]
    what: Option<ListKind>,
    /// A strategy, to see in full
    name: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ListKind {
    /// Models by name, and the families of which any folder, GGUF file or hub id works too
    Models,
    /// Problem sets with their graders
    Tasks,
    /// Strategies by name; a preset file works too
    Strategies,
}

/// Published models: hub id and the name of its shape.
const PUBLISHED: [(&str, &str); 8] = [
    ("tiiuae/Falcon-H1R-7B", "falcon-h1r-7b"),
    ("tiiuae/Falcon-H1-Tiny-90M-Instruct", "tiny-90m"),
    ("tiiuae/Falcon-H1-0.5B-Instruct", "falcon-h1-0.5b"),
    ("tiiuae/Falcon-H1-1.5B-Instruct", "falcon-h1-1.5b"),
    ("tiiuae/Falcon-H1-1.5B-Deep-Instruct", "falcon-h1-1.5b-deep"),
    ("tiiuae/Falcon-H1-3B-Instruct", "falcon-h1-3b"),
    ("tiiuae/Falcon-H1-7B-Instruct", "falcon-h1-7b"),
    ("tiiuae/Falcon-H1-34B-Instruct", "falcon-h1-34b"),
];

pub(crate) fn run(args: &ListArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let width = printer.width().unwrap_or(IN_A_PIPE);
    let Some(what) = args.what else {
        return names(width, printer);
    };
    if let Some(name) = &args.name {
        if !matches!(what, ListKind::Strategies) {
            bail!("only strategies are shown one by one: tts list strategies {name}");
        }
        return one(Register::shipped(), name, width, printer);
    }
    let (columns, rows): (&[&'static str], _) = match what {
        ListKind::Models => (&["name", "parameters", "where"], models()?),
        ListKind::Tasks => (&["name", "problems", "data", "checked", "description"], tasks()?),
        ListKind::Strategies => (&["name", "description"], strategies(Register::shipped())?),
    };
    if printer.json() {
        for row in &rows {
            printer.object(row)?;
        }
        if matches!(what, ListKind::Models) {
            for family in arch::register() {
                printer.object(&json!({
                    "name": family.name, "kind": "family", "models": family.models, "gguf": family.gguf,
                    "checked": family.checked, "paper": family.paper
                }))?;
            }
        }
        return Ok(ExitStatus::Done);
    }
    let mut table = vec![columns.iter().map(|c| (*c).to_owned()).collect()];
    for row in &rows {
        table.push(columns.iter().map(|column| cell(&row[column])).collect());
    }
    printer.line(laid_out(&table, width).trim_end())?;
    if matches!(what, ListKind::Models) {
        printer.line("")?;
        printer.line(laid_out(&families(), width).trim_end())?;
    }
    if matches!(what, ListKind::Strategies) {
        printer.note(
            "tts list strategies NAME shows one with its settings; a file with other settings is a strategy too \
             (--strategy my.toml), and so is a program of yours in any language (--strategy exec:./policy.py)",
        );
    }
    Ok(ExitStatus::Done)
}

/// The names of everything that is known, a line a kind.
fn names(width: usize, printer: &Printer) -> anyhow::Result<ExitStatus> {
    for (what, rows) in [
        ("models", models()?),
        ("tasks", tasks()?),
        ("strategies", strategies(Register::shipped())?),
    ] {
        let names = rows.iter().filter_map(|row| row["name"].as_str());
        let names: Vec<&str> = names.collect();
        if printer.json() {
            printer.object(&json!({ "what": what, "names": names }))?;
        } else {
            let line = format!("{what}: {}", names.join(", "));
            printer.line(&wrapped(&line, Some(width), 2))?;
        }
    }
    printer.note("more of each: tts list models, tts list tasks, tts list strategies");
    Ok(ExitStatus::Done)
}

/// A strategy with its settings.
fn one(register: &Register, name: &str, width: usize, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let all = strategies(register)?;
    let Some(row) = all.iter().find(|row| row["name"] == name) else {
        let near = nearest(name, register.names()).unwrap_or_default();
        bail!("there is no strategy `{name}`; did you mean `{near}`? tts list strategies shows all");
    };
    if printer.json() {
        printer.object(row)?;
        return Ok(ExitStatus::Done);
    }
    let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
    printer.line(&format!("{name}: {}", text("description")))?;
    if !text("citation").is_empty() {
        printer.line(&wrapped(&format!("from {}", text("citation")), Some(width), 2))?;
    }
    printer.line("")?;
    let of_it = |setting: &Vec<String>| row["about_settings"].get(&setting[0]).is_some();
    let mut table = vec![
        ["setting", "flag", "here", "must be", "what it does"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for setting in settings(register).into_iter().filter(of_it) {
        let [name, flag, help, right] = &setting[..] else {
            continue;
        };
        let here = cell(&row["settings"][name]);
        table.push([name, flag, &here, right, help].map(String::clone).to_vec());
    }
    printer.line(laid_out(&table, width).trim_end())?;
    Ok(ExitStatus::Done)
}

/// A value as it stands in a table.
fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Columns where no terminal says how many there are.
const IN_A_PIPE: usize = 100;

/// A table where it fits into the width, else a paragraph a row: its name, and below it what the others say.
fn laid_out(table: &[Vec<String>], width: usize) -> String {
    let columns = table.first().map_or(0, Vec::len);
    let drawn = drawn_within(table, columns, 1, None);
    if drawn.lines().all(|line| line.chars().count() <= width) {
        return drawn;
    }
    let mut text = String::new();
    let Some((heads, rows)) = table.split_first() else {
        return text;
    };
    for row in rows {
        text += &format!("{}\n", row[0]);
        for (head, value) in heads
            .iter()
            .zip(row)
            .skip(1)
            .filter(|(_, value)| !value.is_empty())
        {
            let named = match head.as_str() {
                "what it does" | "description" => String::new(),
                _ => format!("{head}: "),
            };
            let line = format!("    {named}{}", value.replace('\n', ", "));
            text += &(wrapped(&line, Some(width), 6) + "\n");
        }
    }
    text
}

fn models() -> anyhow::Result<Vec<Value>> {
    let cache = HubOptions::from_env().ok().map(|hub| hub.cache);
    let bundled = Loaded::open(&LoadOptions::default(), &mut |_| ())?;
    let mut rows = vec![json!({
        "name": BUNDLED,
        "parameters": parameters(bundled.spec().parameters()),
        "where": "in the program",
        "note": bundled.prompter.as_ref().and_then(|p| p.note()),
    })];
    for (id, shape) in PUBLISHED {
        let folder = format!("models--{}", id.replace('/', "--"));
        let here = cache
            .as_ref()
            .is_some_and(|c| c.join(folder).join("snapshots").is_dir());
        rows.push(json!({
            "name": id,
            "parameters": arch::shape(shape).map(|spec| parameters(spec.parameters())),
            "where": if here { "in the cache" } else { "on the hub" },
        }));
    }
    Ok(rows)
}

/// A row for each family that can be run.
fn families() -> Vec<Vec<String>> {
    let head = ["family", "models", "in GGUF", "checked against"].map(str::to_owned);
    let row = |family: &arch::Architecture| {
        let gguf = family.gguf.join(", ");
        vec![
            family.name.into(),
            family.models.into(),
            gguf,
            family.checked.into(),
        ]
    };
    std::iter::once(head.into())
        .chain(arch::register().iter().map(row))
        .collect()
}

/// A number of parameters in millions or thousands of millions, as `7.6 B`.
pub(crate) fn parameters(n: u64) -> String {
    match n as f64 {
        n if n >= 1e9 => format!("{:.1} B", n / 1e9),
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        n => format!("{:.0} K", n / 1e3),
    }
}

fn tasks() -> anyhow::Result<Vec<Value>> {
    Task::names()
        .map(|name| {
            let task = Task::named(name)?;
            let data = task
                .data
                .hub
                .or(task.data.file)
                .unwrap_or_else(|| "in the program".to_owned());
            // a copy is noticed that is not what it was; where no task says what that is, the hub's own sums
            // must do
            let checked = match (&task.data.bundled, &task.data.sha256, &task.data.answers) {
                (Some(_), ..) => "is the program's",
                (_, Some(_), _) => "file",
                (_, _, Some(_)) => "answers",
                _ => "download",
            };
            Ok(json!({
                "name": task.name, "problems": task.count, "data": data, "checked": checked,
                "description": task.description
            }))
        })
        .collect()
}

/// A row for each preset, with the values of its settings and what each of them may be.
fn strategies(register: &Register) -> anyhow::Result<Vec<Value>> {
    register
        .names()
        .map(|name| {
            let preset = register.preset(name)?;
            let row = preset.row().into_iter();
            let about = row.clone().flat_map(|row| row.settings).map(|setting| {
                let about = json!({
                    "flag": format!("--{}", long(setting)),
                    "field": setting.field(),
                    "default": setting.default,
                    "range": setting.right(),
                    "help": setting.help,
                });
                (setting.name.to_owned(), about)
            });
            let about: serde_json::Map<_, _> = about.collect();
            let citation = row.map(|row| row.citation).next();
            let preset = serde_json::to_value(&preset)?;
            Ok(json!({
                "name": name,
                "kind": preset["kind"],
                "description": preset["description"],
                "citation": citation,
                "settings": preset["settings"],
                "about_settings": about,
            }))
        })
        .collect()
}

/// A table of all settings: flag, what it does, what it may be.
fn settings(register: &Register) -> Vec<Vec<String>> {
    let mut table = vec![
        ["setting", "flag", "what it does", "must be"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for setting in register.settings() {
        let flag = format!("--{} {}", long(setting), setting.placeholder);
        // on a command line a switch has words of its own
        let right = match setting.default {
            SettingValue::Switch(_) => "on or off".to_owned(),
            _ => setting.right(),
        };
        table.push(vec![
            setting.name.to_owned(),
            flag,
            setting.help.to_owned(),
            right,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::{Preset, Range, Setting, StrategyRow};

    static PATIENT: StrategyRow = StrategyRow {
        kind: "patient",
        description: "a majority that waits",
        citation: "arXiv 2203.11171",
        settings: &[
            Setting::new("patience", SettingValue::Count(3), "N", "Traces to wait for")
                .within(Range::at_least(2.0, "at least 2")),
        ],
        presets: &[(
            "calm",
            "kind = \"patient\"\ndescription = \"waits long\"\n[settings]\npatience = 9\n",
        )],
        ends_early: false,
        build: |_, _| Preset::named("majority").expect("it ships").build(),
    };

    /// A line of 80 columns holds the longest name, two blanks and the longest description.
    #[test]
    fn every_strategy_is_a_line() {
        for name in Register::shipped().names() {
            let preset = Preset::named(name).expect("it ships");
            assert!(
                name.len() <= 20 && preset.description.len() <= 57,
                "{name}: {}",
                preset.description
            );
        }
    }

    #[test]
    fn a_row_is_listed_with_its_settings() {
        let register = Register::shipped().with(&PATIENT).expect("a sound row");
        let list = strategies(&register).expect("a list");
        let about = json!({
            "flag": "--patience", "field": "patience", "default": 3, "range": "at least 2", "help": "Traces \
                to wait for",
        });
        let row = json!({
            "name": "calm",
            "kind": "patient",
            "description": "waits long",
            "citation": "arXiv 2203.11171",
            "settings": { "patience": 9 },
            "about_settings": { "patience": about },
        });
        assert_eq!(list.last(), Some(&row));
        let table = laid_out(&settings(&register), 80);
        assert!(
            table.contains("--patience N") && table.contains("Traces to wait for"),
            "{table}"
        );
        assert!(!laid_out(&settings(Register::shipped()), 80).contains("--patience"));
    }
}
