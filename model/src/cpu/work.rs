//! The activations of a step.

use super::kernels::ThreadPool;
use super::kernels::buf::{Rows, padded};
use super::kernels::{gemm, mixer, norm};
use super::layer::Norm;
use super::linear::Linear;
use crate::spec::{Mixer, ModelSpec};

/// Widths of a model's activations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Widths {
    hidden: usize,
    /// in_proj's outputs, channels of the convolution, the branch, its heads
    u: usize,
    channels: usize,
    d_ssm: usize,
    ssm_heads: usize,
    q: usize,
    kv: usize,
    ropes: Vec<usize>,
    /// feed-forward widths, each once
    pub(crate) acts: Vec<usize>,
}

impl Widths {
    pub(crate) fn of(spec: &ModelSpec) -> Self {
        let mut widths = Self {
            hidden: spec.hidden,
            ropes: spec.ropes.iter().map(|r| 2 * r.frequencies.len()).collect(),
            ..Self::default()
        };
        for mixer in spec.mixers() {
            match mixer {
                Mixer::Attention(a) => (widths.q, widths.kv) = (a.q.rows, a.k.rows),
                Mixer::Mamba2(m) => {
                    (widths.u, widths.channels) = (m.in_proj.rows, m.channels());
                    (widths.d_ssm, widths.ssm_heads) = (m.width(), m.heads);
                }
                Mixer::Mlp(m) if widths.acts.contains(&m.width) => {}
                Mixer::Mlp(m) => widths.acts.push(m.width),
            }
        }
        widths
    }

    /// Floats of a row.
    fn row(&self) -> usize {
        let fixed = [
            2 * self.hidden,
            self.u,
            2 * self.q,
            2 * self.kv,
            self.channels,
            self.d_ssm,
            mixer::Scratch::width(self.ssm_heads),
        ];
        let all = fixed.iter().chain(&self.ropes).chain(&self.acts);
        all.map(|width| padded(*width)).sum()
    }
}

/// Activations of a step; they grow to the largest batch seen and stay.
pub(crate) struct Work {
    /// the residual stream `[rows, hidden]`
    pub(crate) h: Rows,
    pub(crate) normed: Rows,
    pub(crate) u: Rows,
    pub(crate) q: Rows,
    pub(crate) k: Rows,
    pub(crate) v: Rows,
    /// for each rotary table cosines, then sines
    pub(crate) ropes: Vec<Rows>,
    pub(crate) xbc: Rows,
    pub(crate) y: Rows,
    pub(crate) attended: Rows,
    /// for each feed-forward width
    pub(crate) acts: Vec<Rows>,
    pub(crate) products: gemm::Scratch,
    pub(crate) mixers: mixer::Scratch,
}

impl Work {
    pub(crate) fn new(widths: &Widths, threads: usize) -> Self {
        let rows = |width| Rows::zeroed(1, width);
        Self {
            h: rows(widths.hidden),
            normed: rows(widths.hidden),
            u: rows(widths.u),
            q: rows(widths.q),
            k: rows(widths.kv),
            v: rows(widths.kv),
            ropes: widths.ropes.iter().map(|w| rows(*w)).collect(),
            xbc: rows(widths.channels),
            y: rows(widths.d_ssm),
            attended: rows(widths.q),
            acts: widths.acts.iter().map(|w| rows(*w)).collect(),
            products: gemm::Scratch::new(threads),
            mixers: mixer::Scratch::new(widths.ssm_heads),
        }
    }

    /// Bytes that `rows` rows of activations take.
    pub(crate) fn bytes_for(widths: &Widths, rows: usize, threads: usize) -> usize {
        let act = widths.acts.iter().copied().max().unwrap_or(0);
        let widest = widths.hidden.max(widths.d_ssm).max(widths.q).max(act);
        rows.next_power_of_two() * widths.row() * size_of::<f32>()
            + gemm::Scratch::bytes(threads, rows, widest)
    }

    pub(crate) fn resize(&mut self, rows: usize) {
        let fixed = [
            &mut self.h,
            &mut self.normed,
            &mut self.u,
            &mut self.q,
            &mut self.k,
            &mut self.v,
            &mut self.xbc,
            &mut self.y,
            &mut self.attended,
        ];
        let several = self.ropes.iter_mut().chain(&mut self.acts);
        fixed
            .into_iter()
            .chain(several)
            .for_each(|buffer| buffer.resize(rows));
    }

    /// The final norm and the output matrix for the rows in `wanted`; the products run over a packed copy of
    /// those rows.
    pub(crate) fn logits(
        &mut self,
        pool: &mut ThreadPool,
        norm: &Norm,
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
        norm::rms(pool, &self.h, &norm.weight, norm.eps, &mut self.normed);
        let job = gemm::Job::store(&self.normed, head, logits);
        gemm::matmul(pool, &mut self.products, [job]);
    }
}
