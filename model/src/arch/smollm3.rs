//! SmolLM3 (Hugging Face, July 2025): attention and gated feed-forward, every fourth layer without positions
//! (arXiv 2501.18795).

use super::common::{ENDS, attention_names, feed_forward_names};
use super::dense::{Dense, Variant};
use super::{Architecture, GgufNames};
use crate::error::ModelError;
use crate::json::Fields;

const FAMILY: Dense = Dense {
    architecture: "smollm3",
    head_dim: None,
    theta: 2_000_000.0,
    head_norms: false,
    fused: false,
    interleaved: true,
};

/// One layer of so many has no positions where nothing else is said.
const INTERVAL: usize = 4;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: FAMILY.architecture,
    title: "SmolLM3",
    models: "SmolLM3",
    checked: "transformers and candle on small random models; no published weights",
    paper: "arXiv 2501.18795",
    aliases: &[],
    classes: &["SmolLM3ForCausalLM"],
    gguf: &["smollm3"],
    from_config: |json, tensors| {
        let flag = |key: &str| Ok::<_, ModelError>(json.flag(key)?.unwrap_or(false));
        let variant = Variant {
            biases: [flag("attention_bias")?; 2],
            mlp_bias: flag("mlp_bias")?,
            rotated: rotated(json)?,
            experts: None,
        };
        FAMILY.of_config(json, tensors, &variant)
    },
    from_gguf: |source| FAMILY.of_gguf(source, |layer| !(layer + 1).is_multiple_of(INTERVAL), None),
    gguf_names: GgufNames {
        top: ENDS,
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

/// Which layers are rotated: `no_rope_layers`, where 1 means that the layer is, else all but one of each
/// `no_rope_layer_interval`.
fn rotated(json: &Fields<'_>) -> Result<Vec<bool>, ModelError> {
    let layers = json.required_size("num_hidden_layers")?;
    let Some(list) = json.get("no_rope_layers") else {
        let interval = json.size("no_rope_layer_interval")?.unwrap_or(INTERVAL);
        if interval == 0 || layers > 1 << 12 {
            return Err(json.error("no_rope_layer_interval", "is 0, or there are too many layers"));
        }
        return Ok((1..=layers)
            .map(|layer| !layer.is_multiple_of(interval))
            .collect());
    };
    let rotated = list.as_array().and_then(|list| {
        let flags = list.iter().map(|flag| match flag.as_u64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        });
        flags
            .collect::<Option<Vec<bool>>>()
            .filter(|flags| flags.len() == layers)
    });
    rotated.ok_or_else(|| {
        let problem = format!("must be a list of {layers} numbers 0 and 1, one for each layer");
        json.error("no_rope_layers", problem)
    })
}
