//! `tts completions`.

use clap::Args;

use super::ExitStatus;
use super::printer::Printer;

#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &CompletionsArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "tts", &mut script);
    printer.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitStatus::Done)
}
