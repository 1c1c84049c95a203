//! Where a [`Prompter`] comes from: a folder, texts in the binary, a GGUF file's metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::generation_config::{Reader, object};
use super::template::ChatTemplate;
use super::vocabulary::Vocabulary;
use super::{ENDS, GenerationConfig, GgufTokenizer, PromptError, Prompter};

/// The texts of a model's side files. What a model does not have is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts<'a> {
    /// Name that errors give to the whole: a folder, or "the bundled model".
    pub origin: &'a str,
    /// Text of tokenizer.json: vocabulary, merges, special tokens.
    pub tokenizer_json: &'a str,
    /// Text of tokenizer_config.json: special tokens, and often the chat template.
    pub tokenizer_config: Option<&'a str>,
    /// Text of special_tokens_map.json, which older models have.
    pub special_tokens_map: Option<&'a str>,
    /// chat_template.jinja; it beats the key in tokenizer_config.json
    pub chat_template: Option<&'a str>,
    /// Text of generation_config.json: recommended sampling settings and stop ids.
    pub generation_config: Option<&'a str>,
    /// Text of config.json, for the ids that begin and end a text.
    pub config: Option<&'a str>,
    /// tts.json: `{"instruction": "...", "note": "..."}`
    pub tts: Option<&'a str>,
}

impl Prompter {
    /// Reads the side files of a model folder.
    ///
    /// # Errors
    /// Every [`PromptError`] but those of rendering; a missing chat template is none until something is to be
    /// rendered.
    pub fn from_folder(folder: &Path) -> Result<Self, PromptError> {
        let read = |name: &str| read_optional(&folder.join(name));
        let Some(tokenizer_json) = read("tokenizer.json")? else {
            return Err(PromptError::NoTokenizer {
                place: folder.display().to_string(),
            });
        };
        let tokenizer_config = read("tokenizer_config.json")?;
        let special_tokens_map = read("special_tokens_map.json")?;
        let chat_template = read("chat_template.jinja")?;
        let generation_config = read("generation_config.json")?;
        let config = read("config.json")?;
        let tts = read("tts.json")?;
        Self::from_parts(&Parts {
            origin: &folder.display().to_string(),
            tokenizer_json: &tokenizer_json,
            tokenizer_config: tokenizer_config.as_deref(),
            special_tokens_map: special_tokens_map.as_deref(),
            chat_template: chat_template.as_deref(),
            generation_config: generation_config.as_deref(),
            config: config.as_deref(),
            tts: tts.as_deref(),
        })
    }

    /// Builds from texts.
    ///
    /// # Errors
    /// As [`Prompter::from_folder`].
    pub fn from_parts(parts: &Parts<'_>) -> Result<Self, PromptError> {
        let vocabulary = Vocabulary::from_json(parts.tokenizer_json, &parts.file("tokenizer.json"))?;
        Self::assemble(vocabulary, parts, None)
    }

    /// Builds from a GGUF file's metadata. `file` is the GGUF file: errors name it, and side files are looked
    /// for beside it (tokenizer.json where the metadata has no vocabulary; chat_template.jinja and
    /// tokenizer_config.json where it has no template; generation_config.json, config.json and tts.json).
    ///
    /// # Errors
    /// As [`Prompter::from_folder`].
    pub fn from_gguf(metadata: &GgufTokenizer, file: &Path) -> Result<Self, PromptError> {
        let folder = file.parent().unwrap_or(Path::new(""));
        let read = |name: &str| read_optional(&folder.join(name));
        let origin = file.display().to_string();
        let own = if metadata.tokens.is_empty() {
            Err(PromptError::NoTokenizer {
                place: origin.clone(),
            })
        } else {
            metadata.vocabulary(&origin)
        };
        let vocabulary = match own {
            Ok(vocabulary) => vocabulary,
            Err(reason) => match read("tokenizer.json")? {
                Some(json) => {
                    Vocabulary::from_json(&json, &folder.join("tokenizer.json").display().to_string())?
                }
                None => return Err(reason),
            },
        };
        let tokenizer_config = read("tokenizer_config.json")?;
        let chat_template = match &metadata.chat_template {
            Some(template) => Some(template.clone()),
            None => read("chat_template.jinja")?,
        };
        let generation_config = read("generation_config.json")?;
        let config = read("config.json")?;
        let tts = read("tts.json")?;
        let parts = Parts {
            origin: &origin,
            tokenizer_config: tokenizer_config.as_deref(),
            chat_template: chat_template.as_deref(),
            generation_config: generation_config.as_deref(),
            config: config.as_deref(),
            tts: tts.as_deref(),
            ..Parts::default()
        };
        Self::assemble(vocabulary, &parts, Some(metadata))
    }

    fn assemble(
        vocabulary: Vocabulary,
        parts: &Parts<'_>,
        gguf: Option<&GgufTokenizer>,
    ) -> Result<Self, PromptError> {
        let settings = parts.object("tokenizer_config.json", parts.tokenizer_config)?;
        let map = parts.object("special_tokens_map.json", parts.special_tokens_map)?;
        let mut special_tokens = BTreeMap::new();
        for (fields, name) in [
            (&map, "special_tokens_map.json"),
            (&settings, "tokenizer_config.json"),
        ] {
            let origin = parts.file(name);
            let reader = Reader {
                fields,
                origin: &origin,
            };
            for key in ["bos_token", "eos_token", "pad_token", "unk_token"] {
                if let Some(token) = reader.token(key)? {
                    special_tokens.insert(key.to_owned(), token);
                }
            }
        }
        if let Some(gguf) = gguf {
            for (key, id) in [("bos_token", gguf.bos), ("eos_token", gguf.eos)] {
                if let Some(token) = gguf.token(id) {
                    special_tokens.insert(key.to_owned(), token.to_owned());
                }
            }
        }
        let template = match parts.chat_template {
            Some(source) => {
                let inside = gguf.is_some_and(|gguf| gguf.chat_template.is_some());
                let name = if inside {
                    "its metadata"
                } else {
                    "chat_template.jinja"
                };
                Some(ChatTemplate::compile(source, &parts.file(name))?)
            }
            None => parts
                .named_template(settings.get("chat_template"))?
                .map(|source| ChatTemplate::compile(source, &parts.file("tokenizer_config.json")))
                .transpose()?,
        };
        let generation = match parts.generation_config {
            Some(json) => GenerationConfig::parse(json, &parts.file("generation_config.json"))?,
            None => GenerationConfig::default(),
        };
        let config = parts.object("config.json", parts.config)?;
        let origin = parts.file("config.json");
        let config_ends = Reader {
            fields: &config,
            origin: &origin,
        }
        .ids("eos_token_id")?;
        let mut stop_ids = BTreeSet::new();
        stop_ids.extend(&generation.eos_token_ids);
        stop_ids.extend(&config_ends);
        stop_ids.extend(
            special_tokens
                .get("eos_token")
                .and_then(|token| vocabulary.id(token)),
        );
        stop_ids.extend(ENDS.iter().filter_map(|token| vocabulary.special_id(token)));
        stop_ids.extend(gguf.and_then(|gguf| gguf.eos));
        let own = parts.object("tts.json", parts.tts)?;
        let origin = parts.file("tts.json");
        let reader = Reader {
            fields: &own,
            origin: &origin,
        };
        Ok(Self {
            instruction: reader.text("instruction")?,
            note: reader.text("note")?,
            origin: parts.origin.to_owned(),
            vocabulary,
            template,
            special_tokens,
            stop_ids,
            generation,
            most_tokens: None,
        })
    }
}

impl Parts<'_> {
    /// How an error names one of the files.
    fn file(&self, name: &str) -> String {
        if self.origin.is_empty() {
            name.to_owned()
        } else {
            format!("{} ({name})", self.origin)
        }
    }

    fn object(&self, name: &str, text: Option<&str>) -> Result<serde_json::Map<String, Value>, PromptError> {
        text.map_or_else(
            || Ok(serde_json::Map::new()),
            |text| object(text, &self.file(name)),
        )
    }

    /// The `chat_template` key: a text, or a list of `{name, template}` of which `default` or the only one
    /// counts.
    fn named_template<'v>(&self, value: Option<&'v Value>) -> Result<Option<&'v str>, PromptError> {
        let wrong = |found: &Value| PromptError::BadKey {
            origin: self.file("tokenizer_config.json"),
            key: "chat_template".to_owned(),
            found: found.to_string().chars().take(60).collect(),
            expected: "a text or a list of {name, template}",
        };
        let entries = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(source)) => return Ok(Some(source)),
            Some(Value::Array(entries)) => entries,
            Some(other) => return Err(wrong(other)),
        };
        let mut named = Vec::with_capacity(entries.len());
        for entry in entries {
            let name = entry.get("name").and_then(Value::as_str);
            let template = entry.get("template").and_then(Value::as_str);
            named.push(name.zip(template).ok_or_else(|| wrong(entry))?);
        }
        match named.as_slice() {
            [] => Ok(None),
            [(_, only)] => Ok(Some(only)),
            several => match several.iter().find(|(name, _)| *name == "default") {
                Some((_, source)) => Ok(Some(source)),
                None => Err(PromptError::AmbiguousTemplate {
                    origin: self.file("tokenizer_config.json"),
                    names: several
                        .iter()
                        .map(|(name, _)| *name)
                        .collect::<Vec<_>>()
                        .join(", "),
                }),
            },
        }
    }
}

/// Bytes of a side file; the tokenizers of the largest vocabularies have under 40 MiB.
const MOST_TEXT: u64 = 256 << 20;

/// The text of a file, `None` if there is none.
fn read_optional(path: &Path) -> Result<Option<String>, PromptError> {
    let read = |source| PromptError::Read {
        path: path.to_owned(),
        source,
    };
    match tts_model::files::read_regular(path, MOST_TEXT) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| {
            read(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "it is not UTF-8 text",
            ))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(read(source)),
    }
}
