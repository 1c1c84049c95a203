//! The check that a checkpoint has exactly the tensors of its specification.

use super::{Checkpoint, Entry, same_shape};
use crate::arch::Architecture;
use crate::error::ModelError;
use crate::spec::Role;

/// Buffers that some exporters write and that follow from the configuration, or are a part of it.
fn is_derived(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".mup_vector") || name == "rope_freqs.weight"
}

/// Whether a name belongs to a model of this family, so that its type and shape matter.
pub(super) fn is_model_tensor(family: &Architecture, name: &str) -> bool {
    family.gguf_names.owns(name) && !is_derived(name)
}

/// Whether a tensor is a part of the model or follows from its configuration.
pub(super) fn is_known(family: &Architecture, name: &str) -> bool {
    family.gguf_names.owns(name) || is_derived(name)
}

/// Why a folder converted for MLX cannot be used: besides the order of the taps, its numbers may be scaled.
pub(super) const MLX: &str = "it was converted for MLX, which stores the weights of this architecture in \
                              another way: give the original \
     folder that it was made from, or a GGUF file";

/// Whether the taps of a convolution, which should be `[channels, 1, taps]`, are stored in that order.
fn convolution_fits(found: &[usize], wanted: &[usize]) -> bool {
    matches!((found, wanted), ([c, k] | [c, 1, k], [channels, 1, taps]) if c == channels && k == taps)
}

impl Checkpoint {
    /// Checks that every tensor of the configuration is there in its shape, and that the files hold no other
    /// one, which would be a part of the model that is not carried out. Drops what is not used.
    pub(super) fn check(&mut self) -> Result<(), ModelError> {
        let needed = self.spec.tensors();
        for need in &needed {
            let entry = match self.entry(&need.name) {
                Ok(entry) => entry,
                Err(ModelError::MissingTensor { file, tensor, .. }) => {
                    return Err(ModelError::MissingTensor {
                        file,
                        tensor,
                        why: need.why.to_owned(),
                    });
                }
                Err(other) => return Err(other),
            };
            if need.role == Role::Convolution && !convolution_fits(&entry.shape, &need.shape) {
                let transposed = same_shape(&entry.shape, &need.shape) && entry.shape.last() == Some(&1);
                return Err(match transposed {
                    true => ModelError::tensor(
                        self.file_of(entry),
                        &entry.stored_name,
                        format!("has shape {:?}: {MLX}", entry.shape),
                    ),
                    false => ModelError::Shape {
                        file: self.file_of(entry).to_path_buf(),
                        tensor: entry.stored_name.clone(),
                        found: entry.shape.clone(),
                        expected: need.shape.clone(),
                    },
                });
            }
            let other = need.or_shape.as_ref() == Some(&entry.shape);
            if !other && !same_shape(&entry.shape, &need.shape) {
                self.tensor(&need.name, &need.shape)?;
            }
            let row = entry.shape.last().copied().unwrap_or(1);
            if row % entry.dtype.block_len() != 0 {
                let problem = format!(
                    "is stored as {} with rows of {row} elements, which must be a multiple of {}",
                    entry.dtype,
                    entry.dtype.block_len()
                );
                return Err(ModelError::tensor(
                    self.file_of(entry),
                    &entry.stored_name,
                    problem,
                ));
            }
        }
        let known: std::collections::BTreeSet<&str> = needed.iter().map(|n| n.name.as_str()).collect();
        for (name, entry) in &self.entries {
            if known.contains(name.as_str())
                || !is_model_tensor(self.family, name)
                || name == "lm_head.weight"
            {
                continue;
            }
            let problem = self.unexpected(name);
            return Err(ModelError::tensor(
                self.file_of(entry),
                &entry.stored_name,
                problem,
            ));
        }
        if let Some(note) = self.unused_head() {
            self.notes.push(note);
        }
        let kept: std::collections::BTreeSet<String> = needed.into_iter().map(|n| n.name).collect();
        self.entries.retain(|name, _| kept.contains(name));
        Ok(())
    }

    /// What to say of an output matrix that is stored and not used, because the embedding is one.
    fn unused_head(&self) -> Option<String> {
        let head = self.entries.get("lm_head.weight")?;
        let embedding = self.entries.get(&self.spec.embed.tensor)?;
        if self.spec.head.tensor.is_some() {
            return None;
        }
        let bytes = |entry: &Entry| &self.sources[entry.file][entry.range.clone()];
        let same = head.dtype == embedding.dtype && bytes(head) == bytes(embedding);
        (!same).then(|| {
            format!(
                "{} holds an lm_head.weight that differs from the embedding and is left out, because \
                 tie_word_embeddings is true",
                self.file_of(head).display()
            )
        })
    }

    fn unexpected(&self, name: &str) -> String {
        let layer = name
            .split_once("layers.")
            .and_then(|(_, n)| n.split('.').next()?.parse::<usize>().ok());
        let layers = self.spec.layers.len();
        if layer.is_some_and(|l| l >= layers) {
            return format!(
                "belongs to a layer that the configuration, which has {layers} layers, does not have"
            );
        }
        match (self.family.bias_flag)(name).filter(|_| name.ends_with(".bias")) {
            Some(flag) => format!(
                "is there, but the configuration says that there is none: set {flag} to true in config.json, \
                 or \
                 remove it"
            ),
            None => format!(
                "is no tensor of a {} model: the file is of another architecture, or quantised or adapted in \
                 a way \
                 that is not supported",
                self.family.title
            ),
        }
    }
}
