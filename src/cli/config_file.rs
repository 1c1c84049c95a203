//! `--config FILE.toml`: any flag by its long name. The command line and the environment win.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{anyhow, bail};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use toml::{Table, Value};

use super::nearest;

/// The flags of `file` that nobody set otherwise, as words for the command line.
pub(crate) fn words(file: &Path, command: &Command, matches: &ArgMatches) -> anyhow::Result<Vec<OsString>> {
    let name = file.display();
    let text = tts_model::files::read_text(file, 16 << 20)
        .map_err(|e| anyhow!("--config {name} cannot be read: {e}"))?;
    let table: Table = toml::from_str(&text).map_err(|e| {
        let line = e
            .span()
            .map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
        anyhow!("{name}, line {line}: {}", e.message().replace('\n', ", "))
    })?;
    let known: Vec<&str> = command
        .get_subcommands()
        .flat_map(|c| c.get_arguments())
        .chain(command.get_arguments())
        .filter_map(flag)
        .collect();
    let (sub, sub_matches) = matches
        .subcommand()
        .ok_or_else(|| anyhow!("no command was given"))?;
    let sub = command
        .find_subcommand(sub)
        .ok_or_else(|| anyhow!("no command was given"))?;
    let mut words = Vec::new();
    for (key, value) in &table {
        let key = key.replace('_', "-");
        if !known.contains(&key.as_str()) {
            let tip = nearest(&key, known.iter().copied())
                .map_or_else(String::new, |k| format!("; did you mean `{k}`?"));
            bail!("{name}: there is no flag `{key}`{tip}");
        }
        // a flag of another command is no mistake: one file serves them all
        let Some(arg) = sub
            .get_arguments()
            .chain(command.get_arguments())
            .find(|a| flag(a) == Some(&key))
        else {
            continue;
        };
        let given = |arg: &Arg| {
            let source = |m: &ArgMatches| {
                m.try_contains_id(arg.get_id().as_str())
                    .is_ok()
                    .then(|| m.value_source(arg.get_id().as_str()))
                    .flatten()
            };
            [sub_matches, matches]
                .into_iter()
                .any(|m| source(m).is_some_and(|s| s != ValueSource::DefaultValue))
        };
        let contradicted = sub.get_arguments().any(|a| a.get_id() == arg.get_id())
            && sub.get_arg_conflicts_with(arg).into_iter().any(given);
        if given(arg) || contradicted {
            continue;
        }
        words.extend(
            values(&key, value).map_err(|what| anyhow!("{name}: `{key}` is {what}, which no flag takes"))?,
        );
    }
    Ok(words)
}

fn flag(arg: &Arg) -> Option<&str> {
    arg.get_long()
        .filter(|long| !matches!(*long, "help" | "version" | "config"))
}

fn values(key: &str, value: &Value) -> Result<Vec<OsString>, &'static str> {
    let one = |text: String| vec![OsString::from(format!("--{key}={text}"))];
    Ok(match value {
        Value::Boolean(true) => vec![OsString::from(format!("--{key}"))],
        Value::Boolean(false) => Vec::new(),
        Value::String(text) => one(text.clone()),
        Value::Integer(n) => one(n.to_string()),
        Value::Float(x) => one(x.to_string()),
        Value::Array(items) => items
            .iter()
            .map(|item| values(key, item))
            .collect::<Result<Vec<_>, _>>()?
            .concat(),
        Value::Datetime(day) if day.time.is_none() => one(day.to_string()),
        Value::Datetime(_) => return Err("a time of day"),
        Value::Table(_) => return Err("a table"),
    })
}
