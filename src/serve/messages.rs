//! The messages of a conversation: what the chat template is given of them, and what would be lost.

use serde_json::{Map, Value};

use super::UnknownFields;
use super::error::ApiError;
use super::json::{is_empty, kind};
use super::tools;
use crate::fmt::meant;
use crate::prompt::Message;

/// Roles, and the names that templates have for them.
const ROLES: [(&str, &str); 6] = [
    ("system", "system"),
    ("developer", "system"),
    ("user", "user"),
    ("assistant", "assistant"),
    ("tool", "tool"),
    ("function", "tool"),
];

/// Keys of a message that are read.
const READ: [&str; 4] = ["role", "content", "reasoning_content", "reasoning"];

/// Keys beside them that clients send and that say nothing of what was said.
const HARMLESS: [&str; 17] = [
    "id",
    "name",
    "object",
    "type",
    "status",
    "index",
    "created",
    "created_at",
    "timestamp",
    "model",
    "tool_call_id",
    "annotations",
    "metadata",
    "cache_control",
    "opts",
    "weight",
    "end_turn",
];

/// Keys that say something which a prompt of texts has no place for.
const LOST: [(&str, &str); 7] = [
    ("tool_calls", "calls of tools are not part of a prompt here"),
    (
        "function_call",
        "calls of functions are not part of a prompt here",
    ),
    (
        "refusal",
        "a refusal is not part of a prompt here; send it as `content`",
    ),
    ("audio", "the model reads text alone"),
    ("images", "the model reads text alone"),
    ("thinking_blocks", "send the thinking as `reasoning_content`"),
    ("reasoning_details", "send the thinking as `reasoning_content`"),
];

/// Reads the messages of a request; `calls` says whether the chat template shows calls of tools.
pub(super) fn read(
    given: Option<Value>,
    calls: bool,
    unknown: UnknownFields,
) -> Result<Vec<Message>, ApiError> {
    let wrong = |what: String| ApiError::invalid(Some("messages"), what);
    match given {
        Some(Value::Array(given)) if !given.is_empty() => given
            .into_iter()
            .enumerate()
            .map(|(i, message)| read_one(&format!("messages[{i}]"), message, calls, unknown))
            .collect(),
        Some(Value::Array(_)) | None => Err(wrong("`messages` must hold at least one message".to_owned())),
        Some(other) => Err(wrong(format!(
            "`messages` must be an array; {} was given",
            kind(&other)
        ))),
    }
}

fn read_one(place: &str, message: Value, calls: bool, unknown: UnknownFields) -> Result<Message, ApiError> {
    let wrong = |what: String| ApiError::invalid(Some("messages"), format!("{place} {what}"));
    let Value::Object(mut message) = message else {
        return Err(wrong(format!("must be an object; {} was given", kind(&message))));
    };
    let calls = match message.remove("tool_calls").filter(|given| !is_empty(given)) {
        Some(given) if calls => tools::of_message(place, given)?,
        Some(given) => {
            message.insert("tool_calls".to_owned(), given);
            Vec::new()
        }
        None => Vec::new(),
    };
    check_keys(place, &message, &READ, unknown)?;
    let role = match message.remove("role") {
        Some(Value::String(role)) => role,
        _ => return Err(wrong("must have a `role`".to_owned())),
    };
    let Some((_, role)) = ROLES.iter().find(|r| r.0 == role) else {
        let known = ROLES.map(|r| r.0).join(", ");
        return Err(wrong(format!("has a `role` that is none of {known}")));
    };
    let content = match message.remove("content") {
        None | Some(Value::Null) if *role == "assistant" => String::new(),
        None | Some(Value::Null) => return Err(wrong("must have a `content`".to_owned())),
        Some(Value::String(content)) => content,
        Some(Value::Array(parts)) => {
            let parts = parts.into_iter().enumerate();
            parts
                .map(|(i, part)| read_part(&format!("{place}.content[{i}]"), part, unknown))
                .collect::<Result<_, _>>()?
        }
        Some(_) => {
            let what = "has a `content` that is neither a string nor an array of parts";
            return Err(wrong(what.to_owned()));
        }
    };
    let reasoning = ["reasoning_content", "reasoning"]
        .into_iter()
        .filter_map(|name| Some((name, message.remove(name).filter(|value| !is_empty(value))?)))
        .next();
    let reasoning_content = match reasoning {
        None => None,
        Some((_, Value::String(text))) if *role == "assistant" => Some(text),
        Some((name, Value::String(_))) => {
            return Err(lost(place, name, "only an assistant thinks"));
        }
        Some((name, other)) => {
            let why = format!("it must be a string; {} was given", kind(&other));
            return Err(lost(place, name, &why));
        }
    };
    if !calls.is_empty() && *role != "assistant" {
        return Err(lost(place, "tool_calls", "only an assistant calls tools"));
    }
    Ok(Message {
        tool_calls: calls,
        reasoning_content,
        ..Message::new(*role, content)
    })
}

fn read_part(place: &str, part: Value, unknown: UnknownFields) -> Result<String, ApiError> {
    let wrong = |what: String| ApiError::invalid(Some("messages"), format!("{place} {what}"));
    let Value::Object(mut part) = part else {
        return Err(wrong(format!("must be an object; {} was given", kind(&part))));
    };
    let only = "the model reads parts of type `text` alone";
    match part.get("type") {
        Some(Value::String(name)) if name == "text" => {}
        Some(Value::String(name)) => {
            let shown: String = name.chars().take(64).collect();
            return Err(wrong(format!("is of type `{shown}`, and {only}")));
        }
        _ => return Err(wrong(format!("has no `type`, and {only}"))),
    }
    check_keys(place, &part, &["type", "text"], unknown)?;
    match part.remove("text") {
        Some(Value::String(text)) => Ok(text),
        None => Err(wrong("is of type `text` and has no `text`".to_owned())),
        Some(other) => Err(wrong(format!(
            "has a `text` that is {}, not a string",
            kind(&other)
        ))),
    }
}

/// Refuses keys by which the conversation would be another one than it looks.
fn check_keys(
    place: &str,
    object: &Map<String, Value>,
    read: &[&'static str],
    unknown: UnknownFields,
) -> Result<(), ApiError> {
    for (key, _) in object.iter().filter(|(_, value)| !is_empty(value)) {
        if read.contains(&key.as_str()) || HARMLESS.contains(&key.as_str()) {
            continue;
        }
        if let Some((name, why)) = LOST.iter().find(|lost| lost.0 == key) {
            return Err(lost(place, name, why));
        }
        if unknown == UnknownFields::Refuse {
            let shown: String = key.chars().take(64).collect();
            let known = read.iter().copied().chain(LOST.map(|lost| lost.0));
            let tip = meant(&shown, known).map_or_else(String::new, |k| format!("; did you mean `{k}`?"));
            let what = format!("{place} has a key `{shown}` that is not known{tip}");
            return Err(ApiError::invalid(Some(&format!("{place}.{shown}")), what));
        }
    }
    Ok(())
}

fn lost(place: &str, name: &str, why: &str) -> ApiError {
    let field = format!("{place}.{name}");
    ApiError::invalid(Some(&field), format!("`{field}` cannot be taken: {why}"))
}
