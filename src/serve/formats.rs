//! `response_format`: answers that are JSON, of a schema or any object. The traces draw nothing else after their thinking, and vote by
//! canonical JSON.

use std::sync::Arc;

use serde_json::Value;
use tts_evals::answer::{Extraction, ExtractionPath, ReadAnswer, ThinkingSplitter};

use super::error::ApiError;
use super::fields::UnreadFields;
use super::json::{canonical, kind};
use super::source::only_here;
use super::state::AppState;
use crate::grammar::{Grammar, Thinking, Words};
use crate::prompt::Prompter;
use crate::solver::{Prepared, Solver};

const FIELD: &str = "response_format";
/// Bytes of a schema, at most.
const SCHEMA_BYTES: usize = 256 << 10;
/// The ids of a mark of harmony that begin the channel of the answer: what ends the message before it may be missing.
const CHANNEL: usize = 3;

/// What an answer must be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Format {
    Object,
    Schema(Value),
}

/// Reads what a request wants; nothing where that is text.
pub(super) fn read(f: &mut UnreadFields) -> Result<Option<Format>, ApiError> {
    let wrong = |what: String| ApiError::invalid(Some(FIELD), what);
    let Some(given) = f.take(FIELD) else {
        return Ok(None);
    };
    let Value::Object(given) = given else {
        return Err(wrong(format!(
            "`{FIELD}` must be an object; {} was given",
            kind(&given)
        )));
    };
    match given.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Format::Object)),
        Some("json_schema") => {
            // chat completions name the schema within an object, responses beside its name
            let within = given.get("json_schema").and_then(|object| object.get("schema"));
            let schema = within.or_else(|| given.get("schema"));
            let schema = schema.filter(|schema| schema.is_object()).ok_or_else(|| {
                wrong(format!(
                    "`{FIELD}` of type json_schema must have a `json_schema` with a `schema`, an object"
                ))
            })?;
            if schema.to_string().len() > SCHEMA_BYTES {
                return Err(wrong(format!(
                    "`{FIELD}` has a schema of more than {} KiB",
                    SCHEMA_BYTES >> 10
                )));
            }
            Ok(Some(Format::Schema(schema.clone())))
        }
        _ => Err(wrong(format!(
            "`{FIELD}` must be of type text, json_object or json_schema"
        ))),
    }
}

/// The vocabulary of the model here, as grammars read it.
pub(super) fn words(solver: &Solver) -> Result<Arc<Words>, String> {
    let capabilities = solver.source().capabilities();
    let prompter = solver.prompter().ok_or("the model has no tokenizer")?;
    let size = capabilities.vocabulary.ok_or("its vocabulary is not known")?;
    let size = u32::try_from(size).map_err(|_| "its vocabulary is too large")?;
    if prompter.token_bytes(0, false).is_none() {
        return Err("what a token of this model adds to a text depends on those before it".to_owned());
    }
    // marks of thinking are tokens of text to some tokenizers, and none of an answer
    let marks = prompter.think_ids().map_err(|e| e.to_string())?;
    let single = marks.into_iter().flatten().filter(|ids| ids.len() == 1);
    let marks: Vec<u32> = single.flatten().collect();
    let bytes = |id| match marks.contains(&id) {
        true => Vec::new(),
        false => prompter.token_bytes(id, true).unwrap_or_default(),
    };
    Words::new(size, bytes, capabilities.stop_ids.clone()).map(Arc::new)
}

impl Format {
    /// What the traces of a prompt may draw.
    pub(super) fn grammar(
        &self,
        app: &AppState,
        solver: &Solver,
        prompt: &Prepared,
    ) -> Result<Grammar, ApiError> {
        only_here(solver, FIELD)?;
        let wrong = |why: &str| ApiError::invalid(Some(FIELD), format!("`{FIELD}` cannot be kept to: {why}"));
        let words = app.words().map_err(|why| wrong(&why))?;
        let thinking = match solver.prompter() {
            Some(prompter) => thinking(prompter, prompt)?,
            None => None,
        };
        let schema = match self {
            Self::Object => None,
            Self::Schema(schema) => Some(schema),
        };
        Grammar::json(schema, &words, thinking).map_err(|why| wrong(&why))
    }
}

fn thinking(prompter: &Prompter, prompt: &Prepared) -> Result<Option<Thinking>, ApiError> {
    let marks = prompter
        .think_ids()
        .map_err(|e| ApiError::internal(e.to_string()))?;
    Ok(marks.map(|[open, close]| {
        let framed = open.len() > 1;
        Thinking {
            open: open.first().copied().filter(|_| !framed),
            close: match framed {
                true => close[close.len().saturating_sub(CHANNEL)..].to_vec(),
                false => close,
            },
            // a model that frames every message frames the answer too
            is_open: framed || prompt.prompt.ends_in_think,
        }
    }))
}

/// Reads JSON as an answer.
pub(super) struct JsonReader {
    pub(super) in_thinking: bool,
}

impl ReadAnswer for JsonReader {
    fn read(&self, text: &str) -> Option<Extraction> {
        let split = ThinkingSplitter::whole(text, self.in_thinking);
        let value: Value = serde_json::from_str(split.said().trim()).ok()?;
        Some(Extraction {
            answer: canonical(&value).to_string(),
            path: ExtractionPath::Custom,
            inside_thinking: false,
        })
    }

    fn key(&self, answer: &str) -> String {
        answer.to_owned()
    }
}
