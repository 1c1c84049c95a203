//! `config.json` to [`Config`]: both spellings, transformers' defaults, and a refusal of every key that would
//! change the arithmetic and is not carried out here.

use std::path::Path;

use super::{Biases, Config, Naming};
use crate::error::ModelError;
use crate::json::Fields;

/// A configuration and what it left open.
pub(super) struct Parsed {
    pub(super) config: Config,
    /// `tie_word_embeddings` stands in the file.
    pub(super) states_tie: bool,
    /// `mamba_norm_before_gate` stands in the file.
    pub(super) states_norm_order: bool,
    /// `mamba_rms_norm` is there and true.
    pub(super) wants_norm: bool,
}

pub(super) const NAMING: Naming = Naming {
    hidden: "hidden_size",
    layers: "num_hidden_layers",
    heads: "num_attention_heads",
    kv_heads: "num_key_value_heads",
    head_dim: "head_dim",
    intermediate: "intermediate_size",
    vocab: "vocab_size",
    d_ssm: "mamba_d_ssm",
    ssm_heads: "mamba_n_heads",
    ssm_head_dim: "mamba_d_head",
    d_state: "mamba_d_state",
    groups: "mamba_n_groups",
    d_conv: "mamba_d_conv",
    max_positions: "max_position_embeddings",
    norm_eps: "rms_norm_eps",
    rope_theta: "rope_theta",
};

impl Parsed {
    /// The text of a config.json of this family.
    pub(super) fn from_json(text: &str, file: &Path) -> Result<Self, ModelError> {
        let json = Fields::parse(text, file)?;
        let family = crate::arch::of_config(&json, file)?;
        if family.name != super::ARCHITECTURE.name {
            return Err(json.error("model_type", format!("is {}, not falcon_h1", family.name)));
        }
        Self::read(&json)
    }

    pub(super) fn read(json: &Fields<'_>) -> Result<Self, ModelError> {
        check_supported(json)?;

        let hidden = json.required_size("hidden_size")?;
        let heads = json.required_size("num_attention_heads")?;
        let kv_heads = match json.size("num_key_value_heads")? {
            Some(number) => number,
            // Transformers: null means as many as query heads, no key at all means 8.
            None if json.states("num_key_value_heads") || heads % 8 != 0 => heads,
            None => 8,
        };
        let head_dim = match json.size("head_dim")? {
            Some(width) => width,
            None if heads != 0 && hidden % heads == 0 => hidden / heads,
            None => {
                let problem = format!(
                    "is missing, and num_attention_heads ({heads}) does not divide hidden_size ({hidden})"
                );
                return Err(json.error("head_dim", problem));
            }
        };
        let d_ssm = if json.states("mamba_d_ssm") {
            match json.size("mamba_d_ssm")? {
                Some(width) => width,
                None => json
                    .size("mamba_expand")?
                    .unwrap_or(2)
                    .checked_mul(hidden)
                    .ok_or_else(|| json.error("mamba_expand", "is absurdly large"))?,
            }
        } else {
            1024
        };
        let ssm_heads = json.size("mamba_n_heads")?.unwrap_or(128);
        let automatic = match json.get("mamba_d_head") {
            None => true,
            Some(value) => value.as_str() == Some("auto"),
        };
        let ssm_head_dim = match automatic {
            false => json.required_size("mamba_d_head")?,
            true if ssm_heads != 0 && d_ssm % ssm_heads == 0 => d_ssm / ssm_heads,
            true => {
                let problem = format!("is {ssm_heads}, which does not divide mamba_d_ssm ({d_ssm})");
                return Err(json.error("mamba_n_heads", problem));
            }
        };

        let multiplier = |key| Ok::<_, ModelError>(json.number(key)?.unwrap_or(1.0) as f32);
        let flag = |key, default| Ok::<_, ModelError>(json.flag(key)?.unwrap_or(default));
        let limit = json
            .numbers::<2>("time_step_limit")?
            .unwrap_or([0.0, f64::INFINITY]);
        let wants_norm = flag("mamba_rms_norm", false)?;
        let config = Config {
            hidden,
            layers: json.required_size("num_hidden_layers")?,
            heads,
            kv_heads,
            head_dim,
            intermediate: json.required_size("intermediate_size")?,
            vocab: json.required_size("vocab_size")?,
            d_ssm,
            ssm_heads,
            ssm_head_dim,
            d_state: json.size("mamba_d_state")?.unwrap_or(256),
            groups: json.size("mamba_n_groups")?.unwrap_or(1),
            d_conv: json.size("mamba_d_conv")?.unwrap_or(4),
            norm_eps: json.number("rms_norm_eps")?.unwrap_or(1e-5) as f32,
            rope_theta: rope_theta(json)?,
            max_positions: json.size("max_position_embeddings")?.unwrap_or(8192),
            tied: flag("tie_word_embeddings", false)?,
            gated_norm: wants_norm,
            norm_before_gate: flag("mamba_norm_before_gate", true)?,
            time_step_limit: (limit[0] as f32, limit[1] as f32),
            embedding_multiplier: multiplier("embedding_multiplier")?,
            lm_head_multiplier: multiplier("lm_head_multiplier")?,
            key_multiplier: multiplier("key_multiplier")?,
            attention_in_multiplier: multiplier("attention_in_multiplier")?,
            attention_out_multiplier: multiplier("attention_out_multiplier")?,
            ssm_in_multiplier: multiplier("ssm_in_multiplier")?,
            ssm_out_multiplier: multiplier("ssm_out_multiplier")?,
            ssm_multipliers: json
                .numbers("ssm_multipliers")?
                .unwrap_or([1.0; 5])
                .map(|m| m as f32),
            mlp_multipliers: json
                .numbers("mlp_multipliers")?
                .unwrap_or([1.0; 2])
                .map(|m| m as f32),
            biases: Biases {
                attention: flag("attention_bias", false)?,
                mlp: flag("mlp_bias", false)?,
                ssm_in: flag("mamba_proj_bias", false)?,
                ssm_out: flag("projectors_bias", false)?,
                conv: flag("mamba_conv_bias", true)?,
            },
            eos_ids: json.ids("eos_token_id")?,
        };
        config.check(json.file(), &NAMING)?;
        Ok(Self {
            config,
            states_tie: json.get("tie_word_embeddings").is_some(),
            states_norm_order: json.get("mamba_norm_before_gate").is_some(),
            wants_norm,
        })
    }
}

/// Refuses keys that would change the arithmetic and are not carried out.
fn check_supported(json: &Fields<'_>) -> Result<(), ModelError> {
    if let Some(act) = json
        .text("hidden_act")?
        .filter(|act| !matches!(*act, "silu" | "swish"))
    {
        return Err(json.error("hidden_act", format!("is {act:?}: only \"silu\" is supported")));
    }
    if json.flag("mamba_use_mlp")? == Some(false) {
        return Err(json.error(
            "mamba_use_mlp",
            "is false: only models with a feed-forward part are supported",
        ));
    }
    for key in [
        "sliding_window",
        "attn_layer_indices",
        "quantization_config",
        "compression_config",
    ] {
        if json
            .get(key)
            .is_some_and(|v| v.as_array().is_none_or(|a| !a.is_empty()) && v.as_bool() != Some(false))
        {
            return Err(json.error(key, "is set: this is not supported (null or absent is)"));
        }
    }
    for key in ["layers_block_type", "layer_types"] {
        if let Some(other) = json
            .get(key)
            .and_then(|v| v.as_array())
            .and_then(|types| types.iter().find(|t| t.as_str() != Some("hybrid")))
        {
            return Err(json.error(key, format!("has {other}: every layer must be \"hybrid\"")));
        }
    }
    if let Some(width) = json.number("partial_rotary_factor")?.filter(|f| *f != 1.0) {
        return Err(json.error(
            "partial_rotary_factor",
            format!("is {width}: only 1 is supported"),
        ));
    }
    Ok(())
}

/// The rotary base from `rope_parameters` (5.x) or `rope_theta` (4.x); any kind of scaling is refused.
fn rope_theta(json: &Fields<'_>) -> Result<f64, ModelError> {
    let mut theta = None;
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(rope) = json.object(key)? else {
            continue;
        };
        for kind in ["rope_type", "type"] {
            if let Some(name) = rope.text(kind)?.filter(|name| *name != "default") {
                return Err(json.error(
                    key,
                    format!("has {kind} {name:?}: only \"default\" (no scaling) is supported"),
                ));
            }
        }
        if let Some(part) = rope.number("partial_rotary_factor")?.filter(|f| *f != 1.0) {
            return Err(json.error(
                key,
                format!("has partial_rotary_factor {part}: only 1 is supported"),
            ));
        }
        let known = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
        if let Some(other) = rope.keys().find(|k| !known.contains(k) && rope.get(k).is_some()) {
            return Err(json.error(
                key,
                format!("has {other}: scaled rotary embeddings are not supported"),
            ));
        }
        theta = theta.or(rope.number("rope_theta")?);
    }
    match theta.or(json.number("rope_theta")?) {
        Some(theta) => Ok(theta),
        None => Err(json.error("rope_theta", "is missing, and so is rope_parameters.rope_theta")),
    }
}
