//! The command line: arguments in, a library call, a printer out. One file a subcommand.

mod args;
mod bench;
mod complete;
mod completions;
mod config_file;
mod doctor;
mod downloads;
mod evaluate;
mod generate;
mod grade;
mod interrupt;
mod list;
mod number;
mod pilot;
mod printer;
mod progress;
mod reckoned;
mod recordings;
mod replay;
mod report;
mod result;
mod samples;
mod score;
mod serve;
mod shape;
mod solve;
mod solver;
mod stdin;
mod strategy;
mod sweep;
mod table;
mod task;
mod token_ids;
mod trace_args;
mod usage;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::fmt::{meant, nearest};
use printer::Printer;

/// Solves problems with many reasoning traces at once: weak ones are stopped while they run, the answer is
/// voted by confidence.
#[derive(Parser)]
#[command(name = "tts", version, max_term_width = 110, args_override_self = false)]
#[command(after_help = "Start with:
  tts solve \"Find the greatest common divisor of 252 and 180.\"
  tts solve --data heldout --limit 20 --traces 32
  tts solve --model ./model.gguf --data problems.jsonl --run out/
  tts serve

Every flag can also be set as TTS_<FLAG> in the environment, or by its name in the file of --config.")]
struct Cli {
    #[command(flatten)]
    global: args::GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Solves a problem, or a set of them
    Solve(Box<solve::SolveArgs>),
    /// Accuracy against tokens: strategies and budgets over a set, or over a recording of it
    Sweep(Box<sweep::SweepArgs>),
    /// Decides again over recorded traces, without a model
    Replay(Box<replay::ReplayArgs>),
    /// Reads a text and prints what the model thought of each token
    Score(score::ScoreArgs),
    /// Continues a raw prompt, without the chat template
    Complete(Box<complete::CompleteArgs>),
    /// Writes problems with exact answers and worked solutions
    Generate(generate::GenerateArgs),
    /// Compares answers with gold answers, line by line
    Grade(grade::GradeArgs),
    /// Measures decode and prefill speed and memory by batch size
    Bench(Box<bench::BenchArgs>),
    /// Looks at a few problems and says which strategy suits this model, and what the whole set would cost
    Pilot(Box<pilot::PilotArgs>),
    /// Shows what a run or a sweep found: tables, plots, a page
    Report(report::ReportArgs),
    /// Answers over HTTP as an OpenAI-compatible endpoint, with a page that shows the traces as they run
    Serve(Box<serve::ServeArgs>),
    /// Lists the models, tasks or strategies that are known
    List(list::ListArgs),
    /// Says what this machine has and what a model takes
    Doctor(doctor::DoctorArgs),
    /// Writes a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitStatus {
    /// It did what it was asked.
    Done,
    /// It ran, and there is no answer.
    NoAnswer,
    /// The input was wrong, or the run could not go on.
    Refused,
    /// Ctrl-C ended it; what is in the run folder can be gone on with.
    Interrupted,
}

impl From<ExitStatus> for u8 {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Done => 0,
            ExitStatus::NoAnswer => 1,
            ExitStatus::Refused => 2,
            ExitStatus::Interrupted => 130,
        }
    }
}

/// Runs `tts` on the words of this program's command line and gives its exit code.
pub fn main() -> ExitCode {
    main_of(std::env::args_os().collect()).into()
}

/// Runs `tts` on the words of a command line, of which the first names the program, and gives its exit code.
pub fn main_of(words: Vec<OsString>) -> u8 {
    hide_caught_panics();
    log_to_stderr();
    let cli = match parse(words) {
        Ok(cli) => cli,
        Err(ParseError::Clap(error)) => {
            if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                Printer::new(false, false).error(&usage::sentence(&error));
                return ExitStatus::Refused.into();
            }
            // help and version go to stdout and are no failure
            let _ = error.print();
            return if error.use_stderr() {
                ExitStatus::Refused
            } else {
                ExitStatus::Done
            }
            .into();
        }
        Err(ParseError::ConfigFile(error)) => {
            Printer::new(false, false).error(&error.to_string());
            return ExitStatus::Refused.into();
        }
    };
    let printer = Printer::new(cli.global.json, cli.global.quiet);
    for sentence in misspelt_variables() {
        printer.warn(&sentence);
    }
    let ended = run(cli.command, &printer).and_then(|status| {
        printer.flush()?;
        Ok(status)
    });
    match ended {
        Ok(status) => status.into(),
        // whoever read our output has enough of it
        Err(error) if is_broken_pipe(&error) => ExitStatus::Done.into(),
        Err(error) => {
            printer.error(&error.to_string());
            ExitStatus::Refused.into()
        }
    }
}

/// The reader of parquet files panics at some damage, which is caught and told in a sentence: the panic
/// itself is not the user's.
fn hide_caught_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|at| at.file().contains("parquet")) {
            usual(info);
        }
    }));
}

fn run(command: Command, printer: &Printer) -> anyhow::Result<ExitStatus> {
    match command {
        Command::Solve(args) => solve::run(&args, printer),
        Command::Sweep(args) => sweep::run(&args, printer),
        Command::Replay(args) => replay::run(&args, printer),
        Command::Score(args) => score::run(&args, printer),
        Command::Complete(args) => complete::run(&args, printer),
        Command::Generate(args) => generate::run(&args, printer),
        Command::Grade(args) => grade::run(&args, printer),
        Command::Bench(args) => bench::run(&args, printer),
        Command::Pilot(args) => pilot::run(&args, printer),
        Command::Report(args) => report::run(&args, printer),
        Command::Serve(args) => serve::run(&args, printer),
        Command::List(args) => list::run(&args, printer),
        Command::Doctor(args) => doctor::run(&args, printer),
        Command::Completions(args) => completions::run(&args, printer),
    }
}

enum ParseError {
    Clap(clap::Error),
    ConfigFile(anyhow::Error),
}

/// Reads the command line, the environment and the file of `--config`, in this order of precedence.
fn parse(mut words: Vec<OsString>) -> Result<Cli, ParseError> {
    let mut command = command();
    let mut matches = command
        .try_get_matches_from_mut(&words)
        .map_err(ParseError::Clap)?;
    if let Some(file) = matches.get_one::<std::path::PathBuf>("config").cloned() {
        let added = config_file::words(&file, &command, &matches).map_err(ParseError::ConfigFile)?;
        if !added.is_empty() {
            let end = words.iter().position(|w| w == "--").unwrap_or(words.len());
            words.splice(end..end, added);
            matches = command.try_get_matches_from_mut(&words).map_err(|error| {
                ParseError::ConfigFile(anyhow::anyhow!("{}: {}", file.display(), usage::sentence(&error)))
            })?;
        }
    }
    Cli::from_arg_matches(&matches).map_err(ParseError::Clap)
}

/// The whole command line, each flag with its variable.
fn command() -> clap::Command {
    Cli::command().mut_args(with_variable).mut_subcommands(|c| {
        let long = LONG.contains(&c.get_name());
        let c = with_examples(c.mut_args(with_variable));
        if long { c.mut_args(briefly) } else { c }
    })
}

/// What stands below a command's `--help`, where it does not say it itself.
const EXAMPLES: [(&str, &str); 9] = [
    (
        "sweep",
        "  tts sweep --data problems.jsonl --traces 1,4,16,64 --strategies majority,adaptive,esc --run swept/
  tts sweep --replay swept/ --traces 16 --strategies borda",
    ),
    (
        "replay",
        "  tts replay out/ --strategy deepconf-high --slots 8
  tts replay mine.jsonl --field answer=prediction --field gold=label",
    ),
    ("report", "  tts report out/ --html out.html"),
    (
        "pilot",
        "  tts pilot --model ./model.gguf --data problems.jsonl
  tts pilot --replay out/",
    ),
    (
        "doctor",
        "  tts doctor --model ./model.gguf --traces 64
  tts doctor --shape falcon-h1r-7b --dtype q4_k_m",
    ),
    (
        "bench",
        "  tts bench --model ./model.gguf --batch 1,8,64
  tts bench --shape falcon-h1-0.5b --dtype q8_0 --context 0,4096 --limits",
    ),
    ("score", "  tts score --model ./model --text \"2 + 2 = 4\" --json"),
    (
        "list",
        "  tts list strategies
  tts list strategies deepconf-low",
    ),
    ("generate", "  tts generate --count 100 --seed 7 > problems.jsonl"),
];

fn with_examples(command: clap::Command) -> clap::Command {
    let found = EXAMPLES.iter().find(|(name, _)| *name == command.get_name());
    let own = command.get_after_help().map(ToString::to_string);
    let of_it = found.map(|(_, examples)| format!("Examples:\n{examples}"));
    let before = of_it.or(own).map_or_else(String::new, |text| text + "\n\n");
    command.after_long_help(format!(
        "{before}Every command with its formats and limits: docs/guide.md, beside the source."
    ))
}

/// Commands with so many flags that `-h` shows the usual ones alone.
const LONG: [&str; 6] = ["solve", "sweep", "replay", "pilot", "serve", "complete"];
/// Flags under a heading that `-h` shows.
const USUAL: [&str; 13] = [
    "strategy",
    "model",
    "device",
    "backend",
    "max-tokens",
    "time-limit",
    "temperature",
    "seed",
    "slots",
    "data",
    "limit",
    "field",
    "text",
];
/// Flags without a heading that `-h` leaves out.
const SELDOM: [&str; 12] = [
    "ids",
    "record-top-k",
    "checkpoint",
    "confidence-k",
    "unknown-fields",
    "request-log",
    "max-prompt",
    "max-body",
    "max-requests",
    "max-connections",
    "patience",
    "drain",
];

/// Hides a flag from `-h` that few need, and says what the others are in a line.
fn briefly(arg: Arg) -> Arg {
    let seldom = arg.get_long().is_some_and(|long| SELDOM.contains(&long));
    let usual = arg.get_long().is_none_or(|long| USUAL.contains(&long));
    let hidden = seldom || (arg.get_help_heading().is_some() && !usual);
    let arg = arg.hide_short_help(hidden);
    let Some(whole) = arg.get_help().map(ToString::to_string).filter(|_| !hidden) else {
        return arg;
    };
    let brief = in_brief(&whole);
    arg.help(brief).long_help(whole)
}

/// What stands before the first sign that more follows, and the default.
fn in_brief(help: &str) -> String {
    let (text, default) = match help.rfind(" [default: ") {
        Some(at) => help.split_at(at),
        None => (help, ""),
    };
    let ends = ["; ", ": ", ". ", ", as ", ", so that ", " (a "];
    let end = ends.iter().filter_map(|end| text.find(end)).min();
    // a default that needs explaining is explained where there is room
    let default = Some(default).filter(|d| d.len() < 40).unwrap_or_default();
    format!("{}{default}", &text[..end.unwrap_or(text.len())])
}

/// Variables that stand for no flag.
const VARIABLES: [&str; 3] = ["TTS_LOG", serve::KEY, "TTS_BACKEND_API_KEY"];

/// The variable that stands for a flag.
fn variable(long: &str) -> String {
    format!("TTS_{}", long.to_uppercase().replace('-', "_"))
}

/// What to say of variables in the environment that look like slips of ours. Others that begin like them may be
/// other programs'.
fn misspelt_variables() -> Vec<String> {
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let ours: Vec<String> = set
        .filter(|name| name.starts_with("TTS_") && !VARIABLES.contains(&name.as_str()))
        .collect();
    if ours.is_empty() {
        return Vec::new();
    }
    let command = Cli::command();
    let all = std::iter::once(&command).chain(command.get_subcommands());
    let flags = all.flat_map(|c| c.get_arguments()).filter_map(Arg::get_long);
    let known: Vec<String> = flags.map(variable).chain(VARIABLES.map(str::to_owned)).collect();
    ours.into_iter()
        .filter(|name| !known.contains(name))
        .filter_map(|name| {
            // the beginning that all share says nothing of what was meant
            let rest = known.iter().map(|known| &known["TTS_".len()..]);
            let meant = meant(&name["TTS_".len()..], rest)?;
            Some(format!(
                "the variable {name} sets nothing; did you mean TTS_{meant}?"
            ))
        })
        .collect()
}

fn with_variable(arg: Arg) -> Arg {
    let Some(long) = arg.get_long().filter(|long| !matches!(*long, "help" | "version")) else {
        return arg;
    };
    let name = variable(long);
    // clap keeps names for the life of the program
    let name: &'static str = Box::leak(name.into_boxed_str());
    let arg = if matches!(arg.get_action(), ArgAction::SetTrue) {
        arg.value_parser(BoolishValueParser::new())
    } else {
        arg
    };
    let takes_value = arg.get_action().takes_values();
    // so that what is wrong with -1 is said of the flag before it
    arg.env(name).hide_env(true).allow_negative_numbers(takes_value)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|e| {
        e.downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

fn log_to_stderr() {
    // what libraries have to say is for who asks for it
    let filter = tracing_subscriber::EnvFilter::try_from_env("TTS_LOG").unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new("off,tts=warn,tts_model=warn,tts_strategies=warn,tts_evals=warn")
    });
    let colour = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
    // in a program of others, somebody may listen already
    let _ = tracing_subscriber::fmt()
        .with_ansi(colour && std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }

    /// README.md and the files of docs/, with their texts.
    fn documents() -> Vec<(PathBuf, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let docs = std::fs::read_dir(root.join("docs"))
            .unwrap()
            .map(|e| e.unwrap().path());
        let docs = docs.filter(|path| path.extension().is_some_and(|e| e == "md"));
        let read = |path: PathBuf| (path.clone(), std::fs::read_to_string(path).unwrap());
        docs.chain([root.join("README.md")]).map(read).collect()
    }

    /// The words of a line of a shell, up to its comment, its redirection or its end.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
        for c in line.chars() {
            match c {
                '"' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                '#' | '>' | ';' | '|' if !quoted && word.is_none() => break,
                c if c.is_whitespace() && !quoted => words.extend(word.take()),
                c => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    #[test]
    fn every_command_of_the_documentation_is_one() {
        let mut seen = 0;
        for (path, text) in documents() {
            let text = text.replace("\\\n", " ");
            let lines = text.lines().filter_map(|line| line.trim().strip_prefix("$ tts "));
            for line in lines {
                let typed = ["tts".to_owned()].into_iter().chain(words(line));
                if let Err(error) = super::command().try_get_matches_from(typed) {
                    panic!("{}: `tts {line}`: {error}", path.display());
                }
                seen += 1;
            }
        }
        assert!(seen > 40, "{seen}");
    }
}
