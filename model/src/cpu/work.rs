//! The activations of a step.

use super::kernels::ThreadPool;
use super::kernels::buf::{Rows, padded};
use super::kernels::{gemm, mixer, norm};
use super::layers::{Norm, Pick};
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
    /// gate of attention, 0 where there is none
    gate: usize,
    ropes: Vec<usize>,
    /// feed-forward widths, each once
    pub(crate) acts: Vec<usize>,
    moe: Option<MoeWidths>,
    /// of the delta rule whether there is one: its convolution's inputs are as wide as `channels`
    delta: bool,
}

/// Widths of a mixture of experts.
#[derive(Clone, Copy, Debug)]
struct MoeWidths {
    experts: usize,
    active: usize,
    width: usize,
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
                Mixer::Attention(a) => {
                    (widths.q, widths.kv) = (a.q.rows, a.k.rows);
                    widths.gate = a.gate.as_ref().map_or(0, |gate| gate.rows);
                }
                Mixer::Mamba2(m) => {
                    (widths.u, widths.channels) = (m.in_proj.rows, m.channels());
                    (widths.d_ssm, widths.ssm_heads) = (m.width(), m.heads);
                }
                Mixer::GatedDelta(d) => {
                    (widths.u, widths.channels) = (d.z.rows, d.channels());
                    (widths.d_ssm, widths.ssm_heads) = (d.width(), d.heads);
                    widths.delta = true;
                }
                Mixer::Mlp(m) => widths.act(m.width),
                Mixer::Moe(m) => {
                    if let Some(shared) = &m.shared {
                        widths.act(shared.mlp.width);
                    }
                    widths.moe = Some(MoeWidths {
                        experts: m.experts.len(),
                        active: m.active,
                        width: m.experts.first().map_or(0, |expert| expert.width),
                    });
                }
                Mixer::ShortConv(c) => {
                    (widths.u, widths.d_ssm) = (widths.u.max(c.in_proj.rows), widths.d_ssm.max(c.channels));
                }
            }
        }
        widths
    }

    fn act(&mut self, width: usize) {
        if !self.acts.contains(&width) {
            self.acts.push(width);
        }
    }

    /// Whether rows are grouped by expert, so that more of them at once are cheaper.
    pub(crate) fn has_experts(&self) -> bool {
        self.moe.is_some()
    }

    /// Floats of a row.
    fn row(&self) -> usize {
        let fixed = [
            2 * self.hidden,
            self.u,
            2 * self.q,
            2 * self.kv,
            self.gate,
            self.channels,
            self.d_ssm,
            mixer::Scratch::width(self.ssm_heads),
        ];
        let all = fixed.iter().chain(&self.ropes).chain(&self.acts);
        let moe = self.moe.map_or(0, |moe| {
            padded(moe.experts) + padded(1) + moe.active * (2 * padded(self.hidden) + padded(moe.width))
        });
        let delta = if self.delta {
            padded(self.channels) + 2 * padded(self.ssm_heads)
        } else {
            0
        };
        all.map(|width| padded(*width)).sum::<usize>() + moe + delta
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
    /// gate of what was attended to
    pub(crate) gate: Rows,
    /// for each feed-forward width
    pub(crate) acts: Vec<Rows>,
    pub(crate) products: gemm::Scratch,
    pub(crate) mixers: mixer::Scratch,
    pub(crate) moe: Option<MoeWork>,
    pub(crate) delta: Option<DeltaWork>,
}

/// What the delta rule takes beside z, which lies in `u`.
pub(crate) struct DeltaWork {
    /// inputs of the convolution `[rows, channels]`
    pub(crate) qkv: Rows,
    /// strengths and step sizes, raw `[rows, heads]`
    pub(crate) b: Rows,
    pub(crate) a: Rows,
}

/// What rows on their way through experts take.
pub(crate) struct MoeWork {
    /// the router's outputs `[rows, experts]`
    pub(crate) scores: Rows,
    /// inputs and outputs of experts `[rows * active, hidden]`, grouped by expert, and what is between them
    pub(crate) x: Rows,
    pub(crate) act: Rows,
    pub(crate) y: Rows,
    /// weight of the shared part `[rows, 1]`
    pub(crate) factors: Rows,
    /// `[rows][active]`
    pub(crate) picks: Vec<Pick>,
    pub(crate) groups: Vec<gemm::Group>,
    /// for each expert the next row of its group
    pub(crate) starts: Vec<usize>,
}

impl MoeWork {
    fn new(hidden: usize, widths: MoeWidths) -> Self {
        Self {
            scores: Rows::zeroed(1, widths.experts),
            x: Rows::zeroed(1, hidden),
            act: Rows::zeroed(1, widths.width),
            y: Rows::zeroed(1, hidden),
            factors: Rows::zeroed(1, 1),
            picks: Vec::new(),
            groups: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Makes room for `rows` rows with `active` experts each.
    pub(crate) fn resize(&mut self, rows: usize, active: usize) {
        self.scores.resize(rows);
        for rows_of_experts in [&mut self.x, &mut self.act, &mut self.y] {
            rows_of_experts.resize(rows * active);
        }
        if self.picks.len() < rows * active {
            self.picks.resize(rows * active, Pick::default());
        }
    }
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
            gate: rows(widths.gate),
            acts: widths.acts.iter().map(|w| rows(*w)).collect(),
            products: gemm::Scratch::new(threads),
            mixers: mixer::Scratch::new(widths.ssm_heads),
            moe: widths.moe.map(|moe| MoeWork::new(widths.hidden, moe)),
            delta: widths.delta.then(|| DeltaWork {
                qkv: rows(widths.channels),
                b: rows(widths.ssm_heads),
                a: rows(widths.ssm_heads),
            }),
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
            &mut self.gate,
        ];
        let delta = self.delta.iter_mut();
        let delta = delta.flat_map(|delta| [&mut delta.qkv, &mut delta.b, &mut delta.a]);
        let several = self.ropes.iter_mut().chain(&mut self.acts).chain(delta);
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
