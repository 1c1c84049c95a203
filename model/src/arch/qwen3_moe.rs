//! Qwen3 (arXiv 2505.09388) with experts: Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder. Qwen3's attention, and
//! a mixture of experts instead of one feed-forward part.

use super::common::{ENDS, ExpertKeys, Experts, Stored, attention_names, expert_names, feed_forward_names};
use super::dense::{Dense, Variant};
use super::{Architecture, GgufNames, Tensors};
use crate::error::ModelError;
use crate::json::Fields;
use crate::spec::{ModelSpec, Routing};

const FAMILY: Dense = Dense {
    architecture: "qwen3_moe",
    head_dim: None,
    theta: 10_000.0,
    head_norms: true,
    fused: false,
    interleaved: false,
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: FAMILY.architecture,
    title: "Qwen3-MoE",
    models: "Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder",
    checked: "transformers on a small random model; no published weights",
    paper: "arXiv 2505.09388",
    aliases: &[],
    classes: &["Qwen3MoeForCausalLM"],
    gguf: &["qwen3moe"],
    from_config,
    from_gguf: |source| {
        let routing = Routing::Softmax { renormalise: true };
        let experts = Experts::of_gguf(source, routing)?
            .ok_or_else(|| source.error(&source.key("expert_count"), "is missing"))?;
        FAMILY.of_gguf(source, |_| true, Some(experts))
    },
    gguf_names: GgufNames {
        top: ENDS,
        layers: "model.layers",
        layer: &[
            attention_names!("input_layernorm.weight", "self_attn"),
            feed_forward_names!("post_attention_layernorm.weight", "mlp"),
            expert_names!("mlp.experts", "mlp.gate.weight"),
            &[
                ("attn_q_norm.weight", "self_attn.q_norm.weight"),
                ("attn_k_norm.weight", "self_attn.k_norm.weight"),
            ],
        ],
    },
    prefixes: &[],
    bias_flag: |name| name.contains(".self_attn.").then_some("attention_bias"),
    folds_multipliers: false,
    shapes: Vec::new,
};

const KEYS: ExpertKeys = ExpertKeys {
    count: &["num_experts", "num_local_experts"],
    active: "num_experts_per_tok",
    width: "moe_intermediate_size",
};

fn from_config(json: &Fields<'_>, tensors: &Tensors<'_>) -> Result<ModelSpec, ModelError> {
    let routing = Routing::Softmax {
        renormalise: json.flag("norm_topk_prob")?.unwrap_or(false),
    };
    let stored = if tensors.any(".mlp.experts.gate_up_proj") {
        Stored::Fused
    } else {
        Stored::Each
    };
    let experts = Experts::of_config(json, &KEYS, routing, stored)?;
    let experts =
        experts.ok_or_else(|| json.error(KEYS.count[0], "is missing or 0: qwen3 has no experts"))?;
    let biased = json.flag("attention_bias")?.unwrap_or(false);
    let variant = Variant {
        biases: [biased; 2],
        experts: Some((experts, sparse(json)?)),
        ..Variant::default()
    };
    FAMILY.of_config(json, tensors, &variant)
}

/// Which layers have experts: all but those of `mlp_only_layers`, and of every `decoder_sparse_step` the last
/// alone.
pub(super) fn sparse(json: &Fields<'_>) -> Result<Vec<bool>, ModelError> {
    let layers = json.required_size("num_hidden_layers")?;
    let step = json.size("decoder_sparse_step")?.unwrap_or(1);
    if step == 0 || layers > 1 << 12 {
        return Err(json.error("decoder_sparse_step", "is 0, or there are too many layers"));
    }
    let mut sparse: Vec<bool> = (1..=layers).map(|layer| layer.is_multiple_of(step)).collect();
    let listed = match json.get("mlp_only_layers") {
        None => &[],
        Some(list) => list
            .as_array()
            .map(Vec::as_slice)
            .ok_or_else(|| json.error("mlp_only_layers", "must be a list of layers"))?,
    };
    for layer in listed {
        let at = layer.as_u64().and_then(|at| usize::try_from(at).ok());
        match at.and_then(|at| sparse.get_mut(at)) {
            Some(flag) => *flag = false,
            None => {
                let problem = format!("has {layer}: the layers are 0 to {}", layers.saturating_sub(1));
                return Err(json.error("mlp_only_layers", problem));
            }
        }
    }
    Ok(sparse)
}
