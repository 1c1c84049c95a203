//! One safetensors file: its header, checked against the file's size before anything is taken from it.

use std::path::Path;

use safetensors::tensor::{Dtype as Stored, SafeTensorError, SafeTensors};

use super::{Dtype, Entry, mxfp4};
use crate::error::{ModelError, is_name, shown};
use crate::json::OnceEach;

/// What the header of one file says.
pub(super) struct Header {
    /// The tensors that can be used, in the order of their names.
    pub(super) entries: Vec<(String, Entry)>,
    /// Halves of MXFP4 tensors, in their own shapes.
    pub(super) halves: Vec<(String, Entry)>,
    /// Tensors of types that cannot be used, which nobody wants.
    pub(super) skipped: Vec<String>,
    /// `format` of its `__metadata__`: which program's tensors they are, `pt` or `mlx`.
    pub(super) format: Option<String>,
}

/// Reads one file's header. A type that cannot be used is an error only for a tensor that `wanted` names.
pub(super) fn header(
    path: &Path,
    bytes: &[u8],
    file: usize,
    wanted: impl Fn(&str) -> bool,
) -> Result<Header, ModelError> {
    if is_lfs_pointer(bytes) {
        return Err(ModelError::malformed(path, "safetensors", LFS));
    }
    if let Some(twice) = name_twice(bytes) {
        let reason = format!("{} stands twice in its header", shown(&twice));
        return Err(ModelError::malformed(path, "safetensors", reason));
    }
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(path, bytes.len(), &e))?;
    let data = 8 + header;
    let (mut found, mut halves, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
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
            Stored::U8 if mxfp4::is_half(&name) => Dtype::Mxfp4,
            other if wanted(&name) => {
                let problem = format!("has elements of type {other:?}: only F32, F16 and BF16 are supported");
                return Err(ModelError::tensor(path, name, problem));
            }
            _ => {
                skipped.push(name);
                continue;
            }
        };
        let (start, end) = info.data_offsets;
        let entry = Entry {
            file,
            stored_name: name.clone(),
            dtype,
            shape: info.shape.clone(),
            range: data + start..data + end,
            exponents: None,
        };
        if dtype == Dtype::Mxfp4 {
            halves.push((name, entry));
        } else {
            found.push((name, entry));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    halves.sort_by(|a, b| a.0.cmp(&b.0));
    let format = metadata
        .metadata()
        .as_ref()
        .and_then(|m| m.get("format").cloned());
    skipped.sort();
    Ok(Header {
        entries: found,
        halves,
        skipped,
        format,
    })
}

/// Why a file that begins so is none.
pub(super) const LFS: &str =
    "it is a Git LFS pointer instead of the file itself: fetch the file with `git lfs pull`";

pub(super) fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs")
}

/// A name that a header has twice, of which a reader would take the last.
fn name_twice(bytes: &[u8]) -> Option<String> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let header = bytes.get(8..)?.get(..usize::try_from(length).ok()?)?;
    // what is no JSON is refused with better words later
    serde_json::from_slice::<OnceEach>(header).ok()?.twice
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
