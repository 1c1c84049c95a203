//! The container: header, metadata and tensor table of a GGUF file (versions 2 and 3, little-endian), read
//! from its mapped bytes. No length of the file is believed before it has been compared with the bytes that
//! are left.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use super::metadata::{GgufMetadata, Value};
use crate::error::{ModelError, is_name, shown};
use crate::weights::Dtype;

/// A tensor of the table; `shape` is in Hugging Face order (GGUF's reversed).
pub(super) struct Info {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) range: Range<usize>,
}

/// Array elements in all of the metadata; the largest tokenizers have under a million.
const MOST_ELEMENTS: usize = 1 << 25;

/// Reads the whole header. The ranges of the tensors lie inside of `bytes` and do not overlap.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<(GgufMetadata, Vec<Info>), ModelError> {
    let mut at = Cursor {
        path,
        bytes,
        at: 4,
        elements_left: MOST_ELEMENTS,
    };
    match at.u32()? {
        2 | 3 => {}
        other if matches!(other.swap_bytes(), 1..=3) => {
            return Err(at.damaged("it is big-endian, which is not supported"));
        }
        other => return Err(at.damaged(format!("its version is {other}; 2 and 3 are supported"))),
    }
    let tensors = at.count(24, "tensors")?;
    let keys = at.count(13, "metadata keys")?;
    let mut values = BTreeMap::new();
    for _ in 0..keys {
        let key = at.name()?;
        let kind = at.u32()?;
        let value = at.value(kind, 0)?;
        if values.contains_key(&key) {
            return Err(at.damaged(format!("the key {key} stands twice in its metadata")));
        }
        values.insert(key, value);
    }
    let metadata = GgufMetadata::new(values);
    let alignment = alignment(path, &metadata)?;

    let mut table = Vec::with_capacity(tensors);
    let mut names = BTreeSet::new();
    for _ in 0..tensors {
        let tensor = at.tensor()?;
        if !names.insert(tensor.0.clone()) {
            return Err(at.damaged(format!("the tensor {} stands twice in its table", tensor.0)));
        }
        table.push(tensor);
    }
    let start = at.at.next_multiple_of(alignment);
    let mut infos = Vec::with_capacity(table.len());
    for (name, kind, shape, offset) in table {
        let dtype = dtype(kind).map_err(|kind| {
            let known = "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K and MXFP4";
            ModelError::tensor(
                path,
                &name,
                format!("is stored as {kind}, which is not supported: {known} are"),
            )
        })?;
        infos.push(Info {
            range: at.range(&name, dtype, &shape, start, offset, alignment)?,
            name,
            dtype,
            shape,
        });
    }
    let mut by_place: Vec<&Info> = infos.iter().collect();
    by_place.sort_by_key(|i| (i.range.start, i.range.end));
    for pair in by_place.windows(2) {
        if pair[0].range.end > pair[1].range.start {
            return Err(at.damaged(format!(
                "the tensors {} and {} overlap",
                pair[0].name, pair[1].name
            )));
        }
    }
    Ok((metadata, infos))
}

/// What the offsets of tensors are multiples of.
fn alignment(path: &Path, metadata: &GgufMetadata) -> Result<usize, ModelError> {
    const KEY: &str = "general.alignment";
    if !metadata.has(KEY) {
        return Ok(32);
    }
    let problem = match metadata.u64(KEY) {
        None => "must be a whole number".to_owned(),
        Some(found) if !found.is_power_of_two() => format!("is {found}: it must be a power of two"),
        Some(found) if found > 1 << 20 => format!("is {found}: it must be at most {}", 1 << 20),
        Some(found) => return Ok(found as usize),
    };
    Err(ModelError::field(path, KEY, problem))
}

struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
    /// How many more array elements are believed: small ones take more room in memory than in the file.
    elements_left: usize,
}

impl<'a> Cursor<'a> {
    fn damaged(&self, reason: impl Into<String>) -> ModelError {
        ModelError::malformed(self.path, "GGUF", reason)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ModelError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            let reason = format!(
                "its header runs past the end of the file ({} bytes)",
                self.bytes.len()
            );
            return Err(self.damaged(reason));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32, ModelError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, ModelError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A number of things that take at least `least` bytes each: no more than the rest of the file can hold.
    fn count(&mut self, least: usize, what: &str) -> Result<usize, ModelError> {
        let count = self.u64()?;
        let room = (self.bytes.len() - self.at) / least;
        match usize::try_from(count).ok().filter(|c| *c <= room) {
            Some(count) => Ok(count),
            None => Err(self.damaged(format!(
                "it announces {count} {what}, more than the file can hold"
            ))),
        }
    }

    fn string(&mut self) -> Result<String, ModelError> {
        let len = self.count(1, "bytes of text")?;
        // Some tokenizers' tokens are not text; llama.cpp keeps their bytes, here they become replacement
        // characters.
        Ok(String::from_utf8_lossy(self.take(len)?).into_owned())
    }

    /// The name of a key or a tensor.
    fn name(&mut self) -> Result<String, ModelError> {
        let name = self.string()?;
        if !is_name(&name) {
            return Err(self.damaged(format!("it has the impossible name {}", shown(&name))));
        }
        Ok(name)
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, ModelError> {
        Ok(match kind {
            0 => Value::Unsigned(u64::from(self.array::<1>()?[0])),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.array()?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.array()?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.array()?))),
            4 => Value::Unsigned(u64::from(self.u32()?)),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.array()?))),
            6 => Value::F32(f32::from_le_bytes(self.array()?)),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            8 => Value::Text(self.string()?),
            9 => {
                let of = self.u32()?;
                let Some(least) = least_bytes(of) else {
                    return Err(self.damaged(format!("it has a metadata array of the unknown type {of}")));
                };
                if depth >= 4 {
                    return Err(self.damaged("its metadata has arrays nested too deep"));
                }
                let count = self.count(least, "array elements")?;
                if count > self.elements_left {
                    return Err(self.damaged(format!("it has more than {MOST_ELEMENTS} array elements")));
                }
                self.elements_left -= count;
                match of {
                    8 => Value::Texts((0..count).map(|_| self.string()).collect::<Result<_, _>>()?),
                    // Grown element by element: a count that the file cannot hold ends at the first missing
                    // byte.
                    9 => {
                        let mut items = Vec::new();
                        for _ in 0..count {
                            items.push(self.value(9, depth + 1)?);
                        }
                        Value::List(items)
                    }
                    6 => Value::F32s(
                        (0..count)
                            .map(|_| Ok(f32::from_le_bytes(self.array()?)))
                            .collect::<Result<_, ModelError>>()?,
                    ),
                    _ => Value::Integers(self.integers(of, count)?),
                }
            }
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            other => {
                return Err(self.damaged(format!("it has a metadata value of the unknown type {other}")));
            }
        })
    }

    /// An array of integers or booleans; u64 beyond i64 and f64 are rounded as `as` does, no key of ours has
    /// them.
    fn integers(&mut self, of: u32, count: usize) -> Result<Vec<i64>, ModelError> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(match self.value(of, 0)? {
                Value::Unsigned(v) => v as i64,
                Value::Signed(v) => v,
                Value::Bool(v) => i64::from(v),
                Value::F64(v) => v as i64,
                _ => return Err(self.damaged("it has a mixed array")),
            });
        }
        Ok(items)
    }

    fn tensor(&mut self) -> Result<(String, u32, Vec<usize>, u64), ModelError> {
        let name = self.name()?;
        let dimensions = self.u32()?;
        if dimensions > 8 {
            return Err(self.damaged(format!("tensor {name} would have {dimensions} dimensions")));
        }
        let mut shape = Vec::with_capacity(dimensions as usize);
        for _ in 0..dimensions {
            let size = self.u64()?;
            shape.push(
                usize::try_from(size).map_err(|_| self.damaged(format!("tensor {name} is {size} wide")))?,
            );
        }
        shape.reverse();
        Ok((name, self.u32()?, shape, self.u64()?))
    }

    /// The bytes of a tensor that begins `offset` after `start`.
    fn range(
        &self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        start: usize,
        offset: u64,
        alignment: usize,
    ) -> Result<Range<usize>, ModelError> {
        let row = shape.last().copied().unwrap_or(1);
        if row % dtype.block_len() != 0 {
            let problem = format!(
                "is {dtype} with rows of {row} elements: they must be a multiple of {}",
                dtype.block_len()
            );
            return Err(ModelError::tensor(self.path, name, problem));
        }
        let len = shape
            .iter()
            .try_fold(1_usize, |n, d| n.checked_mul(*d))
            .and_then(|n| (n / dtype.block_len()).checked_mul(dtype.block_bytes()));
        let begin = usize::try_from(offset).ok().and_then(|o| o.checked_add(start));
        let (Some(len), Some(begin)) = (len, begin) else {
            return Err(self.damaged(format!(
                "tensor {name} of shape {shape:?} would be larger than memory"
            )));
        };
        if begin % alignment != 0 {
            return Err(self.damaged(format!(
                "tensor {name} does not begin at a multiple of {alignment} bytes"
            )));
        }
        match begin.checked_add(len) {
            Some(end) if end <= self.bytes.len() => Ok(begin..end),
            _ => {
                let size = self.bytes.len();
                Err(self.damaged(format!(
                    "tensor {name} lies beyond its end ({size} bytes): the download is incomplete"
                )))
            }
        }
    }
}

/// The least that an array element of this type takes.
fn least_bytes(kind: u32) -> Option<usize> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => 12,
        _ => return None,
    })
}

/// ggml's number of a type; the name of one that is not supported.
fn dtype(kind: u32) -> Result<Dtype, String> {
    const OTHERS: [(u32, &str); 21] = [
        (9, "Q8_1"),
        (10, "Q2_K"),
        (11, "Q3_K"),
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (20, "IQ4_NL"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (23, "IQ4_XS"),
        (24, "I8"),
        (25, "I16"),
        (26, "I32"),
        (27, "I64"),
        (28, "F64"),
        (29, "IQ1_M"),
        (34, "TQ1_0"),
        (35, "TQ2_0"),
        (40, "NVFP4"),
    ];
    Ok(match kind {
        0 => Dtype::F32,
        1 => Dtype::F16,
        2 => Dtype::Q4_0,
        3 => Dtype::Q4_1,
        6 => Dtype::Q5_0,
        7 => Dtype::Q5_1,
        8 => Dtype::Q8_0,
        12 => Dtype::Q4K,
        13 => Dtype::Q5K,
        14 => Dtype::Q6K,
        30 => Dtype::BF16,
        39 => Dtype::Mxfp4,
        other => {
            let name = OTHERS
                .iter()
                .find(|(number, _)| *number == other)
                .map(|(_, name)| (*name).to_owned());
            return Err(name.unwrap_or_else(|| format!("the unknown type {other}")));
        }
    })
}
