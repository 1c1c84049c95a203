//! The model's own chat template, rendered as transformers renders it.
//!
//! Block tags trim the newline after them and the blanks before them, Python's string and dictionary methods
//! exist,
//! `raise_exception` and `strftime_now` are there, `tojson` writes Python's JSON, and `{% generation %}`
//! marks nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use regex::Regex;

use super::python_json::tojson;
use super::{Message, PromptError};

/// Marks an error as the template's own words; cannot occur in a template's source by accident.
const REFUSAL: &str = "\u{1}refused\u{1}";
const NAME: &str = "chat template";

/// A compiled chat template.
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    origin: String,
}

/// What a template sees besides the messages.
pub(super) struct TemplateVariables<'a> {
    pub(super) special_tokens: &'a BTreeMap<String, String>,
    pub(super) add_generation_prompt: bool,
    pub(super) extra: &'a BTreeMap<String, serde_json::Value>,
}

impl ChatTemplate {
    /// Compiles `source`; `origin` is the file that an error names.
    pub(super) fn compile(source: &str, origin: &str) -> Result<Self, PromptError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(|error| syntax_error(origin, &error))?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("{REFUSAL}{message}"),
            ))
        });
        environment.add_function("strftime_now", |format: String| {
            jiff::fmt::strtime::format(&format, &jiff::Zoned::now())
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
        });
        environment
            .add_template_owned(NAME, without_generation_marks(source))
            .map_err(|error| syntax_error(origin, &error))?;
        Ok(Self {
            environment,
            source: source.to_owned(),
            origin: origin.to_owned(),
        })
    }

    /// The template as it was written.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Where the template came from.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// The text of `messages`.
    pub(super) fn render(
        &self,
        messages: &[Message],
        variables: &TemplateVariables<'_>,
    ) -> Result<String, PromptError> {
        let turn = |message: &Message| {
            Value::from_object(Fields(vec![
                ("role".to_owned(), Value::from(message.role.as_str())),
                ("content".to_owned(), Value::from(message.content.as_str())),
            ]))
        };
        let messages: Value = messages.iter().map(turn).collect();
        let extra = variables
            .extra
            .iter()
            .map(|(key, value)| (key.clone(), from_json(value)));
        let tokens = variables
            .special_tokens
            .iter()
            .map(|(key, token)| (key.clone(), Value::from(token)));
        let named = Value::from_pairs(tokens.chain(extra));
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| self.failed(&error))?;
        template
            .render(context! {
                messages,
                add_generation_prompt => variables.add_generation_prompt,
                tools => Value::from(()),
                documents => Value::from(()),
                ..named
            })
            .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &Error) -> PromptError {
        let mut cause: &dyn std::error::Error = error;
        loop {
            let text = cause
                .downcast_ref::<Error>()
                .and_then(Error::detail)
                .unwrap_or_default();
            if let Some((_, message)) = text.split_once(REFUSAL) {
                let message = message.trim().to_owned();
                return PromptError::TemplateRefused {
                    origin: self.origin.clone(),
                    message,
                };
            }
            match cause.source() {
                Some(source) => cause = source,
                None => break,
            }
        }
        PromptError::TemplateFailed {
            origin: self.origin.clone(),
            reason: describe(error),
        }
    }
}

fn syntax_error(origin: &str, error: &Error) -> PromptError {
    PromptError::TemplateSyntax {
        origin: origin.to_owned(),
        reason: describe(error),
    }
}

fn describe(error: &Error) -> String {
    let mut text = error.kind().to_string();
    if let Some(detail) = error.detail() {
        text = format!("{text}: {detail}");
    }
    match error.line() {
        Some(line) => format!("{text} (line {line})"),
        None => text,
    }
}

/// `{% generation %}` marks what an assistant wrote, for training. An `{% if true %}` in its place trims the
/// same white space.
fn without_generation_marks(source: &str) -> String {
    static MARK: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").ok());
    let Some(mark) = MARK.as_ref() else {
        return source.to_owned();
    };
    mark.replace_all(source, |found: &regex::Captures<'_>| {
        let tag = if found.get(2).is_some() {
            "endif"
        } else {
            "if true"
        };
        format!("{{%{} {tag} {}%}}", &found[1], &found[3])
    })
    .into_owned()
}

/// A dictionary that keeps its order, as Python's do: `tojson` shows it.
#[derive(Debug)]
struct Fields(Vec<(String, Value)>);

impl Object for Fields {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(
            self.0
                .iter()
                .map(|(name, _)| Value::from(name.as_str()))
                .collect(),
        )
    }
}

fn from_json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(integer)) => Value::from(integer),
            (None, None) => Value::from(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(from_json).collect(),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(key, value)| (key.clone(), from_json(value))))
        }
    }
}
