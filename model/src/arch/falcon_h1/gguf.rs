//! A Falcon-H1 model as a GGUF file, as llama.cpp writes it: the multipliers are folded into the weights, so
//! the graph runs with all of them 1, the gated norm (if there is one) after the gate.

use std::path::Path;

use super::{Biases, Config, Naming, Parsed};
use crate::arch::GgufSource;
use crate::error::ModelError;
use crate::spec::ModelSpec;
use crate::weights::{OpenOptions, read_text};

const NAMING: Naming = Naming {
    hidden: "falcon-h1.embedding_length",
    layers: "falcon-h1.block_count",
    heads: "falcon-h1.attention.head_count",
    kv_heads: "falcon-h1.attention.head_count_kv",
    head_dim: "falcon-h1.attention.key_length",
    intermediate: "falcon-h1.feed_forward_length",
    vocab: "falcon-h1.vocab_size",
    d_ssm: "falcon-h1.ssm.inner_size",
    ssm_heads: "falcon-h1.ssm.time_step_rank",
    ssm_head_dim: "falcon-h1.ssm.time_step_rank",
    d_state: "falcon-h1.ssm.state_size",
    groups: "falcon-h1.ssm.group_count",
    d_conv: "falcon-h1.ssm.conv_kernel",
    max_positions: "falcon-h1.context_length",
    norm_eps: "falcon-h1.attention.layer_norm_rms_epsilon",
    rope_theta: "falcon-h1.rope.freq_base",
};

/// The model that the file holds.
pub(super) fn spec(source: &GgufSource<'_>) -> Result<ModelSpec, ModelError> {
    check_kind(source)?;
    let mut config = config(source)?;
    let beside = Beside::read(source.path, &config);
    if let (Beside::Fits(parsed), false) = (&beside, source.metadata.has(NAMING.max_positions)) {
        config.max_positions = parsed.config.max_positions;
    }
    let attention_bias = source
        .tensors
        .find(|n| n.contains(".self_attn.") && n.ends_with(".bias"));
    if let Some(stored) = attention_bias {
        check_attention_bias(source.path, stored, &beside)?;
    }
    complete(source.path, &mut config, &beside, source.options)?;
    Ok(config.spec(true))
}

/// Refuses the unfolded files of an early fork, and what is not carried out.
fn check_kind(source: &GgufSource<'_>) -> Result<(), ModelError> {
    let (path, metadata) = (source.path, source.metadata);
    let early = metadata.keys().find(|key| {
        key.strip_prefix("falcon-h1.").is_some_and(|k| {
            k.contains("multiplier")
                || [
                    "rope_theta",
                    "ssm.has_mup",
                    "mamba_rms_norm",
                    "mamba_norm_before_gate",
                ]
                .contains(&k)
                || k.starts_with("mamba_")
        })
    });
    if let Some(key) = early {
        let problem = "is a key of early Falcon-H1 files, whose weights do not have the multipliers folded \
                       in: \
                       convert the model again with a current llama.cpp";
        return Err(ModelError::field(path, key, problem));
    }
    if let Some(kind) = metadata
        .str("falcon-h1.rope.scaling.type")
        .filter(|kind| *kind != "none")
    {
        let problem = format!("is {kind:?}: scaled rotary embeddings are not supported");
        return Err(ModelError::field(path, "falcon-h1.rope.scaling.type", problem));
    }
    if let Some(window) = metadata
        .u32("falcon-h1.attention.sliding_window")
        .filter(|w| *w > 0)
    {
        let problem = format!("is {window}: sliding windows are not supported");
        return Err(ModelError::field(
            path,
            "falcon-h1.attention.sliding_window",
            problem,
        ));
    }
    Ok(())
}

/// The configuration that the metadata and the tensors say.
fn config(source: &GgufSource<'_>) -> Result<Config, ModelError> {
    let path = source.path;
    let optional = |key: &str| source.optional(key);
    let size = |key: &str| source.size(key);
    let hidden = size(NAMING.hidden)?;
    let heads = size(NAMING.heads)?;
    let head_dim = match optional(NAMING.head_dim)? {
        Some(width) => width,
        None if heads > 0 && hidden % heads == 0 => hidden / heads,
        None => return Err(ModelError::field(path, NAMING.head_dim, "is missing")),
    };
    for key in [
        "falcon-h1.attention.value_length",
        "falcon-h1.rope.dimension_count",
    ] {
        if let Some(other) = optional(key)?.filter(|other| *other != head_dim) {
            let problem = format!("is {other}: only {} ({head_dim}) is supported", NAMING.head_dim);
            return Err(ModelError::field(path, key, problem));
        }
    }
    let (d_ssm, ssm_heads) = (size(NAMING.d_ssm)?, size(NAMING.ssm_heads)?);
    if ssm_heads > 0 && d_ssm % ssm_heads != 0 {
        let problem = format!("is {ssm_heads}, which does not divide {} ({d_ssm})", NAMING.d_ssm);
        return Err(ModelError::field(path, NAMING.ssm_heads, problem));
    }
    let vocab = source.vocab(NAMING.vocab, "model.embed_tokens.weight")?;
    let any = |suffix: &str| source.tensors.any(suffix);
    let config = Config {
        hidden,
        layers: size(NAMING.layers)?,
        heads,
        kv_heads: optional(NAMING.kv_heads)?.unwrap_or(heads),
        head_dim,
        intermediate: size(NAMING.intermediate)?,
        vocab,
        d_ssm,
        ssm_heads,
        ssm_head_dim: d_ssm.checked_div(ssm_heads).unwrap_or(0),
        d_state: size(NAMING.d_state)?,
        groups: optional(NAMING.groups)?.unwrap_or(1),
        d_conv: size(NAMING.d_conv)?,
        norm_eps: source.number(NAMING.norm_eps)?,
        rope_theta: source.decimal(NAMING.rope_theta)?,
        max_positions: optional(NAMING.max_positions)?.unwrap_or(8192),
        tied: !source.tensors.has("lm_head.weight"),
        gated_norm: any(".mamba.norm.weight"),
        norm_before_gate: false,
        time_step_limit: (0.0, f32::INFINITY),
        embedding_multiplier: 1.0,
        lm_head_multiplier: 1.0,
        key_multiplier: 1.0,
        attention_in_multiplier: 1.0,
        attention_out_multiplier: 1.0,
        ssm_in_multiplier: 1.0,
        ssm_out_multiplier: 1.0,
        ssm_multipliers: [1.0; 5],
        mlp_multipliers: [1.0; 2],
        biases: Biases {
            attention: any(".q_proj.bias")
                || any(".k_proj.bias")
                || any(".v_proj.bias")
                || any(".o_proj.bias"),
            mlp: any(".gate_proj.bias") || any(".up_proj.bias") || any(".down_proj.bias"),
            ssm_in: any(".in_proj.bias"),
            ssm_out: any(".out_proj.bias"),
            conv: any(".conv1d.bias"),
        },
        eos_ids: source.eos(),
    };
    config.check(path, &NAMING)?;
    Ok(config)
}

/// The config.json beside a GGUF file.
enum Beside {
    Absent,
    /// It is there, but is not this model's: why.
    Foreign(String),
    Fits(Box<Parsed>),
}

impl Beside {
    fn read(path: &Path, config: &Config) -> Self {
        let file = path.with_file_name("config.json");
        if !file.is_file() {
            return Self::Absent;
        }
        let parsed = read_text(&file).and_then(|text| Parsed::from_json(&text, &file));
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return Self::Foreign(format!("cannot be used: {error}")),
        };
        let theirs = &parsed.config;
        let sizes = |c: &Config| {
            [
                c.hidden,
                c.layers,
                c.heads,
                c.kv_heads,
                c.head_dim,
                c.intermediate,
                c.d_ssm,
                c.ssm_heads,
                c.d_state,
                c.groups,
            ]
        };
        if sizes(theirs) != sizes(config) || theirs.vocab != config.vocab || theirs.d_conv != config.d_conv {
            return Self::Foreign("describes a model of another shape".to_owned());
        }
        Self::Fits(Box::new(parsed))
    }
}

/// llama.cpp's converter scales these biases by attention_in_multiplier, which acts on the input of the
/// projections and so not on their biases: a file that has them is right only if that multiplier is 1.
fn check_attention_bias(path: &Path, tensor: &str, beside: &Beside) -> Result<(), ModelError> {
    if matches!(beside, Beside::Fits(p) if p.config.attention_in_multiplier == 1.0) {
        return Ok(());
    }
    let problem = "is there, and conversion to GGUF scales the attention biases of Falcon-H1 wrongly unless \
                   attention_in_multiplier is 1 (a config.json beside the file would say so): open the \
                   original Hugging \
                   Face folder";
    Err(ModelError::tensor(path, tensor, problem))
}

/// Adds what the file does not hold: from the config.json beside it, or from the user.
fn complete(
    path: &Path,
    config: &mut Config,
    beside: &Beside,
    options: OpenOptions,
) -> Result<(), ModelError> {
    if let Beside::Fits(parsed) = beside {
        let theirs = &parsed.config;
        config.time_step_limit = theirs.time_step_limit;
        if parsed.states_norm_order {
            config.norm_before_gate = theirs.norm_before_gate;
        }
        for id in &theirs.eos_ids {
            if !config.eos_ids.contains(id) {
                config.eos_ids.push(*id);
            }
        }
    }
    if !config.tied {
        return Ok(());
    }
    let scale = match (options.tied_logit_scale, beside) {
        (Some(scale), _) => scale,
        (None, Beside::Fits(parsed)) => {
            let (head, embedding) = (
                parsed.config.lm_head_multiplier,
                parsed.config.embedding_multiplier,
            );
            head / embedding
        }
        (None, Beside::Absent) => {
            return Err(ModelError::TiedScale {
                file: path.to_path_buf(),
                note: String::new(),
            });
        }
        (None, Beside::Foreign(why)) => {
            let note = format!(" (the config.json beside it {why})");
            return Err(ModelError::TiedScale {
                file: path.to_path_buf(),
                note,
            });
        }
    };
    if !(scale.is_finite() && scale != 0.0) {
        let problem = format!("gives a logit scale of {scale}: it must be a finite number and not 0");
        return Err(ModelError::field(
            path,
            "lm_head_multiplier / embedding_multiplier",
            problem,
        ));
    }
    config.lm_head_multiplier = scale;
    Ok(())
}
