//! Falcon-H1 (arXiv 2507.22448) and Falcon-H1R (arXiv 2601.02346): every layer has an attention branch and a
//! Mamba-2 branch on the same normed input, then a gated feed-forward part. A dozen multipliers scale inputs
//! and outputs of the products.
//!
//! The arithmetic is that of transformers' `modeling_falcon_h1.py`. GGUF files, as llama.cpp writes them,
//! have the multipliers folded into the weights.

mod config_json;
mod gguf;
mod shapes;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::common::{attention_names, feed_forward_names, mamba_names};
use super::{Architecture, GgufNames, Tensors};
use crate::error::ModelError;
use crate::json::Fields;
use crate::spec::{
    AttentionSpec, BiasSpec, DecaySpec, EmbedSpec, GatedNormSpec, HeadSpec, LinearSpec, Mamba2Spec, Mixer,
    MlpInput, MlpSpec, ModelSpec, NormSpec, Residual, RopeSpec,
};
use config_json::Parsed;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "falcon_h1",
    title: "Falcon-H1",
    models: "Falcon-H1, Falcon-H1R, Falcon-H1-Tiny",
    checked: "transformers and a float64 recurrence on small random models; no published weights",
    paper: "arXiv 2507.22448",
    aliases: &[],
    classes: &["FalconH1ForCausalLM"],
    gguf: &["falcon-h1"],
    from_config,
    from_gguf: gguf::spec,
    gguf_names: GgufNames {
        top: &[
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("output.weight", "lm_head.weight"),
            ("output_norm.weight", "model.final_layernorm.weight"),
        ],
        layers: "model.layers",
        layer: &[
            attention_names!("input_layernorm.weight", "self_attn"),
            mamba_names!("mamba"),
            // this name of the norm is what converters write
            &[("ffn_norm", "pre_ff_layernorm.weight")],
            feed_forward_names!("pre_ff_layernorm.weight", "feed_forward"),
        ],
    },
    prefixes: &[],
    bias_flag,
    folds_multipliers: true,
    shapes: shapes::all,
};

/// A config.json, with what only the tensors can say.
fn from_config(json: &Fields<'_>, tensors: &Tensors<'_>) -> Result<ModelSpec, ModelError> {
    let Parsed {
        mut config,
        states_tie,
        wants_norm,
        ..
    } = Parsed::read(json)?;
    // Without a word about tying, the tensors decide; so they do about the norm, whose flag is not reliable.
    if !states_tie && !tensors.has("lm_head.weight") {
        config.tied = true;
    }
    config.gated_norm = wants_norm || tensors.any(".mamba.norm.weight");
    Ok(config.spec(false))
}

/// The flag that says whether a bias is there.
fn bias_flag(name: &str) -> Option<&'static str> {
    Some(match name {
        n if n.ends_with("conv1d.bias") => "mamba_conv_bias",
        n if n.contains(".self_attn.") => "attention_bias",
        n if n.contains(".feed_forward.") => "mlp_bias",
        n if n.contains(".in_proj.") => "mamba_proj_bias",
        _ => "projectors_bias",
    })
}

/// Shapes and scalars of one Falcon-H1 model.
#[derive(Clone, Debug, PartialEq)]
struct Config {
    /// Width of the residual stream.
    hidden: usize,
    /// Number of blocks.
    layers: usize,
    /// Query heads.
    heads: usize,
    /// Key and value heads; divides `heads`.
    kv_heads: usize,
    /// Width of one attention head; `heads * head_dim` need not be `hidden`.
    head_dim: usize,
    /// Width of the feed-forward part.
    intermediate: usize,
    /// Rows of the embedding and of the output matrix (padding included).
    vocab: usize,
    /// Width of the Mamba branch: `ssm_heads * ssm_head_dim`.
    d_ssm: usize,
    /// Mamba heads.
    ssm_heads: usize,
    /// Width of one Mamba head.
    ssm_head_dim: usize,
    /// State size per channel.
    d_state: usize,
    /// Groups that share B and C; divides `ssm_heads`.
    groups: usize,
    /// Taps of the causal convolution.
    d_conv: usize,
    /// Epsilon of every RMS norm.
    norm_eps: f32,
    /// Base of the rotary embedding.
    rope_theta: f64,
    /// The longest context that the model was made for.
    max_positions: usize,
    /// The output matrix is the embedding.
    tied: bool,
    /// The Mamba branch has a gated, grouped RMS norm.
    gated_norm: bool,
    /// That norm comes before the multiplication with silu(z) (published models: after).
    norm_before_gate: bool,
    /// Bounds of the step after softplus; `(0, inf)` clamps nothing.
    time_step_limit: (f32, f32),
    /// Scales the embedding rows.
    embedding_multiplier: f32,
    /// Scales the logits.
    lm_head_multiplier: f32,
    /// Scales the keys.
    key_multiplier: f32,
    /// Scales the input of the attention branch.
    attention_in_multiplier: f32,
    /// Scales the output of the attention branch.
    attention_out_multiplier: f32,
    /// Scales the input of the Mamba branch.
    ssm_in_multiplier: f32,
    /// Scales the output of the Mamba branch.
    ssm_out_multiplier: f32,
    /// Scale the slices z, x, B, C, dt of the Mamba branch's input projection.
    ssm_multipliers: [f32; 5],
    /// Scale the gate's output and the feed-forward output.
    mlp_multipliers: [f32; 2],
    /// Which projections have a bias.
    biases: Biases,
    /// config.json's own end-of-text ids (generation_config.json may name more).
    eos_ids: Vec<u32>,
}

/// Which projections have a bias. In published models only the convolution has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Biases {
    /// `self_attn.{q,k,v,o}_proj`.
    attention: bool,
    /// `feed_forward.{gate,up,down}_proj`.
    mlp: bool,
    /// `mamba.in_proj`.
    ssm_in: bool,
    /// `mamba.out_proj`.
    ssm_out: bool,
    /// `mamba.conv1d`.
    conv: bool,
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
    /// Rows of the Mamba branch's input projection: z, x, B, C, dt.
    fn in_proj_rows(&self) -> usize {
        self.d_ssm + self.conv_channels() + self.ssm_heads
    }

    /// Channels that pass the causal convolution: x, B, C.
    fn conv_channels(&self) -> usize {
        self.d_ssm + 2 * self.groups * self.d_state
    }

    /// Rows of the query projection.
    fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Rows of the key projection, and of the value projection.
    fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The model as data. `folded`: A stands in place of A_log, as in GGUF files.
    fn spec(&self, folded: bool) -> ModelSpec {
        let norm = |tensor: String| NormSpec {
            tensor,
            eps: self.norm_eps,
            zero_centered: false,
        };
        let layer = |i: usize| {
            let name = |part: &str| format!("model.layers.{i}.{part}");
            let input = Residual {
                norm: norm(name("input_layernorm.weight")),
                mixers: vec![
                    Mixer::Attention(self.attention(&name)),
                    Mixer::Mamba2(self.mamba(&name, folded)),
                ],
                scale: 1.0,
            };
            let mlp = Mixer::Mlp(self.mlp(&name));
            vec![input, Residual::of(norm(name("pre_ff_layernorm.weight")), mlp)]
        };
        ModelSpec {
            architecture: ARCHITECTURE.name,
            hidden: self.hidden,
            vocab: self.vocab,
            context: self.max_positions,
            embed: EmbedSpec {
                tensor: "model.embed_tokens.weight".to_owned(),
                scale: self.embedding_multiplier,
            },
            ropes: vec![RopeSpec::plain(self.rope_theta, self.head_dim)],
            layers: (0..self.layers).map(layer).collect(),
            norm: norm("model.final_layernorm.weight".to_owned()),
            head: HeadSpec {
                tensor: (!self.tied).then(|| "lm_head.weight".to_owned()),
                scale: self.lm_head_multiplier,
            },
            eos: self.eos_ids.clone(),
            arithmetic: self.canonical(),
        }
    }

    fn attention(&self, name: &dyn Fn(&str) -> String) -> AttentionSpec {
        let linear = |part: &str, rows, columns| {
            LinearSpec::new(name(&format!("self_attn.{part}_proj.weight")), rows, columns)
                .biased(self.biases.attention, ", but attention_bias is true")
        };
        let (q, kv) = (self.q_width(), self.kv_width());
        let into = |linear: LinearSpec| linear.input(self.attention_in_multiplier);
        AttentionSpec {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            q: into(linear("q", q, self.hidden)),
            k: into(linear("k", kv, self.hidden)).output(self.key_multiplier),
            v: into(linear("v", kv, self.hidden)),
            o: linear("o", self.hidden, q).output(self.attention_out_multiplier),
            q_norm: None,
            k_norm: None,
            rope: Some(0),
            gate: None,
            sinks: None,
            window: None,
            scale: (self.head_dim as f32).powf(-0.5),
        }
    }

    fn mamba(&self, name: &dyn Fn(&str) -> String, folded: bool) -> Mamba2Spec {
        let sections = [
            self.d_ssm,
            self.d_ssm,
            self.groups * self.d_state,
            self.groups * self.d_state,
            self.ssm_heads,
        ];
        let mut in_proj = LinearSpec::new(name("mamba.in_proj.weight"), self.in_proj_rows(), self.hidden)
            .biased(self.biases.ssm_in, ", but mamba_proj_bias is true")
            .input(self.ssm_in_multiplier);
        in_proj.output_scales = sections.into_iter().zip(self.ssm_multipliers).collect();
        Mamba2Spec {
            heads: self.ssm_heads,
            head_dim: self.ssm_head_dim,
            d_state: self.d_state,
            groups: self.groups,
            taps: self.d_conv,
            in_proj,
            out_proj: LinearSpec::new(name("mamba.out_proj.weight"), self.hidden, self.d_ssm)
                .biased(self.biases.ssm_out, ", but projectors_bias is true")
                .output(self.ssm_out_multiplier),
            conv: name("mamba.conv1d.weight"),
            conv_bias: self.biases.conv.then(|| BiasSpec {
                tensor: name("mamba.conv1d.bias"),
                why: ", but mamba_conv_bias is true",
            }),
            decay: if folded {
                DecaySpec::Rate(name("mamba.A"))
            } else {
                DecaySpec::Log(name("mamba.A_log"))
            },
            skip: name("mamba.D"),
            dt_bias: name("mamba.dt_bias"),
            time_step_limit: self.time_step_limit,
            norm: self.gated_norm.then(|| GatedNormSpec {
                norm: NormSpec {
                    tensor: name("mamba.norm.weight"),
                    eps: self.norm_eps,
                    zero_centered: false,
                },
                before_gate: self.norm_before_gate,
                why: ", but its configuration or another layer has this norm",
            }),
        }
    }

    fn mlp(&self, name: &dyn Fn(&str) -> String) -> MlpSpec {
        let linear = |part: &str, rows, columns| {
            LinearSpec::new(name(&format!("feed_forward.{part}_proj.weight")), rows, columns)
                .biased(self.biases.mlp, ", but mlp_bias is true")
        };
        MlpSpec {
            width: self.intermediate,
            input: MlpInput::SwiGlu {
                gate: linear("gate", self.intermediate, self.hidden).output(self.mlp_multipliers[0]),
                up: linear("up", self.intermediate, self.hidden),
            },
            down: linear("down", self.hidden, self.intermediate).output(self.mlp_multipliers[1]),
        }
    }

    /// Everything that changes the arithmetic, one `key=value` a line, for digests: stable over versions of
    /// this program and over spellings of config.json.
    fn canonical(&self) -> String {
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
    fn check(&self, file: &Path, naming: &Naming) -> Result<(), ModelError> {
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
struct Naming {
    hidden: &'static str,
    layers: &'static str,
    heads: &'static str,
    kv_heads: &'static str,
    head_dim: &'static str,
    intermediate: &'static str,
    vocab: &'static str,
    d_ssm: &'static str,
    ssm_heads: &'static str,
    ssm_head_dim: &'static str,
    d_state: &'static str,
    groups: &'static str,
    d_conv: &'static str,
    max_positions: &'static str,
    norm_eps: &'static str,
    rope_theta: &'static str,
}
