//! Which tensors a model has, with their shapes, and the check that a checkpoint has exactly those.

use super::{Checkpoint, same_shape};
use crate::config::Config;
use crate::error::ModelError;

/// One tensor that the model needs.
pub(super) struct Needed {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// Why, where that is not plain.
    why: &'static str,
}

/// Every tensor that a model of this configuration has. `folded_a`: A stands in place of A_log.
pub(super) fn needed(config: &Config, folded_a: bool) -> Vec<Needed> {
    let c = config;
    let mut list = Vec::new();
    let mut add = |name: String, shape: &[usize], why| {
        list.push(Needed {
            name,
            shape: shape.to_vec(),
            why,
        })
    };
    add("model.embed_tokens.weight".into(), &[c.vocab, c.hidden], "");
    add("model.final_layernorm.weight".into(), &[c.hidden], "");
    if !c.tied {
        let why = ", but its configuration does not say that the embedding is shared (tie_word_embeddings)";
        add("lm_head.weight".into(), &[c.vocab, c.hidden], why);
    }
    let (q, kv, channels, u) = (c.q_width(), c.kv_width(), c.conv_channels(), c.in_proj_rows());
    for layer in 0..c.layers {
        let linear = [
            (
                "self_attn.q_proj",
                q,
                c.hidden,
                c.biases.attention,
                ", but attention_bias is true",
            ),
            (
                "self_attn.k_proj",
                kv,
                c.hidden,
                c.biases.attention,
                ", but attention_bias is true",
            ),
            (
                "self_attn.v_proj",
                kv,
                c.hidden,
                c.biases.attention,
                ", but attention_bias is true",
            ),
            (
                "self_attn.o_proj",
                c.hidden,
                q,
                c.biases.attention,
                ", but attention_bias is true",
            ),
            (
                "mamba.in_proj",
                u,
                c.hidden,
                c.biases.ssm_in,
                ", but mamba_proj_bias is true",
            ),
            (
                "mamba.out_proj",
                c.hidden,
                c.d_ssm,
                c.biases.ssm_out,
                ", but projectors_bias is true",
            ),
            (
                "feed_forward.gate_proj",
                c.intermediate,
                c.hidden,
                c.biases.mlp,
                ", but mlp_bias is true",
            ),
            (
                "feed_forward.up_proj",
                c.intermediate,
                c.hidden,
                c.biases.mlp,
                ", but mlp_bias is true",
            ),
            (
                "feed_forward.down_proj",
                c.hidden,
                c.intermediate,
                c.biases.mlp,
                ", but mlp_bias is true",
            ),
        ];
        for (name, rows, columns, bias, why) in linear {
            add(
                format!("model.layers.{layer}.{name}.weight"),
                &[rows, columns],
                "",
            );
            if bias {
                add(format!("model.layers.{layer}.{name}.bias"), &[rows], why);
            }
        }
        let mut small =
            |name: &str, shape: &[usize], why| add(format!("model.layers.{layer}.{name}"), shape, why);
        small("input_layernorm.weight", &[c.hidden], "");
        small("pre_ff_layernorm.weight", &[c.hidden], "");
        small("mamba.conv1d.weight", &[channels, 1, c.d_conv], "");
        if c.biases.conv {
            small("mamba.conv1d.bias", &[channels], ", but mamba_conv_bias is true");
        }
        small(
            if folded_a { "mamba.A" } else { "mamba.A_log" },
            &[c.ssm_heads],
            "",
        );
        small("mamba.D", &[c.ssm_heads], "");
        small("mamba.dt_bias", &[c.ssm_heads], "");
        if c.gated_norm {
            small(
                "mamba.norm.weight",
                &[c.d_ssm],
                ", but its configuration or another layer has this norm",
            );
        }
    }
    list
}

/// Buffers that some exporters write and that follow from the configuration.
fn is_derived(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".mup_vector")
}

/// Whether a name belongs to the model, so that its type and shape matter.
pub(super) fn is_model_tensor(name: &str) -> bool {
    (name.starts_with("model.") || name == "lm_head.weight") && !is_derived(name)
}

impl Checkpoint {
    /// Checks that every tensor of the configuration is there in its shape, and that the files hold no other
    /// one, which would be a part of the model that is not carried out. Drops what is not used.
    pub(super) fn check(&mut self) -> Result<(), ModelError> {
        let needed = needed(&self.config, self.gguf.is_some());
        for need in &needed {
            let entry = match self.entry(&need.name) {
                Ok(entry) => entry,
                Err(ModelError::MissingTensor { file, tensor, .. }) => {
                    return Err(ModelError::MissingTensor {
                        file,
                        tensor,
                        why: need.why.to_owned(),
                    });
                }
                Err(other) => return Err(other),
            };
            // The gated norm is stored as [d] or [groups, d / groups].
            let grouped = need.name.ends_with(".mamba.norm.weight")
                && entry.shape == [self.config.groups, self.config.d_ssm / self.config.groups];
            if !grouped && !same_shape(&entry.shape, &need.shape) {
                self.tensor(&need.name, &need.shape)?;
            }
            let row = entry.shape.last().copied().unwrap_or(1);
            if row % entry.dtype.block_len() != 0 {
                let problem = format!(
                    "is stored as {} with rows of {row} elements, which must be a multiple of {}",
                    entry.dtype,
                    entry.dtype.block_len()
                );
                return Err(ModelError::tensor(
                    self.file_of(entry),
                    &entry.stored_name,
                    problem,
                ));
            }
        }
        let known: std::collections::BTreeSet<&str> = needed.iter().map(|n| n.name.as_str()).collect();
        for (name, entry) in &self.entries {
            if known.contains(name.as_str()) || !is_model_tensor(name) || name == "lm_head.weight" {
                continue;
            }
            let problem = self.unexpected(name);
            return Err(ModelError::tensor(
                self.file_of(entry),
                &entry.stored_name,
                problem,
            ));
        }
        let kept: std::collections::BTreeSet<String> = needed.into_iter().map(|n| n.name).collect();
        self.entries.retain(|name, _| kept.contains(name));
        Ok(())
    }

    fn unexpected(&self, name: &str) -> String {
        let layer = name
            .strip_prefix("model.layers.")
            .and_then(|n| n.split('.').next()?.parse::<usize>().ok());
        let layers = self.config.layers;
        let flag = match name {
            _ if layer.is_some_and(|l| l >= layers) => {
                return format!(
                    "belongs to a layer that the configuration, which has {layers} layers, does not have"
                );
            }
            n if n.ends_with("conv1d.bias") => "mamba_conv_bias",
            n if !n.ends_with(".bias") => {
                return "is no tensor of a Falcon-H1 model: the file is of another architecture, or quantised or adapted \
                        in a way that is not supported"
                    .to_owned();
            }
            n if n.contains(".self_attn.") => "attention_bias",
            n if n.contains(".feed_forward.") => "mlp_bias",
            n if n.contains(".in_proj.") => "mamba_proj_bias",
            _ => "projectors_bias",
        };
        format!(
            "is there, but the configuration says that there is none: set {flag} to true in config.json, or remove it"
        )
    }
}
