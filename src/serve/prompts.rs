//! The prompts of a request: messages through the model's chat template, or texts and token ids as they are.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::ApiError;
use super::fields::{UnreadFields, kind};
use super::source::render;
use crate::error::Error;
use crate::openai::{Content, Prompt};
use crate::prompt::{
    DEFAULT_INSTRUCTION, DEFAULT_PROMPT_TEMPLATE, Message, RenderOptions, Rendered, user_turn,
};
use crate::solver::{Prepared, Solver, problem_id};

/// Roles, and the names that templates have for them.
const ROLES: [(&str, &str); 6] = [
    ("system", "system"),
    ("developer", "system"),
    ("user", "user"),
    ("assistant", "assistant"),
    ("tool", "tool"),
    ("function", "tool"),
];

/// The prompt of `messages`. The instruction that the model is asked with goes behind the last turn of the
/// user.
pub(super) fn chat(
    f: &mut UnreadFields,
    solver: &Solver,
    wanted: Option<usize>,
    instruction: Option<&str>,
    variables: &BTreeMap<String, Value>,
) -> Result<Prepared, ApiError> {
    let wrong = |what: String| ApiError::invalid(Some("messages"), what);
    let given = match f.take("messages") {
        Some(Value::Array(given)) if !given.is_empty() => given,
        Some(Value::Array(_)) | None => {
            return Err(wrong("`messages` must hold at least one message".to_owned()));
        }
        Some(other) => {
            return Err(wrong(format!(
                "`messages` must be an array; {} was given",
                kind(&other)
            )));
        }
    };
    let mut messages = given
        .into_iter()
        .enumerate()
        .map(|(i, message)| read(message).map_err(|what| wrong(format!("messages[{i}] {what}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let settings = solver.settings();
    // as `tts solve` names a problem: the same question is the same problem, and draws the same numbers
    let id = match &messages[..] {
        [only] if only.role == "user" => problem_id(&only.content),
        _ => {
            let turns: Vec<[&str; 2]> = messages.iter().map(|m| [&*m.role, &*m.content]).collect();
            problem_id(&Value::from_iter(turns.iter().map(|t| t.to_vec())).to_string())
        }
    };
    let prompter = solver.prompter();
    let last = messages.last_mut().expect("at least one");
    let problem = last.content.clone();
    if last.role == "user" {
        let instruction = instruction
            .or(settings.instruction.as_deref())
            .unwrap_or_else(|| prompter.map_or(DEFAULT_INSTRUCTION, |p| p.instruction()));
        let template = settings
            .prompt_template
            .as_deref()
            .unwrap_or(DEFAULT_PROMPT_TEMPLATE);
        last.content = user_turn(template, &last.content, instruction).map_err(Error::from)?;
    }
    if let Some(system) = settings.system.as_ref().filter(|_| messages[0].role != "system") {
        messages.insert(0, Message::system(system));
    }
    let options = RenderOptions {
        variables: variables.clone(),
        date: settings.date,
        ..RenderOptions::default()
    };
    let prompt = render(solver, &messages, &options)?;
    prepared(solver, wanted, id, problem, messages, prompt)
}

fn read(message: Value) -> Result<Message, String> {
    let Value::Object(mut message) = message else {
        return Err(format!("must be an object; {} was given", kind(&message)));
    };
    let role = match message.remove("role") {
        Some(Value::String(role)) => role,
        _ => return Err("must have a `role`".to_owned()),
    };
    let Some((_, role)) = ROLES.iter().find(|r| r.0 == role) else {
        return Err(format!(
            "has a `role` that is none of {}",
            ROLES.map(|r| r.0).join(", ")
        ));
    };
    let content = match message.remove("content") {
        // an assistant that called a tool said nothing
        None | Some(Value::Null) if *role == "assistant" => String::new(),
        None | Some(Value::Null) => return Err("must have a `content`".to_owned()),
        Some(content) => serde_json::from_value::<Content<'_>>(content)
            .map_err(|_| "has a `content` that is neither a string nor an array of parts")?
            .text()
            .ok_or("has a part that is not text, and the model reads text alone")?,
    };
    Ok(Message::new(*role, content))
}

/// The prompts of `prompt`: a text, token ids, or an array of either.
pub(super) fn raw(
    f: &mut UnreadFields,
    solver: &Solver,
    wanted: Option<usize>,
    most: usize,
) -> Result<Vec<Prepared>, ApiError> {
    let wrong = |what: &str| ApiError::invalid(Some("prompt"), what);
    let shapes = "a string, an array of token ids, or an array of either";
    let raw = f
        .of::<Prompt<'static>>("prompt", shapes)?
        .ok_or_else(|| wrong("`prompt` is missing: the text to go on from"))?;
    // an engine elsewhere may have to read a text itself
    let of_text = |text: String| -> Result<Rendered, ApiError> {
        let ids = solver.source().encode(&text)?;
        Ok(raw_prompt(text, ids))
    };
    let of_ids = |ids: Vec<u32>| {
        raw_prompt(
            solver
                .prompter()
                .map(|p| p.decode(&ids, false))
                .unwrap_or_default(),
            ids,
        )
    };
    let count = match &raw {
        Prompt::Text(_) | Prompt::Ids(_) => 1,
        Prompt::Texts(texts) => texts.len(),
        Prompt::ManyIds(many) => many.len(),
    };
    if count == 0 || count > most {
        return Err(wrong(&format!("`prompt` must hold 1 to {most} prompts")));
    }
    let all = match raw {
        Prompt::Text(text) => vec![of_text(text.into_owned())?],
        Prompt::Ids(ids) => vec![of_ids(ids.into_owned())],
        Prompt::Texts(texts) => texts.into_iter().map(of_text).collect::<Result<_, _>>()?,
        Prompt::ManyIds(many) => many.into_iter().map(of_ids).collect(),
    };
    all.into_iter()
        .map(|prompt| {
            if prompt.ids.is_empty() && prompt.text.is_empty() {
                return Err(wrong("`prompt` is empty: there is nothing to go on from"));
            }
            if let Some(vocab) = solver.source().capabilities().vocabulary
                && let Some(id) = prompt.ids.iter().find(|id| **id as usize >= vocab)
            {
                return Err(wrong(&format!(
                    "`prompt` has the token id {id}; the model's ids are below {vocab}"
                )));
            }
            // as `tts complete` names it
            let id = match prompt.ids.is_empty() {
                true => problem_id(&prompt.text),
                false => problem_id(
                    &prompt
                        .ids
                        .iter()
                        .map(u32::to_string)
                        .collect::<Vec<_>>()
                        .join(","),
                ),
            };
            prepared(solver, wanted, id, prompt.text.clone(), Vec::new(), prompt)
        })
        .collect()
}

fn raw_prompt(text: String, ids: Vec<u32>) -> Rendered {
    Rendered {
        text,
        ids,
        ends_in_think: false,
    }
}

/// `wanted` is the token limit that the request names: unlike the server's own it is not quietly lowered.
fn prepared(
    solver: &Solver,
    wanted: Option<usize>,
    id: String,
    problem: String,
    messages: Vec<Message>,
    prompt: Rendered,
) -> Result<Prepared, ApiError> {
    let taken = prompt.ids.len();
    let mut left = usize::MAX;
    if let Some(context) = solver.source().capabilities().context {
        left = context.saturating_sub(taken);
        if left == 0 || wanted.is_some_and(|wanted| wanted > left) {
            let wanted = wanted.map_or_else(String::new, |w| format!(" and {w} more are to be generated"));
            return Err(ApiError::invalid(
                Some("max_tokens"),
                format!(
                    "the model's context is {context} tokens, the prompt has {taken}{wanted}: that does not \
                     fit"
                ),
            )
            .with_code("context_length_exceeded"));
        }
    }
    Ok(Prepared {
        id,
        problem,
        gold: None,
        messages,
        prompt,
        max_tokens: solver.resolved().max_tokens.min(left),
    })
}
