//! The model's own chat template, rendered as transformers renders it.
//!
//! Block tags trim the newline after them and the blanks before them, Python's string and dictionary methods
//! exist,
//! `raise_exception` and `strftime_now` are there, `tojson` writes Python's JSON, and `{% generation %}`
//! marks nothing.

mod bounds;
mod python;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object};
use minijinja::{Environment, Error, ErrorKind, Value, context};

use super::python_json::tojson;
use super::{Message, PromptError};
pub(in crate::prompt) use bounds::fits;

/// Marks an error as the template's own words; cannot occur in a template's source by accident.
const REFUSAL: &str = "\u{1}refused\u{1}";
const NAME: &str = "chat template";
/// What every template is given.
const GIVEN: [&str; 11] = [
    "messages",
    "add_generation_prompt",
    "tools",
    "documents",
    "raise_exception",
    "strftime_now",
    "namespace",
    "range",
    "dict",
    "lipsum",
    "joiner",
];
/// Stack of the threads on which templates are compiled and filled: what they nest is bounded so that it
/// holds.
const STACK: usize = 64 << 20;

/// Whether a variable of templates has its value from the messages and the tokenizer.
pub(crate) fn is_given(name: &str) -> bool {
    GIVEN.contains(&name) || name.ends_with("_token")
}

/// A compiled chat template.
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    origin: String,
}

/// What a template sees besides the messages.
pub(super) struct TemplateVariables<'a> {
    pub(super) special_tokens: &'a BTreeMap<String, String>,
    pub(super) extra: &'a BTreeMap<String, serde_json::Value>,
    pub(super) tools: &'a [serde_json::Value],
    /// The day that its clock shows, midnight; the machine's clock where there is none.
    pub(super) date: Option<jiff::civil::Date>,
}

impl ChatTemplate {
    /// Compiles `source`; `origin` is the file that an error names.
    pub(super) fn compile(source: &str, origin: &str) -> Result<Self, PromptError> {
        let environment = on_large_stack(|| environment(source))
            .and_then(|made| made)
            .map_err(|reason| PromptError::TemplateSyntax {
                origin: origin.to_owned(),
                reason,
            })?;
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

    /// The variables that the template reads beside the messages and what every template has, by name.
    pub(super) fn variables(&self) -> Vec<String> {
        let Ok(template) = self.environment.get_template(NAME) else {
            return Vec::new();
        };
        let mut names: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        names.retain(|name| !is_given(name) && self.source.contains(name.as_str()));
        names.sort();
        names
    }

    /// Whether the template may write the date.
    pub(super) fn has_clock(&self) -> bool {
        self.source.contains("strftime_now")
    }

    /// The text of `messages`, with and without the beginning of the model's turn as `turns` asks.
    pub(super) fn render<const N: usize>(
        &self,
        messages: &[Message],
        variables: &TemplateVariables<'_>,
        turns: [bool; N],
    ) -> Result<[Result<String, PromptError>; N], PromptError> {
        let work = || turns.map(|turn| self.fill(messages, variables, turn).map_err(|e| self.failed(&e)));
        on_large_stack(work).map_err(|reason| PromptError::TemplateFailed {
            origin: self.origin.clone(),
            reason,
        })
    }

    fn fill(
        &self,
        messages: &[Message],
        variables: &TemplateVariables<'_>,
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        let bytes = messages
            .iter()
            .map(|m| {
                let calls = m.tool_calls.iter();
                m.content.len()
                    + m.role.len()
                    + m.reasoning_content.as_ref().map_or(0, String::len)
                    + calls
                        .map(|call| call.name.len() + call.arguments.values().map(json_bytes).sum::<usize>())
                        .sum::<usize>()
            })
            .sum::<usize>()
            + variables.tools.iter().map(json_bytes).sum::<usize>()
            + variables.extra.values().map(json_bytes).sum::<usize>();
        bounds::begin(bytes, variables.date);
        let fuel = bounds::fuel(messages.len());
        let turn = |message: &Message| {
            let mut turn = vec![
                ("role".to_owned(), Value::from(message.role.as_str())),
                ("content".to_owned(), Value::from(message.content.as_str())),
            ];
            if let Some(reasoning) = &message.reasoning_content {
                // harmony's templates call it so
                for name in ["reasoning_content", "thinking"] {
                    turn.push((name.to_owned(), Value::from(reasoning.as_str())));
                }
            }
            if !message.tool_calls.is_empty() {
                let calls: Value = message.tool_calls.iter().map(tool_call).collect();
                turn.push(("tool_calls".to_owned(), calls));
            }
            Value::from_object(OrderedDict(turn))
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
        let tools = match variables.tools {
            [] => Value::from(()),
            tools => tools.iter().map(in_order).collect(),
        };
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        environment.get_template(NAME)?.render(context! {
            messages,
            add_generation_prompt,
            tools,
            documents => Value::from(()),
            ..named
        })
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

/// An environment with `source` as its template, or what is wrong with it.
fn environment(source: &str) -> Result<Environment<'static>, String> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.map_err(|error| describe(&error))?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    // an error names what is undefined
    environment.set_debug(true);
    python::install(&mut environment);
    bounds::install(&mut environment);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("{REFUSAL}{message}"),
        ))
    });
    environment.add_function("strftime_now", |format: String| {
        let now = match bounds::date() {
            Some(date) => date.to_zoned(jiff::tz::TimeZone::UTC),
            None => Ok(jiff::Zoned::now()),
        };
        now.and_then(|now| jiff::fmt::strtime::format(&format, &now))
            .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
    });
    let source = source::guarded(source)?;
    environment
        .add_template_owned(NAME, source)
        .map_err(|error| describe(&error))?;
    Ok(environment)
}

/// Does `work` on a thread whose stack holds what templates nest.
fn on_large_stack<T: Send>(work: impl Fn() -> T + Sync) -> Result<T, String> {
    thread::scope(|scope| {
        // with little address space (`ulimit -v`) a smaller one has to do
        let started = [STACK, STACK / 8].into_iter().find_map(|size| {
            let thread = thread::Builder::new()
                .name("chat template".to_owned())
                .stack_size(size);
            thread.spawn_scoped(scope, || crate::caught::caught(&work)).ok()
        });
        let thread = started.ok_or_else(|| "no thread could be started for it".to_owned())?;
        thread.join().unwrap_or_else(|_| Err("it panicked".to_owned()))
    })
}

fn json_bytes(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(items) => items.iter().map(json_bytes).sum::<usize>() + 16 * items.len(),
        serde_json::Value::Object(fields) => {
            fields
                .iter()
                .map(|(key, value)| key.len() + json_bytes(value))
                .sum::<usize>()
                + 16 * fields.len()
        }
        _ => 16,
    }
}

fn describe(error: &Error) -> String {
    let mut text = match error.kind() {
        ErrorKind::OutOfFuel => "it does not come to an end".to_owned(),
        kind => kind.to_string(),
    };
    if let Some(detail) = error.detail() {
        text = format!("{text}: {detail}");
    }
    match error.line() {
        Some(line) => format!("{text} (line {line})"),
        None => text,
    }
}

/// A dictionary that keeps its order, as Python's do: `tojson` shows it.
#[derive(Debug)]
struct OrderedDict(Vec<(String, Value)>);

impl Object for OrderedDict {
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

/// A call of a tool as templates are given it.
fn tool_call(call: &super::ToolCall) -> Value {
    let arguments = in_order(&serde_json::Value::Object(call.arguments.clone()));
    let function = OrderedDict(vec![
        ("name".to_owned(), Value::from(call.name.as_str())),
        ("arguments".to_owned(), arguments),
    ]);
    Value::from_object(OrderedDict(vec![
        ("type".to_owned(), Value::from("function")),
        ("function".to_owned(), Value::from_object(function)),
    ]))
}

/// Keys of tools and of JSON schemas, in the order in which people write them.
const KEYS: [&str; 9] = [
    "type",
    "function",
    "name",
    "description",
    "parameters",
    "enum",
    "properties",
    "items",
    "required",
];

/// A value as a template is given it, with the keys of tools and schemas in the order that models know.
fn in_order(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Array(items) => items.iter().map(in_order).collect(),
        serde_json::Value::Object(fields) => {
            let mut fields: Vec<_> = fields
                .iter()
                .map(|(key, value)| (key.clone(), in_order(value)))
                .collect();
            let place = |key: &String| KEYS.iter().position(|known| known == key).unwrap_or(KEYS.len());
            fields.sort_by_key(|(key, _)| place(key));
            Value::from_object(OrderedDict(fields))
        }
        other => from_json(other),
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
