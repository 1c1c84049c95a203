//! Qwen3 (arXiv 2505.09388), dense, and what was distilled into it: DeepSeek-R1-0528-Qwen3. Attention whose
//! queries and keys are normed a head before rotation, and gated feed-forward.

use super::common::{ENDS, attention_names, feed_forward_names};
use super::dense::{Dense, Variant};
use super::{Architecture, GgufNames};

const FAMILY: Dense = Dense {
    architecture: "qwen3",
    head_dim: Some(128),
    theta: 10_000.0,
    head_norms: true,
    fused: false,
    interleaved: false,
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: FAMILY.architecture,
    title: "Qwen3",
    models: "Qwen3 (dense), DeepSeek-R1-0528-Qwen3 (YaRN)",
    checked: "transformers and candle on small random models; no published weights",
    paper: "arXiv 2505.09388",
    aliases: &[],
    classes: &["Qwen3ForCausalLM"],
    gguf: &["qwen3"],
    from_config: |json, tensors| {
        let biased = json.flag("attention_bias")?.unwrap_or(false);
        FAMILY.of_config(json, tensors, &Variant::biased([biased; 2]))
    },
    from_gguf: |source| FAMILY.of_gguf(source, |_| true, None),
    gguf_names: GgufNames {
        top: ENDS,
        layers: "model.layers",
        layer: &[
            attention_names!("input_layernorm.weight", "self_attn"),
            feed_forward_names!("post_attention_layernorm.weight", "mlp"),
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
