//! Qwen3-Next and Qwen3.5 (Qwen team, 2025 and 2026; the rule: arXiv 2412.06464, the output gate: arXiv
//! 2505.06708): three of four layers are the gated delta rule, the fourth is attention with an output gate whose
//! heads are rotated in part; then gated feed-forward, or a mixture of experts beside one that all positions pass.

use super::common::{
    ENDS, ExpertKeys, Experts, Lines, Rope, Sizes, Stored, attention_names, check_activation, check_bounds,
    expert_names, feed_forward_names, refuse,
};
use super::{Architecture, GgufNames, GgufSource, Tensors, qwen3_moe};
use crate::error::ModelError;
use crate::json::Fields;
use crate::spec::{
    DecaySpec, GatedDeltaSpec, KeySharing, LinearSpec, Mixer, MlpInput, MlpSpec, ModelSpec, NormSpec,
    Residual, Routing, RowPiece, SharedExpert,
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "qwen3_5",
    title: "Qwen3.5",
    models: "Qwen3.5, Qwen3.6",
    checked: "transformers on a small random model; no published weights",
    paper: "arXiv 2412.06464",
    aliases: &["qwen3_5_text"],
    classes: &["Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"],
    gguf: &["qwen35"],
    from_config: |json, tensors| from_config("qwen3_5", json, tensors),
    from_gguf: |source| from_gguf("qwen3_5", source),
    gguf_names: NAMES,
    // the text model of a larger one, which reads pictures and predicts several tokens
    prefixes: &[
        ("model.language_model.", Some("model.")),
        ("model.visual.", None),
        ("mtp.", None),
    ],
    bias_flag: |name| name.contains(".self_attn.").then_some("attention_bias"),
    folds_multipliers: false,
    shapes: Vec::new,
};

pub(super) const MOE: Architecture = Architecture {
    name: "qwen3_5_moe",
    title: "Qwen3.5-MoE",
    models: "Qwen3.5-35B-A3B, Qwen3.6-35B-A3B",
    aliases: &["qwen3_5_moe_text"],
    classes: &["Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"],
    gguf: &["qwen35moe"],
    from_config: |json, tensors| from_config("qwen3_5_moe", json, tensors),
    from_gguf: |source| from_gguf("qwen3_5_moe", source),
    ..ARCHITECTURE
};

pub(super) const NEXT: Architecture = Architecture {
    name: "qwen3_next",
    title: "Qwen3-Next",
    models: "Qwen3-Next",
    checked: "transformers on a small random model; no published weights",
    aliases: &[],
    classes: &["Qwen3NextForCausalLM"],
    gguf: &["qwen3next"],
    from_config: |json, tensors| from_config("qwen3_next", json, tensors),
    from_gguf: |source| from_gguf("qwen3_next", source),
    ..ARCHITECTURE
};

const NAMES: GgufNames = GgufNames {
    top: ENDS,
    layers: "model.layers",
    layer: &[
        attention_names!("input_layernorm.weight", "self_attn"),
        &[("post_attention_norm.weight", "post_attention_layernorm.weight")],
        feed_forward_names!("post_attention_layernorm.weight", "mlp"),
        expert_names!("mlp.experts", "mlp.gate.weight"),
        &[
            ("attn_q_norm.weight", "self_attn.q_norm.weight"),
            ("attn_k_norm.weight", "self_attn.k_norm.weight"),
            ("attn_qkv.weight", "linear_attn.in_proj_qkv.weight"),
            ("attn_gate.weight", "linear_attn.in_proj_z.weight"),
            ("ssm_alpha.weight", "linear_attn.in_proj_a.weight"),
            ("ssm_beta.weight", "linear_attn.in_proj_b.weight"),
            ("ssm_ba.weight", "linear_attn.in_proj_ba.weight"),
            ("ssm_conv1d.weight", "linear_attn.conv1d.weight"),
            ("ssm_a", "linear_attn.A"),
            ("ssm_dt.bias", "linear_attn.dt_bias"),
            ("ssm_norm.weight", "linear_attn.norm.weight"),
            ("ssm_out.weight", "linear_attn.out_proj.weight"),
            ("ffn_gate_shexp.weight", "mlp.shared_expert.gate_proj.weight"),
            ("ffn_up_shexp.weight", "mlp.shared_expert.up_proj.weight"),
            ("ffn_down_shexp.weight", "mlp.shared_expert.down_proj.weight"),
            ("ffn_gate_inp_shexp.weight", "mlp.shared_expert_gate.weight"),
        ],
    ],
};

const KEYS: ExpertKeys = ExpertKeys {
    count: &["num_experts", "num_local_experts"],
    active: "num_experts_per_tok",
    width: "moe_intermediate_size",
};

/// How the projections of the delta rule are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Projections {
    /// Queries, keys and values in one tensor, and z in another.
    Apart,
    /// For each key its query, itself, its values and their z.
    ByKey,
}

struct Model {
    sizes: Sizes,
    rope: Rope,
    /// which layers are attention
    attention: Vec<bool>,
    gated: bool,
    attention_bias: bool,
    key_heads: usize,
    value_heads: usize,
    key_dim: usize,
    value_dim: usize,
    taps: usize,
    projections: Projections,
    /// whether strengths and steps are one tensor, key by key
    strengths_by_key: bool,
    sharing: KeySharing,
    /// norms hold their weight less 1, and A its logarithm, as in folders
    of_folder: bool,
    /// width of feed-forward parts
    width: usize,
    experts: Option<Mixture>,
}

/// Experts, and which layers have them.
struct Mixture {
    experts: Experts,
    layers: Vec<bool>,
    /// width of the part beside them, 0 where there is none
    shared: usize,
}

fn from_config(
    name: &'static str,
    json: &Fields<'_>,
    tensors: &Tensors<'_>,
) -> Result<ModelSpec, ModelError> {
    refuse(json, &["quantization_config", "compression_config"])?;
    let inner = json.object("text_config")?;
    let json = inner.as_ref().unwrap_or(json);
    check_activation(json, "hidden_act", &["silu", "swish"])?;
    refuse(json, &["sliding_window"])?;
    let sizes = Sizes::of_config(json, tensors, Some(256), "rms_norm_eps")?;
    let size = |key: &str, default: usize| Ok::<_, ModelError>(json.size(key)?.unwrap_or(default));
    let experts = if name == ARCHITECTURE.name {
        None
    } else {
        Some(mixture(name, json, tensors)?)
    };
    let width = match &experts {
        Some(mixture) if !mixture.layers.contains(&false) => mixture.experts.width,
        _ => json.required_size("intermediate_size")?,
    };
    let mut rope = Rope::of_config(json, 10_000_000.0, sizes.context)?;
    if !states_partial(json)? {
        rope = rope.turning(0.25);
    }
    let by_key = |part: &str| tensors.any(&format!("linear_attn.{part}.weight"));
    let model = Model {
        attention: attention_layers(json, sizes.layers)?,
        rope,
        gated: json.flag("attn_output_gate")?.unwrap_or(true),
        attention_bias: json.flag("attention_bias")?.unwrap_or(false),
        key_heads: size("linear_num_key_heads", 16)?,
        value_heads: size("linear_num_value_heads", 32)?,
        key_dim: size("linear_key_head_dim", 128)?,
        value_dim: size("linear_value_head_dim", 128)?,
        taps: size("linear_conv_kernel_dim", 4)?,
        projections: if by_key("in_proj_qkvz") {
            Projections::ByKey
        } else {
            Projections::Apart
        },
        strengths_by_key: by_key("in_proj_ba"),
        sharing: KeySharing::Consecutive,
        of_folder: true,
        width,
        experts,
        sizes,
    };
    model.check(
        json.file(),
        [
            "linear_num_key_heads",
            "linear_num_value_heads",
            "linear_key_head_dim",
            "linear_value_head_dim",
            "linear_conv_kernel_dim",
            "intermediate_size",
        ],
    )?;
    Ok(model.spec(name))
}

/// Whether a configuration says which part of a head is rotated; a quarter is, where it does not.
fn states_partial(json: &Fields<'_>) -> Result<bool, ModelError> {
    let key = "partial_rotary_factor";
    for outer in ["rope_parameters", "rope_scaling"] {
        if json.object(outer)?.is_some_and(|rope| rope.get(key).is_some()) {
            return Ok(true);
        }
    }
    Ok(json.get(key).is_some())
}

fn mixture(name: &str, json: &Fields<'_>, tensors: &Tensors<'_>) -> Result<Mixture, ModelError> {
    // Qwen3.5 has no choice here
    let renormalise = name == MOE.name || json.flag("norm_topk_prob")?.unwrap_or(true);
    let stored = if tensors.any(".mlp.experts.gate_up_proj") {
        Stored::Fused
    } else {
        Stored::Each
    };
    let experts = Experts::of_config(json, &KEYS, Routing::Softmax { renormalise }, stored)?;
    let experts = experts.ok_or_else(|| json.error(KEYS.count[0], "is missing or 0"))?;
    let shared = json.size("shared_expert_intermediate_size")?.unwrap_or(0);
    if shared > 1 << 22 {
        let problem = format!("is {shared}: it must be at most {}", 1 << 22);
        return Err(json.error("shared_expert_intermediate_size", problem));
    }
    Ok(Mixture {
        experts,
        layers: qwen3_moe::sparse(json)?,
        shared,
    })
}

/// Which layers are attention: `layer_types`, or every `full_attention_interval`-th.
fn attention_layers(json: &Fields<'_>, layers: usize) -> Result<Vec<bool>, ModelError> {
    if let Some(kinds) = json.get("layer_types") {
        let kind = |kind: &serde_json::Value| match kind.as_str() {
            Some("linear_attention") => Ok(false),
            Some("full_attention") => Ok(true),
            _ => Err(json.error(
                "layer_types",
                format!("has {kind}: layers are \"linear_attention\" and \"full_attention\""),
            )),
        };
        let kinds = kinds.as_array().map(Vec::as_slice).unwrap_or_default();
        if kinds.len() != layers {
            let problem = format!("must be a list of {layers} words, one for each layer");
            return Err(json.error("layer_types", problem));
        }
        return kinds.iter().map(kind).collect();
    }
    let interval = json.size("full_attention_interval")?.unwrap_or(4);
    if interval == 0 {
        return Err(json.error("full_attention_interval", "is 0"));
    }
    Ok((1..=layers).map(|layer| layer.is_multiple_of(interval)).collect())
}

fn from_gguf(name: &'static str, source: &GgufSource<'_>) -> Result<ModelSpec, ModelError> {
    let key = |name: &str| source.key(name);
    let sizes = Sizes::of_gguf(source, None, "model.embed_tokens.weight")?;
    let has = |i: usize, part: &str| source.tensors.has(&format!("model.layers.{i}.{part}.weight"));
    let keys = [
        "ssm.group_count",
        "ssm.time_step_rank",
        "ssm.state_size",
        "ssm.inner_size",
        "ssm.conv_kernel",
    ]
    .map(key);
    let [key_heads, value_heads, key_dim, inner, taps] = keys.each_ref().map(|key| source.size(key));
    let (value_heads, inner) = (value_heads?, inner?);
    if value_heads == 0 || !inner.is_multiple_of(value_heads) {
        let problem = format!("is {inner}, which {value_heads} heads do not divide");
        return Err(source.error(&keys[3], problem));
    }
    let experts = Experts::of_gguf(source, Routing::Softmax { renormalise: true })?;
    if experts.is_some() == (name == ARCHITECTURE.name) {
        return Err(source.error(&key("expert_count"), "does not fit the architecture"));
    }
    let shared = source.optional(&key("expert_shared_feed_forward_length"))?;
    let experts = experts.map(|experts| Mixture {
        layers: (0..sizes.layers).map(|i| has(i, "mlp.gate")).collect(),
        shared: shared.unwrap_or(0).min(1 << 22),
        experts,
    });
    let width = match &experts {
        Some(mixture) if !mixture.layers.contains(&false) => mixture.experts.width,
        _ => source.size(&key("feed_forward_length"))?,
    };
    let model = Model {
        rope: Rope::of_gguf(source, sizes.head_dim)?,
        attention: (0..sizes.layers).map(|i| has(i, "self_attn.q_proj")).collect(),
        gated: (0..sizes.layers).any(|i| {
            let rows = source
                .tensors
                .rows(&format!("model.layers.{i}.self_attn.q_proj.weight"));
            rows == Some(2 * sizes.heads * sizes.head_dim)
        }),
        attention_bias: source.tensors.any(".q_proj.bias"),
        key_heads: key_heads?,
        value_heads,
        key_dim: key_dim?,
        value_dim: inner / value_heads,
        taps: taps?,
        projections: Projections::Apart,
        strengths_by_key: source.tensors.any("linear_attn.in_proj_ba.weight"),
        sharing: if name == NEXT.name {
            KeySharing::Consecutive
        } else {
            KeySharing::Interleaved
        },
        of_folder: false,
        width,
        experts,
        sizes,
    };
    let names = [
        &keys[0],
        &keys[1],
        &keys[2],
        &keys[3],
        &keys[4],
        &key("feed_forward_length"),
    ];
    model.check(source.path, names.map(String::as_str))?;
    Ok(model.spec(name))
}

impl Model {
    fn check(&self, file: &std::path::Path, names: [&str; 6]) -> Result<(), ModelError> {
        let [keys, values, key_dim, value_dim, taps, width] = names;
        check_bounds(
            file,
            &[
                (self.key_heads, keys, 1 << 12),
                (self.value_heads, values, 1 << 12),
                (self.key_dim, key_dim, 1 << 12),
                (self.value_dim, value_dim, 1 << 12),
                (self.taps, taps, 1 << 10),
                (self.width, width, 1 << 22),
            ],
        )?;
        if !self.value_heads.is_multiple_of(self.key_heads) {
            let problem = format!(
                "is {}, which {} keys do not divide",
                self.value_heads, self.key_heads
            );
            return Err(ModelError::field(file, values, problem));
        }
        Ok(())
    }

    fn norm(&self, tensor: String) -> NormSpec {
        NormSpec {
            zero_centered: self.of_folder,
            ..self.sizes.norm(tensor)
        }
    }

    fn spec(&self, architecture: &'static str) -> ModelSpec {
        let sizes = &self.sizes;
        let layer = |i: usize| {
            let name = |part: &str| format!("model.layers.{i}.{part}");
            let mixer = if self.attention[i] {
                self.attention(&name("self_attn"))
            } else {
                Mixer::GatedDelta(self.delta(&name("linear_attn")))
            };
            let experts = self.experts.as_ref().filter(|mixture| mixture.layers[i]);
            let feed_forward = match experts {
                Some(mixture) => self.moe(mixture, &name("mlp")),
                None => Mixer::Mlp(self.mlp(&name("mlp"), self.width)),
            };
            vec![
                Residual::of(self.norm(name("input_layernorm.weight")), mixer),
                Residual::of(self.norm(name("post_attention_layernorm.weight")), feed_forward),
            ]
        };
        ModelSpec {
            norm: self.norm("model.norm.weight".to_owned()),
            ropes: vec![self.rope.table(sizes.head_dim)],
            layers: (0..sizes.layers).map(layer).collect(),
            arithmetic: format!("family={architecture}\n{}", self.lines().0),
            ..sizes.model(architecture)
        }
    }

    fn lines(&self) -> Lines {
        let mut lines = self.sizes.lines();
        lines
            .put("intermediate", &self.width)
            .put("rope", &self.rope)
            .put("attention_layers", &self.attention)
            .put("output_gate", &self.gated)
            .put("biases", &self.attention_bias)
            .put("delta_heads", &(self.key_heads, self.value_heads))
            .put("delta_widths", &(self.key_dim, self.value_dim))
            .put("taps", &self.taps);
        if let Some(Mixture {
            experts,
            layers,
            shared,
        }) = &self.experts
        {
            lines.put("experts", &(experts.count, experts.active, experts.width, shared));
            lines
                .put("routing", &experts.routing)
                .put("expert_layers", layers);
        }
        lines
    }

    fn attention(&self, prefix: &str) -> Mixer {
        let (heads, width) = (self.sizes.heads, self.sizes.head_dim);
        let mut attention = self.sizes.attention(prefix, [self.attention_bias; 2]);
        if self.gated {
            // for each head its query, then its gate
            let part = |first: usize| {
                let piece = RowPiece {
                    first,
                    width,
                    stride: 2 * width,
                    count: heads,
                };
                attention.q.clone().pieces(2 * heads * width, vec![piece])
            };
            (attention.gate, attention.q) = (Some(part(width)), part(0));
        }
        attention.q_norm = Some(self.norm(format!("{prefix}.q_norm.weight")));
        attention.k_norm = Some(self.norm(format!("{prefix}.k_norm.weight")));
        attention.rope = Some(0);
        Mixer::Attention(attention)
    }

    fn delta(&self, prefix: &str) -> GatedDeltaSpec {
        let (hidden, keys, heads) = (self.sizes.hidden, self.key_heads, self.value_heads);
        // values of a key
        let shared = heads / keys;
        let values = shared * self.value_dim;
        let name = |part: &str| format!("{prefix}.{part}");
        let linear = |part: &str, rows| LinearSpec::new(name(&format!("{part}.weight")), rows, hidden);
        // pieces of `sizes` of each key's rows, counted from the first of them
        let by_key = |part: &str, total: usize, pieces: &[(usize, usize)]| {
            let piece = |(first, width): &(usize, usize)| RowPiece {
                first: *first,
                width: *width,
                stride: total,
                count: keys,
            };
            let rows = keys * pieces.iter().map(|(_, width)| width).sum::<usize>();
            linear(part, rows).pieces(keys * total, pieces.iter().map(piece).collect())
        };
        let (width, channels) = (
            heads * self.value_dim,
            2 * keys * self.key_dim + heads * self.value_dim,
        );
        let (qkv, z) = match self.projections {
            Projections::Apart => (linear("in_proj_qkv", channels), linear("in_proj_z", width)),
            Projections::ByKey => {
                let (key, total) = (self.key_dim, 2 * (self.key_dim + values));
                (
                    by_key("in_proj_qkvz", total, &[(0, key), (key, key), (2 * key, values)]),
                    by_key("in_proj_qkvz", total, &[(2 * key + values, values)]),
                )
            }
        };
        let (b, a) = if self.strengths_by_key {
            (
                by_key("in_proj_ba", 2 * shared, &[(0, shared)]),
                by_key("in_proj_ba", 2 * shared, &[(shared, shared)]),
            )
        } else {
            (linear("in_proj_b", heads), linear("in_proj_a", heads))
        };
        GatedDeltaSpec {
            key_heads: keys,
            key_dim: self.key_dim,
            heads,
            head_dim: self.value_dim,
            sharing: self.sharing,
            taps: self.taps,
            qkv,
            z,
            b,
            a,
            out_proj: LinearSpec::new(name("out_proj.weight"), hidden, width),
            conv: name("conv1d.weight"),
            decay: if self.of_folder {
                DecaySpec::Log(name("A_log"))
            } else {
                DecaySpec::Rate(name("A"))
            },
            dt_bias: name("dt_bias"),
            norm: self.sizes.norm(name("norm.weight")),
        }
    }

    fn mlp(&self, prefix: &str, width: usize) -> MlpSpec {
        let hidden = self.sizes.hidden;
        let linear = |part: &str, rows, columns| {
            LinearSpec::new(format!("{prefix}.{part}_proj.weight"), rows, columns)
        };
        MlpSpec {
            width,
            input: MlpInput::SwiGlu {
                gate: linear("gate", width, hidden),
                up: linear("up", width, hidden),
            },
            down: linear("down", hidden, width),
        }
    }

    fn moe(&self, mixture: &Mixture, prefix: &str) -> Mixer {
        let Mixture { experts, shared, .. } = mixture;
        let tensor = experts.names(format!("{prefix}.experts"));
        let hidden = self.sizes.hidden;
        let shared = (*shared > 0).then(|| SharedExpert {
            mlp: self.mlp(&format!("{prefix}.shared_expert"), *shared),
            gate: Some(LinearSpec::new(
                format!("{prefix}.shared_expert_gate.weight"),
                1,
                hidden,
            )),
        });
        let router = format!("{prefix}.gate.weight");
        Mixer::Moe(experts.spec(hidden, router, true, tensor, shared))
    }
}
