//! One block of Falcon-H1: attention and Mamba-2 side by side on the same normed input, then a gated MLP.
//!
//! Source of the arithmetic: transformers' `modeling_falcon_h1.py`; every multiplier of the configuration is
//! a factor of a product's epilogue.

use super::Feed;
use super::config::Config;
use super::error::ModelError;
use super::kernels::Pool;
use super::kernels::buf::{Buf, Rows, padded};
use super::kernels::gemm::{self, Job};
use super::kernels::mixer::{self, Activations, Params};
use super::kernels::norm::{self, Gate};
use super::linear::{Linear, WeightFormat};
use super::state::Shape;
use super::weights::Checkpoint;

/// Weights of one block.
pub(crate) struct Block {
    input_norm: Buf,
    ff_norm: Buf,
    in_proj: Linear,
    out_proj: Linear,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    gate: Linear,
    up: Linear,
    down: Linear,
    params: Params,
}

/// Activations of a step; they grow to the largest batch seen and stay.
pub(crate) struct Work {
    /// the residual stream `[rows, hidden]`
    pub(crate) h: Rows,
    pub(crate) normed: Rows,
    u: Rows,
    q: Rows,
    k: Rows,
    v: Rows,
    pub(crate) rope: Rows,
    xbc: Rows,
    y: Rows,
    attended: Rows,
    act: Rows,
    products: gemm::Scratch,
    mixers: mixer::Scratch,
}

impl Work {
    pub(crate) fn new(c: &Config, threads: usize) -> Self {
        let rows = |width| Rows::zeroed(1, width);
        Self {
            h: rows(c.hidden),
            normed: rows(c.hidden),
            u: rows(c.in_proj_rows()),
            q: rows(c.heads * c.head_dim),
            k: rows(c.kv_heads * c.head_dim),
            v: rows(c.kv_heads * c.head_dim),
            rope: rows(c.head_dim),
            xbc: rows(c.conv_channels()),
            y: rows(c.d_ssm),
            attended: rows(c.heads * c.head_dim),
            act: rows(c.intermediate),
            products: gemm::Scratch::new(threads),
            mixers: mixer::Scratch::new(c.ssm_heads),
        }
    }

    /// Bytes that `rows` rows of activations take.
    pub(crate) fn bytes_for(c: &Config, rows: usize, threads: usize) -> usize {
        let widths = [
            2 * c.hidden,
            c.in_proj_rows(),
            2 * c.heads * c.head_dim,
            2 * c.kv_heads * c.head_dim,
            c.head_dim,
            c.conv_channels(),
            c.d_ssm,
            c.intermediate,
            mixer::Scratch::width(c.ssm_heads),
        ];
        let per_row: usize = widths.iter().map(|w| w.div_ceil(32) * 32).sum();
        let widest = c
            .hidden
            .max(c.d_ssm)
            .max(c.heads * c.head_dim)
            .max(c.intermediate);
        rows.next_power_of_two() * per_row * size_of::<f32>() + gemm::Scratch::bytes(threads, rows, widest)
    }

    pub(crate) fn resize(&mut self, rows: usize) {
        for buffer in [
            &mut self.h,
            &mut self.normed,
            &mut self.u,
            &mut self.q,
            &mut self.k,
            &mut self.v,
            &mut self.rope,
            &mut self.xbc,
            &mut self.y,
            &mut self.attended,
            &mut self.act,
        ] {
            buffer.resize(rows);
        }
    }

    /// The final norm and lm_head for the rows in `wanted`; the products run over a packed copy of those
    /// rows.
    pub(crate) fn logits(
        &mut self,
        pool: &mut Pool,
        norm: &Buf,
        eps: f32,
        head: &Linear,
        wanted: &[usize],
        logits: &mut Rows,
    ) {
        for (to, from) in wanted.iter().enumerate() {
            // rows only move up, so none is overwritten before it is read
            self.h.copy_row(*from, to);
        }
        self.h.resize(wanted.len());
        self.normed.resize(wanted.len());
        logits.resize(wanted.len());
        norm::rms(pool, &self.h, norm, eps, &mut self.normed);
        gemm::products(pool, &mut self.products, [Job::store(&self.normed, head, logits)]);
    }
}

fn norm_weight(weights: &Checkpoint, name: &str, width: usize) -> Result<Buf, ModelError> {
    Ok(padded_copy(&weights.vector(name, width)?))
}

fn padded_copy(values: &[f32]) -> Buf {
    let mut out = Buf::zeroed(padded(values.len()));
    out[..values.len()].copy_from_slice(values);
    out
}

pub(crate) fn final_norm(weights: &Checkpoint, width: usize) -> Result<Buf, ModelError> {
    norm_weight(weights, "model.final_layernorm.weight", width)
}

impl Block {
    pub(crate) fn load(
        weights: &Checkpoint,
        c: &Config,
        layer: usize,
        format: WeightFormat,
    ) -> Result<Self, ModelError> {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let linear = |part: &str, n: usize, k: usize| -> Result<(Linear, Option<Vec<f32>>), ModelError> {
            let weight = Linear::open(weights, &name(&format!("{part}.weight")), [n, k], format)?;
            let bias = name(&format!("{part}.bias"));
            let bias = if weights.has(&bias) {
                Some(weights.vector(&bias, n)?)
            } else {
                None
            };
            Ok((weight, bias))
        };
        // `input` multiplies what the projection reads, `output` what it gives; only the latter touches its
        // bias
        let scaled = |(w, bias): (Linear, Option<Vec<f32>>), input: f32, output: f32| {
            w.scaled(input)
                .scaled(output)
                .biased(bias.map(|b| b.iter().map(|b| b * output).collect()))
        };
        let (hidden, q_width, kv_width) = (c.hidden, c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let sections = [
            c.d_ssm,
            c.d_ssm,
            c.groups * c.d_state,
            c.groups * c.d_state,
            c.ssm_heads,
        ];
        let mup: Vec<f32> = sections
            .iter()
            .zip(c.ssm_multipliers)
            .flat_map(|(n, m)| std::iter::repeat_n(m, *n))
            .collect();
        let (in_proj, in_bias) = linear("mamba.in_proj", c.in_proj_rows(), hidden)?;
        let in_proj = in_proj
            .scaled(c.ssm_in_multiplier)
            .scaled_by(&mup)
            .biased(in_bias.map(|b| b.iter().zip(&mup).map(|(b, m)| b * m).collect()));

        let channels = c.conv_channels();
        let raw = weights.vector(&name("mamba.conv1d.weight"), channels * c.d_conv)?;
        let mut conv_weight = Buf::zeroed(c.d_conv * padded(channels));
        for (i, w) in raw.iter().enumerate() {
            conv_weight[i % c.d_conv * padded(channels) + i / c.d_conv] = *w;
        }
        let mut conv_bias = Buf::zeroed(padded(channels));
        if weights.has(&name("mamba.conv1d.bias")) {
            conv_bias[..channels].copy_from_slice(&weights.vector(&name("mamba.conv1d.bias"), channels)?);
        }
        let gate = if weights.has(&name("mamba.norm.weight")) {
            let (weight, groups, eps) = (
                weights.vector(&name("mamba.norm.weight"), c.d_ssm)?,
                c.groups,
                c.norm_eps,
            );
            if c.norm_before_gate {
                Gate::After { weight, groups, eps }
            } else {
                Gate::Before { weight, groups, eps }
            }
        } else {
            Gate::Alone
        };
        Ok(Self {
            input_norm: norm_weight(weights, &name("input_layernorm.weight"), hidden)?,
            ff_norm: norm_weight(weights, &name("pre_ff_layernorm.weight"), hidden)?,
            in_proj,
            out_proj: scaled(
                linear("mamba.out_proj", hidden, c.d_ssm)?,
                1.0,
                c.ssm_out_multiplier,
            ),
            // the attention scale rides on q, whose rotation is linear
            q: scaled(
                linear("self_attn.q_proj", q_width, hidden)?,
                c.attention_in_multiplier,
                (c.head_dim as f32).powf(-0.5),
            ),
            k: scaled(
                linear("self_attn.k_proj", kv_width, hidden)?,
                c.attention_in_multiplier,
                c.key_multiplier,
            ),
            v: scaled(
                linear("self_attn.v_proj", kv_width, hidden)?,
                c.attention_in_multiplier,
                1.0,
            ),
            o: scaled(
                linear("self_attn.o_proj", hidden, q_width)?,
                1.0,
                c.attention_out_multiplier,
            ),
            gate: scaled(
                linear("feed_forward.gate_proj", c.intermediate, hidden)?,
                1.0,
                c.mlp_multipliers[0],
            ),
            up: scaled(linear("feed_forward.up_proj", c.intermediate, hidden)?, 1.0, 1.0),
            down: scaled(
                linear("feed_forward.down_proj", hidden, c.intermediate)?,
                1.0,
                c.mlp_multipliers[1],
            ),
            params: Params {
                conv_weight,
                conv_bias,
                a: padded_copy(&weights.a_neg(layer)?),
                d: weights.vector(&name("mamba.D"), c.ssm_heads)?,
                dt_bias: padded_copy(&weights.vector(&name("mamba.dt_bias"), c.ssm_heads)?),
                dt_limit: c.time_step_limit,
                groups: c.groups,
                gate,
            },
        })
    }

    pub(crate) fn linears(&self) -> [&Linear; 9] {
        [
            &self.in_proj,
            &self.out_proj,
            &self.q,
            &self.k,
            &self.v,
            &self.o,
            &self.gate,
            &self.up,
            &self.down,
        ]
    }

    /// Formats that the weights are held in, with their bytes.
    pub(crate) fn formats(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let small = self.input_norm.len()
            + self.ff_norm.len()
            + self.params.conv_weight.len()
            + self.params.conv_bias.len();
        self.linears()
            .into_iter()
            .map(|w| (w.format(), w.bytes()))
            .chain(std::iter::once(("f32", small * size_of::<f32>())))
    }

    /// Runs the block over the residual stream in `work.h`.
    pub(crate) fn forward(
        &self,
        pool: &mut Pool,
        shape: &Shape,
        layer: usize,
        eps: f32,
        work: &mut Work,
        feeds: &mut [Feed<'_>],
    ) {
        let w = work;
        norm::rms(pool, &w.h, &self.input_norm, eps, &mut w.normed);
        gemm::products(
            pool,
            &mut w.products,
            [
                Job::store(&w.normed, &self.in_proj, &mut w.u),
                Job::store(&w.normed, &self.q, &mut w.q),
                Job::store(&w.normed, &self.k, &mut w.k),
                Job::store(&w.normed, &self.v, &mut w.v),
            ],
        );
        let act = Activations {
            u: &w.u,
            q: &mut w.q,
            k: &mut w.k,
            v: &w.v,
            rope: &w.rope,
            xbc: &mut w.xbc,
            y: &mut w.y,
            attended: &mut w.attended,
        };
        mixer::mix(pool, &mut w.mixers, shape, layer, &self.params, act, feeds);
        gemm::products(
            pool,
            &mut w.products,
            [Job::add(
                (&w.y, &self.out_proj),
                Some((&w.attended, &self.o)),
                &mut w.h,
            )],
        );
        norm::rms(pool, &w.h, &self.ff_norm, eps, &mut w.normed);
        gemm::products(
            pool,
            &mut w.products,
            [Job::gated(&w.normed, &self.gate, &self.up, &mut w.act)],
        );
        gemm::products(
            pool,
            &mut w.products,
            [Job::add((&w.act, &self.down), None, &mut w.h)],
        );
    }
}
