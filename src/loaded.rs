//! A model with its prompter, wherever it comes from: the binary, a folder, a GGUF file, the hub.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::device::{Device, Placed};
use crate::error::Error;
use crate::hub::{self, HubOptions, ModelSource, Progress};
use crate::prompt::{GgufTokenizer, Parts, PromptError, Prompter};
use tts_model::weights::{Checkpoint, GgufMetadata, OpenOptions};
use tts_model::{Formats, ModelSpec};

/// Name of the model that the binary carries.
pub(crate) const BUNDLED: &str = "bundled";

/// A text of the model that the binary carries.
macro_rules! bundled {
    ($file:literal) => {
        include_str!(concat!("../data/bundled/", $file))
    };
}
/// Which model to open, and how.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Folder, GGUF file, hub id or `bundled`; nothing means the bundled model.
    pub model: Option<String>,
    /// How weights, keys, values and states are held.
    pub formats: Formats,
    /// Where the model runs.
    pub device: Device,
    /// Scale of the logits of a tied GGUF file, which does not hold it.
    pub tied_logit_scale: Option<f32>,
    /// LoRA adapters that are merged into the weights: the folder of each, and a factor of its update.
    pub lora: Vec<(PathBuf, f32)>,
    /// Text of a chat template that replaces the model's own, and where it came from.
    pub chat_template: Option<(String, String)>,
    /// Where the hub and its cache are; the environment's settings where this is `None`.
    pub hub: Option<HubOptions>,
}

/// A model that is open here: weights, tokenizer, chat template and where they came from.
#[derive(Clone)]
pub struct Loaded {
    /// What the user called it.
    pub name: String,
    /// The weights where they are used; shared by all clones.
    pub(crate) placed: Placed,
    /// Tokenizer, chat template and recommended settings; `None` where the model has no tokenizer.
    pub prompter: Option<Arc<Prompter>>,
    /// Whether it is the model that the binary carries.
    pub bundled: bool,
    /// What a user should know of how its files were read, each a sentence.
    pub notes: Vec<String>,
    weights: Arc<Weights>,
}

/// The files, and their digest once it was asked for.
struct Weights {
    checkpoint: Checkpoint,
    digest: OnceLock<String>,
}

impl Loaded {
    /// Opens a model, downloading it when it is a hub id that the cache does not hold.
    ///
    /// # Errors
    /// A sentence that names the file, the field or the tensor.
    pub fn open(options: &LoadOptions, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Self, Error> {
        let name = options.model.as_deref().unwrap_or(BUNDLED);
        let source = if name == BUNDLED {
            ModelSource::Bundled
        } else {
            ModelSource::parse(name)?
        };
        let mut loaded = match &source {
            ModelSource::Bundled => Self::bundled(options)?,
            other => {
                let hub = options.hub.clone().map_or_else(HubOptions::from_env, Ok)?;
                Self::from_path(&hub::resolve(other, &hub, progress)?, options)?
            }
        };
        name.clone_into(&mut loaded.name);
        if let (Some((text, origin)), Some(prompter)) = (
            &options.chat_template,
            loaded.prompter.as_mut().and_then(Arc::get_mut),
        ) {
            prompter.set_chat_template(text, origin)?;
        }
        Ok(loaded)
    }

    /// What the model is made of.
    pub fn spec(&self) -> &ModelSpec {
        self.placed.spec()
    }

    /// Where the model runs: of [`Device::Auto`], what was chosen.
    pub fn device(&self) -> Device {
        self.placed.device()
    }

    /// blake3 of the weights and the configuration, in hexadecimal. The first call reads every byte of the
    /// files.
    pub fn digest(&self) -> &str {
        let Weights { checkpoint, digest } = &*self.weights;
        digest.get_or_init(|| checkpoint.digest())
    }

    /// The tokenizer and template.
    ///
    /// # Errors
    /// When the model has none.
    pub fn prompter(&self) -> Result<&Arc<Prompter>, Error> {
        self.prompter.as_ref().ok_or_else(|| {
            PromptError::NoTokenizer {
                place: self.name.clone(),
            }
            .into()
        })
    }

    /// Refuses prompts of more tokens before they are encoded to their end.
    pub fn limit_prompts(&mut self, tokens: usize) {
        if let Some(prompter) = self.prompter.as_mut().and_then(Arc::get_mut) {
            prompter.limit_tokens(tokens);
        }
    }

    fn from_path(path: &Path, options: &LoadOptions) -> Result<Self, Error> {
        let mut checkpoint = Checkpoint::open_with(
            path,
            OpenOptions {
                tied_logit_scale: options.tied_logit_scale,
            },
        )?;
        let prompter = match checkpoint.gguf() {
            Some(metadata) => Prompter::from_gguf(&gguf_tokenizer(metadata), path),
            None => Prompter::from_folder(path),
        };
        // token ids can be scored and continued without a tokenizer
        let prompter = match prompter {
            Err(PromptError::NoTokenizer { .. }) => None,
            other => Some(other?),
        };
        merge(&mut checkpoint, &options.lora)?;
        Self::assemble(checkpoint, prompter, options, false)
    }

    /// The model that the binary carries.
    fn bundled(options: &LoadOptions) -> Result<Self, Error> {
        let mut checkpoint = Checkpoint::from_bytes(
            bundled!("config.json"),
            include_bytes!("../data/bundled/model.safetensors"),
        )?;
        merge(&mut checkpoint, &options.lora)?;
        Self::assemble(checkpoint, Some(bundled_prompter()?), options, true)
    }

    fn assemble(
        mut checkpoint: Checkpoint,
        mut prompter: Option<Prompter>,
        options: &LoadOptions,
        bundled: bool,
    ) -> Result<Self, Error> {
        if let Some(prompter) = &mut prompter {
            prompter.check_vocab(checkpoint.spec.vocab)?;
            prompter.limit_tokens(checkpoint.spec.context);
        }
        let (placed, chosen) = Placed::load(&checkpoint, options.formats, options.device)?;
        Ok(Self {
            name: String::new(),
            placed,
            prompter: prompter.map(Arc::new),
            bundled,
            notes: checkpoint.notes().iter().cloned().chain(chosen).collect(),
            weights: {
                checkpoint.forget_metadata();
                Arc::new(Weights {
                    checkpoint,
                    digest: OnceLock::new(),
                })
            },
        })
    }
}

fn merge(checkpoint: &mut Checkpoint, adapters: &[(PathBuf, f32)]) -> Result<(), Error> {
    for (folder, factor) in adapters {
        checkpoint.merge_lora(folder, *factor)?;
    }
    Ok(())
}

fn bundled_prompter() -> Result<Prompter, PromptError> {
    Prompter::from_parts(&Parts {
        origin: "the bundled model",
        tokenizer_json: bundled!("tokenizer.json"),
        tokenizer_config: Some(bundled!("tokenizer_config.json")),
        special_tokens_map: None,
        chat_template: Some(bundled!("chat_template.jinja")),
        generation_config: Some(bundled!("generation_config.json")),
        config: Some(bundled!("config.json")),
        tts: Some(bundled!("tts.json")),
    })
}

/// The tokenizer and template of a model on this disk, without its weights: another engine holds those.
///
/// # Errors
/// A model that is not on this disk, or has no tokenizer.
pub(crate) fn prompter_of(model: &str, chat_template: Option<&(String, String)>) -> Result<Prompter, Error> {
    let source = ModelSource::parse(model)?;
    let mut prompter = match &source {
        ModelSource::Bundled => bundled_prompter()?,
        ModelSource::Folder(folder) => Prompter::from_folder(folder)?,
        ModelSource::Gguf(_) | ModelSource::Ollama(_) => {
            let file = hub::resolve(&source, &HubOptions::new(""), &mut |_| ())?;
            Prompter::from_gguf(&gguf_tokenizer(&GgufMetadata::of_file(&file)?), &file)?
        }
        other => {
            return Err(Error::Setting(format!(
                "--model {other}: with --backend it names the folder or the .gguf file whose tokenizer and \
                 chat template are used, and it must be on this disk; the name of the model at the engine is \
                 --backend-model"
            )));
        }
    };
    if let Some((text, origin)) = chat_template {
        prompter.set_chat_template(text, origin)?;
    }
    Ok(prompter)
}

fn gguf_tokenizer(m: &GgufMetadata) -> GgufTokenizer {
    let text = |key: &str| m.str(key).map(str::to_owned);
    GgufTokenizer {
        model: text("tokenizer.ggml.model").unwrap_or_default(),
        pre: text("tokenizer.ggml.pre"),
        tokens: m.strings("tokenizer.ggml.tokens").unwrap_or_default().to_vec(),
        token_types: m
            .integers("tokenizer.ggml.token_type")
            .unwrap_or_default()
            .iter()
            .map(|t| *t as i32)
            .collect(),
        merges: m.strings("tokenizer.ggml.merges").unwrap_or_default().to_vec(),
        bos: m.u32("tokenizer.ggml.bos_token_id"),
        eos: m.u32("tokenizer.ggml.eos_token_id"),
        add_bos: m.bool("tokenizer.ggml.add_bos_token"),
        chat_template: text("tokenizer.chat_template"),
    }
}
