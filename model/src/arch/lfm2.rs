//! LFM2 and LFM2.5 (arXiv 2511.23404): each layer is a gated short convolution or attention with normed
//! queries and keys, then gated feed-forward; with experts in place of the latter in LFM2-MoE.

use super::common::{ExpertKeys, Experts, Part, Rope, Sizes, Stored, attention_names, check_bounds, refuse};
use super::{Architecture, GgufNames, GgufSource, Tensors};
use crate::error::ModelError;
use crate::json::Fields;
use crate::spec::{
    BiasSpec, LinearSpec, Mixer, MlpInput, MlpSpec, ModelSpec, Residual, Routing, ShortConvSpec,
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "lfm2",
    title: "LFM2",
    models: "LFM2, LFM2.5",
    checked: "transformers on a small random model; no published weights",
    paper: "arXiv 2511.23404",
    aliases: &[],
    classes: &["Lfm2ForCausalLM"],
    gguf: &["lfm2"],
    from_config: |json, tensors| from_config("lfm2", json, tensors),
    from_gguf: |source| from_gguf("lfm2", source),
    gguf_names: NAMES,
    prefixes: &[],
    bias_flag: |name| name.contains(".conv.").then_some("conv_bias"),
    folds_multipliers: false,
    shapes: Vec::new,
};

pub(super) const MOE: Architecture = Architecture {
    name: "lfm2_moe",
    title: "LFM2-MoE",
    models: "LFM2-8B-A1B",
    classes: &["Lfm2MoeForCausalLM"],
    gguf: &["lfm2moe"],
    from_config: |json, tensors| from_config("lfm2_moe", json, tensors),
    from_gguf: |source| from_gguf("lfm2_moe", source),
    ..ARCHITECTURE
};

const NAMES: GgufNames = GgufNames {
    top: &[
        ("token_embd.weight", EMBEDDING),
        ("output.weight", "lm_head.weight"),
        ("token_embd_norm.weight", "model.embedding_norm.weight"),
    ],
    layers: "model.layers",
    layer: &[
        &[("attn_output.weight", "self_attn.out_proj.weight")],
        attention_names!("operator_norm.weight", "self_attn"),
        &[
            ("attn_q_norm.weight", "self_attn.q_layernorm.weight"),
            ("attn_k_norm.weight", "self_attn.k_layernorm.weight"),
            ("shortconv.in_proj.weight", "conv.in_proj.weight"),
            ("shortconv.in_proj.bias", "conv.in_proj.bias"),
            ("shortconv.out_proj.weight", "conv.out_proj.weight"),
            ("shortconv.out_proj.bias", "conv.out_proj.bias"),
            ("shortconv.conv.weight", "conv.conv.weight"),
            ("shortconv.conv.bias", "conv.conv.bias"),
            ("ffn_norm.weight", "ffn_norm.weight"),
            ("ffn_gate.weight", "feed_forward.w1.weight"),
            ("ffn_up.weight", "feed_forward.w3.weight"),
            ("ffn_down.weight", "feed_forward.w2.weight"),
            ("ffn_gate_inp.weight", "feed_forward.gate.weight"),
            ("exp_probs_b.bias", "feed_forward.expert_bias"),
            ("ffn_gate_exps.weight", "feed_forward.experts.w1.weight"),
            ("ffn_up_exps.weight", "feed_forward.experts.w3.weight"),
            ("ffn_down_exps.weight", "feed_forward.experts.w2.weight"),
        ],
    ],
};

const EMBEDDING: &str = "model.embed_tokens.weight";

const KEYS: ExpertKeys = ExpertKeys {
    count: &["num_experts", "num_local_experts"],
    active: "num_experts_per_tok",
    width: "moe_intermediate_size",
};

/// What the weights of chosen experts are divided by beside their sum.
const LEAST: f32 = 1e-6;

struct Model {
    sizes: Sizes,
    rope: Rope,
    /// whether a layer is attention
    attention: Vec<bool>,
    width: usize,
    taps: usize,
    conv_bias: bool,
    /// the experts, and how many layers before them have one feed-forward part
    experts: Option<(Experts, usize)>,
    corrected: bool,
}

fn from_config(
    name: &'static str,
    json: &Fields<'_>,
    tensors: &Tensors<'_>,
) -> Result<ModelSpec, ModelError> {
    refuse(json, &["sliding_window"])?;
    let mut sizes = Sizes::of_config(json, tensors, None, "norm_eps")?;
    sizes.tied = json
        .flag("tie_word_embeddings")?
        .or(json.flag("tie_embedding")?)
        .unwrap_or(!tensors.has("lm_head.weight"));
    let channels = json.size("conv_dim")?.unwrap_or(sizes.hidden);
    if channels != sizes.hidden {
        let problem = format!(
            "is {channels}: only as wide as hidden_size ({}) is supported",
            sizes.hidden
        );
        return Err(json.error("conv_dim", problem));
    }
    let taps = json.size("conv_L_cache")?.unwrap_or(3);
    check_bounds(json.file(), &[(taps, "conv_L_cache", 1 << 10)])?;
    let corrected = json.flag("use_expert_bias")?.unwrap_or(true);
    let routing = Routing::Sigmoid {
        correction: None,
        renormalise: json.flag("norm_topk_prob")?.unwrap_or(true).then_some(LEAST),
        scale: json.factor("routed_scaling_factor")?.unwrap_or(1.0) as f32,
    };
    let stored = if tensors.any(".experts.gate_up_proj") {
        Stored::Fused
    } else {
        Stored::Each
    };
    let experts = if name == MOE.name {
        let experts = Experts::of_config(json, &KEYS, routing, stored)?;
        let experts = experts.ok_or_else(|| json.error(KEYS.count[0], "is missing or 0"))?;
        Some((experts, json.size("num_dense_layers")?.unwrap_or(2)))
    } else {
        None
    };
    let width = width(json, experts.is_some())?;
    check_bounds(json.file(), &[(width, "intermediate_size", 1 << 22)])?;
    let model = Model {
        rope: Rope::of_config(json, 1_000_000.0, sizes.context)?,
        attention: attention_layers(json, sizes.layers)?,
        width,
        taps,
        conv_bias: json.flag("conv_bias")?.unwrap_or(false),
        experts,
        corrected,
        sizes,
    };
    Ok(model.spec(name))
}

/// The feed-forward width: LFM2 shortens what its configuration says by a third and rounds it up.
fn width(json: &Fields<'_>, experts: bool) -> Result<usize, ModelError> {
    if experts {
        return json.required_size("intermediate_size");
    }
    let width = match json.size("block_ff_dim")? {
        Some(width) => width,
        None => json.required_size("intermediate_size")?,
    };
    if !json.flag("block_auto_adjust_ff_dim")?.unwrap_or(true) {
        return Ok(width);
    }
    let multiplier = json.number("block_ffn_dim_multiplier")?.unwrap_or(1.0);
    let of = json.size("block_multiple_of")?.unwrap_or(256);
    if of == 0 || !(multiplier.is_finite() && multiplier > 0.0) || width > 1 << 22 {
        return Err(json.error(
            "block_multiple_of",
            "is 0, or block_ffn_dim_multiplier or the width cannot be",
        ));
    }
    let width = (multiplier * (2 * width / 3) as f64) as usize;
    Ok(width.div_ceil(of) * of)
}

fn attention_layers(json: &Fields<'_>, layers: usize) -> Result<Vec<bool>, ModelError> {
    if let Some(kinds) = json.get("layer_types") {
        let kind = |kind: &serde_json::Value| match kind.as_str() {
            Some("conv") => Ok(false),
            Some("full_attention") => Ok(true),
            _ => Err(json.error(
                "layer_types",
                format!("has {kind}: layers are \"conv\" and \"full_attention\""),
            )),
        };
        let kinds = kinds.as_array().map(Vec::as_slice).unwrap_or_default();
        if kinds.len() != layers {
            let problem = format!("must be a list of {layers} words, one for each layer");
            return Err(json.error("layer_types", problem));
        }
        return kinds.iter().map(kind).collect();
    }
    let mut attention = vec![false; layers];
    let list = json.get("full_attn_idxs").and_then(|v| v.as_array());
    let list = list.ok_or_else(|| json.error("layer_types", "is missing: it says which layer is what"))?;
    for index in list {
        let at = index.as_u64().and_then(|at| usize::try_from(at).ok());
        match at.and_then(|at| attention.get_mut(at)) {
            Some(flag) => *flag = true,
            None => {
                let problem = format!("has {index}: the layers are 0 to {}", layers.saturating_sub(1));
                return Err(json.error("full_attn_idxs", problem));
            }
        }
    }
    Ok(attention)
}

fn from_gguf(name: &'static str, source: &GgufSource<'_>) -> Result<ModelSpec, ModelError> {
    let key = |name: &str| source.key(name);
    let layers = source.size(&key("block_count"))?;
    check_bounds(source.path, &[(layers, &key("block_count"), 1 << 12)])?;
    let kv = source.each_layer(&key("attention.head_count_kv"), layers)?;
    let kv_heads = kv.iter().copied().max().unwrap_or(0).max(1);
    let sizes = Sizes::of_gguf(source, Some(kv_heads), EMBEDDING)?;
    let widths = source.each_layer(&key("feed_forward_length"), layers)?;
    let taps = source.size(&key("shortconv.l_cache"))?;
    check_bounds(source.path, &[(taps, &key("shortconv.l_cache"), 1 << 10)])?;
    let routing = Routing::Sigmoid {
        correction: None,
        renormalise: Some(LEAST),
        scale: 1.0,
    };
    let experts = Experts::of_gguf(source, routing)?;
    if experts.is_some() != (name == MOE.name) {
        let problem = "does not fit the architecture";
        return Err(source.error(&key("expert_count"), problem));
    }
    let dense = source.optional(&key("leading_dense_block_count"))?.unwrap_or(0);
    let width = widths.first().copied().unwrap_or(0);
    check_bounds(source.path, &[(width, &key("feed_forward_length"), 1 << 22)])?;
    let model = Model {
        rope: Rope::of_gguf(source, sizes.head_dim)?,
        attention: kv.iter().map(|heads| *heads > 0).collect(),
        width,
        taps,
        conv_bias: source.tensors.any(".conv.conv.bias"),
        experts: experts.map(|experts| (experts, dense)),
        corrected: source.tensors.any(".expert_bias"),
        sizes,
    };
    Ok(model.spec(name))
}

impl Model {
    fn spec(&self, architecture: &'static str) -> ModelSpec {
        let sizes = &self.sizes;
        let layer = |i: usize| {
            let name = |part: &str| format!("model.layers.{i}.{part}");
            let mixer = if self.attention[i] {
                let mut attention = sizes.attention(&name("self_attn"), [false; 2]);
                attention.o.weight = name("self_attn.out_proj.weight");
                attention.q_norm = Some(sizes.norm(name("self_attn.q_layernorm.weight")));
                attention.k_norm = Some(sizes.norm(name("self_attn.k_layernorm.weight")));
                attention.rope = Some(0);
                Mixer::Attention(attention)
            } else {
                Mixer::ShortConv(self.convolution(&name("conv")))
            };
            let feed_forward = match &self.experts {
                Some((experts, dense)) if i >= *dense => self.experts(experts, &name("feed_forward")),
                _ => Mixer::Mlp(self.mlp(&name("feed_forward"))),
            };
            vec![
                Residual::of(sizes.norm(name("operator_norm.weight")), mixer),
                Residual::of(sizes.norm(name("ffn_norm.weight")), feed_forward),
            ]
        };
        let mut lines = sizes.lines();
        lines
            .put("intermediate", &self.width)
            .put("taps", &self.taps)
            .put("attention_layers", &self.attention)
            .put("rope", &self.rope);
        if let Some((experts, dense)) = &self.experts {
            lines.put("experts", &(experts.count, experts.active, experts.width));
            lines.put("routing", &experts.routing).put("dense_layers", dense);
        }
        ModelSpec {
            norm: sizes.norm("model.embedding_norm.weight"),
            ropes: vec![self.rope.table(sizes.head_dim)],
            layers: (0..sizes.layers).map(layer).collect(),
            arithmetic: format!("family={architecture}\n{}", lines.0),
            ..sizes.model(architecture)
        }
    }

    fn convolution(&self, prefix: &str) -> ShortConvSpec {
        let channels = self.sizes.hidden;
        let linear = |part: &str, rows, columns| {
            LinearSpec::new(format!("{prefix}.{part}_proj.weight"), rows, columns)
                .biased(self.conv_bias, ", but conv_bias is true")
        };
        ShortConvSpec {
            channels,
            taps: self.taps,
            in_proj: linear("in", 3 * channels, channels),
            out_proj: linear("out", channels, channels),
            conv: format!("{prefix}.conv.weight"),
            conv_bias: self.conv_bias.then(|| BiasSpec {
                tensor: format!("{prefix}.conv.bias"),
                why: ", but conv_bias is true",
            }),
        }
    }

    fn mlp(&self, prefix: &str) -> MlpSpec {
        let (width, hidden) = (self.width, self.sizes.hidden);
        let linear =
            |part: &str, rows, columns| LinearSpec::new(format!("{prefix}.{part}.weight"), rows, columns);
        MlpSpec {
            width,
            input: MlpInput::SwiGlu {
                gate: linear("w1", width, hidden),
                up: linear("w3", width, hidden),
            },
            down: linear("w2", hidden, width),
        }
    }

    fn experts(&self, experts: &Experts, prefix: &str) -> Mixer {
        let tensor = |expert: usize, part: Part| {
            let word = match part {
                Part::Gate => "w1",
                Part::Up => "w3",
                Part::Down => "w2",
            };
            match (experts.stored, part) {
                (Stored::Fused, Part::Down) => format!("{prefix}.experts.down_proj"),
                (Stored::Fused, _) => format!("{prefix}.experts.gate_up_proj"),
                (Stored::Each, _) => format!("{prefix}.experts.{expert}.{word}.weight"),
                (Stored::Stacked, _) => format!("{prefix}.experts.{word}.weight"),
            }
        };
        let mut spec = experts.spec(
            self.sizes.hidden,
            format!("{prefix}.gate.weight"),
            true,
            tensor,
            None,
        );
        if let (true, Routing::Sigmoid { correction, .. }) = (self.corrected, &mut spec.routing) {
            *correction = Some(format!("{prefix}.expert_bias"));
        }
        Mixer::Moe(spec)
    }
}
