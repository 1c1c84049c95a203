//! Nemotron-H (arXiv 2504.03624), Nemotron-Nano-2 (arXiv 2508.14444) and Nemotron-3-Nano: each layer is one
//! part, Mamba-2, attention without positions, a feed-forward part whose activation is the squared relu, or a
//! mixture of such parts beside one that all positions pass.

use super::common::{
    ExpertKeys, Experts, Mamba, MambaKeys, Part, Sizes, Stored, attention_names, check_activation,
    check_bounds, mamba_names, refuse,
};
use super::{Architecture, GgufNames, GgufSource, Tensors};
use crate::error::ModelError;
use crate::json::Fields;
use crate::spec::{LinearSpec, Mixer, MlpInput, MlpSpec, ModelSpec, Residual, Routing, SharedExpert};

const NAME: &str = "nemotron_h";

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: NAME,
    title: "Nemotron-H",
    models: "Nemotron-H, Nemotron-Nano-2, Nemotron-3-Nano",
    checked: "transformers on small random models; no published weights",
    paper: "arXiv 2504.03624",
    aliases: &[],
    classes: &["NemotronHForCausalLM"],
    gguf: &["nemotron_h", "nemotron_h_moe"],
    from_config,
    from_gguf,
    gguf_names: GgufNames {
        top: &[
            ("token_embd.weight", "backbone.embeddings.weight"),
            ("output.weight", "lm_head.weight"),
            ("output_norm.weight", "backbone.norm_f.weight"),
        ],
        layers: "backbone.layers",
        layer: &[
            mamba_names!("mixer"),
            attention_names!("norm.weight", "mixer"),
            &[
                ("ffn_up.weight", "mixer.up_proj.weight"),
                ("ffn_up.bias", "mixer.up_proj.bias"),
                ("ffn_down.weight", "mixer.down_proj.weight"),
                ("ffn_down.bias", "mixer.down_proj.bias"),
                ("ffn_gate_inp.weight", "mixer.gate.weight"),
                ("exp_probs_b.bias", "mixer.gate.e_score_correction_bias"),
                ("ffn_up_exps.weight", "mixer.experts.up_proj.weight"),
                ("ffn_down_exps.weight", "mixer.experts.down_proj.weight"),
                ("ffn_up_shexp.weight", "mixer.shared_experts.up_proj.weight"),
                ("ffn_down_shexp.weight", "mixer.shared_experts.down_proj.weight"),
            ],
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
        n if n.contains("in_proj.") || n.contains("out_proj.") => KEYS.proj_bias,
        n if n.contains("up_proj.") || n.contains("down_proj.") => "mlp_bias",
        _ => "attention_bias",
    })
}

const KEYS: MambaKeys = MambaKeys {
    heads: ("mamba_num_heads", 128),
    head_dim: "mamba_head_dim",
    d_state: ("ssm_state_size", 128),
    groups: ("n_groups", 8),
    taps: ("conv_kernel", 4),
    conv_bias: "use_conv_bias",
    proj_bias: "use_bias",
};

/// What a layer is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Mamba,
    Attention,
    Mlp,
    Moe,
}

const EXPERTS: ExpertKeys = ExpertKeys {
    count: &["n_routed_experts", "num_local_experts", "num_experts"],
    active: "num_experts_per_tok",
    width: "moe_intermediate_size",
};

/// What the weights of chosen experts are divided by beside their sum.
const LEAST: f32 = 1e-20;

struct Model {
    sizes: Sizes,
    mamba: Mamba,
    /// width of the feed-forward parts, a layer
    widths: Vec<usize>,
    kinds: Vec<Kind>,
    attention_biases: [bool; 2],
    mlp_bias: bool,
    /// the experts, and the width of the part beside them, 0 where there is none
    experts: Option<(Experts, usize)>,
}

fn from_config(json: &Fields<'_>, tensors: &Tensors<'_>) -> Result<ModelSpec, ModelError> {
    check_activation(json, "mlp_hidden_act", &["relu2"])?;
    check_activation(json, "mamba_hidden_act", &["silu", "swish"])?;
    refuse(json, &["sliding_window"])?;
    let eps = if json.get("layer_norm_epsilon").is_some() {
        "layer_norm_epsilon"
    } else {
        "rms_norm_eps"
    };
    let old_width = json.size("attention_head_dim")?;
    let sizes = Sizes::of_config(json, tensors, old_width, eps)?;
    let kinds = kinds(json)?;
    if kinds.len() != sizes.layers {
        let problem = format!("is {}, but {} layers are listed", sizes.layers, kinds.len());
        return Err(json.error("num_hidden_layers", problem));
    }
    let flag = |key: &str, default| Ok::<_, ModelError>(json.flag(key)?.unwrap_or(default));
    let mamba = Mamba::of_config(json, &sizes, &KEYS, 64)?;
    let width = match json.size("intermediate_size")? {
        Some(width) => width,
        None if !kinds.contains(&Kind::Mlp) => 1,
        None => json.required_size("intermediate_size")?,
    };
    check_bounds(json.file(), &[(width, "intermediate_size", 1 << 22)])?;
    let experts = if kinds.contains(&Kind::Moe) {
        Some(experts(json, tensors)?)
    } else {
        None
    };
    Ok(Model {
        experts,
        widths: vec![width; sizes.layers],
        mamba,
        kinds,
        attention_biases: [flag("attention_bias", false)?; 2],
        mlp_bias: flag("mlp_bias", false)?,
        sizes,
    }
    .spec())
}

/// The experts, and the width of the part beside them.
fn experts(json: &Fields<'_>, tensors: &Tensors<'_>) -> Result<(Experts, usize), ModelError> {
    refuse(json, &["moe_latent_size"])?;
    if let Some(groups) = json.size("n_group")?.filter(|groups| *groups > 1) {
        let problem = format!("is {groups}: experts in groups are not supported");
        return Err(json.error("n_group", problem));
    }
    let routing = Routing::Sigmoid {
        correction: None,
        renormalise: json.flag("norm_topk_prob")?.unwrap_or(true).then_some(LEAST),
        scale: json.factor("routed_scaling_factor")?.unwrap_or(1.0) as f32,
    };
    let stored = if tensors.any(".mixer.experts.up_proj") {
        Stored::Stacked
    } else {
        Stored::Each
    };
    let experts = Experts::of_config(json, &EXPERTS, routing, stored)?;
    let experts = experts.ok_or_else(|| json.error(EXPERTS.count[0], "is missing or 0"))?;
    let count = json.size("n_shared_experts")?.unwrap_or(1);
    let width = match json.size("moe_shared_expert_intermediate_size")? {
        _ if count == 0 => 0,
        Some(width) => width,
        None => json.required_size("moe_intermediate_size")?,
    };
    if width > 1 << 22 {
        let problem = format!("is {width}: it must be at most {}", 1 << 22);
        return Err(json.error("moe_shared_expert_intermediate_size", problem));
    }
    Ok((experts, width))
}

/// The layers' kinds: a string of letters (4.x) or a list of words (5.x).
fn kinds(json: &Fields<'_>) -> Result<Vec<Kind>, ModelError> {
    if let Some(pattern) = json.text("hybrid_override_pattern")? {
        let key = "hybrid_override_pattern";
        let kind = |letter: char| match letter {
            'M' => Ok(Kind::Mamba),
            '*' => Ok(Kind::Attention),
            '-' => Ok(Kind::Mlp),
            'E' => Ok(Kind::Moe),
            other => Err(json.error(key, format!("has {other:?}: the letters are M, *, - and E"))),
        };
        return pattern.chars().map(kind).collect();
    }
    for key in ["layers_block_type", "layer_types"] {
        let Some(names) = json.get(key).and_then(|v| v.as_array()) else {
            continue;
        };
        let kind = |name: &serde_json::Value| match name.as_str() {
            Some("mamba" | "linear_attention") => Ok(Kind::Mamba),
            Some("attention" | "full_attention") => Ok(Kind::Attention),
            Some("mlp") => Ok(Kind::Mlp),
            Some("moe") => Ok(Kind::Moe),
            _ => Err(json.error(
                key,
                format!("has {name}: layers are \"mamba\", \"attention\", \"mlp\" and \"moe\""),
            )),
        };
        return names.iter().map(kind).collect();
    }
    Err(json.error(
        "hybrid_override_pattern",
        "is missing: it says which layer is what",
    ))
}

fn from_gguf(source: &GgufSource<'_>) -> Result<ModelSpec, ModelError> {
    let key = |name: &str| source.key(name);
    let layers = source.size(&key("block_count"))?;
    check_bounds(source.path, &[(layers, &key("block_count"), 1 << 12)])?;
    let kv = source.each_layer(&key("attention.head_count_kv"), layers)?;
    let widths = source.each_layer(&key("feed_forward_length"), layers)?;
    let kinds: Vec<Kind> = kv
        .iter()
        .zip(&widths)
        .enumerate()
        .map(|(i, layer)| match layer {
            _ if source
                .tensors
                .has(&format!("backbone.layers.{i}.mixer.gate.weight")) =>
            {
                Kind::Moe
            }
            (_, 1..) => Kind::Mlp,
            (1.., 0) => Kind::Attention,
            (0, 0) => Kind::Mamba,
        })
        .collect();
    let kv_heads = kv.iter().copied().max().unwrap_or(0).max(1);
    let sizes = Sizes::of_gguf(source, Some(kv_heads), "backbone.embeddings.weight")?;
    let latent = key("moe_latent_size");
    if source.optional(&latent)?.is_some_and(|n| n > 0) {
        return Err(source.error(&latent, "is set: experts in a latent space are not supported"));
    }
    let experts = if kinds.contains(&Kind::Moe) {
        let scale = key("expert_weights_scale");
        let routing = Routing::Sigmoid {
            correction: None,
            renormalise: source
                .metadata
                .bool(&key("expert_weights_norm"))
                .unwrap_or(true)
                .then_some(LEAST),
            scale: if source.metadata.has(&scale) {
                source.factor(&scale)?
            } else {
                1.0
            },
        };
        let experts = Experts::of_gguf(source, routing)?;
        let experts = experts.ok_or_else(|| source.error(&key("expert_count"), "is missing or 0"))?;
        let shared = source.optional(&key("expert_shared_feed_forward_length"))?;
        Some((experts, shared.unwrap_or(0).min(1 << 22)))
    } else {
        None
    };
    Ok(Model {
        mamba: Mamba::of_gguf(source, &sizes)?,
        experts,
        sizes,
        widths,
        kinds,
        attention_biases: ["mixer.q_proj.bias", "mixer.o_proj.bias"].map(|n| source.tensors.any(n)),
        mlp_bias: source.tensors.any("mixer.up_proj.bias"),
    }
    .spec())
}

impl Model {
    fn spec(&self) -> ModelSpec {
        let sizes = &self.sizes;
        let layer = |i: usize| {
            let mixer = format!("backbone.layers.{i}.mixer");
            let part = match self.kinds[i] {
                Kind::Mamba => Mixer::Mamba2(self.mamba.spec(&mixer)),
                Kind::Attention => Mixer::Attention(sizes.attention(&mixer, self.attention_biases)),
                Kind::Mlp => Mixer::Mlp(self.mlp(&mixer, self.widths[i])),
                Kind::Moe => self.moe(&mixer),
            };
            vec![Residual::of(
                sizes.norm(format!("backbone.layers.{i}.norm.weight")),
                part,
            )]
        };
        let mut lines = sizes.lines();
        self.mamba.lines(&mut lines);
        lines
            .put("kinds", &self.kinds)
            .put("biases", &(self.attention_biases, self.mlp_bias));
        if let Some((experts, shared)) = &self.experts {
            lines.put("experts", &(experts.count, experts.active, experts.width, shared));
            lines.put("routing", &experts.routing);
        }
        let mut spec = sizes.model(NAME);
        spec.embed.tensor = "backbone.embeddings.weight".to_owned();
        spec.norm = sizes.norm("backbone.norm_f.weight");
        spec.layers = (0..sizes.layers).map(layer).collect();
        spec.arithmetic = format!("family={NAME}\n{}", lines.0);
        spec
    }

    fn moe(&self, prefix: &str) -> Mixer {
        let Some((experts, shared)) = &self.experts else {
            return Mixer::Mlp(self.mlp(prefix, 1));
        };
        let tensor = |expert: usize, part: Part| {
            let word = if part == Part::Down { "down" } else { "up" };
            match experts.stored {
                Stored::Each => format!("{prefix}.experts.{expert}.{word}_proj.weight"),
                _ => format!("{prefix}.experts.{word}_proj.weight"),
            }
        };
        let shared = (*shared > 0).then(|| SharedExpert {
            mlp: self.mlp(&format!("{prefix}.shared_experts"), *shared),
            gate: None,
        });
        let router = format!("{prefix}.gate.weight");
        let mut spec = experts.spec(self.sizes.hidden, router, false, tensor, shared);
        if let Routing::Sigmoid { correction, .. } = &mut spec.routing {
            *correction = Some(format!("{prefix}.gate.e_score_correction_bias"));
        }
        Mixer::Moe(spec)
    }

    fn mlp(&self, prefix: &str, width: usize) -> MlpSpec {
        let linear = |part: &str, rows, columns| {
            LinearSpec::new(format!("{prefix}.{part}_proj.weight"), rows, columns)
                .biased(self.mlp_bias, ", but mlp_bias is true")
        };
        MlpSpec {
            width,
            input: MlpInput::SquaredRelu {
                up: linear("up", width, self.sizes.hidden),
            },
            down: linear("down", self.sizes.hidden, width),
        }
    }
}
