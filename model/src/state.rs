//! What a sequence carries from token to token: convolution windows, SSM states, and keys and values.

use std::sync::Arc;

use super::config::Config;
use super::kernels::buf::{Buf, padded};

/// Positions in a block of keys and values. Blocks are aligned to positions counted from 0, so attention sums
/// in the same order whether a block is shared or private.
pub const BLOCK: usize = 64;

/// How keys and values, or SSM states, are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheFormat {
    /// f32.
    #[default]
    F32,
    /// bf16, rounded to nearest even when written; arithmetic stays f32.
    Bf16,
}

impl CacheFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
    /// Words of four bytes that `count` rows of `width` elements take; bf16 rows lie in pairs.
    fn words(self, count: usize, width: usize) -> usize {
        match self {
            Self::F32 => count * width,
            Self::Bf16 => count.div_ceil(2) * width,
        }
    }
}

/// Sizes of a sequence's state, derived from a [`Config`].
#[derive(Clone, Debug)]
pub struct Shape {
    /// Blocks of the model.
    pub layers: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of an attention head.
    pub head_dim: usize,
    /// Mamba heads.
    pub ssm_heads: usize,
    /// Width of a Mamba head.
    pub ssm_head_dim: usize,
    /// State size N.
    pub d_state: usize,
    /// Columns that pass the convolution: x, B and C.
    pub channels: usize,
    /// Kernel width of the convolution.
    pub taps: usize,
    /// Keys and values.
    pub kv: CacheFormat,
    /// SSM states.
    pub state: CacheFormat,
}

impl Shape {
    /// The sizes for this configuration, with everything held in f32.
    pub fn new(c: &Config) -> Self {
        Self {
            kv: CacheFormat::F32,
            state: CacheFormat::F32,
            layers: c.layers,
            kv_heads: c.kv_heads,
            head_dim: c.head_dim,
            ssm_heads: c.ssm_heads,
            ssm_head_dim: c.ssm_head_dim,
            d_state: c.d_state,
            channels: c.conv_channels(),
            taps: c.d_conv,
        }
    }
    pub(crate) fn head_stride(&self) -> usize {
        padded(self.head_dim)
    }
    /// One Mamba head's state is `[d_state, padded ssm_head_dim]`: the width is contiguous, so the update
    /// needs no horizontal sum. In bf16 two rows share words, the even one in the low half.
    pub(crate) fn ssm_width(&self) -> usize {
        padded(self.ssm_head_dim)
    }
    pub(crate) fn ssm_head_len(&self) -> usize {
        self.state.words(self.d_state, self.ssm_width())
    }
    pub(crate) fn ssm_layer_len(&self) -> usize {
        self.ssm_heads * self.ssm_head_len()
    }
    pub(crate) fn window_layer_len(&self) -> usize {
        (self.taps - 1) * padded(self.channels)
    }
    /// K `[head_dim, BLOCK]` of one head of one layer. In bf16 two rows share words, the even one in the low
    /// half; so in V.
    pub(crate) fn keys_len(&self) -> usize {
        self.kv.words(self.head_dim, BLOCK)
    }
    /// K, then V `[BLOCK, padded head_dim]`.
    pub(crate) fn kv_head_len(&self) -> usize {
        self.keys_len() + self.kv.words(BLOCK, self.head_stride())
    }
    /// Bytes of one sequence's SSM and convolution state.
    pub fn state_bytes(&self) -> usize {
        self.layers * (self.ssm_layer_len() + self.window_layer_len()) * size_of::<f32>()
    }
    /// Bytes of one block of keys and values, all layers.
    pub fn block_bytes(&self) -> usize {
        self.layers * self.kv_heads * self.kv_head_len() * size_of::<f32>()
    }
    /// Bytes of a sequence of `tokens` tokens, of which the first `shared` stand in blocks shared with
    /// others.
    pub fn sequence_bytes(&self, tokens: usize, shared: usize) -> usize {
        self.state_bytes() + (tokens.div_ceil(BLOCK) - (shared.min(tokens) / BLOCK)) * self.block_bytes()
    }
}

/// Keys and values of [`BLOCK`] positions: `[layer][kv head]` of K `[head_dim, BLOCK]` and V `[BLOCK, padded
/// head_dim]`.
#[derive(Clone)]
pub(crate) struct KvBlock(pub(crate) Buf);

/// Memory of one sequence's SSM states and convolution windows. The system hands out large memory a page at a
/// time, zeroed: to use it again costs a copy alone.
pub struct StateMemory(Buf, Buf);

/// One sequence's state after `len` tokens.
pub struct Sequence {
    pub(crate) len: usize,
    /// `[layer][head][d_state][padded ssm_head_dim]`
    pub(crate) ssm: Buf,
    /// `[layer][taps - 1][padded channels]`; the input of position t lies in slot t mod (taps - 1)
    pub(crate) window: Buf,
    pub(crate) kv: Vec<Arc<KvBlock>>,
}

impl Sequence {
    /// The empty sequence.
    pub fn new(shape: &Shape) -> Self {
        Self {
            len: 0,
            ssm: Buf::paged(shape.layers * shape.ssm_layer_len()),
            window: Buf::paged(shape.layers * shape.window_layer_len()),
            kv: Vec::new(),
        }
    }

    /// Tokens read so far.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether no token was read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A copy that goes its own way: state copied, full blocks of keys and values shared, the last partial
    /// block copied.
    pub fn fork(&self) -> Self {
        self.fork_into(None)
    }

    /// [`Self::fork`] into the memory of a state that is no longer needed.
    pub(crate) fn fork_into(&self, memory: Option<StateMemory>) -> Self {
        let (ssm, window) = memory.map_or_else(
            || (self.ssm.clone(), self.window.clone()),
            |StateMemory(mut ssm, mut window)| {
                ssm.copy_from_slice(&self.ssm);
                window.copy_from_slice(&self.window);
                (ssm, window)
            },
        );
        let mut kv = self.kv.clone();
        if !self.len.is_multiple_of(BLOCK)
            && let Some(last) = kv.last_mut()
        {
            *last = Arc::new(KvBlock::clone(last));
        }
        Self {
            len: self.len,
            ssm,
            window,
            kv,
        }
    }

    /// The memory of its state; its keys and values are freed.
    pub(crate) fn into_memory(self) -> StateMemory {
        StateMemory(self.ssm, self.window)
    }

    /// What this sequence does not share with the prompt that it goes on from, as it lies in memory: states,
    /// windows, blocks.
    pub fn own(&self, prompt: &Self) -> impl Iterator<Item = &[u8]> {
        let states = [self.ssm.bytes(), self.window.bytes()];
        states
            .into_iter()
            .chain(self.kv[prompt.len / BLOCK..].iter().map(|block| block.0.bytes()))
    }

    /// The sequence `tokens` tokens after this prompt whose [`Self::own`] parts `fill` gives, in the same
    /// order.
    pub fn resumed(
        &self,
        shape: &Shape,
        tokens: usize,
        fill: &mut impl FnMut(&mut [u8]) -> std::io::Result<()>,
    ) -> std::io::Result<Self> {
        let mut sequence = self.fork();
        sequence.reserve(shape, tokens);
        sequence.len += tokens;
        fill(sequence.ssm.bytes_mut())?;
        fill(sequence.window.bytes_mut())?;
        for block in &mut sequence.kv[self.len / BLOCK..] {
            fill(
                Arc::get_mut(block)
                    .expect("a fork shares full blocks alone")
                    .0
                    .bytes_mut(),
            )?;
        }
        Ok(sequence)
    }

    /// Blocks of keys and values that must be allocated before `tokens` more tokens can be read.
    pub fn blocks_needed(&self, tokens: usize) -> usize {
        (self.len + tokens).div_ceil(BLOCK).saturating_sub(self.kv.len())
    }

    /// Bytes that this sequence alone holds: state and unshared blocks.
    pub fn private_bytes(&self, shape: &Shape) -> usize {
        shape.state_bytes()
            + self.kv.iter().filter(|b| Arc::strong_count(b) == 1).count() * shape.block_bytes()
    }

    pub(crate) fn reserve(&mut self, shape: &Shape, tokens: usize) {
        for _ in 0..self.blocks_needed(tokens) {
            self.kv.push(Arc::new(KvBlock(Buf::paged(
                shape.layers * shape.kv_heads * shape.kv_head_len(),
            ))));
        }
    }

    /// Goes on by `tokens` positions without reading any: their keys and values are copies of those that are
    /// there, shared with nobody. A long private context for measurements of speed; what it would say means
    /// nothing.
    pub(crate) fn stretch(&mut self, tokens: usize) {
        let read = self.kv.len();
        for i in 0..self.blocks_needed(tokens) {
            let copy = KvBlock::clone(&self.kv[i % read]);
            self.kv.push(Arc::new(copy));
        }
        self.len += tokens;
    }

    /// The convolution's inputs of the last `taps - 1` positions in layer `layer`: `[channels, taps - 1]`,
    /// oldest first.
    pub fn conv_window(&self, shape: &Shape, layer: usize) -> Vec<f32> {
        let slots = shape.taps - 1;
        let stride = padded(shape.channels);
        let base = layer * shape.window_layer_len();
        let mut out = vec![0.0; shape.channels * slots];
        for (age, c) in (0..slots).flat_map(|age| (0..shape.channels).map(move |c| (age, c))) {
            // position len - slots + age; before the start the window is zero, wherever it lies
            let slot = (self.len + age) % slots;
            out[c * slots + age] = self.window[base + slot * stride + c];
        }
        out
    }

    /// The SSM state of layer `layer`: `[ssm_heads, ssm_head_dim, d_state]`.
    pub fn ssm_state(&self, shape: &Shape, layer: usize) -> Vec<f32> {
        let (p, n, width) = (shape.ssm_head_dim, shape.d_state, shape.ssm_width());
        let mut out = Vec::with_capacity(shape.ssm_heads * p * n);
        for head in 0..shape.ssm_heads {
            let state = &self.ssm[layer * shape.ssm_layer_len() + head * shape.ssm_head_len()..];
            out.extend((0..p * n).map(|i| element(state, shape.state, width, i % n, i / n)));
        }
        out
    }

    /// Keys and values of layer `layer`: two arrays `[kv_heads, len, head_dim]`.
    pub fn keys_values(&self, shape: &Shape, layer: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for head in 0..shape.kv_heads {
            for t in 0..self.len {
                let block = &self.kv[t / BLOCK].0[(layer * shape.kv_heads + head) * shape.kv_head_len()..];
                let (k, v) = block.split_at(shape.keys_len());
                keys.extend((0..shape.head_dim).map(|d| element(k, shape.kv, BLOCK, d, t % BLOCK)));
                values.extend(
                    (0..shape.head_dim).map(|d| element(v, shape.kv, shape.head_stride(), t % BLOCK, d)),
                );
            }
        }
        (keys, values)
    }
}

/// Element `[row, column]` of rows of `width`.
pub(crate) fn element(data: &[f32], format: CacheFormat, width: usize, row: usize, column: usize) -> f32 {
    match format {
        CacheFormat::F32 => data[row * width + column],
        CacheFormat::Bf16 => {
            let bits = data[row / 2 * width + column].to_bits();
            f32::from_bits(if row.is_multiple_of(2) {
                bits << 16
            } else {
                bits & 0xffff_0000
            })
        }
    }
}

/// Writes what [`element`] reads.
#[cfg(test)]
pub(crate) fn put(
    data: &mut [f32],
    format: CacheFormat,
    width: usize,
    row: usize,
    column: usize,
    value: f32,
) {
    match format {
        CacheFormat::F32 => data[row * width + column] = value,
        CacheFormat::Bf16 => {
            let word = &mut data[row / 2 * width + column];
            let half = u32::from(half::bf16::from_f32(value).to_bits());
            *word = f32::from_bits(if row.is_multiple_of(2) {
                word.to_bits() & 0xffff_0000 | half
            } else {
                word.to_bits() & 0xffff | half << 16
            });
        }
    }
}
