//! Phi-3 (arXiv 2404.14219) and Phi-4 (arXiv 2412.08905) with their reasoning models: attention whose
//! queries, keys and values are rows of one matrix, and gated feed-forward whose gate and up are.

use super::common::{ENDS, attention_names};
use super::dense::{Dense, Variant};
use super::{Architecture, GgufNames};

const FAMILY: Dense = Dense {
    architecture: "phi3",
    head_dim: None,
    theta: 10_000.0,
    head_norms: false,
    fused: true,
    interleaved: false,
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: FAMILY.architecture,
    title: "Phi-3",
    models: "Phi-3, Phi-4 and its reasoning models (without LongRoPE and windows)",
    checked: "transformers and candle on small random models; no published weights",
    paper: "arXiv 2404.14219",
    aliases: &[],
    classes: &["Phi3ForCausalLM"],
    gguf: &["phi3"],
    from_config: |json, tensors| {
        let context = json.size("max_position_embeddings")?;
        let window = json.size("sliding_window")?;
        if window.is_some_and(|window| context.is_none_or(|context| window < context)) {
            let problem = "is shorter than the context: sliding windows are not supported";
            return Err(json.error("sliding_window", problem));
        }
        FAMILY.of_config(json, tensors, &Variant::default())
    },
    from_gguf: |source| FAMILY.of_gguf(source, |_| true, None),
    gguf_names: GgufNames {
        top: ENDS,
        layers: "model.layers",
        layer: &[
            attention_names!("input_layernorm.weight", "self_attn"),
            &[
                ("attn_qkv.weight", "self_attn.qkv_proj.weight"),
                ("ffn_norm.weight", "post_attention_layernorm.weight"),
                ("ffn_up.weight", "mlp.gate_up_proj.weight"),
                ("ffn_down.weight", "mlp.down_proj.weight"),
            ],
        ],
    },
    prefixes: &[],
    bias_flag: |_| None,
    folds_multipliers: false,
    shapes: Vec::new,
};
