//! Root-mean-square norms.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

use super::buf::{Buf, Rows, Shared};
use super::pool::ThreadPool;
use super::simd::{Simd, Tier, tiers};

/// Rows handled by one task.
const CHUNK: usize = 8;

/// `out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight`; `weight` is padded to the rows' stride.
pub(crate) fn rms(pool: &mut ThreadPool, x: &Rows, weight: &Buf, eps: f32, out: &mut Rows) {
    assert!(x.width() == out.width() && x.rows() == out.rows() && weight.len() == x.stride());
    let (rows, width, stride, tier) = (x.rows(), x.width(), x.stride(), pool.tier());
    let out = Shared(out.as_mut_ptr());
    pool.run(rows.div_ceil(CHUNK), |task, _| {
        for r in task * CHUNK..rows.min((task + 1) * CHUNK) {
            // SAFETY: row r belongs to this task; every pointer covers a whole stride
            unsafe {
                rms_row(
                    tier,
                    x.as_ptr().add(r * stride),
                    weight.as_ptr(),
                    stride,
                    width,
                    eps,
                    out.at(r * stride),
                )
            };
        }
    });
}

#[inline(always)]
unsafe fn rms_row_body<S: Simd>(
    x: *const f32,
    weight: *const f32,
    stride: usize,
    width: usize,
    eps: f32,
    out: *mut f32,
) {
    unsafe {
        let mut sum = [S::splat(0.0); 2];
        // the stride is a multiple of two vectors and its padding is zero
        for i in (0..stride).step_by(2 * S::LANES) {
            let (a, b) = (S::load(x.add(i)), S::load(x.add(i + S::LANES)));
            sum[0] = S::fma(a, a, sum[0]);
            sum[1] = S::fma(b, b, sum[1]);
        }
        let mean = S::sum(S::add(sum[0], sum[1])) / width as f32;
        let scale = S::splat(1.0 / (mean + eps).sqrt());
        for i in (0..stride).step_by(S::LANES) {
            S::store(
                out.add(i),
                S::mul(S::mul(S::load(x.add(i)), scale), S::load(weight.add(i))),
            );
        }
    }
}
tiers!(fn rms_row = rms_row_body(
    x: *const f32, weight: *const f32, stride: usize, width: usize, eps: f32, out: *mut f32
));

/// A norm over each of `heads` equal parts of `x`; `weight` is as long as `x`.
pub(super) fn norm_heads(tier: Tier, x: &mut [f32], weight: &[f32], heads: usize, eps: f32) {
    assert!(x.len() == weight.len() && x.len().is_multiple_of(heads));
    // SAFETY: the slices are equally long
    unsafe { norm_groups(tier, x, weight, heads, eps) }
}

/// Where the norm of the Mamba branch's output stands beside its gate.
pub(crate) enum GateNorm {
    /// `y * silu(z)`
    None,
    /// `grouprms(y * silu(z)) * weight`
    AfterGate {
        weight: Vec<f32>,
        groups: usize,
        eps: f32,
    },
    /// `grouprms(y) * weight * silu(z)`
    BeforeGate {
        weight: Vec<f32>,
        groups: usize,
        eps: f32,
    },
}

/// Gates rows of `y` in place with the first `y.width()` columns of `u` (z).
pub(crate) fn gate(pool: &mut ThreadPool, gate: &GateNorm, u: &Rows, y: &mut Rows) {
    let (rows, width, stride, tier) = (y.rows(), y.width(), y.stride(), pool.tier());
    let out = Shared(y.as_mut_ptr());
    pool.run(rows.div_ceil(CHUNK), |task, _| {
        for r in task * CHUNK..rows.min((task + 1) * CHUNK) {
            // SAFETY: row r belongs to this task
            let y = unsafe { std::slice::from_raw_parts_mut(out.at(r * stride), width) };
            let z = &u.row(r)[..width];
            // SAFETY: both slices are `width` long
            unsafe {
                match gate {
                    GateNorm::None => gate_row(tier, y, z),
                    GateNorm::AfterGate { weight, groups, eps } => {
                        gate_row(tier, y, z);
                        norm_groups(tier, y, weight, *groups, *eps);
                    }
                    GateNorm::BeforeGate { weight, groups, eps } => {
                        norm_groups(tier, y, weight, *groups, *eps);
                        gate_row(tier, y, z);
                    }
                }
            }
        }
    });
}

#[inline(always)]
unsafe fn gate_row_body<S: Simd>(y: &mut [f32], z: &[f32]) {
    let whole = y.len() / S::LANES * S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: i + LANES <= len
        unsafe {
            let at = y.as_mut_ptr().add(i);
            S::store(at, S::mul(S::load(at), S::silu(S::load(z.as_ptr().add(i)))));
        }
    }
    for i in whole..y.len() {
        y[i] *= z[i] / (1.0 + (-z[i]).exp());
    }
}
tiers!(fn gate_row = gate_row_body(y: &mut [f32], z: &[f32]));

/// Multiplies rows of `y` in place by the sigmoid of `gate`.
pub(crate) fn sigmoid_gate(pool: &mut ThreadPool, gate: &Rows, y: &mut Rows) {
    assert!(gate.width() == y.width() && gate.rows() == y.rows() && gate.stride() == y.stride());
    let (rows, stride, tier) = (y.rows(), y.stride(), pool.tier());
    let out = Shared(y.as_mut_ptr());
    pool.run(rows.div_ceil(CHUNK), |task, _| {
        for r in task * CHUNK..rows.min((task + 1) * CHUNK) {
            // SAFETY: row r belongs to this task; both rows are `stride` long
            unsafe { sigmoid_row(tier, gate.as_ptr().add(r * stride), out.at(r * stride), stride) };
        }
    });
}

#[inline(always)]
unsafe fn sigmoid_row_body<S: Simd>(gate: *const f32, y: *mut f32, stride: usize) {
    // SAFETY: the stride is a multiple of a vector
    unsafe {
        for i in (0..stride).step_by(S::LANES) {
            let e = S::exp(S::sub(S::splat(0.0), S::load(gate.add(i))));
            S::store(y.add(i), S::div(S::load(y.add(i)), S::add(S::splat(1.0), e)));
        }
    }
}
tiers!(fn sigmoid_row = sigmoid_row_body(gate: *const f32, y: *mut f32, stride: usize));

#[inline(always)]
unsafe fn norm_groups_body<S: Simd>(y: &mut [f32], weight: &[f32], groups: usize, eps: f32) {
    let width = y.len() / groups;
    for (y, weight) in y.chunks_exact_mut(width).zip(weight.chunks_exact(width)) {
        let whole = width / S::LANES * S::LANES;
        // SAFETY: every access stays below `whole` <= width
        unsafe {
            let mut sum = S::splat(0.0);
            for i in (0..whole).step_by(S::LANES) {
                let v = S::load(y.as_ptr().add(i));
                sum = S::fma(v, v, sum);
            }
            let tail: f32 = y[whole..].iter().map(|v| v * v).sum();
            let scale = 1.0 / ((S::sum(sum) + tail) / width as f32 + eps).sqrt();
            for i in (0..whole).step_by(S::LANES) {
                let at = y.as_mut_ptr().add(i);
                S::store(
                    at,
                    S::mul(
                        S::mul(S::load(at), S::splat(scale)),
                        S::load(weight.as_ptr().add(i)),
                    ),
                );
            }
            for i in whole..width {
                y[i] = y[i] * scale * weight[i];
            }
        }
    }
}
tiers!(fn norm_groups = norm_groups_body(y: &mut [f32], weight: &[f32], groups: usize, eps: f32));
