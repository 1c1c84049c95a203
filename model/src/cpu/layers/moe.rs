//! Mixtures of experts: a router in f32, rows grouped by expert, one product for all of an expert's rows.
//!
//! A row's result does not depend on the rows beside it: its experts follow from its own scores, a row of a
//! product is the same alone and in a group, and what its experts give is summed in the order of their
//! indices.

#![allow(unsafe_code, reason = "tasks write different rows of the same memory")]

use super::mlp::Mlp;
use crate::cpu::kernels::ThreadPool;
use crate::cpu::kernels::buf::{Rows, Shared};
use crate::cpu::kernels::gemm::{self, Group, Job, Sink};
use crate::cpu::linear::{Linear, WeightFormat};
use crate::cpu::work::{MoeWork, Work};
use crate::error::ModelError;
use crate::spec::{MoeSpec, Routing};
use crate::weights::Checkpoint;

pub(super) struct Moe {
    router: Linear,
    routing: Routing,
    /// of sigmoid routing `[experts]`
    correction: Vec<f32>,
    active: usize,
    experts: Vec<Mlp>,
    shared: Option<(Mlp, Option<Linear>)>,
    /// of the sum of the experts
    scale: f32,
}

/// An expert of a row: which, its weight, and the row of the grouped input that it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pick {
    expert: usize,
    weight: f32,
    at: usize,
}

impl Moe {
    pub(super) fn load(
        weights: &Checkpoint,
        spec: &MoeSpec,
        scale: f32,
        widths: &[usize],
        format: WeightFormat,
    ) -> Result<Self, ModelError> {
        let count = spec.experts.len();
        let correction = match &spec.routing {
            Routing::Sigmoid {
                correction: Some(name),
                ..
            } => weights.finite(name, count)?,
            _ => vec![0.0; count],
        };
        let shared = match &spec.shared {
            None => None,
            Some(shared) => {
                let gate = shared.gate.as_ref();
                let gate = gate.map(|gate| Linear::open(weights, gate, 1.0, WeightFormat::F32));
                let mlp = Mlp::load(weights, &shared.mlp, scale, widths, format)?;
                Some((mlp, gate.transpose()?))
            }
        };
        let expert = |mlp| Mlp::load(weights, mlp, 1.0, widths, format).map(Mlp::for_few_rows);
        Ok(Self {
            router: Linear::open(weights, &spec.router, 1.0, WeightFormat::F32)?,
            routing: spec.routing.clone(),
            correction,
            active: spec.active,
            experts: spec.experts.iter().map(expert).collect::<Result<_, _>>()?,
            shared,
            scale,
        })
    }

    pub(super) fn linears(&self) -> Vec<&Linear> {
        let shared = self.shared.iter();
        let shared = shared.flat_map(|(mlp, gate)| gate.iter().chain(mlp.linears()));
        let experts = self.experts.iter().flat_map(Mlp::linears);
        std::iter::once(&self.router)
            .chain(experts)
            .chain(shared)
            .collect()
    }

    /// Adds the mixture to the residual stream.
    pub(super) fn forward(&self, pool: &mut ThreadPool, w: &mut Work) {
        let Some(moe) = w.moe.as_mut() else { return };
        let rows = w.normed.rows();
        moe.resize(rows, self.active);
        let route = Job::store(&w.normed, &self.router, &mut moe.scores);
        gemm::matmul(pool, &mut w.products, [route]);
        self.choose(moe, rows);
        gather(pool, &w.normed, moe, self.active);
        let MoeWork {
            x, act, y, groups, ..
        } = moe;
        gemm::grouped(pool, &mut w.products, x, groups, act, |expert| {
            let expert = &self.experts[expert];
            match &expert.gate {
                Some((gate, gating)) => (gate, Sink::Gate(&expert.up, *gating)),
                None => (&expert.up, Sink::SquaredRelu),
            }
        });
        gemm::grouped(pool, &mut w.products, act, groups, y, |expert| {
            (&self.experts[expert].down, Sink::Store)
        });
        combine(pool, moe, self.active, self.scale, &mut w.h);
        if let Some((mlp, gate)) = &self.shared {
            let mut factors = std::mem::replace(&mut moe.factors, Rows::zeroed(0, 1));
            factors.resize(rows);
            if let Some(gate) = gate {
                let job = Job::store(&w.normed, gate, &mut factors);
                gemm::matmul(pool, &mut w.products, [job]);
                for i in 0..rows {
                    let factor = &mut factors.row_mut(i)[0];
                    *factor = sigmoid(*factor);
                }
            }
            mlp.forward(pool, w, gate.as_ref().map(|_| &factors));
            if let Some(moe) = w.moe.as_mut() {
                moe.factors = factors;
            }
        }
    }

    /// Picks each row's experts and groups the rows by expert.
    fn choose(&self, moe: &mut MoeWork, rows: usize) {
        let (active, count) = (self.active, self.experts.len());
        moe.starts.clear();
        moe.starts.resize(count + 1, 0);
        for row in 0..rows {
            let picks = &mut moe.picks[row * active..(row + 1) * active];
            route(&self.routing, &self.correction, moe.scores.row_mut(row), picks);
            for pick in picks {
                moe.starts[pick.expert + 1] += 1;
            }
        }
        moe.groups.clear();
        for expert in 0..count {
            let rows = moe.starts[expert + 1];
            moe.starts[expert + 1] += moe.starts[expert];
            if rows > 0 {
                moe.groups.push(Group::new(expert, moe.starts[expert], rows));
            }
        }
        for pick in &mut moe.picks[..rows * active] {
            pick.at = moe.starts[pick.expert];
            moe.starts[pick.expert] += 1;
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The experts of a row by its scores, which are used up, in the order of their indices. What is not a number
/// is better than any number, so that it reaches the logits, where it is seen.
fn route(routing: &Routing, correction: &[f32], scores: &mut [f32], picks: &mut [Pick]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    match routing {
        Routing::Softmax { .. } => {
            let mut sum = 0.0;
            for s in scores.iter_mut() {
                *s = (*s - largest).exp();
                sum += *s;
            }
            scores.iter_mut().for_each(|s| *s /= sum);
        }
        Routing::SoftmaxOfChosen => {}
        Routing::Sigmoid { .. } => scores.iter_mut().for_each(|s| *s = sigmoid(*s)),
    }
    for i in 0..picks.len() {
        let (done, rest) = picks.split_at_mut(i);
        let mut best: Option<(usize, f32)> = None;
        for (expert, (score, correction)) in scores.iter().zip(correction).enumerate() {
            let value = score + correction;
            if best.is_none_or(|(_, b)| value > b || value.is_nan() && !b.is_nan())
                && !done.iter().any(|pick| pick.expert == expert)
            {
                best = Some((expert, value));
            }
        }
        let (expert, _) = best.unwrap_or_default();
        rest[0] = Pick {
            expert,
            weight: scores[expert],
            at: 0,
        };
    }
    picks.sort_unstable_by_key(|pick| pick.expert);
    let sum = |picks: &[Pick]| picks.iter().map(|pick| pick.weight).sum::<f32>();
    let factor = match routing {
        Routing::Softmax { renormalise: true } => 1.0 / sum(picks),
        Routing::Softmax { renormalise: false } => 1.0,
        Routing::SoftmaxOfChosen => {
            picks
                .iter_mut()
                .for_each(|pick| pick.weight = (pick.weight - largest).exp());
            1.0 / sum(picks)
        }
        Routing::Sigmoid {
            renormalise, scale, ..
        } => scale / renormalise.map_or(1.0, |least| sum(picks) + least),
    };
    picks.iter_mut().for_each(|pick| pick.weight *= factor);
}

/// Copies each row once for each of its experts, so that the rows of an expert follow each other.
fn gather(pool: &mut ThreadPool, normed: &Rows, moe: &mut MoeWork, active: usize) {
    let (stride, out) = (moe.x.stride(), Shared(moe.x.as_mut_ptr()));
    let picks = &moe.picks;
    pool.run(normed.rows(), |row, _| {
        let from = normed.row(row);
        for pick in &picks[row * active..(row + 1) * active] {
            // SAFETY: every pick has a row of its own
            unsafe {
                out.at(pick.at * stride)
                    .copy_from_nonoverlapping(from.as_ptr(), from.len())
            };
        }
    });
}

/// Adds what each row's experts gave to the residual stream.
fn combine(pool: &mut ThreadPool, moe: &MoeWork, active: usize, scale: f32, h: &mut Rows) {
    let (rows, width, stride) = (h.rows(), h.width(), h.stride());
    let out = Shared(h.as_mut_ptr());
    pool.run(rows, |row, _| {
        // SAFETY: a row belongs to one task
        let to = unsafe { std::slice::from_raw_parts_mut(out.at(row * stride), width) };
        for pick in &moe.picks[row * active..(row + 1) * active] {
            let factor = pick.weight * scale;
            for (to, from) in to.iter_mut().zip(moe.y.row(pick.at)) {
                *to += factor * from;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(routing: &Routing, correction: &[f32], scores: &[f32], active: usize) -> Vec<(usize, f32)> {
        let mut picks = vec![Pick::default(); active];
        route(routing, correction, &mut scores.to_vec(), &mut picks);
        picks.iter().map(|pick| (pick.expert, pick.weight)).collect()
    }

    fn near(got: &[(usize, f32)], want: &[(usize, f64)]) {
        assert_eq!(got.len(), want.len());
        for ((expert, weight), (of, exact)) in got.iter().zip(want) {
            assert!(
                expert == of && (f64::from(*weight) - exact).abs() < 1e-6,
                "{got:?} {want:?}"
            );
        }
    }

    #[test]
    fn weights_are_those_of_the_formulas() {
        let scores = [0.0, 2.0, 1.0, 2.0];
        let e = std::f64::consts::E;
        let all = 1.0 + e + 2.0 * e * e;
        let soft = |renormalise| Routing::Softmax { renormalise };
        near(
            &picked(&soft(false), &[0.0; 4], &scores, 3),
            &[(1, e * e / all), (2, e / all), (3, e * e / all)],
        );
        let chosen = e + 2.0 * e * e;
        let want = [(1, e * e / chosen), (2, e / chosen), (3, e * e / chosen)];
        near(&picked(&soft(true), &[0.0; 4], &scores, 3), &want);
        near(&picked(&Routing::SoftmaxOfChosen, &[0.0; 4], &scores, 3), &want);
        let s = |x: f64| 1.0 / (1.0 + (-x).exp());
        let sigmoid = Routing::Sigmoid {
            correction: Some(String::new()),
            renormalise: Some(0.5),
            scale: 2.0,
        };
        // the correction decides who is chosen, and is no part of the weight
        near(
            &picked(&sigmoid, &[1.0, 0.0, 0.0, 0.0], &scores, 2),
            &[
                (0, 2.0 * s(0.0) / (s(0.0) + s(2.0) + 0.5)),
                (1, 2.0 * s(2.0) / (s(0.0) + s(2.0) + 0.5)),
            ],
        );
    }

    #[test]
    fn ties_go_to_the_lowest_index_and_what_is_no_number_comes_first() {
        let soft = Routing::SoftmaxOfChosen;
        let ids = |scores: &[f32]| -> Vec<usize> {
            let zeros = vec![0.0; scores.len()];
            picked(&soft, &zeros, scores, 2)
                .into_iter()
                .map(|(e, _)| e)
                .collect()
        };
        assert_eq!(ids(&[1.0, 1.0, 1.0]), [0, 1]);
        assert_eq!(ids(&[-5.0, 1.0, f32::NAN]), [1, 2]);
        assert_eq!(ids(&[f32::NAN, -5.0, f32::NAN]), [0, 2]);
        assert_eq!(ids(&[f32::NEG_INFINITY; 3]), [0, 1]);
        assert_eq!(ids(&[f32::NAN; 3]), [0, 1]);
    }
}
