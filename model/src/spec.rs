//! What a model is, as data: the parts that its layers are made of, with their shapes, scalars and the names
//! of their tensors.
//!
//! A family's file under [`arch`](crate::arch) turns a configuration into a [`ModelSpec`]. Everything else
//! reads the specification and knows no family: the inventory check, random weights, the digest, the memory
//! plan and every executor. Multipliers stand where they act, as factors of a product's input or output, and
//! are never folded into weights.

use std::ops::Range;

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
}

/// A matrix product `y = (input_scale * x) W^T`, its outputs scaled, a bias added.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearSpec {
    /// The weight's tensor, `[rows, columns]` or more rows of which these are a part.
    pub weight: String,
    /// Rows of the matrix: how many numbers come out.
    pub rows: usize,
    /// Columns of the matrix: how many numbers go in.
    pub columns: usize,
    /// Which rows of a tensor that several matrices share: where they begin, and how many the tensor has.
    pub within: Option<(usize, usize)>,
    /// The bias, if there is one.
    pub bias: Option<BiasSpec>,
    /// Scales the input, and so touches no bias.
    pub input_scale: f32,
    /// Factors of slices of the outputs, biases included: (rows, factor) in order; none means 1 for all.
    pub output_scales: Vec<(usize, f32)>,
}

impl LinearSpec {
    /// `[rows, columns]` weights under this name, without bias or factor.
    pub fn new(weight: impl Into<String>, rows: usize, columns: usize) -> Self {
        Self {
            weight: weight.into(),
            rows,
            columns,
            within: None,
            bias: None,
            input_scale: 1.0,
            output_scales: Vec::new(),
        }
    }

    /// The same as rows `start..start + rows` of a tensor of `total` rows.
    #[must_use]
    pub fn within(mut self, start: usize, total: usize) -> Self {
        self.within = Some((start, total));
        self
    }

    /// With the bias of this name where `present`; `why` ends the sentence that misses it.
    #[must_use]
    pub fn biased(mut self, present: bool, why: &'static str) -> Self {
        if present {
            let tensor = self.weight.strip_suffix("weight").unwrap_or(&self.weight);
            self.bias = Some(BiasSpec {
                tensor: format!("{tensor}bias"),
                why,
            });
        }
        self
    }

    /// With its input scaled.
    #[must_use]
    pub fn input(mut self, scale: f32) -> Self {
        self.input_scale = scale;
        self
    }

    /// With all outputs scaled.
    #[must_use]
    pub fn output(mut self, scale: f32) -> Self {
        self.output_scales = vec![(self.rows, scale)];
        self
    }

    /// The rows of its tensor that it takes.
    pub fn tensor_rows(&self) -> Range<usize> {
        let start = self.within.map_or(0, |(start, _)| start);
        start..start + self.rows
    }

    /// The factor of every output `[rows]`.
    pub fn factors(&self) -> Vec<f32> {
        let mut factors: Vec<f32> = self
            .output_scales
            .iter()
            .flat_map(|(rows, scale)| std::iter::repeat_n(*scale, *rows))
            .collect();
        factors.resize(self.rows, 1.0);
        factors
    }
}

/// A bias `[rows]`, which is added to the outputs of a product or a convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct BiasSpec {
    /// Canonical name of the tensor that holds it.
    pub tensor: String,
    /// Ends the sentence that says that it is missing: why it should be there.
    pub why: &'static str,
}

/// Causal grouped-query attention: key/value head `j` serves query heads `j * r .. (j + 1) * r` with
/// `r = heads / kv_heads`; softmax in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Query heads; each group of `heads / kv_heads` shares a head of keys and values.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// `[heads * head_dim, hidden]`
    pub q: LinearSpec,
    /// `[kv_heads * head_dim, hidden]`
    pub k: LinearSpec,
    /// `[kv_heads * head_dim, hidden]`
    pub v: LinearSpec,
    /// `[hidden, heads * head_dim]`
    pub o: LinearSpec,
    /// Norm over each query head before rotation.
    pub q_norm: Option<NormSpec>,
    /// Norm over each key head before rotation.
    pub k_norm: Option<NormSpec>,
    /// Index of the rotary table; `None` where positions are not marked.
    pub rope: Option<usize>,
    /// Factor of the scores before the softmax; usually 1 / sqrt(head_dim).
    pub scale: f32,
}

/// Mamba-2 (arXiv 2405.21060): input projection to z, x, B, C and dt, causal convolution and silu over x, B
/// and C, selective state update, gate, output projection.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba2Spec {
    /// Heads, each with a decay and a step size of its own.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// States of each channel.
    pub d_state: usize,
    /// Groups that share B and C; divides `heads`.
    pub groups: usize,
    /// Taps of the convolution.
    pub taps: usize,
    /// `[z, x, B, C, dt; hidden]`
    pub in_proj: LinearSpec,
    /// `[hidden, heads * head_dim]`
    pub out_proj: LinearSpec,
    /// The convolution's weight `[channels, 1, taps]`.
    pub conv: String,
    /// The convolution's bias `[channels]`.
    pub conv_bias: Option<BiasSpec>,
    /// The decay rates `[heads]`.
    pub decay: DecaySpec,
    /// D `[heads]`, the weight of the input itself.
    pub skip: String,
    /// Added to dt before softplus `[heads]`.
    pub dt_bias: String,
    /// Bounds of the step after softplus; `(0, inf)` clamps nothing.
    pub time_step_limit: (f32, f32),
    /// The norm at the gate.
    pub norm: Option<GatedNormSpec>,
}

impl Mamba2Spec {
    /// Width of the branch: `heads * head_dim`.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }
    /// Channels that pass the convolution: x, B and C.
    pub fn channels(&self) -> usize {
        self.width() + 2 * self.groups * self.d_state
    }
}

/// Where the decay rates come from.
#[derive(Clone, Debug, PartialEq)]
pub enum DecaySpec {
    /// This tensor holds the logarithm of -A.
    Log(String),
    /// This tensor holds A, which is negative.
    Rate(String),
}

impl DecaySpec {
    /// Canonical name of the tensor, whichever of the two it is.
    pub fn tensor(&self) -> &str {
        match self {
            Self::Log(name) | Self::Rate(name) => name,
        }
    }
}

/// A norm over each group of a Mamba branch, at its gate.
#[derive(Clone, Debug, PartialEq)]
pub struct GatedNormSpec {
    /// The norm; its weight is `[width]` or `[groups, width / groups]`.
    pub norm: NormSpec,
    /// `norm(y) * silu(z)` instead of `norm(y * silu(z))`.
    pub before_gate: bool,
    /// Ends the sentence that says that its weight is missing.
    pub why: &'static str,
}

/// A feed-forward part (MLP): what comes from `input` goes through `down` back to the residual stream.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpSpec {
    /// Width between its matrices.
    pub width: usize,
    /// What is multiplied by `down`.
    pub input: MlpInput,
    /// Output projection `[hidden, width]`.
    pub down: LinearSpec,
}

/// The activations of a feed-forward part.
#[derive(Clone, Debug, PartialEq)]
pub enum MlpInput {
    /// `silu(gate(x)) * up(x)` (arXiv 2002.05202).
    SwiGlu {
        /// Projection `[width, hidden]` that passes the activation.
        gate: LinearSpec,
        /// Projection `[width, hidden]` of the input.
        up: LinearSpec,
    },
    /// `relu(up(x))^2` (arXiv 2109.08668).
    SquaredRelu {
        /// Projection `[width, hidden]` of the input.
        up: LinearSpec,
    },
}

/// What a tensor is for, which says what random weights have in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Of a product or the embedding.
    Matrix,
    /// The weight of a norm.
    Norm,
    /// Taps of a convolution.
    Convolution,
    /// The logarithm of a decay rate.
    LogDecay,
    /// A decay rate of a Mamba-2 head, or its logarithm.
    Decay,
    /// Of the input itself in a state update.
    Skip,
    /// Of a step size.
    StepBias,
    /// Of a product or a convolution.
    Bias,
}

/// A tensor that a model needs.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Its canonical name: the one in the Hugging Face folder.
    pub name: String,
    /// Its shape; dimensions of 1 may be left out or added.
    pub shape: Vec<usize>,
    /// Another shape that it may have.
    pub or_shape: Option<Vec<usize>>,
    /// What it is for.
    pub role: Role,
    /// Ends the sentence that says that it is missing: why it should be there, or nothing.
    pub why: &'static str,
}

impl ModelSpec {
    /// All parts, layer by layer.
    pub fn mixers(&self) -> impl Iterator<Item = &Mixer> {
        self.layers.iter().flatten().flat_map(|residual| &residual.mixers)
    }

    /// Every tensor that the model has, each once: the ends, then layer by layer the matrices before the
    /// small ones.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = Inventory::default();
        list.add(Role::Matrix, &self.embed.tensor, &[self.vocab, self.hidden], "");
        list.add(Role::Norm, &self.norm.tensor, &[self.hidden], "");
        if let Some(head) = &self.head.tensor {
            let why =
                ", but its configuration does not say that the embedding is shared (tie_word_embeddings)";
            list.add(Role::Matrix, head, &[self.vocab, self.hidden], why);
        }
        for layer in &self.layers {
            let mixers = || layer.iter().flat_map(|residual| &residual.mixers);
            mixers()
                .flat_map(Mixer::linears)
                .for_each(|linear| list.linear(linear));
            for residual in layer {
                list.add(Role::Norm, &residual.norm.tensor, &[self.hidden], "");
            }
            mixers().for_each(|mixer| list.small(mixer));
        }
        list.0
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
            Self::Attention(a) => vec![&a.q, &a.k, &a.v, &a.o],
            Self::Mamba2(m) => vec![&m.in_proj, &m.out_proj],
            Self::Mlp(m) => match &m.input {
                MlpInput::SwiGlu { gate, up } => vec![gate, up, &m.down],
                MlpInput::SquaredRelu { up } => vec![up, &m.down],
            },
        }
    }
}

/// Tensors in the order in which they are met.
#[derive(Default)]
struct Inventory(Vec<TensorSpec>);

impl Inventory {
    fn add(&mut self, role: Role, name: &str, shape: &[usize], why: &'static str) {
        // a matrix that is a part of a tensor comes beside the tensor's other parts
        if self.0.iter().rev().take(4).any(|known| known.name == name) {
            return;
        }
        self.0.push(TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            or_shape: None,
            role,
            why,
        });
    }

    fn linear(&mut self, linear: &LinearSpec) {
        let rows = linear.within.map_or(linear.rows, |(_, total)| total);
        self.add(Role::Matrix, &linear.weight, &[rows, linear.columns], "");
        if let Some(bias) = &linear.bias {
            self.add(Role::Bias, &bias.tensor, &[rows], bias.why);
        }
    }

    /// The tensors of a part that are no matrices.
    fn small(&mut self, mixer: &Mixer) {
        match mixer {
            Mixer::Attention(a) => {
                for norm in a.q_norm.iter().chain(&a.k_norm) {
                    self.add(Role::Norm, &norm.tensor, &[a.head_dim], "");
                }
            }
            Mixer::Mamba2(m) => {
                self.add(Role::Convolution, &m.conv, &[m.channels(), 1, m.taps], "");
                if let Some(bias) = &m.conv_bias {
                    self.add(Role::Bias, &bias.tensor, &[m.channels()], bias.why);
                }
                let decay = match m.decay {
                    DecaySpec::Log(_) => Role::LogDecay,
                    DecaySpec::Rate(_) => Role::Decay,
                };
                self.add(decay, m.decay.tensor(), &[m.heads], "");
                self.add(Role::Skip, &m.skip, &[m.heads], "");
                self.add(Role::StepBias, &m.dt_bias, &[m.heads], "");
                if let Some(gated) = &m.norm {
                    self.add(Role::Norm, &gated.norm.tensor, &[m.width()], gated.why);
                    if let Some(added) = self.0.last_mut() {
                        added.or_shape = Some(vec![m.groups, m.width() / m.groups]);
                    }
                }
            }
            Mixer::Mlp(_) => {}
        }
    }
}
