//! `generation_config.json`: the sampling settings that a model's makers recommend.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::PromptError;
use crate::evals::json::Unambiguous;
use tts_model::overrides::{SAMPLING_SETTINGS, SamplingOverrides};

/// The recommended settings; what is `None` was not in the file.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct GenerationConfig {
    /// Whether to draw tokens at all; `false` means greedy.
    pub do_sample: Option<bool>,
    /// How tokens are drawn; a file that says not to draw at all recommends temperature 0.
    pub sampling: SamplingOverrides,
    /// Longest answer in tokens.
    pub max_new_tokens: Option<usize>,
    /// `eos_token_id`, one or several.
    pub eos_token_ids: BTreeSet<u32>,
    /// Keys that would change what is generated and are not honoured, sorted: a run names them in a warning.
    pub unhonoured: Vec<String>,
}

/// Keys that describe tokens, caches or outputs and do not change what is generated here.
const WITHOUT_EFFECT: [&str; 19] = [
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "decoder_start_token_id",
    "disable_compile",
    "generation_kwargs",
    "is_assistant",
    "low_memory",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "return_dict_in_generate",
    "use_cache",
];

impl GenerationConfig {
    /// Reads the file's text; `origin` is the name that an error gives.
    ///
    /// # Errors
    /// [`PromptError::Json`] and [`PromptError::BadKey`].
    pub fn parse(json: &str, origin: &str) -> Result<Self, PromptError> {
        let fields = object(json, origin)?;
        let reader = Reader {
            fields: &fields,
            origin,
        };
        let mut config = Self {
            do_sample: reader.flag("do_sample")?,
            sampling: reader.sampling()?,
            max_new_tokens: reader.count("max_new_tokens")?,
            eos_token_ids: reader.ids("eos_token_id")?,
            unhonoured: Vec::new(),
        };
        if config.do_sample == Some(false) {
            config.sampling.temperature = Some(0.0);
        }
        let honoured = |key: &str| {
            ["do_sample", "max_new_tokens", "eos_token_id"].contains(&key)
                || SAMPLING_SETTINGS.iter().any(|s| s.name == key)
        };
        config.unhonoured = fields
            .iter()
            .filter(|(key, value)| {
                !honoured(key)
                    && !WITHOUT_EFFECT.contains(&key.as_str())
                    && !key.starts_with('_')
                    && !key.ends_with("_version")
                    && !is_neutral(key, value)
            })
            .map(|(key, _)| key.clone())
            .collect();
        config.unhonoured.sort();
        Ok(config)
    }
}

/// Whether a key has the value that leaves generation as it is.
fn is_neutral(key: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => key == "early_stopping" && text == "never",
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            let neutral = match key {
                "num_beams"
                | "num_beam_groups"
                | "typical_p"
                | "length_penalty"
                | "top_h"
                | "encoder_repetition_penalty"
                | "guidance_scale" => 1.0,
                // transformers' own default, written out by old versions.
                "max_length" => 20.0,
                _ => 0.0,
            };
            number == neutral
        }
        Value::Bool(true) => key == "remove_invalid_values" || key == "renormalize_logits",
    }
}

/// The fields of a JSON object in text form.
pub(super) fn object(json: &str, origin: &str) -> Result<Map<String, Value>, PromptError> {
    let refused = |reason: String| PromptError::Json {
        origin: origin.to_owned(),
        reason,
    };
    match serde_json::from_str(&tts_model::without_python_literals(json)) {
        Ok(Unambiguous(Value::Object(fields))) => Ok(fields),
        Ok(_) => Err(refused("it holds no object ({...})".to_owned())),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// Reads typed values of a JSON object and names file and key where one is wrong.
pub(super) struct Reader<'a> {
    pub(super) fields: &'a Map<String, Value>,
    pub(super) origin: &'a str,
}

impl Reader<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, found: &Value, expected: &'static str) -> PromptError {
        let mut found = found.to_string();
        if found.chars().count() > 60 {
            found = found.chars().take(60).chain("...".chars()).collect();
        }
        PromptError::BadKey {
            origin: self.origin.to_owned(),
            key: key.to_owned(),
            found,
            expected,
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, PromptError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| self.wrong(key, value, "true or false"))
    }

    /// The sampling settings. An f32 of the file is meant as it is written: 0.6, not 0.6000000238.
    fn sampling(&self) -> Result<SamplingOverrides, PromptError> {
        SamplingOverrides::read(|s| match s.whole {
            true => Ok(self.count(s.name)?.map(|count| count as f64)),
            false => {
                let number = self.number(s.name, s.in_file, |x| (s.fits)(f64::from(x)))?;
                Ok(number.and_then(|x| x.to_string().parse().ok()))
            }
        })
    }

    fn number(
        &self,
        key: &str,
        expected: &'static str,
        fits: impl Fn(f32) -> bool,
    ) -> Result<Option<f32>, PromptError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = value.as_f64().map(|number| number as f32);
        let number = number.filter(|&number| number.is_finite() && fits(number));
        number.map(Some).ok_or_else(|| self.wrong(key, value, expected))
    }

    fn count(&self, key: &str) -> Result<Option<usize>, PromptError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count
            .map(Some)
            .ok_or_else(|| self.wrong(key, value, "a whole number from 0"))
    }

    /// One id or a list of ids.
    pub(super) fn ids(&self, key: &str) -> Result<BTreeSet<u32>, PromptError> {
        let Some(value) = self.get(key) else {
            return Ok(BTreeSet::new());
        };
        let items = match value {
            Value::Array(items) => items.as_slice(),
            single => std::slice::from_ref(single),
        };
        let id = |item: &Value| item.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = items.iter().map(id).collect::<Option<BTreeSet<u32>>>();
        ids.ok_or_else(|| self.wrong(key, value, "a token id or a list of token ids"))
    }

    /// The text at a key; `None` where it is missing or null.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, PromptError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let text = value.as_str().map(str::to_owned);
        text.map(Some).ok_or_else(|| self.wrong(key, value, "a text"))
    }

    /// A token: its text, or an object with its text under `content`.
    pub(super) fn token(&self, key: &str) -> Result<Option<String>, PromptError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let text = value
            .as_str()
            .or_else(|| value.get("content").and_then(Value::as_str));
        text.map(|text| Some(text.to_owned()))
            .ok_or_else(|| self.wrong(key, value, "a token's text or an object with its `content`"))
    }
}
