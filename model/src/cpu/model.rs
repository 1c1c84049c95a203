//! A model's weights on this machine, and forward passes over them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::cpu::kernels::ThreadPool;
use crate::cpu::kernels::ssm::MAX_SSM_HEAD_DIM;
use crate::cpu::layers::{Branch, Norm, StateIndex};
use crate::cpu::shards::Shard;
use crate::cpu::work::{Widths, Work};
use crate::spec::{self, Mixer, ModelSpec, RopeSpec};
use crate::weights::Checkpoint;

use crate::cpu::kernels;
use crate::cpu::kernels::buf::Rows;
use crate::cpu::linear::{Formats, Linear, WeightFormat};
use crate::cpu::state::{KvFormat, Sequence, StateLayout};
use crate::error::ModelError;

/// Passes over the weights that a model makes before it begins to pack them: its first prompt and its first
/// tokens do not wait for that.
pub(crate) const UNPACKED: usize = 3;
/// In how many shares they are packed then, one a pass.
pub(crate) const SHARES: usize = 10;

/// The weights of a model, packed for this machine once it has made a few passes.
pub struct Model {
    spec: ModelSpec,
    pub(crate) layout: StateLayout,
    pub(super) widths: Widths,
    /// embedding; the output matrix too where they are shared
    embed: Linear,
    head: Option<Linear>,
    norm: Norm,
    layers: Vec<Vec<Branch>>,
    /// of all weights
    pub(crate) bytes: usize,
    packing: Packing,
}

/// How far packing the weights is.
#[derive(Default)]
struct Packing {
    passes: AtomicUsize,
    /// the layer that is packed next; the ends come after all layers
    next: Mutex<usize>,
    done: AtomicBool,
}

/// Which positions of a feed give logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// No position: the tokens only move the state on.
    Nothing,
    /// The last position, from which the next token is drawn.
    Last,
    /// Every position, to score a text.
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
    pub(crate) row: usize,
}

impl<'a> Feed<'a> {
    /// Lets `sequence` read `tokens`; logits are kept for the positions that `want` names.
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
    pub(super) shards: Vec<Shard>,
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
        let spec = weights.spec.clone();
        check(&spec).map_err(|problem| {
            let file = weights.files.first().cloned().unwrap_or_default();
            ModelError::NotAModel {
                path: file,
                reason: problem,
            }
        })?;
        // a 4-bit embedding table damages small models
        let ends = if format == WeightFormat::Q4_0 {
            WeightFormat::Q8_0
        } else {
            format
        };
        let end = |name: &str, scale| Linear::open_end(weights, name, [spec.vocab, spec.hidden], scale, ends);
        let (embed, head) = match &spec.head.tensor {
            None => (end(&spec.embed.tensor, spec.head.scale)?, None),
            Some(head) => (end(&spec.embed.tensor, 1.0)?, Some(end(head, spec.head.scale)?)),
        };
        let widths = Widths::of(&spec);
        let layers = load_layers(weights, &spec, &widths, format)?;
        let held = held(std::iter::once(&embed).chain(&head), &layers);
        let kv = formats
            .kv
            .unwrap_or(if held.keys().all(|format| *format == "f32") {
                KvFormat::F32
            } else {
                KvFormat::Bf16
            });
        Ok(Self {
            layout: StateLayout::new(&spec, kv, formats.state),
            norm: Norm::load(weights, &spec.norm, spec.hidden)?,
            bytes: held.values().sum(),
            spec,
            widths,
            embed,
            head,
            layers,
            packing: Packing::default(),
        })
    }

    /// A model of this shape with random weights held as `dtype` (`f32`, `f16`, `bf16`, `q8_0` or `q4_0`),
    /// for measurements of speed.
    ///
    /// # Errors
    /// When there is no such type, or rows of the shape cannot be stored in it.
    pub fn random(spec: &ModelSpec, dtype: &str, seed: u64) -> Result<Self, ModelError> {
        Self::load(&Checkpoint::random(spec, dtype, seed)?, WeightFormat::Auto)
    }

    /// What the model is made of.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }
    /// What a sequence keeps.
    pub fn layout(&self) -> &StateLayout {
        &self.layout
    }
    /// A sequence of this model that has read nothing.
    pub fn sequence(&self) -> Sequence {
        Sequence::new(&self.layout)
    }
    /// Scratch memory for forward passes on a pool of `threads` threads.
    pub fn workspace(&self, threads: usize) -> Workspace {
        Workspace {
            work: Work::new(&self.widths, threads),
            logits: Rows::zeroed(1, self.spec.vocab),
            wanted: Vec::new(),
            shards: Vec::new(),
        }
    }
    /// Bytes that a workspace takes for `rows` positions, and for steps of `logits` rows, whose logits it
    /// keeps.
    pub fn workspace_bytes(&self, rows: usize, logits: usize, threads: usize) -> usize {
        Work::bytes_for(&self.widths, rows, threads)
            + self.shard_bytes(logits, threads)
            + logits.next_power_of_two() * kernels::buf::padded(self.spec.vocab) * size_of::<f32>()
    }
    /// Bytes of weights held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// Formats the weights are held in, with the bytes of each, largest first.
    pub fn formats(&self) -> Vec<(&'static str, usize)> {
        let mut sums: Vec<_> = held(self.ends(), &self.layers).into_iter().collect();
        sums.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        sums
    }

    /// Packs all weights that are still in their file, for passes that are to be as fast as any.
    pub fn pack(&self, pool: &mut ThreadPool) {
        while self.pack_share(pool) {}
    }

    /// Packs a share of the weights that are still in their file; false where none are, or another session is
    /// packing.
    pub(crate) fn pack_share(&self, pool: &mut ThreadPool) -> bool {
        if self.packing.done.load(Ordering::Relaxed) {
            return false;
        }
        let Ok(mut next) = self.packing.next.try_lock() else {
            return false;
        };
        let end = self.layers.len().min(*next + self.layers.len().div_ceil(SHARES));
        for branch in self.layers[*next..end].iter().flatten() {
            branch.linears().into_iter().for_each(|w| w.pack_now(pool));
        }
        *next = end;
        if end == self.layers.len() {
            self.ends().for_each(|w| w.pack_now(pool));
            self.packing.done.store(true, Ordering::Relaxed);
        }
        true
    }

    /// Counts a pass, and packs a share of the weights once enough were made.
    fn begin_pass(&self, pool: &mut ThreadPool) {
        if !self.packing.done.load(Ordering::Relaxed)
            && self.packing.passes.fetch_add(1, Ordering::Relaxed) >= UNPACKED
        {
            self.pack_share(pool);
        }
    }

    fn branches(&self) -> impl Iterator<Item = &Branch> {
        self.layers.iter().flatten()
    }

    /// Embedding and, where it is not the same, the output matrix.
    fn ends(&self) -> impl Iterator<Item = &Linear> {
        std::iter::once(&self.embed).chain(&self.head)
    }

    /// Bytes that weights will take once they are packed, beside what they take now.
    pub fn unpacked_bytes(&self) -> usize {
        let inner = self.branches().flat_map(Branch::linears);
        self.ends().chain(inner).map(Linear::unpacked_bytes).sum()
    }

    /// Reads the feeds' tokens; the logits that were wanted are then in the workspace. A sequence may stand
    /// in one feed only.
    pub fn forward(&self, pool: &mut ThreadPool, space: &mut Workspace, feeds: &mut [Feed<'_>]) {
        self.begin_pass(pool);
        if !self.layers_in_shards(pool, &mut space.shards, &mut space.work, feeds) {
            self.read(pool, &mut space.work, feeds, |_, _| ());
        }
        self.logits(pool, space, feeds);
    }

    /// [`Self::forward`], calling `observe(i, residual stream [rows, hidden])` after the embedding (0) and
    /// after layer i - 1.
    pub fn forward_observed(
        &self,
        pool: &mut ThreadPool,
        space: &mut Workspace,
        feeds: &mut [Feed<'_>],
        observe: impl FnMut(usize, &Rows),
    ) {
        self.begin_pass(pool);
        self.read(pool, &mut space.work, feeds, observe);
        self.logits(pool, space, feeds);
    }

    /// Takes the feeds through all layers; the residual stream is then in `work.h`.
    pub(crate) fn read(
        &self,
        pool: &mut ThreadPool,
        work: &mut Work,
        feeds: &mut [Feed<'_>],
        mut observe: impl FnMut(usize, &Rows),
    ) {
        work.resize(feeds.iter().map(|f| f.tokens.len()).sum());
        let mut row = 0;
        for feed in feeds.iter_mut() {
            feed.sequence.reserve(&self.layout, feed.tokens.len());
            feed.row = row;
            for (i, token) in feed.tokens.iter().enumerate() {
                self.embed
                    .row(*token as usize, self.spec.embed.scale, work.h.row_mut(row));
                for (table, angles) in self.spec.ropes.iter().zip(&mut work.ropes) {
                    turn(table, feed.sequence.len + i, angles.row_mut(row));
                }
                row += 1;
            }
        }
        observe(0, &work.h);
        for (i, layer) in self.layers.iter().enumerate() {
            for branch in layer {
                branch.forward(pool, &self.layout, work, feeds);
            }
            observe(i + 1, &work.h);
        }
        for feed in feeds.iter_mut() {
            feed.sequence.len += feed.tokens.len();
        }
    }

    /// The wanted logits of feeds that went through the layers.
    fn logits(&self, pool: &mut ThreadPool, space: &mut Workspace, feeds: &[Feed<'_>]) {
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
            work.logits(pool, &self.norm, head, wanted, logits);
        }
    }
}

/// The formats of these matrices and of the layers' weights, with the bytes of each.
fn held<'a>(
    ends: impl Iterator<Item = &'a Linear>,
    layers: &'a [Vec<Branch>],
) -> BTreeMap<&'static str, usize> {
    let mut held = BTreeMap::new();
    let ends = ends.map(|w| (w.format(), w.bytes()));
    for (format, bytes) in ends.chain(layers.iter().flatten().flat_map(Branch::formats)) {
        *held.entry(format).or_insert(0) += bytes;
    }
    held
}

/// Cosines, then sines, of `position` times every frequency of a table.
fn turn(table: &RopeSpec, position: usize, out: &mut [f32]) {
    let (cosines, sines) = out.split_at_mut(table.frequencies.len());
    for ((f, c), s) in table.frequencies.iter().zip(cosines).zip(sines) {
        let (sin, cos) = (position as f32 * f).sin_cos();
        (*c, *s) = (cos * table.scale, sin * table.scale);
    }
}

/// Refuses what these kernels do not carry out.
fn check(spec: &ModelSpec) -> Result<(), String> {
    let (mut attention, mut ssm, mut moe, mut delta) = (None, None, None, None);
    for mixer in spec.mixers() {
        match mixer {
            Mixer::Attention(a) => {
                let shape = (a.heads, a.kv_heads, a.head_dim, a.gate.is_some());
                if *attention.get_or_insert(shape) != shape {
                    return Err("its attention layers have different shapes".to_owned());
                }
                if a.window == Some(0) {
                    return Err("its windows of attention hold no position".to_owned());
                }
                let rope = a.rope.map_or(0, |rope| 2 * spec.ropes[rope].frequencies.len());
                if rope > a.head_dim {
                    return Err(format!(
                        "it rotates {rope} of {} dimensions of a head",
                        a.head_dim
                    ));
                }
            }
            Mixer::Mamba2(m) => {
                let shape = (m.heads, m.head_dim, m.d_state, m.groups, m.taps);
                if *ssm.get_or_insert(shape) != shape {
                    return Err("its Mamba-2 layers have different shapes".to_owned());
                }
                if m.head_dim > MAX_SSM_HEAD_DIM {
                    return Err(format!(
                        "its Mamba-2 heads (mamba_d_head) are {} wide; heads up to {MAX_SSM_HEAD_DIM} wide \
                         can \
                         be run",
                        m.head_dim
                    ));
                }
            }
            Mixer::GatedDelta(d) => {
                let shape = (d.heads, d.head_dim, d.key_heads, d.key_dim, d.taps);
                if *delta.get_or_insert(shape) != shape || ssm.is_some() {
                    return Err("its layers of the delta rule have different shapes".to_owned());
                }
                if d.head_dim > MAX_SSM_HEAD_DIM {
                    return Err(format!(
                        "its heads of the delta rule are {} wide; heads up to {MAX_SSM_HEAD_DIM} wide can be run",
                        d.head_dim
                    ));
                }
                if !d.heads.is_multiple_of(d.key_heads) {
                    return Err(format!("{} keys do not divide {} heads", d.key_heads, d.heads));
                }
            }
            Mixer::Moe(m) => {
                let width = m.experts.first().map_or(0, |expert| expert.width);
                let shape = (m.experts.len(), m.active, width);
                if *moe.get_or_insert(shape) != shape || m.experts.iter().any(|e| e.width != width) {
                    return Err("its experts have different shapes".to_owned());
                }
                if m.active == 0 || m.active > m.experts.len() {
                    let experts = m.experts.len();
                    return Err(format!("{} of its {experts} experts are active", m.active));
                }
            }
            Mixer::ShortConv(c) if c.taps == 0 => return Err("its convolutions have no taps".to_owned()),
            Mixer::ShortConv(_) | Mixer::Mlp(_) => {}
        }
    }
    let one_of_each = |branch: &spec::Residual| {
        let kinds: Vec<_> = branch.mixers.iter().map(std::mem::discriminant).collect();
        let summed = |mixer: &Mixer| matches!(mixer, Mixer::Attention(_) | Mixer::Mamba2(_));
        let gated = |mixer: &Mixer| matches!(mixer, Mixer::Attention(a) if a.gate.is_some());
        let alone = |mixer| summed(mixer) && !gated(mixer) || kinds.len() == 1;
        kinds
            .iter()
            .enumerate()
            .all(|(i, kind)| !kinds[..i].contains(kind))
            && branch.mixers.iter().all(alone)
    };
    if !spec.layers.iter().flatten().all(one_of_each) {
        return Err("a layer sums parts that are not attention and Mamba-2".to_owned());
    }
    Ok(())
}

/// Opens the layers, some on each core: where they are packed, copying is all it does.
fn load_layers(
    weights: &Checkpoint,
    spec: &ModelSpec,
    widths: &Widths,
    format: WeightFormat,
) -> Result<Vec<Vec<Branch>>, ModelError> {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = spec.layers.len().div_ceil(workers).max(1);
    let parts = |layers: &[Vec<spec::Residual>], kind: fn(&Mixer) -> bool| {
        let mixers = layers.iter().flatten().flat_map(|branch| &branch.mixers);
        mixers.filter(|mixer| kind(mixer)).count()
    };
    let load = |first: usize, layers: &[Vec<spec::Residual>]| {
        let mut places = StateIndex {
            attention: parts(&spec.layers[..first], |m| matches!(m, Mixer::Attention(_))),
            ssm: parts(&spec.layers[..first], |m| {
                matches!(m, Mixer::Mamba2(_) | Mixer::GatedDelta(_))
            }),
            conv: parts(&spec.layers[..first], |m| matches!(m, Mixer::ShortConv(_))),
            widths: &widths.acts,
        };
        let mut branch = |spec| Branch::load(weights, spec, &mut places, format);
        layers
            .iter()
            .map(|layer| layer.iter().map(&mut branch).collect())
            .collect::<Result<Vec<_>, ModelError>>()
    };
    std::thread::scope(|scope| {
        let shares: Vec<_> = spec
            .layers
            .chunks(share)
            .enumerate()
            .map(|(i, layers)| scope.spawn(move || load(i * share, layers)))
            .collect();
        let mut layers = Vec::with_capacity(spec.layers.len());
        for share in shares {
            let loaded = share
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            layers.extend(loaded?);
        }
        Ok(layers)
    })
}
