//! The weights of a layer on this machine, and their forward pass over the residual stream.

mod gated_delta;
mod mixers;
mod mlp;
mod moe;
mod short_conv;

use super::Feed;
use super::kernels::ThreadPool;
use super::kernels::buf::{Buf, padded};
use super::kernels::norm;
use super::linear::{Linear, WeightFormat};
use super::state::StateLayout;
use super::work::Work;
use crate::error::ModelError;
use crate::spec::{Mixer, NormSpec, Residual};
use crate::weights::Checkpoint;
use gated_delta::GatedDelta;
use mixers::{Attention, Mamba, mix};
use mlp::Mlp;
use moe::Moe;
pub(crate) use moe::Pick;
use short_conv::ShortConv;

/// One residual branch: a norm and what reads it.
pub(crate) struct Branch {
    norm: Norm,
    parts: Parts,
}

/// What a branch adds to the residual stream.
enum Parts {
    /// Attention, Mamba-2, or the sum of both.
    Mixers(Option<Box<Attention>>, Option<Box<Mamba>>),
    Mlp(Box<Mlp>),
    Moe(Box<Moe>),
    ShortConv(Box<ShortConv>),
    GatedDelta(Box<GatedDelta>),
}

/// A norm's weight, padded.
pub(crate) struct Norm {
    pub(crate) weight: Buf,
    pub(crate) eps: f32,
}

impl Norm {
    pub(crate) fn load(weights: &Checkpoint, spec: &NormSpec, width: usize) -> Result<Self, ModelError> {
        Ok(Self {
            weight: padded_copy(&weights.norm(spec, width)?),
            eps: spec.eps,
        })
    }
}

/// The taps of a depthwise convolution `[channels, 1, taps]` as `[taps][padded channels]`.
fn taps_first(weights: &Checkpoint, name: &str, channels: usize, taps: usize) -> Result<Buf, ModelError> {
    let mut out = Buf::zeroed(taps * padded(channels));
    for (i, w) in weights.vector(name, channels * taps)?.iter().enumerate() {
        out[i % taps * padded(channels) + i / taps] = *w;
    }
    Ok(out)
}

fn padded_copy(values: &[f32]) -> Buf {
    let mut out = Buf::zeroed(padded(values.len()));
    out[..values.len()].copy_from_slice(values);
    out
}

/// Where the next parts of a model lie in a sequence's state and in the activations.
pub(crate) struct StateIndex<'a> {
    pub(crate) attention: usize,
    pub(crate) ssm: usize,
    pub(crate) conv: usize,
    /// widths of the feed-forward activations
    pub(crate) widths: &'a [usize],
}

impl Branch {
    /// Opens the weights of a branch; its parts take the next places.
    pub(crate) fn load(
        weights: &Checkpoint,
        spec: &Residual,
        places: &mut StateIndex<'_>,
        format: WeightFormat,
    ) -> Result<Self, ModelError> {
        let (mut attention, mut mamba, mut alone) = (None, None, None);
        for mixer in &spec.mixers {
            match mixer {
                Mixer::Attention(a) => {
                    let part = Attention::load(weights, a, spec.scale, places.attention, format)?;
                    attention = Some(Box::new(part));
                    places.attention += 1;
                }
                Mixer::Mamba2(m) => {
                    mamba = Some(Box::new(Mamba::load(weights, m, spec.scale, places.ssm, format)?));
                    places.ssm += 1;
                }
                Mixer::Mlp(m) => {
                    let part = Mlp::load(weights, m, spec.scale, places.widths, format)?;
                    alone = Some(Parts::Mlp(Box::new(part)));
                }
                Mixer::Moe(m) => {
                    let part = Moe::load(weights, m, spec.scale, places.widths, format)?;
                    alone = Some(Parts::Moe(Box::new(part)));
                }
                Mixer::GatedDelta(d) => {
                    let part = GatedDelta::load(weights, d, spec.scale, places.ssm, format)?;
                    alone = Some(Parts::GatedDelta(Box::new(part)));
                    places.ssm += 1;
                }
                Mixer::ShortConv(c) => {
                    let part = ShortConv::load(weights, c, spec.scale, places.conv, format)?;
                    alone = Some(Parts::ShortConv(Box::new(part)));
                    places.conv += 1;
                }
            }
        }
        Ok(Self {
            norm: Norm::load(weights, &spec.norm, weights.spec.hidden)?,
            parts: alone.unwrap_or(Parts::Mixers(attention, mamba)),
        })
    }

    /// Its matrices.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        match &self.parts {
            Parts::Mixers(attention, mamba) => {
                let mamba = mamba.iter().flat_map(|m| [&m.in_proj, &m.out_proj]);
                let attention = attention.iter().flat_map(|a| a.linears());
                mamba.chain(attention).collect()
            }
            Parts::Mlp(mlp) => mlp.linears().collect(),
            Parts::Moe(moe) => moe.linears(),
            Parts::ShortConv(conv) => conv.linears().into(),
            Parts::GatedDelta(delta) => delta.linears().into(),
        }
    }

    /// Formats that the weights are held in, with their bytes.
    pub(crate) fn formats(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let mut small = self.norm.weight.len();
        small += match &self.parts {
            Parts::Mixers(_, Some(mamba)) => mamba.params.conv_weight.len() + mamba.params.conv_bias.len(),
            Parts::ShortConv(conv) => conv.small(),
            Parts::GatedDelta(delta) => delta.small(),
            _ => 0,
        };
        self.linears()
            .into_iter()
            .map(|w| (w.format(), w.bytes()))
            .chain(std::iter::once(("f32", small * size_of::<f32>())))
    }

    /// Adds the branch to the residual stream in `work.h`.
    pub(crate) fn forward(
        &self,
        pool: &mut ThreadPool,
        layout: &StateLayout,
        work: &mut Work,
        feeds: &mut [Feed<'_>],
    ) {
        norm::rms(pool, &work.h, &self.norm.weight, self.norm.eps, &mut work.normed);
        match &self.parts {
            Parts::Mixers(attention, mamba) => {
                mix(
                    pool,
                    layout,
                    (attention.as_deref(), mamba.as_deref()),
                    work,
                    feeds,
                );
            }
            Parts::Mlp(mlp) => mlp.forward(pool, work, None),
            Parts::Moe(moe) => moe.forward(pool, work),
            Parts::ShortConv(conv) => conv.forward(pool, layout, work, feeds),
            Parts::GatedDelta(delta) => delta.forward(pool, layout, work, feeds),
        }
    }
}
