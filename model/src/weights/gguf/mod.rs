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

/// The last layers, which predict further tokens beside the next one and are no part of the model.
fn further_layers(metadata: &GgufMetadata, architecture: Option<&str>) -> std::ops::Range<u64> {
    let number = |key: &str| metadata.u64(&format!("{}.{key}", architecture.unwrap_or_default()));
    match (number("block_count"), number(arch::FURTHER)) {
        (Some(all), Some(further)) => all.saturating_sub(further)..all,
        _ => 0..0,
    }
}

/// The layer of a tensor `blk.N.*`.
fn layer_of(name: &str) -> Option<u64> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

pub(super) fn open(path: &Path, bytes: Bytes, options: OpenOptions) -> Result<Checkpoint, ModelError> {
    let (metadata, infos) = reader::read(path, &bytes)?;
    let architecture = metadata.str("general.architecture");
    let family = arch::of_gguf(architecture, path)?;
    check_kind(path, &metadata)?;
    let mut entries = BTreeMap::new();
    let (further, mut left_out) = (further_layers(&metadata, architecture), 0_usize);
    for info in infos {
        if layer_of(&info.name).is_some_and(|layer| further.contains(&layer)) {
            left_out += 1;
            continue;
        }
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
            exponents: None,
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
    if left_out > 0 {
        checkpoint.notes.push(format!(
            "{left_out} tensors of layers {} to {}, which predict further tokens, are left out",
            further.start,
            further.end - 1
        ));
    }
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
