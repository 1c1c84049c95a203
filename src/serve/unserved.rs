//! Fields of OpenAI's interface that this server does not serve, and those that change nothing.

use serde_json::Value;

use super::UnknownFields;
use super::error::ApiError;
use super::fields::UnreadFields;
use super::json::kind;
use super::request::Endpoint;

/// Fields of OpenAI's interface that this server does not serve, each with the value that asks for nothing.
const UNSERVED: [(&str, &str); 16] = [
    ("audio", ""),
    ("background", "false"),
    ("conversation", ""),
    ("include", "[]"),
    ("input", ""),
    ("instructions", ""),
    ("max_output_tokens", ""),
    ("max_tool_calls", ""),
    ("moderation", ""),
    ("prediction", ""),
    ("previous_response_id", ""),
    ("reasoning", "{}"),
    ("text", ""),
    ("truncation", "\"disabled\""),
    ("verbosity", "\"medium\""),
    ("web_search_options", ""),
];

/// Whether a value is of the type that a field has.
type IsRight = fn(&Value) -> bool;

/// Fields of OpenAI's interface that change nothing about an answer, with what they are. All others that are
/// not known are refused.
const BOOKKEEPING: [(&str, &str, IsRight); 8] = [
    ("prompt_cache_options", "an object", Value::is_object),
    ("user", "a string", Value::is_string),
    ("metadata", "an object", Value::is_object),
    ("store", "true or false", Value::is_boolean),
    ("service_tier", "a string", Value::is_string),
    ("safety_identifier", "a string", Value::is_string),
    ("prompt_cache_key", "a string", Value::is_string),
    ("prompt_cache_retention", "a string", Value::is_string),
];

/// Fields of vLLM's and llama.cpp's interfaces, each with the values that ask for what is done anyway.
const NEUTRAL: [(&str, &[&str]); 36] = [
    ("add_generation_prompt", &["true"]),
    ("add_special_tokens", &["false", "true"]),
    ("allowed_token_ids", &["[]"]),
    ("bad_words", &["[]"]),
    ("best_of", &["1"]),
    ("cache_prompt", &["true", "false"]),
    ("continue_final_message", &["false"]),
    ("detokenize", &["true"]),
    ("documents", &["[]"]),
    ("dry_multiplier", &["0", "0.0"]),
    ("dynatemp_range", &["0", "0.0"]),
    ("extra_body", &["{}"]),
    ("grammar", &["\"\""]),
    ("id_slot", &["-1"]),
    ("ignore", &["[]"]),
    ("include_stop_str_in_output", &["false"]),
    ("length_penalty", &["1", "1.0"]),
    ("lora", &["[]"]),
    ("min_tokens", &["0"]),
    ("mirostat", &["0"]),
    ("n_keep", &["0"]),
    ("n_probs", &["0"]),
    ("priority", &["0"]),
    ("prompt_logprobs", &["0", "false"]),
    ("request_id", &[]),
    ("return_token_ids", &["false"]),
    ("return_tokens_as_token_ids", &["false"]),
    ("skip_special_tokens", &["true"]),
    ("spaces_between_special_tokens", &["true"]),
    ("stop_token_ids", &["[]"]),
    ("timings_per_token", &["false"]),
    ("top_n_sigma", &["-1", "-1.0"]),
    ("truncate_prompt_tokens", &["-1"]),
    ("typical_p", &["1", "1.0"]),
    ("use_beam_search", &["false"]),
    ("xtc_probability", &["0", "0.0"]),
];

/// Takes the fields of OpenAI's interface that nothing is done with, and refuses those that ask for what is
/// not done here.
pub(super) fn check(
    f: &mut UnreadFields,
    endpoint: Endpoint,
    n: usize,
    unknown: UnknownFields,
) -> Result<(), ApiError> {
    if endpoint == Endpoint::Completion {
        if let Some(best_of) = f.count("best_of", 0..=usize::MAX)?
            && best_of != n
        {
            return Err(not_done("best_of", "there is a vote over the traces already"));
        }
        one_of(
            f,
            "suffix",
            &[Value::from("")],
            "the model writes on from the end of a text alone",
        )?;
    } else {
        one_of(f, "echo", &[false.into()], "a message is not repeated")?;
        let none = Value::Array(Vec::new());
        let words = [Value::from("none"), Value::from("auto")];
        for (tools, choice, why) in [
            (
                "tools",
                "tool_choice",
                "no tool can be called: the model's chat template shows none, or an engine elsewhere applies it",
            ),
            ("functions", "function_call", "functions are not called"),
        ] {
            // what may not be called changes no answer
            let chosen = f.take(choice);
            if chosen.as_ref().is_some_and(|chosen| *chosen == words[0]) {
                f.take(tools);
            } else if let Some(chosen) = chosen {
                f.put(choice, chosen);
            }
            one_of(f, tools, std::slice::from_ref(&none), why)?;
            one_of(f, choice, &words, why)?;
        }
        let text = Value::from_iter(["text"]);
        one_of(f, "modalities", &[text], "the answer is text")?;
        f.flag("parallel_tool_calls")?;
    }
    for (name, right, is_right) in BOOKKEEPING {
        if let Some(wrong) = f.take(name).filter(|value| !is_right(value)) {
            let given = kind(&wrong);
            let why = format!("`{name}` must be {right}; {given} was given");
            return Err(ApiError::invalid(Some(name), why));
        }
    }
    for (name, neutral) in NEUTRAL {
        let Some(value) = f.take_if_given(name) else {
            continue;
        };
        if !(value.is_string() && neutral.is_empty() || neutral.contains(&value.to_string().as_str())) {
            f.put(name, value);
        }
    }
    for (name, nothing) in UNSERVED {
        let given = f.take(name).map(|value| value.to_string());
        if given.is_some_and(|given| given != nothing) && unknown == UnknownFields::Refuse {
            return Err(ApiError::invalid(
                Some(name),
                format!("`{name}` is a field of OpenAI's that this server does not serve"),
            ));
        }
    }
    Ok(())
}

/// Refuses a field of OpenAI's interface that is not done here, unless it asks for what is done anyway.
fn one_of(f: &mut UnreadFields, name: &'static str, harmless: &[Value], why: &str) -> Result<(), ApiError> {
    match f.take(name) {
        Some(value) if !harmless.contains(&value) => Err(not_done(name, why)),
        _ => Ok(()),
    }
}

fn not_done(name: &'static str, why: &str) -> ApiError {
    ApiError::invalid(Some(name), format!("`{name}` is not done: {why}"))
}
