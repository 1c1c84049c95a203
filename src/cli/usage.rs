//! What is wrong with a command line, as one sentence.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands that take a text.
const TAKE_TEXT: [&str; 3] = ["solve", "complete", "score"];

/// The parser's error without its frame: what is wrong, what may be meant, on one line.
pub(super) fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        // the way to pass a flag as a value is seldom what is meant
        .filter(|line| !line.starts_with("tip: to pass "));
    let said: Vec<_> = said.collect();
    let said = said.join(" ").replace(" tip: ", "; ");
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    let given = error
        .get(ContextKind::InvalidArg)
        .or(error.get(ContextKind::InvalidValue));
    let given = given.and_then(|value| match value {
        ContextValue::String(text) => Some(text.as_str()),
        _ => None,
    });
    let takes_text = TAKE_TEXT
        .iter()
        .any(|command| text.contains(&format!("Usage: tts {command} ")));
    match (error.kind(), given) {
        (ErrorKind::UnknownArgument, Some(word)) if takes_text && !word.starts_with('-') => {
            format!("{said}: a text of several words stands in quotes, as \"What is 2 + 2?\"")
        }
        _ => in_words(said),
    }
}

/// What the standard library says of numbers, in other words.
fn in_words(said: &str) -> String {
    const WORDS: [(&str, &str); 5] = [
        (
            "invalid digit found in string",
            "it must be a whole number that is not negative",
        ),
        (
            "cannot parse integer from empty string",
            "it must be a whole number",
        ),
        ("number too large to fit in target type", "it is too large"),
        ("invalid float literal", "it must be a number"),
        ("cannot parse float from empty string", "it must be a number"),
    ];
    let known = WORDS.iter().find(|(theirs, _)| said.ends_with(theirs));
    known.map_or_else(
        || said.to_owned(),
        |(theirs, ours)| format!("{}{ours}", said.strip_suffix(theirs).unwrap_or(said)),
    )
}
