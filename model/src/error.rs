//! What can be wrong with a model on disk. Each variant is one sentence that names the file, the field or the
//! tensor and says what would be right.

use std::path::{Path, PathBuf};

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The device that was asked for cannot run the model.
    #[error("{0}")]
    Device(String),
    /// The operating system refused to read a file.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing lies at the path given.
    #[error("{} does not exist: give a model folder (config.json and *.safetensors) or a .gguf \
             file", path.display())]
    NotFound {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The path holds something, but not a model that can be opened.
    #[error("{} is not a model that can be opened: {reason}", path.display())]
    NotAModel {
        /// The path as it was given.
        path: PathBuf,
        /// What was found and what to do.
        reason: String,
    },
    /// The folder holds a LoRA adapter and no model.
    #[error("{} holds a LoRA adapter, not a model: merge it with its base model {base} (peft: \
             merge_and_unload, then save_pretrained) and open the merged folder", path.display())]
    Adapter {
        /// The folder that was given.
        path: PathBuf,
        /// `base_model_name_or_path` of its adapter_config.json.
        base: String,
    },
    /// The folder has PyTorch pickles only.
    #[error("{} holds only PyTorch weights ({example}): convert them to safetensors first (transformers: \
             from_pretrained, then save_pretrained with safe_serialization=True)", path.display())]
    PickleOnly {
        /// The folder that was given.
        path: PathBuf,
        /// One of the files found.
        example: String,
    },
    /// The file describes a model of a family that is not in the register.
    #[error("{} describes a {found} model, which is of no family that can be run: {known}", file.display())]
    Architecture {
        /// The config.json or .gguf file.
        file: PathBuf,
        /// The architecture it names.
        found: String,
        /// Those that can be run.
        known: String,
    },
    /// A field of config.json, or a metadata key of a GGUF file, is missing, malformed, impossible or not
    /// supported.
    #[error("{}: {field} {problem}", file.display())]
    Field {
        /// The file that is at fault.
        file: PathBuf,
        /// The field of that file, as it is spelt there.
        field: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// The file is truncated or corrupt, or not of the format that its name says.
    #[error("{} is damaged or no {format} file: {reason}", file.display())]
    Malformed {
        /// The file that is at fault.
        file: PathBuf,
        /// The format that was expected.
        format: &'static str,
        /// What is wrong with it, as the end of a sentence.
        reason: String,
    },
    /// The index names a shard that is not there.
    #[error("{} names the shard {shard}, which is not in the folder: download it again", index.display())]
    MissingShard {
        /// The index of the shards (`model.safetensors.index.json`).
        index: PathBuf,
        /// The name of the missing file.
        shard: String,
    },
    /// A tensor that the model needs is not in its files.
    #[error("{} has no tensor {tensor}{why}", file.display())]
    MissingTensor {
        /// The file (or the folder, when there are several).
        file: PathBuf,
        /// The tensor, by the name that the file would have for it.
        tensor: String,
        /// Why it is needed (starting with a colon or comma), or nothing.
        why: String,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error("{}: tensor {tensor} has shape {found:?}, but the configuration asks for \
             {expected:?}", file.display())]
    Shape {
        /// The file that is at fault.
        file: PathBuf,
        /// The tensor, by its name in the file.
        tensor: String,
        /// The shape that it has in the file, outermost dimension first.
        found: Vec<usize>,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
    },
    /// A tensor cannot be used as it is.
    #[error("{}: tensor {tensor} {problem}", file.display())]
    Tensor {
        /// The file that is at fault.
        file: PathBuf,
        /// The tensor, by its name in the file.
        tensor: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// A GGUF file whose embedding also serves as output matrix does not hold the scale of its logits.
    #[error("{} shares its embedding with the output, and such a GGUF file does not hold the scale of its \
             logits{note}: put the original model's config.json beside it, or pass --tied-logit-scale R with \
             R = lm_head_multiplier / embedding_multiplier of that config.json", file.display())]
    TiedScale {
        /// The GGUF file that is at fault.
        file: PathBuf,
        /// What was wrong with the config.json found, or nothing.
        note: String,
    },
}

impl ModelError {
    pub(crate) fn io(file: &Path, source: std::io::Error) -> Self {
        Self::Io {
            file: file.to_path_buf(),
            source,
        }
    }

    pub(crate) fn field(file: &Path, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field {
            file: file.to_path_buf(),
            field: brief(field.into()),
            problem: brief(problem.into()),
        }
    }

    pub(crate) fn tensor(file: &Path, tensor: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Tensor {
            file: file.to_path_buf(),
            tensor: brief(tensor.into()),
            problem: brief(problem.into()),
        }
    }

    pub(crate) fn malformed(file: &Path, format: &'static str, reason: impl Into<String>) -> Self {
        Self::Malformed {
            file: file.to_path_buf(),
            format,
            reason: brief(reason.into()),
        }
    }
}

/// A string out of a file, quoted, its control characters escaped, cut where it is too long for a sentence.
pub(crate) fn shown(text: &str) -> String {
    let cut = text.char_indices().nth(80).map_or(text.len(), |(at, _)| at);
    let more = if cut < text.len() { "..." } else { "" };
    format!("{:?}{more}", &text[..cut])
}

/// Whether a name out of a file can be a tensor's or a key's, and stand in a sentence as it is.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=256).contains(&name.len()) && !name.contains(char::is_control)
}

/// Keeps a sentence that may quote a file (a parser's message) to one line of bearable length.
fn brief(text: String) -> String {
    if text.len() <= 500 && !text.contains(char::is_control) {
        return text;
    }
    text.chars()
        .take(400)
        .map(|c| if c.is_control() { ' ' } else { c })
        .chain("...".chars())
        .collect()
}
