//! The kernels of recurrent parts: convolution, step sizes, and Mamba-2's selective state update.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

use std::mem::MaybeUninit;

use super::buf::{Buf, padded};
use super::delta::Keys;
use super::norm::GateNorm;
use super::simd::{Simd, Tier, prefetch, tiers};
use crate::cpu::state::{SsmLayout, StateFormat};

/// The small parameters of one recurrent part.
pub(crate) struct Params {
    /// `[taps][padded channels]`
    pub(crate) conv_weight: Buf,
    /// `[padded channels]`
    pub(crate) conv_bias: Buf,
    /// A, negative `[padded heads]`
    pub(crate) a: Buf,
    /// `[padded heads]`
    pub(crate) dt_bias: Buf,
    pub(crate) dt_limit: (f32, f32),
    pub(crate) rule: Rule,
    pub(crate) gate: GateNorm,
}

/// How a state moves on.
pub(crate) enum Rule {
    /// Mamba-2's: D `[heads]`, and the groups of heads that share B and C.
    Selective { d: Vec<f32>, groups: usize },
    /// The delta rule.
    Delta(Keys),
}

/// Depthwise causal convolution and silu of one position; its input takes the place of the oldest in the
/// window.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn conv_row_body<S: Simd>(
    input: *const f32,
    window: *mut f32,
    weight: *const f32,
    bias: *const f32,
    channels: usize,
    slots: usize,
    position: usize,
    out: *mut f32,
) {
    let stride = padded(channels);
    let whole = channels / S::LANES * S::LANES;
    // slot of the oldest position, which makes room for this one
    let oldest = if slots > 0 { position % slots } else { 0 } * stride;
    let past = |tap: usize| {
        let at = oldest + tap * stride;
        window.wrapping_add(if at < slots * stride {
            at
        } else {
            at - slots * stride
        })
    };
    unsafe {
        for c in (0..whole).step_by(S::LANES) {
            let mut acc = S::load(bias.add(c));
            for tap in 0..slots {
                acc = S::fma(
                    S::load(weight.add(tap * stride + c)),
                    S::load(past(tap).add(c)),
                    acc,
                );
            }
            let now = S::load(input.add(c));
            acc = S::fma(S::load(weight.add(slots * stride + c)), now, acc);
            S::store(out.add(c), S::silu(acc));
            if slots > 0 {
                S::store(window.add(oldest + c), now);
            }
        }
        for c in whole..channels {
            let mut acc = *bias.add(c);
            for tap in 0..slots {
                acc += *weight.add(tap * stride + c) * *past(tap).add(c);
            }
            let now = *input.add(c);
            acc += *weight.add(slots * stride + c) * now;
            *out.add(c) = acc / (1.0 + (-acc).exp());
            if slots > 0 {
                *window.add(oldest + c) = now;
            }
        }
    }
}
tiers!(pub(super) fn conv_row = conv_row_body(
    input: *const f32, window: *mut f32, weight: *const f32, bias: *const f32, channels: usize,
    slots: usize, position: usize, out: *mut f32
));

/// Step sizes `clamp(softplus(dt + bias))` in place of the raw `steps`, and what the state keeps over each:
/// `e^(step A)`. NaN stays NaN.
#[inline(always)]
unsafe fn step_sizes_body<S: Simd>(params: &Params, heads: usize, steps: *mut f32, decays: *mut f32) {
    unsafe {
        let (low, high) = (S::splat(params.dt_limit.0), S::splat(params.dt_limit.1));
        for h in (0..heads).step_by(S::LANES) {
            let raw = S::add(S::load(steps.add(h)), S::load(params.dt_bias.as_ptr().add(h)));
            let step = S::min(high, S::max(low, S::softplus(raw)));
            S::store(steps.add(h), step);
            S::store(
                decays.add(h),
                S::exp(S::mul(step, S::load(params.a.as_ptr().add(h)))),
            );
        }
    }
}
tiers!(pub(super) fn step_sizes = step_sizes_body(
    params: &Params, heads: usize, steps: *mut f32, decays: *mut f32
));

/// One position of the selective state update of one head: `H = e^(dt A) H + dt x B`, `y = H C + D x`, in
/// place, one pass. What is written to y comes from the state before it is rounded.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn update(
    tier: Tier,
    layout: &SsmLayout,
    (d, groups): (&[f32], usize),
    (state, next): (*mut f32, *const f32),
    xbc: &[f32],
    (step, decay): (f32, f32),
    head: usize,
    y: *mut f32,
) {
    let (p, n) = (layout.head_dim, layout.d_state);
    let d_ssm = layout.heads * p;
    let mut dtx = [const { MaybeUninit::<f32>::uninit() }; MAX_SSM_HEAD_DIM];
    let mut out = [const { MaybeUninit::<f32>::uninit() }; MAX_SSM_HEAD_DIM];
    let x = &xbc[head * p..][..p];
    for (dtx, x) in dtx.iter_mut().zip(x) {
        dtx.write(step * x);
    }
    for padding in &mut dtx[p..layout.width()] {
        padding.write(0.0);
    }
    let group = head / (layout.heads / groups);
    let moves = Update {
        width: layout.width(),
        n,
        ahead: next.addr().wrapping_sub(state.addr()),
        decay,
        dtx: dtx.as_ptr().cast(),
        b: xbc[d_ssm + group * n..][..n].as_ptr(),
        c: xbc[d_ssm + (groups + group) * n..][..n].as_ptr(),
    };
    // SAFETY: the caller gives this task the head alone; widths are padded and at most MAX_SSM_HEAD_DIM
    unsafe {
        match layout.format {
            StateFormat::F32 => update_f32(tier, &moves, state, out.as_mut_ptr().cast()),
            StateFormat::Bf16 => update_bf16(tier, &moves, state, out.as_mut_ptr().cast()),
        }
        let y = std::slice::from_raw_parts_mut(y.add(head * p), p);
        for ((y, out), x) in y.iter_mut().zip(&out).zip(x) {
            *y = out.assume_init() + d[head] * x;
        }
    }
}

/// Widest Mamba head the kernels hold on the stack.
pub(crate) const MAX_SSM_HEAD_DIM: usize = 256;

/// What one position does to one head's state.
struct Update {
    /// padded width of the head
    width: usize,
    /// states
    n: usize,
    /// bytes to the state that is updated next: it is asked for while this one is
    ahead: usize,
    decay: f32,
    /// `[width]`
    dtx: *const f32,
    /// `[n]`
    b: *const f32,
    c: *const f32,
}

#[inline(always)]
unsafe fn update_body<S: Simd, const PAIRS: bool>(u: &Update, state: *mut f32, y: *mut f32) {
    unsafe {
        let mut column = 0;
        while column < u.width {
            // the width is a multiple of 32 elements: four or two vectors of 16, four of 8
            column += if u.width - column >= 4 * S::LANES {
                update_columns::<S, PAIRS, 4>(u, column, state.add(column), y.add(column))
            } else {
                update_columns::<S, PAIRS, 2>(u, column, state.add(column), y.add(column))
            };
        }
    }
}
#[inline(always)]
unsafe fn update_f32_body<S: Simd>(u: &Update, state: *mut f32, y: *mut f32) {
    unsafe { update_body::<S, false>(u, state, y) }
}
#[inline(always)]
unsafe fn update_bf16_body<S: Simd>(u: &Update, state: *mut f32, y: *mut f32) {
    unsafe { update_body::<S, true>(u, state, y) }
}
tiers!(fn update_f32 = update_f32_body(u: &Update, state: *mut f32, y: *mut f32));
tiers!(fn update_bf16 = update_bf16_body(u: &Update, state: *mut f32, y: *mut f32));

/// `V` vectors of columns; returns how many columns that is.
#[inline(always)]
unsafe fn update_columns<S: Simd, const PAIRS: bool, const V: usize>(
    u: &Update,
    column: usize,
    h: *mut f32,
    y: *mut f32,
) -> usize {
    unsafe {
        let decay = S::splat(u.decay);
        let mut x = [S::splat(0.0); V];
        for (v, x) in x.iter_mut().enumerate() {
            *x = S::load(u.dtx.add(column + v * S::LANES));
        }
        let mut acc = [S::splat(0.0); V];
        if PAIRS {
            for pair in 0..u.n.div_ceil(2) {
                let j = 2 * pair;
                let at = |p: *const f32| {
                    let second = if j + 1 < u.n { *p.add(j + 1) } else { 0.0 };
                    (S::splat(*p.add(j)), S::splat(second))
                };
                let (b, c) = (at(u.b), at(u.c));
                for v in 0..V {
                    let words = h.add(pair * u.width + v * S::LANES).cast::<u32>();
                    let (even, odd) = S::load_bf16_pairs(words);
                    let even = S::fma(even, decay, S::mul(x[v], b.0));
                    let odd = S::fma(odd, decay, S::mul(x[v], b.1));
                    S::store_bf16_pairs(words, even, odd);
                    acc[v] = S::fma(odd, c.1, S::fma(even, c.0, acc[v]));
                }
            }
        } else {
            for j in 0..u.n {
                let (b, c) = (S::splat(*u.b.add(j)), S::splat(*u.c.add(j)));
                for v in 0..V {
                    let at = h.add(j * u.width + v * S::LANES);
                    prefetch(at.wrapping_byte_add(u.ahead).cast());
                    let new = S::fma(S::load(at), decay, S::mul(x[v], b));
                    S::store(at, new);
                    acc[v] = S::fma(new, c, acc[v]);
                }
            }
        }
        for (v, acc) in acc.iter().enumerate() {
            S::store(y.add(v * S::LANES), *acc);
        }
        V * S::LANES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::state::{element, put};

    /// The recurrence as the paper writes it (Mamba-2, arXiv 2405.21060, section 3), in f64.
    #[test]
    fn the_state_update_is_the_recurrence() {
        for tier in Tier::available() {
            for (p, n) in [(64, 128), (32, 32), (24, 24), (128, 256), (96, 17)] {
                for format in StateFormat::ALL {
                    recurrence(tier, p, n, format);
                }
            }
        }
    }

    fn recurrence(tier: Tier, p: usize, n: usize, format: StateFormat) {
        let in_pairs = format == StateFormat::Bf16;
        let width = padded(p);
        let value =
            |seed: usize, i: usize| (((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5) * 2.0;
        let mut h = vec![0.0; n.next_multiple_of(2) * width];
        for i in (0..n * width).filter(|i| i % width < p) {
            put(&mut h, in_pairs, width, i / width, i % width, value(1, i));
        }
        let before = h.clone();
        let mut dtx: Vec<f32> = (0..width).map(|i| value(2, i)).collect();
        dtx[p..].fill(0.0);
        let b: Vec<f32> = (0..n).map(|i| value(3, i)).collect();
        let c: Vec<f32> = (0..n).map(|i| value(4, i)).collect();
        let mut y = vec![0.0; width];
        let u = Update {
            width,
            n,
            ahead: 0,
            decay: 0.9,
            dtx: dtx.as_ptr(),
            b: b.as_ptr(),
            c: c.as_ptr(),
        };
        // SAFETY: every slice has the length the kernel asks for
        unsafe {
            match format {
                StateFormat::F32 => update_f32(tier, &u, h.as_mut_ptr(), y.as_mut_ptr()),
                StateFormat::Bf16 => update_bf16(tier, &u, h.as_mut_ptr(), y.as_mut_ptr()),
            }
        }
        // half a unit in the last of eight bits
        let rounding = if in_pairs { 1.0 / 256.0 } else { 0.0 };
        for i in 0..p {
            let mut slow = 0.0f64;
            for j in 0..n {
                let old = f64::from(element(&before, in_pairs, width, j, i));
                let state = old * f64::from(0.9f32) + f64::from(dtx[i]) * f64::from(b[j]);
                let new = f64::from(element(&h, in_pairs, width, j, i));
                assert!(
                    (new - state).abs() <= 1e-6 + rounding * state.abs(),
                    "{tier} {p} {n} {format:?}"
                );
                slow += state * f64::from(c[j]);
            }
            assert!(
                (f64::from(y[i]) - slow).abs() < 2e-5,
                "{tier} {p} {n} {format:?}: {} {slow}",
                y[i]
            );
        }
    }

    #[test]
    fn step_sizes_are_clamped_softplus() {
        let raw: Vec<f32> = (-1200..=1200)
            .map(|i| i as f32 * 0.05)
            .chain([f32::NAN, 1e4, -1e4])
            .collect();
        let len = padded(raw.len());
        let buf = |value: &dyn Fn(usize) -> f32| {
            let mut buf = Buf::zeroed(len);
            buf.iter_mut().enumerate().for_each(|(i, v)| *v = value(i));
            buf
        };
        for dt_limit in [(0.0, f32::INFINITY), (0.01, 2.0)] {
            let params = Params {
                conv_weight: Buf::zeroed(0),
                conv_bias: Buf::zeroed(0),
                a: buf(&|i| -0.5 - (i % 7) as f32),
                dt_bias: buf(&|i| (i % 3) as f32),
                dt_limit,
                rule: Rule::Selective {
                    d: Vec::new(),
                    groups: 1,
                },
                gate: GateNorm::None,
            };
            for tier in Tier::available() {
                let mut steps = buf(&|i| raw.get(i).copied().unwrap_or(0.0));
                let mut decays = Buf::zeroed(len);
                // SAFETY: all are as long as `a`
                unsafe { step_sizes(tier, &params, raw.len(), steps.as_mut_ptr(), decays.as_mut_ptr()) };
                for (i, raw) in raw.iter().enumerate() {
                    let x = f64::from(*raw + params.dt_bias[i]);
                    let want = (x.max(0.0) + (-x.abs()).exp().ln_1p())
                        .clamp(f64::from(dt_limit.0), f64::from(dt_limit.1));
                    let kept = (want * f64::from(params.a[i])).exp();
                    if raw.is_nan() {
                        assert!(steps[i].is_nan() && decays[i].is_nan(), "{tier}");
                        continue;
                    }
                    assert!(
                        (f64::from(steps[i]) - want).abs() <= 4e-7 * want + 1e-37,
                        "{tier} {x}: {} {want}",
                        steps[i]
                    );
                    assert!(
                        (f64::from(decays[i]) - kept).abs() <= 1e-6,
                        "{tier} {x}: {} {kept}",
                        decays[i]
                    );
                }
            }
        }
    }
}
