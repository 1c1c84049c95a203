//! Calls of tools as a model's own chat template has it write them.

use serde_json::{Map, Value};

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// Its arguments by name.
    pub arguments: Map<String, Value>,
}

impl ToolCall {
    /// The call that a text is from its beginning to its end: JSON with a name and arguments, in a fence of Markdown
    /// or without. Smaller models forget the marks of their template.
    pub fn of_whole_text(said: &str) -> Option<Self> {
        let text = said.trim();
        let fenced = text.strip_prefix("```").and_then(|text| text.strip_suffix("```"));
        let text = fenced.map_or(text, |text| text.strip_prefix("json").unwrap_or(text));
        let has_arguments = text.contains("\"arguments\"") || text.contains("\"parameters\"");
        has_arguments.then(|| of_json(text)).flatten()
    }
}

/// How a model writes calls of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, as Hermes, Qwen2.5, Qwen3 and SmolLM3 do.
    Tagged,
    /// `<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>`, as Qwen3-Coder and
    /// Qwen3.5 do.
    Functions,
    /// The whole answer is `{"name": ..., "parameters": {...}}`, as Llama 3.1 and later do.
    Bare,
}

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

impl ToolFormat {
    /// The format that a chat template asks for; none where it does not show tools to the model, or in a format
    /// that is not known here.
    pub fn of_template(source: &str) -> Option<Self> {
        if !source.contains("tools") {
            None
        } else if source.contains("<function=") && source.contains("<parameter=") {
            Some(Self::Functions)
        } else if source.contains(OPEN) {
            Some(Self::Tagged)
        } else if source.contains("\"parameters\": dictionary") {
            Some(Self::Bare)
        } else {
            None
        }
    }

    /// The calls in what a model said after its thinking, and the text beside them; no calls where it called
    /// nothing. `schema` gives the JSON schema of a tool's parameters.
    ///
    /// # Errors
    /// `None` where something that looks like a call cannot be read as one.
    pub fn read<'s>(
        self,
        said: &str,
        schema: impl Fn(&str) -> Option<&'s Value>,
    ) -> Option<(String, Vec<ToolCall>)> {
        if self == Self::Bare {
            let text = said.trim();
            let text = text.strip_prefix("<|python_tag|>").unwrap_or(text);
            let is_call = text.starts_with('{') && text.contains("\"name\"");
            return Some(match is_call {
                true => (String::new(), vec![of_json(text)?]),
                false => (said.to_owned(), Vec::new()),
            });
        }
        let (mut beside, mut calls, mut rest) = (String::new(), Vec::new(), said);
        while let Some((before, after)) = rest.split_once(OPEN) {
            // the last one may end with the text
            let (body, next) = after.split_once(CLOSE).unwrap_or((after, ""));
            beside.push_str(before);
            calls.push(match self {
                Self::Functions => of_tags(body, &schema)?,
                _ => of_json(body)?,
            });
            rest = next;
        }
        beside.push_str(rest);
        if !calls.is_empty() {
            beside = beside.trim().to_owned();
        }
        Some((beside, calls))
    }
}

fn of_json(text: &str) -> Option<ToolCall> {
    let Value::Object(mut call) = serde_json::from_str(text.trim()).ok()? else {
        return None;
    };
    let Value::String(name) = call.remove("name")? else {
        return None;
    };
    let arguments = ["arguments", "parameters"]
        .into_iter()
        .find_map(|key| call.remove(key));
    let arguments = match arguments.unwrap_or_else(|| Map::new().into()) {
        Value::Object(arguments) => arguments,
        // some write them as a text of JSON
        Value::String(text) => serde_json::from_str(&text).ok()?,
        _ => return None,
    };
    Some(ToolCall { name, arguments })
}

fn of_tags<'s>(body: &str, schema: impl Fn(&str) -> Option<&'s Value>) -> Option<ToolCall> {
    let (name, mut rest) = body.trim().strip_prefix("<function=")?.split_once('>')?;
    rest = rest.trim_end().strip_suffix("</function>").unwrap_or(rest);
    let of = schema(name);
    let mut arguments = Map::new();
    while let Some((_, after)) = rest.split_once("<parameter=") {
        let (key, after) = after.split_once('>')?;
        let (value, next) = after.split_once("</parameter>")?;
        // the line breaks around a value are the format's
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        let kind = of.and_then(|schema| schema.pointer("/properties")?.get(key)?.get("type"));
        let text = || Value::from(value);
        let value = match kind.and_then(Value::as_str) {
            Some("string") => text(),
            _ => serde_json::from_str(value).unwrap_or_else(|_| text()),
        };
        arguments.insert(key.to_owned(), value);
        rest = next;
    }
    Some(ToolCall {
        name: name.to_owned(),
        arguments,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(name: &str, arguments: Value) -> ToolCall {
        let Value::Object(arguments) = arguments else {
            panic!("an object")
        };
        let name = name.to_owned();
        ToolCall { name, arguments }
    }

    #[test]
    fn calls_are_read_by_the_marks_of_the_template() {
        let read = |format: ToolFormat, said: &str| format.read(said, |_| None);
        let tagged = "I look.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>\n<tool_call>\n\
                      {\"name\": \"now\"}";
        let found = read(ToolFormat::Tagged, tagged).unwrap();
        assert_eq!(found.0, "I look.");
        assert_eq!(found.1, [call("add", json!({"a": 1})), call("now", json!({}))]);
        let bare = read(
            ToolFormat::Bare,
            " {\"name\": \"add\", \"parameters\": {\"a\": \"x\"}} ",
        );
        assert_eq!(bare.unwrap().1, [call("add", json!({"a": "x"}))]);
        for format in [ToolFormat::Tagged, ToolFormat::Functions, ToolFormat::Bare] {
            let said = "It is 4 {as} was said.\n";
            assert_eq!(read(format, said), Some((said.to_owned(), Vec::new())));
        }
        for broken in [
            "{\"name\": 7}",
            "{\"name\": \"f\", \"arguments\": 3}",
            "add(1)",
            "{",
        ] {
            assert_eq!(
                read(ToolFormat::Tagged, &format!("<tool_call>{broken}</tool_call>")),
                None,
                "{broken}"
            );
        }
    }

    #[test]
    fn a_text_that_is_a_call_and_nothing_else_needs_no_marks() {
        let fenced = "```json\n{\n  \"name\": \"add\",\n  \"arguments\": {\"a\": 1}\n}\n```\n";
        let wanted = Some(call("add", json!({"a": 1})));
        assert_eq!(ToolCall::of_whole_text(fenced), wanted);
        assert_eq!(ToolCall::of_whole_text(&fenced[8..fenced.len() - 4]), wanted);
        for other in [
            "{\"name\": \"add\"}",
            "Here: {\"name\": \"add\", \"arguments\": {}}",
            "```\n",
        ] {
            assert_eq!(ToolCall::of_whole_text(other), None, "{other}");
        }
    }

    #[test]
    fn parameters_in_tags_have_the_types_of_their_schema() {
        let schema = json!({"properties": {"zip": {"type": "string"}, "days": {"type": "integer"}}});
        let said = "<tool_call>\n<function=weather>\n<parameter=zip>\n01234\n</parameter>\n<parameter=days>\n3\n\
                    </parameter>\n<parameter=more>\n[1, 2]\n</parameter>\n</function>\n</tool_call>";
        let found = ToolFormat::Functions.read(said, |name| (name == "weather").then_some(&schema));
        let wanted = call("weather", json!({"zip": "01234", "days": 3, "more": [1, 2]}));
        assert_eq!(found, Some((String::new(), vec![wanted])));
        assert_eq!(
            ToolFormat::Functions.read("<tool_call>{}</tool_call>", |_| None),
            None
        );
    }
}
