//! Rotary embeddings: the base of the frequencies and how they are stretched beyond the context of training.

use crate::arch::GgufSource;
use crate::error::{ModelError, shown};
use crate::json::{Fields, MOST_FACTOR, is_factor};
use crate::spec::RopeSpec;

/// How positions turn heads: a base, how it is stretched beyond the context of training, and how much of a
/// head turns.
#[derive(Clone, PartialEq)]
pub(in crate::arch) struct Rope {
    theta: f64,
    /// share of a head that is rotated; the dimensions behind it stay
    partial: f64,
    scaling: Scaling,
}

/// Digests are of this text, so what is usual is left out of it.
impl std::fmt::Debug for Rope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("Rope");
        text.field("theta", &self.theta);
        if self.partial != 1.0 {
            text.field("partial", &self.partial);
        }
        text.field("scaling", &self.scaling).finish()
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Scaling {
    None,
    /// All positions divided by a factor.
    Linear(f64),
    /// Llama 3.1's: slow dimensions divided by a factor, fast ones left, between them a ramp over how often
    /// they turn within the original context.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    /// A divisor for each frequency.
    Divisors(Vec<f32>),
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
            Some(value) if !is_factor(value) => Err(json.error(
                key,
                format!("has {name} {value}: it must be a number above 0 and below {MOST_FACTOR}"),
            )),
            value => Ok(value),
        };
        let needed = |name: &str| positive(name)?.ok_or_else(|| json.error(key, format!("has no {name}")));
        let factor = || needed("factor");
        match kind {
            "linear" => Ok(Self::Linear(factor()?)),
            "llama3" => {
                let (low, high) = (needed("low_freq_factor")?, needed("high_freq_factor")?);
                if high <= low {
                    let problem =
                        format!("has high_freq_factor {high}: it must be above low_freq_factor {low}");
                    return Err(json.error(key, problem));
                }
                Ok(Self::Llama3 {
                    factor: factor()?,
                    low,
                    high,
                    original: needed("original_max_position_embeddings")?,
                })
            }
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
                let problem =
                    format!("has rope_type {other:?}: default, linear, llama3 and yarn are supported");
                Err(json.error(key, problem))
            }
        }
    }
}

/// GGUF's tensor of divisors of the frequencies, which Llama 3.1's files have instead of keys.
pub(in crate::arch) const DIVISORS: &str = "rope_freqs.weight";

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
    pub(in crate::arch) fn of_config(
        json: &Fields<'_>,
        theta: f64,
        context: usize,
    ) -> Result<Self, ModelError> {
        let mut rope = Self {
            theta: json.number("rope_theta")?.unwrap_or(theta),
            partial: json.number("partial_rotary_factor")?.unwrap_or(1.0),
            scaling: Scaling::None,
        };
        let mut scaled_by = None;
        for key in ["rope_parameters", "rope_scaling"] {
            let Some(object) = json.object(key)? else { continue };
            if let Some(theta) = object.number("rope_theta")? {
                rope.theta = theta;
            }
            if let Some(partial) = object.number("partial_rotary_factor")? {
                rope.partial = partial;
            }
            let (newer, older) = (object.text("rope_type")?, object.text("type")?);
            if let (Some(newer), Some(older)) = (newer, older)
                && newer != older
            {
                let problem = format!("has rope_type {} and type {}", shown(newer), shown(older));
                return Err(json.error(key, problem));
            }
            let kind = match newer.or(older) {
                Some(kind) => kind,
                None if object.get("factor").is_some() => {
                    let problem = "has a factor and no rope_type, which says what the factor is of";
                    return Err(json.error(key, problem));
                }
                None => "default",
            };
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
        if !(rope.partial > 0.0 && rope.partial <= 1.0) {
            let problem = format!("is {}: it must be above 0 and at most 1", rope.partial);
            return Err(json.error("partial_rotary_factor", problem));
        }
        rope.check()
            .map_err(|problem| json.error("rope_theta", problem))?;
        Ok(rope)
    }

    /// The same with this share of a head rotated.
    pub(in crate::arch) fn turning(self, partial: f64) -> Self {
        Self { partial, ..self }
    }

    /// The same with the ends of YaRN's ramp where they fall, between whole dimensions.
    pub(in crate::arch) fn untruncated(mut self) -> Self {
        if let Scaling::Yarn { truncate, .. } = &mut self.scaling {
            *truncate = false;
        }
        self
    }

    /// The `rope.*` keys.
    pub(in crate::arch) fn of_gguf(source: &GgufSource<'_>, head_dim: usize) -> Result<Self, ModelError> {
        let key = |name: &str| source.key(name);
        let dims = key("rope.dimension_count");
        let rotated = source.optional(&dims)?.unwrap_or(head_dim);
        if rotated == 0 || rotated > head_dim || !rotated.is_multiple_of(2) {
            let problem =
                format!("is {rotated}: it must be an even number up to the width of a head ({head_dim})");
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
        let mut rope = Self {
            theta: source.decimal(&theta)?,
            partial: rotated as f64 / head_dim as f64,
            scaling,
        };
        if let Some(divisors) = source.vector(DIVISORS, rotated / 2)? {
            if rope.scaling != Scaling::None {
                let problem = "is set, and so is the tensor rope_freqs.weight: which counts is not said";
                return Err(source.error(&kind, problem));
            }
            if let Some(bad) = divisors.iter().find(|d| !(d.is_finite() && **d > 0.0)) {
                let problem = format!("has a divisor of {bad}: they must be positive");
                return Err(ModelError::tensor(source.path, DIVISORS, problem));
            }
            rope.scaling = Scaling::Divisors(divisors);
        }
        rope.check().map_err(|problem| source.error(&theta, problem))?;
        Ok(rope)
    }

    fn check(&self) -> Result<(), String> {
        // a base may be larger than any factor: 1e11 in Falcon-H1
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let sound = match self.scaling {
            Scaling::None => true,
            Scaling::Linear(factor) => positive(factor),
            Scaling::Llama3 { .. } | Scaling::Divisors(_) => true,
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

    /// The table for heads of this width, in f32 as references compute it.
    pub(in crate::arch) fn table(&self, head_dim: usize) -> RopeSpec {
        // references cut off what is no whole dimension; a product of f64 may fall just short of one
        let dims = (head_dim as f64 * self.partial + 1e-9) as usize;
        let mut table = RopeSpec::plain(self.theta, dims);
        match self.scaling {
            Scaling::None => {}
            Scaling::Linear(factor) => table.frequencies.iter_mut().for_each(|f| *f /= factor as f32),
            Scaling::Divisors(ref divisors) => {
                table
                    .frequencies
                    .iter_mut()
                    .zip(divisors)
                    .for_each(|(f, d)| *f /= d);
            }
            Scaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                for f in &mut table.frequencies {
                    let turns = original * f64::from(*f) / (2.0 * std::f64::consts::PI);
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0) as f32;
                    *f = *f / factor as f32 * (1.0 - kept) + *f * kept;
                }
            }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn rope(config: &Value) -> Result<Rope, ModelError> {
        let file = Path::new("config.json");
        Rope::of_config(&Fields::parse(&config.to_string(), file)?, 10_000.0, 131_072)
    }

    /// The published settings of DeepSeek-R1-0528-Qwen3-8B: `attn_factor` is the reciprocal of YaRN's own
    /// scale.
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
            json!({"rope_type": "yarn", "type": "linear", "factor": 2.0}),
            json!({"rope_type": "yarn", "factor": 0.0}),
            json!({"rope_type": "linear", "factor": "Infinity"}),
            json!({"rope_type": "default", "partial_rotary_factor": 1.5}),
            json!({"rope_type": "llama3", "factor": 8.0}),
            json!({"factor": 2.0}),
            json!({"__float__": "NaN"}),
            json!({"rope_type": "yarn", "factor": 1e300}),
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
