//! What a family's file reads: the tensors that are there, and the metadata of a GGUF file.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::ModelError;
use crate::json::{MOST_FACTOR, is_factor};
use crate::weights::{Entry, GgufMetadata, OpenOptions, dequantize_row};

/// The tensors of a checkpoint that is being opened, by canonical name.
pub(crate) struct Tensors<'a>(pub(crate) &'a BTreeMap<String, Entry>);

impl Tensors<'_> {
    /// Whether there is one of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
    /// Whether there is one whose name ends so.
    pub(crate) fn any(&self, suffix: &str) -> bool {
        self.0.keys().any(|name| name.ends_with(suffix))
    }
    /// The name in its file of the first tensor whose canonical name is such.
    pub(crate) fn find(&self, such: impl Fn(&str) -> bool) -> Option<&str> {
        let (_, entry) = self.0.iter().find(|(name, _)| such(name))?;
        Some(&entry.stored_name)
    }
    /// Whether the one of this name is there in blocks of small integers.
    pub(crate) fn is_quantized(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|entry| entry.dtype.is_quantized())
    }
    /// Its first dimension.
    pub(crate) fn rows(&self, name: &str) -> Option<usize> {
        self.0.get(name)?.shape.first().copied()
    }
}

/// The key that says how many of the last layers predict further tokens, beside the next one.
pub(crate) const FURTHER: &str = "nextn_predict_layers";

/// How GGUF's tensor names become canonical ones.
pub(crate) struct GgufNames {
    /// Outside of the layers: GGUF's name, the canonical one.
    pub(crate) top: &'static [(&'static str, &'static str)],
    /// What a layer's canonical names begin with, before its number.
    pub(crate) layers: &'static str,
    /// In a layer, after `blk.N.` and after the canonical prefix. The first of two GGUF names for the same
    /// tensor is the one that converters write.
    pub(crate) layer: &'static [&'static [(&'static str, &'static str)]],
}

impl GgufNames {
    /// Whether a tensor of this canonical name is a part of the model, so that its type and shape matter: its
    /// name begins as those of the family do.
    pub(crate) fn owns(&self, name: &str) -> bool {
        let first = |name: &str| name.split('.').next().map(str::to_owned);
        let ends = self.top.iter().map(|(_, canonical)| *canonical);
        ends.chain([self.layers]).any(|own| first(own) == first(name))
    }

    /// GGUF's name to the canonical one; `None` for a tensor that the family's files do not have.
    pub(crate) fn canonical(&self, stored: &str) -> Option<String> {
        if let Some((_, name)) = self.top.iter().find(|(s, _)| *s == stored) {
            return Some((*name).to_owned());
        }
        let (layer, rest) = stored.strip_prefix("blk.")?.split_once('.')?;
        let layer: usize = layer.parse().ok()?;
        let (_, name) = self.layer.iter().copied().flatten().find(|(s, _)| *s == rest)?;
        Some(format!("{}.{layer}.{name}", self.layers))
    }

    /// The canonical name to GGUF's.
    pub(crate) fn stored(&self, canonical: &str) -> String {
        let top = self.top.iter().find(|(_, c)| *c == canonical);
        let layer = || {
            let rest = canonical.strip_prefix(self.layers)?.strip_prefix('.')?;
            let (layer, rest) = rest.split_once('.')?;
            let (stored, _) = self.layer.iter().copied().flatten().find(|(_, c)| *c == rest)?;
            Some(format!("blk.{layer}.{stored}"))
        };
        top.map(|(stored, _)| (*stored).to_owned())
            .or_else(layer)
            .unwrap_or_else(|| canonical.to_owned())
    }
}

/// A GGUF file that is being opened.
pub(crate) struct GgufSource<'a> {
    pub(crate) path: &'a Path,
    pub(crate) metadata: &'a GgufMetadata,
    pub(crate) tensors: Tensors<'a>,
    pub(crate) options: OpenOptions,
    /// what the family's keys begin with
    pub(crate) prefix: &'a str,
    /// the whole file
    pub(crate) bytes: &'a [u8],
}

impl GgufSource<'_> {
    /// The family's key of this name.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    pub(crate) fn error(&self, key: &str, problem: impl Into<String>) -> ModelError {
        ModelError::field(self.path, key, problem)
    }

    /// A whole number, or an array of equal ones (a value for each layer).
    pub(crate) fn optional(&self, key: &str) -> Result<Option<usize>, ModelError> {
        match self.metadata.u64(key) {
            Some(v) => Ok(Some(v as usize)),
            None => match self.metadata.integers(key) {
                Some([first, rest @ ..]) if *first >= 0 && rest.iter().all(|v| v == first) => {
                    Ok(Some(*first as usize))
                }
                None if !self.metadata.has(key) => Ok(None),
                _ => Err(self.error(key, "must be one whole number, the same for all layers")),
            },
        }
    }

    /// [`Self::optional`], which must be there.
    pub(crate) fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.optional(key)?.ok_or_else(|| self.error(key, "is missing"))
    }

    /// Layers, without those that predict further tokens.
    pub(crate) fn layers(&self) -> Result<usize, ModelError> {
        let (count, further) = (self.key("block_count"), self.key(FURTHER));
        let (all, extra) = (self.size(&count)?, self.optional(&further)?.unwrap_or(0));
        all.checked_sub(extra).ok_or_else(|| {
            self.error(
                &further,
                format!("is {extra}, more than the {all} layers that there are"),
            )
        })
    }

    /// A whole number for each of `layers` layers.
    pub(crate) fn each_layer(&self, key: &str, layers: usize) -> Result<Vec<usize>, ModelError> {
        if let Some(numbers) = self.metadata.integers(key) {
            let sizes: Option<Vec<usize>> = numbers.iter().map(|v| usize::try_from(*v).ok()).collect();
            return sizes.filter(|sizes| sizes.len() == layers).ok_or_else(|| {
                self.error(
                    key,
                    format!("must be a whole number for each of the {layers} layers"),
                )
            });
        }
        Ok(vec![self.size(key)?; layers])
    }

    /// A floating-point number, which must be there.
    pub(crate) fn number(&self, key: &str) -> Result<f32, ModelError> {
        self.metadata
            .f32(key)
            .ok_or_else(|| self.error(key, "is missing or no number"))
    }

    /// A factor of the arithmetic: a positive number that no model's goes beyond.
    pub(crate) fn factor(&self, key: &str) -> Result<f32, ModelError> {
        let value = self.number(key)?;
        if is_factor(f64::from(value)) {
            return Ok(value);
        }
        let problem = format!("is {value}: it must be a number above 0 and below {MOST_FACTOR}");
        Err(self.error(key, problem))
    }

    /// A number that was meant as its shortest decimal form: the key is an f32, 99999997952 for 1e11.
    pub(crate) fn decimal(&self, key: &str) -> Result<f64, ModelError> {
        let value = self.number(key)?;
        Ok(value.to_string().parse().unwrap_or(f64::from(value)))
    }

    /// Rows of the vocabulary: the key, or what the embedding of this canonical name has.
    pub(crate) fn vocab(&self, key: &str, embedding: &str) -> Result<usize, ModelError> {
        match self.optional(key)? {
            Some(vocab) => Ok(vocab),
            None => self
                .tensors
                .rows(embedding)
                .ok_or_else(|| self.error(key, "is missing")),
        }
    }

    /// The `len` elements of a small tensor that says what keys could, by its canonical name.
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(entry) = self.tensors.0.get(name) else {
            return Ok(None);
        };
        if entry.shape.iter().product::<usize>() != len {
            return Err(ModelError::Shape {
                file: self.path.to_path_buf(),
                tensor: entry.stored_name.clone(),
                found: entry.shape.clone(),
                expected: vec![len],
            });
        }
        let mut values = vec![0.0; len];
        dequantize_row(entry.dtype, &self.bytes[entry.range.clone()], &mut values);
        Ok(Some(values))
    }

    /// End-of-text ids of its tokenizer.
    pub(crate) fn eos(&self) -> Vec<u32> {
        ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"]
            .iter()
            .filter_map(|key| self.metadata.u32(key))
            .collect()
    }
}
