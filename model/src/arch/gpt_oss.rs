//! gpt-oss (arXiv 2508.10925): attention with biases and sinks, every other layer over a window, then a mixture of
//! experts with biases and a clamped SwiGLU, whose matrices are published in MXFP4.

use super::common::{
    ENDS, ExpertKeys, Experts, Rope, Sizes, Stored, attention_names, check_activation, check_bounds,
    expert_names, windows,
};
use super::{Architecture, GgufNames, GgufSource, Tensors};
use crate::error::ModelError;
use crate::json::Fields;
use crate::spec::{LinearSpec, Mixer, MlpInput, MlpSpec, ModelSpec, MoeSpec, Residual, Routing, RowPiece};

const NAME: &str = "gpt_oss";

/// Steepness of the sigmoid in the activation.
const ALPHA: f32 = 1.702;
/// The largest gate, where no key says so.
const LIMIT: f32 = 7.0;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: NAME,
    title: "gpt-oss",
    models: "gpt-oss-20b, gpt-oss-120b",
    checked: "transformers on a small random model in MXFP4; no published weights",
    paper: "arXiv 2508.10925",
    aliases: &[],
    classes: &["GptOssForCausalLM"],
    gguf: &["gpt-oss"],
    from_config,
    from_gguf,
    gguf_names: GgufNames {
        top: ENDS,
        layers: "model.layers",
        layer: &[
            attention_names!("input_layernorm.weight", "self_attn"),
            expert_names!("mlp.experts", "mlp.router.weight"),
            &[
                ("attn_sinks.weight", "self_attn.sinks"),
                ("post_attention_norm.weight", "post_attention_layernorm.weight"),
                ("ffn_gate_inp.bias", "mlp.router.bias"),
                ("ffn_gate_exps.bias", "mlp.experts.gate_proj.bias"),
                ("ffn_up_exps.bias", "mlp.experts.up_proj.bias"),
                ("ffn_down_exps.bias", "mlp.experts.down_proj.bias"),
            ],
        ],
    },
    prefixes: &[],
    bias_flag: |name| name.contains(".self_attn.").then_some("attention_bias"),
    folds_multipliers: false,
    shapes: Vec::new,
};

const KEYS: ExpertKeys = ExpertKeys {
    count: &["num_local_experts", "num_experts"],
    active: "num_experts_per_tok",
    width: "intermediate_size",
};

struct Model {
    sizes: Sizes,
    experts: Experts,
    rope: Rope,
    /// of each layer, if it has one
    windows: Vec<Option<usize>>,
    /// of q, k, v and o
    attention_bias: bool,
    limit: f32,
}

fn from_config(json: &Fields<'_>, tensors: &Tensors<'_>) -> Result<ModelSpec, ModelError> {
    check_activation(json, "hidden_act", &["silu", "swish"])?;
    let sizes = Sizes::of_config(json, tensors, None, "rms_norm_eps")?;
    let experts = Experts::of_config(json, &KEYS, Routing::SoftmaxOfChosen, Stored::Fused)?;
    let experts = experts.ok_or_else(|| json.error(KEYS.count[0], "is missing or 0: gpt-oss has experts"))?;
    let model = Model {
        rope: Rope::of_config(json, 150_000.0, sizes.context)?,
        windows: windows(json, sizes.layers, |layer| layer % 2 == 0)?,
        attention_bias: json.flag("attention_bias")?.unwrap_or(true),
        limit: json.factor("swiglu_limit")?.map_or(LIMIT, |limit| limit as f32),
        sizes,
        experts,
    };
    Ok(model.spec(tensors))
}

fn from_gguf(source: &GgufSource<'_>) -> Result<ModelSpec, ModelError> {
    let sizes = Sizes::of_gguf(source, None, "model.embed_tokens.weight")?;
    let experts = Experts::of_gguf(source, Routing::SoftmaxOfChosen)?
        .ok_or_else(|| source.error(&source.key("expert_count"), "is missing"))?;
    let pattern = source.key("attention.sliding_window_pattern");
    if source.metadata.has(&pattern) && source.optional(&pattern)? != Some(2) {
        return Err(source.error(&pattern, "is not 2: every other layer of gpt-oss has a window"));
    }
    let key = source.key("attention.sliding_window");
    let window = source.size(&key)?;
    check_bounds(source.path, &[(window, &key, 1 << 32)])?;
    let model = Model {
        // files have no key for it
        rope: Rope::of_gguf(source, sizes.head_dim)?.untruncated(),
        windows: (0..sizes.layers)
            .map(|layer| (layer % 2 == 0).then_some(window))
            .collect(),
        attention_bias: source.tensors.any(".q_proj.bias"),
        limit: LIMIT,
        sizes,
        experts,
    };
    Ok(model.spec(&source.tensors))
}

impl Model {
    fn spec(&self, tensors: &Tensors<'_>) -> ModelSpec {
        let (sizes, experts) = (&self.sizes, &self.experts);
        let layer = |i: usize| {
            let name = |part: &str| format!("model.layers.{i}.{part}");
            let mut attention = sizes.attention(&name("self_attn"), [self.attention_bias; 2]);
            attention.rope = Some(0);
            attention.sinks = Some(name("self_attn.sinks"));
            attention.window = self.windows[i];
            let mixture = MoeSpec {
                router: LinearSpec::new(name("mlp.router.weight"), experts.count, sizes.hidden)
                    .with_bias(name("mlp.router.bias")),
                routing: experts.routing.clone(),
                active: experts.active,
                experts: (0..experts.count)
                    .map(|expert| self.expert(expert, &name("mlp.experts"), tensors))
                    .collect(),
                shared: None,
            };
            vec![
                Residual::of(
                    sizes.norm(name("input_layernorm.weight")),
                    Mixer::Attention(attention),
                ),
                Residual::of(
                    sizes.norm(name("post_attention_layernorm.weight")),
                    Mixer::Moe(mixture),
                ),
            ]
        };
        let mut lines = sizes.lines();
        lines
            .put("experts", &(experts.count, experts.active, experts.width))
            .put("rope", &self.rope)
            .put("windows", &self.windows)
            .put("attention_bias", &self.attention_bias)
            .put("swiglu", &(ALPHA, self.limit));
        ModelSpec {
            ropes: vec![self.rope.table(sizes.head_dim)],
            layers: (0..sizes.layers).map(layer).collect(),
            arithmetic: format!("family={NAME}\n{}", lines.0),
            ..sizes.model(NAME)
        }
    }

    /// An expert under `prefix`. In folders gate and up are every other row of one tensor, and tensors in 16 or
    /// 32 bits are stored column by column.
    fn expert(&self, expert: usize, prefix: &str, tensors: &Tensors<'_>) -> MlpSpec {
        let (hidden, width, count) = (self.sizes.hidden, self.experts.width, self.experts.count);
        let fused = |part: &str, rows, columns| {
            let name = format!("{prefix}.{part}_proj");
            let linear = LinearSpec::new(&name, rows, columns).with_bias(format!("{name}_bias"));
            match tensors.is_quantized(&name) {
                true => linear,
                false => linear.transposed(),
            }
        };
        let apart = |part: &str, rows, columns| {
            let name = format!("{prefix}.{part}_proj");
            LinearSpec::new(format!("{name}.weight"), rows, columns).with_bias(format!("{name}.bias"))
        };
        let (gate, up, down) = if self.experts.stored == Stored::Fused {
            let every_other = |first| {
                let rows = RowPiece {
                    first,
                    width: 1,
                    stride: 2,
                    count: width,
                };
                fused("gate_up", width, hidden).pieces(2 * width, vec![rows])
            };
            (every_other(0), every_other(1), fused("down", hidden, width))
        } else {
            (
                apart("gate", width, hidden),
                apart("up", width, hidden),
                apart("down", hidden, width),
            )
        };
        MlpSpec {
            width,
            input: MlpInput::ClampedSwiGlu {
                gate: gate.of_stack(expert, count),
                up: up.of_stack(expert, count),
                alpha: ALPHA,
                limit: self.limit,
            },
            down: down.of_stack(expert, count),
        }
    }
}
