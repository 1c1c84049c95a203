//! The parts of a layer.

use std::ops::Range;

use super::NormSpec;

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
    /// How many matrices, one under the other, make the tensor: the experts of one with three dimensions. The
    /// rows count through all of them.
    pub stacked: Option<usize>,
    /// In which order its rows stand in the tensor.
    pub order: RowOrder,
    /// Whether its tensor is `[columns, rows]` instead.
    pub transposed: bool,
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
            stacked: None,
            order: RowOrder::AsStored,
            transposed: false,
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

    /// The same as matrix `index` of a tensor `[count, rows, columns]`.
    #[must_use]
    pub fn of_stack(mut self, index: usize, count: usize) -> Self {
        let (start, total) = self.within.unwrap_or((0, self.span()));
        self.within = Some((index * total + start, count * total));
        self.stacked = Some(count);
        self
    }

    /// The same with its rows interleaved in the tensor, head by head.
    #[must_use]
    pub fn interleaved(mut self, heads: usize) -> Self {
        self.order = RowOrder::Interleaved(heads);
        self
    }

    /// The same as these pieces of a tensor of `total` rows.
    #[must_use]
    pub fn pieces(mut self, total: usize, pieces: Vec<RowPiece>) -> Self {
        self.within = Some((0, total));
        self.order = RowOrder::Pieces(total, pieces);
        self
    }

    /// The same in a tensor that is stored column by column.
    #[must_use]
    pub fn transposed(mut self) -> Self {
        self.transposed = true;
        self
    }

    /// Rows of the tensor among which its own stand.
    fn span(&self) -> usize {
        match self.order {
            RowOrder::Pieces(total, _) => total,
            RowOrder::AsStored | RowOrder::Interleaved(_) => self.rows,
        }
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

    /// With the bias of this name, which must be there.
    #[must_use]
    pub fn with_bias(mut self, tensor: impl Into<String>) -> Self {
        self.bias = Some(BiasSpec {
            tensor: tensor.into(),
            why: "",
        });
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

    /// The shape that its tensor has: `[rows, columns]`, or the other way round, or with the number of
    /// matrices before them.
    pub fn tensor_shape(&self) -> Vec<usize> {
        let (count, rows) = self.stack();
        let [a, b] = match self.transposed {
            true => [self.columns, rows],
            false => [rows, self.columns],
        };
        match self.stacked {
            Some(_) => vec![count, a, b],
            None => vec![a, b],
        }
    }

    /// The shape that its bias has: `[rows]` of its tensor, or with the number of matrices before them.
    pub fn bias_shape(&self) -> Vec<usize> {
        let (count, rows) = self.stack();
        match self.stacked {
            Some(_) => vec![count, rows],
            None => vec![rows],
        }
    }

    /// How many matrices its tensor is, and the rows of each.
    pub(crate) fn stack(&self) -> (usize, usize) {
        let rows = self.within.map_or(self.rows, |(_, total)| total);
        let count = self.stacked.unwrap_or(1);
        (count, rows / count)
    }

    /// The rows of its tensor that it takes, or among which it takes some.
    pub fn tensor_rows(&self) -> Range<usize> {
        let start = self.within.map_or(0, |(start, _)| start);
        start..start + self.span()
    }

    /// For each row here, which of [`Self::tensor_rows`] it is, counted from the first; `None` where they
    /// stand in this order.
    pub fn row_order(&self) -> Option<Vec<usize>> {
        match &self.order {
            RowOrder::AsStored => None,
            RowOrder::Interleaved(heads) => {
                let width = self.rows / heads.max(&1);
                let of = |row: usize| {
                    let (head, at) = (row / width, row % width);
                    head * width + 2 * (at % (width / 2)) + at / (width / 2)
                };
                Some((0..self.rows).map(of).collect())
            }
            RowOrder::Pieces(_, pieces) => Some(pieces.iter().flat_map(RowPiece::rows).collect()),
        }
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

/// In which order the rows of a matrix stand in its tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RowOrder {
    /// One after the other.
    #[default]
    AsStored,
    /// Of so many heads interleaved: in a head of `d` rows, row `2j + half` of the tensor is row `half * d/2 +
    /// j` here. So GGUF files of families whose reference rotates neighbours.
    Interleaved(usize),
    /// These pieces of so many rows, one after the other: the rest of the rows is another matrix's.
    Pieces(usize, Vec<RowPiece>),
}

/// Rows of a tensor that come at regular distances: `width` rows from `first`, from `first + stride`, ...,
/// `count` times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowPiece {
    /// The first row.
    pub first: usize,
    /// How many follow each other.
    pub width: usize,
    /// Rows from one beginning to the next.
    pub stride: usize,
    /// How many beginnings.
    pub count: usize,
}

impl RowPiece {
    fn rows(&self) -> impl Iterator<Item = usize> {
        let Self {
            first,
            width,
            stride,
            count,
        } = *self;
        (0..count).flat_map(move |i| first + i * stride..first + i * stride + width)
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
    /// `[heads * head_dim, hidden]`: what was attended to is multiplied by the sigmoid of its output before `o`
    /// (arXiv 2505.06708).
    pub gate: Option<LinearSpec>,
    /// Factor of the scores before the softmax; usually 1 / sqrt(head_dim).
    pub scale: f32,
    /// Canonical name of the sinks `[heads]`: a score of each head beside those of the keys, which takes its part
    /// of the softmax and has no value (arXiv 2309.17453, learned as in gpt-oss).
    pub sinks: Option<String>,
    /// How many positions a query sees, its own the last of them; all that came before where there is none. It
    /// bounds what is read: keys and values of all positions are kept.
    pub window: Option<usize>,
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

/// Gated delta rule (arXiv 2412.06464): causal convolution and silu over queries, keys and values, then for each
/// head a state `S [key_dim, head_dim]` with `S = decay * S`, `d = beta * (v - S^T k)`, `S = S + k d^T`, `y = S^T
/// q`, where `decay = exp(A * softplus(a + dt_bias))`, `beta = sigmoid(b)`, and queries and keys have a length of 1
/// (queries divided by the root of `key_dim`); then a norm over each head, a gate and the output projection.
#[derive(Clone, Debug, PartialEq)]
pub struct GatedDeltaSpec {
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Width of a query or key.
    pub key_dim: usize,
    /// Heads of values, each with a state of its own; a multiple of `key_heads`.
    pub heads: usize,
    /// Width of a value.
    pub head_dim: usize,
    /// Which query and key a head of values uses.
    pub sharing: KeySharing,
    /// Taps of the convolution.
    pub taps: usize,
    /// `[q, k, v; hidden]`
    pub qkv: LinearSpec,
    /// The gate `[heads * head_dim, hidden]`.
    pub z: LinearSpec,
    /// Strength of the update `[heads, hidden]`.
    pub b: LinearSpec,
    /// Step size before softplus `[heads, hidden]`.
    pub a: LinearSpec,
    /// `[hidden, heads * head_dim]`
    pub out_proj: LinearSpec,
    /// The convolution's weight `[channels, 1, taps]`.
    pub conv: String,
    /// The decay rates `[heads]`.
    pub decay: DecaySpec,
    /// Added to a before softplus `[heads]`.
    pub dt_bias: String,
    /// The norm over each head, whose weight `[head_dim]` all share.
    pub norm: NormSpec,
}

/// Which head of keys a head of values uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySharing {
    /// Heads of values that follow each other share one.
    Consecutive,
    /// Head `h` uses key `h mod key_heads`, as GGUF files order them.
    Interleaved,
}

impl GatedDeltaSpec {
    /// Width of the values: `heads * head_dim`.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }
    /// Channels that pass the convolution: queries, keys and values.
    pub fn channels(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.width()
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

impl MlpSpec {
    /// Its matrices, the last one back to the residual stream.
    pub fn linears(&self) -> Vec<&LinearSpec> {
        match &self.input {
            MlpInput::SwiGlu { gate, up } | MlpInput::ClampedSwiGlu { gate, up, .. } => {
                vec![gate, up, &self.down]
            }
            MlpInput::SquaredRelu { up } => vec![up, &self.down],
        }
    }
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
    /// `g * sigmoid(alpha * g) * (u + 1)` with `g = min(gate(x), limit)` and `u = up(x)` cut off at `-limit` and
    /// `limit` (gpt-oss, arXiv 2508.10925).
    ClampedSwiGlu {
        /// Projection `[width, hidden]` that passes the activation.
        gate: LinearSpec,
        /// Projection `[width, hidden]` of the input.
        up: LinearSpec,
        /// Steepness of the sigmoid.
        alpha: f32,
        /// The largest of both.
        limit: f32,
    },
    /// `relu(up(x))^2` (arXiv 2109.08668).
    SquaredRelu {
        /// Projection `[width, hidden]` of the input.
        up: LinearSpec,
    },
}

/// A mixture of experts: a router picks `active` of them for each position, and what they give is summed with
/// the router's weights. The router works in f32; of equal experts the one of lower index is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct MoeSpec {
    /// `[experts, hidden]`, whose outputs the routing reads.
    pub router: LinearSpec,
    /// How the router's outputs become weights.
    pub routing: Routing,
    /// How many experts a position passes.
    pub active: usize,
    /// The experts, all of one width.
    pub experts: Vec<MlpSpec>,
    /// A part that every position passes beside its experts.
    pub shared: Option<SharedExpert>,
}

/// How a router's outputs become weights of experts.
#[derive(Clone, Debug, PartialEq)]
pub enum Routing {
    /// The softmax over all experts; with `renormalise` divided by the sum of those chosen.
    Softmax {
        /// Whether the weights of a position sum to 1.
        renormalise: bool,
    },
    /// The softmax over the chosen ones alone.
    SoftmaxOfChosen,
    /// The sigmoid of each, chosen by its sum with a correction that is no part of the weight (arXiv
    /// 2408.15664).
    Sigmoid {
        /// Canonical name of the correction `[experts]`.
        correction: Option<String>,
        /// Divides by the sum of those chosen and this number, where there is one.
        renormalise: Option<f32>,
        /// Factor of the weights.
        scale: f32,
    },
}

/// A feed-forward part beside the experts of a mixture.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedExpert {
    /// The part.
    pub mlp: MlpSpec,
    /// `[1, hidden]`: the part is weighted by the sigmoid of its output.
    pub gate: Option<LinearSpec>,
}

/// A gated short convolution (LFM2): `out_proj(C * conv(B * x))`, where `in_proj` gives B, C and x, causal
/// and without an activation.
#[derive(Clone, Debug, PartialEq)]
pub struct ShortConvSpec {
    /// Width of B, C and x.
    pub channels: usize,
    /// Taps of the convolution.
    pub taps: usize,
    /// `[B, C, x; hidden]`
    pub in_proj: LinearSpec,
    /// `[hidden, channels]`
    pub out_proj: LinearSpec,
    /// Weights `[channels, 1, taps]`.
    pub conv: String,
    /// Bias `[channels]`.
    pub conv_bias: Option<BiasSpec>,
}
