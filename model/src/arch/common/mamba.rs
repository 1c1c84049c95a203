//! Mamba-2 parts, as most families configure them.

use std::path::Path;

use super::{Lines, Sizes, check_bounds};
use crate::arch::GgufSource;
use crate::error::ModelError;
use crate::json::Fields;
use crate::spec::{BiasSpec, DecaySpec, GatedNormSpec, LinearSpec, Mamba2Spec, NormSpec};

/// A Mamba-2 part whose projections are not scaled.
pub(in crate::arch) struct Mamba {
    pub(in crate::arch) hidden: usize,
    pub(in crate::arch) heads: usize,
    pub(in crate::arch) head_dim: usize,
    pub(in crate::arch) d_state: usize,
    pub(in crate::arch) groups: usize,
    pub(in crate::arch) taps: usize,
    pub(in crate::arch) conv_bias: bool,
    pub(in crate::arch) proj_bias: bool,
    pub(in crate::arch) time_step_limit: (f32, f32),
    /// of the norm after the gate
    pub(in crate::arch) eps: f32,
    /// A stands in place of A_log, as in GGUF files
    pub(in crate::arch) folded: bool,
}

/// What a family's config.json calls the sizes of its Mamba-2 parts, with what they are where it has none.
pub(in crate::arch) struct MambaKeys {
    pub(in crate::arch) heads: (&'static str, usize),
    /// `null` and `"auto"` are a default that the family reckons
    pub(in crate::arch) head_dim: &'static str,
    pub(in crate::arch) d_state: (&'static str, usize),
    pub(in crate::arch) groups: (&'static str, usize),
    pub(in crate::arch) taps: (&'static str, usize),
    /// true where it is absent
    pub(in crate::arch) conv_bias: &'static str,
    /// false where it is absent
    pub(in crate::arch) proj_bias: &'static str,
}

/// GGUF's names of a Mamba-2 part; `$prefix` is what its canonical names begin with.
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
pub(in crate::arch) use mamba_names;

impl Mamba {
    /// Reads a config.json; heads are `head_dim` wide where it says nothing of it.
    pub(in crate::arch) fn of_config(
        json: &Fields<'_>,
        sizes: &Sizes,
        keys: &MambaKeys,
        head_dim: usize,
    ) -> Result<Self, ModelError> {
        let size = |(key, default): (&str, usize)| Ok::<_, ModelError>(json.size(key)?.unwrap_or(default));
        let flag = |key: &str, default| Ok::<_, ModelError>(json.flag(key)?.unwrap_or(default));
        let automatic = json
            .get(keys.head_dim)
            .is_none_or(|width| width.as_str() == Some("auto"));
        let mamba = Self {
            hidden: sizes.hidden,
            heads: size(keys.heads)?,
            head_dim: if automatic {
                head_dim
            } else {
                json.required_size(keys.head_dim)?
            },
            d_state: size(keys.d_state)?,
            groups: size(keys.groups)?,
            taps: size(keys.taps)?,
            conv_bias: flag(keys.conv_bias, true)?,
            proj_bias: flag(keys.proj_bias, false)?,
            time_step_limit: time_step_limit(json)?,
            eps: sizes.eps,
            folded: false,
        };
        let names = [
            keys.heads.0,
            keys.head_dim,
            keys.d_state.0,
            keys.groups.0,
            keys.taps.0,
        ];
        mamba.check(json.file(), names)?;
        Ok(mamba)
    }

    /// Reads the `ssm.*` keys.
    pub(in crate::arch) fn of_gguf(source: &GgufSource<'_>, sizes: &Sizes) -> Result<Self, ModelError> {
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
        let [state, groups, taps] = ["ssm.state_size", "ssm.group_count", "ssm.conv_kernel"].map(key);
        mamba.check(source.path, [&heads, &inner, &state, &groups, &taps])?;
        Ok(mamba)
    }

    /// Refuses sizes that cannot be, by the names that their file has for them.
    fn check(
        &self,
        file: &Path,
        [heads, head_dim, d_state, groups, taps]: [&str; 5],
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
    pub(in crate::arch) fn spec(&self, prefix: &str) -> Mamba2Spec {
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
                    zero_centered: false,
                },
                before_gate: false,
                why: "",
            }),
        }
    }

    /// Adds the digest's lines of this part.
    pub(in crate::arch) fn lines(&self, lines: &mut Lines) {
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
fn time_step_limit(json: &Fields<'_>) -> Result<(f32, f32), ModelError> {
    let [low, high] = json
        .numbers::<2>("time_step_limit")?
        .unwrap_or([0.0, f64::INFINITY]);
    if low.is_nan() || high.is_nan() || low > high || low == f64::INFINITY || high < 0.0 {
        let problem = format!("is [{low}, {high}]: it must be a lower and an upper bound");
        return Err(json.error("time_step_limit", problem));
    }
    Ok((low as f32, high as f32))
}
