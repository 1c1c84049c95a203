//! What a model is, as data: the parts that its layers are made of, with their shapes, scalars and the names
//! of their tensors.
//!
//! A family's file under [`arch`](crate::arch) turns a configuration into a [`ModelSpec`]. Everything else
//! reads the specification and knows no family: the inventory check, random weights, the digest, the memory
//! plan and every executor. Multipliers stand where they act, as factors of a product's input or output, and
//! are never folded into weights.

mod inventory;
mod parts;

pub use inventory::{Role, TensorSpec};
pub use parts::{
    AttentionSpec, BiasSpec, DecaySpec, GatedDeltaSpec, GatedNormSpec, KeySharing, LinearSpec, Mamba2Spec,
    MlpInput, MlpSpec, MoeSpec, Routing, RowOrder, RowPiece, SharedExpert, ShortConvSpec,
};

/// A model: an embedding, layers of residual branches, a last norm and an output matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The family's name in the register of [`arch`](crate::arch), which is transformers' `model_type`.
    pub architecture: &'static str,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding and of the output matrix, padding included.
    pub vocab: usize,
    /// The longest context that the model was made for, in tokens.
    pub context: usize,
    /// Where the rows of the token embedding `[vocab, hidden]` come from.
    pub embed: EmbedSpec,
    /// The rotary tables that attention parts name by their index.
    pub ropes: Vec<RopeSpec>,
    /// For each layer its residual branches, in order.
    pub layers: Vec<Vec<Residual>>,
    /// The norm before the output matrix.
    pub norm: NormSpec,
    /// Where the output matrix `[vocab, hidden]` comes from.
    pub head: HeadSpec,
    /// End-of-text ids of the configuration; generation_config.json may name more.
    pub eos: Vec<u32>,
    /// Everything that changes the arithmetic, one `key=value` a line, for digests. It is the same for all
    /// spellings of one configuration and in all versions of this program.
    pub arithmetic: String,
}

/// The embedding `[vocab, hidden]`.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbedSpec {
    /// Canonical name of the tensor that holds it.
    pub tensor: String,
    /// Factor of every embedded row; 1 where the family has none.
    pub scale: f32,
}

/// The output matrix `[vocab, hidden]`.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadSpec {
    /// Its tensor; `None` where it is the embedding.
    pub tensor: Option<String>,
    /// Factor of every logit; 1 where the family has none.
    pub scale: f32,
}

/// Root-mean-square norm: `x / sqrt(mean(x^2) + eps) * weight`.
#[derive(Clone, Debug, PartialEq)]
pub struct NormSpec {
    /// Canonical name of the weight, one factor a dimension.
    pub tensor: String,
    /// What is added to the mean square before its root is taken.
    pub eps: f32,
    /// Whether the tensor holds the weight less 1.
    pub zero_centered: bool,
}

/// A rotary table: dimension `i` of the first half of a head's first `2 * frequencies.len()` dimensions turns
/// with dimension `i` of the second half (rotate-half), by `position * frequencies[i]`. Dimensions beyond
/// stay.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// Radians that a position turns each pair of dimensions by.
    pub frequencies: Vec<f32>,
    /// Scales cosines and sines.
    pub scale: f32,
}

impl RopeSpec {
    /// The plain table of `dims` dimensions: `theta^(-2i / dims)`, in f32 as references compute it.
    pub fn plain(theta: f64, dims: usize) -> Self {
        let frequencies = (0..dims / 2)
            .map(|i| 1.0 / (theta as f32).powf((2 * i) as f32 / dims as f32))
            .collect();
        Self {
            frequencies,
            scale: 1.0,
        }
    }
}

/// A residual branch: `h += scale * sum of mixers(norm(h))`. All mixers read the same normed input.
#[derive(Clone, Debug, PartialEq)]
pub struct Residual {
    /// The norm before the mixers.
    pub norm: NormSpec,
    /// The parts whose outputs are summed.
    pub mixers: Vec<Mixer>,
    /// Factor of the sum before it joins the residual stream; 1 where the family has none.
    pub scale: f32,
}

impl Residual {
    /// A branch of one part, unscaled.
    pub fn of(norm: NormSpec, mixer: Mixer) -> Self {
        Self {
            norm,
            mixers: vec![mixer],
            scale: 1.0,
        }
    }
}

/// A part of a layer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Mixer {
    /// Causal grouped-query attention; keeps keys and values.
    Attention(AttentionSpec),
    /// Mamba-2; keeps a state and a convolution window of fixed size.
    Mamba2(Mamba2Spec),
    /// A feed-forward part, which keeps nothing from token to token.
    Mlp(MlpSpec),
    /// A mixture of feed-forward parts, of which each position passes a few; keeps nothing.
    Moe(MoeSpec),
    /// A gated short convolution; keeps a window of its inputs.
    ShortConv(ShortConvSpec),
    /// The gated delta rule; keeps a state and a convolution window of fixed size.
    GatedDelta(GatedDeltaSpec),
}

impl ModelSpec {
    /// All parts, layer by layer.
    pub fn mixers(&self) -> impl Iterator<Item = &Mixer> {
        self.layers.iter().flatten().flat_map(|residual| &residual.mixers)
    }

    /// Number of weights, biases included, a shared matrix counted once.
    pub fn parameters(&self) -> u64 {
        let count = |tensor: TensorSpec| tensor.shape.iter().map(|d| *d as u64).product::<u64>();
        self.tensors().into_iter().map(count).sum()
    }
}

impl Mixer {
    /// The matrices of this part, in the order in which they are loaded.
    pub fn linears(&self) -> Vec<&LinearSpec> {
        match self {
            Self::Attention(a) => [&a.q, &a.k, &a.v, &a.o].into_iter().chain(&a.gate).collect(),
            Self::Mamba2(m) => vec![&m.in_proj, &m.out_proj],
            Self::Mlp(m) => m.linears(),
            Self::Moe(m) => {
                let shared = m.shared.iter();
                let shared = shared.flat_map(|s| s.gate.iter().chain(s.mlp.linears()));
                let experts = m.experts.iter().flat_map(MlpSpec::linears);
                std::iter::once(&m.router).chain(experts).chain(shared).collect()
            }
            Self::ShortConv(c) => vec![&c.in_proj, &c.out_proj],
            Self::GatedDelta(d) => vec![&d.qkv, &d.z, &d.b, &d.a, &d.out_proj],
        }
    }
}
