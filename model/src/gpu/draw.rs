//! Draws on a device: what a kernel is told of a row, and what came of it.

use std::collections::BTreeMap;

use super::device::{Address, Args, Buffer, Device, DeviceError, Launch};
use crate::cpu::draw::Seen;
use crate::sampling::{BrokenLogits, Drawn, Sampling, TOP};

/// Bytes of the kernels' `Draw` and `Drawn`.
const DRAW: usize = 72;
const DRAWN: usize = 208;
/// Threads of a row.
const SCAN: usize = 512;
const NONE: u32 = u32::MAX;

/// How the token of a row is drawn.
pub(super) struct Draw<'a> {
    /// raw logits `[vocab]`
    pub(super) logits: Address,
    pub(super) sampling: &'a Sampling,
    pub(super) uniform: f64,
    pub(super) forced: Option<u32>,
    pub(super) banned: &'a [u32],
    pub(super) seen: Option<&'a BTreeMap<u32, Seen>>,
}

/// What a row of logits is, and the token that was drawn from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    pub(super) drawn: Drawn,
    /// the likeliest ids with their log-probabilities; `[..kept]` are set
    pub(super) top: [(u32, f32); TOP],
    pub(super) kept: usize,
}

impl Came {
    /// Its `k` likeliest ids, of [`TOP`] at most.
    pub(super) fn likeliest(&self, k: usize, into: &mut Vec<(u32, f32)>) {
        into.clear();
        into.extend_from_slice(&self.top[..self.kept.min(k)]);
    }
}

/// Memory of draws.
pub(super) struct Draws {
    rows: usize,
    edits: usize,
    draws: Buffer,
    edit_list: Buffer,
    changed: Buffer,
    drawn: Buffer,
    bytes: Vec<u8>,
    edit_bytes: Vec<u8>,
    back: Vec<u8>,
}

impl Draws {
    pub(super) fn new() -> Self {
        Self {
            rows: 0,
            edits: 0,
            draws: Buffer::none(),
            edit_list: Buffer::none(),
            changed: Buffer::none(),
            drawn: Buffer::none(),
            bytes: Vec::new(),
            edit_bytes: Vec::new(),
            back: Vec::new(),
        }
    }

    /// Has the device draw a token for each row.
    pub(super) fn launch(
        &mut self,
        device: &dyn Device,
        vocab: usize,
        rows: &[Draw<'_>],
    ) -> Result<(), DeviceError> {
        self.bytes.clear();
        self.edit_bytes.clear();
        let mut edits = 0u32;
        for row in rows {
            let first = edits;
            for (id, seen) in row.seen.into_iter().flatten() {
                self.edit_bytes.extend(id.to_le_bytes());
                self.edit_bytes.extend(seen.generated.to_le_bytes());
                edits += 1;
            }
            for id in row.banned {
                self.edit_bytes.extend(id.to_le_bytes());
                self.edit_bytes.extend(NONE.to_le_bytes());
                edits += 1;
            }
            let s = row.sampling;
            let inverse = if s.temperature == 0.0 {
                -1.0
            } else {
                (1.0 / s.temperature) as f32
            };
            self.bytes.extend(row.logits.0.to_le_bytes());
            for number in [
                row.uniform,
                s.top_p,
                s.min_p,
                s.presence_penalty,
                s.frequency_penalty,
            ] {
                self.bytes.extend(number.to_le_bytes());
            }
            for number in [inverse, s.repetition_penalty as f32] {
                self.bytes.extend(number.to_le_bytes());
            }
            let top_k = u32::try_from(s.top_k).unwrap_or(u32::MAX);
            for number in [top_k, row.forced.unwrap_or(NONE), first, edits - first] {
                self.bytes.extend(number.to_le_bytes());
            }
        }
        self.room(device, vocab, rows.len(), edits as usize)?;
        device.write(self.draws.at, &self.bytes);
        let grid = [rows.len(), 1, 1];
        if edits > 0 {
            device.write(self.edit_list.at, &self.edit_bytes);
            let args = Args::new()
                .at(self.draws.at)
                .at(self.edit_list.at)
                .u32(vocab)
                .at(self.changed.at);
            device.launch(Launch {
                kernel: "edit_rows",
                grid,
                block: SCAN,
                args,
            });
        }
        let args = Args::new()
            .at(self.draws.at)
            .u32(vocab)
            .at(self.changed.at)
            .at(self.drawn.at);
        device.launch(Launch {
            kernel: "draw_rows",
            grid,
            block: SCAN,
            args,
        });
        Ok(())
    }

    fn room(
        &mut self,
        device: &dyn Device,
        vocab: usize,
        rows: usize,
        edits: usize,
    ) -> Result<(), DeviceError> {
        if self.rows < rows {
            self.rows = rows.next_power_of_two();
            self.draws = device.alloc(self.rows * DRAW)?;
            self.drawn = device.alloc(self.rows * DRAWN)?;
            self.changed = Buffer::none();
        }
        if edits > 0 && self.changed.bytes == 0 {
            self.changed = device.alloc(self.rows * vocab * 4)?;
        }
        if self.edits < edits {
            self.edits = edits.next_power_of_two();
            self.edit_list = device.alloc(self.edits * 8)?;
        }
        Ok(())
    }

    /// Waits, and takes what came of the first `rows` rows.
    pub(super) fn collect(
        &mut self,
        device: &dyn Device,
        rows: usize,
    ) -> impl Iterator<Item = Result<Came, BrokenLogits>> + '_ {
        self.back.resize(rows * DRAWN, 0);
        device.read(self.drawn.at, &mut self.back);
        self.back.chunks_exact(DRAWN).map(came)
    }
}

fn came(bytes: &[u8]) -> Result<Came, BrokenLogits> {
    let double = |at: usize| f64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let float = |at: usize| f32::from_bits(word(at));
    let (sum_exp, mean, sum) = (double(0), double(8), double(16));
    let (logit, id, finite, broken, kept) = (float(28), word(32), word(36), word(40), word(44) as usize);
    // a device that failed gives zeros
    if broken != 0 || kept == 0 || kept > TOP {
        return Err(BrokenLogits);
    }
    let logprob = |z: f32| (f64::from(z) - sum_exp) as f32;
    let largest = |i: usize| float(48 + 4 * i);
    let mean_of_top = (0..kept).map(|i| f64::from(largest(i))).sum::<f64>() / kept as f64;
    let top = |i: usize| {
        if i < kept {
            logprob(largest(i))
        } else {
            f32::NEG_INFINITY
        }
    };
    Ok(Came {
        drawn: Drawn {
            id,
            logprob: logprob(logit),
            confidence: (sum_exp - mean_of_top) as f32,
            entropy: (sum_exp - mean) as f32,
            self_certainty: (sum_exp - sum / f64::from(finite) - f64::from(finite).ln()) as f32,
            top: std::array::from_fn(top),
        },
        top: std::array::from_fn(|i| (if i < kept { word(128 + 4 * i) } else { 0 }, top(i))),
        kept,
    })
}
