//! Feed-forward parts.

use crate::cpu::kernels::ThreadPool;
use crate::cpu::kernels::buf::Rows;
use crate::cpu::kernels::gemm::{self, Gating, Job};
use crate::cpu::linear::{Linear, WeightFormat};
use crate::cpu::work::Work;
use crate::error::ModelError;
use crate::spec::{MlpInput, MlpSpec};
use crate::weights::Checkpoint;

pub(super) struct Mlp {
    /// `None` where the activation is the squared relu of `up`
    pub(super) gate: Option<(Linear, Gating)>,
    pub(super) up: Linear,
    pub(super) down: Linear,
    /// which of the activations' buffers is as wide
    buffer: usize,
}

impl Mlp {
    /// Opens its matrices; the outputs of the last are scaled. `widths` are those of the activations'
    /// buffers.
    pub(super) fn load(
        weights: &Checkpoint,
        spec: &MlpSpec,
        scale: f32,
        widths: &[usize],
        format: WeightFormat,
    ) -> Result<Self, ModelError> {
        let open = |linear, scale| Linear::open(weights, linear, scale, format);
        let (gate, up) = match &spec.input {
            MlpInput::SwiGlu { gate, up } => (Some((open(gate, 1.0)?, Gating::Silu)), up),
            MlpInput::ClampedSwiGlu {
                gate,
                up,
                alpha,
                limit,
            } => {
                let (alpha, limit) = (*alpha, *limit);
                (Some((open(gate, 1.0)?, Gating::Clamped { alpha, limit })), up)
            }
            MlpInput::SquaredRelu { up } => (None, up),
        };
        Ok(Self {
            gate,
            up: open(up, 1.0)?,
            down: open(&spec.down, scale)?,
            buffer: widths.iter().position(|w| *w == spec.width).unwrap_or(0),
        })
    }

    /// As an expert, to which few rows come.
    pub(super) fn for_few_rows(self) -> Self {
        Self {
            gate: self.gate.map(|(gate, gating)| (gate.for_few_rows(), gating)),
            up: self.up.for_few_rows(),
            down: self.down.for_few_rows(),
            ..self
        }
    }

    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        let gate = self.gate.iter().map(|(gate, _)| gate);
        gate.chain([&self.up, &self.down])
    }

    /// Adds the part to the residual stream; each row by the factor in `factors` `[rows, 1]`.
    pub(super) fn forward(&self, pool: &mut ThreadPool, w: &mut Work, factors: Option<&Rows>) {
        let act = &mut w.acts[self.buffer];
        let input = match &self.gate {
            Some((gate, gating)) => Job::gated(&w.normed, (gate, &self.up), *gating, act),
            None => Job::squared_relu(&w.normed, &self.up, act),
        };
        gemm::matmul(pool, &mut w.products, [input]);
        if let Some(factors) = factors {
            for i in 0..act.rows() {
                let factor = factors.row(i)[0];
                act.row_mut(i).iter_mut().for_each(|a| *a *= factor);
            }
        }
        let act = &w.acts[self.buffer];
        gemm::matmul(
            pool,
            &mut w.products,
            [Job::add((act, &self.down), None, &mut w.h)],
        );
    }
}
