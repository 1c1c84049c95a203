//! The user's turn: a problem and the instruction that asks for a boxed answer.

use super::PromptError;

/// What is asked of a model after the problem unless the task or the model says otherwise.
pub const DEFAULT_INSTRUCTION: &str =
    "Please reason step by step, and put your final answer within \\boxed{}.";

/// How problem and instruction make the user's turn unless `--prompt-template` says otherwise.
pub const DEFAULT_PROMPT_TEMPLATE: &str = "{problem}\n\n{instruction}";

const PROBLEM: &str = "{problem}";
const INSTRUCTION: &str = "{instruction}";

/// Makes the text of the user's turn from a problem.
///
/// `template` holds `{problem}` and, if it likes, `{instruction}`; every other brace stands for itself, so
/// LaTeX needs no escaping, and neither placeholder is looked for in what was put in. With an empty
/// instruction its placeholder goes together with the white space before it.
///
/// # Errors
/// [`PromptError::NoProblemPlaceholder`] and [`PromptError::EmptyProblem`].
///
/// ```
/// use tts::prompt::{user_turn, DEFAULT_PROMPT_TEMPLATE};
/// assert_eq!(user_turn(DEFAULT_PROMPT_TEMPLATE, "1+1?", "Be brief.").unwrap(), "1+1?\n\nBe brief.");
/// assert_eq!(user_turn(DEFAULT_PROMPT_TEMPLATE, "1+1?", "").unwrap(), "1+1?");
/// ```
pub fn user_turn(template: &str, problem: &str, instruction: &str) -> Result<String, PromptError> {
    if !template.contains(PROBLEM) {
        return Err(PromptError::NoProblemPlaceholder);
    }
    if problem.trim().is_empty() {
        return Err(PromptError::EmptyProblem);
    }
    let mut turn = String::with_capacity(template.len() + problem.len() + instruction.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        turn.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix(PROBLEM) {
            turn.push_str(problem);
            rest = after;
        } else if let Some(after) = rest.strip_prefix(INSTRUCTION) {
            if instruction.is_empty() {
                turn.truncate(turn.trim_end().len());
            }
            turn.push_str(instruction);
            rest = after;
        } else {
            turn.push('{');
            rest = &rest[1..];
        }
    }
    turn.push_str(rest);
    Ok(turn)
}
