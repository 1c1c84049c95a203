//! Messages become token ids through the model's own chat template, and token ids become text again.
//!
//! A [`Prompter`] is a model's tokenizer, chat template and recommended settings, read from its folder, from
//! texts in the binary or from a GGUF file's metadata. The template writes every special token of the prompt,
//! BOS included: nothing is added to what it wrote.

mod detokenizer;
mod error;
mod generation_config;
mod gguf;
mod python_json;
mod sources;
mod template;
#[cfg(test)]
mod tests;
mod thinking;
mod tool_calls;
mod turn;
mod vocabulary;

use std::collections::{BTreeMap, BTreeSet};

pub use detokenizer::Detokenizer;
pub use error::PromptError;
pub use generation_config::GenerationConfig;
pub use gguf::GgufTokenizer;
pub use sources::Parts;
pub use tool_calls::{ToolCall, ToolFormat};
pub use tts_evals::answer::{THINK_END, THINK_START};
pub use turn::{DEFAULT_INSTRUCTION, DEFAULT_PROMPT_TEMPLATE, user_turn};

pub(crate) use template::is_given;
use template::{ChatTemplate, TemplateVariables};
use thinking::ThinkingMarks;
use vocabulary::Vocabulary;

/// Special tokens that end a turn or a text. Some checkpoints name only one of them as their end.
const ENDS: [&str; 6] = [
    "<|im_end|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|return|>",
    "<|call|>",
];

/// Marks the end of a message that is gone on with; no message holds it by accident.
const END_OF_LAST: &str = "\u{1}end of the last message\u{1}";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant`, or whatever else the template knows.
    pub role: String,
    /// The text of the message.
    pub content: String,
    /// What the model thought before it, for templates that show it.
    pub reasoning_content: Option<String>,
    /// The tools that it called, for templates that show tools.
    pub tool_calls: Vec<ToolCall>,
}

impl Message {
    /// A turn of any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            reasoning_content: None,
            tool_calls: Vec::new(),
        }
    }

    /// Instructions that stand before the conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A turn of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// A turn of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// How messages are rendered.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// Whether the prompt ends where the model's turn begins. Default true.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends where the last message does, which the model goes on with. Default false.
    pub continue_last: bool,
    /// Further variables for the template, such as `enable_thinking`.
    pub variables: BTreeMap<String, serde_json::Value>,
    /// Tools that the model may call, each as `{"type": "function", "function": {...}}`.
    pub tools: Vec<serde_json::Value>,
    /// The day that a template writes as today's, midnight; where `None` the machine's clock counts.
    pub date: Option<jiff::civil::Date>,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self {
            add_generation_prompt: true,
            continue_last: false,
            variables: BTreeMap::new(),
            tools: Vec::new(),
            date: None,
        }
    }
}

/// A prompt as text and as ids.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// What the template wrote.
    pub text: String,
    /// The ids of `text`, nothing added.
    pub ids: Vec<u32>,
    /// Whether the template opened the model's reasoning, so that the first generated token already belongs
    /// to it. If not, the model writes `<think>` itself, or does not reason in that form.
    pub ends_in_think: bool,
}

/// A model's tokenizer, chat template and recommended settings.
///
/// Cheap to share between threads behind an `Arc`; nothing in it changes while it is used.
pub struct Prompter {
    vocabulary: Vocabulary,
    template: Option<ChatTemplate>,
    /// Where a template was looked for.
    origin: String,
    /// `bos_token`, `eos_token` and the others that a template may write.
    special_tokens: BTreeMap<String, String>,
    stop_ids: BTreeSet<u32>,
    generation: GenerationConfig,
    instruction: Option<String>,
    note: Option<String>,
    most_tokens: Option<usize>,
}

impl Prompter {
    /// Replaces the model's chat template, as `--chat-template` does; `origin` is the name that errors give
    /// it.
    ///
    /// # Errors
    /// [`PromptError::TemplateSyntax`]; the old template stays then.
    pub fn set_chat_template(&mut self, source: &str, origin: &str) -> Result<(), PromptError> {
        self.template = Some(ChatTemplate::compile(source, origin)?);
        Ok(())
    }

    /// Whether there is a chat template to render with.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// Makes sure that these are variables of the chat template that a user may set: those that it reads, beside
    /// the messages and special tokens.
    ///
    /// # Errors
    /// [`PromptError::NoVariable`], which names those that there are; [`PromptError::NoTemplate`].
    pub fn check_variables<'a>(
        &self,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Result<(), PromptError> {
        for name in names {
            let template = self.template.as_ref().ok_or_else(|| PromptError::NoTemplate {
                origin: self.origin.clone(),
            })?;
            let known = template.variables();
            if !known.contains(name) {
                return Err(PromptError::NoVariable {
                    origin: template.origin().to_owned(),
                    name: name.clone(),
                    known: if known.is_empty() {
                        "none".to_owned()
                    } else {
                        known.join(", ")
                    },
                });
            }
        }
        Ok(())
    }

    /// Renders `messages` with the chat template and encodes the result, special tokens as such and none
    /// added.
    ///
    /// # Errors
    /// [`PromptError::NoTemplate`], [`PromptError::TemplateFailed`], [`PromptError::TemplateRefused`],
    /// [`PromptError::CannotContinue`], [`PromptError::EmptyPrompt`], [`PromptError::TooLong`] and [`PromptError::Encode`].
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<Rendered, PromptError> {
        let template = self.template.as_ref().ok_or_else(|| PromptError::NoTemplate {
            origin: self.origin.clone(),
        })?;
        let variables = TemplateVariables {
            special_tokens: &self.special_tokens,
            extra: &options.variables,
            tools: &options.tools,
            date: options.date,
        };
        let (text, ends_in_think) = match messages.split_last() {
            Some((last, before)) if options.continue_last => {
                let mut marked = messages.to_vec();
                marked[before.len()].content.push_str(END_OF_LAST);
                let [text] = template.render(&marked, &variables, [false])?;
                let mut text = text?;
                let end = text
                    .rfind(END_OF_LAST)
                    .ok_or_else(|| PromptError::CannotContinue {
                        origin: template.origin().to_owned(),
                    })?;
                text.truncate(end);
                // the last message alone tells whether it ends within its thinking
                let [without] = template.render(before, &variables, [false])?;
                let turn = without.ok().and_then(|without| text.strip_prefix(&*without));
                let opens = self.opens_thinking(turn.unwrap_or(&last.content));
                (text, opens)
            }
            _ => {
                let turns = [options.add_generation_prompt, false];
                let [text, without] = template.render(messages, &variables, turns)?;
                let text = text?;
                let opens =
                    options.add_generation_prompt && self.opens_thought(&text, &without.unwrap_or_default());
                (text, opens)
            }
        };
        let ids = self.vocabulary.encode(&text, self.most_tokens)?;
        if ids.is_empty() {
            return Err(PromptError::EmptyPrompt {
                origin: template.origin().to_owned(),
            });
        }
        Ok(Rendered {
            text,
            ids,
            ends_in_think,
        })
    }

    /// Ids of a raw text: special tokens written in it are recognised, none is added.
    ///
    /// # Errors
    /// [`PromptError::TooLong`] and [`PromptError::Encode`].
    pub fn encode_raw(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        self.vocabulary.encode(text, self.most_tokens)
    }

    /// Refuses prompts of more tokens from now on, before they are encoded to their end: a prompt costs some
    /// hundred bytes of memory for each of its bytes while it is encoded. One that is only a little longer
    /// may pass, and is for the caller to count.
    pub fn limit_tokens(&mut self, most: usize) {
        self.most_tokens = Some(self.most_tokens.map_or(most, |before| before.min(most)));
    }

    /// How the model calls tools, where its chat template shows it any in a format that is known here.
    pub fn tool_format(&self) -> Option<ToolFormat> {
        ToolFormat::of_template(self.chat_template()?)
    }

    /// Whether the chat template may write the date, which makes a prompt another one tomorrow.
    pub fn writes_date(&self) -> bool {
        self.template.as_ref().is_some_and(ChatTemplate::has_clock)
    }

    /// Text of `ids`; ids beyond the tokenizer (the padding of a vocabulary) give nothing, bytes that are no
    /// character U+FFFD.
    ///
    /// With `skip_special` special tokens (the stop token among them) give nothing either, and thinking stands
    /// between `<think>` and `</think>`, whatever the model's own marks are.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        self.vocabulary.decode(ids, skip_special)
    }

    /// The bytes that a token adds to a text, which need not be whole characters; none for ids without text
    /// and, with `skip_special`, special tokens. Nothing where they depend on the tokens before it.
    pub fn token_bytes(&self, id: u32, skip_special: bool) -> Option<Vec<u8>> {
        self.vocabulary.bytes_of(id, skip_special)
    }

    /// A decoder for one stream of tokens.
    pub fn detokenizer(&self, skip_special: bool) -> Detokenizer {
        self.vocabulary.detokenizer(skip_special)
    }

    /// The ids that end a trace: the union of `eos_token_id` in generation_config.json and in config.json,
    /// the tokenizer's own end token, and `<|im_end|>` and `<|end_of_text|>` where the vocabulary has them as
    /// special tokens.
    pub fn stop_ids(&self) -> &BTreeSet<u32> {
        &self.stop_ids
    }

    /// Ids of what opens the model's thinking, and of what ends it and begins the answer: `<think>` and
    /// `</think>`, `[THINK]` and `[/THINK]`, or the frames of harmony's channels. Nothing where the vocabulary has
    /// no tokens for the end.
    ///
    /// # Errors
    /// [`PromptError::Encode`].
    pub fn think_ids(&self) -> Result<Option<[Vec<u32>; 2]>, PromptError> {
        let marks = self.vocabulary.marks();
        let (open, close) = marks.texts();
        if marks == ThinkingMarks::Plain && self.vocabulary.id(close).is_none() {
            return Ok(None);
        }
        Ok(Some([self.encode_raw(open)?, self.encode_raw(close)?]))
    }

    /// Whether a text that the model is to go on from ends within its thinking.
    pub fn opens_thinking(&self, text: &str) -> bool {
        self.vocabulary.marks().open_in(text)
    }

    /// Whether the part of a prompt that opens the model's turn opens its reasoning too. `without` is the prompt
    /// without that part; what users wrote is not looked at as long as it is a beginning of `text`.
    fn opens_thought(&self, text: &str, without: &str) -> bool {
        match text.strip_prefix(without).filter(|_| !without.is_empty()) {
            Some(opening) => self.opens_thinking(opening),
            None => text.trim_end().ends_with(self.vocabulary.marks().texts().0),
        }
    }

    /// The id of a token by its text.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.vocabulary.id(token)
    }

    /// One more than the highest id of the tokenizer; the model's vocabulary may be padded beyond it.
    pub fn tokenizer_size(&self) -> usize {
        self.vocabulary.size()
    }

    /// Makes sure that the model has a row for each id of the tokenizer.
    ///
    /// # Errors
    /// [`PromptError::VocabularyTooSmall`], which names both sizes.
    pub fn check_vocab(&self, config_vocab: usize) -> Result<(), PromptError> {
        self.vocabulary.check(config_vocab)
    }

    /// The settings of generation_config.json; all unset where there is none.
    pub fn generation(&self) -> &GenerationConfig {
        &self.generation
    }

    /// What is asked of the model after a problem: the folder's `tts.json` says it, else
    /// [`DEFAULT_INSTRUCTION`].
    pub fn instruction(&self) -> &str {
        self.instruction.as_deref().unwrap_or(DEFAULT_INSTRUCTION)
    }

    /// What the folder's `tts.json` wants a user of this model to know.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The chat template's text, the override if one was set.
    pub fn chat_template(&self) -> Option<&str> {
        self.template.as_ref().map(ChatTemplate::source)
    }

    /// blake3, in hexadecimal, of the tokenizer and the chat template: two runs with one digest encode alike.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.vocabulary.digest);
        hasher.update(self.chat_template().unwrap_or_default().as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}
