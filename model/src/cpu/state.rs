//! What a sequence carries from token to token: convolution windows, SSM states, and keys and values.

use std::sync::Arc;

use super::kernels::attention::codes::turn_back;
use super::kernels::buf::{Buf, padded};
use crate::spec::{Mixer, ModelSpec};

/// Positions in a block of keys and values. Blocks are aligned to positions counted from 0, so attention sums
/// in the same order whether a block is shared or private.
pub const BLOCK: usize = 64;

/// Numbers of a head that share a scale in [`KvFormat::Q8_0`]; the last of a head may be fewer.
pub(crate) const SCALED: usize = 32;

/// How keys and values are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFormat {
    /// Four bytes a number, nothing is rounded.
    F32,
    /// bf16, rounded to nearest even when written; arithmetic stays f32.
    Bf16,
    /// 8-bit codes: the numbers of a head at one position are turned by a Hadamard matrix, so that a large one is
    /// spread over all; then 32 of them share a bf16 scale, a 127th of the largest magnitude rounded up, and are
    /// rounded to its nearest multiples. Arithmetic stays f32.
    Q8_0,
}

impl KvFormat {
    /// Every format, in the order in which help lists them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Q8_0];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
        }
    }
}

/// How the states of Mamba-2 and gated-delta parts are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateFormat {
    /// Four bytes a number, nothing is rounded.
    #[default]
    F32,
    /// bf16, rounded to nearest even when written; arithmetic stays f32.
    Bf16,
}

impl StateFormat {
    /// Every format, in the order in which help lists them.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// Words of four bytes that `count` rows of `width` numbers take: f32, or bf16 with two rows in a word.
fn words(in_pairs: bool, count: usize, width: usize) -> usize {
    if in_pairs {
        count.div_ceil(2) * width
    } else {
        count * width
    }
}

/// Where the keys and values of one attention part lie in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Heads of keys and values.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// How they are held.
    pub format: KvFormat,
    /// the part's first word in a block
    pub(crate) offset: usize,
}

impl KvLayout {
    /// Words of `rows` rows of `width` numbers; in 8 bits the scales of the block's positions lie behind them.
    fn words(&self, rows: usize, width: usize) -> usize {
        match self.format {
            KvFormat::F32 => words(false, rows, width),
            KvFormat::Bf16 => words(true, rows, width),
            KvFormat::Q8_0 => {
                let scales = self.head_dim.div_ceil(SCALED) * BLOCK;
                (rows * width + scales * size_of::<u16>()) / size_of::<f32>()
            }
        }
    }
    pub(crate) fn head_stride(&self) -> usize {
        padded(self.head_dim)
    }
    /// K `[head_dim, BLOCK]` of one head. In bf16 two rows share words, the even one in the low half; so in
    /// V.
    pub(crate) fn keys_len(&self) -> usize {
        self.words(self.head_dim, BLOCK)
    }
    /// K, then V `[BLOCK, padded head_dim]`.
    pub(crate) fn head_len(&self) -> usize {
        self.keys_len() + self.words(BLOCK, self.head_stride())
    }
    /// The numbers of a head at one position, which are held turned in 8 bits.
    fn numbers(&self, number: impl Fn(usize) -> f32) -> Vec<f32> {
        let mut numbers: Vec<f32> = (0..self.head_dim).map(number).collect();
        if self.format == KvFormat::Q8_0 {
            turn_back(&mut numbers);
        }
        numbers
    }
    /// Number `[row, column]` of a head's keys or values, rows of `width`: `number` of a position's.
    fn number(
        &self,
        data: &[f32],
        width: usize,
        [row, column]: [usize; 2],
        [position, number]: [usize; 2],
    ) -> f32 {
        match self.format {
            KvFormat::F32 => element(data, false, width, row, column),
            KvFormat::Bf16 => element(data, true, width, row, column),
            KvFormat::Q8_0 => {
                let byte = |at: usize| data[at / 4].to_bits().to_ne_bytes()[at % 4];
                let codes = size_of_val(data) - self.head_dim.div_ceil(SCALED) * BLOCK * size_of::<u16>();
                let scale = codes + (number / SCALED * BLOCK + position) * size_of::<u16>();
                let scale = half::bf16::from_ne_bytes([byte(scale), byte(scale + 1)]);
                f32::from(byte(row * width + column).cast_signed()) * scale.to_f32()
            }
        }
    }
    /// First word of a head in a block.
    pub(crate) fn head_at(&self, head: usize) -> usize {
        self.offset + head * self.head_len()
    }
}

/// Where the state and the convolution window of one Mamba-2 or gated-delta part lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SsmLayout {
    /// Heads, each with a state of its own.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// States of each channel: the width of a key under the delta rule.
    pub d_state: usize,
    /// Channels that pass the convolution: x, B and C, or queries, keys and values.
    pub channels: usize,
    /// Taps of the convolution.
    pub taps: usize,
    /// How the state is held; the window is f32.
    pub format: StateFormat,
    /// the part's first words among a sequence's states and windows
    pub(crate) state_offset: usize,
    pub(crate) window_offset: usize,
}

impl SsmLayout {
    /// One head's state is `[d_state, padded head_dim]`: the width is contiguous, so the update needs no
    /// horizontal sum. In bf16 two rows share words, the even one in the low half.
    pub(crate) fn width(&self) -> usize {
        padded(self.head_dim)
    }
    pub(crate) fn head_len(&self) -> usize {
        words(self.format == StateFormat::Bf16, self.d_state, self.width())
    }
    pub(crate) fn state_len(&self) -> usize {
        self.heads * self.head_len()
    }
    pub(crate) fn window_len(&self) -> usize {
        (self.taps - 1) * padded(self.channels)
    }
}

/// Where the window of one short convolution lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvLayout {
    /// Channels that pass the convolution.
    pub channels: usize,
    /// Taps of the convolution.
    pub taps: usize,
    /// the part's first word among a sequence's windows
    pub(crate) window_offset: usize,
}

/// What a sequence keeps, part by part: an attention part keeps keys and values of every position, a Mamba-2
/// or gated-delta part a state of fixed size, a feed-forward part nothing.
#[derive(Clone, Debug)]
pub struct StateLayout {
    /// Attention parts, in the order of the layers.
    pub attention: Vec<KvLayout>,
    /// Mamba-2 and gated-delta parts, in the order of the layers.
    pub ssm: Vec<SsmLayout>,
    /// Short convolutions, in the order of the layers.
    pub conv: Vec<ConvLayout>,
    /// How keys and values are held.
    pub kv: KvFormat,
    /// How states are held.
    pub state: StateFormat,
    block_words: usize,
    state_words: usize,
    window_words: usize,
}

impl StateLayout {
    /// The layout for this model, with keys and values held as `kv` and states as `state`.
    pub fn new(spec: &ModelSpec, kv: KvFormat, state: StateFormat) -> Self {
        let mut layout = Self {
            attention: Vec::new(),
            ssm: Vec::new(),
            conv: Vec::new(),
            kv,
            state,
            block_words: 0,
            state_words: 0,
            window_words: 0,
        };
        for mixer in spec.mixers() {
            match mixer {
                Mixer::Attention(a) => {
                    let part = KvLayout {
                        heads: a.kv_heads,
                        head_dim: a.head_dim,
                        format: kv,
                        offset: layout.block_words,
                    };
                    layout.block_words += part.heads * part.head_len();
                    layout.attention.push(part);
                }
                Mixer::Mamba2(m) => {
                    layout.recurrent([m.heads, m.head_dim, m.d_state, m.channels(), m.taps]);
                }
                Mixer::GatedDelta(d) => {
                    layout.recurrent([d.heads, d.head_dim, d.key_dim, d.channels(), d.taps]);
                }
                Mixer::ShortConv(c) => {
                    let part = ConvLayout {
                        channels: c.channels,
                        taps: c.taps,
                        window_offset: layout.window_words,
                    };
                    layout.window_words += (c.taps - 1) * padded(c.channels);
                    layout.conv.push(part);
                }
                Mixer::Mlp(_) | Mixer::Moe(_) => {}
            }
        }
        layout
    }

    fn recurrent(&mut self, [heads, head_dim, d_state, channels, taps]: [usize; 5]) {
        let part = SsmLayout {
            heads,
            head_dim,
            d_state,
            channels,
            taps,
            format: self.state,
            state_offset: self.state_words,
            window_offset: self.window_words,
        };
        self.state_words += part.state_len();
        self.window_words += part.window_len();
        self.ssm.push(part);
    }

    /// Bytes of one sequence's SSM and convolution state.
    pub fn state_bytes(&self) -> usize {
        (self.state_words + self.window_words) * size_of::<f32>()
    }
    /// Bytes of one block of keys and values, all layers.
    pub fn block_bytes(&self) -> usize {
        self.block_words * size_of::<f32>()
    }
}

/// Keys and values of [`BLOCK`] positions: `[attention part][kv head]` of K `[head_dim, BLOCK]` and V
/// `[BLOCK, padded head_dim]`.
#[derive(Clone)]
pub(crate) struct KvBlock(pub(crate) Buf);

/// Memory of one sequence's SSM states and convolution windows. The system hands out large memory a page at a
/// time, zeroed: to use it again costs a copy alone.
pub struct StateMemory(Buf, Buf);

/// One sequence's state after `len` tokens.
pub struct Sequence {
    pub(crate) len: usize,
    /// `[part][head][d_state][padded head_dim]`
    pub(crate) ssm: Buf,
    /// `[part][taps - 1][padded channels]`; the input of position t lies in slot t mod (taps - 1)
    pub(crate) window: Buf,
    pub(crate) kv: Vec<Arc<KvBlock>>,
}

impl Sequence {
    /// A sequence that has read nothing, its states zero.
    pub fn new(layout: &StateLayout) -> Self {
        Self {
            len: 0,
            ssm: Buf::paged(layout.state_words),
            window: Buf::paged(layout.window_words),
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

    /// A copy that has read the first `tokens` tokens alone; none where there is a state, which is that of all that
    /// was read.
    pub(crate) fn cut(&self, tokens: usize) -> Option<Self> {
        if !self.ssm.is_empty() || !self.window.is_empty() {
            return None;
        }
        let mut kv = self.kv.get(..tokens.div_ceil(BLOCK))?.to_vec();
        if !tokens.is_multiple_of(BLOCK)
            && let Some(last) = kv.last_mut()
        {
            *last = Arc::new(KvBlock::clone(last));
        }
        Some(Self {
            len: tokens,
            ssm: self.ssm.clone(),
            window: self.window.clone(),
            kv,
        })
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
        layout: &StateLayout,
        tokens: usize,
        fill: &mut impl FnMut(&mut [u8]) -> std::io::Result<()>,
    ) -> std::io::Result<Self> {
        let mut sequence = self.fork();
        sequence.reserve(layout, tokens);
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
    pub fn private_bytes(&self, layout: &StateLayout) -> usize {
        layout.state_bytes()
            + self.kv.iter().filter(|b| Arc::strong_count(b) == 1).count() * layout.block_bytes()
    }

    pub(crate) fn reserve(&mut self, layout: &StateLayout, tokens: usize) {
        for _ in 0..self.blocks_needed(tokens) {
            self.kv.push(Arc::new(KvBlock(Buf::paged(layout.block_words))));
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

    /// The convolution's inputs of the last `taps - 1` positions of Mamba-2 or gated-delta part `part`:
    /// `[channels, taps - 1]`, oldest first.
    pub fn conv_window(&self, layout: &StateLayout, part: usize) -> Vec<f32> {
        let part = &layout.ssm[part];
        let (slots, stride) = (part.taps - 1, padded(part.channels));
        let mut out = vec![0.0; part.channels * slots];
        for (age, c) in (0..slots).flat_map(|age| (0..part.channels).map(move |c| (age, c))) {
            // position len - slots + age; before the start the window is zero, wherever it lies
            let slot = (self.len + age) % slots;
            out[c * slots + age] = self.window[part.window_offset + slot * stride + c];
        }
        out
    }

    /// The state of Mamba-2 or gated-delta part `part`: `[heads, head_dim, d_state]`.
    pub fn ssm_state(&self, layout: &StateLayout, part: usize) -> Vec<f32> {
        let part = &layout.ssm[part];
        let (p, n) = (part.head_dim, part.d_state);
        let mut out = Vec::with_capacity(part.heads * p * n);
        for head in 0..part.heads {
            let state = &self.ssm[part.state_offset + head * part.head_len()..];
            let in_pairs = part.format == StateFormat::Bf16;
            out.extend((0..p * n).map(|i| element(state, in_pairs, part.width(), i % n, i / n)));
        }
        out
    }

    /// Keys and values of attention part `part`: two arrays `[kv_heads, len, head_dim]`.
    pub fn keys_values(&self, layout: &StateLayout, part: usize) -> (Vec<f32>, Vec<f32>) {
        let part = &layout.attention[part];
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for head in 0..part.heads {
            for t in 0..self.len {
                let block = &self.kv[t / BLOCK].0[part.head_at(head)..][..part.head_len()];
                let (k, v) = block.split_at(part.keys_len());
                let (t, row) = (t % BLOCK, part.head_stride());
                keys.extend(part.numbers(|d| part.number(k, BLOCK, [d, t], [t, d])));
                values.extend(part.numbers(|d| part.number(v, row, [t, d], [t, d])));
            }
        }
        (keys, values)
    }
}

/// Element `[row, column]` of rows of `width`: f32, or bf16 with two rows in a word.
pub(crate) fn element(data: &[f32], in_pairs: bool, width: usize, row: usize, column: usize) -> f32 {
    if !in_pairs {
        return data[row * width + column];
    }
    let bits = data[row / 2 * width + column].to_bits();
    f32::from_bits(if row.is_multiple_of(2) {
        bits << 16
    } else {
        bits & 0xffff_0000
    })
}

/// Writes what [`element`] reads.
#[cfg(test)]
pub(crate) fn put(data: &mut [f32], in_pairs: bool, width: usize, row: usize, column: usize, value: f32) {
    if !in_pairs {
        data[row * width + column] = value;
        return;
    }
    let word = &mut data[row / 2 * width + column];
    let half = u32::from(half::bf16::from_f32(value).to_bits());
    *word = f32::from_bits(if row.is_multiple_of(2) {
        word.to_bits() & 0xffff_0000 | half
    } else {
        word.to_bits() & 0xffff | half << 16
    });
}
