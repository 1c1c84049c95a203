//! The state update of the gated delta rule.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

use std::mem::MaybeUninit;

use super::norm;
use super::simd::{Simd, Tier, prefetch, tiers};
use super::ssm::MAX_SSM_HEAD_DIM;
use crate::cpu::state::{SsmLayout, StateFormat};
use crate::spec::{GatedDeltaSpec, KeySharing};

/// What is added to the squared length of a query or key before its root is taken.
const EPS: f32 = 1e-6;

/// The queries and keys of a part.
pub(crate) struct Keys {
    heads: usize,
    dim: usize,
    sharing: KeySharing,
    /// factors of queries, then keys, once their mean square is 1
    weight: Vec<f32>,
}

impl Keys {
    pub(crate) fn new(spec: &GatedDeltaSpec) -> Self {
        let (heads, dim) = (spec.key_heads, spec.key_dim);
        let key = 1.0 / (dim as f32).sqrt();
        let mut weight = vec![key * key; heads * dim];
        weight.resize(2 * heads * dim, key);
        Self {
            heads,
            dim,
            sharing: spec.sharing,
            weight,
        }
    }

    /// Gives the queries and keys of a row their lengths: 1, queries divided by the root of their width.
    pub(super) fn normalise(&self, tier: Tier, qkv: &mut [f32]) {
        let both = &mut qkv[..self.weight.len()];
        norm::norm_heads(tier, both, &self.weight, 2 * self.heads, EPS / self.dim as f32);
    }

    /// The query and the key that a head of values uses.
    fn of<'a>(&self, head: usize, heads: usize, qkv: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        let key = match self.sharing {
            KeySharing::Consecutive => head / (heads / self.heads),
            KeySharing::Interleaved => head % self.heads,
        };
        let at = |first: usize| &qkv[first * self.dim..][..self.dim];
        (at(key), at(self.heads + key))
    }
}

/// One position of the update of one head's state, in place: `S = decay S`, `d = strength (v - S^T k)`, `S = S + k
/// d^T`, `y = S^T q`. The old state is read once for both products, because `y = decay S^T q + (k q) d`; what is
/// written to y comes from the state before it is rounded.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn update(
    tier: Tier,
    layout: &SsmLayout,
    keys: &Keys,
    (state, next): (*mut f32, *const f32),
    qkv: &[f32],
    (strength, decay): (f32, f32),
    head: usize,
    y: *mut f32,
) {
    let (p, width) = (layout.head_dim, layout.width());
    let (q, k) = keys.of(head, layout.heads, qkv);
    let values = &qkv[2 * keys.heads * keys.dim + head * p..][..p];
    let mut v = [const { MaybeUninit::<f32>::uninit() }; MAX_SSM_HEAD_DIM];
    let mut out = [const { MaybeUninit::<f32>::uninit() }; MAX_SSM_HEAD_DIM];
    for (v, value) in v
        .iter_mut()
        .zip(values.iter().chain(std::iter::repeat(&0.0)))
        .take(width)
    {
        v.write(*value);
    }
    let moves = Update {
        width,
        n: keys.dim,
        ahead: next.addr().wrapping_sub(state.addr()),
        decay,
        strength,
        kq: k.iter().zip(q).map(|(k, q)| k * q).sum(),
        v: v.as_ptr().cast(),
        k: k.as_ptr(),
        q: q.as_ptr(),
    };
    // SAFETY: the caller gives this task the head alone; widths are padded and at most MAX_SSM_HEAD_DIM
    unsafe {
        match layout.format {
            StateFormat::F32 => update_f32(tier, &moves, state, out.as_mut_ptr().cast()),
            StateFormat::Bf16 => update_bf16(tier, &moves, state, out.as_mut_ptr().cast()),
        }
        y.add(head * p).copy_from_nonoverlapping(out.as_ptr().cast(), p);
    }
}

/// What one position does to one head's state.
struct Update {
    /// padded width of the head
    width: usize,
    /// width of a key
    n: usize,
    /// bytes to the state that is updated next: it is asked for while this one is
    ahead: usize,
    decay: f32,
    strength: f32,
    /// key times query
    kq: f32,
    /// `[width]`
    v: *const f32,
    /// `[n]`
    k: *const f32,
    q: *const f32,
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

/// `V` vectors of columns; returns how many columns that is. The columns of all keys stay in the first cache
/// between the two passes.
#[inline(always)]
unsafe fn update_columns<S: Simd, const PAIRS: bool, const V: usize>(
    u: &Update,
    column: usize,
    h: *mut f32,
    y: *mut f32,
) -> usize {
    unsafe {
        // a pair's second number, where there is none, counts for nothing
        let pair = |p: *const f32, j: usize| {
            let second = if j + 1 < u.n { *p.add(j + 1) } else { 0.0 };
            (S::splat(*p.add(j)), S::splat(second))
        };
        let decay = S::splat(u.decay);
        let (mut with_k, mut with_q) = ([S::splat(0.0); V], [S::splat(0.0); V]);
        if PAIRS {
            for j in (0..u.n).step_by(2) {
                let (k, q) = (pair(u.k, j), pair(u.q, j));
                for v in 0..V {
                    let words = h.add(j / 2 * u.width + v * S::LANES).cast::<u32>();
                    let (even, odd) = S::load_bf16_pairs(words);
                    with_k[v] = S::fma(odd, k.1, S::fma(even, k.0, with_k[v]));
                    with_q[v] = S::fma(odd, q.1, S::fma(even, q.0, with_q[v]));
                }
            }
        } else {
            for j in 0..u.n {
                let (k, q) = (S::splat(*u.k.add(j)), S::splat(*u.q.add(j)));
                for v in 0..V {
                    let at = h.add(j * u.width + v * S::LANES);
                    prefetch(at.wrapping_byte_add(u.ahead).cast());
                    let old = S::load(at);
                    with_k[v] = S::fma(old, k, with_k[v]);
                    with_q[v] = S::fma(old, q, with_q[v]);
                }
            }
        }
        let mut d = [S::splat(0.0); V];
        for v in 0..V {
            let value = S::load(u.v.add(column + v * S::LANES));
            d[v] = S::mul(S::splat(u.strength), S::sub(value, S::mul(decay, with_k[v])));
            let out = S::fma(S::splat(u.kq), d[v], S::mul(decay, with_q[v]));
            S::store(y.add(v * S::LANES), out);
        }
        if PAIRS {
            for j in (0..u.n).step_by(2) {
                let k = pair(u.k, j);
                for (v, d) in d.iter().enumerate() {
                    let words = h.add(j / 2 * u.width + v * S::LANES).cast::<u32>();
                    let (even, odd) = S::load_bf16_pairs(words);
                    let even = S::fma(even, decay, S::mul(*d, k.0));
                    let odd = S::fma(odd, decay, S::mul(*d, k.1));
                    S::store_bf16_pairs(words, even, odd);
                }
            }
        } else {
            for j in 0..u.n {
                let k = S::splat(*u.k.add(j));
                for (v, d) in d.iter().enumerate() {
                    let at = h.add(j * u.width + v * S::LANES);
                    S::store(at, S::fma(S::load(at), decay, S::mul(*d, k)));
                }
            }
        }
        V * S::LANES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernels::buf::padded;
    use crate::cpu::state::{element, put};

    /// The recurrence as the paper writes it (Gated DeltaNet, arXiv 2412.06464, section 3), in f64.
    #[test]
    fn the_state_update_is_the_delta_rule() {
        for tier in Tier::available() {
            for (p, n) in [(128, 128), (16, 16), (24, 24), (256, 64), (96, 17)] {
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
        let mut v: Vec<f32> = (0..width).map(|i| value(2, i)).collect();
        v[p..].fill(0.0);
        let unit = |seed: usize| -> Vec<f32> {
            let raw: Vec<f32> = (0..n).map(|i| value(seed, i)).collect();
            let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
            raw.iter().map(|x| x / length).collect()
        };
        let (k, q) = (unit(3), unit(4));
        let mut y = vec![0.0; width];
        let u = Update {
            width,
            n,
            ahead: 0,
            decay: 0.9,
            strength: 0.7,
            kq: k.iter().zip(&q).map(|(k, q)| k * q).sum(),
            v: v.as_ptr(),
            k: k.as_ptr(),
            q: q.as_ptr(),
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
            let decayed = |j: usize| f64::from(element(&before, in_pairs, width, j, i)) * f64::from(0.9_f32);
            let known: f64 = (0..n).map(|j| decayed(j) * f64::from(k[j])).sum();
            let d = f64::from(0.7_f32) * (f64::from(v[i]) - known);
            let mut slow = 0.0;
            for j in 0..n {
                let state = decayed(j) + f64::from(k[j]) * d;
                let new = f64::from(element(&h, in_pairs, width, j, i));
                let off = (new - state).abs();
                assert!(
                    off <= 2e-6 + rounding * state.abs(),
                    "{tier} {p} {n} {format:?}: {off}"
                );
                slow += state * f64::from(q[j]);
            }
            assert!(
                (f64::from(y[i]) - slow).abs() < 1e-5,
                "{tier} {p} {n} {format:?}: {} {slow}",
                y[i]
            );
        }
    }
}
