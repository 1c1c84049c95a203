//! A model as a GGUF file, as llama.cpp writes it.

mod metadata;
mod reader;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use metadata::GgufMetadata;

use super::{Bytes, Checkpoint, Entry, OpenOptions, folder};
use crate::arch::{self, GgufSource, Tensors};
use crate::error::ModelError;

impl GgufMetadata {
    /// The metadata of a file, of whatever model it is.
    ///
    /// # Errors
    /// A file that cannot be read, or is damaged or no GGUF file.
    pub fn of_file(path: &Path) -> Result<Self, ModelError> {
        let bytes = Bytes::map(path)?;
        if !bytes.starts_with(b"GGUF") {
            return Err(folder::not_a_gguf(path, &bytes));
        }
        Ok(reader::read(path, &bytes)?.0)
    }
}

pub(super) fn open(path: &Path, bytes: Bytes, options: OpenOptions) -> Result<Checkpoint, ModelError> {
    let (metadata, infos) = reader::read(path, &bytes)?;
    let architecture = metadata.str("general.architecture");
    let family = arch::of_gguf(architecture, path)?;
    check_kind(path, &metadata)?;
    let mut entries = BTreeMap::new();
    for info in infos {
        let Some(name) = family.gguf_names.canonical(&info.name) else {
            let problem = format!(
                "is not a tensor of a {} file: its part in the model is not known",
                family.title
            );
            return Err(ModelError::tensor(path, info.name, problem));
        };
        let entry = Entry {
            file: 0,
            stored_name: info.name,
            dtype: info.dtype,
            shape: info.shape,
            range: info.range,
        };
        let stored_name = entry.stored_name.clone();
        if entries.insert(name, entry).is_some() {
            return Err(ModelError::tensor(path, stored_name, "is there twice"));
        }
    }
    let spec = (family.from_gguf)(&GgufSource {
        path,
        metadata: &metadata,
        tensors: Tensors(&entries),
        options,
        prefix: architecture.unwrap_or_default(),
        bytes: &bytes,
    })?;
    let mut checkpoint = Checkpoint {
        spec,
        family,
        files: vec![path.to_path_buf()],
        origin: path.to_path_buf(),
        sources: vec![Arc::new(bytes)],
        entries,
        gguf: Some(metadata),
        notes: Vec::new(),
    };
    checkpoint.check()?;
    Ok(checkpoint)
}

/// Refuses what is no whole model.
fn check_kind(path: &Path, metadata: &GgufMetadata) -> Result<(), ModelError> {
    if let Some(kind) = metadata.str("general.type").filter(|kind| *kind != "model") {
        return Err(ModelError::field(
            path,
            "general.type",
            format!("is {kind:?}: only a whole model can be run"),
        ));
    }
    if let Some(parts) = metadata.u32("split.count").filter(|parts| *parts > 1) {
        let problem = format!("is {parts}: join the parts of the file first (llama-gguf-split --merge)");
        return Err(ModelError::field(path, "split.count", problem));
    }
    Ok(())
}
