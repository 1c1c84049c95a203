//! The weights of a layer on this machine, and their forward pass over the residual stream.

use super::Feed;
use super::kernels::ThreadPool;
use super::kernels::buf::{Buf, padded};
use super::kernels::gemm::{self, Job};
use super::kernels::mixer::{self, AttentionPart, HeadNorm, HeadParams, MambaPart};
use super::kernels::norm::{self, GateNorm};
use super::kernels::ssm::Params;
use super::linear::{Linear, WeightFormat};
use super::state::StateLayout;
use super::work::Work;
use crate::error::ModelError;
use crate::spec::{AttentionSpec, Mamba2Spec, Mixer, MlpInput, MlpSpec, NormSpec, Residual};
use crate::weights::Checkpoint;

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
}

/// A norm's weight, padded.
pub(crate) struct Norm {
    pub(crate) weight: Buf,
    pub(crate) eps: f32,
}

struct Attention {
    /// its place among the attention parts of the model
    index: usize,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    params: HeadParams,
    rope: Option<usize>,
}

struct Mamba {
    /// its place among the Mamba-2 parts of the model
    index: usize,
    in_proj: Linear,
    out_proj: Linear,
    params: Params,
}

struct Mlp {
    /// `None` where the activation is the squared relu of `up`
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    /// which of the activations' buffers is as wide
    buffer: usize,
}

impl Norm {
    pub(crate) fn load(weights: &Checkpoint, spec: &NormSpec, width: usize) -> Result<Self, ModelError> {
        Ok(Self {
            weight: padded_copy(&weights.vector(&spec.tensor, width)?),
            eps: spec.eps,
        })
    }
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
        let (mut attention, mut mamba, mut mlp) = (None, None, None);
        for mixer in &spec.mixers {
            match mixer {
                Mixer::Attention(a) => {
                    attention = Some(Box::new(Attention::load(
                        weights,
                        a,
                        spec.scale,
                        places.attention,
                        format,
                    )?));
                    places.attention += 1;
                }
                Mixer::Mamba2(m) => {
                    mamba = Some(Box::new(Mamba::load(weights, m, spec.scale, places.ssm, format)?));
                    places.ssm += 1;
                }
                Mixer::Mlp(m) => {
                    let buffer = places.widths.iter().position(|w| *w == m.width).unwrap_or(0);
                    mlp = Some(Mlp::load(weights, m, spec.scale, buffer, format)?);
                }
            }
        }
        Ok(Self {
            norm: Norm::load(weights, &spec.norm, weights.spec.hidden)?,
            parts: match mlp {
                Some(mlp) => Parts::Mlp(Box::new(mlp)),
                None => Parts::Mixers(attention, mamba),
            },
        })
    }

    /// Its matrices.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        match &self.parts {
            Parts::Mixers(attention, mamba) => {
                let mamba = mamba.iter().flat_map(|m| [&m.in_proj, &m.out_proj]);
                let attention = attention.iter().flat_map(|a| [&a.q, &a.k, &a.v, &a.o]);
                mamba.chain(attention).collect()
            }
            Parts::Mlp(mlp) => mlp.gate.iter().chain([&mlp.up, &mlp.down]).collect(),
        }
    }

    /// Formats that the weights are held in, with their bytes.
    pub(crate) fn formats(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let mut small = self.norm.weight.len();
        if let Parts::Mixers(_, Some(mamba)) = &self.parts {
            small += mamba.params.conv_weight.len() + mamba.params.conv_bias.len();
        }
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
            Parts::Mlp(mlp) => mlp.forward(pool, work),
        }
    }
}

/// Input products of both mixers as one phase, the mixers as another, output products as a third.
fn mix(
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
        (Some(a), None) => gemm::matmul(
            pool,
            scratch,
            [
                Job::store(x, &a.q, &mut w.q),
                Job::store(x, &a.k, &mut w.k),
                Job::store(x, &a.v, &mut w.v),
            ],
        ),
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
    let mamba_part = mamba.map(|m| MambaPart {
        layout: &layout.ssm[m.index],
        params: &m.params,
        u: &w.u,
        xbc: &mut w.xbc,
        y: &mut w.y,
    });
    mixer::mix(pool, &mut w.mixers, attention_part, mamba_part, feeds);
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
    fn load(
        weights: &Checkpoint,
        spec: &AttentionSpec,
        scale: f32,
        index: usize,
        format: WeightFormat,
    ) -> Result<Self, ModelError> {
        let head_norm = |norm: &NormSpec, heads: usize, scale: f32| {
            let weight = weights.vector(&norm.tensor, spec.head_dim)?;
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
            params: HeadParams {
                q_norm: q_norm.transpose()?,
                k_norm: k_norm.transpose()?,
            },
            rope: spec.rope,
        })
    }
}

impl Mamba {
    fn load(
        weights: &Checkpoint,
        spec: &Mamba2Spec,
        scale: f32,
        index: usize,
        format: WeightFormat,
    ) -> Result<Self, ModelError> {
        let (channels, taps) = (spec.channels(), spec.taps);
        let raw = weights.vector(&spec.conv, channels * taps)?;
        let mut conv_weight = Buf::zeroed(taps * padded(channels));
        for (i, w) in raw.iter().enumerate() {
            conv_weight[i % taps * padded(channels) + i / taps] = *w;
        }
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
                conv_weight,
                conv_bias,
                a: padded_copy(&weights.decay(&spec.decay, spec.heads)?),
                d: weights.vector(&spec.skip, spec.heads)?,
                dt_bias: padded_copy(&weights.vector(&spec.dt_bias, spec.heads)?),
                dt_limit: spec.time_step_limit,
                groups: spec.groups,
                gate,
            },
        })
    }
}

impl Mlp {
    fn load(
        weights: &Checkpoint,
        spec: &MlpSpec,
        scale: f32,
        buffer: usize,
        format: WeightFormat,
    ) -> Result<Self, ModelError> {
        let (gate, up) = match &spec.input {
            MlpInput::SwiGlu { gate, up } => (Some(Linear::open(weights, gate, 1.0, format)?), up),
            MlpInput::SquaredRelu { up } => (None, up),
        };
        Ok(Self {
            gate,
            up: Linear::open(weights, up, 1.0, format)?,
            down: Linear::open(weights, &spec.down, scale, format)?,
            buffer,
        })
    }

    fn forward(&self, pool: &mut ThreadPool, w: &mut Work) {
        let act = &mut w.acts[self.buffer];
        let input = match &self.gate {
            Some(gate) => Job::gated(&w.normed, gate, &self.up, act),
            None => Job::squared_relu(&w.normed, &self.up, act),
        };
        gemm::matmul(pool, &mut w.products, [input]);
        let act = &w.acts[self.buffer];
        gemm::matmul(
            pool,
            &mut w.products,
            [Job::add((act, &self.down), None, &mut w.h)],
        );
    }
}
