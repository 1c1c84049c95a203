//! The gated delta rule (Qwen3-Next, Qwen3.5).

use super::{padded_copy, taps_first};
use crate::cpu::Feed;
use crate::cpu::kernels::ThreadPool;
use crate::cpu::kernels::buf::{Buf, padded};
use crate::cpu::kernels::delta::Keys;
use crate::cpu::kernels::gemm::{self, Job};
use crate::cpu::kernels::mixer::{self, Columns, RecurrentPart};
use crate::cpu::kernels::norm::GateNorm;
use crate::cpu::kernels::ssm::{Params, Rule};
use crate::cpu::linear::{Linear, WeightFormat};
use crate::cpu::state::StateLayout;
use crate::cpu::work::{DeltaWork, Work};
use crate::error::ModelError;
use crate::spec::GatedDeltaSpec;
use crate::weights::Checkpoint;

pub(super) struct GatedDelta {
    /// its place among the recurrent parts of the model
    index: usize,
    qkv: Linear,
    z: Linear,
    b: Linear,
    a: Linear,
    out_proj: Linear,
    params: Params,
}

impl GatedDelta {
    pub(super) fn load(
        weights: &Checkpoint,
        spec: &GatedDeltaSpec,
        scale: f32,
        index: usize,
        format: WeightFormat,
    ) -> Result<Self, ModelError> {
        let open = |linear, scale| Linear::open(weights, linear, scale, format);
        Ok(Self {
            index,
            qkv: open(&spec.qkv, 1.0)?,
            z: open(&spec.z, 1.0)?,
            b: open(&spec.b, 1.0)?,
            a: open(&spec.a, 1.0)?,
            out_proj: open(&spec.out_proj, scale)?,
            params: Params {
                conv_weight: taps_first(weights, &spec.conv, spec.channels(), spec.taps)?,
                conv_bias: Buf::zeroed(padded(spec.channels())),
                a: padded_copy(&weights.decay(&spec.decay, spec.heads)?),
                dt_bias: padded_copy(&weights.vector(&spec.dt_bias, spec.heads)?),
                dt_limit: (0.0, f32::INFINITY),
                rule: Rule::Delta(Keys::new(spec)),
                gate: GateNorm::BeforeGate {
                    weight: weights.norm(&spec.norm, spec.head_dim)?.repeat(spec.heads),
                    groups: spec.heads,
                    eps: spec.norm.eps,
                },
            },
        })
    }

    pub(super) fn linears(&self) -> [&Linear; 5] {
        [&self.qkv, &self.z, &self.b, &self.a, &self.out_proj]
    }

    /// Numbers of its small tensors.
    pub(super) fn small(&self) -> usize {
        self.params.conv_weight.len()
    }

    /// Adds the part to the residual stream.
    pub(super) fn forward(
        &self,
        pool: &mut ThreadPool,
        layout: &StateLayout,
        w: &mut Work,
        feeds: &mut [Feed<'_>],
    ) {
        let Some(DeltaWork { qkv, b, a }) = &mut w.delta else {
            return;
        };
        let inputs = [
            Job::store(&w.normed, &self.qkv, qkv),
            Job::store(&w.normed, &self.z, &mut w.u),
            Job::store(&w.normed, &self.b, b),
            Job::store(&w.normed, &self.a, a),
        ];
        gemm::matmul(pool, &mut w.products, inputs);
        let part = RecurrentPart {
            layout: &layout.ssm[self.index],
            params: &self.params,
            z: &w.u,
            input: Columns { rows: qkv, first: 0 },
            steps: Columns { rows: a, first: 0 },
            strengths: Some(b),
            xbc: &mut w.xbc,
            y: &mut w.y,
        };
        mixer::mix(pool, &mut w.mixers, None, Some(part), feeds);
        let output = Job::add((&w.y, &self.out_proj), None, &mut w.h);
        gemm::matmul(pool, &mut w.products, [output]);
    }
}
