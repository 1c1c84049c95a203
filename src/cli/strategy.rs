//! Flags of strategies: `--strategy`, and one for each setting in the register.

use crate::solver::named_strategy;
use crate::strategies::{Overrides, Preset, Register, Setting, Value, ValueType};
use clap::builder::{EnumValueParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::args::Switch;

/// The heading of these flags in help.
const HEADING: &str = "Strategy";

/// Which strategy decides, and settings over its preset's.
#[derive(Clone, Debug, Default)]
pub(crate) struct StrategyArgs {
    strategy: Option<String>,
    given: Overrides,
}

impl StrategyArgs {
    /// The preset that was named, with the flags over it.
    pub(crate) fn named(&self) -> anyhow::Result<Option<Preset>> {
        self.strategy
            .as_deref()
            .map(|name| self.over(named_strategy(name)?))
            .transpose()
    }

    /// A preset with the flags over it.
    pub(crate) fn over(&self, mut preset: Preset) -> anyhow::Result<Preset> {
        preset.apply(&self.given)?;
        Ok(preset)
    }

    fn read(matches: &ArgMatches, register: &Register) -> Self {
        let mut given = Overrides::default();
        for setting in register.settings() {
            if let Some(value) = matches.get_one::<Value>(setting.field()) {
                given.set(setting.name, *value);
            }
        }
        Self {
            strategy: matches.get_one("strategy").cloned(),
            given,
        }
    }
}

impl FromArgMatches for StrategyArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self::read(matches, Register::shipped()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for StrategyArgs {
    fn augment_args(command: Command) -> Command {
        flags(command, Register::shipped())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// A command with the flags of these strategies.
fn flags(command: Command, register: &Register) -> Command {
    let strategy = Arg::new("strategy")
        .long("strategy")
        .value_name("NAME|FILE.toml|exec:COMMAND")
        .help(
            "A strategy of `tts list strategies`, or a preset file [default: adaptive-consistency; of a recording: \
             its own]",
        )
        .help_heading(HEADING);
    register
        .settings()
        .into_iter()
        .fold(command.arg(strategy), |command, setting| {
            command.arg(flag(setting))
        })
}

fn flag(setting: &'static Setting) -> Arg {
    // clap keeps names for the life of the program
    let long: &'static str = Box::leak(long(setting).into_boxed_str());
    let value_type = setting.value_type();
    let parser = match value_type {
        ValueType::Switch => {
            let switch = EnumValueParser::<Switch>::new();
            ValueParser::new(switch.map(|switch| Value::Switch(switch.is_on())))
        }
        _ => ValueParser::new(move |text: &str| value_type.parse(text)),
    };
    Arg::new(setting.field())
        .long(long)
        .value_name(setting.placeholder)
        .help(setting.help)
        .help_heading(HEADING)
        .allow_negative_numbers(matches!(value_type, ValueType::Number | ValueType::Consensus))
        .value_parser(parser)
}

/// The long name of a setting's flag, as `keep-top`.
pub(crate) fn long(setting: &Setting) -> String {
    setting.field().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::{Range, StrategyRow};

    fn read(words: &[&str], register: &Register) -> Result<StrategyArgs, clap::Error> {
        let command = flags(Command::new("tts").no_binary_name(true), register);
        let matches = command.try_get_matches_from(words)?;
        Ok(StrategyArgs::read(&matches, register))
    }

    #[test]
    fn every_setting_of_every_strategy_has_a_flag() {
        for row in Register::shipped().rows() {
            for setting in row.settings {
                let default = match setting.default {
                    Value::Switch(on) => if on { "on" } else { "off" }.to_owned(),
                    other => other.to_string(),
                };
                let words = [format!("--{}={default}", long(setting))];
                let args = read(&[&words[0]], Register::shipped()).expect(&words[0]);
                let preset = Preset::new(row);
                assert_eq!(
                    args.over(preset.clone()).expect(&words[0]),
                    preset,
                    "{}",
                    words[0]
                );
                assert_eq!(
                    args.given.iter().collect::<Vec<_>>(),
                    [(setting.name, setting.default)]
                );
            }
        }
    }

    static PATIENT: StrategyRow = StrategyRow {
        kind: "patient",
        description: "a majority that waits",
        citation: "arXiv 2203.11171",
        settings: &[
            Setting::new("patience_so_far", Value::Count(3), "N", "Traces to wait for")
                .within(Range::at_least(2.0, "at least 2")),
        ],
        presets: &[],
        ends_early: false,
        build: |_, _| Preset::named("majority").expect("it ships").build(),
    };

    #[test]
    fn a_row_brings_its_flags() {
        let register = Register::shipped().with(&PATIENT).expect("a sound row");
        let args = read(&["--patience-so-far", "7", "--min-votes", "2"], &register).expect("flags");
        let given: Vec<_> = args.given.iter().collect();
        assert_eq!(
            given,
            [
                ("min_votes", Value::Count(2)),
                ("patience_so_far", Value::Count(7))
            ]
        );
        let help = flags(Command::new("tts"), &register)
            .render_long_help()
            .to_string();
        assert!(
            help.contains("--patience-so-far <N>") && help.contains("Traces to wait for"),
            "{help}"
        );
        let refused = read(&["--patience-so-far", "many"], &register)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("--patience-so-far <N>"), "{refused}");
        assert!(read(&["--patience-so-far", "7"], Register::shipped()).is_err());
        let impatient = read(&["--patience-so-far", "1"], &register).expect("a number");
        let refused = impatient.over(Preset::new(&PATIENT)).unwrap_err().to_string();
        assert_eq!(
            refused,
            "patience_so_far of the strategy \"patient\" must be at least 2, not 1"
        );
    }
}
