//! The Falcon-H1 family (arXiv 2507.22448): every block has an attention branch and a Mamba-2 branch on the
//! same normed input.
//!
//! Weights are `&self`, state is `&mut` ([`Sequence`]). One position is one row of arithmetic, whether it
//! comes alone, in a prefill chunk or in a batch, and a row's result does not depend on which.

mod ahead;
mod block;
pub mod config;
pub mod error;
pub mod kernels;
mod linear;
pub mod overrides;
mod packing;
mod parts;
pub mod sampler;
pub mod session;
mod state;
mod storage;
pub mod top;
pub mod weights;

pub use config::Config;
pub use error::ModelError;
pub use kernels::buf::Rows;
pub use linear::{Formats, Linear, WeightFormat};
pub use state::StateMemory;
pub use state::{BLOCK, CacheFormat, Sequence, Shape};

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use block::{Block, Work};
use kernels::Pool;
use kernels::buf::Buf;
use kernels::mixer::MAX_SSM_HEAD_DIM;
use parts::Part;
use weights::Checkpoint;

/// Passes over the weights that a model makes before it begins to pack them: its first prompt and its first
/// tokens do not wait for that.
const UNPACKED: usize = 3;
/// In how many shares they are packed then, one a pass.
const SHARES: usize = 10;

/// The weights of a model, packed for this machine once it has made a few passes.
pub struct Model {
    config: Config,
    shape: Shape,
    /// embedding; lm_head too where they are tied
    embed: Linear,
    head: Option<Linear>,
    norm: Buf,
    blocks: Vec<Block>,
    /// of all weights
    bytes: usize,
    packing: Packing,
    /// rotation frequencies `[head_dim / 2]`, f32 as the reference computes them
    frequencies: Vec<f32>,
}

/// How far packing the weights is.
#[derive(Default)]
struct Packing {
    passes: AtomicUsize,
    /// the block that is packed next; the ends come after all blocks
    next: Mutex<usize>,
    done: AtomicBool,
}

/// Which positions of a feed give logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// None.
    Nothing,
    /// The last one.
    Last,
    /// Every one.
    All,
}

/// Tokens that one sequence reads in a forward pass.
pub struct Feed<'a> {
    /// The sequence; its state moves on by `tokens.len()` positions.
    pub sequence: &'a mut Sequence,
    /// Token ids, all below the vocabulary size.
    pub tokens: &'a [u32],
    /// Positions whose logits are wanted.
    pub want: Want,
    /// its first row in the batch
    row: usize,
}

impl<'a> Feed<'a> {
    /// `tokens` for `sequence`.
    pub fn new(sequence: &'a mut Sequence, tokens: &'a [u32], want: Want) -> Self {
        Self {
            sequence,
            tokens,
            want,
            row: 0,
        }
    }
}

/// Scratch memory of forward passes, and their logits.
pub struct Workspace {
    work: Work,
    logits: Rows,
    wanted: Vec<usize>,
    parts: Vec<Part>,
}

impl Workspace {
    /// Logits `[wanted positions, vocab]` of the last forward pass, in the order of its feeds.
    pub fn logits(&self) -> &Rows {
        &self.logits
    }
}

impl Model {
    /// Opens a checkpoint's weights. Those of a mapped file that are held as they are there stay in it for
    /// the first passes; all others are packed here.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the configuration says.
    pub fn load(weights: &Checkpoint, formats: impl Into<Formats>) -> Result<Self, ModelError> {
        let formats = formats.into();
        let format = formats.weights;
        let config = weights.config.clone();
        if config.ssm_head_dim > MAX_SSM_HEAD_DIM {
            let file = weights.files.first().cloned().unwrap_or_default();
            return Err(ModelError::field(
                &file,
                "mamba_d_head",
                format!(
                    "is {}; heads up to {MAX_SSM_HEAD_DIM} wide can be run",
                    config.ssm_head_dim
                ),
            ));
        }
        // a 4-bit embedding table damages the small models of the family
        let ends = if format == WeightFormat::Q4_0 {
            WeightFormat::Q8_0
        } else {
            format
        };
        let embed = Linear::open(
            weights,
            "model.embed_tokens.weight",
            [config.vocab, config.hidden],
            ends,
        )?;
        let (embed, head) = if config.tied {
            (embed.scaled(config.lm_head_multiplier), None)
        } else {
            let head = Linear::open(weights, "lm_head.weight", [config.vocab, config.hidden], ends)?;
            (embed, Some(head.scaled(config.lm_head_multiplier)))
        };
        let blocks = load_blocks(weights, &config, format)?;
        let half = config.head_dim / 2;
        let frequencies = (0..half)
            .map(|i| 1.0 / (config.rope_theta as f32).powf((2 * i) as f32 / config.head_dim as f32))
            .collect();
        let mut model = Self {
            shape: Shape::new(&config),
            norm: block::final_norm(weights, config.hidden)?,
            config,
            embed,
            head,
            blocks,
            bytes: 0,
            packing: Packing::default(),
            frequencies,
        };
        model.bytes = model.formats().iter().map(|(_, bytes)| bytes).sum();
        let plain = model.formats().iter().all(|(format, _)| *format == "f32");
        model.shape.kv = formats.kv.unwrap_or(if plain {
            CacheFormat::F32
        } else {
            CacheFormat::Bf16
        });
        model.shape.state = formats.state;
        Ok(model)
    }

    /// A model of this shape with random weights held as `dtype` (`f32`, `f16`, `bf16`, `q8_0` or `q4_0`),
    /// for measurements of speed.
    ///
    /// # Errors
    /// When there is no such type, or rows of the shape cannot be stored in it.
    pub fn random(config: &Config, dtype: &str, seed: u64) -> Result<Self, ModelError> {
        Self::load(&Checkpoint::random(config, dtype, seed)?, WeightFormat::Auto)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// Sizes of a sequence's state.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
    /// An empty sequence.
    pub fn sequence(&self) -> Sequence {
        Sequence::new(&self.shape)
    }
    /// Scratch memory for forward passes on a pool of `threads` threads.
    pub fn workspace(&self, threads: usize) -> Workspace {
        Workspace {
            work: Work::new(&self.config, threads),
            logits: Rows::zeroed(1, self.config.vocab),
            wanted: Vec::new(),
            parts: Vec::new(),
        }
    }
    /// Bytes that a workspace takes for `rows` positions, and for steps of `logits` rows, whose logits it
    /// keeps.
    pub fn workspace_bytes(&self, rows: usize, logits: usize, threads: usize) -> usize {
        Work::bytes_for(&self.config, rows, threads)
            + self.parts_bytes(logits, threads)
            + logits.next_power_of_two() * kernels::buf::padded(self.config.vocab) * size_of::<f32>()
    }
    /// Bytes of weights held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// Formats the weights are held in, with the bytes of each, largest first.
    pub fn formats(&self) -> Vec<(&'static str, usize)> {
        let mut sums = std::collections::BTreeMap::new();
        let ends = self.ends().map(|w| (w.format(), w.bytes()));
        for (format, bytes) in ends.chain(self.blocks.iter().flat_map(Block::formats)) {
            *sums.entry(format).or_insert(0) += bytes;
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        sums
    }

    /// Packs all weights that are still in their file, for passes that are to be as fast as any.
    pub fn pack(&self, pool: &mut Pool) {
        while self.pack_share(pool) {}
    }

    /// Packs a share of the weights that are still in their file; false where none are, or another session is
    /// packing.
    pub(crate) fn pack_share(&self, pool: &mut Pool) -> bool {
        if self.packing.done.load(Ordering::Relaxed) {
            return false;
        }
        let Ok(mut next) = self.packing.next.try_lock() else {
            return false;
        };
        let end = self.blocks.len().min(*next + self.blocks.len().div_ceil(SHARES));
        for block in &self.blocks[*next..end] {
            block.linears().into_iter().for_each(|w| w.pack_now(pool));
        }
        *next = end;
        if end == self.blocks.len() {
            self.ends().for_each(|w| w.pack_now(pool));
            self.packing.done.store(true, Ordering::Relaxed);
        }
        true
    }

    /// Counts a pass, and packs a share of the weights once enough were made.
    fn begin_pass(&self, pool: &mut Pool) {
        if !self.packing.done.load(Ordering::Relaxed)
            && self.packing.passes.fetch_add(1, Ordering::Relaxed) >= UNPACKED
        {
            self.pack_share(pool);
        }
    }

    /// Embedding and, where it is not the same, lm_head.
    fn ends(&self) -> impl Iterator<Item = &Linear> {
        std::iter::once(&self.embed).chain(&self.head)
    }

    /// Bytes that weights will take once they are packed, beside what they take now.
    pub fn unpacked_bytes(&self) -> usize {
        let blocks = self.blocks.iter().flat_map(|block| block.linears());
        self.ends().chain(blocks).map(Linear::unpacked_bytes).sum()
    }

    /// Reads the feeds' tokens; the logits that were wanted are then in the workspace. A sequence may stand
    /// in one feed only.
    pub fn forward(&self, pool: &mut Pool, space: &mut Workspace, feeds: &mut [Feed<'_>]) {
        self.begin_pass(pool);
        if !self.blocks_in_parts(pool, &mut space.parts, &mut space.work, feeds) {
            self.blocks(pool, &mut space.work, feeds, |_, _| ());
        }
        self.logits(pool, space, feeds);
    }

    /// [`Self::forward`], calling `observe(i, residual stream [rows, hidden])` after the embedding (0) and
    /// after block i - 1.
    pub fn forward_observed(
        &self,
        pool: &mut Pool,
        space: &mut Workspace,
        feeds: &mut [Feed<'_>],
        observe: impl FnMut(usize, &Rows),
    ) {
        self.begin_pass(pool);
        self.blocks(pool, &mut space.work, feeds, observe);
        self.logits(pool, space, feeds);
    }

    /// Takes the feeds through all blocks; the residual stream is then in `work.h`.
    fn blocks(
        &self,
        pool: &mut Pool,
        work: &mut Work,
        feeds: &mut [Feed<'_>],
        mut observe: impl FnMut(usize, &Rows),
    ) {
        work.resize(feeds.iter().map(|f| f.tokens.len()).sum());
        let mut row = 0;
        for feed in feeds.iter_mut() {
            feed.sequence.reserve(&self.shape, feed.tokens.len());
            feed.row = row;
            for (i, token) in feed.tokens.iter().enumerate() {
                self.embed.row(
                    *token as usize,
                    self.config.embedding_multiplier,
                    work.h.row_mut(row),
                );
                self.angles(feed.sequence.len + i, work.rope.row_mut(row));
                row += 1;
            }
        }
        observe(0, &work.h);
        for (layer, block) in self.blocks.iter().enumerate() {
            block.forward(pool, &self.shape, layer, self.config.norm_eps, work, feeds);
            observe(layer + 1, &work.h);
        }
        for feed in feeds.iter_mut() {
            feed.sequence.len += feed.tokens.len();
        }
    }

    /// The wanted logits of feeds that went through the blocks.
    fn logits(&self, pool: &mut Pool, space: &mut Workspace, feeds: &[Feed<'_>]) {
        let Workspace {
            work, logits, wanted, ..
        } = space;
        wanted.clear();
        for feed in feeds {
            let end = feed.row + feed.tokens.len();
            wanted.extend(match feed.want {
                Want::Nothing => end..end,
                Want::Last => end.saturating_sub(1).max(feed.row)..end,
                Want::All => feed.row..end,
            });
        }
        if wanted.is_empty() {
            logits.resize(0);
        } else {
            let head = self.head.as_ref().unwrap_or(&self.embed);
            work.logits(pool, &self.norm, self.config.norm_eps, head, wanted, logits);
        }
    }

    /// Cosines, then sines, of `position` times every frequency.
    fn angles(&self, position: usize, out: &mut [f32]) {
        let half = self.frequencies.len();
        for (i, f) in self.frequencies.iter().enumerate() {
            let (sin, cos) = (position as f32 * f).sin_cos();
            out[i] = cos;
            out[half + i] = sin;
        }
    }
}

/// Opens the blocks, some on each core: where they are packed, copying is all it does.
fn load_blocks(
    weights: &Checkpoint,
    config: &Config,
    format: WeightFormat,
) -> Result<Vec<Block>, ModelError> {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let layers: Vec<usize> = (0..config.layers).collect();
    let load = |layers: &[usize]| {
        layers
            .iter()
            .map(|i| Block::load(weights, config, *i, format))
            .collect::<Result<Vec<_>, _>>()
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = layers
            .chunks(layers.len().div_ceil(workers).max(1))
            .map(|part| scope.spawn(move || load(part)))
            .collect();
        let mut blocks = Vec::with_capacity(layers.len());
        for part in parts {
            blocks.extend(
                part.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
            );
        }
        Ok(blocks)
    })
}
