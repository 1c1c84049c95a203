//! Qwen2 and Qwen2.5 (arXiv 2412.15115), and what was distilled into them: DeepSeek-R1-Distill-Qwen, QwQ.
//! Attention with biases on queries, keys and values, and gated feed-forward.

use super::common::{ENDS, attention_names, feed_forward_names};
use super::dense::{Dense, Variant};
use super::{Architecture, GgufNames};

const FAMILY: Dense = Dense {
    architecture: "qwen2",
    head_dim: None,
    theta: 10_000.0,
    head_norms: false,
    fused: false,
    interleaved: false,
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: FAMILY.architecture,
    title: "Qwen2",
    models: "Qwen2, Qwen2.5, QwQ, DeepSeek-R1-Distill-Qwen",
    checked: "transformers and candle on small random models; Qwen2.5-Coder-0.5B and 1.5B Instruct \
              (Q4_K_M)",
    paper: "arXiv 2412.15115",
    aliases: &[],
    classes: &["Qwen2ForCausalLM"],
    gguf: &["qwen2"],
    from_config: |json, tensors| FAMILY.of_config(json, tensors, &Variant::biased([true, false])),
    from_gguf: |source| FAMILY.of_gguf(source, |_| true, None),
    gguf_names: GgufNames {
        top: ENDS,
        layers: "model.layers",
        layer: &[
            attention_names!("input_layernorm.weight", "self_attn"),
            feed_forward_names!("post_attention_layernorm.weight", "mlp"),
        ],
    },
    prefixes: &[],
    bias_flag: |_| None,
    folds_multipliers: false,
    shapes: Vec::new,
};
