//! What several families share: sizes that most configurations spell alike, rotary tables, and the parts made of
//! them.

use std::fmt::Write as _;
use std::path::Path;

use super::{GgufSource, Tensors};
use crate::error::ModelError;
use crate::json::Fields;
use crate::spec::{
    AttentionSpec, BiasSpec, DecaySpec, EmbedSpec, GatedNormSpec, HeadSpec, LinearSpec, Mamba2Spec,
    ModelSpec, NormSpec, RopeSpec,
};

/// GGUF's names of the ends, for families whose folders name them so.
pub(super) const ENDS: &[(&str, &str)] = &[
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output.weight", "lm_head.weight"),
    ("output_norm.weight", "model.norm.weight"),
];

/// GGUF's names in a layer of attention and gated feed-forward, for families whose folders name them so.
pub(super) const ATTENTION: &[(&str, &str)] = &[
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_q.bias", "self_attn.q_proj.bias"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_k.bias", "self_attn.k_proj.bias"),
    ("attn_v.weight", "self_attn.v_proj.weight"),
    ("attn_v.bias", "self_attn.v_proj.bias"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("attn_output.bias", "self_attn.o_proj.bias"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
];

/// As [`ATTENTION`], of the feed-forward part.
pub(super) const FEED_FORWARD: &[(&str, &str)] = &[
    ("ffn_gate.weight", "mlp.gate_proj.weight"),
    ("ffn_up.weight", "mlp.up_proj.weight"),
    ("ffn_down.weight", "mlp.down_proj.weight"),
];

/// Sizes and scalars that most families have.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) vocab: usize,
    pub(super) context: usize,
    pub(super) eps: f32,
    pub(super) tied: bool,
    pub(super) eos: Vec<u32>,
}

/// A size, what its file calls it, and the largest that it can be.
type Bound<'a> = (usize, &'a str, usize);

impl Sizes {
    /// Reads a config.json. `head_dim` is the family's default; `None` is the hidden size divided by the heads.
    pub(super) fn of_config(
        json: &Fields<'_>,
        tensors: &Tensors<'_>,
        head_dim: Option<usize>,
        eps: &str,
    ) -> Result<Self, ModelError> {
        refuse(json, &["quantization_config", "compression_config"])?;
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
    pub(super) fn of_gguf(
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
            None => hidden.checked_div(heads).unwrap_or(0),
        };
        let values = key("attention.value_length");
        if let Some(other) = source.optional(&values)?.filter(|other| *other != head_dim) {
            let problem = format!("is {other}: values as wide as keys ({head_dim}) are supported");
            return Err(source.error(&values, problem));
        }
        let sizes = Self {
            hidden,
            layers: source.size(&key("block_count"))?,
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
        if !(self.eps.is_finite() && self.eps >= 0.0) {
            let problem = format!("is {}: it must be a small number, not negative", self.eps);
            return Err(ModelError::field(file, eps, problem));
        }
        Ok(self)
    }

    pub(super) fn norm(&self, tensor: impl Into<String>) -> NormSpec {
        NormSpec {
            tensor: tensor.into(),
            eps: self.eps,
        }
    }

    /// A model of these sizes with no layers yet; its ends are called as in most families.
    pub(super) fn model(&self, architecture: &'static str) -> ModelSpec {
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
    pub(super) fn attention(&self, prefix: &str, biases: [bool; 2]) -> AttentionSpec {
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
            scale: (self.head_dim as f32).powf(-0.5),
        }
    }

    /// The digest's lines of these sizes.
    pub(super) fn lines(&self) -> Lines {
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
pub(super) struct Lines(pub(super) String);

impl Lines {
    pub(super) fn put(&mut self, key: &str, value: &dyn std::fmt::Debug) -> &mut Self {
        let _ = writeln!(self.0, "{key}={value:?}");
        self
    }
}

/// Refuses sizes that are 0 or absurd.
pub(super) fn check_bounds(file: &Path, bounds: &[Bound<'_>]) -> Result<(), ModelError> {
    match bounds.iter().find(|(value, _, most)| *value == 0 || value > most) {
        Some((value, field, most)) => {
            let problem = format!("is {value}: it must be between 1 and {most}");
            Err(ModelError::field(file, *field, problem))
        }
        None => Ok(()),
    }
}

/// Refuses keys that would change the arithmetic and are not carried out, where they are set.
pub(super) fn refuse(json: &Fields<'_>, keys: &[&str]) -> Result<(), ModelError> {
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
pub(super) fn check_activation(json: &Fields<'_>, key: &str, allowed: &[&str]) -> Result<(), ModelError> {
    match json.text(key)?.filter(|name| !allowed.contains(name)) {
        Some(name) => Err(json.error(key, format!("is {name:?}: only {:?} is supported", allowed[0]))),
        None => Ok(()),
    }
}

/// Refuses layers that are not whole attention: those of `layer_types` must be `full_attention`, one for each of
/// `layers` layers, and no window may be in use.
pub(super) fn check_full_attention(json: &Fields<'_>, layers: usize) -> Result<(), ModelError> {
    if json.flag("use_sliding_window")? == Some(true) {
        return Err(json.error("use_sliding_window", "is true: sliding windows are not supported"));
    }
    let Some(types) = json.get("layer_types") else {
        return Ok(());
    };
    let Some(types) = types.as_array().filter(|types| types.len() == layers) else {
        let problem = format!("must be a list of {layers} words, one for each layer");
        return Err(json.error("layer_types", problem));
    };
    match types.iter().find(|t| t.as_str() != Some("full_attention")) {
        Some(other) => {
            let problem = format!("has {other}: only \"full_attention\" is supported");
            Err(json.error("layer_types", problem))
        }
        None => Ok(()),
    }
}

/// How positions turn heads: a base and how it is stretched beyond the context of training.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rope {
    theta: f64,
    scaling: Scaling,
}

#[derive(Clone, Debug, PartialEq)]
enum Scaling {
    None,
    /// All positions divided by a factor.
    Linear(f64),
    /// YaRN (arXiv 2309.00071).
    Yarn {
        factor: f64,
        original: f64,
        beta_fast: f64,
        beta_slow: f64,
        /// the ramp's ends are rounded to whole dimensions
        truncate: bool,
        /// scales cosines and sines
        attention: f64,
    },
}

impl Scaling {
    /// What `object`, which stands under `key`, says of this kind of scaling.
    fn of_config(
        json: &Fields<'_>,
        key: &str,
        object: &Fields<'_>,
        kind: &str,
        context: usize,
    ) -> Result<Self, ModelError> {
        // a number that stretches anything is positive
        let positive = |name: &str| match object.number(name)? {
            Some(value) if !(value.is_finite() && value > 0.0) => {
                Err(json.error(key, format!("has {name} {value}: it must be a positive number")))
            }
            value => Ok(value),
        };
        let factor = || positive("factor")?.ok_or_else(|| json.error(key, "has no factor"));
        match kind {
            "linear" => Ok(Self::Linear(factor()?)),
            "yarn" => {
                for name in ["mscale", "mscale_all_dim"] {
                    if object.get(name).is_some() {
                        return Err(json.error(key, format!("has {name}: it is not supported")));
                    }
                }
                let factor = factor()?;
                let name = "original_max_position_embeddings";
                let outside = json.size(name)?.filter(|size| *size > 0).map(|size| size as f64);
                Ok(Self::Yarn {
                    factor,
                    original: positive(name)?.or(outside).unwrap_or(context as f64),
                    beta_fast: positive("beta_fast")?.unwrap_or(32.0),
                    beta_slow: positive("beta_slow")?.unwrap_or(1.0),
                    truncate: object.flag("truncate")?.unwrap_or(true),
                    attention: match positive("attention_factor")? {
                        Some(factor) => factor,
                        // DeepSeek's spelling is a factor of the usual scale
                        None => mscale(factor) * positive("attn_factor")?.unwrap_or(1.0),
                    },
                })
            }
            other => {
                let problem = format!("has rope_type {other:?}: default, linear and yarn are supported");
                Err(json.error(key, problem))
            }
        }
    }
}

/// YaRN's scale of cosines and sines: 1 + 0.1 ln(factor).
fn mscale(factor: f64) -> f64 {
    if factor <= 1.0 {
        1.0
    } else {
        0.1 * factor.ln() + 1.0
    }
}

impl Rope {
    /// `rope_parameters` (transformers 5.x) or `rope_theta` with `rope_scaling` (4.x).
    pub(super) fn of_config(json: &Fields<'_>, theta: f64, context: usize) -> Result<Self, ModelError> {
        let mut rope = Self {
            theta: json.number("rope_theta")?.unwrap_or(theta),
            scaling: Scaling::None,
        };
        let mut scaled_by = None;
        for key in ["rope_parameters", "rope_scaling"] {
            let Some(object) = json.object(key)? else { continue };
            if let Some(theta) = object.number("rope_theta")? {
                rope.theta = theta;
            }
            if let Some(part) = object.number("partial_rotary_factor")?.filter(|f| *f != 1.0) {
                let problem = format!("has partial_rotary_factor {part}: only 1 is supported");
                return Err(json.error(key, problem));
            }
            let kind = object
                .text("rope_type")?
                .or(object.text("type")?)
                .unwrap_or("default");
            if kind == "default" {
                continue;
            }
            if let Some(other) = scaled_by.replace(key) {
                return Err(json.error(
                    key,
                    format!("is set, and so is {other}: which counts is not said"),
                ));
            }
            rope.scaling = Scaling::of_config(json, key, &object, kind, context)?;
        }
        rope.check()
            .map_err(|problem| json.error("rope_theta", problem))?;
        Ok(rope)
    }

    /// The `rope.*` keys.
    pub(super) fn of_gguf(source: &GgufSource<'_>, head_dim: usize) -> Result<Self, ModelError> {
        let key = |name: &str| source.key(name);
        let dims = key("rope.dimension_count");
        if let Some(other) = source.optional(&dims)?.filter(|other| *other != head_dim) {
            let problem = format!("is {other}: only whole heads ({head_dim}) are rotated");
            return Err(source.error(&dims, problem));
        }
        let number = |name: &str, default: f64| {
            let key = key(name);
            if source.metadata.has(&key) {
                source.decimal(&key)
            } else {
                Ok(default)
            }
        };
        let kind = key("rope.scaling.type");
        for name in ["rope.scale_linear", "rope.scaling.attn_factor"] {
            if source.metadata.has(&key(name)) {
                return Err(source.error(&key(name), "is a key of old or other files: it is not supported"));
            }
        }
        let stretch = key("rope.scaling.factor");
        let word = source.metadata.str(&kind);
        if word.is_none() && (source.metadata.has(&kind) || source.metadata.has(&stretch)) {
            let problem = format!("is no word, but it must say which scaling {stretch} belongs to");
            return Err(source.error(&kind, problem));
        }
        let scaling = match word.unwrap_or("none") {
            "none" => Scaling::None,
            "linear" => Scaling::Linear(source.decimal(&stretch)?),
            "yarn" => {
                let factor = source.decimal(&stretch)?;
                Scaling::Yarn {
                    factor,
                    original: source.size(&key("rope.scaling.original_context_length"))? as f64,
                    beta_fast: number("rope.scaling.yarn_beta_fast", 32.0)?,
                    beta_slow: number("rope.scaling.yarn_beta_slow", 1.0)?,
                    truncate: true,
                    attention: mscale(factor) * number("rope.scaling.yarn_attn_factor", 1.0)?,
                }
            }
            other => {
                let problem = format!("is {other:?}: none, linear and yarn are supported");
                return Err(source.error(&kind, problem));
            }
        };
        let theta = key("rope.freq_base");
        let rope = Self {
            theta: source.decimal(&theta)?,
            scaling,
        };
        rope.check().map_err(|problem| source.error(&theta, problem))?;
        Ok(rope)
    }

    fn check(&self) -> Result<(), String> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let sound = match self.scaling {
            Scaling::None => true,
            Scaling::Linear(factor) => positive(factor),
            Scaling::Yarn {
                factor,
                original,
                beta_fast,
                beta_slow,
                attention,
                ..
            } => [factor, original, beta_fast, beta_slow, attention]
                .into_iter()
                .all(positive),
        };
        if positive(self.theta) && self.theta != 1.0 && sound {
            return Ok(());
        }
        Err(format!(
            "is {}, or its scaling has a number that is not positive",
            self.theta
        ))
    }

    /// The table for the first `dims` dimensions of a head, in f32 as references compute it.
    pub(super) fn table(&self, dims: usize) -> RopeSpec {
        let mut table = RopeSpec::plain(self.theta, dims);
        match self.scaling {
            Scaling::None => {}
            Scaling::Linear(factor) => table.frequencies.iter_mut().for_each(|f| *f /= factor as f32),
            Scaling::Yarn {
                factor,
                original,
                beta_fast,
                beta_slow,
                truncate,
                attention,
            } => {
                // the dimension that turns `turns` times over the original context
                let at = |turns: f64| {
                    dims as f64 * (original / (turns * 2.0 * std::f64::consts::PI)).ln()
                        / (2.0 * self.theta.ln())
                };
                let (mut low, mut high) = (at(beta_fast), at(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(dims as f64 - 1.0));
                if low == high {
                    high += 0.001;
                }
                for (i, f) in table.frequencies.iter_mut().enumerate() {
                    let ramp = (((i as f64 - low) / (high - low)) as f32).clamp(0.0, 1.0);
                    *f = *f / factor as f32 * ramp + *f * (1.0 - ramp);
                }
                table.scale = attention as f32;
            }
        }
        table
    }
}

/// A Mamba-2 part whose projections are not scaled.
pub(super) struct Mamba {
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) head_dim: usize,
    pub(super) d_state: usize,
    pub(super) groups: usize,
    pub(super) taps: usize,
    pub(super) conv_bias: bool,
    pub(super) proj_bias: bool,
    pub(super) time_step_limit: (f32, f32),
    /// of the norm after the gate
    pub(super) eps: f32,
    /// A stands in place of A_log, as in GGUF files
    pub(super) folded: bool,
}

/// GGUF's names of a Mamba-2 part, after the part's prefix.
macro_rules! mamba_names {
    ($prefix:literal) => {
        &[
            ("ssm_in.weight", concat!($prefix, ".in_proj.weight")),
            ("ssm_in.bias", concat!($prefix, ".in_proj.bias")),
            ("ssm_out.weight", concat!($prefix, ".out_proj.weight")),
            ("ssm_out.bias", concat!($prefix, ".out_proj.bias")),
            ("ssm_conv1d.weight", concat!($prefix, ".conv1d.weight")),
            ("ssm_conv1d.bias", concat!($prefix, ".conv1d.bias")),
            ("ssm_a", concat!($prefix, ".A")),
            ("ssm_d", concat!($prefix, ".D")),
            ("ssm_dt.bias", concat!($prefix, ".dt_bias")),
            ("ssm_norm.weight", concat!($prefix, ".norm.weight")),
        ]
    };
}
pub(super) use mamba_names;

impl Mamba {
    /// Reads the `ssm.*` keys.
    pub(super) fn of_gguf(source: &GgufSource<'_>, sizes: &Sizes) -> Result<Self, ModelError> {
        let key = |name: &str| source.key(name);
        let (inner, heads) = (key("ssm.inner_size"), key("ssm.time_step_rank"));
        let (width, count) = (source.size(&inner)?, source.size(&heads)?);
        let mamba = Self {
            hidden: sizes.hidden,
            heads: count,
            head_dim: width.checked_div(count).unwrap_or(0),
            d_state: source.size(&key("ssm.state_size"))?,
            groups: source.optional(&key("ssm.group_count"))?.unwrap_or(1),
            taps: source.size(&key("ssm.conv_kernel"))?,
            conv_bias: source.tensors.any("conv1d.bias"),
            proj_bias: source.tensors.any(".in_proj.bias"),
            time_step_limit: (0.0, f32::INFINITY),
            eps: sizes.eps,
            folded: true,
        };
        if mamba.head_dim * count != width {
            let problem = format!("is {width}, which {heads} ({count}) does not divide");
            return Err(source.error(&inner, problem));
        }
        mamba.check(
            source.path,
            (&heads, &inner),
            &key("ssm.state_size"),
            &key("ssm.group_count"),
            &key("ssm.conv_kernel"),
        )?;
        Ok(mamba)
    }

    /// Refuses sizes that cannot be, by the names that their file has for them.
    pub(super) fn check(
        &self,
        file: &Path,
        (heads, head_dim): (&str, &str),
        d_state: &str,
        groups: &str,
        taps: &str,
    ) -> Result<(), ModelError> {
        check_bounds(
            file,
            &[
                (self.heads, heads, 1 << 20),
                (self.head_dim, head_dim, 1 << 20),
                (self.d_state, d_state, 1 << 16),
                (self.groups, groups, 1 << 16),
                (self.taps, taps, 1 << 10),
            ],
        )?;
        if !self.heads.is_multiple_of(self.groups) {
            let problem = format!(
                "is {}, which does not divide the {} heads",
                self.groups, self.heads
            );
            return Err(ModelError::field(file, groups, problem));
        }
        Ok(())
    }

    /// The part whose tensors are called `{prefix}.in_proj.weight` and so on.
    pub(super) fn spec(&self, prefix: &str) -> Mamba2Spec {
        let name = |part: &str| format!("{prefix}.{part}");
        let width = self.heads * self.head_dim;
        let channels = width + 2 * self.groups * self.d_state;
        let linear = |part: &str, rows, columns| {
            LinearSpec::new(name(part), rows, columns).biased(
                self.proj_bias,
                ", but the projections of its Mamba-2 parts have biases",
            )
        };
        Mamba2Spec {
            heads: self.heads,
            head_dim: self.head_dim,
            d_state: self.d_state,
            groups: self.groups,
            taps: self.taps,
            in_proj: linear("in_proj.weight", width + channels + self.heads, self.hidden),
            out_proj: linear("out_proj.weight", self.hidden, width),
            conv: name("conv1d.weight"),
            conv_bias: self.conv_bias.then(|| BiasSpec {
                tensor: name("conv1d.bias"),
                why: ", but its convolutions have biases",
            }),
            decay: if self.folded {
                DecaySpec::Rate(name("A"))
            } else {
                DecaySpec::Log(name("A_log"))
            },
            skip: name("D"),
            dt_bias: name("dt_bias"),
            time_step_limit: self.time_step_limit,
            norm: Some(GatedNormSpec {
                norm: NormSpec {
                    tensor: name("norm.weight"),
                    eps: self.eps,
                },
                before_gate: false,
                why: "",
            }),
        }
    }

    /// Adds the digest's lines of this part.
    pub(super) fn lines(&self, lines: &mut Lines) {
        lines
            .put("ssm_heads", &self.heads)
            .put("ssm_head_dim", &self.head_dim);
        lines
            .put("d_state", &self.d_state)
            .put("groups", &self.groups)
            .put("taps", &self.taps);
        lines.put("time_step_limit", &self.time_step_limit);
    }
}

/// `time_step_limit`, which clamps nothing where it is absent.
pub(super) fn time_step_limit(json: &Fields<'_>) -> Result<(f32, f32), ModelError> {
    let [low, high] = json
        .numbers::<2>("time_step_limit")?
        .unwrap_or([0.0, f64::INFINITY]);
    if low.is_nan() || high.is_nan() || low > high || low == f64::INFINITY || high < 0.0 {
        let problem = format!("is [{low}, {high}]: it must be a lower and an upper bound");
        return Err(json.error("time_step_limit", problem));
    }
    Ok((low as f32, high as f32))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rope(config: &Value) -> Result<Rope, ModelError> {
        let file = Path::new("config.json");
        Rope::of_config(&Fields::parse(&config.to_string(), file)?, 10_000.0, 131_072)
    }

    /// The published settings of DeepSeek-R1-0528-Qwen3-8B: `attn_factor` is the reciprocal of YaRN's own scale.
    #[test]
    fn yarn_stretches_slow_dimensions_alone() {
        let config = json!({
            "rope_theta": 1_000_000,
            "rope_scaling": {
                "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768,
                "attn_factor": 0.878_249,
            },
        });
        let (stretched, plain) = (rope(&config).unwrap().table(128), RopeSpec::plain(1e6, 128));
        assert!((stretched.scale - 1.0).abs() < 1e-5, "{}", stretched.scale);
        let ratio = |i: usize| stretched.frequencies[i] / plain.frequencies[i];
        // 32 turns over 32,768 positions are made by dimension 23.6 of 64, one turn by 39.7
        for i in 0..=23 {
            assert_eq!(ratio(i), 1.0, "{i}");
        }
        for i in 40..64 {
            assert!((ratio(i) - 0.25).abs() < 1e-6, "{i}");
        }
        assert!(
            (ratio(31) - (1.0 - 0.75 * 8.0 / 17.0)).abs() < 1e-3,
            "{}",
            ratio(31)
        );
        let mut own = config.clone();
        own["rope_scaling"]["attention_factor"] = json!(1.5);
        assert_eq!(rope(&own).unwrap().table(128).scale, 1.5);
        own["rope_scaling"] = json!({"type": "yarn", "factor": 4.0});
        let usual = 0.1 * 4f64.ln() + 1.0;
        assert!((f64::from(rope(&own).unwrap().table(128).scale) - usual).abs() < 1e-6);
    }

    #[test]
    fn linear_scaling_divides_and_others_are_refused() {
        let linear = rope(&json!({"rope_scaling": {"type": "linear", "factor": 8.0}}))
            .unwrap()
            .table(64);
        let plain = RopeSpec::plain(10_000.0, 64);
        for (a, b) in linear.frequencies.iter().zip(&plain.frequencies) {
            assert!((a * 8.0 / b - 1.0).abs() < 1e-6);
        }
        for scaling in [
            json!({"rope_type": "dynamic", "factor": 2.0}),
            json!({"rope_type": "yarn", "factor": 0.0}),
            json!({"rope_type": "linear", "factor": "Infinity"}),
            json!({"rope_type": "default", "partial_rotary_factor": 0.5}),
            json!("yarn"),
            json!({"rope_type": "yarn"}),
            json!({"rope_type": "linear", "factor": null}),
            json!({"rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.7}),
        ] {
            assert!(rope(&json!({"rope_scaling": scaling})).is_err(), "{scaling}");
        }
        assert!(rope(&json!({"rope_theta": -1.0})).is_err());
        let yarn = json!({"rope_type": "yarn", "factor": 4.0});
        assert!(rope(&json!({"rope_scaling": yarn, "rope_parameters": yarn})).is_err());
        let inner = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32});
        let (inner, outer) = (
            rope(&json!({"rope_scaling": inner})),
            rope(&json!({"rope_scaling": yarn, "original_max_position_embeddings": 32})),
        );
        assert_eq!(inner.unwrap(), outer.unwrap());
    }
}
