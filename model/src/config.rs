//! The Falcon-H1 configuration: the shapes and scalars of one model, read from `config.json` in the spellings
//! of transformers 4.x and 5.x, with the defaults of transformers where a key is missing.

mod json;
mod parse;
mod shapes;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::error::ModelError;
pub(crate) use parse::Parsed;

/// Shapes and scalars of one Falcon-H1 model. Every block has an attention branch and a Mamba-2 branch, both
/// on the same normed input, and a gated feed-forward part.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one attention head; `heads * head_dim` need not be `hidden`.
    pub head_dim: usize,
    /// Width of the feed-forward part.
    pub intermediate: usize,
    /// Rows of the embedding and of the output matrix (padding included).
    pub vocab: usize,
    /// Width of the Mamba branch: `ssm_heads * ssm_head_dim`.
    pub d_ssm: usize,
    /// Mamba heads.
    pub ssm_heads: usize,
    /// Width of one Mamba head.
    pub ssm_head_dim: usize,
    /// State size per channel.
    pub d_state: usize,
    /// Groups that share B and C; divides `ssm_heads`.
    pub groups: usize,
    /// Taps of the causal convolution.
    pub d_conv: usize,
    /// Epsilon of every RMS norm.
    pub norm_eps: f32,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// The longest context that the model was made for.
    pub max_positions: usize,
    /// The output matrix is the embedding.
    pub tied: bool,
    /// The Mamba branch has a gated, grouped RMS norm. [`Config::from_json`] takes `mamba_rms_norm`; a
    /// [`Checkpoint`](super::weights::Checkpoint) takes what its tensors say.
    pub gated_norm: bool,
    /// That norm comes before the multiplication with silu(z) (published models: after).
    pub norm_before_gate: bool,
    /// Bounds of the step after softplus; `(0, inf)` clamps nothing.
    pub time_step_limit: (f32, f32),
    /// Scales the embedding rows.
    pub embedding_multiplier: f32,
    /// Scales the logits.
    pub lm_head_multiplier: f32,
    /// Scales the keys.
    pub key_multiplier: f32,
    /// Scales the input of the attention branch.
    pub attention_in_multiplier: f32,
    /// Scales the output of the attention branch.
    pub attention_out_multiplier: f32,
    /// Scales the input of the Mamba branch.
    pub ssm_in_multiplier: f32,
    /// Scales the output of the Mamba branch.
    pub ssm_out_multiplier: f32,
    /// Scale the slices z, x, B, C, dt of the Mamba branch's input projection.
    pub ssm_multipliers: [f32; 5],
    /// Scale the gate's output and the feed-forward output.
    pub mlp_multipliers: [f32; 2],
    /// Which projections have a bias.
    pub biases: Biases,
    /// config.json's own end-of-text ids (generation_config.json may name more).
    pub eos_ids: Vec<u32>,
}

/// Which projections have a bias. In published models only the convolution has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Biases {
    /// `self_attn.{q,k,v,o}_proj`.
    pub attention: bool,
    /// `feed_forward.{gate,up,down}_proj`.
    pub mlp: bool,
    /// `mamba.in_proj`.
    pub ssm_in: bool,
    /// `mamba.out_proj`.
    pub ssm_out: bool,
    /// `mamba.conv1d`.
    pub conv: bool,
}

impl Default for Biases {
    fn default() -> Self {
        Self {
            attention: false,
            mlp: false,
            ssm_in: false,
            ssm_out: false,
            conv: true,
        }
    }
}

impl Config {
    /// Reads the text of a `config.json`; `file` is what errors name. Python's `NaN` and `Infinity` literals
    /// are understood.
    ///
    /// # Errors
    /// Another architecture, a missing, impossible or unsupported field: one sentence that names it.
    pub fn from_json(text: &str, file: &Path) -> Result<Self, ModelError> {
        Ok(Parsed::from_json(text, file)?.config)
    }

    /// Rows of the Mamba branch's input projection: z, x, B, C, dt.
    pub fn in_proj_rows(&self) -> usize {
        self.d_ssm + self.conv_channels() + self.ssm_heads
    }

    /// Channels that pass the causal convolution: x, B, C.
    pub fn conv_channels(&self) -> usize {
        self.d_ssm + 2 * self.groups * self.d_state
    }

    /// Rows of the query projection.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Rows of the key projection, and of the value projection.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Number of weights, biases included, a tied matrix counted once.
    pub fn parameters(&self) -> u64 {
        let n = |x: usize| x as u64;
        let bias = |present: bool, rows: usize| if present { n(rows) } else { 0 };
        let (h, f, b) = (n(self.hidden), n(self.intermediate), self.biases);
        let (q, kv) = (n(self.q_width()), n(self.kv_width()));
        let channels = n(self.conv_channels());
        let attention =
            2 * h * q + 2 * h * kv + bias(b.attention, self.q_width() + 2 * self.kv_width() + self.hidden);
        let mamba = n(self.in_proj_rows()) * h
            + h * n(self.d_ssm)
            + channels * n(self.d_conv)
            + bias(b.conv, self.conv_channels())
            + bias(b.ssm_in, self.in_proj_rows())
            + bias(b.ssm_out, self.hidden)
            + 3 * n(self.ssm_heads)
            + bias(self.gated_norm, self.d_ssm);
        let mlp = 3 * h * f + bias(b.mlp, 2 * self.intermediate + self.hidden);
        let layer = attention + mamba + mlp + 2 * h;
        let matrices = if self.tied { 1 } else { 2 };
        n(self.layers) * layer + matrices * n(self.vocab) * h + h
    }

    /// The shape of a published model, for benchmarks on random weights: `falcon-h1-0.5b`, `falcon-h1-1.5b`,
    /// `falcon-h1-1.5b-deep`, `falcon-h1-3b`, `falcon-h1-7b` (also `falcon-h1r-7b`), `falcon-h1-34b`,
    /// `tiny-90m`. A multiplier that is not publicly known is 1: speed does not depend on it.
    pub fn named(shape: &str) -> Option<Self> {
        shapes::named(shape)
    }

    /// The names that [`Config::named`] knows.
    pub fn names() -> &'static [&'static str] {
        shapes::NAMES
    }

    /// Everything that changes the arithmetic, one `key=value` a line, for digests: stable over versions of
    /// this program and over spellings of config.json.
    pub(crate) fn canonical(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let mut put = |key: &str, value: &dyn std::fmt::Debug| {
            let _ = writeln!(text, "{key}={value:?}");
        };
        put("hidden", &self.hidden);
        put("layers", &self.layers);
        put("heads", &self.heads);
        put("kv_heads", &self.kv_heads);
        put("head_dim", &self.head_dim);
        put("intermediate", &self.intermediate);
        put("vocab", &self.vocab);
        put("d_ssm", &self.d_ssm);
        put("ssm_heads", &self.ssm_heads);
        put("d_state", &self.d_state);
        put("groups", &self.groups);
        put("d_conv", &self.d_conv);
        put("norm_eps", &self.norm_eps);
        put("rope_theta", &self.rope_theta);
        put("tied", &self.tied);
        put("gated_norm", &self.gated_norm);
        put("norm_before_gate", &(self.gated_norm && self.norm_before_gate));
        put("time_step_limit", &self.time_step_limit);
        put("embedding", &self.embedding_multiplier);
        put("lm_head", &self.lm_head_multiplier);
        put("key", &self.key_multiplier);
        put("attention_in", &self.attention_in_multiplier);
        put("attention_out", &self.attention_out_multiplier);
        put("ssm_in", &self.ssm_in_multiplier);
        put("ssm_out", &self.ssm_out_multiplier);
        put("ssm", &self.ssm_multipliers);
        put("mlp", &self.mlp_multipliers);
        text
    }

    /// Refuses shapes that cannot be: zero or absurd sizes, heads that do not divide, multipliers that are
    /// not numbers.
    pub(crate) fn check(&self, file: &Path, naming: &Naming) -> Result<(), ModelError> {
        let bad = |field: &str, problem: String| Err(ModelError::field(file, field, problem));
        for (value, field, most) in [
            (self.hidden, naming.hidden, 1 << 20),
            (self.layers, naming.layers, 1 << 12),
            (self.heads, naming.heads, 1 << 16),
            (self.kv_heads, naming.kv_heads, 1 << 16),
            (self.head_dim, naming.head_dim, 1 << 16),
            (self.intermediate, naming.intermediate, 1 << 22),
            (self.vocab, naming.vocab, 1 << 24),
            (self.d_ssm, naming.d_ssm, 1 << 22),
            (self.ssm_heads, naming.ssm_heads, 1 << 20),
            (self.ssm_head_dim, naming.ssm_head_dim, 1 << 20),
            (self.d_state, naming.d_state, 1 << 16),
            (self.groups, naming.groups, 1 << 16),
            (self.d_conv, naming.d_conv, 1 << 10),
            (self.max_positions, naming.max_positions, 1 << 32),
        ] {
            if value == 0 || value > most {
                return bad(field, format!("is {value}: it must be between 1 and {most}"));
            }
        }
        let divides = [
            (self.kv_heads, naming.kv_heads, self.heads, naming.heads),
            (self.groups, naming.groups, self.ssm_heads, naming.ssm_heads),
            (self.groups, naming.groups, self.d_ssm, naming.d_ssm),
        ];
        for (part, part_field, whole, whole_field) in divides {
            if whole % part != 0 {
                return bad(
                    part_field,
                    format!("is {part}, which does not divide {whole_field} ({whole})"),
                );
            }
        }
        if self.ssm_heads * self.ssm_head_dim != self.d_ssm {
            return bad(
                naming.ssm_head_dim,
                format!(
                    "is {}, but {} ({}) times it must be {} ({})",
                    self.ssm_head_dim, naming.ssm_heads, self.ssm_heads, naming.d_ssm, self.d_ssm
                ),
            );
        }
        if !self.head_dim.is_multiple_of(2) {
            return bad(
                naming.head_dim,
                format!("is {}: the rotary embedding needs an even one", self.head_dim),
            );
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return bad(
                naming.norm_eps,
                format!("is {}: it must be a small number, not negative", self.norm_eps),
            );
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return bad(
                naming.rope_theta,
                format!("is {}: it must be a positive number", self.rope_theta),
            );
        }
        let (low, high) = self.time_step_limit;
        if low.is_nan() || high.is_nan() || low > high || low == f32::INFINITY || high < 0.0 {
            return bad(
                "time_step_limit",
                format!("is [{low}, {high}]: it must be a lower and an upper bound"),
            );
        }
        for (value, field) in [
            (self.embedding_multiplier, "embedding_multiplier"),
            (self.lm_head_multiplier, "lm_head_multiplier"),
            (self.key_multiplier, "key_multiplier"),
            (self.attention_in_multiplier, "attention_in_multiplier"),
            (self.attention_out_multiplier, "attention_out_multiplier"),
            (self.ssm_in_multiplier, "ssm_in_multiplier"),
            (self.ssm_out_multiplier, "ssm_out_multiplier"),
        ]
        .into_iter()
        .chain(self.ssm_multipliers.map(|m| (m, "ssm_multipliers")))
        .chain(self.mlp_multipliers.map(|m| (m, "mlp_multipliers")))
        {
            if !value.is_finite() {
                return bad(field, format!("is {value}: it must be a finite number"));
            }
        }
        Ok(())
    }
}

/// What a file calls the fields that [`Config::check`] may complain about.
pub(crate) struct Naming {
    pub(crate) hidden: &'static str,
    pub(crate) layers: &'static str,
    pub(crate) heads: &'static str,
    pub(crate) kv_heads: &'static str,
    pub(crate) head_dim: &'static str,
    pub(crate) intermediate: &'static str,
    pub(crate) vocab: &'static str,
    pub(crate) d_ssm: &'static str,
    pub(crate) ssm_heads: &'static str,
    pub(crate) ssm_head_dim: &'static str,
    pub(crate) d_state: &'static str,
    pub(crate) groups: &'static str,
    pub(crate) d_conv: &'static str,
    pub(crate) max_positions: &'static str,
    pub(crate) norm_eps: &'static str,
    pub(crate) rope_theta: &'static str,
}
