//! Attention and Mamba-2, either alone or both on the same input.

use super::{padded_copy, taps_first};
use crate::cpu::Feed;
use crate::cpu::kernels::ThreadPool;
use crate::cpu::kernels::buf::{Buf, padded};
use crate::cpu::kernels::gemm::{self, Job};
use crate::cpu::kernels::mixer::{self, AttentionPart, Columns, HeadNorm, HeadParams, RecurrentPart};
use crate::cpu::kernels::norm::{self, GateNorm};
use crate::cpu::kernels::ssm::{Params, Rule};
use crate::cpu::linear::{Linear, WeightFormat};
use crate::cpu::state::StateLayout;
use crate::cpu::work::Work;
use crate::error::ModelError;
use crate::spec::{AttentionSpec, Mamba2Spec, NormSpec};
use crate::weights::Checkpoint;

pub(super) struct Attention {
    /// its place among the attention parts of the model
    index: usize,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    gate: Option<Linear>,
    params: HeadParams,
    rope: Option<usize>,
}

pub(super) struct Mamba {
    /// its place among the Mamba-2 parts of the model
    index: usize,
    pub(super) in_proj: Linear,
    pub(super) out_proj: Linear,
    pub(super) params: Params,
}

/// Input products of both mixers as one phase, the mixers as another, output products as a third.
pub(super) fn mix(
    pool: &mut ThreadPool,
    layout: &StateLayout,
    (attention, mamba): (Option<&Attention>, Option<&Mamba>),
    w: &mut Work,
    feeds: &mut [Feed<'_>],
) {
    let (x, scratch) = (&w.normed, &mut w.products);
    match (attention, mamba) {
        (Some(a), Some(m)) => gemm::matmul(
            pool,
            scratch,
            [
                Job::store(x, &m.in_proj, &mut w.u),
                Job::store(x, &a.q, &mut w.q),
                Job::store(x, &a.k, &mut w.k),
                Job::store(x, &a.v, &mut w.v),
            ],
        ),
        (Some(a), None) => {
            let [q, k, v] = [(&a.q, &mut w.q), (&a.k, &mut w.k), (&a.v, &mut w.v)]
                .map(|(matrix, out)| Job::store(x, matrix, out));
            match &a.gate {
                Some(gate) => {
                    gemm::matmul(pool, scratch, [q, k, v, Job::store(x, gate, &mut w.gate)]);
                }
                None => gemm::matmul(pool, scratch, [q, k, v]),
            }
        }
        (None, Some(m)) => gemm::matmul(pool, scratch, [Job::store(x, &m.in_proj, &mut w.u)]),
        (None, None) => return,
    }
    let attention_part = attention.map(|a| AttentionPart {
        layout: &layout.attention[a.index],
        params: &a.params,
        q: &mut w.q,
        k: &mut w.k,
        v: &w.v,
        rope: a.rope.map(|rope| &w.ropes[rope]),
        attended: &mut w.attended,
    });
    let mamba_part = mamba.map(|m| RecurrentPart {
        layout: &layout.ssm[m.index],
        params: &m.params,
        z: &w.u,
        input: Columns {
            rows: &w.u,
            first: w.y.width(),
        },
        steps: Columns {
            rows: &w.u,
            first: w.u.width() - layout.ssm[m.index].heads,
        },
        strengths: None,
        xbc: &mut w.xbc,
        y: &mut w.y,
    });
    mixer::mix(pool, &mut w.mixers, attention_part, mamba_part, feeds);
    if attention.is_some_and(|a| a.gate.is_some()) {
        norm::sigmoid_gate(pool, &w.gate, &mut w.attended);
    }
    let attended = attention.map(|a| (&w.attended, &a.o));
    let out = match mamba {
        Some(m) => Job::add((&w.y, &m.out_proj), attended, &mut w.h),
        None => match attended {
            Some(attended) => Job::add(attended, None, &mut w.h),
            None => return,
        },
    };
    gemm::matmul(pool, &mut w.products, [out]);
}

impl Attention {
    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        [&self.q, &self.k, &self.v, &self.o].into_iter().chain(&self.gate)
    }

    pub(super) fn load(
        weights: &Checkpoint,
        spec: &AttentionSpec,
        scale: f32,
        index: usize,
        format: WeightFormat,
    ) -> Result<Self, ModelError> {
        let head_norm = |norm: &NormSpec, heads: usize, scale: f32| {
            let weight = weights.norm(norm, spec.head_dim)?;
            Ok::<_, ModelError>(HeadNorm {
                weight: weight.iter().map(|w| w * scale).collect::<Vec<_>>().repeat(heads),
                heads,
                eps: norm.eps,
            })
        };
        // the scale of the scores rides on q, whose rotation is linear: on its norm where there is one
        let (of_q, of_norm) = if spec.q_norm.is_some() {
            (1.0, spec.scale)
        } else {
            (spec.scale, 1.0)
        };
        let q_norm = spec.q_norm.as_ref().map(|n| head_norm(n, spec.heads, of_norm));
        let k_norm = spec.k_norm.as_ref().map(|n| head_norm(n, spec.kv_heads, 1.0));
        Ok(Self {
            index,
            q: Linear::open(weights, &spec.q, of_q, format)?,
            k: Linear::open(weights, &spec.k, 1.0, format)?,
            v: Linear::open(weights, &spec.v, 1.0, format)?,
            o: Linear::open(weights, &spec.o, scale, format)?,
            gate: match &spec.gate {
                Some(gate) => Some(Linear::open(weights, gate, 1.0, format)?),
                None => None,
            },
            params: HeadParams {
                q_norm: q_norm.transpose()?,
                k_norm: k_norm.transpose()?,
                sinks: match &spec.sinks {
                    Some(name) => weights.finite(name, spec.heads)?,
                    None => Vec::new(),
                },
                window: spec.window,
            },
            rope: spec.rope,
        })
    }
}

impl Mamba {
    pub(super) fn load(
        weights: &Checkpoint,
        spec: &Mamba2Spec,
        scale: f32,
        index: usize,
        format: WeightFormat,
    ) -> Result<Self, ModelError> {
        let (channels, taps) = (spec.channels(), spec.taps);
        let conv_bias = match &spec.conv_bias {
            Some(bias) => padded_copy(&weights.vector(&bias.tensor, channels)?),
            None => Buf::zeroed(padded(channels)),
        };
        let gate = match &spec.norm {
            Some(gated) => {
                let weight = weights.vector(&gated.norm.tensor, spec.width())?;
                let (groups, eps) = (spec.groups, gated.norm.eps);
                if gated.before_gate {
                    GateNorm::BeforeGate { weight, groups, eps }
                } else {
                    GateNorm::AfterGate { weight, groups, eps }
                }
            }
            None => GateNorm::None,
        };
        Ok(Self {
            index,
            in_proj: Linear::open(weights, &spec.in_proj, 1.0, format)?,
            out_proj: Linear::open(weights, &spec.out_proj, scale, format)?,
            params: Params {
                conv_weight: taps_first(weights, &spec.conv, channels, taps)?,
                conv_bias,
                a: padded_copy(&weights.decay(&spec.decay, spec.heads)?),
                dt_bias: padded_copy(&weights.vector(&spec.dt_bias, spec.heads)?),
                dt_limit: spec.time_step_limit,
                rule: Rule::Selective {
                    d: weights.vector(&spec.skip, spec.heads)?,
                    groups: spec.groups,
                },
                gate,
            },
        })
    }
}
