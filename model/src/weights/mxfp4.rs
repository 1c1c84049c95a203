//! MXFP4 tensors of Hugging Face folders, which come in two: `NAME_blocks` `[.., blocks, 16]` of two numbers a byte
//! and `NAME_scales` `[.., blocks]` of exponents, both u8.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Dtype, Entry};
use crate::error::ModelError;

const BLOCKS: &str = "_blocks";
const SCALES: &str = "_scales";

/// Whether a tensor of bytes is one of the two, by its name.
pub(super) fn is_half(name: &str) -> bool {
    name.ends_with(BLOCKS) || name.ends_with(SCALES)
}

/// Makes a tensor `NAME` `[.., 32 * blocks]` of each two halves, by canonical name; `file_of` is the file of an
/// entry's index.
pub(super) fn join<'a>(
    halves: BTreeMap<String, Entry>,
    entries: &mut BTreeMap<String, Entry>,
    file_of: impl Fn(usize) -> &'a Path,
) -> Result<(), ModelError> {
    let refuse = |entry: &Entry, problem: String| {
        Err(ModelError::tensor(
            file_of(entry.file),
            &entry.stored_name,
            problem,
        ))
    };
    for (name, entry) in &halves {
        let partner = |own: &str, other: &str| Some(format!("{}{other}", name.strip_suffix(own)?));
        let partner = partner(BLOCKS, SCALES).or_else(|| partner(SCALES, BLOCKS));
        let Some(other) = partner.as_ref().and_then(|name| halves.get(name)) else {
            let missing = partner.unwrap_or_default();
            return refuse(
                entry,
                format!("is one half of an MXFP4 tensor, but there is no {missing}"),
            );
        };
        let Some(whole) = name.strip_suffix(BLOCKS) else {
            continue;
        };
        let shape = match entry.shape.as_slice() {
            [rows @ .., blocks, 16] if other.shape.strip_suffix(&[*blocks]) == Some(rows) => {
                blocks.checked_mul(32).map(|columns| [rows, &[columns]].concat())
            }
            _ => None,
        };
        let Some(shape) = shape else {
            let problem = format!(
                "has shape {:?} and {} has {:?}: they must be [.., blocks, 16] and [.., blocks]",
                entry.shape, other.stored_name, other.shape
            );
            return refuse(entry, problem);
        };
        let joined = Entry {
            dtype: Dtype::Mxfp4,
            shape,
            exponents: Some((other.file, other.range.clone())),
            ..entry.clone()
        };
        if let Some(twice) = entries.insert(whole.to_owned(), joined) {
            return refuse(
                &twice,
                format!(
                    "is there, and so is {}: which counts is not said",
                    entry.stored_name
                ),
            );
        }
    }
    Ok(())
}

/// Blocks of 16 bytes, of which byte `i` holds numbers `2i` (low) and `2i + 1`, and their exponents, as blocks of
/// 17 bytes: the exponent, then bytes that hold numbers `i` (low) and `i + 16`.
pub(super) fn joined(blocks: &[u8], exponents: &[u8]) -> Vec<u8> {
    let mut out = vec![0; exponents.len() * 17];
    let (blocks, _) = blocks.as_chunks::<16>();
    let (joined, _) = out.as_chunks_mut::<17>();
    for ((out, block), exponent) in joined.iter_mut().zip(blocks).zip(exponents) {
        let numbers = u128::from_le_bytes(*block);
        let bytes = spread(numbers as u64) | spread((numbers >> 64) as u64) << 4;
        out[0] = *exponent;
        out[1..].copy_from_slice(&bytes.to_le_bytes());
    }
    out
}

/// Each four bits as a byte.
fn spread(bits: u64) -> u128 {
    let mut x = u128::from(bits);
    x = (x | x << 32) & 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;
    x = (x | x << 16) & 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff;
    (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn numbers_of_a_block_take_the_places_that_its_type_has_for_them() {
        let blocks: Vec<u8> = (0..48u32).map(|i| (i * 37 + 11) as u8).collect();
        let out = joined(&blocks, &[3, 200, 127]);
        assert_eq!(out.len(), 3 * 17);
        for (b, exponent) in [3, 200, 127].into_iter().enumerate() {
            let (block, out) = (&blocks[16 * b..][..16], &out[17 * b..][..17]);
            assert_eq!(out[0], exponent);
            for i in 0..32 {
                let stored = block[i / 2] >> (4 * (i % 2)) & 15;
                let placed = out[1 + i % 16] >> (4 * (i / 16)) & 15;
                assert_eq!(stored, placed, "number {i} of block {b}");
            }
        }
    }
}
