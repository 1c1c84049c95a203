//! What can be wrong with a tokenizer, a chat template or a prompt.

use std::path::PathBuf;

use crate::fmt::{escaped, shown};

/// Why a prompt could not be made. Every message names the file or setting and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// A file exists but cannot be read as text.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no tokenizer where one is needed.
    #[error(
        "{place} has no tokenizer.json; put the model's tokenizer.json there (a model that has only \
         tokenizer.model or vocab.json can be saved again with transformers' AutoTokenizer)"
    )]
    NoTokenizer {
        /// The folder or file that lacks it.
        place: String,
    },
    /// A tokenizer that cannot be built from its description.
    #[error("{origin} does not hold a usable tokenizer: {}", short(reason))]
    Tokenizer {
        /// The file it came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A side file that is not the JSON it should be.
    #[error(
        "{origin} is not valid JSON: {}; fetch the file again or correct it",
        short(reason)
    )]
    Json {
        /// Name of the file that it stands in.
        origin: String,
        /// What the parser said.
        reason: String,
    },
    /// A key with a value that makes no sense.
    #[error("{origin}: `{key}` is {found}, but it must be {expected}")]
    BadKey {
        /// Name of the file that it stands in.
        origin: String,
        /// The key in it.
        key: String,
        /// The value that stands there, as JSON.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// The model brings no chat template and none was given.
    #[error(
        "{origin} has no chat template (neither chat_template.jinja nor a chat_template in \
         tokenizer_config.json or in the GGUF metadata); pass one with --chat-template, or give the model a \
         raw prompt with `tts complete`"
    )]
    NoTemplate {
        /// Where it was looked for.
        origin: String,
    },
    /// A variable was set that the template does not read.
    #[error("the chat template {origin} has no variable `{name}`; those that it reads are: {known}")]
    NoVariable {
        /// Where the template came from.
        origin: String,
        /// The variable.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// Several named templates and none called `default`.
    #[error(
        "{origin} has several chat templates ({names}) and none is called `default`; pass the one to use \
         with --chat-template"
    )]
    AmbiguousTemplate {
        /// Name of the file that it stands in.
        origin: String,
        /// The names it offers.
        names: String,
    },
    /// A chat template that is not valid Jinja.
    #[error(
        "the chat template of {origin} does not compile: {}; correct it or pass another with \
         --chat-template",
        shown(reason)
    )]
    TemplateSyntax {
        /// Where it came from.
        origin: String,
        /// What the engine said, with the line.
        reason: String,
    },
    /// A chat template that failed on these messages.
    #[error(
        "the chat template of {origin} failed on these messages: {}; correct it or pass another with \
         --chat-template",
        shown(reason)
    )]
    TemplateFailed {
        /// Where it came from.
        origin: String,
        /// What the engine said, with the line.
        reason: String,
    },
    /// The template itself refused the messages, with `raise_exception`.
    #[error("the chat template of {origin} refuses these messages: {}", shown(message))]
    TemplateRefused {
        /// Where it came from.
        origin: String,
        /// The template's own words.
        message: String,
    },
    /// The rendered prompt holds no token.
    #[error(
        "the chat template of {origin} made an empty prompt; correct it or pass another with --chat-template"
    )]
    EmptyPrompt {
        /// Where it came from.
        origin: String,
    },
    /// A template that does not write the last message as it stands, so that nothing can go on from it.
    #[error(
        "the chat template of {origin} does not write the last message as it stands, so the model cannot go \
         on with it; end with a message of the user"
    )]
    CannotContinue {
        /// Where it came from.
        origin: String,
    },
    /// A prompt that was refused before it was encoded to its end.
    #[error(
        "the prompt has more than {most} tokens, which is the most that is read here; give a shorter one"
    )]
    TooLong {
        /// The most tokens that a prompt may have.
        most: usize,
    },
    /// The tokenizer could not encode a text.
    #[error("the tokenizer of {origin} cannot encode the prompt: {}", shown(reason))]
    Encode {
        /// Where the tokenizer came from.
        origin: String,
        /// The template's own words.
        reason: String,
    },
    /// The tokenizer has ids that the model has no embedding for.
    #[error(
        "the tokenizer of {origin} does not fit the model: token {token:?} has id {id} (the tokenizer has \
         {tokenizer_size} ids), but config.json says vocab_size {vocab_size}; use the tokenizer that came \
         with these weights"
    )]
    VocabularyTooSmall {
        /// Where the tokenizer came from.
        origin: String,
        /// The token with the highest id.
        token: String,
        /// Id of that token, which is beyond the rows of the embedding.
        id: u32,
        /// One more than the highest id.
        tokenizer_size: usize,
        /// Rows of the model's embedding.
        vocab_size: usize,
    },
    /// A prompt template without its one necessary placeholder.
    #[error(
        "the prompt template has no {{problem}} placeholder; write {{problem}} where the problem's text \
         belongs"
    )]
    NoProblemPlaceholder,
    /// A problem of blanks only.
    #[error("the problem is empty; give its text")]
    EmptyProblem,
}

/// A reason that may quote what a file holds, however long that is: its beginning and its end.
fn short(reason: &str) -> String {
    const KEPT: usize = 140;
    let reason = &escaped(reason);
    let ends = |n: usize| reason.char_indices().nth(n).map(|(at, _)| at);
    match (ends(KEPT), reason.char_indices().rev().nth(KEPT)) {
        (Some(first), Some((last, _))) if first < last => {
            format!("{} ... {}", &reason[..first], &reason[last..])
        }
        _ => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::PromptError;

    #[test]
    fn what_a_file_holds_is_not_quoted_at_length() {
        let said = |reason: String| {
            PromptError::Tokenizer {
                origin: "f".to_owned(),
                reason,
            }
            .to_string()
        };
        assert_eq!(said("no".to_owned()), "f does not hold a usable tokenizer: no");
        let long = said(format!("unknown \u{e4} {} at line 3", "\u{1f600}".repeat(9000)));
        assert!(
            long.len() < 2000 && long.contains("unknown \u{e4}") && long.ends_with("at line 3"),
            "{long}"
        );
    }
}
