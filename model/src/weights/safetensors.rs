//! One safetensors file: its header, checked against the file's size before anything is taken from it.

use std::path::Path;

use safetensors::tensor::{Dtype as Stored, SafeTensorError, SafeTensors};

use super::{Dtype, Entry};
use crate::error::{ModelError, is_name, shown};

/// The tensors of one file in the order of their names. A type that cannot be used is an error only for a
/// tensor that
/// `wanted` names.
pub(super) fn entries(
    path: &Path,
    bytes: &[u8],
    file: usize,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, Entry)>, ModelError> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(path, bytes.len(), &e))?;
    let data = 8 + header;
    let mut found = Vec::new();
    for name in metadata.offset_keys() {
        if !is_name(&name) {
            let reason = format!("it has a tensor of the impossible name {}", shown(&name));
            return Err(ModelError::malformed(path, "safetensors", reason));
        }
        let Some(info) = metadata.info(&name) else {
            continue;
        };
        let dtype = match info.dtype {
            Stored::F32 => Dtype::F32,
            Stored::F16 => Dtype::F16,
            Stored::BF16 => Dtype::BF16,
            other if wanted(&name) => {
                let problem = format!("has elements of type {other:?}: only F32, F16 and BF16 are supported");
                return Err(ModelError::tensor(path, name, problem));
            }
            _ => continue,
        };
        let (start, end) = info.data_offsets;
        let entry = Entry {
            file,
            stored_name: name.clone(),
            dtype,
            shape: info.shape.clone(),
            range: data + start..data + end,
        };
        found.push((name, entry));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn damaged(path: &Path, len: usize, error: &SafeTensorError) -> ModelError {
    let reason = match error {
        SafeTensorError::HeaderTooSmall => format!("it has only {len} bytes"),
        SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => {
            format!("its header would be longer than the file ({len} bytes) or than any header")
        }
        SafeTensorError::InvalidHeader(_) => "its header is not text".to_owned(),
        SafeTensorError::InvalidHeaderDeserialization(e) => {
            format!("its header cannot be read: {e}")
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            format!(
                "its header describes more or fewer bytes than the file has ({len}): the download may be \
                 incomplete"
            )
        }
        SafeTensorError::InvalidOffset(name) => {
            format!("the offsets of tensor {} overlap or leave a gap", shown(name))
        }

        SafeTensorError::TensorInvalidInfo => "a tensor's offsets do not fit its shape".to_owned(),
        other => format!("its header is inconsistent ({other})"),
    };
    ModelError::malformed(path, "safetensors", reason)
}
