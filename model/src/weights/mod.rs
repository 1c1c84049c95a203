//! Reading model files: a Hugging Face folder (safetensors) or a GGUF file, memory-mapped, behind one set of
//! tensor names (Hugging Face's). Everything is checked when a checkpoint is opened: sizes before anything is
//! allocated, every tensor that the model needs with its shape, and whatever would change the arithmetic and
//! is not carried out is refused.

pub(crate) mod codes;
mod dequant;
mod digest;
mod folder;
mod gguf;
mod inventory;
mod lora;
mod mxfp4;
mod random;
mod safetensors;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use dequant::{Dtype, dequantize_row, f16_to_f32};
pub use gguf::GgufMetadata;

use super::error::ModelError;
use crate::arch::Architecture;
use crate::files;
use crate::spec::{DecaySpec, ModelSpec, NormSpec};
pub(crate) use folder::read_text;

/// A tensor as it lies in its file.
#[derive(Clone, Debug)]
pub struct RawTensor<'a> {
    /// Its canonical (Hugging Face) name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape in Hugging Face order: a linear layer is `[out, in]`, a row is contiguous.
    pub shape: Vec<usize>,
    /// Its bytes, not necessarily aligned: those of the file where it holds them in this order.
    pub bytes: Cow<'a, [u8]>,
}

impl RawTensor<'_> {
    /// All elements as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.shape.iter().product()];
        dequantize_row(self.dtype, &self.bytes, &mut out);
        out
    }
}

/// What the file cannot say and the user may.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// lm_head_multiplier / embedding_multiplier of the original model, for a GGUF file whose embedding is
    /// also the output matrix.
    pub tied_logit_scale: Option<f32>,
}

/// The bytes of one file.
pub(crate) enum Bytes {
    Mapped(memmap2::Mmap),
    Static(&'static [u8]),
    Owned(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Bytes {
    /// Maps a file into memory.
    fn map(path: &Path) -> Result<Self, ModelError> {
        // a pipe would be waited for
        files::regular(path).map_err(|e| ModelError::io(path, e))?;
        let file = std::fs::File::open(path).map_err(|e| ModelError::io(path, e))?;
        // SAFETY: the map is read-only and private to this process' view. As with every mapped file, whoever
        // truncates or rewrites it while weights are read from it breaks the run; nothing here writes to it.
        #[allow(unsafe_code, reason = "mapping a file is unsafe in every crate that does it")]
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| ModelError::io(path, e))?;
        Ok(Self::Mapped(map))
    }

    /// Says that a part of a mapped file will not be read for now: the process keeps no memory for it.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self {
            // SAFETY: the map is of a file, from which what is read again comes again
            #[allow(unsafe_code, reason = "advice is unsafe where it empties anonymous memory")]
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Index into the checkpoint's files.
    file: usize,
    /// What the file calls it.
    pub(crate) stored_name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) range: Range<usize>,
    /// Where the exponents of an MXFP4 tensor's blocks lie, if not with them: file and range.
    exponents: Option<(usize, Range<usize>)>,
}

/// An opened model: its configuration and its tensors. Nothing is read before it is asked for.
pub struct Checkpoint {
    /// The model that its tensors make up.
    pub spec: ModelSpec,
    family: &'static Architecture,
    /// The files with the weights, in the order of their names; empty for a model in memory.
    pub files: Vec<PathBuf>,
    /// What errors name: the file, or the folder when there are several.
    origin: PathBuf,
    sources: Vec<Arc<Bytes>>,
    entries: BTreeMap<String, Entry>,
    gguf: Option<GgufMetadata>,
    notes: Vec<String>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint")
            .field("family", &self.family)
            .field("files", &self.files)
            .field("tensors", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// Opens a Hugging Face folder or a `.gguf` file.
    ///
    /// # Errors
    /// Everything that makes the model unusable, in one sentence: see [`ModelError`].
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::open_with(path, OpenOptions::default())
    }

    /// As [`Checkpoint::open`], with what the file cannot say.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; also an option that does not apply to the file.
    pub fn open_with(path: &Path, options: OpenOptions) -> Result<Self, ModelError> {
        let kind = match std::fs::metadata(path) {
            Ok(metadata) => metadata.file_type(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(ModelError::NotFound {
                    path: path.to_path_buf(),
                });
            }
            Err(e) => return Err(ModelError::io(path, e)),
        };
        let checkpoint = if kind.is_dir() {
            folder::open(path)?
        } else if !kind.is_file() {
            let reason = "it is neither a folder nor a regular file".to_owned();
            return Err(ModelError::NotAModel {
                path: path.to_path_buf(),
                reason,
            });
        } else {
            let bytes = Bytes::map(path)?;
            if !bytes.starts_with(b"GGUF") {
                return Err(folder::not_a_gguf(path, &bytes));
            }
            gguf::open(path, bytes, options)?
        };
        if options.tied_logit_scale.is_some()
            && !(checkpoint.gguf.is_some()
                && checkpoint.family.folds_multipliers
                && checkpoint.spec.head.tensor.is_none())
        {
            return Err(ModelError::NotAModel {
                path: path.to_path_buf(),
                reason: "--tied-logit-scale was given, but it applies only to a Falcon-H1 GGUF file that \
                         shares its \
                         embedding with the output: leave it out"
                    .to_owned(),
            });
        }
        Ok(checkpoint)
    }

    /// Opens a model that lies in memory: the text of its config.json and one safetensors file.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_bytes(config_json: &str, safetensors: &'static [u8]) -> Result<Self, ModelError> {
        folder::from_bytes(config_json, safetensors)
    }

    /// Whether the checkpoint has the tensor of this canonical name.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The canonical names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The tensor of this canonical name, which must have this shape (dimensions of 1 aside, which file
    /// formats add and drop). The result has the shape asked for.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<RawTensor<'_>, ModelError> {
        let entry = self.shaped(name, shape)?;
        Ok(RawTensor {
            shape: shape.to_vec(),
            ..self.raw(name, entry)
        })
    }

    /// These rows of the tensor of this canonical name, all dimensions but the last counting as rows.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub(crate) fn rows(
        &self,
        name: &str,
        shape: &[usize],
        rows: Range<usize>,
    ) -> Result<RawTensor<'_>, ModelError> {
        let entry = self.shaped(name, shape)?;
        let columns = shape.last().copied().unwrap_or(1);
        Ok(RawTensor {
            name: name.to_owned(),
            dtype: entry.dtype,
            shape: vec![rows.len(), columns],
            bytes: self.bytes(entry, columns, rows),
        })
    }

    /// These rows of the matrices under each other whose columns are the rows of a tensor `[columns, rows]` or
    /// `[matrices, columns, rows]`.
    ///
    /// # Errors
    /// As [`Self::tensor`]; also where numbers come in blocks, which would be taken apart.
    pub(crate) fn transposed(
        &self,
        name: &str,
        shape: &[usize],
        rows: Range<usize>,
    ) -> Result<RawTensor<'_>, ModelError> {
        /// Rows that are written at a time.
        const TOGETHER: usize = 32;
        let entry = self.shaped(name, shape)?;
        if entry.dtype.is_quantized() {
            let problem = format!("is stored as {} and column by column", entry.dtype);
            return Err(ModelError::tensor(
                self.file_of(entry),
                &entry.stored_name,
                problem,
            ));
        }
        let [.., columns, height] = *shape else {
            return Err(ModelError::tensor(
                self.file_of(entry),
                &entry.stored_name,
                "is no matrix",
            ));
        };
        let size = entry.dtype.block_bytes();
        let all = &self.sources[entry.file][entry.range.clone()];
        let mut bytes = vec![0; rows.len() * columns * size];
        let places: Vec<usize> = rows.clone().collect();
        for (rows, out) in places
            .chunks(TOGETHER)
            .zip(bytes.chunks_mut(TOGETHER * columns * size))
        {
            for column in 0..columns {
                for (row, out) in rows.iter().zip(out.chunks_exact_mut(columns * size)) {
                    let at = ((row / height * columns + column) * height + row % height) * size;
                    out[column * size..][..size].copy_from_slice(&all[at..at + size]);
                }
            }
        }
        Ok(RawTensor {
            name: name.to_owned(),
            dtype: entry.dtype,
            shape: vec![rows.len(), columns],
            bytes: bytes.into(),
        })
    }

    /// Where the tensor of this canonical name lies in a mapped file, as its type has it.
    pub(crate) fn mapped(&self, name: &str) -> Option<(Arc<Bytes>, Range<usize>)> {
        let entry = self.entries.get(name).filter(|entry| entry.exponents.is_none())?;
        let source = &self.sources[entry.file];
        matches!(**source, Bytes::Mapped(_)).then(|| (source.clone(), entry.range.clone()))
    }

    /// The type in which the file holds a tensor; `None` where it has none of this name.
    pub(crate) fn dtype(&self, name: &str) -> Option<Dtype> {
        self.entries.get(name).map(|entry| entry.dtype)
    }

    /// The `len` elements of a small tensor as f32, whatever its shape: a norm weight, a bias, the
    /// convolution's
    /// `[channels, 1, taps]`.
    ///
    /// # Errors
    /// A missing tensor, or one with another number of elements.
    pub fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let entry = self.entry(name)?;
        if entry.shape.iter().product::<usize>() != len {
            return Err(ModelError::Shape {
                file: self.file_of(entry).to_path_buf(),
                tensor: entry.stored_name.clone(),
                found: entry.shape.clone(),
                expected: vec![len],
            });
        }
        Ok(self.raw(name, entry).to_f32())
    }

    /// The weight of a norm as it is multiplied.
    ///
    /// # Errors
    /// As [`Self::vector`].
    pub(crate) fn norm(&self, spec: &NormSpec, width: usize) -> Result<Vec<f32>, ModelError> {
        let mut weight = self.vector(&spec.tensor, width)?;
        if spec.zero_centered {
            weight.iter_mut().for_each(|w| *w += 1.0);
        }
        Ok(weight)
    }

    /// The elements in `range` of what [`Self::vector`] gives.
    ///
    /// # Errors
    /// As [`Self::vector`].
    pub(crate) fn part(&self, name: &str, len: usize, range: Range<usize>) -> Result<Vec<f32>, ModelError> {
        let entry = self.entry(name)?;
        if entry.dtype.is_quantized() || entry.shape.iter().product::<usize>() != len {
            return Ok(self.vector(name, len)?[range].to_vec());
        }
        let mut values = vec![0.0; range.len()];
        dequantize_row(entry.dtype, &self.bytes(entry, 1, range), &mut values);
        Ok(values)
    }

    /// [`Self::vector`], whose values must be finite because what they lead to is: a choice, which hides what is no
    /// number.
    ///
    /// # Errors
    /// As [`Self::vector`]; also NaN and infinities.
    pub(crate) fn finite(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let values = self.vector(name, len)?;
        let entry = self.entry(name)?;
        all_finite(values, self.file_of(entry), &entry.stored_name)
    }

    /// The decay rates `[heads]` of a Mamba branch, negative: A itself, or -exp of what is stored.
    ///
    /// # Errors
    /// A missing tensor, one of another shape, or values that cannot be a decay.
    pub fn decay(&self, spec: &DecaySpec, heads: usize) -> Result<Vec<f32>, ModelError> {
        let name = spec.tensor();
        let mut values = self.vector(name, heads)?;
        if matches!(spec, DecaySpec::Log(_)) {
            values.iter_mut().for_each(|a| *a = -a.exp());
        }
        if let Some(bad) = values.iter().find(|a| !(a.is_finite() && **a <= 0.0)) {
            let entry = self.entry(name)?;
            let problem = format!("gives a decay rate of {bad}: rates must be finite and not positive");
            return Err(ModelError::tensor(
                self.file_of(entry),
                &entry.stored_name,
                problem,
            ));
        }
        Ok(values)
    }

    /// A digest of the weights and of what the configuration says about the arithmetic: blake3, in
    /// hexadecimal. The same for one file and for shards, whatever the files are called; it reads every byte,
    /// and keeps no page of a mapped file.
    pub fn digest(&self) -> String {
        digest::digest(self)
    }

    /// The metadata of a GGUF file: its tokenizer, its chat template.
    pub fn gguf(&self) -> Option<&GgufMetadata> {
        self.gguf.as_ref()
    }

    /// Drops the metadata of a GGUF file, whose vocabulary is large, once the tokenizer was made of it.
    pub fn forget_metadata(&mut self) {
        self.gguf = None;
    }

    /// What a user should know of how the files were read: tensors that were left out, settings that
    /// contradict each other. Each is a sentence.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        let exponents = |e: &Entry| e.exponents.as_ref().map_or(0, |(_, range)| range.len());
        let bytes = |e: &Entry| (e.range.len() + exponents(e)) as u64;
        self.entries.values().map(bytes).sum()
    }

    fn entry(&self, name: &str) -> Result<&Entry, ModelError> {
        self.entries.get(name).ok_or_else(|| ModelError::MissingTensor {
            file: self.origin.clone(),
            tensor: if self.gguf.is_some() {
                self.family.gguf_names.stored(name)
            } else {
                name.to_owned()
            },
            why: String::new(),
        })
    }

    /// The entry of this canonical name, which must have this shape.
    fn shaped(&self, name: &str, shape: &[usize]) -> Result<&Entry, ModelError> {
        let entry = self.entry(name)?;
        if same_shape(&entry.shape, shape) {
            return Ok(entry);
        }
        Err(ModelError::Shape {
            file: self.file_of(entry).to_path_buf(),
            tensor: entry.stored_name.clone(),
            found: entry.shape.clone(),
            expected: shape.to_vec(),
        })
    }

    fn raw(&self, name: &str, entry: &Entry) -> RawTensor<'_> {
        let columns = entry.shape.last().copied().unwrap_or(1);
        let rows = entry.shape.iter().product::<usize>().checked_div(columns);
        RawTensor {
            name: name.to_owned(),
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            bytes: self.bytes(entry, columns, 0..rows.unwrap_or(0)),
        }
    }

    /// These rows of `columns` elements.
    fn bytes(&self, entry: &Entry, columns: usize, rows: Range<usize>) -> Cow<'_, [u8]> {
        let all = &self.sources[entry.file][entry.range.clone()];
        match &entry.exponents {
            None => {
                let row = entry.dtype.row_bytes(columns);
                Cow::Borrowed(&all[rows.start * row..rows.end * row])
            }
            Some((file, range)) => {
                let exponents = &self.sources[*file][range.clone()];
                let blocks = columns / entry.dtype.block_len();
                let (first, last) = (rows.start * blocks, rows.end * blocks);
                Cow::Owned(mxfp4::joined(
                    &all[first * 16..last * 16],
                    &exponents[first..last],
                ))
            }
        }
    }

    fn file_of(&self, entry: &Entry) -> &Path {
        self.files.get(entry.file).unwrap_or(&self.origin)
    }
}

/// The values of a tensor of this file, none of which is NaN or infinite.
fn all_finite(values: Vec<f32>, file: &Path, tensor: &str) -> Result<Vec<f32>, ModelError> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(bad) => {
            let problem = format!("holds {bad}: its values must be finite numbers");
            Err(ModelError::tensor(file, tensor, problem))
        }
        None => Ok(values),
    }
}

/// Whether two shapes are equal once dimensions of 1 are dropped.
fn same_shape(a: &[usize], b: &[usize]) -> bool {
    let real = |s: &'_ [usize]| s.iter().copied().filter(|d| *d != 1).collect::<Vec<_>>();
    a == b || real(a) == real(b)
}
