//! The prompts of a request: messages through the model's chat template, or texts and token ids as they are.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::UnknownFields;
use super::error::ApiError;
use super::fields::UnreadFields;
use super::messages;
use super::source::render;
use super::tools::{self, Tools};
use crate::error::Error;
use crate::openai::Prompt;
use crate::prompt::{
    DEFAULT_INSTRUCTION, DEFAULT_PROMPT_TEMPLATE, Message, RenderOptions, Rendered, user_turn,
};
use crate::solver::{Prepared, Solver, problem_id};

/// The prompt of `messages`. The instruction that the model is asked with goes behind the last turn of the
/// user; a last turn of the assistant is gone on with.
pub(super) fn chat(
    f: &mut UnreadFields,
    solver: &Solver,
    unknown: UnknownFields,
    instruction: Option<&str>,
    variables: &BTreeMap<String, Value>,
    tools: Option<&Tools>,
) -> Result<Prepared, ApiError> {
    let mut messages = messages::read(f.take("messages"), tools::format(solver).is_some(), unknown)?;
    // an assistant that has said nothing yet is one whose turn begins
    if messages.len() > 1
        && messages.last().is_some_and(|last| {
            last.role == "assistant"
                && last.content.trim().is_empty()
                && last.reasoning_content.is_none()
                && last.tool_calls.is_empty()
        })
    {
        messages.pop();
    }
    if messages.last().is_some_and(|last| !last.tool_calls.is_empty()) {
        return Err(ApiError::invalid(
            Some("messages"),
            "`messages` ends with calls of tools: what they came to must follow, as messages of the role `tool`",
        ));
    }
    let settings = solver.settings();
    // as `tts solve` names a problem: the same question is the same problem, and draws the same numbers
    let id = match &messages[..] {
        [only] if only.role == "user" => problem_id(&only.content),
        _ => {
            let turn = |m: &Message| {
                let calls = m
                    .tool_calls
                    .iter()
                    .map(|call| json!([call.name, call.arguments]).to_string());
                Value::from_iter([m.role.clone(), m.content.clone()].into_iter().chain(calls))
            };
            problem_id(&messages.iter().map(turn).collect::<Value>().to_string())
        }
    };
    let prompter = solver.prompter();
    let last = messages.last_mut().expect("at least one");
    let problem = last.content.clone();
    if last.role == "user" {
        let instruction = instruction
            .or(settings.instruction.as_deref())
            // whoever offers tools asks for calls, not for boxes
            .or(tools.map(|_| ""))
            .unwrap_or_else(|| prompter.map_or(DEFAULT_INSTRUCTION, |p| p.instruction()));
        let template = settings
            .prompt_template
            .as_deref()
            .unwrap_or(DEFAULT_PROMPT_TEMPLATE);
        last.content = user_turn(template, &last.content, instruction).map_err(Error::from)?;
    }
    if last.role != "user" && instruction.is_some() {
        return Err(ApiError::invalid(
            Some("instruction"),
            "`instruction` goes behind the last turn where that is the user's, and here it is not",
        ));
    }
    if let Some(system) = settings.system.as_ref().filter(|_| messages[0].role != "system") {
        messages.insert(0, Message::system(system));
    }
    let mut all = settings.template_variables.clone();
    all.extend(variables.clone());
    let options = RenderOptions {
        variables: all,
        tools: tools.map(|tools| tools.given.clone()).unwrap_or_default(),
        date: settings.date,
        continue_last: messages.last().is_some_and(|last| last.role == "assistant"),
        ..RenderOptions::default()
    };
    let prompt = render(solver, &messages, &options)?;
    prepared(solver, 1, "messages", id, problem, messages, prompt)
}

/// The prompts of `prompt`: a text, token ids, or an array of either; at least `least` tokens are to follow.
pub(super) fn raw(
    f: &mut UnreadFields,
    solver: &Solver,
    most: usize,
    least: usize,
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
            let text = prompt.text.clone();
            prepared(solver, least, "prompt", id, text, Vec::new(), prompt)
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

/// A prompt with the token limit that the context leaves it, at least `least`; `field` holds it.
fn prepared(
    solver: &Solver,
    least: usize,
    field: &'static str,
    id: String,
    problem: String,
    messages: Vec<Message>,
    prompt: Rendered,
) -> Result<Prepared, ApiError> {
    let taken = prompt.ids.len();
    let context = solver.source().capabilities().context.unwrap_or(usize::MAX);
    if context.saturating_sub(taken) < least {
        return Err(ApiError::invalid(
            Some(field),
            format!(
                "the model's context is {context} tokens, and the prompt has {taken}, which leaves no room for \
                 an answer"
            ),
        )
        .with_code("context_length_exceeded"));
    }
    Ok(Prepared {
        id,
        problem,
        gold: None,
        messages,
        prompt,
        max_tokens: solver.resolved().max_tokens.min(context - taken),
    })
}
