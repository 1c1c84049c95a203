//! What several families share: sizes that most configurations spell alike, GGUF's names, and the parts made
//! of them.

mod experts;
mod mamba;
mod rope;

use std::fmt::Write as _;
use std::path::Path;

pub(in crate::arch) use experts::{ExpertKeys, Experts, Part, Stored, expert_names};
pub(in crate::arch) use mamba::{Mamba, MambaKeys, mamba_names};
pub(in crate::arch) use rope::{DIVISORS, Rope};

use super::{GgufSource, Tensors};
use crate::error::ModelError;
use crate::json::Fields;
use crate::spec::{AttentionSpec, EmbedSpec, HeadSpec, LinearSpec, ModelSpec, NormSpec};

/// GGUF's names of the ends, for families whose folders name them so.
pub(in crate::arch) const ENDS: &[(&str, &str)] = &[
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output.weight", "lm_head.weight"),
    ("output_norm.weight", "model.norm.weight"),
];

/// GGUF's names of an attention part and of the norm before it; `$part` is what its canonical names begin
/// with.
macro_rules! attention_names {
    ($norm:literal, $part:literal) => {
        &[
            ("attn_norm.weight", $norm),
            ("attn_q.weight", concat!($part, ".q_proj.weight")),
            ("attn_q.bias", concat!($part, ".q_proj.bias")),
            ("attn_k.weight", concat!($part, ".k_proj.weight")),
            ("attn_k.bias", concat!($part, ".k_proj.bias")),
            ("attn_v.weight", concat!($part, ".v_proj.weight")),
            ("attn_v.bias", concat!($part, ".v_proj.bias")),
            ("attn_output.weight", concat!($part, ".o_proj.weight")),
            ("attn_output.bias", concat!($part, ".o_proj.bias")),
        ]
    };
}
pub(in crate::arch) use attention_names;

/// GGUF's names of a gated feed-forward part and of the norm before it, as [`attention_names`].
macro_rules! feed_forward_names {
    ($norm:literal, $part:literal) => {
        &[
            ("ffn_norm.weight", $norm),
            ("ffn_gate.weight", concat!($part, ".gate_proj.weight")),
            ("ffn_gate.bias", concat!($part, ".gate_proj.bias")),
            ("ffn_up.weight", concat!($part, ".up_proj.weight")),
            ("ffn_up.bias", concat!($part, ".up_proj.bias")),
            ("ffn_down.weight", concat!($part, ".down_proj.weight")),
            ("ffn_down.bias", concat!($part, ".down_proj.bias")),
        ]
    };
}
pub(in crate::arch) use feed_forward_names;

/// Sizes and scalars that most families have.
#[derive(Clone, Debug)]
pub(in crate::arch) struct Sizes {
    pub(in crate::arch) hidden: usize,
    pub(in crate::arch) layers: usize,
    pub(in crate::arch) heads: usize,
    pub(in crate::arch) kv_heads: usize,
    pub(in crate::arch) head_dim: usize,
    pub(in crate::arch) vocab: usize,
    pub(in crate::arch) context: usize,
    pub(in crate::arch) eps: f32,
    pub(in crate::arch) tied: bool,
    pub(in crate::arch) eos: Vec<u32>,
}

/// A size, what its file calls it, and the largest that it can be.
type Bound<'a> = (usize, &'a str, usize);

impl Sizes {
    /// Reads a config.json. `head_dim` is the family's default; `None` is the hidden size divided by the
    /// heads.
    pub(in crate::arch) fn of_config(
        json: &Fields<'_>,
        tensors: &Tensors<'_>,
        head_dim: Option<usize>,
        eps: &str,
    ) -> Result<Self, ModelError> {
        // tensors in MXFP4 say themselves that they are
        let method = json
            .get("quantization_config")
            .and_then(|q| q.get("quant_method"));
        if method.and_then(|method| method.as_str()) != Some("mxfp4") {
            refuse(json, &["quantization_config"])?;
        }
        refuse(json, &["compression_config"])?;
        let hidden = json.required_size("hidden_size")?;
        let heads = json.required_size("num_attention_heads")?;
        let tied = match json.flag("tie_word_embeddings")? {
            Some(tied) => tied,
            None => !tensors.has("lm_head.weight"),
        };
        let sizes = Self {
            hidden,
            layers: json.required_size("num_hidden_layers")?,
            heads,
            kv_heads: json.size("num_key_value_heads")?.unwrap_or(heads),
            head_dim: match json.size("head_dim")?.or(head_dim) {
                Some(width) => width,
                None if heads > 0 && hidden % heads != 0 => {
                    let problem =
                        format!("is missing, and {heads} heads do not divide hidden_size ({hidden})");
                    return Err(json.error("head_dim", problem));
                }
                None => hidden.checked_div(heads).unwrap_or(0),
            },
            vocab: json.required_size("vocab_size")?,
            context: json.size("max_position_embeddings")?.unwrap_or(32_768),
            eps: json.number(eps)?.unwrap_or(1e-6) as f32,
            tied,
            eos: json.ids("eos_token_id")?,
        };
        let bounds = [
            (sizes.hidden, "hidden_size", 1 << 20),
            (sizes.layers, "num_hidden_layers", 1 << 12),
            (sizes.heads, "num_attention_heads", 1 << 16),
            (sizes.kv_heads, "num_key_value_heads", 1 << 16),
            (sizes.head_dim, "head_dim", 1 << 16),
            (sizes.vocab, "vocab_size", 1 << 24),
            (sizes.context, "max_position_embeddings", 1 << 32),
        ];
        sizes.check(json.file(), &bounds, eps)
    }

    /// Reads the metadata of a GGUF file; `kv_heads` where it says so for each layer, `embedding` is the
    /// embedding's canonical name.
    pub(in crate::arch) fn of_gguf(
        source: &GgufSource<'_>,
        kv_heads: Option<usize>,
        embedding: &str,
    ) -> Result<Self, ModelError> {
        let key = |name: &str| source.key(name);
        let hidden = source.size(&key("embedding_length"))?;
        let heads = source.size(&key("attention.head_count"))?;
        let (kv_key, eps) = (
            key("attention.head_count_kv"),
            key("attention.layer_norm_rms_epsilon"),
        );
        let head_dim = match source.optional(&key("attention.key_length"))? {
            Some(width) => width,
            None if heads > 0 && hidden % heads != 0 => {
                let problem = format!("is missing, and {heads} heads do not divide the width {hidden}");
                return Err(source.error(&key("attention.key_length"), problem));
            }
            None => hidden.checked_div(heads).unwrap_or(0),
        };
        let values = key("attention.value_length");
        if let Some(other) = source.optional(&values)?.filter(|other| *other != head_dim) {
            let problem = format!("is {other}: values as wide as keys ({head_dim}) are supported");
            return Err(source.error(&values, problem));
        }
        let sizes = Self {
            hidden,
            layers: source.layers()?,
            heads,
            kv_heads: match kv_heads {
                Some(kv_heads) => kv_heads,
                None => source.optional(&kv_key)?.unwrap_or(heads),
            },
            head_dim,
            vocab: source.vocab(&key("vocab_size"), embedding)?,
            context: source.optional(&key("context_length"))?.unwrap_or(32_768),
            eps: source.number(&eps)?,
            tied: !source.tensors.has("lm_head.weight"),
            eos: source.eos(),
        };
        let names = [
            key("embedding_length"),
            key("block_count"),
            key("attention.head_count"),
            kv_key,
            key("attention.key_length"),
            key("vocab_size"),
            key("context_length"),
        ];
        let [hidden, layers, heads, kv, head_dim, vocab, context] = names.each_ref().map(String::as_str);
        let bounds = [
            (sizes.hidden, hidden, 1 << 20),
            (sizes.layers, layers, 1 << 12),
            (sizes.heads, heads, 1 << 16),
            (sizes.kv_heads, kv, 1 << 16),
            (sizes.head_dim, head_dim, 1 << 16),
            (sizes.vocab, vocab, 1 << 24),
            (sizes.context, context, 1 << 32),
        ];
        sizes.check(source.path, &bounds, &eps)
    }

    fn check(self, file: &Path, bounds: &[Bound<'_>; 7], eps: &str) -> Result<Self, ModelError> {
        check_bounds(file, bounds)?;
        let [
            _,
            _,
            (heads, _, _),
            (kv_heads, field, _),
            (head_dim, width, _),
            ..,
        ] = *bounds;
        if !heads.is_multiple_of(kv_heads) {
            let problem = format!("is {kv_heads}, which does not divide the {heads} query heads");
            return Err(ModelError::field(file, field, problem));
        }
        if !head_dim.is_multiple_of(2) {
            let problem = format!("is {head_dim}: heads of an even width are supported");
            return Err(ModelError::field(file, width, problem));
        }
        if !(0.0..=1.0).contains(&self.eps) {
            let problem = format!("is {}: it must be a small number, from 0 to 1", self.eps);
            return Err(ModelError::field(file, eps, problem));
        }
        Ok(self)
    }

    pub(in crate::arch) fn norm(&self, tensor: impl Into<String>) -> NormSpec {
        NormSpec {
            tensor: tensor.into(),
            eps: self.eps,
            zero_centered: false,
        }
    }

    /// A model of these sizes with no layers yet; its ends are called as in most families.
    pub(in crate::arch) fn model(&self, architecture: &'static str) -> ModelSpec {
        ModelSpec {
            architecture,
            hidden: self.hidden,
            vocab: self.vocab,
            context: self.context,
            embed: EmbedSpec {
                tensor: "model.embed_tokens.weight".to_owned(),
                scale: 1.0,
            },
            ropes: Vec::new(),
            layers: Vec::new(),
            norm: self.norm("model.norm.weight"),
            head: HeadSpec {
                tensor: (!self.tied).then(|| "lm_head.weight".to_owned()),
                scale: 1.0,
            },
            eos: self.eos.clone(),
            arithmetic: String::new(),
        }
    }

    /// Attention under `prefix` (`model.layers.0.self_attn`), not normed, not rotated; `biases` says which of
    /// q, k and v, and whether o, have one.
    pub(in crate::arch) fn attention(&self, prefix: &str, biases: [bool; 2]) -> AttentionSpec {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let linear = |part: &str, rows, columns, biased| {
            LinearSpec::new(format!("{prefix}.{part}_proj.weight"), rows, columns)
                .biased(biased, ", but attention of this model has biases")
        };
        AttentionSpec {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            q: linear("q", q, self.hidden, biases[0]),
            k: linear("k", kv, self.hidden, biases[0]),
            v: linear("v", kv, self.hidden, biases[0]),
            o: linear("o", self.hidden, q, biases[1]),
            q_norm: None,
            k_norm: None,
            rope: None,
            gate: None,
            sinks: None,
            window: None,
            scale: (self.head_dim as f32).powf(-0.5),
        }
    }

    /// The digest's lines of these sizes.
    pub(in crate::arch) fn lines(&self) -> Lines {
        let mut lines = Lines(String::new());
        lines
            .put("hidden", &self.hidden)
            .put("layers", &self.layers)
            .put("heads", &self.heads);
        lines
            .put("kv_heads", &self.kv_heads)
            .put("head_dim", &self.head_dim)
            .put("vocab", &self.vocab);
        lines.put("norm_eps", &self.eps).put("tied", &self.tied);
        lines
    }
}

/// Lines `key=value` for a digest.
pub(in crate::arch) struct Lines(pub(in crate::arch) String);

impl Lines {
    pub(in crate::arch) fn put(&mut self, key: &str, value: &dyn std::fmt::Debug) -> &mut Self {
        let _ = writeln!(self.0, "{key}={value:?}");
        self
    }
}

/// Refuses sizes that are 0 or absurd.
pub(in crate::arch) fn check_bounds(file: &Path, bounds: &[Bound<'_>]) -> Result<(), ModelError> {
    match bounds.iter().find(|(value, _, most)| *value == 0 || value > most) {
        Some((value, field, most)) => {
            let problem = format!("is {value}: it must be between 1 and {most}");
            Err(ModelError::field(file, *field, problem))
        }
        None => Ok(()),
    }
}

/// Refuses keys that would change the arithmetic and are not carried out, where they are set.
pub(in crate::arch) fn refuse(json: &Fields<'_>, keys: &[&str]) -> Result<(), ModelError> {
    let set = |key: &&&str| {
        json.get(key)
            .is_some_and(|v| v.as_array().is_none_or(|a| !a.is_empty()) && v.as_bool() != Some(false))
    };
    match keys.iter().find(set) {
        Some(key) => Err(json.error(key, "is set: this is not supported (null or absent is)")),
        None => Ok(()),
    }
}

/// Refuses another activation than this.
pub(in crate::arch) fn check_activation(
    json: &Fields<'_>,
    key: &str,
    allowed: &[&str],
) -> Result<(), ModelError> {
    match json.text(key)?.filter(|name| !allowed.contains(name)) {
        Some(name) => Err(json.error(key, format!("is {name:?}: only {:?} is supported", allowed[0]))),
        None => Ok(()),
    }
}

/// The window of attention of each layer, if it has one: `sliding_window` where `layer_types` says
/// `sliding_attention`, or in the `usual` layers where it says nothing.
pub(in crate::arch) fn windows(
    json: &Fields<'_>,
    layers: usize,
    usual: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>, ModelError> {
    let sliding = match layer_types(json, layers)? {
        None => (0..layers).map(usual).collect(),
        Some(types) => types
            .iter()
            .map(|kind| match kind.as_str() {
                Some("sliding_attention") => Ok(true),
                Some("full_attention") => Ok(false),
                _ => {
                    let problem =
                        format!("has {kind}: layers are \"sliding_attention\" and \"full_attention\"");
                    Err(json.error("layer_types", problem))
                }
            })
            .collect::<Result<Vec<_>, _>>()?,
    };
    if !sliding.contains(&true) {
        return Ok(vec![None; layers]);
    }
    let window = json.required_size("sliding_window")?;
    check_bounds(json.file(), &[(window, "sliding_window", 1 << 32)])?;
    Ok(sliding
        .into_iter()
        .map(|slides| slides.then_some(window))
        .collect())
}

/// `layer_types`, one for each of `layers` layers, if it is there.
fn layer_types<'a>(
    json: &'a Fields<'_>,
    layers: usize,
) -> Result<Option<&'a Vec<serde_json::Value>>, ModelError> {
    match json.get("layer_types") {
        None => Ok(None),
        Some(types) => match types.as_array().filter(|types| types.len() == layers) {
            Some(types) => Ok(Some(types)),
            None => {
                let problem = format!("must be a list of {layers} words, one for each layer");
                Err(json.error("layer_types", problem))
            }
        },
    }
}

/// Refuses layers that are not whole attention: those of `layer_types` must be `full_attention`, one for each
/// of `layers` layers, and no window may be in use.
pub(in crate::arch) fn check_full_attention(json: &Fields<'_>, layers: usize) -> Result<(), ModelError> {
    if json.flag("use_sliding_window")? == Some(true) {
        return Err(json.error("use_sliding_window", "is true: sliding windows are not supported"));
    }
    let Some(types) = layer_types(json, layers)? else {
        return Ok(());
    };
    match types.iter().find(|t| t.as_str() != Some("full_attention")) {
        Some(other) => {
            let problem = format!("has {other}: only \"full_attention\" is supported");
            Err(json.error("layer_types", problem))
        }
        None => Ok(()),
    }
}
