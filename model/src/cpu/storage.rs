//! Where a matrix of weights is: packed in memory, or still in its file, from which panels are packed as they
//! are read.
//!
//! A model that was just opened reads its file, so that it can begin at once; what reads a panel cannot tell.
//! Packing all of it once pays from a few dozen steps on, and gives the file's pages back as it goes, so
//! weights are in memory once.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::kernels::ThreadPool;
use super::kernels::buf::Buf;
use super::packing::{self, Lanes, Layout, WIDTH};
use crate::weights::{Bytes, Dtype, RawTensor, dequantize_row};

/// Weights `[n, k]`.
pub(crate) struct Storage {
    layout: Layout,
    n: usize,
    k: usize,
    panel_words: usize,
    packed: OnceLock<Buf>,
    file: Option<InFile>,
}

/// Rows of the layout's own type in a file.
struct InFile {
    bytes: Arc<Bytes>,
    range: Range<usize>,
}

impl InFile {
    fn rows(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

impl Storage {
    /// The tensor as `to`, packed now. A quantised `to` must be the tensor's own type.
    pub(crate) fn packed(raw: &RawTensor<'_>, to: Dtype) -> Self {
        let own = Self::new(raw, to);
        let mut packed = Buf::for_weights(own.panels() * own.panel_words);
        let (row_bytes, stride) = (raw.dtype.row_bytes(own.k), to.row_bytes(own.k));
        let mut converted = vec![0; if raw.dtype == to { 0 } else { WIDTH * stride }];
        let mut values = vec![0.0; own.k];
        for (p, out) in packed
            .words_mut()
            .chunks_exact_mut(own.panel_words.max(1))
            .enumerate()
        {
            if raw.dtype == to {
                packing::panel(Lanes::of(&raw.bytes, stride, own.n, p), own.layout, own.k, out);
                continue;
            }
            let count = WIDTH.min(own.n - p * WIDTH);
            let rows = raw.bytes[p * WIDTH * row_bytes..].chunks_exact(row_bytes.max(1));
            for (row, out) in rows.zip(converted.chunks_exact_mut(stride.max(1))).take(count) {
                dequantize_row(raw.dtype, row, &mut values);
                write(&values, to, out);
            }
            packing::panel(Lanes::of(&converted, stride, count, 0), own.layout, own.k, out);
        }
        own.packed.get_or_init(|| packed);
        own
    }

    /// The tensor as it lies at `range` of a file.
    pub(crate) fn in_file(raw: &RawTensor<'_>, bytes: Arc<Bytes>, range: Range<usize>) -> Self {
        Self {
            file: Some(InFile { bytes, range }),
            ..Self::new(raw, raw.dtype)
        }
    }

    fn new(raw: &RawTensor<'_>, to: Dtype) -> Self {
        let (layout, k) = (Layout::of(to), raw.shape[1]);
        Self {
            layout,
            n: raw.shape[0],
            k,
            panel_words: layout.panel_words(k),
            packed: OnceLock::new(),
            file: None,
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }
    pub(crate) fn n(&self) -> usize {
        self.n
    }
    pub(crate) fn k(&self) -> usize {
        self.k
    }
    fn panels(&self) -> usize {
        self.n.div_ceil(WIDTH)
    }
    /// Bytes of all panels.
    pub(crate) fn bytes(&self) -> usize {
        self.panels() * self.panel_words * size_of::<u32>()
    }

    /// Whether the weights are still in their file.
    pub(crate) fn is_in_file(&self) -> bool {
        self.packed.get().is_none()
    }

    /// A panel, in `scratch` where it is not packed yet.
    #[inline]
    pub(crate) fn panel<'a>(&'a self, panel: usize, scratch: &'a mut Buf) -> &'a [f32] {
        let words = self.panel_words;
        match (self.packed.get(), &self.file) {
            (Some(packed), _) => &packed[panel * words..][..words],
            (None, Some(file)) => {
                if scratch.len() < words {
                    *scratch = Buf::zeroed(words);
                }
                self.fill(file, panel, &mut scratch.words_mut()[..words]);
                &scratch[..words]
            }
            (None, None) => unreachable!("weights are somewhere"),
        }
    }

    fn fill(&self, file: &InFile, panel: usize, out: &mut [u32]) {
        let stride = self.layout.dtype().row_bytes(self.k);
        packing::panel(
            Lanes::of(file.rows(), stride, self.n, panel),
            self.layout,
            self.k,
            out,
        );
    }

    /// Row `i` as f32.
    pub(crate) fn row(&self, i: usize, out: &mut [f32]) {
        match (self.packed.get(), &self.file) {
            (Some(packed), _) => {
                let bytes = self.panel_words * size_of::<u32>();
                packing::row(
                    &packed.bytes()[i / WIDTH * bytes..][..bytes],
                    self.layout,
                    i % WIDTH,
                    out,
                );
            }
            (None, Some(file)) => {
                let (dtype, stride) = (self.layout.dtype(), self.layout.dtype().row_bytes(self.k));
                dequantize_row(dtype, &file.rows()[i * stride..][..stride], out);
            }
            (None, None) => unreachable!("weights are somewhere"),
        }
    }

    /// Packs what is still in its file, and gives the file's pages back.
    pub(crate) fn pack(&self, pool: &mut ThreadPool) {
        let Some(file) = self.file.as_ref().filter(|_| self.packed.get().is_none()) else {
            return;
        };
        let words = self.panel_words;
        let mut packed = Buf::for_weights(self.panels() * words);
        let mut panels: Vec<&mut [u32]> = packed.words_mut().chunks_exact_mut(words.max(1)).collect();
        pool.for_each(&mut panels, |panel, out, _| self.fill(file, panel, out));
        // whoever else packed it has made the same
        let _ = self.packed.set(packed);
        file.bytes.release(file.range.clone());
    }
}

/// Numbers as plain ones of a type.
fn write(values: &[f32], to: Dtype, out: &mut [u8]) {
    if to == Dtype::BF16 {
        for (out, v) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
            *out = half::bf16::from_f32(*v).to_le_bytes();
        }
    } else {
        debug_assert_eq!(to, Dtype::F32);
        for (out, v) in out.as_chunks_mut::<4>().0.iter_mut().zip(values) {
            *out = v.to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::cpu::kernels::ThreadPool;
    use crate::cpu::kernels::Tier;
    use crate::cpu::model::{SHARES, UNPACKED};
    use crate::weights::Checkpoint;
    use crate::{Feed, Model, Sequence, Want, WeightFormat, Workspace};

    fn open(name: &str) -> (Checkpoint, Model) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        let weights = Checkpoint::open(&path).unwrap();
        let model = Model::load(&weights, WeightFormat::Auto).unwrap();
        (weights, model)
    }

    /// Logits after one more token.
    fn step(
        model: &Model,
        pool: &mut ThreadPool,
        space: &mut Workspace,
        sequence: &mut Sequence,
        id: u32,
    ) -> Vec<f32> {
        model.forward(pool, space, &mut [Feed::new(sequence, &[id], Want::Last)]);
        space.logits().row(0).to_vec()
    }

    #[test]
    fn weights_in_their_file_give_the_same_as_packed_ones() {
        for name in [
            "data/bundled",
            "tests/fixtures/golden/case-gqa",
            "tests/fixtures/golden/gguf-h1r-like-q4k/h1r-like-Q4_K_M.gguf",
        ] {
            for (tier, threads) in [(Tier::detect(), 2), (Tier::Portable, 1)] {
                let (_, packed) = open(name);
                let (weights, model) = open(name);
                let mut pool = ThreadPool::new(threads, tier);
                packed.pack(&mut pool);
                assert_eq!((packed.unpacked_bytes(), packed.bytes()), (0, model.bytes()));
                let whole = model.unpacked_bytes();
                assert!(
                    whole > model.bytes() / 2,
                    "{whole} of {} in the file",
                    model.bytes()
                );

                let (mut a, mut b) = (model.sequence(), packed.sequence());
                let (mut space, mut other) = (model.workspace(threads), packed.workspace(threads));
                for pass in 0..UNPACKED + SHARES + 1 {
                    let id = 4 + 7 * pass as u32 % 60;
                    let found = step(&model, &mut pool, &mut space, &mut a, id);
                    assert_eq!(
                        found,
                        step(&packed, &mut pool, &mut other, &mut b, id),
                        "{name} {tier} pass {pass}"
                    );
                    let left = model.unpacked_bytes();
                    assert!(
                        if pass < UNPACKED {
                            left == whole
                        } else {
                            left < whole
                        },
                        "{name} pass {pass}: {left} left"
                    );
                }
                assert_eq!(model.unpacked_bytes(), 0, "{name}");
                assert_eq!(
                    weights.digest(),
                    open(name).0.digest(),
                    "the file is read again where it was given back"
                );
            }
        }
    }
}
