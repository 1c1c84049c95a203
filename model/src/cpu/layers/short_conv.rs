//! Gated short convolutions (LFM2).

use super::{padded_copy, taps_first};
use crate::cpu::Feed;
use crate::cpu::kernels::ThreadPool;
use crate::cpu::kernels::buf::{Buf, padded};
use crate::cpu::kernels::gemm::{self, Job};
use crate::cpu::kernels::short_conv;
use crate::cpu::linear::{Linear, WeightFormat};
use crate::cpu::state::StateLayout;
use crate::cpu::work::Work;
use crate::error::ModelError;
use crate::spec::ShortConvSpec;
use crate::weights::Checkpoint;

pub(super) struct ShortConv {
    /// its place among the short convolutions of the model
    index: usize,
    in_proj: Linear,
    out_proj: Linear,
    /// `[taps][padded channels]`
    weight: Buf,
    bias: Buf,
}

impl ShortConv {
    pub(super) fn load(
        weights: &Checkpoint,
        spec: &ShortConvSpec,
        scale: f32,
        index: usize,
        format: WeightFormat,
    ) -> Result<Self, ModelError> {
        let (channels, taps) = (spec.channels, spec.taps);
        let bias = match &spec.conv_bias {
            Some(bias) => padded_copy(&weights.vector(&bias.tensor, channels)?),
            None => Buf::zeroed(padded(channels)),
        };
        Ok(Self {
            index,
            in_proj: Linear::open(weights, &spec.in_proj, 1.0, format)?,
            out_proj: Linear::open(weights, &spec.out_proj, scale, format)?,
            weight: taps_first(weights, &spec.conv, channels, taps)?,
            bias,
        })
    }

    pub(super) fn linears(&self) -> [&Linear; 2] {
        [&self.in_proj, &self.out_proj]
    }

    /// Numbers of its small tensors.
    pub(super) fn small(&self) -> usize {
        self.weight.len() + self.bias.len()
    }

    /// Adds the part to the residual stream.
    pub(super) fn forward(
        &self,
        pool: &mut ThreadPool,
        layout: &StateLayout,
        w: &mut Work,
        feeds: &mut [Feed<'_>],
    ) {
        let input = Job::store(&w.normed, &self.in_proj, &mut w.u);
        gemm::matmul(pool, &mut w.products, [input]);
        let layout = &layout.conv[self.index];
        short_conv::run(pool, layout, (&self.weight, &self.bias), &w.u, &mut w.y, feeds);
        let output = Job::add((&w.y, &self.out_proj), None, &mut w.h);
        gemm::matmul(pool, &mut w.products, [output]);
    }
}
