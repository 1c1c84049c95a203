//! `tts grade`.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read as _, stdin};

use crate::evals::data::{lost_backslash, lost_backslash_sentence};
use crate::evals::grade::grade_line;
use anyhow::{anyhow, bail};
use clap::Args;

use super::ExitStatus;
use super::number::{count, plural};
use super::printer::Printer;
use super::task::AnswerArgs;

#[derive(Args)]
pub(crate) struct GradeArgs {
    /// JSON lines with `gold` and either `prediction` or `text`; `-` reads stdin
    #[arg(default_value = "-", value_name = "FILE|-")]
    file: String,
    #[command(flatten)]
    answers: AnswerArgs,
}

/// Bytes that a line may have.
const MOST_LINE: u64 = 64 << 20;

/// The next line; `None` at the end.
fn next_line(input: &mut dyn BufRead) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    input.take(MOST_LINE).read_until(b'\n', &mut bytes)?;
    if bytes.len() as u64 == MOST_LINE {
        let problem = format!("it has more than {} MiB", MOST_LINE >> 20);
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, problem));
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| std::io::Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
}

pub(crate) fn run(args: &GradeArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let task = args.answers.task()?;
    let reader = args.answers.reader(task.as_ref())?;
    let (name, mut input): (&str, Box<dyn BufRead>) = if args.file == "-" {
        ("stdin", Box::new(stdin().lock()))
    } else {
        let file = File::open(&args.file).map_err(|e| anyhow!("{} cannot be read: {e}", args.file))?;
        (&args.file, Box::new(BufReader::new(file)))
    };
    let (mut graded, mut equal) = (0, 0);
    let mut lost_golds: Option<(u64, String)> = None;
    for i in 0.. {
        let wrong = |e: std::io::Error| anyhow!("{name}, line {}: {e}", i + 1);
        let Some(line) = next_line(&mut input).map_err(wrong)? else {
            break;
        };
        if line.trim().is_empty() {
            continue;
        }
        let out = grade_line(&line, i + 1, &reader).map_err(|e| anyhow!("{name}: {e}"))?;
        if let Some(lost) = out["gold"].as_str().and_then(lost_backslash) {
            let place = format!("{name}, line {}", i + 1);
            lost_golds
                .get_or_insert_with(|| (0, lost_backslash_sentence(&place, "gold answer", lost)))
                .0 += 1;
        }
        graded += 1;
        equal += u64::from(out["equal"] == true);
        printer.line(&out.to_string())?;
    }
    if let Some((times, first)) = lost_golds {
        let more = if times > 1 {
            format!(" (and so {} more)", plural(times - 1, "line"))
        } else {
            String::new()
        };
        printer.warn(&format!("{first}{more}"));
    }
    if graded == 0 {
        bail!("{name} holds no lines to grade");
    }
    printer.note(&format!(
        "{} of {} equal ({:.1} %)",
        count(equal),
        plural(graded, "answer"),
        100.0 * equal as f64 / graded as f64
    ));
    Ok(ExitStatus::Done)
}
