//! Tools that a request offers: what may be called, and the vote over what the traces call.
//!
//! A trace votes for its calls, by name and arguments as canonical JSON; one that answers in words for its boxed
//! answer, or with all others that call nothing. One whose call cannot be read, or names no tool of the request,
//! does not vote.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tts_evals::answer::{Extraction, ExtractionPath, ReadAnswer, ThinkingSplitter};

use super::error::ApiError;
use super::fields::UnreadFields;
use super::json::{canonical, kind};
use crate::prompt::{ToolCall, ToolFormat};
use crate::solver::Solver;

/// The answer of a trace that answers in words, in which no answer stands.
const NO_CALL: &str = "(no call)";
/// Tools of a request, at most.
const TOOLS: usize = 256;

/// The tools of a request.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    format: ToolFormat,
    /// as the chat template is given them
    pub(super) given: Vec<Value>,
    /// those that may be called, with the schemas of their parameters
    callable: BTreeMap<String, Value>,
    /// whether only calls vote
    required: bool,
    /// whether a trace may call several at once
    parallel: bool,
}

/// Whether the model's chat template shows tools to it, and in which format it calls them.
pub(super) fn format(solver: &Solver) -> Option<ToolFormat> {
    if solver.source().capabilities().own_template {
        return None;
    }
    solver.prompter()?.tool_format()
}

/// Reads the tools that a request offers, where the model knows what they are; what is left is for
/// [`super::unserved`] to refuse.
pub(super) fn read(f: &mut UnreadFields, solver: &Solver) -> Result<Option<Tools>, ApiError> {
    let Some(format) = format(solver) else {
        return Ok(None);
    };
    let wrong = |field: &str, what: String| ApiError::invalid(Some(field), what);
    let given = match f.take("tools") {
        None => Vec::new(),
        Some(Value::Array(given)) if given.len() <= TOOLS => given,
        Some(Value::Array(_)) => return Err(wrong("tools", format!("`tools` has more than {TOOLS} tools"))),
        Some(other) => {
            let what = format!("`tools` must be an array; {} was given", kind(&other));
            return Err(wrong("tools", what));
        }
    };
    let mut callable = BTreeMap::new();
    for (i, tool) in given.iter().enumerate() {
        let place = format!("tools[{i}]");
        if tool.get("type").and_then(Value::as_str) != Some("function") {
            let what = format!("`{place}` is not of type `function`: other tools are not called");
            return Err(wrong(&place, what));
        }
        let name = tool.pointer("/function/name").and_then(Value::as_str);
        let name = name.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| wrong(&place, format!("`{place}.function` must have a `name`")))?;
        let schema = tool.pointer("/function/parameters").cloned().unwrap_or_default();
        if !schema.is_null() && !schema.is_object() {
            let what = format!("`{place}.function.parameters` must be a JSON schema, an object");
            return Err(wrong(&place, what));
        }
        if callable.insert(name.to_owned(), schema).is_some() {
            return Err(wrong(
                &place,
                format!("`tools` has two tools of the name `{name}`"),
            ));
        }
    }
    let parallel = f.flag("parallel_tool_calls")?.unwrap_or(true);
    let mut required = false;
    match f.take("tool_choice") {
        None => {}
        Some(Value::String(choice)) if choice == "auto" => {}
        Some(Value::String(choice)) if choice == "none" => return Ok(None),
        Some(Value::String(choice)) if choice == "required" => required = true,
        Some(choice) => {
            let named = choice.pointer("/function/name").and_then(Value::as_str);
            let named = named.ok_or_else(|| {
                let what = "`tool_choice` must be \"none\", \"auto\", \"required\" or {\"type\": \"function\", \
                            \"function\": {\"name\": ...}}";
                wrong("tool_choice", what.to_owned())
            })?;
            if !callable.contains_key(named) {
                let what = format!("`tool_choice` names `{named}`, which is none of `tools`");
                return Err(wrong("tool_choice", what));
            }
            callable.retain(|name, _| name == named);
            required = true;
        }
    }
    if given.is_empty() {
        return match required {
            true => Err(wrong(
                "tool_choice",
                "`tool_choice` wants a call, and there are no `tools`".to_owned(),
            )),
            false => Ok(None),
        };
    }
    Ok(Some(Tools {
        format,
        given,
        callable,
        required,
        parallel,
    }))
}

impl Tools {
    /// The calls in what a trace said after its thinking, and the text beside them. Nothing where it calls what
    /// may not be called, or what cannot be read.
    pub(super) fn calls(&self, said: &str) -> Option<(String, Vec<ToolCall>)> {
        let (mut beside, mut calls) = self.format.read(said, |name| self.callable.get(name))?;
        if calls.is_empty() {
            let whole = ToolCall::of_whole_text(said);
            calls.extend(whole.filter(|call| self.callable.contains_key(&call.name)));
            if !calls.is_empty() {
                beside.clear();
            }
        }
        if calls.iter().any(|call| !self.callable.contains_key(&call.name)) {
            return None;
        }
        if !self.parallel {
            calls.truncate(1);
        }
        Some((beside, calls))
    }

    /// What reads a trace's vote. `inner` reads answers in words.
    pub(super) fn reader(
        self: &Arc<Self>,
        inner: Arc<dyn ReadAnswer>,
        in_thinking: bool,
    ) -> Arc<dyn ReadAnswer> {
        Arc::new(CallReader {
            tools: self.clone(),
            inner,
            in_thinking,
        })
    }
}

/// Reads calls as answers.
struct CallReader {
    tools: Arc<Tools>,
    inner: Arc<dyn ReadAnswer>,
    in_thinking: bool,
}

impl ReadAnswer for CallReader {
    fn read(&self, text: &str) -> Option<Extraction> {
        let split = ThinkingSplitter::whole(text, self.in_thinking);
        let (_, calls) = self.tools.calls(split.said())?;
        let custom = |answer: String| Extraction {
            answer,
            path: ExtractionPath::Custom,
            inside_thinking: false,
        };
        if !calls.is_empty() {
            return Some(custom(canonical_calls(&calls)));
        }
        if self.tools.required || split.said().trim().is_empty() {
            return None;
        }
        let answer = self.inner.read(text);
        Some(answer.unwrap_or_else(|| custom(NO_CALL.to_owned())))
    }

    fn key(&self, answer: &str) -> String {
        if answer == NO_CALL || answer.starts_with(CALLS) {
            return answer.to_owned();
        }
        self.inner.key(answer)
    }
}

/// How the canonical text of calls begins.
const CALLS: &str = "[{\"arguments\":";

/// Calls as canonical JSON: keys by name, whole numbers without a point, and calls by their texts, since those that
/// are made at once have no order.
fn canonical_calls(calls: &[ToolCall]) -> String {
    let one = |call: &ToolCall| {
        json!({ "arguments": canonical(&call.arguments.clone().into()), "name": call.name }).to_string()
    };
    let mut all: Vec<String> = calls.iter().map(one).collect();
    all.sort();
    format!("[{}]", all.join(","))
}

/// The calls in a message of a conversation.
pub(super) fn of_message(place: &str, given: Value) -> Result<Vec<ToolCall>, ApiError> {
    let field = format!("{place}.tool_calls");
    let wrong = |what: &str| ApiError::invalid(Some(&field), format!("`{field}` {what}"));
    let Value::Array(given) = given else {
        return Err(wrong("must be an array of calls"));
    };
    let one = |call: &Value| {
        let name = call.pointer("/function/name").and_then(Value::as_str);
        let name = name.ok_or_else(|| wrong("has a call without a `function` that has a `name`"))?;
        let arguments = match call.pointer("/function/arguments") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(arguments)) => arguments.clone(),
            Some(Value::String(text)) if text.trim().is_empty() => Map::new(),
            Some(Value::String(text)) => serde_json::from_str(text)
                .map_err(|_| wrong("has a call whose `arguments` are no JSON object"))?,
            Some(_) => return Err(wrong("has a call whose `arguments` are no JSON object")),
        };
        Ok(ToolCall {
            name: name.to_owned(),
            arguments,
        })
    };
    given.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use tts_evals::answer::{AnswerKind, RuleReader};

    use super::*;

    fn tools(required: bool, parallel: bool) -> Arc<Tools> {
        Arc::new(Tools {
            format: ToolFormat::Tagged,
            given: Vec::new(),
            callable: BTreeMap::from([("add".to_owned(), Value::Null), ("now".to_owned(), Value::Null)]),
            required,
            parallel,
        })
    }

    fn vote(tools: &Arc<Tools>, text: &str) -> Option<String> {
        let reader = tools.reader(Arc::new(RuleReader::new(AnswerKind::Math)), false);
        reader.read(text).map(|found| reader.key(&found.answer))
    }

    #[test]
    fn equal_calls_are_one_answer_however_they_are_written() {
        let any = tools(false, true);
        let one = vote(
            &any,
            "<tool_call>{\"name\":\"add\",\"arguments\":{\"a\":1,\"b\":[2.0]}}</tool_call>",
        );
        let other = "<think>hm</think>So:\n<tool_call>\n{\"arguments\": {\"b\": [2], \"a\": 1.0}, \"name\": \"add\"}\n";
        assert!(one.is_some() && one == vote(&any, other));
        let differ = vote(
            &any,
            "<tool_call>{\"name\":\"add\",\"arguments\":{\"a\":1,\"b\":[\"2\"]}}</tool_call>",
        );
        assert!(differ.is_some() && differ != one);
        let (first, second) = (
            "<tool_call>{\"name\":\"now\"}</tool_call>",
            "<tool_call>{\"name\":\"add\",\"arguments\":{\"a\":1}}</tool_call>",
        );
        assert_eq!(
            vote(&any, &format!("{first}{second}")),
            vote(&any, &format!("{second}\n{first}"))
        );
        let lone = tools(false, false);
        assert_eq!(vote(&lone, &format!("{first}{second}")), vote(&lone, first));
    }

    #[test]
    fn what_is_no_call_of_these_tools_does_not_vote() {
        let any = tools(false, true);
        for text in [
            "<tool_call>{\"name\":\"rm\",\"arguments\":{}}</tool_call>",
            "<tool_call>{\"name\":\"add\",\"arguments\":{\"a\":</tool_call>",
            "<think>I should call add",
        ] {
            assert_eq!(vote(&any, text), None, "{text}");
        }
        assert_eq!(vote(&any, "It rains."), vote(&any, "Rain, I think."));
        assert_eq!(vote(&any, "\\boxed{4}"), Some("4".to_owned()));
        assert_eq!(vote(&tools(true, true), "\\boxed{4}"), None);
    }
}
