//! Granite 4.0-H: each layer is Mamba-2 or attention, then gated feed-forward, or a mixture of experts beside
//! such a part; the embedding, every branch, the scores and the logits are scaled.

use super::common::{
    ENDS, ExpertKeys, Experts, Mamba, MambaKeys, Part, Rope, Sizes, Stored, attention_names,
    check_activation, check_bounds, expert_names, mamba_names,
};
use super::{Architecture, GgufNames, GgufSource, Tensors};
use crate::error::ModelError;
use crate::json::Fields;
use crate::spec::{LinearSpec, Mixer, MlpInput, MlpSpec, ModelSpec, Residual, Routing, SharedExpert};

const NAME: &str = "granitemoehybrid";

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: NAME,
    title: "Granite 4.0-H",
    models: "Granite 4.0-H",
    checked: "transformers on small random models; no published weights",
    paper: "the model cards of Granite 4.0-H (IBM, October 2025)",
    aliases: &["granitehybrid"],
    classes: &["GraniteMoeHybridForCausalLM"],
    gguf: &["granitehybrid"],
    from_config,
    from_gguf,
    gguf_names: GgufNames {
        top: ENDS,
        layers: "model.layers",
        layer: &[
            attention_names!("input_layernorm.weight", "self_attn"),
            mamba_names!("mamba"),
            &[
                ("ffn_norm.weight", "post_attention_layernorm.weight"),
                ("ffn_gate.weight", "shared_mlp.gate_proj.weight"),
                ("ffn_up.weight", "shared_mlp.up_proj.weight"),
                ("ffn_down.weight", "shared_mlp.output_linear.weight"),
                ("ffn_gate_shexp.weight", "shared_mlp.gate_proj.weight"),
                ("ffn_up_shexp.weight", "shared_mlp.up_proj.weight"),
                ("ffn_down_shexp.weight", "shared_mlp.output_linear.weight"),
            ],
            expert_names!("block_sparse_moe.experts", "block_sparse_moe.router.layer.weight"),
        ],
    },
    prefixes: &[],
    bias_flag,
    folds_multipliers: false,
    shapes: Vec::new,
};

fn bias_flag(name: &str) -> Option<&'static str> {
    Some(match name {
        n if n.ends_with("conv1d.bias") => KEYS.conv_bias,
        n if n.contains(".mamba.") => KEYS.proj_bias,
        n if n.contains(".self_attn.") => "attention_bias",
        _ => return None,
    })
}

const EXPERTS: ExpertKeys = ExpertKeys {
    count: &["num_local_experts"],
    active: "num_experts_per_tok",
    width: "intermediate_size",
};

const KEYS: MambaKeys = MambaKeys {
    heads: ("mamba_n_heads", 128),
    head_dim: "mamba_d_head",
    d_state: ("mamba_d_state", 256),
    groups: ("mamba_n_groups", 1),
    taps: ("mamba_d_conv", 4),
    conv_bias: "mamba_conv_bias",
    proj_bias: "mamba_proj_bias",
};

struct Model {
    sizes: Sizes,
    mamba: Mamba,
    width: usize,
    /// whether a layer is attention
    attention: Vec<bool>,
    attention_bias: bool,
    rope: Option<Rope>,
    experts: Option<Experts>,
    /// gate and up are rows of one matrix, as in Hugging Face folders
    fused: bool,
    scales: Scales,
}

#[derive(Debug)]
struct Scales {
    embedding: f32,
    residual: f32,
    attention: f32,
    /// divides the logits
    logits: f32,
}

fn from_config(json: &Fields<'_>, tensors: &Tensors<'_>) -> Result<ModelSpec, ModelError> {
    check_activation(json, "hidden_act", &["silu", "swish"])?;
    check_activation(json, "normalization_function", &["rmsnorm"])?;
    let sizes = Sizes::of_config(json, tensors, None, "rms_norm_eps")?;
    let key = if json.get("layer_types").is_some() {
        "layer_types"
    } else {
        "layers_block_type"
    };
    let kinds = json.get(key).and_then(|v| v.as_array());
    let kinds = kinds.ok_or_else(|| json.error("layer_types", "is missing: it says which layer is what"))?;
    let attention = kinds
        .iter()
        .map(|name| match name.as_str() {
            Some("mamba" | "linear_attention") => Ok(false),
            Some("attention" | "full_attention") => Ok(true),
            _ => Err(json.error(key, format!("has {name}: layers are \"mamba\" and \"attention\""))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    if attention.len() != sizes.layers {
        let problem = format!(
            "has {} layers, but num_hidden_layers is {}",
            attention.len(),
            sizes.layers
        );
        return Err(json.error(key, problem));
    }
    let (heads, inner) = (
        json.size(KEYS.heads.0)?.unwrap_or(KEYS.heads.1),
        json.size("mamba_expand")?
            .unwrap_or(2)
            .saturating_mul(sizes.hidden),
    );
    let automatic = inner.checked_div(heads).unwrap_or(0);
    let mamba = Mamba::of_config(json, &sizes, &KEYS, automatic)?;
    if heads.checked_mul(mamba.head_dim) != Some(inner) {
        let problem = format!(
            "is {}, but {heads} such heads must be {inner} wide (mamba_expand * hidden_size)",
            mamba.head_dim
        );
        return Err(json.error(KEYS.head_dim, problem));
    }
    let width = match json.size("shared_intermediate_size")? {
        Some(width) => width,
        None => json.required_size("intermediate_size")?,
    };
    check_bounds(json.file(), &[(width, "shared_intermediate_size", 1 << 22)])?;
    let rotated = json.text("position_embedding_type")? == Some("rope");
    let rope = if rotated {
        Some(Rope::of_config(json, 10_000.0, sizes.context)?)
    } else {
        None
    };
    let number = |key: &str| Ok::<_, ModelError>(json.factor(key)?.unwrap_or(1.0) as f32);
    let scales = Scales {
        embedding: number("embedding_multiplier")?,
        residual: number("residual_multiplier")?,
        attention: number("attention_multiplier")?,
        logits: number("logits_scaling")?,
    };
    Ok(Model {
        scales,
        attention_bias: json.flag("attention_bias")?.unwrap_or(false),
        sizes,
        mamba,
        width,
        attention,
        rope,
        experts: Experts::of_config(json, &EXPERTS, Routing::SoftmaxOfChosen, Stored::Fused)?,
        fused: true,
    }
    .spec())
}

fn from_gguf(source: &GgufSource<'_>) -> Result<ModelSpec, ModelError> {
    let key = |name: &str| source.key(name);
    let layers = source.size(&key("block_count"))?;
    check_bounds(source.path, &[(layers, &key("block_count"), 1 << 12)])?;
    let kv = source.each_layer(&key("attention.head_count_kv"), layers)?;
    let kv_heads = kv.iter().copied().max().unwrap_or(0).max(1);
    let sizes = Sizes::of_gguf(source, Some(kv_heads), "model.embed_tokens.weight")?;
    // the key is a switch here, and on where it is absent
    let rope = match source.metadata.bool(&key("rope.scaling.finetuned")) {
        Some(false) => None,
        _ => Some(Rope::of_gguf(source, sizes.head_dim)?),
    };
    let shared = key("expert_shared_feed_forward_length");
    let width = match source.optional(&shared)?.filter(|width| *width > 0) {
        Some(width) => width,
        None => source.size(&key("feed_forward_length"))?,
    };
    check_bounds(source.path, &[(width, &shared, 1 << 22)])?;
    let number = |name: &str, default: f32| match source.metadata.has(&key(name)) {
        true => source.factor(&key(name)),
        false => Ok(default),
    };
    let scales = Scales {
        embedding: number("embedding_scale", 1.0)?,
        residual: number("residual_scale", 1.0)?,
        attention: number("attention.scale", (sizes.head_dim as f32).powf(-0.5))?,
        logits: number("logit_scale", 1.0)?,
    };
    Ok(Model {
        scales,
        mamba: Mamba::of_gguf(source, &sizes)?,
        attention_bias: source.tensors.any(".q_proj.bias"),
        sizes,
        width,
        attention: kv.iter().map(|heads| *heads > 0).collect(),
        rope,
        experts: Experts::of_gguf(source, Routing::SoftmaxOfChosen)?,
        fused: false,
    }
    .spec())
}

impl Model {
    fn spec(&self) -> ModelSpec {
        let sizes = &self.sizes;
        let layer = |i: usize| {
            let name = |part: &str| format!("model.layers.{i}.{part}");
            let mixer = if self.attention[i] {
                let mut attention = sizes.attention(&name("self_attn"), [self.attention_bias; 2]);
                attention.rope = self.rope.as_ref().map(|_| 0);
                attention.scale = self.scales.attention;
                // and GGUF files, where nothing is fused, interleave queries and keys
                if !self.fused {
                    attention.q = attention.q.interleaved(sizes.heads);
                    attention.k = attention.k.interleaved(sizes.kv_heads);
                }
                Mixer::Attention(attention)
            } else {
                Mixer::Mamba2(self.mamba.spec(&name("mamba")))
            };
            let branch = |norm: &str, mixer| Residual {
                scale: self.scales.residual,
                ..Residual::of(sizes.norm(name(norm)), mixer)
            };
            vec![
                branch("input_layernorm.weight", mixer),
                branch(
                    "post_attention_layernorm.weight",
                    self.feed_forward(&name("shared_mlp"), &name("block_sparse_moe")),
                ),
            ]
        };
        let mut lines = sizes.lines();
        self.mamba.lines(&mut lines);
        lines
            .put("intermediate", &self.width)
            .put("attention_layers", &self.attention);
        if let Some(experts) = &self.experts {
            lines.put("experts", &(experts.count, experts.active, experts.width));
        }
        lines.put("rope", &self.rope).put("scales", &self.scales);
        let mut spec = sizes.model(NAME);
        spec.embed.scale = self.scales.embedding;
        spec.head.scale = 1.0 / self.scales.logits;
        spec.ropes = self.rope.iter().map(|rope| rope.table(sizes.head_dim)).collect();
        spec.layers = (0..sizes.layers).map(layer).collect();
        spec.arithmetic = format!("family={NAME}\n{}", lines.0);
        spec
    }

    /// The part beside the experts alone, where there are none.
    fn feed_forward(&self, shared: &str, mixture: &str) -> Mixer {
        let mlp = self.mlp(shared);
        let Some(experts) = &self.experts else {
            return Mixer::Mlp(mlp);
        };
        let tensor = |_: usize, part: Part| match (experts.stored, part) {
            (Stored::Fused, Part::Down) => format!("{mixture}.output_linear.weight"),
            (Stored::Fused, _) => format!("{mixture}.input_linear.weight"),
            (_, Part::Gate) => format!("{mixture}.experts.gate_proj.weight"),
            (_, Part::Up) => format!("{mixture}.experts.up_proj.weight"),
            (_, Part::Down) => format!("{mixture}.experts.down_proj.weight"),
        };
        let router = format!("{mixture}.router.layer.weight");
        let shared = Some(SharedExpert { mlp, gate: None });
        Mixer::Moe(experts.spec(self.sizes.hidden, router, true, tensor, shared))
    }

    fn mlp(&self, prefix: &str) -> MlpSpec {
        let (width, hidden) = (self.width, self.sizes.hidden);
        let (gate, up) = if self.fused {
            let both = |start| {
                LinearSpec::new(format!("{prefix}.input_linear.weight"), width, hidden)
                    .within(start, 2 * width)
            };
            (both(0), both(width))
        } else {
            let one = |part: &str| LinearSpec::new(format!("{prefix}.{part}_proj.weight"), width, hidden);
            (one("gate"), one("up"))
        };
        MlpSpec {
            width,
            input: MlpInput::SwiGlu { gate, up },
            down: LinearSpec::new(format!("{prefix}.output_linear.weight"), hidden, width),
        }
    }
}
