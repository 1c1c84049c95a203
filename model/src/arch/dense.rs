//! Layers of attention and gated feed-forward alone, as Qwen2 and Qwen3 have them.

use super::common::{Rope, Sizes, check_bounds};
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
}

/// Which of q, k and v, and whether o, have a bias.
pub(super) type Biases = [bool; 2];

impl Dense {
    /// Reads a config.json.
    pub(super) fn of_config(
        &self,
        json: &Fields<'_>,
        tensors: &Tensors<'_>,
        biases: Biases,
    ) -> Result<ModelSpec, ModelError> {
        super::common::check_activation(json, "hidden_act", &["silu", "swish"])?;
        let sizes = Sizes::of_config(json, tensors, self.head_dim, "rms_norm_eps")?;
        super::common::check_full_attention(json, sizes.layers)?;
        let width = json.required_size("intermediate_size")?;
        check_bounds(json.file(), &[(width, "intermediate_size", 1 << 22)])?;
        let rope = Rope::of_config(json, self.theta, sizes.context)?;
        Ok(self.spec(&sizes, width, &rope, biases))
    }

    /// Reads the metadata of a GGUF file.
    pub(super) fn of_gguf(&self, source: &GgufSource<'_>) -> Result<ModelSpec, ModelError> {
        let sizes = Sizes::of_gguf(source, None, "model.embed_tokens.weight")?;
        let key = source.key("feed_forward_length");
        let width = source.size(&key)?;
        check_bounds(source.path, &[(width, &key, 1 << 22)])?;
        let window = source.key("attention.sliding_window");
        if source.optional(&window)?.is_some_and(|w| w > 0) {
            return Err(source.error(&window, "is set: sliding windows are not supported"));
        }
        let rope = Rope::of_gguf(source, sizes.head_dim)?;
        let biases = [".q_proj.bias", ".o_proj.bias"].map(|name| source.tensors.any(name));
        Ok(self.spec(&sizes, width, &rope, biases))
    }

    fn spec(&self, sizes: &Sizes, width: usize, rope: &Rope, biases: Biases) -> ModelSpec {
        let layer = |i: usize| {
            let name = |part: &str| format!("model.layers.{i}.{part}");
            let mut attention = sizes.attention(&name("self_attn"), biases);
            attention.rope = Some(0);
            if self.head_norms {
                attention.q_norm = Some(sizes.norm(name("self_attn.q_norm.weight")));
                attention.k_norm = Some(sizes.norm(name("self_attn.k_norm.weight")));
            }
            let linear = |part: &str, rows, columns| {
                LinearSpec::new(name(&format!("mlp.{part}_proj.weight")), rows, columns)
            };
            let mlp = MlpSpec {
                width,
                input: MlpInput::SwiGlu {
                    gate: linear("gate", width, sizes.hidden),
                    up: linear("up", width, sizes.hidden),
                },
                down: linear("down", sizes.hidden, width),
            };
            vec![
                Residual::of(
                    sizes.norm(name("input_layernorm.weight")),
                    Mixer::Attention(attention),
                ),
                Residual::of(
                    sizes.norm(name("post_attention_layernorm.weight")),
                    Mixer::Mlp(mlp),
                ),
            ]
        };
        let mut lines = sizes.lines();
        lines
            .put("intermediate", &width)
            .put("rope", rope)
            .put("biases", &biases);
        ModelSpec {
            ropes: vec![rope.table(sizes.head_dim)],
            layers: (0..sizes.layers).map(layer).collect(),
            arithmetic: format!("family={}\n{}", self.architecture, lines.0),
            ..sizes.model(self.architecture)
        }
    }
}
