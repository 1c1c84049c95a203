//! Llama 2 and 3 (arXiv 2407.21783), and what is made like them: DeepSeek-R1-Distill-Llama, TinyLlama, Yi.
//! Attention and gated feed-forward.

use super::common::{DIVISORS, attention_names, feed_forward_names};
use super::dense::{Dense, Variant};
use super::{Architecture, GgufNames};

const FAMILY: Dense = Dense {
    architecture: "llama",
    head_dim: None,
    theta: 10_000.0,
    head_norms: false,
    fused: false,
    interleaved: true,
};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: FAMILY.architecture,
    title: "Llama",
    models: "Llama 2 and 3, DeepSeek-R1-Distill-Llama",
    checked: "transformers and candle on small random models, Llama 3.1's rotary factors with \
              candle; no published weights",
    paper: "arXiv 2407.21783",
    aliases: &[],
    classes: &["LlamaForCausalLM"],
    gguf: &["llama"],
    from_config: |json, tensors| {
        let flag = |key: &str| Ok::<_, crate::ModelError>(json.flag(key)?.unwrap_or(false));
        let variant = Variant {
            biases: [flag("attention_bias")?; 2],
            mlp_bias: flag("mlp_bias")?,
            ..Variant::default()
        };
        FAMILY.of_config(json, tensors, &variant)
    },
    from_gguf: |source| FAMILY.of_gguf(source, |_| true, None),
    gguf_names: GgufNames {
        top: &[
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("output.weight", "lm_head.weight"),
            ("output_norm.weight", "model.norm.weight"),
            (DIVISORS, DIVISORS),
        ],
        layers: "model.layers",
        layer: &[
            attention_names!("input_layernorm.weight", "self_attn"),
            feed_forward_names!("post_attention_layernorm.weight", "mlp"),
        ],
    },
    prefixes: &[],
    bias_flag: |name| {
        Some(if name.contains(".self_attn.") {
            "attention_bias"
        } else {
            "mlp_bias"
        })
    },
    folds_multipliers: false,
    shapes: Vec::new,
};
