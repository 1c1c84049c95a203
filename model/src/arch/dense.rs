//! Layers of attention and gated feed-forward alone, as Llama, Qwen2, Qwen3, SmolLM3 and Phi-3 have them.

use super::common::{Experts, Rope, Sizes, check_bounds};
use super::{GgufSource, Tensors};
use crate::error::ModelError;
use crate::json::Fields;
use crate::spec::{LinearSpec, Mixer, MlpInput, MlpSpec, ModelSpec, Residual};

/// What such a family says of itself.
pub(super) struct Dense {
    pub(super) architecture: &'static str,
    /// width of a head where config.json has none; `None` is the hidden size divided by the heads
    pub(super) head_dim: Option<usize>,
    /// base of the rotary embedding where config.json has none
    pub(super) theta: f64,
    /// queries and keys are normed a head
    pub(super) head_norms: bool,
    /// queries, keys and values are rows of one matrix in this order, and so are gate and up
    pub(super) fused: bool,
    /// its GGUF files hold the rows of queries and keys interleaved
    pub(super) interleaved: bool,
}

/// What its models differ in.
#[derive(Default)]
pub(super) struct Variant {
    /// which of q, k and v, and whether o, have a bias
    pub(super) biases: [bool; 2],
    /// whether gate, up and down have a bias
    pub(super) mlp_bias: bool,
    /// which layers are rotated; all where it is empty
    pub(super) rotated: Vec<bool>,
    /// the experts, and which layers have them instead of one feed-forward part
    pub(super) experts: Option<(Experts, Vec<bool>)>,
}

impl Variant {
    /// Attention with these biases.
    pub(super) fn biased(biases: [bool; 2]) -> Self {
        Self {
            biases,
            ..Self::default()
        }
    }
}

impl Dense {
    /// Reads a config.json.
    pub(super) fn of_config(
        &self,
        json: &Fields<'_>,
        tensors: &Tensors<'_>,
        variant: &Variant,
    ) -> Result<ModelSpec, ModelError> {
        super::common::check_activation(json, "hidden_act", &["silu", "swish"])?;
        let sizes = Sizes::of_config(json, tensors, self.head_dim, "rms_norm_eps")?;
        super::common::check_full_attention(json, sizes.layers)?;
        // layers of experts alone need no other width
        let width = match (&variant.experts, json.size("intermediate_size")?) {
            (_, Some(width)) => width,
            (Some((experts, layers)), None) if !layers.contains(&false) => experts.width,
            _ => json.required_size("intermediate_size")?,
        };
        check_bounds(json.file(), &[(width, "intermediate_size", 1 << 22)])?;
        let rope = Rope::of_config(json, self.theta, sizes.context)?;
        Ok(self.spec(&sizes, width, &rope, variant, false))
    }

    /// Reads the metadata of a GGUF file; `rotated` says which layers are.
    pub(super) fn of_gguf(
        &self,
        source: &GgufSource<'_>,
        rotated: impl Fn(usize) -> bool,
        experts: Option<Experts>,
    ) -> Result<ModelSpec, ModelError> {
        let sizes = Sizes::of_gguf(source, None, "model.embed_tokens.weight")?;
        let key = source.key("feed_forward_length");
        let width = match (&experts, source.optional(&key)?) {
            (Some(experts), None) => experts.width,
            _ => source.size(&key)?,
        };
        check_bounds(source.path, &[(width, &key, 1 << 22)])?;
        let window = source.key("attention.sliding_window");
        if source
            .optional(&window)?
            .is_some_and(|w| w > 0 && w < sizes.context)
        {
            return Err(source.error(&window, "is set: sliding windows are not supported"));
        }
        let count = source.key("expert_count");
        if experts.is_none() && source.optional(&count)?.is_some_and(|n| n > 0) {
            return Err(source.error(&count, "is set: layers of experts are not supported"));
        }
        let router = |layer: usize| {
            let name = format!("model.layers.{layer}.mlp.gate.weight");
            source.tensors.has(&name)
        };
        let rope = Rope::of_gguf(source, sizes.head_dim)?;
        let any = |name: &str| source.tensors.any(name);
        let variant = Variant {
            biases: [any(".q_proj.bias"), any(".o_proj.bias")],
            mlp_bias: any(".down_proj.bias"),
            rotated: (0..sizes.layers).map(rotated).collect(),
            experts: experts.map(|experts| (experts, (0..sizes.layers).map(router).collect())),
        };
        Ok(self.spec(&sizes, width, &rope, &variant, self.interleaved))
    }

    fn spec(
        &self,
        sizes: &Sizes,
        width: usize,
        rope: &Rope,
        variant: &Variant,
        interleaved: bool,
    ) -> ModelSpec {
        let layer = |i: usize| {
            let name = |part: &str| format!("model.layers.{i}.{part}");
            let mut attention = sizes.attention(&name("self_attn"), variant.biases);
            attention.rope = variant.rotated.get(i).is_none_or(|rotated| *rotated).then_some(0);
            if self.head_norms {
                attention.q_norm = Some(sizes.norm(name("self_attn.q_norm.weight")));
                attention.k_norm = Some(sizes.norm(name("self_attn.k_norm.weight")));
            }
            if self.fused {
                let tensor = name("self_attn.qkv_proj.weight");
                share(&tensor, [&mut attention.q, &mut attention.k, &mut attention.v]);
            }
            if interleaved {
                attention.q = attention.q.interleaved(sizes.heads);
                attention.k = attention.k.interleaved(sizes.kv_heads);
            }
            let linear = |part: &str, rows, columns| {
                LinearSpec::new(name(&format!("mlp.{part}_proj.weight")), rows, columns)
                    .biased(variant.mlp_bias, ", but mlp_bias is true")
            };
            let (mut gate, mut up) = (
                linear("gate", width, sizes.hidden),
                linear("up", width, sizes.hidden),
            );
            if self.fused {
                share(&name("mlp.gate_up_proj.weight"), [&mut gate, &mut up]);
            }
            let experts = variant.experts.as_ref();
            let experts = experts.filter(|(_, layers)| layers.get(i) == Some(&true));
            let feed_forward = experts.map(|(experts, _)| {
                let tensor = experts.names(name("mlp.experts"));
                Mixer::Moe(experts.spec(sizes.hidden, name("mlp.gate.weight"), true, tensor, None))
            });
            let mlp = MlpSpec {
                width,
                input: MlpInput::SwiGlu { gate, up },
                down: linear("down", sizes.hidden, width),
            };
            vec![
                Residual::of(
                    sizes.norm(name("input_layernorm.weight")),
                    Mixer::Attention(attention),
                ),
                Residual::of(
                    sizes.norm(name("post_attention_layernorm.weight")),
                    feed_forward.unwrap_or(Mixer::Mlp(mlp)),
                ),
            ]
        };
        let mut lines = sizes.lines();
        lines
            .put("intermediate", &width)
            .put("rope", rope)
            .put("biases", &variant.biases);
        if variant.mlp_bias {
            lines.put("mlp_bias", &true);
        }
        if let Some((experts, layers)) = &variant.experts {
            lines.put("experts", &(experts.count, experts.active, experts.width));
            lines
                .put("routing", &experts.routing)
                .put("expert_layers", layers);
        }
        if variant.rotated.contains(&false) {
            lines.put("rotated", &variant.rotated);
        }
        ModelSpec {
            ropes: vec![rope.table(sizes.head_dim)],
            layers: (0..sizes.layers).map(layer).collect(),
            arithmetic: format!("family={}\n{}", self.architecture, lines.0),
            ..sizes.model(self.architecture)
        }
    }
}

/// Makes these matrices the rows of one tensor, one after the other.
fn share<const N: usize>(tensor: &str, parts: [&mut LinearSpec; N]) {
    let total = parts.iter().map(|part| part.rows).sum();
    let mut start = 0;
    for part in parts {
        part.weight = tensor.to_owned();
        part.within = Some((start, total));
        start += part.rows;
    }
}
