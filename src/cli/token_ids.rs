//! `--text`, `-` and `--token-ids`: what a model is to read, raw.

use super::printer::Printer;
use crate::Loaded;
use crate::evals::generate::recognise;
use crate::solver::UNLEARNT;
use anyhow::bail;
use clap::Args;

/// Where the tokens come from.
#[derive(Args)]
pub(crate) struct InputArgs {
    /// The text, as --text; `-` reads it from stdin
    #[arg(value_name = "TEXT", conflicts_with_all = ["text", "token_ids"])]
    given: Option<String>,
    /// The text; special tokens written in it are recognised, none is added
    #[arg(long, value_name = "TEXT", conflicts_with = "token_ids")]
    text: Option<String>,
    /// Token ids instead of a text, as 1,2,3; needs no tokenizer
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    token_ids: Option<Vec<u32>>,
}

impl InputArgs {
    /// The ids, all of which the model has.
    pub(crate) fn ids(&self, loaded: &Loaded, printer: &Printer) -> anyhow::Result<Vec<u32>> {
        let spec = loaded.spec();
        let stdin = self.given.as_deref() == Some("-");
        let typed = self.given.as_ref().filter(|_| !stdin);
        let encode = |text: &str| {
            let prompter = loaded.prompter()?;
            let note = prompter
                .note()
                .filter(|_| loaded.bundled && !holds_a_learnt_problem(text));
            if let Some(note) = note {
                printer.warn(&format!(
                    "this text is {UNLEARNT}: it {note}. Name another with --model"
                ));
            }
            Ok::<_, anyhow::Error>(prompter.encode_raw(text)?)
        };
        let ids = match (&self.token_ids, self.text.as_ref().or(typed), stdin) {
            (Some(ids), _, _) => ids.clone(),
            (None, Some(text), _) => encode(text)?,
            (None, None, true) => encode(super::stdin::text("the text")?.trim_end_matches('\n'))?,
            (None, None, false) => {
                bail!("there is nothing to read: give a text, --token-ids 1,2,3 or `-` for stdin")
            }
        };
        if ids.is_empty() {
            bail!("the text is empty; give at least one token");
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= spec.vocab) {
            bail!(
                "--token-ids: {id} is not an id of the model, whose vocabulary has {} ids (0 to {})",
                spec.vocab,
                spec.vocab - 1
            );
        }
        if ids.len() > spec.context {
            bail!(
                "the text has {} tokens, more than the model's context of {}",
                ids.len(),
                spec.context
            );
        }
        Ok(ids)
    }
}

/// Whether a line of the text, the marks of turns aside, is a problem that the bundled model was made for.
fn holds_a_learnt_problem(text: &str) -> bool {
    let ends = |line: &str| line.find("<|").unwrap_or(line.len());
    text.lines().any(|line| recognise(&line[..ends(line)]).is_some())
}
